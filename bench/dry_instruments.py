"""Instruments that touch nothing: what a procedure meets in a dry run.

Their checks are those of the drivers that the bench file names, made on links that cannot send. They count what an
exchange would cost, and remember what was programmed, so that a read answers it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bench.boards import UNNAMED, board_limits, firmware_timing
from bench.config import BenchFile
from bench.instruments import smu_on, supply_on
from drivers.c2n import ColumnBoard, TernaryBoard
from drivers.chip import Chip
from drivers.framed.board import FramedBoard
from drivers.framed.codec import BITS_PER_BYTE
from drivers.framed.messages import Welcome
from drivers.rails import RAILS, SupplyRails
from drivers.roles import (
    BoardStatus,
    ChannelReading,
    ControllerBoard,
    Identity,
    Measurement,
    PowerSupply,
    SourceMeasureUnit,
)
from models.cells import Device, DeviceMask, Geometry, Polarity

SETUP_S = 1e-6
"""What a board adds to each pulse and each sensed row."""

FRAME_BYTES = 16
"""Header, checksum and framing of a message to a board and of its answer, about."""

LRS_OHM, HRS_OHM, VIRGIN_OHM = 8e3, 100e3, 1e9
WEAK_SHARE = 0.75
"""A RESET pulse at less than this share of the column voltage of RESET is a weak one."""

WEAK_STEP = 1.02
"""Factor by which a weak RESET pulse raises an LRS, so that a staircase climbs."""


@dataclass(frozen=True)
class Costs:
    """What things take on a bench, in s. ``docs/procedures.md`` says where the numbers come from.

    Attributes:
        exchange_s: one request to the board and its answer, without what the board does.
        supply_s: one message to the supply and its answer.
        smu_s: one message to the source-measure unit and its answer.
        line_hz: mains frequency that integration times count; 0 where a reading takes no time.
        record_s: storing one record.
        run_s: connecting, making the run file, and finishing it.
        busy: whether the board's pulses and senses take the time that they last.
        flush_byte_s: storing one byte more.
    """

    exchange_s: float
    supply_s: float
    smu_s: float
    line_hz: float
    record_s: float
    run_s: float
    busy: bool
    flush_byte_s: float = 2e-9


SIMULATED_COSTS = Costs(0.4e-3, 0.3e-3, 0.5e-3, 0.0, 0.3e-3, 1.0, busy=False)
REAL_COSTS = Costs(2e-3, 20e-3, 15e-3, 50.0, 0.3e-3, 3.0, busy=True)


class DryWorld:
    """What the dry instruments share: the time that went by, what was counted, and what was programmed.

    Args:
        config: the bench file.
        obeys: whether devices do what they are told; where not, they stay virgin and every cell reads wrong.
        virgin: whether they must be formed first.
    """

    def __init__(self, config: BenchFile, obeys: bool, virgin: bool) -> None:
        self.config = config
        self.obeys = obeys
        self.costs = SIMULATED_COSTS if config.simulated else REAL_COSTS
        self.seconds = 0.0
        self.rail_moves = 0
        self.volts: dict[int, float] = {}
        self.highest: dict[str, float] = dict.fromkeys(RAILS, 0.0)
        self.connected: tuple[int, int, int] | None = None
        shape = (*config.geometry, 2)
        # A fixed spread: a procedure that takes percentiles or slopes must not meet a thousand equal devices.
        self._spread = np.random.default_rng(0).lognormal(0.0, 0.1, shape)
        self.ohm = (VIRGIN_OHM if virgin else HRS_OHM) * self._spread
        self.low = np.zeros(shape, dtype=bool)

    def spend(self, seconds: float) -> None:
        """Let time go by."""
        self.seconds += seconds

    def work(self, seconds: float) -> None:
        """The board is busy."""
        if self.costs.busy:
            self.seconds += seconds

    def program(self, devices: DeviceMask, low: bool, weak: int = 0) -> None:
        """Remember what ``devices`` were told; with ``weak`` they only climb by so many weak pulses."""
        if weak:
            if self.obeys:
                self.ohm[devices] = np.minimum(self.ohm[devices] * WEAK_STEP ** min(weak, 1000), HRS_OHM)
            return
        self.low[devices] = low
        if self.obeys:
            self.ohm[devices] = (LRS_OHM if low else HRS_OHM) * self._spread[devices]

    def sensed(self) -> NDArray[np.int8]:
        """What the sense amplifiers answer, ``(rows, cols)``: what was asked, or always something else."""
        asked = self.low[:, :, 1].astype(np.int8) - self.low[:, :, 0].astype(np.int8)
        return asked if self.obeys else np.where(asked == 1, -1, 1).astype(np.int8)

    def transfer(self, bytes_: int) -> None:
        """One exchange with the board that carries ``bytes_`` of payload."""
        self.seconds += self.costs.exchange_s
        if self.costs.busy:
            self.seconds += (bytes_ + FRAME_BYTES) * BITS_PER_BYTE / self.config.board.baudrate


class _NoLink:
    """In place of a link: there is nothing behind it, and a driver that would send fails."""

    resource = "dry run"
    port = "dry run"
    timeout_s = 0.0
    generation = 0

    def __init__(self, welcome: Welcome | None = None) -> None:
        self.welcome = welcome


class _Dry:
    """What all dry instruments have in common."""

    def identify(self) -> Identity:
        """Nobody."""
        return Identity("none", "dry run", "none", "none")

    def close(self) -> None:
        """Nothing is open."""


class DrySupply(_Dry):
    """A supply that measures what it was set to."""

    def __init__(self, world: DryWorld) -> None:
        self._world = world
        self._checks: PowerSupply = supply_on(cast(Any, _NoLink()), world.config)
        channels = world.config.supply.channels
        self._rail_of = {channels.vdd: "vdd_v", channels.vddc: "vddc_v", channels.vddr: "vddr_v"}
        world.volts = dict.fromkeys(range(1, max(self._rail_of) + 1), 0.0)

    def check_voltages(self, volts: Mapping[int, float]) -> None:
        """As the driver of the bench file's supply checks."""
        self._checks.check_voltages(volts)

    def set_voltage(self, channel: int, volts: float) -> None:
        """One channel."""
        self.set_voltages({channel: volts})

    def set_voltages(self, volts: Mapping[int, float]) -> None:
        """Move the rails: a message, its read-back, and the time to settle."""
        self.check_voltages(volts)
        world = self._world
        world.rail_moves += 1
        world.spend(2 * world.costs.supply_s + world.config.supply.settle_s)
        for channel, value in volts.items():
            world.volts[channel] = value
            rail = self._rail_of[channel]
            world.highest[rail] = max(world.highest[rail], value)

    def set_current_limit(self, channel: int, amps: float) -> None:
        """One message."""
        self._world.spend(self._world.costs.supply_s)

    def set_voltage_limit(self, channel: int, volts: float) -> None:
        """One message."""
        self._world.spend(self._world.costs.supply_s)

    def set_output(self, channel: int, on: bool) -> None:
        """One message."""
        self._world.spend(self._world.costs.supply_s)

    def measure(self) -> tuple[ChannelReading, ...]:
        """All channels, at what they were set to."""
        self._world.spend(self._world.costs.supply_s)
        return tuple(ChannelReading(value, 0.0, True) for value in self._world.volts.values())

    def safe_off(self) -> None:
        """All channels at 0 V."""
        self._world.spend(2 * self._world.costs.supply_s)
        self._world.volts = dict.fromkeys(self._world.volts, 0.0)


