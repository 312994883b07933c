from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from data.atomic import check_writable, write_atomically
from data.device_files import default_device, load_device, save_device
from data.networks import load_network, save_network
from models.architectures import mlp
from models.encodings import ThermometerEncoding
from models.exceptions import UserMistake
from models.networks import fold
from tests.models.random_networks import random_network

KINDS = ("device file", "network file", "plan", "ONNX file", "picture", "report", "table of the points")


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["ohm"] = np.arange(9.0)
    return tmp_path / "run.h5"


@pytest.mark.parametrize("what", KINDS)
def test_a_file_of_another_kind_is_not_replaced(measured: Path, what: str) -> None:
    before = measured.read_bytes()
    for write in (lambda: check_writable(measured, what), lambda: write_atomically(measured, b"new", what)):
        with pytest.raises(UserMistake, match=f"run.h5: a file stands there that is no {what}; name another place"):
            write()
    assert measured.read_bytes() == before
    assert list(measured.parent.iterdir()) == [measured]


def test_a_bench_file_or_a_table_is_no_device_file(tmp_path: Path) -> None:
    for name, text in (("bench.toml", '[supply]\nresource = "x"\n'), ("ok.csv", "device,state\n1,LRS\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserMistake, match="no device file"):
            save_device(tmp_path / name, default_device())
        assert (tmp_path / name).read_text() == text


def test_an_old_one_of_the_kind_and_an_empty_file_are_replaced(tmp_path: Path) -> None:
    device, packaged, network = tmp_path / "d.toml", tmp_path / "packaged.toml", tmp_path / "n.safetensors"
    packaged.write_text('# a comment\nname = "x"\n\n[lrs]\nmedian_ohm = { value = 1.0, unit = "ohm" }\n')
    network.touch()
    net = fold(random_network(mlp("net", ThermometerEncoding(4, (8,)), (6,), 3), 1))
    for _ in range(2):
        save_device(device, default_device())
        save_device(packaged, default_device())
        save_network(network, net, {})
    assert load_device(packaged) == load_device(device)
    assert load_network(network).network.name == net.name
