"""The safe state: in order, whatever becomes of one instrument, and honest about it."""

from __future__ import annotations

import threading
import time

import pytest

from bench.config import parse_bench_file
from bench.safe import switch_off
from bench.session import Bench, connect, make_safe
from drivers.errors import LimitError, WrongInstrument
from drivers.simulated.bench import SimulatedBench
from models.cells import Device


def test_a_step_that_hangs_delays_the_others_by_little_and_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.safe.PATIENCE_S", 1.0)
    release, when = threading.Event(), {}
    started = time.monotonic()
    report = switch_off(
        [
            ("board", lambda: release.wait(5.0)),
            ("smu", lambda: when.setdefault("smu", time.monotonic() - started)),
            ("supply", lambda: 1 / 0),
        ]
    )
    release.set()
    assert [step.confirmed for step in report.steps] == [False, True, False]
    assert "did not finish" in report.steps[0].reason
    assert "ZeroDivisionError" in report.steps[2].reason
    assert when["smu"] < 0.9


def test_safe_switches_off_what_it_reaches_and_names_the_rest(world: SimulatedBench) -> None:
    text = world.bench_file()
    bench = connect(parse_bench_file(text, "b"), text)
    bench.chip.read()
    world.board.stop()
    report = make_safe(parse_bench_file(text, "b"))
    assert {step.role: step.confirmed for step in report.steps} == {
        "pulse_source": True,
        "board": False,
        "smu": True,
        "supply": True,
        "temperature": True,
    }
    assert world.world.rails == (0.0, 0.0, 0.0)
    bench.close()


def test_the_core_supply_goes_down_last_whatever_channel_it_is_on(
    world: SimulatedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = world.bench_file()
    assert "channels = { vddr = 1, vddc = 2, vdd = 3 }" in text
    bench = connect(parse_bench_file(text, "b"), text)
    bench.chip.read()
    order: list[int] = []
    drive = world.world.drive_channel

    def watched(channel: int, volts: float) -> None:
        if volts == 0.0 and channel not in order:
            order.append(channel)
        drive(channel, volts)

    monkeypatch.setattr(world.world, "drive_channel", watched)
    bench.close()
    assert order == [2, 1, 3]


def test_an_instrument_that_is_not_the_one_named_is_left_alone(
    world: SimulatedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = world.bench_file()
    wrong = text.replace('driver = "keithley-2230g"', 'driver = "keithley-2230g"\nserial = "SOMEBODY-ELSES"')
    moved: list[int] = []
    monkeypatch.setattr(world.world, "drive_channel", lambda channel, volts: moved.append(channel))
    with pytest.raises(WrongInstrument, match="SOMEBODY-ELSES"):
        connect(parse_bench_file(wrong, "b"))
    assert moved == []


def test_a_mistake_is_refused_before_the_rails_move(bench: Bench, world: SimulatedBench) -> None:
    devices = bench.chip.no_devices()
    devices[0, 0, Device.BL] = True
    with pytest.raises(LimitError):
        bench.chip.form(devices, 10**6)
    with pytest.raises(LimitError):
        bench.chip.read(0)
    with pytest.raises(LimitError):
        bench.chip.resistance(99, 0, Device.BL)
    with pytest.raises(LimitError):
        bench.chip.resistance(0.5, 0, Device.BL)  # type: ignore[arg-type]
    assert world.world.rails == (0.0, 0.0, 0.0)
    assert bench.rails.applied is None


def test_a_rail_that_moves_during_an_operation_leaves_no_record_of_it(bench: Bench, world: SimulatedBench) -> None:
    bench.chip.read()
    seen: list[object] = []
    bench.chip.listeners.append(seen.append)
    bench.supply.set_output(2, False)  # somebody presses the button of the column supply
    with pytest.raises(Exception, match="VDDC"):
        bench.chip.read()
    assert seen == []
    assert bench.rails.applied is None
    assert bench.chip.read().shape == (1, 32, 32)
    assert world.world.rails.vddc_v == pytest.approx(1.2, abs=0.01)


def test_a_watchdog_that_trips_during_a_measurement_is_no_resistance(bench: Bench, world: SimulatedBench) -> None:
    bench.chip.form(~bench.chip.no_devices())
    bench.board.set_watchdog(0.2)
    assert bench.smu is not None
    spot = bench.smu.spot

    def slow() -> object:
        time.sleep(0.6)
        return spot()

    bench.smu.spot = slow  # type: ignore[method-assign, assignment]
    with pytest.raises(Exception, match="watchdog"):
        bench.chip.resistance(0, 0, Device.BL)
