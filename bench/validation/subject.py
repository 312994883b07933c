"""What is validated: the parameter files, and through them every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from data.device_files import DeviceFile, default_device, load_device
from data.memory_files import packaged_memory
from data.programming_conditions import ProgrammingConditions, default_conditions
from models.devices.st_mram import StMram

Measured = Mapping[str, float | str]
"""Name of a published figure to ours."""


@dataclass(frozen=True)
class Subject:
    """Populations, conditions and memories under test.

    Attributes:
        device: RRAM of the binary chip.
        ternary: RRAM and sense amplifiers of the ternary chip.
        conditions: programming conditions of RRAM.
        magnetic: ST-MRAM.
    """

    device: DeviceFile
    ternary: DeviceFile
    conditions: ProgrammingConditions
    magnetic: StMram

    @classmethod
    def packaged(cls) -> Subject:
        """The parameter files that come with the package."""
        devices = Path(str(resources.files("data"))) / "devices"
        magnetic = packaged_memory("st_mram").memory
        assert isinstance(magnetic, StMram)
        return cls(default_device(), load_device(devices / "hfo2_130nm_ternary.toml"), default_conditions(), magnetic)
