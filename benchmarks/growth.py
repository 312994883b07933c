"""How time and memory grow: with devices, cells, weights, samples, recorded bytes, points of a sweep, and workers.

``python -m benchmarks.growth [NAME ...] [--write docs/performance.md]`` prints the tables; with ``--write`` all of
them go into the page, and ``docs/images/growth.png`` is drawn. Each size runs in a process of its own, so that its peak
memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from bench.sweeping.points import processor_s
from benchmarks.physics import peak_bytes
from benchmarks.sweeps import ENGINES, POINTS, WORKERS, Crew, cheap_points, crew
from benchmarks.tables import machine, replace_between
from models.exceptions import UserMistake

REPETITIONS, ENOUGH_S = 3, 10.0
"""A size is repeated so often, but not beyond that processor time."""

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
        seconds: shortest of some repetitions, of the processor; that of processes which the work starts included.
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
    "points": Curve("points", "a sweep of points that cost nothing", (10, 100, 1000, 10_000), cheap_points(0)),
    "sent points": Curve("points", "the same, sent to one process", (1, 10, 100, 1000), cheap_points(1)),
}
CREWS = "workers"


def measure(name: str, size: int) -> Point:
    """One size, in this process."""
    curve = CURVES[name]
    work = curve.prepare(size)
    seconds: list[float] = []
    while len(seconds) < REPETITIONS and sum(seconds) < ENOUGH_S:
        began = processor_s()
        work()
        seconds.append(processor_s() - began)
    return Point(size, min(seconds), peak_bytes(work) / 1e6)


def exponent(points: Sequence[Point], lowest: float = 1e-3) -> float:
    """Slope of log time against log size, over the sizes that took long enough to be told from the overhead."""
    told = [point for point in points if point.seconds > lowest]
    told = told if len(told) > 1 else list(points[-2:])
    slope, _ = np.polyfit(np.log([p.size for p in told]), np.log([p.seconds for p in told]), 1)
    return float(slope)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is named, or all; print the tables, and write them and the picture where a page is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*CURVES, CREWS])}; all by default")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page whose tables are replaced")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        name, size = options.one[0], int(options.one[1])
        print(json.dumps(astuple(measure(name, size) if name in CURVES else crew(name, size))))
        return 0
    try:
        names = _asked(options.names, options.write)
    except UserMistake as mistake:
        print(mistake, file=sys.stderr)
        return mistake.exit_status
    where, found = machine(), dict[str, list[Point]]()
    print(where, flush=True)
    for name in names:
        if name == CREWS:
            continue
        curve = CURVES[name]
        found[name] = [Point(*_apart(name, size)) for size in curve.sizes]
        print(f"{curve.about}: time grows as size to the {exponent(found[name]):.2f}", flush=True)
        for point in found[name]:
            print(f"  {point.size:>10,} {curve.what:<14} {point.seconds:.3g} s  {point.megabytes:.1f} MB", flush=True)
    crews = [Crew(*_apart(engine, count)) for engine in ENGINES for count in WORKERS if CREWS in names]
    print("\n".join(_crew_lines(crews)))
    if options.write:
        replace_between(options.write, "growth", [*_lines(where, found), *_crew_lines(crews), ""])
        draw(found, crews, PICTURE)
    return 0


def _asked(names: Sequence[str], page: Path | None) -> list[str]:
    known = [*CURVES, CREWS]
    for name in names:
        if name not in known:
            raise UserMistake(f"nothing that grows is called {name!r}; there are {', '.join(known)}")
    if page is not None:
        if names:
            raise UserMistake("--write replaces the tables of everything; name nothing with it")
        replace_between(page, "growth", None)
    return list(names) if names else known


def _apart(name: str, size: int) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.growth", "--one", name, str(size)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(ran.stdout))


def _lines(where: str, found: Mapping[str, Sequence[Point]]) -> list[str]:
    lines = [
        f"`python -m benchmarks.growth --write docs/performance.md`, {where}.",
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


def _crew_lines(crews: Sequence[Crew]) -> list[str]:
    """A row for each number of workers: by the clock, and what all processes took together."""
    if not crews:
        return []
    lines = [
        f"| {POINTS} points of a sweep, with | workers | s by the clock | faster than one | processor time of all, s |",
        "|---|---:|---:|---:|---:|",
    ]
    one = {each.engine: each.seconds for each in crews if each.workers == 1}
    for each in crews:
        times = f"{each.seconds:.1f} | {one[each.engine] / each.seconds:.2f} | {each.processor_s:.1f}"
        lines.append(f"| {each.engine} | {each.workers} | {times} |")
    return lines


def draw(found: Mapping[str, Sequence[Point]], crews: Sequence[Crew], path: Path) -> None:
    """Time and memory against size, each with a line of slope 1 to hold them to, and gain against workers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.0, 4.8), layout="constrained")
    time_axis, memory_axis, gain_axis = figure.subplots(1, 3)
    for (name, points), marker in zip(found.items(), "osD^vPX", strict=True):
        sizes = [point.size for point in points]
        label = f"{CURVES[name].what}: {CURVES[name].about}"
        time_axis.loglog(sizes, [point.seconds for point in points], marker=marker, label=label)
        memory_axis.loglog(sizes, [max(point.megabytes, 0.1) for point in points], marker=marker)
    for axis, start in ((time_axis, 1e-5), (memory_axis, 1e-2)):
        axis.loglog([10, 1e6], [start, start * 1e5], "--", color="grey", label="in proportion to the size")
        axis.set_xlabel("size: devices, cells, weights, samples, kB, points")
    time_axis.set_ylabel("processor time (s)")
    memory_axis.set_ylabel("peak memory beyond the start (MB), 0.1 at least")
    by_engine = defaultdict[str, list[Crew]](list)
    for each in crews:
        by_engine[each.engine].append(each)
    for (engine, own), marker in zip(by_engine.items(), "os", strict=True):
        counts = [each.workers for each in own]
        gain_axis.plot(counts, [own[0].seconds / each.seconds for each in own], marker=marker, label=engine)
    gain_axis.set_xlabel("workers")
    gain_axis.set_ylabel("times as fast as one worker, by the clock")
    gain_axis.set_xticks(WORKERS)
    gain_axis.set_ylim(bottom=0.0)
    gain_axis.legend(fontsize=8)
    for axis in (time_axis, memory_axis, gain_axis):
        axis.grid(alpha=0.3)
    figure.legend(*time_axis.get_legend_handles_labels(), fontsize=8, loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
