"""Keysight 81160A and the 33500B family: pulse sources for direct access (user's guides 81160-91020 and 33500-90901).

Both are function generators that are held in one function here: pulses that wait for a trigger from the bus. They
differ in the spelling of their commands, which the two register tables show side by side, and in their ranges.

Levels are voltages at the load that the instrument is told to expect. It cannot measure that load: told 50 ohm and
connected to a device of many kiloohm, it puts twice the voltage there. So the load has to be given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from drivers.errors import InDoubt, LimitError, WrongInstrument
from drivers.keysight_81160a_registers import (
    CHANNEL,
    Polarity,
    PulseLimits,
    PulseRanges,
    Registers33500B,
    Registers81160A,
    Waveform,
    level_step,
    time_step,
)
from drivers.limits import Range
from drivers.pulse_source_role import DeviceIndex, ProgrammedPulse, PulseShape, SetValue
from drivers.roles import Identity
from drivers.scpi import Link, ScpiInstrument
from drivers.scpi_settings import Change
from drivers.scpi_text import format_number, parse_bool, parse_float
from models.exceptions import BenchFailure

MAKERS = ("AGILENT", "KEYSIGHT")
"""The same models were sold under both names."""

LEVELS = ("base_v", "top_v")
"""Quantities of a pulse that are voltages; the others are times."""

HALF_EDGE = 0.625
"""Half of a whole edge as a part of its 10 % to 90 % time."""


NARROW = 1.25
"""Amplitude over the smallest one while the limits and the load are set."""


class KeysightPulseSource(ScpiInstrument):
    """One channel of a Keysight generator in the role of a pulse source; use one of the models below.

    The first exchange with it, and the first after a lost link, switches the channel off, makes it wait for triggers
    from the bus and programs the envelope into the instrument's own level limits. A trigger from the bus reaches every
    channel that waits for one.

    Args:
        link: an open link.
        limits: the bench file's envelope.
        serial: serial number that must answer; None accepts any.
        load_ohm: what the output is connected to, in ohm.
        channel: number of the output.
        sleep: waits for so many seconds, until a train has ended.
    """

    maker = ""
    ranges: ClassVar[PulseRanges]
    registers: ClassVar[type[Registers81160A]]

    def __init__(
        self,
        link: Link,
        limits: PulseLimits,
        serial: str | None = None,
        *,
        load_ohm: float,
        channel: int = 1,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if isinstance(channel, bool) or not isinstance(channel, int) or channel not in (1, 2):
            raise LimitError(f"{self.name}: channel {channel!r} is refused; allowed are 1 and 2")
        super().__init__(link, serial, (f"OUTP{channel} 0",))
        self.channel = self.registers(self, channel, self.ranges, limits, load_ohm)
        self._wiring = self.registers.load.change(self.channel, load_ohm)
        reach = self.ranges.window_v * self.channel.gain
        self._highest, self._lowest = min(limits.level.high, reach), max(limits.level.low, -reach)
        self._smallest_v = self.ranges.amplitude_v[0] * self.channel.gain
        if self._highest - self._lowest < self._smallest_v:
            raise LimitError(
                f"{self.name}: the envelope {limits.level} has no room for its smallest pulse of {self._smallest_v:g} V"
            )
        self._sleep = sleep
        self._programmed: ProgrammedPulse | None = None

    @property
    def programmed(self) -> ProgrammedPulse | None:
        """Return what the next trigger emits, as it read back; None when that is not known."""
        return self._programmed

    def set_pulse(self, shape: PulseShape, count: int = 1, period_s: float | None = None) -> ProgrammedPulse:
        """Set what one trigger emits, check the read-back, and return it. The output stays as it is.

        While the output is on, the base level and the direction of the pulse cannot change: they stand at the pads.

        Args:
            shape: levels at the load in V, times in s.
            count: pulses of one train.
            period_s: from pulse to pulse, in s; needed for more than one.

        Raises:
            LimitError: outside the instrument's ranges or the envelope; nothing is sent.
            InstrumentError: the instrument refused it.
            ReadBackError: a setting reads back as something else.
            BenchFailure: the output is on and the base level or the direction would change.
        """
        table, channel = self.registers, self.channel
        actual: dict[str, float] = {}

        def recorded(change: Change, name: str) -> Change:
            def confirm(reply: str) -> None:
                change.confirm(reply)
                actual[name] = parse_float(reply)

            return channel.instrument.numbered(replace(change, confirm=confirm))

        period = self._period(shape, count, period_s)
        negative = shape.top_v < shape.base_v
        upper, lower = (shape.base_v, shape.top_v) if negative else (shape.top_v, shape.base_v)
        times = [
            recorded(table.period.change(channel, period), "period_s"),
            recorded(table.width.change(channel, shape.width_s), "width_s"),
            recorded(table.leading.change(channel, shape.leading_s), "leading_s"),
            recorded(table.trailing.change(channel, shape.trailing_s), "trailing_s"),
            recorded(table.delay.change(channel, shape.delay_s), "delay_s"),
            recorded(table.count.change(channel, count), "count"),
        ]
        high = recorded(table.high.change(channel, upper), "base_v" if negative else "top_v")
        low = recorded(table.low.change(channel, lower), "top_v" if negative else "base_v")
        table.amplitude.change(channel, upper - lower)
        self._check_edges(shape, period)
        direction = Polarity.INVERTED if negative else Polarity.NORMAL
        turned = channel.instrument.numbered(table.polarity.change(channel, direction))
        with self._identified():
            before, self._programmed = self._programmed, None
            if self._same_rest(before, shape):
                # Only the level that the output does not rest at moves.
                self.send(self._widest_timing())
                self.apply(low if negative else high, high if negative else low, *times)
            else:
                if self.ask(f"OUTP{channel.number}?", parse_bool):
                    self._programmed = before
                    raise BenchFailure(
                        f"{channel.label}: the output is on, and another base level or direction would stand at the "
                        "pads at once; switch it off first"
                    )
                self.send(f"{self._narrowest_levels((upper + lower) / 2)};:{self._widest_timing()}")
                self.apply(turned, high, low, *times)
            self._programmed = self._as_programmed({**vars(shape), "period_s": period}, actual)
        return self._programmed

    def set_output(self, on: bool) -> None:
        """Set the output on (True), where it stands at the base level, or off (False), and check the read-back.

        Raises:
            LimitError: neither True nor False.
            BenchFailure: it is to be switched on and no pulse has been programmed: its level would be anybody's.
        """
        change = self.registers.output.change(self.channel, on)
        with self._identified():
            if on:
                self._need_pulse()
            self.channel.instrument.apply(change)

    def output(self) -> bool:
        """Read whether the output is on."""
        return self.channel.output

    def trigger(self, acting_on: Sequence[DeviceIndex] = ()) -> None:
        """Send the trigger for the programmed pulses once, and return when the last one has ended.

        Args:
            acting_on: devices at the pads, to be named should it remain unknown whether the pulses came.

        Raises:
            BenchFailure: nothing was sent: no pulse is programmed, or the output is off.
            InDoubt: the trigger was sent, and what came back does not say that it acted. It is never repeated.
        """
        with self._identified():
            pulse = self._need_pulse()
            if not self.channel.output:
                raise BenchFailure(f"{self.channel.label}: the output is off; switch it on before the trigger")
            try:
                self.link.write("*TRG")
                self._sleep(pulse.duration_s)
                self.ask("*OPC?", parse_bool, self.link.timeout_s + pulse.duration_s)
                errors = self._drained()
            except BenchFailure as error:
                raise InDoubt(f"{self.channel.label}: after its trigger was sent: {error}", list(acting_on)) from error
            if errors:
                said = "; ".join(f'{code}, "{text}"' for code, text in errors)
                raise InDoubt(f"{self.channel.label}: the trigger was answered by {said}", list(acting_on))

    def _as_programmed(self, asked: dict[str, float], actual: dict[str, float]) -> ProgrammedPulse:
        values = {}
        for name, value in asked.items():
            step = (level_step if name in LEVELS else time_step)(self.channel, value)
            values[name] = SetValue(value + 0.0, actual[name], step, "V" if name in LEVELS else "s")
        return ProgrammedPulse(**values, count=int(actual["count"]))

    def _need_pulse(self) -> ProgrammedPulse:
        if self._programmed is None:
            raise BenchFailure(f"{self.channel.label}: no pulse is programmed since it was connected; set one first")
        return self._programmed

    def _period(self, shape: PulseShape, count: int, period_s: float | None) -> float:
        channel = self.channel
        if not isinstance(shape, PulseShape):
            raise LimitError(f"{channel.label}: {shape!r} is no pulse shape")
        for name, value in vars(shape).items():
            finite = Range(-math.inf, math.inf, "V" if name in LEVELS else "s", self.name)
            finite.check(value, f"{channel.label}: {name}")
        if channel.limits.count.check_int(count, f"{channel.label}: count") > 1 and period_s is None:
            raise LimitError(f"{channel.label}: a train of {count} pulses needs a period in s")
        if period_s is not None:
            return period_s
        # A single pulse has no period; the instrument wants one all the same, with room for the pulse.
        room = 2 * (shape.width_s + shape.leading_s + shape.trailing_s)
        return max(float(f"{room:.3g}"), channel.ranges.period.low)

    def _check_edges(self, shape: PulseShape, period: float) -> None:
        edges = HALF_EDGE * (shape.leading_s + shape.trailing_s)
        label = self.channel.label
        if edges > shape.width_s:
            raise LimitError(
                f"{label}: edges of {shape.leading_s:g} s and {shape.trailing_s:g} s do not fit into a width of "
                f"{shape.width_s:g} s; it must be {edges:g} s at least"
            )
        if shape.width_s + edges > period:
            raise LimitError(f"{label}: a period of {period:g} s is too short; {shape.width_s + edges:g} s are needed")

    def _same_rest(self, before: ProgrammedPulse | None, shape: PulseShape) -> bool:
        if before is None:
            return False
        same_direction = (before.top_v.asked < before.base_v.asked) == (shape.top_v < shape.base_v)
        return before.base_v.asked == shape.base_v and same_direction

    def _narrowest_levels(self, middle_v: float) -> str:
        """Levels that no later setting of one of the two can conflict with."""
        changes = [
            # A little more than the smallest: the instrument rounds both levels, and may not round it to less.
            self.registers.amplitude.change(self.channel, NARROW * self._smallest_v),
            self.registers.offset.change(self.channel, middle_v),
        ]
        return ";:".join(self.channel.instrument.numbered(change).command for change in changes)

    def _widest_timing(self) -> str:
        """Edges and a width so short that no period, width or edge can conflict with them."""
        width, edge = format_number(self.ranges.width.low), format_number(self.ranges.edge.low)
        table, number = self.registers, str(self.channel.number)
        settings = ((table.leading, edge), (table.trailing, edge), (table.width, width))
        return ";:".join(f"{setting.header.replace(CHANNEL, number)} {text}" for setting, text in settings)

    def _prepare(self) -> None:
        self._programmed = None
        # A level left behind by others must not be there when the load or the limits change.
        self.send(self._off[0])
        self._confirm_off()
        table, channel = self.registers, self.channel
        numbered = channel.instrument.numbered
        self.apply(
            numbered(table.limit_on.change(channel, False)),
            numbered(self._wiring),
            numbered(table.waveform.change(channel, Waveform.PULSE)),
        )
        self.send(self._narrowest_levels((self._highest + self._lowest) / 2))
        self.apply(
            numbered(table.limit_high.change(channel, self._highest)),
            numbered(table.limit_low.change(channel, self._lowest)),
            numbered(table.limit_on.change(channel, True)),
            *map(numbered, channel.triggering()),
        )

    def _ask_identity(self) -> Identity:
        identity = super()._ask_identity()
        if not identity.manufacturer.upper().startswith(MAKERS):
            raise WrongInstrument(f"{self.link.resource}: {identity} answers, expected a {self.name}")
        return identity

    def _not_off(self) -> list[str]:
        on = self.ask(f"OUTP{self.channel.number}?", parse_bool)
        return [f"channel {self.channel.number} is on"] if on else []


class Keysight81160A(KeysightPulseSource):
    """A Keysight (or Agilent) 81160A in the role of a pulse source."""

    name = "Keysight 81160A"
    models = frozenset({"81160A"})
    registers = Registers81160A
    ranges = PulseRanges(
        window_v=5.0,
        amplitude_v=(0.05, 5.0),
        width=Range(1.5e-9, 1e6, "s", name),
        edge=Range(1e-9, 1e3, "s", name),
        period=Range(3.03e-9, 1e6, "s", name),
        delay=Range(0.0, 1e6, "s", name),
        count=Range(1, 2147483647, "pulses", name),
        time_step_s=1e-11,
        load=Range(0.3, 1e6, "ohm", name),
        open_load=False,
    )


class Keysight33500B(KeysightPulseSource):
    """A Keysight (or Agilent) generator of the 33500B family in the role of a pulse source."""

    name = "Keysight 33500B"
    models = frozenset({"33509B", "33510B", "33511B", "33512B", "33519B", "33520B", "33521B", "33522B"})
    registers = Registers33500B
    ranges = PulseRanges(
        window_v=5.0,
        amplitude_v=(1e-3, 10.0),
        width=Range(16e-9, 1e6, "s", name),
        edge=Range(8.4e-9, 1e-6, "s", name),
        period=Range(33e-9, 1e6, "s", name),
        delay=Range(0.0, 1e3, "s", name),
        count=Range(1, 100_000_000, "pulses", name),
        time_step_s=1e-10,
        load=Range(1.0, 1e4, "ohm", name),
        open_load=True,
    )
