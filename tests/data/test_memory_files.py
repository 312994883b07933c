from __future__ import annotations

import sys

import pytest

import models.devices
from data.memory_files import load_memory, packaged_memory
from models.devices.memory import write_saving
from models.devices.st_mram import StMram
from models.exceptions import UserMistake

TEXT = """
name = "junctions of a test"

[st_mram]
thermal_stability = { value = 50.0, unit = "1", source = "test", trust = "proposed" }
critical_current_a = { value = 40e-6, unit = "A", source = "test", trust = "proposed" }
damping = { value = 0.01, unit = "1", source = "test", trust = "proposed" }
anisotropy_field_t = { value = 0.6, unit = "T", source = "test", trust = "proposed" }
magnetization_a_per_m = { value = 1.0e6, unit = "A/m", source = "test", trust = "proposed" }
write_current_a = { value = 80e-6, unit = "A", source = "test", trust = "proposed" }
write_voltage_v = { value = 1.0, unit = "V", source = "test", trust = "proposed" }
"""

THIRD_MODULE = """
import math
from dataclasses import dataclass
from typing import ClassVar

from models.parameters import Parameters, quantity


@dataclass(frozen=True)
class PhaseChange(Parameters):
    section: ClassVar[str] = "phase_change"

    joule_per_decade: float = quantity("J", 1e-15, 1e-9, "energy per decade of error rate")

    def bit_energy_j(self, error_rate):
        return -math.log10(error_rate) * self.joule_per_decade


MEMORY = PhaseChange
"""

THIRD_FILE = """
name = "third"

[phase_change]
joule_per_decade = { value = 2e-12, unit = "J", source = "test", trust = "proposed" }
"""


@pytest.fixture
def path(tmp_path):
    where = tmp_path / "memory.toml"
    where.write_text(TEXT)
    return where


@pytest.fixture
def third_memory(tmp_path, monkeypatch):
    """One new module beside the memories and one parameter file, and nothing else."""
    (tmp_path / "phase_change.py").write_text(THIRD_MODULE)
    (tmp_path / "third.toml").write_text(THIRD_FILE)
    monkeypatch.setattr(models.devices, "__path__", [*models.devices.__path__, str(tmp_path)])
    yield tmp_path / "third.toml"
    sys.modules.pop("models.devices.phase_change")
    del models.devices.phase_change


def test_the_memory_of_the_package_has_its_parameters_and_their_sources():
    file = packaged_memory("st_mram")
    assert isinstance(file.memory, StMram)
    assert file.memory.thermal_stability == 60.0
    assert file.quantities["thermal_stability"].trust == "recalled"
    assert file.quantities["critical_current_a"].low == 30e-6
    assert set(file.quantities) == set(StMram.schema())
    assert "CoFeB" in file.extras["technology"]


def test_a_file_of_ones_own(path):
    file = load_memory(path)
    assert file.name == "junctions of a test"
    assert file.memory.bit_energy_j(1e-3) < file.memory.bit_energy_j(1e-8)


def test_a_third_memory_needs_one_module_and_one_parameter_file(third_memory):
    file = load_memory(third_memory)
    assert file.quantities["joule_per_decade"].unit == "J"
    assert write_saving(file.memory, 1e-8, 1e-2) == pytest.approx(4.0)
    third_memory.write_text(THIRD_FILE.replace("2e-12", "2.0"))
    with pytest.raises(UserMistake, match=r"third\.toml: phase_change\.joule_per_decade = 2 J is out of range"):
        load_memory(third_memory)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[st_mram]", "[flash]", ["flash is unknown", "the memories are st_mram"]),
        ("[st_mram]", "[rram]", ["rram is unknown", "the memories are st_mram"]),
        ("[st_mram]", "[st_mram]\n[other]", ["one section"]),
        ("damping", "friction", ["st_mram.friction is unknown", "damping"]),
        ('unit = "T"', 'unit = "Oe"', ['st_mram.anisotropy_field_t has the unit "Oe"', 'allowed is "T"']),
        ("value = 0.01", "value = 3.0", ["st_mram.damping = 3 1", "0.0001 to 1 1"]),
        ("value = 0.01", "value = nan", ["st_mram.damping", "nan"]),
        ("value = 80e-6", "value = 20e-6", ["st_mram.write_current_a = 2e-05", "must exceed"]),
        ('name = "junctions of a test"', "", ["name is missing"]),
        ('name = "junctions of a test"', 'name = "x"\nstray = 1', ["one section"]),
        ("[st_mram]", "[st_mram", ["not valid TOML"]),
    ],
)
def test_a_bad_file_is_refused_with_its_name_the_key_and_what_is_allowed(path, old, new, says):
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UserMistake) as caught:
        load_memory(path)
    text = str(caught.value)
    assert "\n" not in text
    for part in [str(path), *says]:
        assert part in text


def test_a_missing_key_is_named_with_its_range(path):
    path.write_text("\n".join(line for line in TEXT.splitlines() if not line.startswith("damping")))
    with pytest.raises(UserMistake, match=r"st_mram\.damping is missing .* allowed is 0\.0001 to 1"):
        load_memory(path)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UserMistake, match=r"cannot read the memory file .*flash\.toml"):
        packaged_memory("flash")
