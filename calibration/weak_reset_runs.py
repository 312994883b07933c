"""Weak-RESET runs become populations: ``python -m calibration.weak_reset_runs RUN... --out device.toml``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.result import Fit, Outlier, chip_of
from calibration.weak_reset_curves import Staircase
from calibration.weak_reset_fit import fit_weak_reset
from data.device_files import DeviceFile
from data.run_chain import PART, chain, read_parts
from data.runs import Run
from models.exceptions import UserMistake

TABLE = "staircase"
_KEY = ("row", "col", "device", "branch", "cycle")
_COLUMNS = (*_KEY, "vddc_v", "device_v", "pulses", "resistance_ohm", "in_compliance")


class _Block(NamedTuple):
    """The staircases of one run, all of the same devices.

    Attributes:
        staircases: in the order of measurement.
        addresses: ``(devices, 3)``.
        chip: identifier.
    """

    staircases: tuple[Staircase, ...]
    addresses: NDArray[np.int64]
    chip: str


def fit_weak_reset_runs(runs: Sequence[Run], base: DeviceFile) -> Fit:
    """Fit the staircases of weak-RESET runs.

    Runs of one chip add voltages or cycles to the same devices; runs of several chips add devices. Staircases that an
    interruption cut off are left out where a resumed run measured them anew.

    Args:
        runs: of the procedure weak-reset, or plain tables of RESET trains; of a resumed run, its last part.
        base: what is not fitted.

    Raises:
        UserMistake: no staircases, devices that were not all measured alike, or data that cannot be fitted, see
            :func:`~calibration.weak_reset_fit.fit_weak_reset`.
    """
    blocks = [_read(run) for run in runs]
    chips = list(dict.fromkeys(block.chip for block in blocks))
    together = [_joined([block for block in blocks if block.chip == chip]) for chip in chips]
    whole = together[0]
    if len(together) == 1:
        return fit_weak_reset(whole.staircases, base.model, whole.addresses)
    conditions = [[item.condition for item in block.staircases] for block in together]
    for chip, other in zip(chips, conditions, strict=True):
        if other != conditions[0]:
            raise UserMistake(
                f"weak-reset: chips {chips[0]!r} and {chip!r} were not measured at the same voltages and pulse counts; "
                "fit each by itself"
            )
    staircases = [
        Staircase(
            parts[0].pulses,
            parts[0].device_v,
            parts[0].width_s,
            np.concatenate([part.resistance_ohm for part in parts]),
            np.concatenate([part.limited for part in parts]),
        )
        for parts in zip(*(block.staircases for block in together), strict=True)
    ]
    # devices of different chips share addresses: rows are counted on from chip to chip, and back in what is reported
    rows = [int(block.addresses[:, 0].max()) + 1 for block in together]
    offsets = np.cumsum([0, *rows[:-1]])
    shifted = [block.addresses + np.array([offset, 0, 0]) for block, offset in zip(together, offsets, strict=True)]
    fit = fit_weak_reset(staircases, base.model, np.concatenate(shifted))
    return replace(fit, outliers=tuple(_on_its_chip(item, chips, offsets) for item in fit.outliers))


def _on_its_chip(item: Outlier, chips: Sequence[str], offsets: NDArray[np.int64]) -> Outlier:
    place = int(np.searchsorted(offsets, item.row, side="right")) - 1
    return replace(item, row=item.row - int(offsets[place]), chip=chips[place])


def _joined(blocks: Sequence[_Block]) -> _Block:
    """The runs of one chip, one after the other, on the devices that all of them measured."""
    first = blocks[0]
    for block in blocks[1:]:
        if not np.array_equal(block.addresses, first.addresses):
            raise UserMistake(
                f"weak-reset: the runs of chip {first.chip!r} did not measure the same devices; "
                "fit them one by one, or select the same cells"
            )
    return _Block(tuple(item for block in blocks for item in block.staircases), first.addresses, first.chip)


def _read(run: Run) -> _Block:
    parts = chain(run)
    table = read_parts(parts, TABLE, _COLUMNS)
    run.check_cells(TABLE, table)
    if len(table["pulses"]) == 0:
        raise UserMistake(f"{run.path}: no staircase was measured")
    columns = {name: table[name].astype(np.int64) for name in (*_KEY, "pulses", PART)}
    key = np.stack([columns[name] for name in (PART, *_KEY)], axis=1)
    units, unit = np.unique(key, axis=0, return_inverse=True)
    unit = unit.reshape(-1)
    order = np.lexsort((columns["pulses"], unit))
    _refuse_repeats(run, unit[order], columns["pulses"][order], key[order])
    lengths = np.bincount(unit)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    pulses, ohms = columns["pulses"][order], table["resistance_ohm"][order]
    limited = table["in_compliance"][order] != 0
    # an interruption leaves a staircase short; the resumed part has it again, from its SET on
    longest = {branch: int(lengths[units[:, 4] == branch].max()) for branch in np.unique(units[:, 4])}
    latest = {tuple(row[1:].tolist()): place for place, row in enumerate(units) if lengths[place] == longest[row[4]]}
    missing = {tuple(row[1:].tolist()) for row in units} - set(latest)
    devices = sorted({name[:3] for name in latest} - {name[:3] for name in missing})
    if not devices:
        raise UserMistake(f"{run.path}: no device was measured to the end of its staircases; resume the run")
    steps = sorted({name[3:] for name in latest}, key=lambda step: (step[1], step[0]))
    staircases = []
    for branch, cycle in steps:
        places = [latest.get((*device, branch, cycle)) for device in devices]
        if any(place is None for place in places):
            raise UserMistake(
                f"{run.path}: not all devices walked branch {branch} in cycle {cycle}; all must be measured alike"
            )
        rows = np.array([starts[place] for place in places if place is not None])[:, None] + np.arange(longest[branch])
        counts = pulses[rows]
        if (counts != counts[0]).any():
            raise UserMistake(f"{run.path}: branch {branch} was not read at the same pulse counts on all devices")
        here = order[rows[0, 0]]
        width_s = _width_s(run, parts, float(table["vddc_v"][here]))
        device_v, stopped = float(table["device_v"][here]), limited[rows].any(axis=1)
        staircases.append(Staircase(counts[0], device_v, width_s, ohms[rows], stopped))
    return _Block(tuple(staircases), np.array(devices, dtype=np.int64), chip_of(run))


def _refuse_repeats(run: Run, unit: NDArray[np.int64], pulses: NDArray[np.int64], key: NDArray[np.int64]) -> None:
    """A device must not be read twice at one pulse count of one staircase."""
    twice = np.flatnonzero((np.diff(unit) == 0) & (np.diff(pulses) == 0))
    if len(twice):
        _, row, col, device, branch, cycle = key[twice[0]]
        raise UserMistake(
            f"{run.path}: device {device} of row {row}, column {col} is there twice at {pulses[twice[0]]} pulses "
            f"of branch {branch}, cycle {cycle}"
        )


def _width_s(run: Run, parts: Sequence[Run], vddc_v: float) -> float:
    """Width of the weak-RESET pulses at this VDDC."""
    table = read_parts(parts, "operations", ("kind", "vddc_v", "width_s"))
    column = run.tables["operations"].column("kind")
    code = next(code for code, name in (column.flags or {}).items() if name == "WEAK_RESET")
    chosen = (table["kind"] == code) & np.isclose(table["vddc_v"], vddc_v)
    widths = np.unique(table["width_s"][chosen])
    if len(widths) != 1:
        raise UserMistake(
            f"{run.path}: {len(widths)} widths of weak-RESET pulses at VDDC {vddc_v:g} V; the fit needs exactly one"
        )
    return float(widths[0])


def main() -> int:
    """Fit the runs named on the command line; returns the exit status."""
    from calibration.script import run_script

    return run_script("weak-reset")


if __name__ == "__main__":
    sys.exit(main())
