"""Simulated Keysight 81160A and 33522B: generators whose first output is wired to the chip's direct-access pads.

Commands after the user's guides (81160-91020, 33500-90901) and after clients of the real instruments; both are the same
generator behind two tables of headers. What a real one does to a chip is what its settings say and not what its user
meant: told that its load is 50 ohm, it puts twice the programmed level on a device of many kiloohm; with its output on
and not waiting for a trigger it pulses without end.

Proposed, for want of a source: a trigger that nobody waits for is ignored, a free-running train is one pulse each time
that something about it changes, pulses act at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from drivers.simulated.keysight_81160a_state import MODEL_33522B, MODEL_81160A, SOURCE_OHM, WINDOW_V, Model, State
from drivers.simulated.scpi import (
    Boolean,
    Bounds,
    Choice,
    InstrumentServer,
    Number,
    ScpiError,
    ScpiInstrument,
    Setting,
    command,
    show,
)

if TYPE_CHECKING:
    from drivers.simulated.world import World

SHORT_CIRCUIT_A = 2 * WINDOW_V / SOURCE_OHM
"""What the output gives at most: into a short circuit."""

CHANNELS = (1, 2)
WIRED = 1
"""Channel that is on the pads; nothing is on the other one."""


@dataclass(frozen=True)
class Load:
    """A load in ohm, or INFinity where the model knows it."""

    optional: bool = False

    def parse(self, text: str, instrument: Any, earlier: Sequence[Any]) -> float:
        """The load; infinite for an open end. Raises ScpiError."""
        model: Model = instrument.MODEL
        if text.upper() in ("INF", "INFINITY") and model.open_load:
            return math.inf
        return Number(model.load, "OHM").parse(text, instrument, earlier)


class Channel:
    """One output: reading an attribute gives a setting, writing one changes it or raises ScpiError.

    Args:
        model: its ranges.
        changed: gets the settings before and after a change.
    """

    def __init__(self, model: Model, changed: Callable[[State, State], None]) -> None:
        vars(self).update(_model=model, _changed=changed, state=State())

    def __getattr__(self, name: str) -> Any:
        asked = self.state.asked
        return asked[name] if name in asked else getattr(self.state, name)

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.state
        after = before.having(name, value)
        after.check(self._model)
        vars(self)["state"] = after
        self._changed(before, after)

    def reset(self) -> None:
        """Everything at its *RST value: a sine of 0.1 V, output off."""
        before, vars(self)["state"] = self.state, State()
        self._changed(before, self.state)


def _channel(generator: PulseGenerator, number: int) -> Channel:
    return generator.channel(number)


def _by_model(name: str) -> Callable[[Any, Sequence[Any]], Bounds]:
    return lambda generator, where: getattr(generator.MODEL, name)


def _real(value: float) -> str:
    return "9.9000000000000E+37" if math.isinf(value) else f"{value + 0.0:+.13E}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


HERTZ = Number(Bounds(1e-6, 5e8, 1e6), "HZ")
VOLTS = Number(Bounds(-2 * WINDOW_V, 2 * WINDOW_V, 0.0), "V")
SHAPES = ("SINusoid", "SQUare", "RAMP", "PULSe", "NOISe", "DC", "USER", "ARB")
SOURCES = ("IMMediate", "INTernal2", "EXTernal", "MANual", "BUS", "TIMer")

PARAMETERS: Mapping[str, tuple[Number | Boolean | Choice | Load, Callable[[Any], str]]] = {
    "shape": (Choice(SHAPES), show),
    "frequency": (HERTZ, _real),
    "amplitude": (VOLTS, _real),
    "offset": (VOLTS, _real),
    "high": (VOLTS, _real),
    "low": (VOLTS, _real),
    "limit_high": (VOLTS, _real),
    "limit_low": (VOLTS, _real),
    "limited": (Boolean(), show),
    "period": (Number(_by_model("period"), "S"), _real),
    "width": (Number(_by_model("width"), "S"), _real),
    "edges": (Number(_by_model("edge"), "S"), _real),
    "leading": (Number(_by_model("edge"), "S"), _real),
    "trailing": (Number(_by_model("edge"), "S"), _real),
    "delay": (Number(_by_model("delay"), "S"), _real),
    "load": (Load(), _real),
    "source_ohm": (Number(Bounds(50.0, 50.0, 50.0), "OHM"), _real),
    "polarity": (Choice(("NORMal", "INVerted")), show),
    "burst": (Boolean(), show),
    "burst_mode": (Choice(("TRIGgered", "GATed")), show),
    "burst_period": (Number(Bounds(1e-9, 1e6, 1e-2), "S"), _real),
    "train": (Number(_by_model("train"), digits=0), _whole),
    "triggered": (Number(Bounds(1, 2147483647, 1), digits=0), _whole),
    "source": (Choice(SOURCES), show),
    "on": (Boolean(), show),
    "unit": (Choice(("VPP",)), show),
    "autorange": (Boolean(), show),
    "phase": (Number(Bounds(-360.0, 360.0, 0.0)), _real),
    "hold": (Choice(("WIDTh", "DCYCle")), show),
    "square_duty": (Number(Bounds(0.01, 99.99, 50.0)), _real),
    "symmetry": (Number(Bounds(0.0, 100.0, 100.0)), _real),
    "slope": (Choice(("POSitive", "NEGative", "EITHer")), show),
}


def _table(headers: Mapping[str, Sequence[str]]) -> Sequence[Setting]:
    """Settings under the headers of one family; the two kinds of parameter that are no numbers are used like them."""
    return [
        Setting(header, PARAMETERS[name][0], _channel, name, PARAMETERS[name][1])  # type: ignore[arg-type]
        for name, spellings in headers.items()
        for header in spellings
    ]


class PulseGenerator(ScpiInstrument):
    """A generator of two channels. The first one forces ``world.force_pads``.

    Args:
        world: whose direct-access pads the first output is wired to.
    """

    MODEL: ClassVar[Model]

    def __init__(self, world: World) -> None:
        self._world = world
        self._channels = {
            number: Channel(self.MODEL, self._follow if number == WIRED else lambda before, after: None)
            for number in CHANNELS
        }
        super().__init__(world.lock)

    def reset(self) -> None:
        """Outputs off, sines, nothing waits for a trigger."""
        for channel in self._channels.values():
            channel.reset()

    def channel(self, number: int) -> Channel:
        """One of the outputs; raises ScpiError -114 for others."""
        if number not in self._channels:
            raise ScpiError(-114)
        return self._channels[number]

    def _waits(self, state: State) -> bool:
        return state.source in ("MAN", "BUS") and (state.burst or not self.MODEL.burst_needed)

    def _follow(self, before: State, after: State) -> None:
        """Let the pads follow the settings."""
        if after.on and not self._waits(after):
            self._pads(after.peak_v)
        if after.rest_v != before.rest_v or (after.on and not self._waits(after)):
            self._pads(after.rest_v)

    def _pads(self, volts: float) -> None:
        self._world.force_pads(volts, SHORT_CIRCUIT_A)

    @command("*TRG")
    @command("TRIGger<n>")
    def _trigger(self, number: int = WIRED) -> None:
        state = self._channels[WIRED].state
        if not state.on or not self._waits(state) or number != WIRED:
            return
        for _ in range(int(state.train) if state.burst else 1):
            self._pads(state.peak_v)
        self._pads(state.rest_v)

    def _apply(self, number: int, hertz: float, volts: float, offset: float) -> None:
        """Pulse without end: shape, frequency, amplitude and offset at once, and the output on."""
        channel = self.channel(number)
        channel.on, channel.burst, channel.source, channel.shape = False, False, "IMM", "PULS"
        channel.frequency, channel.amplitude, channel.offset = hertz, volts, offset
        channel.on = True

    @command("SYSTem:BEEPer[:IMMediate]")
    @command("ABORt")
    def _without_effect(self) -> None:
        """Nobody hears it, and a train has always ended before the next command is read."""


class Keysight81160A(PulseGenerator):
    """An 81160A: the number of the channel stands inside its headers."""

    IDENTITY = "Agilent Technologies,81160A,MY51400001,1.0.3.0-2.6"
    MODEL = MODEL_81160A
    SETTINGS = _table(
        {
            "shape": ["[SOURce:]FUNCtion<n>[:SHAPe]"],
            "frequency": ["[SOURce:]FREQuency<n>", "[SOURce:]PULSe:FREQuency<n>"],
            "amplitude": ["[SOURce:]VOLTage<n>[:LEVel][:IMMediate][:AMPLitude]"],
            "offset": ["[SOURce:]VOLTage<n>[:LEVel][:IMMediate]:OFFSet"],
            "high": ["[SOURce:]VOLTage<n>[:LEVel][:IMMediate]:HIGH"],
            "low": ["[SOURce:]VOLTage<n>[:LEVel][:IMMediate]:LOW"],
            "limit_high": ["[SOURce:]VOLTage<n>:LIMit[:HIGH]"],
            "limit_low": ["[SOURce:]VOLTage<n>:LIMit:LOW"],
            "limited": ["[SOURce:]VOLTage<n>:LIMit:STATe"],
            "period": ["[SOURce:]PULSe:PERiod<n>"],
            "width": ["[SOURce:]PULSe:WIDTh<n>", "[SOURce:]FUNCtion<n>:PULSe:WIDTh"],
            "edges": ["[SOURce:]FUNCtion<n>:PULSe:TRANsition"],
            "leading": ["[SOURce:]PULSe:TRANsition<n>[:LEADing]"],
            "trailing": ["[SOURce:]PULSe:TRANsition<n>:TRAiling"],
            "delay": ["[SOURce:]PULSe:DELay<n>"],
            "load": ["OUTPut<n>:LOAD", "OUTPut<n>:IMPedance:EXTernal"],
            "source_ohm": ["OUTPut<n>:IMPedance[:INTernal]"],
            "polarity": ["OUTPut<n>:POLarity"],
            "burst": ["[SOURce:]BURSt<n>:STATe"],
            "burst_mode": ["[SOURce:]BURSt<n>:MODE"],
            "burst_period": ["[SOURce:]BURSt<n>:INTernal:PERiod"],
            "train": ["[SOURce:]BURSt<n>:NCYCles"],
            "triggered": ["TRIGger<n>:COUNt"],
            "source": ["ARM:SOURce<n>"],
            "on": ["OUTPut<n>[:STATe]"],
            "unit": ["[SOURce:]VOLTage<n>:UNIT"],
            "autorange": ["[SOURce:]VOLTage<n>:RANGe:AUTO"],
            "phase": ["[SOURce:]PHASe<n>"],
            "hold": ["[SOURce:]PULSe:HOLD<n>"],
            "square_duty": ["[SOURce:]FUNCtion<n>:SQUare:DCYCle"],
            "symmetry": ["[SOURce:]FUNCtion<n>:RAMP:SYMMetry"],
            "slope": ["ARM:SLOPe<n>"],
        }
    )

    @command("APPLy<n>:PULSe", HERTZ, VOLTS, VOLTS)
    def _apply_pulse(self, number: int, hertz: float, volts: float, offset: float) -> None:
        self._apply(number, hertz, volts, offset)


class Keysight33522B(PulseGenerator):
    """A 33522B: the number of the channel stands behind the first node of its headers."""

    IDENTITY = "Agilent Technologies,33522B,MY57800001,5.00-1.19-2.00-58-00"
    MODEL = MODEL_33522B
    SETTINGS = _table(
        {
            "shape": ["[SOURce<n>:]FUNCtion[:SHAPe]"],
            "frequency": ["[SOURce<n>:]FREQuency[:FIXed]"],
            "amplitude": ["[SOURce<n>:]VOLTage[:LEVel][:IMMediate][:AMPLitude]"],
            "offset": ["[SOURce<n>:]VOLTage[:LEVel][:IMMediate]:OFFSet"],
            "high": ["[SOURce<n>:]VOLTage[:LEVel][:IMMediate]:HIGH"],
            "low": ["[SOURce<n>:]VOLTage[:LEVel][:IMMediate]:LOW"],
            "limit_high": ["[SOURce<n>:]VOLTage:LIMit:HIGH"],
            "limit_low": ["[SOURce<n>:]VOLTage:LIMit:LOW"],
            "limited": ["[SOURce<n>:]VOLTage:LIMit:STATe"],
            "period": ["[SOURce<n>:]FUNCtion:PULSe:PERiod"],
            "width": ["[SOURce<n>:]FUNCtion:PULSe:WIDTh"],
            "edges": ["[SOURce<n>:]FUNCtion:PULSe:TRANsition[:BOTH]"],
            "leading": ["[SOURce<n>:]FUNCtion:PULSe:TRANsition:LEADing"],
            "trailing": ["[SOURce<n>:]FUNCtion:PULSe:TRANsition:TRAiling"],
            "delay": ["TRIGger<n>:DELay"],
            "load": ["OUTPut<n>:LOAD"],
            "polarity": ["OUTPut<n>:POLarity"],
            "burst": ["[SOURce<n>:]BURSt:STATe"],
            "burst_mode": ["[SOURce<n>:]BURSt:MODE"],
            "burst_period": ["[SOURce<n>:]BURSt:INTernal:PERiod"],
            "train": ["[SOURce<n>:]BURSt:NCYCles"],
            "source": ["TRIGger<n>:SOURce"],
            "on": ["OUTPut<n>[:STATe]"],
            "unit": ["[SOURce<n>:]VOLTage:UNIT"],
            "autorange": ["[SOURce<n>:]VOLTage:RANGe:AUTO"],
            "phase": ["[SOURce<n>:]PHASe"],
            "hold": ["[SOURce<n>:]FUNCtion:PULSe:HOLD"],
            "square_duty": ["[SOURce<n>:]FUNCtion:SQUare:DCYCle"],
            "symmetry": ["[SOURce<n>:]FUNCtion:RAMP:SYMMetry"],
            "slope": ["TRIGger<n>:SLOPe"],
        }
    )

    @command("[SOURce<n>:]APPLy:PULSe", HERTZ, VOLTS, VOLTS)
    def _apply_pulse(self, number: int, hertz: float, volts: float, offset: float) -> None:
        self._apply(number, hertz, volts, offset)


class Keysight81160AServer(InstrumentServer):
    """An 81160A on a loopback port.

    Args:
        world: whose direct-access pads the first output is wired to.
        port: TCP port; 0 for any free one.
    """

    def __init__(self, world: World, port: int = 0) -> None:
        super().__init__(Keysight81160A(world), port)


class Keysight33522BServer(InstrumentServer):
    """A 33522B on a loopback port.

    Args:
        world: whose direct-access pads the first output is wired to.
        port: TCP port; 0 for any free one.
    """

    def __init__(self, world: World, port: int = 0) -> None:
        super().__init__(Keysight33522B(world), port)
