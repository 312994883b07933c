"""The same curve of several runs in one figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.figures.curves import banded
from bench.figures.records import Records, TitledFigure, pivot
from bench.figures.statistics import STATE_LABELS, populations
from bench.figures.style import cumulative, looks, ohm_axis, panels, quantile_axis
from data.runs import Run

DEVICE = ("row", "col", "device")
STATE_FILLS = {"LRS": "full", "HRS": "none", "UNKNOWN": "full"}


def overlay(runs: Sequence[Run]) -> TitledFigure | None:
    """The first kind of curve that at least two of the runs have, of all that have it; None where there is none."""
    several = [Records(run) for run in runs]
    for name, has, draw, title in KINDS:
        with_it = [records for records in several if has(records)]
        if len(with_it) >= 2:
            figure, (axis,) = panels(1, 9.0, 5.2)
            for records, (colour, marker) in zip(with_it, looks(len(with_it)), strict=True):
                draw(axis, records, colour, marker)
            _finish(axis, name, with_it)
            figure.legend(loc="outside lower center", fontsize=8.5)
            axis.set_title(title, fontsize=11)
            return TitledFigure(name, title, f"{title} of {len(with_it)} runs.", figure)
    return None


def _label(records: Records, more: str) -> str:
    return f"{records.run.path.stem}: {more}"


def _staircase(axis: Any, records: Records, colour: str, marker: str) -> None:
    table = records.read("staircase", *DEVICE, "branch", "cycle", "vddc_v", "pulses", "resistance_ohm")
    for branch, fill in zip(np.unique(table["branch"]), ("-", "--", ":", "-.") * 25, strict=False):
        mine = table["branch"] == branch
        keys = np.stack([table[name][mine] for name in ("cycle", *DEVICE)], axis=1)
        pulses, curves = pivot(keys, table["pulses"][mine], table["resistance_ohm"][mine])
        label = _label(records, f"VDDC {table['vddc_v'][mine][0]:g} V, median of {len(curves)}")
        banded(axis, pulses, curves, colour, marker, label, fill)


def _endurance(axis: Any, records: Records, colour: str, marker: str) -> None:
    table = records.read("endurance", *DEVICE, "cycles", "lrs_ohm", "hrs_ohm")
    keys = np.stack([table[name] for name in DEVICE], axis=1)
    for state, line in (("lrs", "-"), ("hrs", "--")):
        cycles, curves = pivot(keys, table["cycles"], table[f"{state}_ohm"])
        banded(axis, cycles, curves, colour, marker, _label(records, f"{state.upper()}, median of {len(curves)}"), line)


def _distribution(axis: Any, records: Records, colour: str, marker: str) -> None:
    for name, values in populations(records).items():
        axis.plot(
            *cumulative(values),
            marker,
            color=colour,
            markersize=4,
            fillstyle=STATE_FILLS[name],
            label=_label(records, STATE_LABELS.get(name, name)),
        )


def _finish(axis: Any, kind: str, several: Sequence[Records]) -> None:
    if kind == "distributions":
        ohm_axis(axis, "x", [values for records in several for values in populations(records).values()])
        quantile_axis(axis)
        return
    ohm_axis(axis)
    if kind == "endurance":
        axis.set_xscale("symlog", linthresh=1)
        axis.set(xlabel="cycles", xlim=(-0.2, None))
    else:
        axis.set(xlabel="weak-RESET pulses since SET")


def _has_staircase(records: Records) -> bool:
    return records.has("staircase", *DEVICE, "branch", "cycle", "vddc_v", "pulses", "resistance_ohm")


def _has_endurance(records: Records) -> bool:
    return records.has("endurance", *DEVICE, "cycles", "lrs_ohm", "hrs_ohm")


def _has_distribution(records: Records) -> bool:
    return any(np.isfinite(values).any() for values in populations(records).values())


KINDS: tuple[tuple[str, Callable[[Records], bool], Callable[[Any, Records, str, str], None], str], ...] = (
    ("staircase", _has_staircase, _staircase, "Weak-RESET staircase, medians and quartiles"),
    ("endurance", _has_endurance, _endurance, "Endurance, medians and quartiles"),
    ("distributions", _has_distribution, _distribution, "Distribution of resistances"),
)
