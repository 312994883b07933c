"""The figures of each procedure: what they show of records with known content."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.figures import MAKERS, TitledFigure, figures
from bench.figures.overlays import overlay
from bench.procedures import PROCEDURES
from bench.procedures.forming import FORMING
from bench.runner import run as run_procedure
from bench.session import Bench
from data.runs import Column, Run, Table, open_run
from tests.bench.recorded import COLS, ROWS, devices, record, repeated

STEPS = np.array([0, 10, 100, 1000])
TARGET = np.tile(np.array([1, -1, 0], dtype=np.int8), (ROWS, 1))


def staircase(path: Path, factor: float = 1.0) -> Run:
    rows = repeated(devices(), pulses=STEPS, resistance_ohm=factor * 7e3 * np.exp(1e-3 * STEPS))
    return record(path, "weak-reset", {"staircase": rows | {"vddc_v": 2.25}})


def endurance(path: Path) -> Run:
    rows = repeated(devices(), cycles=STEPS, checkpoint=range(4), lrs_ohm=[7e3] * 4, hrs_ohm=[9e4, 9e4, 8e4, 4e4])
    stuck = np.zeros(len(rows["row"]), dtype=int)
    stuck[-1] = 1  # the last device at the last checkpoint
    return record(path, "endurance", {"endurance": rows | {"threshold_ohm": 2.5e4, "stuck": stuck}})


def retention(path: Path) -> Run:
    state = {"state": np.arange(2 * ROWS * COLS) % 2}
    rows = repeated(devices() | state, point=range(4), seconds_s=STEPS.astype(float))
    rows["resistance_ohm"] = np.where(rows["state"] == 0, 7e3, 9e4)
    sensed = np.stack([TARGET, TARGET, TARGET, np.where(TARGET == 1, 0, TARGET)])
    return record(
        path,
        "retention",
        {
            "retention": rows | {"storage_c": 85.0},
            "patterns": {"target": TARGET[None], "verdict": 1},
            "senses": {"pattern": np.arange(4), "sensed": sensed},
        },
    )


def read_disturb(path: Path) -> Run:
    rows = repeated(devices(), point=range(4), reads=STEPS, resistance_ohm=[7e3, 7e3, 7.5e3, 8e3])
    return record(path, "read-disturb", {"read_disturb": rows})


def iv(path: Path) -> Run:
    volts = np.array([0.0, 0.2, 0.4, 0.2, 0.0, -0.2])
    rows = repeated(devices(2), point=range(6), voltage_v=volts, current_a=volts / 7e3)
    return record(path, "iv", {"iv": rows})


def bit_error(path: Path) -> Run:
    wrong = np.where(np.arange(ROWS * COLS).reshape(ROWS, COLS) == 4, -TARGET, TARGET)
    conditions = {"condition": [0, 1, 2], "sense_vdd_v": [1.0, 1.1, 1.2], "window_s": 1e-6, "cycles": 0}
    errors = {
        "condition": [0, 0, 1, 2],
        "pattern": [0, 1, 2, 3],
        "target": np.stack([TARGET] * 4),
        "sensed": np.stack([wrong, TARGET, wrong, TARGET]),
    }
    return record(path, "bit-error", {"conditions": conditions, "bit_errors": errors})


def shmoo(path: Path) -> Run:
    zero = TARGET == 0
    points = {
        "vdd_v": [1.0, 1.0, 1.2, 1.2],
        "window_s": [1e-8, 1e-6, 1e-8, 1e-6],
        "plus": np.stack([10 * (TARGET == 1)] * 4),
        "minus": np.stack([10 * (TARGET == -1)] * 4),
        "undecided": np.stack([10 * zero, 5 * zero, 10 * zero, 0 * zero]),
    }
    points["plus"] += np.stack([0 * zero, 5 * zero, 0 * zero, 10 * zero])
    return record(path, "shmoo", {"shmoo": points, "patterns": {"target": TARGET[None], "verdict": 1}})


def xnor(path: Path) -> Run:
    pairs = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    products = np.broadcast_to(pairs.prod(axis=1)[:, None, None], (4, ROWS, COLS))
    expected = np.arange(-2, 2)[:, None] * np.ones(ROWS, dtype=int)
    sums = expected.copy()
    sums[0, 0] += 2
    return record(
        path,
        "xnor",
        {
            "xnor": {"weight": pairs[:, 0], "input": pairs[:, 1], "expected": products, "output": products * 1.0},
            "xnor_vectors": {"vector": np.arange(4), "expected": expected, "sum": sums},
        },
    )


def resistances(path: Path, scale: float = 1.0, procedure: str = "resistance") -> Run:
    state = {"state": np.arange(2 * ROWS * COLS) % 2}
    rows = devices() | state
    spread = np.exp(np.linspace(-0.3, 0.3, 2 * ROWS * COLS))
    ohms = np.where(state["state"] == 0, 7e3, 9e4) * spread * scale
    ohms[5] = np.inf
    return record(path, procedure, {"resistances": rows | {"resistance_ohm": ohms}})


def characterise(path: Path) -> Run:
    return resistances(path, procedure="characterise")


def variability(path: Path) -> Run:
    return resistances(path, procedure="variability")


def forming(path: Path) -> Run:
    formed = np.zeros((2, ROWS, COLS), dtype=int)
    formed[0, :2], formed[1, :3] = 1, 1
    volts = np.where(np.arange(2 * ROWS * COLS) < 12, 2.4, 2.6)
    outcome = np.where(np.arange(2 * ROWS * COLS) < 18, 0, 2)
    left = {"vddc_v": np.where(outcome == 0, volts, np.nan), "before_ohm": 1e7, "after_ohm": 7e3, "outcome": outcome}
    return record(
        path,
        "forming",
        {
            "forming": {"pulses": [1, 2], "vddc_v": [2.4, 2.6], "formed": formed},
            "formed_devices": devices() | left,
        },
    )


def patterns(path: Path) -> Run:
    verdict = np.where(np.arange(ROWS * COLS).reshape(ROWS, COLS) == 0, 2, 1)
    return record(
        path, "program", {"patterns": {"target": TARGET[None], "sensed": TARGET[None], "verdict": verdict[None]}}
    )


def senses(path: Path, procedure: str = "read") -> Run:
    return record(path, procedure, {"senses": {"pattern": [-1, -1], "sensed": np.stack([TARGET, -TARGET])}})


def pulsed(path: Path) -> Run:
    return senses(path, "pulse")


def amplifiers(path: Path) -> Run:
    return senses(path, "amplifiers")


MADE = {
    "forming": forming,
    "program": patterns,
    "read": senses,
    "pulse": pulsed,
    "resistance": resistances,
    "variability": variability,
    "characterise": characterise,
    "amplifiers": amplifiers,
    "iv": iv,
    "weak-reset": staircase,
    "endurance": endurance,
    "retention": retention,
    "read-disturb": read_disturb,
    "bit-error": bit_error,
    "shmoo": shmoo,
    "xnor": xnor,
}
FIRST = {
    "forming": "forming",
    "program": "patterns",
    "read": "senses",
    "pulse": "senses",
    "resistance": "resistance-map",
    "variability": "distributions",
    "characterise": "distributions",
    "amplifiers": "senses",
    "iv": "iv",
    "weak-reset": "staircase",
    "endurance": "endurance",
    "retention": "retention",
    "read-disturb": "read-disturb",
    "bit-error": "bit-error-rate",
    "shmoo": "shmoo",
    "xnor": "xnor",
}


def drawn(run: Run) -> dict[str, TitledFigure]:
    return {each.name: each for each in figures(run)}


def curves(figure: TitledFigure, panel: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Labelled lines of a panel: ``(2, points)`` by the first word of the label."""
    lines = figure.figure.axes[panel].get_lines()
    return {
        line.get_label().split(",")[0]: np.array([line.get_xdata(), line.get_ydata()], dtype=float)
        for line in lines
        if not line.get_label().startswith("_")
    }


