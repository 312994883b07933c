"""Programming with verify through the wire: passes, verdicts, bounds of attempts and energy, weights from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.procedure import CellMask, Record, Step
from bench.procedures.forming import FORMING, QUICK
from bench.procedures.program import PROGRAM, Ending
from bench.runner import run
from bench.session import Bench
from bench.stopping import Stopped, StopToken
from data.device_files import default_device
from data.runs import open_run
from drivers.chip import OperationKind, Verdict
from drivers.simulated.bench import SimulatedBench
from models.cells import DeviceState, lrs_devices
from models.devices.energy import reset_energy_j, set_energy_j
from models.exceptions import UserMistake

BROKEN = (1, 2)
MODEL = default_device().model
PASS_J = set_energy_j(MODEL, 3.5, 3.0, 10e-6) + reset_energy_j(MODEL, 4.5, 5.0, 10e-6)
"""One SET and one RESET at the points of the simulated bench."""


def some(rows: int, cols: int) -> CellMask:
    cells = np.zeros((32, 32), dtype=bool)
    cells[:rows, :cols] = True
    return cells


@pytest.fixture
def formed(bench: Bench, world: SimulatedBench, tmp_path: Path) -> Bench:
    """Formed cells, and one of which both devices are open: it reads 0 whatever is programmed."""
    run(FORMING, QUICK, bench, tmp_path / "forming", cells=some(4, 6))
    mask = np.zeros(world.chip.state.shape, dtype=bool)
    mask[BROKEN] = True
    world.chip._break(mask, np.full(2, DeviceState.OPEN, dtype=np.int8))
    return bench


def test_cells_are_left_out_as_soon_as_they_read_right(formed: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    cells = some(4, 6)
    before = world.chip.resistance_ohm
    settings = {"pattern": "checkerboard", "attempts": 4}
    outcome = run(PROGRAM, PROGRAM.parse(settings), formed, tmp_path, cells=cells)
    assert outcome.result["failed_at"] == [list(BROKEN)]
    assert (outcome.result["verified"], outcome.result["failed"], outcome.result["attempts"]) == (23, 1, 4)
    stored = open_run(outcome.run_file)
    rows = stored.read("programmed_cells")
    assert len(rows["row"]) == 24
    failed = (rows["row"] == BROKEN[0]) & (rows["col"] == BROKEN[1])
    assert rows["ending"][failed].tolist() == [Ending.OUT_OF_ATTEMPTS]
    assert rows["attempts"][failed].tolist() == [4]
    assert (rows["ending"][~failed] == Ending.VERIFIED).all()
    assert rows["energy_j"] == pytest.approx(rows["attempts"] * PASS_J, rel=1e-9)
    patterns = stored.read("patterns")
    assert patterns["attempts"].tolist() == [1, 2, 3, 4]
    assert ((patterns["verdict"][-1] == Verdict.VERIFIED).sum(), patterns["verdict"][-1][BROKEN]) == (
        23,
        Verdict.FAILED,
    )
    done = stored.read("operations")
    sets = done["devices"][done["kind"] == OperationKind.SET]
    # each pass pulses only the cells that were wrong before it, and the cells done are those that left
    wrong = (patterns["verdict"] == Verdict.FAILED).sum(axis=(1, 2))
    assert sets.sum(axis=(1, 2, 3)).tolist() == [24, *wrong[:-1]]
    assert (stored.read("cells_done")["cells"].sum(axis=0) == cells).all()
    # the hidden devices are what the weights ask for, and the others are what they were
    low = lrs_devices(patterns["target"][0])
    whole = cells.copy()
    whole[BROKEN] = False
    state = world.chip.state[whole]
    usable = state < DeviceState.STUCK_LRS
    assert (state[usable] == np.where(low[whole], DeviceState.LRS, DeviceState.HRS)[usable]).all()
    assert (world.chip.resistance_ohm[~cells] == before[~cells]).all()


def test_no_cell_is_given_more_energy_than_allowed(formed: Bench, tmp_path: Path) -> None:
    settings = {"pattern": "plus", "attempts": 50, "energy_j_at_most": 5.5 * PASS_J}
    outcome = run(PROGRAM, PROGRAM.parse(settings), formed, tmp_path, cells=some(4, 6))
    rows = open_run(outcome.run_file).read("programmed_cells")
    failed = rows["ending"] == Ending.OUT_OF_ENERGY
    assert list(zip(rows["row"][failed], rows["col"][failed], rows["attempts"][failed], strict=True)) == [(*BROKEN, 5)]
    assert outcome.result["largest_energy_j"] == pytest.approx(5 * PASS_J, rel=1e-9)


def test_an_energy_that_allows_nothing_is_refused_before_any_pulse(
    formed: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    before = world.chip.resistance_ohm
    with pytest.raises(UserMistake, match=r"energy_j_at_most = 1e-09 J .* not one pass, .* up to 7\.96e-09"):
        run(PROGRAM, PROGRAM.parse({"energy_j_at_most": 1e-9}), formed, tmp_path)
    assert (world.chip.resistance_ohm == before).all()


def test_a_resumed_run_counts_what_the_first_one_did(formed: Bench, tmp_path: Path) -> None:
    settings = PROGRAM.parse({"pattern": "minus", "attempts": 5})
    stop = StopToken()

    def stop_after_two(step: Step) -> None:
        if isinstance(step, Record) and step.table == "patterns" and step.values["attempts"] == 2:
            stop.request("enough")

    with pytest.raises(Stopped):
        run(PROGRAM, settings, formed, tmp_path, cells=some(4, 6), on_step=stop_after_two, stop=stop)
    (path,) = tmp_path.glob("*.h5")
    earlier = open_run(path)
    before = earlier.read("programmed_cells")
    outcome = run(PROGRAM, settings, formed, tmp_path, resume=earlier)
    rows = open_run(outcome.run_file).read("programmed_cells")
    ended = [{(int(r), int(c)) for r, c in zip(part["row"], part["col"], strict=True)} for part in (before, rows)]
    assert not ended[0] & ended[1]
    assert len(ended[0] | ended[1]) == 24
    failed = rows["ending"] == Ending.OUT_OF_ATTEMPTS
    assert rows["attempts"][failed].tolist() == [5]
    assert rows["energy_j"][failed] == pytest.approx(5 * PASS_J, rel=1e-9)
    assert outcome.result["attempts"] == 3


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_weights_come_from_a_file(kind: str, formed: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    weights = np.random.default_rng(3).integers(-1, 2, (32, 32)).astype(np.int8)
    path = tmp_path / f"weights.{kind}"
    if kind == "csv":
        np.savetxt(path, weights, fmt="%d", delimiter=",")
    else:
        np.save(path, weights)
    cells = some(1, 6)
    outcome = run(PROGRAM, PROGRAM.parse({"file": str(path)}), formed, tmp_path, cells=cells)
    assert (open_run(outcome.run_file).read("patterns")["target"][0] == weights).all()
    low = world.chip.state[0, :6] == DeviceState.LRS
    assert (low == lrs_devices(weights)[0, :6]).all()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,-1\n0,1\n", r"shape \(2, 2\), expected \(32, 32\)"),
        ("\n".join([",".join(["2"] * 32)] * 32), "-1, 0 or"),
        ("\n".join([",".join(["0.5"] * 32)] * 32), "-1, 0 or"),
        ("\n".join([",".join(["nan"] * 32)] * 32), "-1, 0 or"),
        ("1,one\n", "give a CSV or .npy file"),
        (None, "not found"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(
    text: str | None, complaint: str, bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "weights.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserMistake, match=complaint) as caught:
        run(PROGRAM, PROGRAM.parse({"file": str(path)}), bench, tmp_path)
    assert "weights.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_array_is_refused(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "weights.npy"
    np.save(path, np.array([{"weight": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserMistake, match=r"weights\.npy"):
        run(PROGRAM, PROGRAM.parse({"file": str(path)}), bench, tmp_path)
