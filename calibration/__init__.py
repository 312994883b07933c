"""Measurements in, device parameters with uncertainties out."""
