"""Procedures that a user wrote, in a folder: each is listed beside ours, or listed as broken with a reason."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from bench.config import explain
from bench.procedure import CELLS_DONE, OPERATIONS, SELECTION, Parameters, Procedure
from bench.procedures import PROCEDURES
from data.runs import Table
from models.exceptions import UserMistake

RESERVED = ("list", "broken")
"""Names that ``run list`` needs for itself."""

DIMENSIONS = ("row", "col", "device")
"""Dimensions that every run file has."""

_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")


@dataclass(frozen=True)
class Listing:
    """The procedures there are, and what is broken.

    Attributes:
        procedures: by name, ours first.
        broken: reason in one line, by the file's path, or by ``path:name`` where one procedure in it is refused.
    """

    procedures: Mapping[str, Procedure]
    broken: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Name to ``summary`` and ``parameters``, and under ``broken`` the reasons by path."""
        return {name: described(procedure) for name, procedure in self.procedures.items()} | {
            "broken": dict(self.broken)
        }

    def find(self, name: str) -> Procedure:
        """The procedure called ``name``. Raises UserMistake, with the reason where it is broken."""
        if name in self.procedures:
            return self.procedures[name]
        for path, reason in self.broken.items():
            file, _, own_name = path.partition(".py:")
            if name in (own_name, path, Path(file).stem, Path(file).stem.replace("_", "-"), Path(path).name):
                raise UserMistake(f"procedure {name!r} is broken: {path}: {reason}")
        more = f"; broken: {', '.join(self.broken)}" if self.broken else ""
        raise UserMistake(f"no procedure is called {name!r}; there are {', '.join(self.procedures)}{more}")


def described(procedure: Procedure) -> dict[str, Any]:
    """What a list says of a procedure: its summary and, for each parameter, what its JSON schema has.

    A parameter has ``default`` and ``description``, and ``type``, ``minimum``, ``maximum``, ``enum`` where they apply.
    """
    schema = procedure.parameters.model_json_schema()
    fields = {}
    for key, rules in schema.get("properties", {}).items():
        rules = {rule: value for rule, value in rules.items() if rule != "title"}
        fields[key] = {"default": None, "description": "", **rules, "required": key in schema.get("required", ())}
    return {"summary": procedure.summary, "parameters": fields}


def listing(folder: Path | None = None) -> Listing:
    """Ours, and those in the Python files of ``folder``, in the order of the files' names.

    A file whose name begins with an underscore is left alone. Whatever a file does wrong is its own affair: it is
    listed as broken, and the others are there.
    """
    procedures, broken = dict(PROCEDURES), dict[str, str]()
    if folder is None:
        return Listing(procedures, broken)
    if not folder.is_dir():
        broken[str(folder)] = "no such folder; correct the key procedures of the bench file"
        return Listing(procedures, broken)
    for path in sorted(folder.glob("*.py")):
        if path.name.startswith("_"):
            continue
        try:
            found = _load(path)
        except UserMistake as error:
            broken[str(path)] = str(error)
            continue
        for procedure in found:
            try:
                _check(procedure, procedures)
            except UserMistake as error:
                broken[f"{path}:{procedure.name}"] = str(error)
            else:
                procedures[procedure.name] = procedure
    return Listing(procedures, broken)


def find(name: str, folder: Path | None = None) -> Procedure:
    """The procedure called ``name``, ours or one of ``folder``. Raises UserMistake, with the reason if it is broken."""
    # A user's file is not even run when one of ours is asked for.
    return PROCEDURES[name] if name in PROCEDURES else listing(folder).find(name)


