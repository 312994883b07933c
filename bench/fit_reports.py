"""The page of a fit: parameters against the base file, data over fit, residuals, checks, outliers, provenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.figures.style import BLUE, GREY, VERMILION, logarithmic, panels
from bench.pages import WHAT, facts_html, figure_html, page, table_html
from bench.run_facts import brief, facts, local
from calibration.estimate import COVERAGE, Estimate
from calibration.result import Check, Fit, Overlay, provenance
from calibration.tables import TableRun
from data.atomic import write_atomically
from data.device_files import DeviceFile
from data.run_chain import available_chain
from data.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_VALUE = "-"


def write_fit_report(path: Path, kind: str, fit: Fit, runs: Sequence[Run], base: DeviceFile) -> Path:
    """Write the page of a fit.

    Args:
        kind: name of the fit.
        runs: what was fitted.
        base: what the numbers are compared with, and where the others come from.

    Raises:
        UserMistake: it cannot be written there.
    """
    write_atomically(path, fit_report_html(kind, fit, runs, base).encode("utf-8"), WHAT)
    return path


def fit_report_html(kind: str, fit: Fit, runs: Sequence[Run], base: DeviceFile) -> str:
    """The page itself."""
    chips = ", ".join(dict.fromkeys(str(run.attributes.get("chip_id", run.path.stem)) for run in runs))
    title = f"Fit of {kind} to {chips}"
    verdict = "The fit converged" if fit.converged else "The fit did not converge, and no device file was written"
    failed = [item.text for item in fit.checks if not item.good and not _told(item, fit.problems)]
    alarms = [*fit.problems, *failed]
    return page(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f"<p>{verdict}; {fit.devices} devices, intervals of {COVERAGE:.0%}.</p>",
            *(f'<p class="alarm">{escape(text)}</p>' for text in alarms),
            "<h2>Parameters</h2>",
            table_html(("parameter", "fitted", "from", "to", "unit", "base file", "against base"), _rows(fit, base)),
            *(f"<p>{escape(line)}</p>" for line in fit.report),
            *(figure_html(each.title, caption(each), draw(each)) for each in fit.overlays),
            *_checks(fit.checks),
            *_comparisons(fit),
            *_outliers(fit),
            facts_html("Conditions", [line for run in runs for line in _conditions(run)]),
            facts_html("Provenance", list(_provenance(runs, base))),
        ],
    )


def _told(item: Check, problems: Sequence[str]) -> bool:
    """Whether a fit named this check among its problems already."""
    return any(item.text in problem for problem in problems)


def against(found: Estimate, base: float) -> str:
    """Where a value of the base file lies."""
    if found.low <= base <= found.high:
        return "inside the interval"
    return "below the interval" if base < found.low else "above the interval"


def _rows(fit: Fit, base: DeviceFile) -> Iterator[tuple[str, ...]]:
    for name, found in fit.parameters.items():
        known = base.quantities.get(name)
        compared = (NO_VALUE, NO_VALUE) if known is None else (f"{known.value:.4g}", against(found, known.value))
        numbers = (f"{number:.4g}" for number in (found.value, found.low, found.high))
        yield (name, *numbers, "" if found.unit == "1" else found.unit, *compared)


def caption(item: Overlay) -> str:
    """What is seen in the figure of an overlay, in words."""
    return (
        f"{item.y_label} against {item.x_label}: measured (points with their interval) and fitted (line with its "
        "interval), and what is left between them."
    )


def draw(item: Overlay) -> Figure:
    """Data over fit on the left, residuals on the right."""
    figure, (left, right) = panels(2)
    measured, fitted = item.measured, item.fitted
    left.fill_between(fitted.x, fitted.low, fitted.high, color=BLUE, alpha=0.2, linewidth=0.0)
    left.plot(fitted.x, fitted.median, color=BLUE, linewidth=1.8, label="fitted")
    left.errorbar(
        measured.x,
        measured.median,
        _bars(item),
        fmt="o",
        color=VERMILION,
        markersize=4,
        linewidth=1.0,
        label="measured",
    )
    left.set(xlabel=item.x_label, ylabel=item.y_label)
    left.legend(fontsize=9)
    left.set_title(item.title, fontsize=11)
    centre, low, high = (_at(item, values) for values in (fitted.median, fitted.low, fitted.high))
    right.axhline(0.0, color=GREY, linewidth=1.0)
    right.fill_between(measured.x, _rest(item, low, centre), _rest(item, high, centre), color=BLUE, alpha=0.2, lw=0.0)
    right.errorbar(
        measured.x,
        _rest(item, measured.median, centre),
        np.abs([_rest(item, end, measured.median) for end in (measured.low, measured.high)]),
        fmt="o",
        color=VERMILION,
        markersize=4,
        linewidth=1.0,
    )
    right.set(xlabel=item.x_label, ylabel="ln(measured / fitted)" if item.log_y else "measured - fitted")
    right.set_title("what is left", fontsize=11)
    _scales(item, left, right)
    return figure


def _bars(item: Overlay) -> NDArray[np.float64]:
    """Lengths of the error bars; an interval that does not contain its own median has none on that side."""
    measured = item.measured
    below, above = measured.median - measured.low, measured.high - measured.median
    return np.maximum([below, above], 0.0)


def _at(item: Overlay, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The fitted curve at the measured points, between its own points on the scales of the plot."""
    fitted = item.fitted
    order = np.argsort(fitted.x)
    x, known = fitted.x[order], values[order]
    along_log = item.log_x and x[0] > 0.0 and bool((item.measured.x > 0.0).all())
    if along_log:
        return np.asarray(np.interp(np.log(item.measured.x), np.log(x), known))
    return np.asarray(np.interp(item.measured.x, x, known))


