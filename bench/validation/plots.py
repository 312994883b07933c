"""Plots of the models beside the published figures. Colours are told apart by every kind of colour vision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bench.config import load_bench_file
from bench.figures.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, panels, quantile_axis
from bench.validation.error_rates import cyclability, equal_spreads
from bench.validation.figures import Reference
from bench.validation.subject import Subject
from drivers.operating_points import SensePoint
from models import ecc, errors
from models.arrays import NumpyArrays
from models.device_model import DeviceModel
from models.devices import ageing, rram
from models.devices.weak_reset import WeakResetDevices
from models.errors import Populations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONDITION_STYLES = {"strong": (BLUE, "o"), "weak": (ORANGE, "s"), "ultra_weak": (VERMILION, "^")}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plot:
    """A plot of the page.

    Attributes:
        title: heading above it.
        caption: what is seen, in words; also what a reader who cannot see it gets.
        draw: makes the figure.
    """

    title: str
    caption: str
    draw: Callable[[Subject, Reference, np.random.Generator], Figure]


def weak_reset_curves(subject: Subject, reference: Reference, rng: np.random.Generator) -> Figure:
    """Resistance against weak-RESET pulses: single devices, and median and spread of many."""
    step, last, shown = 10, 2000, 40
    devices = WeakResetDevices(subject.device.model.weak_reset, (10_000,), NumpyArrays(rng))
    pulses = np.arange(0, last + step, step)
    curves: Floats = np.empty((len(pulses), devices.shape[0]))
    for i in range(len(pulses)):
        devices.apply(step if i > 0 else 0)
        curves[i] = devices.resistance_ohm / 1e3
    low, median, high = np.quantile(curves, (0.05, 0.5, 0.95), axis=1)
    figure, (axis,) = panels(1, 8.0)
    axis.plot(pulses, curves[:, :shown], color=GREY, linewidth=0.5, alpha=0.7)
    axis.plot([], [], color=GREY, linewidth=0.8, label=f"{shown} single devices")
    axis.fill_between(pulses, low, high, color=BLUE, alpha=0.15, linewidth=0.0, label="5 % to 95 % of 10 000 devices")
    axis.plot(pulses, median, color=BLUE, linewidth=2.2, label="median of 10 000 devices")
    published = {count: reference.expected(f"median_resistance_{count}") / 1e3 for count in (0, 100, 500, 1000)}
    axis.plot(
        published.keys(), published.values(), "D", color=VERMILION, markersize=7, label="published median, no noise"
    )
    axis.set(yscale="log", ylim=(5, 400), xlim=(-20, last), xlabel="weak-RESET pulses since SET", ylabel="R (kΩ)")
    axis.set_yticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
    axis.minorticks_off()
    axis.legend(loc="upper left")
    return figure


def distributions(subject: Subject, reference: Reference, rng: np.random.Generator) -> Figure:
    """Cumulative distributions of LRS and HRS, after ordinary programming and after each condition."""
    figure, (ordinary, conditions) = panels(2)
    model = subject.device.model
    for name, drawn, colour, marker in (
        ("LRS", _lrs(model, rng), BLUE, "o"),
        ("HRS", _hrs(model, rng), VERMILION, "s"),
    ):
        log_r = np.log(drawn)
        label = f"{name}: median {np.exp(log_r.mean()) / 1e3:.3g} kΩ, s.d. of ln R {log_r.std():.2f}"
        _cumulative(ordinary, drawn, colour, marker, "-", label)
    ordinary.set_title("ordinary programming")
    for name in subject.conditions.conditions:
        programmed = subject.conditions.programmed(model, name)
        colour, marker = CONDITION_STYLES.get(name, (GREEN, "v"))
        _cumulative(conditions, _lrs(programmed, rng), colour, marker, "-", name.replace("_", "-"))
        _cumulative(conditions, _hrs(programmed, rng), colour, marker, "--", None)
    conditions.set_title("programming conditions: LRS solid, HRS dashed")
    for axis in (ordinary, conditions):
        axis.set(xscale="log", xlabel="R (Ω)")
        quantile_axis(axis)
        axis.legend(loc="lower right")
    return figure


def _lrs(model: DeviceModel, rng: np.random.Generator) -> Floats:
    current = rram.compliance_a(model.lrs, model.lrs.vddr_ref_v)
    return rram.draw_lrs(model.lrs, current, rng.standard_normal(4000), rng)


def _hrs(model: DeviceModel, rng: np.random.Generator) -> Floats:
    hrs = model.hrs
    return rram.draw_hrs(hrs, hrs.vddc_ref_v / hrs.drop_ratio, hrs.width_ref_s, rng.standard_normal(4000), rng)


def _cumulative(axis: Any, drawn: Floats, colour: str, marker: str, line: str, label: str | None) -> None:
    """Samples as markers against normal quantiles, and the log-normal fit to them as a line."""
    ordered = np.sort(drawn)
    quantiles = ndtri((np.arange(len(ordered)) + 0.5) / len(ordered))
    few = np.unique(np.searchsorted(quantiles, np.linspace(-3.4, 3.4, 35)).clip(0, len(ordered) - 1))
    log_r = np.log(drawn)
    ends = np.array([-3.6, 3.6])
    axis.plot(np.exp(log_r.mean() + log_r.std() * ends), ends, line, color=colour, linewidth=1.2)
    axis.plot(
        ordered[few],
        quantiles[few],
        marker,
        color=colour,
        markersize=4,
        label=label,
        fillstyle="full" if line == "-" else "none",
    )


def error_rates(subject: Subject, reference: Reference, rng: np.random.Generator) -> Figure:
    """Error rates of 1T1R, of 2T2R and of codes, against that of 1T1R."""
    ours = Populations.of(subject.device.model)
    one = np.geomspace(2e-5, 0.2, 60)
    own = [errors.two_t2r(ours.spread(errors.spread_factor(ours, rate))) for rate in one]
    equal = [errors.two_t2r(equal_spreads(ours, rate)) for rate in one]
    figure, (axis,) = panels(1, 8.6)
    axis.plot(one, one, color=BLACK, linewidth=1.4, label="1T1R")
    for code, line, name in ((ecc.SEC_7_4, "--", "Hamming (7,4)"), (ecc.SECDED_8_4, ":", "extended Hamming (8,4)")):
        residual = [code.residual_error_rate(rate) for rate in one]
        axis.plot(one, residual, line, color=GREEN, linewidth=2.0, label=f"1T1R with {name}")
    axis.plot(one, equal, color=BLUE, linewidth=2.0, label="2T2R, equal spreads")
    axis.plot(one, own, color=ORANGE, linewidth=2.0, label="2T2R, spreads in the device file's ratio")
    table = {
        float(name.removeprefix("closed_")): reference.expected(name)
        for name in reference.figures
        if name.startswith("closed_")
    }
    axis.plot(
        table.keys(),
        table.values(),
        "D",
        color=BLUE,
        markersize=7,
        markerfacecolor="white",
        label="expected at equal spreads",
    )
    for name in subject.conditions.conditions:
        left = Populations.of(subject.conditions.programmed(subject.device.model, name))
        colour, marker = CONDITION_STYLES.get(name, (GREEN, "v"))
        rates = errors.one_t1r(left), errors.two_t2r(left)
        if rates[0] >= one[0]:
            label = f"2T2R, {name.replace('_', '-')} programming"
            axis.plot(*rates, marker, color=colour, markersize=9, markeredgecolor=BLACK, label=label)
    measured = reference.context.sister_chip_error_rates
    axis.plot(
        np.full(len(measured), 1.0),
        measured,
        "<",
        color=PURPLE,
        markersize=8,
        clip_on=False,
        transform=axis.get_yaxis_transform(),
        label="measured on a sister chip, conditions not named",
    )
    axis.set(
        xscale="log", yscale="log", xlim=(one[0], one[-1]), ylim=(1e-9, 0.5), xlabel="bit error rate of 1T1R cells"
    )
    axis.set_ylabel("bit error rate")
    figure.legend(loc="outside right upper", fontsize=8.5)
    return figure


def ternary_maps(subject: Subject, reference: Reference, rng: np.random.Generator) -> Figure:
    """How often zeros, and weights of +1 or -1, are read right, against supply and sense window."""
    model = subject.ternary.model
    sense = model.sense
    supplies = np.linspace(sense.threshold_v + 0.02, sense.vdd_ref_v + 0.2, 28)
    windows = np.geomspace(3e-9, 3e-6, 28)
    seed = int(rng.integers(2**31))
    zero, weight = np.empty((2, len(windows), len(supplies)))
    for j, vdd_v in enumerate(supplies):
        for i, window_s in enumerate(windows):
            # the same cells everywhere, so that maps are smooth
            rates = errors.sample_ternary(model, vdd_v, window_s, 3000, np.random.default_rng(seed))
            zero[i, j] = 1.0 - rates.type3.rate
            weight[i, j] = 1.0 - rates.type2.rate - rates.type1.rate
    from matplotlib.colors import BoundaryNorm

    levels = [0, 10, 25, 50, 75, 90, 95, 99, 100]
    norm = BoundaryNorm(levels, 256)
    point = ternary_sense_point()
    figure, axes = panels(3, 13.0)
    for axis, right, title in zip(
        axes,
        (zero, weight, (zero + 2.0 * weight) / 3.0),
        ("0 read as 0", "+1 and −1 read right", "three weights in equal parts"),
        strict=True,
    ):
        image = axis.pcolormesh(supplies, windows * 1e9, 100.0 * right, cmap="cividis", norm=norm)
        axis.plot(point.rails.vdd_v, point.window_s * 1e9, "*", color=VERMILION, markersize=15, markeredgecolor="white")
        axis.set(yscale="log", title=title, xlabel="core supply VDD (V)", ylabel="sense window (ns)")
    figure.colorbar(image, ax=list(axes), ticks=levels, label="cells read right (%)", fraction=0.03, pad=0.01)
    return figure


def ternary_sense_point() -> SensePoint:
    """Where the simulated ternary chip is sensed."""
    path = Path(str(resources.files("data"))) / "benches" / "simulated_ternary.toml"
    return load_bench_file(path)[0].points.sense


def endurance(subject: Subject, reference: Reference, rng: np.random.Generator) -> Figure:
    """Window and error rates against cycles, for each programming condition."""
    figure, (window, rate) = panels(2)
    for name in subject.conditions.conditions:
        colour, _ = CONDITION_STYLES.get(name, (GREEN, "v"))
        programmed = subject.conditions.programmed(subject.device.model, name)
        lifetime = cyclability(subject, name)
        cycles = np.geomspace(max(1.0, 1e-4 * lifetime), lifetime, 60)
        wears = cycles / lifetime
        worn = [Populations.of(ageing.worn(programmed, wear)) for wear in wears]
        stuck = np.array([ageing.stuck_share(programmed.endurance, wear) for wear in wears])
        label = name.replace("_", "-")
        window.plot(cycles, [np.exp(one.gap) for one in worn], color=colour, linewidth=2.0, label=label)
        for evaluate, line, cell in ((errors.one_t1r, "-", "1T1R"), (errors.two_t2r, "--", "2T2R")):
            # a device stuck in the LRS makes half of the bits wrong
            rates = np.array([evaluate(one) for one in worn]) * (1.0 - stuck) + 0.5 * stuck
            rate.plot(cycles, rates, line, color=colour, linewidth=2.0, label=f"{label}, {cell}")
    window.set(xscale="log", yscale="log", xlabel="cycles", ylabel="median HRS / median LRS (ratio)", ylim=(1, 40))
    window.set_yticks([1, 2, 5, 10, 20, 40], ["1", "2", "5", "10", "20", "40"])
    window.minorticks_off()
    rate.set(xscale="log", yscale="log", xlabel="cycles", ylabel="bit error rate", ylim=(1e-10, 1))
    published = reference.expected("endurance_weak")
    label = f"$10^{{{np.log10(published):.0f}}}$ cycles"
    for axis in (window, rate):
        axis.axvline(published, color=BLACK, linewidth=1.0, linestyle=":", label=label)
        axis.set_xticks([1, 1e2, 1e4, 1e6, 1e8, 1e10])
    window.legend(loc="lower left")
    rate.legend(loc="lower center", fontsize=8.5)
    return figure


def magnetic_writes(subject: Subject, reference: Reference, rng: np.random.Generator) -> Figure:
    """Write error rate of ST-MRAM against pulse length and against energy."""
    memory = subject.magnetic
    figure, (length, energy) = panels(2)
    for ratio, colour, line in ((1.5, BLUE, "--"), (2.0, ORANGE, "-"), (2.5, VERMILION, "-.")):
        current = ratio * memory.critical_current_a
        pulses = np.linspace(0.0, 30e-9, 300)
        label = f"{current * 1e6:.0f} µA = {ratio:g} Ic0"
        failing, joules = memory.write_error_rate(current, pulses), memory.write_energy_j(current, pulses)
        length.plot(pulses * 1e9, failing, line, color=colour, linewidth=2.0, label=label)
        energy.plot(joules * 1e12, failing, line, color=colour, linewidth=2.0)
    spent = {rate: memory.bit_energy_j(rate) * 1e12 for rate in (1e-8, 1e-3)}
    energy.plot(spent.values(), spent.keys(), "o", color=BLACK, markersize=8)
    saving = spent[1e-8] / spent[1e-3]
    energy.text(
        0.97,
        0.95,
        f"{memory.write_current_a * 1e6:.0f} µA: an error rate of 1e-8\ncosts {saving:.2f} times the energy of 1e-3",
        transform=energy.transAxes,
        horizontalalignment="right",
        verticalalignment="top",
    )
    for axis in (length, energy):
        axis.set(yscale="log", ylim=(1e-12, 1.5), ylabel="write error rate")
        for rate in spent:
            axis.axhline(rate, color=BLACK, linewidth=0.8, linestyle=":")
    length.legend(loc="upper right")
    length.set(xlabel="pulse length (ns)", xlim=(0, 25))
    energy.set(xlabel="energy per write (pJ)", xlim=(0, 1.6))
    return figure


PLOTS = (
    Plot(
        "Weak RESET",
        "Each grey line is one device under weak RESET, with random telegraph noise and 1/f noise. The blue line is "
        "the median of 10 000 devices, the band their central 90 %. Published medians are those without noise, which "
        "raises them by one to two per cent.",
        weak_reset_curves,
    ),
    Plot(
        "Resistance distributions",
        "Drawn resistances of 4000 devices (markers) against normal quantiles, and the log-normal fit to them (lines).",
        distributions,
    ),
    Plot(
        "One device per bit, two devices per bit, and codes",
        "Error rate of 2T2R cells, and what codes leave of the errors of 1T1R cells, against the error rate of 1T1R "
        "cells at the best threshold. Two devices of equal spreads come close to codes of about the same redundancy; "
        "where the HRS spreads more than the LRS, as in the device file, less is gained. Triangles at the right edge: "
        "error rates measured on a sister chip, for scale; their conditions are not published.",
        error_rates,
    ),
    Plot(
        "Ternary sense",
        "Share of cells of the ternary chip, programmed without verify, that are read right within the sense window. "
        "Zeros need a short window, weights a long one; the star is the operating point. Above it and to its right "
        "zeros are read as weights, below and to its left weights are lost.",
        ternary_maps,
    ),
    Plot(
        "Endurance",
        "Ratio of the medians, and bit error rates of worn devices, up to the cyclability of each programming "
        "condition; devices that stick in the LRS count as wrong in half of their bits. 1T1R is read at the best "
        "threshold at each moment, which can beat 2T2R once the populations overlap. The dotted "
        "line marks the billion cycles published for weak programming.",
        endurance,
    ),
    Plot(
        "ST-MRAM writes",
        "Write error rate against pulse length, and against the energy of a write, for three currents in units of the "
        "critical current. Between an error rate of 1e-8 and one of 1e-3 lies about a factor of two in energy.",
        magnetic_writes,
    ),
)
"""The plots of the page, in order."""
