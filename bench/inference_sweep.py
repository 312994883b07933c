"""The same inference under other conditions: supply, sense window, programming rails, temperature, cycles."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import Field

from bench.inference import InferenceParameters, Task, infer
from bench.inference_tables import SAMPLES
from bench.procedure import CellMask, Procedure, Progress, Record, Steps, Wait
from bench.procedures.conditions import (
    CONDITIONS,
    Condition,
    OverConditions,
    condition_record,
    conditions,
    cycle_to,
    heat_to,
)
from bench.session import Bench
from data.run_chain import chain, read_parts
from data.runs import Column, Run, Table
from drivers.chip import Chip
from models.exceptions import UserMistake
from models.prediction import InferenceMode

SUMMARISED = 48
"""Conditions that the summary has room for; the run file has them all."""

ACCURACIES = Table(
    "accuracies",
    (
        Column("condition", "int32", description="index of the condition"),
        Column("samples", "int32", description="samples that were inferred"),
        *(Column(f"{mode.value}_right", "int32", description="samples right, -1: not run") for mode in InferenceMode),
        *(
            Column(f"{name}_errors", "int64", description="wrong weights after the verify, by cause")
            for name in ("stuck", "programming", "read")
        ),
    ),
    "what the network got right under each condition",
)

CONDITION_SAMPLES = Table(
    "condition_samples",
    (Column("condition", "int32", description="index of the condition"), *SAMPLES.columns),
    "what the network answered under each condition, sample by sample",
)


class SweepParameters(OverConditions, InferenceParameters):
    """Parameters of an inference over conditions."""

    modes: tuple[InferenceMode, ...] = Field(
        default=(InferenceMode.HOST,), min_length=1, description="host, sensed, xnor, or several"
    )


def sweep_procedure(task: Task) -> Procedure:
    """Inference of one network on one test set at each of several conditions, as a procedure for the runner.

    At each the network is programmed anew, at the rails of that condition.
    """

    def steps(chip: Chip, parameters: SweepParameters, cells: CellMask) -> Steps:
        return _sweep(chip, parameters, task, cells, {})

    def resume(chip: Chip, parameters: SweepParameters, cells: CellMask, earlier: Run) -> Steps:
        rows = read_parts(chain(earlier), "accuracies")
        done = {int(one): index for index, one in enumerate(rows["condition"])}
        return _sweep(
            chip,
            parameters,
            task,
            cells,
            {
                one: {name: int(column[index]) for name, column in rows.items() if column.dtype.kind == "i"}
                for one, index in done.items()
            },
        )

    return Procedure(
        "inference-sweep",
        "infer a test set under several conditions",
        SweepParameters,
        (CONDITIONS, ACCURACIES, CONDITION_SAMPLES),
        steps,
        resume=resume,
        about=task.about,
    )


def check_conditions(parameters: SweepParameters, bench: Bench) -> None:
    """Refuse conditions beyond the limits before anything is formed or programmed. Raises LimitError."""
    for celsius in parameters.temperature_c:
        bench.config.check_temperature(celsius)
    _checked(parameters, bench.chip)


def _checked(parameters: SweepParameters, chip: Chip) -> list[Condition]:
    """The conditions, all of whose rails and times are allowed."""
    listed = conditions(parameters, chip.points)
    for condition in listed:
        chip.at(condition.points(chip.points)).check(senses=True)
    return listed


def _sweep(
    chip: Chip, parameters: SweepParameters, task: Task, cells: CellMask, done: dict[int, dict[str, int]]
) -> Steps:
    if not cells.all():
        raise UserMistake("inference uses the whole array; leave the selection of cells at 'all'")
    plan = task.plan_for(chip)
    listed = _checked(parameters, chip)
    made = np.zeros(chip.no_devices().shape, dtype=np.int64)
    made += max((listed[index].cycles for index in done), default=0)
    settings = InferenceParameters(**parameters.model_dump(include=set(InferenceParameters.model_fields)))
    here: float | None = None
    rows: list[dict[str, Any]] = []
    for index, condition in enumerate(listed):
        if index in done:
            rows.append(_facts(condition, done[index]))
            continue
        view = chip.at(condition.points(chip.points))
        yield from cycle_to(chip, ~chip.no_devices(), made, condition.cycles)
        here, measured_c = yield from heat_to(condition.temperature_c, here)
        yield condition_record(index, view.points, condition, measured_c, condition.cycles)
        inference = infer(view, settings, task, plan)
        answer = None
        while True:
            try:
                step = inference.send(answer)
            except StopIteration as end:
                result = end.value
                break
            answer = None
            if isinstance(step, Wait):
                answer = yield step
            elif isinstance(step, Progress):
                text = f"condition {index + 1} of {len(listed)}: {step.text}"
                yield Progress(index * step.total + step.done, len(listed) * step.total, text, step.live)
            elif isinstance(step, Record) and step.table == "samples":
                count = len(task.labels)
                yield Record("condition_samples", {"condition": np.full(count, index), **step.values}, many=True)
        row = _row(index, task, result)
        yield Record("accuracies", row)
        rows.append(_facts(condition, row))
    yield Progress(len(listed), len(listed), f"{len(listed)} conditions")
    software = float((task.software == task.labels).mean())
    return {
        "samples": len(task.labels),
        "software_accuracy": software,
        "conditions": rows[:SUMMARISED],
        "conditions_not_listed": max(0, len(rows) - SUMMARISED),
    }


def _row(index: int, task: Task, result: dict[str, Any]) -> dict[str, int]:
    count, accuracy = len(task.labels), result["accuracy"]
    right = {
        f"{mode.value}_right": round(accuracy[mode.value] * count) if mode.value in accuracy else -1
        for mode in InferenceMode
    }
    errors = {f"{name}_errors": int(result["errors"][name]) for name in ("stuck", "programming", "read")}
    return {"condition": index, "samples": count, **right, **errors}


def _facts(condition: Condition, row: dict[str, int]) -> dict[str, Any]:
    """One condition with its accuracies, as plain data."""
    accuracy = {
        mode.value: row[f"{mode.value}_right"] / row["samples"]
        for mode in InferenceMode
        if row[f"{mode.value}_right"] >= 0
    }
    errors = {name: row[f"{name}_errors"] for name in ("stuck", "programming", "read")}
    return {**asdict(condition), "accuracy": accuracy, "errors": errors}
