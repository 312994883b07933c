"""One network on several chips: every weight lies on one of them, the answers are exact, and all are off at the end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bench.cli import status_of_command
from bench.cli.on_bench import OnBench, open_together
from bench.inference import InferenceParameters, inference_task
from bench.inference_together import together
from bench.mapping import plan_network
from bench.placement import harm, with_stuck
from bench.plan_files import load_plan, load_shared_plan, save_plan, save_shared_plan
from bench.plan_pictures import plan_figure
from bench.procedure import Progress, Record, Step
from bench.session import Bench
from bench.several_chips import SharedPlan, plan_on_chips, tile_seconds
from bench.stages import Quiet, StagedRuns
from bench.stopping import Stopped, StopToken
from data.networks import save_network
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.cells import Geometry
from models.exceptions import BenchFailure, UserMistake
from models.networks import fold
from models.prediction import InferenceMode
from tests.bench.flawless import flawless_bench, flawless_device
from tests.bench.recorded import COLS, ROWS
from tests.bench.running import OFF
from tests.bench.test_error_map import patterns, run_of
from tests.bench.test_inference import random_network
from tests.bench.test_mapping import fully_connected
from tests.bench.test_placement import stuck_at_random
from tests.models.random_networks import architectures, grey_levels
from tests.models.random_networks import random_network as any_network

ALL_WAYS = InferenceParameters(modes=tuple(InferenceMode))
NETWORK = random_network((70, 80, 10), 5)
SIZES = st.builds(Geometry, st.integers(1, 40), st.integers(1, 40))


class Watching(Quiet):
    """Does something at each step of either run."""

    def __init__(self, do) -> None:
        self._do = do

    def step(self, step: object) -> None:
        self._do(step)


@pytest.fixture(scope="module")
def ternary() -> Iterator[list[Bench]]:
    """Two ternary chips without errors, of 32 x 8 and 64 x 8 cells."""
    with flawless_bench("ternary", arrays=4) as small, flawless_bench("ternary", arrays=8) as large:
        yield [small, large]


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[SimulatedBench]]:
    """Two binary chips without errors, of 32 x 32 and 64 x 64 cells."""
    with SimulatedBench(2, flawless_device()) as small, SimulatedBench(3, flawless_device(), chip="array64") as large:
        yield [small, large]


@pytest.fixture
def files(worlds: list[SimulatedBench], tmp_path: Path) -> list[str]:
    """Their bench files."""
    paths = [tmp_path / "small.toml", tmp_path / "large.toml"]
    for world, path in zip(worlds, paths, strict=True):
        world.write_bench_file(path)
    return [str(path) for path in paths]


def on_benches(files: list[str], folder: Path) -> list[OnBench]:
    return [OnBench(one, folder, 1) for one in files]


def samples(network, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, grey_levels(network.encoding), size=(count, network.encoding.features))
    return images.astype(np.uint8), rng.integers(0, network.classes, size=count)


def answers(result: dict, mode: InferenceMode) -> list[list[int]]:
    return [open_run(chip["run_file"]).read("samples")[mode.value].tolist() for chip in result["chips"]]


def planned(network, arrays: list[Geometry]) -> SharedPlan | None:
    """The plan, or None where the network is too small for so many chips."""
    with contextlib.suppress(UserMistake):
        return plan_on_chips(network, arrays)
    return None


def form(runs: tuple[StagedRuns, ...]) -> None:
    for each in runs:
        each.bench.chip.form(~each.bench.chip.no_devices(), 3)


def off(world: SimulatedBench) -> bool:
    return world.world.rails == OFF


@settings(max_examples=30, deadline=None)
@given(architectures(), st.integers(0, 2**32 - 1), st.lists(SIZES, min_size=2, max_size=4))
def test_each_weight_lies_on_one_chip_and_the_work_is_even(architecture, seed: int, sizes: list[Geometry]) -> None:
    network = fold(any_network(architecture, seed))
    assume(all(len(plan_network(network, size).tiles) < 200 for size in sizes))
    plan = planned(network, sizes)
    assume(plan is not None)
    plan.check(network)
    again = plan_on_chips(network, sizes)
    for part, same in zip(plan.parts, again.parts, strict=True):
        assert [(tile.layer, tile.rows.tolist(), tile.cols.tolist()) for tile in part.tiles] == [
            (tile.layer, tile.rows.tolist(), tile.cols.tolist()) for tile in same.tiles
        ]
    if len(set(sizes)) == 1:
        for index, layer in enumerate(network.layers):
            planes = network.encoding.planes if index == 0 else 1
            works = [[tile_seconds(tile, layer, planes) for _, tile in part.of_layer(index)] for part in plan.parts]
            # No chip has more than one tile too much to do.
            longest = max(took for work in works for took in work)
            assert max(map(sum, works)) - min(map(sum, works)) <= longest + 1e-9


def test_a_chip_that_helps_little_still_helps_and_each_knows_its_own_weak_cells(tmp_path: Path) -> None:
    network, arrays = fully_connected((120, 60, 10), values=(-1, 1)), [Geometry(10, 10), Geometry(20, 20)]
    maps = [replace(stuck_at_random(array, 0.05, n), chip_id=f"chip-{n}") for n, array in enumerate(arrays)]
    plan, plain = plan_on_chips(network, arrays, maps), plan_on_chips(network, arrays)
    assert [part.chip_id for part in plan.parts] == ["chip-0", "chip-1"]
    read = network
    for part, before, known in zip(plan.parts, plain.parts, maps, strict=True):
        assert 0 < harm(part, network, known).harm < harm(before, network, known).harm
        read = with_stuck(read, part, known)
    wrong = sum(harm(part, network, known).wrong for part, known in zip(plan.parts, maps, strict=True))
    assert wrong == sum(
        int((layer.weights != asked.weights).sum()) for layer, asked in zip(read.layers, network.layers, strict=True)
    )
    titles = [text.get_text() for text in plan_figure(plan, network, {"chip-0": maps[0]}).axes[0].texts]
    assert any("chip chip-1: " in title and title.startswith("layer 2") for title in titles)
    save_shared_plan(tmp_path / "plan.json", plan)
    loaded = load_shared_plan(tmp_path / "plan.json")
    loaded.check(network)
    for part, again in zip(plan.parts, loaded.parts, strict=True):
        assert replace(part, tiles=()) == replace(again, tiles=())
        assert [tile.rows.tolist() for tile in part.tiles] == [tile.rows.tolist() for tile in again.tiles]
    # by its name a chip gets its part, on whichever bench it is
    chips = [(array, f"chip-{n}") for n, array in enumerate(arrays)]
    assert loaded.for_chips(network, chips[::-1]) == list(loaded.parts)[::-1]
    for wrong_chips, says in (
        ([chips[0], (arrays[1], "chip-2")], "weak cells of chip chip-1, and the chips in the sockets are chip-0, chip"),
        ([(arrays[1], "chip-0"), (arrays[0], "chip-1")], "chip chip-0: this plan is for an array of 10 x 10 cells"),
        ([*chips, chips[0]], "for 2 chips, and there are 3"),
    ):
        with pytest.raises(UserMistake, match=says):
            loaded.for_chips(network, wrong_chips)
    with pytest.raises(UserMistake, match="for an array of 10 x 10 cells, and this one has 20 x 20"):
        plain.for_chips(network, chips[::-1])
    with pytest.raises(UserMistake, match="each weight of layer 1 exactly once"):
        SharedPlan((plan.parts[0], replace(plan.parts[1], tiles=plan.parts[1].tiles[1:]))).check(network)
    with pytest.raises(UserMistake, match="for several chips"):
        load_plan(tmp_path / "plan.json")
    about = json.loads((tmp_path / "plan.json").read_text())
    for change, says in (
        ({"arrays": about["arrays"][:1]}, "arrays has 1 entries"),
        ({"arrays": [about["arrays"][0]] * 2}, "two arrays are of one chip"),
        ({"tiles": [about["tiles"][0] | {"array": 2}]}, "tile 1, array: 2, and the last array is 1"),
        ({"tiles": [{}]}, "tile 1, array: None, expected a whole number"),
        ({"tiles": []}, "it has no tiles"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps(about | change))
        with pytest.raises(UserMistake, match=says):
            load_shared_plan(tmp_path / "bad.json")
    save_plan(tmp_path / "one.json", plan_network(network, arrays[0]))
    with pytest.raises(UserMistake, match="it is for one chip"):
        load_shared_plan(tmp_path / "one.json")


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(architecture=architectures(), seed=st.integers(0, 2**32 - 1))
def test_all_ways_equal_the_integer_network(ternary: list[Bench], tmp_path: Path, architecture, seed: int) -> None:
    network = fold(any_network(architecture, seed))
    plan = planned(network, [bench.chip.geometry for bench in ternary])
    assume(plan is not None and plan.tiles <= 16)
    images, labels = samples(network, 5, seed)
    runs = [StagedRuns(bench, 1, tmp_path, Quiet(), stop) for stop in [StopToken()] for bench in ternary]
    result = together(inference_task(network, images, labels), plan, ALL_WAYS, runs, batch=2).infer(Quiet())
    assert result["cells"]["failed"] == sum(result["errors"].values()) == 0
    assert result["cells"]["programmed"] >= sum(layer.weights.size for layer in network.layers)
    for layer in result["layers"]:
        for way in layer["modes"].values():
            assert way == {"sums_wrong": 0.0, "sum_rms": 0.0, "outputs_wrong": 0.0}
    for mode in InferenceMode:
        assert answers(result, mode) == [network.predict(images).tolist()] * 2


def test_a_stop_ends_all_and_their_runs_go_on_together(
    worlds: list[SimulatedBench], files: list[str], tmp_path: Path
) -> None:
    images, labels = samples(NETWORK, 40, 1)
    task, folder = inference_task(NETWORK, images, labels), tmp_path / "runs"
    with open_together(on_benches(files, folder), Quiet()) as runs:
        form(runs)

        def stop_in_the_third_tile(step: Step) -> None:
            tiles.extend([step] if isinstance(step, Record) and step.table == "tiles" else [])
            if len(tiles) == 3:
                runs[0].stop.request("for the test")

        tiles: list[Step] = []
        with pytest.raises(Stopped, match="for the test"):
            together(task, None, ALL_WAYS, runs, batch=16).infer(Watching(stop_in_the_third_tile))
        assert all(off(world) for world in worlds)
    first = [open_run(path) for path in sorted(folder.glob("*.h5"))]
    assert {run.status for run in first} == {"stopped"}
    told: list[Progress] = []
    with open_together(on_benches(files, folder), Quiet()) as runs:
        with pytest.raises(UserMistake, match="is of chip"):
            together(task, None, ALL_WAYS, runs, [first[0], first[0]], batch=16)
        with pytest.raises(UserMistake, match="made with other parameters"):
            together(task, None, InferenceParameters(attempts=7), runs, first, batch=16)
        inference = together(task, None, ALL_WAYS, runs, first, batch=16)
        result = inference.infer(Watching(lambda step: told.extend([step] if isinstance(step, Progress) else [])))
    for mode in InferenceMode:
        assert answers(result, mode) == [NETWORK.predict(images).tolist()] * 2
    parts = [open_run(chip["run_file"]) for chip in result["chips"]]
    assert [part.attributes["chip_id"] for part in parts] == [chip["chip_id"] for chip in result["chips"]]
    assert {part.attributes["resumes"] for part in parts} == {run.path.name for run in first}
    assert [json.loads(str(part.attributes["chips"])) for part in parts] == [
        [c["chip_id"] for c in result["chips"]]
    ] * 2
    assert told[-1].done == told[-1].total == result["tiles"] == sum(chip["tiles"] for chip in result["chips"])


def test_an_unplugged_chip_ends_all_and_leaves_the_others_off(
    worlds: list[SimulatedBench], files: list[str], tmp_path: Path
) -> None:
    images, labels = samples(NETWORK, 40, 1)
    task, folder = inference_task(NETWORK, images, labels), tmp_path / "runs"
    with SimulatedBench(4, flawless_device()) as lost:
        lost.write_bench_file(tmp_path / "lost.toml")
        benches = on_benches([files[0], str(tmp_path / "lost.toml")], folder)
        with pytest.raises(BenchFailure) as caught, open_together(benches, Quiet()) as runs:
            form(runs)
            inference = together(task, None, ALL_WAYS, runs)

            def unplug(step: Step) -> None:
                if threading.current_thread().name.endswith(runs[1].bench.chip.chip_id):
                    lost.board.unplug()

            inference.infer(Watching(unplug))
        assert f"that was on chip {lost.chip.chip_id}; the other chips were stopped" in caught.value.__notes__
        assert off(worlds[0])
        assert off(lost)
    by_chip = {run.attributes["chip_id"]: run for run in map(open_run, folder.glob("*.h5"))}
    assert by_chip[worlds[0].chip.chip_id].status == "stopped"
    assert f"chip {lost.chip.chip_id}: " in by_chip[worlds[0].chip.chip_id].ending.reason
    assert by_chip[lost.chip.chip_id].status == "failed"
    # not there at all: the first bench is let go of as it was found, off
    with pytest.raises(UserMistake, match="board"), open_together(benches, Quiet()):
        raise AssertionError("it is not there")
    assert off(worlds[0])


def test_the_same_bench_or_chip_twice_and_exchanged_chips_are_refused_before_any_voltage(
    worlds: list[SimulatedBench], files: list[str], tmp_path: Path
) -> None:
    texts = [Path(one).read_text() for one in files]
    ids = [world.chip.chip_id for world in worlds]
    (tmp_path / "again.toml").write_text(texts[0].replace('name = "', 'name = "the same '))
    for n, text in enumerate(texts):
        (tmp_path / f"swapped{n}.toml").write_text(text.replace(ids[n], ids[1 - n]))
    for benches, says in (
        ([files[0], files[0]], "is on both benches"),
        ([files[0], "again.toml"], "is on both benches"),
        (["swapped0.toml", "swapped1.toml"], "correct chip.id or change the chip"),
    ):
        paths = [str(tmp_path / one) for one in benches]
        refused = pytest.raises((UserMistake, BenchFailure), match=says)
        with refused, open_together(on_benches(paths, tmp_path), Quiet()):
            raise AssertionError("they were taken")
        assert all(off(world) for world in worlds)
    assert not list(tmp_path.glob("*.h5"))


def test_map_and_infer_on_several_benches(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_network("network.safetensors", random_network((64, 70, 10), 3), {})
    run_of(tmp_path / "a.h5", "characterise", patterns(3))

    def command(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rram-bench", *args])
        return status_of_command(), *capsys.readouterr()

    with open_together(on_benches(files, tmp_path), Quiet()) as runs:
        form(runs)
    both = ["--bench", files[0], "--bench", files[1]]
    status, out, err = command(
        "map", "network.safetensors", *both, "--out", "plan.json", "--picture", "p.png", "--json"
    )
    assert status == 0, err
    said = json.loads(out)
    assert [chip["array"] for chip in said["chips"]] == [{"rows": 32, "cols": 32}, {"rows": 64, "cols": 64}]
    for name in ("tiles", "cells_used", "cells_wasted", "programming_pulses"):
        assert said[name] == sum(chip[name] for chip in said["chips"])
    costs = [chip["programming"]["every_cell"] for chip in said["chips"]]
    whole = said["programming"]["every_cell"]
    assert whole["pulses"] == said["programming_pulses"] == sum(cost["pulses"] for cost in costs)
    assert whole["energy_j"] == pytest.approx(sum(cost["energy_j"] for cost in costs))
    assert max(cost["seconds"] for cost in costs) <= whole["seconds"] <= sum(cost["seconds"] for cost in costs)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    # what is known of a chip goes to the bench that names it
    save_network("small.safetensors", fully_connected((9, 7, 5), values=(-1, 1)), {})
    for name, chip_id in (("tiny", "CHIP-7"), ("other", "CHIP-8")):
        text = Path(files[0]).read_text().replace("rows = 32", f"rows = {ROWS}").replace("cols = 32", f"cols = {COLS}")
        (tmp_path / f"{name}.toml").write_text(re.sub(r'(?m)^id = ".*"', f'id = "{chip_id}"', text))
    tiny = ("--bench", "other.toml", "--bench", "tiny.toml", "--error-map", "a.h5")
    status, out, err = command("map", "small.safetensors", *tiny, "--json")
    assert status == 0, err
    known = json.loads(out)["chips"]
    assert [chip["chip_id"] for chip in known] == [None, "CHIP-7"]
    assert known[0]["harm"] is None
    assert known[1]["harm"]["placed"]["harm"] < known[1]["harm"]["as_it_comes"]["harm"]
    infer = ("infer", "network.safetensors", "--data", "digits", "--samples", "20", "--mode", "xnor")
    status, out, err = command(*infer, *both, "--plan", "plan.json", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert result["accuracy"]["xnor"] == result["software_accuracy"]
    assert [chip["tiles"] for chip in result["chips"]] == [chip["tiles"] for chip in said["chips"]]
    # the environment may name several, as PATH names folders
    monkeypatch.setenv("RRAM_BENCH_FILE", os.pathsep.join(files))
    for args, says in (
        (("map", "network.safetensors", "--rows", "8"), "each bench file has its own"),
        (("map", "network.safetensors", "--error-map", "a.h5"), "is of chip CHIP-7, and the bench files name SIM-"),
        ((*infer, "--plan", "plan.json", "--sweep"), "--sweep takes one chip"),
        *(
            (line.split(), f"{line.split()[0]} takes one chip; give one --bench, not 2: {files[0]}, ")
            for line in ("tune network.safetensors", "learn network.safetensors", "run forming", "check", "safe")
        ),
        ((*infer, "--plan", "plan.json", "--bench", files[0]), "it is for several chips"),
        ((*infer, "--plan", "plan.json", "--bench", files[1], "--bench", files[0]), "for an array of 32 x 32 cells"),
    ):
        status, out, err = command(*args)
        assert (status, out) == (2, ""), err
        assert says in err
