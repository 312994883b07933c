"""Import of a plain PyTorch state dict of a user's own binary or ternary network. Nothing is ever unpickled.

A state dict has the numbers of a network and not its order, so that a map in JSON goes with it::

    {"name": "mine",
     "encoding": {"kind": "bit-planes", "features": 784, "bits": 8}, "low": 0.0, "high": 1.0,
     "layers": [{"layer": "linear", "name": "fc1", "levels": "binary"},
                {"layer": "batch_norm", "name": "bn1"},
                {"layer": "sign"},
                {"layer": "linear", "name": "fc2", "levels": "ternary", "cut": 0.05}]}

docs/interchange.md lists the layers. ``low`` and ``high`` are what the user's network was fed for the lowest and the
highest input (-1 and +1 where they are left out), ``shape`` that of an image, channels first.
"""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.assembling import Assembler, Imported
from models.convolution_shapes import PoolKind
from models.encodings import encoding_from
from models.exceptions import UserMistake

Floats = NDArray[np.float64]
Tensors = Mapping[str, Floats]

_KEYS = ("name", "encoding", "low", "high", "shape", "layers", "unused")
_SEEN_BATCHES = "num_batches_tracked"

NESTED = ("state_dict", "model_state_dict", "model")
"""Where checkpoints keep the state dict of the network, when it is not all that they hold."""


def import_state_dict(path: str | Path, plan: Mapping[str, Any]) -> Imported:
    """A network of a state dict file: of ``torch.save``, or safetensors.

    Args:
        path: of the file. Files with pickled objects are refused.
        plan: the map, as described above.

    Raises:
        UserMistake: one line with the file, the layer and what is wrong.
    """
    tensors = load_tensors(path)
    try:
        return assemble(tensors, plan)
    except UserMistake as mistake:
        raise UserMistake(f"{path}: {mistake}") from mistake


