"""Speeds of the wire: senses per second through it and in the chip alone, exchanges per second."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bench.session import Bench, connect, open_bench, simulated_bench
from benchmarks.rows import Row, row, seconds_of
from data.device_files import default_device
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import Rails
from models.cells import Device, Geometry, Polarity

REPETITIONS = 5
ARRAY = Geometry(32, 32)
SENSES = 200
EXCHANGES = 100
VECTORS = 450


def senses() -> list[Row]:
    """Cells sensed per second, and products of weight and input per second, both ways in turn."""
    rng = np.random.default_rng(0)
    inputs = rng.choice(np.array([-1, 1], dtype=np.int8), size=(VECTORS, ARRAY.cols))
    weights = rng.choice(np.array([-1, 1], dtype=np.int8), size=ARRAY)
    rates: dict[str, list[float]] = {}
    with open_bench() as bench:
        bench.chip.form(~bench.chip.no_devices())
        bench.chip.program(weights)
        chip = _programmed_chip(bench, weights)
        sense = bench.chip.points.sense
        rails, timing = Rails(*sense.rails), (sense.precharge_s, sense.window_s)
        actions: dict[str, tuple[int, Callable[[], object]]] = {
            "cells sensed through the wire": (SENSES * ARRAY.cells, lambda: bench.chip.read(SENSES)),
            "cells sensed in the chip alone": (SENSES * ARRAY.cells, lambda: chip.sense(rails, *timing, SENSES)),
            "XNOR products through the wire": (VECTORS * ARRAY.cells, lambda: bench.chip.xnor(inputs)),
            "XNOR products in the chip alone": (
                VECTORS * ARRAY.cells,
                lambda: chip.xnor(inputs, rails, *timing, ARRAY),
            ),
        }
        for _ in range(REPETITIONS):
            for name, (count, action) in actions.items():
                rates.setdefault(name, []).append(count / seconds_of(action))
    table = [row(name, "per second", values) for name, values in rates.items()]
    for what in ("cells sensed", "XNOR products"):
        wired, alone = rates[f"{what} through the wire"], rates[f"{what} in the chip alone"]
        ratios = [one / other for one, other in zip(wired, alone, strict=True)]
        table.append(row(f"{what}: through the wire / chip alone", "ratio", ratios))
    return table


def _programmed_chip(bench: Bench, weights: np.ndarray) -> SimulatedChip:
    """A chip like the one behind the wire, in this process."""
    from models.cells import Polarity, lrs_devices

    chip = SimulatedChip(default_device().model, ARRAY, 0, "alone")
    points, low = bench.chip.points, lrs_devices(weights)
    chip.pulse(Polarity.SET, np.ones_like(low), points.form.width_s, 1, Rails(*points.form.rails))
    chip.pulse(Polarity.SET, low, points.set.width_s, 1, Rails(*points.set.rails))
    chip.pulse(Polarity.RESET, ~low, points.reset.width_s, 1, Rails(*points.reset.rails))
    return chip


def exchanges() -> list[Row]:
    """Exchanges per second for one cell and for the whole array, and how long a full bench takes to connect."""
    rates: dict[str, list[float]] = {}
    connecting: list[float] = []
    with simulated_bench() as (config, text):
        for _ in range(REPETITIONS):
            started = time.perf_counter()
            with connect(config, text) as bench:
                connecting.append(time.perf_counter() - started)
                sense = bench.chip.points.sense
                bench.rails.apply(sense.rails)
                one, everything = bench.chip.no_devices(), ~bench.chip.no_devices()
                one[0, 0, Device.BL] = True
                width_s = bench.chip.points.weak_reset.width_s
                # At the rails of SENSE a pulse moves nothing: only the exchange is measured.
                actions: dict[str, Callable[[], object]] = {
                    "board: pulse on one device": lambda b=bench, d=one, w=width_s: b.board.pulse(Polarity.RESET, d, w),
                    "board: pulse on all devices": lambda b=bench, d=everything, w=width_s: b.board.pulse(
                        Polarity.RESET, d, w
                    ),
                    "board: sense of the whole array": lambda b=bench, p=sense: b.board.sense(
                        p.precharge_s, p.window_s
                    ),
                    "supply: measurement of all channels": lambda b=bench: b.supply.measure(),
                    "chip: resistance of one device": lambda b=bench: b.chip.resistance(0, 0, Device.BL),
                }
                for name, action in actions.items():
                    seconds = seconds_of(lambda act=action: [act() for _ in range(EXCHANGES)])
                    rates.setdefault(name, []).append(EXCHANGES / seconds)
    table = [row(name, "per second", values) for name, values in rates.items()]
    return [*table, row("connecting a full bench: five instruments", "s", connecting)]
