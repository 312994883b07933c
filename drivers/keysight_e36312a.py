"""Keysight E36312A: a DC supply of three channels, 6 V 5 A, 25 V 1 A and 25 V 1 A (programming guide E36311-90008).

Every command names its channel in a channel list, ``VOLT 4.5,(@2)``, so that no selection made by somebody else, at
the front panel included, can send a voltage to another channel.

The instrument's own protection is an overvoltage trip: it switches the output off, and keeps it off until the trip is
cleared. No output watchdog is used: this maker's N6700 and RP7900 have one (OUTP:PROT:WDOG), for this model none is
known, so that outputs stay on when the program that set them dies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from drivers.errors import LimitError
from drivers.limits import ChannelLimits, Range
from drivers.roles import ChannelReading
from drivers.scpi import Link, ScpiInstrument
from drivers.scpi_settings import Change, scpi_bool, scpi_float
from drivers.scpi_text import parse_bool, parse_floats, parse_word
from models.exceptions import BenchFailure

T = TypeVar("T")

MODEL = "E36312A"
NAME = f"Keysight {MODEL}"
RESOLUTION_V = 2e-3
RESOLUTION_A = 2e-3
TRIP_RESOLUTION_V = 1e-2
RATED_V = {1: 6.0, 2: 25.0, 3: 25.0}
RATED_A = {1: 5.0, 2: 1.0, 3: 1.0}
CHANNELS = tuple(RATED_V)
ALL = "(@1,2,3)"

TRIP_REACH = 1.1
"""The overvoltage trip may be set to this multiple of the rated voltage."""

OFF_ORDER = (2, 1, 3)
"""Order in which :meth:`KeysightE36312A.safe_off` takes the channels down: columns, word lines, core, as wired to the
channels of the laboratory's Keithley 2230G."""


class ChannelList:
    """Carries the settings of one channel: each of its commands and questions names the channel in a list."""

    def __init__(self, instrument: KeysightE36312A, number: int) -> None:
        self._instrument = instrument
        self._list = f"(@{number})"

    def named(self, change: Change) -> Change:
        """Return the change with the channel named in its command and in its question."""
        command, question = f"{change.command},{self._list}", f"{change.question} {self._list}"
        return replace(change, command=command, question=question)

    def apply(self, *changes: Change) -> None:
        """Send changes of this channel, drain the error queue, read back."""
        self._instrument.apply(*map(self.named, changes))

    def ask(self, question: str, decode: Callable[[str], T]) -> T:
        """Ask a question about this channel and decode the answer."""
        return self._instrument.ask(f"{question} {self._list}", decode)


def _voltages(channel: SupplyChannel) -> Sequence[Range]:
    return (Range(0.0, RATED_V[channel.number], "V", NAME), channel.limits.voltage)


def _currents(channel: SupplyChannel) -> Sequence[Range]:
    return (Range(0.0, RATED_A[channel.number], "A", NAME), channel.limits.current)


def _trips(channel: SupplyChannel) -> Sequence[Range]:
    return (Range(0.0, TRIP_REACH * RATED_V[channel.number], "V", NAME), channel.limits.voltage)


class SupplyChannel:
    """The settings of one channel of the supply, inside its rating and its envelope."""

    path = ""
    voltage = scpi_float("VOLT", "Control the voltage setting, in V.", resolution=RESOLUTION_V, ranges=_voltages)
    current_limit = scpi_float("CURR", "Control the current limit, in A.", resolution=RESOLUTION_A, ranges=_currents)
    voltage_limit = scpi_float(
        "VOLT:PROT",
        "Control the voltage above which the instrument itself switches the output off, in V.",
        resolution=TRIP_RESOLUTION_V,
        ranges=_trips,
    )
    voltage_limit_on = scpi_bool("VOLT:PROT:STAT", "Control whether the instrument watches its voltage limit.")
    output = scpi_bool("OUTP", "Control whether the output is on.")

    def __init__(self, supply: KeysightE36312A, number: int, limits: ChannelLimits) -> None:
        self.instrument = ChannelList(supply, number)
        self.number = number
        self.limits = limits
        self._supply = supply

    @property
    def label(self) -> str:
        """Return instrument and channel, for messages."""
        return f"{self._supply.label}, channel {self.number}"


