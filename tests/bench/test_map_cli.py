"""The command `map` and what it leaves: the plan as a file, read back strictly, and as a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bench.cli import status_of_command
from bench.mapping import NONE, Plan, Tile, plan_network
from bench.plan_files import load_plan, save_plan
from bench.plan_pictures import plan_figure
from data.networks import save_network
from models.cells import Geometry
from models.exceptions import UserMistake
from tests.bench.recorded import COLS, ROWS
from tests.bench.test_error_map import STUCK, patterns, run_of
from tests.bench.test_mapping import fully_connected
from tests.bench.test_placement import stuck_at_random

NETWORK = fully_connected((9, 7, 5), values=(-1, 1))


@pytest.fixture
def map_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs ``rram-bench map network.safetensors ...`` in this process; gives its status, output and error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRAM_BENCH_FILE", raising=False)
    save_network("network.safetensors", NETWORK, {})

    def run(*args: str, network: str = "network.safetensors") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rram-bench", "map", network, *args])
        status = status_of_command()
        return status, *capsys.readouterr()

    return run


def test_the_plan_avoids_what_runs_of_the_chip_found(map_, tmp_path: Path) -> None:
    run_of(tmp_path / "a.h5", "characterise", patterns(3))
    status, out, err = map_(
        *("--error-map", "a.h5", "--out", "plan.json", "--picture", "plan.png", "--json"),
    )
    assert status == 0, err
    result = json.loads(out)
    plan = load_plan("plan.json")
    plan.check(NETWORK, Geometry(ROWS, COLS), "CHIP-7")
    assert result["array"] == {"rows": ROWS, "cols": COLS}
    assert (result["chip_id"], result["tiles"]) == ("CHIP-7", len(plan.tiles))
    assert result["cells_used"] == 9 * 7 + 7 * 5
    assert result["cells_used"] + result["cells_wasted"] == len(plan.tiles) * ROWS * COLS
    every, changed = result["programming"]["every_cell"], result["programming"]["changed_cells"]
    assert every["pulses"] == result["programming_pulses"] == plan.pulses
    assert 0 < changed["pulses"] < every["pulses"]
    assert 0 < changed["energy_j"] < every["energy_j"]
    assert every["seconds"] > 0
    assert result["inference_energy"]["on_chip_j"] > 0
    assert result["error_map"]["stuck"] == {"-1": 1, "0": 1, "+1": 1}
    assert result["error_map"]["sha256"] == plan.error_map
    assert len(STUCK) == 3
    assert result["harm"]["placed"]["harm"] < result["harm"]["as_it_comes"]["harm"]
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_the_array_is_that_of_the_bench_or_the_one_asked_for(map_) -> None:
    for args, array in (
        ((), [32, 32]),
        (("--bench", "simulated"), [32, 32]),
        (("--rows", "8", "--cols", "5"), [8, 5]),
    ):
        status, out, err = map_(*args, "--json")
        assert status == 0, err
        assert list(json.loads(out)["array"].values()) == array
    status, out, _ = map_()
    assert status == 0
    assert "programming, changed cells only" in out


def test_what_cannot_be_mapped_is_one_clear_line(map_, tmp_path: Path) -> None:
    run_of(tmp_path / "a.h5", "characterise", patterns(2))
    about = {
        "format": "rram-bench network 1",
        "name": "real",
        "classes": 2,
        "encoding": {"kind": "real", "features": 3, "centre": 8.0, "gain": 0.1},
        "layers": [{"kind": "linear", "inputs": 3, "outputs": 2}],
        "provenance": {},
    }
    tensors = {
        "layers.0.weights": np.ones((2, 3), np.int8),
        "layers.0.sign": np.ones(2, np.int8),
        "layers.0.threshold": np.zeros(2, np.int32),
    }
    save_file(tensors, tmp_path / "real.safetensors", {"rram-bench": json.dumps(about)})
    for args, network, says in (
        (("--error-map", "a.h5", "--bench", "simulated"), "network.safetensors", "error map is of an array of 4 x 3"),
        (("--error-map", "none.h5"), "network.safetensors", "there is no run file none.h5"),
        (("--out", "no/such/plan.json"), "network.safetensors", "cannot write the plan no/such/plan.json"),
        ((), "real.safetensors", "inputs of the kind 'real' are not whole numbers"),
    ):
        status, out, err = map_(*args, network=network)
        assert (status, out) == (2, ""), err
        assert says in err
        assert len(err.strip().splitlines()) == 1


def placed_plan() -> Plan:
    plan = plan_network(NETWORK, Geometry(4, 4), stuck_at_random(Geometry(4, 4), 0.2, 0))
    first, *others = plan.tiles
    return replace(plan, tiles=(Tile(0, first.rows, first.cols[[2, 0, 3, 1]]), *others))


def test_a_plan_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    plan = placed_plan()
    save_plan(tmp_path / "plan.json", plan)
    again = load_plan(tmp_path / "plan.json")
    again.check(NETWORK, Geometry(4, 4), "A7")
    assert replace(again, tiles=()) == replace(plan, tiles=())
    for ours, theirs in zip(again.tiles, plan.tiles, strict=True):
        assert ours.layer == theirs.layer
        assert (ours.rows.tolist(), ours.cols.tolist()) == (theirs.rows.tolist(), theirs.cols.tolist())
    assert any((tile.rows == NONE).any() for tile in again.tiles)


TILE = {"layer": 0, "rows": [0, -1], "cols": [1]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "its schema is None"),
        ('{"schema": "rram-bench plan 1", "schema": 1}', "has a field twice"),
        ({"schema": "rram-bench plan 3"}, "its schema is 'rram-bench plan 3'; this program reads 'rram-bench plan 1'"),
        ({"schema": "rram-bench plan 2"}, "it is for several chips: give the bench of each"),
        ({"colour": 1}, r"missing fields \[\], unknown fields \['colour'\]"),
        ({"network": 7}, "network is 7, expected str"),
        ({"network_sha256": "abc"}, "network_sha256 is 'abc', expected the 64 digits"),
        ({"array": {"rows": 4}}, r"array: missing fields \['cols'\]"),
        ({"array": {"rows": 4, "cols": True}}, "array, cols: True, expected a whole number from 1"),
        ({"chip_id": None}, "chip_id and error_map belong together"),
        ({"tiles": []}, "it has no tiles"),
        ({"tiles": [3]}, "tile 1 is int, expected an object"),
        ({"tiles": [TILE, {"layer": 0, "rows": [0]}]}, r"tile 2: missing fields \['cols'\]"),
        ({"tiles": [TILE | {"layer": -1}]}, "tile 1, layer: -1, expected a whole number from 0"),
        ({"tiles": [TILE | {"rows": [0.0]}]}, "tile 1, rows: 0.0, expected a whole number from -1"),
        ({"tiles": [TILE | {"rows": [0, 1, 0]}]}, "tile 1: rows has 3 entries, 2 different ones"),
        ({"tiles": [TILE | {"cols": [-1]}]}, "tile 1: cols has 1 entries, 0 different ones"),
        ({"tiles": [TILE | {"cols": [0, 1, 2, 3, 4]}]}, "tile 1: cols has 5 entries"),
    ],
)
def test_a_damaged_plan_is_one_clear_line(tmp_path: Path, change: str | dict, says: str) -> None:
    path = tmp_path / "plan.json"
    save_plan(path, placed_plan())
    text = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    path.write_text(text)
    with pytest.raises(UserMistake, match=says) as caught:
        load_plan(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_of_many_tiles_shows_the_first_and_says_so() -> None:
    network = fully_connected((200, 100, 10), values=(-1, 1))
    array = Geometry(10, 10)
    stuck = stuck_at_random(array, 0.05, 0)
    figure = plan_figure(plan_network(network, array, stuck), network, {"A7": stuck})
    titles = [text.get_text() for text in figure.axes[0].texts if not text.get_text().isdigit()]
    assert titles[0].startswith("test on 10 × 10 cells of chip A7: 210 tiles, 21000 cells used")
    assert titles[1].startswith("layer 1, linear, matrix 100 × 200: the first 64 of 200 tiles")
    assert titles[2].startswith("layer 2, linear, matrix 10 × 100: 10 tiles")
    assert len(figure.axes[0].images) == 64 + 10