def _load(path: Path) -> list[Procedure]:
    """Run a user's file and return the procedures that it defines, with where they come from for the record.

    Raises:
        UserMistake: it cannot be read, it raises something, or it defines no procedure; the text is one line.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserMistake(f"it cannot be read: {error.strerror}") from None
    digest = hashlib.sha256(source).hexdigest()
    module = ModuleType(f"rram_bench_user_{path.stem}_{digest[:8]}")
    module.__file__ = str(path)
    with _registered(module), redirect_stdout(sys.stderr):  # standard output is for results
        # Compiled here rather than imported: nothing is written into the user's folder, and an edit counts at once.
        exec(compile(source, str(path), "exec"), module.__dict__)
    ours = {id(procedure) for procedure in PROCEDURES.values()}
    found = {id(value): value for value in vars(module).values() if isinstance(value, Procedure)}
    own = [procedure for key, procedure in found.items() if key not in ours]
    if not own:
        raise UserMistake("it defines no Procedure; see docs/own-procedures.md")
    origin = {"procedure_file": path.name, "procedure_sha256": digest}
    return [replace(procedure, about={**procedure.about, **origin}) for procedure in own]


@contextmanager
def _registered(module: ModuleType) -> Iterator[None]:
    """Make a module known while its file runs, as dataclasses and parameter models need; forget it if that fails.

    Raises:
        UserMistake: whatever the file raised, in one line, but for Ctrl-C.
    """
    sys.modules[module.__name__] = module
    try:
        yield
    except KeyboardInterrupt:
        del sys.modules[module.__name__]
        raise
    except BaseException as error:  # a file that calls sys.exit() must not end us
        del sys.modules[module.__name__]
        raise UserMistake(_one_line(error, str(module.__file__))) from None


def _one_line(error: BaseException, path: str) -> str:
    """What a file raised, and where in it."""
    text = " ".join(str(error).split())
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None and line is None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    at = "" if line is None or isinstance(error, SyntaxError) else f"line {line}: "
    return f"{at}{type(error).__name__}: {text}" if text else f"{at}{type(error).__name__}"


def _check(procedure: Procedure, taken: Mapping[str, Procedure]) -> None:
    """Refuse a procedure that could not run. Raises UserMistake, in one line."""
    name = procedure.name
    if not isinstance(name, str) or not _NAME.match(name) or name in RESERVED:
        raise UserMistake(f"the name {name!r} is refused; allowed are small letters, digits and hyphens")
    if name in taken:
        raise UserMistake(f"the name {name!r} is taken; choose another")
    if not isinstance(procedure.summary, str) or not procedure.summary or "\n" in procedure.summary:
        raise UserMistake(f"{name}: the summary must be one line of text")
    _check_steps(procedure)
    _check_parameters(name, procedure.parameters)
    _check_tables(procedure)


def _check_steps(procedure: Procedure) -> None:
    for what, steps in (("steps", procedure.steps), ("resume", procedure.resume)):
        if steps is None and what == "resume":
            continue
        if not inspect.isgeneratorfunction(steps):
            raise UserMistake(f"{procedure.name}: {what} must be a generator function, one that has a yield")


def _check_parameters(name: str, model: object) -> None:
    if not (isinstance(model, type) and issubclass(model, Parameters)):
        raise UserMistake(f"{name}: parameters must be a class derived from bench.procedure.Parameters, not {model!r}")
    try:
        fields = {key: field for key, field in model.model_fields.items() if not field.is_required()}
        model.model_validate({key: field.get_default(call_default_factory=True) for key, field in fields.items()})
    except ValidationError as error:
        # A parameter without a default has to be given; a default that breaks its own rule can never be used.
        if any(one["type"] != "missing" for one in error.errors()):
            raise UserMistake(f"{name}: the defaults of its parameters are refused: {explain(error)}") from None
    except Exception as error:
        raise UserMistake(f"{name}: its parameter model fails: {type(error).__name__}: {error}") from None
    try:
        model.model_json_schema()
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserMistake(f"{name}: its parameters cannot be described: {text}") from None


def _check_tables(procedure: Procedure) -> None:
    name, tables = procedure.name, procedure.tables
    if not isinstance(tables, tuple) or not all(isinstance(table, Table) for table in tables):
        raise UserMistake(f"{name}: tables must be a tuple of data.runs.Table")
    names = [table.name for table in (OPERATIONS, SELECTION, CELLS_DONE, *tables)]
    for table in tables:
        if names.count(table.name) > 1:
            raise UserMistake(f"{name}: the table name {table.name!r} is there twice, or the runner's own")
        for column in table.columns:
            for dimension in column.dims:
                if dimension not in DIMENSIONS and dimension not in procedure.dimensions:
                    raise UserMistake(
                        f"{name}: {table.name}.{column.name} has the dimension {dimension!r}; "
                        f"there are {', '.join((*DIMENSIONS, *procedure.dimensions))}"
                    )
