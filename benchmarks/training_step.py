"""A training step with devices in the loop beside a plain one of the same network, on one thread.

Batch 100, other random images at each step. Steps of the kinds take turns, in processor time; ratios are those of the
shortest times. Where aihwkit is installed, its pulsed pairs of devices are timed in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import cycle, pairwise
from typing import Any

import numpy as np

from benchmarks.rows import Row, in_turns, ratio_of_best, row
from data.device_files import default_device

NETWORKS = ((784, 3000, 10), (784, 1024, 1024, 10), (64, 256, 10))
BATCH = 100
REPETITIONS = 20
WARM_UP = 12
"""Steps after which the moments of Adam have settled: the very first ones would pulse every pair."""

BATCHES = 50
PLAIN = "binary, Adam"
PEER = "aihwkit, pairs of SoftBounds devices"


def training_step() -> list[Row]:
    """Times of a step, and their ratios to plain Adam."""
    from models.training import single_thread

    rows: list[Row] = []
    if find_spec("aihwkit") is None:
        print("aihwkit is not installed: its step is left out")
    with single_thread():
        for widths in NETWORKS:
            name = "-".join(map(str, widths))
            times = in_turns(_steps(widths), REPETITIONS, WARM_UP)
            rows += [row(f"{name}: {kind}", "ms", [1e3 * value for value in values]) for kind, values in times.items()]
            for kind, values in times.items():
                if kind != PLAIN:
                    rows.append(ratio_of_best(f"{name}: {kind}", "plain Adam steps", values, times[PLAIN]))
                if PEER in times and kind.startswith("weak RESET"):
                    rows.append(ratio_of_best(f"{name}: {PEER}", f"{kind}", times[PEER], values))
    return rows


def _steps(widths: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    import torch

    from bench.reproduce.perceptron import binary_perceptron
    from models.optimizers import MetaplasticAdam, WeakResetOptimizer, hidden_and_others

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCHES, BATCH, widths[0], generator=generator)
    labels = torch.randint(0, widths[-1], (BATCHES, BATCH), generator=generator)

    def network() -> tuple[Any, list[Any], list[Any]]:
        made = binary_perceptron(widths, generator)
        return made, *hidden_and_others(made)

    steps: dict[str, Callable[[], object]] = {}
    plain, hidden, others = network()
    steps[PLAIN] = _step(plain, torch.optim.Adam([*hidden, *others], lr=0.005, fused=True), images, labels)
    held, hidden, others = network()
    groups = [{"params": hidden}, {"params": others, "metaplasticity": 0.0}]
    steps["binary, metaplastic Adam"] = _step(held, MetaplasticAdam(groups), images, labels)
    for rate in (2.0, 8.0, 100.0):
        pulsed, hidden, others = network()
        optimizer = WeakResetOptimizer(
            hidden, others, default_device().model.weak_reset, np.random.default_rng(0), lr=rate
        )
        steps[f"weak RESET, rate {rate:g}"] = _step(pulsed, optimizer, images, labels)
    if find_spec("aihwkit") is not None:
        steps[PEER] = _aihwkit_step(widths, images, labels)
    return steps


def _step(network: Any, optimizer: Any, images: Any, labels: Any) -> Callable[[], object]:
    from torch.nn.functional import cross_entropy

    batches = cycle(range(BATCHES))

    def step() -> None:
        batch = next(batches)
        optimizer.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()

    return step


def _aihwkit_step(widths: tuple[int, ...], images: Any, labels: Any) -> Callable[[], object]:
    from aihwkit.nn import AnalogLinear
    from aihwkit.optim import AnalogSGD
    from aihwkit.simulator.configs import UnitCellRPUConfig
    from aihwkit.simulator.configs.compounds import OneSidedUnitCell
    from aihwkit.simulator.configs.devices import SoftBoundsDevice
    from torch import nn

    layers: list[Any] = []
    for inputs, outputs in pairwise(widths):
        pair = OneSidedUnitCell(unit_cell_devices=[SoftBoundsDevice()])
        layers += [AnalogLinear(inputs, outputs, rpu_config=UnitCellRPUConfig(device=pair)), nn.Tanh()]
    network = nn.Sequential(*layers[:-1])
    optimizer = AnalogSGD(network.parameters(), lr=0.05)
    optimizer.regroup_param_groups(network)
    return _step(network, optimizer, images, labels)
