"""MPI SENTIO: the control software of MPI's probe stations, by its remote commands over a socket or GPIB.

A command is one line and so is its answer: a number that holds error and status, a second number, and a text that is
the value asked for, e.g. "0,0,3,4,0". Only the identification string comes bare. Commands and answers are those that
public clients of the real software use. Proposed, for want of a source: how the first number is divided (the low ten
bits are the error, the rest tells about the route). No move rests on it alone: each is read back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from drivers.errors import InstrumentError, LimitError, LinkError, LinkTimeout, ReadBackError, ReplyError
from drivers.prober_role import Die
from drivers.roles import Identity
from drivers.scpi import SAFE_WAIT_S, Link, ScpiInstrument
from drivers.scpi_text import parse_bool, parse_float, parse_floats, parse_int
from models.exceptions import BenchFailure

T = TypeVar("T")

NAME = "MPI SENTIO"
SITE = "Wafer"
SEPARATE = "move_chuck_separation"
CONTACT = "move_chuck_contact"

MOVE_TIMEOUT_S = 60.0
"""Longest wait for a move: across a wafer of 300 mm it takes seconds."""

TOLERANCE_UM = 5.0
"""How far from its height the chuck may stand, in micrometres."""

ERROR_BITS = 0x3FF
NO_DIE = "no die active"
_ANSWER = re.compile(r"(\d+),\s*(\d+)(?:,(.*))?", re.ASCII)


class MpiSentio(ScpiInstrument):
    """A probe station under MPI SENTIO in the role of a prober.

    The first exchange with it, and the first after a lost link, checks that home and contact height are trained. It
    moves nothing.

    Args:
        link: an open link.
        serial: serial number that must answer; None accepts any.
    """

    name = NAME
    maker = "MPI"
    models = frozenset({"SENTIO - PROBE SYSTEM SOFTWARE SUITE"})

    def __init__(self, link: Link, serial: str | None = None) -> None:
        super().__init__(link, serial, (SEPARATE,))
        self._separated = False
        self._route: tuple[Die, ...] | None = None

    @property
    def dies(self) -> tuple[Die, ...]:
        """Read which dies are selected on the wafer map, in the order of its route.

        Raises:
            BenchFailure: none is selected, or one is on the route twice.
        """
        with self._identified():
            count = self._command("map:get_num_dies Selected", parse_int)
            dies = tuple(self._command(f"map:path:get_die {index}", _parse_die) for index in range(count))
        if not dies or len(set(dies)) != len(dies):
            raise BenchFailure(
                f"{self.label}: its wafer map selects no die, or one twice; correct the map on its screen"
            )
        self._route = dies
        return dies

    @property
    def position(self) -> Die | None:
        """Read which die is under the needles, touched or not; None where none is."""
        return self._command("map:die:get_current_index", _parse_position)

    @property
    def in_contact(self) -> bool:
        """Read whether the needles may touch the wafer: True for every height that is not surely separated."""
        with self._identified():
            contact_um, gap_um = self._heights()
            return self._height() > contact_um - gap_um + TOLERANCE_UM

    def step(self, die: Die) -> None:
        """Bring a die under the needles, without touching it, and check the read-back.

        Raises:
            LimitError: that is no die, or not one of the wafer map as it was read last; the chuck does not move.
            BenchFailure: the needles are not confirmed to be separated; the chuck does not move.
            InstrumentError: it refused the move.
            ReadBackError: another die is there, or the needles may touch it.
        """
        wanted = _checked_die(self.label, die)
        if self._route is not None and wanted not in self._route:
            raise LimitError(f"{self.label}: die {wanted} is not selected on its wafer map")
        if not self._separated:
            raise BenchFailure(f"{self.label}: the needles are not confirmed to be separated; separate before a step")
        with self._identified():
            # Somebody at its screen may have brought the needles down since.
            if self.in_contact:
                self._separated = False
                raise BenchFailure(f"{self.label}: the needles came down since they were separated; nothing moved")
            if self._route is None and wanted not in self.dies:
                raise LimitError(f"{self.label}: die {wanted} is not selected on its wafer map")
            self._command(f"map:step_die {wanted.column}, {wanted.row}, 0", _parse_step, MOVE_TIMEOUT_S)
            # An option of the software lets a step end in contact.
            self._separated = not self.in_contact
            found = self.position
            if found != wanted or not self._separated:
                touching = "separated" if self._separated else "needles possibly down"
                raise ReadBackError(f"{self.label}: stepped to die {wanted} but reads back {found}, {touching}")

    def contact(self) -> None:
        """Bring the needles down on the die, and check the read-back.

        Raises:
            InstrumentError: it refused the move.
            ReadBackError: the chuck is below its contact height.
        """
        with self._identified():
            self._separated = False
            self._command(CONTACT, parse_float, MOVE_TIMEOUT_S)
            contact_um, _ = self._heights()
            height_um = self._height()
            if height_um < contact_um - TOLERANCE_UM:
                raise ReadBackError(
                    f"{self.label}: contact is at {contact_um:g} um but the chuck reads back {height_um:g} um"
                )

    def separate(self) -> None:
        """Bring the needles off the die, and check the read-back. Harmless when separated already.

        Raises:
            InstrumentError: it refused the move.
            ReadBackError: the needles may still touch.
        """
        with self._identified():
            self._separated = False
            self._command(SEPARATE, parse_float, MOVE_TIMEOUT_S)
            wrong = self._not_off()
            if wrong:
                raise ReadBackError(f"{self.label}: {wrong[0]}; separate by hand at its screen")
            self._separated = True

    def safe_off(self) -> None:
        """Bring the needles off the die, and read back; where the link is out of step, once more after mending that.

        Raises:
            BenchFailure: it is not confirmed that the needles touch nothing.
        """
        with self.link.transaction(self.link.timeout_s + SAFE_WAIT_S):
            try:
                self.separate()
                return
            except LinkTimeout:
                raise  # it hangs: a second round would only take as long again
            except (LinkError, ReplyError):
                self.link.resynchronise()
            self.separate()

    def _connect(self) -> Identity:
        # Not that of SCPI: there is no error queue to clear, and an unknown command would be answered.
        # Another wafer may lie there by now.
        self._separated, self._route = False, None
        identity = self._ask_identity()
        self._generation = self.link.generation
        try:
            home, contact = self._command(f"get_chuck_site_status {SITE}", _parse_trained)
            if not home or not contact:
                missing = "home position" if not home else "contact height"
                raise BenchFailure(f"{self.label}: the {missing} of its site {SITE} is not set; train it at its screen")
        except BaseException:
            self._generation = None
            raise
        return identity

    def _drained(self) -> list[tuple[int, str]]:
        """Errors come with the answers: no queue holds any."""
        return []

    def _not_off(self) -> list[str]:
        return ["the needles may still touch the wafer"] if self.in_contact else []

    def _height(self) -> float:
        """Height of the chuck above the zero of its axis, in micrometres."""
        return self._command("get_chuck_z Zero", parse_float)

    def _heights(self) -> tuple[float, float]:
        """Contact height above the zero of the axis, and how far below it is separated, in micrometres."""
        contact, gap, _, _ = self._command(f"get_chuck_site_heights {SITE}", lambda text: parse_floats(text, 4))
        if gap <= 2 * TOLERANCE_UM:
            raise BenchFailure(
                f"{self.label}: its separation gap is {gap:g} um, not to be told from contact; "
                f"set more than {2 * TOLERANCE_UM:g} um"
            )
        return contact, gap

    def _command(self, command: str, decode: Callable[[str], T], timeout_s: float | None = None) -> T:
        """Send one command and decode the text of its answer strictly.

        Raises:
            InstrumentError: the answer is an error.
            ReplyError: the answer is not what the command allows; the link is out of step.
            LinkError: the link is closed, broke, or is out of step.
        """

        def answer(reply: str) -> T:
            match = _ANSWER.fullmatch(reply.strip())
            if match is None:
                raise ReplyError(f"{reply!r} is not error, status and text")
            error, text = int(match[1]) & ERROR_BITS, (match[3] or "").strip()
            if error:
                raise InstrumentError(self.label, command, [(error, text)])
            return decode(text)

        return self.ask(command, answer, timeout_s)


def _checked_die(label: str, die: Die) -> Die:
    """A die of two whole numbers."""
    whole = isinstance(die, tuple) and all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in die)
    if not whole or len(die) != 2:
        raise LimitError(f"{label}: {die!r} is no die: two whole numbers, column and row")
    return Die(int(die[0]), int(die[1]))


def _parse_ints(text: str, count: int) -> tuple[int, ...]:
    fields = text.split(",")
    if len(fields) != count:
        raise ReplyError(f"{text!r} is not {count} whole numbers")
    return tuple(parse_int(field) for field in fields)


def _parse_die(text: str) -> Die:
    return Die(*_parse_ints(text, 2))


def _parse_step(text: str) -> Die:
    return Die(*_parse_ints(text, 3)[:2])


def _parse_position(text: str) -> Die | None:
    if text.lower().rstrip(".") == NO_DIE:
        return None
    return Die(*_parse_ints(text, 3)[1:])


def _parse_trained(text: str) -> tuple[bool, bool]:
    fields = text.split(",")
    if len(fields) != 4:
        raise ReplyError(f"{text!r} is not home, contact, overtravel and vacuum")
    return parse_bool(fields[0]), parse_bool(fields[1])
