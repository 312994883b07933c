"""The picture that the loop leaves: the array as it was asked for, as it reads, and where the two differ."""

from __future__ import annotations

from pathlib import Path

from bench.figures.maps import tiles_figure
from bench.figures.records import Records
from bench.figures.style import DPI
from data.runs import open_run


def array_picture(run_file: Path, picture: Path, title: str) -> Path:
    """Draw an inference run: target and read-back of its first tile, and errors per array cell over all tiles.

    Args:
        run_file: run file of an inference.
        picture: PNG to write.
        title: first line of the picture.
    """
    tiles_figure(Records(open_run(run_file)), title).savefig(picture, dpi=DPI)
    return picture
