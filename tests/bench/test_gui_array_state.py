"""What the window knows of the cells, which colours that gives them, and which cells are selected: all without Qt."""

from __future__ import annotations

import numpy as np
import pytest

from bench.gui.array_state import UNKNOWN, ArrayState
from bench.gui.selection import Selection, outline
from bench.gui.units import duration, si
from bench.gui.views import VIEWS, CategoryView, LogView, counts, decades, image, rgb
from bench.procedure import Record, operation_record
from bench.procedures.tables import ProgrammedState, resistance_records, sense_records
from drivers.chip import DeviceReading, Operation, OperationKind, Verdict
from drivers.operating_points import RailVoltages
from drivers.roles import Measurement
from models.cells import Device, Geometry

ARRAY = Geometry(3, 4)


def programmed(target: np.ndarray, sensed: np.ndarray, used: np.ndarray) -> Record:
    verdict = np.where(used, np.where(target == sensed, Verdict.VERIFIED, Verdict.FAILED), Verdict.UNUSED)
    values = {"target": target.astype(np.int8), "sensed": sensed.astype(np.int8), "verdict": verdict.astype(np.int8)}
    return Record("patterns", values)


def pulsed(kind: OperationKind, *cells: tuple[int, int]) -> Record:
    devices = np.zeros((*ARRAY, 2), dtype=bool)
    for cell in cells:
        devices[cell] = True
    rails = RailVoltages(1.2, 3.5, 3.0)
    return operation_record(Operation(kind, devices, rails, rails, 1e-5, 1, 0.01))


def known_state() -> ArrayState:
    """All cells asked to be +1; the cell (1, 2) reads -1 and (2, 3) is undecided."""
    state = ArrayState(ARRAY)
    target = np.ones(ARRAY)
    sensed = target.copy()
    sensed[1, 2], sensed[2, 3] = -1, 0
    state.take(programmed(target, sensed, np.ones(ARRAY, dtype=bool)))
    return state


def view(name: str) -> CategoryView | LogView:
    return next(view for view in VIEWS if view.name == name)


def legend(name: str, state: ArrayState) -> dict[str, int]:
    shown = view(name)
    assert isinstance(shown, CategoryView)
    return {category.label: count for category, count in zip(shown.categories, counts(shown, state), strict=True)}


def test_nothing_is_known_at_first() -> None:
    state = ArrayState(ARRAY)
    assert legend("Weight", state)["unknown"] == ARRAY.cells
    assert legend("Errors", state)["not compared"] == ARRAY.cells
    assert np.isnan(state.resistance_ohm).all()
    assert "unknown" in state.describe(0, 0)


def test_errors_are_where_the_read_differs_from_the_target() -> None:
    state = known_state()
    assert np.argwhere(state.wrong).tolist() == [[1, 2], [2, 3]]
    assert legend("Errors", state) == {"as asked": 10, "wrong": 1, "undecided": 1, "not compared": 0}
    assert legend("Weight", state) == {"+1": 10, "0": 0, "−1": 1, "undecided": 1, "unknown": 0}
    assert legend("Verdict", state) == {"verified": 10, "failed": 2, "not formed": 0, "not programmed": 0}
    assert "target +1, read −1" in state.describe(1, 2)
    assert "undecided" in state.describe(2, 3)


def test_cells_outside_a_tile_keep_their_target_but_are_read_too() -> None:
    state = known_state()
    used = np.zeros(ARRAY, dtype=bool)
    used[0] = True
    state.take(programmed(-used.astype(int), np.where(used, -1, 1), used))
    assert state.target[0].tolist() == [-1] * 4
    assert (state.target[1:] == 1).all()
    assert not state.wrong.any()


