"""Self-test: what is found out before any array voltage, and which sense amplifiers the patterns name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.amplifier_check import check_amplifiers
from bench.check import CheckRow, check_bench, show_check
from bench.config import parse_bench_file
from bench.console import Reporter
from bench.procedures.amplifiers import AMPLIFIERS
from bench.procedures.forming import FORMING, QUICK
from bench.runner import run
from bench.session import Bench, connect
from bench.stopping import StopToken
from drivers.c2n import COLUMN, ColumnBoard, open_c2n
from drivers.c2n.protocol import Words
from drivers.errors import WrongInstrument
from drivers.framed.codec import TERMINATOR, decode, encode
from drivers.framed.messages import RESPONSE, Opcode
from drivers.self_test import (
    AmplifierFault,
    PatternReading,
    amplifier_patterns,
    check_registers,
    judge_amplifiers,
    refuse_faulty_lines,
)
from drivers.simulated.bench import SimulatedBench
from models.cells import Geometry
from models.exceptions import BenchFailure
from tests.drivers.c2n_bench import column, running
from tests.drivers.fake_chip import FakeChip

Senses = NDArray[np.int8]
ALL = np.ones((8, 4), dtype=bool)


def readings_of(spoil: Callable[[Senses], Senses], repeats: int = 5) -> list[PatternReading]:
    """The four patterns in an array of 8 x 4, read by amplifiers that spoil what they see."""
    patterns = amplifier_patterns(Geometry(8, 4))
    return [
        PatternReading(name, target, spoil(np.repeat(target[None], repeats, axis=0)))
        for name, target in patterns.items()
    ]


def column_reads(col: int, value: int) -> Callable[[Senses], Senses]:
    def spoil(senses: Senses) -> Senses:
        senses[:, :, col] = value
        return senses

    return spoil


def column_is_noise(col: int) -> Callable[[Senses], Senses]:
    rng = np.random.default_rng(3)

    def spoil(senses: Senses) -> Senses:
        senses[:, :, col] = rng.choice([-1, 1], size=senses[:, :, col].shape)
        return senses

    return spoil


def test_the_patterns_ask_every_cell_for_both_weights_equally_often() -> None:
    patterns = amplifier_patterns(Geometry(5, 3))
    assert list(patterns) == ["all 0", "all 1", "checkerboard", "inverse"]
    assert not np.sum(list(patterns.values()), axis=0).any()
    assert (patterns["checkerboard"][:-1] == -patterns["checkerboard"][1:]).all()


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (column_reads(2, 1), AmplifierFault.STUCK_AT_1),
        (column_reads(2, -1), AmplifierFault.STUCK_AT_0),
        (column_reads(2, 0), AmplifierFault.UNDECIDED),
        (column_is_noise(2), AmplifierFault.RANDOM),
    ],
)
def test_the_column_of_a_broken_amplifier_is_named(spoil: Callable[[Senses], Senses], fault: AmplifierFault) -> None:
    report = judge_amplifiers(readings_of(spoil), ALL)
    assert [(one.column, one.fault) for one in report.faulty] == [(2, fault)]
    assert f"column 2 (rows 0 to 7): {fault.value}" in report.verdict.answer
    assert "leave these columns out" in report.verdict.remedy


def test_sound_amplifiers_with_a_broken_cell_are_sound() -> None:
    def one_cell(senses: Senses) -> Senses:
        senses[:, 3, 1] = 1
        return senses

    report = judge_amplifiers(readings_of(one_cell), ALL)
    assert report.ok
    assert report.amplifiers == 4
    assert report.broken_cells == ((3, 1),)


def test_in_stacked_arrays_the_amplifier_of_one_array_is_named() -> None:
    def upper_half(senses: Senses) -> Senses:
        senses[:, :4, 0] = 1
        return senses

    report = judge_amplifiers(readings_of(upper_half), ALL, amplifier_rows=4)
    assert [(one.column, one.first_row, one.last_row) for one in report.faulty] == [(0, 0, 3)]
    assert report.amplifiers == 8


def test_columns_that_were_not_programmed_are_not_judged() -> None:
    used = ALL.copy()
    used[:, 2] = False
    assert judge_amplifiers(readings_of(column_reads(2, 1)), used).ok


def test_when_nearly_all_fail_the_array_is_suspected() -> None:
    report = judge_amplifiers(readings_of(lambda senses: np.zeros_like(senses)), ALL)
    assert len(report.faulty) == 4
    assert "form the array first" in report.verdict.remedy


def test_patterns_that_show_one_weight_only_judge_nothing() -> None:
    with pytest.raises(BenchFailure, match="no pattern asked every cell for -1"):
        judge_amplifiers([reading for reading in readings_of(lambda senses: senses) if reading.name == "all 1"], ALL)


# Through the wires of the simulated bench.


@pytest.fixture
def world() -> Iterator[SimulatedBench]:
    with SimulatedBench(11) as simulated:
        yield simulated


@pytest.fixture
def bench(world: SimulatedBench) -> Iterator[Bench]:
    text = world.bench_file()
    with connect(parse_bench_file(text, "b"), text) as session:
        yield session


def rows_of(text: str) -> dict[str, CheckRow]:
    return {row.role: row for row in check_bench(parse_bench_file(text, "b"))}


def test_a_sound_bench_gives_a_tree_of_verdicts_and_moves_no_voltage(world: SimulatedBench) -> None:
    rows = rows_of(world.bench_file())
    assert all(row.ok for row in rows.values())
    assert [check.name for check in rows["board"].checks] == [
        *("identity", "safe state", "protocol version", "line to the board", "chip"),
    ]
    assert rows["supply"].checks[-1].name == "outputs at 0 V and off"
    assert world.world.rails == (0.0, 0.0, 0.0)
    assert not world.chip.cycles.any()


def test_the_old_keys_of_the_json_are_kept_and_what_to_try_is_added(
    world: SimulatedBench, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(rows_of(world.bench_file().replace("rows = 32", "rows = 16")).values())
    show_check("bench b", rows, None, True)
    shown = json.loads(capsys.readouterr().out)
    assert not shown["ok"]
    old = {"role", "driver", "resource", "ok", "answer", "milliseconds", "exit_status"}
    assert all(old | {"try", "checks"} == set(row) for row in shown["instruments"])
    board = shown["instruments"][-1]
    assert board["exit_status"] == 1
    assert "32 x 32 cells, the bench file says 16 x 32" in board["answer"]
    assert board["try"] == "correct [chip] or change the chip"
    show_check("bench b", rows, None, False)
    tree = capsys.readouterr().out
    assert "FAIL board" in tree
    assert "try: correct [chip] or change the chip" in tree


def test_each_failure_says_what_to_try(world: SimulatedBench) -> None:
    text = world.bench_file()
    wrong_serial = rows_of(text.replace("current_limit_a = 0.05", 'current_limit_a = 0.05\nserial = "123"', 1))
    assert "expected serial 123" in wrong_serial["supply"].answer
    assert "the instrument that it names" in wrong_serial["supply"].remedy
    world.smu.stop()
    gone = rows_of(text)
    assert not gone["smu"].ok
    assert "rram-bench instruments" in gone["smu"].remedy
    assert gone["supply"].ok
    assert gone["board"].ok


def test_a_rail_that_somebody_else_drives_is_noticed(world: SimulatedBench) -> None:
    measure = world.supply.instrument._volts
    world.supply.instrument._volts = lambda channel: 0.7 if channel.number == 2 else measure(channel)  # type: ignore[method-assign]
    row = rows_of(world.bench_file())["supply"]
    assert not row.ok
    assert "VDDC 0.700 V off" in row.answer
    assert "disconnect whatever else drives VDDC" in row.remedy


def test_a_line_that_spoils_bytes_is_noticed(world: SimulatedBench) -> None:
    def spoil(data: bytes) -> bytes:
        frame = decode(data.removesuffix(TERMINATOR))
        if frame.opcode != Opcode.PING | RESPONSE:
            return data
        return encode(frame._replace(payload=frame.payload.replace(b"\x11", b"\x13")))  # XON taken for flow control

    world.board.to_host = spoil
    row = rows_of(world.bench_file())["board"]
    line = next(check for check in row.checks if check.name == "line to the board")
    assert not line.ok
    assert "other bytes" in line.answer
    assert line.remedy
    assert row.checks[-1].name == "chip"  # the other checks still ran


DAMAGES: list[tuple[str, Callable[[list[int]], list[int]]]] = [
    ("WLE is stuck at 0", lambda words: [0, *words[1:]]),
    ("gives what", lambda words: words[::-1]),  # the ribbon the wrong way round
    ("stuck at 1", lambda words: [2**64 - 1] * 5),  # no chip: inputs pulled high
]


@pytest.mark.parametrize(("complaint", "damage"), DAMAGES)
def test_a_reversed_or_missing_chip_is_refused_with_the_rails_at_zero(
    complaint: str, damage: Callable[[list[int]], list[int]]
) -> None:
    with (
        running(column(FakeChip(Geometry(64, 64)))) as server,
        open_c2n(server.port, COLUMN) as link,
    ):
        board = ColumnBoard(link, Geometry(64, 64), "chip 7")
        assert check_registers(board).ok
        refuse_faulty_lines(board, "board")
        firmware = server._firmware
        assert firmware is not None
        sound = firmware._act

        def damaged(code: int, payload: bytes) -> bytes:
            if code == 1:
                payload = Words(*damage(list(Words.unpack(payload)))).pack()
            return sound(code, payload)  # type: ignore[arg-type]

        firmware._act = damaged  # type: ignore[method-assign]
        with pytest.raises(WrongInstrument, match=complaint):
            refuse_faulty_lines(board, "board")
        assert "orientation" in check_registers(board).remedy


def test_a_board_without_registers_is_not_walked(bench: Bench) -> None:
    refuse_faulty_lines(bench.board, "board")


# The sense amplifiers, with a chip whose columns are spoiled.


def spoil_columns(world: SimulatedBench, columns: dict[int, Callable[[Senses], Senses]]) -> None:
    sound = world.chip.sense

    def sense(*args: object) -> Senses:
        senses = sound(*args)  # type: ignore[arg-type]
        for col, spoil in columns.items():
            senses[:, :, col] = spoil(senses[:, :, col])
        return senses

    world.chip.sense = sense  # type: ignore[method-assign]


def test_the_columns_of_stuck_and_random_amplifiers_are_named(
    bench: Bench, world: SimulatedBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(FORMING, QUICK, bench, tmp_path)
    rng = np.random.default_rng(5)
    spoil_columns(
        world,
        {
            3: lambda senses: np.full_like(senses, 1),
            17: lambda senses: np.full_like(senses, -1),
            30: lambda senses: rng.choice(np.array([-1, 1], dtype=np.int8), size=senses.shape),
        },
    )
    result = check_amplifiers(bench, tmp_path, 0, False, Reporter(True), StopToken())
    named = {one["column"]: one["fault"] for one in result["faulty"]}
    assert named == {3: "stuck at 1", 17: "stuck at 0", 30: "random"}
    assert not result["ok"]
    assert world.world.rails == (0.0, 0.0, 0.0)
    assert Path(result["run_file"]).exists()
    show_check("bench b", [], result, False)
    shown = capsys.readouterr().out
    assert "column 17" in shown
    assert "try: leave these columns out" in shown


def test_a_sound_array_passes_with_each_device_pulsed_once_per_pattern(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    run(FORMING, QUICK, bench, tmp_path)
    outcome = run(AMPLIFIERS, AMPLIFIERS.parse({"repeats": 3}), bench, tmp_path)
    assert outcome.result["ok"]
    assert outcome.result["amplifiers"] == 32
    assert len(outcome.result["broken_cells"]) < 10


def test_an_array_that_was_never_formed_is_not_blamed_on_the_amplifiers(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    spoil_columns(world, {col: lambda senses: np.zeros_like(senses) for col in range(32)})
    result = run(AMPLIFIERS, AMPLIFIERS.parse({}), bench, tmp_path).result
    assert len(result["faulty"]) == 32
    assert "form the array first" in result["try"]
