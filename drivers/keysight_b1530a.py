"""Keysight B1530A waveform generator and fast measurement unit, driven through the maker's library wgfmu.dll.

This driver has not met real hardware: it is written from the maker's manual and header file, and tested against a
small fake of the library's functions. Watch the first runs on an oscilloscope, with no chip in the socket.

The library exists for Windows only, comes from Keysight, and holds one session per process. It can tell neither a
serial number nor the level of an output: what safe_off confirms is that nothing runs any more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from drivers.errors import InDoubt, InstrumentError, LimitError, LinkError, ReplyError, WrongInstrument
from drivers.keysight_b1530a_plan import ChannelPlan, plan_sense, plan_waveforms
from drivers.limits import Range
from drivers.pulse_source_role import DeviceIndex
from drivers.roles import Identity
from drivers.waveform_role import ChannelWaveform, Quantity, Samples, WaveformLimits
from drivers.wgfmu_library import (
    AVERAGED,
    NAME,
    SEQUENCER_NOT_RUNNING,
    MeasureMode,
    OperationMode,
    Status,
    VoltageRange,
    Wgfmu,
)
from models.exceptions import BenchFailure

CHANNELS = (101, 102, 201, 202)
POLL_S = 0.005
TIMEOUT = Range(1e-3, 1e6, "s", NAME)
SENSE_TIMEOUT_S = 5.0
"""How long the previous read may still take when the next one is started."""

SMALL_V = 5.0
"""From this voltage on a channel measures itself in its 10 V range."""

RUNNING = (Status.RUNNING, Status.DONE)
"""Under way: DONE means that the waveforms have ended, but not that the samples can be read."""

AT_REST = (Status.IDLE, Status.COMPLETED, Status.DONE, Status.ABORTED, Status.ABORT_COMPLETED)


class KeysightB1530A:
    """The B1530A in the role of a waveform generator; it opens the library's session.

    Args:
        resource: VISA address of the mainframe, e.g. ``GPIB0::18::INSTR``.
        limits: the bench file's envelope, checked before anything is called.
        library: an object with the library's functions; None loads wgfmu.dll.
        channels: channels that may be used; for a sense BIT_IN, CWL, CSL and CLK in this order.
        sleep, clock: wait for so many seconds; tell the time in s.

    Raises:
        BenchFailure: the library is absent.
        InstrumentError: the session cannot be opened.
    """

    def __init__(
        self,
        resource: str,
        limits: WaveformLimits,
        library: object | None = None,
        *,
        channels: tuple[int, ...] = CHANNELS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not channels or len(set(channels)) != len(channels) or not set(channels) <= set(CHANNELS):
            raise LimitError(f"{NAME}: channels {channels!r} are refused; allowed are different ones of {CHANNELS}")
        if not resource.isascii():
            raise LimitError(f"{NAME}: address {resource!r} is refused; allowed are ASCII characters")
        self._channels = tuple(channels)
        self._limits = limits
        self._sleep, self._clock = sleep, clock
        self._plan: dict[int, ChannelPlan] = {}
        self._acting_on: tuple[DeviceIndex, ...] = ()
        self._running = self._ended = False
        self._wgfmu = Wgfmu(library)
        self._open = False
        self._wgfmu.call("openSession", resource.encode("ascii"))
        self._open = True

    @property
    def channels(self) -> tuple[int, ...]:
        """Return the numbers of the channels that may be used."""
        return self._channels

    def identify(self) -> Identity:
        """Ask which channels are installed. The library tells neither serial number nor firmware.

        Raises:
            WrongInstrument: a channel that may be used is not there.
        """
        self._check_open()
        installed = self._wgfmu.channel_ids()
        missing = [channel for channel in self._channels if channel not in installed]
        if missing:
            raise WrongInstrument(f"{NAME}: channels {missing} are not installed; the mainframe has {installed}")
        return Identity("Keysight", "B1530A", "not told", "not told")

    def check_waveforms(self, waveforms: Mapping[int, ChannelWaveform], repeats: int = 1) -> None:
        """Check arguments as :meth:`load` would, calling nothing. Raises LimitError."""
        plan_waveforms(waveforms, repeats, self._channels, self._limits)

    def load(self, waveforms: Mapping[int, ChannelWaveform], repeats: int = 1) -> None:
        """Load what the next run drives, in place of what was loaded. The outputs stay as they are.

        Raises:
            LimitError: outside the envelope or the ranges; nothing was called.
            BenchFailure: a run is under way.
            InstrumentError: the library refused it; nothing is loaded.
        """
        self._load(plan_waveforms(waveforms, repeats, self._channels, self._limits))

    def execute(self, acting_on: Sequence[DeviceIndex] = ()) -> None:
        """Connect the loaded channels and start them together; return without waiting for their end.

        Args:
            acting_on: devices at the outputs, to be named should it remain unknown whether the run acted.

        Raises:
            BenchFailure: nothing is loaded, or a run is under way.
            InstrumentError: the library refused it; with devices named, and once started, InDoubt in its place.
        """
        self._check_idle()
        if not self._plan:
            raise BenchFailure(f"{NAME}: nothing is loaded; load waveforms first")
        self._ended = False
        for channel, plan in self._plan.items():
            self._set_up(channel, plan)
        for channel in self._plan:
            self._wgfmu.call("connect", channel)
        self._acting_on = tuple(acting_on)
        self._running = True
        try:
            self._wgfmu.call("execute")
        except (InstrumentError, LinkError) as error:
            self._fail(error)

    def wait(self, timeout_s: float) -> None:
        """Wait until the run has ended and its samples can be read.

        Raises:
            InDoubt: it failed or did not end within ``timeout_s`` in s, and devices were named. It was aborted.
            BenchFailure: the same with no devices named, or nothing was started.
        """
        limit = TIMEOUT.check(timeout_s, "time-out")
        self._check_open()
        if not self._running:
            raise BenchFailure(f"{NAME}: nothing was started that could end")
        until = self._clock() + limit
        try:
            while (status := self._wgfmu.status()) in RUNNING:
                if self._clock() >= until:
                    self._fail(BenchFailure(f"{NAME}: the run did not end within {limit:g} s and was aborted"))
                self._sleep(POLL_S)
        except (InstrumentError, LinkError) as error:
            self._fail(error)
        if status != Status.COMPLETED:
            self._fail(BenchFailure(f"{NAME}: the run did not end by itself, its status is {_status_name(status)}"))
        self._running, self._ended = False, True

    def read(self, channel: int) -> Samples:
        """Read what a channel measured in the last run, all events and repeats in order: V or A over s.

        Raises:
            LimitError: the channel measures nothing.
            BenchFailure: no run has ended.
            ReplyError: samples are missing, not finite or an overflow.
        """
        self._check_open()
        plan = self._plan.get(channel)
        if plan is None or plan.quantity is None:
            raise LimitError(f"{NAME}: channel {channel!r} measures nothing in what is loaded")
        if not self._ended:
            raise BenchFailure(f"{NAME}: no run of what is loaded has ended; execute it and wait")
        measured, total = self._wgfmu.integers("getMeasureValueSize", 2, channel)
        if (measured, total) != (plan.samples, plan.samples):
            raise ReplyError(f"{NAME}: channel {channel} has {measured} of {total} samples; {plan.samples} were due")
        times, values, told = self._wgfmu.values(channel, plan.samples)
        if told != plan.samples:
            raise ReplyError(f"{NAME}: channel {channel} gave {told} samples; {plan.samples} were due")
        full = 10.0 if plan.current is None else plan.current.full_a
        for index, (seconds, value) in enumerate(zip(times, values, strict=True)):
            # Real readings pass the end of the range by a few per cent; twice as much is a code for overflow.
            if not math.isfinite(seconds) or not abs(value) <= 2 * full:
                raise ReplyError(
                    f"{NAME}: channel {channel}, sample {index} is {value:g} {plan.quantity.value} at {seconds:g} s; "
                    f"the range is {full:g} {plan.quantity.value}"
                )
        return Samples(np.array(times, dtype=np.float64), np.array(values, dtype=np.float64))

    def start_sense(self, precharge_s: float, window_s: float) -> None:
        """Start the control pulses of one read of the ternary chip, 50 ms before the first of them.

        Args:
            precharge_s, window_s: times of one row's sense, in s; whole multiples of 10 ns.

        Raises:
            LimitError: outside the envelope or the ranges; nothing was called.
            BenchFailure: the previous read has not ended.
        """
        plan = plan_sense(precharge_s, window_s, self._channels, self._limits)
        if self._running:
            self.wait(SENSE_TIMEOUT_S)
        self._load(plan)
        self.execute()

    def safe_off(self) -> None:
        """Bring all channels to 0 V, disconnect and initialise them; every step is tried, whatever failed before.

        Raises:
            BenchFailure: a step failed, or something still runs: the outputs are in an unknown state.
        """
        self._check_open()
        failed: list[str] = []
        self._try(failed, "abort", allowed=SEQUENCER_NOT_RUNNING)
        for channel in self._channels:
            self._try(failed, "setOperationMode", channel, OperationMode.DC)
            self._try(failed, "dcforceVoltage", channel, 0.0)
            self._try(failed, "disconnect", channel)
        self._try(failed, "initialize")
        try:
            status = self._wgfmu.status()
            if status not in AT_REST:
                failed.append(f"the status is {_status_name(status)}")
        except BenchFailure as error:
            failed.append(str(error))
        if failed:
            raise BenchFailure(
                f"{NAME}: its outputs are in an unknown state, switch the mainframe off: {'; '.join(failed)}"
            )
        self._running = self._ended = False

    def close(self) -> None:
        """Close the library's session. The outputs stay as they are."""
        if self._open:
            self._open = False
            self._wgfmu.call("closeSession")

    def _load(self, plan: dict[int, ChannelPlan]) -> None:
        self._check_idle()
        self._plan, self._ended = {}, False
        self._wgfmu.call("clear")
        for channel, setting in plan.items():
            for pattern in setting.patterns:
                name = pattern.name.encode("ascii")
                self._wgfmu.call("createPattern", name, 0.0)
                for seconds, volts in pattern.segments:
                    self._wgfmu.call("addVector", name, seconds, volts)
                for number, event in enumerate(pattern.events):
                    times = (event.start_s, event.points, event.interval_s, event.averaging_s)
                    self._wgfmu.call("setMeasureEvent", name, f"event{number}".encode("ascii"), *times, AVERAGED)
                self._wgfmu.call("addSequence", channel, name, float(pattern.loops))
        self._plan = plan

    def _set_up(self, channel: int, plan: ChannelPlan) -> None:
        self._wgfmu.call("setOperationMode", channel, OperationMode.FASTIV)
        self._wgfmu.call("setForceVoltageRange", channel, plan.force)
        if plan.quantity is Quantity.CURRENT and plan.current is not None:
            self._wgfmu.call("setMeasureMode", channel, MeasureMode.CURRENT)
            self._wgfmu.call("setMeasureCurrentRange", channel, plan.current.code)
        else:
            wide = plan.highest_v >= SMALL_V
            self._wgfmu.call("setMeasureMode", channel, MeasureMode.VOLTAGE)
            self._wgfmu.call("setMeasureVoltageRange", channel, VoltageRange.V10 if wide else VoltageRange.V5)

    def _fail(self, error: BenchFailure) -> None:
        """Abort the run and raise ``error``, or InDoubt where devices were named."""
        self._running = False
        text = str(error)
        failed: list[str] = []
        self._try(failed, "abort", allowed=SEQUENCER_NOT_RUNNING)
        if failed:
            text = f"{text}; the abort failed too: {failed[0]}"
        if self._acting_on:
            raise InDoubt(text, list(self._acting_on)) from error
        if failed:
            raise BenchFailure(text) from error
        raise error

    def _try(self, failed: list[str], name: str, *arguments: object, allowed: int = 0) -> None:
        try:
            self._wgfmu.call(name, *arguments)
        except InstrumentError as error:
            if error.errors[0][0] != allowed:
                failed.append(str(error))
        except LinkError as error:
            failed.append(str(error))

    def _check_open(self) -> None:
        if not self._open:
            raise LinkError(f"{NAME}: the library's session is closed; open it again")

    def _check_idle(self) -> None:
        self._check_open()
        if self._running:
            raise BenchFailure(f"{NAME}: a run is under way; wait for its end or switch off first")


def _status_name(status: int) -> str:
    return Status(status).name if status in tuple(Status) else f"{status}, which the manual does not know"
