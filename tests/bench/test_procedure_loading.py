"""A user's own procedures: found in the bench file's folder, run like ours, and harmless when they are broken."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.config import load_bench_file, parse_bench_file
from bench.procedures import PROCEDURES, find_procedure
from bench.procedures.loading import listing
from bench.runner import run
from bench.session import Bench
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.exceptions import UserMistake

ROOT = Path(__file__).parents[2]

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
from pydantic import Field
from bench.procedure import Parameters, Procedure, Progress
print("hello from a user")

@dataclass
class Plan:
    reads: int

class Some(Parameters):
    reads: int = Field(default=2, ge=1, le=9, description="how many")

def steps(chip, parameters, cells):
    plan = Plan(parameters.reads)
    yield Progress(0, 1, "reading")
    return {"senses": len(chip.read(plan.reads))}

MINE = Procedure("NAME", "reads", Some, (), steps)
"""


def good(name: str = "mine") -> str:
    return GOOD.replace("NAME", name)


def example() -> str:
    """The example of the documentation, as a user would copy it."""
    text = (ROOT / "docs" / "own-procedures.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return str(code)


def test_a_file_in_the_folder_is_listed_beside_ours_and_runs(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(good())
    (tmp_path / "_helper.py").write_text("raise RuntimeError('left alone')")
    found = listing(tmp_path)
    assert list(found.procedures) == [*PROCEDURES, "mine"]
    assert not found.broken
    assert capsys.readouterr().out == ""  # standard output is for results
    procedure = find_procedure("mine", tmp_path)
    outcome = run(procedure, procedure.parse({"reads": 3}), bench, tmp_path / "runs")
    assert outcome.result == {"senses": 3}
    attributes = open_run(outcome.run_file).attributes
    assert attributes["procedure_file"] == "mine.py"
    assert len(str(attributes["procedure_sha256"])) == 64
    with pytest.raises(UserMistake, match="mine: reads: "):
        procedure.parse({"reads": 10})
    assert [path.name for path in tmp_path.iterdir() if path.name == "__pycache__"] == []


def test_the_example_of_the_documentation_runs_and_gives_its_curve(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    (tmp_path / "reset_ramp.py").write_text(example())
    found = listing(tmp_path)
    assert not found.broken
    procedure = found.find("reset-ramp")
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[:3, :3] = True
    outcome = run(procedure, procedure.parse({}), bench, tmp_path / "runs", cells=cells)
    medians = outcome.result["median_ohm"]
    assert len(medians) == 6
    assert medians[0] < 10e3
    assert medians[-1] > 40e3
    rows = open_run(outcome.run_file).read("reset_ramp")
    assert rows["vddc_v"].tolist() == [2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    hidden = world.chip.resistance_ohm[:3, :3]
    np.testing.assert_allclose(rows["ohm"][-1, :3, :3], hidden, rtol=0.3)  # the reading fluctuates by some per cent
    assert np.isnan(rows["ohm"][-1, 3:]).all()


def test_an_edit_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(good())
    assert find_procedure("mine", tmp_path).summary == "reads"
    path.write_text(good().replace('"reads", Some', '"reads!", Some'))
    assert find_procedure("mine", tmp_path).summary == "reads!"


BROKEN = {
    "syntax": ("def f(:\n", "SyntaxError: .*line 1"),
    "not_text": ("x = '\x00'\n", "null bytes|SyntaxError|ValueError"),
    "missing": ("import no_such_module\n", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
    "raises": ("x = 1\ny = x / 0\n", "line 2: ZeroDivisionError: division by zero"),
    "several_lines": ("raise RuntimeError('one\\ntwo')\n", "RuntimeError: one two"),
    "exits": ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
    "exits_silently": ("raise SystemExit\n", "line 1: SystemExit"),
    "empty": ("x = 1\n", "no Procedure"),
    "only_ours": ("from bench.procedures.read import READ\n", "no Procedure"),
    "taken": (good("read"), "'read' is taken"),
    "reserved": (good("list"), "'list' is refused"),
    "badly_named": (good("My Procedure"), "'My Procedure' is refused"),
    "no_model": (good("a").replace("Some, (), steps", "dict, (), steps"), "derived from bench.procedure.Parameters"),
    "wrong_default": (good("b").replace("default=2", "default=12"), "reads: Input should be less than or equal to 9"),
    "wrong_rule": (good("c").replace("ge=1, le=9", "max_length=3"), "max_length"),
    "no_yield": (good("d").replace('    yield Progress(0, 1, "reading")\n', ""), "generator function"),
    "no_text": (good("e").replace('"reads", Some', '"a\\nb", Some'), "one line"),
    "no_tables": (good("f").replace("(), steps", "[], steps"), "tuple of data.runs.Table"),
    "their_table": (
        "from data.runs import Column, Table\n"
        + good("h")
        .replace("from __future__ import annotations\n", "")
        .replace("(), steps", "(Table('operations', (Column('x', 'int8'),)),), steps"),
        "'operations'",
    ),
    "no_dimension": (
        "from data.runs import Column, Table\n"
        + good("i")
        .replace("from __future__ import annotations\n", "")
        .replace("(), steps", "(Table('t', (Column('x', 'int8', dims=('lot',)),)),), steps"),
        "t.x has the dimension 'lot'",
    ),
}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder in which all is broken but one."""
    for name, (text, _) in BROKEN.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "zzz_good.py").write_text(good())
    (tmp_path / "unreadable.py").write_bytes(b"\xff\xfe\x00 nonsense")
    (tmp_path / "folder.py").mkdir()
    return tmp_path


def test_what_is_broken_is_listed_with_a_reason_in_one_line_and_harms_nothing(broken: Path) -> None:
    modules = set(sys.modules)
    found = listing(broken)
    assert list(found.procedures) == [*PROCEDURES, "mine"]
    reasons = {Path(path.partition(".py:")[0]).stem: reason for path, reason in found.broken.items()}
    assert set(reasons) == {*BROKEN, "unreadable", "folder"}
    for name, (_, says) in BROKEN.items():
        assert re.search(says, reasons[name]), (name, reasons[name])
    assert all("\n" not in reason and reason for reason in reasons.values())
    left = {name for name in set(sys.modules) - modules if name.startswith("rram_bench_user_exits")}
    assert not left
    json.dumps(found.as_json())


def test_asking_to_run_a_broken_one_gives_its_reason_and_status_2(broken: Path) -> None:
    for name in ("raises", "raises.py", str(broken / "raises.py")):
        with pytest.raises(UserMistake, match="is broken: .*division by zero") as caught:
            find_procedure(name, broken)
        assert caught.value.exit_status == 2
    with pytest.raises(UserMistake, match="is broken: .*one two"):
        find_procedure("several-lines", broken)  # as it would be called on the command line
    for name in ("a", "no_model", "no-model"):
        with pytest.raises(UserMistake, match="is broken: .*derived from bench.procedure.Parameters"):
            find_procedure(name, broken)
    assert find_procedure("read", broken) is PROCEDURES["read"]  # never the one that takes its name
    with pytest.raises(UserMistake, match=r"no procedure is called 'levitate'; there are forming, .*mine; broken: "):
        find_procedure("levitate", broken)


def test_one_of_several_in_a_file_may_be_broken(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(
        good("first") + 'OTHER = Procedure("read", "reads", Some, (), steps)\nSAME = MINE\n'
    )
    found = listing(tmp_path)
    assert "first" in found.procedures
    assert list(found.broken) == [f"{tmp_path / 'two.py'}:read"]
    (tmp_path / "zwei.py").write_text(good("first"))
    assert "'first' is taken" in listing(tmp_path).broken[f"{tmp_path / 'zwei.py'}:first"]


def test_a_list_gives_default_description_and_rules_of_each_parameter(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(good())
    listed = listing(tmp_path).as_json()
    assert set(listed) == {*PROCEDURES, "mine", "broken"}
    assert listed["mine"]["summary"] == "reads"
    assert listed["mine"]["parameters"]["reads"] == {
        "default": 2,
        "description": "how many",
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "required": False,
    }
    for name, procedure in PROCEDURES.items():
        assert set(listed[name]["parameters"]) == set(procedure.parameters.model_fields)
    json.dumps(listed)


def test_the_folder_is_taken_from_the_bench_files_place(world: SimulatedBench, tmp_path: Path) -> None:
    place = tmp_path / "laboratory"
    (place / "own").mkdir(parents=True)
    (place / "own" / "mine.py").write_text(good())
    path = place / "bench.toml"
    text = world.bench_file()
    path.write_text(text.replace("simulated = true", 'simulated = true\nprocedures = "own"', 1))
    config, _ = load_bench_file(path)
    assert config.procedures == place / "own"
    assert find_procedure("mine", config.procedures).name == "mine"
    assert parse_bench_file(text, "bench").procedures is None


def test_a_folder_that_is_not_there_is_a_line_in_the_list_and_ours_run(tmp_path: Path) -> None:
    found = listing(tmp_path / "nowhere")
    assert list(found.procedures) == list(PROCEDURES)
    assert found.broken == {str(tmp_path / "nowhere"): "no such folder; correct the key procedures of the bench file"}
    assert find_procedure("read", tmp_path / "nowhere") is PROCEDURES["read"]
    with pytest.raises(UserMistake, match="nowhere"):
        find_procedure("mine", tmp_path / "nowhere")
