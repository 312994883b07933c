"""Several processes that do one training together, as torchrun starts them; PyTorch is imported only then.

All of them run the same program with the same seeds. What needs every process (sums over a batch, a stop that was asked
of one) is a call here that all of them make, in the same order; a process that is alone gets its own values back. Only
the first process writes files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from models.exceptions import BenchFailure, RramBenchError, UserMistake

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")

RUN_ID = "TORCHELASTIC_RUN_ID"
"""Environment variable that torchrun, and nothing else, gives to the processes that it starts."""

LETTING_GO_S = 0.2


@dataclass(frozen=True)
class Place:
    """Where a process stands among the others.

    Attributes:
        rank: its number; that of the first is 0.
        size: how many processes there are.
        local_rank: its number among those of its host, which is the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


ALONE = Place()
_place = ALONE


def launched() -> Place:
    """The place that torchrun gave to this process; that of a process alone where torchrun did not start it."""
    if RUN_ID not in os.environ:
        return ALONE
    rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return Place(rank, size, local_rank)


def place() -> Place:
    """Where this process stands now; alone outside :func:`together`."""
    return _place


@contextmanager
def together(where: Place, device: str = "cpu") -> Iterator[None]:
    """Inside, this process trains with the others that torchrun started; alone nothing changes.

    Args:
        where: as :func:`launched` gives it.
        device: "cpu" or "cuda", whose number then is that of the process on its host.

    Raises:
        UserMistake: there are fewer GPUs than processes on this host.
        BenchFailure: another process has ended before its time.
    """
    if where.size == 1:
        yield
        return
    import torch
    from torch import distributed

    global _place
    if device == "cuda":
        found = torch.cuda.device_count()
        if where.local_rank >= found:
            raise UserMistake(
                f"--device cuda: {where.local_rank + 1} processes or more were started on this host, which has {found} "
                f"GPU(s); give torchrun --nproc-per-node {max(1, found)}"
            )
        torch.cuda.set_device(where.local_rank)
    try:
        # small messages go between CPUs always, what is on GPUs between GPUs
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
        # programs that this one starts were not started by torchrun
        del os.environ[RUN_ID]
        _place = where
        yield
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise BenchFailure(
            "another process of this training has ended, and so all end; a checkpoint that was kept is as it was, and "
            "the same command goes on from it"
        ) from error
    else:
        distributed.destroy_process_group()
        # Gloo's threads outlive the group, and one may not have let go of the last message yet: it needs the
        # interpreter for that, and aborts the process where that has begun to end.
        time.sleep(LETTING_GO_S)
    finally:
        _place = ALONE


def summed(values: Sequence[float]) -> list[float]:
    """Sums over all processes, in double precision; the same on each."""
    if _place.size == 1:
        return list(values)
    import torch

    numbers = torch.tensor(values, dtype=torch.float64)
    add_up(numbers)
    return [float(number) for number in numbers]


def add_up(numbers: Tensor) -> None:
    """Sums over all processes, in place; the same on each."""
    if _place.size > 1:
        from torch import distributed

        distributed.all_reduce(numbers)


def agreed(asked: bool) -> bool:
    """Whether this was asked of any of the processes; the same answer on each."""
    return summed([float(asked)])[0] > 0.0


def from_first(work: Callable[[], Result]) -> Result:
    """What ``work`` gives, or raises, in the first process, for all; the others do not do it.

    Raises:
        RramBenchError: raised by ``work`` in the first process.
    """
    if _place.size == 1:
        return work()
    import torch
    from torch import distributed

    answer: list[object] = [None, None]
    if _place.rank == 0:
        try:
            answer[0] = work()
        except RramBenchError as error:
            answer[1] = UserMistake(str(error)) if isinstance(error, UserMistake) else BenchFailure(str(error))
    distributed.broadcast_object_list(answer, device=torch.device("cpu"))
    if isinstance(answer[1], RramBenchError):
        raise answer[1]
    return cast(Result, answer[0])


def check_same(digest: int, what: str) -> None:
    """See that all processes hold the same.

    Args:
        digest: of what they hold, below 2^63.
        what: it is, for the error.

    Raises:
        BenchFailure: they do not; raised in all processes.
    """
    if _place.size == 1:
        return
    import torch
    from torch import distributed

    own = torch.tensor([digest])
    found = [torch.empty_like(own) for _ in range(_place.size)]
    distributed.all_gather(found, own)
    odd = [number for number, one in enumerate(found) if int(one) != int(found[0])]
    if odd:
        raise BenchFailure(
            f"process {odd[0]} of {_place.size} no longer has the {what} of process 0, and training ends with the last "
            "checkpoint kept; all processes need the same versions of rram-bench and PyTorch, the same data, and "
            "processors and GPUs of one kind"
        )


def _lost(error: RuntimeError) -> bool:
    """Whether this is how PyTorch says that another process is not there any more."""
    from torch import distributed

    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(name in text for name in ("gloo", "nccl", "closed by peer"))
