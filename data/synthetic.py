"""Generated data sets, for tests and quick runs: the same seed gives the same data.

They have the shapes and the task of the real ones and are easier. A result on them shows that a method works, and which
of two is better; it is no figure to hold against a published accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from data.datasets import Dataset
from data.electrodes import ELECTRODES, LEADS_FROM_POTENTIALS, exchanged
from data.splits import held_out, split
from models.exceptions import UserMistake

HELD_OUT_SHARE = 0.2

ELECTRODE_PLACES = np.array(
    [
        (-1.0, -0.9, 0.0),
        (1.0, -0.9, 0.0),
        (0.25, 1.3, 0.0),
        (-0.25, 0.1, 1.0),
        (0.1, 0.15, 1.05),
        (0.45, 0.2, 0.95),
        (0.75, 0.3, 0.75),
        (1.0, 0.3, 0.35),
        (1.1, 0.3, -0.1),
    ]
)
"""``(9, 3)``: towards the left, the feet and the front, in the order of ELECTRODES; the potential of an electrode is
the heart's vector along its place (the dipole of Einthoven's triangle)."""
WAVES: tuple[tuple[float, float, tuple[float, float, float]], ...] = (
    (-0.17, 0.025, (0.05, 0.08, 0.03)),
    (-0.032, 0.009, (-0.08, -0.03, 0.12)),
    (0.0, 0.012, (0.45, 0.55, -0.10)),
    (0.034, 0.011, (-0.12, -0.08, -0.25)),
    (0.27, 0.050, (0.14, 0.16, 0.10)),
)
"""P, Q, R, S and T: centre and standard deviation of a Gaussian, in s, and the heart's vector at its top, in mV."""

MU_HZ = (9.0, 12.0)
BETA_HZ = (17.0, 24.0)


def synthetic_ecg(
    seed: int,
    records: int = 1000,
    rate_hz: float = 100.0,
    seconds: float = 5.0,
    noise_mv: float = 0.04,
    axis_spread_deg: float = 30.0,
    swapped: tuple[tuple[str, str], ...] = (("RA", "LA"),),
) -> Dataset:
    """Twelve-lead electrocardiograms, half of them with two electrodes in each other's place (class 1).

    The heart is a turning dipole, P, Q, R, S and T Gaussians of it (after McSharry et al., IEEE TBME 50, 289 (2003)).
    Every record has its own rate (55 to 95 a minute, 4 % from beat to beat), electrical axis and heights of waves;
    every electrode its own slow wander and noise.

    Args:
        seed: of everything that is drawn, the split included.
        records: how many, of as many persons.
        rate_hz: samples in a second.
        seconds: length of a record, in s.
        noise_mv: standard deviation of the noise of an electrode, in mV.
        axis_spread_deg: standard deviation of the axis in the frontal plane, in degrees; the wider, the harder.
        swapped: pairs of electrodes, of which each record of class 1 draws one.

    Returns:
        Signals ``(12, rate_hz * seconds)`` in mV, one record in five held out.
    """
    samples = round(rate_hz * seconds)
    _check_sizes(records, samples)
    generator = np.random.default_rng(seed)
    orders = [[ELECTRODES.index(name) for name in exchanged(*pair)] for pair in swapped]
    labels = generator.permutation(np.arange(records) % 2).astype(np.int64)
    times = np.arange(samples) / rate_hz
    signals = np.empty((records, 12, samples), np.float32)
    for number, label in enumerate(labels):
        potentials = ELECTRODE_PLACES @ _heart_vector(times, axis_spread_deg, generator)
        wander_hz = generator.uniform(0.15, 0.4, (9, 1))
        phase = generator.uniform(0.0, 2.0 * math.pi, (9, 1))
        potentials += generator.normal(0.0, 0.06, (9, 1)) * np.sin(2.0 * math.pi * wander_hz * times + phase)
        potentials += generator.normal(0.0, noise_mv, potentials.shape)
        chosen = generator.integers(len(orders))  # drawn for both classes, so that they differ in nothing else
        if label:
            potentials = potentials[orders[chosen]]
        signals[number] = LEADS_FROM_POTENTIALS @ potentials
    signals -= np.median(signals, axis=2, keepdims=True)
    return _divided("synthetic-ecg", signals.reshape(records, -1), labels, 2, (12, samples), generator, rate_hz)


