"""Speeds and memory of the device models: weak RESET of many device pairs, and the chip alone.

All on one core, on the same pairs and pulses: numbers of pulses are rounded normal numbers with a standard deviation of
4, cut at 14, positive ones on BL and negative ones on BLb, as an optimizer step of weak-RESET learning makes them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row, row, seconds_of
from data.device_files import default_device, packaged_device
from drivers.simulated.bench import CHIPS
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import Rails
from models.arrays import NumpyArrays
from models.cells import Geometry, Polarity, lrs_devices
from models.devices.weak_reset import WeakResetDevices, integrator_coefficients, sample_parameters
from models.devices.weak_reset_pairs import WeakResetPairs
from models.prediction import flip_weights

PAIRS = 2_400_000
FEWER_PAIRS = 240_000
"""For what takes too long on all pairs; a rate on fewer is, if anything, flattered by the caches."""

PUBLISHED_REGISTER = 15
"""Past noise values per device in the published code."""

MOST_PULSES = PUBLISHED_REGISTER - 1
REPETITIONS = 3
SECTION = default_device().model.weak_reset


def _pulses(pairs: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Signed numbers of pulses of one step."""
    return np.clip(np.rint(4.0 * rng.standard_normal(pairs)), -MOST_PULSES, MOST_PULSES).astype(np.int64)


class _PublishedSide:
    """One device of each pair, advanced in the published way: a register of past noise per device.

    The register is widened by as many fresh numbers, and for each number of pulses that occurs the registers of the
    devices that get so many are taken out, rolled by that many places and put back.
    """

    def __init__(self, pairs: int, rng: np.random.Generator) -> None:
        import torch

        drawn = sample_parameters(SECTION, (pairs,), NumpyArrays(rng))
        self.mean = [torch.from_numpy(item).float() for item in drawn]
        self.register = torch.rand((pairs, PUBLISHED_REGISTER))
        self.rtn, self.total = torch.zeros(pairs), torch.zeros(pairs)
        self.ceiling = SECTION.rtn_amplitude_high * torch.rand(pairs)
        self.filter = torch.from_numpy(integrator_coefficients(PUBLISHED_REGISTER)).float()
        up, down = SECTION.rtn_p_low_high, SECTION.rtn_p_high_low
        step = torch.tensor([[1.0 - up, up], [down, 1.0 - down]])
        self.transitions = torch.stack([torch.matrix_power(step, n) for n in range(PUBLISHED_REGISTER)])

    def apply(self, counts: Any) -> Any:
        """Pulse, and return the resistances."""
        import torch

        slope1, knee, offset, slope2, r0 = self.mean
        was_high = torch.ceil(self.rtn).long()
        now_high = torch.rand(len(counts)) < self.transitions[counts, was_high, 1]
        self.rtn = now_high * self.ceiling * torch.rand(len(counts)) * torch.rand(len(counts))
        wide = torch.cat([self.register, torch.rand_like(self.register)], dim=1)
        for places in torch.unique(counts).tolist():
            chosen = counts == places
            wide[chosen] = torch.roll(wide[chosen], places, dims=1)
        self.register = wide[:, :PUBLISHED_REGISTER].clone()
        self.total = self.total + counts
        late = slope2 * self.total + knee * (slope1 - slope2)
        mean = torch.where(self.total < knee, slope1 * self.total, late) + offset
        return r0 * torch.exp(mean + self.rtn + SECTION.pink_alpha * (self.register @ self.filter))

    @property
    def state_bytes(self) -> int:
        """Memory of what pulses change."""
        return sum(item.numel() * item.element_size() for item in (self.register, self.rtn, self.total))


class _Published:
    """Pairs in the published way."""

    def __init__(self, pairs: int, rng: np.random.Generator) -> None:
        self.sides = [_PublishedSide(pairs, rng) for _ in range(2)]

    def step(self, pulses: NDArray[np.int64]) -> object:
        """Pulse one device of each pair; return the weights."""
        import torch

        signed = torch.from_numpy(pulses)
        bl, blb = (side.apply(part.clamp(min=0)) for side, part in zip(self.sides, (signed, -signed), strict=True))
        return torch.sign(bl - blb)

    @property
    def state_bytes(self) -> int:
        """Memory of what pulses change."""
        return sum(side.state_bytes for side in self.sides)


