"""Share of the board's serial line that is used, in its busier direction, at two speeds.

The simulated line honours its speed; the simulated board acts as fast as its model is computed. A real board takes the
busy time of section 5 of ``docs/board-protocol.md``, which is often longer than the wire takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.session import Bench, open_bench
from benchmarks.rows import Row, row, seconds_of
from drivers.framed.board import FramedBoard
from drivers.framed.codec import BITS_PER_BYTE
from models.cells import Polarity

BAUDS = (921_600, 12_000_000)
REPETITIONS = 7
LARGE = 32
"""Arrays of 32 x 32 cells that make the large one."""

BATCH = 64
SECONDS = 0.4
"""About how long a streamed inference takes on the wire."""

FAST_SENSE_S = 1e-7
"""Precharge and window with which sensing 32 columns of a row takes a board no longer than sending their sums."""


def links() -> list[Row]:
    """Link use in programming and in XNOR inference, and where the time of a whole programming goes."""
    table = []
    for baud in BAUDS:
        for arrays in (1, LARGE):
            # What is in flight is held to 0.1 s of the board's time, so that a stop is obeyed: at the default senses of
            # 10 us a row that is 9 kB.
            with open_bench(baud=baud, arrays=arrays) as bench:
                _prepare(bench)
                for what, job in _jobs(bench, baud):
                    job()
                    shares = [_share(bench, job, baud) for _ in range(REPETITIONS)]
                    table.append(row(f"{baud} bit/s, {_size(bench)}: {what}", "of the line", shares))
                table += _programming(bench, baud)
    return table


def _prepare(bench: Bench) -> None:
    """Weights in all cells: sensing two low devices against each other would have the board draw noise for each."""
    chip = bench.chip
    chip.form(~chip.no_devices())
    chip.program(_weights(bench, np.random.default_rng(0)))


def _weights(bench: Bench, rng: np.random.Generator) -> NDArray[np.int8]:
    return rng.choice(np.array([-1, 1], dtype=np.int8), size=bench.chip.geometry)


def _size(bench: Bench) -> str:
    return "{} x {}".format(*bench.chip.geometry)


def _jobs(bench: Bench, baud: int) -> Iterator[tuple[str, Callable[[], object]]]:
    assert isinstance(bench.board, FramedBoard)
    chip, rng = bench.chip, np.random.default_rng(1)
    rows, cols = chip.geometry
    count = max(2, round(SECONDS * baud / BITS_PER_BYTE / rows / BATCH))
    batches = [rng.choice(np.array([-1, 1], dtype=np.int8), size=(BATCH, cols)) for _ in range(count)]
    sense = chip.points.sense
    fast = chip.at(replace(chip.points, sense=replace(sense, precharge_s=FAST_SENSE_S, window_s=FAST_SENSE_S)))
    for what, at in (("XNOR streamed", chip), ("XNOR streamed, short senses", fast)):
        yield what, lambda at=at: [None for _ in at.xnor_stream(batches)]
    everything = ~chip.no_devices()
    width_s = chip.points.set.width_s
    # as long on the wire as a streamed inference; a frame has a bit for each device and the pulses that fit its time
    board = bench.board.link.welcome
    frames = SECONDS * baud / BITS_PER_BYTE / (2 * chip.geometry.cells / 8)
    per_frame = board.max_busy_ms * 1e-3 / (2 * chip.geometry.cells * (width_s + board.setup_ns * 1e-9))
    pulses = max(2, round(frames * per_frame))
    # At the rails of SENSE a pulse moves nothing: the line is measured, and not the model of the devices.
    bench.rails.apply(sense.rails)
    yield "PULSE of all devices", lambda: bench.board.pulse(Polarity.SET, everything, width_s, pulses)
    bench.rails.apply(chip.points.set.rails)
    yield "PULSE, all devices switching", lambda: bench.board.pulse(Polarity.SET, everything, width_s, pulses)


def _programming(bench: Bench, baud: int) -> list[Row]:
    """What `Chip.program` makes of the line, and the shares of its time that rails and verify take."""
    rng = np.random.default_rng(2)
    used: list[float] = []
    rails: list[float] = []
    verify: list[float] = []
    for _ in range(REPETITIONS):
        weights = _weights(bench, rng)
        with _timed(bench.rails, "apply", "confirm") as at_rails, _timed(bench.board, "sense") as at_verify:
            bytes_before = _bytes(bench)
            seconds = seconds_of(lambda w=weights: bench.chip.program(w))
            used.append(_busiest(bench, bytes_before) * BITS_PER_BYTE / baud / seconds)
        rails.append(sum(at_rails) / seconds)
        verify.append(sum(at_verify) / seconds)
    where = f"{baud} bit/s, {_size(bench)}: program"
    return [
        row(f"{where}, rails and verify included", "of the line", used),
        row(f"{where}: rails set, measured, confirmed", "of its time", rails),
        row(f"{where}: verify", "of its time", verify),
    ]


@contextmanager
def _timed(target: object, *methods: str) -> Iterator[list[float]]:
    """Note the seconds of each call of these methods."""
    seconds: list[float] = []

    def timed(method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            answers: list[object] = []
            seconds.append(seconds_of(lambda: answers.append(method(*arguments))))
            return answers[0]

        return call

    for name in methods:
        setattr(target, name, timed(getattr(target, name)))
    try:
        yield seconds
    finally:
        for name in methods:
            delattr(target, name)


def _share(bench: Bench, job: Callable[[], object], baud: int) -> float:
    before = _bytes(bench)
    seconds = seconds_of(job)
    return _busiest(bench, before) * BITS_PER_BYTE / (baud * seconds)


def _bytes(bench: Bench) -> tuple[int, int]:
    assert isinstance(bench.board, FramedBoard)
    stats = bench.board.link.stats
    return stats.bytes_out, stats.bytes_in


def _busiest(bench: Bench, before: tuple[int, int]) -> int:
    return max(after - earlier for after, earlier in zip(_bytes(bench), before, strict=True))
