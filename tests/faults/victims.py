"""Instruments under fire: what is set and read through their drivers while the wire is bad, and what is true."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from drivers import keithley_2230g, keysight_e36312a
from drivers.keithley_2230g import Keithley2230G
from drivers.keithley_2450 import Keithley2450, SourceStatus
from drivers.keithley_2636b import Keithley2636B
from drivers.keysight_81160a import Keysight81160A
from drivers.keysight_81160a_registers import PulseLimits
from drivers.keysight_e36312a import KeysightE36312A
from drivers.limits import ChannelLimits, Range, SmuLimits
from drivers.pulse_source_role import PulseShape
from drivers.scpi import ScpiInstrument
from drivers.simulated.keithley_2230g import Keithley2230GServer
from drivers.simulated.keithley_2450 import Keithley2450Server
from drivers.simulated.keithley_2636b import Keithley2636BServer
from drivers.simulated.keysight_81160a import Keysight81160AServer
from drivers.simulated.keysight_e36312a import KeysightE36312AServer
from tests.drivers.simulated_instruments import Resistor, world_with
from tests.faults.on_wire import Wire, on_wire

TIMEOUT_S = 0.1
CHANNELS = (1, 2, 3)
SUPPLY_LIMITS = {
    number: ChannelLimits(Range(0.0, 5.0, "V", "campaign"), Range(0.0, 1.0, "A", "campaign")) for number in CHANNELS
}
SMU_LIMITS = SmuLimits(Range(-2.0, 2.0, "V", "campaign"), Range(1e-6, 1e-2, "A", "campaign"))
PULSE_LIMITS = PulseLimits(
    Range(-2.0, 2.0, "V", "campaign"), Range(1e-7, 1e-3, "s", "campaign"), Range(1, 100, "pulses", "campaign")
)
FASTEST_CYCLES = 0.01

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|true|false")


def numbers(text: str) -> list[float]:
    """All numbers and truth values in a reply, in order."""
    return [float({"true": 1, "false": 0}.get(found, found)) for found in NUMBER.findall(text)]


@dataclass(frozen=True)
class Reading:
    """A question through the driver.

    Attributes:
        ask: returns what the driver says, as a list of numbers.
        truth: the same numbers, from those in the undamaged answer.
        place: in the instrument's state, of the one number that is asked for; None where the answer is a measurement.
    """

    ask: Callable[[], list[float]]
    truth: Callable[[list[float]], list[float]] = list
    place: int | None = None


@dataclass(frozen=True)
class Setting:
    """A change through the driver: what is done, and which part of the instrument's state is what afterwards."""

    act: Callable[[], object]
    state: dict[int, float]


@dataclass(frozen=True)
class Victim:
    """An instrument under fire.

    Attributes:
        driver: our driver, on a link with a short timeout.
        wire: the link, the server, and a client that is not ours.
        question: asks for the whole state that the settings are part of.
        tolerance: of each number of the state, relative to it.
        readings: questions.
        setting: draws a change.
        resistor: what is on the pads of its world, and what was forced there.
    """

    driver: ScpiInstrument
    wire: Wire
    question: str
    tolerance: Callable[[int, float], float]
    readings: Sequence[Reading]
    setting: Callable[[np.random.Generator], Setting]
    resistor: Resistor

    def state(self) -> list[float]:
        """What the instrument itself says of its state."""
        return numbers(self.wire.ask(self.question))

    def explains(self, before: list[float], change: Setting, after: list[float]) -> bool:
        """Tell whether a change made ``after`` of ``before``, and touched nothing else."""
        wanted = [change.state.get(index, value) for index, value in enumerate(before)]
        return len(wanted) == len(after) and all(
            abs(now - value) <= self.tolerance(index, value) * (1 + 1e-6)
            for index, (value, now) in enumerate(zip(wanted, after, strict=True))
        )


def _flat(readings: Sequence[Any]) -> list[float]:
    columns = [[float(reading[index]) for reading in readings] for index in range(3)]
    return [value for column in columns for value in column]


def _supply(driver: Any, wire: Wire, question: str, step: float, resistor: Resistor) -> Victim:
    def setting(rng: np.random.Generator) -> Setting:
        number = int(rng.integers(1, 4))
        volts = [round(float(value), 3) for value in rng.uniform(0.0, 5.0, 3)]
        match rng.integers(4):
            case 0:
                return Setting(lambda: driver.set_voltage(number, volts[0]), {number - 1: volts[0]})
            case 1:
                wanted = dict(zip(CHANNELS, volts, strict=True))
                return Setting(lambda: driver.set_voltages(wanted), {each - 1: wanted[each] for each in CHANNELS})
            case 2:
                amps = round(0.02 + volts[0] / 10, 3)
                return Setting(lambda: driver.set_current_limit(number, amps), {number + 2: amps})
            case _:
                on = bool(rng.integers(2))
                return Setting(lambda: driver.set_output(number, on), {number + 5: float(on)})

    driver.identify()
    readings = [
        Reading(lambda: _flat(driver.measure())),
        Reading(lambda: [driver.voltage(1)], place=0),
        Reading(lambda: [driver.current_limit(2)], place=4),
        Reading(lambda: [float(driver.output(3))], place=8),
    ]
    return Victim(driver, wire, question, lambda index, value: step if index < 6 else 0.0, readings, setting, resistor)


