"""Trainings that one process does alone and several do together: the same code for both, so that they can be compared.

As a program, under torchrun: does all of them and leaves what came of each process in the folder that it is given.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from bench.reproduce.learning import ErrorDraws
from data.device_files import default_device
from models.architectures import Architecture, Conv, Dense
from models.encodings import StochasticEncoding
from models.exceptions import RramBenchError
from models.layers import BatchNormSign, BinaryLinear
from models.modules import Dropout
from models.networks import build
from models.optimizers import MetaplasticAdam, WeakResetOptimizer, hidden_and_others
from models.processes import launched, place, together
from models.training_loop import EVALUATION_BATCH, FitSettings, fit
from models.weight_errors import WeightErrorRates
from tests.models.blobs import Blobs

SETTINGS = FitSettings(epochs=4, batch=40)
QUICK = ("adam", "drawing")
COMPILED = ("metaplastic", "weak-reset")
BLOBS = Blobs(count=203, held_out=EVALUATION_BATCH + 1)
"""203 make batches of 41 and 40, which two processes cannot halve."""


def jitter(images, generator):
    return images + 2.0 * torch.randn(images.shape, generator=generator).to(images)


class Training:
    """A network with its optimizer, made from a seed; in double precision but for the devices, which have single."""

    def __init__(self, kind, seed=0):
        self.kind, self.more = kind, {"augment": jitter}
        generator = torch.Generator().manual_seed(seed)
        if kind == "drawing":
            # all that draws within a network, in training and in tests: inputs, dropout, errors
            blocks = (Conv(6, (3, 3), dropout=0.2), Dense(16))
            plan = Architecture("drawing", StochasticEncoding(20, 255, 2), blocks, 4, shape=(1, 4, 5))
            self.network, inputs = build(plan, generator), torch.Generator().manual_seed(seed + 1)
            self.network.draw_from(inputs)
            errors = ErrorDraws(seed)
            self.network.inject(WeightErrorRates(0.02), errors.generator)
            self.more = {"also": {"inputs": inputs, "errors": errors}, "after_step": self.network.clamp}
        else:
            self.network = nn.Sequential(
                BinaryLinear(20, 32, generator),
                BatchNormSign(32),
                Dropout(0.1, generator),
                BinaryLinear(32, 4, generator),
            ).append(nn.BatchNorm1d(4))
        self.number = torch.float32 if kind == "weak-reset" else torch.float64
        self.network.to(self.number)
        hidden, others = hidden_and_others(self.network)
        if kind == "weak-reset":
            section = default_device().model.weak_reset
            self.optimizer = WeakResetOptimizer(hidden, others, section, np.random.default_rng(seed), lr=8.0)
        elif kind == "metaplastic":
            self.optimizer = MetaplasticAdam([*hidden, *others], metaplasticity=1.35)
        else:
            self.optimizer = torch.optim.Adam([*hidden, *others], lr=0.01)

    def fit(self, settings=SETTINGS, **more):
        more = {"prepare": lambda x: x.to(self.number), "about": {"kind": self.kind}, **self.more, **more}
        return fit(self.network, BLOBS, settings, 5, self.optimizer, **more)


def refused(work):
    """The mistake that a training ends with."""
    try:
        work()
    except RramBenchError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


def kept(training: Training, folder: Path, name: str) -> None:
    """Leave the weights of this process."""
    save_file(training.network.state_dict(), folder / f"{name}-{place().rank}.safetensors")


def all_trainings(folder: Path, kinds: list[str]) -> dict[str, object]:
    """Train in every way; each process has a folder of its own, as on a host of its own, for its checkpoints."""
    own = folder / f"process{place().rank}"
    own.mkdir()
    found: dict[str, object] = {}
    for kind in kinds:
        training = Training(kind)
        found[kind] = [vars(record) for record in training.fit().history]
        kept(training, folder, kind)
    if kinds == list(QUICK):
        found |= resumed(folder, own) | refusals(own)
    return found


def resumed(folder: Path, own: Path) -> dict[str, object]:
    """Stop by the second process alone, go on; and go on from the checkpoint that one process alone left."""
    asked = []

    def stop() -> bool:
        asked.append(None)
        return place().rank == 1 and len(asked) > 2 * 5 + 3

    path = own / "stopped.safetensors"
    ended = Training("drawing").fit(checkpoint=path, should_stop=stop)
    found = {"stopped": [ended.stopped, len(ended.history)], "files": sorted(file.name for file in own.iterdir())}
    if path.exists():
        (folder / "stopped.safetensors").write_bytes(path.read_bytes())
    for name, start in (("again", path), ("after-one", (folder if place().rank == 0 else own) / "one.safetensors")):
        training = Training("drawing")
        training.fit(checkpoint=start)
        kept(training, folder, name)
    return found


def refusals(own: Path) -> dict[str, object]:
    """What cannot be done, as it is said."""
    plain = Training("adam")
    plain.network.append(nn.Dropout(0.1))
    return {
        "no folder": refused(lambda: Training("adam").fit(checkpoint=own / "no" / "such.safetensors")),
        "PyTorch's dropout": refused(plain.fit),
        "other weights": refused(Training("adam", seed=place().rank).fit),
    }


if __name__ == "__main__":
    where, goal = launched(), Path(sys.argv[1])
    with together(where):
        results = all_trainings(goal, sys.argv[2:])
    (goal / f"results-{where.rank}.json").write_text(json.dumps(results))
