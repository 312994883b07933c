"""The bench from a notebook: the same runs, shown in its own way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench.session import Bench
from drivers.simulated.bench import SimulatedBench
from models.exceptions import UserMistake


def test_a_run_from_its_plan_to_its_file(world: SimulatedBench, tmp_path: Path) -> None:
    world.write_bench_file(tmp_path / "bench.toml")
    opened = bench.open_bench(tmp_path / "bench.toml", at={"DIRECT.read_v": 0.1})
    try:
        planned = bench.plan(opened, "resistance", cells="0:2,0:2")
        assert planned.readings == (8, 8)
        result = bench.run(opened, "resistance", cells="0:2,0:2", folder=tmp_path / "runs", repeats=2)
        assert world.chip.chip_id in opened._repr_html_()
    finally:
        opened.close()
        opened.close()
    table = result.open().read("resistances")
    assert len(table["row"]) == 16
    assert table["voltage_v"] == pytest.approx(0.1, rel=0.02)
    assert "completed" in result._repr_html_()
    listed = bench.runs(tmp_path / "runs")
    assert [run.path for run in listed] == [result.run_file]
    assert result.run_file.name in listed._repr_html_()


def test_a_session_of_the_library_will_do_and_mistakes_say_so(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.notebook import plan, run, runs

    result = run(bench, "read", cells="random:5", folder=tmp_path)
    assert result.result["cells"] == 5
    assert capsys.readouterr().out == "read: completed, 3 records\n"
    with pytest.raises(UserMistake, match="repeats"):
        plan(bench, "read", repeats=0)
    with pytest.raises(UserMistake, match="completed"):
        run(bench, "read", resume=result.run_file, folder=tmp_path)
    with pytest.raises(UserMistake, match="leave parameters and cells out"):
        run(bench, "read", resume=result.run_file, cells="0,0", folder=tmp_path)
    with pytest.raises(UserMistake, match="no folder"):
        runs(tmp_path / "nowhere")


def test_importing_the_package_is_light_and_a_wrong_name_is_an_attribute_error() -> None:
    code = "import bench, sys; print([name for name in ('numpy', 'h5py', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
    assert {"open_bench", "plan", "run", "runs"} <= set(dir(bench))
    with pytest.raises(AttributeError, match="no_such_thing"):
        bench.no_such_thing  # noqa: B018
