"""Constant tensors of an ONNX graph: initializers, and what quantisers and plain operators make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake
from models.onnx_export import onnx_library

Array = NDArray[Any]

PLAIN = frozenset(
    {"Constant", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Clip", "Where", "Not"}
    | {"Mul", "Div", "Add", "Sub", "Neg", "Abs", "Sign", "Sqrt", "Reciprocal"}
    | {"GreaterOrEqual", "Greater", "Less", "LessOrEqual"}
)
"""Operators that are worked out where all their inputs are constant."""


def label_of(node: Any) -> str:
    """How an error names a node."""
    name = node.name if node.name else ", ".join(node.output)
    return f"node {name!r} ({node.op_type})"


def attributes_of(node: Any) -> dict[str, Any]:
    """Attributes of a node by name."""
    helper = onnx_library().helper
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def constants_of(model: Any) -> dict[str, Array]:
    """All tensors that do not depend on the input, by name.

    Raises:
        UserMistake: a tensor lies in another file, or an operator fails on its constants.
    """
    onnx = onnx_library()
    constants: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise UserMistake(f"the tensor {tensor.name!r} lies in another file; save the network as one file")
        try:
            constants[tensor.name] = onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise UserMistake(f"the tensor {tensor.name!r} is damaged") from error
    for node in model.graph.node:
        given = [name for name in node.input if name]
        if not node.output or any(name not in constants for name in given):
            continue
        if node.op_type in ("BipolarQuant", "Quant", "IntQuant"):
            constants[node.output[0]] = _quantised(node, [constants[name] for name in given])
        elif node.op_type in PLAIN:
            constants[node.output[0]] = _worked_out(model, node, {name: constants[name] for name in given})
    return constants


def _quantised(node: Any, inputs: list[Array]) -> Array:
    """Weights behind a quantiser, computed in float32 as its definition has it."""
    wanted = 2 if node.op_type == "BipolarQuant" else 4
    where = label_of(node)
    if len(inputs) != wanted:
        raise UserMistake(f"{where}: it has {len(inputs)} inputs, expected {wanted}")
    values, scale = (array.astype(np.float32) for array in inputs[:2])
    if not scale.all():
        raise UserMistake(f"{where}: its scale is 0")
    if node.op_type == "BipolarQuant":
        return np.where(values >= 0, scale, -scale)
    attributes = attributes_of(node)
    if attributes.get("rounding_mode", b"ROUND").upper() != b"ROUND" or inputs[3].size != 1:
        raise UserMistake(f"{where}: only rounding to nearest with one bit width maps")
    zero, bits = inputs[2].astype(np.float32), int(inputs[3].item())
    signed, narrow = bool(attributes.get("signed", 1)), bool(attributes.get("narrow", 0))
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    levels = np.clip(np.round(values / scale + zero), low, high)
    return (levels - zero) * scale


def _worked_out(model: Any, node: Any, inputs: Mapping[str, Array]) -> Array:
    onnx = onnx_library()
    from onnx.reference import ReferenceEvaluator

    helper = onnx.helper
    named = [helper.make_empty_tensor_value_info(name) for name in inputs]
    graph = helper.make_graph([node], "constant", named, [helper.make_empty_tensor_value_info(node.output[0])])
    try:
        alone = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(model.opset_import)))
        (found,) = alone.run(None, dict(inputs))
    except Exception as error:  # whatever a foreign evaluator raises on a foreign file
        raise UserMistake(f"{label_of(node)}: its constants cannot be worked out") from error
    return np.asarray(found)
