"""Operating points: which voltages stand on the rails, and for how long, while the array does one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class RailVoltages(NamedTuple):
    """Voltages of the chip's three supplies, in V: core, array column supply, word-line supply."""

    vdd_v: float
    vddc_v: float
    vddr_v: float

    def __str__(self) -> str:
        return f"VDD {self.vdd_v:g} V, VDDC {self.vddc_v:g} V, VDDR {self.vddr_v:g} V"


@dataclass(frozen=True)
class PulsePoint:
    """Rails and pulse width of a programming operation (FORM, SET, RESET, WEAK_RESET)."""

    name: str
    rails: RailVoltages
    width_s: float


@dataclass(frozen=True)
class SensePoint:
    """Rails, precharge time and sense window of a read through the precharge sense amplifiers."""

    name: str
    rails: RailVoltages
    precharge_s: float
    window_s: float


@dataclass(frozen=True)
class DirectPoint:
    """Rails, forced voltage and compliance for measuring one device through direct access."""

    name: str
    rails: RailVoltages
    read_v: float
    compliance_a: float


@dataclass(frozen=True)
class CyclePoint:
    """Rails at which both polarities switch, and the widths of SET and RESET, for the board's own cycling loop."""

    name: str
    rails: RailVoltages
    set_width_s: float
    reset_width_s: float


@dataclass(frozen=True)
class OperatingPoints:
    """All the operating points of a chip.

    Attributes:
        cycle: None where the bench has none: cycles are then made of SET and RESET, each at its own rails.
    """

    form: PulsePoint
    set: PulsePoint
    reset: PulsePoint
    weak_reset: PulsePoint
    sense: SensePoint
    direct: DirectPoint
    cycle: CyclePoint | None = None
