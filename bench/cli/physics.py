"""Commands of the physics: validate."""

from __future__ import annotations

from pathlib import Path

from bench.console import Reporter
from bench.stopping import stop_on_signals
from models.exceptions import BenchFailure


def validate_command(seed: int, report: Path | None, as_json: bool) -> None:
    """The models held against published figures; a failure when a hard one does not hold."""
    from bench.pages import prepare_page
    from bench.validation import validate
    from bench.validation.report import KINDS, PAGE, shown, wanted, write_report

    if report is not None:
        prepare_page(report / PAGE, "--report")
    reporter = Reporter(as_json)
    with stop_on_signals() as stop:

        def on_part(name: str) -> None:
            stop.check()
            reporter.stage(name)

        rows = validate(seed, on_part=on_part)
        if report is not None:
            on_part("page with plots")
            reporter.done(f"written to {write_report(report, rows, seed)}")
    if as_json:
        reporter.result({"rows": [row.as_plain() for row in rows]}, [])
    else:
        for kind, (title, _) in KINDS.items():
            lines = [
                (f"{'ok  ' if row.passed else 'FAIL'} {row.id:<3} {row.what}", f"{shown(row.ours)} ({wanted(row)})")
                for row in rows
                if row.kind == kind
            ]
            reporter.result({}, lines, title)
    failing = [f"{row.id} ({row.what})" for row in rows if row.kind == "hard" and not row.passed]
    if failing:
        raise BenchFailure(f"{len(failing)} published figures do not hold: {'; '.join(failing)}")
