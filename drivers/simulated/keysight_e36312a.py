"""Simulated Keysight E36312A: three outputs, 6 V 5 A, 25 V 1 A and 25 V 1 A, on the chip's rails.

Commands after the E36300 series programming guide (E36311-90008) as far as public clients of the real instrument quote
it: channel lists, programming up to 103 % of the rating, the regulation codes of the channel summary register, "+0" in
front of "No error". Proposed, for want of a source: the overvoltage trip is off and at 110 % of the rating after *RST,
it gives OUTPut? back as 0, a tripped output refuses ON with -221, the *RST current is the rated one, the resolution is
1 mV and 1 mA, the read-back noise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from drivers.simulated.scpi import (
    Boolean,
    Bounds,
    Choice,
    InstrumentServer,
    Number,
    QueuedError,
    ScpiError,
    ScpiInstrument,
    Setting,
    Text,
    command,
    query,
    show,
)

if TYPE_CHECKING:
    from drivers.simulated.world import World

RATED_V = {1: 6.0, 2: 25.0, 3: 25.0}
RATED_A = {1: 5.0, 2: 1.0, 3: 1.0}
PROGRAMMING_REACH = 1.03
TRIP_REACH = 1.1

DECIMALS = 3
READ_BACK_NOISE = 1e-4
"""Standard deviation of a read-back, in V and in A (proposed)."""

FIRST_STEP_V = 1e-3
"""A supply that starts from 0 V meets its load at this voltage first, before it decides to limit the current."""

_LIST = re.compile(rb"\(@[^)]*\)")
_RANGE = re.compile(r"([1-3])(?::([1-3]))?")
_EXTREMES = {"MIN": "MIN", "MINIMUM": "MIN", "MAX": "MAX", "MAXIMUM": "MAX", "DEF": "DEF", "DEFAULT": "DEF"}
JOINT = "+"
"""Stands for the commas inside a channel list while a message is cut at its commas."""


@dataclass(frozen=True)
class ChannelList:
    """``(@1)``, ``(@1,3)``, ``(@1:3)``: the channels in the order in which they are named."""

    optional: bool = True

    def parse(self, text: str, instrument: Any, earlier: Sequence[Any]) -> tuple[int, ...]:
        """Numbers of the channels; raises ScpiError -104 for anything that is no list, -224 for other channels."""
        if not (text.startswith("(@") and text.endswith(")")):
            raise ScpiError(-104)
        channels: list[int] = []
        for part in text[2:-1].split(JOINT):
            match = _RANGE.fullmatch(part.strip())
            if match is None:
                raise ScpiError(-224)
            first = int(match[1])
            last = first if match[2] is None else int(match[2])
            channels += range(first, last + 1) if last >= first else range(first, last - 1, -1)
        return tuple(channels)


@dataclass(frozen=True)
class Level:
    """A number with its unit, or the short form of MINimum, MAXimum, DEFault: what these mean depends on the channel.

    Attributes:
        number: parses the number; its bounds are open, each channel has its own.
    """

    number: Number
    optional: bool = False

    def parse(self, text: str, instrument: Any, earlier: Sequence[Any]) -> float | str:
        """The number, or the word; raises ScpiError."""
        word = _EXTREMES.get(text.upper())
        return self.number.parse(text, instrument, earlier) if word is None else word


class AskedAbout:
    """What may follow a question: MINimum, MAXimum or DEFault, a channel list, or both."""

    optional = True

    def parse(self, text: str, instrument: Any, earlier: Sequence[Any]) -> str | tuple[int, ...]:
        """The word, or the channels; raises ScpiError."""
        word = _EXTREMES.get(text.upper())
        return ChannelList().parse(text, instrument, earlier) if word is None else word


LIST = ChannelList()
VOLTS = Level(Number(Bounds(-1e9, 1e9, 0.0), "V", DECIMALS))
AMPS = Level(Number(Bounds(-1e9, 1e9, 0.0), "A", DECIMALS))


@dataclass
class Channel:
    """State of one output.

    Attributes:
        voltage, current: programmed values, in V and A.
        trip_v, trip_on: voltage above which the output goes off, and whether that is watched.
        tripped: it went off for that reason.
        terminal_v: what really stands at the terminals.
        constant_current: the current limit acts.
    """

    number: int
    voltage: float = 0.0
    current: float = 0.0
    trip_v: float = 0.0
    trip_on: bool = False
    tripped: bool = False
    on: bool = False
    terminal_v: float = 0.0
    constant_current: bool = False

    def reset(self) -> None:
        """Programmed values after *RST; the terminals follow when the channel is driven."""
        self.voltage, self.current = 0.0, RATED_A[self.number]
        self.trip_v, self.trip_on, self.tripped, self.on = TRIP_REACH * RATED_V[self.number], False, False, False

    def bounds(self, attribute: str) -> Bounds:
        """What an attribute may be programmed to."""
        rated = RATED_A[self.number] if attribute == "current" else RATED_V[self.number]
        if attribute == "trip_v":
            return Bounds(0.0, TRIP_REACH * rated, TRIP_REACH * rated)
        return Bounds(0.0, PROGRAMMING_REACH * rated, rated if attribute == "current" else 0.0)


def _number(value: float) -> str:
    return f"{value + 0.0:+.8E}"


class KeysightE36312A(ScpiInstrument):
    """The instrument. Its outputs drive ``world.drive_channel``.

    Args:
        world: rails that the outputs are wired to.
        generator: read-back noise.
    """

    IDENTITY = "Keysight Technologies,E36312A,MY59000001,2.1.0-1.0.4-1.12"
    SETTINGS: ClassVar[Sequence[Setting]] = (
        Setting("DISPlay[:WINDow][:STATe]", Boolean(), lambda supply: supply, "display_on"),
        Setting("DISPlay[:WINDow]:TEXT[:DATA]", Text(), lambda supply: supply, "display_text", lambda t: f'"{t}"'),
        Setting(
            "INSTrument:NSELect", Number(Bounds(1, 3, 1), digits=0), lambda supply: supply, "selected", "{:.0f}".format
        ),
        Setting("OUTPut:PAIR", Choice(("OFF", "PARallel", "SERies")), lambda supply: supply, "pairing"),
    )

    def __init__(self, world: World, generator: np.random.Generator) -> None:
        self._world = world
        self._generator = generator
        self._channels = {number: Channel(number) for number in RATED_V}
        super().__init__(world.lock)

    def reset(self) -> None:
        """All outputs off and at 0 V."""
        self.selected, self.pairing = 1.0, "OFF"
        self.display_on, self.display_text = True, ""
        for channel in self._channels.values():
            channel.reset()
            self.drive(channel)

    def execute(self, line: bytes) -> bytes | None:
        """Act on one program message; commas inside channel lists are no separators of parameters."""
        return super().execute(_LIST.sub(lambda found: found[0].replace(b",", JOINT.encode()), line))

    def error_reply(self, error: QueuedError | None) -> str:
        """Code with its sign, then the text."""
        return '+0,"No error"' if error is None else f'{error.code:+d},"{error.text}"'

    def drive(self, channel: Channel) -> None:
        """Make the terminals follow the programmed state: constant voltage, constant current, or tripped."""
        wanted = channel.voltage if channel.on else 0.0
        if channel.on and channel.trip_on and wanted > channel.trip_v:
            channel.tripped, channel.on, wanted = True, False, 0.0
        channel.constant_current = False
        if wanted > 0.0:
            if channel.terminal_v == 0.0:
                self._put(channel, min(wanted, FIRST_STEP_V))
            siemens = self._world.channel_current(channel.number) / channel.terminal_v
            channel.constant_current = siemens * wanted > channel.current
            wanted = channel.current / siemens if channel.constant_current else wanted
        self._put(channel, wanted)

    def _put(self, channel: Channel, volts: float) -> None:
        if volts != channel.terminal_v:
            channel.terminal_v = volts
            self._world.drive_channel(channel.number, volts)

    def _listed(self, numbers: Sequence[int] | None) -> list[Channel]:
        """Channels of a list; the selected one without a list."""
        return [self._channels[number] for number in ((int(self.selected),) if numbers is None else numbers)]

    def _program(self, attribute: str, level: float | str, numbers: tuple[int, ...] | None) -> None:
        """Set an attribute of some channels: all of them, or none when one refuses."""
        wanted = []
        for channel in self._listed(numbers):
            bounds = channel.bounds(attribute)
            value = {"MIN": bounds.low, "MAX": bounds.high, "DEF": bounds.default}.get(str(level), level)
            if not isinstance(value, float) or not bounds.low <= value <= bounds.high:
                raise ScpiError(-222)
            wanted.append((channel, value))
        for channel, value in wanted:
            setattr(channel, attribute, value)
            self.drive(channel)

    def _programmed(self, attribute: str, asked: Sequence[str | tuple[int, ...]]) -> str:
        words = [part for part in asked if isinstance(part, str)]
        lists = [part for part in asked if not isinstance(part, str)]
        if len(words) > 1 or len(lists) > 1:
            raise ScpiError(-108)
        replies = []
        for channel in self._listed(lists[0] if lists else None):
            bounds = channel.bounds(attribute)
            extremes = {"MIN": bounds.low, "MAX": bounds.high, "DEF": bounds.default}
            replies.append(_number(extremes[words[0]] if words else getattr(channel, attribute)))
        return ",".join(replies)

    def _states(self, attribute: str, numbers: tuple[int, ...] | None) -> str:
        return ",".join(show(getattr(channel, attribute)) for channel in self._listed(numbers))

    @command("[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]", VOLTS, LIST)
    def _set_voltage(self, volts: float | str, numbers: tuple[int, ...] | None = None) -> None:
        self._program("voltage", volts, numbers)

    @query("[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]", rest=AskedAbout())
    def _ask_voltage(self, *asked: str | tuple[int, ...]) -> str:
        return self._programmed("voltage", asked)

    @command("[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]", AMPS, LIST)
    def _set_current(self, amps: float | str, numbers: tuple[int, ...] | None = None) -> None:
        self._program("current", amps, numbers)

    @query("[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]", rest=AskedAbout())
    def _ask_current(self, *asked: str | tuple[int, ...]) -> str:
        return self._programmed("current", asked)

    @command("[SOURce:]VOLTage:PROTection[:LEVel]", VOLTS, LIST)
    def _set_trip(self, volts: float | str, numbers: tuple[int, ...] | None = None) -> None:
        self._program("trip_v", volts, numbers)

    @query("[SOURce:]VOLTage:PROTection[:LEVel]", rest=AskedAbout())
    def _ask_trip(self, *asked: str | tuple[int, ...]) -> str:
        return self._programmed("trip_v", asked)

    @command("[SOURce:]VOLTage:PROTection:STATe", Boolean(), LIST)
    def _watch(self, on: bool, numbers: tuple[int, ...] | None = None) -> None:
        for channel in self._listed(numbers):
            channel.trip_on = on
            self.drive(channel)

    @query("[SOURce:]VOLTage:PROTection:STATe", LIST)
    def _ask_watched(self, numbers: tuple[int, ...] | None = None) -> str:
        return self._states("trip_on", numbers)

    @query("[SOURce:]VOLTage:PROTection:TRIPped", LIST)
    def _ask_tripped(self, numbers: tuple[int, ...] | None = None) -> str:
        return self._states("tripped", numbers)

    @command("[SOURce:]VOLTage:PROTection:CLEar", LIST)
    @command("OUTPut:PROTection:CLEar", LIST)
    def _clear_trip(self, numbers: tuple[int, ...] | None = None) -> None:
        for channel in self._listed(numbers):
            channel.tripped = False

    @command("OUTPut[:STATe]", Boolean(), LIST)
    def _switch(self, on: bool, numbers: tuple[int, ...] | None = None) -> None:
        channels = self._listed(numbers)
        if on and any(channel.tripped for channel in channels):
            raise ScpiError(-221)
        for channel in channels:
            channel.on = on
            self.drive(channel)

    @query("OUTPut[:STATe]", LIST)
    def _ask_output(self, numbers: tuple[int, ...] | None = None) -> str:
        return self._states("on", numbers)

    @query("MEASure[:SCALar][:VOLTage][:DC]", LIST)
    def _measure_voltage(self, numbers: tuple[int, ...] | None = None) -> str:
        return self._measured(numbers, lambda channel: channel.terminal_v)

    @query("MEASure[:SCALar]:CURRent[:DC]", LIST)
    def _measure_current(self, numbers: tuple[int, ...] | None = None) -> str:
        return self._measured(numbers, lambda channel: self._world.channel_current(channel.number))

    def _measured(self, numbers: tuple[int, ...] | None, true: Callable[[Channel], float]) -> str:
        noise = self._generator.normal
        return ",".join(_number(true(channel) + noise(0.0, READ_BACK_NOISE)) for channel in self._listed(numbers))

    @command("INSTrument[:SELect]", Choice(("P6V", "P25V", "N25V", "CH1", "CH2", "CH3")))
    def _select(self, name: str) -> None:
        self.selected = float({"P6V": 1, "P25V": 2, "N25V": 3}.get(name, name[-1]))

    @query("INSTrument[:SELect]")
    def _ask_selected(self) -> str:
        return f"CH{self.selected:.0f}"

    @command("APPLy", Choice(("P6V", "P25V", "N25V", "CH1", "CH2", "CH3")), VOLTS, Level(AMPS.number, optional=True))
    def _apply(self, name: str, volts: float | str, amps: float | str | None = None) -> None:
        number = int({"P6V": 1, "P25V": 2, "N25V": 3}.get(name, name[-1]))
        self._program("voltage", volts, (number,))
        if amps is not None:
            self._program("current", amps, (number,))

    @query("STATus:QUEStionable:INSTrument:ISUMmary<n>:CONDition")
    def _ask_regulation(self, number: int) -> str:
        """1 in constant current, 2 in constant voltage, 0 when off."""
        if number not in self._channels:
            raise ScpiError(-114)
        channel = self._channels[number]
        return f"{(1 if channel.constant_current else 2) if channel.on else 0:+d}"

    @command("SYSTem:REMote")
    @command("SYSTem:LOCal")
    @command("SYSTem:RWLock")
    @command("SYSTem:BEEPer[:IMMediate]")
    def _without_effect(self) -> None:
        """The front panel is nobody's."""


class KeysightE36312AServer(InstrumentServer):
    """The supply on a loopback port.

    Args:
        world: rails that the outputs are wired to.
        generator: read-back noise.
        port: TCP port; 0 for any free one.
    """

    def __init__(self, world: World, generator: np.random.Generator, port: int = 0) -> None:
        super().__init__(KeysightE36312A(world, generator), port)
