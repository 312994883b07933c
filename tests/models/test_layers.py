from __future__ import annotations

import math

import numpy as np
import torch

from models.integer import ThermometerEncoding
from models.layers import BatchNormSign, BinaryLinear, ClassScores, binary_sign, binary_weight, thermometer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_there_are_two_levels_and_zero_of_either_sign_is_plus_one():
    x = torch.tensor([-2.0, -1e-45, -0.0, 0.0, 1e-45, 3.0])
    expected = [-1.0, -1.0, 1.0, 1.0, 1.0, 1.0]
    assert binary_sign(x).tolist() == expected
    assert binary_weight(x).tolist() == expected


def test_activation_gradient_passes_within_one_and_nowhere_else():
    x = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5], requires_grad=True)
    (binary_sign(x) * torch.arange(1.0, 6.0)).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0]


def test_weight_gradient_passes_everywhere():
    hidden = torch.tensor([-1.0, 0.3, 1.0], requires_grad=True)
    (binary_weight(hidden) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert hidden.grad.tolist() == [1.0, 2.0, 3.0]


def test_linear_sums_signs_and_leaves_the_callers_tensor_alone():
    linear = BinaryLinear(20, 7, generator())
    x = torch.where(torch.rand(4, 20, generator=generator(1)) < 0.5, -1.0, 1.0)
    before = x.clone()
    sums = linear(x)
    signs = np.where(linear.hidden.detach().numpy() >= 0, 1, -1)
    assert np.array_equal(sums.detach().numpy(), x.numpy() @ signs.T)
    assert torch.equal(x, before)


def test_clamp_keeps_hidden_weights_within_one():
    linear = BinaryLinear(20, 7, generator(), spread=3.0)
    inside = linear.hidden.detach().clone().clamp(-1, 1)
    linear.clamp()
    assert torch.equal(linear.hidden.detach(), inside)


def test_initial_weights_come_from_the_given_generator_alone():
    state = torch.get_rng_state()
    first, again, other = (BinaryLinear(20, 7, generator(seed)).hidden for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_thermometer_encodes_as_the_integer_network_does():
    encoding = ThermometerEncoding(64, (4, 9, 12))
    images = np.random.default_rng(0).integers(0, 17, size=(100, 64)).astype(np.uint8)
    ours = thermometer(torch.from_numpy(images.astype(np.float32)), encoding.thresholds)
    assert np.array_equal(ours.numpy(), encoding.encode(images))


def test_evaluation_decides_as_batch_normalisation_does_away_from_ties():
    activation = BatchNormSign(30)
    with torch.no_grad():
        for tensor in (activation.norm.weight, activation.norm.bias, activation.norm.running_mean):
            tensor.normal_(0.0, 3.0, generator=generator(2))
    activation.norm.running_var.uniform_(1.0, 100.0, generator=generator(3))
    activation.eval()
    sums = torch.randint(-60, 61, (200, 30), generator=generator(4)).float()
    normal = activation.norm(sums)
    clear = normal.abs() > 1e-4
    assert torch.equal(activation(sums)[clear], torch.sign(normal)[clear])
    assert activation(sums).dtype == torch.float32


def test_scores_have_one_positive_scale_and_whole_offsets():
    scores = ClassScores(100, 3)
    with torch.no_grad():
        scores.offset.copy_(torch.tensor([0.7, -2.4, 1e5 + 0.3]))
        scores.log_scale.fill_(math.log(0.25))
    logits = scores(torch.tensor([[4.0, 0.0, -2.0]]))
    assert scores.whole_offset().tolist() == [1, -2, 100000]
    assert torch.equal(logits, torch.exp(scores.log_scale) * torch.tensor([[3.0, 2.0, -100002.0]]))
    logits.sum().backward()
    assert torch.allclose(scores.offset.grad, torch.full((3,), -0.25))
