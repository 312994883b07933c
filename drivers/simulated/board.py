"""The controller board of the simulated bench that speaks our framed protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from drivers.framed.codec import TERMINATOR, Deframer
from drivers.simulated.board_server import SimulatedBoardServer
from drivers.simulated.firmware import BoardFirmware, BoardProperties

if TYPE_CHECKING:
    from drivers.simulated.world import World


class BoardServer(SimulatedBoardServer[BoardFirmware]):
    """A simulated controller board that speaks the framed protocol.

    Args:
        world: rails, pads and chip that it acts on.
        transport: "pty" (POSIX) or "tcp".
        baud: serial speed to honour in bit/s, both directions at once; None for as fast as it goes.
        seed: of the random ids that it draws at each power-up.
        properties: what the board says of itself.

    Raises:
        UserMistake: no such transport or baud rate.
    """

    def __init__(
        self,
        world: World,
        transport: str = "pty",
        baud: int | None = None,
        seed: int = 0,
        properties: BoardProperties | None = None,
    ) -> None:
        super().__init__(transport, baud)
        self._world = world
        self._properties = BoardProperties() if properties is None else properties
        self._rng = np.random.default_rng(seed)
        self._deframer = Deframer(self._properties.max_payload)

    def _new_firmware(self) -> BoardFirmware:
        boot_id, first_session = (int(self._rng.integers(1, high)) for high in (1 << 32, 1 << 16))
        return BoardFirmware(self._world, self._properties, boot_id, first_session)

    def _replies(self, firmware: BoardFirmware, data: bytes) -> Iterator[bytes]:
        return map(firmware.handle, self._deframer.feed(data))

    def _forget_received(self) -> None:
        self._deframer = Deframer(self._properties.max_payload)

    @staticmethod
    def _pieces(data: bytes) -> list[bytes]:
        *whole, rest = data.split(TERMINATOR)
        return [piece + TERMINATOR for piece in whole] + [rest]
