"""Names of resources: when two of them, written differently, mean the same thing on the desk."""

from __future__ import annotations

import os
import re
from pathlib import Path

_VISA = re.compile(r"(?P<interface>GPIB|USB|TCPIP|ASRL|VXI|PXI)(?P<board>\d*)::(?P<rest>.+)", re.IGNORECASE)
_USB_WITH_INTERFACE = re.compile(r"(0X[0-9A-F]+|\d+)::(0X[0-9A-F]+|\d+)::(.+?)(::\d+)?(::INSTR)?")


def canonical(name: str) -> str:
    """Return one spelling for all names of a resource: board numbers written out, links followed, no case.

    Args:
        name: a VISA resource name, a serial port, a pseudo-terminal, or a pyserial URL.
    """
    match = _VISA.fullmatch(name.strip())
    if match is None:
        # /dev/serial/by-id/... and /dev/ttyACM0 are one port; COM4 and com4 as well.
        return str(Path(name).resolve()) if name.startswith("/") else os.path.normcase(name.strip())
    rest = match["rest"].upper()
    interface = match["interface"].upper()
    if interface == "USB" and (usb := _USB_WITH_INTERFACE.fullmatch(rest)) is not None:
        rest = f"0X{int(usb[1], 0):04X}::0X{int(usb[2], 0):04X}::{usb[3]}"
    return f"{interface}{match['board'] or '0'}::{rest.removesuffix('::INSTR')}"


def usb_ids(name: str) -> tuple[int, int] | None:
    """Return vendor and product id of a VISA resource on USB; None for any other."""
    match = _VISA.fullmatch(name.strip())
    if match is None or match["interface"].upper() != "USB":
        return None
    usb = _USB_WITH_INTERFACE.fullmatch(match["rest"].upper())
    return None if usb is None else (int(usb[1], 0), int(usb[2], 0))
