"""Stands of the controller boards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from drivers.framed import BoardLimits, FramedBoard, FramedLink, open_framed
from drivers.framed.board import MOST_CYCLES
from drivers.framed.codec import Deframer, Frame
from drivers.framed.messages import Opcode, Watchdog
from drivers.limits import Range
from models.cells import Device, Geometry, Polarity
from tests.drivers.fake_chip import FakeChip, served
from tests.faults.setter_tables import Choices, Numbers, Only, Setter, Stand

GEOMETRY = Geometry(4, 6)
WIDTH_S, WINDOW_S = 1e-6, 1e-6
NANOSECOND = 1e-9
MOST_BUSY_S = 0.1
"""Longest busy time of the simulated board; a sense of all rows must fit into it."""

NO_INPUTS = Only(
    (
        None,
        1,
        "+-",
        np.zeros((2, 6), dtype=np.int8),
        np.full((2, 6), 2),
        np.full((2, 6), math.nan),
        np.full((2, 6), math.inf),
        np.ones((2, 6), dtype=bool),
        np.ones((2, 5), dtype=np.int8),
        np.ones((6, 2), dtype=np.int8),
        np.ones(6, dtype=np.int8),
        np.full((2, 6), "1"),
    )
)


def no_masks(geometry: Geometry) -> Only:
    """What is no mask of the devices of an array."""
    rows, cols = geometry
    masks = [np.ones(shape, dtype=bool) for shape in ((rows, cols), (rows + 1, cols, 2), (1, cols, 2), (rows, cols, 3))]
    others = [np.ones((*geometry, 2), dtype=kind) for kind in (float, int, np.int8)]
    return Only((None, True, 1, "all", *masks, *others, np.full((*geometry, 2), math.nan)))


@dataclass
class FramedFarEnd:
    """Counts bytes that went to the board, and keeps the frames."""

    link: FramedLink
    frames: list[Frame] = field(default_factory=list)
    _deframer: Deframer = field(default_factory=lambda: Deframer(0xFFFF))

    def listen(self, data: bytes) -> bytes:
        """Hook of the board's line."""
        self.frames += [item for item in self._deframer.feed(data) if isinstance(item, Frame)]
        return data

    def received(self) -> int:
        """Bytes that left the host."""
        return self.link.stats.bytes_out

    def last(self) -> bytes:
        """Nothing: these messages are no text."""
        return b""

    def watchdog_s(self) -> float:
        """What the watchdog was set to last."""
        payload = next(frame.payload for frame in reversed(self.frames) if frame.opcode == Opcode.WATCHDOG)
        return Watchdog.unpack(payload).timeout_ms * 1e-3


def _reach(own: Range, envelope: Range) -> tuple[float, float]:
    return max(own.low, envelope.low), min(own.high, envelope.high)


@contextmanager
def framed_board(envelope: float) -> Iterator[Stand]:
    """A framed board on its wire, in front of a chip that counts."""
    chip = FakeChip(GEOMETRY)
    limits = BoardLimits(
        Range(NANOSECOND / envelope, envelope * MOST_BUSY_S, "s", "campaign"),
        Range(1, envelope * 0xFFFF_FFFF, "pulses", "campaign"),
        Range(NANOSECOND / envelope, envelope * MOST_BUSY_S, "s", "campaign"),
        Range(1, envelope * MOST_CYCLES.high, "cycles", "campaign"),
    )
    with served(chip) as server, open_framed(server.port) as link:
        board = FramedBoard(link, limits)
        far_end = FramedFarEnd(link)
        server.to_board = far_end.listen
        setters = [*_pulse_setters(board, chip, envelope), *_cycle_setters(board, chip, envelope)]
        setters += [
            *_read_setters(board, chip, envelope),
            *(
                Setter(
                    "connect_device",
                    partial(_connect, board, name),
                    allowed,
                    partial(_connected, chip, index),
                    name,
                )
                for index, (name, allowed) in enumerate(_DEVICE.items())
            ),
            Setter(
                "set_watchdog",
                board.set_watchdog,
                Numbers(0.0, 4_294_967.0, lambda seconds: 5e-4),
                far_end.watchdog_s,
                drawn=Numbers(1e-3, 4e6, lambda seconds: 5e-4, decades=True),
            ),
            Setter("set_watchdog", board.set_watchdog, Only((1e-9, 1e-4, 4.9e-4)), label="below its step"),
        ]
        yield Stand(board, (), setters, far_end, frozenset({"reopen", "echo"}))


def _pulse_setters(board: FramedBoard, chip: FakeChip, envelope: float) -> list[Setter]:
    everything = np.ones((*GEOMETRY, 2), dtype=bool)
    one = np.zeros_like(everything)
    one[0, 0, 0] = True

    def pulse(polarity: Any = Polarity.SET, devices: Any = one, width_s: Any = WIDTH_S, count: Any = 1) -> None:
        chip.pulses[:] = 0
        board.pulse(polarity, devices, width_s, count)

    low_s, high_s = _reach(
        Range(NANOSECOND, MOST_BUSY_S - 1e-6, "s", ""), Range(NANOSECOND / envelope, envelope * MOST_BUSY_S, "s", "")
    )
    width = Numbers(low_s, high_s, lambda seconds: NANOSECOND / 2, decades=True)
    count = Numbers(1, min(1.0, envelope) * 0xFFFF_FFFF, whole=True)
    return [
        Setter(
            "pulse",
            lambda value: pulse(polarity=value),
            Choices(Polarity, (2, 1.5, 1.0, Device.BLB)),
            lambda: Polarity(int(np.flatnonzero(chip.pulses[0, 0, 0])[0])),
            "polarity",
        ),
        Setter("pulse", lambda value: pulse(devices=value), no_masks(GEOMETRY), label="devices"),
        Setter("pulse", lambda value: pulse(width_s=value), width, lambda: chip.calls[-1][3], "width"),
        Setter(
            "pulse",
            lambda value: pulse(count=value),
            count,
            lambda: int(chip.pulses.sum()),
            "count",
            Numbers(1, 1e5, whole=True, decades=True),
        ),
    ]


