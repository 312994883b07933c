"""The queue: what is refused at its door, what outlives a crash, and who obeys how fast."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.queue import Item, Queue, Verb
from bench.queue_runner import QueueRunner
from bench.states import TRANSITIONS, RunState
from bench.stopping import StopToken
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.exceptions import UserMistake

PATIENCE_S = 60.0


@pytest.fixture
def bench_file(world: SimulatedBench, tmp_path: Path) -> str:
    path = tmp_path / "bench.toml"
    world.write_bench_file(path)
    return str(path)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue")


def add(queue: Queue, source: str, procedure: str = "read", cells: str | None = "0:2,0:2", **settings: str) -> Item:
    return queue.add(procedure, source, settings, cells, {}, 0, None)


def add_long(queue: Queue, source: str) -> Item:
    """A run of minutes, with a record every few milliseconds."""
    return add(queue, source, "resistance", "all", repeats="200")


def states(queue: Queue) -> list[str]:
    return [str(item.state) for item in queue.items()]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Running:
    """A queue that is run in a thread of its own."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.stop = queue, StopToken()
        self.ended: list[Item] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.ended = QueueRunner(self.queue, self.stop).run()

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.request("the test is over")
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def under_way(queue: Queue, number: int) -> Callable[[], bool]:
    """Whether an item has records on the disk."""

    def look() -> bool:
        item = queue.item(number)
        if item.state is not RunState.RUNNING:
            return False
        for path in Path(item.out).glob(f"*-{item.procedure}.h5"):
            try:
                if open_run(path).rows("operations") > 0:
                    return True
            except UserMistake:
                continue
        return False

    return look


def test_items_run_in_order_and_keep_their_history(queue: Queue, bench_file: str) -> None:
    add(queue, bench_file)
    add(queue, bench_file, "program", "1,1", attempts="1")
    ended = QueueRunner(queue, StopToken()).run()
    assert [item.number for item in ended] == [1, 2]
    assert states(queue) == ["completed", "completed"]
    for item in queue.items():
        assert [state for state, _ in item.history] == ["queued", "running", "completed"]
        run = open_run(item.run_file)
        assert run.procedure == item.procedure
        assert run.read("selection")["cells"].sum() == (4 if item.number == 1 else 1)
    assert QueueRunner(queue, StopToken()).run() == []


@pytest.mark.parametrize(
    ("procedure", "cells", "settings", "at", "named"),
    [
        ("no-such", None, {}, {}, "no-such"),
        ("program", None, {"attempts": "many"}, {}, "attempts"),
        ("read", "99,0", {}, {}, "outside the array"),
        ("read", None, {}, {"SENSE.vdd_v": 9.0}, "limits.vdd_v"),
    ],
)
def test_mistakes_are_refused_when_they_are_added(
    procedure: str,
    cells: str | None,
    settings: dict[str, str],
    at: dict[str, float],
    named: str,
    queue: Queue,
    bench_file: str,
) -> None:
    with pytest.raises(UserMistake, match=named):
        queue.add(procedure, bench_file, settings, cells, at, 0, None)
    assert queue.items() == []


def test_a_selection_means_what_it_meant_when_it_was_added(queue: Queue, bench_file: str, tmp_path: Path) -> None:
    cells = tmp_path / "cells.csv"
    cells.write_text("3,4\n5,2\n")
    add(queue, bench_file, cells=f"@{cells}")
    cells.write_text("0,0\n")
    (item,) = QueueRunner(queue, StopToken()).run()
    assert np.argwhere(open_run(item.run_file).read("selection")["cells"][0]).tolist() == [[3, 4], [5, 2]]


