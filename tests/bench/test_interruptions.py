"""The loop killed and interrupted at random moments: what is on disk, and what is left on the supply."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.runs import RunStatus, find_interrupted, open_run, recover

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

LOOP = """
import sys
from pathlib import Path
from bench.demo import run_demo
from bench.procedure import Record
from bench.stopping import Stopped, stop_on_signals

class Told:
    acknowledged = 0
    def stage(self, text): self.acknowledged = 0; print("stage", flush=True)
    def done(self, text): pass
    def step(self, step):
        if isinstance(step, Record):
            self.acknowledged += len(next(iter(step.values.values()))) if step.many else 1
            print(self.acknowledged, flush=True)

with stop_on_signals() as stop:
    try:
        run_demo(7, sys.argv[1], Path(sys.argv[2]), Told(), stop)
    except Stopped:
        sys.exit(130)
"""
LONGEST_S = 12.0
"""About how long the loop takes here; later moments find it done, which is a fine moment too."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bench file of a simulated bench in a process of its own, that outlives its clients."""
    bench_file = tmp_path_factory.mktemp("bench") / "bench.toml"
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", "simulate", "--write", str(bench_file), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()
        yield bench_file
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=20)


def outputs(bench_file: Path) -> str:
    """What the supply itself says of its outputs, asked by a client that is not ours."""
    resource = tomllib.loads(bench_file.read_text())["supply"]["resource"]
    host, port = resource.split("::")[1:3]
    with socket.create_connection((host, int(port)), timeout=5) as wire:
        wire.sendall(b"MEAS:VOLT? ALL;:OUTP?\n")
        return wire.recv(200).decode().strip()


def loop(bench: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LOOP, bench, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill_once(folder: Path, moment_s: float) -> None:
    client = loop("simulated", folder)
    time.sleep(moment_s)
    client.kill()
    printed, _ = client.communicate()
    # Only whole lines count, and only those of the stage that was under way belong to the newest file.
    lines = printed[: printed.rfind("\n") + 1].split()
    acknowledged = lines[len(lines) - lines[::-1].index("stage") :] if "stage" in lines else []
    files = sorted(folder.glob("*.h5"))
    for path in files:
        assert open_run(path).status in (RunStatus.COMPLETED, RunStatus.INTERRUPTED)
    if acknowledged:
        newest = open_run(files[-1])
        assert sum(newest.rows(table) for table in newest.tables) >= int(acknowledged[-1])
    for path in find_interrupted(folder):
        # One that had ended and was killed while its file was rewritten keeps the status it had ended with.
        assert open_run(recover(path)).status in (RunStatus.COMPLETED, RunStatus.INTERRUPTED)


def interrupt_once(bench_file: Path, folder: Path, moment_s: float, times: int) -> None:
    client = loop(str(bench_file), folder)
    time.sleep(moment_s)
    for _ in range(times):
        os.kill(client.pid, signal.SIGINT)
        time.sleep(0.001)
    _, errors = client.communicate(timeout=60)
    # Before our handlers are in place the interpreter itself is interrupted; nothing is connected then.
    assert client.returncode in (0, 130, 1, -signal.SIGINT), errors
    reply = outputs(bench_file)
    volts = [float(part) for part in reply.split(";")[0].split(",")]
    assert max(abs(value) for value in volts) < 0.01, reply
    assert reply.split(";")[1].strip() == "0", reply
    for path in folder.glob("*.h5"):
        assert open_run(path).status in (RunStatus.COMPLETED, RunStatus.STOPPED)


@pytest.mark.parametrize("moment_s", [1.0, 2.0, 3.0])
def test_a_killed_loop_loses_no_acknowledged_record(tmp_path: Path, moment_s: float) -> None:
    kill_once(tmp_path, moment_s)


@pytest.mark.parametrize(("moment_s", "times"), [(0.9, 1), (1.6, 50), (2.4, 1)])
def test_an_interrupted_loop_leaves_the_supply_at_zero_and_off(
    served: Path, tmp_path: Path, moment_s: float, times: int
) -> None:
    interrupt_once(served, tmp_path, moment_s, times)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_kills_at_random_moments(tmp_path: Path) -> None:
    moments = random.Random(1)
    for attempt in range(50):
        kill_once(tmp_path / str(attempt), moments.uniform(0.3, LONGEST_S))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_interruptions_at_random_moments(served: Path, tmp_path: Path) -> None:
    moments = random.Random(2)
    for attempt in range(50):
        interrupt_once(served, tmp_path / str(attempt), moments.uniform(0.3, LONGEST_S), moments.choice((1, 2, 40)))
