"""Keithley 2230G-30-1: a DC supply of three channels, 30 V 1.5 A, 30 V 1.5 A and 6 V 5 A (2230G-900-01).

The instrument's commands act on a selected channel. Each of ours selects its channel and acts in the same message, so
that nobody, another thread included, can come between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.errors import LimitError
from drivers.limits import ChannelLimits, Range
from drivers.roles import ChannelReading
from drivers.scpi import Link, ScpiInstrument
from drivers.scpi_settings import Change, scpi_bool, scpi_float
from drivers.scpi_text import parse_bool, parse_float, parse_floats

MODEL = "2230G-30-1"
NAME = f"Keithley {MODEL}"
RESOLUTION_V = 1e-3
RESOLUTION_A = 1e-3
RATED_V = {1: 30.0, 2: 30.0, 3: 6.0}
RATED_A = {1: 1.5, 2: 1.5, 3: 5.0}
CHANNELS = tuple(RATED_V)

OFF_ORDER = (2, 1, 3)
"""Order in which :meth:`Keithley2230G.safe_off` takes the channels down. On the laboratory's bench these are VDDC,
VDDR, VDD: columns fall before the word lines that gate them, and the core supply that defines all switches is last."""


def _voltages(channel: SupplyChannel) -> Sequence[Range]:
    return (Range(0.0, RATED_V[channel.number], "V", NAME), channel.limits.voltage)


def _currents(channel: SupplyChannel) -> Sequence[Range]:
    return (Range(0.0, RATED_A[channel.number], "A", NAME), channel.limits.current)


class SupplyChannel:
    """The settings of one channel of the supply, inside its rating and its envelope."""

    voltage = scpi_float("SOUR:VOLT", "Control the voltage setting, in V.", resolution=RESOLUTION_V, ranges=_voltages)
    current_limit = scpi_float(
        "SOUR:CURR", "Control the current limit, in A.", resolution=RESOLUTION_A, ranges=_currents
    )
    voltage_limit = scpi_float(
        "SOUR:VOLT:LIM",
        "Control the upper bound that the instrument itself puts on the voltage setting, in V.",
        resolution=RESOLUTION_V,
        ranges=_voltages,
    )
    voltage_limit_on = scpi_bool("SOUR:VOLT:LIM:STAT", "Control whether the instrument applies its voltage limit.")
    output = scpi_bool("SOUR:CHAN:OUTP", "Control whether the output is on.")

    def __init__(self, instrument: Keithley2230G, number: int, limits: ChannelLimits) -> None:
        self.instrument = instrument
        self.number = number
        self.limits = limits

    @property
    def path(self) -> str:
        """Return what selects this channel before each command."""
        return f"INST:SEL CH{self.number};:"

    @property
    def label(self) -> str:
        """Return instrument and channel, for messages."""
        return f"{self.instrument.label}, channel {self.number}"


class Keithley2230G(ScpiInstrument):
    """A Keithley 2230G-30-1 in the role of a power supply.

    Args:
        link: an open link.
        limits: envelope of each channel that may be used; a channel without one is refused.
        serial: serial number that must answer; None accepts any.
        off_order: order in which :meth:`safe_off` takes the channels down.
    """

    name = NAME
    maker = "Keithley"
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
        acts = ("SOUR:VOLT 0", "SOUR:CHAN:OUTP 0")
        super().__init__(link, serial, tuple(f"INST:SEL CH{n};:{act}" for n in off_order for act in acts))
        self._channels = {number: SupplyChannel(self, number, limits[number]) for number in sorted(limits)}

    def channel(self, channel: int) -> SupplyChannel:
        """Return a channel, counted from 1. Raises LimitError for one that has no limits in the bench file."""
        if isinstance(channel, bool) or not isinstance(channel, int) or channel not in self._channels:
            allowed = ", ".join(map(str, self._channels))
            raise LimitError(f"{self.label}: channel {channel!r} is refused; the bench file gives limits for {allowed}")
        return self._channels[channel]

    def set_voltage(self, channel: int, volts: float) -> None:
        """Set a channel's voltage in V and check the read-back (resolution 1 mV).

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
        return [SupplyChannel.voltage.change(self.channel(number), value) for number, value in volts.items()]

    def set_current_limit(self, channel: int, amps: float) -> None:
        """Set a channel's current limit in A and check the read-back (resolution 1 mA); errors as set_voltage."""
        self.channel(channel).current_limit = amps

    def set_voltage_limit(self, channel: int, volts: float) -> None:
        """Set the instrument's own upper bound of a channel's voltage in V, switch it on, and check the read-back.

        From then on the instrument refuses whatever is higher, whoever asks; errors as set_voltage.
        """
        part = self.channel(channel)
        self.apply(
            SupplyChannel.voltage_limit.change(part, volts),
            SupplyChannel.voltage_limit_on.change(part, True),
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
        """Read the instrument's own upper bound of a channel's voltage, in V."""
        return self.channel(channel).voltage_limit

    def output(self, channel: int) -> bool:
        """Read whether a channel is on."""
        return self.channel(channel).output

    def measure(self) -> tuple[ChannelReading, ...]:
        """Measure voltage in V and current in A at the terminals of all three channels, in channel order.

        Raises:
            ReplyError: a reading is missing, overflowed or is no number.
        """
        outputs = ";".join(f":INST:SEL CH{number};:SOUR:CHAN:OUTP?" for number in CHANNELS)
        question = f"MEAS:VOLT? ALL;:MEAS:CURR? ALL;{outputs}"
        volts, amps, *states = self.ask_parts(question, 2 + len(CHANNELS))
        voltages = self.decode(question, volts, lambda reply: parse_floats(reply, len(CHANNELS)))
        currents = self.decode(question, amps, lambda reply: parse_floats(reply, len(CHANNELS)))
        on = [self.decode(question, state, parse_bool) for state in states]
        return tuple(ChannelReading(*reading) for reading in zip(voltages, currents, on, strict=True))

    def _prepare(self) -> None:
        # Over USB the front panel stays in charge, and commands are refused, until remote control is asked for.
        self.send("SYST:REM")

    def _not_off(self) -> list[str]:
        question = ";:".join(f"INST:SEL CH{number};:SOUR:VOLT?;:SOUR:CHAN:OUTP?" for number in CHANNELS)
        replies = self.ask_parts(question, 2 * len(CHANNELS))
        wrong = []
        for number, setting, state in zip(CHANNELS, replies[::2], replies[1::2], strict=True):
            volts = self.decode(question, setting, parse_float)
            on = self.decode(question, state, parse_bool)
            if on or abs(volts) > RESOLUTION_V:
                wrong.append(f"channel {number} is {'on' if on else 'off'} and set to {volts:g} V")
        return wrong