def synthetic_eeg(
    seed: int,
    trials: int = 600,
    channels: int = 16,
    seconds: float = 3.0,
    rate_hz: float = 160.0,
    depth: float = 0.6,
    rhythm_uv: float = 6.0,
    background_uv: float = 8.0,
) -> Dataset:
    """Electroencephalograms of imagined movement: left fist (0) or right fist (1).

    A mu and a beta rhythm come from the motor cortex of either side and reach the electrodes that are near. While a
    fist is imagined, those of the opposite side lose part of their amplitude (event-related desynchronisation, as
    Pfurtscheller and Lopes da Silva describe it, Clin. Neurophysiol. 110, 1842 (1999)). Beneath lies noise whose power
    falls as 1/f, partly common to neighbours.

    Args:
        seed: of everything that is drawn, the split included.
        trials: how many.
        channels: electrodes, on a grid from left to right and from front to back.
        seconds: length of a trial, in s.
        rate_hz: samples in a second.
        depth: share of the amplitude that is lost, 0 to 1; each trial's own varies around it.
        rhythm_uv: amplitude of the mu rhythm near its source, in µV; that of beta is half of it.
        background_uv: standard deviation of the noise, in µV.

    Returns:
        Signals ``(channels, rate_hz * seconds)`` in µV, one trial in five held out.
    """
    samples = round(rate_hz * seconds)
    _check_sizes(trials, samples)
    if channels < 2 or not 0.0 <= depth <= 1.0:
        raise UserMistake(f"{channels} channels with a depth of {depth} were asked for; at least 2, and 0 to 1")
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(trials) % 2).astype(np.int64)
    places = _scalp(channels)
    reach = np.exp(-_squared_distances(places, np.array([(-0.5, 0.0), (0.5, 0.0)])) / (2.0 * 0.35**2))
    neighbours = np.exp(-_squared_distances(places, places) / (2.0 * 0.3**2))
    mixing = neighbours / np.linalg.norm(neighbours, axis=1, keepdims=True)
    times = np.arange(samples) / rate_hz
    signals = np.empty((trials, channels, samples), np.float32)
    for number, label in enumerate(labels):
        lost = np.clip(generator.normal(depth, 0.15, 2), 0.0, 1.0)
        gain = np.array([1.0, 1.0 - lost[0]]) if label == 0 else np.array([1.0 - lost[1], 1.0])
        rhythms = sum(
            height * _rhythm(times, band, generator) for height, band in ((1.0, MU_HZ), (0.5, BETA_HZ))
        ) * generator.lognormal(0.0, 0.2, (2, 1))
        noise = mixing @ _pink((channels, samples), generator)
        signals[number] = background_uv * noise + rhythm_uv * reach @ (gain[:, None] * rhythms)
    shape = (channels, samples)
    return _divided("synthetic-eeg", signals.reshape(trials, -1), labels, 2, shape, generator, rate_hz)


