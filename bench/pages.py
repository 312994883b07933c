"""Pages for people: one HTML file each, pictures within, readable without a network and on paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures.style import DPI
from data.atomic import check_writable
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
th.number, td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.what { width: 36%; }
tr.fails { background: #fbe3d6; font-weight: 600; }
table.facts { width: auto; min-width: 50%; }
table.facts th { font-weight: 600; white-space: nowrap; width: 14rem; }
td { overflow-wrap: anywhere; white-space: pre-line; }
p.alarm { background: #fbe3d6; border-left: 4px solid #b3121d; padding: .5rem .8rem; font-weight: 600; }
img { max-width: 100%; height: auto; }
figure { margin: 1.5rem 0 2.5rem; }
figcaption { max-width: 60rem; color: #444; }
@media print {
  body { margin: 0; max-width: none; font-size: 11px; }
  table { font-size: 10px; }
  figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""


SUFFIXES = (".html", ".htm")
WHAT = "report"
"""What a page is called where it cannot be written."""


def check_page(path: Path) -> None:
    """Refuse a place where no page can be written, before the work is done.

    Raises:
        UserMistake: the name does not end in .html, or nothing can be written there.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserMistake(f"the report {path} is a page; let its name end in .html")
    check_writable(path, WHAT)


def prepare_page(path: Path, option: str) -> None:
    """Make the folder of a page and see that it can be written, so that a mistake shows before the work is done.

    Args:
        path: of the page.
        option: that names another folder.

    Raises:
        UserMistake: the folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = f"{path.parent}: {error.strerror}"
        raise UserMistake(f"cannot make the folder {where}; name another with {option}") from None
    check_writable(path, WHAT)


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page around ``parts``, which are HTML already."""
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body>",
            *parts,
            "</body></html>",
        ]
    )


def figure_html(title: str, caption: str, figure: Figure) -> str:
    """A figure with its heading and caption, the picture within the page."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DPI)
    data = base64.b64encode(image.getvalue()).decode("ascii")
    return (
        f"<h2>{escape(title)}</h2><figure>"
        f'<img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def facts_html(title: str, lines: Sequence[tuple[str, str]]) -> str:
    """A heading and a table of names and values; nothing where there are none."""
    if not lines:
        return ""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in lines)
    return f'<h2>{escape(title)}</h2><table class="facts"><tbody>{rows}</tbody></table>'


def table_html(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a header."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
