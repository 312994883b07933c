"""Systems in memory with errors: what their curves and rows say, and whole quick runs as slow tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.cli.reproduce import Asked, reproduce_command
from bench.reproduce import (
    Context,
    Size,
    Verdict,
    differential,
    digital,
    medical,
    metaplasticity,
    mram,
    stochastic,
    ternary,
)
from bench.reproduce.bit_errors import (
    Case,
    Curve,
    disturbed_accuracies,
    error_curve,
    large_loss_row,
    sized,
    small_loss_row,
    trained,
    validated,
)
from bench.reproduce.learning import Lesson
from bench.stopping import Stopped
from bench.validation.subject import Subject
from data.datasets import Dataset, load_dataset
from data.synthetic import synthetic_ecg
from models.architectures import Conv, architecture, mlp
from models.encodings import BitPlaneEncoding
from models.energy import Design
from models.exceptions import UserMistake
from models.networks import build, fold

CASE = Case("digits", architecture("digits-bnn"), Lesson(2, 64), networks=1, draws=2, allowed_points=0.3)


def curve(**losses: float) -> Curve:
    """A curve that loses so many points from 97 %; rates written as e1 for 0.1, e2 for 0.01 and so on."""
    points = {0.0: 0.0, **{10.0 ** -int(name[1:]): loss for name, loss in losses.items()}}
    return Curve({rate: np.full((2, 3), 0.97 - 0.01 * lost) for rate, lost in points.items()}, 10_000)


def context(folder: Path, should_stop: Callable[[], bool] = lambda: False) -> Context:
    return Context(True, 0, folder, None, "cpu", lambda text, share: None, should_stop)


def test_losses_and_spread_of_a_curve() -> None:
    accuracies = np.array([[0.90, 0.94], [0.80, 0.84]])
    found = Curve({0.0: np.full((2, 2), 0.95), 0.1: accuracies}, 10_000)
    assert found.mean(0.1) == pytest.approx(87.0)
    assert found.loss(0.1) == pytest.approx(8.0)
    assert found.spread(0.1) == pytest.approx(2.0)  # within networks, not between them
    assert found.uncertainty(0.1) == pytest.approx(5.0)  # means of 92 and 82 %: s.d. 7.07 over the root of two
    assert Curve({0.1: accuracies[:1]}, 10_000).uncertainty(0.1) == pytest.approx(2.0)


def test_tolerated_rate_lies_where_the_loss_is_reached() -> None:
    assert curve(e4=0.0, e3=0.0, e2=0.5, e1=1.5).tolerated(1.0) == pytest.approx(10.0**-1.5)
    assert curve(e4=2.0, e3=3.0).tolerated(1.0) == 0.0
    assert curve(e4=0.0, e3=0.9).tolerated(1.0) == pytest.approx(1e-3)
    assert curve(e3=1.0, e2=5.0).tolerated(1.0) == pytest.approx(1e-3)


def test_rows_tell_small_losses_from_large_ones() -> None:
    good = curve(e3=0.2, e1=7.0)
    assert small_loss_row(CASE, good).verdict is Verdict.ORDERING
    assert large_loss_row(CASE, good).verdict is Verdict.ORDERING
    assert small_loss_row(CASE, curve(e3=0.4, e1=7.0)).verdict is Verdict.NOT_REPRODUCED
    assert large_loss_row(CASE, curve(e3=0.2, e1=0.6)).verdict is Verdict.NOT_REPRODUCED
    few = replace(good, examples=24)
    assert small_loss_row(CASE, few).verdict is large_loss_row(CASE, few).verdict is Verdict.NOT_REPRODUCED
    assert "24 held-out examples, too few for a verdict" in small_loss_row(CASE, few).what


def test_training_with_errors_must_tolerate_more_and_gain() -> None:
    plain, hardened = curve(e4=0.0, e3=0.1, e2=1.5, e1=9.0), curve(e4=0.0, e3=0.1, e2=0.5, e1=4.0)
    rows = mram.case_rows(CASE, {"plain": plain, "trained with errors": hardened})
    assert [row.verdict for row in rows] == [Verdict.ORDERING] * 4
    turned = mram.case_rows(CASE, {"plain": hardened, "trained with errors": plain})
    assert [row.verdict for row in turned[2:]] == [Verdict.NOT_REPRODUCED] * 2


def test_validated_rows_keep_the_tolerance_of_the_validation() -> None:
    good, bad = (validated({"mram_saving": value}, ("mram_saving",))[0] for value in (2.4, 2.6))
    assert (good.published, good.ours, good.verdict) == (2.0, 2.4, Verdict.REPRODUCED)
    assert bad.verdict is Verdict.NOT_REPRODUCED
    assert "1.6 to 2.5" in good.what
    (ordered,) = validated({"amplifier_over_comparison": 1.5}, ("amplifier_over_comparison",))
    assert ordered.verdict is Verdict.ORDERING


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def test_errors_are_repeatable_and_harm(digits: Dataset, tmp_path: Path) -> None:
    (network,) = trained(context(tmp_path), CASE, digits)
    rates = (0.0, 0.5)
    first, again = (error_curve(context(tmp_path), [network], digits, rates, 3) for _ in range(2))
    assert np.array_equal(first.accuracies[0.5], again.accuracies[0.5])
    assert (first.accuracies[0.0] == network.accuracy(digits.test_images, digits.test_labels)).all()
    assert first.mean(0.0) > 70.0
    assert first.mean(0.5) < 30.0  # half of the signs turned leaves chance, 10 %, give or take a network's bias


def test_draws_of_errors_stop_on_request(digits: Dataset, tmp_path: Path) -> None:
    network = fold(build("digits-bnn", torch.Generator().manual_seed(0)))
    stopping = context(tmp_path, should_stop=lambda: True)
    with pytest.raises(Stopped):
        disturbed_accuracies(stopping, network, digits, 0.1, 5, np.random.default_rng(0))


def test_rates_of_the_programming_conditions() -> None:
    rates = differential.rates_by_condition(Subject.packaged())
    assert list(rates) == ["strong", "weak", "ultra_weak"]
    for found in rates.values():
        assert found.differential < found.single
        assert found.corrected < found.single
    verdicts = [row.verdict for row in differential.condition_rows(rates)]
    assert Verdict.NOT_REPRODUCED not in verdicts
    swapped = dict(zip(rates, reversed(rates.values()), strict=True))
    assert differential.condition_rows(swapped)[0].verdict is Verdict.NOT_REPRODUCED


def test_energy_rows_compare_designs() -> None:
    network = fold(build("digits-bnn", torch.Generator().manual_seed(0)))
    designs = digital.accounts(network)
    assert set(designs) == set(Design)
    rows = digital.energy_rows(designs, network, Subject.packaged())
    assert all(row.verdict is Verdict.ORDERING for row in rows[: len(Design) - 1])
    worse = {**designs, Design.IN_SENSE: designs[Design.SRAM]}
    assert digital.energy_rows(worse, network, Subject.packaged())[0].verdict is Verdict.NOT_REPRODUCED


def test_signals_become_levels() -> None:
    signals = np.repeat(np.array([[-2.5, -2.0, 0.0, 1.0, 1.999, 9.0]], np.float32), 2, axis=1)
    labels = np.zeros(1, np.int64)
    data = Dataset("s", signals, labels, signals, labels, 2, (2, 6), rate_hz=500.0)

    def takes(samples: int) -> Case:
        plan = mlp("of-signals", BitPlaneEncoding(2 * samples), (4,), 2)
        return replace(CASE, architecture=replace(plan, shape=(2, 1, samples)))

    levels = digital.items_of(takes(3), data)
    assert levels.train_images.tolist() == [[0, 0, 128, 192, 255, 255]]
    assert levels.shape == (2, 1, 3)
    with pytest.raises(UserMistake, match="signals of 6 samples cannot be brought to 4"):
        digital.items_of(takes(4), data)


def test_image_folder_gets_a_network_of_its_size() -> None:
    pixels = np.zeros((2, 3 * 16 * 16), np.uint8)
    labels = np.array([0, 1], np.int64)
    case = mram.image_case(Dataset("image-folder", pixels, labels, pixels, labels, 2, (3, 16, 16)))
    assert case.architecture.shape == (3, 16, 16)
    assert case.architecture.classes == 2


def test_published_ternary_errors_hit_the_asked_share_of_weights() -> None:
    for zeros in (0.0, 0.4, 1.0):
        rates = ternary.published_errors(0.1, zeros)
        assert zeros * rates.gain + (1.0 - zeros) * rates.loss == pytest.approx(0.1)


def test_careful_programming_leaves_fewer_zeros_decided_and_a_best_window_beats_the_published_one() -> None:
    plain = Subject.packaged().ternary.model
    strong = ternary.careful(plain)
    at_point = [ternary.ternary(model, ternary.VDD_V, ternary.WINDOW_S) for model in (plain, strong)]
    assert at_point[1].type3 < 0.5 * at_point[0].type3
    window, best = ternary.best_window(strong, ternary.VDD_V)
    assert ternary.WINDOWS_S[0] < window < ternary.WINDOW_S
    assert best.type2 + best.type3 < at_point[1].type2 + at_point[1].type3


def test_memory_of_the_published_networks() -> None:
    mobile = medical.mobilenet_v1()
    assert mobile.features + mobile.classifier == 4_209_088  # 4 231 976 with batch normalisation and biases
    eeg = medical.weights_of(medical.plan(medical.FULL[1], medical.Kind.REAL, medical.PUBLISHED_SHAPES["eeg"]))
    assert (eeg.features, eeg.classifier) == (103_600, 201_760)
    assert medical.Weights(10, 30).saving(medical.Kind.CLASSIFIER, 32) == pytest.approx(0.75 * 31 / 32)


def test_cases_of_another_size() -> None:
    (case,) = sized(mram.FULL, Size("cifar10", epochs=3, filters=8, draws=2))
    convolutions = [block.filters for block in case.architecture.blocks if isinstance(block, Conv)]
    assert convolutions == [8, 8, 16, 16, 32, 32]
    assert (case.lesson.epochs, case.draws, case.lesson.batch) == (3, 2, mram.FULL[2].lesson.batch)
    assert sized(mram.FULL, Size()) == mram.FULL
    small = ternary.sized(ternary.FULL, Size(filters=8))
    assert small.compared == small.disturbed
    assert [block.filters for block in small.compared.blocks if isinstance(block, Conv)] == convolutions
    tasks = metaplasticity.sized(Size(hidden=64, epochs=2))
    assert [(one.hidden, one.epochs) for one in (tasks.permuted, tasks.in_turn, tasks.stream)] == [((64, 64), 2)] * 3
    assert tasks.stream.m == metaplasticity.FULL.stream.m
    assert metaplasticity.sized(Size()) == metaplasticity.FULL


def test_one_experiment_of_several_is_run_alone(tmp_path: Path) -> None:
    course = metaplasticity.Course((16, 16), 16.0, 1, 100, 40.0)
    tiny = replace(metaplasticity.QUICK, permuted=course, in_turn=course, stream=course, permutations=2, parts=2)
    whole = metaplasticity.reproduce(context(tmp_path), tiny)
    alone = [
        metaplasticity.reproduce(replace(context(tmp_path), size=Size(only=name)), tiny)
        for name in metaplasticity.EXPERIMENTS
    ]
    assert [row for one in alone for row in one.rows] == list(whole.rows)
    assert [len(one.figures) for one in alone] == [1, 0, 1]
    assert "stream" not in alone[0].settings
    assert "stream" in alone[2].settings


def test_real_signals_are_each_held_out_once_and_too_few_of_them_show_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = synthetic_ecg(1, records=12, rate_hz=500.0, seconds=0.5)
    persons = np.arange(len(whole.train_labels)) % 2, np.full(len(whole.test_labels), 2)
    held = replace(whole, train_groups=persons[0], test_groups=persons[1])
    monkeypatch.setattr(medical, "load_dataset", lambda name, folder, seed: held)
    task = replace(medical.FULL[0], slower=5, filters=2, wider=2, dense=4, epochs=1, batch=8)
    found = medical.reproduce(context(tmp_path), (task,))
    (sizes,) = re.findall(r"held-out examples of each ([\d, ]+), ", found.settings["ecg"])
    assert sorted(map(int, sizes.split(", "))) == sorted(np.bincount(np.concatenate(persons)))  # one fold a person
    orders = [row for row in found.rows if "accuracy" in row.what]
    assert len(orders) == 3
    assert {row.verdict for row in orders} == {Verdict.NOT_REPRODUCED}
    assert "12 held-out examples, too few for a verdict" in orders[0].what
    better = {kind: 0.9 - 0.1 * number for number, kind in enumerate(medical.Kind)}
    better[medical.Kind.WIDER] = 0.75
    assert {row.verdict for row in medical._rows(task, better, 200)} == {Verdict.ORDERING}
    assert {row.verdict for row in medical._rows(task, better, 199)} == {Verdict.NOT_REPRODUCED}


def test_signals_become_levels_in_the_order_of_the_network() -> None:
    signals = np.zeros((2, 12), np.float32)
    signals[0] = [1, 1, 2, 2, 3, 3, -1, -1, -2, -2, -3, -3]
    data = Dataset("few", signals, np.array([0, 1]), signals, np.array([0, 1]), 2, (2, 6), 10.0)
    of_heart = medical.items_of(replace(medical.FULL[0], slower=2), data)
    assert of_heart.shape == (2, 1, 3)
    levels = of_heart.train_images[0].astype(int)
    assert (np.diff(levels[:3]) > 0).all()
    assert (np.diff(levels[3:]) < 0).all()
    of_brain = medical.items_of(medical.FULL[1], data)
    assert of_brain.shape == (1, 6, 2)
    assert (of_brain.train_images[0].reshape(6, 2)[:, 0] > of_brain.train_images[0].reshape(6, 2)[:, 1]).all()


def test_stochastic_inputs_save_area_and_less_energy_the_more_presentations() -> None:
    found = stochastic.ratios(stochastic.InputWords.PARALLEL, (1, 2, 4))
    assert 0.2 < found.area < 0.5
    assert found.gains[1] > found.gains[2] > found.gains[4] > 0.0


def test_more_presentations_of_an_untrained_network_are_its_own_sums() -> None:
    data = load_dataset("digits")
    _, plan = stochastic.plans(stochastic.QUICK, 64, 10)
    network = build(plan, torch.Generator().manual_seed(0)).eval()
    found = stochastic.accuracy_by_presentations(network, plan, data, (1, 3), seed=4)
    assert len(found) == 2
    assert found == stochastic.accuracy_by_presentations(network, plan, data, (1, 3), seed=4)
    assert found != stochastic.accuracy_by_presentations(network, plan, data, (1, 3), seed=5)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        (name, seed)
        for name in ("mram", "differential", "digital", "ternary", "stochastic", "medical")
        for seed in (0, 5)
    ],
)
def test_quick_runs_hold(name: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce_command(Asked(name, True, seed, "cpu", None, tmp_path), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["rows"]
    assert [row["what"] for row in found["rows"] if row["verdict"] == "not reproduced"] == []
    assert "data:image/png" in Path(found["report"]).read_text(encoding="utf-8")
