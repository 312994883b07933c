"""What was done to the devices of a run, and what it makes of their resistances at a device file's reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.runs import Run
from models.device_model import DeviceModel
from models.devices.rram import compliance_a, hrs_median_ohm, lrs_median_ohm, reset_device_v
from models.exceptions import UserMistake


@dataclass(frozen=True)
class Conditions:
    """Rails and width under which a run did one kind of operation."""

    vddc_v: float
    vddr_v: float
    width_s: float


def flag_code(run: Run, table: str, column: str, name: str) -> int:
    """The code that a flag has in a column of a run file; UserMistake where it has none of that name."""
    found = run.tables[table].column(column).flags
    for code, flag in ({} if found is None else found).items():
        if flag == name:
            return code
    raise UserMistake(f"{run.path}: column {column} of table {table} knows no {name}")


def conditions_of(operations: Mapping[str, NDArray[Any]], run: Run, kind: str) -> Conditions:
    """The rails and width of all operations of one kind.

    Args:
        operations: columns ``kind``, ``vddc_v``, ``vddr_v`` and ``width_s`` of the table ``operations``.

    Raises:
        UserMistake: there are none of that kind, or they were done under several conditions.
    """
    chosen = operations["kind"] == flag_code(run, "operations", "kind", kind)
    names = ("vddc_v", "vddr_v", "width_s")
    values = np.unique(np.stack([operations[name][chosen] for name in names], axis=1), axis=0)
    if len(values) != 1:
        raise UserMistake(f"{run.path}: {kind} was done under {len(values)} conditions; a fit needs exactly one")
    return Conditions(*(float(value) for value in values[0]))


def lrs_to_reference(model: DeviceModel, at: Conditions) -> float:
    """Factor from the LRS median under a run's SET to that at the file's reference."""
    used, reference = (
        lrs_median_ohm(model.lrs, compliance_a(model.lrs, vddr)) for vddr in (at.vddr_v, model.lrs.vddr_ref_v)
    )
    return reference / used


def hrs_to_reference(model: DeviceModel, at: Conditions) -> float:
    """Factor from the HRS median under a run's RESET to that at the file's reference."""
    used_v = reset_device_v(model.hrs, at.vddc_v, at.vddr_v)
    return model.hrs.median_ohm / hrs_median_ohm(model.hrs, used_v, at.width_s)
