"""Register tables of the Keysight 81160A and the 33500B family: one channel's settings, in the spelling of each.

After the user's guides 81160-91020 and 33500-90901. Proposed, for want of a source: the resolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from drivers.limits import Range
from drivers.scpi import ScpiInstrument
from drivers.scpi_settings import Change, Setting, scpi_bool, scpi_choice, scpi_float, scpi_int
from drivers.scpi_text import ReadingOverflow, format_number, parse_float

T = TypeVar("T")

SOURCE_OHM = 50.0
LEVEL_STEP_V = 1e-3
"""Resolution of a level into 50 ohm."""

TIME_PART = 1e-4
"""Resolution of a time as a part of its value, beside the smallest step."""

CHANNEL = "#"
"""Stands for the number of the channel in a register table."""


@dataclass(frozen=True)
class PulseLimits:
    """The bench file's envelope.

    Attributes:
        level: allowed levels at the load, base and top, in V.
        width: allowed pulse widths, in s.
        count: allowed pulses of one train.
    """

    level: Range
    width: Range
    count: Range


@dataclass(frozen=True)
class PulseRanges:
    """What a model can do. Levels are those into 50 ohm.

    Attributes:
        window_v: levels lie between minus and plus this.
        amplitude_v: smallest and largest difference of the two levels.
        time_step_s: smallest step of widths and edges.
        load, open_load: loads that it can be told to expect, and whether an open end is among them.
    """

    window_v: float
    amplitude_v: tuple[float, float]
    width: Range
    edge: Range
    period: Range
    delay: Range
    count: Range
    time_step_s: float
    load: Range
    open_load: bool


class Waveform(Enum):
    """What the generator makes."""

    PULSE = "PULS"


class Polarity(Enum):
    """Whether the output rests at the low level or, inverted, at the high one."""

    NORMAL = "NORM"
    INVERTED = "INV"


class TriggerSource(Enum):
    """What starts a train: the client, whose trigger the two families call differently."""

    MANUAL = "MAN"
    BUS = "BUS"


class BurstMode(Enum):
    """What a trigger does."""

    TRIGGERED = "TRIG"


class NumberedChannel:
    """Carries the settings of one channel: its number replaces the placeholder in every command and question."""

    def __init__(self, instrument: ScpiInstrument, number: int) -> None:
        self._instrument = instrument
        self._number = str(number)

    def numbered(self, change: Change) -> Change:
        """Return the change with the number of the channel in its command and in its question."""
        command = change.command.replace(CHANNEL, self._number)
        return replace(change, command=command, question=change.question.replace(CHANNEL, self._number))

    def apply(self, *changes: Change) -> None:
        """Send changes of this channel, drain the error queue, read back."""
        self._instrument.apply(*map(self.numbered, changes))

    def ask(self, question: str, decode: Callable[[str], T]) -> T:
        """Ask a question about this channel and decode the answer."""
        return self._instrument.ask(question.replace(CHANNEL, self._number), decode)


def level_step(channel: Registers81160A, volts: float) -> float:
    """Resolution of a level at the load, in V."""
    return LEVEL_STEP_V * channel.gain


def time_step(channel: Registers81160A, seconds: float) -> float:
    """Resolution of a time, in s."""
    return channel.ranges.time_step_s + TIME_PART * seconds


def _window(channel: Registers81160A) -> Sequence[Range]:
    reach = channel.ranges.window_v * channel.gain
    return (Range(-reach, reach, "V", channel.name),)


def _levels(channel: Registers81160A) -> Sequence[Range]:
    return (*_window(channel), channel.limits.level)


def _amplitudes(channel: Registers81160A) -> Sequence[Range]:
    low, high = (volts * channel.gain for volts in channel.ranges.amplitude_v)
    return (Range(low, high, "V", channel.name),)


def _widths(channel: Registers81160A) -> Sequence[Range]:
    return (channel.ranges.width, channel.limits.width)


def _edges(channel: Registers81160A) -> Sequence[Range]:
    return (channel.ranges.edge,)


def _periods(channel: Registers81160A) -> Sequence[Range]:
    return (channel.ranges.period,)


def _delays(channel: Registers81160A) -> Sequence[Range]:
    return (channel.ranges.delay,)


def _counts(channel: Registers81160A) -> Sequence[Range]:
    return (channel.ranges.count, channel.limits.count)


def _accept_load(channel: Registers81160A, value: object, what: str) -> float:
    if channel.ranges.open_load and isinstance(value, float) and value == math.inf:
        return value
    return channel.ranges.load.check(value, what)


def _parse_load(reply: str) -> float:
    try:
        return parse_float(reply)
    except ReadingOverflow:  # how an open end is written
        return math.inf


def _level(header: str, doc: str) -> Setting[Registers81160A, float]:
    return scpi_float(header, doc, resolution=level_step, ranges=_levels)


def _limit(header: str, doc: str) -> Setting[Registers81160A, float]:
    return scpi_float(header, doc, resolution=level_step, ranges=_window)


def _duration(
    header: str, doc: str, ranges: Callable[[Registers81160A], Sequence[Range]]
) -> Setting[Registers81160A, float]:
    return scpi_float(header, doc, resolution=time_step, ranges=ranges)


def _load(header: str) -> Setting[Registers81160A, float]:
    return Setting(
        header,
        "Control the load that the levels are computed for, in ohm; infinite for an open end.",
        accept=_accept_load,
        encode=lambda ohm: "INF" if ohm == math.inf else format_number(ohm),
        decode=_parse_load,
        same=lambda owner, wanted, got: wanted == got or abs(got - wanted) <= 1e-3 * wanted,
    )


class Registers81160A:
    """The settings of one channel of an 81160A, inside its ranges and the envelope."""

    path = ""
    waveform = scpi_choice("FUNC#", "Control what the generator makes.", Waveform)
    load = _load("OUTP#:LOAD")
    amplitude = scpi_float(
        "VOLT#", "Control the difference of the levels, in V.", resolution=level_step, ranges=_amplitudes
    )
    offset = _limit("VOLT#:OFFS", "Control the middle of the levels, in V.")
    high = _level("VOLT#:HIGH", "Control the high level, in V.")
    low = _level("VOLT#:LOW", "Control the low level, in V.")
    limit_high = _limit("VOLT#:LIM:HIGH", "Control the level that the instrument itself never exceeds, in V.")
    limit_low = _limit("VOLT#:LIM:LOW", "Control the level that the instrument itself never falls below, in V.")
    limit_on = scpi_bool("VOLT#:LIM:STAT", "Control whether the instrument applies its limits.")
    polarity = scpi_choice("OUTP#:POL", "Control whether the output rests at the low or the high level.", Polarity)
    width = _duration("PULS:WIDT#", "Control the pulse width, in s.", _widths)
    leading = _duration("PULS:TRAN#", "Control the leading edge, in s.", _edges)
    trailing = _duration("PULS:TRAN#:TRA", "Control the trailing edge, in s.", _edges)
    period = _duration("PULS:PER#", "Control the time from pulse to pulse, in s.", _periods)
    delay = _duration("PULS:DEL#", "Control the time from the trigger to the pulse, in s.", _delays)
    trigger_source = scpi_choice("ARM:SOUR#", "Control what starts a train.", TriggerSource)
    count = scpi_int("TRIG#:COUN", "Control how many pulses a trigger starts.", ranges=_counts)
    output = scpi_bool("OUTP#", "Control whether the output is on.")

    def __init__(
        self, source: ScpiInstrument, number: int, ranges: PulseRanges, limits: PulseLimits, load_ohm: float
    ) -> None:
        self.instrument = NumberedChannel(source, number)
        self.number = number
        self.name = source.name
        self.ranges = ranges
        self.limits = limits
        self._source = source
        ohm = _accept_load(self, load_ohm, f"{self.label}: load")
        self.gain = 2.0 if ohm == math.inf else 2.0 * ohm / (ohm + SOURCE_OHM)

    @property
    def label(self) -> str:
        """Return instrument and channel, for messages."""
        return f"{self._source.label}, channel {self.number}"

    def triggering(self) -> list[Change]:
        """Return what makes the channel wait for a trigger from the bus."""
        return [type(self).trigger_source.change(self, TriggerSource.MANUAL)]


class Registers33500B(Registers81160A):
    """The settings of one channel of a 33500B, inside its ranges and the envelope."""

    waveform = scpi_choice("SOUR#:FUNC", "Control what the generator makes.", Waveform)
    amplitude = scpi_float(
        "SOUR#:VOLT", "Control the difference of the levels, in V.", resolution=level_step, ranges=_amplitudes
    )
    offset = _limit("SOUR#:VOLT:OFFS", "Control the middle of the levels, in V.")
    high = _level("SOUR#:VOLT:HIGH", "Control the high level, in V.")
    low = _level("SOUR#:VOLT:LOW", "Control the low level, in V.")
    limit_high = _limit("SOUR#:VOLT:LIM:HIGH", "Control the level that the instrument itself never exceeds, in V.")
    limit_low = _limit("SOUR#:VOLT:LIM:LOW", "Control the level that the instrument itself never falls below, in V.")
    limit_on = scpi_bool("SOUR#:VOLT:LIM:STAT", "Control whether the instrument applies its limits.")
    width = _duration("SOUR#:FUNC:PULS:WIDT", "Control the pulse width, in s.", _widths)
    leading = _duration("SOUR#:FUNC:PULS:TRAN:LEAD", "Control the leading edge, in s.", _edges)
    trailing = _duration("SOUR#:FUNC:PULS:TRAN:TRA", "Control the trailing edge, in s.", _edges)
    period = _duration("SOUR#:FUNC:PULS:PER", "Control the time from pulse to pulse, in s.", _periods)
    delay = _duration("TRIG#:DEL", "Control the time from the trigger to the pulse, in s.", _delays)
    trigger_source = scpi_choice("TRIG#:SOUR", "Control what starts a train.", TriggerSource)
    count = scpi_int("SOUR#:BURS:NCYC", "Control how many pulses a trigger starts.", ranges=_counts)
    burst_mode = scpi_choice("SOUR#:BURS:MODE", "Control what a trigger does.", BurstMode)
    burst_on = scpi_bool("SOUR#:BURS:STAT", "Control whether pulses wait for a trigger.")

    def triggering(self) -> list[Change]:
        """Return what makes the channel wait for a trigger from the bus."""
        table = type(self)
        return [
            table.trigger_source.change(self, TriggerSource.BUS),
            table.burst_mode.change(self, BurstMode.TRIGGERED),
            table.burst_on.change(self, True),
        ]
