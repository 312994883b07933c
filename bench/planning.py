"""The dry run: a procedure taken through its steps on instruments that touch nothing, before anything moves.

It meets the same limits as the run itself, so that what would be refused in the middle is refused now, and what it
would take is counted. How an array behaves is not known in advance: the procedure is tried on one that obeys, on one
that must be formed first, and on one that never obeys, and every figure is a range.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from bench.config import BenchFile
from bench.dry_instruments import DryWorld, dry_chip
from bench.plan_figures import Plan, Range
from bench.procedure import (
    CELLS_DONE,
    OPERATIONS,
    SELECTION,
    CellMask,
    CellsDone,
    Parameters,
    Procedure,
    Progress,
    ReadClock,
    ReadTemperature,
    Record,
    SetTemperature,
    Step,
    Steps,
    Wait,
)
from data.device_files import load_device
from data.run_schema import Table
from data.runs import Run
from drivers.chip import Chip, Operation, OperationKind
from drivers.errors import LimitError
from drivers.rails import SupplyRails
from drivers.temperature_role import TemperatureReading
from models.cells import Polarity
from models.device_model import DeviceModel
from models.devices.energy import pulse_energy_j
from models.exceptions import BenchFailure, RramBenchError, UserMistake

MOST_EVENTS = 150_000
"""Exchanges and steps after which a dry pass ends: what runs for days, or for ever, is not counted to its end."""

FEW_CELLS = 2
"""So many cells are tried once more, for their limits alone, where all of them take too long."""

SHOWN_FRACTION = 0.001
"""Least share of a run that must have been tried for the rest to be scaled up from it."""

LEAST = "the procedure is longer than a dry run follows it, or endless: the figures are the least it takes"
SCALED = "the procedure is longer than a dry run follows it: the rest is scaled up from its beginning"

DEGREES_PER_S = 0.5
"""How fast a temperature source is taken to move the chip, in degC/s."""

ROOM_C = 25.0
COUNTED = ("pulses", "senses", "readings", "rail_moves", "records", "bytes")
PULSED = {
    OperationKind.FORM: Polarity.SET,
    OperationKind.SET: Polarity.SET,
    OperationKind.RESET: Polarity.RESET,
    OperationKind.WEAK_RESET: Polarity.RESET,
}
DEVICE = "hfo2_130nm"
"""Device file whose populations the energies are reckoned with."""

FIXED_TABLES = (OPERATIONS, SELECTION, CELLS_DONE)
_INDEX_AND_TIME_BYTES = 16


class PlanFailed(BenchFailure):
    """The dry run of a procedure broke down for a reason of its own; nothing is known about the real run."""


def plan(
    procedure: Procedure,
    parameters: Parameters,
    config: BenchFile,
    cells: CellMask | None = None,
    budget_s: float | None = None,
    resume: Run | None = None,
) -> Plan:
    """Try a procedure on dry instruments. Nothing is opened.

    Args:
        config: the bench file, at the operating points of the run.
        cells: ``(rows, cols)`` bool; all by default.
        budget_s: longest time to spend on it; what is longer is scaled up. None counts up to :data:`MOST_EVENTS`.
        resume: the earlier run that this one would go on with.

    Raises:
        UserMistake: what the run would be refused for, with the limit; nothing has moved.
        PlanFailed: the procedure broke down on the dry instruments.
    """
    selected = np.ones(config.geometry, dtype=bool) if cells is None else cells
    each_s = None if budget_s is None else budget_s / len(_BEHAVIOURS)
    passes = [
        _Pass(procedure, config, obeys, virgin, each_s).run(parameters, selected, resume)
        for obeys, virgin in _BEHAVIOURS
    ]
    kinds = sorted({kind for one in passes for kind in one.kinds})
    cut = [one.note for one in passes if one.note]
    if cut:
        # What was not reached on all cells may be reached on a few: their limits are the same.
        _Pass(procedure, config, True, False, each_s, lenient=True).run(parameters, _first(selected, FEW_CELLS), resume)
    return Plan(
        procedure.name,
        int(selected.sum()),
        **{name: _range(one.totals[name] for one in passes) for name in Plan.FIGURES},
        kinds={kind.name: _range(one.kinds[kind] for one in passes) for kind in kinds},
        highest_v={rail: max(one.highest[rail] for one in passes) for rail in passes[0].highest},
        complete=not cut,
        notes=tuple(dict.fromkeys(cut)),
    )


_BEHAVIOURS = ((True, False), (True, True), (False, True))
"""(obeys, virgin): an array that obeys, one that must be formed first, and one that never obeys."""


class _Enough(Exception):  # no RramBenchError: no procedure may take it for one of its own
    """The dry pass has seen enough."""


@dataclass(frozen=True)
class _Outcome:
    """What one dry pass counted."""

    totals: dict[str, float]
    kinds: Counter[OperationKind]
    highest: dict[str, float]
    note: str


@dataclass
class _Tally:
    """Counts of a dry pass so far."""

    waiting_s: float = 0.0
    energy_j: float = 0.0
    records: int = 0
    bytes: int = 0
    events: int = 0
    kinds: Counter[OperationKind] = field(default_factory=Counter)


@dataclass
class _Series:
    """Progress that a procedure told of with one total: what was counted when it began, and when it last moved.

    Attributes:
        first, fraction: share of its steps that was done then, and is done now.
    """

    total: int
    first: float
    fraction: float
    base: dict[str, float]
    base_kinds: Counter[OperationKind]
    marked: dict[str, float]
    marked_kinds: Counter[OperationKind]


class _Pass:
    """One way through a procedure on dry instruments."""

    def __init__(
        self,
        procedure: Procedure,
        config: BenchFile,
        obeys: bool,
        virgin: bool,
        budget_s: float | None,
        lenient: bool | None = None,
    ) -> None:
        self._procedure, self._config = procedure, config
        self._world = DryWorld(config, obeys, virgin)
        self._lenient = not obeys if lenient is None else lenient
        self._celsius = ROOM_C
        self._deadline = None if budget_s is None else time.monotonic() + budget_s
        self._tally = _Tally()
        self._series: _Series | None = None
        sizes = {"row": config.chip.rows, "col": config.chip.cols, "device": 2}
        sizes |= {name: len(np.atleast_1d(_values(axis))) for name, axis in procedure.dimensions.items()}
        self._tables = {table.name: table for table in (*FIXED_TABLES, *procedure.tables)}
        self._row_bytes = {name: _row_bytes(table, sizes) for name, table in self._tables.items()}

    def run(self, parameters: Parameters, selected: CellMask, resume: Run | None) -> _Outcome:
        """Take the procedure through its steps. Errors as for :func:`plan`."""
        chip, rails = dry_chip(self._world)
        chip.gates.append(self._gate)
        chip.listeners.append(self._on_operation)
        self._world.spend(self._world.costs.run_s)
        self._store("selection", 1)
        cut = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit to what nobody measured is no news
            try:
                self._drive(_steps(self._procedure, chip, parameters, selected, resume), rails)
            except _Enough:
                cut = True
            except LimitError as error:
                raise self._refused(error) from None
            except RramBenchError as error:
                # Where no cell ever obeys, or hardly any is there, a procedure may rightly give up.
                if not self._lenient:
                    raise self._refused(error) from None
            except Exception as error:
                if not self._lenient:
                    kind = type(error).__name__
                    raise PlanFailed(f"{self._procedure.name}: the dry run ended with {kind}: {error}") from error
        rails.off()
        return self._outcome(cut)

    def _refused(self, error: RramBenchError) -> UserMistake:
        name, text = self._procedure.name, str(error)
        return UserMistake(text if text.startswith(f"{name}: ") else f"{name}: {text}")

    def _drive(self, steps: Steps, rails: SupplyRails) -> None:
        answer: object = None
        try:
            while True:
                self._gate()
                try:
                    step = steps.send(answer)
                except StopIteration:
                    return
                answer = self._carry_out(step, rails)
        finally:
            steps.close()

    def _carry_out(self, step: Step, rails: SupplyRails) -> object:
        match step:
            case Record():
                self._check_record(step)
                self._store(step.table, len(next(iter(step.values.values()))) if step.many else 1)
            case CellsDone():
                self._store("cells_done", 1)
            case Progress():
                self._mark(step)
            case Wait():
                rails.off()
                self._tally.waiting_s += step.seconds
                return step.seconds
            case ReadClock():
                return self._world.seconds + self._tally.waiting_s
            case SetTemperature():
                return self._set_temperature(step, rails)
            case ReadTemperature():
                return None if self._config.temperature is None else self._reading()
        return None

    def _set_temperature(self, step: SetTemperature, rails: SupplyRails) -> TemperatureReading:
        self._config.check_temperature(step.celsius)
        rails.off()
        self._tally.waiting_s += abs(step.celsius - self._celsius) / DEGREES_PER_S + step.soak_s
        self._celsius = step.celsius
        return self._reading()

    def _reading(self) -> TemperatureReading:
        return TemperatureReading(self._celsius, self._celsius, True)

    def _gate(self) -> None:
        self._tally.events += 1
        late = self._deadline is not None and time.monotonic() > self._deadline
        if late or self._tally.events > MOST_EVENTS:
            raise _Enough

    def _on_operation(self, operation: Operation) -> None:
        tally, kind = self._tally, operation.kind
        devices = int(np.count_nonzero(operation.devices))
        per_device = kind in (*PULSED, OperationKind.CYCLE, OperationKind.RESISTANCE)
        tally.kinds[kind] += operation.count * (devices if per_device else 1)
        for polarity, width_s in self._pulses(operation):
            _, vddc_v, vddr_v = operation.rails
            each_j = pulse_energy_j(_device_model(), polarity, vddc_v, vddr_v, width_s)
            tally.energy_j += each_j * operation.count * devices
        self._store("operations", 1)

    def _pulses(self, operation: Operation) -> list[tuple[Polarity, float]]:
        """Polarity and width of each pulse that one count of an operation gives to a device."""
        point = self._config.points.cycle
        if operation.kind is OperationKind.CYCLE and point is not None:
            return [(Polarity.SET, point.set_width_s), (Polarity.RESET, point.reset_width_s)]
        polarity = PULSED.get(operation.kind)
        return [] if polarity is None else [(polarity, operation.width_s)]

    def _check_record(self, record: Record) -> None:
        """What the run file would refuse."""
        table = self._tables.get(record.table)
        if table is None:
            raise UserMistake(f"a record is for table {record.table!r}, and there are {', '.join(self._tables)}")
        columns = {column.name for column in table.columns}
        if wrong := columns.symmetric_difference(record.values):
            raise UserMistake(
                f"a record of table {record.table!r} lacks, or should not have, {', '.join(sorted(wrong))}"
            )

    def _store(self, table: str, rows: int) -> None:
        costs, size = self._world.costs, self._row_bytes[table] * rows
        self._tally.records += rows
        self._tally.bytes += size
        self._world.spend(costs.record_s + size * costs.flush_byte_s)

    def _mark(self, step: Progress) -> None:
        """Remember what was counted when the procedure last said how far it is, to scale the rest from there.

        Preparations count for themselves: when the steps begin anew, what came before is not scaled.
        """
        fraction = step.done / step.total if step.total > 0 else 0.0
        series = self._series
        if series is None or step.total != series.total or fraction < series.fraction:
            here = self._totals(), self._tally.kinds.copy()
            self._series = _Series(step.total, fraction, fraction, *here, *here)
        elif fraction > series.fraction:
            series.fraction = fraction
            series.marked, series.marked_kinds = self._totals(), self._tally.kinds.copy()

    def _totals(self) -> dict[str, float]:
        tally, kinds = self._tally, self._tally.kinds
        # A simulated bench lets its own clock run on while it waits.
        waits_s = 0.0 if self._config.simulated else tally.waiting_s
        return {
            "seconds": self._world.seconds + waits_s,
            "waiting_s": tally.waiting_s,
            "pulses": sum(kinds[kind] for kind in PULSED) + 2 * kinds[OperationKind.CYCLE],
            "senses": kinds[OperationKind.SENSE] + kinds[OperationKind.XNOR],
            "readings": kinds[OperationKind.RESISTANCE] + kinds[OperationKind.SWEEP],
            "rail_moves": self._world.rail_moves,
            "energy_j": tally.energy_j,
            "records": tally.records,
            "bytes": tally.bytes,
        }

    def _outcome(self, cut: bool) -> _Outcome:
        totals, kinds = self._totals(), self._tally.kinds
        if not cut:
            return _Outcome(totals, kinds, self._world.highest, "")
        series = self._series
        if series is None or series.fraction - series.first < SHOWN_FRACTION:
            return _Outcome(totals, kinds, self._world.highest, LEAST)
        scale = (1.0 - series.first) / (series.fraction - series.first)
        totals = {name: base + scale * (series.marked[name] - base) for name, base in series.base.items()}
        totals |= {name: round(totals[name]) for name in COUNTED}
        grown = {
            kind: series.base_kinds[kind] + scale * (count - series.base_kinds[kind])
            for kind, count in series.marked_kinds.items()
        }
        return _Outcome(totals, Counter({kind: round(n) for kind, n in grown.items()}), self._world.highest, SCALED)


def _first(selected: CellMask, count: int) -> CellMask:
    few = np.zeros_like(selected)
    few.flat[np.flatnonzero(selected)[:count]] = True
    return few


def _steps(procedure: Procedure, chip: Chip, parameters: Parameters, cells: CellMask, resume: Run | None) -> Steps:
    if resume is None or procedure.resume is None:
        return procedure.steps(chip, parameters, cells)
    return procedure.resume(chip, parameters, cells, resume)


@cache
def _device_model() -> DeviceModel:
    return load_device(Path(str(files("data"))) / "devices" / f"{DEVICE}.toml").model


def _values(axis: Any) -> Any:
    return getattr(axis, "array", axis)


def _row_bytes(table: Table, sizes: dict[str, int]) -> int:
    """Bytes of one record, its number and time included."""
    return _INDEX_AND_TIME_BYTES + sum(
        column.numpy_dtype.itemsize * int(np.prod([sizes[name] for name in column.dims], dtype=np.int64))
        for column in table.columns
    )


def _range(values: Iterable[float]) -> Range:
    found = [float(value) for value in values]
    return Range(min(found), max(found))


__all__ = ["Plan", "PlanFailed", "Range", "plan"]
