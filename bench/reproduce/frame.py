"""What all reproductions share: rows with verdicts, what a system is told, and how a system is described."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.stopping import Stopped
from models.exceptions import BenchFailure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Verdict(StrEnum):
    """How our figure stands to the published one.

    REPRODUCED: within the stated tolerance.
    ORDERING: only the order (or a bound) is certain or can be asked of this run, and it holds.
    NOT_REPRODUCED: neither.
    """

    REPRODUCED = "reproduced"
    ORDERING = "ordering"
    NOT_REPRODUCED = "not reproduced"


def reproduced(value: float, published: float, tolerance: float) -> Verdict:
    """Whether ``value`` lies within ``tolerance`` of ``published``; all three in the same unit."""
    return Verdict.REPRODUCED if abs(value - published) <= tolerance else Verdict.NOT_REPRODUCED


def ordering(condition: bool) -> Verdict:
    """Whether an ordering holds."""
    return Verdict.ORDERING if condition else Verdict.NOT_REPRODUCED


@dataclass(frozen=True)
class Row:
    """A published figure and ours.

    Attributes:
        what: the figure in words, with its unit.
        published: as published; text where no digits are, None where nothing is published.
        ours: as computed in this run.
        verdict: how the two stand.

    Raises:
        BenchFailure: our figure is no finite number.
    """

    what: str
    published: float | str | None
    ours: float | str
    verdict: Verdict

    def __post_init__(self) -> None:
        """Refuse what JSON and a reader cannot take."""
        if not isinstance(self.ours, str) and not math.isfinite(self.ours):
            raise BenchFailure(f"the reproduction gives {self.ours} for: {self.what}")

    def as_plain(self) -> dict[str, Any]:
        """The row as the command line gives it away."""
        ours = self.ours if isinstance(self.ours, str) else float(self.ours)
        return {"what": self.what, "published": self.published, "ours": ours, "verdict": self.verdict.value}


@dataclass(frozen=True)
class Picture:
    """A figure of the report page.

    Attributes:
        title: heading above it.
        caption: what is seen, in words; also what a reader who cannot see it gets.
        figure: drawn with :mod:`bench.figures.style`.
    """

    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Reproduction:
    """What came of a system.

    Attributes:
        name: of the system.
        rows: figures beside the published ones.
        figures: pictures for the report.
        notes: what a reader must know to judge the rows: what differs from the source, what was not run.
        settings: what was run, by name: sizes, epochs, seeds, data.
    """

    name: str
    rows: tuple[Row, ...]
    figures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a system is told.

    Attributes:
        quick: a scaled-down run on digits or generated data, of a minute or so, instead of the whole.
        seed: of every random draw.
        folder: where checkpoints go; it exists in a full run.
        data_dir: folder of data sets; None for that of RRAM_BENCH_DATA.
        device: "cpu" or "cuda".
        progress: told what is being done, and the share of the whole that is done.
        should_stop: asked often; true once somebody asked for a stop.
    """

    quick: bool
    seed: int
    folder: Path
    data_dir: Path | None
    device: str
    progress: Callable[[str, float], None]
    should_stop: Callable[[], bool]

    def checkpoint(self, name: str) -> Path | None:
        """File from which the training called ``name`` goes on after a stop; None in a quick run, which keeps none."""
        return None if self.quick else self.folder / f"{name}.safetensors"

    def check(self) -> None:
        """Raise Stopped when a stop was asked for."""
        if self.should_stop():
            kept = "" if self.quick else f"; the same command goes on from the checkpoints in {self.folder}"
            raise Stopped(f"stopped on request{kept}")


@dataclass(frozen=True)
class System:
    """A system that can be reproduced.

    Attributes:
        name: what a person asks for.
        summary: one line.
        run: does the work.
    """

    name: str
    summary: str
    run: Callable[[Context], Reproduction]