@contextmanager
def supply_2230g(rng: np.random.Generator) -> Iterator[Victim]:
    """The Keithley supply."""
    resistor = Resistor()
    with on_wire(Keithley2230GServer(world_with(resistor), rng), TIMEOUT_S) as wire:
        asked = [
            f":INST:SEL CH{number};:{header}"
            for header in ("SOUR:VOLT?", "SOUR:CURR?", "SOUR:CHAN:OUTP?")
            for number in CHANNELS
        ]
        yield _supply(
            Keithley2230G(wire.link, SUPPLY_LIMITS), wire, ";".join(asked), keithley_2230g.RESOLUTION_V, resistor
        )


@contextmanager
def supply_e36312a(rng: np.random.Generator) -> Iterator[Victim]:
    """The Keysight supply."""
    resistor = Resistor()
    with on_wire(KeysightE36312AServer(world_with(resistor), rng), TIMEOUT_S) as wire:
        question = ";:".join(f"{header} (@1,2,3)" for header in ("VOLT?", "CURR?", "OUTP?"))
        yield _supply(
            KeysightE36312A(wire.link, SUPPLY_LIMITS), wire, question, keysight_e36312a.RESOLUTION_V, resistor
        )


def _smu(
    driver: Any, wire: Wire, table: Any, question: str, limited: Callable[[float], bool], resistor: Resistor
) -> Victim:
    driver.set_integration(FASTEST_CYCLES)
    driver.set_measure_range(1e-3)

    def setting(rng: np.random.Generator) -> Setting:
        volts, amps = float(rng.uniform(-2.0, 2.0)), float(np.exp(rng.uniform(np.log(1e-5), np.log(1e-2))))
        if rng.random() < 0.7:
            return Setting(lambda: driver.set_source(volts, amps), {0: volts, 1: amps})
        on = bool(rng.integers(2))
        return Setting(lambda: driver.set_output(on), {2: float(on)})

    def measured() -> list[float]:
        reading = driver.measure()
        return [reading.voltage_v, reading.current_a, float(reading.in_compliance)]

    readings = [
        Reading(measured, lambda told: [*told[:2], float(limited(told[2]))]),
        Reading(lambda: [table.source_voltage], place=0),
        Reading(lambda: [table.compliance], place=1),
    ]
    # A level into 2 V, 20 V at most in steps of 50 uV; a compliance to 5e-5 of a range that is at most ten times it.
    return Victim(
        driver,
        wire,
        question,
        lambda index, value: (6e-5, 5.1e-4 * abs(value), 0.0)[index],
        readings,
        setting,
        resistor,
    )


@contextmanager
def smu_2450(rng: np.random.Generator) -> Iterator[Victim]:
    """The Keithley source-measure unit that speaks SCPI."""
    resistor = Resistor()
    with on_wire(Keithley2450Server(world_with(resistor), rng), TIMEOUT_S) as wire:
        smu = Keithley2450(wire.link, SMU_LIMITS)
        question = "SOUR:VOLT?;:SOUR:VOLT:ILIM?;:OUTP?"
        yield _smu(smu, wire, smu, question, lambda status: bool(int(status) & SourceStatus.LIMITED), resistor)


@contextmanager
def smu_2636b(rng: np.random.Generator) -> Iterator[Victim]:
    """The Keithley source-measure unit that speaks Lua."""
    resistor = Resistor()
    with on_wire(Keithley2636BServer(world_with(resistor), rng), TIMEOUT_S) as wire:
        smu = Keithley2636B(wire.link, SMU_LIMITS)
        question = "print(smua.source.levelv, smua.source.limiti, smua.source.output)"
        yield _smu(smu, wire, smu.attributes, question, bool, resistor)


@contextmanager
def pulses_81160a(rng: np.random.Generator) -> Iterator[Victim]:
    """The Keysight pulse source."""
    resistor = Resistor()
    with on_wire(Keysight81160AServer(world_with(resistor)), TIMEOUT_S) as wire:
        source = Keysight81160A(wire.link, PULSE_LIMITS, load_ohm=50.0)
        shape = PulseShape(0.0, 1.0, 1e-5, 1e-8, 1e-8)

        def setting(rng: np.random.Generator) -> Setting:
            base, height = (round(float(value), 3) for value in rng.uniform((-1.0, 0.1), (0.5, 1.4)))
            width = float(rng.uniform(1e-6, 1e-4))
            wanted = replace(shape, base_v=base, top_v=base + height, width_s=width)
            count = int(rng.integers(1, 20))
            return Setting(
                lambda: source.set_pulse(wanted, count, 1e-2), {0: base + height, 1: base, 2: width, 3: float(count)}
            )

        readings = [
            Reading(lambda: [source.channel.high], place=0),
            Reading(lambda: [source.channel.width], place=2),
            Reading(lambda: [float(source.channel.count)], place=3),
        ]
        source.set_pulse(shape)
        yield Victim(
            source,
            wire,
            ":VOLT1:HIGH?;:VOLT1:LOW?;:PULS:WIDT1?;:TRIG1:COUN?",
            lambda index, value: (1e-3, 1e-3, 2e-4 * abs(value), 0.0)[index],
            readings,
            setting,
            resistor,
        )


VICTIMS = (supply_2230g, supply_e36312a, smu_2450, smu_2636b, pulses_81160a)