def _rest(item: Overlay, values: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    if not item.log_y:
        return values - centre
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(values / centre)
    return np.where(np.isfinite(ratio), ratio, np.nan)


def _scales(item: Overlay, left: Any, right: Any) -> None:
    if item.log_y:
        left.set_yscale("log")
    if not item.log_x:
        return
    x = np.concatenate([item.measured.x, item.fitted.x])
    for axis in (left, right):
        if (x > 0.0).all():
            logarithmic(axis, "x")
        elif (x >= 0.0).all() and x.any():
            # linear up to the first pulses, so that the reading before them has a place
            start = float(x[x > 0.0].min())
            axis.set_xscale("symlog", linthresh=start)
            axis.set_xlim(left=-0.3 * start)


def _checks(checks: Sequence[Check]) -> Iterator[str]:
    if not checks:
        return
    yield "<h2>Checks: the data against data drawn from the fit</h2>"
    rows = (
        (
            "holds" if item.good else "FAILS",
            item.name,
            *(f"{number:.4g}" for number in (item.value, item.low, item.high)),
            item.text,
        )
        for item in checks
    )
    yield table_html(("verdict", "what", "measured", "predicted from", "to", "in words"), rows)


def _comparisons(fit: Fit) -> Iterator[str]:
    if not fit.comparisons:
        return
    yield "<h2>Which model the data prefer</h2>"
    rows = ((item.question, item.winner, f"{item.evidence:.1f}", item.text) for item in fit.comparisons)
    yield table_html(("question", "answer", "evidence (difference of the criteria)", "in words"), rows)


def _outliers(fit: Fit) -> Iterator[str]:
    yield "<h2>Devices left out</h2>"
    if not fit.outliers:
        yield "<p>None.</p>"
        return
    yield table_html(("device", "why"), ((item.address, item.reason) for item in fit.outliers))


def _conditions(run: Run) -> Iterator[tuple[str, str]]:
    if isinstance(run, TableRun):
        yield run.path.name, f"plain table of {len(run.names)} devices"
        return
    known = facts(run)
    yield run.path.name, f"{known['procedure']} on {known['chip_id']}, {local(known['started'])}, {known['status']}"
    yield from ((f"  {name}", brief(value, 400)) for name, value in known["parameters"].items())
    yield from (
        (f"  {name}", ", ".join(f"{key} {brief(value)}" for key, value in point.items()))
        for name, point in known["operating_points"].items()
    )


def _provenance(runs: Sequence[Run], base: DeviceFile) -> Iterator[tuple[str, str]]:
    for run in runs:
        parts, missing = available_chain(run)
        for part in parts:
            yield part.path.name, provenance(part)
        if missing:
            yield "missing", missing
    yield "base file", base.name
    yield "fitted by", f"rram-bench {version('rram-bench')}, {local(datetime.now().astimezone().isoformat())}"
