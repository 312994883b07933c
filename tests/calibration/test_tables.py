"""Plain tables of other people's data: read as our runs are, or refused with a line that names the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.tables import read_states, read_trains
from data.device_files import default_device
from data.run_chain import read_whole
from data.runs import RunStatus
from drivers.chip import OperationKind
from models.exceptions import UserMistake

BASE = default_device()

TRAINS = """device,cycle,pulse,resistance_ohm
left,0,0,7000
left,0,1,7010.5
right,0,0,6500
left,1,0,7100
right,0,1,inf
left,1,1,7120
"""


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_trains_come_out_as_a_staircase(tmp_path: Path) -> None:
    run = read_trains(table(tmp_path, TRAINS), BASE)
    assert (run.procedure, run.status, run.names) == ("weak-reset", RunStatus.COMPLETED, ("left", "right"))
    stairs = read_whole(run, "staircase")
    assert stairs["row"].tolist() == [0, 0, 1, 0, 1, 0]
    assert stairs["cycle"].tolist() == [0, 0, 0, 1, 0, 1]
    assert stairs["pulses"].tolist() == [0, 1, 0, 0, 1, 1]
    assert stairs["resistance_ohm"].tolist() == [7000, 7010.5, 6500, 7100, np.inf, 7120]
    assert (stairs["device_v"] == BASE.model.weak_reset.v_ref_v).all()
    operations = run.read("operations", ["kind", "width_s"])
    assert operations["kind"].tolist() == [OperationKind.WEAK_RESET]
    assert operations["width_s"].tolist() == [BASE.model.weak_reset.width_ref_s]


def test_pulses_of_several_voltages_are_branches(tmp_path: Path) -> None:
    text = "device,voltage_v,width_s,pulse,resistance_ohm\nA,1.2,2e-6,0,7e3\nA,1.2,2e-6,1,8e3\nA,0.9,1e-6,0,7e3\n"
    run = read_trains(table(tmp_path, text), BASE)
    stairs = run.read("staircase", ["branch", "device_v", "vddc_v"])
    assert stairs["branch"].tolist() == [1, 1, 0]
    assert stairs["device_v"].tolist() == [1.2, 1.2, 0.9]
    assert stairs["vddc_v"] == pytest.approx(np.array([1.2, 1.2, 0.9]) * BASE.model.hrs.drop_ratio)
    assert run.read("operations")["width_s"].tolist() == [1e-6, 2e-6]


def test_states_come_out_as_resistances(tmp_path: Path) -> None:
    text = "device,state,cycle,resistance_ohm,in_compliance\n7,LRS,0,7e3,0\n7,hrs,0,inf,1\n7,LRS,1,7.1e3,0\n"
    run = read_states(table(tmp_path, text), BASE)
    measured = run.read("resistances")
    flags = run.tables["resistances"].column("state").flags
    assert flags is not None
    assert [flags[code] for code in measured["state"]] == ["LRS", "HRS", "LRS"]
    assert measured["pattern"].tolist() == [0, 0, 1]
    assert measured["in_compliance"].tolist() == [0, 1, 0]
    assert run.rows("resistances") == 3
    with pytest.raises(UserMistake, match="no column 'volts'"):
        run.read("resistances", ["volts"])
    with pytest.raises(UserMistake, match="no table 'staircase'"):
        run.read("staircase")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("resistance_ohm", "ohm"), "column resistance_ohm is missing"),
        (("cycle", "loop"), "column 'loop' is unknown; known are device, pulse"),
        (("cycle", "pulse"), "two columns pulse"),
        (("7010.5", "nan"), "line 3: resistance_ohm = 'nan' is not a finite number"),
        (("7010.5", "-1"), "line 3: resistance_ohm = '-1' must be above 0"),
        (("7010.5", "7k"), "line 3: resistance_ohm = '7k' is not a number"),
        (("left,0,1", "left,0,0"), "line 3: device left, cycle 0: pulse 0 was given already in line 2"),
        (("left,0,1", "left,0,1.5"), "line 3: pulse = '1.5' must be a whole number"),
        (("left,0,0", "left,0,2"), "line 3: device left, cycle 0: pulse 1 comes after pulse 2"),
        (("left,0,1", "left,0,1e20"), "line 3: pulse = '1e20' must be a whole number, of at most 2147483647"),
        (("right,0,0", ",0,0"), "line 4: device is empty"),
        (("left,1,0,7100", "left,1,0"), "line 5: 3 cells, and 4 columns"),
        ((TRAINS[TRAINS.index("left") :], ""), "no lines"),
        ((TRAINS, ""), "column device is missing"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in TRAINS
    path = table(tmp_path, TRAINS.replace(*change, 1))
    with pytest.raises(UserMistake) as caught:
        read_trains(path, BASE)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_states_that_occur_twice_or_are_unknown_are_refused(tmp_path: Path) -> None:
    text = "device,state,resistance_ohm\nA,LRS,7e3\nA,HRS,8e4\nA,LRS,7.2e3\n"
    with pytest.raises(UserMistake, match="line 4: device A, cycle 0: this reading was given already in line 2"):
        read_states(table(tmp_path, text), BASE)
    limited = text.replace("resistance_ohm", "resistance_ohm,in_compliance").replace("7e3", "7e3,256")
    with pytest.raises(UserMistake, match="line 2: in_compliance = '256' must be at most 1"):
        read_states(table(tmp_path, limited), BASE)
    with pytest.raises(UserMistake, match="line 3: state = 'MRS' is unknown; allowed are LRS, HRS"):
        read_states(table(tmp_path, text.replace("HRS", "MRS")), BASE)


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\x89HDF\xff\xfe\x00")
    for name in ("binary.csv", "nowhere.csv"):
        with pytest.raises(UserMistake, match=f"cannot read the table .*{name}"):
            read_trains(tmp_path / name, BASE)


def test_one_width_for_the_pulses_of_one_voltage(tmp_path: Path) -> None:
    text = "device,width_s,pulse,resistance_ohm\nA,1e-6,0,7e3\nA,2e-6,1,8e3\n"
    with pytest.raises(UserMistake, match="width_s differs"):
        read_trains(table(tmp_path, text), BASE)
