"""Import of binary and ternary networks from ONNX and QONNX, such as Brevitas exports.

A network that maps is a chain: weights of -a, 0, +a (constant, or behind BipolarQuant or Quant), scales, biases and
batch normalisation, pooling, and an activation of two levels (BipolarQuant, Sign, MultiThreshold, a comparison).
Whatever else stands in the file is refused by the name of its node. Definitions of the quantisers: QONNX, custom
operators.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.assembling import Imported
from models.convolution_shapes import PoolKind
from models.encodings import encoding_from, magnitude
from models.exceptions import UserMistake
from models.interchange import inputs_of
from models.onnx_constants import attributes_of, constants_of, label_of
from models.onnx_export import INPUTS, METADATA_KEY, onnx_library

Floats = NDArray[np.float64]

COMPARISONS: Mapping[str, tuple[bool, bool]] = {
    "GreaterOrEqual": (False, True),
    "Greater": (True, True),
    "Less": (False, False),
    "LessOrEqual": (True, False),
}
"""Operator to whether its level must be exceeded, and whether true means above."""
MIRRORED = {"GreaterOrEqual": "LessOrEqual", "LessOrEqual": "GreaterOrEqual", "Greater": "Less", "Less": "Greater"}
ENDINGS = ("Softmax", "LogSoftmax", "ArgMax")
"""What may follow the scores: nothing of it changes which class is largest."""


def import_onnx(path: str | Path, plan: Mapping[str, Any] | None = None) -> Imported:
    """The network of an ONNX or QONNX file.

    Args:
        path: of the file.
        plan: a map with the encoding of images and, where they are not -1 and +1, ``low`` and ``high``
            (:mod:`models.interchange`); not needed for files that :func:`models.onnx_export.export_onnx` wrote.

    Raises:
        UserMistake: one line with the file, the node and what is wrong; or onnx is not installed.
    """
    model = _loaded(Path(path))
    try:
        return _Chain(model, {} if plan is None else plan).imported()
    except UserMistake as mistake:
        raise UserMistake(f"{path}: {mistake}") from mistake


def _loaded(where: Path) -> Any:
    onnx = onnx_library()
    from google.protobuf.message import DecodeError

    try:
        # a file may name others for its weights; none of them is opened
        model = onnx.load_model(str(where), load_external_data=False)
    except OSError as error:
        raise UserMistake(f"cannot read {where}: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise UserMistake(f"{where} is not an ONNX file") from error
    if not model.graph.node:
        raise UserMistake(f"{where} is not an ONNX file, or has no nodes")
    return model


class _Chain:
    """The nodes from the input to the scores, one after the other."""

    def __init__(self, model: Any, plan: Mapping[str, Any]) -> None:
        self._graph = model.graph
        self._constants = constants_of(model)
        about = _about(model)
        self._name = plan.get("name", about.get("name", self._graph.name))
        unknown = sorted(set(plan) - {"name", "encoding", "low", "high", "shape"})
        if unknown:
            raise UserMistake(
                f"the map: {unknown[0]!r} is unknown; of ONNX it may say encoding, low, high, shape, name"
            )
        if not isinstance(self._name, str) or not self._name:
            self._name = "imported"
        size: tuple[int, ...] = ()
        if about and "encoding" not in plan:
            self._tensor = INPUTS  # what follows the encoding of images in a file of ours
            plan = {**plan, **_own_inputs(about)}
        else:
            self._tensor, size = self._source()
        self._assembler = inputs_of(plan, size)
        self._comparison: tuple[Floats, bool, bool] | None = None
        self._padding: tuple[tuple[int, ...], float] | None = None
        self._ending = ""

    def _source(self) -> tuple[str, tuple[int, ...]]:
        sources = [item for item in self._graph.input if item.name not in self._constants]
        if len(sources) != 1:
            raise UserMistake(f"the network has {len(sources)} inputs, expected one")
        dims = [dim.dim_value for dim in sources[0].type.tensor_type.shape.dim][1:]
        return sources[0].name, tuple(dims) if dims and min(dims) > 0 else ()

    def imported(self) -> Imported:
        outputs = {item.name for item in self._graph.output}
        for _ in range(len(self._graph.node)):
            users = [node for node in self._graph.node if self._tensor in node.input]
            if not users:
                break
            if len(users) > 1 or self._tensor in outputs:
                raise UserMistake(
                    f"the tensor {self._tensor!r} goes to several places; networks that branch do not map"
                )
            self._take(users[0])
        if self._tensor not in outputs:
            raise UserMistake(f"the tensor {self._tensor!r} leads to no output of the network")
        if self._comparison is not None or self._padding is not None:
            raise UserMistake("the network ends with a comparison or with padding")
        return self._assembler.finish(self._name)

    def _take(self, node: Any) -> None:
        try:
            taker = self._takers().get(node.op_type)
            if taker is None:
                raise UserMistake(f"this operator does not map; those that do are {', '.join(sorted(self._takers()))}")
            if self._ending and node.op_type not in ENDINGS:
                raise UserMistake(f"it follows {self._ending}")
            if self._comparison is not None and node.op_type not in ("Where", "Cast", "Not"):
                raise UserMistake("it follows a comparison; Where or Cast must give two levels first")
            if self._padding is not None and node.op_type != "Conv":
                raise UserMistake("it follows padding, which only a convolution may")
            taker(node, attributes_of(node))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserMistake(f"{label_of(node)}: an input or an attribute is missing or damaged ({error})") from error
        except UserMistake as mistake:
            raise UserMistake(f"{label_of(node)}: {mistake}") from mistake
        self._tensor = node.output[0]

    def _takers(self) -> Mapping[str, Callable[[Any, Mapping[str, Any]], None]]:
        return {
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "Conv": self._conv,
            "Pad": self._pad,
            "BatchNormalization": self._batch_norm,
            **dict.fromkeys(("Mul", "Div", "Add", "Sub", "Neg"), self._arithmetic),
            **dict.fromkeys(("MaxPool", "AveragePool"), self._pool),
            **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool"), self._global_pool),
            "BipolarQuant": self._bipolar,
            **dict.fromkeys(("Quant", "IntQuant"), self._quant),
            "MultiThreshold": self._multi_threshold,
            "Sign": self._sign,
            **dict.fromkeys(COMPARISONS, self._compare),
            "Not": self._not,
            "Where": self._where,
            "Cast": self._cast,
            "Flatten": self._flatten,
            "Reshape": self._reshape,
            **dict.fromkeys(("Identity", "Dropout"), lambda node, attributes: None),
            **dict.fromkeys(ENDINGS, self._end),
        }

    # ------------------------------------------------------------------ what a node is given

    def _constant(self, node: Any, index: int, what: str) -> Floats:
        """An input that must be constant."""
        name = node.input[index] if index < len(node.input) else ""
        if name not in self._constants:
            raise UserMistake(f"its {what} is missing, or not constant")
        return np.asarray(self._constants[name], dtype=np.float64)

    def _other(self, node: Any) -> tuple[Floats, bool]:
        """The constant one of two inputs, and whether it comes first."""
        if len(node.input) != 2 or node.input[0] == node.input[1]:
            raise UserMistake("it takes no constant")
        first = node.input[1] == self._tensor
        return self._constant(node, 0 if first else 1, "other input"), first

    def _channels(self, values: Floats) -> Floats:
        """A constant that acts on whole channels, as a scalar or a row."""
        rank = 1 + len(self._assembler.size)
        if values.size == 1:
            return values.reshape(1)
        shape = (1,) * (rank - values.ndim) + values.shape
        if len(shape) != rank or any(length != 1 for axis, length in enumerate(shape) if axis != 1):
            raise UserMistake(f"its constant of the shape {values.shape} does not act on whole channels")
        return values.reshape(-1)

    # ------------------------------------------------------------------ weights

    def _matmul(self, node: Any, attributes: Mapping[str, Any]) -> None:
        weights, first = self._other(node)
        if first or weights.ndim != 2:
            raise UserMistake("its second input must be a constant matrix")
        self._assembler.linear(weights.T)

    def _gemm(self, node: Any, attributes: Mapping[str, Any]) -> None:
        if attributes.get("transA", 0) or node.input[0] != self._tensor:
            raise UserMistake("its first input must be the activations, not transposed")
        weights = self._constant(node, 1, "weight")
        if weights.ndim != 2:
            raise UserMistake(f"its weight has the shape {weights.shape}, expected a matrix")
        self._assembler.linear(weights if attributes.get("transB", 0) else weights.T)
        alpha, beta = (np.array([attributes.get(key, 1.0)]) for key in ("alpha", "beta"))
        bias = self._channels(self._constant(node, 2, "bias")) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        self._assembler.scale(alpha, beta * bias)

    def _conv(self, node: Any, attributes: Mapping[str, Any]) -> None:
        weights = self._constant(node, 1, "weight")
        dims = weights.ndim - 2
        if any(step != 1 for step in attributes.get("dilations", ())):
            raise UserMistake("dilated kernels do not map")
        if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            raise UserMistake("padding must be given in numbers")
        padding, beyond = _symmetric(attributes.get("pads", (0,) * 2 * dims), dims), 0.0
        if self._padding is not None:
            if any(padding):
                raise UserMistake("it pads what was padded before")
            padding, beyond = self._padding
            self._padding = None
        stride, groups = tuple(attributes.get("strides", ())), attributes.get("group", 1)
        self._assembler.convolution(weights, stride, padding, groups, beyond)
        if len(node.input) > 2 and node.input[2]:
            self._assembler.scale(np.ones(1), self._constant(node, 2, "bias").reshape(-1))

    def _pad(self, node: Any, attributes: Mapping[str, Any]) -> None:
        if attributes.get("mode", b"constant") != b"constant" or len(node.input) > 3:
            raise UserMistake("only padding of all axes with a constant maps")
        pads = [int(pad) for pad in self._constant(node, 1, "pads").reshape(-1)]
        dims = len(self._assembler.size) - 1
        if len(pads) != 2 * (dims + 2) or any(pads[at] for at in (0, 1, dims + 2, dims + 3)):
            raise UserMistake("it pads other axes than those of maps")
        level = float(self._constant(node, 2, "value").item()) if len(node.input) > 2 and node.input[2] else 0.0
        self._padding = _symmetric([*pads[2 : dims + 2], *pads[dims + 4 :]], dims), level

    # ------------------------------------------------------------------ values

    def _batch_norm(self, node: Any, attributes: Mapping[str, Any]) -> None:
        if attributes.get("training_mode", 0):
            raise UserMistake("it is in training mode; export the network in evaluation mode")
        named = enumerate(("scale", "bias", "mean", "variance"), start=1)
        gain, bias, mean, variance = (self._constant(node, index, what) for index, what in named)
        self._assembler.batch_norm(gain, bias, mean, variance, attributes.get("epsilon", 1e-5))

    def _arithmetic(self, node: Any, attributes: Mapping[str, Any]) -> None:
        one, zero = np.ones(1), np.zeros(1)
        if node.op_type == "Neg":
            self._assembler.scale(-one, zero)
            return
        other, first = self._other(node)
        values = self._channels(other)
        if node.op_type == "Div" and (first or not values.all()):
            raise UserMistake("it divides by activations, or by 0")
        pairs = {
            "Mul": (values, zero),
            "Add": (one, values),
            "Sub": (-one, values) if first else (one, -values),
        }
        if node.op_type == "Div":
            self._assembler.scale(values, zero, divide=True)
            return
        self._assembler.scale(*pairs[node.op_type])

    def _pool(self, node: Any, attributes: Mapping[str, Any]) -> None:
        size = tuple(attributes["kernel_shape"])
        plain = not any(attributes.get("pads", ())) and not attributes.get("ceil_mode", 0)
        if not plain or any(step != 1 for step in attributes.get("dilations", ())) or len(node.output) > 1:
            raise UserMistake("pooling with padding, dilation or rounding up does not map")
        kind = PoolKind.MAX if node.op_type == "MaxPool" else PoolKind.SUM
        self._assembler.pool(kind, size, tuple(attributes.get("strides", (1,) * len(size))))

    def _global_pool(self, node: Any, attributes: Mapping[str, Any]) -> None:
        kind = PoolKind.MAX if node.op_type == "GlobalMaxPool" else PoolKind.SUM
        self._assembler.pool(kind, self._assembler.size[1:])

    # ------------------------------------------------------------------ activations

    def _bipolar(self, node: Any, attributes: Mapping[str, Any]) -> None:
        scale = self._constant(node, 1, "scale")
        if scale.size != 1:
            raise UserMistake("an activation of several scales does not map")
        self._assembler.compare(np.zeros(1), scale.item(), -scale.item())

    def _quant(self, node: Any, attributes: Mapping[str, Any]) -> None:
        scale, zero, bits = (
            self._constant(node, index, what) for index, what in ((1, "scale"), (2, "zero point"), (3, "bit width"))
        )
        if bits.size != 1 or bits.item() != 1 or attributes.get("signed", 1) or scale.size != 1 or zero.any():
            raise UserMistake(
                f"it quantises activations to {bits.reshape(-1)[0]:g} bits; only activations of two levels map, of "
                "which BipolarQuant gives -1 and +1 and one unsigned bit gives 0 and 1"
            )
        # of round-half-to-even between 0 and 1 the half goes down
        self._assembler.compare(0.5 * scale, scale.item(), 0.0, strict=True)

    def _multi_threshold(self, node: Any, attributes: Mapping[str, Any]) -> None:
        cuts = self._constant(node, 1, "thresholds")
        if cuts.ndim != 2 or cuts.shape[1] != 1:
            raise UserMistake(f"it has thresholds of the shape {cuts.shape}; only one per channel maps")
        below = float(attributes.get("out_bias", 0.0))
        self._assembler.compare(cuts[:, 0], below + float(attributes.get("out_scale", 1.0)), below)

    def _sign(self, node: Any, attributes: Mapping[str, Any]) -> None:
        def refuse(neurons: int) -> None:
            if neurons:
                raise UserMistake(f"{neurons} of its values can be exactly 0, where Sign gives 0; use a comparison")

        self._assembler.compare(np.zeros(1), ties=refuse)

    def _compare(self, node: Any, attributes: Mapping[str, Any]) -> None:
        other, first = self._other(node)
        strict, true_above = COMPARISONS[MIRRORED[node.op_type] if first else node.op_type]
        self._comparison = self._channels(other), strict, true_above

    def _not(self, node: Any, attributes: Mapping[str, Any]) -> None:
        level, strict, true_above = self._compared()
        self._comparison = level, strict, not true_above

    def _where(self, node: Any, attributes: Mapping[str, Any]) -> None:
        if node.input[0] != self._tensor:
            raise UserMistake("only its condition may come from the network")
        answers = [self._constant(node, index, what) for index, what in ((1, "first value"), (2, "second value"))]
        if any(answer.size != 1 for answer in answers):
            raise UserMistake("it gives other levels to other channels")
        self._answer(answers[0].item(), answers[1].item())

    def _cast(self, node: Any, attributes: Mapping[str, Any]) -> None:
        if self._comparison is not None:
            self._answer(1.0, 0.0)
        elif attributes.get("to") not in (1, 10, 11):
            raise UserMistake("a cast of values maps only to float16, float or double")

    def _answer(self, true: float, false: float) -> None:
        level, strict, true_above = self._compared()
        self._comparison = None
        self._assembler.compare(level, *((true, false) if true_above else (false, true)), strict=strict)

    def _compared(self) -> tuple[Floats, bool, bool]:
        if self._comparison is None:
            raise UserMistake("it follows no comparison")
        return self._comparison

    # ------------------------------------------------------------------ shapes

    def _flatten(self, node: Any, attributes: Mapping[str, Any]) -> None:
        if attributes.get("axis", 1) != 1:
            raise UserMistake("only flattening of each sample maps")
        self._assembler.flatten()

    def _reshape(self, node: Any, attributes: Mapping[str, Any]) -> None:
        _, *rest = [int(length) for length in self._constant(node, 1, "shape").reshape(-1)]
        if rest == [-1]:
            self._assembler.flatten()
        elif not rest or min(rest) < 1:
            raise UserMistake(f"it reshapes samples to {rest}")
        else:
            self._assembler.reshape(tuple(rest))

    def _end(self, node: Any, attributes: Mapping[str, Any]) -> None:
        self._ending = node.op_type


def _symmetric(pads: Any, dims: int) -> tuple[int, ...]:
    before, after = tuple(pads[:dims]), tuple(pads[dims:])
    if before != after or min(before, default=0) < 0:
        raise UserMistake(f"padding of {before} before and {after} after does not map; it must be even")
    return before


def _own_inputs(about: Mapping[str, Any]) -> dict[str, Any]:
    """How a map says what our own export is fed with: whole numbers."""
    described = about.get("encoding")
    if not isinstance(described, dict):
        raise UserMistake(f"its metadata {METADATA_KEY!r} has no encoding")
    largest = magnitude(encoding_from(described))
    return {"encoding": described, "low": -largest, "high": largest}


def _about(model: Any) -> dict[str, Any]:
    """What our own export wrote about itself; empty for other files."""
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            try:
                about = json.loads(entry.value)
            except (ValueError, RecursionError) as error:
                raise UserMistake(f"its metadata {METADATA_KEY!r} is not JSON") from error
            if isinstance(about, dict):
                return about
    return {}
