"""What the B1530A is to drive, checked against the envelope and its ranges (B1500A guide, tables 4-17 to 4-23)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real

from drivers.c2n.ternary_board import SENSE_S
from drivers.errors import LimitError
from drivers.limits import Range
from drivers.waveform_role import ChannelWaveform, MeasureEvent, Quantity, WaveformLimits
from drivers.wgfmu_library import NAME, CurrentRange, ForceRange

TICK_S = 1e-8
"""Resolution of all times."""

SEGMENT = Range(TICK_S, 10_995.0, "s", NAME)
REPEATS = Range(1, 1_000_000, "repeats", NAME)
INTERVAL = Range(TICK_S, 1.34217728, "s", NAME)
AVERAGING = Range(TICK_S, 0.020971512, "s", NAME)
START = Range(0.0, 10_995.0, "s", NAME)
MOST_VECTORS = 2048
MOST_SAMPLES = 4_000_000
"""Vectors and samples that one channel's memory holds."""

POINTS = Range(1, MOST_SAMPLES, "points", NAME)


@dataclass(frozen=True)
class ForceRangeData:
    """A range of forced voltages in V; shortest edge and pulse in s that it follows."""

    code: ForceRange
    voltage: Range
    edge_s: float
    pulse_s: float


FORCE_RANGES = (
    ForceRangeData(ForceRange.V3, Range(-3.0, 3.0, "V", NAME), 30e-9, 105e-9),
    ForceRangeData(ForceRange.V5, Range(-5.0, 5.0, "V", NAME), 30e-9, 105e-9),
    ForceRangeData(ForceRange.V10_POSITIVE, Range(0.0, 10.0, "V", NAME), 70e-9, 130e-9),
    ForceRangeData(ForceRange.V10_NEGATIVE, Range(-10.0, 0.0, "V", NAME), 70e-9, 130e-9),
)


@dataclass(frozen=True)
class CurrentRangeData:
    """A current range in A; shortest pulse and averaging in s at which its readings are settled."""

    code: CurrentRange
    full_a: float
    pulse_s: float
    window_s: float


CURRENT_RANGES = (
    CurrentRangeData(CurrentRange.UA1, 1e-6, 38.7e-6, 1.64e-6),
    CurrentRangeData(CurrentRange.UA10, 10e-6, 6.8e-6, 1e-6),
    CurrentRangeData(CurrentRange.UA100, 100e-6, 950e-9, 130e-9),
    CurrentRangeData(CurrentRange.MA1, 1e-3, 240e-9, 40e-9),
    CurrentRangeData(CurrentRange.MA10, 10e-3, 145e-9, 20e-9),
)

SENSE_V = 3.3
EDGE = 1
GUARD = 10
CLOCK = 1500
GAP = 2000
LEAD = 5_000_000
ROWS = 8
"""Sense of the ternary chip: level in V; edge, guard, clock pulse, gap and lead time in ticks; rows of a read."""

SENSE_TIME = Range(2 * TICK_S, SENSE_S, "s", NAME)


@dataclass(frozen=True)
class Pattern:
    """A pattern of the library: segments of (s, V), and how often it is driven."""

    name: str
    segments: tuple[tuple[float, float], ...]
    loops: int
    events: tuple[MeasureEvent, ...] = ()


@dataclass(frozen=True)
class ChannelPlan:
    """What one channel is set to; ``samples`` are all that it will take."""

    force: ForceRange
    patterns: tuple[Pattern, ...]
    quantity: Quantity | None = None
    current: CurrentRangeData | None = None
    samples: int = 0
    highest_v: float = 0.0


def ticks(seconds: object, allowed: Range, what: str) -> int:
    """Return a time as a whole number of 10 ns.

    Raises:
        LimitError: outside the range or between two of the generator's steps.
    """
    number = allowed.check(seconds, what)
    count = round(number / TICK_S)
    if abs(count / 1e8 - number) > TICK_S / 100:
        raise LimitError(f"{what}: {number:.10g} s is refused; {NAME} allows whole multiples of 10 ns")
    return count


def plan_waveforms(
    waveforms: Mapping[int, ChannelWaveform], repeats: object, channels: tuple[int, ...], limits: WaveformLimits
) -> dict[int, ChannelPlan]:
    """Check everything, the envelope first, and return what each channel is set to.

    Raises:
        LimitError: anything is outside the envelope or the ranges.
    """
    loops = REPEATS.check_int(repeats, "repeats")
    if not waveforms:
        raise LimitError(f"{NAME}: no channel has a waveform; allowed are {_listed(channels)}")
    for channel in waveforms:
        if isinstance(channel, bool) or channel not in channels:
            raise LimitError(f"{NAME}: channel {channel!r} is refused; allowed are {_listed(channels)}")
    currents = {channel: _current_range(channel, wave) for channel, wave in waveforms.items()}
    # A current that one channel measures is driven by the pulses of the others too.
    settled_s = max((data.pulse_s for data in currents.values() if data is not None), default=0.0)
    return {
        channel: _plan(channel, wave, loops, limits, currents[channel], settled_s)
        for channel, wave in waveforms.items()
    }


