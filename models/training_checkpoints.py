"""Checkpoints of a training under way: one safetensors file, so that nothing is ever unpickled.

A state is nested dictionaries, lists, tensors, arrays and plain values, as the ``state_dict`` of modules and optimizers
gives them. Tensors and arrays become tensors of the file; all else is JSON in its metadata, under the one key
"rram-bench checkpoint", with a reference wherever a tensor stood.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.exceptions import UserMistake

METADATA_KEY = "rram-bench checkpoint"
_PLAIN = (str, int, float, bool, type(None))


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; an old one is replaced as a whole, or stays as it was.

    Raises:
        UserMistake: it cannot be written there.
        TypeError: the state holds something other than what the module says.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_taken_apart(state, tensors))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(save(tensors, metadata={METADATA_KEY: text}))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserMistake(f"cannot write the checkpoint {path}: {error.strerror}; name another folder") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as it was saved; tensors and arrays are on the CPU.

    Raises:
        UserMistake: it cannot be read, or is no checkpoint of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if metadata is None or METADATA_KEY not in metadata:
                raise UserMistake(f"{path} is a safetensors file, but no checkpoint of ours; name another folder")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        state = _put_together(json.loads(metadata[METADATA_KEY]), tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserMistake(f"cannot read the checkpoint {path} ({error}); delete it to begin again") from error
    if not isinstance(state, dict):
        raise UserMistake(f"the checkpoint {path} holds no state; delete it to begin again")
    return state


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON can hold it; its tensors are added to ``tensors``."""
    if isinstance(value, Tensor | np.ndarray):
        name = f"{len(tensors):05d}"
        tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value.detach()
        # a copy of its own: safetensors refuses tensors that share memory
        tensors[name] = tensor.cpu().clone().contiguous()
        return {"array" if isinstance(value, np.ndarray) else "tensor": name}
    if isinstance(value, Mapping):
        # as pairs: the keys of an optimizer's state are numbers
        return {"mapping": [[_taken_apart(part, tensors) for part in pair] for pair in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_taken_apart(part, tensors) for part in value]}
    if type(value) not in _PLAIN:
        raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")
    return value


def _put_together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind in ("tensor", "array"):
        tensor = tensors[held]
        return tensor if kind == "tensor" else tensor.numpy()
    parts = [_put_together({"list": pair} if kind == "mapping" else pair, tensors) for pair in held]
    if kind == "mapping":
        return dict(parts)
    return tuple(parts) if kind == "tuple" else parts
