"""The loop that trains any network on any labelled data, with checkpoints to go on from.

The same seed gives the same weights, whatever the number of threads of the program: all draws come from generators of
the loop's own, and it runs on as many threads as its settings say, one unless told otherwise. A training that was
interrupted and goes on from its checkpoint ends with the very weights of one that was not.

Inside :func:`models.processes.together` each process takes its share of every batch, and of the examples of a test;
sums are then made in another order, so that weights are those of one process up to rounding. The first process alone
reads and writes checkpoints, which do not depend on how many processes there are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.exceptions import BenchFailure, UserMistake
from models.processes import from_first, place, summed
from models.shared_batches import check_same_weights, over_processes, shared
from models.training_checkpoints import load_checkpoint, save_checkpoint

EVALUATION_BATCH = 1000
FORMAT = 1
"""Of a checkpoint's content."""


class LabelledData(Protocol):
    """A data set, as the loop needs it."""

    @property
    def name(self) -> str:
        """What the data set is called."""

    @property
    def train_images(self) -> NDArray[Any]:
        """Images or signals to learn from, ``(n, ...)``."""

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """Their classes, ``(n,)``."""

    @property
    def test_images(self) -> NDArray[Any]:
        """Images or signals held out, ``(n, ...)``."""

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Their classes, ``(n,)``."""


class Stateful(Protocol):
    """What can be written into a checkpoint and read back."""

    def state_dict(self) -> dict[str, Any]:
        """All that a later step depends on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Go on from there."""


class Schedule(Stateful, Protocol):
    """How the learning rate changes; PyTorch's schedulers are such."""

    def step(self) -> object:
        """One epoch (or step) has passed."""


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        epochs: passes over the training data.
        batch: examples of a step, at least (what remains of an epoch is shared out over its steps).
        schedule_each_step: the schedule moves on after each step, not after each epoch.
        checkpoint_every: epochs between checkpoints; the last epoch always leaves one.
        threads: of PyTorch. Sums depend on how work is shared out, so that another number gives other weights.

    Raises:
        UserMistake: a number is below 1, or a batch has no variance.
    """

    epochs: int
    batch: int = 100
    schedule_each_step: bool = False
    checkpoint_every: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.batch < 2:
            raise UserMistake(f"a batch of {self.batch} was asked for; batch normalisation needs at least 2 images")
        for name in ("epochs", "checkpoint_every", "threads"):
            if getattr(self, name) < 1:
                raise UserMistake(f"{getattr(self, name)} {name.replace('_', ' ')} asked for, at least 1 is needed")


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to.

    Attributes:
        epoch: counted from 1.
        loss: mean cross-entropy over the epoch, in nats.
        train_accuracy: share of right answers while learning, input noise included.
        test_accuracy: on the held-out images.
    """

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float


class Diverged(BenchFailure):
    """The loss or a parameter stopped being a number; the model is as it was after the last good epoch.

    Attributes:
        history: the good epochs.
    """

    def __init__(self, message: str, history: list[EpochRecord]) -> None:
        super().__init__(message)
        self.history = history


@dataclass(frozen=True)
class Fitted:
    """How a training ended; the model holds the weights of the last whole epoch.

    Attributes:
        history: the record of every whole epoch, those before a resumed checkpoint included.
        stopped: whether it was stopped before its last epoch.
    """

    history: list[EpochRecord]
    stopped: bool


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run PyTorch on ``count`` threads inside, and on as many as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def as_floats(images: Tensor) -> Tensor:
    """Images as they are, in single precision."""
    return images.to(torch.float32)


@torch.no_grad()
def accuracy_of(
    model: nn.Module,
    images: NDArray[Any],
    labels: NDArray[np.int64],
    prepare: Callable[[Tensor], Tensor] = as_floats,
    device: str = "cpu",
    batch: int = EVALUATION_BATCH,
) -> float:
    """Share of right answers of ``model`` in evaluation mode, ``batch`` at a time; its mode is restored."""
    training = model.training
    model.eval()
    right = 0
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        with shared(len(images[part])) as share:
            logits = model(prepare(torch.tensor(images[part], device=device))[share.examples])
        right += int((logits.argmax(1).cpu() == torch.tensor(labels[part][share.examples])).sum())
    model.train(training)
    return int(summed([right])[0]) / len(images)