def plan_sense(
    precharge_s: object, window_s: object, channels: tuple[int, ...], limits: WaveformLimits
) -> dict[int, ChannelPlan]:
    """Return the control pulses of one read of the ternary chip: BIT_IN, CWL, CSL and CLK on the four channels.

    BIT_IN is high for 1.4 times the sense; CWL is high for the sense in its middle; CSL rises with CWL and falls
    after the precharge; a clock pulse of 15 us follows CWL. Then the same with BIT_IN low, and a gap; eight rows,
    after a lead time of 50 ms. Edges are 10 ns: shorter than the generator's recommendation for measured pulses, but
    these are logic levels, and the laboratory's own.

    Raises:
        LimitError: outside the envelope or the ranges.
    """
    precharge = ticks(precharge_s, SENSE_TIME, "precharge time")
    sense = precharge + ticks(window_s, SENSE_TIME, "sense window")
    if len(channels) != 4:
        raise LimitError(f"{NAME}: a sense needs four channels, and {len(channels)} may be used: {_listed(channels)}")
    margin = -(-sense // 5)
    bit_end = GUARD + sense + 2 * margin
    word = GUARD + margin
    clock = word + sense + GUARD
    half = max(bit_end, clock + CLOCK) + GUARD
    total = 2 * half + GAP
    if (LEAD + ROWS * total) * TICK_S > SENSE_S:
        raise LimitError(f"sense of {sense * TICK_S:g} s: the read of all rows would last more than {SENSE_S:g} s")
    trains = (
        [(GUARD, bit_end - GUARD)],
        [(word, sense), (half + word, sense)],
        [(word, precharge), (half + word, precharge)],
        [(clock, CLOCK), (half + clock, CLOCK)],
    )
    plans = {}
    for channel, train in zip(channels, trains, strict=True):
        segments = _train(train, total)
        force = _check_shape(f"channel {channel}", segments, limits, EDGE * TICK_S, 0.0)
        lead = Pattern(f"lead{channel}", ((LEAD / 1e8, 0.0),), 1)
        plans[channel] = ChannelPlan(force.code, (lead, Pattern(f"row{channel}", segments, ROWS)), highest_v=SENSE_V)
    return plans


def _train(pulses: list[tuple[int, int]], total: int) -> tuple[tuple[float, float], ...]:
    """Pulses of (start, width) in ticks as segments; both edges begin where the pulse begins and ends."""
    segments, now = [], 0
    for start, width in pulses:
        steps = ((start - now, 0.0), (EDGE, SENSE_V), (width - EDGE, SENSE_V), (EDGE, 0.0))
        segments += [(count / 1e8, volts) for count, volts in steps]
        now = start + width + EDGE
    segments.append(((total - now) / 1e8, 0.0))
    return tuple(segments)


def _plan(
    channel: int,
    wave: ChannelWaveform,
    loops: int,
    limits: WaveformLimits,
    current: CurrentRangeData | None,
    settled_s: float,
) -> ChannelPlan:
    what = f"channel {channel}"
    force = _check_shape(what, wave.segments, limits, None, settled_s)
    counts = [ticks(seconds, SEGMENT, f"{what}, segment") for seconds, _ in wave.segments]
    segments = tuple((count / 1e8, float(volts) + 0.0) for count, (_, volts) in zip(counts, wave.segments, strict=True))
    events = _check_events(what, wave, sum(counts), current)
    samples = loops * sum(event.points for event in events)
    if samples > MOST_SAMPLES:
        raise LimitError(f"{what}: {samples} samples are refused; {NAME} keeps at most {MOST_SAMPLES} of a channel")
    return ChannelPlan(
        force.code,
        (Pattern(f"waveform{channel}", segments, loops, events),),
        wave.quantity if events else None,
        current if events else None,
        samples,
        max(abs(volts) for _, volts in segments),
    )


def _check_shape(
    what: str,
    segments: tuple[tuple[float, float], ...],
    limits: WaveformLimits,
    edge_s: float | None,
    settled_s: float,
) -> ForceRangeData:
    """Check times and voltages; return the smallest force range. ``edge_s`` replaces the range's shortest edge."""
    if not 1 <= len(segments) <= MOST_VECTORS:
        raise LimitError(f"{what}: {len(segments)} segments are refused; {NAME} allows 1 to {MOST_VECTORS}")
    for index, (_, volts) in enumerate(segments):
        limits.voltage.check(volts, f"{what}, segment {index}")
    limits.voltage.check(0.0, f"{what}, start")
    times = [
        ticks(seconds, SEGMENT, f"{what}, segment {index}") * TICK_S for index, (seconds, _) in enumerate(segments)
    ]
    levels = [0.0, *(float(volts) for _, volts in segments)]
    if levels[-1] != 0.0:
        raise LimitError(f"{what}: it ends at {levels[-1]:g} V, which would stay on; end it at 0 V")
    for width in _away_from_zero(times, levels):
        limits.width.check(width, f"{what}, time away from 0 V")
    force = next((data for data in FORCE_RANGES if all(_within(data.voltage, volts) for volts in levels)), None)
    if force is None:
        raise LimitError(
            f"{what}: {min(levels):g} to {max(levels):g} V is refused; {NAME} allows "
            + ", or ".join(str(data.voltage) for data in FORCE_RANGES[1:])
        )
    shortest = force.edge_s if edge_s is None else edge_s
    for seconds, (before, after) in zip(times, pairwise(levels), strict=True):
        if before != after:
            Range(shortest, SEGMENT.high, "s", f"{NAME} at {force.voltage}").check(_rounded(seconds), f"{what}, edge")
    allowed = Range(max(force.pulse_s, settled_s), SEGMENT.high, "s", f"{NAME} in these ranges")
    for width in _pulses(times, levels):
        allowed.check(width, f"{what}, pulse")
    return force


def _within(allowed: Range, volts: float) -> bool:
    return allowed.low <= volts <= allowed.high


def _rounded(seconds: float) -> float:
    """Drop the rounding of sums of times, far below a half tick."""
    return round(seconds, 12)


def _away_from_zero(times: list[float], levels: list[float]) -> list[float]:
    """Width of each stay away from 0 V, from the middle of its first edge to the middle of its last one."""
    widths, width = [], 0.0
    for seconds, (before, after) in zip(times, pairwise(levels), strict=True):
        if before == 0.0 and after == 0.0:
            continue
        width += seconds / 2 if 0.0 in (before, after) else seconds
        if after == 0.0:
            widths.append(_rounded(width))
            width = 0.0
    return widths


def _pulses(times: list[float], levels: list[float]) -> list[float]:
    """Width of each level that the waveform reaches and turns back from, edges counted by half."""
    widths = []
    slope, edge, flat = 0.0, 0.0, 0.0
    for seconds, (before, after) in zip(times, pairwise(levels), strict=True):
        if before == after:
            flat += seconds
            continue
        if slope != 0.0 and (slope < 0.0) != (after < before):
            widths.append(_rounded(edge / 2 + flat + seconds / 2))
        slope, edge, flat = after - before, seconds, 0.0
    return widths


def _check_events(
    what: str, wave: ChannelWaveform, length: int, current: CurrentRangeData | None
) -> tuple[MeasureEvent, ...]:
    checked, free = [], 0
    for number, event in enumerate(wave.events):
        name = f"{what}, measurement {number}"
        start = ticks(event.start_s, START, f"{name}, start")
        interval = ticks(event.interval_s, INTERVAL, f"{name}, interval")
        averaging = ticks(event.averaging_s, AVERAGING, f"{name}, averaging")
        points = POINTS.check_int(event.points, f"{name}, points")
        if current is not None:
            least = Range(current.window_s, AVERAGING.high, "s", f"{NAME} at {current.full_a:g} A")
            least.check(averaging / 1e8, f"{name}, averaging")
        if averaging > interval:
            raise LimitError(f"{name}: averaging over {averaging / 1e8:g} s exceeds the interval {interval / 1e8:g} s")
        end = start + (points - 1) * interval + averaging
        if start < free or end > length:
            raise LimitError(
                f"{name}: {start / 1e8:g} to {end / 1e8:g} s is refused; free are {free / 1e8:g} to {length / 1e8:g} s"
            )
        free = end
        checked.append(MeasureEvent(start / 1e8, points, interval / 1e8, averaging / 1e8))
    return tuple(checked)


def _current_range(channel: int, wave: ChannelWaveform) -> CurrentRangeData | None:
    if not isinstance(wave.quantity, Quantity):
        raise LimitError(f"channel {channel}: quantity {wave.quantity!r} is refused; allowed are VOLTAGE and CURRENT")
    if wave.quantity is Quantity.VOLTAGE or not wave.events:
        return None
    asked = wave.current_range_a
    if isinstance(asked, Real) and not isinstance(asked, bool):
        for data in CURRENT_RANGES:
            if asked == data.full_a:
                return data
    allowed = ", ".join(f"{data.full_a:g}" for data in CURRENT_RANGES)
    raise LimitError(f"channel {channel}: current range {wave.current_range_a!r} is refused; {NAME} has {allowed} A")


def _listed(channels: tuple[int, ...]) -> str:
    return ", ".join(str(channel) for channel in channels)
