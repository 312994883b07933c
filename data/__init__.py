"""What is at rest: run files, data sets, parameter files, networks."""
