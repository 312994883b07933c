"""What other programs take for the same: binary layers of brevitas, noisy layers of aihwkit-lightning, pyvisa-sim.

One thread, in turns, ratios of the shortest times. A row of what is not installed, or does not work here, says so.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.session import simulated_bench
from benchmarks.rows import Row, in_turns, ratio_of_best, row
from models.architectures import mlp
from models.encodings import ThermometerEncoding
from models.packed import PackedNetwork

SIZES = (784, 1024, 1024, 10)
TRAINING, INFERENCE = 100, 1000
REPETITIONS = 8
QUERIES = 200
_INSTRUMENT = """
spec: "1.0"
devices:
  supply:
    eom: {TCPIP SOCKET: {q: "\\n", r: "\\n"}}
    dialogues: [{q: "*IDN?", r: "maker,supply,1,1"}]
resources:
  TCPIP0::localhost::5025::SOCKET: {device: supply}
"""


def peers() -> list[Row]:
    """Layers and instruments of other programs beside ours."""
    from models.training import single_thread

    with single_thread():
        return [
            *_of("brevitas", "brevitas", _brevitas),
            *_of("aihwkit-lightning", "aihwkit_lightning", _lightning),
            *_of("pyvisa-sim", "pyvisa_sim", _pyvisa_sim),
        ]


def _of(name: str, module: str, rows: Callable[[], list[Row]]) -> list[Row]:
    if find_spec(module) is None:
        return [_without(name, "not installed")]
    try:
        return rows()
    except Exception as error:  # whatever a peer of another version comes up with
        return [_without(name, f"does not work here: {type(error).__name__}: {' '.join(str(error).split())[:80]}")]


def _without(name: str, why: str) -> Row:
    return Row(name, why, float("nan"), float("nan"), float("nan"))


def _brevitas() -> list[Row]:
    import torch
    from brevitas.nn import QuantIdentity, QuantLinear
    from brevitas.quant.binary import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst

    layers: list[Any] = []
    for inputs, outputs in pairwise(SIZES):
        layers.append(QuantLinear(inputs, outputs, bias=False, weight_quant=SignedBinaryWeightPerTensorConst))
        layers.append(torch.nn.BatchNorm1d(outputs))
        layers.append(QuantIdentity(act_quant=SignedBinaryActPerTensorConst))
    network = torch.nn.Sequential(*layers[:-1])
    seconds = in_turns({"brevitas": _training(network), "ours": _training(_ours())}, REPETITIONS)
    what = f"brevitas: binary training step, {'-'.join(map(str, SIZES))}, batch {TRAINING}"
    return [ratio_of_best(what, "x a step of ours", seconds["brevitas"], seconds["ours"])]


def _ours() -> Any:
    import torch

    from models.networks import build

    plan = mlp("net", ThermometerEncoding(SIZES[0], (8,)), SIZES[1:-1], SIZES[-1])
    return build(plan, torch.Generator().manual_seed(0))


def _training(network: Any) -> Callable[[], None]:
    import torch
    from torch.nn.functional import cross_entropy

    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 16, (TRAINING, SIZES[0]), generator=generator).float()
    labels = torch.randint(0, SIZES[-1], (TRAINING,), generator=generator)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def _lightning() -> list[Row]:
    import torch
    from aihwkit_lightning.nn import AnalogLinear
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig

    from models.networks import fold

    config = TorchInferenceRPUConfig()
    config.forward.out_noise = 0.04
    layers: list[Any] = []
    for inputs, outputs in pairwise(SIZES):
        layers += [AnalogLinear(inputs, outputs, bias=False, rpu_config=config), torch.nn.Hardtanh()]
    network = torch.nn.Sequential(*layers[:-1]).eval()
    folded = fold(_ours().eval())
    inputs = folded.encode(np.random.default_rng(0).integers(0, 16, (INFERENCE, SIZES[0])).astype(np.uint8))
    given = torch.from_numpy(inputs.astype(np.float32))
    packed = PackedNetwork(folded)

    def noisy() -> None:
        with torch.no_grad():
            network(given)

    seconds = in_turns({"lightning": noisy, "ours": partial(packed.scores_of_inputs, inputs)}, REPETITIONS)
    what = f"aihwkit-lightning: inference with output noise, batch {INFERENCE}"
    return [ratio_of_best(what, "x packed inference of ours", seconds["lightning"], seconds["ours"])]


def _pyvisa_sim() -> list[Row]:
    """Identity queries per second by the clock: theirs in this process, ours of a server behind a socket."""
    import time

    import pyvisa

    rates: dict[str, list[float]] = {"pyvisa-sim": [], "the simulated supply, through a socket": []}
    with tempfile.TemporaryDirectory() as name, simulated_bench() as (_, text):
        path = Path(name) / "supply.yaml"
        path.write_text(_INSTRUMENT, encoding="utf-8")
        found = re.search(r"TCPIP\d*::[^\"]+::SOCKET", text)
        if found is None:
            raise LookupError("the simulated bench has no instrument behind a socket")
        places = ((f"{path}@sim", "TCPIP0::localhost::5025::SOCKET"), ("@py", found[0]))
        for library, resource in places * REPETITIONS:
            manager = pyvisa.ResourceManager(library)
            instrument: Any = manager.open_resource(resource, read_termination="\n", write_termination="\n")
            began = time.perf_counter()
            for _ in range(QUERIES):
                instrument.query("*IDN?")
            rates[list(rates)[library == "@py"]].append(QUERIES / (time.perf_counter() - began))
            instrument.close()
            manager.close()
    return [row(f"identity queries of {name}", "per second", values) for name, values in rates.items()]