def image(figure: TitledFigure, panel: int) -> np.ndarray[Any, Any]:
    return np.asarray(figure.figure.axes[panel].get_images()[0].get_array().filled(np.nan))


def test_every_procedure_of_ours_has_figures_of_its_own() -> None:
    assert set(PROCEDURES) <= set(MAKERS)
    assert set(PROCEDURES) == set(MADE)


@pytest.mark.parametrize("procedure", MADE)
def test_figures_are_drawn_with_words_axes_and_units(procedure: str, tmp_path: Path) -> None:
    made = figures(MADE[procedure](tmp_path / "run.h5"))
    assert made[0].name == FIRST[procedure]
    assert len({each.name for each in made}) == len(made)
    for each in made:
        assert each.title
        assert each.caption.endswith(".")
        each.figure.savefig(io.BytesIO(), format="png", dpi=30)
        labelled = [axis for axis in each.figure.axes if axis.get_xlabel() or axis.get_ylabel()]
        assert labelled, each.name


def test_the_staircase_shows_the_median_against_the_pulses(tmp_path: Path) -> None:
    figure = drawn(staircase(tmp_path / "run.h5"))["staircase"]
    found = curves(figure)["VDDC 2.25 V"]
    assert np.allclose(found, [STEPS, 7e3 * np.exp(1e-3 * STEPS)])
    assert figure.figure.axes[0].get_yscale() == "log"


