"""The bench file: which driver and which resource fill each role, the chip, its operating points, the limits.

A TOML file checked as a whole before anything is opened: unknown keys are refused, and every operating point must lie
within the file's own limits.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drivers.errors import LimitError
from drivers.limits import Range
from drivers.operating_points import CyclePoint, DirectPoint, OperatingPoints, PulsePoint, RailVoltages, SensePoint
from drivers.world_clock import URL
from models.cells import Geometry
from models.exceptions import UserMistake

SLOWEST_READING_S = 3.0
"""Longest time of one reading of a source-measure unit or one arrival of a rail, as the watchdog sees it."""

Volts = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seconds = Annotated[float, Field(strict=True, ge=0, le=600)]
Span = tuple[Volts, Volts]


class Section(BaseModel):
    """A table of the bench file: frozen, and no key that we do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Channels(Section):
    """Supply channel of each rail, counted from 1."""

    vdd: int = Field(ge=1)
    vddc: int = Field(ge=1)
    vddr: int = Field(ge=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({self.vdd, self.vddc, self.vddr}) != 3:
            raise ValueError("vdd, vddc and vddr must be three different channels")
        return self


class Supply(Section):
    """The DC supply of the chip's three rails."""

    driver: Literal["keithley-2230g", "keysight-e36312a"]
    resource: str
    serial: str | None = None
    channels: Channels
    current_limit_a: Annotated[float, Field(gt=0, le=5)] = 0.05
    settle_s: Seconds = 0.6
    tolerance_v: Annotated[float, Field(gt=0, le=0.5)] = 0.05


class Smu(Section):
    """The source-measure unit on the direct-access pads."""

    driver: Literal["keithley-2450", "keithley-2636b"]
    resource: str
    serial: str | None = None
    power_line_cycles: Annotated[float, Field(ge=0.01, le=10)] = 1.0


class PulseSourceSection(Section):
    """The pulse source on the direct-access pads."""

    driver: Literal["keysight-81160a", "keysight-33500b"]
    resource: str
    serial: str | None = None


class TemperatureSection(Section):
    """What brings the chip to a temperature."""

    driver: Literal["temptronic-ats545"]
    resource: str
    serial: str | None = None
    moves_head: bool = False


class ProberSection(Section):
    """What brings one die of a wafer after the other under the needles."""

    driver: Literal["mpi-sentio"]
    resource: str
    serial: str | None = None
    wafer: Annotated[str, Field(pattern=r"^[\w.+-]{1,64}$")] | None = None


class Firmware(Section):
    """What a C2N ternary board times by itself; it is not published, and has to be measured."""

    pulse_width_s: Seconds
    precharge_s: Seconds
    window_s: Seconds


class Board(Section):
    """The controller board that drives the chip's lines."""

    driver: Literal["framed", "c2n-ternary", "c2n-column"]
    port: str
    baudrate: int = Field(default=921600, gt=0)
    watchdog_s: Seconds = 10.0
    firmware: Firmware | None = None

    @model_validator(mode="after")
    def _of_one_dialect(self) -> Self:
        if (self.driver == "c2n-ternary") != (self.firmware is not None):
            raise ValueError("firmware is what a c2n-ternary board times by itself: it needs it, and no other has it")
        if self.driver != "framed" and self.watchdog_s > 0:
            raise ValueError(f"watchdog_s: a {self.driver} board has no watchdog; set 0")
        return self


class ChipSection(Section):
    """The chip that is expected in the socket."""

    rows: int = Field(ge=1, le=1024)
    cols: int = Field(ge=1, le=1024)
    id: str | None = None


class RailsAt(Section):
    """Voltages of the three rails at an operating point."""

    vdd_v: Volts
    vddc_v: Volts
    vddr_v: Volts

    @property
    def rails(self) -> RailVoltages:
        """As the drivers take them."""
        return RailVoltages(self.vdd_v, self.vddc_v, self.vddr_v)


class PulseAt(RailsAt):
    """An operating point that programs."""

    width_s: Seconds


class SenseAt(RailsAt):
    """The operating point of a read through the sense amplifiers."""

    precharge_s: Seconds
    window_s: Seconds


class DirectAt(RailsAt):
    """The operating point of a resistance measurement through direct access."""

    read_v: Volts
    compliance_a: Annotated[float, Field(gt=0)]


class CycleAt(RailsAt):
    """The operating point of the board's own cycling loop, at whose rails both polarities must switch."""

    set_width_s: Seconds
    reset_width_s: Seconds


class Points(Section):
    """The operating points, named as the field names them."""

    FORM: PulseAt
    SET: PulseAt
    RESET: PulseAt
    WEAK_RESET: PulseAt
    SENSE: SenseAt
    DIRECT: DirectAt
    CYCLE: CycleAt | None = None


class Limits(Section):
    """The envelope: closed ranges ``[low, high]`` that no path to the chip may leave."""

    vdd_v: Span
    vddc_v: Span
    vddr_v: Span
    pulse_width_s: Span
    pulse_count: tuple[int, int]
    cycle_count: tuple[int, int] = (1, 10**12)
    sense_window_s: Span
    smu_voltage_v: Span
    smu_compliance_a: Span
    pulse_level_v: Span | None = None
    temperature_c: Span | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for key, span in self:
            if span is not None and span[0] > span[1]:
                raise ValueError(f"{key}: [{span[0]:g}, {span[1]:g}] has its bounds in the wrong order")
        return self


class InterlockLimits(Section):
    """What must hold before a run may start and as long as it lasts; all of it is optional."""

    period_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    hold_s: Seconds = 0.0
    rail_current_a: Span | None = None
    temperature_c: Span | None = None
    frozen_after: int | None = Field(default=None, ge=2)
    smu_current_a: Span | None = None
    smu_compliance: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for key, span in self:
            if isinstance(span, tuple) and span[0] > span[1]:
                raise ValueError(f"{key}: [{span[0]:g}, {span[1]:g}] has its bounds in the wrong order")
        return self


class BenchFile(Section):
    """A whole bench file."""

    schema_: Literal["rram-bench bench 1"] = Field(alias="schema")
    name: str
    simulated: bool = False
    world_clock: str | None = None
    procedures: Path | None = None
    supply: Supply
    smu: Smu | None = None
    pulse_source: PulseSourceSection | None = None
    temperature: TemperatureSection | None = None
    prober: ProberSection | None = None
    board: Board
    chip: ChipSection
    operating_points: Points
    limits: Limits
    interlocks: InterlockLimits = InterlockLimits()

    @model_validator(mode="after")
    def _only_a_simulated_world_has_a_clock(self) -> Self:
        if self.world_clock is None:
            return self
        if not self.simulated:
            raise ValueError(
                "world_clock is for simulated benches only (simulated = true); remove it: time is real here"
            )
        if URL.fullmatch(self.world_clock) is None:
            raise ValueError(f"world_clock: {self.world_clock!r} is not of the form socket://HOST:PORT")
        return self

    @model_validator(mode="after")
    def _points_within_limits(self) -> Self:
        low_precharge, high_precharge = self.limits.sense_window_s
        for name, point in self.operating_points:
            if point is None:
                continue
            checks = {"vdd_v": point.vdd_v, "vddc_v": point.vddc_v, "vddr_v": point.vddr_v}
            if isinstance(point, PulseAt):
                checks["pulse_width_s"] = point.width_s
            if isinstance(point, CycleAt):
                for width_s in (point.set_width_s, point.reset_width_s):
                    self._check_within(name, "pulse_width_s", width_s)
            if isinstance(point, SenseAt):
                checks["sense_window_s"] = point.window_s
                if not low_precharge <= point.precharge_s <= high_precharge:
                    raise ValueError(
                        f"operating_points.{name}: precharge_s = {point.precharge_s:g} is outside limits.sense_window_s"
                        f" = [{low_precharge:g}, {high_precharge:g}], which holds for it too"
                    )
            if isinstance(point, DirectAt):
                checks["smu_voltage_v"] = point.read_v
                checks["smu_compliance_a"] = point.compliance_a
            for key, value in checks.items():
                self._check_within(name, key, value)
        for role, key in (("pulse_source", "pulse_level_v"), ("temperature", "temperature_c")):
            if getattr(self, role) is not None and getattr(self.limits, key) is None:
                raise ValueError(f"limits.{key} is missing: the bench has a [{role}], which must have limits")
        if self.operating_points.DIRECT.read_v == 0.0:
            raise ValueError("operating_points.DIRECT.read_v: a resistance needs a voltage other than 0")
        slowest = self.supply.settle_s + SLOWEST_READING_S
        if 0.0 < self.board.watchdog_s <= slowest:
            raise ValueError(
                f"board.watchdog_s = {self.board.watchdog_s:g} is too short: between two of the host's calls up to "
                f"{slowest:g} s may pass (supply.settle_s and a reading); lengthen it, or set 0 to switch it off"
            )
        return self

    def _check_within(self, point: str, key: str, value: float) -> None:
        low, high = getattr(self.limits, key)
        if not low <= value <= high:
            raise ValueError(f"operating_points.{point}: {value:g} is outside limits.{key} = [{low:g}, {high:g}]")

    @property
    def geometry(self) -> Geometry:
        """Size of the array."""
        return Geometry(self.chip.rows, self.chip.cols)

    @property
    def wafer(self) -> str:
        """What the wafer on the prober is called: the bench's name where its file has none."""
        return self.name if self.prober is None or self.prober.wafer is None else self.prober.wafer

    @property
    def resources(self) -> dict[str, str]:
        """What each role that the file fills is reached by: a VISA resource, or the board's port."""
        return {
            role: getattr(section, key)
            for role, section in self
            for key in ("resource", "port")
            if hasattr(section, key)
        }

    def limit(self, key: str, unit: str) -> Range:
        """One range of the envelope, for the drivers' guards."""
        low, high = getattr(self.limits, key)
        return Range(low, high, unit, f"limits.{key} of bench {self.name!r}")

    def check_temperature(self, celsius: float) -> None:
        """Refuse a temperature that this bench cannot set or must not. Raises LimitError."""
        if self.temperature is None:
            raise LimitError(
                f"{celsius:g} degC is asked for and the bench has no temperature source; "
                "add [temperature] to its file, or leave the temperature out"
            )
        self.limit("temperature_c", "degC").check(celsius, "temperature")

    @property
    def points(self) -> OperatingPoints:
        """The operating points, as the chip takes them."""
        at = self.operating_points
        return OperatingPoints(
            form=PulsePoint("FORM", at.FORM.rails, at.FORM.width_s),
            set=PulsePoint("SET", at.SET.rails, at.SET.width_s),
            reset=PulsePoint("RESET", at.RESET.rails, at.RESET.width_s),
            weak_reset=PulsePoint("WEAK_RESET", at.WEAK_RESET.rails, at.WEAK_RESET.width_s),
            sense=SensePoint("SENSE", at.SENSE.rails, at.SENSE.precharge_s, at.SENSE.window_s),
            direct=DirectPoint("DIRECT", at.DIRECT.rails, at.DIRECT.read_v, at.DIRECT.compliance_a),
            cycle=None
            if at.CYCLE is None
            else CyclePoint("CYCLE", at.CYCLE.rails, at.CYCLE.set_width_s, at.CYCLE.reset_width_s),
        )


def parse_bench_file(text: str, where: str) -> BenchFile:
    """Check the text of a bench file; ``where`` names it in errors.

    Raises:
        UserMistake: it is no TOML, or a key or value is wrong; the line names the first key and what is allowed.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserMistake(f"{where}: not a TOML file: {error}") from None
    try:
        return BenchFile.model_validate(content)
    except ValidationError as error:
        raise UserMistake(f"{where}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """The first complaint of pydantic as one line: which key, what is wrong with it, and how many more there are."""
    first, *others = error.errors()
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its spelling"
    elif first["type"] == "missing":
        message = "this key is missing"
    more = f" (and {len(others)} more)" if others else ""
    return f"{key}: {message}{more}" if key else f"{message}{more}"


def load_bench_file(path: Path) -> tuple[BenchFile, str]:
    """Read and check a bench file; return it with its text, which goes into every run file.

    Its folder of procedures is taken from the file's own place.

    Raises:
        UserMistake: no such file, not readable, or wrong content.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise UserMistake(f"bench file {path}: {reason}; name an existing file, or use --bench simulated") from None
    config = parse_bench_file(text, str(path))
    if config.procedures is not None:
        config = config.model_copy(update={"procedures": path.absolute().parent / config.procedures})
    return config, text
