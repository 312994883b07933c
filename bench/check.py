"""The verdict on a bench, as a tree: each role, what was checked of it, why it failed, and what to try."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bench.config import BenchFile
from bench.session import Connector, claim_bench
from drivers.errors import InstrumentError, LinkError, LinkTimeout, ReadBackError, ReplyError, WrongInstrument
from drivers.prober_role import Prober
from drivers.roles import ControllerBoard, Instrument, PowerSupply
from drivers.self_test import (
    EchoingBoard,
    NumberedProtocol,
    RegisterBoard,
    Verdict,
    check_at_rest,
    check_chip,
    check_echo,
    check_protocol,
    check_registers,
)
from models.exceptions import BenchFailure, RramBenchError, UserMistake

if TYPE_CHECKING:
    from rich.tree import Tree

Checked = TypeVar("Checked", bound=Instrument)

REMEDIES: tuple[tuple[type[RramBenchError], str], ...] = (
    (WrongInstrument, "correct the bench file, or connect the instrument that it names"),
    (LinkTimeout, "switch it off and on again, and check its cable"),
    (LinkError, "check its power, its cable and its address; `rram-bench instruments` lists what is there"),
    (ReplyError, "end other programs that use it, and replace its cable"),
    (ReadBackError, "switch its outputs off by hand before anything else"),
    (InstrumentError, "look at its front panel; switch it off and on again"),
    (UserMistake, "correct the bench file; `rram-bench instruments` lists what is there"),
)
"""What to try, by the first kind of error that fits."""


@dataclass(frozen=True)
class CheckRow:
    """Verdict on one role of a bench file.

    Attributes:
        role, driver, resource: as in the bench file.
        ok: whether all of its checks passed.
        answer: who answered, or the first cause of failure.
        milliseconds: how long it took to say who it is; None without an answer.
        exit_status: 0, or that of the failure.
        remedy: what to try; empty where nothing is wrong. JSON calls it ``try``.
        checks: what was checked, in order.
    """

    role: str
    driver: str
    resource: str
    ok: bool
    answer: str
    milliseconds: float | None
    exit_status: int
    remedy: str = ""
    checks: tuple[Verdict, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "role": self.role,
            "driver": self.driver,
            "resource": self.resource,
            "ok": self.ok,
            "answer": self.answer,
            "milliseconds": self.milliseconds,
            "exit_status": self.exit_status,
            "try": self.remedy,
            "checks": [check.as_json() for check in self.checks],
        }


def check_bench(config: BenchFile) -> list[CheckRow]:
    """Connect to each instrument in turn and say who answered or why not. Switches outputs off, moves no voltage.

    Raises:
        UserMistake: another program holds the bench.
    """
    connector = Connector(config)
    board = config.board
    with claim_bench(config):
        rows = [
            _check_one(
                "supply", config.supply.driver, config.supply.resource, connector.supply, partial(_supply, config)
            )
        ]
        plain: tuple[tuple[str, Callable[[], Instrument | None]], ...] = (
            ("smu", connector.smu),
            ("pulse_source", connector.pulse_source),
            ("temperature", connector.temperature),
        )
        for role, opener in plain:
            section = getattr(config, role)
            if section is not None:
                rows.append(_check_one(role, section.driver, section.resource, opener, lambda _: iter(())))
        rows.append(_check_one("board", board.driver, board.port, connector.board, partial(_board, config)))
        if config.prober is not None:
            prober = config.prober
            rows.append(_check_one("prober", prober.driver, prober.resource, connector.prober, _prober, moves=True))
    return rows


def show_check(title: str, rows: Sequence[CheckRow], amplifiers: Mapping[str, Any] | None, as_json: bool) -> None:
    """Print the verdicts: as a tree for people, or as one JSON document.

    Args:
        amplifiers: result of the self-test of the sense amplifiers, where there was one.
    """
    good = all(row.ok for row in rows) and (amplifiers is None or amplifiers["ok"])
    if as_json:
        values = {"ok": good, "instruments": [row.as_json() for row in rows]}
        print(json.dumps(values if amplifiers is None else {**values, "amplifiers": dict(amplifiers)}, allow_nan=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.tree import Tree

    tree = Tree(escape(title))
    for row in rows:
        branch = tree.add(f"{_mark(row.ok)} {row.role}: {row.driver} at {escape(row.resource)}")
        for check in row.checks:
            _hang(branch, check)
    if amplifiers is not None:
        _hang(tree, Verdict("sense amplifiers", amplifiers["ok"], amplifiers["answer"], amplifiers["try"]))
    Console().print(tree)


def _hang(branch: Tree, verdict: Verdict) -> None:
    from rich.markup import escape

    leaf = branch.add(f"{_mark(verdict.ok)} {verdict.name}: {escape(verdict.answer)}")
    if verdict.remedy:
        leaf.add(f"try: {escape(verdict.remedy)}")


def _mark(ok: bool) -> str:
    return "[green]ok[/]  " if ok else "[bold red]FAIL[/]"


def _check_one(
    role: str,
    driver: str,
    resource: str,
    opener: Callable[[], Checked | None],
    further: Callable[[Checked], Iterator[Verdict]],
    *,
    moves: bool = False,
) -> CheckRow:
    """Ask one instrument. What ``moves`` to its safe state, as a prober lifts its needles, is left where it is."""
    checks: list[Verdict] = []
    milliseconds: float | None = None
    exit_status = 0
    try:
        instrument = opener()
        assert instrument is not None
        try:
            started = time.monotonic()
            identity = str(instrument.identify())
            milliseconds = (time.monotonic() - started) * 1e3
            checks.append(Verdict("identity", True, identity))
            if not moves:
                instrument.safe_off()
                checks.append(Verdict("safe state", True, "0 V and off, confirmed by reading back"))
            for verdict in further(instrument):
                checks.append(verdict)
        finally:
            instrument.close()
    except RramBenchError as error:
        stages = ("identity", "self-test") if moves else ("identity", "safe state", "self-test")
        stage = stages[min(len(checks), len(stages) - 1)]
        checks.append(Verdict(stage, False, str(error), _remedy(error)))
        exit_status = error.exit_status
    wrong = next((check for check in checks if not check.ok), None)
    if wrong is None:
        answer = "; ".join(check.answer for check in checks if check.name in ("identity", "chip"))
        return CheckRow(role, driver, resource, True, answer, milliseconds, 0, "", tuple(checks))
    status = exit_status if exit_status else BenchFailure.exit_status
    return CheckRow(role, driver, resource, False, wrong.answer, milliseconds, status, wrong.remedy, tuple(checks))


def _remedy(error: RramBenchError) -> str:
    return next((what for kind, what in REMEDIES if isinstance(error, kind)), "see the cause")


def _supply(config: BenchFile, supply: PowerSupply) -> Iterator[Verdict]:
    channels = config.supply.channels
    yield check_at_rest(
        supply, {"VDD": channels.vdd, "VDDC": channels.vddc, "VDDR": channels.vddr}, config.supply.tolerance_v
    )


def _board(config: BenchFile, board: ControllerBoard) -> Iterator[Verdict]:
    if isinstance(board, NumberedProtocol):
        yield check_protocol(board)
    if isinstance(board, EchoingBoard):
        yield check_echo(board)
    yield check_chip(board.geometry, board.chip_id, config.geometry, config.chip.id)
    if isinstance(board, RegisterBoard):
        yield check_registers(board)


def _prober(prober: Prober) -> Iterator[Verdict]:
    yield Verdict("wafer map", True, f"{len(prober.dies)} dies are selected")
    die = prober.position
    where = "over no die" if die is None else f"over die {die}"
    yield Verdict("needles", True, f"{where}, {'in contact' if prober.in_contact else 'separated'}")
