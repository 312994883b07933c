"""Constants of nature that more than one model needs."""

from __future__ import annotations

BOLTZMANN_EV = 8.617333262e-5
"""Boltzmann's constant in eV/K."""

ZERO_C = 273.15
"""0 degC in K."""
