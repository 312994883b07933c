"""The commands ``network``: import, export and show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import JsonOption, NetworkArgument
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from data.energy_files import Circuits
    from models.integer import IntegerNetwork

network_app = typer.Typer(
    help="Networks from and to other programs, and what they cost.", no_args_is_help=True, rich_markup_mode=None
)

ONNX_SUFFIX = ".onnx"


@network_app.command("import")
def import_command(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="State dict (.pt, .safetensors), ONNX or QONNX file (.onnx).")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Network file to write.")] = Path(
        "network.safetensors"
    ),
    plan: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="Encoding and layers (.json), see docs/interchange.md.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import a binary or ternary network of your own; nothing is unpickled."""
    from bench.console import Reporter
    from data.networks import save_network
    from models.interchange import import_state_dict, load_map
    from models.onnx_import import import_onnx

    given = None if plan is None else load_map(plan)
    if path.suffix == ONNX_SUFFIX:
        imported = import_onnx(path, given)
    elif given is None:
        raise UserMistake(f"{path}: a state dict does not say how its layers follow each other; give --map FILE")
    else:
        imported = import_state_dict(path, given)
    network = imported.network
    save_network(out, network, {"imported_from": path.name, "map": given, "notes": list(imported.notes)})
    reporter = Reporter(as_json)
    for note in imported.notes:
        reporter.note(note)
    values = {"network": network.name, "network_file": str(out), "notes": list(imported.notes), **_described(network)}
    reporter.result(values, [*_layer_lines(network), ("network file", str(out))], network.name)


@network_app.command("export")
def export_command(
    network_file: NetworkArgument,
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="ONNX file to write, in standard operators.")],
    as_json: JsonOption = False,
) -> None:
    """Export a network file of ours to ONNX."""
    from bench.console import Reporter
    from data.atomic import write_atomically
    from data.networks import load_network
    from models.onnx_export import export_onnx

    network = load_network(network_file).network
    content = export_onnx(network)
    write_atomically(onnx, content, "ONNX file")
    values = {"network": network.name, "onnx_file": str(onnx), "bytes": len(content)}
    Reporter(as_json).result(values, [("ONNX file", f"{onnx} ({len(content)} bytes)")], network.name)


@network_app.command("show")
def show_command(
    network_file: NetworkArgument,
    circuits: Annotated[
        str, typer.Option("--circuits", metavar="NAME", help="Energies and areas: a packaged name, or a TOML file.")
    ] = "hfo2_130nm",
    as_json: JsonOption = False,
) -> None:
    """Show the layers of a network file, and its energy and area in several designs."""
    from bench.console import Reporter
    from data.energy_files import load_circuits, packaged_circuits
    from data.networks import load_network

    file = load_network(network_file)
    figures = load_circuits(circuits) if circuits.endswith(".toml") else packaged_circuits(circuits)
    costs = _costs(file.network, figures)
    lines = [*_layer_lines(file.network), *((name, text) for name, text, _ in costs)]
    values = {
        "network": file.network.name,
        **_described(file.network),
        "circuits": figures.name,
        "costs": {name: plain for name, _, plain in costs},
        "provenance": file.provenance,
    }
    Reporter(as_json).result(values, lines, f"{file.network.name}, circuits of {figures.name}")


def _described(network: IntegerNetwork) -> dict[str, Any]:
    """Layers and inputs as plain data."""
    import numpy as np

    return {
        "classes": network.classes,
        "encoding": network.encoding.kind,
        "features": network.encoding.features,
        "layers": [
            {
                "kind": layer.kind,
                "inputs": layer.inputs,
                "outputs": layer.outputs,
                "matrix": list(layer.weights.shape),
                "zero_weights": int(layer.weights.size - np.count_nonzero(layer.weights)),
            }
            for layer in network.layers
        ],
    }


def _layer_lines(network: IntegerNetwork) -> list[tuple[str, str]]:
    about = _described(network)
    lines = [("inputs", f"{about['features']} features, encoding {about['encoding']}")]
    for number, layer in enumerate(about["layers"], start=1):
        rows, columns = layer["matrix"]
        kind = f"{layer['zero_weights']} zero weights" if layer["zero_weights"] else "binary weights"
        lines.append(
            (
                f"layer {number}, {layer['kind']}",
                f"{layer['inputs']} to {layer['outputs']}, matrix {rows} x {columns}, {kind}",
            )
        )
    return lines


def _costs(network: IntegerNetwork, figures: Circuits) -> list[tuple[str, str, dict[str, float]]]:
    """Name, line for people and plain numbers of each design, then of programming."""
    from data.programming_conditions import default_conditions
    from models.accounts import Item
    from models.area import chip_area
    from models.energy import Design, System, inference_energy, programming_energy

    costs = []
    for design in Design:
        energy = inference_energy(network, figures.energy, System(design))
        area = chip_area(network, figures.area, System(design))
        on_chip = energy.without(Item.OFF_CHIP).total
        plain = {
            "inference_j": energy.total,
            "inference_on_chip_j": on_chip,
            "area_um2": area.total,
            **{f"{item}_j": value for item, value in energy.by_item().items()},
        }
        text = f"{energy.total:.3g} J per inference, {on_chip:.3g} J of it on the chip; {area.total / 1e6:.3g} mm2"
        costs.append((str(design), text, plain))
    for name, condition in default_conditions().conditions.items():
        total = programming_energy(network, condition, System()).total
        costs.append((f"programming 2T2R, {name}", f"{total:.3g} J once", {"programming_j": total}))
    return costs