def test_a_failed_item_does_not_hold_up_the_others(queue: Queue, bench_file: str, tmp_path: Path) -> None:
    with SimulatedBench(5) as gone:
        gone.write_bench_file(tmp_path / "gone.toml")
        add(queue, str(tmp_path / "gone.toml"))
    add(queue, bench_file)
    QueueRunner(queue, StopToken()).run()
    assert states(queue) == ["failed", "completed"]
    assert queue.item(1).reason
    again = queue.retry(1)
    assert (again.number, again.retries, again.state) == (3, 1, RunState.QUEUED)
    add(queue, bench_file)
    QueueRunner(queue, StopToken(), stop_on_failure=True).run()
    assert states(queue) == ["failed", "completed", "failed", "queued"]


def test_only_the_documented_ways_lead_from_state_to_state(queue: Queue, bench_file: str) -> None:
    item = add(queue, bench_file)
    for before in RunState:
        for after in RunState:
            one = Item(**{**vars(item), "state": before})
            if after in TRANSITIONS[before]:
                assert one.at_state(after).state is after
            else:
                with pytest.raises(UserMistake, match=f"{before} and cannot become {after}"):
                    one.at_state(after)


def test_pause_go_on_and_stop_from_outside(queue: Queue, bench_file: str, world: SimulatedBench) -> None:
    add_long(queue, bench_file)
    add(queue, bench_file)
    with Running(queue) as running:
        until(under_way(queue, 1))
        with pytest.raises(UserMistake, match="another process"):
            QueueRunner(queue, StopToken()).run()
        with pytest.raises(UserMistake, match="stop it first"):
            queue.remove(1)
        queue.ask(Verb.PAUSE)
        until(lambda: queue.item(1).state is RunState.PAUSED)
        until(lambda: not any(world.world.rails))
        queue.ask(Verb.GO_ON)
        until(under_way(queue, 1))
        queue.ask(Verb.STOP)
        running.join()
    assert states(queue) == ["stopped", "queued"]
    visited = [state for state, _ in queue.item(1).history]
    assert visited == ["queued", "running", "paused", "running", "stopping", "stopped"]
    assert open_run(queue.item(1).run_file).status == "stopped"
    with pytest.raises(UserMistake, match="no process runs"):
        queue.ask(Verb.PAUSE)


def test_a_skipped_item_makes_room_for_the_next(queue: Queue, bench_file: str) -> None:
    add_long(queue, bench_file)
    add(queue, bench_file)
    with Running(queue) as running:
        until(under_way(queue, 1))
        queue.ask(Verb.SKIP)
        running.join()
    assert states(queue) == ["stopped", "completed"]


def test_emergency_off_switches_off_and_ends_the_queue(queue: Queue, bench_file: str, world: SimulatedBench) -> None:
    add_long(queue, bench_file)
    add(queue, bench_file)
    with Running(queue) as running:
        until(under_way(queue, 1))
        queue.ask(Verb.OFF)
        # The verb is acknowledged once it is obeyed: the outputs are off when the call returns.
        assert not any(world.world.rails)
        running.join()
    assert states(queue)[0] in ("stopped", "failed")
    assert states(queue)[1] == "queued"
    assert "emergency off" in queue.item(1).reason
    assert not any(world.world.rails)


