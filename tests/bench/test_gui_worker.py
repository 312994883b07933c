"""The thread that does the window's jobs, and the jobs themselves."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from bench.gui.jobs import Job, Purpose, Report, Session
from bench.gui.parameter_form import ParameterForm
from bench.gui.window import Window
from bench.gui.worker import Worker
from bench.inference import InferenceParameters
from bench.procedure import Progress
from bench.procedures import PROCEDURES
from bench.procedures.program import PROGRAM
from bench.stopping import Stopped, StopToken
from data.runs import open_run
from drivers.chip import OperationKind
from drivers.simulated.bench import SimulatedBench
from models.exceptions import BenchFailure, UserMistake
from tests.bench.gui_window import close

PATIENCE_MS = 10_000
PATIENCE_S = PATIENCE_MS / 1000


@pytest.fixture
def worker() -> Iterator[Worker]:
    thread = Worker("test")
    thread.start()
    yield thread
    thread.end(None, "the test is over")
    assert thread.join(PATIENCE_S)


def job(work: object, title: str = "job") -> Job:
    return Job(Purpose.STUDY, title, work)  # type: ignore[arg-type]


def wait_for_stop(token: StopToken, report: Report) -> None:
    report(Progress(0, 1, "waiting"))
    token.wait()
    token.check()


def test_jobs_are_done_in_order_off_the_own_thread(qtbot: QtBot, worker: Worker) -> None:
    results: list[object] = []
    worker.succeeded.connect(lambda done, result: results.append(result))
    worker.submit(job(lambda stop, report: threading.get_ident()))
    worker.submit(job(lambda stop, report: "second"))
    qtbot.waitUntil(lambda: len(results) == 2, timeout=PATIENCE_MS)
    assert results[0] != threading.get_ident()
    assert results[1] == "second"


def test_garbage_is_destroyed_in_the_thread_of_the_window_alone(qtbot: QtBot, window: Window) -> None:
    """Widgets are: in any other thread their end may take Qt with it."""

    class Cycle:
        def __init__(self) -> None:
            self.own = self

    ended: list[int] = []

    def work(stop: StopToken, report: Report) -> list[list[int]]:
        for _ in range(50):
            weakref.finalize(Cycle(), lambda: ended.append(threading.get_ident()))
        return [[number] for number in range(100_000)]  # enough for several automatic collections

    window.controller.study("make garbage", work)
    qtbot.waitUntil(lambda: window.controller.idle, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: len(ended) == 50, timeout=PATIENCE_MS)
    assert set(ended) == {threading.get_ident()}


def test_collections_are_pythons_own_again_once_the_window_is_gone(qtbot: QtBot, window: Window) -> None:
    assert not gc.isenabled()
    close(qtbot, window)
    assert gc.isenabled()


def test_a_stop_also_means_what_has_not_begun(qtbot: QtBot, worker: Worker) -> None:
    stopped: list[str] = []
    began: list[Job] = []
    worker.stopped.connect(lambda done, text: stopped.append(f"{done.title}: {text}"))
    worker.began.connect(began.append)
    hold = threading.Event()
    worker.submit(Job(Purpose.RAILS, "rails", lambda *_: hold.wait(PATIENCE_S)))
    worker.submit(job(wait_for_stop, "run"))
    worker.stop("enough")
    hold.set()
    worker.submit(Job(Purpose.RAILS, "rails again", lambda *_: None))
    qtbot.waitUntil(lambda: len(began) == 2, timeout=PATIENCE_MS)
    assert stopped == ["run: dropped before it began: enough"]
    assert [one.title for one in began] == ["rails", "rails again"]


def test_steps_arrive_complete_and_in_order(qtbot: QtBot, worker: Worker) -> None:
    seen: list[int] = []
    done: list[object] = []

    def work(stop: StopToken, report: Report) -> None:
        for number in range(2000):
            report(Progress(number, 2000, ""))

    def take() -> None:
        seen.extend(step.done for step in worker.take_steps() if isinstance(step, Progress))

    worker.reported.connect(take)
    worker.succeeded.connect(lambda *_: (take(), done.append(True)))
    worker.submit(job(work))
    qtbot.waitUntil(lambda: bool(done), timeout=PATIENCE_MS)
    assert seen == list(range(2000))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BenchFailure("the link broke"), "the link broke"),
        (ValueError("surprise"), "unexpected ValueError: surprise"),
        (SystemExit(3), "unexpected SystemExit: 3"),  # as a procedure of the user's may do
    ],
)
def test_a_failing_job_is_reported_and_the_next_one_is_done(
    qtbot: QtBot, worker: Worker, error: BaseException, text: str
) -> None:
    def fail(stop: StopToken, report: Report) -> None:
        raise error

    texts: list[str] = []
    worker.failed.connect(lambda failed, text: texts.append(text))
    with qtbot.waitSignal(worker.succeeded, timeout=PATIENCE_MS):
        worker.submit(job(fail))
        worker.submit(job(lambda stop, report: None))
    assert len(texts) == 1
    assert texts[0].startswith(text)


def test_an_urgent_job_stops_the_present_one_and_drops_the_waiting(qtbot: QtBot, worker: Worker) -> None:
    events: list[str] = []
    worker.began.connect(lambda begun: events.append(f"{begun.title} began"))
    worker.stopped.connect(lambda stopped, text: events.append(f"{stopped.title} {text}"))
    with qtbot.waitSignal(worker.reported, timeout=PATIENCE_MS):
        worker.submit(job(wait_for_stop, "long"))
    worker.submit(job(lambda stop, report: events.append("never"), "waiting"))
    with qtbot.waitSignal(worker.succeeded, timeout=PATIENCE_MS):
        worker.urgent(job(lambda stop, report: None, "off"), "red button")
    assert events == [
        "long began",
        "waiting dropped before it began: red button",
        "long stopped: red button",
        "off began",
    ]


def test_the_end_does_one_last_job_and_takes_no_more(qtbot: QtBot) -> None:
    worker, events = Worker("test"), list[str]()
    worker.start()
    worker.submit(job(wait_for_stop))
    worker.end(job(lambda stop, report: events.append("last")), "closed")
    worker.submit(job(lambda stop, report: events.append("never")))
    worker.end(job(lambda stop, report: events.append("never")), "closed again")
    assert worker.join(PATIENCE_S)
    assert events == ["last"]


def test_without_a_bench_a_session_says_what_to_do() -> None:
    session = Session()
    with pytest.raises(UserMistake, match="press Connect"):
        session.rails()
    assert session.safe_off().steps == ()
    assert session.disconnect().report.steps == ()


def test_a_stop_is_obeyed_between_two_exchanges_of_one_step(world: SimulatedBench, tmp_path: Path) -> None:
    world.write_bench_file(tmp_path / "bench.toml")
    session, token = Session(), StopToken()
    try:
        session.connect(str(tmp_path / "bench.toml"), 0)
        session.bench.chip.listeners.append(lambda operation: token.request("test"))
        with pytest.raises(Stopped):
            session.run(PROGRAM, {}, tmp_path, np.ones((32, 32), dtype=bool), token, lambda step: None)
        assert world.world.rails == (0.0, 0.0, 0.0)
    finally:
        session.disconnect()
    (path,) = tmp_path.glob("*.h5")
    assert open_run(path).read("operations")["kind"].tolist() == [OperationKind.SET]


def test_a_parameter_out_of_its_limits_never_reaches_the_bench(world: SimulatedBench, tmp_path: Path) -> None:
    world.write_bench_file(tmp_path / "bench.toml")
    session = Session()
    try:
        session.connect(str(tmp_path / "bench.toml"), 0)
        cells = np.ones((32, 32), dtype=bool)
        with pytest.raises(UserMistake, match="attempts"):
            session.run(PROGRAM, {"attempts": 0}, tmp_path, cells, StopToken(), lambda step: None)
    finally:
        session.disconnect()
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.parametrize("name", PROCEDURES)
def test_a_form_made_from_any_procedure_gives_its_defaults(qtbot: QtBot, name: str) -> None:
    form = ParameterForm(name, PROCEDURES[name].parameters)
    qtbot.addWidget(form)
    assert PROCEDURES[name].parse(form.settings()) == PROCEDURES[name].parameters()


def test_a_form_offers_what_the_parameter_model_allows(qtbot: QtBot) -> None:
    form = ParameterForm("program", PROGRAM.parameters)
    qtbot.addWidget(form)
    form.put("pattern", "minus")
    form.put("attempts", 1000)
    settings = form.settings()
    assert (settings["pattern"], settings["attempts"], settings["file"]) == ("minus", 1000, None)
    assert "1 to 100" in form.problems["attempts"]
    form.put("file", "weights.csv")
    assert form.settings()["file"] == "weights.csv"
    several = ParameterForm("inference", InferenceParameters)
    qtbot.addWidget(several)
    several.put("modes", (InferenceParameters().modes[1],))
    assert several.settings()["modes"] == (InferenceParameters().modes[1],)
