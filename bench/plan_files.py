"""Plans on disk: JSON, one line for each tile.

::

    {"schema": "rram-bench plan 1", "network": "digits-bnn", "network_sha256": "...",
     "array": {"rows": 32, "cols": 32}, "chip_id": null, "error_map": null,
     "tiles": [{"layer": 0, "rows": [0, 1, ...], "cols": [0, 1, ...]}, ...]}

A plan for several chips names their arrays, and for each tile the array that it lies on, counted from 0::

    {"schema": "rram-bench plan 2", "network": "digits-bnn", "network_sha256": "...",
     "arrays": [{"rows": 32, "cols": 32, "chip_id": null, "error_map": null}, ...],
     "tiles": [{"array": 0, "layer": 0, "rows": [0, 1, ...], "cols": [0, 1, ...]}, ...]}

``rows`` and ``cols`` are those of :class:`bench.mapping.Tile`, ``chip_id`` and ``error_map`` those of its plan. What
a file says is checked here as far as it can be without its network and its chip; :meth:`bench.mapping.Plan.check` and
:meth:`bench.several_chips.SharedPlan.check` do the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.mapping import NONE, Indices, Plan, Tile
from bench.several_chips import SharedPlan
from data.atomic import write_atomically
from models.cells import Geometry
from models.exceptions import UserMistake

SCHEMA = "rram-bench plan 1"
FIELDS = {"schema", "network", "network_sha256", "array", "chip_id", "error_map", "tiles"}
SHARED_SCHEMA = "rram-bench plan 2"
SHARED_FIELDS = {"schema", "network", "network_sha256", "arrays", "tiles"}
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
    _save(path, about, [_plain(tile) for tile in plan.tiles])


def save_shared_plan(path: str | Path, plan: SharedPlan) -> None:
    """Write a plan for several chips; an old one is replaced as a whole.

    Raises:
        UserMistake: it cannot be written there.
    """
    arrays = [{**part.array._asdict(), "chip_id": part.chip_id, "error_map": part.error_map} for part in plan.parts]
    about = {
        "schema": SHARED_SCHEMA,
        "network": plan.network,
        "network_sha256": plan.parts[0].network_sha256,
        "arrays": arrays,
    }
    tiles = [{"array": number, **_plain(tile)} for number, part in enumerate(plan.parts) for tile in part.tiles]
    _save(path, about, tiles)


def load_plan(path: str | Path) -> Plan:
    """Read a plan for one chip and check everything in it.

    Raises:
        UserMistake: one line with the file and what is wrong with it: missing, not JSON, another schema, a field that
            is missing, unknown or of another type, an index that no array has; or it is for several chips.
    """
    with _reading(path) as about:
        if isinstance(about, dict) and about.get("schema") == SHARED_SCHEMA:
            raise UserMistake("it is for several chips: give the bench of each of them with --bench")
        return _plan(about)


def load_shared_plan(path: str | Path) -> SharedPlan:
    """Read a plan for several chips and check everything in it.

    Raises:
        UserMistake: as :func:`load_plan`; or it is for one chip.
    """
    with _reading(path) as about:
        if isinstance(about, dict) and about.get("schema") == SCHEMA:
            raise UserMistake("it is for one chip; make one for several with: rram-bench map --bench FILE --bench FILE")
        return _shared_plan(about)


@contextmanager
def _reading(path: str | Path) -> Iterator[Any]:
    """What a file holds; a mistake that is found in it names the file."""
    where = Path(path)
    try:
        text = where.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserMistake(f"cannot read the plan {where}: {reason}") from error
    try:
        yield json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise UserMistake(f"the plan {where} is not JSON ({error})") from error
    except UserMistake as mistake:
        raise UserMistake(f"the plan {where}: {mistake}") from mistake


def _plain(tile: Tile) -> dict[str, Any]:
    return {"layer": tile.layer, "rows": tile.rows.tolist(), "cols": tile.cols.tolist()}


def _save(path: str | Path, about: Mapping[str, Any], tiles: Sequence[Mapping[str, Any]]) -> None:
    lines = [f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items()]
    listed = ",\n".join(json.dumps(tile) for tile in tiles)
    write_atomically(Path(path), f'{{{"".join(lines)}"tiles": [\n{listed}]}}\n'.encode(), "plan")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UserMistake(f"an object has a field twice; its fields are {sorted(name for name, _ in pairs)}")
    return found


def _plan(about: Any) -> Plan:
    _check_schema(about, SCHEMA)
    _check_fields(about, FIELDS, "it")
    array = _taken(about, "array", dict, "it")
    _check_fields(array, {"rows", "cols"}, "array")
    geometry = _geometry(array, "array")
    tiles = tuple(_tile(tile, geometry, f"tile {n}") for n, tile in enumerate(_tiles(about), 1))
    digest, chip = _digest(about, "network_sha256", "it"), _chip(about, "it")
    return Plan(_taken(about, "network", str, "it"), digest, geometry, tiles, *chip)


def _shared_plan(about: Any) -> SharedPlan:
    _check_schema(about, SHARED_SCHEMA)
    _check_fields(about, SHARED_FIELDS, "it")
    arrays = _taken(about, "arrays", list, "it")
    if len(arrays) < 2:
        raise UserMistake(f"arrays has {len(arrays)} entries, expected one for each of several chips")
    geometries, chips = [], []
    for number, array in enumerate(arrays):
        where = f"array {number}"
        _check_object(array, where)
        _check_fields(array, {"rows", "cols", "chip_id", "error_map"}, where)
        geometries.append(_geometry(array, where))
        chips.append(_chip(array, where))
    names = [chip_id for chip_id, _ in chips if chip_id is not None]
    if len(set(names)) < len(names):
        raise UserMistake(f"two arrays are of one chip; the chips are {', '.join(names)}")
    shares: list[list[Tile]] = [[] for _ in arrays]
    for number, tile in enumerate(_tiles(about), start=1):
        where = f"tile {number}"
        _check_object(tile, where)
        rest = dict(tile)
        on = _number(rest.pop("array", None), 0, f"{where}, array")
        if on >= len(arrays):
            raise UserMistake(f"{where}, array: {on}, and the last array is {len(arrays) - 1}")
        shares[on].append(_tile(rest, geometries[on], where))
    name, digest = _taken(about, "network", str, "it"), _digest(about, "network_sha256", "it")
    return SharedPlan(
        tuple(
            Plan(name, digest, geometry, tuple(tiles), *chip)
            for geometry, tiles, chip in zip(geometries, shares, chips, strict=True)
        )
    )


def _check_schema(about: Any, wanted: str) -> None:
    schema = about.get("schema") if isinstance(about, dict) else None
    if schema != wanted:
        raise UserMistake(f"its schema is {schema!r}; this program reads {wanted!r}, which `rram-bench map` writes")


def _geometry(array: Mapping[str, Any], where: str) -> Geometry:
    return Geometry(*(_number(array[name], 1, f"{where}, {name}") for name in ("rows", "cols")))


def _chip(about: Mapping[str, Any], where: str) -> tuple[str | None, str | None]:
    """The chip that it is for, and the digest of what was known of its cells."""
    error_map = None if about["error_map"] is None else _digest(about, "error_map", where)
    chip_id = None if about["chip_id"] is None else _taken(about, "chip_id", str, where)
    if (chip_id is None) != (error_map is None):
        raise UserMistake("chip_id and error_map belong together: either may be null only where the other is")
    return chip_id, error_map


def _tiles(about: Mapping[str, Any]) -> list[Any]:
    tiles: list[Any] = _taken(about, "tiles", list, "it")
    if not tiles:
        raise UserMistake("it has no tiles")
    return tiles


def _tile(about: Any, array: Geometry, where: str) -> Tile:
    _check_object(about, where)
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


def _check_object(about: Any, where: str) -> None:
    if not isinstance(about, dict):
        raise UserMistake(f"{where} is {type(about).__name__}, expected an object")


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


def _digest(about: Mapping[str, Any], name: str, where: str) -> str:
    text: str = _taken(about, name, str, where)
    if SHA256.fullmatch(text) is None:
        raise UserMistake(f"{name} is {_brief(text)}, expected the 64 digits of a SHA-256")
    return text


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
