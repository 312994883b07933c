"""What a person reads of a wafer: a table and a map in text, and a page with figures."""

from __future__ import annotations

from html import escape
from importlib.metadata import version
from pathlib import Path

from bench.figures.style import engineering
from bench.figures.wafer import wafer_figures
from bench.pages import WHAT, facts_html, figure_html, page, table_html
from bench.run_facts import brief, flat, local
from bench.wafer_results import FILE, FORMED, DieRecord, WaferRecord
from calibration.estimate import Estimate
from data.atomic import write_atomically
from drivers.prober_role import Die

REPORT = "report.html"
NOT_TOLD = "not told"
MOST_TOLD = 10.0
"""An interval of the edge against the middle whose ends differ by more than this factor tells nothing."""
GOOD, BAD, FAILED, UNMEASURED = "o", "!", "x", "."


def yield_text(record: WaferRecord) -> str:
    """How many dies are good, with the interval of the share."""
    share = record.yield_
    if share is None:
        return "no die measured yet"
    measured = len(record.dies)
    return (
        f"{record.good} of {measured} measured dies, {record.good / measured:.0%} (95 % interval {share.low:.0%} to "
        f"{share.high:.0%})"
    )


def text_map(record: WaferRecord) -> str:
    """The wafer map in letters, one line a row, as it lies on the prober's map."""
    known = record.record_of
    columns, rows = zip(*record.route, strict=True)
    lines = []
    for row in range(min(rows), max(rows) + 1):
        letters = []
        for column in range(min(columns), max(columns) + 1):
            die = Die(column, row)
            if die in known:
                bad = BAD if record.criteria.faults(known[die]) else GOOD
                letters.append(FAILED if known[die].failed else bad)
            else:
                letters.append(UNMEASURED if die in record.route else " ")
        lines.append(" ".join(letters).rstrip())
    return "\n".join(lines)


def described(record: WaferRecord, name: str) -> tuple[str, str, str]:
    """A parameter over the wafer in words: its mean, the spread between dies, and the edge against the middle."""
    across = record.across(name)
    if across is None:
        values, unit = record.values(name).values(), record.units[name]
        return f"{shown(min(values), unit)} to {shown(max(values), unit)}", NOT_TOLD, NOT_TOLD
    told, edge = with_interval(across.mean), across.edge
    if not across.relative:
        return told, shown(across.spread, edge.unit), with_interval(edge)
    spread = f"{100.0 * across.spread:.1f} %"
    if edge.high > MOST_TOLD * edge.low:
        return told, spread, NOT_TOLD
    value, low, high = (f"{100.0 * (each - 1.0):+.1f} %" for each in (edge.value, edge.low, edge.high))
    return told, spread, f"{value} ({low} to {high})"


def with_interval(found: Estimate) -> str:
    """A number in three digits, with its interval."""
    value, low, high = (shown(each, found.unit) for each in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def shown(value: float, unit: str) -> str:
    """A number in three digits, with its unit."""
    if unit == "ohm":
        return engineering(value, "Ω")
    return f"{value:.3g}" if unit == "1" else f"{value:.3g} {unit}"


def summary(record: WaferRecord) -> list[tuple[str, str]]:
    """Lines of the table that the command line shows."""
    lines = [
        ("good dies", yield_text(record)),
        (f"map: {GOOD} good, {BAD} not good, {FAILED} failed, {UNMEASURED} not measured", text_map(record)),
    ]
    for name in record.units:
        if name == FORMED:
            shares = record.values(FORMED).values()
            lines.append(("cells formed", f"{min(shares):.2%} to {max(shares):.2%} of a die's"))
            continue
        mean, spread, edge = described(record, name)
        told = mean if spread == edge else f"{mean}; between dies {spread}; edge against middle {edge}"
        lines.append((name, told))
    return lines


def write_wafer_report(folder: Path, record: WaferRecord) -> Path:
    """Write the page of a wafer into its folder. Raises UserMistake when that cannot be."""
    path = folder / REPORT
    write_atomically(path, wafer_html(record).encode("utf-8"), WHAT)
    return path


def wafer_html(record: WaferRecord) -> str:
    """The page itself."""
    title = f"Wafer {record.wafer}"
    world = "a simulated bench" if record.simulated else "a real bench"
    left = len(record.route) - len(record.dies)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(local(record.started))}, on {world}: {escape(yield_text(record))}.</p>",
    ]
    if left:
        parts.append(f'<p class="alarm">{left} dies of the map were not measured.</p>')
    figures = {item.name: figure_html(item.title, item.caption, item.figure) for item in wafer_figures(record)}
    parts.append(figures.pop("wafer-verdicts"))
    parts += [
        "<h2>Over the wafer</h2>",
        table_html(
            ("quantity", "mean, with its 95 % interval", "between dies", "edge against middle"),
            ((name, *described(record, name)) for name in record.units if name != FORMED),
        ),
        "<p>Between dies: standard deviation beyond what the intervals of the fits explain. Edge against middle: of a "
        "bowl that goes with the square of the radius. Where nothing is told there are fewer than four dies, or rates "
        "of which no event was seen, and the range of the values stands in place of the mean.</p>",
        *figures.values(),
        "<h2>Dies</h2>",
        table_html(
            ("die", "verdict", "cells formed", "seconds", "device file"), (_row(record, die) for die in record.dies)
        ),
        facts_html("Measured with", [(name, brief(value)) for name, value in flat(record.settings).items()]),
        facts_html(
            "Provenance",
            [
                ("bench", record.bench_name),
                ("started", local(record.started)),
                ("criteria", brief(record.criteria.model_dump())),
                ("versions", brief(record.versions)),
                ("read from", FILE),
                ("page written by", f"rram-bench {version('rram-bench')}"),
            ],
        ),
    ]
    return page(title, parts)


def _row(record: WaferRecord, die: DieRecord) -> tuple[str, ...]:
    faults = record.criteria.faults(die)
    formed = "before" if die.formed_cells is None else f"{die.formed_cells} of {die.cells}"
    return str(die.die), "\n".join(faults) or "good", formed, f"{die.seconds:.1f}", die.device_file or "none"
