"""`train` and `reproduce` under torchrun: one voice, one file, and an end for all when one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.training_checkpoints import load_checkpoint

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
REPRODUCTION = str(Path(__file__).with_name("shared_reproduction.py"))
ROOT = Path(__file__).parents[2]
LONG, LIMIT_S = "100000", 150.0

# a start takes seconds of processor time in each process, and minutes on a machine with other work
pytestmark = pytest.mark.timeout(500)


def environment(folder: Path, epochs: str = LONG) -> dict[str, str]:
    own = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    return os.environ | own | {"SHARED_FOLDER": str(folder), "SHARED_EPOCHS": epochs}


def under_torchrun(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, "-m", "bench.cli", *words]
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=LIMIT_S)


def our_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("rram-bench: ")]


def test_a_mistake_is_said_once_and_nothing_is_written(tmp_path: Path):
    done = under_torchrun(tmp_path, "train", "--epochs", "1", "--out", "no/such/network.safetensors")
    (line,) = our_lines(done.stderr)
    assert "cannot write the network file no/such/network.safetensors" in line
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["demo"], "torchrun can share out train and reproduce alone; run 'demo' without it"),
        (["reproduce", "mram", "--device", "cuda"], "PyTorch finds no CUDA device here"),
        (["train", "--epochs", "many"], "Invalid value for '--epochs'"),
    ],
)
def test_other_mistakes_are_said_once_too(words, says, tmp_path: Path):
    done = under_torchrun(tmp_path, *words)
    assert done.stderr.count(says) == 1
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path):
    done = under_torchrun(tmp_path, "train", "--epochs", "5", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"accuracy": 0.9') == 1
    assert done.stderr.count("training digits-bnn on digits") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["network.safetensors"]


def processes(folder: Path, torchrun: subprocess.Popen[str], checkpoint: Path) -> list[int]:
    """Numbers of the two processes, once there is a checkpoint."""
    deadline = time.monotonic() + LIMIT_S
    while not checkpoint.exists():
        assert torchrun.poll() is None, torchrun.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return [int((folder / f"process-{rank}").read_text()) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "victim", "says"),
    [
        (signal.SIGKILL, 0, "another process of this training has ended"),
        (signal.SIGKILL, 1, "another process of this training has ended"),
        (signal.SIGINT, None, "stopped on request; the same command goes on from the checkpoints in"),
    ],
)
def test_when_one_ends_all_end_and_the_checkpoint_serves_a_process_alone(sent, victim, says, tmp_path: Path):
    words = ["reproduce", "shared", "--out", str(tmp_path / "out"), "--json"]
    checkpoint = tmp_path / "out" / "shared-seed0" / "digits-0.safetensors"
    with subprocess.Popen(
        [*TORCHRUN, REPRODUCTION, *words],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as torchrun:
        started = processes(tmp_path, torchrun, checkpoint)
        os.kill(torchrun.pid if victim is None else started[victim], sent)
        output, errors = torchrun.communicate(timeout=LIMIT_S)
    (line,) = our_lines(errors)
    assert says in line
    assert torchrun.returncode == 1
    assert output == ""
    for process in started:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert [file.name for file in checkpoint.parent.iterdir()] == [checkpoint.name]
    learnt = len(load_checkpoint(checkpoint)["history"])
    assert learnt >= 1
    # it is read whole by one that wants fewer epochs, and refused for that alone
    alone = subprocess.run(
        [sys.executable, REPRODUCTION, *words],
        env=environment(tmp_path, epochs="1"),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert f"epochs is {LONG} there and 1 here" in alone.stderr
