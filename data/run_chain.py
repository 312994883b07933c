"""A run that was interrupted and resumed lies in several files; here they are one again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.run_reading import Run, open_run
from data.run_schema import Array
from models.exceptions import UserMistake

RESUMES = "resumes"
"""Attribute of a run that goes on with an earlier one: the name of that one's file, in the same folder."""

PART = "part"
"""Column that :func:`read_whole` adds."""


def earlier_part(run: Run) -> Path | None:
    """The file that ``run`` goes on with, whether it is there or not; None for a run that began anew."""
    name = str(run.attributes.get(RESUMES, ""))
    return run.path.with_name(Path(name).name) if name else None


def chain(run: Run) -> list[Run]:
    """``run`` and the runs that it goes on with, the oldest first.

    Raises:
        UserMistake: an earlier part is not in the folder, is unreadable, or is of another procedure.
    """
    parts = [run]
    while (path := earlier_part(parts[0])) is not None:
        if not path.is_file():
            raise UserMistake(
                f"{parts[0].path} goes on with {path.name}, which is not in its folder; put it there, "
                "or take this part alone"
            )
        if any(path.resolve() == part.path.resolve() for part in parts):
            raise UserMistake(f"{path} goes on with itself")
        earlier = open_run(path)
        if earlier.procedure != run.procedure:
            raise UserMistake(f"{parts[0].path} ({run.procedure}) goes on with {path}, which is {earlier.procedure}")
        parts.insert(0, earlier)
    return parts


def available_chain(run: Run) -> tuple[list[Run], str]:
    """What there is of :func:`chain`, and why it is not more: empty where it is whole, one line otherwise."""
    try:
        return chain(run), ""
    except UserMistake as error:
        return [run], str(error)


def read_parts(parts: Sequence[Run], table: str, columns: Sequence[str] | None = None) -> dict[str, Array]:
    """Read a table of several runs as if it were one, see :func:`read_whole`."""
    blocks = [part.read(table, columns) for part in parts]
    whole = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    if PART in whole:
        raise UserMistake(f"table {table} has a column {PART!r} of its own; read its parts one by one")
    # Some column is always there: without names all are read, and a list of none is of no use to anybody.
    counts = [len(next(iter(block.values()))) for block in blocks]
    return whole | {PART: np.repeat(np.arange(len(parts), dtype=np.int32), counts)}


def read_whole(run: Run, table: str, columns: Sequence[str] | None = None) -> dict[str, Array]:
    """Read a table of a run together with the earlier runs that it goes on with.

    Args:
        run: the latest part.
        table: name of the table.
        columns: names of the columns, ``time_s`` among them; all when left out.

    Returns:
        Arrays ``(records, *dims)`` by column name, the oldest part first, and ``part`` ``(records,)``, the index in
        :func:`chain`. ``time_s`` counts from the start of each part.

    Raises:
        UserMistake: no such table or column, or a part is missing.
    """
    return read_parts(chain(run), table, columns)
