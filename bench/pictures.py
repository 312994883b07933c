"""Pictures for people: the array as it was asked for, as it reads, and where the two differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.runs import open_run
from drivers.chip import Verdict

BLUE_ORANGE = ("#c75f10", "#e9e9e9", "#1f5a99")
"""Colours of -1, 0 and +1: told apart by every kind of colour vision, and in grey."""


def array_picture(run_file: Path, picture: Path, title: str) -> Path:
    """Draw an inference run: target and read-back of its first tile, and errors per array cell over all tiles.

    Args:
        run_file: run file of an inference.
        picture: PNG to write.
        title: first line of the picture.
    """
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    tiles = open_run(run_file).read("tiles")
    used = tiles["verdict"] != Verdict.UNUSED
    wrong = (tiles["verdict"] == Verdict.FAILED).sum(axis=0)
    errors = np.where(used.any(axis=0), wrong, np.nan)

    figure = Figure(figsize=(13.6, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    weights = ListedColormap(BLUE_ORANGE)
    norm = BoundaryNorm([-1.5, -0.5, 0.5, 1.5], weights.N)
    for axis, values, name in zip(
        axes, (tiles["target"][0], tiles["sensed"][0]), ("target", "read back"), strict=False
    ):
        image = axis.imshow(np.where(used[0], values, 0), cmap=weights, norm=norm, interpolation="nearest")
        axis.set_title(f"tile 1 of {len(used)}: {name}")
        bar = figure.colorbar(image, ax=axis, ticks=[-1, 0, 1], fraction=0.046)
        bar.ax.set_yticklabels(["−1", "0 or unused", "+1"])
    top = max(1, int(np.nanmax(errors)))
    image = axes[2].imshow(errors, cmap="cividis", vmin=0, vmax=top, interpolation="nearest")
    axes[2].set_title(f"errors: {int(wrong.sum())} of {int(used.sum())} cells in all tiles")
    figure.colorbar(
        image, ax=axes[2], fraction=0.046, label="tiles in which the cell failed", ticks=MaxNLocator(integer=True)
    )
    for axis in axes:
        axis.set_xlabel("column")
        axis.set_ylabel("row")
    figure.suptitle(title)
    figure.savefig(picture, dpi=110)
    return picture
