"""A whole simulated bench: supply, source-measure unit, controller board and chip, and the bench file to reach them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from data.device_files import DeviceFile, default_device
from drivers.simulated.board import BoardServer
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.keithley_2230g import Keithley2230GServer
from drivers.simulated.keithley_2450 import Keithley2450Server
from drivers.simulated.world import World
from models.cells import Geometry

KILOBIT = Geometry(32, 32)


class SimulatedBench:
    """Servers at the far end of real wires, sharing one world. Use it as a context manager, or start and stop it.

    Args:
        seed: of the chip and of every instrument's noise; the same exchanges then give the same answers.
        device: the population that the chip's devices are drawn from; the default device file when None.
        transport: "pty" or "tcp" for the board.
        baud: serial speed that the board's link honours, in bit/s; None for as fast as it goes.
    """

    def __init__(
        self, seed: int, device: DeviceFile | None = None, transport: str = "pty", baud: int | None = None
    ) -> None:
        population = default_device() if device is None else device
        supply_noise, smu_noise = (
            np.random.default_rng(child) for child in np.random.SeedSequence([seed, 0x0B]).spawn(2)
        )
        self.seed = seed
        self.chip = SimulatedChip(population.model, KILOBIT, seed, f"SIM-KILOBIT-{seed}")
        self.world = World(self.chip)
        self.supply = Keithley2230GServer(self.world, supply_noise)
        self.smu = Keithley2450Server(self.world, smu_noise)
        self.board = BoardServer(self.world, transport, baud, seed)

    def start(self) -> None:
        """Start all servers."""
        started = []
        try:
            for server in (self.supply, self.smu, self.board):
                server.start()
                started.append(server)
        except BaseException:
            for server in reversed(started):
                server.stop()
            raise

    def stop(self) -> None:
        """Stop all servers."""
        for server in (self.board, self.smu, self.supply):
            server.stop()

    def bench_file(self) -> str:
        """Text of a bench file that points at the running servers."""
        text = files("data").joinpath("benches/simulated.toml").read_text(encoding="utf-8")
        values = {
            "supply": self.supply.resource,
            "smu": self.smu.resource,
            "board": self.board.port,
            "chip": self.chip.chip_id,
        }
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        return text

    def write_bench_file(self, path: Path) -> None:
        """Write :meth:`bench_file` where a client will look for it."""
        path.write_text(self.bench_file(), encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
