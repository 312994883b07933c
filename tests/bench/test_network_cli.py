"""The commands `network` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from bench.cli import status_of_command
from data.networks import load_network, save_network
from models.encodings import ThermometerEncoding
from models.integer import IntegerLayer, IntegerNetwork

pytest.importorskip("onnx")

ENCODING = {"kind": "thermometer", "features": 12, "thresholds": [4, 12]}
MAP = {
    "name": "mine",
    "encoding": ENCODING,
    "layers": [
        {"layer": "linear", "name": "fc1", "levels": "binary"},
        {"layer": "batch_norm", "name": "bn"},
        {"layer": "sign"},
        {"layer": "linear", "name": "fc2", "levels": "binary"},
    ],
}


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs ``rram-bench network ...`` in this process; gives its status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["rram-bench", "network", *args])
        status = status_of_command()
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def result_of(network):
    """The JSON result of a command that succeeds."""

    def run(*args: str) -> dict:
        status, out, err = network(*args, "--json")
        assert status == 0, err
        return json.loads(out)

    return run


def trained(folder: Path) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "fc1.weight": torch.randn(16, 24, generator=generator),
        "bn.weight": torch.randn(16, generator=generator),
        "bn.bias": torch.randn(16, generator=generator),
        "bn.running_mean": torch.randn(16, generator=generator),
        "bn.running_var": torch.rand(16, generator=generator) + 0.5,
        "fc2.weight": torch.randn(4, 16, generator=generator),
    }
    torch.save(tensors, folder / "mine.pt")
    (folder / "map.json").write_text(json.dumps(MAP))
    return tensors


def test_import_export_import_and_show_of_a_network_of_ones_own(tmp_path: Path, result_of) -> None:
    tensors = trained(tmp_path)
    first = result_of("import", "mine.pt", "--map", "map.json", "--out", "mine.safetensors")
    assert first["network"] == "mine"
    assert first["notes"] == []
    assert [layer["outputs"] for layer in first["layers"]] == [16, 4]
    exported = result_of("export", "mine.safetensors", "--onnx", "mine.onnx")
    assert exported["bytes"] == (tmp_path / "mine.onnx").stat().st_size
    result_of("import", "mine.onnx", "--out", "back.safetensors")
    images = np.random.default_rng(0).integers(0, 16, (200, 12)).astype(np.uint8)
    mine, back = (load_network(tmp_path / name) for name in ("mine.safetensors", "back.safetensors"))
    x = torch.from_numpy(mine.network.encode(images)).double()
    value = {name: tensor.double() for name, tensor in tensors.items()}
    sums = x @ torch.where(value["fc1.weight"] >= 0, 1.0, -1.0).double().T
    normal = (sums - value["bn.running_mean"]) / torch.sqrt(value["bn.running_var"] + 1e-5)
    hidden = torch.where(normal * value["bn.weight"] + value["bn.bias"] >= 0, 1.0, -1.0).double()
    scores = (hidden @ torch.where(value["fc2.weight"] >= 0, 1.0, -1.0).double().T).numpy()
    assert np.array_equal(mine.network.scores(images), scores)
    assert np.array_equal(back.network.scores(images), scores)
    assert mine.provenance["imported_from"] == "mine.pt"
    assert mine.provenance["map"] == MAP
    shown = result_of("show", "mine.safetensors")
    assert shown["provenance"] == mine.provenance
    assert shown["costs"]["2T2R, XNOR in the sense amplifier"]["inference_j"] > 0
    programming = [shown["costs"][f"programming 2T2R, {name}"]["programming_j"] for name in ("strong", "ultra_weak")]
    assert programming[0] / programming[1] == pytest.approx(30.0)


def test_show_speaks_to_people_and_takes_other_figures(tmp_path: Path, network, result_of) -> None:
    layer = IntegerLayer(np.eye(3, 12, dtype=np.int8), np.ones(3, np.int8), np.zeros(3, np.int32))
    ternary = IntegerNetwork("ternary", ThermometerEncoding(12, (1,)), (layer,), 3)
    save_network(tmp_path / "net.safetensors", ternary, {})
    status, out, err = network("show", "net.safetensors", "--circuits", "st_mram_28nm")
    assert status == 0, err
    for part in ("st_mram_28nm", "33 zero weights", "12 features", "mm2", "SRAM, digital"):
        assert part in out
    from importlib import resources

    text = (resources.files("data") / "energy" / "hfo2_130nm.toml").read_text()
    (tmp_path / "own.toml").write_text(text.replace('name = "hfo2_130nm"', 'name = "own"'))
    assert result_of("show", "net.safetensors", "--circuits", "own.toml")["circuits"] == "own"


def test_mistakes_end_with_status_2_and_one_line(tmp_path: Path, network) -> None:
    trained(tmp_path)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "objects.pt")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "text.onnx").write_text("no network\n")
    save_file({"w": np.zeros((2, 2), np.float32)}, tmp_path / "other.safetensors")
    for args, parts in (
        (["import", "mine.pt"], ["mine.pt", "--map"]),
        (["import", "mine.pt", "--map", "bad.json"], ["bad.json", "not JSON"]),
        (["import", "nowhere.pt", "--map", "map.json"], ["nowhere.pt"]),
        (["import", "objects.pt", "--map", "map.json"], ["objects.pt", "pickled objects"]),
        (["import", "text.onnx", "--map", "map.json"], ["text.onnx"]),
        (["import", "other.safetensors", "--map", "map.json"], ["other.safetensors", "fc1.weight"]),
        (["import", "mine.pt", "--map", "map.json", "--out", "nowhere/net.safetensors"], ["nowhere"]),
        (["export", "other.safetensors", "--onnx", "out.onnx"], ["other.safetensors"]),
        (["show", "nowhere.safetensors"], ["nowhere.safetensors"]),
    ):
        status, out, err = network(*args)
        assert status == 2, (args, err)
        assert out == ""
        (line,) = err.splitlines()
        for part in ["rram-bench:", *parts]:
            assert part in line, (args, line)
    assert not (tmp_path / "out.onnx").exists()
