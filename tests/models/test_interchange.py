"""State dicts of a user's own networks: they answer as they did in PyTorch, or are refused in one line."""

from __future__ import annotations

import json
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data.networks import load_network, save_network
from models.encodings import ThermometerEncoding
from models.exact_folding import Line, folded
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork
from models.interchange import assemble, import_state_dict, load_map, load_tensors

PLUS_MINUS = {"kind": "thermometer", "features": 12, "thresholds": [1]}


def signs(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def randomised(norm: nn.Module, generator: torch.Generator) -> nn.Module:
    """Batch normalisation as after training, with gains of either sign and one of zero."""
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
        norm.running_mean.normal_(0.0, 2.0, generator=generator)
        norm.running_var.uniform_(0.5, 4.0, generator=generator)
        norm.weight[0] = 0.0
    return norm.double().eval()


@pytest.mark.parametrize("seed", range(4))
def test_a_dense_network_fed_with_grey_levels_from_0_to_1_is_folded_exactly(tmp_path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, last = nn.Linear(12, 30), nn.Linear(30, 4, bias=False)
    norm = randomised(nn.BatchNorm1d(30), generator)
    path = tmp_path / "mine.pt"
    state = {f"fc1.{name}": value for name, value in first.state_dict().items()}
    state |= {f"bn.{name}": value for name, value in norm.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": {**state, "fc2.weight": last.weight.detach()}}, path)
    plan = {
        "name": "mine",
        "encoding": {"kind": "bit-planes", "features": 12, "bits": 8},
        "low": 0.0,
        "high": 1.0,
        "layers": [
            {"layer": "linear", "name": "fc1", "levels": "binary"},
            {"layer": "batch_norm", "name": "bn"},
            {"layer": "sign"},
            {"layer": "linear", "name": "fc2", "levels": "ternary", "cut": 0.05},
        ],
    }
    imported = import_state_dict(path, plan)
    images = np.random.default_rng(seed).integers(0, 256, (500, 12)).astype(np.uint8)
    with torch.no_grad():
        x = torch.from_numpy(images).double() / 255.0
        hidden = signs(norm(x @ signs(first.weight.double()).T + first.bias.double()))
        cut = last.weight.double()
        scores = hidden @ torch.where(cut.abs() <= 0.05, 0.0, cut.sign()).T
    network = imported.network
    assert np.array_equal(network.hidden(network.encode(images)), hidden.numpy())
    assert np.array_equal(network.scores(images), scores.numpy())
    assert imported.notes == ()
    assert network.name == "mine"


@pytest.mark.parametrize("order", ["pool, norm, sign", "norm, pool, sign", "norm, sign, pool"])
@pytest.mark.parametrize("padding_value", [0.0, -1.0])
def test_a_convolutional_network_is_folded_exactly_wherever_it_pools(order: str, padding_value: float) -> None:
    generator = torch.Generator().manual_seed(5)
    conv, norm = nn.Conv2d(2, 6, 3, bias=True, groups=2).double(), randomised(nn.BatchNorm2d(6), generator)
    last = nn.Linear(54, 3).double()
    with torch.no_grad():
        last.bias.copy_(torch.tensor([2.0, -1.0, 0.0]))
    tensors = {f"conv.{name}": value.detach().numpy() for name, value in conv.state_dict().items()}
    tensors |= {f"bn.{name}": value.numpy() for name, value in norm.state_dict().items() if value.ndim}
    tensors |= {f"fc.{name}": value.detach().numpy() for name, value in last.state_dict().items()}
    parts = {
        "pool": {"layer": "max_pool", "size": 2},
        "norm": {"layer": "batch_norm", "name": "bn"},
        "sign": {"layer": "sign"},
    }
    plan = {
        "encoding": {"kind": "thermometer", "features": 72, "thresholds": [1]},
        "shape": [2, 6, 6],
        "layers": [
            {"layer": "conv", "name": "conv", "levels": "binary", "padding": 1, "groups": 2}
            | {"padding_value": padding_value},
            *(parts[part] for part in order.split(", ")),
            {"layer": "linear", "name": "fc", "levels": "binary"},
        ],
    }
    network = assemble(tensors, plan).network
    images = np.random.default_rng(1).integers(0, 2, (200, 72)).astype(np.uint8)
    steps = {"pool": nn.MaxPool2d(2), "norm": norm, "sign": signs}
    with torch.no_grad():
        x = torch.from_numpy(images).double().reshape(-1, 2, 6, 6) * 2.0 - 1.0
        x = nn.functional.pad(x, (1, 1, 1, 1), value=padding_value)
        x = nn.functional.conv2d(x, signs(conv.weight), conv.bias, groups=2)
        for part in order.split(", "):
            x = steps[part](x)
        scores = x.flatten(1) @ signs(last.weight).T + last.bias
    assert np.array_equal(network.hidden(network.encode(images)), x.flatten(1).numpy())
    assert np.array_equal(network.predict(images), scores.argmax(1).numpy())


def test_pooled_means_and_scaled_weights_are_folded() -> None:
    rng = np.random.default_rng(2)
    tensors = {
        "conv.weight": 0.25 * rng.choice([-1.0, 1.0], (4, 1, 3)),
        "conv.bias": rng.normal(size=4),
        "fc.weight": 0.5 * rng.choice([-1.0, 0.0, 1.0], (3, 20)),
    }
    plan = {
        "encoding": {"kind": "thermometer", "features": 12, "thresholds": [1]},
        "shape": [1, 12],
        "layers": [
            {"layer": "conv", "name": "conv"},
            {"layer": "average_pool", "size": 2},
            {"layer": "sign"},
            {"layer": "flatten"},
            {"layer": "linear", "name": "fc"},
        ],
    }
    network = assemble(tensors, plan).network
    images = rng.integers(0, 2, (100, 12)).astype(np.uint8)
    x = torch.from_numpy(images).double()[:, None] * 2.0 - 1.0
    sums = nn.functional.conv1d(x, *(torch.from_numpy(tensors[f"conv.{part}"]) for part in ("weight", "bias")))
    hidden = signs(nn.functional.avg_pool1d(sums, 2)).flatten(1)
    assert np.array_equal(network.hidden(network.encode(images)), hidden.numpy())
    assert np.array_equal(network.scores(images) * 0.5, hidden.numpy() @ tensors["fc.weight"].T)


numbers = st.fractions(-20, 20, max_denominator=16)


@settings(max_examples=120, deadline=None)
@given(numbers, numbers, numbers, st.fractions(Fraction(1, 16), 9, max_denominator=16), numbers, st.booleans())
def test_folding_answers_as_the_line_does_for_every_sum(slope, shift, offset, variance, level, strict) -> None:
    line = Line(slope, shift, offset, variance)
    decision = folded(line, level, 12, strict=strict)
    for total in range(-12, 13):
        # by squares of decimals with forty digits, instead of the fractions of the code
        from decimal import Decimal, getcontext

        getcontext().prec = 60
        root = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()
        rational, rest = slope * total + shift, offset - level
        value = Decimal(rational.numerator) / Decimal(rational.denominator)
        value += Decimal(rest.numerator) / Decimal(rest.denominator) * root
        value = Decimal(0) if abs(value) < Decimal("1e-50") else value
        fires = value > 0 or (value == 0 and not strict)
        assert (decision.sign * total >= decision.threshold) == fires
    assert -12 <= decision.threshold <= 13


def test_a_tie_is_a_tie_where_floating_point_would_round() -> None:
    # 0.1 s - 0.3 in doubles: 0.1 * 3 > 0.3, although the doubles themselves say otherwise
    tenth, three_tenths = Fraction(0.1), Fraction(0.3)
    assert 0.1 * 3 - 0.3 > 0.0
    assert folded(Line(tenth, -three_tenths), Fraction(0), 10).threshold == (3 if 3 * tenth >= three_tenths else 4)
    assert folded(Line(Fraction(1), Fraction(-3)), Fraction(0), 10).threshold == 3
    assert folded(Line(Fraction(1), Fraction(-3)), Fraction(0), 10, strict=True).threshold == 4


def test_class_offsets_that_are_no_whole_sums_are_rounded_and_said() -> None:
    tensors = {"fc.weight": np.ones((3, 12)), "fc.bias": np.array([0.25, 1.75, -1.25])}
    plan = {"encoding": PLUS_MINUS, "layers": [{"layer": "linear", "name": "fc"}]}
    imported = assemble(tensors, plan)
    (note,) = imported.notes
    assert "0.5 at most" in note
    assert np.abs(-imported.network.layers[0].threshold - tensors["fc.bias"]).max() < 1.0


class Opened:
    """What a hostile checkpoint holds: unpickling it makes a file."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", ["zip", "plain"])
def test_a_checkpoint_with_pickled_objects_is_refused_and_never_loaded(tmp_path, protocol: str) -> None:
    trap, path = tmp_path / "trap", tmp_path / "hostile.pt"
    if protocol == "zip":
        torch.save({"fc.weight": torch.ones(2, 2), "extra": Opened(trap)}, path)
    else:
        path.write_bytes(pickle.dumps({"fc.weight": Opened(trap)}))
    with pytest.raises(UserMistake, match="holds pickled objects") as caught:
        load_tensors(path)
    assert "\n" not in str(caught.value)
    assert not trap.exists()


def test_whole_models_and_other_files_are_refused_in_one_line(tmp_path) -> None:
    whole, text, empty, odd = (tmp_path / name for name in ("whole.pt", "text.pt", "empty.pt", "odd.safetensors"))
    torch.save(nn.Linear(2, 2), whole)
    text.write_text("a text\nof two lines")
    empty.write_bytes(b"")
    odd.write_bytes(b"no tensors")
    torch.save([1, 2], tmp_path / "list.pt")
    for path in (whole, text, empty, odd, tmp_path / "list.pt", tmp_path / "missing.pt", tmp_path):
        with pytest.raises(UserMistake) as caught:
            load_tensors(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_safetensors_are_read_as_well(tmp_path) -> None:
    from safetensors.torch import save_file

    weights = torch.ones(3, 12, dtype=torch.bfloat16)
    save_file({"fc.weight": weights}, tmp_path / "mine.safetensors")
    plan = {"encoding": PLUS_MINUS, "layers": [{"layer": "linear", "name": "fc"}]}
    network = import_state_dict(tmp_path / "mine.safetensors", plan).network
    assert np.array_equal(network.layers[0].weights, np.ones((3, 12), np.int8))


TENSORS = {
    "fc.weight": np.ones((3, 12)),
    "real.weight": np.linspace(-1, 1, 36).reshape(3, 12),
    "nan.weight": np.full((3, 12), np.nan),
    "bn.running_mean": np.zeros(3),
    "bn.running_var": np.array([1.0, 2.0, 3.0]),
    "conv.weight": np.ones((2, 1, 3)),
}
FC, BN, SIGN = {"layer": "linear", "name": "fc"}, {"layer": "batch_norm", "name": "bn"}, {"layer": "sign"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": []}, "needs 'layers'"),
        ({"colour": 1, "layers": [FC]}, "'colour' is unknown"),
        ({"encoding": None, "layers": [FC]}, "needs 'encoding'"),
        ({"encoding": {"kind": "real", "features": 12, "centre": 0.0, "gain": 1.0}, "layers": [FC]}, "not whole"),
        ({"low": 1.0, "layers": [FC]}, "both 1"),
        ({"low": "dark", "layers": [FC]}, "low is 'dark'"),
        ({"shape": [5], "layers": [FC]}, "inputs of the shape"),
        ({"layers": ["linear"]}, "expected an object with 'layer'"),
        ({"layers": [{"layer": "lstm"}]}, r"layer 0 of the map \(lstm\)"),
        ({"layers": [{**FC, "colour": 1}]}, "'colour' is unknown"),
        ({"layers": [{"layer": "linear"}]}, "needs 'name'"),
        ({"layers": [{"layer": "linear", "name": "fc9"}]}, "no tensor fc9.weight"),
        ({"layers": [{"layer": "linear", "name": "real"}]}, "more than -a, 0 and"),
        ({"layers": [{"layer": "linear", "name": "nan", "levels": "binary"}]}, "not finite"),
        ({"layers": [{**FC, "levels": "octal"}]}, "'octal' are unknown"),
        ({"layers": [FC, FC]}, "without an activation"),
        ({"layers": [FC, SIGN, FC]}, "do not take 3 inputs"),
        ({"layers": [FC, BN, BN, SIGN]}, "second batch normalisation"),
        ({"layers": [FC, BN]}, "scales its classes apart"),
        ({"layers": [FC, SIGN]}, "ends without a layer"),
        ({"layers": [{"layer": "conv", "name": "conv"}]}, "do not fit inputs of the shape"),
        ({"layers": [{"layer": "conv", "name": "conv"}], "shape": [1, 12]}, "last layer is a convolution"),
        (
            {"layers": [{"layer": "conv", "name": "conv", "padding": 1}], "shape": [1, 12], "low": 0.5, "high": 1.0},
            "padding with 0 cannot be mapped",
        ),
        ({"layers": [FC, {"layer": "max_pool", "size": 2}]}, "pools what is no map"),
    ],
)
def test_what_a_map_cannot_say_is_refused_in_one_line(changes, message: str) -> None:
    with pytest.raises(UserMistake, match=message) as caught:
        assemble(TENSORS, {"encoding": PLUS_MINUS, **changes})
    assert "\n" not in str(caught.value)


def test_tensors_that_no_layer_takes_are_refused_unless_the_map_leaves_them_out() -> None:
    tensors = {"fc.weight": np.ones((3, 12)), "bn.running_mean": np.zeros(3), "bn.num_batches_tracked": np.ones(())}
    plan = {"encoding": PLUS_MINUS, "layers": [FC]}
    with pytest.raises(UserMistake, match=r"no layer of the map takes bn\.running_mean: add the layers, or name"):
        assemble(tensors, plan)
    assert assemble(tensors, {**plan, "unused": ["bn.running_mean"]}).network.classes == 3
    with pytest.raises(UserMistake, match="'unused' is a list"):
        assemble(tensors, {**plan, "unused": "bn.running_mean"})


def test_a_map_that_cannot_be_read_is_refused_in_one_line(tmp_path) -> None:
    for name, content in (("list.json", "[1]"), ("broken.json", "{")):
        (tmp_path / name).write_text(content)
    for name in ("list.json", "broken.json", "missing.json"):
        with pytest.raises(UserMistake, match=name):
            load_map(tmp_path / name)
    (tmp_path / "good.json").write_text(json.dumps({"layers": []}))
    assert load_map(tmp_path / "good.json") == {"layers": []}


def test_the_example_of_the_documentation_is_imported() -> None:
    page = Path(__file__).parents[2] / "docs" / "interchange.md"
    plan = json.loads(page.read_text().partition("```json\n")[2].partition("```")[0])
    rng = np.random.default_rng(10)
    tensors = {
        "features.0.weight": rng.normal(size=(4, 1, 3, 3)),
        "features.2.running_mean": rng.normal(size=4),
        "features.2.running_var": np.ones(4),
        "classifier.0.weight": rng.normal(size=(10, 4 * 13 * 13)),
    }
    assert [layer.outputs for layer in assemble(tensors, plan).network.layers] == [4 * 13 * 13, 10]


def test_weights_that_lie_column_by_column_are_saved_as_they_are(tmp_path) -> None:
    weights = np.asfortranarray(np.random.default_rng(8).choice(np.array([-1, 1], np.int8), (3, 12)))
    layer = IntegerLayer(weights, np.ones(3, np.int8), np.zeros(3, np.int32))
    save_network(tmp_path / "net.safetensors", IntegerNetwork("net", ThermometerEncoding(12, (1,)), (layer,), 3), {})
    assert np.array_equal(load_network(tmp_path / "net.safetensors").network.layers[0].weights, weights)
