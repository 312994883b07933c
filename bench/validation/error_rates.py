"""Figures of bit errors: one device against a threshold, two against each other, and error correcting codes."""

from __future__ import annotations

import math

import numpy as np

from bench.validation.subject import Measured, Subject
from models import ecc, errors
from models.devices import ageing
from models.errors import LogNormal, Populations

SAMPLED_RATES = (1e-2, 1e-3)
CLOSED_RATES = (1e-1, 3.3e-2, 1e-2, 2.3e-3, 1e-3, 1e-4)
CODED_RATES = (1e-2, 1e-3, 1e-4)
SAMPLES = 50_000
CYCLES = 7e8


def measure(subject: Subject, rng: np.random.Generator) -> Measured:
    """Figures V20, V21, and those of the programming conditions."""
    return {**_two_devices(subject, rng), **_conditions(subject)}


def equal_spreads(populations: Populations, one_t1r_rate: float) -> Populations:
    """LRS and HRS of equal spread about their medians, such that 1T1R has this error rate."""
    unit = Populations(*(LogNormal(one.median_ohm, 1.0) for one in (populations.lrs, populations.hrs)))
    return unit.spread(errors.spread_factor(unit, one_t1r_rate))


def _two_devices(subject: Subject, rng: np.random.Generator) -> dict[str, float]:
    ours, sense = Populations.of(subject.device.model), subject.device.model.sense
    figures: dict[str, float] = {}
    for rate in SAMPLED_RATES:
        figures[f"sampled_{rate:g}"] = errors.sample_two_t2r(equal_spreads(ours, rate), SAMPLES, rng).rate
    for rate in CLOSED_RATES:
        figures[f"closed_{rate:g}"] = errors.two_t2r(equal_spreads(ours, rate))
    for rate in CODED_RATES:
        two = errors.two_t2r(equal_spreads(ours, rate))
        for name, code in (("sec", ecc.SEC_7_4), ("secded", ecc.SECDED_8_4)):
            figures[f"{name}_{rate:g}"] = code.residual_error_rate(rate) / two
    for name, sigma, gap in (("tight", 0.055, 2.0), ("wide", 0.2, 2.5)):
        hrs_ohm = ours.lrs.median_ohm * math.exp(gap)
        unequal = Populations(LogNormal(ours.lrs.median_ohm, sigma), LogNormal(hrs_ohm, 0.6))
        figures[f"{name}_lrs_1t1r"] = errors.one_t1r(unequal)
        figures[f"{name}_lrs_2t2r"] = errors.two_t2r(unequal)
    amplifier = errors.ternary(subject.device.model, sense.vdd_ref_v, math.inf).type1
    return {**figures, "amplifier_over_comparison": amplifier / errors.two_t2r(ours)}


def _conditions(subject: Subject) -> dict[str, float]:
    left = {
        name: Populations.of(subject.conditions.programmed(subject.device.model, name))
        for name in subject.conditions.conditions
    }
    figures = {f"rate_{name}": errors.one_t1r(populations) for name, populations in left.items()}
    weak = subject.conditions.programmed(subject.device.model, "weak")
    cycled = Populations.of(ageing.worn(weak, CYCLES / cyclability(subject, "weak")))
    return {
        **figures,
        "cycled_1t1r_growth": errors.one_t1r(cycled) / figures["rate_weak"],
        "cycled_2t2r_over_1t1r": errors.two_t2r(cycled) / errors.one_t1r(cycled),
        **{f"endurance_{name}": cyclability(subject, name) for name in left},
    }


def cyclability(subject: Subject, name: str) -> float:
    """Cycles that a device endures under a programming condition."""
    condition, endurance = subject.conditions.condition(name), subject.device.model.endurance
    return ageing.cyclability(endurance, condition.set_compliance_a, condition.reset_v, condition.width_s)
