"""XNOR: the truth table of each cell, taken out of the sums of its row, and exact products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.procedure import Record, Step
from bench.procedures.xnor import XNOR
from bench.runner import run
from bench.session import Bench
from data.runs import Run, open_run
from drivers.simulated.bench import SimulatedBench
from models.cells import DeviceState, cell_mask_to_devices
from models.exceptions import UserMistake


def selection(bench: Bench, rows: slice, cols: slice) -> np.ndarray:
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[rows, cols] = True
    return cells


def measured(
    bench: Bench, world: SimulatedBench, folder: Path, cells: np.ndarray, **settings: Any
) -> tuple[dict[str, Any], Run, list[np.ndarray]]:
    """Form the cells and run; summary, run file, and the hidden resistances after each programmed pattern."""
    bench.chip.form(cell_mask_to_devices(cells), 3)
    ohms: list[np.ndarray] = []

    def spy(step: Step) -> None:
        if isinstance(step, Record) and step.table == "patterns":
            ohms.append(world.chip.resistance_ohm)

    parameters = XNOR.parse({"form_virgin": False, **settings})
    outcome = run(XNOR, parameters, bench, folder, cells=cells, on_step=spy)
    return outcome.result, open_run(outcome.run_file), ohms


def test_the_table_of_every_cell_is_that_of_its_devices_and_finds_the_stuck_ones(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = np.ones(bench.config.geometry, dtype=bool)
    stuck = np.zeros((32, 32, 2), dtype=bool)
    for where in ((3, 5, 0), (20, 0, 1), (31, 31, 0)):
        stuck[where] = True
    bench.chip.form(cell_mask_to_devices(cells), 3)
    world.chip._break(stuck, np.full(3, DeviceState.STUCK_HRS, dtype=np.int8))
    result, stored, ohms = measured(bench, world, tmp_path, cells, vectors=0)
    rows = stored.read("xnor")
    assert [(w, x) for w, x in zip(rows["weight"], rows["input"], strict=True)] == [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    log_ratio = np.log([ohm[..., 0] / ohm[..., 1] for ohm in ohms])
    sure = (np.abs(log_ratio) > 0.3).all(axis=0)  # far beyond the offset: 4 %
    assert sure.mean() > 0.98
    for row, (weight, sign) in enumerate(zip(rows["weight"], rows["input"], strict=True)):
        held = np.sign(log_ratio[0 if weight == -1 else 1])
        np.testing.assert_array_equal(rows["output"][row][sure], (sign * held)[sure])
        np.testing.assert_array_equal(rows["wrong"][row][sure], (held != weight)[sure])
        assert (rows["expected"][row] == weight * sign).all()
    # a device stuck in the HRS cannot be the low one of its cell: whichever weight needs that is wrong, mostly
    found = set(map(tuple, result["faulty_cells"]))
    wrong = (np.sign(log_ratio) != np.array([-1, 1])[:, None, None]).any(axis=0)
    assert {tuple(cell) for cell in np.argwhere(wrong & sure).tolist()} <= found
    assert found & {(3, 5), (20, 0), (31, 31)}
    broken = (world.chip.state >= DeviceState.STUCK_LRS).any(axis=2)
    assert result["faulty"] == len(found) <= broken.sum() + 3


def test_cells_that_were_not_selected_drop_out_and_are_left_alone(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    neighbours = selection(bench, slice(None), slice(0, 10))
    bench.chip.form(cell_mask_to_devices(neighbours), 3)
    weights = np.where(np.indices((32, 32)).sum(axis=0) % 3 == 0, 1, -1)
    bench.chip.program(weights, used=neighbours)
    cells = selection(bench, slice(8, 12), slice(3, 6)) | selection(bench, slice(10, 11), slice(8, 9))
    before = world.chip.resistance_ohm
    result, stored, _ = measured(bench, world, tmp_path, cells)
    np.testing.assert_array_equal(world.chip.resistance_ohm[~cells], before[~cells])
    rows = stored.read("xnor")
    np.testing.assert_array_equal(rows["output"][:, cells], rows["expected"][:, cells])
    assert np.isnan(rows["output"][:, ~cells]).all()
    assert not rows["expected"][:, ~cells].any()
    assert result["faulty"] == 0
    # the outputs come from these raw sums and nothing else
    sums = stored.read("xnor_sums")
    assert set(sums["columns"]) == {3, 4, 5, 6, 8, 9}
    products = stored.read("xnor_vectors")
    assert products["inputs"].shape == (100, 32)
    assert not products["inputs"][:, 9:].any()
    np.testing.assert_array_equal(products["sum"][:, 8:12], products["expected"][:, 8:12])
    assert result["products"] == 100 * 4
    assert result["wrong_products"] == 0


def test_products_are_those_of_the_weights_and_a_wrong_weight_shows(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = selection(bench, slice(0, 6), slice(0, 8))
    result, stored, _ = measured(bench, world, tmp_path, cells, vectors=40, seed=3)
    weights = stored.read("patterns")["target"][-1][:6, :8].astype(int)
    rows = stored.read("xnor_vectors")
    np.testing.assert_array_equal(rows["expected"][:, :6], rows["inputs"][:, :8].astype(int) @ weights.T)
    assert result["wrong_products"] == 0

    broken = np.zeros((32, 32, 2), dtype=bool)
    broken[2, 4] = True
    world.chip._break(broken, np.full(2, DeviceState.OPEN, dtype=np.int8))
    result, stored, _ = measured(bench, world, tmp_path, cells, vectors=40, seed=3)
    rows = stored.read("xnor_vectors")
    off = rows["sum"].astype(int) - rows["expected"]
    # an open pair never discharges: it counts zero, and each product of its row lacks one
    assert (np.abs(off[:, 2]) == 1).all()
    assert not off[:, [0, 1, 3, 4, 5]].any()
    assert result["wrong_products"] == 40
    assert result["largest_difference"] == 1
    assert [2, 4] in result["faulty_cells"]


def test_without_vectors_there_are_none(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    result, stored, _ = measured(bench, world, tmp_path, selection(bench, slice(2), slice(2)), vectors=0, repeats=1)
    assert "products" not in result
    assert len(stored.read("xnor_vectors")["vector"]) == 0
    with pytest.raises(UserMistake, match="vectors"):
        XNOR.parse({"vectors": -1})
