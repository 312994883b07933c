"""The two C2N controller boards of the simulated bench, each at the end of a serial line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from drivers.c2n.protocol import MOST_GEOMETRY, PACKET_BYTES, TERNARY_GEOMETRY
from drivers.c2n.ternary_board import FirmwareTiming
from drivers.simulated.board_server import SimulatedBoardServer
from drivers.simulated.c2n_firmware import C2NFirmware, ColumnFirmware, SenseTimes, TernaryFirmware
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from drivers.simulated.world import World

TIMING = FirmwareTiming(pulse_width_s=10e-6, precharge_s=5e-6, window_s=50e-9)
"""The simulated ternary chip leaves its zeros undecided within such a window; the laboratory's is not published."""

GENERATOR = SenseTimes(TIMING.precharge_s, TIMING.window_s)

C2NFirmwareT = TypeVar("C2NFirmwareT", bound=C2NFirmware)


class _C2NServer(SimulatedBoardServer[C2NFirmwareT]):
    """What both servers share."""

    def _replies(self, firmware: C2NFirmwareT, data: bytes) -> Iterator[bytes]:
        return firmware.replies(data)

    def _forget_received(self) -> None:
        if self._firmware is not None:
            self._firmware.forget_received()

    @staticmethod
    def _pieces(data: bytes) -> list[bytes]:
        return [data[start : start + PACKET_BYTES] for start in range(0, len(data), PACKET_BYTES)]


class TernaryBoardServer(_C2NServer[TernaryFirmware]):
    """The board of the 8 x 8 ternary chip.

    Args:
        world: rails and chip that it acts on; the chip has 8 x 8 cells.
        transport: "pty" (POSIX) or "tcp".
        baud: serial speed to honour in bit/s; None for as fast as it goes.
        timing: what its firmware times by itself.
        generator: how the waveform generator that drives its SENSE is set; None for one that was never started, which
            leaves the board waiting until it is reset.

    Raises:
        UserMistake: another size of chip, or no such transport or baud rate.
    """

    def __init__(
        self,
        world: World,
        transport: str = "pty",
        baud: int | None = None,
        timing: FirmwareTiming = TIMING,
        generator: SenseTimes | None = GENERATOR,
    ) -> None:
        super().__init__(transport, baud)
        if world.chip.geometry != TERNARY_GEOMETRY:
            raise UserMistake(f"the C2N ternary board drives 8 x 8 cells, the chip has {tuple(world.chip.geometry)}")
        self._world = world
        self._timing = timing
        self._generator = generator

    def _new_firmware(self) -> TernaryFirmware:
        return TernaryFirmware(self._world, self._timing, self._generator)


class ColumnBoardServer(_C2NServer[ColumnFirmware]):
    """The board of the 64-column array.

    Args:
        world: pads and chip that it acts on; the chip has at most 128 x 64 cells.
        transport: "pty" (POSIX) or "tcp".
        baud: serial speed to honour in bit/s; None for as fast as it goes.

    Raises:
        UserMistake: too large a chip, or no such transport or baud rate.
    """

    def __init__(self, world: World, transport: str = "pty", baud: int | None = None) -> None:
        super().__init__(transport, baud)
        rows, cols = world.chip.geometry
        if rows > MOST_GEOMETRY.rows or cols > MOST_GEOMETRY.cols:
            raise UserMistake(
                f"the C2N 64-column board reaches {tuple(MOST_GEOMETRY)} cells, the chip has {rows, cols}"
            )
        self._world = world

    def _new_firmware(self) -> ColumnFirmware:
        return ColumnFirmware(self._world)
