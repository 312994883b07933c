"""Forming and the preparation of other procedures, through the wire, against the hidden devices of the chip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from bench.config import parse_bench_file
from bench.procedure import CellMask, Procedure, Steps
from bench.procedures.forming import FORMING, QUICK, FormingOutcome
from bench.procedures.preparing import OnFormedCells, prepare
from bench.procedures.tables import RESISTANCES
from bench.runner import run
from bench.session import Bench, connect
from data.runs import Run, open_run
from drivers.chip import Chip, OperationKind
from drivers.simulated.bench import SimulatedBench
from models.cells import DeviceState
from models.exceptions import UserMistake

DEFECTS = {(2, 3, 1): DeviceState.STUCK_LRS, (5, 0, 0): DeviceState.STUCK_HRS, (9, 9, 1): DeviceState.OPEN}


def break_devices(world: SimulatedBench) -> None:
    for place, state in DEFECTS.items():
        mask = np.zeros(world.chip.state.shape, dtype=bool)
        mask[place] = True
        world.chip._break(mask, np.array([state], dtype=np.int8))


def some(rows: int, cols: int) -> CellMask:
    cells = np.zeros((32, 32), dtype=bool)
    cells[:rows, :cols] = True
    return cells


def expected_forming_v(
    world: SimulatedBench, levels: np.ndarray, devices: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and s.d. of the step at which each device forms, by its hidden threshold; and where forming is certain."""
    at = world.chip.model.thresholds
    own = at.form_vddc_v * (1 + at.form_sigma_d2d * world.chip._deviates.forming[devices])
    # P(a pulse of this level forms it): the threshold varies from pulse to pulse
    chance = ndtr((levels[None, :] - own[:, None]) / (at.form_vddc_v * at.form_sigma_c2c))
    reached = np.cumprod(1 - chance, axis=1)
    first = np.concatenate([np.ones((len(own), 1)), reached[:, :-1]], axis=1) * chance
    mean = (first * levels).sum(axis=1)
    return mean, np.sqrt((first * levels**2).sum(axis=1) - mean**2), reached[:, -1]


