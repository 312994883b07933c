"""Reproductions: the frame with a system of the test's own; whole quick systems are the slow tests at the end."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import torch

import bench.reproduce
from bench.cli.reproduce import Asked, list_command, reproduce_command
from bench.figures.style import panels
from bench.reproduce import (
    SYSTEMS,
    Context,
    Picture,
    Reproduction,
    Row,
    Size,
    System,
    Verdict,
    ordering,
    reproduced,
    system,
)
from bench.reproduce.metaplasticity import parts_of, permuted
from bench.reproduce.perceptron import binary_perceptron, normalised_anew
from bench.stopping import Stopped
from data.datasets import load_dataset
from models.exceptions import BenchFailure, UserMistake

COMMAND = [sys.executable, "-m", "bench.cli", "reproduce"]
KEYS = {"what", "published", "ours", "verdict"}


def small(context: Context) -> Reproduction:
    context.progress("half of it", 0.5)
    figure, (axis,) = panels(1)
    axis.plot([1, 2], [3, 4])
    rows = (
        Row("accuracy <on> digits (in %)", 97.0, 96.5, reproduced(96.5, 97.0, 1.0)),
        Row("what helps most", "a certain thing", "another", ordering(False)),
        Row("what nobody published", None, float(context.seed), ordering(True)),
    )
    kept = str(context.checkpoint("first"))
    return Reproduction("small", rows, (Picture("A curve", "rises", figure),), ("a note",), {"checkpoint": kept})


def too_long(size: Size) -> None:
    if size.epochs is not None and size.epochs > 10:
        raise UserMistake("too long")


@pytest.fixture
def own_system(monkeypatch: pytest.MonkeyPatch) -> str:
    """A system of the test's own, registered like any other."""
    module = ModuleType("own_system")
    module.SYSTEM = System("small", "a small system", small, ("epochs",), too_long)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_system", module)
    monkeypatch.setattr(bench.reproduce, "SYSTEMS", {"small": "own_system"})
    return "small"


def asked(out: Path, **change) -> Asked:
    return replace(Asked("small", False, 3, "cpu", None, out), **change)


def test_verdicts() -> None:
    assert reproduced(96.0, 97.0, 1.0) is Verdict.REPRODUCED
    assert reproduced(95.9, 97.0, 1.0) is Verdict.NOT_REPRODUCED
    assert reproduced(math.nan, 97.0, 1.0) is Verdict.NOT_REPRODUCED
    assert ordering(True) is Verdict.ORDERING
    assert ordering(False) is Verdict.NOT_REPRODUCED
    with pytest.raises(BenchFailure, match=r"gives nan for: loss"):
        Row("loss", 1.0, math.nan, ordering(True))