class DrySmu(_Dry):
    """A source-measure unit that measures what the connected device was programmed to."""

    def __init__(self, world: DryWorld) -> None:
        self._world = world
        self._checks: SourceMeasureUnit = smu_on(cast(Any, _NoLink()), world.config)
        section = world.config.smu
        assert section is not None
        line_hz = world.costs.line_hz
        self._reading_s = section.power_line_cycles / line_hz if line_hz > 0.0 else 0.0
        self._source = (0.0, 1.0)

    def check_source(self, volts: float, compliance_a: float) -> None:
        """As the driver of the bench file's unit checks."""
        self._checks.check_source(volts, compliance_a)

    def set_source(self, volts: float, compliance_a: float) -> None:
        """One message."""
        self.check_source(volts, compliance_a)
        self._world.spend(self._world.costs.smu_s)
        self._source = (volts, compliance_a)

    def set_source_range(self, volts: float | None) -> None:
        """One message."""
        self._world.spend(self._world.costs.smu_s)

    def set_integration(self, power_line_cycles: float) -> None:
        """One message."""
        self._world.spend(self._world.costs.smu_s)

    def set_output(self, on: bool) -> None:
        """One message."""
        self._world.spend(self._world.costs.smu_s)

    def measure(self) -> Measurement:
        """The current of the connected device, cut off at the compliance."""
        world = self._world
        world.spend(world.costs.smu_s + self._reading_s)
        volts, compliance_a = self._source
        ohm = VIRGIN_OHM if world.connected is None else float(world.ohm[world.connected])
        wanted = volts / ohm
        if abs(wanted) <= compliance_a:
            return Measurement(volts, wanted, False)
        current = float(np.copysign(compliance_a, volts))
        return Measurement(current * ohm, current, True)

    def spot(self) -> Measurement:
        """Like :meth:`measure`: on, read and off are one message."""
        return self.measure()

    def safe_off(self) -> None:
        """One message."""
        self._world.spend(self._world.costs.smu_s)


