"""The serial port under the link: bytes in and out, with every failure as a LinkError."""

from __future__ import annotations

import io
import select
import socket

import serial

from drivers.errors import LinkError
from models.exceptions import UserMistake

CHUNK_BYTES = 65536


class SerialPort:
    """A port opened for us alone: a device name, a pseudo-terminal, or a pyserial URL such as ``socket://host:port``.

    Args:
        name: what to open.
        baudrate: bit/s; ignored by ports that have none.
        write_timeout_s: longest time that a write may take.

    Raises:
        LinkError: it cannot be opened, or another program holds it.
        UserMistake: no such kind of port, or an impossible baud rate.
    """

    def __init__(self, name: str, baudrate: int, write_timeout_s: float) -> None:
        self.name = name
        try:
            self._port = serial.serial_for_url(
                name, baudrate=baudrate, timeout=0, write_timeout=write_timeout_s, exclusive=True
            )
        except ValueError as error:
            raise UserMistake(f"port {name!r} at {baudrate} baud: {error}") from None
        except OSError as error:
            raise LinkError(f"cannot open the board's port {name}: {error}; is it plugged in, and free?") from error
        self._descriptor = self._selectable()

    def read(self, timeout_s: float) -> bytes:
        """Return what arrives, as soon as anything does; empty after ``timeout_s`` of silence."""
        try:
            if self._descriptor is None:
                self._port.timeout = timeout_s
                return self._port.read(max(1, self._port.in_waiting))
            if not select.select([self._descriptor], [], [], timeout_s)[0]:
                return b""
            return self._port.read(CHUNK_BYTES)
        except OSError as error:
            raise self._lost(error) from error

    def write(self, data: bytes) -> None:
        """Write all of ``data``."""
        try:
            self._port.write(data)
        except OSError as error:
            raise self._lost(error) from error

    def flush_input(self) -> None:
        """Throw away what was received and not read."""
        try:
            self._port.reset_input_buffer()
        except OSError as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """Close the port; closing it twice is harmless."""
        # When the far end has gone, pyserial leaves a socket:// open until it is garbage collected.
        far_end = getattr(self._port, "_socket", None)
        self._port.close()
        if far_end is not None:
            far_end.close()

    def _lost(self, error: OSError) -> LinkError:
        return LinkError(f"lost the board at {self.name}: {error}; plug it in and reopen the link")

    def _selectable(self) -> int | None:
        # select() wakes at the first byte and the read then takes all there is; without a descriptor (serial ports on
        # Windows) pyserial's own waiting has to do.
        try:
            descriptor: int = self._port.fileno()
        except io.UnsupportedOperation:
            return None
        if self.name.startswith("socket://"):
            with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as twin:
                twin.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return descriptor
