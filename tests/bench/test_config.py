"""The bench file: what is wrong in it is said in one line, before anything is opened."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from bench.config import load_bench_file, parse_bench_file
from models.exceptions import UserMistake

TEXT = files("data").joinpath("benches/simulated.toml").read_text(encoding="utf-8")


def test_the_bench_file_that_we_ship_is_valid_and_carries_the_published_rails() -> None:
    config = parse_bench_file(TEXT, "simulated.toml")
    points = config.points
    assert points.form.rails == (1.2, 3.0, 3.0)
    assert points.set.rails == (1.2, 3.5, 3.0)
    assert points.reset.rails == (1.2, 4.5, 5.0)
    assert points.sense.rails == (1.2, 1.2, 2.5)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("baudrate = 921600", "baudrat = 921600", ["board.baudrat", "unknown key"]),
        ("vddc_v = 4.5", "vddc_v = 45.0", ["operating_points.RESET", "45", "limits.vddc_v", "[0, 5]"]),
        ("width_s = 1e-6", "width_s = 1.0", ["WEAK_RESET", "limits.pulse_width_s"]),
        ("read_v = 0.2", "read_v = 0.9", ["DIRECT", "limits.smu_voltage_v"]),
        ("vdd_v = [0.0, 1.5]", "vdd_v = [1.5, 0.0]", ["vdd_v", "wrong order"]),
        ("vddr = 1, vddc = 2", "vddr = 2, vddc = 2", ["three different channels"]),
        ("rows = 32", "rows = 0", ["chip.rows"]),
        ("rows = 32", "", ["chip.rows", "missing"]),
        ("vdd_v = 1.2", "vdd_v = nan", ["vdd_v"]),
        ('driver = "framed"', 'driver = "magic"', ["board.driver", "framed"]),
        ("[board]", "[board", ["not a TOML file"]),
        (
            "simulated = true",
            'simulated = false\nworld_clock = "socket://127.0.0.1:1"',
            ["world_clock", "simulated = true"],
        ),
        ("simulated = true", 'simulated = true\nworld_clock = "127.0.0.1:1"', ["world_clock", "socket://HOST:PORT"]),
        ('schema = "rram-bench bench 1"', 'schema = "rram-bench bench 9"', ["schema"]),
    ],
)
def test_a_mistake_is_named_with_its_key(old: str, new: str, expected: list[str]) -> None:
    assert old in TEXT
    with pytest.raises(UserMistake) as mistake:
        parse_bench_file(TEXT.replace(old, new, 1), "my_bench.toml")
    message = str(mistake.value)
    assert message.startswith("my_bench.toml: ")
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_a_world_clock_is_no_role_of_the_bench() -> None:
    text = TEXT.replace("simulated = true", 'simulated = true\nworld_clock = "socket://127.0.0.1:4000"')
    config = parse_bench_file(text, "simulated.toml")
    assert config.world_clock == "socket://127.0.0.1:4000"
    assert config.resources == parse_bench_file(TEXT, "simulated.toml").resources


def test_a_path_that_is_no_bench_file(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match=r"nowhere\.toml: No such file"):
        load_bench_file(tmp_path / "nowhere.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserMistake, match="not a text file"):
        load_bench_file(tmp_path / "binary.toml")
