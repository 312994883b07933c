"""C2N's two public controller boards on a serial port (``docs/c2n-boards.md``)."""

from __future__ import annotations

from drivers.c2n.column_board import ColumnBoard
from drivers.c2n.link import C2NLink, LinkStats, open_c2n
from drivers.c2n.protocol import COLUMN, TERNARY
from drivers.c2n.ternary_board import FirmwareTiming, SenseGenerator, TernaryBoard
from drivers.c2n.usb import usb_ports

__all__ = [
    "COLUMN",
    "TERNARY",
    "C2NLink",
    "ColumnBoard",
    "FirmwareTiming",
    "LinkStats",
    "SenseGenerator",
    "TernaryBoard",
    "open_c2n",
    "usb_ports",
]
