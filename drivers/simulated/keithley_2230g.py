"""Simulated Keithley 2230G-30-1: three outputs, 30 V 1.5 A twice and 6 V 5 A, on the chip's rails.

Commands and their meaning after the Series 2230G manual (2230G-900-01); reply formats (three decimals, lists
separated by a comma and a space, identification with a space after each comma) after clients of the real instrument.
Where no source was found the behaviour is proposed: the *RST current is the rated one, the voltage limit is off after
*RST and a conflict with the present setting is refused with -221, OUTPut? is 1 while any output is on, the read-back
noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from drivers.simulated.scpi import (
    Boolean,
    Bounds,
    Choice,
    InstrumentServer,
    Number,
    ScpiError,
    ScpiInstrument,
    Setting,
    Text,
    command,
    query,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drivers.simulated.world import World

DECIMALS = 3
"""Programming and read-back resolution: 1 mV and 1 mA."""

READ_BACK_NOISE = 1e-4
"""Standard deviation of a read-back, in V and in A (proposed; a tenth of the resolution)."""

FIRST_STEP_V = 1e-3
"""A supply that starts from 0 V meets its load at this voltage first, before it decides to limit the current."""

CHANNELS = ("CH1", "CH2", "CH3")
CHANNEL = Choice(CHANNELS)
CHANNEL_OR_ALL = Choice((*CHANNELS, "ALL"), optional=True)


@dataclass
class Channel:
    """State of one output.

    Attributes:
        voltage, current: programmed values, in V and A.
        limit, limit_on: programmed upper bound of ``voltage``.
        enabled: whether the output may be switched on.
        terminal_v: what really stands at the terminals.
        constant_current: the current limit acts.
    """

    number: int
    rated_v: float
    rated_a: float
    voltage: float = 0.0
    current: float = 0.0
    limit: float = 0.0
    limit_on: bool = False
    enabled: bool = True
    on: bool = False
    terminal_v: float = 0.0
    constant_current: bool = False

    def reset(self) -> None:
        """Programmed values after *RST; the terminals follow when the channel is driven."""
        self.voltage, self.current, self.limit = 0.0, self.rated_a, self.rated_v
        self.limit_on, self.enabled, self.on = False, True, False

    @property
    def voltage_bounds(self) -> Bounds:
        """What a voltage may be programmed to."""
        return Bounds(0.0, self.limit if self.limit_on else self.rated_v, 0.0)

    @property
    def limit_bounds(self) -> Bounds:
        """What the bound of the voltage may be programmed to."""
        return Bounds(0.0, self.rated_v, self.rated_v)

    @property
    def current_bounds(self) -> Bounds:
        """What a current may be programmed to."""
        return Bounds(0.0, self.rated_a, self.rated_a)


@dataclass
class Display:
    """The front panel."""

    on: bool = True
    text: str = ""


def _number(value: float) -> str:
    return f"{value:.{DECIMALS}f}"


def _selected(supply: Keithley2230G) -> Channel:
    return supply.selected


def _drive_selected(supply: Keithley2230G) -> None:
    supply.drive(supply.selected)


def _voltage(bounds: Callable[[Keithley2230G, Sequence[str]], Bounds], optional: bool = False) -> Number:
    return Number(bounds, "V", DECIMALS, optional)


def _current(bounds: Callable[[Keithley2230G, Sequence[str]], Bounds], optional: bool = False) -> Number:
    return Number(bounds, "A", DECIMALS, optional)


class Keithley2230G(ScpiInstrument):
    """The instrument. Its outputs drive ``world.drive_channel``.

    Args:
        world: rails that the outputs are wired to.
        generator: read-back noise.
    """

    IDENTITY = "Keithley instruments, 2230G-30-1, 9200001, 1.16-1.04"
    # Drivers in use with this family send INST:SEL CH1;VOLT 1, without a colon before VOLT.
    ROOT_FALLBACK = True
    SETTINGS: ClassVar[Sequence[Setting]] = (
        Setting(
            "[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]",
            _voltage(lambda supply, _: supply.selected.voltage_bounds),
            _selected,
            "voltage",
            _number,
            _drive_selected,
        ),
        Setting(
            "[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]",
            _current(lambda supply, _: supply.selected.current_bounds),
            _selected,
            "current",
            _number,
            _drive_selected,
        ),
        Setting("INSTrument[:SELect]", CHANNEL, lambda supply: supply, "selected_name"),
        Setting("DISPlay[:WINDow][:STATe]", Boolean(), lambda supply: supply.display, "on"),
        Setting("DISPlay[:WINDow]:TEXT[:DATA]", Text(), lambda supply: supply.display, "text", lambda t: f'"{t}"'),
    )

    def __init__(self, world: World, generator: np.random.Generator) -> None:
        self._world = world
        self._generator = generator
        self._channels = {
            name: Channel(number, volts, amps)
            for number, (name, volts, amps) in enumerate(
                zip(CHANNELS, (30.0, 30.0, 6.0), (1.5, 1.5, 5.0), strict=True), start=1
            )
        }
        self.selected_name = "CH1"
        self.display = Display()
        super().__init__(world.lock)

    @property
    def selected(self) -> Channel:
        """Channel that commands without a channel act on."""
        return self._channels[self.selected_name]

    def reset(self) -> None:
        """All outputs off and at 0 V."""
        self.selected_name = "CH1"
        self.display = Display()
        for channel in self._channels.values():
            channel.reset()
            self.drive(channel)

    def drive(self, channel: Channel) -> None:
        """Make the terminals follow the programmed state, in constant voltage or in constant current."""
        wanted = channel.voltage if channel.on else 0.0
        if wanted > 0.0 and channel.terminal_v == 0.0:
            self._put(channel, min(wanted, FIRST_STEP_V))
        if wanted > 0.0:
            siemens = self._world.channel_current(channel.number) / channel.terminal_v
            channel.constant_current = siemens * wanted > channel.current
            self._put(channel, channel.current / siemens if channel.constant_current else wanted)
        else:
            channel.constant_current = False
            self._put(channel, 0.0)

    def _put(self, channel: Channel, volts: float) -> None:
        if volts != channel.terminal_v:
            channel.terminal_v = volts
            self._world.drive_channel(channel.number, volts)

    @command("INSTrument:NSELect", Number(Bounds(1, 3, 1), digits=0))
    def _select_number(self, number: float) -> None:
        self.selected_name = f"CH{number:.0f}"

    @query("INSTrument:NSELect")
    def _ask_number(self) -> str:
        return str(self.selected.number)

    @command(
        "[SOURce:]APPLy",
        CHANNEL,
        _voltage(lambda supply, earlier: supply.channel(earlier).voltage_bounds),
        _current(lambda supply, earlier: supply.channel(earlier).current_bounds, optional=True),
    )
    def _apply(self, name: str, volts: float, amps: float | None = None) -> None:
        channel = self._channels[name]
        channel.voltage = volts
        channel.current = channel.current if amps is None else amps
        self.drive(channel)

    @query("[SOURce:]APPLy", replace(CHANNEL, optional=True))
    def _ask_applied(self, name: str | None = None) -> str:
        channel = self.selected if name is None else self._channels[name]
        return f"{_number(channel.voltage)}, {_number(channel.current)}"

    def channel(self, earlier: Sequence[str]) -> Channel:
        """Channel that the parameters before this one name."""
        return self._channels[earlier[0]]

    @command("[SOURce:]VOLTage:LIMit[:LEVel]", _voltage(lambda supply, _: supply.selected.limit_bounds))
    def _set_limit(self, volts: float) -> None:
        if self.selected.limit_on and volts < self.selected.voltage:
            raise ScpiError(-221)
        self.selected.limit = volts

    @query("[SOURce:]VOLTage:LIMit[:LEVel]")
    def _ask_limit(self) -> str:
        return _number(self.selected.limit)

    @command("[SOURce:]VOLTage:LIMit:STATe", Boolean())
    def _set_limit_state(self, on: bool) -> None:
        if on and self.selected.limit < self.selected.voltage:
            raise ScpiError(-221)
        self.selected.limit_on = on

    @query("[SOURce:]VOLTage:LIMit:STATe")
    def _ask_limit_state(self) -> str:
        return show(self.selected.limit_on)

    @command("[SOURce:]CHANnel:OUTPut[:STATe]", Boolean())
    def _switch_selected(self, on: bool) -> None:
        if on and not self.selected.enabled:
            raise ScpiError(-221)
        self.selected.on = on
        self.drive(self.selected)

    @query("[SOURce:]CHANnel:OUTPut[:STATe]")
    def _ask_selected(self) -> str:
        return show(self.selected.on)

    @command("[SOURce:]OUTPut[:STATe][:ALL]", Boolean())
    def _switch_all(self, on: bool) -> None:
        for channel in self._channels.values():
            channel.on = on and channel.enabled
            self.drive(channel)

    @query("[SOURce:]OUTPut[:STATe][:ALL]")
    def _ask_all(self) -> str:
        return show(any(channel.on for channel in self._channels.values()))

    @command("[SOURce:]OUTPut:ENABle", Boolean())
    def _enable_selected(self, enabled: bool) -> None:
        self.selected.enabled = enabled
        self.selected.on = self.selected.on and enabled
        self.drive(self.selected)

    @query("[SOURce:]OUTPut:ENABle")
    def _ask_enabled(self) -> str:
        return show(self.selected.enabled)

    @query("MEASure[:SCALar][:VOLTage][:DC]", CHANNEL_OR_ALL)
    @query("FETCh[:SCALar][:VOLTage][:DC]", CHANNEL_OR_ALL)
    def _measure_voltage(self, name: str | None = None) -> str:
        return self._measured(name, self._volts)

    @query("MEASure[:SCALar]:CURRent[:DC]", CHANNEL_OR_ALL)
    @query("FETCh[:SCALar]:CURRent[:DC]", CHANNEL_OR_ALL)
    def _measure_current(self, name: str | None = None) -> str:
        return self._measured(name, self._amps)

    @query("MEASure[:SCALar]:POWer[:DC]", CHANNEL_OR_ALL)
    @query("FETCh[:SCALar]:POWer[:DC]", CHANNEL_OR_ALL)
    def _measure_power(self, name: str | None = None) -> str:
        return self._measured(name, lambda channel: self._volts(channel) * self._amps(channel))

    def _measured(self, name: str | None, measure: Callable[[Channel], float]) -> str:
        names = CHANNELS if name == "ALL" else (self.selected_name if name is None else name,)
        return ", ".join(_number(round(measure(self._channels[name]), DECIMALS) + 0.0) for name in names)

    def _volts(self, channel: Channel) -> float:
        return channel.terminal_v + self._noise()

    def _amps(self, channel: Channel) -> float:
        return self._world.channel_current(channel.number) + self._noise()

    def _noise(self) -> float:
        return float(self._generator.normal(0.0, READ_BACK_NOISE))

    @query("STATus:QUEStionable:INSTrument:ISUMmary<n>:CONDition")
    def _ask_regulation(self, number: int) -> str:
        """1 in constant current, 2 in constant voltage, 0 when off, as in the E3631A's register of that name."""
        if f"CH{number}" not in self._channels:
            raise ScpiError(-114)
        channel = self._channels[f"CH{number}"]
        return str((1 if channel.constant_current else 2) if channel.on else 0)

    @query("INSTrument:COMBine")
    def _ask_combination(self) -> str:
        return "NONE"

    @command("SYSTem:REMote")
    @command("SYSTem:LOCal")
    @command("SYSTem:RWLock")
    @command("SYSTem:BEEPer[:IMMediate]")
    @command("[SOURce:]OUTPut:PROTection:CLEar")
    @command("INSTrument:COMBine:OFF")
    def _without_effect(self) -> None:
        """The front panel is nobody's, no protection ever trips, and the channels are always independent."""


class Keithley2230GServer(InstrumentServer):
    """The supply on a loopback port.

    Args:
        world: rails that the outputs are wired to.
        generator: read-back noise.
        port: TCP port; 0 for any free one.
    """

    def __init__(self, world: World, generator: np.random.Generator, port: int = 0) -> None:
        super().__init__(Keithley2230G(world, generator), port)
