"""What a fit becomes: plain JSON, and a device file that says where each number comes from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from calibration.estimate import Estimate
from calibration.result import Check, Comparison, Fit, Outlier, fitted_device, within_schema
from data.device_files import default_device, load_device, save_device
from models.cells import Device
from models.exceptions import UserMistake

LRS = Estimate(6000.0, 5900.0, 6100.0, "ohm")


def source(folder: Path, name: str, chip: str | None = "A1") -> SimpleNamespace:
    path = folder / name
    path.write_bytes(name.encode())
    return SimpleNamespace(path=path, attributes={} if chip is None else {"chip_id": chip})


def fit(**parameters: Estimate) -> Fit:
    return Fit({name.replace("__", "."): found for name, found in parameters.items()}, 100, True)


def test_the_device_file_carries_values_intervals_runs_and_software(tmp_path: Path) -> None:
    base, run = default_device(), source(tmp_path, "one.h5")
    digest = hashlib.sha256(b"one.h5").hexdigest()
    device = fitted_device(fit(lrs__median_ohm=LRS, some_other_number=LRS), [run], base)
    save_device(tmp_path / "device.toml", device)
    read = load_device(tmp_path / "device.toml")
    found = read.quantities["lrs.median_ohm"]
    assert (found.value, found.low, found.high, found.unit, found.trust) == (6000, 5900, 6100, "ohm", "fitted")
    assert found.source == f"run one.h5, sha256 {digest}"
    assert read.name == "chip A1"
    assert read.extras["fitted_to"] == found.source
    assert read.extras["base"] == base.name
    assert read.extras["software"].startswith("rram-bench ")
    others = {key: value for key, value in read.quantities.items() if key != "lrs.median_ohm"}
    assert others == {key: value for key, value in base.quantities.items() if key != "lrs.median_ohm"}


def test_several_fits_end_in_one_file(tmp_path: Path) -> None:
    first, second = source(tmp_path, "one.h5"), source(tmp_path, "two.csv", None)
    device = fitted_device(fit(lrs__median_ohm=LRS), [first], default_device())
    both = fitted_device(fit(hrs__median_ohm=Estimate(9e4, 8e4, 1e5, "ohm")), [second], device)
    assert both.quantities["lrs.median_ohm"] == device.quantities["lrs.median_ohm"]
    assert both.quantities["hrs.median_ohm"].source.startswith("table two.csv, sha256 ")
    assert "run one.h5" in both.extras["fitted_to"]
    assert "table two.csv" in both.extras["fitted_to"]
    assert both.extras["base"] == default_device().name


def test_runs_of_several_chips_are_all_named(tmp_path: Path) -> None:
    runs = [source(tmp_path, "one.h5"), source(tmp_path, "two.h5", "B2")]
    device = fitted_device(fit(lrs__median_ohm=LRS), runs, default_device())
    assert device.name == "chips A1, B2"
    assert device.quantities["lrs.median_ohm"].source.count("sha256") == 2


def test_an_interval_is_cut_at_what_is_possible_and_a_value_never(tmp_path: Path) -> None:
    wide = Estimate(0.001, -0.002, 0.004, "1")
    assert within_schema("read_error.random_rate", wide) == Estimate(0.001, 0.0, 0.004, "1")
    run = source(tmp_path, "one.h5")
    with pytest.raises(UserMistake, match=r"lrs\.median_ohm = 10 ohm is out of range"):
        fitted_device(fit(lrs__median_ohm=Estimate(10.0, 9.0, 11.0, "ohm")), [run], default_device())
    with pytest.raises(UserMistake, match="must exceed"):
        fitted_device(fit(lrs__median_ohm=Estimate(9e4, 9e4, 9.1e4, "ohm")), [run], default_device())
    with pytest.raises(UserMistake, match="found nothing"):
        fitted_device(fit(some_other_number=LRS), [run], default_device())


def test_a_fit_is_plain_json_whatever_numbers_it_holds() -> None:
    whole = Fit(
        {"lrs.median_ohm": LRS},
        3,
        False,
        ("too few devices",),
        ("a line",),
        (Outlier(1, 2, int(Device.BL), "open"), Outlier(0, 0, 0, "far away", name="D600_R6")),
        (Check.within("median", 2.0, 1.0, 3.0), Check("spread", np.float64(np.nan), 0.0, 1.0, np.bool_(False), "none")),
        (Comparison("is the knee needed?", "yes", np.inf, "far better"),),
    )
    plain = json.loads(json.dumps(whole.as_json(), allow_nan=False))
    assert plain["parameters"] == {"lrs.median_ohm": {"value": 6000, "low": 5900, "high": 6100, "unit": "ohm"}}
    assert plain["converged"] is False
    assert plain["checks"][0]["good"] is True
    assert plain["checks"][1] == {
        "name": "spread", "value": None, "low": 0.0, "high": 1.0, "good": False, "text": "none",
    }  # fmt: skip
    assert plain["comparisons"][0]["evidence"] is None
    assert [str(item) for item in whole.outliers] == ["row 1, column 2, BL: open", "D600_R6: far away"]


def test_a_check_is_good_between_its_bounds_only() -> None:
    assert Check.within("x", 1.0, 1.0, 2.0).good
    assert not Check.within("x", 2.1, 1.0, 2.0).good
    assert not Check.within("x", float("nan"), 1.0, 2.0).good
