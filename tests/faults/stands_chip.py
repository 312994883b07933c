"""Stand of the chip as the application sees it, and of its rails: whatever path a bad value takes, nothing is sent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from drivers.chip import Chip
from drivers.framed import BoardLimits, FramedBoard, FramedLink, open_framed
from drivers.keithley_2230g import Keithley2230G
from drivers.keithley_2450 import Keithley2450
from drivers.limits import ChannelLimits, Range, SmuLimits
from drivers.operating_points import CyclePoint, DirectPoint, OperatingPoints, PulsePoint, RailVoltages, SensePoint
from drivers.rails import RAILS, SupplyRails
from drivers.simulated.keithley_2230g import Keithley2230GServer
from drivers.simulated.keithley_2450 import Keithley2450Server
from models.cells import Device
from tests.drivers.fake_chip import FakeChip, served
from tests.drivers.simulated_instruments import Resistor, world_with
from tests.faults.on_wire import Wire, on_wire
from tests.faults.setter_tables import Numbers, Only, Setter, Stand
from tests.faults.stands_boards import GEOMETRY, NO_INPUTS, no_masks

HIGHEST_V = 5.0
AT = RailVoltages(1.2, 2.0, 2.5)
PULSE = PulsePoint("PULSE", AT, 1e-6)
POINTS = OperatingPoints(
    PULSE,
    PULSE,
    PULSE,
    PULSE,
    SensePoint("SENSE", AT, 1e-6, 1e-6),
    DirectPoint("DIRECT", AT, 0.2, 1e-3),
    CyclePoint("CYCLE", AT, 1e-6, 1e-6),
)
SMU_V, SMU_A = (-2.0, 3.0), (1e-8, 1e-2)
CHANNELS = {"vdd_v": 3, "vddc_v": 2, "vddr_v": 1}
MOST_COUNT = 100
MOST_CYCLES = 1000
_SHAPE = tuple(GEOMETRY)
NO_WEIGHTS = Only(
    (
        None,
        1,
        "weights",
        np.ones((4, 5)),
        np.ones(6),
        np.full(_SHAPE, 2),
        np.full(_SHAPE, math.nan),
        np.full(_SHAPE, math.inf),
        np.full(_SHAPE, 0.5),
        np.full(_SHAPE, "1"),
        np.ones((6, 4)),
        np.ones((*_SHAPE, 2)),
    )
)
NO_ATTEMPTS = Only((0, -0.0, -1, 1.5, True, "1", None, math.nan, math.inf))
NO_CELLS = Only(
    (
        np.ones((4, 5), dtype=bool),
        np.ones((6, 4), dtype=bool),
        np.ones((*_SHAPE, 2), dtype=bool),
        True,
        "all",
        np.ones(_SHAPE),
        np.full(_SHAPE, math.nan),
        np.full(_SHAPE, -1),
    )
)


@dataclass(frozen=True)
class BenchFarEnd:
    """What reached the supply, the source-measure unit and the board together."""

    wire: Wire
    smu: Wire
    link: FramedLink

    def received(self) -> int:
        """Bytes to any of them."""
        return self.wire.received() + self.smu.received() + self.link.stats.bytes_out

    def last(self) -> bytes:
        """The last message to the supply that was no question."""
        return self.wire.last()


def _rails(wire: Wire, envelope: float) -> SupplyRails:
    most = min(1.0, envelope) * HIGHEST_V
    limits = ChannelLimits(Range(0.0, most, "V", "campaign"), Range(0.0, 1.0, "A", "campaign"))
    rails = SupplyRails(
        Keithley2230G(wire.link, {1: limits, 2: limits, 3: limits}),
        CHANNELS,
        current_limit_a=0.5,
        voltage_limits_v=dict.fromkeys(RAILS, most),
        settle_s=0.0,
        tolerance_v=0.05,
    )
    rails.prepare()
    return rails


@contextmanager
def chip(envelope: float) -> Iterator[Stand]:
    """A chip that counts, behind a framed board, a supply and a source-measure unit."""
    counting = FakeChip(GEOMETRY)
    limits = BoardLimits(
        Range(1e-7, 1e-3, "s", "campaign"),
        Range(1, envelope * MOST_COUNT, "pulses", "campaign"),
        cycles=Range(1, envelope * MOST_CYCLES, "cycles", "campaign"),
    )
    smu_limits = SmuLimits(Range(*SMU_V, "V", "campaign"), Range(*SMU_A, "A", "campaign"))
    with (
        on_wire(Keithley2450Server(world_with(Resistor()), np.random.default_rng(1))) as smu_wire,
        on_wire(Keithley2230GServer(world_with(Resistor()), np.random.default_rng(1))) as wire,
        served(counting) as server,
        open_framed(server.port) as link,
    ):
        part = Chip(FramedBoard(link, limits), _rails(wire, 1.0), POINTS, Keithley2450(smu_wire.link, smu_limits))
        one = part.no_devices()
        one[0, 0, 0] = True
        count = Numbers(1, envelope * MOST_COUNT, whole=True)
        cycles = Numbers(1, envelope * MOST_CYCLES, whole=True)
        sweep = partial(part.sweep, 0, 0, Device.BL)

        def pulses() -> int:
            total = int(counting.pulses.sum())
            counting.pulses[:] = 0
            return total

        setters = []
        for name in ("form", "set", "reset", "weak_reset"):
            method = getattr(part, name)
            setters += [
                Setter(name, partial(method, one), count, pulses, "count", prepare=pulses),
                Setter(name, method, no_masks(GEOMETRY), label="devices"),
            ]
        setters += [
            Setter("program", part.program, NO_WEIGHTS, label="weights"),
            Setter("program", lambda used: part.program(counting.weights, used), NO_CELLS, label="used"),
            Setter(
                "program",
                lambda most: part.program(counting.weights, attempts=most),
                NO_ATTEMPTS,
                label="attempts",
            ),
            Setter(
                "read",
                part.read,
                Numbers(1, 1_000_000, whole=True),
                lambda: counting.calls[-1][4],
                "repeats",
                Numbers(1, 8, whole=True),
            ),
            Setter("xnor", part.xnor, NO_INPUTS, label="inputs"),
            Setter("xnor_stream", lambda vectors: list(part.xnor_stream([vectors])), NO_INPUTS, label="inputs"),
            Setter("cycle", partial(part.cycle, one), cycles, lambda: pulses() // 2, "count", prepare=pulses),
            Setter("cycle", lambda mask: part.cycle(mask, 1), no_masks(GEOMETRY), label="devices"),
            Setter("resistances", lambda mask: list(part.resistances(mask)), no_masks(GEOMETRY), label="devices"),
            Setter("sweep", lambda volts: sweep([0.1, volts], 1e-3), Numbers(*SMU_V), label="volts"),
            Setter("sweep", lambda amps: sweep([0.1], amps), Numbers(*SMU_A), label="compliance"),
        ]
        yield Stand(part, (), setters, BenchFarEnd(wire, smu_wire, link), frozenset({"resistance", "at", "check"}))


@contextmanager
def rails(envelope: float) -> Iterator[Stand]:
    """The three rails on a supply."""
    world = world_with(Resistor())
    with on_wire(Keithley2230GServer(world, np.random.default_rng(1))) as wire:
        part = _rails(wire, envelope)

        def put(name: str, value: Any) -> None:
            part.apply(AT._replace(**{name: value}))

        def volts(name: str) -> float:
            return float(getattr(world.rails, name))

        allowed = Numbers(0.0, min(1.0, envelope) * HIGHEST_V, lambda value: 1e-3)
        setters = [
            Setter("apply", partial(put, name), allowed, partial(volts, name), name, volts=partial(volts, name))
            for name in RAILS
        ]
        setters += [
            Setter("apply", partial(put, name), allowed, label=f"{name} while off", prepare=part.off) for name in RAILS
        ]
        yield Stand(part, (), setters, wire, frozenset({"forbid", "check"}))


STANDS = {"Chip": chip, "SupplyRails": rails}
