from __future__ import annotations

import pytest

from data.device_files import DeviceFile, Quantity, default_device, load_device, save_device
from models.device_model import SCHEMA
from models.exceptions import UserMistake


@pytest.fixture
def path(tmp_path):
    where = tmp_path / "device.toml"
    save_device(where, default_device())
    return where


def edited(path, old: str, new: str):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def fails(path, *says: str) -> None:
    with pytest.raises(UserMistake) as caught:
        load_device(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    for part in says:
        assert part in text


def test_the_population_of_the_package_has_the_published_figures_and_their_sources():
    device = default_device()
    assert device.name == "hfo2_130nm"
    assert device.model.lrs.median_ohm == 6988.0
    assert device.model.weak_reset.knee_scale == 542.538522
    knee = device.quantities["weak_reset.knee_scale"]
    assert (knee.unit, knee.trust) == ("pulse", "source")
    assert "WRST" in knee.source
    assert device.quantities["hrs.median_ohm"].low == 60e3
    assert set(device.quantities) == {key for key in SCHEMA if not key.startswith(("read_error.", "xnor_error."))}


def test_what_is_written_reads_back_equal(path):
    assert load_device(path) == default_device()
    assert load_device(str(path)) == default_device()


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    fails(tmp_path / "nowhere.toml", "cannot read")
    fails(tmp_path, "cannot read")


def test_bad_toml_is_named_with_its_line(path):
    path.write_text('name = "x"\n[lrs\n')
    fails(path, "not valid TOML", "line 2")
    path.write_bytes(b"\xff\xfe\x00")
    fails(path, "not text")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[lrs.median_ohm]", "[mram.delta]", ["mram is unknown", "the sections are lrs, hrs"]),
        ("[lrs.median_ohm]", "[lrs.mean_ohm]", ["lrs.mean_ohm is unknown", "median_ohm"]),
        ('unit = "ohm"', 'unit = "kohm"', ['lrs.median_ohm has the unit "kohm"', 'allowed is "ohm"']),
        ("value = 6988.0", "value = 5.0", ["lrs.median_ohm = 5 ohm", "100 to 1e+06 ohm"]),
        ("value = 6988.0", "value = nan", ["lrs.median_ohm", "nan"]),
        ("value = 6988.0", 'value = "7k"', ["lrs.median_ohm", "not a finite number"]),
        ("value = 6988.0", "value = true", ["lrs.median_ohm", "not a finite number"]),
        ("value = 6988.0\n", "", ["lrs.median_ohm.value is missing"]),
        ("value = 6988.0", "value = 6988.0\nlow = 7000.0", ["lrs.median_ohm", "does not contain"]),
        ("value = 6988.0", "value = 6988.0\nlow = 1.0", ["lrs.median_ohm = 1 ohm", "100 to 1e+06 ohm"]),
        ("value = 6988.0", "value = 6988.0\nerror = 1.0", ["lrs.median_ohm.error is unknown"]),
        ('trust = "source"', 'trust = "sure"', ["lrs.median_ohm", "sure", "proposed"]),
        ('name = "hfo2_130nm"\n', "", ["name is missing"]),
        ("[sense.swing_v]", "[sense_swing_v]", ["sense_swing_v is unknown"]),
        ('name = "hfo2_130nm"', 'name = "x"\nlrs = 3', ["not valid TOML"]),
        ('name = "hfo2_130nm"', 'name = "x"\nread_error = 3', ["read_error must be a table"]),
    ],
)
def test_a_bad_file_is_refused_with_its_name_the_key_and_what_is_allowed(path, old, new, says):
    fails(edited(path, old, new), *says)


def test_a_missing_key_is_named_with_its_range(path):
    text = path.read_text()
    start = text.index("[sense.swing_v]")
    end = text.index("[", start + 1)
    path.write_text(text[:start] + text[end:])
    fails(path, "sense.swing_v is missing", "0.01 to 5 V")


def test_a_fit_replaces_numbers_with_their_intervals_and_keeps_the_rest(tmp_path):
    fitted = default_device().updated(
        {
            "lrs.median_ohm": Quantity(7100, "ohm", "run 12", "fitted", 7000, 7200),
            "read_error.stuck_fraction": Quantity(0.0, "1", "run 12", "fitted", 0.0, 0.003),
            "read_error.random_rate": Quantity(1e-4, "1", "run 12", "fitted"),
            "read_error.transient_rate": Quantity(0.0, "1", "run 12", "fitted"),
        },
        name="die 7",
        extras={"run": "run12.h5"},
    )
    save_device(tmp_path / "die7.toml", fitted)
    loaded = load_device(tmp_path / "die7.toml")
    assert loaded == fitted
    assert loaded.model.lrs.median_ohm == 7100.0
    assert loaded.model.read_error is not None
    assert loaded.model.read_error.stuck_fraction == 0.0
    assert loaded.quantities["lrs.median_ohm"] == Quantity(7100.0, "ohm", "run 12", "fitted", 7000.0, 7200.0)
    assert loaded.quantities["read_error.stuck_fraction"].low == 0.0
    assert loaded.extras["run"] == "run12.h5"
    assert "technology" in loaded.extras
    assert loaded.model.hrs == default_device().model.hrs


@pytest.mark.parametrize(
    ("key", "quantity", "says"),
    [
        ("lrs.mode_ohm", Quantity(1e4, "ohm", "", "fitted"), "unknown"),
        ("lrs.median_ohm", Quantity(1e4, "V", "", "fitted"), 'allowed is "ohm"'),
        ("lrs.median_ohm", Quantity(1e9, "ohm", "", "fitted"), "out of range"),
        ("lrs.median_ohm", Quantity(9e4, "ohm", "", "fitted"), "must exceed"),
    ],
)
def test_an_update_is_checked(key, quantity, says):
    with pytest.raises(UserMistake, match=says):
        default_device().updated({key: quantity})


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_scrap(tmp_path):
    with pytest.raises(UserMistake, match="cannot write the device file"):
        save_device(tmp_path / "missing" / "device.toml", default_device())
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserMistake, match="cannot write the device file"):
        save_device(tmp_path / "folder.toml", default_device())
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.toml"]


def test_building_from_quantities_orders_them_as_the_schema():
    device = default_device()
    shuffled = dict(reversed(device.quantities.items()))
    again = DeviceFile.from_quantities(device.name, shuffled, device.extras)
    assert list(again.quantities) == list(device.quantities)
