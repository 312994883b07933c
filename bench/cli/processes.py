"""One command run by several processes that torchrun started: one voice, whichever of them speaks."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from models.exceptions import UserMistake
from models.processes import Place, launched

TRAINING = ("train", "reproduce")
"""Commands that several processes can share."""

STORE_S = 10.0
"""Most that a process waits, in s, to learn whether another has failed before it."""


def refuse_others(arguments: Sequence[str]) -> None:
    """Raise UserMistake where several processes run a command that is not theirs to share: each would do all of it."""
    command = next((one for one in arguments if not one.startswith("-")), None)
    if launched().size > 1 and command is not None and command not in TRAINING:
        raise UserMistake(f"torchrun can share out {' and '.join(TRAINING)} alone; run {command!r} without it")


@contextlib.contextmanager
def one_voice(place: Place) -> Iterator[None]:
    """Inside, only the first process shows anything."""
    if place.rank == 0:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def first_to_fail(place: Place) -> bool:
    """Whether this process is the first to say why the command failed; what others have to say follows from that."""
    if place.size == 1:
        return True
    try:
        return int(_store().add(_failures(), 1)) == 1
    except RuntimeError:
        print(f"process {place.rank} of {place.size} failed, and cannot reach torchrun:", file=sys.stderr)
        return True


def leave_to_first(place: Place) -> None:
    """Let the first process say what is wrong with the command's words, which all see: who ends ends the others."""
    if place.rank == 0:
        first_to_fail(place)
        return
    with contextlib.suppress(RuntimeError):
        _store().wait([_failures()])


def _store() -> Any:
    """That of torchrun, which outlives all of the processes."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=STORE_S))


def _failures() -> str:
    return f"rram-bench failures {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