class DryXnor:
    """Sums that are there at once."""

    def __init__(self, world: DryWorld, row_s: float, geometry: Geometry) -> None:
        self._world, self._row_s, self._geometry = world, row_s, geometry
        self._sums: deque[NDArray[np.int16]] = deque()

    def put(self, inputs: NDArray[np.int8]) -> None:
        """Sum over what was programmed."""
        rows, cols = self._geometry
        self._world.transfer(len(inputs) * (cols // 8 + 2 * rows))
        self._world.work(len(inputs) * rows * (self._row_s + SETUP_S))
        weights = self._world.sensed()[:rows, :cols]
        self._sums.append(inputs.astype(np.int16) @ weights.T.astype(np.int16))

    def take(self) -> NDArray[np.int16]:
        """The oldest sums."""
        return self._sums.popleft()


class DryBoard(_Dry):
    """A controller board that counts, and remembers which devices are low."""

    def __init__(self, world: DryWorld) -> None:
        self._world = world
        self._checks = _checking_board(world.config)
        self.geometry: Geometry = world.config.geometry
        self.chip_id = UNNAMED if world.config.chip.id is None else world.config.chip.id
        self.cycles: bool = self._checks.cycles
        # As the drivers do it: the arguments are checked, and nothing more.
        self.check_pulse = self._checks.check_pulse
        self.check_cycle = self._checks.check_cycle
        self.check_sense = self._checks.check_sense
        self.check_xnor = self._checks.check_xnor
        self.check_device = self._checks.check_device
        self._mask_bytes = self.geometry.cells * 2 // 8

    def pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int = 1) -> None:
        """Program the devices."""
        world, points = self._world, self._world.config.points
        world.transfer(self._mask_bytes)
        world.work(int(np.count_nonzero(devices)) * count * (width_s + SETUP_S))
        weakly = world.volts[world.config.supply.channels.vddc] < WEAK_SHARE * points.reset.rails.vddc_v
        weak = polarity is Polarity.RESET and weakly
        world.program(devices, polarity is Polarity.SET, count if weak else 0)

    def cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int) -> None:
        """End in the HRS."""
        self._world.transfer(self._mask_bytes)
        self._world.work(int(np.count_nonzero(devices)) * count * (set_width_s + reset_width_s + 2 * SETUP_S))
        self._world.program(devices, False)

    def sense(self, precharge_s: float, window_s: float, repeats: int = 1) -> NDArray[np.int8]:
        """What was programmed, ``repeats`` times."""
        self._world.transfer(self._mask_bytes * repeats)
        self._world.work(repeats * self.geometry.rows * (precharge_s + window_s + SETUP_S))
        return np.repeat(self._world.sensed()[None], repeats, axis=0)

    def xnor_stream(self, precharge_s: float, window_s: float, geometry: Geometry) -> DryXnor:
        """Sums over what was programmed."""
        self._checks.xnor_stream(precharge_s, window_s, geometry)
        return DryXnor(self._world, precharge_s + window_s, geometry)

    def settle(self) -> None:
        """Nothing is ever on its way."""

    def connect_device(self, row: int, col: int, device: Device) -> None:
        """Remember it."""
        self._world.transfer(0)
        self._world.connected = (row, col, int(device))

    def disconnect_device(self) -> None:
        """Forget it."""
        self._world.transfer(0)
        self._world.connected = None

    def set_watchdog(self, timeout_s: float) -> None:
        """One exchange."""
        self._world.transfer(0)

    def status(self) -> BoardStatus:
        """Nothing ever trips."""
        self._world.transfer(0)
        return BoardStatus(0, 0, 0, False)

    def safe_off(self) -> None:
        """One exchange."""
        self._world.transfer(0)


def dry_chip(world: DryWorld) -> tuple[Chip, SupplyRails]:
    """A chip on dry instruments, with its rails: the classes that a real run uses."""
    config = world.config
    channels = config.supply.channels
    rails = SupplyRails(
        DrySupply(world),
        {"vdd_v": channels.vdd, "vddc_v": channels.vddc, "vddr_v": channels.vddr},
        current_limit_a=config.supply.current_limit_a,
        voltage_limits_v={rail: getattr(config.limits, rail)[1] for rail in RAILS},
        settle_s=0.0,  # nobody waits in a dry run: the supply counts the time to settle
        tolerance_v=config.supply.tolerance_v,
    )
    return Chip(DryBoard(world), rails, config.points, None if config.smu is None else DrySmu(world)), rails


def _checking_board(config: BenchFile) -> ControllerBoard:
    """The driver of the bench file's board, on a link that is none: it checks, and cannot send."""
    chip_id = UNNAMED if config.chip.id is None else config.chip.id
    if config.board.driver == "c2n-column":
        return ColumnBoard(cast(Any, _NoLink()), config.geometry, chip_id)
    if config.board.driver == "c2n-ternary":
        return TernaryBoard(cast(Any, _NoLink()), board_limits(config), chip_id, firmware_timing(config))
    geometry = config.geometry
    welcome = Welcome(
        nonce=0,
        version=_LATEST,
        session=0,
        boot_id=0,
        window=8,
        # A board must take one mask and answer one sense of its whole array, whatever its size.
        max_payload=max(4160, geometry.cells),
        max_busy_ms=100,
        setup_ns=round(SETUP_S * 1e9),
        rows=geometry.rows,
        cols=geometry.cols,
        manufacturer="",
        model="dry run",
        serial="",
        firmware="",
        chip_id=chip_id,
    )
    return FramedBoard(cast(Any, _NoLink(welcome)), board_limits(config))


_LATEST = 0xFF
"""A dry board speaks the newest version of its protocol."""
