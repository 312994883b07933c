"""A whole simulated bench: supply, source-measure unit, controller board and chip, and the bench file to reach them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from data.atomic import write_atomically
from data.device_files import DeviceFile, load_device
from drivers.framed.messages import Sense
from drivers.simulated.board import BoardServer
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.firmware import BoardProperties
from drivers.simulated.keithley_2230g import Keithley2230GServer
from drivers.simulated.keithley_2450 import Keithley2450Server
from drivers.simulated.world import World
from models.cells import Geometry
from models.exceptions import UserMistake

MOST_ROWS = 1024
"""Largest number of rows that a bench file may have."""


@dataclass(frozen=True)
class ChipKind:
    """A chip that can be simulated.

    Attributes:
        geometry: of one array.
        device: name of the device file under ``data/devices`` that its population comes from.
        bench: name of its bench file under ``data/benches``.
    """

    geometry: Geometry
    device: str
    bench: str


CHIPS: Mapping[str, ChipKind] = {
    "kilobit": ChipKind(Geometry(32, 32), "hfo2_130nm", "simulated"),
    "ternary": ChipKind(Geometry(8, 8), "hfo2_130nm_ternary", "simulated_ternary"),
    "array64": ChipKind(Geometry(64, 64), "hfo2_130nm", "simulated_array64"),
}
"""Binary chip of 1024 cells; ternary chip sensed near threshold; array with direct access for programming too."""

DEFAULT_CHIP = "kilobit"


def _packaged(folder: str, name: str) -> Path:
    return Path(str(files("data"))) / folder / f"{name}.toml"


def packaged_device(name: str) -> DeviceFile:
    """The device file of that name which comes with the package."""
    return load_device(_packaged("devices", name))


class SimulatedBench:
    """Servers at the far end of real wires, sharing one world. Use it as a context manager, or start and stop it.

    Args:
        seed: of the chip and of every instrument's noise; the same exchanges then give the same answers.
        device: the population that the chip's devices are drawn from; that of the kind of chip when None.
        transport: "pty" or "tcp" for the board.
        baud: serial speed that the board's link honours, in bit/s; None for as fast as it goes.
        chip: kind of chip, a key of :data:`CHIPS`.
        arrays: how many arrays of that chip are stacked, row upon row, into one macro.

    Raises:
        UserMistake: there is no such kind of chip, or not so many arrays can be stacked.
    """

    def __init__(
        self,
        seed: int,
        device: DeviceFile | None = None,
        transport: str = "pty",
        baud: int | None = None,
        chip: str = DEFAULT_CHIP,
        arrays: int = 1,
    ) -> None:
        if chip not in CHIPS:
            raise UserMistake(f"there is no simulated chip {chip!r}; there are {', '.join(CHIPS)}")
        self.kind = kind = CHIPS[chip]
        most = MOST_ROWS // kind.geometry.rows
        if not 1 <= arrays <= most:
            raise UserMistake(f"{arrays} arrays of the {chip} chip are refused; 1 to {most} can be stacked")
        geometry = Geometry(kind.geometry.rows * arrays, kind.geometry.cols)
        stacked = "" if arrays == 1 else f"-X{arrays}"
        chip_id = f"SIM-{chip.upper()}{stacked}-{seed}"
        population = packaged_device(kind.device) if device is None else device
        supply_noise, smu_noise = (
            np.random.default_rng(child) for child in np.random.SeedSequence([seed, 0x0B]).spawn(2)
        )
        self.seed = seed
        self._baud = baud
        self.chip = SimulatedChip(population.model, geometry, seed, chip_id, arrays)
        self.world = World(self.chip)
        self.supply = Keithley2230GServer(self.world, supply_noise)
        self.smu = Keithley2450Server(self.world, smu_noise)
        # one message must hold a mask of all devices, and one sense of all cells
        payload = max(BoardProperties.max_payload, 2 * Sense.reply_bytes(geometry, 1))
        self.board = BoardServer(self.world, transport, baud, seed, BoardProperties(max_payload=payload))

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
        text = _packaged("benches", self.kind.bench).read_text(encoding="utf-8")
        text = text.replace(f"rows = {self.kind.geometry.rows}\n", f"rows = {self.chip.geometry.rows}\n")
        values = {
            "supply": self.supply.resource,
            "smu": self.smu.resource,
            "board": self.board.port,
            "chip": self.chip.chip_id,
        }
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        if self._baud is not None:
            # The host derives its deadlines from the speed of the line.
            text = re.sub(r"(?m)^baudrate = .*$", f"baudrate = {self._baud}", text)
        return text

    def write_bench_file(self, path: Path) -> None:
        """Write :meth:`bench_file` where a client will look for it.

        Raises:
            UserMistake: it cannot be written there, or a file stands there that is not one of a simulated bench: that
                may be somebody's real one.
        """
        if path.is_file() and "simulated = true" not in path.read_text(encoding="utf-8", errors="replace"):
            raise UserMistake(f"{path} exists and is no bench file of a simulated bench; name another with --write")
        write_atomically(path, self.bench_file().encode(), "bench file")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
