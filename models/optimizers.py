"""Optimizers of binary networks: metaplastic hidden weights, and weak RESETs of device pairs in place of these.

MetaplasticAdam: Laborieux et al., "Synaptic metaplasticity in binarized neural networks", Nature Communications 12,
2549 (2021). A step that would bring a hidden weight W nearer to zero is made smaller by ``1 - tanh^2(m |W|)``, so that
weights that past tasks made large are hard to turn.

WeakResetOptimizer: Majumdar et al., IEEE Transactions on Electron Devices, 2021 (arXiv 2107.06064). The step of Adam,
in whole pulses, is a number of weak RESETs of one device of a pair; the weight is the sign of R_BL - R_BLb.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from models.cells import Polarity
from models.device_model import DeviceModel, WeakReset
from models.devices.energy import pulse_energy_j
from models.devices.weak_reset import Imperfections
from models.devices.weak_reset_pairs import WeakResetPairs
from models.exceptions import UserMistake

BETAS = (0.9, 0.999)
EPSILON = 1e-8

_CHUNK = 1 << 16
"""Elements that several passes over them still find in the processor's cache."""


def hidden_and_others(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The hidden weights of a network's binary and ternary layers, and all its other parameters."""
    hidden, others = list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in model.named_parameters():
        (hidden if name.rpartition(".")[2] == "hidden" else others).append(parameter)
    return hidden, others


def _check_rate(name: str, rate: float, *, zero: bool = False) -> None:
    if not (0.0 < rate < math.inf or (zero and rate == 0.0)):
        wanted = "0 or more" if zero else "positive"
        raise UserMistake(f"{name} = {rate} was asked for; it must be {wanted} and finite")


class MetaplasticAdam(torch.optim.Optimizer):
    """Adam whose steps towards zero are made smaller the larger a hidden weight has become.

    With the moments m1, m2 of Adam and the step a::

        W <- W - a f m1 / (sqrt(m2) + eps),   f = 1 - tanh^2(m |W|) where sign(W) m1 > 0, otherwise 1

    m = 0 is Adam itself. Weight decay is added to the gradient.

    Args:
        params: parameters, or groups of them; a group may have a "metaplasticity" of its own. Biases and batch
            normalisation belong into a group where it is 0.
        lr: learning rate.
        metaplasticity: m, 0 or more.
        weight_decay: per step, times the parameter.

    Raises:
        UserMistake: a rate that is no such number.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.005,
        metaplasticity: float = 1.35,
        weight_decay: float = 0.0,
    ) -> None:
        _check_rate("lr", lr)
        super().__init__(params, {"lr": lr, "metaplasticity": metaplasticity, "weight_decay": weight_decay})
        for group in self.param_groups:
            _check_rate("metaplasticity", group["metaplasticity"], zero=True)
            _check_rate("weight_decay", group["weight_decay"], zero=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step with the gradients as they stand; ``closure`` works them out first, where one is given."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return value

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["first"], state["second"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        corrections = [1.0 - beta ** state["step"] for beta in BETAS]
        size = group["lr"] * math.sqrt(corrections[1]) / corrections[0]
        flat = (parameter.view(-1), gradient.reshape(-1), state["first"].view(-1), state["second"].view(-1))
        width = _CHUNK if parameter.device.type == "cpu" else max(1, parameter.numel())
        for w, g, first, second in zip(*(x.split(width) for x in flat), strict=True):
            slope = g.add(w, alpha=group["weight_decay"]) if group["weight_decay"] > 0.0 else g
            first.lerp_(slope, 1.0 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(slope, slope, value=1.0 - BETAS[1])
            update = first / second.sqrt().add_(EPSILON)
            if group["metaplasticity"] > 0.0:
                held = w.abs().mul_(group["metaplasticity"]).tanh_().square_().mul_(w * first > 0.0)
                update.addcmul_(update, held, value=-1.0)
            w.add_(update, alpha=-size)


@dataclass
class PulseAccount:
    """Pulses that training has given to devices.

    Attributes:
        weak_resets, sets: pulses in all.
        steps: optimizer steps.
    """

    weak_resets: int = 0
    sets: int = 0
    steps: int = 0

    def energy_j(
        self, model: DeviceModel, reset: tuple[float, float, float], set_: tuple[float, float, float]
    ) -> float:
        """Energy in J of all these pulses, at most; see :mod:`models.devices.energy`.

        Args:
            model: of the devices.
            reset: column supply in V, word-line supply in V, and width in s of a weak RESET.
            set_: the same of a SET.
        """
        return self.weak_resets * pulse_energy_j(model, Polarity.RESET, *reset) + self.sets * pulse_energy_j(
            model, Polarity.SET, *set_
        )


@cache
def pulses_of_adam() -> Any:
    """Compiled: advance the moments, and give the step of Adam in whole pulses, in one pass."""

    @njit(error_model="numpy")
    def pulses(gradient: Any, first: Any, second: Any, factors: Any, most: Any, counts: Any) -> Any:
        new_1, new_2, size, scale, eps = factors
        total, numbers = np.int64(0), True
        for i in range(len(gradient)):
            g = gradient[i]
            m = first[i] + new_1 * (g - first[i])
            v = second[i] + new_2 * (g * g - second[i])
            first[i], second[i] = m, v
            step = np.rint(-size * m / (np.sqrt(v) * scale + eps))
            numbers &= step == step
            count = np.int32(min(max(step, -most), most))
            counts[i] = count
            total += abs(count)
        return total, numbers

    return pulses


class WeakResetOptimizer(torch.optim.Optimizer):
    """Training by weak RESETs alone: Adam's step is a number of pulses on one device of each pair.

    ``n = round(clip(-lr m1_hat / (sqrt(m2_hat) + eps), most))`` pulses go to BL where n > 0, and -n to BLb where n < 0.
    The parameters hold +1 and -1, the weights of the pairs, after each step. Other parameters are stepped by Adam at
    a constant rate. Devices are simulated on the CPU, wherever the network is.

    Weights start at random: each pair gets a random number of pulses, up to ``most_pulses`` on either side. Without
    that, devices that are all alike would start with weights that are all alike, and never part.

    Args:
        weights: parameters whose elements become pairs of devices.
        others: parameters that are stored elsewhere (batch normalisation, biases); may be empty.
        section: the populations of the devices.
        rng: where devices, starting pulses and noise are drawn from.
        imperfections: of the devices; all of them when None.
        lr: learning rate in pulses.
        others_lr: learning rate of ``others``.
        most_pulses: largest number of pulses of a step.
        reprogram: a pair whose weight changes sign is SET on both sides, and gets one weak RESET for its new sign.

    Attributes:
        pairs: one :class:`~models.devices.weak_reset_pairs.WeakResetPairs` per weight parameter.
        account: pulses given so far, those of the start included.

    Raises:
        UserMistake: a rate is not positive, or no pulses are allowed.
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        section: WeakReset,
        rng: np.random.Generator,
        *,
        imperfections: Imperfections | None = None,
        lr: float = 100.0,
        others_lr: float = 8e-3,
        most_pulses: int = 14,
        reprogram: bool = False,
    ) -> None:
        _check_rate("lr", lr)
        _check_rate("others_lr", others_lr)
        if most_pulses < 1:
            raise UserMistake(f"most_pulses = {most_pulses} was asked for; a step needs at least 1")
        super().__init__(weights, {"lr": lr})
        self.account = PulseAccount()
        self._weights, self._rng, self._most, self._reprogram = list(weights), rng, most_pulses, reprogram
        self._others = torch.optim.Adam(others, lr=others_lr) if len(others) > 0 else None
        self.pairs = [WeakResetPairs(section, weight.shape, rng, imperfections) for weight in self._weights]
        self._moments = [
            (np.zeros(weight.numel(), np.float32), np.zeros(weight.numel(), np.float32)) for weight in self._weights
        ]
        self._counts = [np.empty(weight.numel(), np.int32) for weight in self._weights]
        for weight, pairs in zip(self._weights, self.pairs, strict=True):
            start = rng.integers(-most_pulses, most_pulses, size=pairs.shape, endpoint=True, dtype=np.int32)
            pairs.apply(start)
            self.account.weak_resets += int(np.abs(start).sum())
            _put(pairs, weight)
            # so that a layer need not take the signs of signs
            weight.holds_signs = True  # type: ignore[attr-defined]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the weights and of the other parameters."""
        super().zero_grad(set_to_none)
        if self._others is not None:
            self._others.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Pulse the devices by the gradients as they stand; ``closure`` works them out first, where one is given.

        Raises:
            UserMistake: a gradient is no number; the pairs that it belongs to were not pulsed.
        """
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        self.account.steps += 1
        first, second = (1.0 - beta**self.account.steps for beta in BETAS)
        factors = (1.0 - BETAS[0], 1.0 - BETAS[1], self.param_groups[0]["lr"] / first, 1.0 / math.sqrt(second), EPSILON)
        factors_32 = tuple(np.float32(factor) for factor in factors)
        kernel, most = pulses_of_adam(), np.float32(self._most)
        for weight, pairs, moments, counts in zip(self._weights, self.pairs, self._moments, self._counts, strict=True):
            if weight.grad is None:
                continue
            gradient = weight.grad.reshape(-1).cpu().numpy()
            total, numbers = kernel(gradient, *moments, factors_32, most, counts)
            if not numbers:
                raise UserMistake("a gradient is no longer a number; lower the learning rate or look for extreme data")
            before = pairs.weights if self._reprogram else None
            pairs.apply(counts.reshape(pairs.shape))
            self.account.weak_resets += total
            if before is not None:
                self._program_again(pairs, pairs.weights != before)
            _put(pairs, weight)
        if self._others is not None:
            self._others.step()
        return value

    def state_dict(self) -> dict[str, Any]:
        """Devices, moments, generator and accounts: all that later steps depend on."""
        return {
            "group": {name: value for name, value in self.param_groups[0].items() if name != "params"},
            "others": None if self._others is None else self._others.state_dict(),
            "moments": self._moments,
            "pairs": [pairs.state_dict() for pairs in self.pairs],
            "rng": self._rng.bit_generator.state,
            "account": asdict(self.account),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`; the parameters get the weights of the pairs."""
        self.param_groups[0].update(state_dict["group"])
        if self._others is not None:
            self._others.load_state_dict(state_dict["others"])
        for ours, found in zip(self._moments, state_dict["moments"], strict=True):
            for array, values in zip(ours, found, strict=True):
                array[:] = values
        for weight, pairs, state in zip(self._weights, self.pairs, state_dict["pairs"], strict=True):
            pairs.load_state_dict(state)
            _put(pairs, weight)
        self._rng.bit_generator.state = state_dict["rng"]
        self.account = PulseAccount(**state_dict["account"])

    def _program_again(self, pairs: WeakResetPairs, turned: np.ndarray[Any, Any]) -> None:
        count = int(np.count_nonzero(turned))
        if count == 0:
            return
        new = pairs.weights
        pairs.set_again(np.broadcast_to(turned, (2, *pairs.shape)))
        pairs.apply(np.where(turned, new, np.int8(0)).astype(np.int32))
        self.account.sets += 2 * count
        self.account.weak_resets += count


@torch.no_grad()
def _put(pairs: WeakResetPairs, weight: Tensor) -> None:
    weight.copy_(torch.from_numpy(pairs.weights))