class _Devices:
    """Pairs as two rows of :class:`WeakResetDevices`, all pulses at once or one after the other."""

    def __init__(self, pairs: int, rng: np.random.Generator, *, singly: bool) -> None:
        self.devices = WeakResetDevices(SECTION, (2, pairs), NumpyArrays(rng))
        self.singly = singly

    def step(self, pulses: NDArray[np.int64]) -> object:
        """Pulse one device of each pair; return the weights."""
        counts = np.stack([np.maximum(pulses, 0), np.maximum(-pulses, 0)])
        if self.singly:
            for done in range(int(counts.max())):
                self.devices.apply((counts > done).astype(np.int64))
        else:
            self.devices.apply(counts)
        bl, blb = self.devices.resistance_ohm
        return np.sign(bl - blb)


class _Pairs:
    """Pairs as :class:`WeakResetPairs`."""

    def __init__(self, pairs: int, rng: np.random.Generator) -> None:
        self.pairs = WeakResetPairs(SECTION, (pairs,), rng)
        self.pairs.apply(1)  # compiles

    def step(self, pulses: NDArray[np.int64]) -> object:
        """Pulse one device of each pair; return the weights."""
        self.pairs.apply(pulses)
        return self.pairs.weights

    @property
    def state_bytes(self) -> int:
        """Memory of what pulses change."""
        return self.pairs.state_bytes


def weak_reset() -> list[Row]:
    """Pulses per second, seconds per optimizer step, and memory, against a plain loop and the published way."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        return _weak_reset_rows()
    finally:
        torch.set_num_threads(threads)


def _weak_reset_rows() -> list[Row]:
    rng = np.random.default_rng(0)
    table: list[Row] = []
    seconds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    peak: dict[str, float] = {}
    kinds: dict[str, Callable[[], _Published | _Devices | _Pairs]] = {
        "published way": lambda: _Published(PAIRS, rng),
        "plain loop over pulses": lambda: _Devices(FEWER_PAIRS, rng, singly=True),
        "NumPy, all pulses at once": lambda: _Devices(FEWER_PAIRS, rng, singly=False),
        "compiled pairs": lambda: _Pairs(PAIRS, rng),
    }
    for name, make in kinds.items():
        pairs = FEWER_PAIRS if isinstance(made := make(), _Devices) else PAIRS
        rates = []
        for _ in range(REPETITIONS):
            pulses = _pulses(pairs, rng)
            elapsed = seconds_of(partial(made.step, pulses))
            rates.append(float(np.abs(pulses).sum()) / elapsed)
            seconds.setdefault(name, []).append(elapsed * PAIRS / pairs)
        table.append(row(f"weak RESETs, {name}, {pairs:,} pairs", "pulses per second", rates))
        if not isinstance(made, _Devices):
            memory[name] = made.state_bytes / (2 * PAIRS)
            peak[name] = peak_bytes(partial(made.step, pulses)) / (2 * PAIRS)
        del made
    for name, values in seconds.items():
        table.append(row(f"step of 2.4 million pairs, weights included: {name}", "s", values))
    ours = seconds["compiled pairs"]
    for name in ("published way", "plain loop over pulses"):
        ratios = [theirs / own for theirs, own in zip(seconds[name], ours, strict=True)]
        table.append(row(f"compiled pairs are faster than: {name}", "times", ratios))
    for name, state in memory.items():
        table.append(row(f"state that pulses change: {name}", "bytes per device", [state]))
        table.append(row(f"peak memory of a step beyond its state: {name}", "bytes per device", [peak[name]]))
    table.append(
        row("state: compiled pairs / published way", "ratio", [memory["compiled pairs"] / memory["published way"]])
    )
    return table


def peak_bytes(action: Callable[[], object]) -> float:
    """Most memory in bytes that an action holds beyond what was held before; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    with suppress(OSError, AttributeError):
        # what was freed before must not serve the action
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_kib(status, "VmRSS")
        action()
        return 1024.0 * (_status_kib(status, "VmHWM") - before)
    return float("nan")