@pytest.fixture
def killed(queue: Queue, bench_file: str) -> Queue:
    """A queue whose process was killed in the middle of its first item."""
    add(queue, bench_file, "resistance", "all")
    add(queue, bench_file)
    command = [sys.executable, "-m", "bench.cli", "queue", "start", "--queue", str(queue.folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:

        def some_cells_done() -> bool:
            assert process.poll() is None, process.communicate()
            try:
                return any(open_run(path).rows("cells_done") > 0 for path in (queue.folder / "runs").glob("*.h5"))
            except UserMistake:
                return False  # it is just being made

        until(some_cells_done)
    finally:
        process.kill()
        process.communicate()
    return queue


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_crash_leaves_the_item_interrupted_and_it_never_restarts_by_itself(killed: Queue) -> None:
    assert states(killed) == ["interrupted", "queued"]
    assert [state for state, _ in killed.item(1).history] == ["queued", "running", "interrupted"]
    QueueRunner(killed, StopToken()).run()
    assert states(killed) == ["interrupted", "completed"]
    again = killed.retry(1)
    QueueRunner(killed, StopToken()).run()
    assert states(killed) == ["interrupted", "completed", "completed"]
    runs = [Path(again.resume), Path(killed.item(3).run_file)]
    done = sum(open_run(path).read("cells_done")["cells"].astype(int).sum(axis=0) for path in runs)
    assert np.all(done == 1)
    with pytest.raises(UserMistake, match="completed"):
        killed.retry(3)


def test_items_are_removed_and_unreadable_ones_named(queue: Queue, bench_file: str) -> None:
    add(queue, bench_file)
    add(queue, bench_file)
    assert queue.remove(1).number == 1
    assert [item.number for item in queue.items()] == [2]
    assert add(queue, bench_file).number == 3
    with pytest.raises(UserMistake, match=r"no item 7; it has 2, 3"):
        queue.remove(7)
    (queue.folder / "items" / "000009.json").write_text("{")
    with pytest.raises(UserMistake, match="000009.json"):
        queue.items()


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "[]",
        "",
        "\x00\xff",
        '{"number": 9}',
        "WRONG number",
        "WRONG chosen",
        "WRONG settings",
        "WRONG state",
        "WRONG history",
        "WRONG planned_s",
    ],
)
def test_a_damaged_item_is_named_in_one_line(text: str, queue: Queue, bench_file: str) -> None:
    path = queue.folder / "items" / f"{add(queue, bench_file).number:06d}.json"
    if text.startswith("WRONG "):
        key = text.removeprefix("WRONG ")
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: 7 if key == "number" else "xyz"}))
    else:
        path.write_bytes(text.encode("latin-1"))
    for look in (queue.items, lambda: queue.retry(1)):
        with pytest.raises(UserMistake, match=path.name) as caught:
            look()
        assert "\n" not in str(caught.value)


def test_other_files_among_the_items_are_left_alone(queue: Queue, bench_file: str) -> None:
    add(queue, bench_file)
    (queue.folder / "items" / "notes.json").write_text("mine")
    assert add(queue, bench_file).number == 2
    assert [item.number for item in queue.items()] == [1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_the_queue_on_the_command_line(bench_file: str, tmp_path: Path) -> None:
    def rram_bench(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bench.cli", "queue", *args, "--queue", "q", "--json"]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path, check=False)

    added = rram_bench("add", "read", "--bench", "bench.toml", "--cells", "0:2,:", "--at", "SENSE.window_s=2e-6")
    assert json.loads(added.stdout)["state"] == "queued", added.stderr
    refused = rram_bench("add", "read", "--bench", "bench.toml", "--set", "repeats=-1")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert rram_bench("pause").returncode == 2
    started = rram_bench("start")
    assert started.returncode == 0, started.stderr
    (ended,) = json.loads(started.stdout)["ended"]
    assert ended["state"] == "completed"
    assert set(open_run(ended["run_file"]).read("operations", ["width_s"])["width_s"].tolist()) == {2e-6}
    listed = json.loads(rram_bench("list").stdout)
    assert not listed["running"]
    assert [item["state"] for item in listed["items"]] == ["completed"]


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.OFF])
def test_a_queue_that_was_stopped_from_outside_says_so_in_its_status(verb: Verb, queue: Queue, bench_file: str) -> None:
    add_long(queue, bench_file)
    command = [sys.executable, "-m", "bench.cli", "queue", "start", "--queue", str(queue.folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(under_way(queue, 1))
        queue.ask(verb)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, errors
    assert f"stopped: queue {verb}" in errors


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_stops_the_item_and_the_queue(queue: Queue, bench_file: str) -> None:
    add_long(queue, bench_file)
    add(queue, bench_file)
    command = [sys.executable, "-m", "bench.cli", "queue", "start", "--queue", str(queue.folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(under_way(queue, 1))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, errors
    assert states(queue) == ["stopped", "queued"]
