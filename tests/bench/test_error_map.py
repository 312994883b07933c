"""The error map finds the stuck and the weak cells of a chip, and is of one chip only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.error_map import error_map
from bench.procedures import PROCEDURES
from bench.procedures.forming import FORMING, QUICK
from bench.runner import run
from bench.session import Bench
from data.runs import Run, open_run
from drivers.simulated.bench import SimulatedBench
from models.cells import DeviceState, Geometry
from models.exceptions import UserMistake
from tests.bench.recorded import COLS, ROWS, record

STUCK = {(0, 0): 1, (1, 1): -1, (2, 2): 0}
WEAK = (3, 0)
REPEATS = 10


def reads(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ten senses of one pattern on a chip with three stuck cells; a stuck one is unsteady once, a weak one is wrong."""
    sensed = np.repeat(target[None], REPEATS, axis=0)
    for cell, value in STUCK.items():
        sensed[:, *cell] = value
    sensed[0, 0, 0] = target[0, 0]
    sensed[:3, *WEAK] = -target[WEAK]
    return sensed


def run_of(path: Path, procedure: str, targets: np.ndarray, **attributes: str) -> Run:
    rng = np.random.default_rng(0)
    sensed = np.stack([reads(target, rng) for target in targets])
    pattern = np.repeat(np.arange(len(targets)), REPEATS)
    senses = {"pattern": pattern, "repeat": np.tile(np.arange(REPEATS), len(targets)), "sensed": np.concatenate(sensed)}
    if procedure == "bit-error":
        return record(
            path, procedure, {"bit_errors": senses | {"target": np.repeat(targets, REPEATS, axis=0)}}, **attributes
        )
    tables = {
        "patterns": {"pattern": np.arange(len(targets)), "target": targets, "sensed": sensed[:, -1], "verdict": 1}
    }
    return record(path, procedure, tables | {"senses": senses}, **attributes)


def patterns(pairs: int, values: tuple[int, ...] = (-1, 1)) -> np.ndarray:
    drawn = np.random.default_rng(3).choice(values, size=(pairs, ROWS, COLS)).astype(np.int8)
    return np.stack([drawn, -drawn], axis=1).reshape(-1, ROWS, COLS)


@pytest.mark.parametrize("procedure", ["characterise", "bit-error"])
def test_stuck_and_weak_cells_are_found(tmp_path: Path, procedure: str) -> None:
    found = error_map([run_of(tmp_path / "a.h5", procedure, patterns(2))])
    assert found.chip_id == "CHIP-7"
    assert found.geometry == Geometry(ROWS, COLS)
    assert {tuple(cell) for cell in np.argwhere(found.stuck)} == set(STUCK)
    assert all(found.stuck_value[cell] == value for cell, value in STUCK.items())
    assert (found.senses == 4 * REPEATS).all()
    assert {tuple(cell) for cell in np.argwhere(found.wrong)} == {WEAK}
    assert found.wrong[WEAK] == 12
    # asked for zero it is expected to err as it does in all
    assert found.errors[:, *WEAK].tolist() == pytest.approx([0.3, 0.3, 0.3])
    assert found.errors[:, 0, 0].tolist() == [1.0, 0.5, 0.0]
    assert found.errors[:, 2, 2].tolist() == [0.5, 0.0, 0.5]
    again = error_map([run_of(tmp_path / "b.h5", procedure, patterns(2))])
    assert again.sha256 == found.sha256
    twice = error_map([open_run(tmp_path / "a.h5"), open_run(tmp_path / "b.h5"), open_run(tmp_path / "a.h5")])
    assert (twice.senses == 8 * REPEATS).all()
    assert twice.sha256 != found.sha256


def test_one_failure_is_not_yet_a_stuck_cell_and_zeros_can_be_asked(tmp_path: Path) -> None:
    # each weight was asked once: a failed pulse looks the same as a stuck cell
    found = error_map([run_of(tmp_path / "pair.h5", "characterise", patterns(1))])
    assert {tuple(cell) for cell in np.argwhere(found.stuck)} == {(2, 2)}
    assert found.wrong[0, 0] == REPEATS - 1
    ternary = error_map([run_of(tmp_path / "ternary.h5", "bit-error", patterns(6, (-1, 0, 1)))])
    assert {tuple(cell) for cell in np.argwhere(ternary.stuck)} == set(STUCK)


def test_what_is_no_map_of_one_chip_is_refused(tmp_path: Path) -> None:
    ours = run_of(tmp_path / "a.h5", "characterise", patterns(2))
    other = run_of(tmp_path / "b.h5", "characterise", patterns(2), chip_id="CHIP-8")
    unnamed = run_of(tmp_path / "c.h5", "characterise", patterns(2), chip_id="")
    reading = record(tmp_path / "d.h5", "resistance", {})
    for runs, says in (
        ([], "needs the run file of a characterisation"),
        ([ours, other], r"of several chips \(CHIP-7, CHIP-8\)"),
        ([unnamed], "c.h5 does not say which chip"),
        ([reading], "d.h5 is of resistance; an error map takes runs of characterise, bit-error, program"),
    ):
        with pytest.raises(UserMistake, match=says):
            error_map(runs)
    found = error_map([ours])
    with pytest.raises(UserMistake, match="of an array of 4 x 3 cells, and this one has 4 x 4"):
        found.check(Geometry(4, 4))
    with pytest.raises(UserMistake, match="of chip CHIP-7, and this bench has chip CHIP-8"):
        found.check(Geometry(ROWS, COLS), "CHIP-8")


def test_the_stuck_cells_of_a_simulated_chip_are_found(world: SimulatedBench, bench: Bench, tmp_path: Path) -> None:
    run(FORMING, QUICK, bench, tmp_path)
    state = world.chip.state
    characterise = PROCEDURES["characterise"]
    parameters = characterise.parse({"resistance_cells": 4, "staircase_cells": 2, "xnor_repeats": 0, "pairs": 3})
    found = error_map([open_run(run(characterise, parameters, bench, tmp_path).run_file)])
    assert found.chip_id == bench.chip.chip_id
    # both devices for good at the same end of the range: no weight can be told; one at the low end decides the weight
    low, high = state == DeviceState.STUCK_LRS, (state == DeviceState.STUCK_HRS) | (state == DeviceState.OPEN)
    surely = {}
    for value, stuck_low, stuck_high in ((-1, 0, 1), (1, 1, 0)):
        for cell in np.argwhere(low[..., stuck_low] & high[..., stuck_high]):
            surely[tuple(cell)] = value
    assert all(found.stuck[cell] and found.stuck_value[cell] == value for cell, value in surely.items())
    working = ~(low | high).any(axis=2)
    # a cell that works and is called stuck must have failed each time; a spoilt one may still read right
    assert (found.stuck & working).sum() <= 0.002 * working.sum()
    assert 1 <= found.stuck.sum() <= (~working).sum() + 2
