"""The error map of a chip: which of its cells are stuck and which err, from what was programmed and sensed before.

It is made from run files of procedures that program patterns and read them back (``characterise``, ``bit-error``,
``program``), and stands for the conditions of those runs: a cell that only fails at a low supply counts as weak where a
run went there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.procedure import SELECTION
from bench.procedures.tables import last_passes
from data.run_chain import chain, read_parts
from data.runs import Run, open_run
from drivers.chip import Verdict
from models.cells import Geometry, Weights
from models.exceptions import UserMistake

VALUES = (-1, 0, 1)
MAPPED = ("characterise", "bit-error", "program")
"""Procedures whose runs tell what the cells of a chip can do."""
STUCK_SHARE = 0.9
"""A stuck cell reads its value in at least this share of the senses of each weight that was asked of it."""

STUCK_PROGRAMMINGS = 2
"""Times that a cell must have been programmed to another weight, in vain, before it counts as stuck."""


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """What is known of each cell of one chip; arrays of the array's shape.

    Attributes:
        chip_id: the chip.
        geometry: size of its array.
        stuck: bool; the cell reads the same whatever is programmed into it.
        stuck_value: int8; what a stuck cell reads: -1, 0 or +1; 0 too where the cell is not stuck.
        wrong_of: ``(3, rows, cols)`` senses of a cell that is not stuck which read another weight than was asked, for
            each weight asked: -1, 0, +1.
        senses_of: ``(3, rows, cols)`` all senses of a cell that are known, likewise.
        source: names of the run files.
    """

    chip_id: str
    geometry: Geometry
    stuck: NDArray[np.bool_]
    stuck_value: Weights
    wrong_of: NDArray[np.int64]
    senses_of: NDArray[np.int64]
    source: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Digest of the chip's name and of all that is known of its cells, whatever files it comes from."""
        digest = hashlib.sha256(f"{self.chip_id} {tuple(self.geometry)}".encode())
        for array in (self.stuck, self.stuck_value, self.wrong_of, self.senses_of):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def wrong(self) -> NDArray[np.int64]:
        """``(rows, cols)``: wrong senses of each cell, whatever was asked; 0 for stuck cells."""
        return np.asarray(self.wrong_of.sum(axis=0))

    @property
    def senses(self) -> NDArray[np.int64]:
        """``(rows, cols)``: senses of each cell; 0 where it was never tried."""
        return np.asarray(self.senses_of.sum(axis=0))

    @property
    def errors(self) -> NDArray[np.float64]:
        """``(3, rows, cols)``: how wrong each cell reads a weight -1, 0 and +1: 1 is a sign turned each time.

        Half the difference for a stuck cell; the share of wrong senses for another, of all its senses where this weight
        was never asked of it, and 0 where it was never tried.
        """
        asked = np.array(VALUES)[:, None, None]
        overall = self.wrong / np.maximum(self.senses, 1)
        shares = np.where(self.senses_of > 0, self.wrong_of / np.maximum(self.senses_of, 1), overall)
        return np.where(self.stuck, np.abs(self.stuck_value - asked) / 2, shares)

    def summary(self) -> dict[str, Any]:
        """As plain data, totals only."""
        return {
            "chip_id": self.chip_id,
            "sha256": self.sha256,
            "source": list(self.source),
            "cells": self.geometry.cells,
            "never_tried": int((self.senses == 0).sum()),
            "stuck": {
                name: int((self.stuck & (self.stuck_value == value)).sum())
                for value, name in zip(VALUES, ("-1", "0", "+1"), strict=True)
            },
            "weak": int((self.wrong > 0).sum()),
            "wrong_senses": int(self.wrong.sum()),
            "senses": int(self.senses.sum()),
        }

    def check(self, geometry: Geometry, chip_id: str | None = None) -> None:
        """Refuse a map of another chip than the one it is to be used for, whose array has ``geometry``.

        Raises:
            UserMistake: another chip or size.
        """
        if geometry != self.geometry:
            ours, theirs = "{} x {}".format(*self.geometry), "{} x {}".format(*geometry)
            raise UserMistake(f"the error map is of an array of {ours} cells, and this one has {theirs}")
        if chip_id is not None and chip_id != self.chip_id:
            raise UserMistake(
                f"the error map is of chip {self.chip_id}, and this bench has chip {chip_id}; "
                "characterise that one, or leave the error map out"
            )


class _Tried(NamedTuple):
    """One pattern: what was asked of the cells, which cells that was, and how often each then read each of VALUES."""

    target: Weights
    cells: NDArray[np.bool_]
    counts: NDArray[np.int64]


def error_map(runs: Sequence[Run]) -> ErrorMap:
    """What runs of one chip tell of its cells, earlier parts of resumed runs included.

    A cell is stuck when it was programmed to at least two different weights, at least :data:`STUCK_PROGRAMMINGS` times
    to another weight than it reads, and reads the same in at least :data:`STUCK_SHARE` of the senses of each.

    Raises:
        UserMistake: no runs, of several chips or sizes, or without patterns that were read back.
    """
    parts = list({part.path.resolve(): part for run in runs for part in chain(run)}.values())
    if not parts:
        raise UserMistake("an error map needs the run file of a characterisation, or of bit-error")
    chip_id, geometry = _chip(parts)
    # senses (asked, read, row, col) and programmings (asked, row, col)
    senses = np.zeros((3, 3, *geometry), dtype=np.int64)
    programmed = np.zeros((3, *geometry), dtype=np.int64)
    for part in parts:
        for tried in _tried(part):
            for index, value in enumerate(VALUES):
                asked = tried.cells & (tried.target == value)
                senses[index] += tried.counts * asked
                programmed[index] += asked
    stuck_value, stuck = _stuck(senses, programmed)
    asked = senses.sum(axis=1)
    wrong = np.where(stuck, 0, asked - senses[np.arange(3), np.arange(3)])
    return ErrorMap(chip_id, geometry, stuck, stuck_value, wrong, asked, tuple(part.path.name for part in parts))