def test_endurance_shows_both_states_and_the_share_that_sticks(tmp_path: Path) -> None:
    figure = drawn(endurance(tmp_path / "run.h5"))["endurance"]
    states = curves(figure)
    assert np.allclose(states["LRS"], [STEPS, [7e3] * 4])
    assert np.allclose(states["HRS"], [STEPS, [9e4, 9e4, 8e4, 4e4]])
    stuck = curves(figure, 1)["devices stuck"]
    assert np.allclose(stuck[1], [np.nan, np.nan, np.nan, 1 / (2 * ROWS * COLS)], equal_nan=True)


def test_retention_shows_both_states_and_wrong_senses(tmp_path: Path) -> None:
    figure = drawn(retention(tmp_path / "run.h5"))["retention"]
    assert np.allclose(curves(figure)["HRS"], [STEPS, [9e4] * 4])
    wrong = curves(figure, 1)["senses that read another weight"]
    assert np.allclose(wrong, [STEPS, [np.nan, np.nan, np.nan, 1 / 3]], equal_nan=True)
    assert "85 °C" in figure.figure.get_suptitle()


def test_read_disturb_leaves_out_the_disturbing_reads_themselves(tmp_path: Path) -> None:
    found = curves(drawn(read_disturb(tmp_path / "run.h5"))["read-disturb"])
    assert np.allclose(found["LRS"], [STEPS, [7e3, 7e3, 7.5e3, 8e3]])


def test_currents_are_sizes_on_a_log_axis_with_gaps_at_no_voltage(tmp_path: Path) -> None:
    figure = drawn(iv(tmp_path / "run.h5"))["iv"]
    axis = figure.figure.axes[0]
    assert axis.get_yscale() == "log"
    current = np.array(axis.get_lines()[0].get_ydata())
    assert np.allclose(current * 7e3, [np.nan, 0.2, 0.4, 0.2, np.nan, 0.2], equal_nan=True)


def test_bit_errors_are_drawn_against_what_was_varied(tmp_path: Path) -> None:
    made = drawn(bit_error(tmp_path / "run.h5"))
    axis = made["bit-error-rate"].figure.axes[0]
    assert "VDD of SENSE (V)" in axis.get_xlabel()
    seen, bound = axis.get_lines()[0], axis.get_lines()[-1]
    assert list(seen.get_xdata()) == [1.0, 1.1]
    assert np.allclose(seen.get_ydata(), [1 / (2 * ROWS * COLS), 1 / (ROWS * COLS)], rtol=0.25)
    assert list(bound.get_xdata()) == [1.2]  # no error there: a bound
    errors = image(made["bit-error-map"], 0)
    assert errors.sum() == 2
    assert errors[1, 1] == 2


def test_the_shmoo_shows_shares_of_each_weight(tmp_path: Path) -> None:
    figure = drawn(shmoo(tmp_path / "run.h5"))["shmoo"]
    panels = {axis.get_title(): axis for axis in figure.figure.axes}
    zeros = np.asarray(panels["0 read as undecided"].collections[0].get_array()).reshape(2, 2)
    assert zeros.tolist() == [[100.0, 100.0], [50.0, 0.0]]  # windows upwards, supplies to the right
    signs = np.asarray(panels["+1 and −1 read right"].collections[0].get_array())
    assert (signs == 100.0).all()


def test_xnor_sums_are_counted_right_and_wrong(tmp_path: Path) -> None:
    made = drawn(xnor(tmp_path / "run.h5"))
    assert "weight −1, input +1: 0 wrong" in [axis.get_title() for axis in made["xnor"].figure.axes]
    labels = made["xnor-sums"].figure.axes[0].get_legend_handles_labels()[1]
    assert labels == [f"exact: {4 * ROWS - 1} of {4 * ROWS} sums", f"wrong: 1 of {4 * ROWS} sums"]


def test_distributions_are_straight_for_log_normal_devices_and_count_open_ones(tmp_path: Path) -> None:
    made = drawn(resistances(tmp_path / "run.h5"))
    lines = made["distributions"].figure.axes[0].get_lines()
    labels = [line.get_label() for line in lines]
    assert labels[0].startswith("LRS: median 6.91 kΩ")
    assert "12 devices, 1 open" in labels[1]
    assert len(lines[1].get_xdata()) == 11
    assert max(lines[1].get_ydata()) < max(lines[0].get_ydata())  # the open one keeps its share at the top
    assert "A cross: no current flowed (1 device)" in made["resistance-map"].caption
    assert image(made["resistance-map"], 0)[0, 0] == pytest.approx(7e3 * np.exp(-0.3))


def test_forming_shows_supplies_shares_and_what_never_formed(tmp_path: Path) -> None:
    made = drawn(forming(tmp_path / "run.h5"))
    volts, _, share = made["forming"].figure.axes
    assert [bar.get_height() for bar in volts.patches] == [12, 6]
    assert list(share.get_lines()[0].get_ydata()) == [50.0, 75.0]
    assert "6 never formed" in volts.get_title()
    reached = image(made["forming-map"], 0)
    assert reached[0, 0] == 2.4
    assert reached[2, 0] == 2.6
    assert np.isnan(reached[3]).all()
    assert "A cross: not formed" in made["forming-map"].caption