def test_a_pulse_makes_its_cells_unknown_once_it_is_settled() -> None:
    state = known_state()
    measured = Measurement(0.2, 2e-5, False)
    state.take(resistance_records([DeviceReading(0, 1, Device.BL, measured)], ProgrammedState.UNKNOWN))
    state.take(pulsed(OperationKind.SET, (0, 1)))
    assert state.sensed[0, 1] == 1
    state.settle()
    assert state.sensed[0, 1] == state.target[0, 1] == UNKNOWN
    assert np.isnan(state.resistance_ohm[0, 1]).all()
    assert state.sensed[0, 0] == 1


def test_a_read_after_a_pulse_tells_the_weight_but_not_the_resistance() -> None:
    state = known_state()
    state.take(
        resistance_records([DeviceReading(0, 1, Device.BL, Measurement(0.2, 2e-5, False))], ProgrammedState.UNKNOWN)
    )
    state.take(pulsed(OperationKind.RESET, (0, 1)))
    state.take(sense_records(-1, np.full((2, *ARRAY), -1, dtype=np.int8)))
    assert (state.sensed == -1).all()
    assert state.target[0, 1] == UNKNOWN
    assert np.isnan(state.resistance_ohm[0, 1, Device.BL])


def test_a_weak_reset_keeps_the_weight_that_was_asked_for() -> None:
    state = known_state()
    state.take(pulsed(OperationKind.WEAK_RESET, (0, 1)))
    state.settle()
    assert (state.target[0, 1], state.sensed[0, 1]) == (1, UNKNOWN)


def test_a_sense_is_no_pulse() -> None:
    state = known_state()
    state.take(pulsed(OperationKind.SENSE, (0, 1)))
    assert state.settled
    assert state.sensed[0, 1] == 1


def test_cells_that_were_formed_in_vain_show() -> None:
    state = ArrayState(ARRAY)
    state.take(pulsed(OperationKind.FORM, (0, 0), (0, 1)))
    formed = np.zeros(ARRAY, dtype=np.uint8)
    formed[0, 0] = 1
    state.take(Record("forming", {"pulses": 1, "formed": formed}))
    assert (state.formed[0, 0], state.formed[0, 1], state.formed[1, 1]) == (1, 0, UNKNOWN)
    assert legend("Verdict", state)["not formed"] == 1
    assert "not formed" in state.describe(0, 1)


def test_resistances_are_shown_with_units_and_bounds() -> None:
    state = ArrayState(ARRAY)
    state.take(
        resistance_records([DeviceReading(1, 1, Device.BL, Measurement(0.2, 2.857e-5, False))], ProgrammedState.UNKNOWN)
    )
    state.take(
        resistance_records([DeviceReading(1, 1, Device.BLB, Measurement(0.2, 1e-3, True))], ProgrammedState.UNKNOWN)
    )
    state.take(
        resistance_records([DeviceReading(1, 2, Device.BL, Measurement(0.2, 0.0, False))], ProgrammedState.UNKNOWN)
    )
    assert "BL 7 kΩ, BLb ≤ 200 Ω" in state.describe(1, 1)
    assert "BL infinite, BLb unknown" in state.describe(1, 2)


@pytest.mark.parametrize("table", ["staircase", "endurance", "a table of one's own"])
def test_resistances_are_taken_from_any_table_that_has_them(table: str) -> None:
    state = ArrayState(ARRAY)
    rows = resistance_records([DeviceReading(1, 1, Device.BL, Measurement(0.2, 2e-5, False))], ProgrammedState.LRS)
    assert state.take(Record(table, {**rows.values, "point": np.zeros(1)}, many=True))
    assert state.resistance_ohm[1, 1, 0] == pytest.approx(1e4)


def test_cycling_and_sweeping_make_cells_unknown() -> None:
    for kind in (OperationKind.CYCLE, OperationKind.SWEEP):
        state = known_state()
        state.take(pulsed(kind, (0, 1)))
        state.settle()
        assert state.sensed[0, 1] == UNKNOWN
        assert state.sensed[0, 0] == 1


def test_records_that_tell_nothing_of_cells_change_nothing() -> None:
    state = known_state()
    assert not state.take(Record("xnor_sums", {"tile": 0}))
    assert not state.take(pulsed(OperationKind.XNOR, (0, 0)))
    assert (state.sensed != UNKNOWN).all()


