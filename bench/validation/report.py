"""The rows as one page with plots: a single HTML file that needs no network."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.pages import WHAT, figure_html, page, prepare_page
from bench.validation.figures import packaged_reference
from bench.validation.plots import PLOTS
from bench.validation.rows import Row
from bench.validation.subject import Subject
from data.atomic import write_atomically

PAGE = "validation.html"
PLOT_STREAM = 0x707

KINDS = {
    "hard": (
        "Published figures",
        "The source states the figure, or it follows from what the source states. All must hold.",
    ),
    "ordering": (
        "Orderings and remembered figures",
        "Only the order is certain, or the figure is remembered and could not be read. Not to be taken as digits.",
    ),
}
NOT_COVERED = (
    "Not covered: accuracy on CIFAR-10 at a bit error rate of 1e-3 (it needs a convolutional network trained on "
    "CIFAR-10), MNIST itself, and whatever was measured under conditions that no source names. Not reproduced: 2T2R "
    "that stays two to three decades below 1T1R after 7e8 cycles, since the HRS of the device file spreads three times "
    "as much as the LRS."
)

_VERDICTS = {True: "holds", False: "FAILS"}

_HEAD = (
    '<th></th><th>figure</th><th class="number">expected</th><th class="number">ours</th>'
    "<th>tolerance</th><th>verdict</th><th>source</th>"
)


def write_report(folder: Path, rows: Sequence[Row], seed: int, subject: Subject | None = None) -> Path:
    """Write the page into ``folder``, which is made if it is missing.

    Args:
        rows: from :func:`bench.validation.validate`.
        seed: of the random draws of the plots, and named on the page.
        subject: what the rows are of; the parameter files of the package when None.

    Returns:
        The page's path.

    Raises:
        UserMistake: the folder cannot be made or written to.
    """
    path = folder / PAGE
    prepare_page(path, "--report")
    write_atomically(path, _page(rows, seed, Subject.packaged() if subject is None else subject).encode("utf-8"), WHAT)
    return path


def shown(value: float | str) -> str:
    """A figure for people: four digits."""
    return value if isinstance(value, str) else f"{value:.4g}"


def wanted(row: Row) -> str:
    """What a row must come to, for people; a bound says it all."""
    return row.tolerance if row.tolerance.startswith("at ") else f"{shown(row.expected)}, {row.tolerance}"


def _page(rows: Sequence[Row], seed: int, subject: Subject) -> str:
    passed = sum(row.passed for row in rows if row.kind == "hard")
    hard = sum(row.kind == "hard" for row in rows)
    made = (
        f"{date.today()}, rram-bench {version('rram-bench')}, Python {platform.python_version()}, seed {seed}; "
        f"populations {subject.device.name} and {subject.ternary.name}, conditions {subject.conditions.name}"
    )
    return page(
        "Validation",
        [
            "<h1>Models against published figures</h1>",
            f"<p>{passed} of {hard} published figures hold. {escape(made)}.</p>",
            *(_table(kind, [row for row in rows if row.kind == kind]) for kind in KINDS),
            f"<p>{escape(NOT_COVERED)}</p>",
            *_plots(subject, seed),
        ],
    )


def _table(kind: str, rows: Sequence[Row]) -> str:
    title, explanation = KINDS[kind]
    lines = [f"<h2>{title}</h2><p>{explanation}</p><table><thead><tr>{_HEAD}</tr></thead><tbody>"]
    for row in rows:
        opening = "<tr>" if row.passed else '<tr class="fails">'
        numbers = "".join(f'<td class="number">{escape(shown(value))}</td>' for value in (row.expected, row.ours))
        texts = "".join(f"<td>{escape(text)}</td>" for text in (row.tolerance, _VERDICTS[row.passed], row.source))
        lines.append(f'{opening}<td>{row.id}</td><td class="what">{escape(row.what)}</td>{numbers}{texts}</tr>')
    return "".join([*lines, "</tbody></table>"])


def _plots(subject: Subject, seed: int) -> Iterable[str]:
    reference = packaged_reference()
    for number, plot in enumerate(PLOTS):
        figure = plot.draw(subject, reference, np.random.default_rng([seed, PLOT_STREAM, number]))
        yield figure_html(plot.title, plot.caption, figure)
