"""The general training loop: same seed, same weights; what was interrupted ends as if it had not been."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from data.device_files import default_device
from models.exceptions import UserMistake
from models.layers import BatchNormSign, BinaryLinear
from models.optimizers import MetaplasticAdam, WeakResetOptimizer, hidden_and_others
from models.training_checkpoints import load_checkpoint, save_checkpoint
from models.training_loop import Diverged, FitSettings, accuracy_of, fit
from tests.models.blobs import Blobs

SECTION = default_device().model.weak_reset
SETTINGS = FitSettings(epochs=6, batch=40)


class Training:
    """A network with its optimizer, made from a seed."""

    def __init__(self, kind: str, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.network = nn.Sequential(
            BinaryLinear(20, 32, generator), BatchNormSign(32), nn.Dropout(0.1), BinaryLinear(32, 4, generator)
        )
        self.network.append(nn.BatchNorm1d(4))
        hidden, others = hidden_and_others(self.network)
        if kind == "weak-reset":
            self.optimizer = WeakResetOptimizer(hidden, others, SECTION, np.random.default_rng(seed), lr=8.0)
        elif kind == "metaplastic":
            self.optimizer = MetaplasticAdam([*hidden, *others], metaplasticity=1.35)
        else:
            self.optimizer = torch.optim.Adam([*hidden, *others], lr=0.01)
        self.seed = seed
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 2, 0.5)

    def fit(self, settings=SETTINGS, data=None, **more):
        data = Blobs() if data is None else data
        more = {"about": {"seed": self.seed, "widths": (20, 32, 4)}, "prepare": lambda x: x.float() / 255.0, **more}
        return fit(self.network, data, settings, self.seed, self.optimizer, schedule=self.schedule, **more)

    def weights(self):
        return {name: tensor.clone() for name, tensor in self.network.state_dict().items()}


def jitter(images, generator):
    return images + 0.05 * torch.randn(images.shape, generator=generator)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


KINDS = ["adam", "metaplastic", "weak-reset"]


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_are_learnt(kind):
    training = Training(kind)
    seen = []
    fitted = training.fit(on_epoch=seen.append)
    assert fitted.history == seen
    assert not fitted.stopped
    assert [record.epoch for record in seen] == list(range(1, 7))
    blobs = Blobs()
    right = accuracy_of(training.network, blobs.test_images, blobs.test_labels, lambda x: x.float() / 255.0)
    assert seen[-1].test_accuracy == right > 0.9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_seed_gives_the_same_weights_whatever_the_threads_of_the_program(kind, threads):
    settings = FitSettings(epochs=3, batch=40, threads=threads)
    before, state, found = torch.get_num_threads(), torch.get_rng_state(), []
    try:
        for ambient, seed in ((1, 3), (2, 3), (1, 4)):
            torch.set_num_threads(ambient)
            training = Training(kind, seed)
            training.fit(settings, augment=jitter)
            assert torch.get_num_threads() == ambient
            found.append(training.weights())
    finally:
        torch.set_num_threads(before)
    assert same(found[0], found[1])
    assert not same(found[0], found[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [1, 2])
def test_what_was_interrupted_ends_with_the_weights_of_what_was_not(kind, every, tmp_path: Path):
    settings = FitSettings(epochs=6, batch=40, checkpoint_every=every)
    whole = Training(kind)
    history = whole.fit(settings, augment=jitter).history
    path = tmp_path / "training.safetensors"
    asked = []

    def in_the_fourth_epoch() -> bool:
        asked.append(None)
        return len(asked) > 3 * 5 + 2

    first = Training(kind)
    stopped = first.fit(settings, augment=jitter, checkpoint=path, should_stop=in_the_fourth_epoch)
    assert stopped.stopped
    assert stopped.history == history[:3]
    second = Training(kind)
    resumed = second.fit(settings, augment=jitter, checkpoint=path)
    assert resumed.history == history
    assert same(second.weights(), whole.weights())
    # a finished one is only read again
    third = Training(kind)
    assert third.fit(settings, augment=jitter, checkpoint=path, should_stop=lambda: True).history == history
    assert same(third.weights(), whole.weights())
    assert [file.name for file in tmp_path.iterdir()] == ["training.safetensors"]


def test_generators_of_others_are_part_of_a_checkpoint(tmp_path: Path):
    """Noise drawn from a generator of the network's own, as injected errors are."""

    def run(path, stop_after):
        own, asked = torch.Generator().manual_seed(5), []
        training = Training("adam")

        def noisy(images):
            return images.float() / 255.0 + 0.1 * torch.randn(images.shape, generator=own)

        def stop():
            asked.append(None)
            return len(asked) > stop_after

        training.fit(prepare=noisy, also={"noise": own}, checkpoint=path, should_stop=stop)
        return training.weights()

    path = tmp_path / "training.safetensors"
    whole = run(None, math.inf)
    run(path, 12)
    assert same(run(path, math.inf), whole)


