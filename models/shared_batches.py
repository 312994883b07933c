"""A batch shared out over several processes, with the results of one process up to the rounding of sums.

Each process draws all random numbers of the whole batch and keeps those of its share: generators stay alike in all
processes, so that checkpoints do not depend on how many there are. Batch normalisation takes the statistics of the
whole batch. (PyTorch's SyncBatchNorm does so too, but on GPUs alone; here the same code runs on both.) Gradients are
averaged by PyTorch's DistributedDataParallel.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel

from models.exceptions import UserMistake
from models.processes import add_up, check_same, place


@dataclass(frozen=True)
class Share:
    """Part of a batch.

    Attributes:
        start, stop: first example of this process, and the one after its last.
        whole: examples of the batch.
    """

    start: int
    stop: int
    whole: int

    @property
    def examples(self) -> slice:
        """Those of this process."""
        return slice(self.start, self.stop)

    @property
    def count(self) -> int:
        """How many these are."""
        return self.stop - self.start

    @property
    def weight(self) -> float:
        """What the mean over the share counts, so that the mean over processes is that over the whole batch."""
        return self.count * place().size / self.whole


_share: Share | None = None


@contextmanager
def shared(whole: int) -> Iterator[Share]:
    """This process's share of a batch of so many examples; inside, networks are given that share alone.

    Shares differ by one example at most, and may be empty.
    """
    global _share
    rank, size = place().rank, place().size
    share = Share(whole * rank // size, whole * (rank + 1) // size, whole)
    before = _share
    _share = share if size > 1 else None
    try:
        yield share
    finally:
        _share = before


def drawn(shape: torch.Size, draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """Random numbers ``shape`` for the examples at hand: those of the whole batch, of which the share is kept.

    Args:
        shape: examples first.
        draw: gives numbers of a shape.
    """
    if _share is None:
        return draw(tuple(shape))
    return draw((_share.whole, *shape[1:]))[_share.examples]


def drawn_by(images: NDArray[Any], draw: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """What ``draw`` makes of images at random, an image's draws going by its place in the whole batch.

    Args:
        images: of the share, ``(n, ...)``.
        draw: as many as it is given.
    """
    if _share is None:
        return draw(images)
    whole = np.zeros((_share.whole, *images.shape[1:]), images.dtype)
    whole[_share.examples] = images
    return draw(whole)[_share.examples]


@contextmanager
def over_processes(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, the module that is yielded trains ``model`` on shares; it is ``model`` itself where a process is alone.

    Raises:
        UserMistake: the model draws from PyTorch's own generator, which cannot be shared out.
        BenchFailure: the processes begin with different weights.
    """
    if place().size == 1:
        yield model
        return
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            raise UserMistake(
                f"a network with {type(module).__name__} of PyTorch cannot be trained by several processes: its draws "
                "would be the same in all; use Dropout of models.modules, or one process"
            )
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    check_same_weights(model)
    for norm in norms:
        norm.forward = partial(_normalised, norm, norm.forward)  # type: ignore[method-assign]
    try:
        # running statistics are the same everywhere already; PyTorch 2.13 calls the option by another name
        named = signature(DistributedDataParallel).parameters
        option = "forward_sync_buffers" if "forward_sync_buffers" in named else "broadcast_buffers"
        kept: dict[str, Any] = {option: False}
        yield DistributedDataParallel(model, **kept)
    finally:
        for norm in norms:
            del norm.forward


def check_same_weights(model: nn.Module) -> None:
    """Raise BenchFailure where the processes hold different parameters or buffers; costs little beside an epoch."""
    if place().size == 1:
        return
    digest = 0
    for tensor in model.state_dict().values():
        digest = zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes(), digest)
    check_same(digest, "weights")


def _normalised(norm: _BatchNorm, alone: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Batch normalisation with the statistics of the whole batch where that is shared out, otherwise as ever."""
    if _share is None or not norm.training:
        return alone(x)
    values, mean, variance, count = cast(tuple[Tensor, ...], _WholeBatch.apply(x, norm.eps))  # type: ignore[no-untyped-call]
    if norm.track_running_stats:
        with torch.no_grad():
            cast(Tensor, norm.num_batches_tracked).add_(1)
            factor = 1.0 / int(cast(Tensor, norm.num_batches_tracked)) if norm.momentum is None else norm.momentum
            unbiased = variance * (count / (count - 1.0))
            for running, found in ((norm.running_mean, mean), (norm.running_var, unbiased)):
                cast(Tensor, running).mul_(1.0 - factor).add_(factor * found.to(x.dtype))
    if norm.affine:
        values = values * _along(norm.weight, x) + _along(norm.bias, x)
    return values


class _WholeBatch(torch.autograd.Function):
    """Values less their mean, over their standard deviation, of each feature over the examples of all processes.

    The gradient is that of the sum of all processes' losses. Sums are in double precision, as PyTorch's own on CPUs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sums = torch.cat([_over_examples(x), x.new_tensor([x.numel() / x.shape[1]], dtype=torch.float64)])
        add_up(sums)
        count = sums[-1]
        mean = sums[:-1] / count
        centred = x - _along(mean.to(x.dtype), x)
        squares = _over_examples(centred.square())
        add_up(squares)
        variance = squares / count
        inverse = torch.rsqrt(variance + eps).to(x.dtype)
        values = centred * _along(inverse, x)
        ctx.save_for_backward(values, inverse, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return values, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        values, inverse, count = ctx.saved_tensors
        slope = gradients[0]
        sums = torch.cat([_over_examples(slope), _over_examples(slope * values)])
        add_up(sums)
        mean, along = (_along((part / count).to(slope.dtype), slope) for part in sums.chunk(2))
        return _along(inverse, slope) * (slope - mean - values * along), None


def _over_examples(x: Tensor) -> Tensor:
    """Sums of each feature of ``(n, features, ...)`` over all else, in double precision."""
    return x.sum([dim for dim in range(x.ndim) if dim != 1], dtype=torch.float64)


def _along(features: Tensor, x: Tensor) -> Tensor:
    """A number for each feature, in a shape that goes with ``x``."""
    return features.view(1, -1, *(1 for _ in range(x.ndim - 2)))
