"""The whole digital system: XNOR in the sense amplifiers, popcount beside the arrays, no error correction.

Hirtzlin et al., Frontiers in Neuroscience 13:1383 (2020, arXiv 1908.04066).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch

from bench.figures.style import engineering, panels
from bench.reproduce.bit_errors import (
    RATES,
    SIZES,
    Case,
    Curve,
    described,
    draw_curves,
    error_curve,
    large_loss_row,
    sized,
    small_loss_row,
    trained,
    training_settings,
    validated,
)
from bench.reproduce.frame import Context, Picture, Reproduction, Row, System, ordering
from bench.reproduce.learning import Lesson
from bench.validation import cells, writing
from bench.validation.subject import Subject
from data.datasets import Dataset, load_dataset
from data.energy_files import packaged_circuits
from data.levels import LEVELS, as_levels
from models import energy
from models.accounts import Account, Item
from models.architectures import architecture
from models.cells import Geometry
from models.energy import Design, inference_energy, programming_energy
from models.exceptions import UserMistake
from models.integer import IntegerNetwork
from models.networks import build, fold
from models.prediction import EstimatedRate, InferenceMode, ReadErrorRates, predict_accuracy

QUICK = (Case("digits", architecture("digits-bnn"), Lesson(30, 64), 3, 30, 0.3),)
# after the digits, which the array takes as they are
FULL = (
    Case("mnist", architecture("mnist-1024-1024"), Lesson(20, 100), 1, 10, 0.3),
    Case("cifar10", architecture("cifar10-bnn-32"), Lesson(100, 50, augmented=True), 1, 5, 1.5),
    Case("ecg", architecture("ecg-1d"), Lesson(60, 50), 1, 10, 1.0),
)
ENERGY_NETWORK = "mnist-1024-1024"
USABLE_RATE, USABLE_POINTS = 1e-2, 1.5
TILE = Geometry(32, 32)
FULL_SCALE_MV = 2.0
"""Signals are converted to 8 bits from minus to plus this; an electrocardiogram rarely goes beyond."""


def run(context: Context) -> Reproduction:
    """Accuracy on all data sets, the cell, and energy."""
    return reproduce(context, QUICK if context.quick else (*QUICK, *sized(FULL, context.size)))


def reproduce(context: Context, cases: Sequence[Case]) -> Reproduction:
    """The same for these networks; the first must be one that the array takes as it is."""
    subject = Subject.packaged()
    seed = int(np.random.default_rng([context.seed, 1]).integers(2**31))
    measured = cells.binary(subject.device, seed, np.random.default_rng([context.seed, 2]))
    context.progress(f"XNOR truth table on the simulated chip: {measured['xnor_chip']}", 0.1)
    rows = validated(measured, ("xnor_amplifier", "xnor_chip", "popcount_amplifier", "popcount_chip"))
    curves, settings = dict[str, Curve](), {"seed": str(context.seed)}
    for number, case in enumerate(cases):
        data = items_of(case, load_dataset(case.data, context.data_dir))
        networks = list(trained(context, case, data))
        curve = error_curve(context, networks, data, RATES, case.draws)
        curves[case.data] = curve
        context.progress(f"{case.data}: {described(curve)}", 0.1 + 0.8 * (number + 1) / len(cases))
        rows += [small_loss_row(case, curve), large_loss_row(case, curve)]
        if number == 0:
            rows += [_usable_row(case, curve), _sensed_row(context, case, networks, data)]
        where = f"{case.data}, {case.architecture.name}"
        settings |= training_settings(case, data)
        settings[f"{where}: accuracy by error rate"] = described(curve)
    network = fold(build(ENERGY_NETWORK, torch.Generator().manual_seed(context.seed)))
    designs = accounts(network)
    rows += energy_rows(designs, network, subject)
    for design, account in designs.items():
        items = ", ".join(f"{item} {engineering(value, 'J')}" for item, value in account.by_item().items())
        settings[f"energy of an inference, {design}"] = f"{engineering(account.total, 'J')}: {items}"
    return Reproduction(SYSTEM.name, tuple(rows), _pictures(curves, designs), _notes(), settings)


def items_of(case: Case, data: Dataset) -> Dataset:
    """The data as the network takes it: signals in mV become 8-bit levels, as many of each channel as it has inputs.

    Raises:
        UserMistake: the signals are no whole multiple of that length.
    """
    if not data.is_signals:
        return data
    length, samples = data.shape[-1], case.architecture.shape[-1]
    if length % samples:
        raise UserMistake(f"signals of {length} samples cannot be brought to {samples}; a whole fraction is needed")
    return as_levels(data, length // samples, per_unit=0.5 * LEVELS / FULL_SCALE_MV)


def _usable_row(case: Case, curve: Curve) -> Row:
    return Row(
        f"accuracy lost at a bit error rate of {USABLE_RATE:g} ({case.data}; in points; accepted: up to "
        f"{USABLE_POINTS:g})",
        "still usable (remembered)",
        round(curve.loss(USABLE_RATE), 2),
        ordering(curve.loss(USABLE_RATE) <= USABLE_POINTS),
    )


def _sensed_row(context: Context, case: Case, networks: Sequence[IntegerNetwork], data: Dataset) -> Row:
    """Accuracy when every XNOR in the amplifiers errs afresh, the layers being cut into tiles."""
    rng = np.random.default_rng([context.seed, 4])
    none, known = (EstimatedRate(rate, rate, rate) for rate in (0.0, 1e-3))
    rates = ReadErrorRates(stuck_fraction=none, random_rate=none, transient_rate=known)
    images, labels = data.test_images, data.test_labels
    losses = [
        network.accuracy(images, labels)
        - predict_accuracy(network, images, labels, rates, TILE, case.draws, rng, InferenceMode.XNOR).mean
        for network in networks
    ]
    loss = 100.0 * float(np.mean(losses))
    return Row(
        f"accuracy lost when 1e-3 of the XNOR outputs of the amplifiers err, anew for each input ({case.data}; in "
        f"points; accepted: up to {case.allowed_points:g})",
        "little",
        round(loss, 3),
        ordering(loss <= case.allowed_points),
    )


def accounts(network: IntegerNetwork) -> dict[Design, Account]:
    """Energy of an inference in each design, without bringing the image from another chip, which all have alike."""
    circuits = packaged_circuits().energy
    return {
        design: inference_energy(network, circuits, energy.System(design)).without(Item.OFF_CHIP) for design in Design
    }


def energy_rows(designs: Mapping[Design, Account], network: IntegerNetwork, subject: Subject) -> list[Row]:
    """Orderings of the energy of inference, and programming energies."""
    ours = designs[Design.IN_SENSE]
    others = {design: account.total / ours.total for design, account in designs.items() if design != Design.IN_SENSE}
    items = ours.by_item()
    largest = max(items, key=lambda item: items[item])
    programming = {
        name: programming_energy(network, condition, energy.System()).total
        for name, condition in subject.conditions.conditions.items()
    }
    savings = [programming["strong"] / programming[name] for name in ("weak", "ultra_weak")]
    return [
        Row(
            f"energy of an inference of {network.name} over that with XNOR in the sense amplifiers: {design} "
            "(accepted: above 1)",
            "lowest with XNOR in the sense amplifiers",
            round(ratio, 4),
            ordering(ratio > 1.0),
        )
        for design, ratio in others.items()
    ] + [
        Row(
            f"what takes most of the energy of an inference of {network.name}, XNOR in the sense amplifiers",
            "popcount (remembered)",
            f"{largest}, {items[largest] / ours.total:.0%}",
            ordering(largest is Item.POPCOUNT),
        ),
        Row(
            "programming energy of strong over weak and over ultra-weak programming (accepted: 10 to 31)",
            "10 to 30 (remembered)",
            " and ".join(f"{saving:.1f}" for saving in savings),
            ordering(all(10.0 <= saving <= 31.0 for saving in savings)),
        ),
        *validated(writing.measure(subject, np.random.default_rng(0)), ("rram_saving",)),
    ]


def _notes() -> tuple[str, ...]:
    return (
        "Energies are estimates: each figure of a single circuit has its source in the file of circuit energies, and "
        "none was measured. About 25 nJ for an inference are remembered, with low confidence and without the network "
        "or the process; the settings below give our sums for 130 nm, which are larger.",
        "Programming energies are the published ones of the three conditions: their ratios were taken over, not found.",
        "XNOR in the sense amplifiers saves gates only for inputs of one bit: the first layer takes grey levels of "
        "8 bits in wide adders, so that the gain over separate gates is small in a network of this size.",
    )


def _pictures(curves: Mapping[str, Curve], designs: Mapping[Design, Account]) -> tuple[Picture, ...]:
    from matplotlib import colormaps

    first, (axis,) = panels(1, 7.0)
    draw_curves(axis, curves)
    second, (axis,) = panels(1, 11.0)
    starts = np.zeros(len(designs))
    shown = list(dict.fromkeys(item for account in designs.values() for item in account.by_item()))
    for number, item in enumerate(shown):
        values = np.array([1e9 * account.by_item().get(item, 0.0) for account in designs.values()])
        axis.barh(
            [str(design) for design in designs], values, left=starts, label=item, color=colormaps["tab20"](number)
        )
        starts += values
    axis.set_xlabel("energy of an inference (nJ)")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return (
        Picture("Errors in the weights", "Accuracy against bit error rate; bars: over sets of errors.", first),
        Picture("Energy of an inference", f"{ENERGY_NETWORK}, by what takes it, in each design.", second),
    )


SYSTEM = System(
    "digital",
    "the whole digital system: XNOR in the sense amplifiers, accuracy and energy",
    run,
    SIZES,
    partial(sized, FULL),
)
