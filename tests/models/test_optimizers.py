"""The optimizers against their equations, written out plainly here, and the accounts of weak-RESET training."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from data.device_files import default_device
from models.cells import Polarity
from models.devices.energy import pulse_energy_j
from models.devices.weak_reset import Imperfections
from models.exceptions import UserMistake
from models.optimizers import MetaplasticAdam, PulseAccount, WeakResetOptimizer, hidden_and_others

DEVICE = default_device().model
IDEAL = Imperfections(device_to_device=False, rtn=False, pink=False)
SHAPE = (7, 30)


def gradients(count: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator) for _ in range(count)]


def walk(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, steps: list[torch.Tensor]) -> None:
    for gradient in steps:
        parameter.grad = gradient.clone()
        optimizer.step()


def start(seed: int = 9) -> torch.nn.Parameter:
    return torch.nn.Parameter(0.3 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)))


def test_without_metaplasticity_it_is_adam():
    ours, theirs = start(), start()
    walk(MetaplasticAdam([ours], lr=0.01, metaplasticity=0.0, weight_decay=0.1), ours, gradients(20))
    walk(torch.optim.Adam([theirs], lr=0.01, weight_decay=0.1), theirs, gradients(20))
    assert torch.allclose(ours, theirs, atol=2e-6)


def test_metaplastic_steps_are_those_of_the_published_rule():
    m, lr = 2.0, 0.02
    parameter = start()
    w = parameter.detach().double().clone()
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    walk(MetaplasticAdam([parameter], lr=lr, metaplasticity=m), parameter, gradients(12))
    for number, gradient in enumerate(gradients(12), start=1):
        g = gradient.double()
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        size = lr * math.sqrt(1 - 0.999**number) / (1 - 0.9**number)
        shrinks = torch.sign(w) * first > 0
        held = torch.where(shrinks, (1 - torch.tanh(m * w.abs()) ** 2) * first, first)
        w = w - size * held / (second.sqrt() + 1e-8)
    assert torch.allclose(parameter.detach().double(), w, atol=2e-6)


def test_large_weights_are_held_and_small_ones_move():
    parameter = torch.nn.Parameter(torch.tensor([3.0, 0.01]))
    optimizer = MetaplasticAdam([parameter], lr=0.005, metaplasticity=2.0)
    for sign, moved in ((1.0, (0.0, 0.005)), (-1.0, (0.005, 0.005))):
        before = parameter.detach().clone()
        optimizer.state.clear()
        parameter.grad = torch.full((2,), sign)
        optimizer.step()
        assert torch.allclose((parameter.detach() - before).abs(), torch.tensor(moved), atol=1e-4)


@pytest.mark.parametrize("change", [{"lr": 0.0}, {"metaplasticity": -1.0}, {"weight_decay": math.nan}])
def test_impossible_rates_are_refused(change):
    with pytest.raises(UserMistake, match=next(iter(change))):
        MetaplasticAdam([start()], **change)


def weak_reset(parameter: torch.nn.Parameter, seed: int = 0, **settings) -> WeakResetOptimizer:
    return WeakResetOptimizer([parameter], [], DEVICE.weak_reset, np.random.default_rng(seed), **settings)


def test_weights_are_the_signs_of_the_pairs_and_start_at_random():
    for imperfections in (None, IDEAL):
        parameter = start()
        optimizer = weak_reset(parameter, imperfections=imperfections)
        first = parameter.detach().numpy().copy()
        assert set(np.unique(first)) == {-1.0, 1.0}
        assert 0.3 < (first > 0).mean() < 0.7
        walk(optimizer, parameter, gradients(5))
        log_r = optimizer.pairs[0].log_resistance
        assert np.array_equal(parameter.detach().numpy(), np.where(log_r[0] > log_r[1], 1.0, -1.0))
        assert (parameter.detach().numpy() != first).any()


def test_pulses_are_the_steps_of_adam_in_whole_numbers_on_the_right_device():
    lr, most, count = 3.0, 4, 6
    parameter, shadow = start(), torch.nn.Parameter(torch.zeros(SHAPE, dtype=torch.float64))
    optimizer = weak_reset(parameter, lr=lr, most_pulses=most, imperfections=IDEAL)
    adam = torch.optim.Adam([shadow], lr=lr)
    before, stress = optimizer.account.weak_resets, optimizer.pairs[0].stress
    wanted = np.zeros((2, *SHAPE))
    for gradient in gradients(count):
        parameter.grad, shadow.grad = gradient.clone(), gradient.double()
        earlier = shadow.detach().clone()
        optimizer.step()
        adam.step()
        pulses = np.rint(np.clip((shadow.detach() - earlier).numpy(), -most, most))
        wanted += (np.maximum(pulses, 0), np.maximum(-pulses, 0))
    assert np.array_equal(optimizer.pairs[0].stress - stress, wanted)
    assert optimizer.account.weak_resets - before == wanted.sum()
    assert optimizer.account.steps == count
    assert optimizer.account.sets == 0


def test_a_gradient_that_pulls_one_way_turns_weights_that_way():
    parameter = start()
    walk(weak_reset(parameter), parameter, [torch.ones(SHAPE)] * 60)
    # 14 pulses a step on BLb, whose resistance rises; some devices hardly move at all
    assert (parameter.detach() == -1.0).double().mean() > 0.85


def test_programming_again_sets_both_devices_and_pulses_one():
    parameter = start()
    optimizer = weak_reset(parameter, reprogram=True, imperfections=IDEAL)
    walk(optimizer, parameter, [torch.ones(SHAPE), *[-torch.ones(SHAPE)] * 30])
    assert optimizer.account.sets > 0
    assert optimizer.account.sets % 2 == 0
    assert (parameter.detach() == 1.0).all()
    plain = weak_reset(other := start(), imperfections=IDEAL)
    walk(plain, other, [torch.ones(SHAPE), *[-torch.ones(SHAPE)] * 30])
    assert optimizer.pairs[0].stress.sum() < plain.pairs[0].stress.sum()


def test_energy_is_that_of_the_pulses():
    reset, set_ = (2.25, 5.0, 1e-6), (3.3, 1.8, 1e-6)
    account = PulseAccount(weak_resets=1000, sets=10, steps=3)
    wanted = 1000 * pulse_energy_j(DEVICE, Polarity.RESET, *reset) + 10 * pulse_energy_j(DEVICE, Polarity.SET, *set_)
    assert account.energy_j(DEVICE, reset, set_) == pytest.approx(wanted)
    assert PulseAccount().energy_j(DEVICE, reset, set_) == 0.0


def test_going_on_from_a_state_gives_the_same_weights():
    whole = start()
    walk(weak_reset(whole), whole, gradients(12))
    first = start()
    optimizer = weak_reset(first)
    walk(optimizer, first, gradients(12)[:5])
    state = copy.deepcopy(optimizer.state_dict())
    second = start(seed=1)
    later = weak_reset(second, seed=77)
    later.load_state_dict(state)
    assert torch.equal(second, first)
    walk(later, second, gradients(12)[5:])
    assert torch.equal(second, whole)
    assert later.account == PulseAccount(later.account.weak_resets, 0, 12)


def test_a_gradient_that_is_no_number_pulses_nothing():
    parameter = start()
    optimizer = weak_reset(parameter)
    stress = optimizer.pairs[0].stress
    parameter.grad = torch.ones(SHAPE)
    parameter.grad[3, 4] = math.nan
    with pytest.raises(UserMistake, match="no longer a number"):
        optimizer.step()
    assert np.array_equal(optimizer.pairs[0].stress, stress)


@pytest.mark.parametrize("change", [{"lr": math.inf}, {"others_lr": 0.0}, {"most_pulses": 0}])
def test_impossible_weak_resets_are_refused(change):
    with pytest.raises(UserMistake, match=next(iter(change))):
        weak_reset(start(), **change)


def test_other_parameters_are_stepped_by_adam():
    weight, other, twin = start(), torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(4))
    optimizer = WeakResetOptimizer([weight], [other], DEVICE.weak_reset, np.random.default_rng(0), others_lr=0.01)
    adam = torch.optim.Adam([twin], lr=0.01)
    for gradient in gradients(4):
        other.grad, twin.grad = gradient[0, :4].clone(), gradient[0, :4].clone()
        optimizer.step()
        adam.step()
    assert torch.equal(other, twin)
    optimizer.zero_grad()
    assert other.grad is None


def test_hidden_weights_are_told_from_other_parameters():
    from bench.reproduce.perceptron import binary_perceptron

    network = binary_perceptron((6, 5, 3), torch.Generator().manual_seed(0))
    hidden, others = hidden_and_others(network)
    assert [tuple(weight.shape) for weight in hidden] == [(5, 6), (3, 5)]
    assert [tuple(other.shape) for other in others] == [(5,), (5,), (3,), (3,)]
