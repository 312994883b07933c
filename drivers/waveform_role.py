"""The role of a waveform generator with several channels that can measure while it drives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.limits import Range
from drivers.pulse_source_role import DeviceIndex
from drivers.roles import Instrument


class Quantity(Enum):
    """What a channel measures while it drives its waveform."""

    VOLTAGE = "V"
    CURRENT = "A"


@dataclass(frozen=True)
class WaveformLimits:
    """The bench file's envelope of all channels of a waveform generator.

    Attributes:
        voltage: allowed voltages, in V.
        width: allowed times away from 0 V without a return to it, in s, from the middle of the first edge to the
            middle of the last one.
    """

    voltage: Range
    width: Range


@dataclass(frozen=True)
class MeasureEvent:
    """Samples that are taken while a waveform runs.

    Attributes:
        start_s: from the start of the waveform to the first sample, in s.
        points: number of samples.
        interval_s: from sample to sample, in s.
        averaging_s: how long each sample averages, in s; at most the interval.
    """

    start_s: float
    points: int
    interval_s: float
    averaging_s: float


@dataclass(frozen=True)
class ChannelWaveform:
    """What one channel drives, and what it measures meanwhile. It begins and ends at 0 V.

    Attributes:
        segments: ``(time in s, voltage in V at its end)`` of each straight segment, one after the other.
        events: what is measured; none of them overlap.
        quantity: what the events measure.
        current_range_a: the current range, in A, where they measure a current.
    """

    segments: tuple[tuple[float, float], ...]
    events: tuple[MeasureEvent, ...] = ()
    quantity: Quantity = Quantity.VOLTAGE
    current_range_a: float | None = None


class Samples(NamedTuple):
    """What a channel measured: times in s from the start of the run, values in V or A, each ``(n,)``."""

    time_s: NDArray[np.float64]
    value: NDArray[np.float64]


class WaveformGenerator(Instrument, Protocol):
    """A generator of waveforms made of straight segments, on several channels that start together."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Numbers of the channels that may be used."""

    def check_waveforms(self, waveforms: Mapping[int, ChannelWaveform], repeats: int = 1) -> None:
        """Check arguments as :meth:`load` would, doing nothing. Raises LimitError."""

    def load(self, waveforms: Mapping[int, ChannelWaveform], repeats: int = 1) -> None:
        """Load what the next run drives, in place of what was loaded. The outputs stay as they are.

        Raises:
            LimitError: outside the envelope or the generator's ranges; nothing was loaded.
            BenchFailure: a run is under way.
        """

    def execute(self, acting_on: Sequence[DeviceIndex] = ()) -> None:
        """Connect the loaded channels and start them together; return without waiting for their end.

        Args:
            acting_on: devices at the outputs, to be named should it remain unknown whether the run acted.

        Raises:
            BenchFailure: nothing is loaded, or a run is under way.
            InDoubt: the start failed and may yet have acted. It is never repeated.
        """

    def wait(self, timeout_s: float) -> None:
        """Wait until the run has ended and its samples can be read.

        Raises:
            InDoubt: it ended otherwise or not in ``timeout_s``, and devices were named. It was aborted.
            BenchFailure: the same, with no devices named.
        """

    def read(self, channel: int) -> Samples:
        """Read what a channel measured in the last run, all events and repeats in order.

        Raises:
            ReplyError: samples are missing, not finite or an overflow.
        """

    def start_sense(self, precharge_s: float, window_s: float) -> None:
        """Start the control pulses of one read of C2N's ternary chip; return before the first of them."""
