"""What is known of every cell, gathered from the records of runs. No Qt here: the screen only draws it.

Everything starts as unknown, and becomes unknown again when a pulse makes it so: a weight read before a SET, or a
resistance measured before it, says nothing about the cell after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.gui.units import si
from bench.procedure import Record
from drivers.chip import OperationKind, Verdict
from models.cells import Device, Geometry

DEVICE_NAMES = {Device.BL: "BL", Device.BLB: "BLb"}
"""What the devices of a cell are called on the screen."""

UNKNOWN = -128
"""Code of a weight, or of a cell's forming, that nobody has asked for or looked at."""

PULSES = (
    OperationKind.FORM,
    OperationKind.SET,
    OperationKind.RESET,
    OperationKind.WEAK_RESET,
    OperationKind.CYCLE,
    OperationKind.SWEEP,
)
"""What changes devices. A sweep may: how far it went, its own records say."""

MEASURED = frozenset({"row", "col", "device", "in_compliance", "resistance_ohm"})
"""Columns of every table, whichever it is, whose rows are resistances of devices."""


class ArrayState:
    """Last known state of each cell.

    Attributes:
        geometry: size of the array.
        target: ``(rows, cols)`` int8, weight asked for, or :data:`UNKNOWN`.
        sensed: ``(rows, cols)`` int8, weight read last (0 is undecided where +1 or -1 was asked), or :data:`UNKNOWN`.
        verdict: ``(rows, cols)`` int8 of :class:`Verdict`; UNUSED where the last pulse was not verified.
        formed: ``(rows, cols)`` int8, 1 formed, 0 tried in vain, or :data:`UNKNOWN`.
        resistance_ohm: ``(rows, cols, 2)``, BL first; NaN where not measured since the last pulse, infinite when open.
        resets: ``(rows, cols, 2)`` int64, full RESETs of each device that were seen: its cycles.
        in_compliance: ``(rows, cols, 2)`` bool; the current limit was reached, the resistance is an upper bound.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.target = np.full(geometry, UNKNOWN, dtype=np.int8)
        self.sensed = np.full(geometry, UNKNOWN, dtype=np.int8)
        self.verdict = np.full(geometry, Verdict.UNUSED, dtype=np.int8)
        self.formed = np.full(geometry, UNKNOWN, dtype=np.int8)
        self.resistance_ohm = np.full((*geometry, 2), np.nan)
        self.in_compliance = np.zeros((*geometry, 2), dtype=bool)
        self.resets = np.zeros((*geometry, 2), dtype=np.int64)
        self._takers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "forming": self._take_forming,
            "patterns": self._take_programming,
            "tiles": self._take_programming,
            "senses": self._take_sense,
        }

        self._pulses: list[Mapping[str, Any]] = []

    def take(self, record: Record) -> bool:
        """Learn from a record; True when it tells the state of cells.

        What a pulse made unknown is forgotten with the record after it, which mostly tells it anew, or in
        :meth:`settle`: the screen need not flash between the two.
        """
        if record.table == "operations":
            kind = OperationKind(record.values["kind"])
            if kind in PULSES:
                self._pulses.append(record.values)
            if kind in (OperationKind.RESET, OperationKind.CYCLE):
                self.resets[record.values["devices"].astype(bool)] += int(record.values["count"])
        taker = self._takers.get(record.table)
        if taker is None and record.values.keys() >= MEASURED:
            taker = self._take_resistance
        if taker is None:
            return False
        self.settle()
        if record.many:
            length = len(next(iter(record.values.values())))
            for index in range(length):
                taker({name: column[index] for name, column in record.values.items()})
        else:
            taker(record.values)
        return True

    @property
    def compared(self) -> NDArray[np.bool_]:
        """``(rows, cols)``: cells of which both the weight asked for and the weight read are known."""
        known: NDArray[np.bool_] = (self.target != UNKNOWN) & (self.sensed != UNKNOWN)
        return known

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """``(rows, cols)``: cells that read something else than was asked for."""
        differing: NDArray[np.bool_] = self.compared & (self.target != self.sensed)
        return differing

    @property
    def margin(self) -> NDArray[np.float64]:
        """``(rows, cols)``: larger over smaller resistance of each cell; NaN where one was not measured.

        It is less than 1 where the larger one is on the side of the other weight than the one that was asked for.
        """
        bl, blb = self.resistance_ohm[..., Device.BL], self.resistance_ohm[..., Device.BLB]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(bl == blb, 1.0, bl / blb)
        ratio[np.isnan(bl) | np.isnan(blb)] = np.nan
        sign = np.where(np.isin(self.target, (-1, 1)), self.target, np.where(ratio >= 1.0, 1, -1))
        margin: NDArray[np.float64] = np.where(sign > 0, ratio, 1.0 / ratio)
        return margin

    @property
    def settled(self) -> bool:
        """False while cells were pulsed and not told about since."""
        return not self._pulses

    def settle(self) -> None:
        """Forget what the pulses since the last record made unknown."""
        for values in self._pulses:
            self._forget(OperationKind(values["kind"]), values)
        self._pulses.clear()

    def _forget(self, kind: OperationKind, values: Mapping[str, Any]) -> None:
        devices = values["devices"].astype(bool)
        cells = devices.any(axis=-1)
        self.resistance_ohm[devices] = np.nan
        self.in_compliance[devices] = False
        self.sensed[cells] = UNKNOWN
        self.verdict[cells] = Verdict.UNUSED
        if kind is not OperationKind.WEAK_RESET:
            # A weak RESET wears the weight that was asked for; the others replace it by one not reported yet.
            self.target[cells] = UNKNOWN
        if kind is OperationKind.FORM:
            self.formed[cells] = 0

    def _take_forming(self, values: Mapping[str, Any]) -> None:
        self.formed[values["formed"].astype(bool)] = 1

    def _take_programming(self, values: Mapping[str, Any]) -> None:
        used = values["verdict"] != Verdict.UNUSED
        self.target[used] = values["target"][used]
        self.verdict[used] = values["verdict"][used]
        if used.any():
            # The verify senses the whole array, so that it also tells of cells left as they were.
            self.sensed[:] = values["sensed"]

    def _take_sense(self, values: Mapping[str, Any]) -> None:
        self.sensed[:] = values["sensed"]

    def _take_resistance(self, values: Mapping[str, Any]) -> None:
        place = values["row"], values["col"], values["device"]
        self.resistance_ohm[place] = values["resistance_ohm"]
        self.in_compliance[place] = bool(values["in_compliance"])

    def table(self) -> str:
        """All cells as CSV with a header: weights, verdicts, resistances in ohm, RESETs; empty where unknown."""
        sides = [f"{side}_{what}" for what in ("ohm", "in_compliance", "resets") for side in ("bl", "blb")]
        lines = [",".join(["row", "col", "target", "sensed", "verdict", "formed", *sides])]
        for row, col in np.ndindex(*self.geometry):
            codes = (int(values[row, col]) for values in (self.target, self.sensed))
            weights = ["" if code == UNKNOWN else str(code) for code in codes]
            verdict, formed = int(self.verdict[row, col]), int(self.formed[row, col])
            ohms = ["" if np.isnan(ohm) else f"{ohm:.6g}" for ohm in self.resistance_ohm[row, col]]
            rest = [*self.in_compliance[row, col].astype(int), *self.resets[row, col]]
            told = [*weights, verdict_text(verdict, formed), "" if formed == UNKNOWN else str(formed), *ohms]
            lines.append(",".join([str(row), str(col), *told, *map(str, rest)]))
        return "\n".join(lines) + "\n"

    def describe(self, row: int, col: int) -> str:
        """One line on a cell: its place, the weight asked for and read, both resistances, the verdict."""
        target, sensed = int(self.target[row, col]), int(self.sensed[row, col])
        read = "undecided" if sensed == 0 and target != 0 else weight_text(sensed)
        ohms = []
        for device, name in DEVICE_NAMES.items():
            bound = "≤ " if self.in_compliance[row, col, device] else ""
            ohms.append(f"{name} {bound}{si(float(self.resistance_ohm[row, col, device]), 'Ω')}")
        verdict = verdict_text(int(self.verdict[row, col]), int(self.formed[row, col]))
        return f"row {row}, col {col}   target {weight_text(target)}, read {read}   {', '.join(ohms)}   {verdict}"


def weight_text(weight: int) -> str:
    """A weight for people: "+1", "0", "−1", or "unknown"."""
    return {1: "+1", 0: "0", -1: "−1"}.get(weight, "unknown")


def verdict_text(verdict: int, formed: int) -> str:
    """What programming a cell came to, for people."""
    if verdict == Verdict.VERIFIED:
        return "verified"
    if formed == 0:
        return "not formed"
    return "failed" if verdict == Verdict.FAILED else "not programmed"
