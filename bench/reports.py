"""The report of a run: one page with what it was, what came of it, its figures, and where everything is from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.figures import figures
from bench.pages import WHAT, check_page, facts_html, figure_html, page, table_html
from bench.run_facts import brief, ended_early, facts, local
from data.atomic import write_atomically
from data.run_chain import available_chain
from data.runs import Run, RunStatus

BLOCK = 1 << 20


def report_path(run: Run, out: Path | None) -> Path:
    """Where the report goes: beside the run file, if nothing else is said.

    Raises:
        UserMistake: no page can be written there.
    """
    path = run.path.with_suffix(".html") if out is None else out
    check_page(path)
    return path


def write_report(run: Run, path: Path) -> Path:
    """Write the report of a run, whatever its procedure and however it ended.

    Raises:
        UserMistake: it cannot be written there, or the run file is damaged.
    """
    write_atomically(path, report_html(run).encode("utf-8"), WHAT)
    return path


def report_html(run: Run) -> str:
    """The page itself."""
    known = facts(run)
    parts, missing = available_chain(run)
    title = f"{known['procedure']} on {known['chip_id'] or 'a chip that is not named'}"
    return page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f"<p>{escape(_opening(known))}</p>",
            *(f'<p class="alarm">{escape(text)}</p>' for text in _alarms(known, missing)),
            facts_html("Result", [(name, brief(value, 1200)) for name, value in known["result"].items()]),
            *(figure_html(each.title, each.caption, each.figure) for each in figures(run)),
            facts_html("Conditions", _conditions(known)),
            _operating_points(known["operating_points"]),
            facts_html("Provenance", _provenance(known, parts)),
            "<h2>Records</h2>",
            table_html(
                ("table", "records", "what they are", "columns"),
                (
                    (name, str(table["rows"]), table["description"], ", ".join(table["columns"]))
                    for name, table in known["tables"].items()
                ),
            ),
        ],
    )


def _opening(known: Mapping[str, Any]) -> str:
    worlds = {True: "a simulated bench", False: "a real bench", None: "a bench of which the file does not tell more"}
    world = worlds[known["simulated"]]
    cells = "" if known["cells"] is None else f", {known['cells']} cells"
    return f"{local(known['started'])}, {known['seconds']:.1f} s, {known['status']}{cells}, on {world}."


def _alarms(known: Mapping[str, Any], missing: str) -> list[str]:
    alarms = []
    if ended_early(known):
        alarms.append(f"This run ended early: {known['status']}. {known['reason']}")
    if known["status"] == RunStatus.RUNNING:
        alarms.append("This run was still going on when the report was written.")
    if known["in_doubt"]:
        alarms.append(
            f"{known['in_doubt']} operations were sent and never acknowledged: whether they acted is not known."
        )
    if missing:
        alarms.append(f"The figures show this part alone: {missing}")
    return alarms


def _conditions(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [(name, brief(value, 1200)) for name, value in known["parameters"].items()]
    if known["temperature_c"] is not None:
        lines.append(("temperature at the start", f"{known['temperature_c']:.1f} °C"))
    return lines


def _operating_points(points: Mapping[str, Any]) -> str:
    """One row per point, one column per quantity, in the units of the bench file's own names."""
    if not points:
        return ""
    keys = list(dict.fromkeys(key for values in points.values() for key in values))
    rows = ([name, *(brief(values[key]) if key in values else "" for key in keys)] for name, values in points.items())
    return "<h2>Operating points</h2>" + table_html(("point", *keys), rows)


def _provenance(known: Mapping[str, Any], parts: list[Run]) -> list[tuple[str, str]]:
    doubt = known["in_doubt"]
    lines = [
        ("run file", "\n".join(f"{part.path.name}\nsha256 {sha256(part.path)}" for part in parts)),
        ("started", local(known["started"])),
        ("ended", f"{local(known['ended']) if known['ended'] else 'not recorded'}, {known['status']}"),
        ("reason", known["reason"]),
        ("in doubt", "nothing" if doubt == 0 else f"{doubt} operations"),
        ("chip", known["chip_id"]),
        ("bench", known["bench_name"]),
        *((role, str(who)) for role, who in known["instruments"].items()),
        ("seeds", brief(known["seeds"])),
        ("versions", brief(known["versions"])),
        ("computer", ", ".join(filter(None, [known["host"], known["platform"]]))),
        *((name, brief(value)) for name, value in known["other"].items()),
        ("page written by", f"rram-bench {version('rram-bench')}"),
    ]
    return [(name, value) for name, value in lines if value]


def sha256(path: Path) -> str:
    """Digest of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
