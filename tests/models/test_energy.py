"""Energy of programming pulses: worked by hand from the packaged device file, and bounds of what a device takes."""

from __future__ import annotations

import math

import pytest

from data.device_files import default_device
from models.cells import Polarity
from models.devices.energy import pulse_energy_j, reset_energy_j, set_energy_j
from models.exceptions import UserMistake

MODEL = default_device().model


def test_a_set_takes_the_column_supply_times_the_current_of_the_access_transistor() -> None:
    # 3.5 V, 64 uA at VDDR 3.0 V, 10 us
    assert set_energy_j(MODEL, 3.5, 3.0, 10e-6) == pytest.approx(2.24e-9, rel=1e-12)
    # half the overdrive of the gate (0.8 V threshold), half the current
    assert set_energy_j(MODEL, 3.5, 1.9, 10e-6) == pytest.approx(1.12e-9, rel=1e-12)
    assert set_energy_j(MODEL, 3.5, 0.8, 10e-6) == 0.0


def test_a_reset_takes_what_the_device_voltage_drives_through_the_lrs() -> None:
    # 4.5 V / 2.25 = 2 V across 6988 ohm for 10 us
    assert reset_energy_j(MODEL, 4.5, 5.0, 10e-6) == pytest.approx(4.0 / 6988.0 * 10e-6, rel=1e-12)
    # a word line below the column supply passes its own voltage
    assert reset_energy_j(MODEL, 4.5, 2.25, 10e-6) == pytest.approx(1.0 / 6988.0 * 10e-6, rel=1e-12)


def test_the_polarity_chooses_and_energy_goes_with_the_width() -> None:
    rails = 3.0, 3.0
    assert pulse_energy_j(MODEL, Polarity.SET, *rails, 2e-6) == pytest.approx(2 * set_energy_j(MODEL, *rails, 1e-6))
    assert pulse_energy_j(MODEL, Polarity.RESET, *rails, 2e-6) == pytest.approx(2 * reset_energy_j(MODEL, *rails, 1e-6))
    assert pulse_energy_j(MODEL, Polarity.SET, *rails, 0.0) == 0.0


@pytest.mark.parametrize("bad", [(-1.0, 3.0, 1e-6), (3.0, math.nan, 1e-6), (3.0, 3.0, math.inf)])
def test_what_is_no_pulse_has_no_energy(bad: tuple[float, float, float]) -> None:
    for energy in (set_energy_j, reset_energy_j):
        with pytest.raises(UserMistake, match="finite number, 0 or more"):
            energy(MODEL, *bad)
