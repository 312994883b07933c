"""Inference with a fresh error of every sense beside the same without errors, and beside others that offer such errors.

All on one thread, in its own processor time, and in turns: what a row compares meets the same load.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.packed import _folded, _one_thread
from benchmarks.rows import Row
from models.architectures import mlp, vgg
from models.encodings import ThermometerEncoding
from models.integer import IntegerNetwork
from models.packed import PackedNetwork
from models.read_errors import ErringNetwork
from models.weight_errors import WeightErrorRates

SIZES, BATCH, IMAGES = (784, 1024, 1024, 10), 8000, 100
RATES = (1e-4, 1e-3)
SPREAD = 1.5
"""Standard deviation of ln of the rates of the cells."""

REPETITIONS, NAIVE_IMAGES, NAIVE_CHUNK, PEER_IMAGES = 7, 100, 4, 100


def _shortest(actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Processor time of each action in s, the shortest of several, all in turns."""
    seconds = dict.fromkeys(actions, np.inf)
    for turn in range(REPETITIONS + 1):
        for name, action in actions.items():
            started = time.thread_time()
            action()
            if turn:
                seconds[name] = min(seconds[name], time.thread_time() - started)
    return seconds


def _maps(network: IntegerNetwork, rate: float, rng: np.random.Generator) -> list[WeightErrorRates]:
    """A rate of its own for each cell, log-normal, of the mean ``rate``."""
    maps = []
    for layer in network.layers:
        spread = np.exp(SPREAD * rng.standard_normal(layer.weights.shape))
        maps.append(WeightErrorRates(inversion=np.minimum(rate * spread / spread.mean(), 0.5)))
    return maps


def _naive(network: IntegerNetwork, inputs: NDArray[np.integer], rates: list[WeightErrorRates], seed: int) -> None:
    """The products of every image with weights of its own, each of which is drawn wrong or right."""
    rng = np.random.default_rng(seed)
    for first in range(0, len(inputs), NAIVE_CHUNK):
        x = inputs[first : first + NAIVE_CHUNK].astype(np.float32)
        for layer, own in zip(network.layers, rates, strict=True):
            wrong = rng.random((len(x), *layer.weights.shape), dtype=np.float32) < own.inversion
            sums = np.matmul(np.where(wrong, -layer.weights, layer.weights).astype(np.float32), x[:, :, None])[:, :, 0]
            x = layer.activate(sums.astype(np.int32)).astype(np.float32)


def read_errors() -> list[Row]:
    """Packed inference with rates of each cell, fully connected and convolutional, over the same without errors."""
    rng = np.random.default_rng(0)
    table = []
    plans = (
        (mlp("mlp", ThermometerEncoding(SIZES[0], (8,)), SIZES[1:-1], SIZES[-1]), BATCH, "784-1024-1024-10"),
        (vgg("vgg", ThermometerEncoding(3 * 32 * 32, (8,)), (3, 32, 32), 10, filters=64), IMAGES, "six convolutions"),
    )
    with _one_thread():
        for plan, count, what in plans:
            network = _folded(plan)
            inputs = network.encode(rng.integers(0, 16, (count, plan.encoding.features)).astype(np.uint8))
            actions = {"without": partial(PackedNetwork(network).scores_of_inputs, inputs)}
            for rate in RATES:
                erring = ErringNetwork(network, _maps(network, rate, rng), rng)
                actions[f"{rate:g}"] = partial(erring.scores_of_inputs, inputs)
            if what == "784-1024-1024-10":
                actions["naive"] = partial(_naive, network, inputs[:NAIVE_IMAGES], _maps(network, RATES[-1], rng), 1)
            seconds = _shortest(actions)
            for rate in RATES:
                ratio = seconds[f"{rate:g}"] / seconds["without"]
                table.append(_one(f"{what}, {count} images, mean read error {rate:g}", "x error-free", ratio))
            if "naive" in seconds:
                per_image = seconds["naive"] / NAIVE_IMAGES / (seconds["without"] / count)
                table.append(_one(f"{what}, a matrix for each image", "x error-free", per_image))
        table += _peers()
    return table


def _peers() -> list[Row]:
    """Read noise of other simulators over a plain product of theirs; a row of NaN where one is not installed."""
    table = []
    for name, module, action in (("aihwkit", "aihwkit", _aihwkit), ("CrossSim", "simulator", _crosssim)):
        if find_spec(module) is None:
            table.append(_one(f"{name}, fresh read noise", "not installed", float("nan")))
            continue
        seconds = _shortest(action())
        table.append(_one(f"{name}, fresh read noise", "x float32", seconds["noisy"] / seconds["float32"]))
    return table


def _float_product(rng: np.random.Generator) -> tuple[Any, Any, Callable[[], object]]:
    weights = rng.choice((-1.0, 1.0), size=(SIZES[2], SIZES[1])).astype(np.float32)
    inputs = rng.choice((-1.0, 1.0), size=(PEER_IMAGES, SIZES[1])).astype(np.float32)
    return weights, inputs, lambda: inputs @ weights.T


def _aihwkit() -> dict[str, Callable[[], object]]:
    import torch
    from aihwkit.nn import AnalogLinear
    from aihwkit.simulator.configs import InferenceRPUConfig
    from aihwkit.simulator.parameters import WeightNoiseType

    weights, inputs, plain = _float_product(np.random.default_rng(0))
    config = InferenceRPUConfig()
    config.forward.w_noise_type, config.forward.w_noise = WeightNoiseType.ADDITIVE_CONSTANT, 0.01
    layer = AnalogLinear(SIZES[1], SIZES[2], bias=False, rpu_config=config)
    layer.set_weights(torch.from_numpy(weights))
    layer.eval()
    given = torch.from_numpy(inputs)
    return {"float32": plain, "noisy": lambda: layer(given)}


def _crosssim() -> dict[str, Callable[[], object]]:
    from simulator import AnalogCore, CrossSimParameters

    weights, inputs, plain = _float_product(np.random.default_rng(0))
    parameters = CrossSimParameters()
    parameters.xbar.device.read_noise.enable = True
    parameters.xbar.device.read_noise.model = "NormalIndependentDevice"
    parameters.xbar.device.read_noise.magnitude = 0.01
    core = AnalogCore(weights, params=parameters)
    return {"float32": plain, "noisy": lambda: [core @ one for one in inputs]}


def _one(what: str, unit: str, value: float) -> Row:
    return Row(what, unit, value, value, value)