def test_batch_normalisation_of_the_weights_as_they_are_and_running_statistics_afterwards() -> None:
    network = binary_perceptron((6, 5, 3), torch.Generator().manual_seed(1)).eval()
    images = torch.rand(40, 6, generator=torch.Generator().manual_seed(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outside = network(images)
    with normalised_anew(network, images, 40, torch.Tensor.float):
        assert not network.training
        sums = network[0](images)
        assert torch.allclose(network[1].running_mean, sums.mean(0))
        assert torch.allclose(network[1](sums).std(0), torch.ones(5), atol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(images), outside)
    assert [module.momentum for module in network if isinstance(module, torch.nn.BatchNorm1d)] == [0.1, 0.1]


def test_json_and_page_of_a_system(own_system: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce_command(asked(tmp_path / "out"), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "small"
    assert found["rows"] == [
        {"what": "accuracy <on> digits (in %)", "published": 97.0, "ours": 96.5, "verdict": "reproduced"},
        {"what": "what helps most", "published": "a certain thing", "ours": "another", "verdict": "not reproduced"},
        {"what": "what nobody published", "published": None, "ours": 3.0, "verdict": "ordering"},
    ]
    assert found["report"] == str(tmp_path / "out" / "small.html")
    text = Path(found["report"]).read_text(encoding="utf-8")
    assert "accuracy &lt;on&gt; digits" in text
    assert text.count('<tr class="fails">') == 1
    assert "2 of 3 figures hold" in text
    assert version("rram-bench") in text
    assert "data:image/png;base64," in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert str(tmp_path / "out" / "small-seed3" / "first.safetensors") in text


def test_a_quick_run_keeps_no_checkpoints_and_has_a_page_of_its_own(
    own_system: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce_command(asked(tmp_path, quick=True), as_json=False)
    shown = capsys.readouterr()
    assert "small, quick, seed 3" in shown.out
    assert "FAIL what helps most" in shown.out
    assert "50% half of it" in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["small-quick.html"]
    assert "Scaled down" in (tmp_path / "small-quick.html").read_text(encoding="utf-8")


def test_a_run_of_another_size_is_kept_apart_and_says_so(
    own_system: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce_command(asked(tmp_path, size=Size(epochs=7)), as_json=True)
    assert json.loads(capsys.readouterr().out)["report"] == str(tmp_path / "small-epochs-7.html")
    text = (tmp_path / "small-epochs-7.html").read_text(encoding="utf-8")
    assert "Not of the full size: epochs 7." in text
    assert str(tmp_path / "small-epochs-7-seed3" / "first.safetensors") in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "no-such"}, "no system is called 'no-such'; there are: small"),
        ({"device": "tpu"}, "--device 'tpu': there are cpu, cuda"),
        ({"data_dir": Path("nowhere")}, "--data-dir nowhere: there is no such folder"),
        ({"out": Path(__file__)}, "cannot make the folder"),
        ({"size": Size(draws=2)}, "small does not take --draws; it takes --epochs"),
        ({"size": Size(epochs=7), "quick": True}, "--epochs: sizes are of the full run; --quick has its own"),
        ({"size": Size(epochs=100)}, "too long"),
    ],
)
def test_mistakes(own_system: str, tmp_path: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(UserMistake, match=re.escape(says)):
        reproduce_command(replace(asked(tmp_path), **change), as_json=True)
    assert list(tmp_path.iterdir()) == []


def test_every_registered_system_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    list_command(as_json=True)
    listed = json.loads(capsys.readouterr().out)["systems"]
    assert [one["name"] for one in listed] == list(SYSTEMS)
    assert all(one["summary"] for one in listed)
    assert all(system(name).name == name for name in SYSTEMS)


def test_a_stop_is_obeyed_and_says_how_to_go_on(tmp_path: Path) -> None:
    context = Context(False, 0, tmp_path, None, "cpu", lambda text, share: None, lambda: True)
    with pytest.raises(Stopped, match="goes on from the checkpoints"):
        context.check()


def test_tasks_are_permutations_and_parts_are_the_whole() -> None:
    digits = load_dataset("digits")
    one, other = permuted(digits, 2, seed=1)
    assert one.name != other.name
    assert (one.train_images.sum(axis=1) == digits.train_images.sum(axis=1)).all()
    assert (one.train_images != other.train_images).any()
    parts = parts_of(digits, 5)
    assert sum(len(part.train_labels) for part in parts) == len(digits.train_labels)
    assert (parts[4].test_images == digits.test_images).all()


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("mram", Size(data="ecg"), "--data ecg: there are mnist, fashion-mnist, cifar10"),
        ("mram", Size(filters=16), "--filters 16: mnist-1024-1024 has no convolutions; choose other data with --data"),
        ("digital", Size(data="digits"), "--data digits: there are mnist, cifar10, ecg"),
        ("medical", Size(data="ptb"), "--data ptb: there are ecg, eeg, mit-bih"),
        ("ternary", Size(data="mnist"), "ternary does not take --data; it takes --epochs, --filters, --draws"),
        ("metaplasticity", Size(draws=1), "metaplasticity does not take --draws; it takes --epochs, --hidden"),
        ("metaplasticity", Size(only="cifar"), "--only cifar: the experiments of metaplasticity are permuted, in-turn"),
        ("weak-reset", Size(epochs=1), "weak-reset does not take --epochs; it is run at one size only"),
    ],
)
def test_sizes_that_a_system_has_not_are_refused(name: str, size: Size, says: str) -> None:
    with pytest.raises(UserMistake, match=re.escape(says)):
        system(name).check_size(size, quick=False)
    system(name).check_size(Size(), quick=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["weak-reset", "metaplasticity"])
def test_quick_systems_hold_from_the_command_line(name: str, tmp_path: Path) -> None:
    command = [*COMMAND, name, "--quick", "--json", "--out", "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=590, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["name"] == name
    assert found["rows"]
    assert all(set(row) == KEYS for row in found["rows"])
    assert [row["what"] for row in found["rows"] if row["verdict"] == "not reproduced"] == []
    assert (tmp_path / found["report"]).stat().st_size > 10_000


@pytest.mark.slow
def test_ctrl_c_ends_a_system_in_one_line(tmp_path: Path) -> None:
    command = [*COMMAND, "weak-reset", "--quick", "--json", "--out", "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert running.stderr is not None
        assert "weak-reset" in running.stderr.readline()
        time.sleep(2.0)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == ""
    assert "rram-bench: stopped" in err
    assert "Traceback" not in err
