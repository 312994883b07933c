"""What came of a sweep: a table by condition, the same as CSV, and a plot of a result against a condition."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.sweeping.points import PointStatus
from bench.sweeping.store import Stored, condition_unit
from bench.sweeping.sweep_file import shown
from data.atomic import write_atomically
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.sweeping.sweep_file import Value

MOST_CURVES, MOST_JOINED = 8, 50


@dataclass(frozen=True)
class Group:
    """Points that differ in their seed alone.

    Attributes:
        conditions: what they share.
        values: of each result that is shown, one value for each point that is done.
        done, failed, missing: how many points.
    """

    conditions: dict[str, Value]
    values: dict[str, list[float]]
    done: int
    failed: int
    missing: int

    @property
    def name(self) -> str:
        """The conditions, for people."""
        return ", ".join(f"{name} = {shown(value)}" for name, value in self.conditions.items()) or "all points"


def result_names(stored: Stored) -> list[str]:
    """Names of all results, as they came."""
    return list(dict.fromkeys(name for outcome in stored.outcomes.values() for name in outcome.results))


def chosen_results(stored: Stored, wanted: Sequence[str]) -> list[str]:
    """Results by their names, or by patterns such as ``*.mean``.

    Raises:
        UserMistake: a name or pattern that no result has.
    """
    names = result_names(stored)
    found: list[str] = []
    for pattern in wanted:
        fitting = [name for name in names if name == pattern] or [name for name in names if fnmatch(name, pattern)]
        if not fitting and names:
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            raise UserMistake(f"no result is called {pattern!r}; there are: {', '.join(names[:12])}{more}")
        found += fitting
    return list(dict.fromkeys(found))


def groups(stored: Stored, results: Sequence[str]) -> list[Group]:
    """The points, those with the same conditions together, in the order of the sweep."""
    found: dict[tuple[Value, ...], list[int]] = {}
    for index in range(len(stored.seeds)):
        found.setdefault(tuple(column[index] for column in stored.conditions.values()), []).append(index)
    made = []
    for key, indices in found.items():
        known = [outcome for index in indices if (outcome := stored.outcomes.get(index)) is not None]
        done = [outcome for outcome in known if outcome.status is PointStatus.DONE]
        values = {name: [outcome.results[name] for outcome in done if name in outcome.results] for name in results}
        conditions = dict(zip(stored.conditions, key, strict=True))
        made.append(Group(conditions, values, len(done), len(known) - len(done), len(indices) - len(known)))
    return made


def table(found: Sequence[Group]) -> list[tuple[str, str]]:
    """A line for each group: mean and standard deviation over the seeds."""
    return [(group.name, _line(group)) for group in found]


def _line(group: Group) -> str:
    parts = []
    for name, values in group.values.items():
        if values:
            spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
            parts.append(f"{name} {np.mean(values):.6g}{spread}")
    counts = [f"{group.done} done"]
    if group.failed:
        counts.append(f"{group.failed} failed")
    if group.missing:
        counts.append(f"{group.missing} missing")
    return "; ".join([*parts, ", ".join(counts)])


def write_csv(path: Path, stored: Stored) -> None:
    """All points with their conditions and results. Raises UserMistake when it cannot be written there."""
    results, text = result_names(stored), io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["point", *stored.conditions, "seed", "status", *results, "processor_s", "error"])
    for index, seed in enumerate(stored.seeds):
        outcome = stored.outcomes.get(index)
        where = [index, *(column[index] for column in stored.conditions.values()), seed]
        if outcome is None:
            writer.writerow([*where, PointStatus.MISSING, *("" for _ in results), "", ""])
        else:
            numbers = (outcome.results.get(name, "") for name in results)
            writer.writerow([*where, outcome.status, *numbers, outcome.processor_s, outcome.error])
    write_atomically(path, text.getvalue().encode(), "table of the points")


def plot(path: Path, stored: Stored, results: Sequence[str], against: str | None) -> None:
    """Results against a condition: a point for each value of it, with the spread over everything else.

    Args:
        against: a condition; by default the first that is a number and varies.

    Raises:
        UserMistake: no such condition, or nothing to draw, or it cannot be written there.
    """
    numeric = [
        name
        for name, column in stored.conditions.items()
        if len(set(column)) > 1 and not any(isinstance(value, str) for value in column)
    ]
    if against is None and not numeric:
        raise UserMistake("no condition of this sweep is a number that varies; there is nothing to plot against")
    condition = numeric[0] if against is None else against
    if condition not in stored.conditions:
        raise UserMistake(f"no condition is called {condition!r}; there are: {', '.join(stored.conditions)}")
    if not any(outcome.results for outcome in stored.outcomes.values()):
        raise UserMistake("no point is done yet; there is nothing to plot")
    picture, drawn = io.BytesIO(), figure(stored, results, condition)
    kind = path.suffix[1:].lower() if path.suffix else "png"
    if kind not in (kinds := drawn.canvas.get_supported_filetypes()):
        raise UserMistake(f"no picture is written as .{kind}; name a file that ends in one of: {', '.join(kinds)}")
    drawn.savefig(picture, format=kind)
    write_atomically(path, picture.getvalue(), "picture")


def figure(stored: Stored, results: Sequence[str], condition: str) -> Figure:
    """The plot itself: a curve for each result and each set of the other conditions, or one for all where many."""
    from bench.figures.style import looks, panels

    drawn, (axis,) = panels(1, 7.5)
    column = stored.conditions[condition]
    at = list(dict.fromkeys(column))
    texts = any(isinstance(value, str) for value in at)
    at = at if texts else sorted(at, key=float)
    curves: dict[str, dict[Value, list[float]]] = {}
    others = [name for name in stored.conditions if name != condition]
    pooled = len({tuple(stored.conditions[name][index] for name in others) for index in stored.outcomes})
    for index, outcome in sorted(stored.outcomes.items()):
        where = [f"{name} = {shown(stored.conditions[name][index])}" for name in others]
        for name in results:
            if name in outcome.results:
                label = ", ".join([name, *(where if pooled * len(results) <= MOST_CURVES else ())])
                curves.setdefault(label, {}).setdefault(column[index], []).append(outcome.results[name])
    few = len(at) <= MOST_JOINED  # of a sample each value comes once: a cloud, and no line
    for (label, values), (colour, marker) in zip(curves.items(), looks(len(curves)), strict=True):
        places = [place for place in at if place in values]
        means = [np.mean(values[place]) for place in places]
        spreads = [np.std(values[place], ddof=1) if len(values[place]) > 1 else 0.0 for place in places]
        line = "-" if few else "none"
        axis.errorbar(places, means, spreads, None, "", color=colour, marker=marker, linestyle=line, label=label)
    unit = condition_unit(condition)
    axis.set_xlabel(condition if unit == "1" else f"{condition} ({unit})")
    axis.set_ylabel(f"{results[0] if len(results) == 1 else 'result'}, mean ± s.d.")
    numbers = [float(value) for value in at if not isinstance(value, str)]
    if numbers and not texts and min(numbers) > 0.0 and max(numbers) > 50.0 * min(numbers):
        axis.set_xscale("log")
    axis.legend(loc="best", fontsize=8.5)
    return drawn
