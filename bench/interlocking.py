"""The interlocks of a bench, as its file's ``[interlocks]`` names them."""

from __future__ import annotations

from bench.config import BenchFile
from drivers.interlocks import GuardedSmu, Interlocks, rail_current, temperature_band
from drivers.limits import Range
from drivers.rails import SupplyRails
from drivers.roles import SourceMeasureUnit
from drivers.temperature_role import TemperatureSource
from models.exceptions import UserMistake


def bench_interlocks(config: BenchFile, rails: SupplyRails, temperature: TemperatureSource | None = None) -> Interlocks:
    """The conditions under which a run may start and go on.

    Args:
        temperature: the bench's temperature source, if it has one.

    Raises:
        UserMistake: a temperature band without a temperature source.
    """
    wanted = config.interlocks
    found = []
    if wanted.rail_current_a is not None:
        found.append(rail_current(rails, _range(config, "rail_current_a", wanted.rail_current_a, "A")))
    if wanted.temperature_c is not None:
        if temperature is None:
            raise UserMistake(
                f"interlocks.temperature_c of bench {config.name!r}: there is no temperature source to read it from; "
                "remove the key or add the instrument"
            )
        band = _range(config, "temperature_c", wanted.temperature_c, "degC")
        found.append(temperature_band(temperature, band, wanted.frozen_after))
    return Interlocks(found, wanted.period_s, wanted.hold_s)


def guarded(config: BenchFile, smu: SourceMeasureUnit | None) -> SourceMeasureUnit | None:
    """The source-measure unit with every reading judged, where the bench file asks for that."""
    wanted = config.interlocks
    if smu is None or (wanted.smu_current_a is None and not wanted.smu_compliance):
        return smu
    span = wanted.smu_current_a
    current = None if span is None else _range(config, "smu_current_a", span, "A")
    return GuardedSmu(smu, current, wanted.smu_compliance)


def _range(config: BenchFile, key: str, span: tuple[float, float], unit: str) -> Range:
    return Range(*span, unit, f"interlocks.{key} of bench {config.name!r}")
