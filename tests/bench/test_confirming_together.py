"""One network on several chips, predicted before and measured after, through the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import bench.predicting
from bench.cli.app import app
from bench.cli.on_bench import open_together
from bench.confirming import Wanted, known_by
from bench.confirming_together import ConfirmingTogether
from bench.mapping import plan_network
from bench.plan_files import load_shared_plan, save_shared_plan
from bench.predicting import column_tiles
from bench.several_chips import plan_on_chips
from bench.stages import Quiet
from data.datasets import Dataset
from data.networks import save_network
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.architectures import Architecture, Conv, Precision, mlp
from models.cells import Geometry
from models.convolution_shapes import PaddingValue
from models.encodings import ThermometerEncoding
from models.exceptions import UserMistake
from models.integer import IntegerNetwork
from models.networks import fold
from models.prediction import InferenceMode
from models.read_errors import ErringNetwork
from models.weight_errors import WeightErrorRates
from tests.bench.flawless import population
from tests.bench.test_several_chips import off, on_benches
from tests.models.random_networks import random_network
from tests.models.test_read_errors import NETWORKS, TILE

PADDED = [
    one
    for one in NETWORKS
    if any(isinstance(block, Conv) and block.padding_value is PaddingValue.ZERO for block in one.blocks)
]
MODES = (InferenceMode.HOST, InferenceMode.XNOR)
BROKEN = {"defects.stuck_lrs": 0.03, "defects.stuck_hrs": 0.05}
"""Shares of the devices of the bad chip."""


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """A third of the draws: enough for an interval, and sooner done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.predicting, "DRAWS", 67)
        yield


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[SimulatedBench]]:
    """A bad chip and a usual one, of 32 x 32 cells."""
    with ExitStack() as opened:
        yield [
            opened.enter_context(SimulatedBench(seed, population(**changes)))
            for seed, changes in ((21, BROKEN), (22, {}))
        ]