def synthetic_images(
    seed: int, images: int = 2500, size: int = 16, channels: int = 3, classes: int = 10, noise: float = 80.0
) -> Dataset:
    """Colour images whose classes are smooth random patterns, moved about, mirrored, mixed and covered with noise.

    Args:
        seed: of everything that is drawn, the patterns and the split included.
        images: how many.
        size: height and width, in pixels.
        channels: colours.
        classes: how many patterns.
        noise: standard deviation, in grey levels; the more, the harder.

    Returns:
        Images ``(channels, size, size)``, one in five held out.
    """
    _check_sizes(images, size)
    if classes < 2 or channels < 1:
        raise UserMistake(f"{classes} classes in {channels} colours were asked for; at least 2, in at least 1")
    generator = np.random.default_rng(seed)
    patterns = _smooth((classes, channels, size, size), generator)
    labels = generator.permutation(np.arange(images) % classes).astype(np.int64)
    others = (labels + generator.integers(1, classes, images)) % classes
    farthest = max(1, size // 8)
    moves = generator.integers(-farthest, farthest, (images, 2), endpoint=True)
    mirrored = generator.random(images) < 0.5
    contrast = generator.uniform(25.0, 50.0, images)
    share = generator.uniform(0.0, 0.5, images)
    found = np.empty((images, channels, size, size), np.uint8)
    for number, label in enumerate(labels):
        picture = patterns[label] + share[number] * patterns[others[number]]
        picture = np.roll(picture, tuple(moves[number]), axis=(1, 2))
        picture = picture[..., ::-1] if mirrored[number] else picture
        levels = 128.0 + contrast[number] * picture + generator.normal(0.0, noise, picture.shape)
        found[number] = np.clip(np.rint(levels), 0.0, 255.0)  # as a camera saturates
    shape = (channels, size, size)
    return _divided("synthetic-images", found.reshape(images, -1), labels, classes, shape, generator, None)


def _heart_vector(times: NDArray[np.float64], spread_deg: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """The heart's vector over ``times``: ``(3, samples)`` in mV."""
    turn = math.radians(generator.normal(0.0, spread_deg))
    heights = generator.lognormal(0.0, 0.2) * generator.lognormal(0.0, 0.15, len(WAVES))
    beat_s = 60.0 / generator.uniform(55.0, 95.0)
    beats = math.ceil(times[-1] / beat_s) + 4
    starts = -generator.uniform(0.5, 1.5) * beat_s + np.cumsum(beat_s * generator.normal(1.0, 0.04, beats))
    vector = np.zeros((3, len(times)))
    for height, (centre_s, width_s, top) in zip(heights, WAVES, strict=True):
        away = times[None, :] - starts[:, None] - centre_s
        pulses = np.exp(-(away**2) / (2.0 * width_s**2)).sum(axis=0)
        left, down, front = top
        turned = (
            math.cos(turn) * left - math.sin(turn) * down,
            math.sin(turn) * left + math.cos(turn) * down,
            front,
        )
        vector += height * np.outer(turned, pulses)
    return vector


def _scalp(channels: int) -> NDArray[np.float64]:
    """Places of the electrodes, ``(channels, 2)``: left to right and front to back, -1 to 1."""
    columns = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / columns)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows)), axis=-1)
    return grid.reshape(-1, 2)[:channels]


def _squared_distances(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(((ours[:, None] - theirs[None]) ** 2).sum(axis=-1))


def _rhythm(
    times: NDArray[np.float64], band_hz: tuple[float, float], generator: np.random.Generator
) -> NDArray[np.float64]:
    """A rhythm of each of the two sides, ``(2, samples)``, waxing and waning."""
    frequency = generator.uniform(*band_hz, (2, 1))
    slow = generator.uniform(0.2, 0.6, (2, 1))
    phases = generator.uniform(0.0, 2.0 * math.pi, (2, 2, 1))
    swell = 1.0 + 0.3 * np.sin(2.0 * math.pi * slow * times + phases[0])
    return np.asarray(swell * np.sin(2.0 * math.pi * frequency * times + phases[1]))


def _pink(shape: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Noise of unit standard deviation whose power falls as 1/f along the last axis."""
    spectrum = np.fft.rfft(generator.normal(size=shape), axis=-1)
    spectrum[:, 0] = 0.0
    spectrum[:, 1:] /= np.sqrt(np.arange(1, spectrum.shape[1]))
    noise = np.fft.irfft(spectrum, shape[-1], axis=-1)
    return np.asarray(noise / noise.std(axis=-1, keepdims=True))


def _smooth(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    """Random patterns of unit standard deviation in which only the lowest spatial frequencies are left."""
    size = shape[-1]
    frequency = np.hypot(*np.meshgrid(np.fft.rfftfreq(size), np.fft.fftfreq(size))) * size
    spectrum = np.fft.rfft2(generator.normal(size=shape)) * ((frequency > 0.0) & (frequency <= 3.0))
    patterns = np.fft.irfft2(spectrum, s=(size, size))
    return np.asarray(patterns / patterns.std(axis=(-3, -2, -1), keepdims=True))


def _check_sizes(items: int, samples: int) -> None:
    if items < 10 or samples < 8:
        raise UserMistake(f"{items} items of {samples} samples or pixels were asked for, at least 10 of at least 8")


def _divided(
    name: str,
    items: NDArray[np.uint8] | NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    shape: tuple[int, ...],
    generator: np.random.Generator,
    rate_hz: float | None,
) -> Dataset:
    chosen = held_out(labels, HELD_OUT_SHARE, generator)
    return split(name, items, labels, classes, shape, chosen, rate_hz=rate_hz, notes=("generated",))


GENERATORS: Mapping[str, Callable[[int], Dataset]] = MappingProxyType(
    {"synthetic-ecg": synthetic_ecg, "synthetic-eeg": synthetic_eeg, "synthetic-images": synthetic_images}
)
"""The generated data sets at their default sizes, from a seed."""
