"""Predicted before and measured after, through the wire: on good and bad chips, binary and ternary."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from bench.cli.app import app
from bench.config import parse_bench_file
from bench.confirming import Confirming, Wanted
from bench.plan_files import load_plan
from bench.predicting import predict_silicon
from bench.session import connect
from bench.stages import Quiet, StagedRuns
from bench.stopping import StopToken
from data.datasets import Dataset
from data.device_files import packaged_device
from data.networks import save_network
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.architectures import Precision, mlp
from models.cells import Geometry
from models.encodings import ThermometerEncoding
from models.exceptions import UserMistake
from models.integer import IntegerNetwork
from models.networks import fold
from models.prediction import InferenceMode
from models.training import train
from tests.bench.flawless import population
from tests.models.random_networks import random_network

SAMPLES = 150
BAD = {"defects.stuck_lrs": 0.02, "defects.stuck_hrs": 0.03}
"""Shares of the devices of a bad chip."""


def confirmed(wanted: Wanted, folder: Path, seed: int, chip: str = "kilobit", **changes: float) -> dict[str, Any]:
    with SimulatedBench(seed, population(chip, **changes), chip=chip) as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            folder.mkdir(exist_ok=True)
            runs = StagedRuns(bench, seed, folder, Quiet(), StopToken())
            return Confirming(runs, wanted).confirm(form_first=True)


def test_a_bad_chip_does_what_its_own_map_predicts(network: IntegerNetwork, digits: Dataset, tmp_path: Path) -> None:
    modes = (InferenceMode.HOST, InferenceMode.XNOR)
    # all samples: the interval misses one chip in twenty, and seeds 3 to 10 were all inside it
    wanted = Wanted(network, digits, modes, placed=False)
    result = confirmed(wanted, tmp_path, 3, **BAD)
    # of the plain placement some hundred weights are wrong, and the map said so
    assert result["errors"]["stuck"] > 20
    for mode in modes:
        facts = result["modes"][mode.value]
        assert facts["inside"], facts
        assert facts["predicted"]["low"] < facts["predicted"]["high"] < 1.0
    assert result["predicted"] == result["modes"]["host"]["predicted"]
    # what is said adds up to what the run file holds
    run = open_run(result["run_file"])
    samples = run.read("samples")
    assert result["measured"] == (samples["host"] == samples["label"]).mean()
    tiles = run.read("tiles", ["target", "sensed", "verdict"])
    wrong = (tiles["target"] != tiles["sensed"]) & (tiles["verdict"] != 0)
    assert sum(result["errors"][cause] for cause in ("stuck", "programming", "read")) == wrong.sum()
    assert sum(layer["errors"]["stuck"] for layer in result["layers"]) == result["errors"]["stuck"]


def test_placed_weights_avoid_the_bad_cells_and_the_plan_is_kept(
    network: IntegerNetwork, digits: Dataset, tmp_path: Path
) -> None:
    wanted = Wanted(network, digits.first_tests(SAMPLES), (InferenceMode.HOST,))
    result = confirmed(wanted, tmp_path, 3, **BAD)
    assert result["inside"]
    assert result["errors"]["stuck"] < 10
    plan = load_plan(result["plan_file"])
    plan.check(network, Geometry(32, 32), result["chip_id"])
    with pytest.raises(UserMistake, match="another chip|avoids the weak cells of chip"):
        plan.check(network, Geometry(32, 32), "ANOTHER")
    # the same plan on another chip is refused before anything is driven
    with pytest.raises(UserMistake, match="SIM-KILOBIT-4"):
        confirmed(Wanted(network, digits.first_tests(SAMPLES), plan=plan), tmp_path / "other", 4)
    assert not list((tmp_path / "other").glob("*.h5"))


@pytest.mark.slow
def test_a_ternary_network_on_a_ternary_chip(digits: Dataset, tmp_path: Path) -> None:
    network = train("digits-tnn", digits, 1, 8)[0]
    result = confirmed(Wanted(network, digits, tuple(InferenceMode)), tmp_path, 0, "ternary")
    assert all(facts["inside"] for facts in result["modes"].values()), result["modes"]
    # the population alone, of which the chip is one, says nearly as much
    array = Geometry(8, 8)
    for mode, found in predict_silicon(network, digits, packaged_device("hfo2_130nm_ternary"), array, 0).items():
        assert found.low <= result["modes"][mode]["measured"] <= found.high
    # nearly all errors of this chip are zeros that read as weights
    assert result["errors"]["type3"] > 10 * (result["errors"]["type1"] + result["errors"]["type2"])


def test_a_ternary_network_is_predicted_from_a_device_file(tmp_path: Path) -> None:
    small = mlp("small-tnn", ThermometerEncoding(64, (8,)), (8,), 10, weights=Precision.TERNARY)
    save_network(tmp_path / "net.safetensors", fold(random_network(small, 3)), {})

    def predict(device: str, *options: str) -> Result:
        path = str(files("data") / "devices" / f"{device}.toml")
        return CliRunner().invoke(
            app, ["predict", str(tmp_path / "net.safetensors"), "--device", path, "--json", *options]
        )

    found = json.loads(predict("hfo2_130nm_ternary").output)
    assert found["array"] == [8, 8]
    for one in found["predicted"].values():
        assert 0.0 < one["low"] < one["mean"] < one["high"] < 1.0
    # what a binary chip, or the ternary one at the sense of a binary bench, cannot do
    for refused in (predict("hfo2_130nm"), predict("hfo2_130nm_ternary", "--bench", "simulated")):
        assert isinstance(refused.exception, UserMistake)
        assert "tell no zeros" in str(refused.exception)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--mode", "analog"], "--mode 'analog': allowed are host, sensed, xnor and both"),
        (["--plan", "broken.json"], "broken.json"),
        (["--error-map", "none.h5"], "none.h5"),
        (["--data", "nothing"], "nothing"),
        (["--bench", "bench.toml", "--chip", "ternary"], "is of the simulated bench"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    network: IntegerNetwork, options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_network(Path("net.safetensors"), network, {})
    Path("broken.json").write_text('{"schema": "something else"}')
    done = CliRunner().invoke(app, ["confirm", "net.safetensors", "--out", "out", *options])
    assert isinstance(done.exception, UserMistake)
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not list(tmp_path.rglob("*.h5"))
