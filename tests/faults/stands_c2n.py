"""Stands of C2N's controller boards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from drivers.c2n import COLUMN, TERNARY, C2NLink, ColumnBoard, FirmwareTiming, TernaryBoard, open_c2n
from drivers.c2n.protocol import TERNARY_GEOMETRY, ColumnSignal, TernarySignal, Words
from drivers.framed import BoardLimits
from drivers.limits import Range
from drivers.simulated.c2n_boards import ColumnBoardServer, TernaryBoardServer
from models.cells import Device, Geometry, Polarity
from tests.drivers.c2n_bench import running, world_of
from tests.drivers.fake_chip import FakeChip
from tests.faults.setter_tables import NO_CHOICES, NO_NUMBERS, NO_SWITCHES, Choices, Numbers, Only, Setter, Stand
from tests.faults.stands_boards import no_masks

TIMING = FirmwareTiming(pulse_width_s=10e-6, precharge_s=5e-6, window_s=50e-9)
COLUMN_GEOMETRY = Geometry(6, 8)
MOST_PULSES = 1000
NO_WATCHDOG = Only((*NO_NUMBERS, -1.0, -1e-9))
NO_SIGNALS = Only((*NO_CHOICES, 1.5))
NO_WORDS = Only((-1, 1 << 64, 1.0, 0.5, True, None, "1", b"1", math.nan, math.inf, (1,)))
NO_INPUTS = Only(
    (
        None,
        1,
        "+-",
        [0, 1],
        [2],
        [math.nan],
        [math.inf],
        [True, True],
        ["1"],
        [[1, -1]],
        np.ones(COLUMN_GEOMETRY.cols + 1, dtype=np.int8),
    )
)


@dataclass(frozen=True)
class C2NFarEnd:
    """Counts bytes that went to the board."""

    link: C2NLink

    def received(self) -> int:
        """Bytes that left the host."""
        return self.link.stats.bytes_out

    def last(self) -> bytes:
        """Nothing: these messages are no text."""
        return b""


def _fixed(seconds: float) -> Only:
    """A time that the firmware makes and nothing else."""
    return Only((*NO_NUMBERS, 0, 0.0, -0.0, -seconds, 2 * seconds, seconds / 2, seconds * 1.001, 1e6))


@contextmanager
def ternary_board(envelope: float) -> Iterator[Stand]:
    """The 8 x 8 ternary board on its wire, in front of a chip that counts."""
    chip = FakeChip(TERNARY_GEOMETRY)
    limits = BoardLimits(
        Range(1e-9, 1e-3, "s", "campaign"),
        Range(1, envelope * MOST_PULSES, "pulses", "campaign"),
        Range(1e-9, 1e-3, "s", "campaign"),
    )
    with running(TernaryBoardServer(world_of(chip), timing=TIMING)) as server, open_c2n(server.port, TERNARY) as link:
        board = TernaryBoard(link, limits, chip.chip_id, TIMING)
        one = np.zeros((*TERNARY_GEOMETRY, 2), dtype=bool)
        one[0, 0, 0] = True

        def pulse(
            polarity: Any = Polarity.SET, devices: Any = one, width_s: Any = TIMING.pulse_width_s, count: Any = 1
        ) -> None:
            chip.pulses[:] = 0
            board.pulse(polarity, devices, width_s, count)

        def sense(precharge_s: Any = TIMING.precharge_s, window_s: Any = TIMING.window_s, repeats: Any = 1) -> None:
            chip.calls.clear()
            board.sense(precharge_s, window_s, repeats)

        setters = [
            Setter(
                "pulse",
                lambda value: pulse(polarity=value),
                Choices(Polarity, (2, 1.5, 1.0, Device.BLB)),
                lambda: Polarity(int(np.flatnonzero(chip.pulses[0, 0, 0])[0])),
                "polarity",
            ),
            Setter("pulse", lambda value: pulse(devices=value), no_masks(TERNARY_GEOMETRY), label="devices"),
            Setter("pulse", lambda value: pulse(width_s=value), _fixed(TIMING.pulse_width_s), label="width"),
            Setter(
                "pulse",
                lambda value: pulse(count=value),
                Numbers(1, envelope * MOST_PULSES, whole=True),
                lambda: int(chip.pulses.sum()),
                "count",
                Numbers(1, 20, whole=True),
            ),
            Setter("sense", lambda value: sense(precharge_s=value), _fixed(TIMING.precharge_s), label="precharge"),
            Setter("sense", lambda value: sense(window_s=value), _fixed(TIMING.window_s), label="window"),
            Setter(
                "sense",
                lambda value: sense(repeats=value),
                Numbers(1, 1_000_000, whole=True),
                lambda: len(chip.calls),
                "repeats",
                Numbers(1, 10, whole=True),
            ),
            Setter("set_signal", lambda value: board.set_signal(value, True), NO_SIGNALS, label="signal"),
            Setter("set_signal", partial(board.set_signal, TernarySignal.CWL), Only(NO_SWITCHES), label="level"),
            Setter("set_watchdog", board.set_watchdog, NO_WATCHDOG),
        ]
        yield Stand(
            board, (), setters, C2NFarEnd(link), frozenset({"reopen", "echo", "cycle", "xnor_stream", "connect_device"})
        )


@contextmanager
def column_board(envelope: float) -> Iterator[Stand]:
    """The board of the 64-column array on its wire. It has no envelope: nothing that it sets has a size."""
    chip = FakeChip(COLUMN_GEOMETRY)
    with running(ColumnBoardServer(world_of(chip))) as server, open_c2n(server.port, COLUMN) as link:
        board = ColumnBoard(link, COLUMN_GEOMETRY, chip.chip_id)
        place = {"row": 1, "col": 2, "device": Device.BL}
        allowed = {
            "row": Numbers(0, COLUMN_GEOMETRY.rows - 1, whole=True),
            "col": Numbers(0, COLUMN_GEOMETRY.cols - 1, whole=True),
            "device": Choices(Device, (2, 1.5, 1.0, Polarity.SET)),
        }

        def connected(index: int) -> Any:
            assert chip.connected is not None
            return chip.connected[index]

        def connect(name: str, value: Any) -> None:
            arguments: dict[str, Any] = {**place, name: value}
            board.connect_device(**arguments)

        setters = [
            Setter("connect_device", partial(connect, name), numbers, partial(connected, index), name)
            for index, (name, numbers) in enumerate(allowed.items())
        ]
        setters += [
            Setter("connect_device", partial(connect, "polarity"), Only((*NO_CHOICES, 2)), label="polarity"),
            Setter("set_address", lambda value: board.set_address(value, 0), allowed["row"], label="row"),
            Setter("set_address", lambda value: board.set_address(0, value), allowed["col"], label="column"),
            Setter("set_signal", lambda value: board.set_signal(value, True), NO_SIGNALS, label="signal"),
            Setter("set_signal", partial(board.set_signal, ColumnSignal.CWL), Only(NO_SWITCHES), label="level"),
            Setter("fill_registers", lambda word: board.fill_registers(Words(0, 0, 0, 0, word)), NO_WORDS),
            Setter("walk_registers", lambda word: board.walk_registers(Words(0, 0, 0, 0, word)), NO_WORDS),
            Setter("send_xnor_inputs", board.send_xnor_inputs, NO_INPUTS),
            Setter("set_watchdog", board.set_watchdog, NO_WATCHDOG),
        ]
        yield Stand(
            board, (), setters, C2NFarEnd(link), frozenset({"reopen", "echo", "pulse", "cycle", "sense", "xnor_stream"})
        )


STANDS = {"TernaryBoard": ternary_board, "ColumnBoard": column_board}
