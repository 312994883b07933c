"""Accuracy of trained networks against the error rate of their weights, as several reproductions measure it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.figures.style import looks
from bench.reproduce.frame import Context, Row, Size, Verdict, enough, examples_in_words, ordering
from bench.reproduce.learning import Lesson, learn, with_filters
from bench.validation.figures import packaged_reference
from bench.validation.rows import judge
from bench.validation.subject import Measured
from data.datasets import Dataset
from models.architectures import Architecture
from models.exceptions import UserMistake
from models.integer import IntegerNetwork
from models.networks import fold
from models.packed import PackedNetwork
from models.prediction import flip_weights
from models.processes import place, summed
from models.weight_errors import WeightErrorRates

RATES = (0.0, 1e-4, 1e-3, 1e-2, 2e-2, 4e-2, 1e-1)
"""Error rates of a curve; it begins without errors."""


@dataclass(frozen=True)
class Case:
    """A network on a data set.

    Attributes:
        data: name of the data set.
        architecture: of the network.
        lesson: how it is trained.
        networks: how many are trained, each with a seed of its own.
        draws: sets of errors in each, at each rate.
        allowed_points: most that an error rate of 1e-3 may cost for it to count as little, in points.
        trained_rate: error rate that networks are trained with where they are trained with errors.
        tolerated_points: loss up to which an error rate counts as tolerated.
    """

    data: str
    architecture: Architecture
    lesson: Lesson
    networks: int
    draws: int
    allowed_points: float
    trained_rate: float = 4e-2
    tolerated_points: float = 1.0


SIZES = ("data", "epochs", "filters", "draws")
"""What :func:`sized` takes."""


def sized(cases: Sequence[Case], size: Size) -> tuple[Case, ...]:
    """The cases that are asked for, each with the epochs, filters and sets of errors that are asked for.

    Raises:
        UserMistake: there is none on that data set, or filters for a network without convolutions.
    """
    chosen = [case for case in cases if size.data in (None, case.data)]
    if not chosen:
        raise UserMistake(f"--data {size.data}: there are {', '.join(case.data for case in cases)}")
    return tuple(
        replace(
            case,
            lesson=case.lesson if size.epochs is None else replace(case.lesson, epochs=size.epochs),
            architecture=case.architecture if size.filters is None else with_filters(case.architecture, size.filters),
            draws=case.draws if size.draws is None else size.draws,
        )
        for case in chosen
    )


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracies on held-out examples with errors in the weights.

    Attributes:
        accuracies: error rate to ``(networks, draws)``; 0 is among the rates.
        examples: held out, on which each accuracy was taken.
    """

    accuracies: Mapping[float, NDArray[np.float64]]
    examples: int

    def mean(self, rate: float) -> float:
        """Mean accuracy, in percent."""
        return 100.0 * float(self.accuracies[rate].mean())

    def spread(self, rate: float) -> float:
        """Standard deviation over the sets of errors, mean over the networks, in points."""
        return 100.0 * float(self.accuracies[rate].std(axis=1).mean())

    def uncertainty(self, rate: float) -> float:
        """Standard error of the mean accuracy, in points: over networks, or over sets of errors in a single one."""
        found = self.accuracies[rate]
        each = found.mean(axis=1) if len(found) > 1 else found[0]
        return 100.0 * float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else 0.0

    def loss(self, rate: float) -> float:
        """Accuracy lost to errors, in points."""
        return self.mean(0.0) - self.mean(rate)

    def tolerated(self, points: float) -> float:
        """Highest error rate up to which at most ``points`` are lost; between rates along their logarithm.

        0 where the lowest rate loses more, and the highest rate where that loses no more.
        """
        rates = sorted(rate for rate in self.accuracies if rate > 0.0)
        if self.loss(rates[0]) > points:
            return 0.0
        for low, high in pairwise(rates):
            if self.loss(high) > points:
                share = (points - self.loss(low)) / (self.loss(high) - self.loss(low))
                return float(low * (high / low) ** share)
        return rates[-1]


def trained(context: Context, case: Case, data: Dataset, error_rate: float = 0.0) -> Iterator[IntegerNetwork]:
    """The networks of a case in integers, one after the other, trained with weights that err at this rate."""
    rates = WeightErrorRates(error_rate) if error_rate > 0.0 else None
    for number in range(case.networks):
        name = f"{case.data}-errors-{error_rate:g}"
        yield fold(learn(context, case.architecture, data, case.lesson, context.seed + number, name, rates).network)