def test_devices_form_at_the_voltages_that_their_hidden_thresholds_imply(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = some(8, 8)
    virgin = (world.chip.state == DeviceState.VIRGIN) & cells[:, :, None]
    outcome = run(FORMING, FORMING.parse({"start_v": 2.1, "step_v": 0.05}), bench, tmp_path, cells=cells)
    rows = open_run(outcome.run_file).read("formed_devices")
    formed = rows["outcome"] == FormingOutcome.FORMED
    volts = np.full(virgin.shape, np.nan)
    place = tuple(rows[name][formed] for name in ("row", "col", "device"))
    volts[place] = rows["vddc_v"][formed]
    assert (np.isfinite(volts) == virgin).all()
    levels = np.append(np.round(np.arange(2.1, 2.9999, 0.05), 6), [3.0] * 3)
    mean, spread, missed = expected_forming_v(world, levels, virgin)
    assert missed.max() < 1e-3
    found = volts[virgin]
    # Standard errors from the hidden thresholds: the mean within four, the single devices as they scatter.
    error = np.sqrt((spread**2).sum()) / len(found)
    assert abs(found.mean() - mean.mean()) < 4 * error
    assert np.std((found - mean) / np.maximum(spread, 0.01)) == pytest.approx(1.0, abs=0.2)
    assert outcome.result["median_forming_v"] == pytest.approx(np.median(mean), abs=0.05)
    # As gentle as it gets: the ramp gave each device one pulse per level up to its own, and not one more.
    below = formed & (rows["vddc_v"] < 3.0)
    assert (rows["pulses"][below] == np.round((rows["vddc_v"][below] - 2.1) / 0.05) + 1).all()
    assert (world.chip.state[virgin] == DeviceState.LRS).all()
    assert (world.chip.state[~cells] != DeviceState.LRS).all()


def test_the_ramp_holds_the_word_line_and_never_exceeds_the_forming_point(bench: Bench, tmp_path: Path) -> None:
    outcome = run(FORMING, FORMING.parse({"start_v": 2.4, "rounds": 2}), bench, tmp_path, cells=some(2, 8))
    done = open_run(outcome.run_file).read("operations")
    pulses = done["kind"] == OperationKind.FORM
    assert set(done["vddr_v"][pulses]) == {bench.config.points.form.rails.vddr_v}
    volts = done["vddc_v"][pulses]
    assert (np.diff(volts) >= 0).all()
    assert (volts[0], volts.max()) == (2.4, pytest.approx(3.0, abs=0.21))
    assert volts.max() <= bench.config.points.form.rails.vddc_v
    assert OperationKind.SET not in done["kind"]


def test_broken_devices_are_found_by_address_and_their_cells_are_not_formed(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    break_devices(world)
    cells = some(10, 10)
    outcome = run(FORMING, FORMING.parse({"start_v": 2.4, "step_v": 0.2}), bench, tmp_path, cells=cells)
    result = outcome.result
    assert result["devices_never_formed_at"] == [[5, 0, "BL"], [9, 9, "BLB"]]
    assert result["devices_formed_before_at"] == [[2, 3, "BLB"]]
    assert result["not_formed"] == [[5, 0], [9, 9]]
    assert (result["formed"], result["devices_formed"]) == (98, 197)
    stored = open_run(outcome.run_file)
    done = stored.read("cells_done")["cells"].astype(bool)
    assert (done.any(axis=0) == cells).all()
    assert (done.sum(axis=0) <= 1).all()
    rows = stored.read("formed_devices")
    never = rows["outcome"] == FormingOutcome.NEVER_FORMED
    assert (rows["pulses"][never] == 6).all()  # 2.4, 2.6, 2.8, and three times 3.0 V
    assert (rows["after_ohm"][~never] < 30e3).all()
    # what is formed leaves nothing to do: no pulse is given
    again = open_run(run(FORMING, FORMING.parse({}), bench, tmp_path, cells=some(2, 2)).run_file)
    assert OperationKind.FORM not in again.read("operations")["kind"]


def test_a_device_left_in_the_hrs_is_not_taken_for_a_newly_formed_one(bench: Bench, tmp_path: Path) -> None:
    cells = some(2, 2)
    run(FORMING, QUICK, bench, tmp_path, cells=cells)
    bench.chip.reset(np.repeat(cells[:, :, None], 2, axis=2))
    result = run(FORMING, FORMING.parse({}), bench, tmp_path, cells=cells).result
    assert (result["devices_formed"], result["devices_formed_before"], result["formed"]) == (0, 8, 4)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"start_v": 3.2}, r"starts at 3.2 V, above its end at 3 V"),
        ({"stop_v": 1.0}, r"starts at 2 V, above its end at 1 V"),
    ],
)
def test_a_ramp_that_cannot_rise_is_refused_before_any_voltage(
    settings: dict[str, float], complaint: str, bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    before = world.chip.state
    with pytest.raises(UserMistake, match=complaint):
        run(FORMING, FORMING.parse(settings), bench, tmp_path)
    assert (world.chip.state == before).all()


@pytest.fixture
def bench_without_smu(world: SimulatedBench) -> Iterator[Bench]:
    head, _, rest = world.bench_file().partition("[smu]")
    text = head + rest[rest.index("\n[") :]
    with connect(parse_bench_file(text, "test bench"), text) as session:
        yield session


def test_without_a_source_measure_unit_cells_are_checked_with_both_weights(
    bench_without_smu: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    break_devices(world)
    cells = some(10, 10)
    outcome = run(FORMING, FORMING.parse({}), bench_without_smu, tmp_path, cells=cells)
    # the weights tell what spoils a cell for sure; a stuck device may still be the lower, or the higher, of the two
    assert [9, 9] in outcome.result["not_formed"]
    assert {(row, col) for row, col in outcome.result["not_formed"]} <= {place[:2] for place in DEFECTS}
    done = open_run(outcome.run_file).read("cells_done")["cells"].astype(bool)
    assert (done.any(axis=0) == cells).all()
    with pytest.raises(UserMistake, match="check = weights"):
        run(FORMING, FORMING.parse({"check": "resistance"}), bench_without_smu, tmp_path)


def prepared(bench: Bench, folder: Path, cells: CellMask, **settings: Any) -> tuple[list[list[int]], Run]:
    def steps(chip: Chip, parameters: OnFormedCells, mask: CellMask) -> Steps:
        usable = yield from prepare(chip, parameters, mask)
        return {"usable": np.argwhere(usable).tolist()}

    procedure = Procedure("prepared", "only prepares", OnFormedCells, (RESISTANCES,), steps)
    outcome = run(procedure, procedure.parse(settings), bench, folder, cells=cells)
    return outcome.result["usable"], open_run(outcome.run_file)


def test_preparing_forms_what_is_virgin_and_nothing_else(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    break_devices(world)
    cells = some(10, 10)
    bench.chip.form(np.repeat(some(1, 4)[:, :, None], 2, axis=2))
    bench.chip.reset(np.repeat(some(1, 4)[:, :, None], 2, axis=2))
    before = world.chip.resistance_ohm
    usable, stored = prepared(bench, tmp_path, cells)
    assert [9, 9] not in usable  # open
    assert len(usable) == 99
    state = world.chip.state
    assert (state[0, :4] == DeviceState.HRS).all()
    assert (world.chip.resistance_ohm[0, :4] == before[0, :4]).all()
    fresh = np.repeat(cells[:, :, None], 2, axis=2)
    fresh[0, :4] = False
    for place in DEFECTS:
        fresh[place] = False
    assert (state[fresh] == DeviceState.LRS).all()
    assert (world.chip.resistance_ohm[~cells] == before[~cells]).all()
    rows = stored.read("resistances")
    # all of them; after forming, those that were virgin or open; the open one twice more
    assert len(rows["row"]) == 200 + 190 + 2
    place = tuple(rows[name][:200] for name in ("row", "col", "device"))
    # an open device shows the meter's own noise
    measured = before[place] < 1e9
    assert np.log(rows["resistance_ohm"][:200] / before[place])[measured] == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize(("kind", "settings"), [("bench", {"form_virgin": False}), ("bench_without_smu", {})])
def test_preparing_leaves_the_chip_alone_where_it_may_or_can_not(
    kind: str, settings: dict[str, Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    usable, stored = prepared(request.getfixturevalue(kind), tmp_path, some(2, 2), **settings)
    assert len(usable) == 4
    assert not len(stored.read("operations")["kind"])
