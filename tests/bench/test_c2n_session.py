"""The laboratory's own boards in a bench file: the whole application on them, and what is refused before a voltage."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from bench.check import check_bench
from bench.config import load_bench_file, parse_bench_file
from bench.procedures.forming import FORMING
from bench.procedures.program import PROGRAM
from bench.runner import run
from bench.session import Connector, connect
from data.runs import open_run
from drivers.c2n.protocol import Words
from drivers.errors import WrongInstrument
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.c2n_boards import ColumnBoardServer, TernaryBoardServer
from models.cells import Device
from models.exceptions import UserMistake

BENCHES = Path(str(files("data"))) / "benches"
LABORATORY = ("c2n_ternary", "kilobit_lab")


@pytest.fixture
def ternary_world() -> Iterator[SimulatedBench]:
    with SimulatedBench(11, chip="ternary") as simulated:
        yield simulated


@pytest.fixture
def array_world() -> Iterator[SimulatedBench]:
    with SimulatedBench(11, chip="array64") as simulated:
        yield simulated


@pytest.mark.parametrize("name", LABORATORY)
def test_the_laboratorys_bench_files_are_valid_and_at_its_published_addresses(name: str) -> None:
    config, _ = load_bench_file(BENCHES / f"{name}.toml")
    assert config.supply.resource == "GPIB0::6::INSTR"
    assert (config.supply.channels.vddr, config.supply.channels.vddc, config.supply.channels.vdd) == (1, 2, 3)
    assert config.board.port == "usb:5740"
    assert config.points.set.rails == (1.2, 3.5, 3.0)
    assert config.points.reset.rails == (1.2, 4.5, 5.0)
    assert config.interlocks.rail_current_a is not None
    assert not config.simulated


def test_a_board_that_is_not_plugged_in_is_said_to_be_missing() -> None:
    text = (BENCHES / "c2n_ternary.toml").read_text(encoding="utf-8").replace("usb:5740", "usb:fffe")
    config = parse_bench_file(text, "c2n_ternary.toml")
    with pytest.raises(UserMistake, match="usb:fffe.*no such board is plugged in"):
        Connector(config).board()


def laboratory_file(world: SimulatedBench, port: str) -> str:
    """The laboratory's own bench file, with the addresses of a simulated bench and the times of its firmware."""
    text = (BENCHES / "c2n_ternary.toml").read_text(encoding="utf-8")
    text = text.replace("GPIB0::6::INSTR", world.supply.resource).replace('usb:5740"', f'{port}"')
    return text.replace("window_s = 5e-6", "window_s = 50e-9").replace("settle_s = 0.6 ", "settle_s = 0.0 ")


def test_the_ternary_board_forms_programs_and_reads_through_the_whole_application(
    ternary_world: SimulatedBench, tmp_path: Path
) -> None:
    board = TernaryBoardServer(ternary_world.world)
    board.start()
    try:
        text = laboratory_file(ternary_world, board.port)
        config = parse_bench_file(text, "c2n_ternary.toml")
        rows = check_bench(config)
        assert [row.role for row in rows] == ["supply", "board"]
        assert all(row.ok for row in rows), rows
        with connect(config, text) as bench:
            formed = run(FORMING, FORMING.parse({}), bench, tmp_path).result
            assert formed["formed"] >= 60
            outcome = run(PROGRAM, PROGRAM.parse({"pattern": "zero"}), bench, tmp_path)
            assert outcome.result["verified"] >= 50
            assert bench.reconnect().confirmed
        stored = open_run(outcome.run_file).read("operations")
        assert set(stored["vddc_v"]) == {4.5, 1.2}  # a zero is two RESETs and a sense
        assert ternary_world.world.rails == (0.0, 0.0, 0.0)
    finally:
        board.stop()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("watchdog_s = 0 ", "watchdog_s = 10 ", "no watchdog; set 0"),
        ("[board.firmware]", "[chip.firmware]", "firmware"),
        ('driver = "c2n-ternary"', 'driver = "c2n-column"', "no other has it"),
    ],
)
def test_what_a_c2n_board_cannot_do_is_refused_in_the_bench_file(old: str, new: str, complaint: str) -> None:
    text = (BENCHES / "c2n_ternary.toml").read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(UserMistake, match=complaint):
        parse_bench_file(text.replace(old, new, 1), "c2n_ternary.toml")


def column_file(world: SimulatedBench, port: str) -> str:
    text = world.bench_file().replace(world.board.port, port)
    return text.replace('driver = "framed"', 'driver = "c2n-column"').replace("watchdog_s = 10.0", "watchdog_s = 0")


def test_resistances_are_measured_on_the_64_column_board(array_world: SimulatedBench) -> None:
    board = ColumnBoardServer(array_world.world)
    board.start()
    try:
        text = column_file(array_world, board.port)
        with connect(parse_bench_file(text, "b"), text) as bench:
            reading = bench.chip.resistance(3, 5, Device.BLB)
            true_ohm = array_world.chip.resistance_ohm[3, 5, Device.BLB]
            assert reading.voltage_v / reading.current_a == pytest.approx(true_ohm, rel=0.2)
    finally:
        board.stop()


def test_a_chip_the_wrong_way_round_is_refused_with_the_rails_at_zero(array_world: SimulatedBench) -> None:
    board = ColumnBoardServer(array_world.world)
    board.start()
    seen: list[tuple[float, ...]] = []
    drive = array_world.world.drive_channel
    array_world.world.drive_channel = lambda *args: (drive(*args), seen.append(array_world.world.rails))[0]  # type: ignore[method-assign, func-returns-value]
    try:
        config = parse_bench_file(column_file(array_world, board.port), "b")
        firmware = board._firmware
        assert firmware is not None
        sound = firmware._act

        def reversed_ribbon(code: int, payload: bytes) -> bytes:
            if code == 1:  # FILL_SRS: the registers in the order of the cable turned round
                payload = Words(*reversed(Words.unpack(payload))).pack()
            return sound(code, payload)  # type: ignore[arg-type]

        firmware._act = reversed_ribbon  # type: ignore[method-assign]
        with pytest.raises(WrongInstrument, match="gives what .* was given.*orientation"):
            connect(config)
        row = check_bench(config)[-1]
        assert not row.ok
        assert row.checks[-1].name == "shift registers"
        assert "orientation" in row.remedy
    finally:
        board.stop()
    assert not np.any(seen)
    assert array_world.world.rails == (0.0, 0.0, 0.0)
