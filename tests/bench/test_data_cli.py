"""The data sub-commands, as a user types them."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys

import pytest
import torch

from bench.cli import status_of_command
from data.device_files import Quantity, default_device, save_device
from data.networks import load_network
from models.device_model import SCHEMA
from models.networks import build, fold
from models.training import TrainingDiverged
from models.training_loop import EpochRecord
from tests.data import formats


@pytest.fixture
def command(monkeypatch, capfd):
    """Run a command line; gives its status, standard output and standard error."""
    monkeypatch.delenv("RRAM_BENCH_DATA", raising=False)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rram-bench", *map(str, words)])
        status = status_of_command()
        out, err = capfd.readouterr()
        return status, out, err

    return run


def test_the_list_says_what_was_found_where(command, tmp_path):
    formats.write_mnist(tmp_path / "mnist")
    status, out, _ = command("data", "list", "--data-dir", tmp_path, "--json")
    assert status == 0
    values = json.loads(out)
    found = {source["name"]: source for source in values["sources"]}
    assert found["mnist"]["files"] == 4
    assert found["mnist"]["found"] == str(tmp_path / "mnist")
    assert found["mnist"]["checksums"] == "4 differs"
    assert found["eeg"]["found"] is None
    assert {"digits", "synthetic-ecg", "cifar10"} <= set(values["datasets"])
    status, out, _ = command("data", "list")
    assert status == 0
    assert "no folder named: --data-dir or RRAM_BENCH_DATA" in out
    assert "fashion-mnist" in out


def test_verify_ends_with_1_where_a_file_differs_and_0_where_none_does(command, tmp_path):
    formats.write_mnist(tmp_path / "mnist")
    status, out, err = command("data", "verify", "mnist", "--data-dir", tmp_path)
    assert status == 1
    assert "4 differs" in out
    assert "mnist/t10k-images-idx3-ubyte and 3 more: the content is not what was published" in err
    formats.write_cinc(tmp_path / "set-a", records=2)
    files = sorted((tmp_path / "set-a").iterdir())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in files]
    (tmp_path / "set-a" / "SHA256SUMS").write_text("\n".join(lines))
    status, out, _ = command("data", "verify", "ecg", "--data-dir", tmp_path, "--json")
    assert status == 0
    assert [entry["state"] for entry in json.loads(out)["sources"]["ecg"]] == ["intact"] * 3


def measured_device(folder):
    """A device file with error rates, as a fit writes it."""
    names = [f"read_error.{name}" for name in ("stuck_fraction", "random_rate", "transient_rate")]
    rates = {name: Quantity(1e-3, SCHEMA[name].unit, "a run", "fitted", 0.0, 2e-3) for name in names}
    save_device(folder / "device.toml", default_device().updated(rates))
    return folder / "device.toml"


def test_one_damaged_file_is_listed_and_the_others_are_checked(command, tmp_path):
    formats.write_mnist(tmp_path / "mnist")
    packed = gzip.compress((tmp_path / "mnist" / "t10k-images-idx3-ubyte").read_bytes())
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte").unlink()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(packed[:-20])
    status, out, _ = command("data", "list", "--data-dir", tmp_path)
    assert status == 0
    assert "3 differs, 1 damaged or closed to us" in out
    for words in (("verify",), ("verify", "mnist")):
        status, out, err = command("data", *words, "--data-dir", tmp_path)
        assert status == 1
        assert "3 differs, 1 damaged or closed to us" in out
        assert "t10k-images-idx3-ubyte.gz and 3 more" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("verify",), "name the folder of data sets with --data-dir or RRAM_BENCH_DATA"),
        (("fetch", "mnist"), "name the folder of data sets with --data-dir or RRAM_BENCH_DATA"),
        (("fetch", "imagenet", "--data-dir", "."), "no source of data is called 'imagenet'; there are: mnist,"),
        (("list", "--data-dir", "nowhere"), "the folder of data sets nowhere does not exist"),
        (("verify", "eeg", "--data-dir", "."), "holds no file of eeg"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(command, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    status, _, err = command("data", *words)
    assert status == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_fetch_without_a_network_is_one_line_and_status_1(command, tmp_path, monkeypatch):
    import urllib.request

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    status, _, err = command("data", "fetch", "eeg", "--data-dir", tmp_path / "new")
    assert status == 1
    line = err.strip().splitlines()[-1]
    assert line.startswith(
        "rram-bench: physionet.org cannot be reached (Name or service not known): is there a network?"
    )


def test_a_data_set_of_files_is_named_like_any_other_and_a_missing_folder_said(command, tmp_path):
    status, _, err = command("train", "digits-bnn", "--data", "mnist", "--out", tmp_path / "network.safetensors")
    assert status == 2
    assert "the data set mnist is read from a folder" in err


def test_commands_of_the_loop_take_the_folder_of_data_sets_as_an_option_or_from_the_environment(
    command, tmp_path, monkeypatch
):
    formats.write_mnist(tmp_path / "data" / "mnist")
    network = tmp_path / "network.safetensors"
    words = ("--data", "mnist", "--data-dir", tmp_path / "data")
    status, out, _ = command("train", "mnist-bnn", *words, "--epochs", 1, "--out", network, "--json")
    assert status == 0
    assert json.loads(out)["data"] == "mnist"
    monkeypatch.setenv("RRAM_BENCH_DATA", str(tmp_path / "data"))
    device = measured_device(tmp_path)
    status, out, _ = command("predict", network, "--device", device, "--data", "mnist", "--json")
    assert status == 0
    assert set(json.loads(out)["predicted"]) == {"host", "xnor"}
    for start in (("predict", network, "--device", device), ("infer", network), ("train", "mnist-bnn")):
        # the option goes before the environment
        status, _, err = command(*start, *words[:3], tmp_path / "nowhere")
        assert status == 2
        assert "nowhere does not exist; looked there for mnist" in err


@pytest.mark.parametrize("good_epochs", [0, 2])
def test_a_training_that_diverges_ends_with_1_and_leaves_the_last_good_network(
    command, tmp_path, monkeypatch, good_epochs
):
    from models import training

    network = fold(build("digits-bnn", torch.Generator().manual_seed(0)))
    history = [EpochRecord(epoch, 1.0, 0.5, 0.5) for epoch in range(1, good_epochs + 1)]

    def diverging(*args, **kwargs):
        raise TrainingDiverged("training stopped in epoch 3: the loss is no longer a finite number", network, history)

    monkeypatch.setattr(training, "train", diverging)
    out = tmp_path / "network.safetensors"
    status, _, err = command("train", "digits-bnn", "--out", out)
    assert status == 1
    line = err.strip().splitlines()[-1]
    assert "the loss is no longer a finite number" in line
    assert (f"That network is in {out}" in line) == out.exists() == (good_epochs > 0)
    if good_epochs:
        saved = load_network(out)
        assert saved.network.layers[0].weights.tolist() == network.layers[0].weights.tolist()
        assert saved.provenance["epochs"] == "2"
