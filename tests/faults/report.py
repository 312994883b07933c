"""The campaign's results: one table, one page, one JSON line."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.campaign import Row

TABLE_WIDTH = 110
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")

INTRODUCTION = """\
# Reliability

What happens when a cable, a board, an instrument or the program itself fails: faults injected on the wires of the
simulated bench, and counted. `make faults` runs the campaign and writes this page; a short part of it, with the same
seed each time, is in `make test`.

- **injected**: faults that really changed something: bytes on a wire, a reply withheld, a signal sent, a value offered.
- **survived**: the exchange was right all the same, or an error said clearly that it was not.
- **undetectable**: a wrong result without an error, because what arrived was in every respect a legal answer. No client
  can tell; see below.
- **lost**: a wrong result without an error that could have been noticed, an answer given to another question, a pulse
  applied twice, a pulse lost without an error that names its cell, a value that should have been refused, an output
  left on without being called UNKNOWN. Must be 0.
"""

EXPLANATION = """\
## What is checked

- **Framed board.** Single requests and windows of them, on a pseudo-terminal and on TCP. The pulses that the chip
  counts are compared with the host's own account after every call; when a call ends in doubt, every device that
  deviates must be among those that the error names, and none may have got more pulses than were asked for.
- **SCPI and TSP.** Keithley 2230G, 2450 and 2636B, Keysight E36312A and 81160A. One fault in one message of each call.
  After a setting that raised no error, the whole state of the instrument is asked for by another client and compared.
  The next question, asked without any repair of the link, must get its own answer or an error.
- **Ends from outside.** Clients of a served bench, in the middle of forming, reading and measuring. Afterwards the
  supply and the source-measure unit are asked through plain sockets and the board through a raw frame; run files are
  opened and compared with the records that were acknowledged.
- **Setters.** Every argument of every setter of every driver, with the limits of the instrument and with those of a
  narrower bench file. A driver or a setter that the campaign does not know counts as lost.
- **Safe state.** Everything is on when one instrument raises, vanishes, hangs, babbles, or does not obey.

## What SCPI cannot detect

SCPI has no checksum, no sequence number and no fixed form for a number: `1.250`, `1.25` and `+125E-2` are the same
legal answer. Therefore:

- a digit that is flipped, lost or doubled inside a *measured* number makes another legal number, and a damaged
  *question* may be another legal question. They are counted as undetectable above. The buses of the laboratory (USB,
  GPIB, TCP) have checksums or handshakes of their own; on a bare RS-232 line, measure twice;
- a *setting* is different: it is read back after every change and compared within the instrument's resolution, and the
  error queue must be empty, so that a single fault, on the way there or back, cannot leave it wrong unseen. One gap
  remains: a command whose channel number is damaged, and which sets its own channel to what it is at already, shows on
  the other channel only, in the next measurement of the rails;
- a trigger that vanishes as a whole, or comes twice, looks like any other. A train of pulses is never repeated by the
  driver, and what is in doubt is said.

The framed protocol has a CRC-32, sequence numbers and a memory of its answers for these reasons.
"""


def print_table(rows: Sequence[Row], console: Console) -> None:
    """Print one table of all rows."""
    table = Table(title="Fault campaign", width=TABLE_WIDTH)
    table.add_column("fault", ratio=1)
    for name in ("injected", "survived", "undetectable", "lost", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        figures = (row.injected, row.survived, row.undetectable, row.lost)
        table.add_row(row.fault, *map(str, figures), f"{row.seconds:.0f}", style="bold red" if row.lost else "")
    console.print(table)


def json_line(rows: Sequence[Row]) -> str:
    """Everything in one line, for machines."""
    return json.dumps(
        {
            "rows": [
                {
                    "fault": row.fault,
                    "injected": row.injected,
                    "survived": row.survived,
                    "undetectable": row.undetectable,
                    "lost": row.lost,
                }
                for row in rows
            ]
        }
    )


def write_page(path: Path, rows: Sequence[Row], command: str, seconds: float) -> None:
    """Write the results where they are read."""
    lines = [
        INTRODUCTION,
        f"{date.today()}, `{command}`, {machine()}, {seconds:.0f} s.",
        "",
        "| fault | injected | survived | undetectable | lost | s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.fault} | {row.injected} | {row.survived} | {row.undetectable} | {row.lost} | {row.seconds:.0f} |"
        for row in rows
    ]
    remarks = [f"- {row.fault}: {remark}." for row in rows for remark in row.remarks]
    examples = [f"- {row.fault}: {note}" for row in rows for note in row.notes[:1]]
    path.write_text(
        "\n".join(
            [
                *lines,
                "",
                *remarks,
                "",
                EXPLANATION,
                "## Examples of what was not noticed",
                "",
                *(examples if examples else ["None."]),
                "",
            ]
        ),
        encoding="utf-8",
    )


def machine() -> str:
    """The class of machine, in words."""
    cores = os.cpu_count()
    count = NUMBERS[cores] if cores is not None and cores < len(NUMBERS) else str(cores)
    return f"{count} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
