"""A whole simulated bench: supply, source-measure unit, controller board and chip, and the bench file to reach them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from data.atomic import write_atomically
from data.device_files import DeviceFile, packaged_device
from drivers.framed.messages import Sense
from drivers.prober_role import FEWEST_ACROSS, MOST_ACROSS
from drivers.simulated.board import BoardServer
from drivers.simulated.c2n_boards import TIMING, ColumnBoardServer, TernaryBoardServer
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.clock_server import ClockServer
from drivers.simulated.firmware import BoardProperties
from drivers.simulated.keithley_2230g import Keithley2230GServer
from drivers.simulated.keithley_2450 import Keithley2450Server
from drivers.simulated.keithley_2636b import Keithley2636BServer
from drivers.simulated.keysight_81160a import Keysight81160AServer
from drivers.simulated.keysight_e36312a import KeysightE36312AServer
from drivers.simulated.mpi_sentio import MpiSentioServer
from drivers.simulated.temptronic_ats545 import TemptronicAts545Server
from drivers.simulated.wafer import Wafer
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

SUPPLIES = {"keithley-2230g": Keithley2230GServer, "keysight-e36312a": KeysightE36312AServer}
SMUS = {"keithley-2450": Keithley2450Server, "keithley-2636b": Keithley2636BServer}
BOARDS = ("framed", "c2n")
"""The controller board's dialect: ours, or that of the public C2N board which the chip belongs to."""

FURTHER_INSTRUMENTS = """
[pulse_source]                # Keysight 81160A on the direct-access pads
driver = "keysight-81160a"
resource = "@pulse_source@"

[temperature]                 # Temptronic ATS-545
driver = "temptronic-ats545"
resource = "@temperature@"
moves_head = true             # a run at a temperature may lower the head; nobody's hand is under it
"""
PROBER = """
[prober]                      # MPI SENTIO, with a wafer on its chuck
driver = "mpi-sentio"
resource = "@prober@"
wafer = "@wafer@"
"""
C2N_FIRMWARE = """
[board.firmware]              # what the simulated board makes
pulse_width_s = {pulse_width_s!r}
precharge_s = {precharge_s!r}
window_s = {window_s!r}
"""


def _packaged(folder: str, name: str) -> Path:
    return Path(str(files("data"))) / folder / f"{name}.toml"


class Startable(Protocol):
    """A server."""

    def start(self) -> None:
        """Begin to serve."""

    def stop(self) -> None:
        """End it."""


