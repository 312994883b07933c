"""The commands ``infer``, ``confirm`` and ``predict`` over several chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.attribution import CAUSES
from bench.console import Reporter
from bench.figures.records import plural
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.cli.confirming import Inferring, ToConfirm
    from bench.cli.loop import Examples
    from bench.cli.on_bench import OnBench


def infer_together_command(
    path: Path, examples: Examples, on: Sequence[OnBench], wanted: Inferring, as_json: bool
) -> None:
    """Infer a test set on several chips at the same time."""
    from bench.cli.confirming import inferred_lines, parameters_for
    from bench.cli.on_bench import open_together
    from bench.inference import InferenceParameters, inference_procedure, inference_task
    from bench.inference_together import together
    from bench.plan_files import load_shared_plan
    from data.networks import load_network
    from data.runs import open_run

    if wanted.sweep:
        raise UserMistake("--sweep takes one chip; give one --bench")
    network = load_network(path).network
    data = examples.load_for(network)
    plan = None if wanted.plan is None else load_shared_plan(wanted.plan)
    if plan is not None:
        plan.check(network)
    task = inference_task(network, data.test_images, data.test_labels)
    earlier = [open_run(run) for run in wanted.resume]
    parameters = parameters_for(inference_procedure(task), wanted, earlier[0] if earlier else None)
    assert isinstance(parameters, InferenceParameters)
    reporter = Reporter(as_json)
    with open_together(on, reporter) as runs:
        inference = together(task, plan, parameters, runs, earlier)
        for each, bench in zip(runs, on, strict=True):
            if bench.fresh and not earlier:
                each.form()
        result = inference.infer(reporter)
    lines = inferred_lines(result)
    for chip in result["chips"]:
        failed = plural(chip["cells"]["failed"], "cell")
        lines += [_chip_line(chip, f"{failed} failed"), ("  run file", chip["run_file"])]
    reporter.result({"status": "completed", **result}, lines, f"{network.name} on {data.name}, {len(on)} chips")


def confirm_together_command(
    path: Path, examples: Examples, on: Sequence[OnBench], asked: ToConfirm, as_json: bool
) -> None:
    """Predict the accuracy on several chips, infer on all of them, and say whether it came out as predicted."""
    from bench.cli.confirming import confirmed_lines, parsed_modes
    from bench.cli.on_bench import open_together
    from bench.confirming import Wanted
    from bench.confirming_together import ConfirmingTogether
    from bench.plan_files import load_shared_plan
    from data.networks import load_network
    from models.prediction import InferenceMode

    network = load_network(path).network
    data = examples.load_for(network)
    modes = parsed_modes(asked.modes) or (InferenceMode.XNOR,)
    wanted = Wanted(network, data, modes, asked.error_map, placed=asked.placed)
    plan = None if asked.plan is None else load_shared_plan(asked.plan)
    if plan is not None:
        plan.check(network)
    reporter = Reporter(as_json)
    with open_together(on, reporter) as runs:
        result = ConfirmingTogether(runs, wanted, plan).confirm(reporter, [bench.fresh for bench in on])
    lines = confirmed_lines(result)
    for chip in result["chips"]:
        wrong = ", ".join(f"{chip['errors'][cause]} {cause}" for cause in CAUSES)
        text = f"{plural(chip['stuck_cells'], 'cell')} stuck; wrong weights: {wrong}"
        lines += [_chip_line(chip, text), ("  run file", chip["run_file"])]
    lines.append(("plan", result["plan_file"]))
    reporter.result(result, lines, f"{network.name} on {data.name}, {len(on)} chips")


def _chip_line(chip: Mapping[str, Any], text: str) -> tuple[str, str]:
    array = "{rows} x {cols}".format(**chip["array"])
    return f"chip {chip['chip_id']}", f"{array} cells, {plural(chip['tiles'], 'tile')}, {text}"