def test_a_pattern_counts_with_its_last_pass(tmp_path: Path) -> None:
    verdict = np.ones((3, ROWS, COLS), dtype=int)
    verdict[0], verdict[2, 0, 0] = 2, 2  # all fail in the first pass, and one cell in the second pattern
    rows = {"pattern": [0, 0, 1], "target": np.stack([TARGET] * 3), "verdict": verdict}
    failed = drawn(record(tmp_path / "run.h5", "program", {"patterns": rows}))["patterns"]
    assert image(failed, 2).sum() == 1


def test_a_procedure_of_a_user_is_drawn_by_its_tables_or_against_time(tmp_path: Path) -> None:
    own = Table("glow", (Column("light_a", "float64", units="A"), Column("count", "int32")), "photocurrent")
    figure = figures(
        record(tmp_path / "a.h5", "glow", {"glow": {"light_a": [1.0, 2.0], "count": [3, 4]}}, tables=(own,))
    )
    assert [each.name for each in figure] == ["glow"]
    first, second = figure[0].figure.axes
    assert (first.get_xlabel(), first.get_ylabel()) == ("time since the start (s)", "light_a (A)")
    assert list(second.get_lines()[0].get_ydata()) == [3, 4]
    known = PROCEDURES["resistance"].tables
    shared = record(tmp_path / "b.h5", "mine", {"resistances": devices() | {"resistance_ohm": 7e3}}, tables=known)
    assert {each.name for each in figures(shared)} == {"resistance-map", "distributions"}


def test_a_run_that_ended_before_its_first_record_has_no_figures(tmp_path: Path) -> None:
    for procedure in ("forming", "bit-error", "retention", "xnor"):
        assert figures(record(tmp_path / f"{procedure}.h5", procedure, {}, status="failed")) == []


def test_a_resumed_run_is_drawn_with_its_earlier_part(tmp_path: Path) -> None:
    half = STEPS[:2], STEPS[2:]
    for name, steps, earlier in (("a.h5", half[0], {}), ("b.h5", half[1], {"resumes": "a.h5"})):
        rows = repeated(devices(), pulses=steps, resistance_ohm=7e3 + steps)
        record(tmp_path / name, "weak-reset", {"staircase": rows | {"vddc_v": 2.25}}, **earlier)
    found = curves(drawn(open_run(tmp_path / "b.h5"))["staircase"])["VDDC 2.25 V"]
    assert found[0].tolist() == STEPS.tolist()


def test_curves_of_several_runs_lie_in_one_figure(tmp_path: Path) -> None:
    both = [staircase(tmp_path / "a.h5"), staircase(tmp_path / "b.h5", 2.0)]
    figure = overlay([*both, iv(tmp_path / "iv.h5")])
    assert figure is not None
    found = curves(figure)
    assert np.allclose(found["b: VDDC 2.25 V"][1], 2.0 * found["a: VDDC 2.25 V"][1])
    several = overlay([resistances(tmp_path / "c.h5"), characterise(tmp_path / "d.h5")])
    assert several is not None
    assert several.name == "distributions"
    aged = overlay([endurance(tmp_path / "e.h5"), endurance(tmp_path / "f.h5")])
    assert aged is not None
    assert "e: HRS" in curves(aged)
    assert overlay([iv(tmp_path / "g.h5"), iv(tmp_path / "h.h5")]) is None


def test_a_run_from_the_wire_has_its_figures(bench: Bench, tmp_path: Path) -> None:
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[:2, :2] = True
    done = run_procedure(FORMING, FORMING.parse({}), bench, tmp_path, cells=cells)
    assert [each.name for each in figures(open_run(done.run_file))] == ["forming", "forming-map"]


def test_open_devices_stretch_neither_the_axis_nor_the_spread(tmp_path: Path) -> None:
    from bench.figures.statistics import described
    from bench.figures.style import ohm_axis, panels

    ohms = 7e3 * np.exp(0.2 * np.random.default_rng(0).standard_normal(100))
    ohms[3:5] = 2e12, np.inf
    words = described(ohms)
    assert "without 1 outlier, 100 devices, 1 open" in words
    assert float(words.split("ln R ")[1].split()[0]) == pytest.approx(0.2, rel=0.2)
    _, (axis,) = panels(1)
    axis.plot(ohms, np.arange(100.0), "o")
    ohm_axis(axis, "x", [ohms])
    low, high = axis.get_xlim()
    assert 1e3 < low < ohms.min()
    assert np.sort(ohms)[-3] < high < 1e5
    assert axis.get_xlabel() == "resistance (Ω); out of range: 1 above"