class SimulatedBench:
    """Servers at the far end of real wires, sharing one world. Use it as a context manager, or start and stop it.

    Args:
        seed: of the chip and of every instrument's noise; the same exchanges then give the same answers.
        device: the population that the chip's devices are drawn from; that of the kind of chip when None.
        transport: "pty" or "tcp" for the board.
        baud: serial speed that the board's link honours, in bit/s; None for as fast as it goes.
        chip: kind of chip, a key of :data:`CHIPS`.
        arrays: how many arrays of that chip are stacked, row upon row, into one macro.
        supply, smu: driver names of the instruments on the bench, keys of :data:`SUPPLIES` and :data:`SMUS`.
        board: dialect of the controller board, one of :data:`BOARDS`.
        wafer: dies across a wafer of such chips on a prober; 0 for one chip in a socket.

    Attributes:
        wafer: the wafer; None for a chip in a socket.

    Raises:
        UserMistake: there is no such kind of chip, instrument or board, not so many arrays can be stacked, or there is
            no wafer of so many dies.
    """

    def __init__(
        self,
        seed: int,
        device: DeviceFile | None = None,
        transport: str = "pty",
        baud: int | None = None,
        chip: str = DEFAULT_CHIP,
        arrays: int = 1,
        supply: str = "keithley-2230g",
        smu: str = "keithley-2450",
        board: str = "framed",
        wafer: int = 0,
    ) -> None:
        choices: tuple[tuple[str, str, Iterable[str]], ...] = (
            ("chip", chip, CHIPS),
            ("supply", supply, SUPPLIES),
            ("source-measure unit", smu, SMUS),
            ("board", board, BOARDS),
        )
        for what, chosen, known in choices:
            if chosen not in known:
                raise UserMistake(f"there is no simulated {what} {chosen!r}; there are {', '.join(known)}")
        self.kind = kind = CHIPS[chip]
        most = MOST_ROWS // kind.geometry.rows
        if not 1 <= arrays <= most:
            raise UserMistake(f"{arrays} arrays of the {chip} chip are refused; 1 to {most} can be stacked")
        if wafer and not FEWEST_ACROSS <= wafer <= MOST_ACROSS:
            raise UserMistake(
                f"{wafer} dies across a simulated wafer are refused; {FEWEST_ACROSS} to {MOST_ACROSS} are possible"
            )
        geometry = Geometry(kind.geometry.rows * arrays, kind.geometry.cols)
        stacked = "" if arrays == 1 else f"-X{arrays}"
        chip_id = f"SIM-{chip.upper()}{stacked}{'-WAFER' if wafer else ''}-{seed}"
        population = packaged_device(kind.device) if device is None else device
        supply_noise, smu_noise = (
            np.random.default_rng(child) for child in np.random.SeedSequence([seed, 0x0B]).spawn(2)
        )
        self.seed = seed
        self._baud = baud
        self.wafer = Wafer(population, geometry, seed, chip_id, wafer, arrays) if wafer else None
        if self.wafer is None:
            self.chip = SimulatedChip(population.model, geometry, seed, chip_id, arrays)
        else:
            self.chip = self.wafer.untouched
        self.world = World(self.chip)
        self.prober = None if self.wafer is None else self._prober(self.wafer)
        self._drivers = {"supply": supply, "smu": smu}
        self.supply = SUPPLIES[supply](self.world, supply_noise)
        self.smu = SMUS[smu](self.world, smu_noise)
        self.pulse_source = Keysight81160AServer(self.world)
        self.temperature = TemptronicAts545Server(self.world.lock, self._set_temperature, self._time)
        self.world.following = self.temperature.source.follow
        self.clock = ClockServer(self.world)
        # one message must hold a mask of all devices, and one sense of all cells
        payload = max(BoardProperties.max_payload, 2 * Sense.reply_bytes(geometry, 1))
        self.board: BoardServer | TernaryBoardServer | ColumnBoardServer
        if board == "framed":
            self.board = BoardServer(self.world, transport, baud, seed, BoardProperties(max_payload=payload))
        elif chip == "ternary":
            self.board = TernaryBoardServer(self.world, transport, baud, generator=None)
        else:
            self.board = ColumnBoardServer(self.world, transport, baud)

    @property
    def servers(self) -> tuple[Startable, ...]:
        """All servers, in the order in which they start."""
        prober = () if self.prober is None else (self.prober,)
        return (self.clock, self.supply, self.smu, self.pulse_source, self.temperature, self.board, *prober)

    def _prober(self, wafer: Wafer) -> MpiSentioServer:
        return MpiSentioServer(self.world.lock, wafer.dies, lambda die: wafer.touch(die, self.world))

    def _set_temperature(self, celsius: float) -> None:
        self.world.temperature_c = celsius

    def _time(self) -> float:
        """Time of what heats and cools: that of a person at its panel, and what passed in the world beside it."""
        return time.monotonic() + self.world.now_s

    def start(self) -> None:
        """Start all servers."""
        started = []
        try:
            for server in self.servers:
                server.start()
                started.append(server)
        except BaseException:
            for server in reversed(started):
                server.stop()
            raise

    def stop(self) -> None:
        """Stop all servers."""
        for server in reversed(self.servers):
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
            "pulse_source": self.pulse_source.resource,
            "temperature": self.temperature.resource,
        }
        text = text.replace("\nsimulated = true", f'\nworld_clock = "{self.clock.url}"\nsimulated = true', 1)
        further = FURTHER_INSTRUMENTS
        if self.prober is not None:
            further += PROBER
            values |= {"prober": self.prober.resource, "wafer": f"SIM-{self.seed}"}
        text = text.replace("\n[chip]\n", further + "\n[chip]\n", 1)
        text = text.replace('"keithley-2230g"', f'"{self._drivers["supply"]}"')
        text = text.replace('"keithley-2450"', f'"{self._drivers["smu"]}"')
        text = self._with_board(text)
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        if self._baud is not None:
            # The host derives its deadlines from the speed of the line.
            text = re.sub(r"(?m)^baudrate = .*$", f"baudrate = {self._baud}", text)
        return text

    def _with_board(self, text: str) -> str:
        """The text with what a C2N board needs: no watchdog, no cycling, and pulses as long as its firmware makes."""
        if isinstance(self.board, BoardServer):
            return text
        ternary = isinstance(self.board, TernaryBoardServer)
        text = text.replace('"framed"', '"c2n-ternary"' if ternary else '"c2n-column"')
        text = re.sub(r"(?m)^watchdog_s = .*$", "watchdog_s = 0.0              # this board has none", text)
        text = re.sub(r"(?m)(^#.*\n)*^\[operating_points\.CYCLE\]\n(.+\n)*\n", "", text)
        text = re.sub(r"(?m)^width_s = .*$", f"width_s = {TIMING.pulse_width_s!r}", text)
        return text + C2N_FIRMWARE.format(**asdict(TIMING)) if ternary else text

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
