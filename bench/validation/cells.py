"""Figures of the cell and its sense amplifier, on simulated chips at the far end of real wires and in the models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from bench.session import Bench, connect, simulated_bench
from bench.validation.subject import Measured, Subject
from data.device_files import DeviceFile, save_device
from drivers.chip import Chip
from drivers.operating_points import SensePoint
from models import errors, sense
from models.cells import Geometry
from models.errors import Populations

FORMING_PULSES = 5
TERNARY_ARRAYS = 64
VECTORS = 500
COLUMNS = 256
REPEATS = 200

Bools = NDArray[np.bool_]


def measure(subject: Subject, rng: np.random.Generator) -> Measured:
    """Figures V15 to V17 and V25."""
    seed = int(rng.integers(2**31))
    return {**_ternary(subject.ternary, seed, rng), **binary(subject.device, seed, rng)}


@contextmanager
def _simulated(device: DeviceFile, seed: int, kind: str, arrays: int = 1) -> Iterator[Bench]:
    """A simulated bench with a chip of this population, connected."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "device.toml"
        save_device(path, device)
        with simulated_bench(seed, path, chip=kind, arrays=arrays) as (config, text), connect(config, text) as bench:
            bench.chip.form(~bench.chip.no_devices(), FORMING_PULSES)
            yield bench


def _ternary(device: DeviceFile, seed: int, rng: np.random.Generator) -> dict[str, float | str]:
    with _simulated(device, seed, "ternary", TERNARY_ARRAYS) as bench:
        weights = np.resize(np.array([1, -1, 0], dtype=np.int8), tuple(bench.chip.geometry))
        bench.chip.program(weights, attempts=1)
        high, low = (_answers_of_first_column(bench.chip, sign) for sign in (1, -1))
        point = bench.chip.points.sense
    codes = 2 * high + low
    by_kind = {weight: np.bincount(codes[weights[:, 0] == weight], minlength=4) for weight in (1, -1, 0)}
    plus, minus, zero = (f"{int(counts.argmax()):02b}" for counts in by_kind.values())
    rates = errors.ternary(device.model, point.rails.vdd_v, point.window_s)
    return {
        "code_plus": plus,
        "code_minus": minus,
        "code_zero": zero,
        "codes_of_medians": _codes_of_medians(device, point, rng),
        "ternary_type1": rates.type1,
        "ternary_type2": rates.type2,
        "ternary_type3": rates.type3,
    }


def _answers_of_first_column(chip: Chip, sign: int) -> Bools:
    """What the first column's cells answer to an input: a sum over one column is the answer of its cell."""
    column = Geometry(chip.geometry.rows, 1)
    return np.asarray(chip.xnor(np.full((1, 1), sign, dtype=np.int8), column)[0] > 0)


def _codes_of_medians(device: DeviceFile, point: SensePoint, rng: np.random.Generator) -> str:
    """Codes of cells at the median resistances, one for each kind of cell; several joined where they differ."""
    medians = Populations.of(device.model)
    low, high = medians.lrs.median_ohm, medians.hrs.median_ohm
    codes = []
    for pair in ((high, low), (low, high), (high, high)):
        cells = sense.margins(
            device.model.sense, np.full((REPEATS, COLUMNS, 2), pair), point.rails.vdd_v, point.window_s
        )
        amplifiers = sense.SenseAmplifiers(device.model.sense, rng.standard_normal((COLUMNS,)))
        answers = np.unique(amplifiers.read_two_bits(cells, point.rails.vdd_v, rng))
        codes.append("/".join(f"{int(answer):02b}" for answer in answers))
    return " ".join(codes)


def binary(device: DeviceFile, seed: int, rng: np.random.Generator) -> dict[str, float | str]:
    """Figures V25, of the binary chip alone."""
    with _simulated(device, seed, "kilobit") as bench:
        chip = bench.chip
        weights, inputs = (
            rng.choice(np.array([-1, 1], dtype=np.int8), size=(rows, chip.geometry.cols))
            for rows in (chip.geometry.rows, VECTORS)
        )
        chip.program(weights)
        by_input = {sign: _answers_of_first_column(chip, sign) for sign in (-1, 1)}
        read, sums = chip.read()[0], chip.xnor(inputs)
        point = chip.points.sense
    table = [by_input[sign][weights[:, 0] == weight] for weight in (-1, 1) for sign in (-1, 1)]
    return {
        "xnor_chip": "".join(str(int(answers.mean() > 0.5)) for answers in table),
        # a product that differs changes its sum by 2
        "popcount_chip": 1.0 - float(np.abs(sums - popcount_sums(read, inputs)).mean()) / (2.0 * weights.shape[1]),
        **_amplifiers(device, point, weights, inputs, rng),
    }


def popcount_sums(weights: NDArray[np.int8], inputs: NDArray[np.int8]) -> NDArray[np.int64]:
    """``2 popcount(XNOR) - N`` of the decided weights ``(rows, cols)`` with inputs ``(n, cols)``: ``(n, rows)``."""
    decided = weights != 0
    xnor = ~((weights > 0)[None] ^ (inputs > 0)[:, None]) & decided
    return np.asarray(2 * np.count_nonzero(xnor, axis=-1) - np.count_nonzero(decided, axis=-1))


def _amplifiers(
    device: DeviceFile,
    point: SensePoint,
    weights: NDArray[np.int8],
    inputs: NDArray[np.int8],
    rng: np.random.Generator,
) -> dict[str, float | str]:
    """Truth table and popcount identity in the amplifiers alone, cells at the median resistances."""
    model, vdd_v = device.model, point.rails.vdd_v
    medians = Populations.of(model)
    low, high = medians.lrs.median_ohm, medians.hrs.median_ohm
    pairs = np.where(np.stack([weights, -weights], axis=-1) > 0, high, low)
    cells = sense.margins(model.sense, pairs, vdd_v, point.window_s)
    amplifiers = sense.SenseAmplifiers(model.sense, rng.standard_normal(weights.shape[1:]))
    table = []
    for weight in (-1, 1):
        for sign in (-1, 1):
            answers = np.unique(amplifiers.read(cells, vdd_v, REPEATS, rng, sign)[:, weights == weight])
            table.append("/".join(str(int(answer > 0)) for answer in answers))
    right = amplifiers.xnor(cells, inputs, vdd_v, rng) == popcount_sums(weights, inputs)
    return {"xnor_amplifier": "".join(table), "popcount_amplifier": float(right.mean())}
