"""ONNX and QONNX networks: exported they give the same scores, imported they answer as they did, or are refused."""

from __future__ import annotations

import numpy as np
import pytest

from models.convolution_shapes import ConvolutionShape, PaddingValue, Pool, PoolKind
from models.encodings import BitPlaneEncoding, StochasticEncoding, ThermometerEncoding
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork
from models.integer_convolution import IntegerConvolution

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx.reference.op_run import OpRun  # noqa: E402

from models.onnx_export import export_onnx  # noqa: E402
from models.onnx_import import import_onnx  # noqa: E402

PLUS_MINUS = {"kind": "thermometer", "features": 12, "thresholds": [1]}


def levels(rng, *shape: int, ternary: bool = False) -> np.ndarray:
    return rng.choice(np.array([-1, 0, 1] if ternary else [-1, 1], np.int8), shape)


def layer_of(rng, kind, *arguments, rows: int, columns: int, ternary: bool = False):
    sign = levels(rng, rows, ternary=True)
    return kind(
        levels(rng, rows, columns, ternary=ternary), sign, rng.integers(-6, 7, rows).astype(np.int32), *arguments
    )


def mixed_network(encoding) -> IntegerNetwork:
    """Grouped, padded both ways, pooled both ways, binary and ternary, then fully connected."""
    rng = np.random.default_rng(3)
    channels, reach = encoding.width // 64, (1 << encoding.planes) - 1
    first = ConvolutionShape(channels, (8, 8), 6, (3, 3), padding=(1, 1), groups=2)
    second = ConvolutionShape(6, (4, 4), 8, (3, 3), padding=(1, 1), padding_value=PaddingValue.ZERO)
    layers = (
        layer_of(
            rng,
            IntegerConvolution,
            first,
            Pool(PoolKind.MAX, (2, 2)),
            reach,
            rows=6,
            columns=first.fan_in,
        ),
        layer_of(rng, IntegerConvolution, second, Pool(PoolKind.SUM, (3, 3), (1, 1)), rows=8, columns=54, ternary=True),
        layer_of(rng, IntegerLayer, rows=16, columns=32),
        IntegerLayer(levels(rng, 5, 16), levels(rng, 5), rng.integers(-3, 4, 5).astype(np.int32)),
    )
    return IntegerNetwork("mixed", encoding, layers, 5)


ENCODINGS = [
    ThermometerEncoding(128, (4, 12)),
    BitPlaneEncoding(128, 4),
    StochasticEncoding(128, 15, 2),
]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.kind)
def test_export_gives_the_same_scores_in_standard_operators_and_comes_back(tmp_path, encoding) -> None:
    network = mixed_network(encoding)
    content = export_onnx(network)
    assert content == export_onnx(network)
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    images = np.random.default_rng(4).integers(0, 16, (40, 128)).astype(np.uint8)
    evaluator = ReferenceEvaluator(model)
    if isinstance(encoding, StochasticEncoding):
        runs = [encoding.encode(images, presentation) for presentation in range(2)]
        scores = sum(evaluator.run(None, {"inputs": run.astype(np.float32)})[0] for run in runs)
    else:
        scores = evaluator.run(None, {"images": images.astype(np.float32)})[0]
    assert np.array_equal(scores, network.scores(images))
    path = tmp_path / "mixed.onnx"
    path.write_bytes(content)
    back = import_onnx(path)
    assert back.notes == ()
    assert back.network.name == "mixed"
    assert back.network.encoding == encoding
    assert np.array_equal(back.network.scores(images), network.scores(images))


def test_export_agrees_with_onnxruntime() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = mixed_network(ENCODINGS[0])
    images = np.random.default_rng(4).integers(0, 16, (40, 128)).astype(np.uint8)
    session = onnxruntime.InferenceSession(export_onnx(network), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"images": images.astype(np.float32)})[0], network.scores(images))


class BipolarQuant(OpRun):
    """The definition of QONNX: the sign, +1 for 0, times a scale."""

    op_domain = "qonnx.custom_op.general"

    def _run(self, x, scale):
        return (np.where(x >= 0, scale, -scale).astype(np.float32),)


class Quant(OpRun):
    """The definition of QONNX, rounding half to even."""

    op_domain = "qonnx.custom_op.general"

    def _run(self, x, scale, zero, bits, narrow=0, rounding_mode="ROUND", signed=1):
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        return (((np.clip(np.round(x / scale + zero), low, high) - zero) * scale).astype(np.float32),)


