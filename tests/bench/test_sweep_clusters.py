"""Sweeps on clusters: a Dask cluster whose workers are killed, and Slurm as far as its commands go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.sweeping.on_dask import OnDask, OnSlurm
from bench.sweeping.points import PointStatus
from bench.sweeping.store import read_sweep
from bench.sweeping.sweep_file import Slurm, load_sweep
from data.networks import save_network
from models.exceptions import UserMistake
from tests.bench.digits_network import digits_network
from tests.bench.test_sweep import TEXT, file, inputs

__all__ = ["file", "inputs"]
GRID = """
experiment = "predict"
seeds = { first = 0, count = 10 }
[settings]
network = "network.safetensors"
device = "device.toml"
samples = 150
modes = ["host"]
[grid]
"quantities.read_error.transient_rate" = [1e-4, 1e-3, 1e-2, 1e-1]
[sample]
count = 5
ranges = { "quantities.read_error.stuck_fraction" = { low = 1e-4, high = 1e-1, scale = "log" } }
"""
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def command(*words: object) -> dict[str, object]:
    """Run ``rram-bench sweep`` in a process of its own, which Dask's threads end with."""
    line = [sys.executable, "-m", "bench.cli", "sweep", *map(str, words), "--json"]
    ended = subprocess.run(line, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, check=True)
    return dict(json.loads(ended.stdout))


def results(path: Path) -> dict[int, Mapping[str, float]]:
    stored = read_sweep(path)
    assert stored.count(PointStatus.DONE) == len(stored.seeds)
    return {index: outcome.results for index, outcome in sorted(stored.outcomes.items())}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_points_while_a_worker_is_killed_every_ten_seconds(file: Path, tmp_path: Path) -> None:
    file.write_text(GRID)
    save_network(file.parent / "network.safetensors", digits_network(), {})
    cluster = [sys.executable, str(Path(__file__).parent / "dying_dask.py"), "2", "10"]
    dying = subprocess.Popen(cluster, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert dying.stdout is not None
    address = dying.stdout.readline().strip()
    told = command(file, "--scheduler", address, "--out", tmp_path / "dask.h5")
    kills = dying.communicate(timeout=120)[0].split()  # closes its standard input
    assert (told["points"], told["done"], told["failed"]) == (200, 200, 0)
    command(file, "--workers", 0, "--out", tmp_path / "serial.h5")
    found = results(tmp_path / "dask.h5")
    assert list(found) == list(range(200))
    assert found == results(tmp_path / "serial.h5")
    assert len(kills) >= 2, "it was over before workers were killed"
    print(f"{len(kills)} kills")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_slurm_jobs_compute_the_points(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands are stood in for by scripts that start the job script here, and end it."""
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "sbatch").write_text(
        f'#!/bin/sh\ncp "$1" {tmp_path}/job.sh\nsetsid sh {tmp_path}/job.sh > {tmp_path}/job.log 2>&1 &\n'
        f"echo $! >> {tmp_path}/pids\necho Submitted batch job $!\n"
    )
    (commands / "scancel").write_text('#!/bin/sh\nfor job in "$@"; do kill -- "-$job"; done\n')
    for script in commands.iterdir():
        script.chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{commands}:{os.environ['PATH']}")
    file.write_text(f"{TEXT}[slurm]\njobs = 1\ncores = 2\nmemory = '2GB'\ninterface = 'lo'\nqueue = 'short'\n")
    assert command(file, "--slurm", "--out", tmp_path / "slurm.h5")["done"] == 12
    command(file, "--workers", 0, "--out", tmp_path / "serial.h5")
    assert results(tmp_path / "slurm.h5") == results(tmp_path / "serial.h5")
    script = (tmp_path / "job.sh").read_text()
    assert "#SBATCH -p short" in script
    assert "export OMP_NUM_THREADS=1" in script


def test_what_is_missing_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "bench.cli", "sweep", str(file), "--slurm"], stderr=subprocess.PIPE, text=True
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "has no table [slurm]" in ended.stderr
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserMistake, match=r"distributed is not installed; .*rram-bench\[scale\]"):
        OnDask("tcp://127.0.0.1:1")
    with pytest.raises(UserMistake, match="dask_jobqueue is not installed"):
        OnSlurm(Slurm(jobs=1, memory="1GB"))
    assert load_sweep(file).slurm is None


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(UserMistake, match="write it as tcp://HOST:PORT"):
        OnDask("nonsense")
