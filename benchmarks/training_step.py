"""A training step with devices in the loop beside a plain one of the same network, on one thread.

784-1024-1024-10, batch 100, other random images at each step. Steps of the kinds take turns, so that whatever else the
machine does falls on all of them alike; what is reported is the time of each and the ratio of medians to plain Adam.
Where aihwkit is installed, its pulsed layers of the same sizes are timed in the same way.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from importlib.util import find_spec
from itertools import cycle, pairwise
from typing import Any

import numpy as np

from benchmarks.rows import Row, row, seconds_of
from data.device_files import default_device

WIDTHS = (784, 1024, 1024, 10)
BATCH = 100
REPETITIONS = 15
WARM_UP = 12
"""Steps after which the moments of Adam have settled: the very first ones would pulse every pair."""

BATCHES = 50


def training_step() -> list[Row]:
    """Times of a step, and their ratios to plain Adam."""
    from models.training import single_thread

    with single_thread():
        steps = _steps()
        times: dict[str, list[float]] = {name: [] for name in steps}
        for repetition in range(WARM_UP + REPETITIONS):
            for name, step in steps.items():
                taken = seconds_of(step)
                if repetition >= WARM_UP:
                    times[name].append(1e3 * taken)
    plain = statistics.median(times["binary, Adam"])
    rows = [row(f"training step: {name}", "ms", values) for name, values in times.items()]
    return rows + [
        row(f"training step: {name}, to plain Adam", "times", [statistics.median(values) / plain])
        for name, values in times.items()
        if name != "binary, Adam"
    ]


def _steps() -> dict[str, Callable[[], object]]:
    import torch

    from bench.reproduce.perceptron import binary_perceptron
    from models.optimizers import MetaplasticAdam, WeakResetOptimizer, hidden_and_others

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCHES, BATCH, WIDTHS[0], generator=generator)
    labels = torch.randint(0, WIDTHS[-1], (BATCHES, BATCH), generator=generator)

    def network() -> tuple[Any, list[Any], list[Any]]:
        made = binary_perceptron(WIDTHS, generator)
        return made, *hidden_and_others(made)

    steps: dict[str, Callable[[], object]] = {}
    plain, hidden, others = network()
    steps["binary, Adam"] = _step(plain, torch.optim.Adam([*hidden, *others], lr=0.005, fused=True), images, labels)
    held, hidden, others = network()
    groups = [{"params": hidden}, {"params": others, "metaplasticity": 0.0}]
    steps["binary, metaplastic Adam"] = _step(held, MetaplasticAdam(groups), images, labels)
    for rate in (2.0, 100.0):
        pulsed, hidden, others = network()
        optimizer = WeakResetOptimizer(
            hidden, others, default_device().model.weak_reset, np.random.default_rng(0), lr=rate
        )
        steps[f"weak RESET of pairs, learning rate {rate:g}"] = _step(pulsed, optimizer, images, labels)
    if find_spec("aihwkit") is not None:
        steps["aihwkit, SoftBounds"] = _aihwkit_step(images, labels)
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


def _aihwkit_step(images: Any, labels: Any) -> Callable[[], object]:
    from aihwkit.nn import AnalogLinear
    from aihwkit.optim import AnalogSGD
    from aihwkit.simulator.configs import SingleRPUConfig
    from aihwkit.simulator.configs.devices import SoftBoundsDevice
    from torch import nn

    layers: list[Any] = []
    for inputs, outputs in pairwise(WIDTHS):
        layers += [AnalogLinear(inputs, outputs, rpu_config=SingleRPUConfig(device=SoftBoundsDevice())), nn.Tanh()]
    network = nn.Sequential(*layers[:-1])
    optimizer = AnalogSGD(network.parameters(), lr=0.05)
    optimizer.regroup_param_groups(network)
    return _step(network, optimizer, images, labels)
