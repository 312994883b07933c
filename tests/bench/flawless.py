"""A chip without defects, noise or spread: what it answers must equal the integer network bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench.config import parse_bench_file
from bench.procedure import Parameters, Procedure, Record
from bench.session import Bench, connect
from data.device_files import DeviceFile, Quantity, packaged_device
from drivers.chip import Chip
from drivers.simulated.bench import CHIPS, SimulatedBench

NONE = ("defects.stuck_lrs", "defects.stuck_hrs", "defects.open", "sense.offset_sigma", "sense.noise_sigma")
SPREADS = ("lrs.sigma_d2d", "lrs.sigma_c2c", "hrs.sigma_d2d", "hrs.sigma_c2c")


def flawless_device(chip: str = "kilobit") -> DeviceFile:
    """The population of a kind of chip with no defects, no offset, no noise and no overlap."""
    return population(chip, **dict.fromkeys(NONE, 0.0), **dict.fromkeys(SPREADS, 0.05))


def population(chip: str = "kilobit", **changes: float) -> DeviceFile:
    """The population of a kind of chip with some of its plain numbers changed, ``{"defects.open": 0.01}``."""
    quantities = {name: Quantity(value, "1", "test", "proposed") for name, value in changes.items()}
    return packaged_device(CHIPS[chip].device).updated(quantities)


@contextmanager
def flawless_bench(chip: str = "kilobit", arrays: int = 1) -> Iterator[Bench]:
    """A session with such a chip, formed."""
    with SimulatedBench(2, flawless_device(chip), chip=chip, arrays=arrays) as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            bench.chip.form(~bench.chip.no_devices(), 3)
            yield bench


def carry_out(procedure: Procedure, parameters: Parameters, chip: Chip) -> tuple[dict[str, Any], list[Record]]:
    """Go through a procedure's steps without a run file: what it returns, and its records."""
    records: list[Record] = []
    steps = procedure.steps(chip, parameters, np.ones(chip.geometry, dtype=bool))
    try:
        while True:
            step = next(steps)
            if isinstance(step, Record):
                records.append(step)
    except StopIteration as end:
        return end.value, records
