"""Guests: a driver object of another library behind our roles, with our limits in front and a read-back behind.

A guest is any object whose settings are attributes, as PyMeasure's are (``channel.voltage_setpoint = 1.0``), or
callable parameters, as QCoDeS's are (``channel.voltage(1.0)``). Nothing of those libraries is imported here. What they
leave out is added: a value is checked against the envelope before the guest hears of it, and NaN, overflows and bools
are refused; every setting is read back; a call never crosses another thread's; safe-off isolates its steps.

A guest keeps its own link, so that a late reply may still answer the next question: our own drivers see that, a guest
does not. Where we have a driver of our own, use it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from numbers import Real
from typing import Any

from drivers.errors import LimitError, ReadBackError, ReplyError, WrongInstrument
from drivers.limits import ChannelLimits, Range, SmuLimits
from drivers.roles import ChannelReading, Identity, Measurement
from drivers.scpi_text import OVERFLOW
from models.exceptions import BenchFailure, RramBenchError, UserMistake

CYCLES = Range(0.001, 25.0, "power-line cycles", "the guest's adapter")

Read = Callable[[], Any]
Write = Callable[[Any], object]


@dataclass(frozen=True)
class Knob:
    """One setting or reading of a guest.

    Attributes:
        name: for messages.
        read: asks the guest.
        write: tells the guest; None for what can only be read.
    """

    name: str
    read: Read
    write: Write | None = None


def knob(guest: object, path: str) -> Knob:
    """Find a setting of a guest by its dotted name, e.g. ``ch_1.voltage_setpoint``.

    Raises:
        UserMistake: the guest has no such attribute; to set it would only make a new one that no instrument hears of.
    """
    *parents, last = path.split(".")
    try:
        owner = reduce(getattr, parents, guest)
        # Asked of the class first: to ask an object for a property is to ask the instrument.
        parameter = None if isinstance(getattr(type(owner), last, None), property) else getattr(owner, last)
    except AttributeError:
        raise UserMistake(f"the guest {type(guest).__name__} has no {path!r}; see its own documentation") from None
    if callable(parameter):
        return Knob(path, parameter, parameter)
    return Knob(path, lambda: getattr(owner, last), lambda value: setattr(owner, last, value))


class Guest:
    """What all guests share: one at a time, their exceptions as ours, their identity.

    Args:
        guest: the driver object, connected.
        model: must occur in the model that it gives of itself; None accepts any.
        close: disconnects it; ``guest.close`` or ``guest.adapter.close`` by default.
    """

    def __init__(self, guest: Any, model: str | None, close: Callable[[], object] | None) -> None:
        self._guest = guest
        self._model = model
        self._close = close
        self._lock = threading.RLock()

    @property
    def label(self) -> str:
        """Return the guest's class, for messages."""
        return f"guest {type(self._guest).__name__}"

    def identify(self) -> Identity:
        """Ask who is there: ``get_idn()`` as QCoDeS has it, or ``id`` as PyMeasure has it.

        Raises:
            WrongInstrument: another model than expected.
        """
        with self._calling("ask who is there"):
            told = self._guest.get_idn() if hasattr(self._guest, "get_idn") else self._guest.id
        if isinstance(told, Mapping):
            parts = [str(told.get(key)) for key in ("vendor", "model", "serial", "firmware")]
        else:
            parts = [part.strip() for part in str(told).split(",", 3)]
        if len(parts) != 4 or not all(parts):
            raise ReplyError(f"{self.label}: {told!r} is not maker, model, serial number and firmware")
        identity = Identity(*parts)
        if self._model is not None and self._model not in identity.model:
            raise WrongInstrument(f"{self.label}: {identity} answers, expected a {self._model}; correct the address")
        return identity

    def close(self) -> None:
        """Disconnect. Does not touch the outputs."""
        with self._calling("close"):
            if self._close is not None:
                self._close()
            elif hasattr(self._guest, "close"):
                self._guest.close()
            else:
                self._guest.adapter.close()

    @contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except RramBenchError:
                raise
            except Exception as error:  # a guest may raise anything
                raise BenchFailure(f"{self.label}: {what}: {type(error).__name__}: {error}") from error

    def _set(self, control: Knob, value: float, resolution: float) -> None:
        """Set a number that was checked, and read it back."""
        write = control.write
        assert write is not None
        with self._calling(f"{control.name} = {value:g}"):
            write(value)
            back = self._number(control)
            if abs(back - value) > resolution:
                raise ReadBackError(
                    f"{self.label}: {control.name} was set to {value:g} and reads back {back:g}; "
                    f"{resolution:g} is the largest difference allowed"
                )

    def _switch(self, control: Knob, on: bool) -> None:
        if not isinstance(on, bool):
            raise LimitError(f"{self.label}: {control.name}: {on!r} is refused; True (on) and False (off) are allowed")
        write = control.write
        assert write is not None
        with self._calling(f"{control.name} = {on}"):
            write(on)
            if self._state(control) != on:
                raise ReadBackError(f"{self.label}: {control.name} was set to {on} and reads back {not on}")

    def _take_down(self, *steps: Callable[[], None]) -> None:
        failed = []
        with self._lock:
            for step in steps:
                try:
                    step()
                except BenchFailure as error:
                    failed.append(str(error))
        if failed:
            raise BenchFailure(f"{self.label}: not at 0 V and off: {'; '.join(failed)}; switch it off by hand")

    def _number(self, reading: Knob) -> float:
        with self._calling(f"read {reading.name}"):
            value = reading.read()
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ReplyError(f"{self.label}: {reading.name} reads {value!r}, which is not one number")
        number = float(value)
        if not math.isfinite(number) or abs(number) >= OVERFLOW:
            raise ReplyError(f"{self.label}: {reading.name} reads {number:g}, which is beyond the instrument's range")
        return number + 0.0

    def _state(self, reading: Knob) -> bool:
        with self._calling(f"read {reading.name}"):
            value = reading.read()
        states = {0: False, 1: True, "0": False, "1": True, "off": False, "on": True}
        key = value.strip().lower() if isinstance(value, str) else value
        try:
            return states[key]
        except (KeyError, TypeError):
            raise ReplyError(f"{self.label}: {reading.name} reads {value!r}, which is neither on nor off") from None