def runs_of_chips(paths: Sequence[Path], ids: Sequence[str | None], whose: str, hint: str = "") -> list[list[Path]]:
    """The run files of each of several chips, which are known by their names.

    Args:
        ids: of the chips; None for one without a name, which no run is of.
        whose, hint: where these chips are, and what to do, to be said of a run of another.

    Raises:
        UserMistake: a run of another chip.
    """
    found: list[list[Path]] = [[] for _ in ids]
    for path in paths:
        chip_id = str(open_run(path).attributes.get("chip_id"))
        if chip_id not in ids:
            named = ", ".join(each for each in ids if each is not None)
            raise UserMistake(f"{path} is of chip {chip_id}, and {whose} {named if named else 'none'}{hint}")
        found[ids.index(chip_id)].append(path)
    return found


def _chip(parts: Sequence[Run]) -> tuple[str, Geometry]:
    chips = {str(part.attributes.get("chip_id", "")): part for part in parts}
    if "" in chips:
        raise UserMistake(f"{chips[''].path} does not say which chip it is of; an error map is of one chip")
    if len(chips) > 1:
        raise UserMistake(f"the runs are of several chips ({', '.join(sorted(chips))}); an error map is of one")
    sizes = {}
    for part in parts:
        if not {"row", "col"} <= part.coordinates.keys():
            raise UserMistake(f"{part.path} ({part.procedure}) has no cells; give runs of characterise or bit-error")
        sizes[Geometry(*(len(np.asarray(part.coordinates[axis].array)) for axis in ("row", "col")))] = part
    if len(sizes) > 1:
        raise UserMistake("the runs are of arrays of different sizes; an error map is of one array")
    return next(iter(chips)), next(iter(sizes))


def _tried(part: Run) -> Iterator[_Tried]:
    """The patterns of one run file. Raises UserMistake where it has none."""
    if part.procedure not in MAPPED:
        # others read patterns back too, but on devices that were not formed yet, or were aged in between
        raise UserMistake(f"{part.path} is of {part.procedure}; an error map takes runs of {', '.join(MAPPED)}")
    yield from _of_bit_errors(part) if "bit_errors" in part.tables else _of_patterns(part)


def _of_bit_errors(part: Run) -> Iterator[_Tried]:
    rows = read_parts([part], "bit_errors", ["condition", "pattern", "target", "sensed"])
    part.check_cells("bit_errors", rows)
    cells = part.read(SELECTION.name, ["cells"])["cells"][0].astype(bool)
    for key in np.unique(np.stack([rows["condition"], rows["pattern"]], axis=1), axis=0):
        here = (rows["condition"] == key[0]) & (rows["pattern"] == key[1])
        yield _Tried(rows["target"][here][0], cells, _counts(rows["sensed"][here]))


def _of_patterns(part: Run) -> Iterator[_Tried]:
    columns = ["pattern", "target", "sensed", "verdict"]
    patterns = last_passes(read_parts([part], "patterns", columns))
    senses: dict[str, NDArray[Any]] = part.read("senses", ["pattern", "sensed"]) if "senses" in part.tables else {}
    part.check_cells("patterns", patterns)
    part.check_cells("senses", senses)
    for index, pattern in enumerate(patterns["pattern"]):
        cells = patterns["verdict"][index] != Verdict.UNUSED
        # the last verify ended the attempts, and so errs less than a fresh read: it stands in only where there is none
        fresh = senses["sensed"][senses["pattern"] == pattern] if senses else patterns["sensed"][:0]
        yield _Tried(patterns["target"][index], cells, _counts(fresh if len(fresh) else patterns["sensed"][[index]]))


def _counts(sensed: NDArray[np.int8]) -> NDArray[np.int64]:
    """How often each cell read each of VALUES, ``(3, rows, cols)``, from ``(senses, rows, cols)``."""
    return np.stack([(sensed == value).sum(axis=0) for value in VALUES]).astype(np.int64)


def _stuck(senses: NDArray[np.int64], programmed: NDArray[np.int64]) -> tuple[Weights, NDArray[np.bool_]]:
    """What stuck cells read, and which cells are stuck."""
    asked = senses.sum(axis=1)
    several = (programmed > 0).sum(axis=0) >= 2
    value_of = np.zeros(senses.shape[2:], dtype=np.int8)
    stuck = np.zeros(senses.shape[2:], dtype=bool)
    for index, value in enumerate(VALUES):
        in_vain = programmed.sum(axis=0) - programmed[index] >= STUCK_PROGRAMMINGS
        same = (senses[:, index] >= STUCK_SHARE * asked).all(axis=0)
        here = several & in_vain & same
        value_of[here], stuck = value, stuck | here
    return value_of, stuck
