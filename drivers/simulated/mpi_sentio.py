"""Simulated MPI SENTIO: a chuck with a wafer map, which tells the world which die the needles touch.

Commands and the form of their answers as public clients of the real software use them. Proposed, for want of a source:
the error numbers and their texts, the heights, that moves take no time, and that a step in contact is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from drivers.prober_role import Die
from drivers.simulated.scpi import InstrumentServer

IDENTITY = "MPI Corporation,Sentio - Probe System Software Suite,0,23.2.99.0"
CONTACT_UM, GAP_UM = 12000.0, 250.0
UNKNOWN, BAD_PARAMETER, NOT_ALLOWED = 11, 14, 20


class Refusal(Exception):
    """A command that is answered by an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class MpiSentio:
    """The far end itself.

    Args:
        lock: of the world that the wafer is in.
        dies: dies selected on the wafer map, in the order of the route.
        touch: gets the die that the needles touch from now on, None once they are lifted.

    Attributes:
        die: die under the needles; None before the first step.
        touching: the chuck is at its contact height.
        stuck: the chuck answers as ever and does not change its height.
        trained: home and contact height are set.
        heard: lines in the order in which they came.
    """

    def __init__(self, lock: threading.RLock, dies: Sequence[Die], touch: Callable[[Die | None], None]) -> None:
        self._lock = lock
        self._dies = tuple(dies)
        self._touch = touch
        self.die: Die | None = None
        self.touching = self.stuck = False
        self.trained = True
        self.heard: list[str] = []

    def execute(self, line: bytes) -> bytes | None:
        """Act on one line; return the answer."""
        text = line.decode("ascii", "replace").strip()
        with self._lock:
            self.heard.append(text)
            if text == "*IDN?":
                return IDENTITY.encode()
            name, _, rest = text.partition(" ")
            try:
                return f"0,0,{self._act(name, [word.strip() for word in rest.split(',')])}".encode()
            except Refusal as refusal:
                return f"{refusal.code},0,{refusal}".encode()

    def overrun(self) -> None:
        """Nothing answers a line that is far too long."""

    def _act(self, name: str, words: list[str]) -> str:
        match name:
            case "map:get_num_dies":
                return str(len(self._dies))
            case "map:path:get_die":
                return self._on_route(*_numbers(words, 1))
            case "map:die:get_current_index":
                if self.die is None:
                    return "No die active"
                return f"{self._dies.index(self.die)},{self.die.column},{self.die.row}"
            case "map:step_die":
                return self._step(words)
            case "move_chuck_contact":
                return self._move(True)
            case "move_chuck_separation":
                return self._move(False)
            case "get_chuck_z":
                return str(CONTACT_UM if self.touching else CONTACT_UM - GAP_UM)
            case "get_chuck_site_heights":
                return f"{CONTACT_UM},{GAP_UM},0.0,50.0"
            case "get_chuck_site_status":
                return f"1,{self.trained:d},0,1"
        raise Refusal(UNKNOWN, "Command handler not found")

    def _on_route(self, index: int) -> str:
        if not 0 <= index < len(self._dies):
            raise Refusal(BAD_PARAMETER, "Invalid die index")
        return f"{self._dies[index].column},{self._dies[index].row}"

    def _step(self, words: list[str]) -> str:
        column, row, site = _numbers(words, 3)
        if self.touching:
            raise Refusal(NOT_ALLOWED, "Chuck is in contact")
        if (column, row) not in self._dies or site != 0:
            raise Refusal(BAD_PARAMETER, "Invalid die index")
        self.die = Die(column, row)
        return f"{column},{row},{site}"

    def _move(self, down: bool) -> str:
        if down and not self.trained:
            raise Refusal(NOT_ALLOWED, "Contact height is not set")
        if not self.stuck and self.touching != down:
            self.touching = down
            self._touch(self.die if down else None)
        return str(CONTACT_UM if down else CONTACT_UM - GAP_UM)


def _numbers(words: list[str], count: int) -> list[int]:
    if len(words) != count or not all(word.removeprefix("-").isdecimal() for word in words):
        raise Refusal(BAD_PARAMETER, "Invalid parameter")
    return [int(word) for word in words]


class MpiSentioServer(InstrumentServer):
    """The prober on a loopback port; arguments are those of :class:`MpiSentio`.

    Attributes:
        prober: the far end itself.
    """

    def __init__(
        self, lock: threading.RLock, dies: Sequence[Die], touch: Callable[[Die | None], None], port: int = 0
    ) -> None:
        self.prober = MpiSentio(lock, dies, touch)
        super().__init__(self.prober, port)
