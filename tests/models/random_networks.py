"""Random networks for the property tests: every kind of layer, with statistics that make ties common."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from models.architectures import Architecture, Conv, Dense, Precision
from models.convolution_shapes import PaddingValue, Pool, PoolKind
from models.encodings import BitPlaneEncoding, Encoding, StochasticEncoding, ThermometerEncoding
from models.networks import BinaryNetwork

LEVELS = st.sampled_from([Precision.BINARY, Precision.TERNARY])


@st.composite
def convolutions(draw, size, widest=70):
    """A convolution that fits maps of ``size`` (channels first), and the size of what it gives."""
    channels, *lengths = size
    groups = draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == 0]))
    # whole words have a way of their own
    several = st.one_of(st.just(64), st.integers(1, widest))
    per_group = draw(st.integers(1, 3) if groups > 1 else several)
    padding = tuple(draw(st.integers(0, 2)) for _ in lengths)
    kernel = tuple(draw(st.integers(1, min(4, n + 2 * pad))) for n, pad in zip(lengths, padding, strict=True))
    stride = tuple(draw(st.integers(1, 3)) for _ in lengths)
    places = tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(lengths, padding, kernel, stride, strict=True))
    pool = None
    if draw(st.booleans()):
        window = tuple(draw(st.integers(1, min(3, n))) for n in places)
        steps = tuple(draw(st.integers(1, 2)) for _ in places)
        pool = Pool(draw(st.sampled_from(list(PoolKind))), window, steps)
        places = pool.output_size(places)
    block = Conv(
        per_group * groups,
        kernel,
        stride,
        padding,
        groups,
        draw(st.sampled_from(list(PaddingValue))),
        pool,
        draw(LEVELS),
    )
    return block, (per_group * groups, *places)


@st.composite
def encodings(draw, features) -> Encoding:
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return ThermometerEncoding(features, draw(st.sampled_from([(8,), (4, 12)])))
    if kind == 1:
        return BitPlaneEncoding(features, draw(st.sampled_from([1, 4, 8])))
    return StochasticEncoding(features, top=15, presentations=draw(st.integers(1, 3)), seed=draw(st.integers(0, 9)))


@st.composite
def architectures(draw) -> Architecture:
    dims = draw(st.integers(0, 2))
    if dims == 0:
        shape: tuple[int, ...] = (draw(st.integers(1, 150)),)
    else:
        shape = (draw(st.integers(1, 3)), *(draw(st.integers(1, 9 if dims == 1 else 6)) for _ in range(dims)))
    features = 1
    for length in shape:
        features *= length
    encoding = draw(encodings(features))
    size = (shape[0] * (encoding.width // features), *shape[1:])
    blocks: list[Conv | Dense] = []
    for _ in range(draw(st.integers(0, 2)) if dims else 0):
        block, size = draw(convolutions(size))
        blocks.append(block)
    for _ in range(draw(st.integers(0, 2))):
        blocks.append(Dense(draw(st.integers(1, 140)), draw(LEVELS)))
    return Architecture("net", encoding, tuple(blocks), draw(st.integers(2, 70)), shape=shape, last=draw(LEVELS))


def grey_levels(encoding: Encoding) -> int:
    """Grey levels of images that an encoding takes, from 0."""
    return 1 << encoding.bits if isinstance(encoding, BitPlaneEncoding) else 16


def random_network(architecture: Architecture, seed: int) -> BinaryNetwork:
    """In evaluation mode; gains of every sign and zero, whole means and zero offsets (ties), small variances too."""
    generator = torch.Generator().manual_seed(seed)
    model = BinaryNetwork(architecture, generator).eval()
    with torch.no_grad():
        for block in model.blocks:
            norm = block.activation.norm
            spread = 0.5 * block.weighing.hidden[0].numel() ** 0.5 * block.reach
            norm.weight.normal_(generator=generator)
            norm.bias.normal_(0.0, 0.5, generator=generator)
            norm.running_mean.normal_(0.0, spread, generator=generator).round_()
            norm.running_var.uniform_(0.1, 2.0 * spread**2, generator=generator)
            dead = torch.rand(norm.weight.shape, generator=generator)
            norm.weight[dead < 0.1] = 0.0
            norm.bias[(dead > 0.05) & (dead < 0.4)] = 0.0
        model.scores.offset.normal_(0.0, 4.0, generator=generator)
    return model
