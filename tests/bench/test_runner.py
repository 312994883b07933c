"""Runs: what reaches the disk, how a run ends, and that every ending is safe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray

from bench.config import parse_bench_file
from bench.procedure import Parameters, Procedure, Progress, Step, Steps
from bench.procedures import PROCEDURES, find_procedure
from bench.procedures.characterise import CharacteriseParameters
from bench.procedures.forming import FORMING, QUICK
from bench.procedures.program import PROGRAM, ProgramParameters
from bench.runner import run
from bench.session import Bench, connect
from bench.stopping import Stopped, StopToken
from data.runs import RunStatus, open_run
from drivers.chip import Chip, OperationKind
from drivers.simulated.bench import SimulatedBench
from models.cells import DeviceState
from models.exceptions import BenchFailure, UserMistake

SMALL = {
    "characterise": {"repeats": 4, "resistance_cells": 6, "staircase_cells": 3, "staircase_points": 3},
}


def formed(bench: Bench, folder: Path) -> None:
    run(FORMING, QUICK, bench, folder)


@pytest.mark.parametrize("name", list(PROCEDURES))
def test_each_procedure_completes_records_and_leaves_the_bench_safe(
    name: str, bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    formed(bench, tmp_path)
    procedure = find_procedure(name)
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[:3, :4] = True
    seen: list[Step] = []
    outcome = run(procedure, procedure.parse(SMALL.get(name, {})), bench, tmp_path, cells=cells, on_step=seen.append)
    assert outcome.status == "completed"
    assert outcome.records > 0
    stored = open_run(outcome.run_file)
    assert stored.status is RunStatus.COMPLETED
    assert sum(len(stored.read(table)["time_s"]) for table in stored.tables) == outcome.records
    assert any(isinstance(step, Progress) for step in seen)
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_a_run_file_opens_in_xarray_and_carries_what_is_needed_to_repeat_it(bench: Bench, tmp_path: Path) -> None:
    procedure = find_procedure("program")
    outcome = run(procedure, procedure.parse({"seed": 4}), bench, tmp_path, seeds={"seed": 4})
    tree = xarray.open_datatree(outcome.run_file, engine="h5netcdf")
    target = tree["patterns"]["target"]
    assert target.dims == ("patterns", "row", "col")
    assert tree["operations"]["vddc_v"].attrs["units"] == "V"
    assert all("units" in variable.attrs for node in tree.subtree for variable in node.variables.values())
    attributes = tree.attrs
    assert json.loads(attributes["parameters"])["seed"] == 4
    assert json.loads(attributes["seeds"]) == {"seed": 4}
    assert "operating_points" in attributes["bench_file"]
    assert "2230G" in attributes["instruments"]
    assert json.loads(attributes["versions"])["rram-bench"]
    assert attributes["status"] == "completed"


def test_operations_are_recorded_in_order_with_their_rails(bench: Bench, tmp_path: Path) -> None:
    outcome = run(PROGRAM, ProgramParameters(attempts=1), bench, tmp_path)
    operations = open_run(outcome.run_file).read("operations")
    kinds = [OperationKind(kind) for kind in operations["kind"]]
    assert kinds == [OperationKind.SET, OperationKind.RESET, OperationKind.SENSE]
    assert operations["vddc_v"].tolist() == [3.5, 4.5, 1.2]
    # Each device of each cell gets exactly one of the two pulses.
    assert (operations["devices"][0] + operations["devices"][1] == 1).all()


def test_forming_finds_the_cells_that_do_not_work(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    procedure = find_procedure("forming")
    cells = np.zeros(bench.chip.geometry, dtype=bool)
    cells[:10] = True
    result = run(procedure, procedure.parse({}), bench, tmp_path, cells=cells).result
    broken = np.argwhere((world.chip.state >= DeviceState.STUCK_LRS).any(axis=2)).tolist()
    assert result["formed"] == result["cells"] - len(result["not_formed"])
    assert 310 <= result["formed"] <= 320
    assert set(map(tuple, result["not_formed"])) <= set(map(tuple, broken))


class SlowParameters(Parameters):
    """None."""


def steps_until_stopped(chip: Chip, parameters: SlowParameters, cells: np.ndarray) -> Steps:
    done = 0
    while True:
        done += 1
        chip.read()
        yield Progress(done, done + 1, "reading for ever")


ENDLESS = Procedure("endless", "reads until it is stopped", SlowParameters, (), steps_until_stopped)


def test_a_stop_ends_the_run_safely_and_the_file_says_so(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    token = StopToken()

    def stop_at_five(step: Step) -> None:
        if isinstance(step, Progress) and step.done == 5:
            token.request("the test asked")

    with pytest.raises(Stopped, match="the test asked"):
        run(ENDLESS, SlowParameters(), bench, tmp_path, on_step=stop_at_five, stop=token)
    assert world.world.rails == (0.0, 0.0, 0.0)
    (path,) = tmp_path.glob("*.h5")
    stored = open_run(path)
    assert stored.status is RunStatus.STOPPED
    assert len(stored.read("operations")["kind"]) == 5


def test_an_unplugged_board_ends_the_run_with_the_supply_off_and_the_file_says_why(
    world: SimulatedBench, tmp_path: Path
) -> None:
    def unplug(step: Step) -> None:
        world.board.stop()

    text = world.bench_file()
    bench = connect(parse_bench_file(text, "b"), text)
    with pytest.raises(BenchFailure, match="board"):
        run(ENDLESS, SlowParameters(), bench, tmp_path, on_step=unplug)
    assert world.world.rails == (0.0, 0.0, 0.0)
    report = bench.close()
    assert [step.role for step in report.steps if not step.confirmed] == ["board"]
    (path,) = tmp_path.glob("*.h5")
    stored = open_run(path)
    assert stored.status is RunStatus.FAILED
    assert "board" in stored.ending.reason


def test_parameters_that_make_no_sense_are_refused_with_their_name(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match=r"program: attempts: .*its parameters are"):
        PROGRAM.parse({"attempts": 0})
    with pytest.raises(UserMistake, match="attempt: unknown key"):
        PROGRAM.parse({"attempt": 1})
    with pytest.raises(UserMistake, match="no procedure is called"):
        find_procedure("levitate")
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[0, :2] = True
    procedure = find_procedure("characterise")
    with pytest.raises(UserMistake, match="2 cells are selected"):
        run(procedure, CharacteriseParameters(), bench, tmp_path, cells=cells)


def test_a_folder_that_cannot_be_written_is_refused_before_any_voltage(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(UserMistake, match="--out"):
        run(PROGRAM, ProgramParameters(), bench, blocked / "runs")
    assert world.world.rails == (0.0, 0.0, 0.0)
