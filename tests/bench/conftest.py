"""A simulated bench for the tests, at the far end of real wires."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.config import parse_bench_file
from bench.session import Bench, connect
from drivers.simulated.bench import SimulatedBench

SEED = 11


@pytest.fixture
def world() -> Iterator[SimulatedBench]:
    """A running simulated bench whose insides a test may look at."""
    with SimulatedBench(SEED) as simulated:
        yield simulated


@pytest.fixture
def bench(world: SimulatedBench) -> Iterator[Bench]:
    """A session with it."""
    text = world.bench_file()
    with connect(parse_bench_file(text, "test bench"), text) as session:
        yield session
