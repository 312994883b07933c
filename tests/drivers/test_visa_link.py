"""The link against real sockets: late, missing, doubled and garbled replies, lost connections, threads."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from drivers.errors import LinkError, LinkTimeout, ReplyError
from drivers.visa_link import VisaLink, open_visa
from models.exceptions import UserMistake

Answer = Callable[[socket.socket, bytes], None]


def echo(client: socket.socket, line: bytes) -> None:
    """Answer a question by itself; anything else has no answer."""
    if b"?" in line:
        client.sendall(line + b"\n")


def silent(client: socket.socket, line: bytes) -> None:
    """Receive, and say nothing."""


class Instrument:
    """A raw socket server: hands every line to ``answer``, on as many connections as come."""

    def __init__(self) -> None:
        self.answer: Answer = echo
        self.lines: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def resource(self) -> str:
        return f"TCPIP::127.0.0.1::{self.port}::SOCKET"

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._clients.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as lines:
            for line in lines:
                self.lines.append(line.rstrip(b"\n"))
                self.answer(client, line.rstrip(b"\n"))

    def await_line(self, line: bytes) -> None:
        """Until a line has come: one of a new connection may be read before the last ones of the old."""
        deadline = time.monotonic() + 10.0
        while line not in self.lines:
            assert time.monotonic() < deadline, f"{line!r} never came"
            time.sleep(0.005)

    def hang_up(self) -> None:
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()
        self._clients.clear()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(5.0)


@pytest.fixture
def instrument() -> Iterator[Instrument]:
    server = Instrument()
    yield server
    server.stop()


@pytest.fixture
def link(instrument: Instrument) -> Iterator[VisaLink]:
    with open_visa(instrument.resource, timeout_s=2.0) as opened:
        yield opened


def test_a_question_gets_its_answer(link: VisaLink, instrument: Instrument) -> None:
    assert link.query("hello?") == "hello?"
    link.write("*CLS")
    assert link.resource == instrument.resource
    assert link.in_step


def test_a_reply_may_end_in_carriage_return(link: VisaLink, instrument: Instrument) -> None:
    instrument.answer = lambda client, line: client.sendall(b"1.0\r\n")
    assert link.query("VOLT?") == "1.0"


@pytest.mark.parametrize("message", ["VOLT 1\nVOLT 30", "VOLT 1µ", "VOLT\x00"])
def test_a_message_is_one_line_of_ascii(link: VisaLink, instrument: Instrument, message: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        link.write(message)
    assert link.query("next?") == "next?"
    assert instrument.lines == [b"next?"]


def test_a_late_reply_is_never_given_to_another_question(instrument: Instrument) -> None:
    wanted = threading.Event()

    def late(client: socket.socket, line: bytes) -> None:
        if line == b"slow":
            wanted.wait(5.0)
        client.sendall(b"answer to " + line + b"\n")

    instrument.answer = late
    with open_visa(instrument.resource, timeout_s=0.1) as link:
        with pytest.raises(LinkTimeout, match="no answer to 'slow' within 0.1 s"):
            link.query("slow")
        wanted.set()
        assert not link.in_step
        for _ in range(3):
            with pytest.raises(LinkError, match="out of step .*slow.*resynchronise"):
                link.query("quick")
            with pytest.raises(LinkError, match="out of step"):
                link.write("VOLT 1")
        before = link.generation
        link.resynchronise()
        assert link.generation > before
        assert [link.query(f"q{number}") for number in range(20)] == [f"answer to q{n}" for n in range(20)]


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs a timer signal")
def test_interrupting_a_question_puts_the_link_out_of_step(instrument: Instrument) -> None:
    """Ctrl-C between question and answer leaves an answer on its way, exactly like a timeout."""
    instrument.answer = silent

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    with open_visa(instrument.resource, timeout_s=5.0) as link:
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                link.query("slow")
        finally:
            signal.signal(signal.SIGALRM, before)
        with pytest.raises(LinkError, match="interrupted before its answer came"):
            link.query("next?")
        instrument.answer = echo
        link.resynchronise()
        assert link.query("next?") == "next?"


@pytest.mark.parametrize(
    ("reply", "why"),
    [(b"1.0\n1.0\n", "more bytes follow"), (b"1\xff\n", "not ASCII"), (b"1\x07\n", "control characters")],
)
def test_a_garbled_reply_puts_the_link_out_of_step(
    link: VisaLink, instrument: Instrument, reply: bytes, why: str
) -> None:
    instrument.answer = lambda client, line: client.sendall(reply)
    with pytest.raises(ReplyError, match=why):
        link.query("VOLT?")
    with pytest.raises(LinkError, match="out of step"):
        link.query("CURR?")


def test_a_partial_reply_is_a_timeout(instrument: Instrument) -> None:
    instrument.answer = lambda client, line: client.sendall(b"1.2")
    with open_visa(instrument.resource, timeout_s=0.1) as link:
        with pytest.raises(LinkTimeout, match="no complete answer"):
            link.query("VOLT?")
        assert not link.in_step


def test_bytes_that_nobody_asked_for_are_noticed_before_the_next_question(
    link: VisaLink, instrument: Instrument
) -> None:
    arrived = threading.Event()

    def doubled_later(client: socket.socket, line: bytes) -> None:
        client.sendall(b"1\n")
        time.sleep(0.05)
        client.sendall(b"1\n")
        arrived.set()

    instrument.answer = doubled_later
    assert link.query("A?") == "1"
    assert arrived.wait(5.0)
    time.sleep(0.05)
    with pytest.raises(LinkError, match="no question asked for"):
        link.query("B?")
    assert instrument.lines == [b"A?"]


def test_two_threads_never_get_each_others_answers(link: VisaLink) -> None:
    wrong: list[tuple[str, str]] = []
    done: list[int] = []

    def hammer(name: str) -> None:
        for number in range(1000):
            question = f"{name} {number}?"
            answer = link.query(question)
            if answer != question:
                wrong.append((question, answer))
        done.append(1000)

    threads = [threading.Thread(target=hammer, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert sum(done) == 2000
    assert wrong == []


def test_a_transaction_keeps_other_threads_off(link: VisaLink, instrument: Instrument) -> None:
    started, finished = threading.Event(), threading.Event()

    def other() -> None:
        started.set()
        link.write("other")
        finished.set()

    with link.transaction():
        thread = threading.Thread(target=other)
        thread.start()
        started.wait(5.0)
        link.write("first")
        assert link.query("second?") == "second?"
        assert not finished.is_set()
    thread.join(5.0)
    assert link.query("last?") == "last?"
    assert instrument.lines == [b"first", b"second?", b"other", b"last?"]


def test_waiting_for_a_busy_link_is_bounded(link: VisaLink) -> None:
    refused: list[LinkError] = []

    def impatient() -> None:
        try:
            with link.transaction(wait_s=0.05):
                pass
        except LinkError as error:
            refused.append(error)

    with link.transaction():
        thread = threading.Thread(target=impatient)
        thread.start()
        thread.join(5.0)
    assert "busy in another thread" in str(refused[0])


def test_a_lost_instrument_is_a_link_error_at_once(instrument: Instrument) -> None:
    with open_visa(instrument.resource, timeout_s=300.0) as link:
        assert link.query("hello?") == "hello?"
        instrument.stop()
        with pytest.raises(LinkError):
            link.query("hello?")
        with pytest.raises(LinkError, match="nobody answers"):
            link.reopen()
        with pytest.raises(LinkError, match="lost"):
            link.query("hello?")


def test_an_instrument_that_hangs_up_instead_of_answering(instrument: Instrument) -> None:
    instrument.answer = lambda client, line: client.shutdown(socket.SHUT_RDWR)
    with (
        open_visa(instrument.resource, timeout_s=300.0) as link,
        pytest.raises(LinkError, match="closed the connection before answering 'hello\\?'"),
    ):
        link.query("hello?")


def test_a_link_is_reopened_after_an_unplug(link: VisaLink, instrument: Instrument) -> None:
    assert link.query("before?") == "before?"
    instrument.hang_up()
    with pytest.raises(LinkError):
        link.query("unplugged?")
    before = link.generation
    link.reopen()
    assert link.query("after?") == "after?"
    assert link.generation > before
    assert instrument.connections == 2


def test_a_closed_link_refuses_everything_and_can_be_opened_again(link: VisaLink) -> None:
    link.close()
    link.close()
    for act in (lambda: link.query("a"), lambda: link.write("a"), lambda: link.send_now("a"), link.resynchronise):
        with pytest.raises(LinkError, match="closed; open it first"):
            act()
    link.open()
    assert link.query("again?") == "again?"


def test_the_emergency_path_works_on_a_link_out_of_step(instrument: Instrument) -> None:
    instrument.answer = silent
    with open_visa(instrument.resource, timeout_s=0.1) as link:
        with pytest.raises(LinkTimeout):
            link.query("slow")
        link.send_now("VOLT 0", "OUTP 0")
        with pytest.raises(LinkError, match="out of step"):
            link.write("VOLT 1")
    instrument.stop()
    assert instrument.lines == [b"slow", b"VOLT 0", b"OUTP 0"]


def test_the_emergency_path_overtakes_a_thread_that_waits_for_an_answer(instrument: Instrument) -> None:
    """The waiting thread is told at once, and can send nothing after the emergency messages."""
    instrument.answer = silent
    outcome: list[object] = []

    def ask(link: VisaLink) -> None:
        for act in (lambda: link.query("long?"), lambda: link.write("VOLT 5")):
            try:
                outcome.append(act())
            except LinkError as error:
                outcome.append(error)

    with open_visa(instrument.resource, timeout_s=300.0) as link:
        thread = threading.Thread(target=ask, args=(link,))
        thread.start()
        instrument.await_line(b"long?")
        link.send_now("VOLT 0", "OUTP 0", wait_s=0.05)
        thread.join(5.0)
        assert [type(result) for result in outcome] == [LinkError, LinkError]
        instrument.await_line(b"OUTP 0")
        assert not link.in_step
        instrument.answer = echo
        link.resynchronise()
        assert link.query("on?") == "on?"
    assert instrument.lines == [b"long?", b"VOLT 0", b"OUTP 0", b"on?"]


def test_an_answer_that_crosses_an_emergency_message_is_not_trusted(instrument: Instrument) -> None:
    asked, sent = threading.Event(), threading.Event()

    def slow(client: socket.socket, line: bytes) -> None:
        if line == b"long?":
            asked.set()
            sent.wait(5.0)
            client.sendall(b"4.2\n")

    instrument.answer = slow
    outcome: list[object] = []

    def ask(link: VisaLink) -> None:
        try:
            outcome.append(link.query("long?"))
        except LinkError as error:
            outcome.append(error)

    with open_visa(instrument.resource, timeout_s=5.0) as link:
        thread = threading.Thread(target=ask, args=(link,))
        thread.start()
        assert asked.wait(5.0)
        link.send_now("OUTP 0", wait_s=0.05)
        sent.set()
        thread.join(10.0)
    assert isinstance(outcome[0], LinkError)


def test_the_emergency_path_reports_a_lost_link(link: VisaLink, instrument: Instrument) -> None:
    assert link.query("hello?") == "hello?"
    instrument.stop()
    with pytest.raises(LinkError):
        for _ in range(20):  # the first bytes to a closed connection go unnoticed
            link.send_now("OUTP 0")
            time.sleep(0.01)


def test_a_link_that_could_not_be_opened_can_be_opened_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    link = VisaLink(f"TCPIP::127.0.0.1::{port}::SOCKET", timeout_s=2.0)
    with pytest.raises(LinkError, match="nobody answers"):
        link.open()
    with socket.create_server(("127.0.0.1", port)), link:
        assert link.in_step


def test_a_refused_connection_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkError) as refused:
        open_visa(f"TCPIP::127.0.0.1::{port}::SOCKET", timeout_s=10.0)
    message = str(refused.value)
    assert f"TCPIP::127.0.0.1::{port}::SOCKET: nobody answers" in message
    assert "Connection refused" in message
    assert "check that the instrument is switched on" in message
    assert "\n" not in message


def test_an_unknown_host_is_a_link_error() -> None:
    with pytest.raises(LinkError, match="nobody answers"):
        open_visa("TCPIP::no-such-host.invalid::5025::SOCKET", timeout_s=1.0)


def test_opening_a_port_that_never_accepts_ends_with_the_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        try:
            for client in waiting:  # fill the queue of connections that nobody accepts
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
            with pytest.raises(LinkError, match=r"nobody answers \(no connection in 0.3 s\)"):
                open_visa(f"TCPIP::127.0.0.1::{port}::SOCKET", timeout_s=0.3)
        finally:
            for client in waiting:
                client.close()


@pytest.mark.parametrize(
    "resource", ["", "banana", "TCPIP::127.0.0.1::x::SOCKET", "TCPIP::127.0.0.1::99999::SOCKET", "TCPIP", None, 7]
)
def test_a_malformed_resource_is_a_mistake_of_the_users(resource: str) -> None:
    with pytest.raises(UserMistake, match="not a VISA resource name .*expected e.g. TCPIP"):
        open_visa(resource)


@pytest.mark.parametrize("backend", ["@nothing", "/no/such/visa.so"])
def test_an_unknown_backend_is_a_mistake_of_the_users(backend: str) -> None:
    with pytest.raises(UserMistake, match=r"cannot be loaded .* use '@py'"):
        open_visa("TCPIP::127.0.0.1::5025::SOCKET", backend=backend)


def test_an_interface_without_its_library_says_what_to_install() -> None:
    with pytest.raises(LinkError, match="VICP::127.0.0.1::INSTR: this computer cannot open it .*install"):
        open_visa("VICP::127.0.0.1::INSTR", backend="@py")


def test_opening_a_link_imports_pyvisa_only_then() -> None:
    code = (
        "import sys, drivers.keithley_2230g, drivers.keithley_2450, drivers.visa_link; print('pyvisa' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