def test_every_view_colours_every_cell() -> None:
    state = known_state()
    state.take(
        resistance_records([DeviceReading(0, 0, Device.BL, Measurement(0.2, 2e-5, False))], ProgrammedState.UNKNOWN)
    )
    state.take(
        resistance_records([DeviceReading(0, 1, Device.BL, Measurement(0.2, 0.0, False))], ProgrammedState.UNKNOWN)
    )
    scale = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for shown in VIEWS:
        assert image(shown, state, lambda name: scale).shape == (*ARRAY, 3)
    resistance = view("R(BL)")
    assert isinstance(resistance, LogView)
    pixels = image(resistance, state, lambda name: scale)
    assert tuple(pixels[0, 1]) == rgb(resistance.infinite.colour)
    assert tuple(pixels[2, 2]) == rgb(resistance.missing.colour)
    # 10 kohm is the lowest of the decades 10 kohm to 100 kohm.
    assert tuple(pixels[0, 0]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([np.nan, np.inf], (3, 6)), ([7e3, 80e3], (3, 5)), ([2e3, 12e6], (3, 8)), ([1e4], (4, 5))],
)
def test_the_scale_spans_whole_decades(values: list[float], expected: tuple[int, int]) -> None:
    assert decades(np.array(values)) == expected


def test_the_selection_follows_mouse_and_keys() -> None:
    selection = Selection(ARRAY)
    assert selection.text() == "all 12 cells"
    selection.rectangle((2, 3), (1, 1))
    assert np.argwhere(selection.mask).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    assert selection.text() == "6 cells: rows 1–2, cols 1–3"
    selection.toggle((0, 0))
    assert selection.text() == "7 cells"
    selection.rectangle((0, 3), (0, 3), add=True)
    assert selection.count == 8
    selection.nothing()
    assert selection.text() == "no cell"
    selection.move(1, 0)
    assert selection.text() == "cell (0, 0)"
    selection.move(0, 1)
    selection.move(-5, 0)
    assert selection.text() == "cell (0, 1)"
    selection.move(1, 1, extend=True)
    selection.move(1, 0, extend=True)
    assert selection.text() == "6 cells: rows 0–2, cols 1–2"
    selection.everything()
    assert selection.count == ARRAY.cells


def test_the_outline_encloses_exactly_the_selected_cells() -> None:
    selection = Selection(ARRAY)
    selection.rectangle((1, 2), (1, 2))
    x, y = outline(selection.mask)
    edges = {frozenset([(x[i], y[i]), (x[i + 1], y[i + 1])]) for i in range(0, len(x), 2)}
    corners = [(1.5, 0.5), (2.5, 0.5), (2.5, 1.5), (1.5, 1.5)]
    assert edges == {frozenset([corners[i], corners[(i + 1) % 4]]) for i in range(4)}
    selection.everything()
    assert len(outline(selection.mask)[0]) == 2 * 2 * (ARRAY.rows + ARRAY.cols)
    selection.nothing()
    assert len(outline(selection.mask)[0]) == 0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1e-5, "s", "10 µs"),
        (0.0, "A", "0 A"),
        (999.96, "Ω", "1 kΩ"),
        (6988.0, "Ω", "6.99 kΩ"),
        (1.2e7, "Ω", "12 MΩ"),
        (-0.05, "V", "-50 mV"),
        (3e-15, "A", "0.003 pA"),
        (float("nan"), "Ω", "unknown"),
        (float("inf"), "Ω", "infinite"),
    ],
)
def test_quantities_read_as_people_write_them(value: float, unit: str, text: str) -> None:
    assert si(value, unit) == text


def test_durations_read_as_people_say_them() -> None:
    assert [duration(value) for value in (0.2, 59.4, 200, 3900)] == ["0 s", "59 s", "3 min 20 s", "1 h 5 min"]