def fit(
    model: nn.Module,
    data: LabelledData,
    settings: FitSettings,
    seed: int | torch.Generator,
    optimizer: torch.optim.Optimizer,
    *,
    schedule: Schedule | None = None,
    prepare: Callable[[Tensor], Tensor] = as_floats,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    evaluate: Callable[[], float] | None = None,
    after_step: Callable[[], object] | None = None,
    also: Mapping[str, Stateful | torch.Generator] | None = None,
    about: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str = "cpu",
) -> Fitted:
    """Train ``model``, in place.

    Args:
        model: takes prepared batches, gives logits ``(n, classes)``; on ``device`` already.
        data: what to learn, and what to test on.
        settings: epochs, batch, threads.
        seed: of the order of the examples, of ``augment``, and of what draws from PyTorch's own generator (dropout);
            a generator is used as it stands.
        optimizer: steps the model's parameters.
        schedule: of the learning rate.
        prepare: makes the model's inputs of a batch as the data holds it.
        augment: changes prepared training batches, drawing from the generator it is given (always a CPU one).
        loss: of logits and labels, the mean over these.
        evaluate: accuracy after each epoch; that of the model on the held-out examples when None.
        after_step: called after each step of the optimizer, such as ``model.clamp``.
        also: what else a later step depends on (generators of injected errors, say), for the checkpoint.
        about: what makes this training what it is (sizes, rates, seeds); a checkpoint of another is refused.
        checkpoint: file to go on from, and to write after each epoch; its folder exists.
        on_epoch: called after each epoch, its checkpoint written.
        should_stop: asked at each step; once true (in any of several processes), training ends with the last whole
            epoch.
        device: "cpu" or "cuda".

    Raises:
        UserMistake: too little data, a checkpoint that is not of this training, or fewer examples in a batch than
            processes.
        Diverged: loss or parameters are no longer numbers; the model is back at its last good state.
    """
    if len(data.train_images) < 2:
        raise UserMistake(f"the data set {data.name} has too few images to train on, at least 2 are needed")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    if evaluate is None:

        def evaluate() -> float:
            return accuracy_of(model, data.test_images, data.test_labels, prepare, device)

    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with threads(settings.threads), torch.random.fork_rng(devices), ExitStack() as ends:
        torch.manual_seed(generator.initial_seed() % 2**63)
        parts = {"model": model, "optimizer": optimizer, "shuffling": generator, **({} if also is None else also)}
        if schedule is not None:
            parts["schedule"] = schedule
        what = {**asdict(settings), "data": data.name, **({} if about is None else about)}
        if checkpoint is not None:
            # other files may stand under the same name by the next time
            what["digest of the data"] = _digest(data)
        run = _Run(parts, what, device)
        if checkpoint is not None:
            run.load(checkpoint)
        images = torch.tensor(data.train_images, device=device)
        labels = torch.tensor(data.train_labels, device=device)
        steps = max(1, len(images) // settings.batch)
        if (least := len(images) // steps) < place().size:
            raise UserMistake(f"a batch of {least} cannot be shared out over {place().size} processes; start {least}")
        learner = ends.enter_context(over_processes(model))
        model.train()
        while len(run.history) < settings.epochs:
            epoch = len(run.history) + 1
            good = _copy(model.state_dict())
            total, right = 0.0, 0
            for chosen in torch.randperm(len(images), generator=generator).tensor_split(steps):
                asked = should_stop is not None and should_stop()
                chosen = chosen.to(device)
                batch = prepare(images[chosen])
                batch = batch if augment is None else augment(batch, generator)
                with shared(len(chosen)) as share:
                    logits, wanted = learner(batch[share.examples]), labels[chosen][share.examples]
                value = loss(logits, wanted)
                optimizer.zero_grad()
                (value * share.weight).backward()  # type: ignore[no-untyped-call]
                hits = int((logits.argmax(1) == wanted).sum())
                # one message for all that the processes must agree on
                lost, hits_of_all, stops = summed([value.item() * share.count, hits, asked])
                if stops:
                    model.load_state_dict(good)
                    return Fitted(run.history, stopped=True)
                if not math.isfinite(lost):
                    model.load_state_dict(good)
                    raise Diverged(_divergence("the loss", epoch), run.history)
                optimizer.step()
                if after_step is not None:
                    after_step()
                if schedule is not None and settings.schedule_each_step:
                    schedule.step()
                total += lost
                right += int(hits_of_all)
            if not is_finite(model):
                model.load_state_dict(good)
                raise Diverged(_divergence("a parameter", epoch), run.history)
            if schedule is not None and not settings.schedule_each_step:
                schedule.step()
            run.history.append(EpochRecord(epoch, total / len(images), right / len(images), evaluate()))
            check_same_weights(model)
            if checkpoint is not None and (epoch % settings.checkpoint_every == 0 or epoch == settings.epochs):
                from_first(partial(run.save, checkpoint))
            if on_epoch is not None:
                on_epoch(run.history[-1])
    return Fitted(run.history, stopped=False)


def is_finite(model: nn.Module) -> bool:
    """Whether all parameters and buffers are finite numbers."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())


class _Run:
    """What a checkpoint holds of a training.

    Args:
        parts: whatever has a state.
        about: what a checkpoint must have been of.
        device: whose own generator belongs to the state.
    """

    def __init__(self, parts: Mapping[str, Any], about: Mapping[str, Any], device: str) -> None:
        self.history: list[EpochRecord] = []
        self._parts, self._device = parts, device
        self._about = {name: value for name, value in about.items() if name != "checkpoint_every"}

    def save(self, path: Path) -> None:
        state = {
            "format": FORMAT,
            "about": self._about,
            "history": [asdict(record) for record in self.history],
            "own": torch.get_rng_state(),
            "parts": {name: _state_of(part) for name, part in self._parts.items()},
        }
        if self._device == "cuda":
            state["cuda"] = torch.cuda.get_rng_state()
        save_checkpoint(path, state)

    def load(self, path: Path) -> None:
        """Go on from the checkpoint, where there is one; the first process reads it for all."""
        state = from_first(lambda: load_checkpoint(path) if path.exists() else None)
        if state is None:
            return
        if state.get("format") != FORMAT or "about" not in state:
            raise UserMistake(f"{path} is a checkpoint of another version; delete it to begin again")
        for name in sorted(self._about.keys() | state["about"].keys()):
            ours, found = self._about.get(name), state["about"].get(name)
            if _plain(ours) != _plain(found):
                raise UserMistake(
                    f"the checkpoint {path} is of another training: {name} is {found!r} there and {ours!r} here; "
                    f"name another folder, or delete it to begin again"
                )
        try:
            for name, part in self._parts.items():
                _restore(part, state["parts"][name])
            torch.set_rng_state(state["own"])
            if self._device == "cuda":
                torch.cuda.set_rng_state(state["cuda"])
            self.history = [EpochRecord(**record) for record in state["history"]]
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UserMistake(f"the checkpoint {path} does not fit this training ({reason}); delete it") from error


def _digest(data: LabelledData) -> str:
    """Of all examples with their labels."""
    digest = hashlib.blake2b(digest_size=8)
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Tuples as lists, which is what is compared."""
    return [_plain(part) for part in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _state_of(part: Any) -> Any:
    return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


def _restore(part: Any, state: Any) -> None:
    if isinstance(part, torch.Generator):
        part.set_state(state)
    else:
        part.load_state_dict(state)


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _divergence(what: str, epoch: int) -> str:
    return (
        f"training stopped in epoch {epoch}: {what} is no longer a finite number; the network as it was "
        f"before that epoch is kept. Lower the learning rate or look for extreme data"
    )