def _status_kib(status: Path, key: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key))


def chip() -> list[Row]:
    """Cells sensed and XNOR products per second in the chip alone, of each kind of chip and of a macro."""
    table = []
    for name, arrays in (("kilobit", 1), ("ternary", 1), ("array64", 1), ("array64", 16)):
        kind = CHIPS[name]
        geometry = Geometry(kind.geometry.rows * arrays, kind.geometry.cols)
        window_s = 50e-9 if name == "ternary" else 5e-6
        device = _programmed(SimulatedChip(packaged_device(kind.device).model, geometry, 0, name, arrays))
        senses = max(1, 200_000 // geometry.cells)
        rng = np.random.default_rng(0)
        inputs = rng.choice(np.array([-1, 1], dtype=np.int8), size=(2 * senses, geometry.cols))
        at = (Rails(1.2, 1.2, 2.5), 5e-6, window_s)
        actions: dict[str, tuple[int, Callable[[], object]]] = {
            "cells sensed": (senses, partial(device.sense, *at, senses)),
            "XNOR products": (2 * senses, partial(device.xnor, inputs, *at, geometry)),
        }
        for what, (count, action) in actions.items():
            rates = [count * geometry.cells / seconds_of(action) for _ in range(2 * REPETITIONS)]
            table.append(row(f"{what}, {name} x {arrays}, {geometry.rows} x {geometry.cols}", "per second", rates))
    return table


def _programmed(device: SimulatedChip) -> SimulatedChip:
    """The chip with random weights in it, zeros too on the ternary one."""
    values = np.array([-1, 0, 1] if device.chip_id == "ternary" else [-1, 1], dtype=np.int8)
    low = lrs_devices(np.random.default_rng(1).choice(values, size=device.geometry))
    device.pulse(Polarity.SET, np.ones_like(low), 10e-6, 3, Rails(1.2, 3.0, 3.0))
    device.pulse(Polarity.SET, low, 10e-6, 1, Rails(1.2, 3.5, 3.0))
    device.pulse(Polarity.RESET, ~low, 10e-6, 1, Rails(1.2, 4.5, 5.0))
    return device


def injection() -> list[Row]:
    """Cost of fresh weight errors in a forward pass of 784-1024-1024-10, batch 1000, on one thread, side by side."""
    import torch

    sizes, batch = (784, 1024, 1024, 10), 1000
    rng = np.random.default_rng(5)
    layers = [rng.choice(np.array([-1, 1], np.int8), size=shape[::-1]) for shape in pairwise(sizes)]
    floats = [torch.from_numpy(weights.astype(np.float32)) for weights in layers]
    inputs = torch.from_numpy(rng.choice(np.array([-1.0, 1.0], np.float32), size=(batch, sizes[0])))

    def forward() -> None:
        x = inputs
        for weights in floats:
            x = torch.sign(x @ weights.T)

    def dense(rate: float) -> None:
        for weights in layers:
            np.where(rng.random(weights.shape) < rate, -weights, weights)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    table = []
    try:
        for rate in (1e-4, 1e-3):
            sparse_shares, dense_shares = [], []
            for _ in range(4 * REPETITIONS):
                alone = seconds_of(forward)
                sparse_shares.append(seconds_of(lambda p=rate: [flip_weights(part, p, rng) for part in layers]) / alone)
                dense_shares.append(seconds_of(partial(dense, rate)) / alone)
            table.append(
                row(f"fresh errors in all weights at {rate:g}, only the flips drawn", "forward passes", sparse_shares)
            )
            table.append(row(f"the same, one draw for every weight, at {rate:g}", "forward passes", dense_shares))
    finally:
        torch.set_num_threads(threads)
    return table
