"""Bad input of all kinds, of damaged run files above all: one line that says what and where, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.bench.test_cli import assert_one_line_mistake, rram_bench

Damage = Callable[[h5py.File], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A characterisation of a simulated chip."""
    folder = tmp_path_factory.mktemp("whole")
    ended = rram_bench("run", "characterise", "--out", "runs", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    [path] = (folder / "runs").glob("*.h5")
    return path.read_bytes()


def shorter(file: h5py.File) -> None:
    sensed = file["senses/sensed"]
    kept = sensed[:-1]
    attributes, scales = dict(sensed.attrs), [sensed.dims[axis][0] for axis in range(3)]
    del file["senses/sensed"]
    made = file["senses"].create_dataset("sensed", data=kept)
    for axis, scale in enumerate(scales):
        made.dims[axis].attach_scale(scale)
    for name in ("units", "long_name"):
        made.attrs[name] = attributes[name]


def set_to(place: str, value: object) -> Damage:
    def damage(file: h5py.File) -> None:
        file[place][0] = value

    return damage


def renamed(name: str, value: object) -> Damage:
    def damage(file: h5py.File) -> None:
        file.attrs[name] = value

    return damage


def without(name: str) -> Damage:
    def damage(file: h5py.File) -> None:
        del file.attrs[name]

    return damage


FIT, REPORT, SHOW = ("fit", "device", "--out", "d.toml"), ("report",), ("runs", "show")


@pytest.mark.parametrize(
    ("damage", "command", "says"),
    [
        (without("chip_id"), FIT, "no attribute chip_id"),
        (shorter, FIT, "senses.sensed has the shape"),
        (shorter, REPORT, "senses.sensed has the shape"),
        (renamed("temperature_c", "nan"), SHOW, "temperature_c is 'nan'"),
        (renamed("temperature_c", "nan"), REPORT, "temperature_c is 'nan'"),
        (renamed("result", "{"), SHOW, "its result is no JSON"),
        (renamed("result", "{"), REPORT, "its result is no JSON"),
        (set_to("resistances/row", 99), FIT, "resistances.row holds 99, not 0 to 31"),
        (set_to("resistances/row", -1), REPORT, "resistances.row holds -1, not 0 to 31"),
        (set_to("resistances/state", 7), FIT, "resistances.state holds a value other than [0, 1, 2]"),
        (set_to("resistances/device", 7), FIT, "resistances.device holds a value other than [0, 1]"),
        (set_to("senses/sensed", np.full((32, 32), 7)), FIT, "senses.sensed holds 7, not -1 to 1"),
    ],
)
def test_damage_is_told_and_nothing_is_written(
    whole: bytes, tmp_path: Path, damage: Damage, command: tuple[str, ...], says: str
) -> None:
    (tmp_path / "run.h5").write_bytes(whole)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        damage(file)
    verb, *options = command
    arguments = (verb, options[0], "run.h5", *options[1:]) if verb == "fit" else (verb, *options, "run.h5")
    assert_one_line_mistake(rram_bench(*arguments, cwd=tmp_path), "run.h5 is damaged", says)
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


def test_a_run_whose_resistances_were_all_lost_has_a_page(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.h5").write_bytes(whole)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        file["resistances/resistance_ohm"][:] = np.nan
    ended = rram_bench("report", "run.h5", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run.html").exists()


def test_a_forming_run_is_no_error_map(tmp_path: Path) -> None:
    assert rram_bench("run", "forming", "--out", "runs", "--set", "check=weights", cwd=tmp_path).returncode == 0
    assert rram_bench("train", "digits-bnn", "--epochs", "1", "--out", "n.safetensors", cwd=tmp_path).returncode == 0
    [run] = (tmp_path / "runs").glob("*.h5")
    ended = rram_bench("map", "n.safetensors", "--error-map", str(run), cwd=tmp_path)
    assert_one_line_mistake(ended, "is of forming", "characterise, bit-error, program")
    ended = rram_bench("map", "n.safetensors", "--rows", "100000000", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "'--rows': Input should be less than or equal to 1024" in ended.stderr
    before = run.read_bytes()
    for option in ("--out", "--picture"):
        ended = rram_bench("map", "n.safetensors", option, str(run), cwd=tmp_path)
        assert_one_line_mistake(ended, "a file stands there that is no")
    assert run.read_bytes() == before


def test_what_was_asked_twice_or_of_other_data_or_in_no_folder_is_said(tmp_path: Path) -> None:
    assert rram_bench("train", "digits-bnn", "--epochs", "1", "--out", "n.safetensors", cwd=tmp_path).returncode == 0
    for verb in ("predict", "infer", "confirm"):
        ended = rram_bench(verb, "n.safetensors", "--data", "synthetic-ecg", cwd=tmp_path)
        assert_one_line_mistake(ended, "synthetic-ecg has 6000 features", "digits-bnn takes 64")
    ended = rram_bench("run", "read", "--set", "repeats=1", "--set", "repeats=2", cwd=tmp_path)
    assert_one_line_mistake(ended, "--set repeats is given twice: 1 and 2")
    for verb in ("list", "start"):
        assert_one_line_mistake(rram_bench("queue", verb, "--queue", "n.safetensors", cwd=tmp_path), "is no folder")
    ended = rram_bench("queue", "list", "--queue", "missing", cwd=tmp_path)
    assert (ended.returncode, "there is no folder missing yet" in ended.stdout) == (0, True)
    assert [path.name for path in tmp_path.iterdir()] == ["n.safetensors"]
