"""The parameters of a device population, its cell and its sense amplifier: one frozen tree of plain floats.

Every field carries its unit, its allowed range and one line of documentation in ``field.metadata``. The tree is what
the equations take; where each number comes from is kept beside it by :mod:`data.device_files`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, NamedTuple

from models.exceptions import UserMistake


class Bounds(NamedTuple):
    """What a field of a section may hold."""

    unit: str
    low: float
    high: float
    doc: str


def quantity(unit: str, low: float, high: float, doc: str) -> Any:
    """A dataclass field for a plain float in ``unit`` within ``low`` to ``high``, both allowed."""
    return field(metadata={"bounds": Bounds(unit, low, high, doc)})


def _bounds_of(item: Field[Any]) -> Bounds:
    bounds = item.metadata["bounds"]
    assert isinstance(bounds, Bounds)
    return bounds


class _Section:
    """Base of the sections: the ranges of all fields are checked when a section is made."""

    name = ""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            check_value(f"{self.name}.{item.name}", getattr(self, item.name), _bounds_of(item))

    def _require(self, holds: bool, key: str, rule: str) -> None:
        """Raise UserMistake when two fields of a section contradict each other."""
        if not holds:
            raise UserMistake(f"{self.name}.{key} = {getattr(self, key):g} is refused: {rule}")


def check_value(key: str, value: object, bounds: Bounds) -> float:
    """Return ``value`` as a float.

    Raises:
        UserMistake: it is no finite number within the bounds; the text names the key, the value and what is allowed.
    """
    allowed = f"allowed is {bounds.low:g} to {bounds.high:g} {bounds.unit}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserMistake(f"{key} = {value!r} is not a number; {allowed}")
    number = float(value)
    if not math.isfinite(number):
        raise UserMistake(f"{key} = {number} is not finite; {allowed}")
    if not bounds.low <= number <= bounds.high:
        raise UserMistake(f"{key} = {number:g} {bounds.unit} is out of range; {allowed}")
    return number


@dataclass(frozen=True)
class Lrs(_Section):
    """Low-resistance state: log-normal, median inversely proportional to the SET compliance current."""

    name = "lrs"

    median_ohm: float = quantity("ohm", 1e2, 1e6, "median resistance after a SET at vddr_ref_v")
    sigma_d2d: float = quantity("1", 0.0, 2.0, "device-to-device standard deviation of ln R")
    sigma_c2c: float = quantity("1", 0.0, 2.0, "cycle-to-cycle standard deviation of ln R")
    set_compliance_ref_a: float = quantity("A", 1e-7, 1e-2, "current that the access transistor passes at vddr_ref_v")
    vddr_ref_v: float = quantity("V", 0.5, 10.0, "word-line supply of the reference SET")
    gate_threshold_v: float = quantity("V", 0.1, 3.0, "threshold voltage of the access transistor")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.vddr_ref_v > self.gate_threshold_v, "vddr_ref_v", "it must exceed lrs.gate_threshold_v")


@dataclass(frozen=True)
class Hrs(_Section):
    """High-resistance state: log-normal, median growing with the RESET voltage and weakly with the pulse width."""

    name = "hrs"

    median_ohm: float = quantity("ohm", 1e3, 1e9, "median resistance after a RESET at vddc_ref_v and width_ref_s")
    sigma_d2d: float = quantity("1", 0.0, 3.0, "device-to-device standard deviation of ln R")
    sigma_c2c: float = quantity("1", 0.0, 3.0, "cycle-to-cycle standard deviation of ln R")
    vddc_ref_v: float = quantity("V", 0.5, 10.0, "column supply of the reference RESET")
    drop_ratio: float = quantity("1", 1.0, 20.0, "column supply over the voltage that reaches the device in a RESET")
    doubling_v: float = quantity("V", 0.05, 10.0, "increase of the device voltage that doubles the median")
    width_ref_s: float = quantity("s", 1e-9, 1.0, "pulse width of the reference RESET")
    width_exponent: float = quantity("1", 0.0, 1.0, "median grows as (width / width_ref_s) to this power")


@dataclass(frozen=True)
class Virgin(_Section):
    """A device before forming."""

    name = "virgin"

    median_ohm: float = quantity("ohm", 1e5, 1e13, "median resistance")
    sigma: float = quantity("1", 0.0, 3.0, "device-to-device standard deviation of ln R")


@dataclass(frozen=True)
class Thresholds(_Section):
    """What must be applied before a pulse acts: supplies on the chip, or the voltage at the direct-access pads."""

    name = "thresholds"

    core_vdd_v: float = quantity("V", 0.0, 10.0, "core supply below which the chip does not act at all")
    form_vddc_v: float = quantity("V", 0.0, 10.0, "median over devices of the column supply that forms")
    form_vddr_v: float = quantity("V", 0.0, 10.0, "word-line supply needed for forming")
    form_sigma_d2d: float = quantity("1", 0.0, 0.5, "device-to-device relative s.d. of the forming voltage")
    form_sigma_c2c: float = quantity("1", 0.0, 0.5, "pulse-to-pulse relative s.d. of the forming voltage")
    set_vddc_v: float = quantity("V", 0.0, 10.0, "column supply needed for a SET")
    set_vddr_v: float = quantity("V", 0.0, 10.0, "word-line supply needed for a SET")
    reset_vddc_v: float = quantity("V", 0.0, 10.0, "column supply needed for a RESET")
    reset_vddr_v: float = quantity("V", 0.0, 10.0, "word-line supply needed for a RESET")
    form_direct_v: float = quantity("V", 0.0, 10.0, "median over devices of the pad voltage that forms")
    set_direct_v: float = quantity("V", 0.0, 10.0, "pad voltage needed for a SET")
    reset_direct_v: float = quantity("V", 0.0, 10.0, "pad voltage (absolute value) needed for a RESET")


@dataclass(frozen=True)
class WeakReset(_Section):
    """Weak RESET after Majumdar et al., IEEE TED 2021: populations of the mean curve, RTN and 1/f noise.

    Slopes and knee are those of pulses of ``width_ref_s`` at the device voltage ``v_ref_v``.
    """

    name = "weak_reset"

    slope1_loc: float = quantity("1/pulse", 0.0, 1.0, "location of the exponential population of slope m1 (t < t*)")
    slope1_scale: float = quantity("1/pulse", 1e-12, 1.0, "scale of the population of m1")
    slope1_low: float = quantity("1/pulse", 0.0, 1.0, "lower truncation of m1")
    slope1_high: float = quantity("1/pulse", 0.0, 1.0, "upper truncation of m1")
    knee_shape: float = quantity("1", 1e-6, 5.0, "s.d. of ln t* of the log-normal population of the knee t*")
    knee_scale: float = quantity("pulse", 1e-3, 1e12, "median of the population of t*")
    knee_low: float = quantity("pulse", 0.0, 1e12, "lower truncation of t*")
    knee_high: float = quantity("pulse", 0.0, 1e12, "upper truncation of t*")
    offset_mean: float = quantity("1", -2.0, 2.0, "mean of the normal population of the offset c1")
    offset_sd: float = quantity("1", 1e-9, 2.0, "standard deviation of the population of c1")
    offset_low: float = quantity("1", -5.0, 5.0, "lower truncation of c1")
    offset_high: float = quantity("1", -5.0, 5.0, "upper truncation of c1")
    slope2_loc: float = quantity("1/pulse", 0.0, 1.0, "location of the exponential population of slope m2 (t >= t*)")
    slope2_scale: float = quantity("1/pulse", 1e-12, 1.0, "scale of the population of m2")
    slope2_low: float = quantity("1/pulse", 0.0, 1.0, "lower truncation of m2")
    slope2_high: float = quantity("1/pulse", 0.0, 1.0, "upper truncation of m2")
    r0_mean_ohm: float = quantity("ohm", 1e2, 1e6, "mean of the normal population of R0, the LRS just after SET")
    r0_sd_ohm: float = quantity("ohm", 1e-3, 1e6, "standard deviation of the population of R0")
    r0_low_ohm: float = quantity("ohm", 1.0, 1e7, "lower truncation of R0")
    r0_high_ohm: float = quantity("ohm", 1.0, 1e7, "upper truncation of R0")
    rtn_p_low_high: float = quantity("1/pulse", 0.0, 1.0, "probability of RTN low to high per pulse")
    rtn_p_high_low: float = quantity("1/pulse", 0.0, 1.0, "probability of RTN high to low per pulse")
    rtn_amplitude_high: float = quantity("1", 0.0, 5.0, "RTN ceilings are uniform between 0 and this, in ln R")
    pink_alpha: float = quantity("1", 0.0, 5.0, "gain of the 1/f noise: of uniform noise through the filter, in ln R")
    pink_memory: float = quantity("pulse", 2.0, 1e6, "length of the half-order integrator that the 1/f noise follows")
    v_ref_v: float = quantity("V", 0.1, 10.0, "device voltage of the reference weak RESET")
    efold_v: float = quantity("V", 0.01, 10.0, "increase of the device voltage that multiplies the slopes by e")
    width_ref_s: float = quantity("s", 1e-9, 1.0, "pulse width of the reference weak RESET; stress adds up with width")
    onset_v: float = quantity("V", 0.0, 10.0, "device voltage below which a pulse does nothing")
    ceiling_ohm: float = quantity("ohm", 1e3, 1e12, "resistance at which the drift ends: the device is then in the HRS")
    intermediate_ratio: float = quantity(
        "1", 1.0, 100.0, "R / R0 from which a weakly reset device is no longer in the LRS but in an intermediate state"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slope1", "knee", "offset", "slope2"):
            holds = getattr(self, f"{name}_low") < getattr(self, f"{name}_high")
            self._require(holds, f"{name}_low", f"it must be below {self.name}.{name}_high")
        self._require(self.r0_low_ohm < self.r0_high_ohm, "r0_low_ohm", "it must be below weak_reset.r0_high_ohm")
        for name in ("slope1", "slope2"):
            holds = getattr(self, f"{name}_loc") < getattr(self, f"{name}_high")
            self._require(holds, f"{name}_loc", f"it must be below {self.name}.{name}_high")
        switches = 0.0 < self.rtn_p_low_high + self.rtn_p_high_low <= 1.0
        self._require(
            switches, "rtn_p_low_high", "with weak_reset.rtn_p_high_low it must add up to over 0 and at most 1"
        )


@dataclass(frozen=True)
class Sense(_Section):
    """Precharge sense amplifier: two nodes that discharge through the two branches of a cell."""

    name = "sense"

    node_capacitance_f: float = quantity("F", 1e-16, 1e-9, "capacitance of a precharged node with its bit line")
    swing_v: float = quantity("V", 0.01, 5.0, "fall of a node at which the latch decides")
    access_ohm: float = quantity("ohm", 0.0, 1e6, "series resistance of the access transistor in a read")
    saturation_a: float = quantity("A", 1e-7, 1.0, "largest current of a branch at vdd_ref_v")
    vdd_ref_v: float = quantity("V", 0.1, 10.0, "core supply for which saturation_a and offset_sigma are given")
    threshold_v: float = quantity("V", 0.0, 5.0, "supply at which the amplifier stops working")
    offset_sigma: float = quantity("1", 0.0, 2.0, "s.d. over columns of the offset, in ln of the branch resistances")
    noise_sigma: float = quantity("1", 0.0, 2.0, "s.d. from sense to sense, in ln of the branch resistances")
    precharge_min_s: float = quantity("s", 0.0, 1.0, "shortest precharge that charges both nodes")
    reference_c: float = quantity("degC", -100.0, 300.0, "temperature for which all of these are given")
    threshold_per_k: float = quantity("V/K", -1e-2, 1e-2, "change of threshold_v and swing_v with temperature")
    mobility_exponent: float = quantity("1", 0.0, 3.0, "currents go as the absolute temperature to minus this power")
    corner_threshold_v: float = quantity("V", 0.0, 0.5, "SS raises threshold_v and swing_v by this, FF lowers them")
    corner_mobility: float = quantity("1", 0.0, 0.9, "SS lowers the currents by this fraction, FF raises them")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.vdd_ref_v > self.threshold_v, "vdd_ref_v", "it must exceed sense.threshold_v")


@dataclass(frozen=True)
class Endurance(_Section):
    """Wear of a device by SET and RESET: how fast it accumulates, and what it does to the HRS.

    Wear is the used share of a device's cyclability; a cycle is one SET and one RESET.
    """

    name = "endurance"

    cycles_ref: float = quantity("cycle", 1.0, 1e18, "cyclability at set_ref_a, reset_ref_v and width_ref_s")
    set_ref_a: float = quantity("A", 1e-7, 1e-2, "compliance current of the reference SET")
    set_exponent: float = quantity("1", 0.0, 20.0, "wear of a SET goes as the compliance current to this power")
    reset_ref_v: float = quantity("V", 0.1, 10.0, "device voltage of the reference RESET")
    reset_efold_v: float = quantity("V", 0.01, 10.0, "increase of the device voltage that multiplies RESET wear by e")
    width_ref_s: float = quantity("s", 1e-9, 1.0, "pulse width of the reference SET and RESET")
    width_exponent: float = quantity("1", 0.0, 2.0, "wear of a pulse goes as its width to this power")
    wear_exponent: float = quantity("1", 0.1, 5.0, "the HRS changes with the wear to this power")
    window_loss: float = quantity("1", 0.0, 10.0, "fall of ln R of the HRS median at a wear of 1")
    spread_growth: float = quantity("1", 0.0, 10.0, "relative growth of hrs.sigma_c2c at a wear of 1")
    stuck_wear: float = quantity("1", 1e-3, 1e6, "median over devices of the wear at which one sticks in the LRS")
    stuck_sigma: float = quantity("1", 0.0, 3.0, "device-to-device standard deviation of ln of that wear")


@dataclass(frozen=True)
class Retention(_Section):
    """Drift of ln R with the logarithm of the time since programming, thermally activated.

    Each programming draws a device's own drift: normal, with the means and standard deviations per decade of time.
    """

    name = "retention"

    reference_c: float = quantity("degC", -100.0, 300.0, "temperature at which onset_s is given")
    activation_ev: float = quantity("eV", 0.0, 5.0, "Arrhenius activation energy of the time scale")
    onset_s: float = quantity("s", 1e-9, 1e12, "time from which the drift counts decades, at reference_c")
    lrs_drift: float = quantity("1/decade", -2.0, 2.0, "mean drift of ln R of the LRS")
    lrs_sigma: float = quantity("1/decade", 0.0, 2.0, "standard deviation of the drift of ln R of the LRS")
    hrs_drift: float = quantity("1/decade", -2.0, 2.0, "mean drift of ln R of the HRS")
    hrs_sigma: float = quantity("1/decade", 0.0, 2.0, "standard deviation of the drift of ln R of the HRS")


@dataclass(frozen=True)
class Temperature(_Section):
    """Change of a resistance with the temperature at which it is read."""

    name = "temperature"

    reference_c: float = quantity("degC", -100.0, 300.0, "temperature for which all resistances are given")
    low_c: float = quantity("degC", -273.0, 300.0, "lowest temperature that the model is good for")
    high_c: float = quantity("degC", -100.0, 1000.0, "highest temperature that the model is good for")
    lrs_per_k: float = quantity("1/K", -0.01, 0.01, "relative change of the LRS: metallic, positive")
    hrs_activation_ev: float = quantity("eV", 0.0, 2.0, "activation energy of conduction in HRS and virgin devices")

    def __post_init__(self) -> None:
        super().__post_init__()
        inside = self.low_c <= self.reference_c <= self.high_c
        self._require(inside, "reference_c", "it must lie within temperature.low_c to temperature.high_c")


@dataclass(frozen=True)
class ReadNoise(_Section):
    """Fluctuation of a resistance from one reading of a meter to the next."""

    name = "read_noise"

    sigma_ref: float = quantity("1", 0.0, 1.0, "standard deviation of ln R at resistance_ref_ohm")
    resistance_ref_ohm: float = quantity("ohm", 1.0, 1e9, "resistance for which sigma_ref is given")
    exponent: float = quantity("1", 0.0, 2.0, "the standard deviation grows as the resistance to this power")
    sigma_high: float = quantity("1", 0.0, 2.0, "largest standard deviation of ln R")


@dataclass(frozen=True)
class Defects(_Section):
    """Fractions of devices that come out of fabrication broken."""

    name = "defects"

    stuck_lrs: float = quantity("1", 0.0, 1.0, "fraction of devices stuck in the LRS")
    stuck_hrs: float = quantity("1", 0.0, 1.0, "fraction of devices that never leave a high resistance")
    open: float = quantity("1", 0.0, 1.0, "fraction of devices that are not connected")
    open_ohm: float = quantity("ohm", 1e8, 1e15, "leakage resistance of an open device")

    def __post_init__(self) -> None:
        super().__post_init__()
        total = self.stuck_lrs + self.stuck_hrs + self.open
        self._require(total <= 1.0, "open", "with defects.stuck_lrs and defects.stuck_hrs it must add up to at most 1")


@dataclass(frozen=True)
class AbsoluteMaximum(_Section):
    """Voltages beyond which devices are damaged for good."""

    name = "absolute_maximum"

    vdd_v: float = quantity("V", 0.1, 30.0, "core supply")
    vddc_v: float = quantity("V", 0.1, 30.0, "column supply")
    vddr_v: float = quantity("V", 0.1, 30.0, "word-line supply")
    direct_v: float = quantity("V", 0.1, 30.0, "voltage across a device at the direct-access pads, either polarity")
    damage_fraction: float = quantity("1", 0.0, 1.0, "fraction of devices damaged by one exposure of the supplies")


@dataclass(frozen=True)
class ReadError(_Section):
    """Bit errors of a programmed array as measured; only files that were fitted to a chip have this section."""

    name = "read_error"

    stuck_fraction: float = quantity("1", 0.0, 1.0, "fraction of cells that cannot be given one of the two weights")
    random_rate: float = quantity("1", 0.0, 1.0, "probability that two senses of a good cell are both wrong")
    transient_rate: float = quantity("1", 0.0, 1.0, "half the probability that two senses of a good cell differ")


@dataclass(frozen=True)
class XnorError(_Section):
    """Errors of XNOR in the array that no read shows, as measured; only files that were fitted to a chip have it."""

    name = "xnor_error"

    fixed_rate: float = quantity("1", 0.0, 1.0, "probability that a cell answers every input with its weight")


@dataclass(frozen=True)
class DeviceModel:
    """All parameters of a device population, its cell and its sense amplifier."""

    lrs: Lrs
    hrs: Hrs
    virgin: Virgin
    thresholds: Thresholds
    weak_reset: WeakReset
    sense: Sense
    endurance: Endurance
    retention: Retention
    temperature: Temperature
    read_noise: ReadNoise
    defects: Defects
    absolute_maximum: AbsoluteMaximum
    read_error: ReadError | None = None
    xnor_error: XnorError | None = None

    def __post_init__(self) -> None:
        if self.hrs.median_ohm <= self.lrs.median_ohm:
            raise UserMistake(
                f"hrs.median_ohm = {self.hrs.median_ohm:g} is refused: it must exceed "
                f"lrs.median_ohm = {self.lrs.median_ohm:g}"
            )

    @classmethod
    def from_values(cls, values: Mapping[str, float]) -> DeviceModel:
        """Build the tree from ``{"section.field": value}``.

        An optional section is built when at least one of its keys is given.

        Raises:
            UserMistake: a key is unknown or missing, or a value is out of range.
        """
        unknown = sorted(set(values) - set(SCHEMA))
        if unknown:
            raise UserMistake(unknown_key(unknown[0]))
        sections: dict[str, Any] = {}
        for name, section in SECTIONS.items():
            keys = {item.name: f"{name}.{item.name}" for item in fields(section)}
            if name in OPTIONAL_SECTIONS and not any(key in values for key in keys.values()):
                continue
            missing = [key for key in keys.values() if key not in values]
            if missing:
                unit, low, high, doc = SCHEMA[missing[0]]
                raise UserMistake(f"{missing[0]} is missing ({doc}); allowed is {low:g} to {high:g} {unit}")
            sections[name] = section(**{item: float(values[key]) for item, key in keys.items()})
        return cls(**sections)

    def values(self) -> Iterator[tuple[str, float]]:
        """All parameters as ``("section.field", value)``, in the order of the schema."""
        for name, section in SECTIONS.items():
            part = getattr(self, name)
            if part is not None:
                yield from ((f"{name}.{item.name}", getattr(part, item.name)) for item in fields(section))


# fmt: off
_ALL: tuple[Any, ...] = (
    Lrs, Hrs, Virgin, Thresholds, WeakReset, Sense, Endurance, Retention, Temperature, ReadNoise, Defects,
    AbsoluteMaximum, ReadError, XnorError,
)
# fmt: on

SECTIONS: Mapping[str, Any] = {section.name: section for section in _ALL}
"""Section name to its dataclass."""

OPTIONAL_SECTIONS = frozenset(item.name for item in fields(DeviceModel) if item.default is not MISSING)
"""Sections that a parameter file may leave out."""

SCHEMA: Mapping[str, Bounds] = {
    f"{name}.{item.name}": _bounds_of(item) for name, section in SECTIONS.items() for item in fields(section)
}
"""``"section.field"`` to its unit, allowed range and documentation."""


def unknown_key(key: str) -> str:
    """One sentence about a key that the schema does not have, with what it does have."""
    section = key.partition(".")[0]
    if section not in SECTIONS:
        return f"{key} is unknown; the sections are {', '.join(SECTIONS)}"
    return f"{key} is unknown; {section} has {', '.join(item.name for item in fields(SECTIONS[section]))}"