def test_stopping_keeps_the_last_whole_epoch():
    asked, kept = [], []

    def stop():
        asked.append(None)
        return len(asked) > 2 * 5 + 3

    training = Training("adam")
    fitted = training.fit(should_stop=stop, on_epoch=lambda record: kept.append(training.weights()))
    assert len(fitted.history) == 2
    assert same(training.weights(), kept[-1])


@pytest.mark.parametrize("where", ["loss", "parameter"])
def test_what_is_no_number_ends_training_with_the_last_good_state(where):
    kept, steps = [], []
    training = Training("adam")

    def spoil():
        steps.append(None)
        if len(steps) == 2 * 5 + (3 if where == "loss" else 5):
            with torch.no_grad():
                training.network[0].hidden[:] = math.nan
                training.network[4].bias[0] = math.nan

    with pytest.raises(Diverged, match=r"stopped in epoch 3: .*Lower the learning rate") as caught:
        training.fit(after_step=spoil, on_epoch=lambda record: kept.append(training.weights()))
    assert len(caught.value.history) == len(kept) == 2
    assert same(training.weights(), kept[-1])
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings": FitSettings(epochs=7, batch=40)}, "epochs is 6 there and 7 here"),
        ({"data": Blobs("others")}, "data is 'blobs' there and 'others' here"),
        ({"about": {"seed": 0, "widths": (20, 33, 4)}}, "widths is"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(change, says, tmp_path: Path):
    path = tmp_path / "training.safetensors"
    Training("adam").fit(checkpoint=path)
    with pytest.raises(UserMistake, match=says):
        Training("adam").fit(checkpoint=path, **change)
    with pytest.raises(UserMistake, match="does not fit this training"):
        Training("weak-reset").fit(checkpoint=path)


@pytest.mark.parametrize("part", ["train_images", "test_labels"])
def test_a_checkpoint_of_other_examples_under_the_same_name_is_refused(part, tmp_path: Path):
    path = tmp_path / "training.safetensors"
    Training("adam").fit(checkpoint=path)
    others = Blobs()
    setattr(others, part, getattr(others, part)[::-1])
    with pytest.raises(UserMistake, match="of another training: digest of the data is"):
        Training("adam").fit(data=others, checkpoint=path)


def test_a_spoilt_checkpoint_is_refused_in_one_line(tmp_path: Path):
    path = tmp_path / "training.safetensors"
    Training("adam").fit(checkpoint=path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserMistake, match="cannot read the checkpoint"):
        Training("adam").fit(checkpoint=path)
    save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(UserMistake, match="no checkpoint of ours"):
        Training("adam").fit(checkpoint=path)
    with pytest.raises(UserMistake, match="cannot write the checkpoint"):
        Training("adam").fit(checkpoint=tmp_path / "missing" / "training.safetensors")


def test_states_come_back_as_they_were(tmp_path: Path):
    state = {
        "numbers": (1, 2.5, True, None, "text", -math.inf, 2**80),
        "by number": {0: {"step": torch.tensor(3.0), "moment": torch.arange(6.0).reshape(2, 3)}, 1: [np.arange(3)]},
        "empty": {},
    }
    save_checkpoint(tmp_path / "a.safetensors", state)
    back = load_checkpoint(tmp_path / "a.safetensors")
    assert back["numbers"] == state["numbers"]
    assert torch.equal(back["by number"][0]["moment"], state["by number"][0]["moment"])
    assert back["by number"][0]["step"].shape == ()
    assert isinstance(back["by number"][1][0], np.ndarray)
    assert back["empty"] == {}
    with pytest.raises(TypeError, match="cannot hold a set"):
        save_checkpoint(tmp_path / "b.safetensors", {"a": {1, 2}})


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch": 1}, {"threads": 0}, {"checkpoint_every": 0}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(UserMistake):
        FitSettings(**{"epochs": 1, **change})
    with pytest.raises(UserMistake, match="too few images"):
        Training("adam").fit(data=Blobs(count=1))
