"""Temptronic ATS-545: a temperature source that blows tempered air on the chip (manual of the ATS-545, rev. B).

It speaks short commands of its own instead of SCPI, has no error queue, and reports mistakes as bits of the standard
event register and faults as bits of a register EROR. Its identification string has not been met: it is taken to be like
that of its relatives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from drivers.errors import LimitError, ReadBackError
from drivers.limits import Range
from drivers.scpi import Link, ScpiInstrument
from drivers.scpi_settings import Change, scpi_float, scpi_int
from drivers.scpi_text import ReadingOverflow, parse_float, parse_int
from drivers.temperature_role import TemperatureReading
from models.exceptions import BenchFailure

NAME = "Temptronic ATS-545"
RESOLUTION_C = 0.1
LIMIT_STEP_C = 1.0
"""The instrument keeps its own limits in whole degrees."""
CELSIUS = Range(-80.0, 225.0, "degrees Celsius", NAME)
WINDOW = Range(0.1, 9.9, "degrees Celsius", NAME)
SOAK = Range(0.0, 9999.0, "s", NAME)
LOWEST_AIR = Range(-80.0, 25.0, "degrees Celsius", NAME)
HIGHEST_AIR = Range(25.0, 225.0, "degrees Celsius", NAME)
INVALID_C = 400.0
"""What the instrument gives for a sensor that is missing or broken is above this."""

OPERATOR_SCREEN = 10
SERIAL_PORT = "ASRL"

HEAD_POLL_S = 0.5
HEAD_POLLS = 40


class SetPoint(IntEnum):
    """The three settings of the Operator screen, each for temperatures of its own."""

    HOT = 0
    AMBIENT = 1
    COLD = 2


COLD_UP_TO_C = 20.0
HOT_FROM_C = 30.0


class Sensor(IntEnum):
    """The sensor at the chip that is regulated to, if any: a thermocouple of type T or K."""

    NONE = 0
    THERMOCOUPLE_T = 1
    THERMOCOUPLE_K = 2


class Condition(IntFlag):
    """Bits of the temperature event condition register that this driver acts on."""

    AT_TEMPERATURE = 1
    NOT_AT_TEMPERATURE = 2


class Auxiliary(IntFlag):
    """Bits of the auxiliary condition register that this driver acts on."""

    FLOW = 32


class Fault(IntFlag):
    """Bits of the register EROR."""

    OVERHEAT = 1
    AIR_OPEN_LOOP = 2
    LOW_FLOW = 8
    LOW_INPUT_AIR_PRESSURE = 16
    AIR_SENSOR_OPEN = 32
    INTERNAL = 128
    FLOW_SENSOR = 512
    NO_LINE_SENSE = 1024
    NVRAM = 2048
    BVRAM = 4096
    NO_DUT_SENSOR_SELECTED = 16384


class Mistake(IntFlag):
    """Bits of the standard event register that stand for a command that was not carried out."""

    QUERY = 4
    DEVICE = 8
    EXECUTION = 16
    COMMAND = 32


@dataclass(frozen=True)
class TemperatureLimits:
    """The bench file's envelope.

    Attributes:
        setpoint: allowed temperatures, in degrees Celsius.
    """

    setpoint: Range


def _only(allowed: Range) -> Callable[[TemptronicAts545], Sequence[Range]]:
    return lambda source: (allowed,)


def _setpoints(source: TemptronicAts545) -> Sequence[Range]:
    return (CELSIUS, source.limits.setpoint)


class TemptronicAts545(ScpiInstrument):
    """A Temptronic ATS-545 in the role of a temperature source.

    The first exchange with it, and the first after a lost link, programs the envelope into the instrument's own limits
    of the air temperature. It moves nothing and starts nothing.

    Args:
        link: an open link.
        limits: the bench file's envelope.
        serial: serial number that must answer; None accepts any.
        sensor: what to regulate to; without a sensor at the chip, the air is.
        sleep: waits for so many seconds, while the head moves.
    """

    name = NAME
    maker = "Temptronic"
    models = frozenset({"ATS545", "ATS-545"})

    setpoint_number = scpi_int("SETN", "Control which of the settings is in use.", ranges=_only(Range(0, 2, "", NAME)))
    setpoint = scpi_float(
        "SETP", "Control the temperature to reach, in degrees Celsius.", resolution=RESOLUTION_C, ranges=_setpoints
    )
    window = scpi_float(
        "WNDW", "Control the largest deviation, in degrees Celsius.", resolution=RESOLUTION_C, ranges=_only(WINDOW)
    )
    soak = scpi_float("SOAK", "Control the soak time, in s.", resolution=1.0, ranges=_only(SOAK))
    lowest_air = scpi_float(
        "LLIM", "Control the coldest air, in degrees Celsius.", resolution=LIMIT_STEP_C, ranges=_only(LOWEST_AIR)
    )
    highest_air = scpi_float(
        "ULIM", "Control the hottest air, in degrees Celsius.", resolution=LIMIT_STEP_C, ranges=_only(HIGHEST_AIR)
    )
    sensor_kind = scpi_int("DSNS", "Control which sensor is at the chip.", ranges=_only(Range(0, 2, "", NAME)))
    sensor_mode = scpi_int("DUTM", "Control whether the sensor is regulated to.", ranges=_only(Range(0, 1, "", NAME)))

    def __init__(
        self,
        link: Link,
        limits: TemperatureLimits,
        serial: str | None = None,
        *,
        sensor: Sensor = Sensor.NONE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(link, serial, ("FLOW 0",))
        self.limits = limits
        self._sensor = sensor
        self._sleep = sleep
        self._set = False

    def set_temperature(self, celsius: float, window_c: float = 1.0, soak_s: float = 30.0) -> None:
        """Set the temperature to reach and what counts as reached, and check the read-back. The flow stays as it is.

        Args:
            celsius: degrees Celsius.
            window_c: largest deviation, in degrees Celsius, 0.1 to 9.9.
            soak_s: how long the temperature must have stayed inside the window, in s, 0 to 9999.

        Raises:
            LimitError: outside the instrument's range or the envelope; nothing is sent.
            InstrumentError: the instrument refused it, or reports a fault.
            ReadBackError: it reads back as something else.
        """
        table = TemptronicAts545
        wanted = table.setpoint.change(self, celsius)
        rest = [table.window.change(self, window_c), table.soak.change(self, soak_s)]
        number = SetPoint.AMBIENT
        if celsius <= COLD_UP_TO_C:
            number = SetPoint.COLD
        if celsius >= HOT_FROM_C:
            number = SetPoint.HOT
        with self._identified():
            self._set = False
            self.apply(table.setpoint_number.change(self, int(number)), wanted, *rest)
            self._set = True

    def set_flow(self, on: bool) -> None:
        """Set the flow of tempered air on (True) or off (False), and check the read-back.

        Raises:
            LimitError: neither True nor False.
            BenchFailure: it is to be switched on and no temperature has been set: it would be anybody's.
            ReadBackError: the flow is as it was.
        """
        _need_bool(on, f"{self.label}: flow")
        with self._identified():
            if on and not self._set:
                raise BenchFailure(f"{self.label}: no temperature is set since it was connected; set one first")
            self.send(f"FLOW {on:d}")
            if self.flow() != on:
                raise ReadBackError(
                    f"{self.label}: flow: set to {on:d} but reads back {not on:d}; look for a message on its screen"
                )

    def flow(self) -> bool:
        """Read whether tempered air flows."""
        return Auxiliary.FLOW in self.ask("AUXC?", lambda reply: Auxiliary(parse_int(reply)))

    def set_head(self, down: bool) -> None:
        """Set the head down on the chip (True) or up (False), and wait until it is there.

        Raises:
            LimitError: neither True nor False.
            ReadBackError: it is not there after 20 s: it may be locked, which the instrument does not call an error.
        """
        _need_bool(down, f"{self.label}: head")
        self.send(f"HEAD {down:d}")
        for _ in range(HEAD_POLLS):
            if self.head_down() == down:
                return
            self._sleep(HEAD_POLL_S)
        where = "down" if down else "up"
        raise ReadBackError(f"{self.label}: the head did not come {where}; see whether it is locked or blocked")

    def head_down(self) -> bool:
        """Read whether the head is down on the chip."""
        return self.ask("HEAD?", parse_int) == 1

    def faults(self) -> Fault:
        """Read the instrument's own faults; a sensor that nobody asked for is not missing."""
        faults = self.ask("EROR?", lambda reply: Fault(parse_int(reply)))
        return faults if self._sensor else faults & ~Fault.NO_DUT_SENSOR_SELECTED

    def measure(self) -> TemperatureReading:
        """Measure the temperatures in degrees Celsius, and whether they have settled.

        Raises:
            ReplyError: a sensor gives no valid temperature.
            BenchFailure: the instrument reports a fault of its own.
        """
        with self._identified():
            faults = self.faults()
            if faults:
                named = ", ".join(str(fault.name) for fault in Fault if fault in faults)
                raise BenchFailure(f"{self.label}: it reports {named or int(faults)}; see its screen")
            air = self.ask("TMPA?", _parse_celsius)
            device = self.ask("TMPD?", _parse_celsius) if self._sensor else None
            condition = self.ask("TECR?", lambda reply: Condition(parse_int(reply)))
        settled = Condition.AT_TEMPERATURE in condition and Condition.NOT_AT_TEMPERATURE not in condition
        return TemperatureReading(air, device, settled)

    def apply(self, *changes: Change) -> None:
        """Send changes one by one, and after each drain the error registers and read it back.

        Raises:
            InstrumentError: the instrument refused it, or reports a fault.
            ReadBackError: a setting reads back as something else.
            ReplyError: an answer was not what its question allows; the link is out of step.
            LinkError: the link is closed, broke, or is out of step.
        """
        with self._identified():
            for change in changes:
                self.send(change.command)
                self.ask(change.question, change.confirm)

    def _prepare(self) -> None:
        self._set = False
        if self.link.resource.upper().startswith(SERIAL_PORT):
            # What a line of its own does on GPIB: without it the front panel stays in charge.
            self.link.write("%RM")
        screen = self.ask("WHAT?", parse_int)
        if screen != OPERATOR_SCREEN:
            raise BenchFailure(f"{self.label}: it is not on its Operator screen ({screen}); choose that at its panel")
        # Faults that are still there come back; those of the past, a sensor not chosen yet included, are not ours.
        self.link.write(f"DSNS {self._sensor:d}")
        self.link.write("CLER")
        table, allowed = TemptronicAts545, self.limits.setpoint
        lowest = min(max(math.floor(allowed.low), LOWEST_AIR.low), LOWEST_AIR.high)
        highest = max(min(math.ceil(allowed.high), HIGHEST_AIR.high), HIGHEST_AIR.low)
        self.apply(
            table.lowest_air.change(self, lowest),
            table.highest_air.change(self, highest),
            table.sensor_kind.change(self, int(self._sensor)),
            table.sensor_mode.change(self, int(self._sensor is not Sensor.NONE)),
        )

    def _drained(self) -> list[tuple[int, str]]:
        mistakes = self.decode("*ESR?", self.link.query("*ESR?"), lambda reply: Mistake(parse_int(reply) & 0x3C))
        found = [(int(mistake), f"{mistake.name} error") for mistake in Mistake if mistake in mistakes]
        faults = self.decode("EROR?", self.link.query("EROR?"), lambda reply: Fault(parse_int(reply)))
        if not self._sensor:
            faults &= ~Fault.NO_DUT_SENSOR_SELECTED
        return found + [(int(fault), f"fault {fault.name}") for fault in Fault if fault in faults]

    def _not_off(self) -> list[str]:
        return ["tempered air still flows"] if self.flow() else []


def _need_bool(value: object, what: str) -> None:
    if not isinstance(value, bool):
        raise LimitError(f"{what}: {value!r} is refused; allowed are True and False")


def _parse_celsius(reply: str) -> float:
    celsius = parse_float(reply)
    if celsius > INVALID_C:
        raise ReadingOverflow(f"{reply!r} stands for a sensor that is missing or broken")
    return celsius
