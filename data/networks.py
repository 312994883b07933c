"""Networks on disk: safetensors, with the architecture as JSON in the metadata. Nothing is ever unpickled.

Layout: the metadata has the one key "rram-bench", whose text is a JSON object (one key, because safetensors writes
several in no fixed order, and the same network shall give the same file)::

    {"format": "rram-bench network 1", "name": "digits-bnn", "classes": 10,
     "encoding": {"kind": "thermometer", "features": 64, "thresholds": [4, 12]},
     "layers": [{"kind": "linear", "inputs": 128, "outputs": 192}, ...],
     "provenance": {...}}

Layer i has the tensors ``layers.i.weights`` (int8, ``(outputs, inputs)``), ``layers.i.sign`` (int8, ``(outputs,)``) and
``layers.i.threshold`` (int32, ``(outputs,)``), with the meaning of ``models.integer.IntegerLayer``. A layer of the kind
"convolution" says what ``models.integer_convolution.IntegerConvolution`` has besides: ``shape``, ``pool`` (or null) and
``reach``; its tensors have ``(filters, fan_in)`` and ``(filters,)``. Encodings are those of ``models.encodings``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data.atomic import write_atomically
from models.convolution_shapes import ConvolutionShape, Pool
from models.encodings import Encoding, encoding_from, plain_encoding
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, Layer
from models.integer_convolution import IntegerConvolution

T = TypeVar("T")

METADATA_KEY = "rram-bench"
FORMAT, VERSION = "rram-bench network", 1
TENSOR_TYPES: Mapping[str, str] = {"weights": "I8", "sign": "I8", "threshold": "I32"}
SUPPORTED_LAYERS = (IntegerLayer.kind, IntegerConvolution.kind)


class NetworkFile(NamedTuple):
    """What a network file holds.

    Attributes:
        network: the integers.
        provenance: where it came from (seed, data set and its checksum, accuracy, versions), as it was saved.
    """

    network: IntegerNetwork
    provenance: dict[str, Any]


def save_network(path: str | Path, network: IntegerNetwork, provenance: Mapping[str, Any]) -> None:
    """Write a network file; an old one is replaced as a whole.

    Args:
        path: of the file.
        network: what to save.
        provenance: what JSON can hold.

    Raises:
        UserMistake: the file cannot be written there, or the provenance is not JSON.
    """
    about = {
        "format": f"{FORMAT} {VERSION}",
        "name": network.name,
        "classes": network.classes,
        "encoding": plain_encoding(network.encoding),
        "layers": [_plain_layer(layer) for layer in network.layers],
        "provenance": dict(provenance),
    }
    try:
        text = json.dumps(about, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserMistake(f"cannot save the network {network.name}: its provenance is not JSON ({error})") from error
    # safetensors writes memory as it lies, whatever the order of the axes
    tensors = {
        f"layers.{index}.{part}": np.ascontiguousarray(getattr(layer, part))
        for index, layer in enumerate(network.layers)
        for part in TENSOR_TYPES
    }
    write_atomically(Path(path), save(tensors, metadata={METADATA_KEY: text}), "network file")


def load_network(path: str | Path) -> NetworkFile:
    """Read a network file and check everything in it.

    Raises:
        UserMistake: one line with the file and what is wrong with it: missing, not safetensors, not one of ours,
            another version, a layer of an unknown kind, a tensor of another shape, type or value.
    """
    where = Path(path)
    try:
        where.open("rb").close()
    except OSError as error:
        raise UserMistake(f"cannot read the network file {where}: {error.strerror}") from error
    try:
        return _read(where)
    except (SafetensorError, OSError) as error:
        raise UserMistake(f"{where} is not a safetensors file ({error}); `rram-bench train` writes one") from error
    except UserMistake as mistake:
        raise UserMistake(f"{where}: {mistake}") from mistake


def _read(where: Path) -> NetworkFile:
    with safe_open(where, framework="numpy") as file:
        about = _described(file.metadata())
        specs = _listed(about)
        names = [f"layers.{index}.{part}" for index in range(len(specs)) for part in TENSOR_TYPES]
        if set(names) != set(file.keys()):
            odd = ", ".join(sorted(set(names) ^ set(file.keys())))
            raise UserMistake(f"the tensors do not match the {len(specs)} layers described; missing or too many: {odd}")
        layers = tuple(_layer(file, index, spec) for index, spec in enumerate(specs))
    encoding: Encoding = encoding_from(_taken(about, "encoding", dict, "the description"))
    name, classes = _taken(about, "name", str, "the description"), _taken(about, "classes", int, "the description")
    network = IntegerNetwork(name, encoding, layers, classes)
    return NetworkFile(network, _taken(about, "provenance", dict, "the description"))


def _described(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    if metadata is None or METADATA_KEY not in metadata:
        raise UserMistake("a safetensors file, but not a network of rram-bench; `rram-bench train` writes one")
    try:
        about = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise UserMistake(f"the description of the network is not JSON ({error})") from error
    if not isinstance(about, dict):
        raise UserMistake("the description of the network is not a JSON object")
    found = _taken(about, "format", str, "the description")
    if found != f"{FORMAT} {VERSION}":
        raise UserMistake(f"the format is {found!r}; this program reads {f'{FORMAT} {VERSION}'!r}")
    return about


def _listed(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    specs = _taken(about, "layers", list, "the description")
    for index, spec in enumerate(specs):
        if not isinstance(spec, dict):
            raise UserMistake(f"layer {index} is not described by a JSON object")
        kind = _taken(spec, "kind", str, f"layer {index}")
        if kind not in SUPPORTED_LAYERS:
            supported = ", ".join(SUPPORTED_LAYERS)
            raise UserMistake(f"layer {index} of the kind {kind!r} is unknown; supported: {supported}")
    return specs


def _plain_layer(layer: Layer) -> dict[str, Any]:
    plain = {"kind": layer.kind, "inputs": layer.inputs, "outputs": layer.outputs}
    if isinstance(layer, IntegerConvolution):
        pool = None if layer.pool is None else asdict(layer.pool)
        plain |= {"shape": asdict(layer.shape), "pool": pool, "reach": layer.reach}
    return plain


def _layer(file: Any, index: int, spec: Mapping[str, Any]) -> Layer:
    where = f"layer {index}"
    outputs, inputs = (_taken(spec, key, int, where) for key in ("outputs", "inputs"))
    try:
        if spec["kind"] == IntegerLayer.kind:
            return IntegerLayer(**_tensors(file, index, outputs, inputs))
        layer = _convolution(file, index, spec)
    except UserMistake as mistake:
        # what is wrong with a tensor begins with its name already
        raise mistake if str(mistake).startswith("layer") else UserMistake(f"{where}: {mistake}") from mistake
    if (layer.inputs, layer.outputs) != (inputs, outputs):
        raise UserMistake(
            f"{where} says {inputs} inputs and {outputs} outputs; its shape gives {layer.inputs} and {layer.outputs}"
        )
    return layer


def _convolution(file: Any, index: int, spec: Mapping[str, Any]) -> IntegerConvolution:
    where = f"layer {index}"
    shape = _dataclass(ConvolutionShape, _taken(spec, "shape", dict, where), f"{where}, shape")
    plain = spec.get("pool")
    pool = None if plain is None else _dataclass(Pool, _taken(spec, "pool", dict, where), f"{where}, pool")
    reach = _taken(spec, "reach", int, where)
    return IntegerConvolution(**_tensors(file, index, shape.filters, shape.fan_in), shape=shape, pool=pool, reach=reach)


def _dataclass(kind: type[T], plain: Mapping[str, Any], where: str) -> T:
    """A data class of numbers, lists of numbers and words, all fields given."""
    wanted = {item.name: item.type for item in fields(kind)}  # type: ignore[arg-type]
    if set(plain) != set(wanted):
        raise UserMistake(f"{where} has the fields {sorted(plain)}, expected {sorted(wanted)}")
    for name, value in plain.items():
        if wanted[name] == "tuple[int, ...]":
            if type(value) is not list or not all(type(item) is int for item in value):
                raise UserMistake(f"{where}: {name!r} is {value!r}, expected a list of whole numbers")
        else:
            _taken(plain, name, int if wanted[name] == "int" else str, where)
    try:
        return kind(**{name: tuple(value) if type(value) is list else value for name, value in plain.items()})
    except ValueError as error:
        raise UserMistake(f"{where}: {error}") from error


def _tensors(file: Any, index: int, rows: int, columns: int) -> dict[str, Any]:
    parts = {}
    for part, wanted in TENSOR_TYPES.items():
        name = f"layers.{index}.{part}"
        shape = [rows, columns] if part == "weights" else [rows]
        tensor = file.get_slice(name)
        # looked at before the tensor is read: there are types that numpy does not have
        found = (tensor.get_dtype(), list(tensor.get_shape()))
        if found != (wanted, shape):
            raise UserMistake(f"{name} is {found[0]} of the shape {found[1]}, expected {wanted} of the shape {shape}")
        parts[part] = file.get_tensor(name)
    return parts


def _taken(mapping: Mapping[str, Any], key: str, wanted: type[T], where: str) -> T:
    """The value of ``key``, of exactly this type (``true`` is no number)."""
    if key not in mapping:
        raise UserMistake(f"{where} lacks {key!r}")
    value = mapping[key]
    if type(value) is not wanted:
        raise UserMistake(f"{where}: {key!r} is {value!r}, expected a value of the type {wanted.__name__}")
    return value
