"""Sense shmoo: how a pattern reads against core supply and sense window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from bench.procedure import CellMask, CellsDone, Procedure, Progress, Record, Steps
from bench.procedures.bit_error import random_weights
from bench.procedures.lists import Numbers
from bench.procedures.measuring import measure
from bench.procedures.preparing import OnFormedCells, prepare
from bench.procedures.tables import CELL, PATTERNS, RESISTANCES, ProgrammedState, pattern_record
from data.runs import Column, Table
from drivers.chip import Chip
from models.cells import cell_mask_to_devices, lrs_devices

Floats = NDArray[np.float64]

OUTCOMES = {"plus": 1, "minus": -1, "undecided": 0}

SHMOO_POINTS = Table(
    "shmoo",
    (
        Column("pattern", "int32", description="index of the pattern in the array"),
        Column("vdd_v", "float64", units="V", description="core supply of the sense"),
        Column("window_s", "float64", units="s", description="sense window"),
        Column("precharge_s", "float64", units="s", description="precharge time"),
        *(
            Column(name, "int32", dims=CELL, description=f"senses that read {value:+d}")
            for name, value in OUTCOMES.items()
        ),
    ),
    "outcomes of repeated senses at one supply and one window",
)


class ShmooParameters(OnFormedCells):
    """Parameters of the sense shmoo."""

    vdd_v: Numbers = Field(
        default=(0.9, 1.0, 1.1, 1.2, 1.3), min_length=1, max_length=100, description="VDD of the sense in V, a list"
    )
    window_low_s: float = Field(default=10e-9, gt=0, le=1, description="shortest sense window in s")
    window_high_s: float = Field(default=100e-6, gt=0, le=1, description="longest sense window in s")
    windows: int = Field(default=25, ge=1, le=1000, description="sense windows, evenly spaced in their logarithm")
    repeats: int = Field(default=10, ge=1, le=100_000, description="senses at each point")
    weights: Literal["binary", "ternary"] = Field(default="ternary", description="values of the random pattern")
    attempts: int = Field(
        default=1, ge=1, le=100, description="programming passes at most; verified at the bench file's SENSE"
    )
    resistances: bool = Field(
        default=True,
        description="measure both devices of each cell after programming, where the bench has a source-measure unit: "
        "the sense fit needs them to tell the amplifiers from the devices",
    )
    seed: int = Field(default=0, ge=0, description="seed of the pattern")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.window_low_s > self.window_high_s:
            raise ValueError(f"window_low_s = {self.window_low_s:g} s lies above window_high_s")
        return self

    @property
    def windows_s(self) -> Floats:
        """The sense windows in s, to whole nanoseconds as boards have them, rising."""
        return np.unique(np.round(np.geomspace(self.window_low_s, self.window_high_s, self.windows), 9))


@dataclass(frozen=True)
class _Shares:
    """Shares of right outcomes, ``(supplies, windows)`` each; NaN where the pattern has no such weight.

    Attributes:
        both: of all weights.
        signs: of +1 and -1.
        zeros: of 0.
    """

    both: Floats
    signs: Floats
    zeros: Floats


def shmoo(chip: Chip, parameters: ShmooParameters, cells: CellMask) -> Steps:
    """Program one pattern and sense it at every supply and window.

    The supply is the slow axis: it has to settle, while a window is a word in the board's message.
    """
    windows_s, sense = parameters.windows_s, chip.points.sense
    views = [
        [
            chip.at(
                replace(chip.points, sense=replace(sense, rails=sense.rails._replace(vdd_v=vdd_v), window_s=window_s))
            )
            for window_s in windows_s.tolist()
        ]
        for vdd_v in parameters.vdd_v
    ]
    for row in views:
        for view in row:
            view.check(senses=True)
    yield from prepare(chip, parameters, cells)
    target = random_weights(parameters.weights, chip.geometry, np.random.default_rng(parameters.seed))
    yield pattern_record(0, chip.program(target, used=cells, attempts=parameters.attempts))
    if parameters.resistances and chip.measures:
        state = np.where(lrs_devices(target), np.int8(ProgrammedState.LRS), np.int8(ProgrammedState.HRS))
        yield from measure(chip, cell_mask_to_devices(cells), state, "resistances of the pattern", pattern=0)
    total = len(parameters.vdd_v) * len(windows_s)
    shares = _Shares(*(np.full((len(parameters.vdd_v), len(windows_s)), np.nan) for _ in range(3)))
    for i, vdd_v in enumerate(parameters.vdd_v):
        for j, window_s in enumerate(windows_s.tolist()):
            yield Progress(i * len(windows_s) + j, total, f"VDD {vdd_v:g} V, window {window_s * 1e9:g} ns")
            sensed = views[i][j].read(parameters.repeats)
            counts = {name: (sensed == value).sum(axis=0) for name, value in OUTCOMES.items()}
            point = {"pattern": 0, "vdd_v": vdd_v, "window_s": window_s, "precharge_s": sense.precharge_s}
            yield Record("shmoo", {**point, **counts})
            right = (sensed == target).mean(axis=0)
            for share, chosen in zip(
                (shares.both, shares.signs, shares.zeros),
                (cells, cells & (target != 0), cells & (target == 0)),
                strict=True,
            ):
                if chosen.any():
                    share[i, j] = right[chosen].mean()
    yield CellsDone(cells)
    summary = _summary(parameters.vdd_v, windows_s, shares)
    yield Progress(total, total, summary["answer"])
    return {"cells": int(cells.sum()), "points": total, "repeats": parameters.repeats, **summary}


def _summary(vdd_v: tuple[float, ...], windows_s: Floats, shares: _Shares) -> dict[str, Any]:
    best = _best(shares.both, vdd_v, windows_s)
    answer = f"{best['share']:.1%} right at VDD {best['vdd_v']:g} V, window {best['window_s'] * 1e9:g} ns"
    summary: dict[str, Any] = {"answer": answer, "best": best}
    # NaN stands for a weight that the selected cells do not have.
    if not np.isnan(shares.zeros).any():
        telling = shares.zeros if np.isnan(shares.signs).any() else 0.5 * (shares.zeros + shares.signs)
        summary["best_for_zero"] = _best(telling, vdd_v, windows_s)
        summary["zero_up_to_s"] = [_last(row >= 0.5, windows_s) for row in shares.zeros]
    if not np.isnan(shares.signs).any():
        summary["weights_from_s"] = [_last((row >= 0.5)[::-1], windows_s[::-1]) for row in shares.signs]
    return {**summary, "vdd_v": list(vdd_v)}


def _best(score: Floats, vdd_v: tuple[float, ...], windows_s: Floats) -> dict[str, float]:
    """The point with the highest score; of equal ones that in the middle of the widest range of windows."""
    equal = score >= score.max() - 1e-12
    i = int(equal.sum(axis=1).argmax())
    candidates = np.flatnonzero(equal[i])
    j = int(candidates[len(candidates) // 2])
    return {"vdd_v": vdd_v[i], "window_s": float(windows_s[j]), "share": round(float(score[i, j]), 6)}


def _last(holds: NDArray[np.bool_], windows_s: Floats) -> float | None:
    """The last window of an unbroken row of them from the first one on; None where the first one fails."""
    unbroken = int(np.logical_and.accumulate(holds).sum())
    return float(windows_s[unbroken - 1]) if unbroken > 0 else None


SHMOO = Procedure(
    "shmoo",
    "sense a pattern against core supply and sense window, and count the outcomes cell by cell",
    ShmooParameters,
    (SHMOO_POINTS, PATTERNS, RESISTANCES),
    shmoo,
)
