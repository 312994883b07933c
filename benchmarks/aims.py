"""What the figures are held to: one line for each aim, found by the words of its row."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from benchmarks.rows import Row


@dataclass(frozen=True)
class Aim:
    """A bound on a row's median.

    Attributes:
        what: regular expression that the row's words match from their beginning.
        unit: of the row; regular expression too.
        least, most: the median must lie in between, both included.
        against: what the figure is compared with.
    """

    what: str
    unit: str
    against: str
    least: float = -math.inf
    most: float = math.inf

    def fits(self, row: Row) -> bool:
        """Whether the row is one that this aim is about."""
        return bool(re.match(self.what, row.what)) and bool(re.fullmatch(self.unit, row.unit))

    def met(self, row: Row) -> bool:
        """Whether the median lies inside the bounds; a figure that could not be taken does not."""
        return self.least <= row.median <= self.most

    def __str__(self) -> str:
        bound = f"at most {self.most:g}" if math.isfinite(self.most) else f"at least {self.least:g}"
        return f"{bound}, against {self.against}"


AIMS = (
    Aim(r"packed binary product", "of the ceiling", "popcount alone, measured on the spot", least=0.8),
    Aim(r"packed (binary|ternary) inference$", "x float32", "float32 matrix products of PyTorch", least=6.0),
    Aim(r"binary training step$", "float steps", "the same network in float32", most=1.5),
    Aim(r"fresh errors.*", "of a binary step", "a binary training step", most=0.05),
    Aim(r"784-3000-10: weak RESET", "plain Adam steps", "Adam of PyTorch on the same network", most=2.0),
    Aim(r".*: aihwkit", "weak RESET.*", "a weak-RESET step of ours", least=4.0),
    Aim(r"784.*mean read error 0.0001", "x error-free", "packed inference without errors", most=1.5),
    Aim(r"784.*mean read error 0.001", "x error-free", "packed inference without errors", most=8.0),
    Aim(r".*bit/s.*(XNOR|PULSE)", "of the line", "the capacity of the simulated line", least=0.9),
    Aim(r".*2% stuck: accuracy lost, placed over naive", "ratio", "tiles as they come", most=0.5),
    Aim(r"compiled pairs are faster than: published", "times", "the published register per device", least=10),
    Aim(r"one curve_fit each over one batch", "times", "scipy.optimize.curve_fit, device by device", least=20.0),
    Aim(r"share of devices where the batch ends", "1", "the optimum that curve_fit finds", least=1.0),
    Aim(r".*: runner and store / raw h5py", "ratio", "raw h5py with the same columns", least=1.0),
    Aim(r"start to a connected window", "s", "3 s", most=3.0),
    Aim(r"event loop during", "ms", "50 ms, of which a person takes no notice", most=50.0),
    Aim(r"map of 256 x 256 redrawn", "frames/s", "30 frames per second", least=30.0),
    Aim(r"growth over", "MB", "flat memory", most=5.0),
)


def aim_of(row: Row) -> Aim | None:
    """The aim that a row is held to, if any."""
    return next((aim for aim in AIMS if aim.fits(row)), None)
