"""Looks that all figures share. Colours are told apart by every kind of colour vision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.resistance import outlying

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION, PURPLE, BLACK, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#000000",
    "#8a8a8a",
)
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, BLACK, GREY)
MARKERS = "osD^v<>"
UNMEASURED = "#f4f4f4"
DPI = 110

QUANTILE_REACH = 3.6
BEYOND_MEMBERS = 3.0
"""A resistance axis ends at this factor beyond the populations on it."""
_PERCENTS = (0.1, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9)


def panels(columns: int, width: float = 11.0, height: float = 4.4) -> tuple[Figure, Any]:
    """A figure with ``columns`` axes side by side, with a quiet grid."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, axes


def looks(count: int) -> Iterator[tuple[str, str]]:
    """Colour and marker for each of ``count`` curves; both change, so that few readers mix two up."""
    for index in range(count):
        yield CYCLE[index % len(CYCLE)], MARKERS[index % len(MARKERS)]


def quantile_axis(axis: Any, reach: float = QUANTILE_REACH) -> None:
    """Percent of the devices on a normal-quantile scale along y: log-normal populations become straight lines."""
    from scipy.special import ndtri

    percents = [percent for percent in _PERCENTS if abs(ndtri(percent / 100.0)) <= reach]
    axis.set(ylabel="cumulative share of devices (%)", ylim=(-reach, reach))
    axis.set_yticks(ndtri(np.array(percents) / 100.0), [f"{percent:g}" for percent in percents])


def cumulative(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sorted values and their normal quantiles, at most about 400 points of them; infinite ones keep their share."""
    from scipy.special import ndtri

    ordered = np.sort(values)
    quantiles = ndtri((np.arange(len(ordered)) + 0.5) / len(ordered))
    shown = np.isfinite(ordered)
    if len(ordered) > 400:
        few = np.unique(np.searchsorted(quantiles, np.linspace(quantiles[0], quantiles[-1], 400)))
        chosen = np.zeros(len(ordered), dtype=bool)
        chosen[few.clip(0, len(ordered) - 1)] = True
        shown &= chosen
    return ordered[shown], quantiles[shown]


def engineering(value: float, unit: str) -> str:
    """A quantity with an SI prefix, three digits: 7.02 kΩ."""
    from matplotlib.ticker import EngFormatter

    return str(EngFormatter(unit=unit, places=None)(float(f"{value:.3g}")))


def ohm_axis(axis: Any, direction: str = "y", groups: Sequence[NDArray[np.float64]] = ()) -> None:
    """Resistance on a log axis, with SI prefixes.

    Args:
        groups: the populations that are drawn, ``(devices,)`` or ``(devices, points)`` each. Where devices lie far out
            of them the axis ends half a decade beyond the members, and its label says how many are out of range.
    """
    label, members = "resistance (Ω)", members_ohm(groups)
    # before the limits are set: one that is left open is then found among positive numbers
    getattr(axis, f"set_{direction}scale")("log")
    if members is not None:
        low, high = members[0] / BEYOND_MEMBERS, members[1] * BEYOND_MEMBERS
        finite = [np.where(np.isfinite(each), each, np.nan).reshape(len(each), -1) for each in groups]
        below = sum(int((each < low).any(axis=1).sum()) for each in finite)
        above = sum(int((each > high).any(axis=1).sum()) for each in finite)
        limits = (low if below else None, high if above else None)
        getattr(axis, f"set_{direction}lim")(*limits)
        told = [f"{number} {side}" for number, side in ((below, "below"), (above, "above")) if number]
        label += f"; out of range: {', '.join(told)}" if told else ""
    logarithmic(axis, direction, "Ω")
    getattr(axis, f"set_{direction}label")(label)


def members_ohm(groups: Iterable[NDArray[np.float64]]) -> tuple[float, float] | None:
    """The range in ohm of devices that belong to their populations; None where nothing finite was measured.

    Args:
        groups: resistances of one population each. Open devices read some TΩ, which is the meter's noise, and would
            press everything else on an axis together.
    """
    ends: list[float] = []
    for values in groups:
        known = values[np.isfinite(values) & (values > 0.0)]
        kept = known[~outlying(np.log(known))]
        ends += [float(kept.min()), float(kept.max())] if kept.size else []
    return (min(ends), max(ends)) if ends else None


def logarithmic(axis: Any, direction: str, unit: str = "") -> None:
    """A log axis with SI prefixes, marked at 1, 2 and 5 where it spans less than two decades."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    getattr(axis, f"set_{direction}scale")("log")
    low, high = getattr(axis, f"get_{direction}lim")()
    subs = (1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,)
    scale = getattr(axis, f"{direction}axis")
    scale.set_major_locator(LogLocator(subs=subs))
    scale.set_major_formatter(EngFormatter(unit=unit))
    scale.set_minor_formatter(NullFormatter())


def share_axis(axis: Any, label: str) -> None:
    """Shares on a log axis, from well below the smallest one drawn up to 1."""
    from matplotlib.ticker import NullFormatter

    drawn = [value for line in axis.get_lines() for value in np.asarray(line.get_ydata(), dtype=float)]
    positive = [value for value in drawn if np.isfinite(value) and value > 0.0]
    axis.set(yscale="log", ylabel=label, ylim=(min(positive, default=0.1) / 5.0, 1.3))
    axis.yaxis.set_minor_formatter(NullFormatter())
