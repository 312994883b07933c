"""Opening the links of a bench again after an unplug, without restarting anything.

What the instruments did meanwhile is unknown: one may have been power-cycled, another switched on by hand. So every
output counts as unknown until it was read, all of them are brought to 0 V and off, and the instruments' own limits are
programmed again as at the first connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.safe import SafeReport, safe_step
from drivers.c2n.usb import resolve_port
from models.exceptions import BenchFailure

if TYPE_CHECKING:
    from bench.session import Bench


def reconnect(bench: Bench, board_port: str | None = None) -> SafeReport:
    """Open every link again, identify everyone, and bring the bench to its safe state.

    Args:
        board_port: where the board is now; where the bench file has it, by default.

    Returns:
        the safe state, confirmed by every instrument.

    Raises:
        BenchFailure: an instrument does not answer, is another one, or does not confirm that it is off. All were tried;
            the others are safe.
    """
    # Whatever can still be reached goes down first. From here on the rails are unknown until they are set anew.
    bench.safe_off()
    steps: list[tuple[str, Callable[[], None]]] = [("board", lambda: _board(bench, board_port))]
    if bench.smu is not None:
        steps.append(("smu", lambda: _smu(bench)))
    steps.append(("supply", lambda: _supply(bench)))
    report = SafeReport(tuple(safe_step(role, step) for role, step in steps))
    if not report.confirmed:
        raise BenchFailure(f"not all of the bench is connected again: {report}")
    return report


def _board(bench: Bench, port: str | None) -> None:
    # Found again by its USB id, under whatever name it has come back.
    bench.board.reopen(resolve_port(bench.config.board.port if port is None else port))
    bench.identities["board"] = bench.board.identify()
    bench.board.safe_off()
    bench.board.set_watchdog(0.0)


def _smu(bench: Bench) -> None:
    smu, section = bench.smu, bench.config.smu
    assert smu is not None
    assert section is not None
    bench.identities["smu"] = smu.resynchronise()
    smu.safe_off()
    smu.set_integration(section.power_line_cycles)
    smu.set_source(0.0, bench.config.operating_points.DIRECT.compliance_a)


def _supply(bench: Bench) -> None:
    bench.identities["supply"] = bench.supply.resynchronise()
    bench.rails.prepare()
