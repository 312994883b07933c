"""Packed inference against float32 and against the popcount ceiling; a binary training step against a float one.

All on one thread, in processor time; what is compared runs in turns, and ratios are those of the shortest times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.rows import Row, in_turns, ratio_of_best, row
from models.architectures import Architecture, Dense, Precision, mlp, vgg
from models.encodings import ThermometerEncoding
from models.integer import IntegerNetwork
from models.packed import PackedNetwork
from models.packed_kernels import count_ones, fire
from models.weight_errors import WeightErrorRates, WeightErrors

SIZES, BATCH = (784, 1024, 1024, 10), 1000
STEP_BATCH = 100
REPETITIONS = 25
CEILING_WORDS, CEILING_PASSES = 2048, 8000


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _bare_popcount(words: NDArray[np.uint64], passes: int) -> Any:
    """XOR, popcount and addition alone, on words that stay in the first cache."""
    total = np.uint64(0)
    for turn in range(passes):
        other = words[turn % len(words)]
        for i in range(len(words)):
            total += count_ones(words[i] ^ other)
    return total


def _folded(plan: Architecture) -> IntegerNetwork:
    import torch

    from models.networks import build, fold

    return fold(build(plan, torch.Generator().manual_seed(0)).eval())


def packed() -> list[Row]:
    """Inference of 784-1024-1024-10 and of a convolutional network in packed bits, beside float32 and the ceiling."""
    import torch

    rng = np.random.default_rng(0)
    encoding = ThermometerEncoding(SIZES[0], (8,))
    images = rng.integers(0, 16, (BATCH, SIZES[0])).astype(np.uint8)
    products = BATCH * sum(inputs * outputs for inputs, outputs in pairwise(SIZES))
    words = rng.integers(0, 2**63, CEILING_WORDS, dtype=np.uint64)
    ceiling_products = 64 * CEILING_WORDS * CEILING_PASSES
    table = []
    with _one_thread():
        networks = {
            kind: _folded(mlp(kind.value, encoding, SIZES[1:-1], SIZES[-1], weights=kind))
            for kind in (Precision.BINARY, Precision.TERNARY)
        }
        inputs = networks[Precision.BINARY].encode(images)
        floats = [torch.from_numpy(layer.weights.astype(np.float32)) for layer in networks[Precision.BINARY].layers]
        real = torch.from_numpy(inputs.astype(np.float32))

        def forward() -> None:
            x = real
            for weights in floats[:-1]:
                x = torch.sign(x @ weights.T)
            x @ floats[-1].T

        actions = {
            "float32": forward,
            **{kind: partial(PackedNetwork(own).scores_of_inputs, inputs) for kind, own in networks.items()},
            "ceiling": partial(_bare_popcount, words, CEILING_PASSES),
            "product": _product(rng),
        }
        seconds = in_turns(actions, REPETITIONS)
        for name, share in seconds.items():
            count = {"ceiling": ceiling_products, "product": BATCH * 1024 * 1024}.get(name, products)
            names = {"ceiling": "popcount alone", "product": f"{BATCH} x 1024 -> 1024, signs to signs"}
            label = names.get(name, f"784-1024-1024-10, batch {BATCH}, {name}")
            table.append(row(label, "G products/s", [1e-9 * count / value for value in share]))
        ceiling = [BATCH * 1024 * 1024 / ceiling_products * value for value in seconds["ceiling"]]
        table.append(
            ratio_of_best("packed binary product, signs included", "of the ceiling", ceiling, seconds["product"])
        )
        for kind in networks:
            own = seconds[kind]
            table.append(ratio_of_best(f"packed {kind} inference", "x float32", seconds["float32"], own))
            ceiling = [products / ceiling_products * value for value in seconds["ceiling"]]
            what = f"packed {kind} inference, encoded inputs to scores"
            table.append(ratio_of_best(what, "of the ceiling", ceiling, own))
        table += _convolutions(rng)
    return table


def _product(rng: np.random.Generator) -> Callable[[], None]:
    """One layer of 1024 binary neurons behind 1024 others, packed on both sides."""
    rows = rng.integers(0, 2**63, (BATCH, 1, 1, 16), dtype=np.uint64)
    weights = rng.integers(0, 2**63, (1, 16, 16 * 64), dtype=np.uint64)
    starts, masks = np.full((1, 16, 64), 2**64 - 512, np.uint64), np.zeros((1, 16, 0), np.uint64)
    out = np.zeros((BATCH, 16), np.uint64)
    return partial(fire, rows, weights, masks, starts, np.zeros(1, np.int32), out)


def _convolutions(rng: np.random.Generator) -> list[Row]:
    import torch
    from torch.nn import functional

    plan = vgg("vgg", ThermometerEncoding(3 * 32 * 32, (8,)), (3, 32, 32), 10, filters=64)
    network = _folded(plan)
    inputs = network.encode(rng.integers(0, 16, (20, plan.encoding.features)).astype(np.uint8))
    weights = [torch.from_numpy(layer.weights.astype(np.float32)) for layer in network.layers]
    sizes = plan.sizes()

    def forward() -> None:
        x = torch.from_numpy(inputs.astype(np.float32)).view(-1, *sizes[0])
        for block, size, matrix in zip(plan.blocks, sizes, weights, strict=False):
            if isinstance(block, Dense):
                x = torch.sign(functional.linear(x.flatten(1), matrix))
                continue
            x = functional.conv2d(functional.pad(x, (1, 1, 1, 1), value=-1.0), matrix.view(-1, size[0], 3, 3))
            x = torch.sign(x if block.pool is None else functional.max_pool2d(x, 2))
        x @ weights[-1].T

    seconds = in_turns({"float32": forward, "packed": partial(PackedNetwork(network).scores_of_inputs, inputs)}, 8)
    return [
        ratio_of_best(
            "packed inference, six convolutions of 64 to 256 filters",
            "x float32",
            seconds["float32"],
            seconds["packed"],
        )
    ]


def steps() -> list[Row]:
    """A training step of a binary 784-1024-1024-10 beside a float one, and what fresh weight errors add to it."""
    import torch
    from torch.nn import functional

    from models.networks import build

    labels = torch.randint(0, 10, (STEP_BATCH,), generator=torch.Generator().manual_seed(1))
    images = torch.randint(0, 16, (STEP_BATCH, SIZES[0]), generator=torch.Generator().manual_seed(2)).float()

    def stepper(weights: Precision) -> Callable[[], None]:
        plan = mlp("net", ThermometerEncoding(SIZES[0], (8,)), SIZES[1:-1], SIZES[-1], weights=weights)
        model = build(plan, torch.Generator().manual_seed(0)).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)

        def step() -> None:
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            model.clamp()

        return step

    with _one_thread():
        seconds = in_turns(
            {
                "float": stepper(Precision.REAL),
                "binary": stepper(Precision.BINARY),
                "ternary": stepper(Precision.TERNARY),
                **_injections(),
            },
            2 * REPETITIONS,
        )
    table = [
        row(f"{name} training step, 784-1024-1024-10, batch {STEP_BATCH}", "ms", [1e3 * s for s in seconds[name]])
        for name in ("float", "binary", "ternary")
    ]
    for name in ("binary", "ternary"):
        table.append(ratio_of_best(f"{name} training step", "float steps", seconds[name], seconds["float"]))
    for name in _injections():
        table.append(ratio_of_best(name, "of a binary step", seconds[name], seconds["binary"]))
    return table


def _injections() -> dict[str, Callable[[], object]]:
    """What errors add to a forward pass, by themselves: as parts of whole steps they would drown in their spread."""
    import torch

    layers = [torch.ones(outputs, inputs) for inputs, outputs in pairwise(SIZES)]

    def injection(rate: float) -> Callable[[], None]:
        errors = WeightErrors(WeightErrorRates(inversion=rate), np.random.default_rng(0))

        def inject() -> None:
            for weights in layers:
                errors.disturb_(weights)

        return inject

    return {f"fresh errors in all weights at {rate:g}": injection(rate) for rate in (1e-5, 1e-4, 1e-3)}
