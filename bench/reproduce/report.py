"""A reproduction as one page: a single HTML file that needs no network."""

from __future__ import annotations

import platform
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path

from bench.pages import WHAT, facts_html, figure_html, page
from bench.reproduce.frame import Reproduction, Row, Size, Verdict
from data.atomic import write_atomically

_HEAD = '<th>figure</th><th class="number">published</th><th class="number">ours</th><th>verdict</th>'
_EXPLANATION = (
    "reproduced: our figure lies within the stated tolerance. ordering: only the order or a bound is certain, or can "
    "be asked of a run of this size, and it holds. not reproduced: neither."
)


def page_path(folder: Path, name: str, quick: bool) -> Path:
    """Where the page of a system goes."""
    return folder / f"{name}{'-quick' if quick else ''}.html"


def write_page(path: Path, reproduction: Reproduction, quick: bool, size: Size) -> None:
    """Write the page of a reproduction; an old one is replaced.

    Raises:
        UserMistake: it cannot be written there.
    """
    changed = ", ".join(f"{name} {value}" for name, value in size.given().items())
    how = "Scaled down: --quick." if quick else f"Not of the full size: {changed}." if changed else "In full."
    made = f"{date.today()}, rram-bench {version('rram-bench')}, Python {platform.python_version()}"
    holding = sum(row.verdict is not Verdict.NOT_REPRODUCED for row in reproduction.rows)
    text = page(
        f"Reproduction: {reproduction.name}",
        [
            f"<h1>Reproduction: {escape(reproduction.name)}</h1>",
            f"<p>{how} {holding} of {len(reproduction.rows)} figures hold. {escape(made)}.</p>",
            _table(reproduction.rows),
            f"<p>{_EXPLANATION}</p>",
            *(f"<p>{escape(note)}</p>" for note in reproduction.notes),
            *(figure_html(one.title, one.caption, one.figure) for one in reproduction.figures),
            facts_html("What was run", list(reproduction.settings.items())),
        ],
    )
    write_atomically(path, text.encode(), WHAT)


def shown(value: float | str | None) -> str:
    """A figure for people: four digits."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"


def _table(rows: tuple[Row, ...]) -> str:
    lines = [f"<table><thead><tr>{_HEAD}</tr></thead><tbody>"]
    for row in rows:
        opening = '<tr class="fails">' if row.verdict is Verdict.NOT_REPRODUCED else "<tr>"
        numbers = "".join(f'<td class="number">{escape(shown(value))}</td>' for value in (row.published, row.ours))
        lines.append(f'{opening}<td class="what">{escape(row.what)}</td>{numbers}<td>{row.verdict}</td></tr>')
    return "".join([*lines, "</tbody></table>"])
