"""What the judges of the fits find: data of the model pass, and data of another one are told from them."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.populations import fit_population
from calibration.predictive import predictive_checks
from calibration.resistance_judging import Judged, Members, judge
from calibration.sense import fit_sense
from calibration.sense_judging import judge as judge_sense
from tests.calibration.test_sense import BASE, one_chip

DEVICES, CYCLES = 256, 8


def judged(own: np.ndarray, each: np.ndarray) -> Judged:
    """Readings of devices ``(devices, 1)`` with their cycles ``(devices, cycles)``, two of each."""
    rng = np.random.default_rng(5)
    logs = np.log(7e3) + np.repeat((own + each)[..., None], 2, axis=2)
    logs += 0.01 * rng.standard_normal(logs.shape)
    device, cycle, _ = (place.ravel() for place in np.indices(logs.shape))
    side = np.zeros(logs.size, dtype=np.int8)
    found = fit_population(device, cycle, np.exp(logs.ravel()), "LRS", side)
    kept = ~np.isin(device, found.outliers)
    members, index = np.unique(device[kept], return_inverse=True)
    data = Members(index, cycle[kept], logs.ravel()[kept], side[kept], members // 16, members % 16)
    return judge("LRS", data, found)


def failed(found: Judged) -> set[str]:
    return {check.name.removeprefix("LRS, ") for check in found.checks if not check.good}


def winners(found: Judged) -> list[str]:
    return [one.winner for one in found.comparisons]


def test_resistances_of_the_model_pass_and_others_are_told_apart() -> None:
    rng = np.random.default_rng(3)
    own, each = 0.3 * rng.standard_normal((DEVICES, 1)), 0.2 * rng.standard_normal((DEVICES, CYCLES))
    right = judged(own, each)
    assert not failed(right)
    assert len(right.checks) > 12
    assert winners(right) == ["devices and cycles differ", "cycles differ", "log-normal", "log-normal"]
    assert len(right.overlays) == 3
    for overlay in right.overlays:
        inside = (overlay.measured.median >= overlay.fitted.low) & (overlay.measured.median <= overlay.fitted.high)
        assert inside.mean() > 0.5, overlay.title
    drifting = judged(own, each + 0.05 * np.arange(CYCLES))
    assert "rise of ln R from the first to the second half of the cycles" in failed(drifting)
    by_row = judged(own + 0.3 * np.sin(np.arange(DEVICES) // 16)[:, None], each)
    assert "s.d. of ln R between the means of rows" in failed(by_row)
    heavy = judged(own, 0.1 * rng.standard_t(3, each.shape))
    assert winners(heavy)[3].startswith("a heavier tail")
    alike = judged(0.0 * own, each)
    assert winners(alike)[0] == "cycles alone"


def test_a_check_of_rare_counts_allows_what_was_ever_simulated() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.poisson(0.3, 200).astype(float)
    assert predictive_checks([("errors", drawn.max(), drawn)])[0].good
    assert not predictive_checks([("errors", drawn.max() + 3, drawn)])[0].good
    assert predictive_checks([("errors", 1.0, np.ones(9))]) == ()


@pytest.mark.slow
def test_senses_of_the_model_pass_and_a_law_of_the_supply_that_is_another_does_not() -> None:
    data = one_chip()
    found = fit_sense(data, BASE, rivals=True)[0]
    right = judge_sense(data, found, BASE)
    assert all(check.good for check in right.checks)
    assert [one.winner for one in right.comparisons] == ["an offset for each column", "a spread of the branches"]
    # windows 20 % shorter than told at one supply: its crossing times are then others than the base file's law gives
    low = data._replace(window_s=np.where(data.vdd_v == data.vdd_v.min(), 0.8, 1.0) * data.window_s)
    wrong = judge_sense(low, fit_sense(low, BASE)[0], BASE)
    assert any(not check.good and "crossing time" in check.name for check in wrong.checks)
