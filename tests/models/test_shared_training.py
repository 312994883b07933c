"""Several processes train as one does: the same weights up to rounding, one checkpoint, and mistakes that all see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.processes import RUN_ID, Place, agreed, from_first, launched, place, summed, together
from models.shared_batches import shared
from tests.models.shared_training import COMPILED, QUICK, Training

ROOT = Path(__file__).parents[2]
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest differences that are asked for, relative to the tensor: many times those that were seen."""


def run_two(folder: Path, kinds: tuple[str, ...]) -> list[dict]:
    """What came of each of two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.models.shared_training", str(folder), *kinds],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"results-{number}.json").read_text()) for number in range(2)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """Two processes that have done all that is quick, after one alone had begun a training."""
    folder = tmp_path_factory.mktemp("two")
    asked = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 3 * 5 + 1

    assert len(Training("drawing").fit(checkpoint=folder / "one.safetensors", should_stop=stop).history) == 3
    return folder, run_two(folder, QUICK)


def close(network: torch.nn.Module, folder: Path, name: str, number: torch.dtype) -> None:
    """See that both processes ended with the same weights, and with those of ``network``."""
    found, other = (load_file(folder / f"{name}-{process}.safetensors") for process in range(2))
    for key, tensor in network.state_dict().items():
        assert torch.equal(found[key], other[key]), key
        scale = float(tensor.abs().max()) + 1e-3
        assert float((found[key] - tensor).abs().max()) <= ROUNDING[number] * scale, key


def check_same_training(kind: str, folder: Path, results: list[dict]) -> None:
    """See that two processes made the training that one makes."""
    training = Training(kind)
    history = training.fit().history
    close(training.network, folder, kind, training.number)
    assert results[0][kind] == results[1][kind]
    for record, found in zip(history, results[0][kind], strict=True):
        assert found["loss"] == pytest.approx(record.loss, rel=ROUNDING[training.number])
        # counts of right answers
        assert (found["train_accuracy"], found["test_accuracy"]) == (record.train_accuracy, record.test_accuracy)


@pytest.mark.parametrize("kind", QUICK)
def test_two_processes_train_as_one_does(two, kind):
    """Batches of 41 and 40, noise, dropout, random inputs and errors in the weights included."""
    check_same_training(kind, *two)


@pytest.mark.slow
def test_two_processes_pulse_devices_and_hold_weights_as_one_does(tmp_path: Path):
    results = run_two(tmp_path, COMPILED)
    for kind in COMPILED:
        check_same_training(kind, tmp_path, results)


def test_the_first_process_alone_keeps_checkpoints_and_one_that_is_stopped_stops_all(two):
    _, results = two
    assert [one["stopped"] for one in results] == [[True, 2], [True, 2]]
    assert [one["files"] for one in results] == [["stopped.safetensors"], []]


def test_checkpoints_do_not_depend_on_the_number_of_processes(two):
    folder, _ = two
    whole = Training("drawing")
    whole.fit()
    for name in ("again", "after-one"):
        close(whole.network, folder, name, whole.number)
    alone = Training("drawing")
    assert len(alone.fit(checkpoint=folder / "stopped.safetensors").history) == 4
    close(alone.network, folder, "again", alone.number)


def test_what_cannot_be_shared_is_refused_by_all_alike(two):
    first, second = two[1]
    for what, says in (
        ("no folder", "UserMistake: cannot write the checkpoint"),
        ("PyTorch's dropout", "UserMistake: a network with Dropout of PyTorch cannot be trained by several processes"),
        ("other weights", "BenchFailure: process 1 of 2 no longer has the weights of process 0"),
    ):
        assert first[what] == second[what]
        assert first[what].startswith(says)


def test_a_process_alone_keeps_its_own(monkeypatch: pytest.MonkeyPatch):
    assert launched() == place() == Place(0, 1, 0)
    with together(launched()), shared(7) as share:
        assert (share.examples, share.weight) == (slice(0, 7), 1.0)
        assert summed([0.1, 2.0]) == [0.1, 2.0]
        assert (agreed(True), agreed(False), from_first(lambda: 3)) == (True, False, 3)
    for name, value in {RUN_ID: "a", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert launched() == Place(5, 8, 1)
