"""A network of whole numbers as ONNX, in standard operators on floats: any runtime gives the same scores.

Weights are -1, 0 and +1 in float32, sums are exact in it, and an activation is a comparison with a whole number. Images
go in as grey levels ``images (n, features)``; with random inputs, which ONNX cannot draw as we do, encoded inputs
``inputs (n, width)`` go in and the scores are those of one presentation. The metadata entry "rram-bench" has the name
and the encoding, so that :func:`models.onnx_import.import_onnx` reads the file back.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.convolution_shapes import PaddingValue, Pool, PoolKind
from models.encodings import BitPlaneEncoding, Encoding, ThermometerEncoding, plain_encoding
from models.exceptions import UserMistake
from models.integer import MAX_INPUTS, IntegerNetwork, Layer
from models.integer_convolution import IntegerConvolution

METADATA_KEY = "rram-bench"
INPUTS = "inputs"
"""Name of the tensor of encoded inputs."""

OPSET, IR_VERSION = 17, 8
MAX_POOLED_PRODUCTS = 2**20
"""A mean in float32 times the size of its window is right to within a half up to sums of this size."""


def onnx_library() -> Any:
    """The package onnx; UserMistake says how to install it."""
    try:
        import onnx
    except ImportError as error:
        raise UserMistake("ONNX files need the package onnx: pip install 'rram-bench[onnx]'") from error
    return onnx


def export_onnx(network: IntegerNetwork) -> bytes:
    """The ONNX file of a network.

    Raises:
        UserMistake: the package onnx is missing, or means are pooled of sums too large for floats.
    """
    onnx = onnx_library()
    graph = _Graph(onnx)
    encoded = graph.encode(network.encoding)
    current = INPUTS
    for index, layer in enumerate(network.layers):
        current = graph.layer(index, layer, current, last=index == len(network.layers) - 1)
    source = (INPUTS, network.encoding.width) if not encoded else ("images", network.encoding.features)
    floats, info = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        graph.nodes,
        "network",
        [info(source[0], floats, ["n", source[1]])],
        [info(current, floats, ["n", network.classes])],
        graph.constants,
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION, producer_name="rram-bench")
    about = {"name": network.name, "encoding": plain_encoding(network.encoding)}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(about)})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.constant("plus", np.float32(1.0))
        self.constant("minus", np.float32(-1.0))

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def encode(self, encoding: Encoding) -> bool:
        """Images to the tensor of inputs; False where that cannot be said in ONNX."""
        if isinstance(encoding, ThermometerEncoding):
            parts = []
            for index, threshold in enumerate(encoding.thresholds):
                cut = self.constant(f"encoding.{index}.threshold", np.float32(threshold))
                above = self.node("GreaterOrEqual", ["images", cut], f"encoding.{index}.above")
                parts.append(self.node("Where", [above, "plus", "minus"], f"encoding.{index}.level"))
            self.node("Concat", parts, INPUTS, axis=1)
            return True
        if isinstance(encoding, BitPlaneEncoding):
            doubled = self.node("Add", ["images", "images"], "encoding.doubled")
            top = self.constant("encoding.top", np.float32((1 << encoding.bits) - 1))
            self.node("Sub", [doubled, top], INPUTS)
            return True
        return False

    def layer(self, index: int, layer: Layer, x: str, *, last: bool) -> str:
        """A layer from the flat tensor ``x`` to its flat answers, or to the scores."""
        at = f"layers.{index}"
        weights = layer.weights.astype(np.float32)
        column: tuple[int, ...] = (-1,)
        sums, slack = f"{at}.sums", 0.0
        if isinstance(layer, IntegerConvolution):
            column = (1, -1, *(1 for _ in layer.shape.size))
            slack = self._convolve(at, layer, weights, x, sums)
        else:
            self.node("MatMul", [x, self.constant(f"{at}.weights", np.ascontiguousarray(weights.T))], sums)
        sign = self.constant(f"{at}.sign", layer.sign.astype(np.float32).reshape(column))
        signed = self.node("Mul", [sums, sign], f"{at}.signed")
        if last:
            if int(np.abs(layer.threshold).max()) + MAX_INPUTS // 2 > MAX_INPUTS:
                raise UserMistake(f"{at}: offsets of the classes are too large for float32")
            offset = self.constant(f"{at}.threshold", layer.threshold.astype(np.float32))
            return self.node("Sub", [signed, offset], "scores")
        cut = self.constant(f"{at}.threshold", _within_floats(layer).reshape(column) - np.float32(slack))
        fires = self.node("GreaterOrEqual", [signed, cut], f"{at}.fires")
        answers = self.node("Where", [fires, "plus", "minus"], f"{at}.answers")
        if not isinstance(layer, IntegerConvolution):
            return answers
        return self.node("Flatten", [answers], f"{at}.flat", axis=1)

    def _convolve(self, at: str, layer: IntegerConvolution, weights: NDArray[np.float32], x: str, sums: str) -> float:
        """The pooled sums; returns by how much thresholds are to be lowered, where sums are not quite whole."""
        shape, pool = layer.shape, layer.pool
        size = np.array([-1, shape.channels, *shape.size], dtype=np.int64)
        x = self.node("Reshape", [x, self.constant(f"{at}.size", size)], f"{at}.maps")
        pads = (*shape.padding, *shape.padding)
        if shape.padding_value is PaddingValue.MINUS and any(pads):
            edges = self.constant(f"{at}.pads", np.array([0, 0, *shape.padding] * 2, dtype=np.int64))
            lowest = self.constant(f"{at}.lowest", np.float32(-layer.reach))
            x, pads = self.node("Pad", [x, edges, lowest], f"{at}.padded", mode="constant"), (0,) * len(pads)
        kernel = (shape.filters, shape.channels // shape.groups, *shape.kernel)
        held = self.constant(f"{at}.weights", np.ascontiguousarray(weights.reshape(kernel)))
        convolved = sums if pool is None else f"{at}.convolved"
        self.node("Conv", [x, held], convolved, strides=shape.stride, pads=pads, group=shape.groups)
        return 0.0 if pool is None else self._pool(at, layer, pool, convolved, sums)

    def _pool(self, at: str, layer: IntegerConvolution, pool: Pool, convolved: str, sums: str) -> float:
        sizes: dict[str, Any] = {"kernel_shape": pool.size, "strides": pool.stride}
        if pool.kind is PoolKind.MAX:
            self.node("MaxPool", [convolved], sums, **sizes)
            return 0.0
        if layer.products * layer.reach > MAX_POOLED_PRODUCTS:
            raise UserMistake(f"{at}: sums of {layer.products} products, pooled, are too large for means in float32")
        mean = self.node("AveragePool", [convolved], f"{at}.mean", **sizes)
        self.node("Mul", [mean, self.constant(f"{at}.window", np.float32(math.prod(pool.size)))], sums)
        return 0.5


def _within_floats(layer: Layer) -> NDArray[np.float32]:
    """Thresholds; those that no sum reaches are brought to where float32 still has whole numbers."""
    return np.clip(layer.threshold, -MAX_INPUTS, MAX_INPUTS).astype(np.float32)
