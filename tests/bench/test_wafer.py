"""A wafer, die by die, through the wires of a simulated bench with a prober."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.check import check_bench
from bench.config import BenchFile, parse_bench_file
from bench.procedures.characterise import CharacteriseParameters
from bench.session import connect, make_safe
from bench.stages import Quiet
from bench.stopping import Stopped, StopToken
from bench.wafer import Asked, Forming, measure_wafer, parse_dies
from bench.wafer_report import text_map, write_wafer_report
from bench.wafer_results import Criteria, WaferRecord, load_wafer
from data.device_files import default_device, load_device
from data.runs import open_run
from drivers.errors import LinkError, TakenAway
from drivers.prober_role import Die
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.wafer import Wafer
from models.cells import Geometry
from models.exceptions import BenchFailure, UserMistake
from tests.bench.test_cli import assert_one_line_mistake, rram_bench

OFF = (0.0, 0.0, 0.0)
SEED, ACROSS = 11, 3


def dead_dies(seed: int) -> int:
    wafer = Wafer(default_device(), Geometry(1, 1), seed, "", ACROSS)
    return sum(wafer.is_dead(die) for die in wafer.dies)


DEAD_SEED = next(seed for seed in range(100) if dead_dies(seed) == 1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SimulatedBench, Path, WaferRecord]]:
    """A whole wafer of nine dies, one of them dead."""
    folder = tmp_path_factory.mktemp("wafer")
    with SimulatedBench(DEAD_SEED, wafer=ACROSS) as world:
        yield world, folder, measure(world, folder)


@pytest.fixture
def world() -> Iterator[SimulatedBench]:
    with SimulatedBench(SEED, wafer=ACROSS) as simulated:
        yield simulated


def config_of(world: SimulatedBench) -> tuple[BenchFile, str]:
    text = world.bench_file()
    return parse_bench_file(text, "bench with a prober"), text


def asked(*dies: Die, seed: int = 0, criteria: Criteria | None = None) -> Asked:
    return Asked(
        seed,
        Forming.AUTO,
        CharacteriseParameters(seed=seed),
        Criteria() if criteria is None else criteria,
        dies if dies else None,
    )


def measure(
    world: SimulatedBench, folder: Path, wanted: Asked | None = None, stop: StopToken | None = None
) -> WaferRecord:
    config, text = config_of(world)
    stop = StopToken() if stop is None else stop
    return measure_wafer(config, text, folder, asked() if wanted is None else wanted, Quiet(), stop)


def touching(world: SimulatedBench) -> bool:
    assert world.prober is not None
    return world.prober.prober.touching


def hot_moves(world: SimulatedBench) -> int:
    assert world.wafer is not None
    return world.wafer.hot_moves


def test_each_die_is_fitted_to_what_it_is(measured: tuple[SimulatedBench, Path, WaferRecord]) -> None:
    """Of the medians of eight dies, whose intervals hold 95 %, at most two lie outside, and none twice as far."""
    world, folder, record = measured
    assert world.wafer is not None
    assert [die.die for die in record.dies] == list(world.wafer.dies)
    outside = 0
    for die in record.dies:
        if world.wafer.is_dead(die.die):
            continue
        assert die.device_file is not None
        assert load_device(folder / die.device_file).name == f"chip SIM-{DEAD_SEED}/{die.die}"
        truth = world.wafer.device(die.die).quantities
        for name in ("lrs.median_ohm", "hrs.median_ohm"):
            one = die.parameters[name]
            outside += not one.low <= truth[name].value <= one.high
            assert abs(np.log(one.value / truth[name].value)) < 2.0 * np.log(one.high / one.value)
    assert outside <= 2
    assert (hot_moves(world), touching(world), world.world.rails) == (0, False, OFF)


def test_a_dead_die_is_put_down_as_such_and_the_next_one_measured(
    measured: tuple[SimulatedBench, Path, WaferRecord],
) -> None:
    world, folder, record = measured
    assert world.wafer is not None
    (dead,) = (die for die in record.dies if world.wafer.is_dead(die.die))
    assert dead.failed == "0 of 1024 cells formed"
    assert (dead.formed_cells, dead.parameters, dead.device_file) == (0, {}, None)
    assert record.good >= 7
    assert text_map(record).count("x") == 1
    assert record.criteria.faults(dead) == (dead.failed,)
    assert load_wafer(folder) == record


def test_runs_and_table_name_the_die(measured: tuple[SimulatedBench, Path, WaferRecord]) -> None:
    _, folder, record = measured
    names = set()
    for path in sorted(folder.glob("die_*/*.h5")):
        run = open_run(path)
        column, row = path.parent.name.removeprefix("die_").split("_")
        names.add(run.attributes["chip_id"])
        assert run.attributes["chip_id"] == f"SIM-{DEAD_SEED}/{int(column)}:{int(row)}"
    assert names == {die.chip_id for die in record.dies}
    lines = (folder / "wafer.csv").read_text().splitlines()
    assert len(lines) == 10
    assert len({line.count(",") for line in lines}) == 1


def test_the_page_has_its_maps_and_every_die(measured: tuple[SimulatedBench, Path, WaferRecord]) -> None:
    _, folder, record = measured
    text = write_wafer_report(folder, record).read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 3
    for die in record.dies:
        assert f"<td>{die.die}</td>" in text
    assert "0 of 1024 cells formed" in text


def test_criteria_can_be_others_without_measuring_again(
    measured: tuple[SimulatedBench, Path, WaferRecord], tmp_path: Path
) -> None:
    _, folder, record = measured
    done = rram_bench("wafer", "report", str(folder), "--formed", "1", "--errors", "0", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["dies"], found["measured"], found["good"]) == (9, 9, 0)
    assert found["across"]["hrs.median_ohm"]["dies"] == 8
    assert load_wafer(folder) == record


def test_a_stopped_wafer_goes_on_where_it_ended(world: SimulatedBench, tmp_path: Path) -> None:
    stop = StopToken()
    config, text = config_of(world)

    def after_two(record: WaferRecord) -> None:
        if len(record.dies) == 2:
            stop.request("this test")

    with pytest.raises(Stopped):
        measure_wafer(config, text, tmp_path, asked(), Quiet(), stop, after_two)
    two = load_wafer(tmp_path).dies
    assert len(two) == 2
    assert (touching(world), world.world.rails) == (False, OFF)
    chosen = (*(die.die for die in two), Die(0, 0))
    whole = measure(world, tmp_path, asked(*chosen))
    assert whole.dies[:2] == two
    assert [die.die for die in whole.dies] == list(chosen)


def test_a_stop_in_the_middle_of_a_die_lifts_the_needles_and_keeps_no_half_die(
    world: SimulatedBench, tmp_path: Path
) -> None:
    stop = StopToken()

    class StopsInside(Quiet):
        def step(self, step: object) -> None:
            assert touching(world)
            stop.request("this test")

    config, text = config_of(world)
    with pytest.raises(Stopped) as caught:
        measure_wafer(config, text, tmp_path, asked(), StopsInside(), stop)
    assert "that was on die" in " ".join(caught.value.__notes__)
    assert load_wafer(tmp_path).dies == ()
    assert (hot_moves(world), touching(world), world.world.rails) == (0, False, OFF)


def test_needles_stay_down_while_an_output_is_not_known_to_be_off(world: SimulatedBench, tmp_path: Path) -> None:
    class LosesTheSupply(Quiet):
        def step(self, step: object) -> None:
            world.supply.stop()

    config, text = config_of(world)
    with pytest.raises(LinkError) as caught:
        measure_wafer(config, text, tmp_path, asked(), LosesTheSupply(), StopToken())
    assert any("needles were left on the die" in note for note in caught.value.__notes__)
    assert touching(world)
    assert hot_moves(world) == 0
    report = make_safe(config)
    assert {step.role for step in report.steps if not step.confirmed} == {"supply", "prober"}
    assert touching(world)


def test_outputs_that_a_dead_program_left_on_go_off_before_the_needles_move(
    world: SimulatedBench, tmp_path: Path
) -> None:
    assert world.prober is not None
    world.prober.prober.die = Die(0, 0)
    world.prober.prober.execute(b"move_chuck_contact")
    config, text = config_of(world)
    left = connect(config, text)
    left.chip.read()
    left.board.close()
    left.lock.release()
    # that is what the end of its process does
    assert world.world.rails != OFF
    measure(world, tmp_path, asked(Die(0, 0)))
    assert (hot_moves(world), touching(world), world.world.rails) == (0, False, OFF)


def test_needles_that_do_not_lift_end_the_run_before_the_next_step(world: SimulatedBench, tmp_path: Path) -> None:
    assert world.prober is not None
    prober = world.prober.prober

    class Sticks(Quiet):
        def step(self, step: object) -> None:
            prober.stuck = True

    config, text = config_of(world)
    with pytest.raises(BenchFailure, match="may still touch"):
        measure_wafer(config, text, tmp_path, asked(), Sticks(), StopToken())
    assert sum(line.startswith("map:step_die") for line in prober.heard) == 1


def test_many_dead_dies_in_a_row_are_lost_contact(world: SimulatedBench, tmp_path: Path) -> None:
    assert world.wafer is not None
    wafer = world.wafer
    touch = wafer.touch
    wafer.touch = lambda die, bench: None  # type: ignore[method-assign]  # the needles reach no pad
    with pytest.raises(BenchFailure, match="5 dies in a row"):
        measure(world, tmp_path)
    assert [die.die for die in load_wafer(tmp_path).dies] == list(wafer.dies[:5])
    wafer.touch = touch  # type: ignore[method-assign]
    first = asked(*wafer.dies[:2])
    assert [bool(die.failed) for die in measure(world, tmp_path, first).dies] == [True] * 5
    again = {die.die: die for die in measure(world, tmp_path, replace(first, again=True)).dies}
    assert [bool(again[die].failed) for die in wafer.dies[:5]] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("change", "what"),
    [({"seed": 3}, "seed"), ({"forming": Forming.NONE}, "forming")],
)
def test_a_folder_is_not_gone_on_with_under_other_settings(
    measured: tuple[SimulatedBench, Path, WaferRecord], change: dict[str, object], what: str
) -> None:
    world, folder, record = measured
    other = Asked(**{**vars(asked()), **change})  # type: ignore[arg-type]
    with pytest.raises(UserMistake, match=f"another {what}"):
        measure(world, folder, other)
    assert load_wafer(folder) == record


def test_a_session_is_told_which_die_it_is_on(world: SimulatedBench) -> None:
    config, text = config_of(world)
    with pytest.raises(UserMistake, match="over no die"):
        connect(config, text)
    assert world.prober is not None
    die = Die(1, 0)
    world.prober.prober.die = die
    with pytest.raises(UserMistake, match="touch nothing"):
        connect(config, text)
    world.prober.prober.execute(b"move_chuck_contact")
    with connect(config, text) as bench:
        assert bench.chip.chip_id == f"SIM-{SEED}/1:0"
        assert "prober" in bench.identities
    assert touching(world)


def test_check_leaves_the_needles_and_safe_lifts_them(world: SimulatedBench) -> None:
    assert world.prober is not None
    prober = world.prober.prober
    prober.die = Die(0, 0)
    prober.execute(b"move_chuck_contact")
    config, _ = config_of(world)
    (row,) = (row for row in check_bench(config) if row.role == "prober")
    assert row.ok
    assert [check.answer for check in row.checks[1:]] == ["9 dies are selected", "over die 0:0, in contact"]
    assert touching(world)
    report = make_safe(config)
    assert report.confirmed
    assert str(report.steps[-1]) == "prober: needles lifted"
    assert not touching(world)


@pytest.mark.parametrize(
    ("taken", "says"),
    [("outputs", "VDD.* switched off by somebody else"), ("needles", "touch nothing: somebody else moved them")],
)
def test_what_somebody_else_takes_away_ends_the_run_and_is_not_the_fault_of_the_die(
    world: SimulatedBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str, says: str
) -> None:
    assert world.prober is not None
    prober = world.prober.prober
    execute = prober.execute

    class SwitchesOff(Quiet):
        def step(self, step: object) -> None:
            if taken == "outputs" and world.world.rails != OFF:
                world.supply.instrument.reset()

    def lifts(line: bytes) -> bytes | None:
        if taken == "needles" and line.startswith(b"*IDN?") and prober.touching:
            execute(b"move_chuck_separation")
        return execute(line)

    monkeypatch.setattr(prober, "execute", lifts)
    config, text = config_of(world)
    with pytest.raises(TakenAway, match=says):
        measure_wafer(config, text, tmp_path, asked(), SwitchesOff(), StopToken())
    assert load_wafer(tmp_path).dies == ()
    assert (touching(world), world.world.rails, hot_moves(world)) == (False, OFF, 0)


def test_one_program_at_a_time_writes_the_folder_of_a_wafer(world: SimulatedBench, tmp_path: Path) -> None:
    config, text = config_of(world)
    refused = []

    class Other(Quiet):
        def step(self, step: object) -> None:
            if not refused:
                with SimulatedBench(SEED, wafer=ACROSS) as another, pytest.raises(UserMistake) as caught:
                    measure(another, tmp_path)
                refused.append(str(caught.value))

    record = measure_wafer(config, text, tmp_path, asked(Die(0, 0)), Other(), StopToken())
    assert "another process measures the wafer" in refused[0]
    assert [die.die for die in record.dies] == [Die(0, 0)]
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"formed_cells": -5}, "formed_cells"),
        ({"formed_cells": 99999}, "99999 of 1024 cells formed"),
        ({"die": [9, 9]}, "die 9:9 is not on the wafer map"),
        ({"parameters": {"lrs.median_ohm": {"value": -1.0, "low": 1.0, "high": 2.0, "unit": "ohm"}}}, "outside of its"),
        (None, "a die stands there twice"),
    ],
)
def test_a_damaged_wafer_file_is_told(
    measured: tuple[SimulatedBench, Path, WaferRecord], tmp_path: Path, changed: dict[str, object] | None, says: str
) -> None:
    record = json.loads((measured[1] / "wafer.json").read_text())
    record["dies"] = [*record["dies"], record["dies"][0]] if changed is None else [record["dies"][0] | changed]
    (tmp_path / "wafer.json").write_text(json.dumps(record))
    with pytest.raises(UserMistake, match="damaged") as caught:
        load_wafer(tmp_path)
    assert says in str(caught.value)


def test_mistakes_of_the_command_line(tmp_path: Path) -> None:
    for args, parts in (
        (["wafer", "run", "--dies", "0:0,1"], ["'1'", "COLUMN:ROW"]),
        (["wafer", "run", "--dies", "0:0,0:0"], ["twice"]),
        (["wafer", "run", "--dies", "9:9", "--across", "3"], ["9:9", "wafer map"]),
        (["wafer", "run", "--forming", "hot"], ["hot", "ramp"]),
        (["wafer", "run", "--across", "2"], ["--across 2", "3 to 25"]),
        (["wafer", "run", "--set", "pairs=none"], ["pairs"]),
        (["wafer", "report", "nowhere"], ["nowhere"]),
    ):
        assert_one_line_mistake(rram_bench(*args, cwd=tmp_path), *parts)
    (tmp_path / "wafer.json").write_text('{"schema": "rram-bench wafer 9"}')
    assert_one_line_mistake(rram_bench("wafer", "report", ".", cwd=tmp_path), "wafer.json", "schema")


def test_dies_are_read_from_text() -> None:
    assert parse_dies(" 0:0, -1:2") == (Die(0, 0), Die(-1, 2))
