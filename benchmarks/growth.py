"""How time and memory grow with the size of the work: devices, cells, weights, samples, recorded bytes, over decades.

``python -m benchmarks.growth [--write docs/performance.md]`` prints the table, and draws ``docs/images/growth.png``.
Each size runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.physics import peak_bytes
from benchmarks.tables import replace_between

REPETITIONS = 3
PICTURE = Path("docs/images/growth.png")

Work = Callable[[], object]


@dataclass(frozen=True)
class Curve:
    """One thing that grows.

    Attributes:
        what: its unit, as on the axis.
        about: what is done with it.
        sizes: over at least three decades.
        prepare: makes the work of a size; only the work itself is timed.
    """

    what: str
    about: str
    sizes: Sequence[int]
    prepare: Callable[[int], Work]


@dataclass(frozen=True)
class Point:
    """What one size took.

    Attributes:
        seconds: shortest of some repetitions, of the processor.
        megabytes: peak memory of the process beyond what it held before the work.
    """

    size: int
    seconds: float
    megabytes: float


def _fit(devices: int) -> Work:
    from calibration.piecewise import fit_curves

    rng = np.random.default_rng(0)
    pulses = np.geomspace(1, 4000, 100)
    curves = np.minimum(pulses, 500.0) * rng.uniform(3e-4, 1e-3, (devices, 1))
    readings = curves + rng.normal(0.0, 0.05, curves.shape)
    fit_curves(pulses, readings[:4])
    return lambda: fit_curves(pulses, readings)


def _cells(cells: int) -> Work:
    from data.device_files import default_device
    from drivers.simulated.chip import SimulatedChip
    from drivers.simulated.world import Rails
    from models.cells import Geometry, Polarity

    side = round(cells**0.5)
    chip = SimulatedChip(default_device().model, Geometry(side, side), 0, "growth", 1)
    everything = np.ones((side, side, 2), dtype=bool)
    chip.pulse(Polarity.SET, everything, 10e-6, 3, Rails(1.2, 3.5, 3.0))
    at = Rails(1.2, 1.2, 2.5)
    chip.sense(at, 5e-6, 5e-6, 1)
    return lambda: chip.sense(at, 5e-6, 5e-6, 1)


def _network(weights: int, samples: int) -> Work:
    import torch

    from models.architectures import mlp
    from models.encodings import ThermometerEncoding
    from models.networks import build, fold
    from models.packed import PackedNetwork

    width = max(8, round((weights / 2) ** 0.5))
    plan = mlp("growth", ThermometerEncoding(width, (8,)), (width,), width)
    network = fold(build(plan, torch.Generator().manual_seed(0)).eval())
    images = np.random.default_rng(0).integers(0, 16, (samples, width)).astype(np.uint8)
    packed = PackedNetwork(network)
    packed.scores(images[:4])
    return lambda: packed.scores(images)


def _records(kilobytes: int) -> Work:
    from benchmarks.run_store import DIMENSIONS, RESISTANCES, resistances
    from data.runs import RunWriter

    block = resistances(2000, np.random.default_rng(0))
    payload = sum(column.nbytes for column in block.values())

    def work() -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            RunWriter(Path(folder) / "run.h5", "growth", (RESISTANCES,), DIMENSIONS, {}) as writer,
        ):
            for _ in range(max(1, round(1e3 * kilobytes / payload))):
                writer.extend("resistances", **block)
            writer.finish("completed")

    return work


CURVES: Mapping[str, Curve] = {
    "devices": Curve(
        "devices",
        "weak-RESET curves of 100 readings fitted in one batch",
        (16, 128, 1024, 8192, 65536),
        _fit,
    ),
    "cells": Curve("cells", "one sense of a simulated array", (64, 1024, 16384, 262144, 4194304), _cells),
    "weights": Curve(
        "weights",
        "packed inference of 200 samples",
        (1000, 10_000, 100_000, 1_000_000, 10_000_000),
        lambda weights: _network(weights, 200),
    ),
    "samples": Curve(
        "samples",
        "packed inference with 1e5 weights",
        (10, 100, 1000, 10_000, 100_000),
        lambda samples: _network(100_000, samples),
    ),
    "records": Curve("kB of records", "a run file written and finished", (100, 1000, 10_000, 100_000), _records),
}


def measure(name: str, size: int) -> Point:
    """One size, in this process."""
    curve = CURVES[name]
    work = curve.prepare(size)
    seconds = []
    for _ in range(REPETITIONS):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return Point(size, min(seconds), peak_bytes(work) / 1e6)


def exponent(points: Sequence[Point], lowest: float = 1e-3) -> float:
    """Slope of log time against log size, over the sizes that took long enough to be told from the overhead."""
    told = [point for point in points if point.seconds > lowest]
    told = told if len(told) > 1 else list(points[-2:])
    slope, _ = np.polyfit(np.log([p.size for p in told]), np.log([p.seconds for p in told]), 1)
    return float(slope)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all, print the table, draw the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page whose table is replaced")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        point = measure(options.one[0], int(options.one[1]))
        print(json.dumps([point.size, point.seconds, point.megabytes]))
        return 0
    found: dict[str, list[Point]] = {}
    for name, curve in CURVES.items():
        found[name] = [_apart(name, size) for size in curve.sizes]
        print(f"{curve.about}: time grows as size to the {exponent(found[name]):.2f}", flush=True)
        for point in found[name]:
            print(f"  {point.size:>10,} {curve.what:<14} {point.seconds:.3g} s  {point.megabytes:.1f} MB", flush=True)
    if options.write:
        replace_between(options.write, "growth", _lines(found))
        _draw(found, PICTURE)
    return 0


def _apart(name: str, size: int) -> Point:
    command = [sys.executable, "-m", "benchmarks.growth", "--one", name, str(size)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return Point(*json.loads(ran.stdout))


def _lines(found: Mapping[str, Sequence[Point]]) -> list[str]:
    lines = [
        f"`python -m benchmarks.growth --write docs/performance.md`, {date.today()}.",
        "",
        "| what is done | grows from, to | time, s | peak memory beyond the start, MB | time grows as size to the |",
        "|---|---|---|---|---:|",
    ]
    for name, points in found.items():
        curve = CURVES[name]
        first, last = points[0], points[-1]
        times = ", ".join(f"{point.seconds:.2g}" for point in points)
        memory = ", ".join(f"{point.megabytes:.0f}" for point in points)
        grown = f"{first.size:,} to {last.size:,} {curve.what}"
        lines.append(f"| {curve.about} | {grown} | {times} | {memory} | {exponent(points):.2f} |")
    return [*lines, ""]


def _draw(found: Mapping[str, Sequence[Point]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, points), marker in zip(found.items(), "osD^v", strict=True):
        sizes = [point.size for point in points]
        left.loglog(sizes, [point.seconds for point in points], marker=marker, label=CURVES[name].about)
        right.loglog(sizes, [max(point.megabytes, 0.1) for point in points], marker=marker, label=CURVES[name].what)
    left.set_ylabel("processor time (s)")
    right.set_ylabel("peak memory beyond the start (MB)")
    for axis in (left, right):
        axis.set_xlabel("size (devices, cells, weights, samples, kB)")
        axis.grid(alpha=0.3)
    left.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    right.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
