from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from data.networks import load_network, save_network
from models.convolution_shapes import ConvolutionShape, PaddingValue, Pool, PoolKind
from models.encodings import BitPlaneEncoding, StochasticEncoding
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, ThermometerEncoding
from models.integer_convolution import IntegerConvolution

PROVENANCE = {"seed": 3, "dataset": "digits", "accuracy": 0.978, "split": [1347, 450]}


def make_network() -> IntegerNetwork:
    rng = np.random.default_rng(0)
    layers = (
        IntegerLayer(rng.choice([-1, 1], size=(7, 8)), rng.choice([-1, 0, 1], size=7), rng.integers(-8, 9, size=7)),
        IntegerLayer(rng.choice([-1, 0, 1], size=(3, 7)), np.ones(3, int), rng.integers(-4, 5, size=3)),
    )
    return IntegerNetwork("net", ThermometerEncoding(4, (4, 12)), layers, 3)


def description() -> dict:
    return {
        "format": "rram-bench network 1",
        "name": "net",
        "classes": 3,
        "encoding": {"kind": "thermometer", "features": 4, "thresholds": [4, 12]},
        "layers": [{"kind": "linear", "inputs": 8, "outputs": 7}, {"kind": "linear", "inputs": 7, "outputs": 3}],
        "provenance": {},
    }


def tensors() -> dict:
    found = {}
    for index, layer in enumerate(make_network().layers):
        for part in ("weights", "sign", "threshold"):
            found[f"layers.{index}.{part}"] = getattr(layer, part)
    return found


def test_what_was_saved_comes_back(tmp_path):
    network, path = make_network(), tmp_path / "net.safetensors"
    save_network(path, network, PROVENANCE)
    loaded, provenance = load_network(path)
    assert provenance == PROVENANCE
    assert (loaded.name, loaded.classes, loaded.encoding) == ("net", 3, ThermometerEncoding(4, (4, 12)))
    for before, after in zip(network.layers, loaded.layers, strict=True):
        for part in ("weights", "sign", "threshold"):
            ours, theirs = getattr(before, part), getattr(after, part)
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)
    images = np.random.default_rng(1).integers(0, 17, size=(30, 4)).astype(np.uint8)
    assert np.array_equal(loaded.scores(images), network.scores(images))


def test_the_documented_layout_is_the_one_that_is_read(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(tensors(), path, metadata={"rram-bench": json.dumps(description())})
    assert load_network(path).network.layers[0].outputs == 7


def test_the_same_network_gives_the_same_file_and_nothing_is_left_beside_it(tmp_path):
    contents = set()
    for _ in range(4):
        save_network(tmp_path / "net.safetensors", make_network(), PROVENANCE)
        contents.add((tmp_path / "net.safetensors").read_bytes())
    assert len(contents) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "net.safetensors"
    save_network(path, make_network(), PROVENANCE)
    before = path.read_bytes()
    with pytest.raises(UserMistake, match="provenance is not JSON"):
        save_network(path, make_network(), {"loss": float("nan")})
    with pytest.raises(UserMistake, match="provenance is not JSON"):
        save_network(path, make_network(), {"weights": np.ones(3)})
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UserMistake, match=r"cannot write the network file .*gone.*No such file or directory"):
        save_network(tmp_path / "gone" / "net.safetensors", make_network(), {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserMistake, match=r"cannot write the network file .*folder"):
        save_network(tmp_path / "folder", make_network(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\x80\x04\x95" + b"pickle" * 20, b"\xff" * 64, (2).to_bytes(8, "little") + b"{]"]
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserMistake, match=r"net\.safetensors is not a safetensors file"):
        load_network(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    save_network(path, make_network(), PROVENANCE)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserMistake, match="not a safetensors file"):
        load_network(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(UserMistake, match=r"cannot read the network file .*gone: No such file"):
        load_network(tmp_path / "gone")
    with pytest.raises(UserMistake, match="cannot read the network file .*Is a directory"):
        load_network(tmp_path)


def with_changes(*changes):
    """The description with values set by path: (key, key, ..., value), or removed (value REMOVED)."""
    about = description()
    for *path, key, value in changes:
        target = about
        for step in path:
            target = target[step]
        if value is REMOVED:
            del target[key]
        else:
            target[key] = value
    return about


REMOVED = object()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("format", "rram-bench network 2"), "format is 'rram-bench network 2'; this program reads 'rram-bench net"),
        (("format", REMOVED), "lacks 'format'"),
        (
            ("layers", 1, "kind", "conv2d"),
            "layer 1 of the kind 'conv2d' is unknown; supported: linear, convolution",
        ),
        (
            ("layers", 0, "inputs", 9),
            r"layers.0.weights is I8 of the shape \[7, 8\], expected I8 of the shape \[7, 9\]",
        ),
        (("layers", 0, "inputs", True), "layer 0: 'inputs' is True"),
        (("layers", 0, "outputs", REMOVED), "layer 0 lacks 'outputs'"),
        (("layers", 0, 7), "layer 0 is not described"),
        (("layers", []), "do not match the 0 layers"),
        (("layers", {}), "'layers' is {}"),
        (("classes", 4), "3 scores for 4 classes"),
        (("classes", "3"), "'classes' is '3'"),
        (("name", REMOVED), "lacks 'name'"),
        (("provenance", REMOVED), "lacks 'provenance'"),
        (("encoding", "kind", "fourier"), "encoding 'fourier' is unknown; supported: thermometer"),
        (("encoding", "features", 5), "layer 0 takes 8 inputs but the encoding gives 10"),
        (("encoding", "thresholds", [12, 4]), "do not rise"),
        (("encoding", "thresholds", [4, 10**30]), "must lie within"),
        (("encoding", "thresholds", [4, 5.5]), "not whole numbers"),
        (("encoding", None), "'encoding' is None"),
    ],
)
def test_a_description_that_is_wrong_is_one_line_with_the_file_and_the_fault(tmp_path, change, says):
    path = tmp_path / "net.safetensors"
    save_file(tensors(), path, metadata={"rram-bench": json.dumps(with_changes(change))})
    with pytest.raises(UserMistake, match=says) as caught:
        load_network(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (None, "not a network of rram-bench"),
        ({"format": "pt"}, "not a network of rram-bench"),
        ({"rram-bench": "{"}, "not JSON"),
        ({"rram-bench": "[" * 100_000}, "not JSON"),
        ({"rram-bench": "[]"}, "not a JSON object"),
    ],
)
def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path, metadata, says):
    path = tmp_path / "net.safetensors"
    save_file(tensors(), path, metadata=metadata)
    with pytest.raises(UserMistake, match=says):
        load_network(path)


