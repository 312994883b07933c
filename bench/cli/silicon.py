"""Commands that put networks on silicon: map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

ARRAY = Geometry(32, 32)


@dataclass(frozen=True)
class MapOptions:
    """A plan as it was asked for.

    Attributes:
        benches: bench files, or "simulated": one for each chip; none for a kilobit chip on a usual bench.
        rows, cols: of the array; None for those of the bench, else of the error map, else of a kilobit chip.
        runs: run files that the error map is made from; none for a plan that suits any chip.
        out, picture: files to write, or None.
    """

    benches: tuple[str, ...]
    rows: int | None
    cols: int | None
    runs: tuple[Path, ...]
    out: Path | None
    picture: Path | None


def map_command(path: Path, wanted: MapOptions, as_json: bool) -> None:
    """Lay a network on an array, or on those of several chips, and say what it takes; nothing is opened or moves."""
    from data.atomic import check_writable
    from data.networks import load_network

    network = load_network(path).network
    for target, what in ((wanted.out, "plan"), (wanted.picture, "picture")):
        if target is not None:
            check_writable(target, what)
    (_map_on_one if len(wanted.benches) < 2 else _map_on_several)(network, wanted, Reporter(as_json))


def _map_on_one(network: IntegerNetwork, wanted: MapOptions, reporter: Reporter) -> None:
    from bench.error_map import error_map
    from bench.plan_facts import work_out
    from bench.plan_files import save_plan
    from bench.plan_pictures import plan_picture
    from data.runs import open_run

    known = error_map([open_run(run) for run in wanted.runs]) if wanted.runs else None
    config = _config(wanted, known)
    if known is not None:
        known.check(config.geometry, config.chip.id)
    facts = work_out(network, config, known)
    plan, costs, harms, inference = facts.plan, facts.costs, facts.harms, facts.inference
    if wanted.out is not None:
        save_plan(wanted.out, plan)
    if wanted.picture is not None:
        plan_picture(plan, network, wanted.picture, None if known is None else {known.chip_id: known})
    values = {
        **plan.summary(),
        "network_sha256": plan.network_sha256,
        "bench": config.name,
        "layers": _layers(network, [plan]),
        "programming": _plain(costs),
        "inference_energy": inference,
        **_known(known, harms),
        **_written(wanted),
    }
    lines = [
        ("array", "{} x {} cells of {}".format(*plan.array, plan.chip_id or "any chip")),
        ("tiles", str(len(plan.tiles))),
        *((f"  layer {one['layer']}", _layer_line(one)) for one in values["layers"]),
        ("cells used", str(plan.used)),
        ("cells left unused", str(plan.wasted)),
        *_cost_lines(costs),
        ("operating points and pace of", config.name),
        ("energy of one inference, on the chip", _energy_line(inference)),
        *([] if known is None or harms is None else _error_map_lines(known, *harms)),
        *_file_lines(values),
    ]
    reporter.result(values, lines, plan.network)


def _map_on_several(network: IntegerNetwork, wanted: MapOptions, reporter: Reporter) -> None:
    from bench.placement import harm
    from bench.plan_facts import inference_account, programming_costs
    from bench.plan_files import save_shared_plan
    from bench.plan_pictures import plan_picture
    from bench.programming import cost_together, ordered
    from bench.several_chips import SharedPlan, plan_on_chips
    from bench.source import bench_config

    if wanted.rows is not None or wanted.cols is not None:
        raise UserMistake("--rows and --cols are of one array; with several chips each bench file has its own")
    configs = [bench_config(bench) for bench in wanted.benches]
    arrays = [config.geometry for config in configs]
    known = error_maps(wanted.runs, [config.chip.id for config in configs])
    for config, one in zip(configs, known, strict=True):
        if one is not None:
            one.check(config.geometry, config.chip.id)
    plain = plan_on_chips(network, arrays)
    placed = plan_on_chips(network, arrays, known)
    plan = SharedPlan(tuple(ordered(part, network) for part in placed.parts))
    costs = [programming_costs(part, network, config) for part, config in zip(plan.parts, configs, strict=True)]
    in_all = {kind: cost_together([each[kind] for each in costs]) for kind in costs[0]}
    if wanted.out is not None:
        save_shared_plan(wanted.out, plan)
    if wanted.picture is not None:
        plan_picture(plan, network, wanted.picture, {one.chip_id: one for one in known if one is not None})
    chips, lines = [], []
    for number, (config, part, before, one, cost) in enumerate(
        zip(configs, plan.parts, plain.parts, known, costs, strict=True), start=1
    ):
        harms = None if one is None else (harm(before, network, one), harm(part, network, one))
        about = part.summary()
        del about["network"]
        chips.append({"bench": config.name, **about, **_known(one, harms), "programming": _plain(cost)})
        tiles = ", ".join(str(len(part.of_layer(index))) for index in range(len(network.layers)))
        array = "{} x {}".format(*part.array)
        lines += [
            (f"chip {number}", f"{part.chip_id or 'any'}, {array} cells, bench: {config.name}"),
            ("  tiles", f"{len(part.tiles)} (layer by layer: {tiles})"),
            ("  cells used, left unused", f"{part.used}, {part.wasted}"),
            *((f"  {name}", text) for name, text in _cost_lines(cost)),
            *([] if one is None or harms is None else _error_map_lines(one, *harms)),
        ]
    inference: dict[str, Any] = {"on_chip_j": None, "note": "no account of arrays that differ in size"}
    if len(set(arrays)) == 1:
        inference = inference_account(network, arrays[0])
    values = {
        "network": plan.network,
        "network_sha256": network.sha256,
        "chips": chips,
        "tiles": plan.tiles,
        **{name: sum(chip[name] for chip in chips) for name in ("cells_used", "cells_wasted", "programming_pulses")},
        "layers": _layers(network, plan.parts),
        "programming": _plain(in_all),
        "inference_energy": inference,
        **_written(wanted),
    }
    lines += [
        ("all chips: tiles", str(plan.tiles)),
        *((f"  layer {one['layer']}", _layer_line(one)) for one in values["layers"]),
        ("  cells used, left unused", f"{values['cells_used']}, {values['cells_wasted']}"),
        *((f"  {name}", text) for name, text in _cost_lines(in_all)),
        ("energy of one inference, on the chips", _energy_line(inference)),
        *_file_lines(values),
    ]
    reporter.result(values, lines, plan.network)


def error_maps(runs: Sequence[Path], ids: Sequence[str | None]) -> list[ErrorMap | None]:
    """What runs say of each chip that a bench file names; they are matched by these names."""
    from bench.error_map import error_map, runs_of_chips
    from data.runs import open_run

    of_chips = runs_of_chips(runs, ids, "the bench files name", "; each names its chip as id in [chip]")
    return [error_map([open_run(path) for path in own]) if own else None for own in of_chips]


def _config(wanted: MapOptions, known: ErrorMap | None) -> BenchFile:
    """The bench file that counts, with the array that was asked for."""
    from bench.plan_facts import usual_bench
    from bench.source import bench_config

    if wanted.benches:
        config = bench_config(wanted.benches[0])
        array = config.geometry
    else:
        config = usual_bench()
        array = ARRAY if known is None else known.geometry
    rows = array.rows if wanted.rows is None else wanted.rows
    cols = array.cols if wanted.cols is None else wanted.cols
    return config.model_copy(update={"chip": config.chip.model_copy(update={"rows": rows, "cols": cols})})


def _layers(network: IntegerNetwork, parts: Sequence[Plan]) -> list[dict[str, Any]]:
    layers = []
    for index, layer in enumerate(network.layers):
        tiles = [tile for part in parts for _, tile in part.of_layer(index)]
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


def _plain(costs: Mapping[str, Cost]) -> dict[str, Any]:
    return {kind: cost.as_plain() for kind, cost in costs.items()}


def _known(known: ErrorMap | None, harms: tuple[Harm, Harm] | None) -> dict[str, Any]:
    """What is known of the cells of a chip, and what they do as the weights come and as they are placed."""
    return {
        "error_map": None if known is None else known.summary(),
        "harm": None if harms is None else {"as_it_comes": vars(harms[0]), "placed": vars(harms[1])},
    }


def _written(wanted: MapOptions) -> dict[str, str | None]:
    files = {"plan_file": wanted.out, "picture": wanted.picture}
    return {name: None if path is None else str(path) for name, path in files.items()}


def _file_lines(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, values[key]) for name, key in (("plan", "plan_file"), ("picture", "picture")) if values[key]]


def _cost_lines(costs: Mapping[str, Cost]) -> list[tuple[str, str]]:
    return [
        ("programming, every cell pulsed", _cost_line(costs["every_cell"])),
        ("programming, changed cells only", _cost_line(costs["changed_cells"])),
    ]


def _cost_line(cost: Cost) -> str:
    scaled = ", scaled up" if cost.scaled else ""
    return (
        f"{cost.pulses} pulses ({cost.sets} SET, {cost.resets} RESET), at most {cost.energy_j:.3g} J, "
        f"{duration(cost.seconds)}{scaled}"
    )


def _energy_line(inference: Mapping[str, Any]) -> str:
    return inference.get("note") or f"{inference['on_chip_j']:.3g} J"


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