class Builder:
    """A small graph, node by node."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.nodes, self.constants, self.size, self.last = [], [], size, "x"

    def constant(self, values, dtype=np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def then(self, kind: str, *inputs, **attributes) -> None:
        given = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        self.last = self.node(kind, self.last, *given, **attributes)

    def quant(self, kind: str, values: str, *inputs, **attributes) -> str:
        given = [self.constant(item) for item in inputs]
        return self.node(kind, values, *given, domain="qonnx.custom_op.general", **attributes)

    def save(self, path):
        floats = TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", floats, ["n", *self.size])],
            [helper.make_tensor_value_info(self.last, floats, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("qonnx.custom_op.general", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        path.write_bytes(model.SerializeToString())
        return ReferenceEvaluator(model, new_ops=[BipolarQuant, Quant])


def test_a_qonnx_network_as_brevitas_exports_it_answers_the_same(tmp_path) -> None:
    """Inputs 2 x - 1 made bipolar, weights behind BipolarQuant, Gemm, batch norm, BipolarQuant; scaled throughout."""
    rng, build = np.random.default_rng(6), Builder((12,))
    build.then("Mul", 2.0)
    build.then("Sub", 1.0)
    build.last = build.quant("BipolarQuant", build.last, 1.0)
    first = build.quant("BipolarQuant", build.constant(rng.normal(size=(20, 12))), 0.1)
    build.then("Gemm", first, rng.normal(size=20), transB=1)
    norm = rng.normal(size=20), rng.normal(size=20), rng.normal(size=20), rng.uniform(0.5, 2.0, 20)
    build.then("BatchNormalization", *norm)
    build.last = build.quant("BipolarQuant", build.last, 0.75)
    second = build.quant("Quant", build.constant(rng.normal(size=(8, 20))), 0.5, 0.0, 2.0, narrow=1, signed=1)
    build.then("MatMul", build.node("Transpose", second, perm=[1, 0]))
    build.last = build.quant("Quant", build.last, 1.0, 0.0, 1.0, narrow=0, signed=0)
    third = build.quant("BipolarQuant", build.constant(rng.normal(size=(4, 8))), 0.25)
    build.then("MatMul", build.node("Transpose", third, perm=[1, 0]))
    build.then("Softmax", axis=1)
    evaluator = build.save(tmp_path / "net.onnx")
    encoding = {"kind": "thermometer", "features": 12, "thresholds": [128]}
    imported = import_onnx(tmp_path / "net.onnx", {"encoding": encoding, "low": 0.0, "high": 1.0})
    images = rng.integers(0, 256, (300, 12)).astype(np.uint8)
    there = evaluator.run(None, {"x": (images >= 128).astype(np.float32)})[0]
    scores = imported.network.scores(images)
    # equal scores are equal here and nearly equal there
    best = there[np.arange(len(there)), scores.argmax(axis=1)]
    assert np.allclose(best, there.max(axis=1), rtol=1e-5)
    assert len(set(scores.argmax(axis=1))) > 1
    assert [layer.weights.shape for layer in imported.network.layers] == [(20, 12), (8, 20), (4, 8)]


def test_a_convolutional_onnx_network_answers_the_same(tmp_path) -> None:
    rng, build = np.random.default_rng(7), Builder((2, 8, 8))
    build.then("Conv", rng.choice([-1.0, 1.0], (6, 2, 3, 3)), pads=[1, 1, 1, 1])
    build.then("Div", np.full((1, 6, 1, 1), 3.0))
    build.then("Add", rng.normal(size=(6, 1, 1)))
    build.then("GreaterOrEqual", 0.0)
    build.then("Where", 1.0, -1.0)
    build.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    build.then("Conv", rng.choice([-1.0, 1.0], (5, 6, 3, 3)))
    build.then("GlobalAveragePool")
    build.then("Less", rng.normal(size=(5, 1, 1)))
    build.then("Cast", to=TensorProto.FLOAT)
    build.then("Flatten", axis=1)
    build.then("Gemm", rng.choice([-1.0, 1.0], (3, 5)), np.array([0.0, 2.0, -1.0]), transB=1)
    evaluator = build.save(tmp_path / "net.onnx")
    imported = import_onnx(tmp_path / "net.onnx", {"encoding": {**PLUS_MINUS, "features": 128}})
    images = rng.integers(0, 2, (150, 128)).astype(np.uint8)
    there = evaluator.run(None, {"x": (2.0 * images - 1.0).reshape(-1, 2, 8, 8).astype(np.float32)})[0]
    ours = imported.network.scores(images) / 2.0  # activations of 0 and 1 count half of ours
    assert np.allclose(ours - ours[:, :1], there - there[:, :1])
    assert imported.network.layers[0].pool == Pool(PoolKind.MAX, (2, 2))


def chain(*steps) -> Builder:
    build = Builder((12,))
    for kind, inputs, attributes in steps:
        build.then(kind, *inputs, **attributes)
    return build


ONES = ("MatMul", [np.ones((12, 12))], {})


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([ONES, ("Relu", [], {})], r"node 'Relu_1' \(Relu\): this operator does not map"),
        ([("MatMul", [np.linspace(0, 1, 144).reshape(12, 12)], {})], r"node 'MatMul_0' .*more than -a, 0"),
        ([ONES, ONES], r"node 'MatMul_1' .*without an activation"),
        ([ONES, ("Sign", [], {}), ONES], r"node 'Sign_1' .*exactly 0"),
        ([ONES, ("GreaterOrEqual", [0.0], {})], "ends with a comparison"),
        ([ONES, ("GreaterOrEqual", [0.0], {}), ("Mul", [2.0], {})], "follows a comparison"),
        ([ONES, ("Mul", [np.ones((12, 12))], {})], "does not act on whole channels"),
        ([ONES, ("Div", [0.0], {})], "or by 0"),
        ([ONES, ("Softmax", [], {}), ("Add", [1.0], {})], "follows Softmax"),
        ([("Gemm", [np.ones((12, 3))], {"transA": 1})], "not transposed"),
        ([("Add", [np.arange(12.0)], {})], "scaled apart"),
        ([ONES, ("Add", [np.nan], {})], "finite"),
    ],
)
def test_nodes_that_do_not_map_are_named_in_one_line(tmp_path, steps, message: str) -> None:
    path = tmp_path / "odd.onnx"
    chain(*steps).save(path)
    with pytest.raises(UserMistake, match=message) as caught:
        import_onnx(path, {"encoding": PLUS_MINUS})
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_sign_maps_where_no_sum_is_zero(tmp_path) -> None:
    # eleven products of -1 and +1 are never 0 together
    build = Builder((11,))
    build.then("MatMul", np.ones((11, 3)))
    build.then("Sign")
    build.then("MatMul", np.ones((3, 2)))
    build.save(tmp_path / "odd.onnx")
    network = import_onnx(tmp_path / "odd.onnx", {"encoding": {**PLUS_MINUS, "features": 11}}).network
    assert network.scores(np.zeros((1, 11), np.uint8)).tolist() == [[-3, -3]]


def test_files_that_are_no_networks_are_refused_in_one_line(tmp_path) -> None:
    (tmp_path / "text.onnx").write_text("not an ONNX file\n")
    (tmp_path / "empty.onnx").write_bytes(b"")
    build = Builder((12,))
    twice = build.node("Neg", "x")
    build.last = build.node("Add", "x", twice)
    build.save(tmp_path / "branch.onnx")
    for name in ("text.onnx", "empty.onnx", "missing.onnx", "branch.onnx"):
        with pytest.raises(UserMistake, match=name) as caught:
            import_onnx(tmp_path / name, {"encoding": PLUS_MINUS})
        assert "\n" not in str(caught.value)
    chain(ONES).save(tmp_path / "plain.onnx")
    with pytest.raises(UserMistake, match="needs 'encoding'"):
        import_onnx(tmp_path / "plain.onnx")


def test_weights_in_another_file_are_not_fetched(tmp_path) -> None:
    build = chain(ONES)
    tensor = build.constants[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    tensor.ClearField("raw_data")
    graph = helper.make_graph(build.nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 12])], [], build.constants)
    (tmp_path / "far.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(UserMistake, match="lies in another file"):
        import_onnx(tmp_path / "far.onnx", {"encoding": PLUS_MINUS})


def test_damaged_files_are_refused_in_one_line_or_read_and_never_crash(tmp_path) -> None:
    content, draw, refusals = export_onnx(mixed_network(ENCODINGS[0])), np.random.default_rng(9), []
    for _ in range(150):
        damaged = bytearray(content)
        for place in draw.integers(len(damaged), size=draw.integers(1, 6)):
            damaged[place] = draw.integers(256)
        (tmp_path / "damaged.onnx").write_bytes(bytes(damaged[: draw.integers(len(damaged) // 2, 2 * len(damaged))]))
        try:
            import_onnx(tmp_path / "damaged.onnx")
        except UserMistake as mistake:
            refusals.append(str(mistake))
    assert len(refusals) > 75
    assert not any("\n" in refusal for refusal in refusals)
