"""A stand-in chip that counts exactly what is done to it, so that a test can prove what reached it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from drivers.simulated.board import BoardServer
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import Rails, World
from models.cells import Device, DeviceMask, Geometry, Polarity


class FakeChip:
    """Senses are ``weights``, whatever the rails; ``pulses[row, col, device, polarity]`` counts."""

    def __init__(self, geometry: Geometry, weights: NDArray[np.int8] | None = None) -> None:
        self.geometry = geometry
        self.chip_id = f"FAKE-{geometry.rows}x{geometry.cols}"
        self.weights = np.ones(geometry, dtype=np.int8) if weights is None else weights
        self.pulses = np.zeros((*geometry, 2, 2), dtype=np.int64)
        self.calls: list[tuple[Any, ...]] = []
        self.connected: tuple[int, int, Device] | None = None
        self.broken = False

    def pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int, rails: Rails) -> None:
        """Count the pulses; break afterwards when told to."""
        self.pulses[..., polarity] += devices * count
        self.calls.append(("pulse", polarity, np.flatnonzero(devices).tolist(), width_s, count, rails))
        if self.broken:
            raise RuntimeError("word line driver")

    def cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int, rails: Rails) -> None:
        """Count the pulses of both polarities; break afterwards when told to."""
        self.pulses += (devices * count)[..., None]
        self.calls.append(("cycle", np.flatnonzero(devices).tolist(), set_width_s, reset_width_s, count, rails))
        if self.broken:
            raise RuntimeError("word line driver")

    def sense(self, rails: Rails, precharge_s: float, window_s: float, repeats: int) -> NDArray[np.int8]:
        """Return the weights, ``repeats`` times."""
        self.calls.append(("sense", rails, precharge_s, window_s, repeats))
        return np.repeat(self.weights[None], repeats, axis=0)

    def xnor(
        self, inputs: NDArray[np.int8], rails: Rails, precharge_s: float, window_s: float, geometry: Geometry
    ) -> NDArray[np.int16]:
        """Return the exact sums."""
        self.calls.append(("xnor", len(inputs), precharge_s, window_s, geometry))
        used = self.weights[: geometry.rows, : geometry.cols].astype(np.int16)
        return inputs.astype(np.int16) @ used.T

    def connect(self, row: int, col: int, device: Device) -> None:
        """Remember the device."""
        self.connected = (row, col, device)

    def disconnect(self) -> None:
        """Forget the device."""
        self.connected = None

    def expose(self, rails: Rails) -> None:
        """Nothing happens to it at any voltage."""


@contextmanager
def served(chip: FakeChip, *options: Any, **named: Any) -> Iterator[BoardServer]:
    """Serve ``chip`` behind a simulated board; the options are those of :class:`BoardServer`."""
    server = BoardServer(World(cast(SimulatedChip, chip)), *options, **named)
    server.start()
    try:
        yield server
    finally:
        server.stop()