@pytest.fixture(scope="module")
def files(worlds: list[SimulatedBench], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("benches")
    for number, world in enumerate(worlds):
        world.write_bench_file(folder / f"{number}.toml")
    return [str(folder / f"{number}.toml") for number in range(len(worlds))]


@pytest.fixture(scope="module")
def confirmed(
    network: IntegerNetwork, digits: Dataset, files: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict, Path]:
    """A confirmation on both, with the weights as they come; and the folder of its files."""
    folder = tmp_path_factory.mktemp("confirmed")
    wanted = Wanted(network, digits, MODES, placed=False)
    with open_together(on_benches(files, folder), Quiet()) as runs:
        result = ConfirmingTogether(runs, wanted).confirm(Quiet(), [True, True])
    return result, folder


def test_the_chips_do_what_their_own_maps_predict(
    network: IntegerNetwork, worlds: list[SimulatedBench], confirmed: tuple[dict, Path]
) -> None:
    result, folder = confirmed
    assert all(off(world) for world in worlds)
    for facts in result["modes"].values():
        assert facts["inside"], facts
        assert facts["predicted"]["low"] < facts["predicted"]["high"] < 1.0
    # what is said of each chip is what its run file holds, and adds up
    for chip, world in zip(result["chips"], worlds, strict=True):
        assert chip["chip_id"] == world.chip.chip_id
        run = open_run(chip["run_file"])
        assert run.attributes["chip_id"] == chip["chip_id"]
        tiles = run.read("tiles", ["target", "sensed", "verdict"])
        wrong = (tiles["target"] != tiles["sensed"]) & (tiles["verdict"] != 0)
        causes = [chip["errors"][cause] for cause in ("stuck", "programming", "read")]
        assert sum(causes) == wrong.sum()
        assert sum(layer["errors"]["stuck"] for layer in chip["layers"]) == chip["errors"]["stuck"]
        samples = run.read("samples")
        assert result["measured"] == (samples["host"] == samples["label"]).mean()
    bad, good = result["chips"]
    # of the plain placement many weights lie on stuck cells of the bad chip, and its map said which
    assert bad["errors"]["stuck"] > max(20, 3 * good["errors"]["stuck"])
    assert bad["stuck_cells"] > 20
    for name in ("stuck_cells", "tiles"):
        assert result[name] == bad[name] + good[name]
    for index, layer in enumerate(result["layers"]):
        for name, count in layer["errors"].items():
            assert count == bad["layers"][index]["errors"][name] + good["layers"][index]["errors"][name]
    load_shared_plan(result["plan_file"]).check(network)
    assert len(list(folder.glob("*-characterise.h5"))) == len(list(folder.glob("*-inference.h5"))) == 2


def test_runs_of_these_chips_predict_without_a_bench_and_those_of_others_are_refused(
    network: IntegerNetwork,
    worlds: list[SimulatedBench],
    files: list[str],
    confirmed: tuple[dict, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result, folder = confirmed
    monkeypatch.chdir(tmp_path)
    save_network("net.safetensors", network, {})
    small = mlp("small-tnn", ThermometerEncoding(64, (8,)), (60,), 10, weights=Precision.TERNARY)
    save_network("tnn.safetensors", fold(random_network(small, 3)), {})
    of = {str(open_run(path).attributes["chip_id"]): str(path) for path in folder.glob("*-characterise.h5")}
    runs = [of[world.chip.chip_id] for world in worlds]
    both = ["--bench", files[0], "--bench", files[1]]
    maps = ["--error-map", runs[1], "--error-map", runs[0]]

    def command(name: str, *options: str) -> object:
        done = CliRunner().invoke(app, [name, *options, "--seed", "1", "--json"])
        return json.loads(done.stdout) if done.exit_code == 0 else done.exception

    # the confirmation's plan, data and seed: the very prediction that it made, whatever the order of the runs
    told = command("predict", "net.safetensors", *both, *maps, "--plan", result["plan_file"])
    assert isinstance(told, dict), told
    assert told["predicted"] == {mode: facts["predicted"] for mode, facts in result["modes"].items()}
    assert [chip["chip_id"] for chip in told["chips"]] == [chip["chip_id"] for chip in result["chips"]]
    one = command("predict", "net.safetensors", "--error-map", runs[1])
    assert [chip["array"] for chip in one["chips"]] == [{"rows": 32, "cols": 32}]
    # a plan that was made with the maps of other chips
    arrays = [world.chip.geometry for world in worlds]
    known = [
        known_by([Path(run)], world.chip.geometry, world.chip.chip_id).cells
        for run, world in zip(runs, worlds, strict=True)
    ]
    shared = plan_on_chips(network, arrays, known)
    parts = [replace(part, chip_id=f"OTHER-{number}") for number, part in enumerate(shared.parts)]
    save_shared_plan("others.json", replace(shared, parts=tuple(parts)))
    confirm = ("confirm", "net.safetensors")
    for args, says in (
        ((*confirm, "--bench", files[0], "--bench", files[0]), "is on both benches"),
        ((*confirm, *both, "--plan", "others.json"), "weak cells of chip OTHER-0"),
        ((*confirm, "--bench", files[0], "--error-map", runs[1]), "the error map is of"),
        (
            (*confirm, *both, "--error-map", result["chips"][0]["run_file"]),
            "an error map takes runs of characterise, bit-error, program",
        ),
        (("confirm", "tnn.safetensors", *both, *maps), "has zero weights"),
        (("confirm", "tnn.safetensors", "--bench", files[1], "--error-map", runs[1]), "has zero weights"),
        (("predict", "net.safetensors", *both, *maps[:2]), "no --error-map is of the chip of"),
        (("predict", "net.safetensors", *both, *both, *maps), "is on both benches"),
        (("predict", "net.safetensors"), "--device FILE, or from --error-map RUN"),
        (("predict", "net.safetensors", *maps), "the runs are of several chips"),
    ):
        refused = command(*args)
        assert isinstance(refused, UserMistake), (args, refused)
        assert says in str(refused)
        assert "\n" not in str(refused)
    assert all(off(world) for world in worlds)
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("architecture", PADDED, ids=lambda one: one.name)
def test_the_tiles_of_a_plan_are_those_that_padding_presents_twice(architecture: Architecture) -> None:
    network, rng = fold(random_network(architecture, 3)), np.random.default_rng(0)
    images = rng.integers(0, 1 << network.encoding.planes, (60, network.encoding.features)).astype(np.uint8)
    rates = [WeightErrorRates(0.05, 0.05, 0.05) for _ in network.layers]

    def scores(tiles: object) -> np.ndarray:
        return ErringNetwork(network, rates, np.random.default_rng(1), tile_columns=tiles).scores(images)

    plain = scores(TILE)
    assert np.array_equal(plain, scores(column_tiles([plan_network(network, Geometry(8, TILE))], network)))
    # columns dealt to tiles in another way, as chips of several sizes do, are presented twice elsewhere
    assert not np.array_equal(plain, scores(column_tiles([plan_network(network, Geometry(8, 2))], network)))
