"""Plans on disk: JSON, one line for each tile.

::

    {"schema": "rram-bench plan 1", "network": "digits-bnn", "network_sha256": "...",
     "array": {"rows": 32, "cols": 32}, "chip_id": null, "error_map": null,
     "tiles": [{"layer": 0, "rows": [0, 1, ...], "cols": [0, 1, ...]}, ...]}

``rows`` and ``cols`` are those of :class:`bench.mapping.Tile`, ``chip_id`` and ``error_map`` those of its plan. What
a file says is checked here as far as it can be without its network and its chip; :meth:`bench.mapping.Plan.check` does
the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.mapping import NONE, Indices, Plan, Tile
from data.atomic import write_atomically
from models.cells import Geometry
from models.exceptions import UserMistake

SCHEMA = "rram-bench plan 1"
FIELDS = {"schema", "network", "network_sha256", "array", "chip_id", "error_map", "tiles"}
SHA256 = re.compile(r"[0-9a-f]{64}")
LARGEST = 2**31 - 1


def save_plan(path: str | Path, plan: Plan) -> None:
    """Write a plan; an old one is replaced as a whole.

    Raises:
        UserMistake: it cannot be written there.
    """
    about = {
        "schema": SCHEMA,
        "network": plan.network,
        "network_sha256": plan.network_sha256,
        "array": plan.array._asdict(),
        "chip_id": plan.chip_id,
        "error_map": plan.error_map,
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items()]
    tiles = ",\n".join(
        json.dumps({"layer": tile.layer, "rows": tile.rows.tolist(), "cols": tile.cols.tolist()}) for tile in plan.tiles
    )
    write_atomically(Path(path), f'{{{"".join(lines)}"tiles": [\n{tiles}]}}\n'.encode(), "plan")


def load_plan(path: str | Path) -> Plan:
    """Read a plan and check everything in it.

    Raises:
        UserMistake: one line with the file and what is wrong with it: missing, not JSON, another schema, a field that
            is missing, unknown or of another type, an index that no array has.
    """
    where = Path(path)
    try:
        text = where.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserMistake(f"cannot read the plan {where}: {reason}") from error
    try:
        return _plan(json.loads(text, object_pairs_hook=_without_twins))
    except (ValueError, RecursionError) as error:
        raise UserMistake(f"the plan {where} is not JSON ({error})") from error
    except UserMistake as mistake:
        raise UserMistake(f"the plan {where}: {mistake}") from mistake


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UserMistake(f"an object has a field twice; its fields are {sorted(name for name, _ in pairs)}")
    return found


def _plan(about: Any) -> Plan:
    schema = about.get("schema") if isinstance(about, dict) else None
    if schema != SCHEMA:
        raise UserMistake(f"its schema is {schema!r}; this program reads {SCHEMA!r}, which `rram-bench map` writes")
    _check_fields(about, FIELDS, "it")
    array = _taken(about, "array", dict, "it")
    _check_fields(array, {"rows", "cols"}, "array")
    geometry = Geometry(*(_number(array[name], 1, f"array, {name}") for name in ("rows", "cols")))
    if not about["tiles"]:
        raise UserMistake("it has no tiles")
    tiles = tuple(_tile(tile, geometry, f"tile {n}") for n, tile in enumerate(_taken(about, "tiles", list, "it"), 1))
    digests = [_digest(about, "network_sha256"), None if about["error_map"] is None else _digest(about, "error_map")]
    chip_id = None if about["chip_id"] is None else _taken(about, "chip_id", str, "it")
    if (chip_id is None) != (digests[1] is None):
        raise UserMistake("chip_id and error_map belong together: either may be null only where the other is")
    return Plan(_taken(about, "network", str, "it"), str(digests[0]), geometry, tiles, chip_id, digests[1])


def _tile(about: Any, array: Geometry, where: str) -> Tile:
    if not isinstance(about, dict):
        raise UserMistake(f"{where} is {type(about).__name__}, expected an object")
    _check_fields(about, {"layer", "rows", "cols"}, where)
    lines = [_lines(about, name, most, where) for name, most in zip(("rows", "cols"), array, strict=True)]
    return Tile(_number(about["layer"], 0, f"{where}, layer"), *lines)


def _lines(about: Mapping[str, Any], name: str, most: int, where: str) -> Indices:
    listed = _taken(about, name, list, where)
    numbers = [_number(value, NONE, f"{where}, {name}") for value in listed]
    held = [number for number in numbers if number != NONE]
    if not held or len(numbers) > most or len(set(held)) < len(held):
        raise UserMistake(
            f"{where}: {name} has {len(numbers)} entries, {len(set(held))} different ones besides {NONE}; expected at "
            f"most {most}, at least one besides {NONE}, and none twice"
        )
    return np.array(numbers, dtype=np.int32)


def _check_fields(about: Mapping[str, Any], wanted: set[str], where: str) -> None:
    missing, unknown = sorted(wanted - about.keys()), sorted(about.keys() - wanted)
    if missing or unknown:
        raise UserMistake(f"{where}: missing fields {missing}, unknown fields {unknown}")


def _taken(about: Mapping[str, Any], name: str, wanted: type, where: str) -> Any:
    if type(about[name]) is not wanted:
        raise UserMistake(f"{where}: {name} is {_brief(about[name])}, expected {wanted.__name__}")
    return about[name]


def _number(value: Any, least: int, where: str) -> int:
    if type(value) is not int or not least <= value <= LARGEST:
        raise UserMistake(f"{where}: {_brief(value)}, expected a whole number from {least}")
    return value


def _digest(about: Mapping[str, Any], name: str) -> str:
    text: str = _taken(about, name, str, "it")
    if SHA256.fullmatch(text) is None:
        raise UserMistake(f"{name} is {_brief(text)}, expected the 64 digits of a SHA-256")
    return text


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
