"""Memory devices: what a pulse does to a resistance. One file per memory or effect."""