@dataclass(frozen=True)
class GuestChannel:
    """One channel of a guest that is a supply.

    Attributes:
        voltage, current_limit, output: settings; ``output`` is what really connects the terminals.
        measured_voltage, measured_current: readings at the terminals.
        voltage_limit, voltage_limit_on: the instrument's own bound of the voltage and its switch, where it has them.
        resolution_v, resolution_a: largest difference of a read-back.
    """

    voltage: Knob
    current_limit: Knob
    output: Knob
    measured_voltage: Knob
    measured_current: Knob
    voltage_limit: Knob | None = None
    voltage_limit_on: Knob | None = None
    resolution_v: float = 1e-3
    resolution_a: float = 1e-3


class GuestSupply(Guest):
    """A guest in the role of a power supply.

    Args:
        guest: the driver object, connected.
        channels: what its channels' settings are called, by channel number from 1; every channel that it has.
        limits: envelope of each channel that may be used; a channel without one is refused.
        off_order: order in which :meth:`safe_off` takes the channels down, each of them once.
        model: must occur in the model that it gives of itself; None accepts any.
        close: disconnects it; ``guest.close`` or ``guest.adapter.close`` by default.

    Raises:
        LimitError: limits for a channel that it does not have, or an order that misses one.
    """

    def __init__(
        self,
        guest: Any,
        channels: Mapping[int, GuestChannel],
        limits: Mapping[int, ChannelLimits],
        off_order: tuple[int, ...],
        model: str | None = None,
        close: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(guest, model, close)
        if not set(limits) <= set(channels):
            raise LimitError(f"{self.label}: limits are given for channels {sorted(limits)}, it has {sorted(channels)}")
        if sorted(off_order) != sorted(channels):
            raise LimitError(
                f"{self.label}: the order of switching off is {off_order}; each of {sorted(channels)} once"
            )
        self._channels = dict(channels)
        self._limits = dict(limits)
        self._off_order = off_order

    def set_voltage(self, channel: int, volts: float) -> None:
        """Set a channel's voltage in V and check the read-back. Raises LimitError before the guest hears of it."""
        self.set_voltages({channel: volts})

    def set_voltages(self, volts: Mapping[int, float]) -> None:
        """Set several channels in V in the order given, all checked against their limits before the first."""
        checked = self._checked_voltages(volts)
        with self._lock:
            for channel, value in checked.items():
                part = self._channels[channel]
                self._set(part.voltage, value, part.resolution_v)

    def check_voltages(self, volts: Mapping[int, float]) -> None:
        """Check voltages in V as set_voltages would; the guest hears nothing. Raises LimitError."""
        self._checked_voltages(volts)

    def set_current_limit(self, channel: int, amps: float) -> None:
        """Set a channel's current limit in A and check the read-back. Raises LimitError before the guest is told."""
        value = self._envelope(channel).current.check(amps, f"{self.label}, channel {channel}: current limit")
        part = self._channels[channel]
        self._set(part.current_limit, value, part.resolution_a)

    def set_voltage_limit(self, channel: int, volts: float) -> None:
        """Set the instrument's own upper bound of a channel's voltage in V, and check the read-back.

        Raises:
            LimitError: outside the envelope; the guest does not hear of it.
            BenchFailure: the guest offers no such bound.
        """
        value = self._envelope(channel).voltage.check(volts, f"{self.label}, channel {channel}: voltage limit")
        part = self._channels[channel]
        if part.voltage_limit is None:
            raise BenchFailure(f"{self.label}: its channel {channel} has no voltage limit of its own")
        with self._lock:
            self._set(part.voltage_limit, value, part.resolution_v)
            if part.voltage_limit_on is not None:
                self._switch(part.voltage_limit_on, True)

    def set_output(self, channel: int, on: bool) -> None:
        """Switch a channel on or off and check the read-back."""
        self._envelope(channel)
        self._switch(self._channels[channel].output, on)

    def measure(self) -> tuple[ChannelReading, ...]:
        """Measure voltage in V and current in A of all channels, in channel order.

        Raises:
            ReplyError: a reading is missing, overflowed or is no number.
        """
        with self._lock:
            return tuple(
                ChannelReading(
                    self._number(part.measured_voltage), self._number(part.measured_current), self._state(part.output)
                )
                for _, part in sorted(self._channels.items())
            )

    def safe_off(self) -> None:
        """All channels to 0 V and off, in the order given; each step is tried whatever became of the others.

        Raises:
            BenchFailure: it is not confirmed that all of them are at 0 V and off.
        """
        steps: list[Callable[[], None]] = []
        for part in (self._channels[channel] for channel in self._off_order):
            steps.append(partial(self._set, part.voltage, 0.0, part.resolution_v))
            steps.append(partial(self._switch, part.output, False))
        self._take_down(*steps)

    def _checked_voltages(self, volts: Mapping[int, float]) -> dict[int, float]:
        return {
            channel: self._envelope(channel).voltage.check(value, f"{self.label}, channel {channel}: voltage")
            for channel, value in volts.items()
        }

    def _envelope(self, channel: int) -> ChannelLimits:
        if isinstance(channel, bool) or channel not in self._limits:
            allowed = ", ".join(map(str, sorted(self._limits)))
            raise LimitError(f"{self.label}: channel {channel!r} is refused; limits are given for {allowed}")
        return self._limits[channel]


@dataclass(frozen=True)
class GuestSmuKnobs:
    """Settings and readings of a guest that is a source-measure unit.

    Attributes:
        voltage, compliance, output, cycles: settings; ``cycles`` is the integration time in power-line cycles.
        measured_voltage, measured_current: readings.
        in_compliance: reads whether the compliance limits the source; None infers it from the current.
        resolution_v, resolution_a: largest difference of a read-back.
    """

    voltage: Knob
    compliance: Knob
    output: Knob
    cycles: Knob
    measured_voltage: Knob
    measured_current: Knob
    in_compliance: Knob | None = None
    resolution_v: float = 1e-4
    resolution_a: float = 1e-9


class GuestSmu(Guest):
    """A guest in the role of a source-measure unit.

    Args:
        guest: the driver object, connected, that forces a voltage and measures the current.
        knobs: what its settings are called.
        limits: the envelope.
        model: must occur in the model that it gives of itself; None accepts any.
        close: disconnects it; ``guest.close`` or ``guest.adapter.close`` by default.
    """

    def __init__(
        self,
        guest: Any,
        knobs: GuestSmuKnobs,
        limits: SmuLimits,
        model: str | None = None,
        close: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(guest, model, close)
        self._knobs = knobs
        self._limits = limits

    def check_source(self, volts: float, compliance_a: float) -> None:
        """Check a source level in V and a compliance in A as set_source would; the guest hears nothing."""
        self._checked_source(volts, compliance_a)

    def set_source(self, volts: float, compliance_a: float) -> None:
        """Set the source level in V and the compliance in A; both are read back. Output unchanged.

        While the level changes, the lower of the old and the new compliance stands.

        Raises:
            LimitError: outside the envelope; the guest does not hear of it.
            ReadBackError: the compliance or the level was not taken.
        """
        level, compliance = self._checked_source(volts, compliance_a)
        with self._lock:
            steps = [
                partial(self._set, self._knobs.compliance, compliance, self._knobs.resolution_a),
                partial(self._set, self._knobs.voltage, level, self._knobs.resolution_v),
            ]
            for step in steps if compliance <= self._number(self._knobs.compliance) else reversed(steps):
                step()

    def set_source_range(self, volts: float | None) -> None:
        """Leave the source range to the guest, which has no knob for it: its driver chooses it by the level."""

    def set_integration(self, power_line_cycles: float) -> None:
        """Set the integration time of a reading, in power-line cycles, and check the read-back."""
        cycles = CYCLES.check(power_line_cycles, f"{self.label}: integration time")
        self._set(self._knobs.cycles, cycles, 1e-3 * cycles)

    def set_output(self, on: bool) -> None:
        """Switch the output on or off and check the read-back."""
        self._switch(self._knobs.output, on)

    def measure(self) -> Measurement:
        """Take one reading; in compliance when the guest says so, or the current has reached the compliance.

        Raises:
            ReplyError: an overflow, or no number.
            BenchFailure: the output is off.
        """
        with self._lock:
            if not self._state(self._knobs.output):
                raise BenchFailure(f"{self.label}: the output is off; switch it on before measuring")
            volts, amps = self._number(self._knobs.measured_voltage), self._number(self._knobs.measured_current)
            if self._knobs.in_compliance is not None:
                return Measurement(volts, amps, self._state(self._knobs.in_compliance))
            return Measurement(volts, amps, abs(amps) >= 0.999 * self._number(self._knobs.compliance))

    def spot(self) -> Measurement:
        """Switch the output on, take one reading, and switch it off whatever happens; errors as for :meth:`measure`."""
        with self._lock:
            try:
                self.set_output(True)
                return self.measure()
            finally:
                self.set_output(False)

    def safe_off(self) -> None:
        """Output to 0 V and off; both steps are tried.

        Raises:
            BenchFailure: it is not confirmed that it is at 0 V and off.
        """
        knobs = self._knobs
        self._take_down(
            partial(self._set, knobs.voltage, 0.0, knobs.resolution_v), partial(self._switch, knobs.output, False)
        )

    def _checked_source(self, volts: float, compliance_a: float) -> tuple[float, float]:
        level = self._limits.voltage.check(volts, f"{self.label}: source voltage")
        return level, self._limits.compliance.check(compliance_a, f"{self.label}: compliance")
