"""What the tests of the simulated instruments share: a plain socket client, and a world with a resistor on its pads."""

from __future__ import annotations

import math
import socket
from types import TracebackType
from typing import Self, cast

from drivers.simulated.chip import SimulatedChip
from drivers.simulated.scpi import InstrumentServer
from drivers.simulated.world import Rails, World


class Resistor:
    """Stands in for a chip: a resistor at the pads, and a record of what the rails and the pads were put to.

    Attributes:
        ohms: resistance at the pads; infinite when nothing is connected.
        rails, forced: what was applied, in order; ``forced`` as (volts, amps of compliance).
    """

    def __init__(self, ohms: float = 10e3) -> None:
        self.ohms = ohms
        self.rails: list[Rails] = []
        self.forced: list[tuple[float, float]] = []

    def expose(self, rails: Rails) -> None:
        """Record what the rails are put to."""
        self.rails.append(rails)

    def force_direct(self, volts: float, compliance_a: float, rails: Rails) -> tuple[float, float]:
        """Ohm's law, up to the compliance."""
        self.forced.append((volts, compliance_a))
        amps = 0.0 if math.isinf(self.ohms) else volts / self.ohms
        if abs(amps) <= compliance_a:
            return volts, amps
        limited = math.copysign(compliance_a, amps)
        return limited * self.ohms, limited


def world_with(resistor: Resistor) -> World:
    """A world whose chip is a resistor."""
    return World(cast(SimulatedChip, resistor))


class Client:
    """A line client that knows nothing of SCPI."""

    def __init__(self, server: InstrumentServer) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.wire.port), timeout=5.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")

    def send(self, text: str) -> None:
        """Send one line."""
        self.send_bytes(text.encode() + b"\n")

    def send_bytes(self, sent: bytes) -> None:
        """Send what may be no line at all."""
        self._socket.sendall(sent)

    def do(self, text: str) -> None:
        """Send one line and wait until it has been acted on."""
        self.send(text)
        assert self.ask("*OPC?") == "1"

    def ask(self, text: str) -> str:
        """Send one line and wait for one line."""
        self.send(text)
        return self.read()

    def read(self) -> str:
        """Wait for one line; empty when the connection is closed."""
        return self._replies.readline().decode("ascii").removesuffix("\n")

    def errors(self) -> list[int]:
        """Take all codes out of the error queue."""
        codes = []
        while code := int(self.ask("SYST:ERR?").split(",")[0]):
            codes.append(code)
        return codes

    def close(self) -> None:
        """Close the connection."""
        self._replies.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
