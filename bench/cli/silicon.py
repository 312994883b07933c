"""Commands that put networks on silicon: map."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console import Reporter, duration
from bench.figures.records import plural
from models.cells import Geometry
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.config import BenchFile
    from bench.error_map import ErrorMap
    from bench.mapping import Plan
    from bench.placement import Harm
    from bench.programming import Cost
    from models.integer import IntegerNetwork

BENCH = "kilobit_lab"
"""Packaged bench file whose operating points and pace count where none is given."""

ARRAY = Geometry(32, 32)


@dataclass(frozen=True)
class MapOptions:
    """A plan as it was asked for.

    Attributes:
        bench: bench file, "simulated", or None.
        rows, cols: of the array; None for those of the bench, else of the error map, else of a kilobit chip.
        runs: run files that the error map is made from; none for a plan that suits any chip.
        out, picture: files to write, or None.
    """

    bench: str | None
    rows: int | None
    cols: int | None
    runs: tuple[Path, ...]
    out: Path | None
    picture: Path | None


def map_command(path: Path, wanted: MapOptions, as_json: bool) -> None:
    """Lay a network on an array, and say what that takes; nothing is opened and nothing moves."""
    from bench.error_map import error_map
    from bench.mapping import plan_network
    from bench.placement import harm
    from bench.plan_files import save_plan
    from bench.plan_pictures import plan_picture
    from bench.programming import ordered, programming_cost
    from data.atomic import check_writable
    from data.networks import load_network
    from data.runs import open_run

    network = load_network(path).network
    for target, what in ((wanted.out, "plan"), (wanted.picture, "picture")):
        if target is not None:
            check_writable(target, what)
    known = error_map([open_run(run) for run in wanted.runs]) if wanted.runs else None
    config = _config(wanted, known)
    if known is not None:
        known.check(config.geometry, config.chip.id)
    plain = plan_network(network, config.geometry)
    plan = ordered(plain if known is None else plan_network(network, config.geometry, known), network)
    costs = {
        "every_cell": programming_cost(plan, network, config),
        "changed_cells": programming_cost(plan, network, config, keep_right=True),
    }
    harms = None if known is None else (harm(plain, network, known), harm(plan, network, known))
    if wanted.out is not None:
        save_plan(wanted.out, plan)
    if wanted.picture is not None:
        plan_picture(plan, network, wanted.picture, known)
    inference = _inference_energy(network, plan)
    values = {
        **plan.summary(),
        "network_sha256": plan.network_sha256,
        "bench": config.name,
        "layers": _layers(network, plan),
        "programming": {kind: cost.as_plain() for kind, cost in costs.items()},
        "inference_energy": inference,
        "error_map": None if known is None else known.summary(),
        "harm": None if harms is None else {"as_it_comes": vars(harms[0]), "placed": vars(harms[1])},
        "plan_file": None if wanted.out is None else str(wanted.out),
        "picture": None if wanted.picture is None else str(wanted.picture),
    }
    lines = [
        ("array", "{} x {} cells of {}".format(*plan.array, plan.chip_id or "any chip")),
        ("tiles", str(len(plan.tiles))),
        *((f"  layer {one['layer']}", _layer_line(one)) for one in values["layers"]),
        ("cells used", str(plan.used)),
        ("cells left unused", str(plan.wasted)),
        ("programming, every cell pulsed", _cost_line(costs["every_cell"])),
        ("programming, changed cells only", _cost_line(costs["changed_cells"])),
        ("operating points and pace of", config.name),
        ("energy of one inference, on the chip", inference.get("note") or f"{inference['on_chip_j']:.3g} J"),
        *([] if known is None or harms is None else _error_map_lines(known, *harms)),
        *((name, values[key]) for name, key in (("plan", "plan_file"), ("picture", "picture")) if values[key]),
    ]
    Reporter(as_json).result(values, lines, plan.network)


def _config(wanted: MapOptions, known: ErrorMap | None) -> BenchFile:
    """The bench file that counts, with the array that was asked for."""
    from bench.source import bench_config

    if wanted.bench is not None:
        config = bench_config(wanted.bench)
        array = config.geometry
    else:
        config = bench_config(Path(str(files("data"))) / "benches" / f"{BENCH}.toml")
        array = ARRAY if known is None else known.geometry
    rows = array.rows if wanted.rows is None else wanted.rows
    cols = array.cols if wanted.cols is None else wanted.cols
    return config.model_copy(update={"chip": config.chip.model_copy(update={"rows": rows, "cols": cols})})


def _layers(network: IntegerNetwork, plan: Plan) -> list[dict[str, Any]]:
    layers = []
    for index, layer in enumerate(network.layers):
        tiles = [tile for _, tile in plan.of_layer(index)]
        layers.append(
            {
                "layer": index + 1,
                "kind": layer.kind,
                "rows": len(layer.weights),
                "cols": layer.weights.shape[1],
                "groups": layer.groups,
                "positions": layer.positions,
                "tiles": len(tiles),
                "cells_used": sum(tile.cells for tile in tiles),
                "padding_columns": sum(int(tile.pads.sum()) for tile in tiles),
            }
        )
    return layers


def _layer_line(one: dict[str, Any]) -> str:
    tiles = plural(one["tiles"], "tile")
    text = f"{one['kind']}, matrix {one['rows']} x {one['cols']}: {tiles}, {one['cells_used']} cells"
    return text + (f", {one['padding_columns']} columns of padding" if one["padding_columns"] else "")


def _cost_line(cost: Cost) -> str:
    scaled = ", scaled up" if cost.scaled else ""
    return (
        f"{cost.pulses} pulses ({cost.sets} SET, {cost.resets} RESET), at most {cost.energy_j:.3g} J, "
        f"{duration(cost.seconds)}{scaled}"
    )


def _inference_energy(network: IntegerNetwork, plan: Plan) -> dict[str, Any]:
    """Energy of one inference with XNOR in the sense amplifiers, or a note on why there is no account of it."""
    from data.energy_files import packaged_circuits
    from models.accounts import Item
    from models.energy import InputWords, System, inference_energy

    circuits = packaged_circuits()
    system = System(words=InputWords.SERIAL, tile_rows=plan.array.rows, tile_columns=plan.array.cols)
    try:
        found = inference_energy(network, circuits.energy, system)
    except UserMistake as mistake:
        return {"total_j": None, "on_chip_j": None, "circuits": circuits.name, "note": str(mistake)}
    return {"total_j": found.total, "on_chip_j": found.without(Item.OFF_CHIP).total, "circuits": circuits.name}


def _error_map_lines(known: ErrorMap, before: Harm, after: Harm) -> list[tuple[str, str]]:
    about = known.summary()
    counts = ", ".join(f"{count} read {value}" for value, count in about["stuck"].items() if count)
    stuck = sum(about["stuck"].values())
    untried = f", {about['never_tried']} never tried" if about["never_tried"] else ""
    return [
        ("stuck cells", f"{stuck} of {about['cells']}{f' ({counts})' if stuck else ''}{untried}"),
        ("weights on stuck cells that read another", f"{after.wrong} (as it comes: {before.wrong})"),
        ("expected wrong weights on other cells", f"{after.weak:.3g} (as it comes: {before.weak:.3g})"),
    ]
