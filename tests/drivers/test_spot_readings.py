"""Spot readings: one message switches on, reads and switches off; whatever goes wrong, the output is off afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest

from drivers.errors import InstrumentError, LinkError, LinkTimeout, ReadBackError, ReplyError
from drivers.interlocks import GuardedSmu, InterlockTripped
from drivers.keithley_2450 import Keithley2450
from drivers.keithley_2636b import Keithley2636B
from drivers.limits import Range, SmuLimits
from drivers.roles import Measurement
from drivers.simulated.keithley_2450 import Keithley2450Server
from drivers.simulated.keithley_2636b import Keithley2636BServer
from drivers.visa_link import VisaLink, open_visa
from models.exceptions import BenchFailure
from tests.drivers.simulated_instruments import Resistor, world_with
from tests.drivers.test_keithley_2450 import CONFIRMED, HELLO, LIMITS, NO_ERROR, OFF
from tests.drivers.transcript import TranscriptLink

OHMS = 10e3
TIMEOUT_S = 0.3
WIDE = SmuLimits(Range(-500.0, 500.0, "V", "wide"), Range(0.0, 5.0, "A", "wide"))
SPOT = 'OUTP 1;:READ? "defbuffer1",SOUR,READ,SOURSTAT;:OUTP 0;:OUTP?;:SYST:ERR:COUN?'
ERROR = ("SYST:ERR?", '-221,"Settings conflict;1;2020/01/01 10:00:00.000"')


# The 2450 against transcripts


def test_a_spot_is_one_message() -> None:
    exchanges = [
        *HELLO,
        (SPOT, "2.000012E-01,2.861200E-05,136;0;0"),
        (SPOT, "1.500000E-02,6.400000E-05,168;0;0"),
    ]
    with TranscriptLink(exchanges) as link:
        smu = Keithley2450(link, LIMITS)
        assert smu.spot() == Measurement(0.2000012, 2.8612e-05, False)
        assert smu.spot() == Measurement(0.015, 6.4e-05, True)


def test_a_spot_that_overflows_is_an_error_and_needs_no_second_switching_off() -> None:
    with TranscriptLink([*HELLO, (SPOT, "0.2,9.9E37,136;0;0")]) as link:
        smu = Keithley2450(link, LIMITS)
        with pytest.raises(ReplyError, match="beyond the instrument's range"):
            smu.spot()
        assert link.in_step


def test_an_output_that_stays_on_after_a_spot_is_switched_off_again() -> None:
    with TranscriptLink([*HELLO, (SPOT, "0.2,1E-6,136;1;0"), *OFF, *CONFIRMED]) as link:
        smu = Keithley2450(link, LIMITS)
        with pytest.raises(ReadBackError, match="the output stayed on after a reading; it was switched off again"):
            smu.spot()


def test_an_output_that_cannot_be_switched_off_is_said_to_be_on() -> None:
    still_on = [("OUTP?;:SOUR:VOLT?", "1;0"), NO_ERROR]
    with TranscriptLink([*HELLO, (SPOT, "0.2,1E-6,136;1;0"), *OFF, *still_on]) as link:
        smu = Keithley2450(link, LIMITS)
        with pytest.raises(BenchFailure, match=r"may still be on .*switch it off by hand.*stayed on after a reading"):
            smu.spot()


def test_a_spot_that_the_instrument_refused_in_part_is_raised_with_its_errors() -> None:
    with TranscriptLink([*HELLO, (SPOT, "0.2,1E-6,136;0;1"), ERROR, NO_ERROR, *OFF, *CONFIRMED]) as link:
        smu = Keithley2450(link, LIMITS)
        with pytest.raises(InstrumentError, match="-221"):
            smu.spot()


@pytest.mark.parametrize("reply", ["0.2,1E-6,136;0", "", "a,b,c;0;0", "0.2,1E-6,136;7;0", "0.2,1E-6,136;0;x", "1;0;0"])
def test_a_garbled_spot_is_an_error_and_the_output_is_switched_off_on_a_link_in_step(reply: str) -> None:
    with TranscriptLink([*HELLO, (SPOT, reply), *OFF, *OFF, *HELLO, *CONFIRMED]) as link:
        smu = Keithley2450(link, LIMITS)
        with pytest.raises(ReplyError):
            smu.spot()
        assert link.in_step


@pytest.mark.parametrize(("status", "why"), [(8, "output was off"), (152, "too hot")])
def test_a_spot_of_no_device_is_refused(status: int, why: str) -> None:
    with TranscriptLink([*HELLO, (SPOT, f"0.0,1E-9,{status};0;0")]) as link:
        smu = Keithley2450(link, LIMITS)
        with pytest.raises(BenchFailure, match=why):
            smu.spot()


# Both units on their wires


class Unit(NamedTuple):
    """A unit with a resistor on its terminals."""

    smu: Keithley2450 | Keithley2636B
    server: Keithley2450Server | Keithley2636BServer
    link: VisaLink
    resistor: Resistor
    output: Callable[[], bool]


@pytest.fixture(params=["2450", "2636B"])
def unit(request: pytest.FixtureRequest) -> Iterator[Unit]:
    resistor = Resistor(OHMS)
    generator = np.random.default_rng(1)
    if request.param == "2450":
        with Keithley2450Server(world_with(resistor), generator) as one, open_visa(one.resource, TIMEOUT_S) as link:
            yield Unit(Keithley2450(link, WIDE), one, link, resistor, lambda: one.instrument.execute(b"OUTP?") == b"1")
    else:
        with Keithley2636BServer(world_with(resistor), generator) as two, open_visa(two.resource, TIMEOUT_S) as link:

            def on() -> bool:
                return float(two.instrument.execute(b"print(smua.source.output)") or b"nan") == 1.0

            yield Unit(Keithley2636B(link, WIDE), two, link, resistor, on)


def test_a_spot_reads_with_the_output_on_and_leaves_it_off(unit: Unit) -> None:
    unit.smu.set_source(0.2, 1e-3)
    unit.resistor.forced.clear()
    sent: list[bytes] = []
    unit.server.wire.tamper = lambda reply: sent.append(reply) or reply  # type: ignore[func-returns-value]
    for _ in range(5):
        reading = unit.smu.spot()
        assert reading.voltage_v / reading.current_a == pytest.approx(OHMS, rel=1e-3)
        assert not reading.in_compliance
        assert not unit.output()
        assert unit.resistor.forced[-1][0] == 0.0
    assert len(sent) == 5, "one exchange each"
    assert any(volts == 0.2 for volts, _ in unit.resistor.forced)
    unit.smu.set_source(0.2, 1e-6)
    assert unit.smu.spot().in_compliance


def test_a_spot_after_another_goes_on_where_the_first_failed(unit: Unit) -> None:
    unit.smu.set_source(0.2, 1e-3)
    lost = iter([None])
    unit.server.wire.tamper = lambda reply: next(lost, reply)
    with pytest.raises(LinkTimeout):
        unit.smu.spot()
    assert not unit.output()
    unit.smu.set_source(0.2, 1e-3)
    assert unit.smu.spot().current_a == pytest.approx(0.2 / OHMS, rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda reply: reply[:7] + b"?" + reply[8:],
        lambda reply: reply[:20] + b"\n",
        lambda reply: reply + b"0\n",
        lambda reply: b"1\n",
    ],
    ids=["a letter", "cut short", "more lines than one", "another answer"],
)
def test_an_answer_that_was_changed_on_its_way_leaves_the_output_off(
    unit: Unit, change: Callable[[bytes], bytes]
) -> None:
    unit.smu.set_source(0.2, 1e-3)
    changes = iter([change])
    unit.server.wire.tamper = lambda reply: next(changes, bytes)(reply)
    with pytest.raises((ReplyError, LinkError)):
        unit.smu.spot()
    assert not unit.output()
    unit.smu.set_source(0.2, 1e-3)
    assert unit.smu.spot().current_a == pytest.approx(0.2 / OHMS, rel=1e-3)


def test_an_interruption_in_the_middle_leaves_the_output_off(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    unit.smu.set_source(0.2, 1e-3)
    query = unit.link.query

    def interrupted(message: str, timeout_s: float | None = None) -> str:
        query(message, timeout_s)
        monkeypatch.undo()
        unit.server.instrument.execute(b"OUTP 1" if isinstance(unit.smu, Keithley2450) else b"smua.source.output = 1")
        raise KeyboardInterrupt

    monkeypatch.setattr(unit.link, "query", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unit.smu.spot()
    assert not unit.output()
    assert unit.resistor.forced[-1][0] == 0.0


def test_a_unit_that_has_gone_is_said_to_be_perhaps_on(unit: Unit) -> None:
    unit.smu.set_source(0.2, 1e-3)
    unit.server.stop()
    with pytest.raises(BenchFailure, match="the output may still be on"):
        unit.smu.spot()


def test_a_guarded_spot_is_judged_with_its_output_off(unit: Unit) -> None:
    allowed = Range(-1e-5, 1e-5, "A", "interlocks.smu_current_a")
    guard = GuardedSmu(unit.smu, allowed, compliance_trips=True)
    guard.check_source(0.2, 1e-3)
    guard.set_source(0.05, 1e-3)
    assert guard.spot().current_a == pytest.approx(5e-6, rel=1e-2)
    guard.set_source(0.2, 1e-3)
    with pytest.raises(InterlockTripped, match="current"):
        guard.spot()
    assert not unit.output()
    guard.set_source(0.2, 1e-6)
    with pytest.raises(InterlockTripped, match="compliance"):
        guard.spot()
    assert not unit.output()


# The order of level and compliance

SOURCES = [(100.0, 0.05), (1.0, 1.0), (-100.0, 0.05), (0.0, 1.0), (0.5, 1e-6), (-1.5, 1e-3), (20.0, 0.1), (1.0, 1e-7)]


def test_no_state_between_two_sources_is_refused_or_drives_a_device_harder(unit: Unit) -> None:
    """From any source to any other with the output on: only the lower compliance stands while the level moves."""
    unit.resistor.ohms = float("inf")
    for before, after in itertools.permutations(SOURCES, 2):
        unit.smu.set_source(*before)
        unit.smu.set_output(True)
        unit.resistor.forced.clear()
        unit.smu.set_source(*after)
        *between, reached = unit.resistor.forced
        unit.smu.set_output(False)
        lower = min(before[1], after[1])
        allowed = [pytest.approx(state) for state in ((before[0], lower), (after[0], lower))]
        assert reached == pytest.approx(after)
        assert all(state in allowed for state in between)
