"""A controller board on a serial port, speaking our framed protocol (``docs/board-protocol.md``)."""

from __future__ import annotations

from drivers.framed.board import BoardLimits, FramedBoard
from drivers.framed.link import FramedLink, LinkStats, open_framed

__all__ = ["BoardLimits", "FramedBoard", "FramedLink", "LinkStats", "open_framed"]
