"""What all reproductions share: rows with verdicts, what a system is told, and how a system is described."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.stopping import Stopped
from models.exceptions import BenchFailure, UserMistake
from models.processes import agreed

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


HELD_OUT_AT_LEAST = 200
"""Examples: with fewer an accuracy of 90 % is uncertain by more than two points, and nothing is concluded from it."""


def enough(held_out: int) -> bool:
    """Whether so many held-out examples can tell one accuracy from another."""
    return held_out >= HELD_OUT_AT_LEAST


def examples_in_words(held_out: int) -> str:
    """How many they are, and that they are too few where that is so."""
    too_few = "" if enough(held_out) else f", too few for a verdict, which takes {HELD_OUT_AT_LEAST}"
    return f"{held_out} held-out examples{too_few}"


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
class Size:
    """What a person wants of another size than the full run has it; None leaves it as it is.

    Attributes:
        data: the only data set that is run.
        epochs: of each training.
        filters: of the first convolution; the others keep their ratio to it.
        draws: sets of errors at each rate.
        hidden: neurons of each hidden layer.
        only: the one experiment of several that is run.
    """

    data: str | None = None
    epochs: int | None = None
    filters: int | None = None
    draws: int | None = None
    hidden: int | None = None
    only: str | None = None

    def given(self) -> Mapping[str, str]:
        """What is of another size, by the name of the option."""
        return {name: str(value) for name, value in asdict(self).items() if value is not None}


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
        size: what is of another size than in the full run.
        note: told what happens within a long step, such as an epoch of a training.
    """

    quick: bool
    seed: int
    folder: Path
    data_dir: Path | None
    device: str
    progress: Callable[[str, float], None]
    should_stop: Callable[[], bool]
    size: Size = field(default_factory=Size)
    note: Callable[[str], None] = lambda text: None

    def checkpoint(self, name: str) -> Path | None:
        """File from which the training called ``name`` goes on after a stop; None in a quick run, which keeps none."""
        return None if self.quick else self.folder / f"{name}.safetensors"

    def check(self) -> None:
        """Raise Stopped when a stop was asked for, of any of the processes that share this run."""
        if agreed(self.should_stop()):
            kept = "" if self.quick else f"; the same command goes on from the checkpoints in {self.folder}"
            raise Stopped(f"stopped on request{kept}")


@dataclass(frozen=True)
class System:
    """A system that can be reproduced.

    Attributes:
        name: what a person asks for.
        summary: one line.
        run: does the work.
        sizes: what of :class:`Size` may be asked of its full run.
        plan: makes the experiments of a full run of that size, or raises UserMistake where there are none.
    """

    name: str
    summary: str
    run: Callable[[Context], Reproduction]
    sizes: tuple[str, ...] = ()
    plan: Callable[[Size], object] = lambda size: None

    def check_size(self, size: Size, quick: bool) -> None:
        """Refuse sizes that the system has no use for.

        Raises:
            UserMistake: a size that it does not take, or any beside ``quick``.
        """
        given = [f"--{name}" for name in size.given()]
        taken = [f"--{name}" for name in self.sizes]
        if quick and given:
            raise UserMistake(f"{', '.join(given)}: sizes are of the full run; --quick has its own")
        if unknown := [name for name in given if name not in taken]:
            allowed = f"it takes {', '.join(taken)}" if taken else "it is run at one size only"
            raise UserMistake(f"{self.name} does not take {', '.join(unknown)}; {allowed}")
        self.plan(size)
