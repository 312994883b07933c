"""Opening the controller board that a bench file names, in whichever dialect it speaks."""

from __future__ import annotations

from typing import Protocol

from bench.config import BenchFile
from drivers.c2n import COLUMN, TERNARY, ColumnBoard, FirmwareTiming, TernaryBoard, open_c2n
from drivers.c2n.usb import resolve_port
from drivers.framed.board import BoardLimits, FramedBoard
from drivers.framed.link import open_framed
from drivers.roles import ControllerBoard

UNNAMED = "unnamed"
"""Identifier of a chip where neither the board nor the bench file tells one."""


class BenchBoard(ControllerBoard, Protocol):
    """A controller board whose link can be opened again."""

    def reopen(self, port: str | None = None) -> None:
        """Open the link again, after an unplug or a reset. Raises WrongInstrument when another board answers."""


def open_board(config: BenchFile) -> BenchBoard:
    """Open the board behind the bench file's limits.

    Raises:
        UserMistake: no such port.
        LinkError: nobody answers.
        WrongInstrument: a board of another dialect or version answers.
    """
    section = config.board
    limits = board_limits(config)
    port = resolve_port(section.port)
    chip_id = UNNAMED if config.chip.id is None else config.chip.id
    if section.driver == "c2n-column":
        return ColumnBoard(open_c2n(port, COLUMN, section.baudrate), config.geometry, chip_id)
    if section.driver == "c2n-ternary":
        return TernaryBoard(open_c2n(port, TERNARY, section.baudrate), limits, chip_id, firmware_timing(config))
    return FramedBoard(open_framed(port, section.baudrate), limits)


def board_limits(config: BenchFile) -> BoardLimits:
    """The bench file's envelope of what a board may be asked."""
    return BoardLimits(
        width=config.limit("pulse_width_s", "s"),
        count=config.limit("pulse_count", "pulses"),
        window=config.limit("sense_window_s", "s"),
        cycles=config.limit("cycle_count", "cycles"),
    )


def firmware_timing(config: BenchFile) -> FirmwareTiming:
    """What a C2N ternary board times by itself, as its bench file says."""
    firmware = config.board.firmware
    assert firmware is not None  # the bench file was checked
    return FirmwareTiming(firmware.pulse_width_s, firmware.precharge_s, firmware.window_s)
