"""Figures over populations: distributions of devices, and rates with their intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bench.figures.records import Arrays, Records, TitledFigure, plural
from bench.figures.style import BLUE, GREY, VERMILION, cumulative, engineering, ohm_axis, panels, quantile_axis
from calibration.resistance import outlying

STATE_LOOKS = {"LRS": (BLUE, "o"), "HRS": (VERMILION, "s"), "UNKNOWN": (GREY, "^")}
STATE_LABELS = {"UNKNOWN": "state not known"}
QUANTILE_CAPTION = "A log-normal population is a straight line on this scale."


def populations(records: Records) -> dict[str, NDArray[np.float64]]:
    """Latest resistance of each device in each state that it was programmed to, by the name of the state.

    Points of a weak-RESET staircase are left out: they are no population.
    """
    if not records.has("resistances", "row", "col", "device", "state", "staircase", "resistance_ohm"):
        return {}
    names = ("row", "col", "device", "state", "staircase", "resistance_ohm")
    table = records.read("resistances", *names)
    single = table["staircase"] == 0
    found = {}
    for code, name in records.flags("resistances", "state").items():
        chosen = single & (table["state"] == code)
        if chosen.any():
            found[name] = _latest({key: table[key][chosen] for key in names})
    return found


def _latest(table: Arrays) -> NDArray[np.float64]:
    keys = np.stack([table[name].astype(np.int64) for name in ("row", "col", "device")], axis=1)
    # unique() gives the first of equals, so the records go in backwards.
    _, first = np.unique(keys[::-1], axis=0, return_index=True)
    return np.asarray(table["resistance_ohm"][::-1][first])


def described(values: NDArray[np.float64]) -> str:
    """Median and spread of resistances: ``median 7.02 kΩ, s.d. of ln R 0.31, 512 devices``.

    Devices that do not belong to the population are left out of the spread, which one of them alone would double.
    """
    finite = values[np.isfinite(values)]
    far = outlying(np.log(finite))
    text = f"median {engineering(float(np.median(values)), 'Ω')}" if np.isfinite(np.median(values)) else "median open"
    if len(finite) > 1:
        text += f", s.d. of ln R {np.log(finite[~far]).std(ddof=1):.2f}" if (~far).sum() > 1 else ""
        text += f" without {plural(int(far.sum()), 'outlier')}" if far.any() else ""
    text += f", {plural(len(values), 'device')}"
    return text if len(finite) == len(values) else f"{text}, {len(values) - len(finite)} open"


def resistance_distributions(records: Records) -> Iterator[TitledFigure]:
    """Cumulative distribution of the resistances of each state."""
    found = {name: values for name, values in populations(records).items() if np.isfinite(values).any()}
    if not found:
        return
    figure, (axis,) = panels(1, 8.0)
    for name, values in found.items():
        colour, marker = STATE_LOOKS[name]
        label = f"{STATE_LABELS.get(name, name)}: {described(values)}"
        axis.plot(*cumulative(values), marker, color=colour, markersize=4, label=label)
    ohm_axis(axis, "x", list(found.values()))
    quantile_axis(axis)
    figure.legend(loc="outside lower center", fontsize=9)
    axis.set_title(records.title, fontsize=11)
    caption = f"Latest resistance of each device in each state. {QUANTILE_CAPTION}"
    yield TitledFigure("distributions", "Distribution of resistances", caption, figure)


def accuracies(records: Records) -> Iterator[TitledFigure]:
    """Accuracy of a network in software and on silicon, with 95 % intervals over the samples."""
    from scipy.stats import binomtest

    if not records.has("samples", "label", "software", "host", "xnor"):
        return
    # a run of an earlier version has no column for weights sensed before every batch
    sensed = ("sensed",) if records.has("samples", "sensed") else ()
    table = records.read("samples", "label", "software", "host", "xnor", *sensed)
    figure, (axis,) = panels(1, 6.4, 3.2)
    count = len(table["label"])
    ways = {
        "software": "software",
        "host": "silicon, sums by the host",
        "sensed": "silicon, sensed for each batch",
        "xnor": "silicon, XNOR in the array",
    }
    answered = {way: text for way, text in ways.items() if way in table and (table[way] >= 0).any()}
    for place, way in enumerate(answered):
        right = int((table[way] == table["label"]).sum())
        low, high = binomtest(right, count).proportion_ci(method="wilson")
        share = right / count
        colour = GREY if way == "software" else BLUE
        axis.errorbar(
            100 * share, place, xerr=[[100 * (share - low)], [100 * (high - share)]], fmt="o", color=colour, capsize=4
        )
        axis.annotate(f"{share:.2%}", (100 * share, place), xytext=(0, 9), textcoords="offset points", ha="center")
    axis.set_yticks(range(len(answered)), list(answered.values()))
    axis.set(xlabel=f"accuracy on {plural(count, 'sample')} (%), with 95 % interval", ylim=(len(answered) - 0.4, -0.7))
    axis.set_title(records.title, fontsize=11)
    caption = "Samples answered right. The interval is Wilson's, and holds the chance of the choice of samples alone."
    yield TitledFigure("accuracy", "Accuracy", caption, figure)


def forming_distributions(records: Records) -> Iterator[TitledFigure]:
    """Supply at which the devices formed, and their resistance before and after."""
    columns = ("row", "col", "device", "outcome", "vddc_v", "before_ohm", "after_ohm")
    if not records.has("formed_devices", *columns):
        return
    table = records.read("formed_devices", *columns)
    outcomes = records.flags("formed_devices", "outcome")
    formed = np.array([outcomes[code] == "FORMED" for code in table["outcome"]])
    figure, (volts, ohms) = panels(2, 12.0, 4.6)
    never = sum(outcomes[code] == "NEVER_FORMED" for code in table["outcome"])
    # Devices that never formed keep their share: their voltage lies above the ramp.
    reached = np.where(formed, table["vddc_v"], np.inf)[formed | (table["outcome"] == _code(outcomes, "NEVER_FORMED"))]
    steps, counts = np.unique(reached[np.isfinite(reached)], return_counts=True)
    if len(steps):
        step = float(np.diff(steps).min()) if len(steps) > 1 else 0.1
        volts.bar(steps, counts, width=0.85 * step, color=BLUE)
        share = volts.twinx()
        share.plot(steps, 100.0 * np.cumsum(counts) / len(reached), "o-", color=VERMILION, markersize=4)
        share.set_ylabel("formed up to there (%)", color=VERMILION)
        share.set_ylim(0, 105)
    median = f", median {np.median(table['vddc_v'][formed]):.3g} V" if formed.any() else ""
    volts.set(xlabel="VDDC of the pulse that formed it (V)", ylabel="devices")
    volts.set_title(f"{int(formed.sum())} formed{median}; {never} never formed", fontsize=11)
    drawn = []
    for name, text, colour, marker in (("before_ohm", "before", GREY, "^"), ("after_ohm", "after", BLUE, "o")):
        values = table[name][~np.isnan(table[name])]
        if np.isfinite(values).any():
            ohms.plot(*cumulative(values), marker, color=colour, markersize=4, label=f"{text}: {described(values)}")
            drawn.append(values)
    ohm_axis(ohms, "x", drawn)
    quantile_axis(ohms)
    figure.legend(loc="outside lower center", fontsize=9)
    figure.suptitle(records.title, fontsize=11)
    caption = "Devices by the column supply of the pulse that formed them, and their resistances before and after. "
    yield TitledFigure("forming", "Forming voltages", caption + QUANTILE_CAPTION, figure)


def _code(flags: dict[int, str], word: str) -> int:
    return next((code for code, name in flags.items() if name == word), -1)
