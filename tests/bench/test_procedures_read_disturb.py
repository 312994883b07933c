"""Read disturb: ordinary reads change nothing, and reads that weakly RESET do what the weak-RESET model says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.procedures.read_disturb import READ_DISTURB, ReadDisturbParameters
from bench.procedures.tables import ProgrammedState
from bench.session import Bench
from drivers.chip import OperationKind
from drivers.errors import LimitError
from drivers.simulated.bench import SimulatedBench
from models.arrays import NumpyArrays
from models.cells import cell_mask_to_devices
from models.devices.ageing import read_noise_sigma
from models.devices.weak_reset import MeanParameters, mean_log_ratio, stress_per_pulse
from models.exceptions import UserMistake
from tests.bench.special_benches import block, of_device, run_one, special_bench

WIDE = {"smu_voltage_v = [-0.5, 0.5]": "smu_voltage_v = [-1.2, 0.5]"}


@pytest.mark.parametrize(("kind", "reads"), [("sense", 2500), ("direct", 30)])
def test_ordinary_reads_move_nothing(
    kind: str, reads: int, world: SimulatedBench, bench: Bench, tmp_path: Path
) -> None:
    cells = block(bench, 3, 3)
    stored, outcome = run_one("read-disturb", bench, tmp_path, cells, kind=kind, reads=reads)
    table, noise = stored.read("read_disturb"), world.chip.model.read_noise
    hidden = of_device(table, world.chip.resistance_ohm)
    sigma = np.vectorize(lambda ohm: read_noise_sigma(noise, ohm))(hidden)
    # one hidden resistance all along: each reading within five standard deviations of the noise of reading it
    assert (np.abs(np.log(table["resistance_ohm"] / hidden)) < 5 * sigma + 1e-3).all()
    assert outcome.result["bit_error_rate"] == [0.0] * len(outcome.result["reads"])
    assert outcome.result["reads"] == ReadDisturbParameters(kind=kind, reads=reads).looks
    operations = stored.read("operations", ["kind", "count"])
    if kind == "sense":
        told = stored.read("disturbing_senses")
        assert told["count"].sum() == reads
        assert told["reads"][-1] == reads
        assert told["wrong"][:, cells].sum() == 0
        # beside the senses of the looks and the one that verified the pattern
        looks = 5 * len(outcome.result["reads"])
        assert operations["count"][operations["kind"] == OperationKind.SENSE].sum() == reads + looks + 1
    else:
        assert (table["disturbing"] == 1).sum() == reads * 18
        assert sorted(set(table["reads"][table["disturbing"] == 1].tolist())) == list(range(1, reads + 1))


def test_reads_in_the_reset_direction_move_the_lrs_as_weak_resets_do(tmp_path: Path) -> None:
    with special_bench({"weak_reset.rtn_amplitude_high": 0.0}, text=WIDE) as (world, bench):
        cells = block(bench, 4, 4)
        settings = {"kind": "direct", "reads": 30, "read_v": -1.15, "points_per_decade": 2}
        stored, _ = run_one("read-disturb", bench, tmp_path, cells, **settings)
        table, section = stored.read("read_disturb"), world.chip.model.weak_reset
        parameters, stress = world.chip._weak.parameters, world.chip._weak.stress
    looks = {name: values[table["disturbing"] == 0] for name, values in table.items()}
    assert table["voltage_v"][table["disturbing"] == 1] == pytest.approx(-1.15, abs=0.01)
    points = len(np.unique(looks["point"]))
    by_point = {name: values.reshape(points, -1) for name, values in looks.items()}
    low = by_point["state"][0] == ProgrammedState.LRS
    ratio = np.log(by_point["resistance_ohm"] / by_point["resistance_ohm"][0])
    first = {name: values[0] for name, values in by_point.items()}
    pulse = stress_per_pulse(section, 1.15, section.width_ref_s)
    # a read acts once or twice: when the meter's output comes on, and when it measures
    acts = round(float(of_device(first, stress)[low][0] / (30 * pulse)))
    assert acts in (1, 2)
    assert of_device(first, stress)[low] == pytest.approx(30 * acts * pulse)
    mine = MeanParameters(*(of_device(first, values) for values in parameters))
    stressed = by_point["reads"] * acts * pulse
    curve = mean_log_ratio(NumpyArrays(np.random.default_rng(0)), mine, stressed)
    expected = np.where(stressed > 0.0, curve, 0.0)  # the offset c1 comes with the first pulse
    # 1/f noise (0.0117), and noise of reading (0.005 at 7 kohm, more above) of both ends: five standard deviations
    assert np.abs(ratio - expected)[:, low].max() < 5 * np.sqrt(0.0117**2 + 2 * 0.007**2)
    assert np.median((ratio - expected)[:, low], axis=1) == pytest.approx(0.0, abs=0.015)
    assert np.median(ratio[-1, low]) > 0.04
    assert np.abs(ratio[:, ~low]).max() < 0.2


def test_a_higher_rail_disturbs_and_only_the_disturbing_senses_see_it(bench: Bench, tmp_path: Path) -> None:
    stored, _ = run_one("read-disturb", bench, tmp_path, block(bench, 1, 2), reads=10, vdd_v=1.4, vddc_v=1.5)
    operations = stored.read("operations", ["kind", "vdd_v", "vddc_v", "vddr_v", "count"])
    senses = operations["kind"] == OperationKind.SENSE
    rails = set(
        zip(operations["vdd_v"][senses], operations["vddc_v"][senses], operations["vddr_v"][senses], strict=True)
    )
    assert rails == {(1.2, 1.2, 2.5), (1.4, 1.5, 2.5)}
    assert operations["count"][senses & (operations["vdd_v"] == 1.4)].sum() == 10


def test_other_cells_are_left_as_they_were(world: SimulatedBench, bench: Bench, tmp_path: Path) -> None:
    cells = block(bench, 2, 2)
    others = ~cell_mask_to_devices(cells)
    before = world.chip.resistance_ohm
    run_one("read-disturb", bench, tmp_path, cells, kind="direct", reads=2)
    assert (world.chip.resistance_ohm[others] == before[others]).all()


def test_what_makes_no_sense_is_refused(bench: Bench, tmp_path: Path) -> None:
    for wrong in ({"read_v": -0.5}, {"kind": "direct", "read_v": 0.0}):
        with pytest.raises(UserMistake, match="read_v is for kind direct, and is not 0"):
            READ_DISTURB.parse(wrong)
    with pytest.raises(LimitError, match="smu_voltage_v"):
        run_one("read-disturb", bench, tmp_path, block(bench, 1, 1), kind="direct", read_v=-1.1)
    bench.chip._smu = None
    with pytest.raises(UserMistake, match="source-measure unit"):
        run_one("read-disturb", bench, tmp_path, block(bench, 1, 1), kind="direct")
