"""Boards by their USB ids: which serial port is theirs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from models.exceptions import UserMistake

PREFIX = "usb:"


@dataclass(frozen=True)
class UsbIdentity:
    """What USB tells of a serial port.

    Attributes:
        device: name of the port; empty when it is not on USB.
        product_id: None when it is not on USB.
        serial: serial number; empty when there is none.
        description: what the operating system calls it.
    """

    device: str = ""
    product_id: int | None = None
    serial: str = ""
    description: str = ""


def usb_ports(product_id: int | None = None) -> list[UsbIdentity]:
    """List the serial ports that are on USB, those with ``product_id`` only when it is given. Opens none of them."""
    # Imported here: it walks the system's devices, and few ports are named by their USB id.
    from serial.tools import list_ports

    found = [_identity(port) for port in list_ports.comports() if port.pid is not None]
    return sorted(
        (port for port in found if product_id is None or port.product_id == product_id), key=lambda port: port.device
    )


def usb_identity(device: str) -> UsbIdentity:
    """What USB tells of the port ``device``; empty when it is not on USB."""
    # A link such as /dev/serial/by-id/... keeps its name when the port's number changes: follow it.
    real = os.path.realpath(device) if device.startswith("/") else device
    return next((port for port in usb_ports() if port.device == real), UsbIdentity())


def resolve_port(name: str) -> str:
    """Return the port that ``name`` means: itself, or for ``usb:5740`` the one with that product id in hexadecimal.

    ``usb:5740:SERIAL`` chooses among several by serial number.

    Raises:
        UserMistake: a malformed id, or none or several such boards are plugged in.
    """
    if not name.startswith(PREFIX):
        return name
    product, _, serial = name.removeprefix(PREFIX).partition(":")
    try:
        product_id = int(product, 16)
    except ValueError:
        raise UserMistake(f"port {name!r}: {product!r} is no hexadecimal product id; write usb:5740, say") from None
    found = [port for port in usb_ports(product_id) if serial in ("", port.serial)]
    if len(found) == 1:
        return found[0].device
    seen = ", ".join(f"{port.device} (serial {port.serial})" for port in found)
    if found:
        raise UserMistake(f"port {name!r}: {len(found)} boards answer to it: {seen}; name one as usb:{product}:SERIAL")
    raise UserMistake(f"port {name!r}: no such board is plugged in; check its cable and its power")


def _identity(port: Any) -> UsbIdentity:
    return UsbIdentity(port.device, port.pid, port.serial_number or "", port.description or "")