def load_map(path: str | Path) -> dict[str, Any]:
    """The map of a network, from JSON; UserMistake where the file is missing or no JSON object."""
    try:
        plan = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserMistake(f"cannot read the map {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserMistake(f"the map {path} is not JSON ({error})") from error
    if not isinstance(plan, dict):
        raise UserMistake(f"the map {path} is not a JSON object")
    return plan


def load_tensors(path: str | Path) -> Tensors:
    """All tensors of a state dict, in float64.

    Raises:
        UserMistake: the file is missing, of another kind, or holds pickled objects, which are never loaded.
    """
    where = Path(path)
    try:
        where.open("rb").close()
    except OSError as error:
        raise UserMistake(f"cannot read {where}: {error.strerror}") from error
    content = _safetensors(where) if where.suffix == ".safetensors" else _checkpoint(where)
    for key in NESTED:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {str(name): _numbers(value) for name, value in content.items() if hasattr(value, "detach")}
    if not tensors:
        raise UserMistake(f"{where} holds no tensors by name; save model.state_dict()")
    return tensors


def _numbers(tensor: Any) -> Floats:
    numbers: Floats = tensor.detach().cpu().double().numpy()
    return numbers


def _safetensors(where: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content: Mapping[str, Any] = load_file(where)
    except (SafetensorError, OSError) as error:
        raise UserMistake(f"{where} is not a safetensors file ({_one_line(error)})") from error
    return content


def _checkpoint(where: Path) -> Mapping[str, Any]:
    import torch

    try:
        with warnings.catch_warnings():
            # a warning about an unusual pickle would only stand before the refusal of it
            warnings.simplefilter("ignore")
            content = torch.load(where, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserMistake(
            f"{where} holds pickled objects, or is no checkpoint at all; it is not loaded, because unpickling runs "
            "code: save model.state_dict(), or safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise UserMistake(f"{where} is not a PyTorch checkpoint ({_one_line(error)})") from error
    if not isinstance(content, Mapping):
        raise UserMistake(f"{where} holds a {type(content).__name__}, not a state dict")
    return content


def _one_line(error: Exception) -> str:
    """The first sentence of an error of a library, or its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def assemble(tensors: Tensors, plan: Mapping[str, Any]) -> Imported:
    """The network that a map makes of tensors; UserMistake names the layer and what is wrong."""
    unknown = sorted(set(plan) - set(_KEYS))
    if unknown:
        raise UserMistake(f"the map: {unknown[0]!r} is unknown; known are {', '.join(_KEYS)}")
    layers = plan.get("layers")
    if not isinstance(layers, list) or not layers:
        raise UserMistake("the map needs 'layers', a list")
    assembler = inputs_of(plan)
    walker = _Walker(tensors, assembler)
    for index, layer in enumerate(layers):
        try:
            walker.take(layer)
        except UserMistake as mistake:
            kind = layer.get("layer") if isinstance(layer, dict) else layer
            raise UserMistake(f"layer {index} of the map ({kind}): {mistake}") from mistake
    name = plan.get("name", "imported")
    if not isinstance(name, str) or not name:
        raise UserMistake(f"the map: the name is {name!r}, expected text")
    finished = assembler.finish(name)
    _refuse_left_over(walker, plan.get("unused", []))
    return finished


def _refuse_left_over(walker: _Walker, unused: object) -> None:
    """A tensor that no layer took was part of the network that was trained, unless the map says that it was not."""
    if not isinstance(unused, list) or not all(isinstance(name, str) for name in unused):
        raise UserMistake("the map: 'unused' is a list of names of tensors")
    left = [name for name in walker.left_over if name not in unused]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        raise UserMistake(
            f"no layer of the map takes {', '.join(left[:3])}{more}: add the layers, or name the tensors in 'unused' "
            "if the network does without"
        )


def inputs_of(plan: Mapping[str, Any], size: tuple[int, ...] = ()) -> Assembler:
    """An assembler for the encoding, shape, low and high of a map.

    Args:
        plan: the map.
        size: of an image or of its inputs, channels first, where the map names no shape; all in a row when empty.

    Raises:
        UserMistake: the map has no encoding, or the numbers do not fit it.
    """
    described = plan.get("encoding")
    if not isinstance(described, dict):
        raise UserMistake(
            "the map needs 'encoding', how an image becomes inputs, such as "
            '{"encoding": {"kind": "thermometer", "features": 784, "thresholds": [128]}}'
        )
    encoding = encoding_from(described)
    shape = _whole(plan["shape"], "shape") if "shape" in plan else size
    if not shape:
        shape = (encoding.features,)
    if math.prod(shape) == encoding.features:
        channels, *rest = shape
        shape = (channels * (encoding.width // encoding.features), *rest)
    return Assembler(encoding, shape, _real(plan.get("low", -1.0), "low"), _real(plan.get("high", 1.0), "high"))


class _Walker:
    """Layers of a map, handed to an assembler one after the other."""

    def __init__(self, tensors: Tensors, assembler: Assembler) -> None:
        self._tensors, self._assembler = tensors, assembler
        self._taken = set[str]()
        self._takers: Mapping[str, tuple[Callable[[Mapping[str, Any]], None], frozenset[str]]] = {
            "linear": (self._linear, frozenset({"name", "levels", "cut"})),
            "conv": (self._conv, frozenset({"name", "levels", "cut", "stride", "padding", "groups", "padding_value"})),
            "batch_norm": (self._batch_norm, frozenset({"name", "eps"})),
            "sign": (self._sign, frozenset()),
            "max_pool": (self._pool, frozenset({"size", "stride"})),
            "average_pool": (self._pool, frozenset({"size", "stride"})),
            "flatten": (lambda _: self._assembler.flatten(), frozenset()),
        }

    def take(self, layer: object) -> None:
        """Take one layer of the map."""
        if not isinstance(layer, dict) or layer.get("layer") not in self._takers:
            raise UserMistake(f"expected an object with 'layer', one of {', '.join(self._takers)}")
        taker, known = self._takers[layer["layer"]]
        unknown = sorted(set(layer) - known - {"layer"})
        if unknown:
            raise UserMistake(f"{unknown[0]!r} is unknown; known are {', '.join(sorted(known))}")
        taker(layer)

    @property
    def left_over(self) -> list[str]:
        """Tensors that no layer took; how many batches a normalisation has seen means nothing to a network."""
        return [name for name in self._tensors if name not in self._taken and not name.endswith(_SEEN_BATCHES)]

    def _tensor(self, layer: Mapping[str, Any], part: str) -> Floats | None:
        name = layer.get("name")
        if not isinstance(name, str):
            raise UserMistake("it needs 'name', the name of the layer in the state dict")
        self._taken.add(f"{name}.{part}")
        return self._tensors.get(f"{name}.{part}")

    def _needed(self, layer: Mapping[str, Any], part: str) -> Floats:
        tensor = self._tensor(layer, part)
        if tensor is None:
            there = ", ".join(sorted(self._tensors)[:8])
            raise UserMistake(f"there is no tensor {layer['name']}.{part}; the file has {there} ...")
        return tensor

    def _weights(self, layer: Mapping[str, Any]) -> Floats:
        weights, levels = self._needed(layer, "weight"), layer.get("levels", "given")
        if not np.isfinite(weights).all():
            raise UserMistake("weights are not finite")
        if "cut" in layer and levels != "ternary":
            raise UserMistake("'cut' goes with the levels ternary")
        if levels == "binary":
            return np.where(weights >= 0.0, 1.0, -1.0)
        if levels == "ternary":
            cut = _real(layer.get("cut", 0.0), "cut")
            return np.where(np.abs(weights) <= cut, 0.0, np.sign(weights))
        if levels != "given":
            raise UserMistake(f"the levels {levels!r} are unknown; known are binary, ternary and given")
        return weights

    def _biased(self, layer: Mapping[str, Any]) -> None:
        bias = self._tensor(layer, "bias")
        if bias is not None:
            self._assembler.scale(np.ones(1), bias)

    def _linear(self, layer: Mapping[str, Any]) -> None:
        self._assembler.linear(self._weights(layer))
        self._biased(layer)

    def _conv(self, layer: Mapping[str, Any]) -> None:
        weights = self._weights(layer)
        dims = weights.ndim - 2
        stride, padding = (_whole(layer[key], key, dims) if key in layer else () for key in ("stride", "padding"))
        (groups,) = _whole(layer.get("groups", 1), "groups")
        beyond = _real(layer.get("padding_value", 0.0), "padding_value")
        self._assembler.convolution(weights, stride, padding, groups, beyond)
        self._biased(layer)

    def _batch_norm(self, layer: Mapping[str, Any]) -> None:
        mean, variance = (self._needed(layer, part) for part in ("running_mean", "running_var"))
        gain, bias = self._tensor(layer, "weight"), self._tensor(layer, "bias")
        self._assembler.batch_norm(
            np.ones(1) if gain is None else gain,
            np.zeros(1) if bias is None else bias,
            mean,
            variance,
            _real(layer.get("eps", 1e-5), "eps"),
        )

    def _sign(self, layer: Mapping[str, Any]) -> None:
        self._assembler.compare(np.zeros(1))

    def _pool(self, layer: Mapping[str, Any]) -> None:
        dims = len(self._assembler.size) - 1
        if "size" not in layer:
            raise UserMistake("it needs 'size'")
        stride = _whole(layer["stride"], "stride", dims) if "stride" in layer else ()
        kind = PoolKind.MAX if layer["layer"] == "max_pool" else PoolKind.SUM
        self._assembler.pool(kind, _whole(layer["size"], "size", dims), stride)


def _real(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserMistake(f"{what} is {value!r}, expected a number")
    return float(value)


def _whole(value: object, what: str, dims: int = 1) -> tuple[int, ...]:
    """Whole numbers of a list, or one number for each dimension."""
    given = value if isinstance(value, list) else [value] * max(dims, 1)
    numbers = tuple(number for number in given if type(number) is int)
    if not numbers or len(numbers) < len(given):
        raise UserMistake(f"{what} is {value!r}, expected a whole number or a list of them")
    return numbers
