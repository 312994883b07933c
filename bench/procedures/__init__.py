"""The procedures that this bench knows, by name."""

from __future__ import annotations

from bench.procedure import Procedure
from bench.procedures.amplifiers import AMPLIFIERS
from bench.procedures.characterise import CHARACTERISE
from bench.procedures.forming import FORMING
from bench.procedures.program import PROGRAM
from bench.procedures.read import READ
from bench.procedures.resistance import RESISTANCE
from models.exceptions import UserMistake

PROCEDURES: dict[str, Procedure] = {
    procedure.name: procedure for procedure in (FORMING, PROGRAM, READ, RESISTANCE, CHARACTERISE, AMPLIFIERS)
}


def find_procedure(name: str) -> Procedure:
    """The procedure called ``name``. Raises UserMistake listing those there are."""
    if name not in PROCEDURES:
        raise UserMistake(f"no procedure is called {name!r}; there are {', '.join(PROCEDURES)}")
    return PROCEDURES[name]


__all__ = ["PROCEDURES", "find_procedure"]
