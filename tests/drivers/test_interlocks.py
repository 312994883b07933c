"""Interlocks: a start is refused, a run is stopped, and the trip says who, what value, which limit and since when."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from bench.config import parse_bench_file
from bench.interlocking import bench_interlocks
from bench.procedure import Parameters, Procedure, Progress, Steps
from bench.procedures.read import READ
from bench.procedures.resistance import RESISTANCE
from bench.runner import run
from bench.session import Bench, connect
from data.runs import RunStatus, open_run
from drivers.chip import Chip
from drivers.errors import LimitError, LinkTimeout
from drivers.interlocks import Interlock, Interlocks, InterlockTripped, temperature_band
from drivers.limits import Range
from drivers.simulated.bench import SimulatedBench
from drivers.temperature_role import TemperatureReading
from models.cells import Device
from models.exceptions import UserMistake

BAND = Range(20.0, 30.0, "degC", "interlocks.temperature_c of bench 'b'")


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Sensor:
    """A temperature sensor that reads what it is told to, and counts how often it is asked."""

    def __init__(self, celsius: float = 25.0) -> None:
        self.celsius = celsius
        self.broken = False
        self.asked = 0

    def read(self) -> dict[str, float]:
        self.asked += 1
        if self.broken:
            raise LinkTimeout("the sensor does not answer")
        return {"chuck": self.celsius}


def of(
    sensor: Sensor, clock: Clock, period_s: float = 1.0, hold_s: float = 0.0, frozen: int | None = None
) -> Interlocks:
    return Interlocks([Interlock("temperature", sensor.read, BAND, frozen)], period_s, hold_s, clock)


def test_a_trip_says_who_what_value_which_limit_and_since_when() -> None:
    sensor, clock = Sensor(31.5), Clock()
    interlocks = of(sensor, clock)
    before = datetime.now()
    with pytest.raises(InterlockTripped) as first:
        interlocks.check()
    (trip,) = first.value.trips
    assert (trip.interlock, trip.who, trip.value, trip.allowed) == ("temperature", "chuck", 31.5, BAND)
    assert before <= trip.since <= datetime.now()
    message = str(first.value)
    for part in ("temperature", "chuck", "31.5 degC", "interlocks.temperature_c", "20 to 30 degC", "since "):
        assert part in message
    # Still out at the next look: since the first time, not since now.
    with pytest.raises(InterlockTripped) as again:
        interlocks.check()
    assert again.value.trips[0].since == trip.since
    sensor.celsius = 25.0
    interlocks.check()
    sensor.celsius = 12.0
    with pytest.raises(InterlockTripped) as later:
        interlocks.check()
    assert later.value.trips[0].since > trip.since


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 19.99, 30.01])
def test_what_is_no_number_or_outside_trips(value: float) -> None:
    with pytest.raises(InterlockTripped):
        of(Sensor(value), Clock()).check()


@pytest.mark.parametrize("value", [20.0, 30.0, 25.0])
def test_what_is_inside_does_not(value: float) -> None:
    of(Sensor(value), Clock()).check()


def test_what_cannot_be_read_trips_and_says_so() -> None:
    sensor = Sensor()
    sensor.broken = True
    with pytest.raises(InterlockTripped, match="cannot be read .*does not answer") as trip:
        of(sensor, Clock()).check()
    assert trip.value.trips[0].value is None


def test_polling_asks_no_more_often_than_its_period() -> None:
    sensor, clock = Sensor(), Clock()
    interlocks = of(sensor, clock, period_s=2.0)
    interlocks.check()
    for tick in range(100):  # ten seconds in steps of a tenth
        clock.now_s = tick / 10
        interlocks.poll()
    assert sensor.asked == 1 + 4
    sensor.celsius = 99.0
    clock.now_s += 2.0
    with pytest.raises(InterlockTripped):
        interlocks.poll()


def test_after_a_trip_a_start_waits_until_all_has_held_for_the_hold_time() -> None:
    sensor, clock = Sensor(40.0), Clock()
    interlocks = of(sensor, clock, hold_s=10.0)
    with pytest.raises(InterlockTripped):
        interlocks.check()
    sensor.celsius, clock.now_s = 25.0, 4.0
    with pytest.raises(InterlockTripped, match="until 4 s ago, and must hold for 10 s"):
        interlocks.check()
    sensor.celsius, clock.now_s = 40.0, 8.0  # it flaps
    with pytest.raises(InterlockTripped):
        interlocks.check()
    sensor.celsius, clock.now_s = 25.0, 17.9
    with pytest.raises(InterlockTripped, match="must hold"):
        interlocks.check()
    clock.now_s = 18.0
    interlocks.check()


def test_a_sensor_that_never_changes_is_taken_for_dead() -> None:
    sensor, clock = Sensor(25.0), Clock()
    interlocks = of(sensor, clock, frozen=3)
    interlocks.check()
    interlocks.check()
    sensor.celsius = 25.1  # it moved: counting starts anew
    interlocks.check()
    interlocks.check()
    with pytest.raises(InterlockTripped, match="25.1 degC 3 times in a row: the sensor seems dead"):
        interlocks.check()
    with pytest.raises(LimitError, match="frozen"):
        Interlock("temperature", sensor.read, BAND, frozen_after=1)


def test_all_that_is_wrong_is_named_at_once() -> None:
    wet = Interlock("humidity", lambda: {"room": 90.0}, Range(0.0, 60.0, "%", "the laboratory"))
    hot = Interlock("temperature", Sensor(50.0).read, BAND)
    fine = Interlock("pressure", lambda: {"air": 6.0}, Range(5.0, 7.0, "bar", "the laboratory"))
    with pytest.raises(InterlockTripped) as trip:
        Interlocks([wet, fine, hot]).check()
    assert [one.interlock for one in trip.value.trips] == ["humidity", "temperature"]


class Chuck:
    """A temperature source, as far as an interlock looks at it."""

    def __init__(self) -> None:
        self.reading = TemperatureReading(25.0, None, True)

    def measure(self) -> TemperatureReading:
        return self.reading


def test_the_temperature_is_that_of_the_chip_where_there_is_a_sensor() -> None:
    chuck = Chuck()
    interlocks = Interlocks([temperature_band(chuck, BAND)])  # type: ignore[arg-type]
    interlocks.check()
    chuck.reading = TemperatureReading(80.0, 25.0, True)  # hot air, to hold the chip at 25 degC
    interlocks.check()
    chuck.reading = TemperatureReading(25.0, 80.0, True)
    with pytest.raises(InterlockTripped, match="device: reads 80 degC"):
        interlocks.check()
    chuck.reading = TemperatureReading(80.0, None, True)
    with pytest.raises(InterlockTripped, match="air: reads 80 degC"):
        interlocks.check()


# On the simulated bench, from the bench file on.


def with_interlocks(world: SimulatedBench, lines: str) -> Bench:
    text = f"{world.bench_file()}\n[interlocks]\n{lines}\n"
    return connect(parse_bench_file(text, "b"), text)


@pytest.fixture
def world() -> Iterator[SimulatedBench]:
    with SimulatedBench(11) as simulated:
        yield simulated


class NoParameters(Parameters):
    """None."""


def sensing_for_ever(chip: Chip, parameters: NoParameters, cells: np.ndarray) -> Steps:
    done = 0
    while True:
        done += 1
        chip.read()
        yield Progress(done, done + 1, "reading for ever")


ENDLESS = Procedure("endless", "reads until it is stopped", NoParameters, (), sensing_for_ever)


def test_an_open_interlock_refuses_the_start_before_any_voltage(world: SimulatedBench, tmp_path: Path) -> None:
    with with_interlocks(world, "rail_current_a = [0.1, 0.2]") as bench:
        with pytest.raises(InterlockTripped, match=r"rail current, VDD: .*interlocks\.rail_current_a.*since"):
            run(READ, READ.parse({}), bench, tmp_path)
        assert world.world.rails == (0.0, 0.0, 0.0)
    assert not list(tmp_path.glob("*.h5"))


def test_an_interlock_that_opens_on_the_way_ends_the_run_with_the_outputs_off(
    world: SimulatedBench, tmp_path: Path
) -> None:
    leaking = False

    def read_and_leak(step: object) -> None:
        nonlocal leaking
        leaking = leaking or (isinstance(step, Progress) and step.done == 3)

    honest = world.world.channel_current
    world.world.channel_current = lambda channel: 0.045 if leaking and channel == 2 else honest(channel)  # type: ignore[method-assign]
    with with_interlocks(world, "rail_current_a = [-0.002, 0.02]\nperiod_s = 0.001") as bench:
        with pytest.raises(InterlockTripped, match=r"VDDC: reads 0\.04"):
            run(ENDLESS, NoParameters(), bench, tmp_path, on_step=read_and_leak)
        assert world.world.rails == (0.0, 0.0, 0.0)
    (path,) = tmp_path.glob("*.h5")
    stored = open_run(path)
    assert stored.status is RunStatus.FAILED
    assert "rail current, VDDC" in stored.ending.reason
    assert "since" in stored.ending.reason


def test_a_current_above_its_limit_trips_with_that_very_reading(world: SimulatedBench, tmp_path: Path) -> None:
    cells = np.zeros((32, 32), dtype=bool)
    cells[0, :8] = True
    with with_interlocks(world, "smu_current_a = [-1e-6, 1e-6]") as bench:
        bench.chip.form(~bench.chip.no_devices())
        with pytest.raises(InterlockTripped, match=r"source-measure unit, current: reads .* A at 0\.2 V"):
            run(RESISTANCE, RESISTANCE.parse({}), bench, tmp_path, cells=cells)
        (path,) = tmp_path.glob("*.h5")
        assert len(open_run(path).read("operations")["kind"]) == 0  # the first reading was one too many
        assert world.world.rails == (0.0, 0.0, 0.0)
        assert world.smu.instrument.execute(b"OUTP?") == b"0"


def test_a_reading_in_compliance_trips_only_where_the_bench_file_asks_for_it(world: SimulatedBench) -> None:
    text = world.bench_file().replace("compliance_a = 1e-3", "compliance_a = 1e-6")
    with connect(parse_bench_file(text, "b")) as bench:
        bench.chip.form(~bench.chip.no_devices())
        assert bench.chip.resistance(0, 0, Device.BL).in_compliance
    text += "\n[interlocks]\nsmu_compliance = true\n"
    with connect(parse_bench_file(text, "b")) as bench:
        with pytest.raises(InterlockTripped, match=r"compliance: limits the source.*interlocks\.smu_compliance"):
            bench.chip.resistance(0, 0, Device.BL)
        assert world.smu.instrument.execute(b"OUTP?") == b"0"


def test_a_band_without_a_sensor_is_a_mistake_in_the_bench_file(world: SimulatedBench) -> None:
    config = parse_bench_file(f"{world.bench_file()}\n[interlocks]\ntemperature_c = [20.0, 30.0]\n", "b")
    with pytest.raises(UserMistake, match=r"interlocks\.temperature_c.*no temperature source"):
        connect(config.model_copy(update={"temperature": None}))
    with with_interlocks(world, "") as bench:
        assert len(bench_interlocks(config, bench.rails, Chuck())) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("rail_current_a = [0.2, 0.1]", "wrong order"),
        ("period_s = 0", "period_s"),
        ("smu_curent_a = [0.0, 1.0]", "unknown key"),
        ("frozen_after = 1", "frozen_after"),
    ],
)
def test_a_mistake_in_the_section_is_named(world: SimulatedBench, line: str, complaint: str) -> None:
    with pytest.raises(UserMistake, match=complaint):
        parse_bench_file(f"{world.bench_file()}\n[interlocks]\n{line}\n", "b")
