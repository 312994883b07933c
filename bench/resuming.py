"""Going on with a run that ended early: which cells are left, and whether it is the same experiment."""

from __future__ import annotations

import json

import numpy as np

from bench.procedure import CellMask, Parameters, Procedure
from bench.run_facts import flat
from bench.session import Bench
from bench.source import points_json
from data.runs import Run, RunStatus
from models.exceptions import UserMistake

_DIGESTS = {"network_sha256": "another network", "data_sha256": "other samples", "plan_sha256": "another plan"}


def remaining_cells(run: Run) -> CellMask:
    """The cells that a run was to work on and did not finish, ``(rows, cols)``.

    Raises:
        UserMistake: it finished all of them.
    """
    selected = run.read("selection", ["cells"])["cells"].astype(bool)
    if not len(selected):
        raise UserMistake(f"{run.path} ended before it began; start the procedure anew")
    done = run.read("cells_done", ["cells"])["cells"].astype(bool).any(axis=0)
    remaining: CellMask = np.asarray(selected[0] & ~done)
    if not remaining.any():
        raise UserMistake(f"{run.path} has finished all its cells; there is nothing to resume")
    return remaining


def check_same(run: Run, procedure: Procedure, parameters: Parameters, bench: Bench) -> None:
    """Refuse to go on with another experiment than the one that ended.

    Raises:
        UserMistake: the run is completed or still going on, or procedure, parameters, chip or operating points differ,
            or what the procedure works with beside them (a network, the file of a user's own procedure).
    """
    if run.status in (RunStatus.COMPLETED, RunStatus.RUNNING):
        raise UserMistake(f"{run.path} is {run.status}; only a run that ended early is resumed")
    wanted = {"procedure": procedure.name, "chip_id": bench.chip.chip_id, **procedure.about}
    for key, value in wanted.items():
        if (found := run.attributes.get(key)) == value:
            continue
        if key in _DIGESTS:
            raise UserMistake(f"{run.path} was made with {_DIGESTS[key]}; resume it with the same")
        raise UserMistake(f"{run.path} has {key} {found}, not {value}; it cannot be resumed here")
    had, asked = json.loads(str(run.attributes["parameters"])), json.loads(parameters.model_dump_json())
    for name in {**had, **asked}:
        if had.get(name) != asked.get(name):
            raise UserMistake(
                f"{run.path} was made with other parameters: {name} = {had.get(name)}, not {asked.get(name)}; give the "
                "same, or leave out what sets it"
            )
    recorded = run.attributes.get("operating_points")
    if recorded is None:
        return
    was, now = (flat(json.loads(str(text))) for text in (recorded, points_json(bench.config.operating_points)))
    for key in {**was, **now}:
        if was.get(key) != now.get(key):
            raise UserMistake(
                f"{run.path} was made at {key} = {was.get(key)}, not {now.get(key)}; give --at {key}={was.get(key)}, "
                "or correct the bench file"
            )
