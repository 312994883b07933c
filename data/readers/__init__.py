"""Readers of files that others wrote: strict, each in a module of its own."""