class KeysightE36312A(ScpiInstrument):
    """A Keysight E36312A in the role of a power supply.

    Args:
        link: an open link.
        limits: envelope of each channel that may be used; a channel without one is refused.
        serial: serial number that must answer; None accepts any.
        off_order: order in which :meth:`safe_off` takes the channels down.
    """

    name = NAME
    maker = "Keysight"
    models = frozenset({MODEL})

    def __init__(
        self,
        link: Link,
        limits: Mapping[int, ChannelLimits],
        serial: str | None = None,
        off_order: Sequence[int] = OFF_ORDER,
    ) -> None:
        if not set(limits) <= set(CHANNELS):
            raise LimitError(f"{NAME}: limits are given for channels {sorted(limits)}, it has the channels 1 to 3")
        if sorted(off_order) != list(CHANNELS):
            raise LimitError(f"{NAME}: the order of switching off is {tuple(off_order)}, each of 1 to 3 is needed once")
        super().__init__(link, serial, tuple(f"{act} 0,(@{n})" for n in off_order for act in ("VOLT", "OUTP")))
        self._channels = {number: SupplyChannel(self, number, limits[number]) for number in sorted(limits)}

    def channel(self, channel: int) -> SupplyChannel:
        """Return a channel, counted from 1. Raises LimitError for one that has no limits in the bench file."""
        if isinstance(channel, bool) or not isinstance(channel, int) or channel not in self._channels:
            allowed = ", ".join(map(str, self._channels))
            raise LimitError(f"{self.label}: channel {channel!r} is refused; the bench file gives limits for {allowed}")
        return self._channels[channel]

    def set_voltage(self, channel: int, volts: float) -> None:
        """Set a channel's voltage in V and check the read-back (within 2 mV).

        Raises:
            LimitError: outside the channel's rating or envelope; nothing is sent.
            InstrumentError: the instrument refused it.
            ReadBackError: it reads back as something else.
        """
        self.set_voltages({channel: volts})

    def set_voltages(self, volts: Mapping[int, float]) -> None:
        """Set the voltages of several channels in V in one message, in the order given; errors as set_voltage.

        All are checked against their limits before the first byte is sent, and all are read back.
        """
        changes = self._voltage_changes(volts)
        if changes:
            self.apply(*changes)

    def check_voltages(self, volts: Mapping[int, float]) -> None:
        """Check voltages in V as set_voltages would, sending nothing. Raises LimitError."""
        self._voltage_changes(volts)

    def _voltage_changes(self, volts: Mapping[int, float]) -> list[Change]:
        parts = {self.channel(number): value for number, value in volts.items()}
        return [part.instrument.named(SupplyChannel.voltage.change(part, value)) for part, value in parts.items()]

    def set_current_limit(self, channel: int, amps: float) -> None:
        """Set a channel's current limit in A and check the read-back (within 2 mA); errors as set_voltage."""
        self.channel(channel).current_limit = amps

    def set_voltage_limit(self, channel: int, volts: float) -> None:
        """Set the voltage in V above which the instrument itself switches a channel off, and check the read-back.

        It is a trip, not a fence: a higher setting is taken, and then the output goes off at once and stays off until
        :meth:`clear_trip`. Keep it above the highest setting in use by more than the trip's own accuracy; errors as
        set_voltage.
        """
        part = self.channel(channel)
        part.instrument.apply(
            SupplyChannel.voltage_limit.change(part, volts), SupplyChannel.voltage_limit_on.change(part, True)
        )

    def set_output(self, channel: int, on: bool) -> None:
        """Set a channel on (True) or off (False) and check the read-back; errors as set_voltage."""
        self.channel(channel).output = on

    def voltage(self, channel: int) -> float:
        """Read a channel's voltage setting, in V."""
        return self.channel(channel).voltage

    def current_limit(self, channel: int) -> float:
        """Read a channel's current limit, in A."""
        return self.channel(channel).current_limit

    def voltage_limit(self, channel: int) -> float:
        """Read the voltage above which the instrument switches a channel off, in V."""
        return self.channel(channel).voltage_limit

    def output(self, channel: int) -> bool:
        """Read whether a channel is on."""
        return self.channel(channel).output

    def tripped(self, channel: int) -> bool:
        """Read whether the overvoltage trip has switched a channel off."""
        return self.channel(channel).instrument.ask("VOLT:PROT:TRIP?", parse_bool)

    def clear_trip(self, channel: int) -> None:
        """Put a channel that tripped back into service, at 0 V and with its output off, and check that it is."""
        part, listed = self.channel(channel), f"(@{channel})"
        self.send(f"VOLT 0,{listed};:OUTP 0,{listed};:VOLT:PROT:CLE {listed}")
        # Clearing a trip may give an output the state back that it had before.
        part.output = False
        if self.tripped(channel):
            raise BenchFailure(f"{part.label}: still tripped although set to 0 V; look for a voltage at its terminals")

    def measure(self) -> tuple[ChannelReading, ...]:
        """Measure voltage in V and current in A at the terminals of all three channels, in channel order.

        Raises:
            ReplyError: a reading is missing, overflowed or is no number.
        """
        question = f"MEAS:VOLT? {ALL};:MEAS:CURR? {ALL};:OUTP? {ALL}"
        volts, amps, states = self.ask_parts(question, 3)
        voltages = self.decode(question, volts, lambda reply: parse_floats(reply, len(CHANNELS)))
        currents = self.decode(question, amps, lambda reply: parse_floats(reply, len(CHANNELS)))
        on = self.decode(question, states, _parse_states)
        return tuple(ChannelReading(*reading) for reading in zip(voltages, currents, on, strict=True))

    def _prepare(self) -> None:
        # Paired in series, output 3 would add its voltage to output 2 and follow its setting.
        pairing = self.ask("OUTP:PAIR?", parse_word)
        if pairing != "OFF":
            raise BenchFailure(
                f"{self.label}: its outputs 2 and 3 are paired ({pairing}); switch the pairing off at its front panel"
            )

    def _not_off(self) -> list[str]:
        question = f"VOLT? {ALL};:OUTP? {ALL}"
        settings, states = self.ask_parts(question, 2)
        volts = self.decode(question, settings, lambda reply: parse_floats(reply, len(CHANNELS)))
        on = self.decode(question, states, _parse_states)
        return [
            f"channel {number} is {'on' if is_on else 'off'} and set to {setting:g} V"
            for number, setting, is_on in zip(CHANNELS, volts, on, strict=True)
            if is_on or abs(setting) > RESOLUTION_V
        ]


def _parse_states(reply: str) -> tuple[bool, ...]:
    # One field too many or too few is refused as it is for numbers.
    parse_floats(reply, len(CHANNELS))
    return tuple(parse_bool(field) for field in reply.split(","))
