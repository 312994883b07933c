"""Discovery: what is plugged in, asked only where it is known who might be there.

A candidate is placed by what it says of itself without being written to: a VISA resource on USB by its vendor and
product id, a serial port by its USB ids, anything by being named in a bench file. A placed candidate is asked one
harmless question within a time limit. Everything else is listed and left alone: what is not opened cannot be disturbed,
and a wrong byte at a stranger's port may move a motor. The network is not searched.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from drivers.c2n.link import open_c2n
from drivers.c2n.protocol import COLUMN, TERNARY, Dialect
from drivers.errors import LinkError, ReplyError, WrongInstrument
from drivers.framed.link import open_framed
from drivers.resource_names import canonical, usb_ids
from drivers.scpi import parse_identity
from drivers.visa_link import open_visa
from models.exceptions import RramBenchError, UserMistake

STM_VENDOR, STM_PORT = 0x0483, 0x5740
BAUDRATE = 921600
FRAMED, C2N_TERNARY, C2N_COLUMN = "framed", "c2n-ternary", "c2n-column"
DIALECTS: Mapping[str, Dialect] = {C2N_TERNARY: TERNARY, C2N_COLUMN: COLUMN}

GRACE = 10.0
"""A probe that has not come back after this many times its limit is given up: opening a dead port may never return."""


@dataclass(frozen=True)
class KnownInstrument:
    """An instrument that there is a driver for.

    Attributes:
        maker: for messages.
        model: how the model begins that it gives of itself.
        driver: as a bench file names it.
        usb: vendor and product id on USB.
    """

    maker: str
    model: str
    driver: str
    usb: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.maker} {self.model}"


KNOWN = (
    KnownInstrument("Keithley", "2230G", "keithley-2230g", (0x05E6, 0x2230)),
    KnownInstrument("Keithley", "2450", "keithley-2450", (0x05E6, 0x2450)),
    KnownInstrument("Keithley", "2636B", "keithley-2636b", (0x05E6, 0x2636)),
    KnownInstrument("Keysight", "E36312A", "keysight-e36312a", (0x2A8D, 0x1102)),
    KnownInstrument("Keysight", "81160A", "keysight-81160a", (0x0957, 0x4108)),
)


class Outcome(Enum):
    """What became of a candidate."""

    ANSWERS = "answers"
    SILENT = "silent"
    IN_USE = "in use"
    NOT_ASKED = "not asked"


@dataclass(frozen=True)
class SerialPortInfo:
    """A serial port as the operating system lists it; ids are None where it is not on USB."""

    device: str
    vendor: int | None = None
    product: int | None = None
    description: str = ""


@dataclass(frozen=True)
class Named:
    """A resource that a bench file names, with the driver that belongs there."""

    role: str
    driver: str
    resource: str
    baudrate: int = BAUDRATE


@dataclass(frozen=True)
class Listing:
    """What can be seen without writing to anything.

    Attributes:
        visa: VISA resource names.
        ports: serial ports.
        notes: what could not be looked at, and why.
    """

    visa: Sequence[str] = ()
    ports: Sequence[SerialPortInfo] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Candidate:
    """A resource and what became of it.

    Attributes:
        resource: to be written into a bench file.
        kind: what it is taken for, and why.
        outcome: what became of it.
        answer: who answered, or why nobody did.
        remedy: what to try; empty where nothing is to be done.
        driver: to be written into a bench file; empty where unknown.
        milliseconds: how long it took to answer; None without an answer.
    """

    resource: str
    kind: str
    outcome: Outcome
    answer: str
    remedy: str = ""
    driver: str = ""
    milliseconds: float | None = None

    def as_json(self) -> dict[str, str | float | None]:
        """Return it as a JSON object, with the remedy under ``try``."""
        return {
            "resource": self.resource,
            "kind": self.kind,
            "outcome": self.outcome.value,
            "answer": self.answer,
            "try": self.remedy,
            "driver": self.driver,
            "milliseconds": self.milliseconds,
        }


Claim = Callable[[str], AbstractContextManager[object]]
"""Takes a resource for the length of a probe; raises UserMistake naming the program that holds it."""


@dataclass(frozen=True)
class Answer:
    """Who answered a probe."""

    driver: str
    text: str


@dataclass(frozen=True)
class Probes:
    """The harmless questions: each takes a resource and a time limit in s, and says who answered.

    Attributes:
        visa: asks a VISA resource for its identity.
        port: asks a serial port, given the driver that a bench file names for it (empty for none) and a baud rate.
    """

    visa: Callable[[str, float], Answer] = field(default_factory=lambda: ask_visa)
    port: Callable[[str, str, int, float], Answer] = field(default_factory=lambda: ask_port)


def look_around() -> Listing:
    """List VISA resources on USB and GPIB, and serial ports. Writes to nothing, and searches no network."""
    from serial.tools import list_ports

    ports = [
        SerialPortInfo(port.device, port.vid, port.pid, port.description or "")
        for port in sorted(list_ports.comports(), key=lambda port: port.device)
    ]
    try:
        visa, notes = _list_visa()
    except (ValueError, OSError) as error:
        visa, notes = [], [f"no VISA library lists resources ({error}); install pyvisa-py"]
    return Listing(visa, ports, notes)


def discover(
    listing: Listing,
    named: Iterable[Named] = (),
    timeout_s: float = 2.0,
    claim: Claim = lambda resource: nullcontext(),
    probes: Probes | None = None,
) -> list[Candidate]:
    """Place every resource of a listing and of a bench file, and ask those that could be placed.

    Args:
        listing: as :func:`look_around` returns it.
        named: resources of a bench file.
        timeout_s: how long each of them may take to answer.
        claim: keeps other programs of ours off a resource while it is asked.
        probes: the questions; the real ones by default.

    Raises:
        UserMistake: a time limit that is not above 0.
    """
    if not timeout_s > 0:
        raise UserMistake(f"a time limit of {timeout_s:g} s is refused; it must be above 0 s")
    asker = _Asker(timeout_s, claim, Probes() if probes is None else probes)
    by_name = {canonical(one.resource): one for one in named}
    found = [asker.visa(resource, by_name.pop(canonical(resource), None)) for resource in listing.visa]
    found += [asker.port(port, by_name.pop(canonical(port.device), None)) for port in listing.ports]
    for one in by_name.values():
        is_visa = "::" in one.resource
        found.append(asker.visa(one.resource, one) if is_visa else asker.port(SerialPortInfo(one.resource), one))
    return found


def ask_visa(resource: str, timeout_s: float) -> Answer:
    """Ask a VISA resource for its identity, and nothing else: its settings stay as they are."""
    link = open_visa(resource, timeout_s)
    try:
        identity = parse_identity(link.query("*IDN?"))
    finally:
        link.close()
    driver = next((known.driver for known in KNOWN if identity.model.startswith(known.model)), "")
    return Answer(driver, str(identity))


def ask_port(port: str, driver: str, baudrate: int, timeout_s: float) -> Answer:
    """Ask a serial port who is there, in the protocol of ``driver``, or in each of ours where none is named.

    The C2N dialects come first: their echo is noise to a framed board, while a frame might mean something to theirs.
    """
    complaints = []
    for name in (driver,) if driver else (C2N_TERNARY, FRAMED):
        ask = _ask_framed if name == FRAMED else partial(_ask_c2n, name)
        try:
            return ask(port, baudrate, timeout_s)
        except (LinkError, ReplyError) as error:
            complaints.append(f"{name}: {error}")
    raise LinkError("; ".join(complaints))


def _ask_framed(port: str, baudrate: int, timeout_s: float) -> Answer:
    link = open_framed(port, baudrate, timeout_s, retries=0)
    try:
        board = link.welcome
        rows, cols = board.geometry
        return Answer(
            FRAMED,
            f"{board.manufacturer} {board.model}, serial {board.serial}, firmware {board.firmware}, protocol version "
            f"{board.version}; chip {board.chip_id}, {rows} x {cols} cells",
        )
    finally:
        link.close()


def _ask_c2n(driver: str, port: str, baudrate: int, timeout_s: float) -> Answer:
    other = {C2N_TERNARY: C2N_COLUMN, C2N_COLUMN: C2N_TERNARY}
    try:
        open_c2n(port, DIALECTS[driver], baudrate, timeout_s).close()
    except WrongInstrument:
        driver = other[driver]
        open_c2n(port, DIALECTS[driver], baudrate, timeout_s).close()
    return Answer(driver, f"the {DIALECTS[driver].board} of C2N")


class _Asker:
    """Places candidates, and asks those that could be placed."""

    def __init__(self, timeout_s: float, claim: Claim, probes: Probes) -> None:
        self._timeout_s = timeout_s
        self._claim = claim
        self._probes = probes

    def visa(self, resource: str, named: Named | None) -> Candidate:
        ids = usb_ids(resource)
        known = next((known for known in KNOWN if known.usb == ids), None)
        if named is not None:
            kind = f"{named.role} of the bench file"
        elif known is not None:
            kind = f"{known} by its USB id"
        elif ids is not None:
            return _left_alone(resource, f"USB {ids[0]:04x}:{ids[1]:04x}", "no driver of ours is for this USB id")
        else:
            interface = resource.partition("::")[0]
            return _left_alone(resource, interface, "an address alone does not say who is there")
        return self._ask(resource, kind, lambda: self._probes.visa(resource, self._timeout_s))

    def port(self, port: SerialPortInfo, named: Named | None) -> Candidate:
        device, driver, baudrate = port.device, "", BAUDRATE
        if named is not None:
            kind, driver, baudrate = f"{named.role} of the bench file", named.driver, named.baudrate
        elif (port.vendor, port.product) == (STM_VENDOR, STM_PORT):
            kind = "STM32 virtual serial port by its USB id"
        elif port.vendor is None or port.product is None:
            return _left_alone(device, "serial port", "it is not on USB, so that it has no id")
        else:
            kind = f"USB {port.vendor:04x}:{port.product:04x} {port.description}".rstrip()
            return _left_alone(device, kind, "no board of ours has this USB id")
        return self._ask(device, kind, lambda: self._probes.port(device, driver, baudrate, self._timeout_s))

    def _ask(self, resource: str, kind: str, question: Callable[[], Answer]) -> Candidate:
        with ExitStack() as claimed:
            try:
                claimed.enter_context(self._claim(resource))
            except UserMistake as error:
                return Candidate(resource, kind, Outcome.IN_USE, str(error), "end that program, or leave it alone")
            return self._answered(resource, kind, question)

    def _answered(self, resource: str, kind: str, question: Callable[[], Answer]) -> Candidate:
        started = time.monotonic()
        try:
            answer = _within(GRACE * self._timeout_s, question)
        except FutureTimeout:
            cause = f"opening it did not come back within {GRACE * self._timeout_s:g} s"
            return Candidate(resource, kind, Outcome.SILENT, cause, "unplug it, wait, and plug it in again")
        except RramBenchError as error:
            remedy = "check its power and its cable, and that no other program has it open"
            return Candidate(resource, kind, Outcome.SILENT, str(error), remedy)
        remedy = "" if answer.driver else "no driver of ours is for this model"
        elapsed_ms = (time.monotonic() - started) * 1e3
        return Candidate(resource, kind, Outcome.ANSWERS, answer.text, remedy, answer.driver, elapsed_ms)


def _left_alone(resource: str, kind: str, why: str) -> Candidate:
    remedy = "if it belongs to the bench, name it in a bench file and give that with --bench"
    return Candidate(resource, kind, Outcome.NOT_ASKED, f"{why}: nothing was written to it", remedy)


def _within(limit_s: float, work: Callable[[], Answer]) -> Answer:
    """Do ``work`` in a thread that is given up after ``limit_s``: some operating systems open dead ports for ever."""
    outcome: Future[Answer] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="probe", daemon=True).start()
    return outcome.result(limit_s)


def _list_visa() -> tuple[list[str], list[str]]:
    import pyvisa
    from pyvisa.constants import InterfaceType

    library = pyvisa.ResourceManager().visalib
    wired = (InterfaceType.usb, InterfaceType.gpib)
    if not type(library).__module__.startswith("pyvisa_py"):
        names = pyvisa.ResourceManager().list_resources("?*::INSTR")
        return [name for name in names if name.upper().startswith(("USB", "GPIB"))], []
    # PyVISA-py's own listing calls out on the network; asked one by one, its USB and GPIB do not.
    from pyvisa_py.sessions import Session

    kinds = [kind for (interface, _), kind in Session.iter_valid_session_classes() if interface in wired]
    missing = {
        interface.name.upper() for (interface, _), _ in Session.iter_session_classes_issues() if interface in wired
    }
    notes = [f"{name} instruments cannot be listed: PyVISA-py lacks the library for it" for name in sorted(missing)]
    return sorted(name for kind in kinds for name in kind.list_resources() if name.endswith("INSTR")), notes
