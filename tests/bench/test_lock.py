"""One bench, one owner: who is refused, whom the refusal names, and when a lock is free again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.check import check_bench
from bench.config import parse_bench_file
from bench.lock import FOLDER_VARIABLE, BenchLock, lock_folder
from bench.session import Bench, connect
from drivers.simulated.bench import SimulatedBench
from models.exceptions import BenchFailure, UserMistake

CLIENT = """
import sys
from bench.session import open_bench
with open_bench(sys.argv[1]):
    print("connected", flush=True)
    sys.stdin.read()
"""
SUPPLY = "TCPIP::127.0.0.1::5025::SOCKET"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def first_client(world: SimulatedBench, folder: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program that is connected to the served bench."""
    world.write_bench_file(tmp_path / "bench.toml")
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tmp_path / "bench.toml")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "connected\n"
        yield client
    finally:
        client.kill()
        client.communicate()


def test_a_second_program_on_a_served_bench_is_refused_and_told_who_has_it(
    world: SimulatedBench, first_client: subprocess.Popen[str]
) -> None:
    config = parse_bench_file(world.bench_file(), "b")
    with pytest.raises(UserMistake, match="in use by") as refused:
        connect(config)
    message = str(refused.value)
    assert f"process {first_client.pid} " in message
    assert "bench.toml" in message  # the command that holds it
    assert "since 20" in message
    with pytest.raises(UserMistake, match=f"process {first_client.pid} "):
        check_bench(config)
    # One program with another bench file that shares a single instrument is no better.
    with pytest.raises(UserMistake, match=f"process {first_client.pid} "):
        BenchLock([world.supply.resource, "/dev/another-board"]).acquire()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_the_lock_of_a_program_that_was_killed_is_free(
    world: SimulatedBench, first_client: subprocess.Popen[str]
) -> None:
    config = parse_bench_file(world.bench_file(), "b")
    first_client.send_signal(signal.SIGKILL)
    first_client.wait()
    with connect(config) as bench:
        assert bench.chip.chip_id == world.chip.chip_id
        # Who is named now is the new holder, not the one that left its note behind.
        with pytest.raises(UserMistake, match=f"process {os.getpid()} "):
            connect(config)


def test_a_program_that_ends_gives_the_bench_back(world: SimulatedBench, first_client: subprocess.Popen[str]) -> None:
    first_client.communicate("")
    with connect(parse_bench_file(world.bench_file(), "b")):
        pass
    with connect(parse_bench_file(world.bench_file(), "b")):
        pass


def test_a_connection_that_fails_gives_the_bench_back(world: SimulatedBench, folder: Path) -> None:
    text = world.bench_file()
    with pytest.raises(BenchFailure, match="cells"):
        connect(parse_bench_file(text.replace("rows = 32", "rows = 16"), "b"))
    with connect(parse_bench_file(text, "b")):
        pass


def test_a_bench_may_be_closed_by_another_thread_than_the_one_that_connected(bench: Bench) -> None:
    closing = threading.Thread(target=bench.close)
    closing.start()
    closing.join()
    with BenchLock(bench.config.resources.values()):
        pass


def test_all_resources_are_taken_or_none(folder: Path) -> None:
    with BenchLock(["COM7"]):
        both = BenchLock([SUPPLY, "COM7"])
        with pytest.raises(UserMistake, match="COM7|com7"):
            both.acquire()
        with BenchLock([SUPPLY]):
            pass


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("GPIB::6::INSTR", "gpib0::6::instr"),
        ("TCPIP::127.0.0.1::5025::SOCKET", "TCPIP0::127.0.0.1::5025::SOCKET"),
        ("USB0::0x05E6::0x2230::9200001::INSTR", "USB::1510::8752::9200001::0::INSTR"),
    ],
)
def test_two_spellings_of_a_resource_are_one(folder: Path, one: str, same: str) -> None:
    with BenchLock([one]), pytest.raises(UserMistake, match="in use"):
        BenchLock([same]).acquire()


@pytest.mark.parametrize(
    ("one", "other"),
    [("GPIB0::6::INSTR", "GPIB1::6::INSTR"), ("GPIB0::6::INSTR", "GPIB0::16::INSTR"), ("COM4", "COM40")],
)
def test_two_resources_are_not_one(folder: Path, one: str, other: str) -> None:
    with BenchLock([one]), BenchLock([other]):
        pass


def test_a_link_to_a_port_is_that_port(folder: Path, tmp_path: Path) -> None:
    port, link = tmp_path / "ttyACM0", tmp_path / "by-id-board"
    port.touch()
    link.symlink_to(port)
    with BenchLock([str(port)]), pytest.raises(UserMistake, match="in use"):
        BenchLock([str(link)]).acquire()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(UserMistake, match=f"{FOLDER_VARIABLE}"):
        BenchLock([SUPPLY], blocked / "locks").acquire()


def test_locks_are_the_users_own_unless_a_shared_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert str(os.getuid()) in lock_folder().name
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert lock_folder() == tmp_path
