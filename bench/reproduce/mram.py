"""Binary networks in ST-MRAM without error correction, and trained with errors for RRAM.

Hirtzlin et al., NANOARCH 2019 (arXiv 1908.04085): bit error rates up to 1e-3 cost little accuracy, and weak writing
without error correction saves up to half of the energy. Hirtzlin et al., AICAS 2019 (arXiv 1904.03652): a network that
is trained with errors tolerates a rate of 4e-2, where RRAM takes 30 times less energy to program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bench.figures.style import engineering, looks, panels
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
from bench.reproduce.frame import Context, Picture, Reproduction, Row, Size, System, ordering
from bench.reproduce.learning import Lesson
from bench.validation import writing
from bench.validation.subject import Subject
from data.datasets import Dataset, load_dataset
from models.architectures import architecture, vgg
from models.devices.st_mram import StMram
from models.ecc import SECDED_72_64
from models.encodings import BitPlaneEncoding
from models.energy import writing_energy
from models.exceptions import UserMistake
from models.integer import IntegerNetwork

QUICK = (
    # this small network loses 1 point only at 2e-2, trained with errors or not; what training gains shows beyond
    Case("digits", architecture("digits-bnn"), Lesson(30, 64), 3, 30, 0.3, trained_rate=1e-1, tolerated_points=5.0),
)
FULL = (
    Case("mnist", architecture("mnist-1024-1024"), Lesson(20, 100), 1, 10, 0.3),
    Case("fashion-mnist", architecture("mnist-1024-1024"), Lesson(20, 100), 1, 10, 0.5),
    Case("cifar10", architecture("cifar10-bnn-32"), Lesson(100, 50, augmented=True), 1, 5, 1.5),
)
IMAGES = "image-folder"
"""Name of the data set that is run where there is one."""


def run(context: Context) -> Reproduction:
    """All data sets; of an image folder only where there is one."""
    if context.quick:
        return reproduce(context, [(case, load_dataset(case.data, context.data_dir)) for case in QUICK], ())
    notes, cases = list[str](), list(FULL)
    try:
        images = load_dataset(IMAGES, context.data_dir)
    except UserMistake as error:
        if context.size.data == IMAGES:
            raise
        notes.append(f"ImageNet-style images were not run: {error}")
    else:
        cases.append(image_case(images))
    chosen = sized(cases, context.size)
    return reproduce(context, [(case, load_dataset(case.data, context.data_dir)) for case in chosen], notes)


def _planned(size: Size) -> object:
    """What is known before the folder of images is read."""
    return None if size.data == IMAGES else sized(FULL, size)


def image_case(images: Dataset) -> Case:
    """A convolutional network for a folder of images."""
    channels, height, width = images.shape
    plan = vgg(
        images.name, BitPlaneEncoding(channels * height * width), (channels, height, width), images.classes, filters=64
    )
    return Case(images.name, plan, Lesson(60, 50, augmented=True), 1, 3, 2.0)


def reproduce(context: Context, pairs: Sequence[tuple[Case, Dataset]], more_notes: Sequence[str]) -> Reproduction:
    """Train, put errors in and count, for each case and its data."""
    subject = Subject.packaged()
    rows, figures, settings = list[Row](), list[Picture](), {"seed": str(context.seed)}
    for number, (case, data) in enumerate(pairs):
        curves = dict[str, Curve]()
        networks = list[IntegerNetwork]()
        for part, (name, rate) in enumerate((("plain", 0.0), ("trained with errors", case.trained_rate))):
            networks = list(trained(context, case, data, rate))
            curves[name] = error_curve(context, networks, data, RATES, case.draws)
            done = (number + 0.5 * (part + 1)) / len(pairs)
            context.progress(f"{case.data}, {name}: {described(curves[name])}", done)
        rows += case_rows(case, curves)
        figures.append(_picture(case, curves, subject.magnetic))
        settings |= _settings(case, data, curves, networks[0], subject.magnetic)
    rows += validated(writing.measure(subject, np.random.default_rng(context.seed)), ("mram_saving", "rram_saving"))
    return Reproduction(SYSTEM.name, tuple(rows), tuple(figures), (*_notes(), *more_notes), settings)


def case_rows(case: Case, curves: Mapping[str, Curve]) -> list[Row]:
    """What the curves of one data set show."""
    plain, hardened = curves["plain"], curves["trained with errors"]
    tolerated = [curve.tolerated(case.tolerated_points) for curve in (plain, hardened)]
    gain = hardened.mean(1e-1) - plain.mean(1e-1)
    uncertain = math.hypot(hardened.uncertainty(1e-1), plain.uncertainty(1e-1))
    return [
        small_loss_row(case, plain),
        large_loss_row(case, plain),
        Row(
            f"bit error rates that cost at most {case.tolerated_points:g} points, of networks trained without errors "
            f"and with errors at {case.trained_rate:g} ({case.data}; up to {RATES[-1]:g} tried; accepted: at least "
            "1e-4, and more with errors)",
            "1e-4 and 4e-2 at little loss",
            f"{tolerated[0]:.2g} and {tolerated[1]:.2g}, of {plain.mean(0.0):.1f} and {hardened.mean(0.0):.1f} %",
            ordering(tolerated[0] >= 1e-4 and tolerated[1] > tolerated[0]),
        ),
        Row(
            f"accuracy at a bit error rate of 1e-1 that training with errors gains ({case.data}; in points; accepted: "
            f"above its standard error, {uncertain:.2f})",
            "positive",
            round(gain, 2),
            ordering(gain > uncertain),
        ),
    ]


def _settings(
    case: Case, data: Dataset, curves: Mapping[str, Curve], network: IntegerNetwork, memory: StMram
) -> dict[str, str]:
    where = f"{case.data}, {case.architecture.name}"
    strict = writing_energy(network, memory, writing.CORRECTED_RATE, SECDED_72_64.redundancy).total
    relaxed = writing_energy(network, memory, writing.TOLERATED_RATE).total
    return {
        **training_settings(case, data),
        **{f"{where}, {name}: accuracy by error rate": described(curve) for name, curve in curves.items()},
        f"{where}: energy to write all weights into ST-MRAM": (
            f"{engineering(strict, 'J')} at {writing.CORRECTED_RATE:g} with the parity bits of a (72,64) code, "
            f"{engineering(relaxed, 'J')} at {writing.TOLERATED_RATE:g} without"
        ),
    }


def _picture(case: Case, curves: Mapping[str, Curve], memory: StMram) -> Picture:
    figure, (left, right) = panels(2)
    draw_curves(left, curves)
    for (name, curve), (colour, marker) in zip(curves.items(), looks(len(curves)), strict=True):
        rates = sorted(rate for rate in curve.accuracies if rate > 0.0)
        energies = [1e15 * memory.bit_energy_j(rate) for rate in rates]
        right.plot(energies, [curve.mean(rate) for rate in rates], marker=marker, color=colour, label=name)
    right.axvline(1e15 * memory.bit_energy_j(writing.CORRECTED_RATE), color="#8a8a8a", linestyle="--")
    right.set(xlabel="energy to write a bit into ST-MRAM (fJ); dashed: at 1e-8", ylabel="accuracy (%)")
    right.legend(loc="lower right", fontsize=8.5)
    caption = (
        "Accuracy against the bit error rate of the weights, and against the energy of writes that leave that rate. "
        "Bars: standard deviation over sets of errors; dotted: without errors."
    )
    return Picture(f"Errors in the weights of {case.architecture.name} on {case.data}", caption, figure)


def _notes() -> tuple[str, ...]:
    return (
        "Losses are counted from each network's own accuracy without errors. Training with errors itself costs some of "
        "that accuracy on small networks; the settings below give all accuracies.",
        "The RRAM energies at both error rates are published ones, in the file of programming conditions: that their "
        "ratio is the published one shows no more than that they were taken over.",
        "Errors turn the signs of weights independently, once for a set of errors; the model of the ST-MRAM "
        "write gives the pulse length, and so the energy, that leaves an error rate.",
    )


SYSTEM = System(
    "mram", "binary networks in ST-MRAM without error correction: accuracy and write energy", run, SIZES, _planned
)
