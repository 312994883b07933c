"""The host's part of learning by weak RESETs: the gradient of a last layer, and Adam's step in whole pulses.

The conversion of a step into pulses is that of :class:`models.optimizers.WeakResetOptimizer`; here the weights are not
simulated but sensed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.exceptions import UserMistake
from models.layers import ClassScores
from models.optimizers import BETAS, EPSILON, pulses_of_adam

Floats = NDArray[np.float32]


class HostSteps:
    """What the host keeps of a layer that learns: Adam's means of each weight, the offsets and the logits' scale.

    Args:
        shape: classes and inputs.
        most_pulses: of a step on one device.
        rate: learning rate of the offsets and of the scale.

    Attributes:
        steps: made so far.
    """

    def __init__(self, shape: tuple[int, int], most_pulses: int, rate: float) -> None:
        classes, inputs = shape
        self._shape, self._most, self._rate = shape, np.float32(most_pulses), rate
        self._first, self._second = (np.zeros(classes * inputs, dtype=np.float32) for _ in range(2))
        self._scores = ClassScores(inputs, classes)
        self._host_first, self._host_second = (np.zeros(classes + 1) for _ in range(2))
        self.steps = 0
        # compiled here, not between two exchanges with a board that has a watchdog
        self._pulses((np.zeros(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32)), 1.0, 1.0, 1.0)

    def _pulses(
        self, gradient_and_means: tuple[Floats, Floats, Floats], rate: float, first: float, second: float
    ) -> NDArray[np.int32]:
        """Advance Adam's two means of the gradient, and give its step in whole pulses; both with their corrections."""
        factors = (1.0 - BETAS[0], 1.0 - BETAS[1], rate / first, 1.0 / math.sqrt(second), EPSILON)
        counts = np.empty(len(gradient_and_means[0]), dtype=np.int32)
        as_single = tuple(np.float32(factor) for factor in factors)
        _, numbers = pulses_of_adam()(*gradient_and_means, as_single, self._most, counts)
        if not numbers:
            raise UserMistake("a gradient is no longer a number; lower the learning rate of the offsets")
        return counts

    @property
    def offsets(self) -> NDArray[np.int32]:
        """Whole numbers ``(classes,)`` that are taken off the sums."""
        return self._scores.whole_offset().numpy().astype(np.int32)

    def step(
        self, inputs: NDArray[np.int8], sums: NDArray[np.int32], labels: NDArray[np.int64], rate: float
    ) -> tuple[float, int, NDArray[np.int32]]:
        """One step for a batch.

        Args:
            inputs: ``(n, inputs)`` of -1 and +1.
            sums: ``(n, classes)`` that the array gave to these.
            labels: ``(n,)``.
            rate: learning rate in pulses.

        Returns:
            Mean cross-entropy, samples that were right, and the pulses ``(classes, inputs)``: so many weak RESETs on BL
            where positive, on BLb where negative.

        Raises:
            UserMistake: the loss is no longer a number.
        """
        scores = self._scores
        given = torch.from_numpy(sums.astype(np.float32)).requires_grad_()
        logits = scores(given)
        loss = functional.cross_entropy(logits, torch.from_numpy(labels))
        # the slope of the sums, which is that of the loss with respect to what the array answered
        slopes = torch.autograd.grad(loss, [given, scores.log_scale, scores.offset])
        gradient = (slopes[0].T @ torch.from_numpy(inputs.astype(np.float32))).reshape(-1).numpy()
        self.steps += 1
        first, second = (1.0 - beta**self.steps for beta in BETAS)
        pulses = self._pulses((gradient, self._first, self._second), rate, first, second)
        right = int((logits.detach().argmax(dim=1).numpy() == labels).sum())
        self._step_host(np.concatenate([slopes[1].reshape(1).numpy(), slopes[2].numpy()]), first, second)
        return float(loss.detach()), right, pulses.reshape(self._shape)

    def _step_host(self, slope: Floats, first: float, second: float) -> None:
        """Adam's step of the scale and the offsets."""
        self._host_first += (1.0 - BETAS[0]) * (slope - self._host_first)
        self._host_second += (1.0 - BETAS[1]) * (slope**2 - self._host_second)
        step = -self._rate * (self._host_first / first) / (np.sqrt(self._host_second / second) + EPSILON)
        self._put(self._host_parameters() + step)

    def _host_parameters(self) -> NDArray[np.float64]:
        scores = self._scores
        with torch.no_grad():
            return torch.cat([scores.log_scale.reshape(1), scores.offset]).double().numpy()

    @torch.no_grad()
    def _put(self, values: NDArray[np.float64]) -> None:
        self._scores.log_scale.fill_(values[0])
        self._scores.offset.copy_(torch.from_numpy(values[1:]))

    def state(self) -> tuple[Floats, Floats, NDArray[np.float64]]:
        """Adam's two means ``(classes, inputs)``, and scale and offsets with their means, ``(3 * (classes + 1),)``."""
        others = np.concatenate([self._host_parameters(), self._host_first, self._host_second])
        return self._first.reshape(self._shape).copy(), self._second.reshape(self._shape).copy(), others

    def load(self, first: Floats, second: Floats, others: NDArray[np.float64], steps: int) -> None:
        """Go on from :meth:`state` after so many steps."""
        self._first[:], self._second[:] = first.reshape(-1), second.reshape(-1)
        parameters, self._host_first, self._host_second = (part.copy() for part in np.split(others, 3))
        self._put(parameters)
        self.steps = steps
