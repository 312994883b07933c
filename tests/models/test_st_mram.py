from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from data.memory_files import packaged_memory
from models.devices.memory import write_saving
from models.devices.st_mram import StMram
from models.ecc import SECDED_72_64
from models.exceptions import UserMistake


@pytest.fixture(scope="module")
def memory() -> StMram:
    loaded = packaged_memory("st_mram").memory
    assert isinstance(loaded, StMram)
    return loaded


def test_the_error_rate_is_the_published_equation(memory):
    tau = (1 + 0.01**2) / (0.01 * 1.760859e11 * 0.6)
    assert memory.time_scale_s == pytest.approx(tau, rel=1e-6)
    current_a, pulse_s = 100e-6, 5e-9
    i = current_a / 40e-6
    expected = 1 - math.exp(-(math.pi**2 / 4) * 60 * (i - 1) / (i * math.exp(2 * (i - 1) * pulse_s / tau) - 1))
    assert memory.write_error_rate(current_a, pulse_s) == pytest.approx(expected, rel=1e-5)


def test_errors_fall_with_current_and_length_from_certain_to_none(memory):
    pulses = np.linspace(0.0, 30e-9, 50)
    currents = np.array([[50e-6], [80e-6], [120e-6]])
    rates = memory.write_error_rate(currents, pulses)
    assert rates.shape == (3, 50)
    assert (rates[:, 0] == 1.0).all()
    late = pulses > 3e-9
    assert (np.diff(rates[:, late], axis=1) < 0.0).all()
    assert (np.diff(rates[:, late], axis=0) < 0.0).all()
    assert memory.write_error_rate(80e-6, 1.0) == 0.0


def test_the_logarithm_of_the_rate_falls_linearly_with_the_length(memory):
    lengths = memory.pulse_length_s(80e-6, 10.0 ** -np.arange(3.0, 13.0))
    np.testing.assert_allclose(np.diff(lengths), math.log(10.0) * memory.time_scale_s / 2.0, rtol=2e-3)


@pytest.mark.parametrize("overdrive", [1.05, 2.0, 5.0])
def test_the_length_for_a_rate_gives_that_rate(memory, overdrive):
    rates = np.array([1e-15, 1e-8, 1e-3, 0.5, 0.999])
    current_a = overdrive * memory.critical_current_a
    np.testing.assert_allclose(memory.write_error_rate(current_a, memory.pulse_length_s(current_a, rates)), rates)


def test_the_mean_switching_time_is_that_of_the_error_rate(memory):
    # two approximations of one process, within a quarter; the mean of the time is the integral of the error rate
    for overdrive in (1.5, 2.0, 4.0):
        current_a = overdrive * memory.critical_current_a
        pulses = np.linspace(0.0, memory.pulse_length_s(current_a, 1e-9), 4001)
        mean = np.sum(memory.write_error_rate(current_a, pulses)) * pulses[1]
        assert memory.mean_switching_time_s(current_a) == pytest.approx(mean, rel=0.25)
    twice = memory.mean_switching_time_s(2.0 * memory.critical_current_a)
    assert twice == pytest.approx(2.0 * memory.mean_switching_time_s(3.0 * memory.critical_current_a))


def test_a_write_costs_voltage_times_current_times_length(memory):
    assert memory.write_energy_j(80e-6, 10e-9) == pytest.approx(1.0 * 80e-6 * 10e-9)
    length = memory.pulse_length_s(memory.write_current_a, 1e-8)
    assert memory.bit_energy_j(1e-8) == pytest.approx(float(memory.write_energy_j(memory.write_current_a, length)))


def test_tolerating_one_error_in_a_thousand_halves_the_write_energy(memory):
    plain = write_saving(memory, 1e-8, 1e-3)
    with_code = write_saving(memory, 1e-8, 1e-3, SECDED_72_64.redundancy)
    assert 1.6 < plain < with_code < 2.5
    assert with_code == pytest.approx(1.125 * plain)


@pytest.mark.parametrize("overdrive", [1.2, 1.5, 3.0])
@pytest.mark.parametrize("stability", [40.0, 80.0])
def test_the_saving_does_not_hang_on_the_proposed_parameters(memory, overdrive, stability):
    other = dataclasses.replace(
        memory, write_current_a=overdrive * memory.critical_current_a, thermal_stability=stability, damping=0.02
    )
    assert 1.6 < write_saving(other, 1e-8, 1e-3, SECDED_72_64.redundancy) < 2.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda memory: memory.write_error_rate(40e-6, 1e-9), "write current of 4e-05 A is refused"),
        (lambda memory: memory.write_error_rate([80e-6, math.nan], 1e-9), "write current of nan"),
        (lambda memory: memory.write_error_rate(80e-6, [1e-9, -1e-9]), "pulse length of -1e-09 s"),
        (lambda memory: memory.pulse_length_s(80e-6, 0.0), "write error rate of 0 is refused"),
        (lambda memory: memory.pulse_length_s(80e-6, [1e-3, 1.5]), "write error rate of 1.5 is refused"),
        (lambda memory: memory.mean_switching_time_s(10e-6), "critical current"),
        (lambda memory: memory.bit_energy_j(math.nan), "write error rate of nan"),
        (lambda memory: dataclasses.replace(memory, damping=-0.01), "st_mram.damping = -0.01 1 is out of range"),
        (lambda memory: dataclasses.replace(memory, write_current_a=30e-6), "st_mram.write_current_a = 3e-05"),
        (lambda memory: write_saving(memory, 1e-8, 1e-3, 0.5), "redundancy of 0.5"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(memory, call, says):
    with pytest.raises(UserMistake, match=says) as caught:
        call(memory)
    assert "\n" not in str(caught.value)
