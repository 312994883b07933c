"""What a run would take, as :mod:`bench.planning` finds it, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.console import duration


class Range(NamedTuple):
    """Least and most of something, over the ways in which an array may behave."""

    low: float
    high: float


@dataclass(frozen=True)
class Plan:
    """What a run would take. Every figure is a range: see the module.

    Attributes:
        procedure: its name.
        cells: how many are selected.
        seconds: duration, waits included.
        waiting_s: of that, waits and temperatures, with the outputs off.
        pulses: on all devices together; a cycle counts as two.
        senses: reads of the whole array, and vectors of an XNOR.
        readings: of the source-measure unit.
        rail_moves: changes of the supply's voltages.
        energy_j: delivered into the devices by pulses.
        records: rows of the run file.
        bytes: of the run file while it is written; a finished one is smaller.
        kinds: how much of each kind of operation, by its name: pulses, cycles, senses, vectors or readings.
        highest_v: highest voltage on each rail.
        complete: False where the dry run was cut short, and the rest scaled up from what was seen.
        notes: what a reader of the figures must know.
    """

    procedure: str
    cells: int
    seconds: Range
    waiting_s: Range
    pulses: Range
    senses: Range
    readings: Range
    rail_moves: Range
    energy_j: Range
    records: Range
    bytes: Range
    kinds: dict[str, Range]
    highest_v: dict[str, float]
    complete: bool
    notes: tuple[str, ...]

    FIGURES = ("seconds", "waiting_s", "pulses", "senses", "readings", "rail_moves", "energy_j", "records", "bytes")

    @property
    def expected_s(self) -> float | None:
        """One number for the duration, the middle of its range; None where too little of the run was tried."""
        return (self.seconds.low + self.seconds.high) / 2 if self.complete else None

    def as_plain(self) -> dict[str, Any]:
        """As plain numbers, lists and strings, for JSON."""
        return {
            "procedure": self.procedure,
            "cells": self.cells,
            **{name: getattr(self, name)._asdict() for name in self.FIGURES},
            "kinds": {name: found._asdict() for name, found in self.kinds.items()},
            "highest_v": self.highest_v,
            "complete": self.complete,
            "notes": list(self.notes),
        }

    def table(self) -> list[tuple[str, str]]:
        """Names and values for people."""
        rows = [("cells", str(self.cells)), ("time", _shown(self.seconds, duration))]
        if self.waiting_s.high > 0.0:
            rows.append(("of that waiting, outputs off", _shown(self.waiting_s, duration)))
        for name, title in (("pulses", "pulses"), ("senses", "senses"), ("readings", "resistance readings")):
            rows.append((title, _shown(getattr(self, name), _count)))
        rows += [(f"  {name}", _shown(found, _count)) for name, found in self.kinds.items()]
        rows.append(("changes of the rails", _shown(self.rail_moves, _count)))
        volts = ", ".join(f"{rail[:-2].upper()} {value:g} V" for rail, value in self.highest_v.items())
        rows.append(("highest voltages", volts))
        rows.append(("energy of the pulses", _shown(self.energy_j, lambda joule: f"{joule:.2g} J")))
        rows.append(("records", _shown(self.records, _count)))
        rows.append(("run file", _shown(self.bytes, lambda size: f"{size / 1e6:.3g} MB")))
        return rows + [("note", note) for note in self.notes]

    def _repr_html_(self) -> str:
        from html import escape

        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self.table())
        return f"<table><caption>plan of {escape(self.procedure)}</caption>{cells}</table>"


def _shown(found: Range, show: Callable[[float], str]) -> str:
    low, high = show(found.low), show(found.high)
    return low if low == high else f"{low} to {high}"


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ") if number < 1e9 else f"{number:.3g}"