def _cycle_setters(board: FramedBoard, chip: FakeChip, envelope: float) -> list[Setter]:
    one = np.zeros((*GEOMETRY, 2), dtype=bool)
    one[0, 0, 0] = True

    def cycle(devices: Any = one, set_s: Any = WIDTH_S, reset_s: Any = WIDTH_S, count: Any = 1) -> None:
        chip.pulses[:] = 0
        board.cycle(devices, set_s, reset_s, count)

    # the other pulse of the cycle and the board's setup of both take their part of the busy time
    low_s, high_s = _reach(
        Range(NANOSECOND, MOST_BUSY_S - 2e-6 - WIDTH_S, "s", ""),
        Range(NANOSECOND / envelope, envelope * MOST_BUSY_S, "s", ""),
    )
    width = Numbers(low_s, high_s, lambda seconds: NANOSECOND / 2, decades=True)
    return [
        Setter("cycle", lambda value: cycle(devices=value), no_masks(GEOMETRY), label="devices"),
        Setter("cycle", lambda value: cycle(set_s=value), width, lambda: chip.calls[-1][2], "SET width"),
        Setter("cycle", lambda value: cycle(reset_s=value), width, lambda: chip.calls[-1][3], "RESET width"),
        Setter(
            "cycle",
            lambda value: cycle(count=value),
            Numbers(1, min(1.0, envelope) * MOST_CYCLES.high, whole=True),
            lambda: int(chip.pulses.sum()) // 2,
            "count",
            Numbers(1, 1e5, whole=True, decades=True),
        ),
    ]


def _read_setters(board: FramedBoard, chip: FakeChip, envelope: float) -> list[Setter]:
    low_s, high_s = _reach(
        Range(NANOSECOND, MOST_BUSY_S, "s", ""), Range(NANOSECOND / envelope, envelope * MOST_BUSY_S, "s", "")
    )
    time = Numbers(low_s, high_s, lambda seconds: NANOSECOND / 2, decades=True)
    short = Numbers(low_s, 1e-2, lambda seconds: NANOSECOND / 2, decades=True)
    inputs = np.ones((2, GEOMETRY.cols), dtype=np.int8)

    def streamed(vectors: Any, precharge_s: Any, window_s: Any, geometry: Geometry) -> None:
        stream = board.xnor_stream(precharge_s, window_s, geometry)
        stream.put(vectors)
        stream.take()

    def with_inputs(
        act: Callable[[Any, Any, Any, Geometry], object],
        precharge_s: Any = WINDOW_S,
        window_s: Any = WINDOW_S,
        rows: Any = 4,
        cols: Any = 6,
    ) -> None:
        whole = isinstance(cols, int) and not isinstance(cols, bool) and 1 <= cols <= GEOMETRY.cols
        act(inputs[:, :cols] if whole else inputs, precharge_s, window_s, Geometry(rows, cols))

    def call(index: int) -> Callable[[], Any]:
        return lambda: chip.calls[-1][index]

    def xnor_setters(name: str, xnor: Callable[..., None], act: Callable[..., object]) -> list[Setter]:
        return [
            Setter(name, lambda value: xnor(precharge_s=value), time, call(2), "precharge", short),
            Setter(name, lambda value: xnor(window_s=value), time, call(3), "window", short),
            Setter(
                name,
                lambda value: xnor(rows=value),
                Numbers(1, GEOMETRY.rows, whole=True),
                lambda: chip.calls[-1][4].rows,
                "rows",
            ),
            Setter(
                name,
                lambda value: xnor(cols=value),
                Numbers(1, GEOMETRY.cols, whole=True),
                lambda: chip.calls[-1][4].cols,
                "columns",
            ),
            Setter(name, lambda value: act(value, WINDOW_S, WINDOW_S, GEOMETRY), NO_INPUTS, label="inputs"),
        ]

    return [
        Setter("sense", lambda value: board.sense(value, WINDOW_S), time, call(2), "precharge", short),
        Setter("sense", lambda value: board.sense(WINDOW_S, value), time, call(3), "window", short),
        Setter(
            "sense",
            lambda value: board.sense(WINDOW_S, WINDOW_S, value),
            Numbers(1, 1_000_000, whole=True),
            lambda: sum(each[4] for each in _taken(chip)),
            "repeats",
            Numbers(1, 3000, whole=True, decades=True),
            chip.calls.clear,
        ),
        *(
            setter
            for name, act in (("xnor", board.xnor), ("xnor_stream", streamed))
            for setter in xnor_setters(name, partial(with_inputs, act), act)
        ),
    ]


def _taken(chip: FakeChip) -> list[tuple[Any, ...]]:
    """The calls since the last look, which ends here."""
    calls = list(chip.calls)
    chip.calls.clear()
    return calls


_DEVICE = {
    "row": Numbers(0, GEOMETRY.rows - 1, whole=True),
    "col": Numbers(0, GEOMETRY.cols - 1, whole=True),
    "device": Choices(Device, (2, 1.5, 1.0, Polarity.SET)),
}


def _connect(board: FramedBoard, name: str, value: Any) -> None:
    place: dict[str, Any] = {"row": 1, "col": 2, "device": Device.BL}
    board.connect_device(**{**place, name: value})


def _connected(chip: FakeChip, index: int) -> Any:
    assert chip.connected is not None
    return chip.connected[index]


STANDS = {"FramedBoard": framed_board}
