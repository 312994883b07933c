"""The strict base of SCPI drivers: a driver reads like the instrument's register table, and nothing is taken on trust.

Every change is one transaction under the link's lock: all limits are checked before a byte is sent, the command goes
out, the instrument's error queue is drained, and what was set is read back and compared within the instrument's
resolution. Answers are decoded strictly; one that does not fit its question puts the link out of step.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import ClassVar, Protocol, TypeVar

from drivers.errors import InstrumentError, LinkError, LinkTimeout, ReadBackError, ReplyError, WrongInstrument
from drivers.roles import Identity
from drivers.scpi_settings import Change
from drivers.scpi_text import ReadingOverflow, parse_error, split_reply
from models.exceptions import BenchFailure

T = TypeVar("T")

MOST_ERRORS = 64
SAFE_WAIT_S = 0.5
IDENTITY_FIELDS = 4
NO_ERROR = 0


class Link(Protocol):
    """What a SCPI driver asks of a link; :class:`drivers.visa_link.VisaLink` keeps it."""

    @property
    def resource(self) -> str:
        """Name of the far end, for messages."""

    @property
    def timeout_s(self) -> float:
        """Longest wait for an answer, in s."""

    @property
    def generation(self) -> int:
        """Changes whenever whoever answers must be identified again."""

    def transaction(self, wait_s: float | None = None) -> AbstractContextManager[None]:
        """Keep other threads off the link."""

    def write(self, message: str) -> None:
        """Send a message that has no answer."""

    def query(self, message: str, timeout_s: float | None = None) -> str:
        """Ask and wait for the answer."""

    def send_now(self, *messages: str) -> None:
        """Send fixed messages whatever state the link is in."""

    def lose_step(self, reason: str) -> None:
        """Put the link out of step."""

    def resynchronise(self) -> None:
        """Bring the link back in step."""

    def close(self) -> None:
        """Disconnect."""


class ScpiInstrument(ABC):
    """An instrument that is identified before its first command, and again after its link was lost.

    Args:
        link: an open link.
        serial: serial number that must answer; None accepts any.
        off: fixed strings that bring the outputs to 0 V and off, in the order in which they are sent.
    """

    name: ClassVar[str]
    maker: ClassVar[str]
    models: ClassVar[frozenset[str]]

    def __init__(self, link: Link, serial: str | None, off: tuple[str, ...]) -> None:
        self.link = link
        self._serial = serial
        self._off = off
        self._identity: Identity | None = None
        self._generation: int | None = None

    @property
    def instrument(self) -> ScpiInstrument:
        """Return the instrument that settings are applied to: this one."""
        return self

    @property
    def path(self) -> str:
        """Return what selects a part before each command: nothing, for a whole instrument."""
        return ""

    @property
    def label(self) -> str:
        """Return model and address, for messages."""
        return f"{self.name} ({self.link.resource})"

    def identify(self) -> Identity:
        """Ask who is there.

        Raises:
            WrongInstrument: another maker, model or serial number than expected, or than answered before.
            LinkError: nobody answers.
        """
        with self.link.transaction():
            if self._generation != self.link.generation:
                return self._connect()
            return self._ask_identity()

    def apply(self, *changes: Change) -> None:
        """Send changes in one message, drain the error queue once, and read all of them back in one message.

        Raises:
            InstrumentError: the instrument's error queue was not empty afterwards.
            ReadBackError: a setting reads back as something else.
            ReplyError: an answer was not what its question allows; the link is out of step.
            LinkError: the link is closed, broke, or is out of step.
        """
        with self._identified():
            self.send(";:".join(change.command for change in changes))
            question = ";:".join(change.question for change in changes)
            replies = self.ask_parts(question, len(changes))
            for change, reply in zip(changes, replies, strict=True):
                self.decode(change.question, reply, change.confirm)

    def send(self, command: str) -> None:
        """Send a command and drain the error queue. Raises InstrumentError when it was not empty."""
        with self._identified():
            self.link.write(command)
            errors = self._drained()
            if errors:
                raise InstrumentError(self.label, command, errors)

    def ask(self, question: str, decode: Callable[[str], T], timeout_s: float | None = None) -> T:
        """Ask one question and decode the answer strictly.

        Args:
            question: the SCPI query.
            decode: answer to value; raises ReplyError.
            timeout_s: longest wait in s; the link's own when None.

        Raises:
            ReplyError: the answer is not what the question allows. Unless it is an overflow, the link is out of step.
            LinkError: the link is closed, broke, or is out of step.
        """
        with self._identified():
            return self.decode(question, self.link.query(question, timeout_s), decode)

    def ask_parts(self, question: str, count: int, timeout_s: float | None = None) -> list[str]:
        """Ask a compound question and cut its answer into ``count`` parts; errors as for :meth:`ask`."""

        def decode(reply: str) -> list[str]:
            parts = split_reply(reply)
            if len(parts) != count:
                raise ReplyError(f"{reply!r} has {len(parts)} part(s), {count} were asked for")
            return parts

        return self.ask(question, decode, timeout_s)

    def decode(self, question: str, reply: str, decode: Callable[[str], T]) -> T:
        """Decode an answer, or a part of one; errors as for :meth:`ask`."""
        try:
            return decode(reply)
        except ReadingOverflow as error:
            raise ReadingOverflow(f"{self.label}: answer to {question!r}: {error}") from error
        except ReplyError as error:
            self.link.lose_step(f"{question!r} was answered by {reply!r}")
            raise ReplyError(
                f"{self.label}: answer to {question!r}: {error}; resynchronise the link before going on"
            ) from error

    def resynchronise(self) -> Identity:
        """Bring the link back in step, identify the instrument again and prepare it as at the first connection.

        Errors that were queued meanwhile are cleared: the exchanges that they belong to have failed already.
        """
        with self.link.transaction():
            self.link.resynchronise()
            return self.identify()

    def safe_off(self) -> None:
        """Bring the outputs to 0 V and off with fixed strings that need no earlier query, then read back.

        The strings go out first, whatever state the link is in. Where they did not arrive, or the link is out of step,
        they go out once more on a link that was brought back in step.

        Raises:
            BenchFailure: it is not confirmed that the outputs are at 0 V and off.
        """
        reached = self._reached_off()
        with self.link.transaction(self.link.timeout_s + SAFE_WAIT_S):
            if reached and self._confirmed_off():
                return
            self.link.resynchronise()
            self.link.send_now(*self._off)
            self._confirm_off()

    def close(self) -> None:
        """Close the link. The outputs stay as they are."""
        self.link.close()

    @abstractmethod
    def _not_off(self) -> list[str]:
        """Ask the instrument, and say of each output that is not at 0 V and off how it stands."""

    def _prepare(self) -> None:
        """Send what the instrument needs once it is identified, before its first command. Nothing by default."""
        return

    def _reached_off(self) -> bool:
        try:
            self.link.send_now(*self._off)
        except LinkError:
            return False
        return True

    def _confirmed_off(self) -> bool:
        try:
            self._confirm_off()
        except LinkTimeout:
            raise  # it hangs: a second round would only take as long again
        except LinkError:
            return False
        return True

    def _confirm_off(self) -> None:
        with self._identified():
            wrong = self._not_off()
            # Errors of whatever went wrong before are no reason to doubt an output that reads back off.
            errors = self._drained()
            if wrong:
                said = "; ".join(f'{code}, "{text}"' for code, text in errors) if errors else "empty"
                raise ReadBackError(
                    f"{self.label}: not at 0 V and off: {', '.join(wrong)} (error queue: {said}); switch it off by hand"
                )

    @contextlib.contextmanager
    def _off_whatever_happens(self) -> Iterator[None]:
        """For a message that switches an output on and off again: what raises in the block leaves the outputs off.

        An overflow passes: the answer that holds it was complete, and told that the output is off.

        Raises:
            BenchFailure: something went wrong, and it is not confirmed that the outputs are at 0 V and off since.
        """
        try:
            yield
        except ReadingOverflow:
            raise
        except BaseException as error:
            try:
                self.safe_off()
            except BenchFailure as failure:
                told = f"{self.label}: the output may still be on ({failure}); before that: {error}"
                if isinstance(error, Exception):
                    raise BenchFailure(told) from error
                error.add_note(told)
            raise

    @contextlib.contextmanager
    def _identified(self) -> Iterator[None]:
        with self.link.transaction():
            if self._generation != self.link.generation:
                self._connect()
            yield

    def _connect(self) -> Identity:
        identity = self._ask_identity()
        self._generation = self.link.generation
        try:
            # Errors left behind by others must not be blamed on our first command.
            self.link.write("*CLS")
            self._prepare()
        except BaseException:
            self._generation = None
            raise
        return identity

    def _ask_identity(self) -> Identity:
        identity = self.decode("*IDN?", self.link.query("*IDN?"), parse_identity)
        if not identity.manufacturer.upper().startswith(self.maker.upper()) or identity.model not in self.models:
            raise WrongInstrument(f"{self.link.resource}: {identity} answers, expected a {self.name}")
        if self._serial is not None and identity.serial != self._serial:
            raise WrongInstrument(
                f"{self.link.resource}: the {self.name} with serial {identity.serial} answers, expected serial "
                f"{self._serial}; correct the bench file or the cable"
            )
        if self._identity is not None and identity.serial != self._identity.serial:
            raise WrongInstrument(
                f"{self.link.resource}: serial {identity.serial} answers, before it was {self._identity.serial}; "
                "open the bench anew to use another instrument"
            )
        self._identity = identity
        return identity

    def _drained(self) -> list[tuple[int, str]]:
        errors: list[tuple[int, str]] = []
        for _ in range(MOST_ERRORS):
            code, text = self.decode("SYST:ERR?", self.link.query("SYST:ERR?"), parse_error)
            if code == NO_ERROR:
                return errors
            errors.append((code, text))
        self.link.lose_step("the error queue never came to an end")
        raise InstrumentError(self.label, "SYST:ERR?", errors[:3])


def parse_identity(reply: str) -> Identity:
    """Read the answer to ``*IDN?``: maker, model without that word, serial number, firmware. Raises ReplyError."""
    fields = [field.strip() for field in reply.split(",")]
    if len(fields) != IDENTITY_FIELDS or not all(fields):
        raise ReplyError(f"{reply!r} is not maker, model, serial number and firmware")
    return Identity(fields[0], fields[1].upper().removeprefix("MODEL").strip(), fields[2], fields[3])
