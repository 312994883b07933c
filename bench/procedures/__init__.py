"""The procedures that this bench knows, by name; :mod:`bench.procedures.loading` adds those of a user."""

from __future__ import annotations

from pathlib import Path

from bench.procedure import Procedure
from bench.procedures.amplifiers import AMPLIFIERS
from bench.procedures.bit_error import BIT_ERROR
from bench.procedures.characterise import CHARACTERISE
from bench.procedures.endurance import ENDURANCE
from bench.procedures.forming import FORMING
from bench.procedures.iv import IV
from bench.procedures.program import PROGRAM
from bench.procedures.pulse import PULSE
from bench.procedures.read import READ
from bench.procedures.read_disturb import READ_DISTURB
from bench.procedures.resistance import RESISTANCE
from bench.procedures.retention import RETENTION
from bench.procedures.shmoo import SHMOO
from bench.procedures.variability import VARIABILITY
from bench.procedures.weak_reset import WEAK_RESET
from bench.procedures.xnor import XNOR

_OURS: tuple[Procedure, ...] = (
    FORMING,
    PROGRAM,
    READ,
    PULSE,
    RESISTANCE,
    CHARACTERISE,
    AMPLIFIERS,
    IV,
    BIT_ERROR,
    SHMOO,
    XNOR,
    VARIABILITY,
    ENDURANCE,
    READ_DISTURB,
    RETENTION,
    WEAK_RESET,
)

PROCEDURES: dict[str, Procedure] = {procedure.name: procedure for procedure in _OURS}


def find_procedure(name: str, folder: Path | None = None) -> Procedure:
    """The procedure called ``name``, one of ours or one that a user keeps in ``folder``.

    Raises:
        UserMistake: there is none, with a list of those there are; or it is there and broken, with the reason.
    """
    from bench.procedures.loading import find

    return find(name, folder)


__all__ = ["PROCEDURES", "find_procedure"]
