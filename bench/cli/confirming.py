"""Commands that infer on silicon: infer, also over conditions, and confirm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console import Reporter
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.cli.loop import Examples
    from bench.cli.on_bench import OnBench
    from bench.mapping import Plan
    from bench.procedure import Parameters, Procedure
    from data.runs import Run
    from models.prediction import InferenceMode

BOTH = "both"


@dataclass(frozen=True)
class Inferring:
    """What is to be inferred.

    Attributes:
        modes: ways of inferring, by name; "both" stands for host and xnor. None for both, or for those of the run that
            is gone on with.
        plan: plan file, or None.
        settings: further parameters.
        sweep: over the conditions that the settings list.
        resume: run files that ended early: one for each chip, or none.
    """

    modes: tuple[str, ...]
    plan: Path | None
    settings: Mapping[str, str]
    sweep: bool
    resume: tuple[Path, ...]


def infer_command(path: Path, examples: Examples, on: OnBench, wanted: Inferring, as_json: bool) -> None:
    """Infer a test set on silicon."""
    from bench.inference import inference_procedure, inference_task
    from bench.inference_sweep import SweepParameters, check_conditions, sweep_procedure
    from data.networks import load_network
    from data.runs import open_run

    network, plan = load_network(path).network, _plan(wanted.plan)
    data = examples.load_for(network)
    task = inference_task(network, data.test_images, data.test_labels, plan)
    procedure = sweep_procedure(task) if wanted.sweep else inference_procedure(task)
    if len(wanted.resume) > 1:
        raise UserMistake("--resume is given more than once; name one run, the last, for each --bench")
    earlier = open_run(wanted.resume[0]) if wanted.resume else None
    parameters = parameters_for(procedure, wanted, earlier)
    reporter = Reporter(as_json)
    with on.open(reporter) as runs:
        task.plan_for(runs.bench.chip)
        if isinstance(parameters, SweepParameters):
            check_conditions(parameters, runs.bench)
        if on.fresh and earlier is None:
            runs.form()
        outcome = runs.run("programming tiles and inferring on silicon", procedure, parameters, earlier)
        reporter.done(f"{outcome.records} records")
    values = {"status": outcome.status, "run_file": str(outcome.run_file), **outcome.result}
    table = _swept(outcome.result) if wanted.sweep else inferred_lines(outcome.result)
    reporter.result(values, [*table, ("run file", str(outcome.run_file))], f"{network.name} on {data.name}")


def parameters_for(procedure: Procedure, wanted: Inferring, earlier: Run | None) -> Parameters:
    """What is asked for; where nothing is, the parameters of the run that is gone on with.

    Raises:
        UserMistake: a parameter that is none, or a run of another procedure.
    """
    if earlier is not None and earlier.procedure != procedure.name:
        raise UserMistake(f"{earlier.path} is a run of {earlier.procedure}, not of {procedure.name}; resume it as that")
    if earlier is not None and not wanted.modes and not wanted.settings:
        return procedure.parse(json.loads(str(earlier.attributes["parameters"])))
    # a sweep has a default of its own
    modes = parsed_modes(wanted.modes or (() if wanted.sweep else (BOTH,)))
    return procedure.parse({**wanted.settings, **({"modes": [mode.value for mode in modes]} if modes else {})})


@dataclass(frozen=True)
class ToConfirm:
    """What is to be confirmed, as it was asked for.

    Attributes:
        modes: as of :class:`Inferring`; the first is judged.
        plan: plan file, or None.
        error_map: runs that characterised this chip before; none to have it done now.
        placed: place weights where stuck and weak cells do least harm.
    """

    modes: tuple[str, ...]
    plan: Path | None
    error_map: tuple[Path, ...]
    placed: bool


def confirm_command(path: Path, examples: Examples, on: OnBench, asked: ToConfirm, as_json: bool) -> None:
    """Predict the accuracy on silicon, infer, and say whether it came out as predicted."""
    from bench.confirming import Confirming, Wanted
    from data.networks import load_network
    from models.prediction import InferenceMode

    network = load_network(path).network
    data = examples.load_for(network)
    modes = parsed_modes(asked.modes) or (InferenceMode.XNOR,)
    wanted = Wanted(network, data, modes, asked.error_map, _plan(asked.plan), asked.placed)
    reporter = Reporter(as_json)
    with on.open(reporter) as runs:
        result = Confirming(runs, wanted).confirm(on.fresh)
    lines = [*confirmed_lines(result), ("plan", result["plan_file"]), ("run file", result["run_file"])]
    reporter.result(result, lines, f"{network.name} on {data.name}, chip {result['chip_id']}")


def confirmed_lines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What came of a confirmation, as lines of a table for a person."""
    from bench.attribution import CAUSES, TYPES, cause_lines

    lines = [("accuracy in software", f"{result['software_accuracy']:.2%}")]
    for mode, facts in result["modes"].items():
        predicted = facts["predicted"]
        span = f"{predicted['mean']:.2%} (95 %: {predicted['low']:.2%} to {predicted['high']:.2%})"
        lines.append((f"predicted, {mode}", span))
        verdict = "inside" if facts["inside"] else "OUTSIDE"
        lines.append((f"measured, {mode}", f"{facts['measured']:.2%}, {verdict}"))
    errors = result["errors"]
    return [
        *lines,
        ("stuck cells", str(result["stuck_cells"])),
        ("wrong weights, by cause", ", ".join(f"{errors[name]} {name}" for name in CAUSES)),
        ("by type", ", ".join(f"{errors[name]} of {name}" for name in TYPES)),
        *cause_lines(result["layers"]),
    ]


def parsed_modes(names: tuple[str, ...]) -> tuple[InferenceMode, ...]:
    """Ways of inferring by name, each once. Raises UserMistake for another name."""
    from models.prediction import InferenceMode

    found: list[InferenceMode] = []
    for name in names:
        if name == BOTH:
            found += [InferenceMode.HOST, InferenceMode.XNOR]
        elif name in tuple(InferenceMode):
            found.append(InferenceMode(name))
        else:
            raise UserMistake(f"--mode {name!r}: allowed are {', '.join(InferenceMode)} and {BOTH}")
    return tuple(dict.fromkeys(found))


def _plan(path: Path | None) -> Plan | None:
    from bench.plan_files import load_plan

    return None if path is None else load_plan(path)


def inferred_lines(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What came of an inference, as lines of a table for a person."""
    errors = result["bit_errors"]
    return [
        ("samples", str(result["samples"])),
        ("accuracy in software", f"{result['software_accuracy']:.2%}"),
        *((f"accuracy on silicon, {name}", f"{value:.2%}") for name, value in result["accuracy"].items()),
        ("cells programmed, verified, failed", " / ".join(str(value) for value in result["cells"].values())),
        ("bit errors", f"{errors['raw']} after the first pass, {errors['after_verify']} after verify"),
    ]


def _swept(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """One line for each condition, with what differs between them."""
    rows = result["conditions"]
    varied = [name for name in rows[0] if name not in ("accuracy", "errors") and len({row[name] for row in rows}) > 1]
    lines = [("accuracy in software", f"{result['software_accuracy']:.2%}")]
    for row in rows:
        at = ", ".join(f"{name} {row[name]:g}" for name in varied) or "as the bench file says"
        accuracies = ", ".join(f"{mode} {value:.2%}" for mode, value in row["accuracy"].items())
        lines.append((at, f"{accuracies}; wrong weights {sum(row['errors'].values())}"))
    return lines


__all__ = ["BOTH", "Inferring", "ToConfirm", "confirm_command", "confirmed_lines", "infer_command", "inferred_lines"]