def test_layers_that_do_not_chain_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    found = tensors() | {"layers.1.weights": np.ones((3, 6), np.int8)}
    save_file(found, path, metadata={"rram-bench": json.dumps(with_changes(("layers", 1, "inputs", 6)))})
    with pytest.raises(UserMistake, match="layer 1 takes 6 inputs but layer 0 gives 7"):
        load_network(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers.0.weights": np.full((7, 8), 2, np.int8)}, "layer 0: weights must be -1, 0 or"),
        ({"layers.0.weights": np.ones((7, 8), np.float32)}, "layers.0.weights is F32"),
        ({"layers.0.sign": np.full(7, 3, np.int8)}, "layer 0: sign must lie between -1 and 1"),
        ({"layers.1.threshold": np.full(3, 2**31 - 1, np.int32)}, "layer 1: threshold must lie between"),
        ({"layers.1.threshold": np.zeros(4, np.int32)}, r"layers.1.threshold is I32 of the shape \[4\]"),
        ({"layers.2.weights": np.ones((1, 1), np.int8)}, "missing or too many: layers.2.weights"),
    ],
)
def test_tensors_that_are_wrong_are_refused(tmp_path, change, says):
    path = tmp_path / "net.safetensors"
    save_file(tensors() | change, path, metadata={"rram-bench": json.dumps(description())})
    with pytest.raises(UserMistake, match=says):
        load_network(path)


def test_a_missing_tensor_is_named(tmp_path):
    path = tmp_path / "net.safetensors"
    fewer = {name: tensor for name, tensor in tensors().items() if name != "layers.0.sign"}
    save_file(fewer, path, metadata={"rram-bench": json.dumps(description())})
    with pytest.raises(UserMistake, match="missing or too many: layers.0.sign"):
        load_network(path)


def make_convolutional() -> IntegerNetwork:
    rng = np.random.default_rng(1)
    shape = ConvolutionShape(2, (5, 6), 4, (3, 2), (1, 2), (1, 0), 2, PaddingValue.ZERO)
    pool = Pool(PoolKind.SUM, (2, 1), (1, 1))
    first = IntegerConvolution(
        rng.choice([-1, 0, 1], size=(4, 6)), rng.choice([-1, 0, 1], 4), rng.integers(-9, 9, 4), shape, pool, 15
    )
    last = IntegerLayer(rng.choice([-1, 1], size=(3, first.outputs)), np.ones(3, int), rng.integers(-4, 5, size=3))
    return IntegerNetwork("conv", BitPlaneEncoding(60, 4), (first, last), 3)


@pytest.mark.parametrize("encoding", [BitPlaneEncoding(8, 3), StochasticEncoding(8, 7, 3, 5)])
def test_every_encoding_comes_back(tmp_path, encoding):
    network = replace(make_network(), encoding=encoding)
    save_network(tmp_path / "net", network, {})
    assert load_network(tmp_path / "net").network.encoding == encoding


def test_a_convolutional_network_comes_back(tmp_path):
    network = make_convolutional()
    save_network(tmp_path / "net", network, {})
    loaded = load_network(tmp_path / "net").network
    before, after = network.layers[0], loaded.layers[0]
    assert (after.shape, after.pool, after.reach) == (before.shape, before.pool, before.reach)
    images = np.random.default_rng(1).integers(0, 16, size=(30, 60)).astype(np.uint8)
    assert np.array_equal(loaded.scores(images), network.scores(images))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("shape", "groups", 3), "layer 0: 2 channels and 4 filters cannot be dealt out to 3 groups"),
        (("shape", "groups", REMOVED), "layer 0, shape has the fields"),
        (("shape", "kernel", [3.0, 2]), "'kernel' is .* expected a list of whole numbers"),
        (
            ("shape", "kernel", [2, 2]),
            r"layers.0.weights is I8 of the shape \[4, 6\], expected I8 .* \[4, 4\]",
        ),
        (("shape", "padding_value", "one"), "layer 0, shape: 'one' is not a valid PaddingValue"),
        (("pool", "size", [9, 9]), "layer 0: pooling windows"),
        (("pool", None), "layer 0 says 60 inputs and"),
        (("reach", 0), "layer 0: inputs reach 0"),
        (("shape", None), "'shape' is None"),
    ],
)
def test_a_convolution_described_wrongly_is_one_line(tmp_path, change, says):
    path = tmp_path / "net"
    network = make_convolutional()
    save_network(path, network, {})
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["rram-bench"])
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    *keys, key, value = change
    target = about["layers"][0]
    for step in keys:
        target = target[step]
    if value is REMOVED:
        del target[key]
    else:
        target[key] = value
    save_file(found, path, metadata={"rram-bench": json.dumps(about)})
    with pytest.raises(UserMistake, match=says) as caught:
        load_network(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