def disturbed_accuracies(
    context: Context, network: IntegerNetwork, data: Dataset, rate: float, draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Accuracy ``(draws,)`` with fresh errors at ``rate`` in all weights; without errors it is taken only once.

    Where several processes share the run each draws all sets of errors, and tests with its share of them.
    """
    found = np.zeros(draws)
    for draw in range(draws):
        context.check()
        if rate == 0.0 and draw > 0:
            found[draw] = found[0]
            continue
        weights = [flip_weights(layer.weights, rate, rng) for layer in network.layers]
        if draw % place().size == place().rank:
            found[draw] = PackedNetwork(network.with_weights(weights)).accuracy(data.test_images, data.test_labels)
    return np.array(summed(list(found)))


def error_curve(
    context: Context, networks: Sequence[IntegerNetwork], data: Dataset, rates: Sequence[float], draws: int
) -> Curve:
    """Accuracy at each of the rates; all draws from the seed of the context."""
    rng = np.random.default_rng([context.seed, 3])
    return Curve(
        {
            rate: np.stack([disturbed_accuracies(context, one, data, rate, draws, rng) for one in networks])
            for rate in rates
        },
        len(data.test_labels),
    )


def validated(measured: Measured, names: Sequence[str]) -> list[Row]:
    """Rows of published figures that the models are validated with, in that order and with their tolerances."""
    rows = []
    for name in names:
        (found,) = judge(packaged_reference(), {name: measured[name]})
        holds = Verdict.REPRODUCED if found.kind == "hard" else Verdict.ORDERING
        verdict = holds if found.passed else Verdict.NOT_REPRODUCED
        rows.append(Row(f"{found.what} (accepted: {found.tolerance})", found.expected, found.ours, verdict))
    return rows


def small_loss_row(case: Case, curve: Curve) -> Row:
    """The loss at an error rate of 1e-3."""
    loss = curve.loss(1e-3)
    return Row(
        f"accuracy lost at a bit error rate of 1e-3 ({case.data}, {examples_in_words(curve.examples)}; in points; "
        f"accepted: up to {case.allowed_points:g})",
        "little",
        round(loss, 3),
        ordering(enough(curve.examples) and loss <= case.allowed_points),
    )


def large_loss_row(case: Case, curve: Curve) -> Row:
    """The loss at an error rate of 1e-1, against that at 1e-3."""
    low, high = curve.loss(1e-3), curve.loss(1e-1)
    what = f"accuracy lost at a bit error rate of 1e-1 ({case.data}; in points; accepted: 0.5 more than at 1e-3)"
    return Row(what, "large", round(high, 2), ordering(enough(curve.examples) and high > low + 0.5))


def training_settings(case: Case, data: Dataset) -> dict[str, str]:
    """What was trained and tested, and on how much of the data, for the settings of a report."""
    where = f"{case.data}, {case.architecture.name}"
    return {
        f"{where}: training": f"{len(data.train_images)} examples, {case.lesson}, {case.networks} networks",
        f"{where}: errors": f"{case.draws} sets at each rate on {len(data.test_images)} held-out examples",
        **({f"{where}: notes": "; ".join(data.notes)} if data.notes else {}),
    }


def described(curve: Curve) -> str:
    """Mean and spread at each rate, for the settings of a report."""
    return "; ".join(
        f"{rate:g}: {curve.mean(rate):.2f} +- {curve.spread(rate):.2f} %" for rate in sorted(curve.accuracies)
    )


def draw_curves(axis: Any, curves: Mapping[str, Curve]) -> None:
    """Accuracy against error rate, with the spread over the sets of errors."""
    for (name, curve), (colour, marker) in zip(curves.items(), looks(len(curves)), strict=True):
        rates = sorted(rate for rate in curve.accuracies if rate > 0.0)
        means, spreads = [curve.mean(rate) for rate in rates], [curve.spread(rate) for rate in rates]
        axis.errorbar(rates, means, spreads, marker=marker, color=colour, capsize=3, markersize=5, label=name)
        axis.axhline(curve.mean(0.0), color=colour, linewidth=0.8, linestyle=":")
    axis.set(xscale="log", xlabel="bit error rate", ylabel="accuracy (%)")
    axis.legend(loc="lower left", fontsize=8.5)
