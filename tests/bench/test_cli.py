"""The command line as a user types it: results, one-line errors, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

COMMAND = [sys.executable, "-m", "bench.cli"]


def rram_bench(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=110, cwd=cwd, check=False)


def assert_one_line_mistake(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("rram-bench:")]
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0]


def test_mistakes_end_with_status_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"not a network")
    save_file({"w": np.zeros((2, 2), np.float32)}, tmp_path / "other.safetensors")
    (tmp_path / "bad.toml").write_text('schema = "rram-bench bench 1"\ncolour = "red"\n')
    for args, parts in (
        (["check", "--bench", "nowhere.toml"], ["nowhere.toml"]),
        (["check", "--bench", "bad.toml"], ["bad.toml"]),
        (["infer", "nowhere.safetensors"], ["nowhere.safetensors"]),
        (["infer", "junk.safetensors"], ["junk.safetensors"]),
        (["map", "other.safetensors"], ["other.safetensors"]),
        (["run", "no-such-procedure"], ["no-such-procedure", "forming"]),
        (["run", "program", "--set", "attempts"], ["name=value"]),
        (["run", "program", "--set", "attempts=many"], ["attempts"]),
        (["fit", "device", "nowhere.h5"], ["nowhere.h5"]),
        (["train", "no-such-network"], ["no-such-network"]),
        (["train", "--data", "no-such-data"], ["no-such-data"]),
        (["recover", "nowhere.h5"], ["nowhere.h5"]),
    ):
        assert_one_line_mistake(rram_bench(*args, cwd=tmp_path), *parts)
    assert not list(tmp_path.glob("runs/*.h5"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("run program --colour red", ["--colour", "see rram-bench run --help"]),
        ("demo --seed -1", ["'--seed'", "see rram-bench demo --help"]),
        ("report", ["Missing argument 'RUN'", "see rram-bench report --help"]),
        ("fit sence", ["'sence'", "Did you mean 'sense'?", "see rram-bench fit --help"]),
    ],
)
def test_what_the_parser_refuses_is_one_line_that_names_the_help(words: str, parts: list[str], tmp_path: Path) -> None:
    done = rram_bench(*words.split(), cwd=tmp_path)
    assert_one_line_mistake(done, *parts)
    assert len(done.stderr.splitlines()) == 1


def test_a_group_of_commands_named_alone_shows_its_help(tmp_path: Path) -> None:
    done = rram_bench("fit", cwd=tmp_path)
    assert done.returncode == 2
    assert "Usage: rram-bench fit" in done.stderr
    assert "weak-reset" in done.stderr


def test_run_and_recover_speak_json(tmp_path: Path) -> None:
    done = rram_bench("run", "forming", "--cells", "0:4,0:4", "--out", "runs", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "completed"
    assert result["records"] > 0
    assert (tmp_path / result["run_file"]).exists()
    assert result["result"]["cells"] == 16
    done = rram_bench("recover", "runs", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {"recovered": []}


def test_check_gives_a_verdict_for_each_instrument(tmp_path: Path) -> None:
    done = rram_bench("check", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["instruments"]
    assert [row["role"] for row in rows] == ["supply", "smu", "pulse_source", "temperature", "board"]
    assert all(row["ok"] for row in rows)


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_simulate_serves_until_ctrl_c_and_any_client_can_use_it(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [*COMMAND, "simulate", "--write", "bench.toml", "--json"], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert server.stdout is not None
        served = json.loads(server.stdout.readline())
        assert (tmp_path / served["bench_file"]).exists()
        done = rram_bench("run", "read", "--bench", "bench.toml", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert rram_bench("safe", "--bench", "bench.toml", cwd=tmp_path).returncode == 0
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=10) == 0
    finally:
        server.kill()
        server.communicate()
    assert_one_line_mistake(rram_bench("run", "read", "--bench", "bench.toml", cwd=tmp_path), "board")


@pytest.mark.parametrize("moment_s", [0.8, 1.1, 1.4])
@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_leaves_the_outputs_off_and_the_file_stopped(moment_s: float, tmp_path: Path) -> None:
    server = subprocess.Popen(
        [*COMMAND, "simulate", "--write", "bench.toml", "--json"], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()
        client = subprocess.Popen(
            [*COMMAND, "run", "resistance", "--bench", "bench.toml"], stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        time.sleep(moment_s)
        for _ in range(3):
            os.kill(client.pid, signal.SIGINT)
        _, errors = client.communicate(timeout=20)
        # Before our handlers are in place the interpreter itself is interrupted; nothing is connected then.
        assert client.returncode in (130, 0, -signal.SIGINT), errors
        assert client.returncode < 0 or "Traceback" not in errors
        done = rram_bench("safe", "--bench", "bench.toml", "--json", cwd=tmp_path)
        assert json.loads(done.stdout)["confirmed"]
    finally:
        server.kill()
        server.communicate()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['rram-bench', '--help']; from bench.cli import status_of_command; "
        "status_of_command(); "
        "print([name for name in ('torch', 'numpy', 'h5py', 'PyQt5', 'matplotlib', 'pyvisa') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().endswith("[]")
