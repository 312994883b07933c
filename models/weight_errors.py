"""Errors in the weights of a network, injected in the forward pass of training or put into integers.

Three types, after the readings of a 2T2R cell: a sign turned round (type 1), a -1 or +1 read as 0 (type 2), and a 0
read as -1 or +1 at even odds (type 3). Only the weights that may err are drawn and looked at, by geometric gaps from
one to the next and thinning where rates differ: exact, and the cost goes with the errors and not with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.cells import Weights
from models.error_positions import error_positions
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from torch import Tensor

Rate = float | NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class WeightErrorRates:
    """Error rates of the weights of one layer, or of all.

    Each is one number, or a map of the shape of the layer's weights: a rate for each cell.

    Attributes:
        inversion: chance that -1 reads as +1, or +1 as -1 (type 1).
        loss: chance that -1 or +1 reads as 0 (type 2); for ternary weights only.
        gain: chance that 0 reads as -1 or +1 (type 3).

    Raises:
        UserMistake: rates outside 0 to 1, or inversion and loss that add up to more than 1.
    """

    inversion: Rate = 0.0
    loss: Rate = 0.0
    gain: Rate = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no probability, NaN included."""
        for name in ("inversion", "loss", "gain"):
            rate = np.asarray(getattr(self, name), dtype=np.float64)
            if not ((rate >= 0.0) & (rate <= 1.0)).all():
                raise UserMistake(f"the rate of the error {name!r} must lie between 0 and 1, not {rate}")
        if np.any(np.asarray(self.inversion) + np.asarray(self.loss) > 1.0):
            raise UserMistake("the rates of inversion and loss add up to more than 1")

    def most(self) -> float:
        """Largest chance of any cell to err."""
        changed = np.asarray(self.inversion) + np.asarray(self.loss)
        return float(max(np.max(changed, initial=0.0), np.max(self.gain, initial=0.0)))


class _Candidates(NamedTuple):
    """Weights that may err.

    Attributes:
        positions: rising flat indices ``(n,)``.
        ranks: uniform numbers below the largest rate, which decide ``(n,)``.
        signs: what a 0 becomes, if it does ``(n,)``.
    """

    positions: NDArray[np.int64]
    ranks: NDArray[np.float64]
    signs: NDArray[np.int8]


class WeightErrors:
    """Errors of one layer of weights, drawn fresh at every use or once and for all.

    Args:
        rates: of the errors.
        generator: where the errors are drawn from.
        fresh: new errors at every use; else those of the first use stay, as stuck cells do.
    """

    def __init__(self, rates: WeightErrorRates, generator: np.random.Generator, *, fresh: bool = True) -> None:
        self.rates, self.fresh = rates, fresh
        self._generator = generator
        self._kept: _Candidates | None = None

    def disturbed(self, weights: Weights) -> Weights:
        """A copy of ``weights`` of -1, 0, +1 with errors in it; UserMistake where a map has another shape."""
        flat = weights.reshape(-1).copy()
        candidates = self._candidates(weights.shape)
        flat[candidates.positions] = self._outcomes(flat[candidates.positions], candidates, weights.shape)
        return flat.reshape(weights.shape)

    def disturb_(self, weights: Tensor) -> None:
        """Put errors into a contiguous tensor of -1, 0, +1 in place; UserMistake where a map has another shape."""
        import torch

        shape = tuple(weights.shape)
        candidates = self._candidates(shape)
        if not len(candidates.positions):
            return
        where = torch.from_numpy(candidates.positions).to(weights.device)
        flat = weights.view(-1)
        outcomes = self._outcomes(flat[where].to(torch.int8).cpu().numpy(), candidates, shape)
        flat[where] = torch.from_numpy(outcomes).to(weights)

    def _candidates(self, shape: tuple[int, ...]) -> _Candidates:
        if self._kept is not None:
            return self._kept
        most = self.rates.most()
        positions = error_positions(int(np.prod(shape)), most, self._generator)
        ranks = most * self._generator.random(len(positions))
        signs = self._generator.integers(0, 2, len(positions), dtype=np.int8) * np.int8(2) - np.int8(1)
        drawn = _Candidates(positions, ranks, signs)
        if not self.fresh:
            self._kept = drawn
        return drawn

    def _outcomes(self, values: NDArray[np.int8], drawn: _Candidates, shape: tuple[int, ...]) -> NDArray[np.int8]:
        """What the candidates with ``values`` become."""
        inversion, loss, gain = (
            _at(rate, drawn.positions, shape) for rate in (self.rates.inversion, self.rates.loss, self.rates.gain)
        )
        changed = np.where(drawn.ranks < inversion, -values, np.where(drawn.ranks < inversion + loss, 0, values))
        gained = np.where(drawn.ranks < gain, drawn.signs, 0)
        return np.where(values == 0, gained, changed).astype(np.int8)


def _at(rate: Rate, positions: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.floating]:
    """A rate at flat positions; a map is brought to the shape of the weights."""
    if np.ndim(rate) == 0:
        return np.asarray(rate)
    cells = np.asarray(rate)
    if cells.size != np.prod(shape) or cells.shape[0] != shape[0]:
        raise UserMistake(f"a map of error rates has the shape {cells.shape}, expected that of the weights, {shape}")
    return cells.reshape(-1)[positions]
