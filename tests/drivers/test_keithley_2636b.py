"""The 2636B's driver: against transcripts, and over PyVISA against the simulated instrument."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import InstrumentError, LimitError, LinkError, ReadBackError, ReplyError, WrongInstrument
from drivers.keithley_2450 import SmuLimits
from drivers.keithley_2636b import Keithley2636B, OffMode, Unit
from drivers.limits import Range
from drivers.roles import Instrument, Measurement, SourceMeasureUnit
from drivers.simulated.keithley_2636b import Keithley2636BServer
from drivers.visa_link import open_visa
from models.exceptions import BenchFailure
from tests.drivers.simulated_instruments import Resistor, world_with
from tests.drivers.transcript import Exchange, TranscriptLink

NEXT_ERROR = "print(errorqueue.next())"
NO_ERROR = (NEXT_ERROR, "0.000000000e+00\tQueue Is Empty\t0.000000000e+00\t1.000000000e+00")
IDN = ("*IDN?", "Keithley Instruments Inc., Model 2636B, 4036001, 3.2.2")
OFF: list[Exchange] = [(f"smu{x}.source.{act} = 0", None) for x in "ab" for act in ("levelv", "leveli", "output")]
STANDING = ("print(smua.source.limiti)", "1.000000000e-01")
"""What is asked before a source is set: which of the two settings goes first depends on the compliance that stands."""

SETUP = {
    "source.func = 1": "1.000000000e+00",
    "source.offmode = 0": "0.000000000e+00",
    "sense = 0": "0.000000000e+00",
    "source.autorangev = 1": "1.000000000e+00",
    "measure.autorangei = 1": "1.000000000e+00",
    "measure.nplc = 1": "1.000000000e+00",
    "measure.filter.count = 1": "1.000000000e+00",
    "measure.filter.type = 1": "1.000000000e+00",
    "measure.filter.enable = 0": "0.000000000e+00",
    "measure.count = 1": "1.000000000e+00",
}
LIMITS = SmuLimits(
    Range(-2.0, 3.0, "V", "limits.smu_voltage_v of bench 'test'"),
    Range(1e-9, 5e-3, "A", "limits.smu_compliance_a of bench 'test'"),
)
WIDE = SmuLimits(Range(-500.0, 500.0, "V", "wide"), Range(0.0, 5.0, "A", "wide"))
READ = "local i, v = smua.measure.iv() print(v, i, smua.source.compliance, smua.source.output)"
OHMS = 10e3


def hello(setup: dict[str, str] = SETUP, unit: str = "smua") -> list[Exchange]:
    names = ", ".join(f"{unit}.{statement.split(' ')[0]}" for statement in setup)
    return [
        IDN,
        ("*CLS", None),
        ("format.asciiprecision = 10", None),
        NO_ERROR,
        (f"{unit}.source.levelv = 0 {unit}.source.leveli = 0 {unit}.source.output = 0", None),
        NO_ERROR,
        (f"print({unit}.source.output, {unit}.source.levelv)", "0.000000000e+00\t0.000000000e+00"),
        (" ".join(f"{unit}.{statement}" for statement in setup), None),
        NO_ERROR,
        (f"print({names})", "\t".join(setup.values())),
    ]


HELLO = hello()


def smu(exchanges: Iterable[Exchange] = (), limits: SmuLimits = LIMITS) -> tuple[Keithley2636B, TranscriptLink]:
    link = TranscriptLink(exchanges)
    return Keithley2636B(link, limits), link


# Transcripts


def test_it_takes_the_role() -> None:
    instrument: SourceMeasureUnit = smu()[0]
    also: Instrument = instrument
    assert also is instrument


def test_the_first_exchange_prepares_its_unit_with_the_output_off() -> None:
    with TranscriptLink(HELLO) as link:
        assert Keithley2636B(link, LIMITS).identify().model == "2636B"


def test_the_other_unit_with_other_wiring() -> None:
    setup = {}
    for statement, reply in SETUP.items():
        changed = {"source.offmode = 0": "source.offmode = 1", "sense = 0": "sense = 1"}.get(statement, statement)
        setup[changed] = reply if changed == statement else "1.000000000e+00"
    with TranscriptLink(hello(setup, "smub")) as link:
        Keithley2636B(link, LIMITS, unit=Unit.B, off_mode=OffMode.HIGH_IMPEDANCE, four_wire=True).identify()


def test_an_output_that_stays_on_is_refused_before_anything_else() -> None:
    exchanges = [*HELLO[:6], ("print(smua.source.output, smua.source.levelv)", "1.0e+00\t0.0e+00")]
    with TranscriptLink(exchanges) as link, pytest.raises(BenchFailure, match="smua is on and set to 0 V"):
        Keithley2636B(link, LIMITS).set_output(True)


@pytest.mark.parametrize(
    "answer", ["Keithley Instruments Inc., Model 2602B, 1, 1", "KEITHLEY INSTRUMENTS,MODEL 2450,1,1"]
)
def test_another_model_is_refused(answer: str) -> None:
    with TranscriptLink([("*IDN?", answer)]) as link, pytest.raises(WrongInstrument, match="expected a Keithley 2636B"):
        Keithley2636B(link, LIMITS).identify()


def test_a_compliance_of_100_na_goes_out_as_100_na() -> None:
    exchanges = [
        *HELLO,
        STANDING,
        ("smua.source.limiti = 1E-7 smua.source.levelv = 0.2", None),
        NO_ERROR,
        ("print(smua.source.limiti, smua.source.levelv)", "1.000000000e-07\t2.000000000e-01"),
    ]
    with TranscriptLink(exchanges) as link:
        Keithley2636B(link, LIMITS).set_source(0.2, 100e-9)


@pytest.mark.parametrize("zero", [0.0, -0.0, 0])
def test_zero_volts_in_is_exactly_zero_out(zero: float) -> None:
    exchanges = [
        *HELLO,
        STANDING,
        ("smua.source.limiti = 0.0001 smua.source.levelv = 0", None),
        NO_ERROR,
        ("print(smua.source.limiti, smua.source.levelv)", "1.000000000e-04\t0.000000000e+00"),
    ]
    with TranscriptLink(exchanges) as link:
        Keithley2636B(link, LIMITS).set_source(zero, 1e-4)


@pytest.mark.parametrize("read_back", ["1.000000000e-01", "0.000000000e+00", "1.001000000e-07", "2.000000000e-07"])
def test_a_compliance_that_was_not_taken_is_raised(read_back: str) -> None:
    exchanges = [
        *HELLO,
        STANDING,
        ("smua.source.limiti = 1E-7 smua.source.levelv = 0.2", None),
        NO_ERROR,
        ("print(smua.source.limiti, smua.source.levelv)", f"{read_back}\t2.000000000e-01"),
    ]
    instrument, _ = smu(exchanges)
    with pytest.raises(ReadBackError, match="smua: compliance: set to 1E-7 but reads back"):
        instrument.set_source(0.2, 100e-9)


def test_a_refused_compliance_is_raised() -> None:
    exchanges = [
        *HELLO,
        STANDING,
        ("smua.source.limiti = 1E-7 smua.source.levelv = 0.2", None),
        (NEXT_ERROR, "1.102000000e+03\tParameter too small\t2.000000000e+01\t1.000000000e+00"),
        NO_ERROR,
    ]
    with TranscriptLink(exchanges) as link, pytest.raises(InstrumentError, match=r'1102, "Parameter too small"'):
        Keithley2636B(link, LIMITS).set_source(0.2, 100e-9)


def test_a_reading_is_one_message() -> None:
    exchanges = [
        *HELLO,
        (READ, "2.000012000e-01\t2.861200000e-05\tfalse\t1.000000000e+00"),
        (READ, "1.500000000e-02\t6.400000000e-05\ttrue\t1.000000000e+00"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2636B(link, LIMITS)
        assert instrument.measure() == Measurement(0.2000012, 2.8612e-05, False)
        assert instrument.measure() == Measurement(0.015, 6.4e-05, True)


@pytest.mark.parametrize(
    "reply",
    [
        "0.2\t9.910000000e+37\tfalse\t1",
        "0.2\tnan\tfalse\t1",
        "0.2\tnil\tfalse\t1",
        "0.2\t1E-6\t0\t1",
        "0.2\t1E-6\tfalse\t2",
        "0.2\t1E-6\tfalse",
        "0.2\t1E-6\tfalse\t1\t5",
        "0.2,1E-6,false,1",
        "",
    ],
)
def test_a_reading_that_is_none_is_an_error(reply: str) -> None:
    instrument, _ = smu([*HELLO, (READ, reply)])
    with pytest.raises(ReplyError):
        instrument.measure()


def test_an_overflow_leaves_the_link_in_step() -> None:
    instrument, link = smu([*HELLO, (READ, "0.2\t9.910000000e+37\tfalse\t1.0e+00")])
    with pytest.raises(ReplyError, match="beyond the instrument's range"):
        instrument.measure()
    assert link.in_step


def test_a_reading_with_the_output_off_is_refused() -> None:
    instrument, _ = smu([*HELLO, (READ, "0.0\t1E-12\tfalse\t0.0e+00")])
    with pytest.raises(BenchFailure, match="output was off"):
        instrument.measure()


@pytest.mark.parametrize("entry", ["", "0", "0\tQueue Is Empty", "x\ty\t0\t1", "1.5\ty\t0\t1"])
def test_a_garbled_error_queue_puts_the_link_out_of_step(entry: str) -> None:
    instrument, link = smu([*HELLO, ("smua.source.output = 0", None), (NEXT_ERROR, entry)])
    with pytest.raises(ReplyError):
        instrument.set_output(False)
    assert not link.in_step


def test_an_error_queue_without_an_end() -> None:
    endless = [(NEXT_ERROR, "1.0e+00\tx\t0\t1")] * 64
    instrument, link = smu([*HELLO, ("smua.source.output = 0", None), *endless])
    with pytest.raises(InstrumentError):
        instrument.set_output(False)
    assert not link.in_step


def test_settings_of_a_reading_and_their_timeouts() -> None:
    exchanges = [
        *HELLO,
        (READ, "0.2\t1E-6\tfalse\t1.0e+00"),
        ("smua.measure.nplc = 25", None),
        NO_ERROR,
        ("print(smua.measure.nplc)", "2.500000000e+01"),
        ("smua.measure.filter.count = 50 smua.measure.filter.type = 1 smua.measure.filter.enable = 1", None),
        NO_ERROR,
        ("print(smua.measure.filter.count, smua.measure.filter.type, smua.measure.filter.enable)", "5.0e+01\t1.0\t1.0"),
        ("smua.measure.autorangei = 0 smua.measure.rangei = 0.0001", None),
        NO_ERROR,
        ("print(smua.measure.autorangei, smua.measure.rangei)", "0.0\t1.000000000e-04"),
        ("smua.source.autorangev = 0 smua.source.rangev = 2", None),
        NO_ERROR,
        ("print(smua.source.autorangev, smua.source.rangev)", "0.0\t2.000000000e+00"),
        (READ, "0.2\t1E-6\tfalse\t1.0e+00"),
        ("smua.measure.autorangei = 1", None),
        NO_ERROR,
        ("print(smua.measure.autorangei)", "1.0"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2636B(link, LIMITS)
        instrument.measure()
        short = link.timeouts[-1]
        instrument.set_integration(25)
        instrument.set_averaging(50)
        instrument.set_measure_range(64e-6)
        instrument.set_source_range(0.5)
        instrument.measure()
        long = link.timeouts[-1]
        instrument.set_measure_range(None)
    assert short is not None
    assert long is not None
    assert short < 5.0
    assert long > 50 * 25 / 50.0


def test_settings_are_made_again_after_a_lost_link() -> None:
    again = {("measure.nplc = 5" if key == "measure.nplc = 1" else key): value for key, value in SETUP.items()}
    again["measure.nplc = 5"] = "5.000000000e+00"
    exchanges = [*HELLO, ("smua.measure.nplc = 5", None), NO_ERROR, ("print(smua.measure.nplc)", "5.0"), *hello(again)]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2636B(link, LIMITS)
        instrument.set_integration(5.0)
        instrument.resynchronise()


def test_reading_the_state() -> None:
    exchanges = [
        *HELLO,
        ("print(smua.source.levelv)", "2.000000000e-01"),
        ("print(smua.source.limiti)", "1.000000000e-07"),
        ("print(smua.source.output)", "0.0"),
        ("print(smua.source.compliance)", "true"),
        ("print(smua.source.offmode)", "2.0"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2636B(link, LIMITS)
        unit = instrument.attributes
        assert (unit.source_voltage, unit.compliance, unit.output) == (0.2, 1e-7, False)
        assert instrument.in_compliance
        assert unit.off_mode is OffMode.ZERO


BAD_NUMBERS = st.one_of(
    st.none(), st.booleans(), st.text(max_size=4), st.sampled_from([math.nan, math.inf, -math.inf, 202.1, -202.1])
)
BAD_VOLTS = st.one_of(
    BAD_NUMBERS, st.floats(min_value=3.0, exclude_min=True), st.floats(max_value=-2.0, exclude_max=True)
)
BAD_AMPS = st.one_of(
    BAD_NUMBERS, st.floats(min_value=5e-3, exclude_min=True), st.floats(max_value=1e-9, exclude_max=True)
)


@given(BAD_VOLTS)
def test_no_byte_is_sent_for_a_bad_voltage(volts: object) -> None:
    instrument, link = smu()
    with pytest.raises(LimitError):
        instrument.set_source(volts, 1e-4)  # type: ignore[arg-type]
    with pytest.raises(LimitError):
        instrument.attributes.source_voltage = volts  # type: ignore[assignment]
    assert link.sent == 0


@given(BAD_AMPS)
def test_no_byte_is_sent_for_a_bad_compliance(amps: object) -> None:
    instrument, link = smu()
    with pytest.raises(LimitError):
        instrument.set_source(0.1, amps)  # type: ignore[arg-type]
    with pytest.raises(LimitError):
        instrument.attributes.compliance = amps  # type: ignore[assignment]
    assert link.sent == 0


@given(
    st.sampled_from(["set_integration", "set_averaging", "set_measure_range", "set_source_range", "set_output"]),
    st.one_of(st.text(max_size=4), st.sampled_from([math.nan, math.inf, -math.inf, 1e3, -1e3, b"1", 2j])),
)
def test_no_byte_is_sent_for_bad_settings(setter: str, value: object) -> None:
    instrument, link = smu()
    with pytest.raises(LimitError):
        getattr(instrument, setter)(value)
    assert link.sent == 0


@pytest.mark.parametrize(
    ("setter", "value"),
    [
        ("set_integration", True),
        ("set_integration", None),
        ("set_integration", 0.0),
        ("set_averaging", 0),
        ("set_averaging", 101),
        ("set_averaging", 1.5),
        ("set_averaging", True),
        ("set_measure_range", 0.0),
        ("set_measure_range", True),
        ("set_source_range", False),
        ("set_output", 1),
        ("set_output", None),
    ],
)
def test_no_byte_is_sent_for_values_just_outside(setter: str, value: object) -> None:
    instrument, link = smu()
    with pytest.raises(LimitError):
        getattr(instrument, setter)(value)
    assert link.sent == 0


def test_the_operating_boundary() -> None:
    instrument, link = smu(limits=WIDE)
    with pytest.raises(LimitError, match="100 V with a compliance of 0.2 A is refused; Keithley 2636B gives 0.1 A"):
        instrument.set_source(100.0, 0.2)
    with pytest.raises(LimitError, match="Keithley 2636B allows -202 to 202 V"):
        instrument.set_source(203.0, 0.1)
    with pytest.raises(LimitError, match="Keithley 2636B allows 1e-10 to 1.5 A"):
        instrument.set_source(1.0, 0.0)
    assert link.sent == 0


def test_safe_off_takes_both_units_down_without_asking_first() -> None:
    states = "print(smua.source.output, smua.source.levelv, smub.source.output, smub.source.levelv)"
    with TranscriptLink([*OFF, *HELLO, (states, "0.0\t0.0\t0.0\t0.0"), NO_ERROR]) as link:
        Keithley2636B(link, LIMITS).safe_off()
    with (
        TranscriptLink([*OFF, *HELLO, (states, "0.0\t0.0\t1.0\t1.5"), NO_ERROR]) as link,
        pytest.raises(ReadBackError, match="smub is on and set to 1.5 V"),
    ):
        Keithley2636B(link, LIMITS).safe_off()


# Over the wire

Setter = Callable[[Keithley2636B, float], None]


@pytest.fixture
def resistor() -> Resistor:
    return Resistor(OHMS)


@pytest.fixture
def server(resistor: Resistor) -> Iterator[Keithley2636BServer]:
    with Keithley2636BServer(world_with(resistor), np.random.default_rng(2)) as server:
        yield server


@pytest.fixture
def live(server: Keithley2636BServer) -> Iterator[Keithley2636B]:
    with open_visa(server.resource, timeout_s=2.0) as link:
        yield Keithley2636B(link, WIDE)


def test_it_measures_a_resistor_over_the_wire(live: Keithley2636B, resistor: Resistor) -> None:
    live.set_source(0.2, 1e-3)
    assert {volts for volts, _ in resistor.forced} == {0.0}
    live.set_output(True)
    reading = live.measure()
    assert reading.voltage_v == pytest.approx(0.2, rel=1e-4)
    assert reading.current_a == pytest.approx(0.2 / OHMS, rel=1e-4)
    assert not reading.in_compliance
    live.set_source(0.2, 1e-6)
    assert live.measure().in_compliance
    assert live.in_compliance
    assert live.measure().current_a == pytest.approx(1e-6, rel=1e-4)


def test_averaging_makes_weak_currents_steadier(live: Keithley2636B, resistor: Resistor) -> None:
    resistor.ohms = 1e9
    live.set_source(0.1, 1e-6)
    live.set_measure_range(1e-7)
    live.set_output(True)
    noisy = np.std([live.measure().current_a for _ in range(40)])
    live.set_averaging(100)
    assert np.std([live.measure().current_a for _ in range(40)]) < 0.3 * noisy


def test_an_overflow_is_raised_and_leaves_the_link_usable(live: Keithley2636B) -> None:
    live.set_source(1.0, 1e-3)
    live.set_measure_range(1e-6)
    live.set_output(True)
    with pytest.raises(ReplyError, match="beyond"):
        live.measure()
    live.set_measure_range(None)
    assert live.measure().current_a == pytest.approx(1.0 / OHMS, rel=1e-3)


def test_a_thousand_random_values_read_back(live: Keithley2636B) -> None:
    generator = np.random.default_rng(3)
    exponents = generator.uniform(-9.9, -1.05, 500)
    for volts, exponent in zip(generator.uniform(-20.0, 20.0, 500), exponents, strict=True):
        live.set_source(float(volts), float(10**exponent))


def test_a_power_cycle_is_noticed_by_the_next_reading(live: Keithley2636B, server: Keithley2636BServer) -> None:
    live.set_source(0.2, 1e-3)
    live.set_output(True)
    server.instrument.power_on()
    with pytest.raises(BenchFailure, match="output was off"):
        live.measure()


def test_safe_off_over_the_wire(live: Keithley2636B, resistor: Resistor, server: Keithley2636BServer) -> None:
    live.set_source(0.5, 1e-3)
    live.set_output(True)
    live.safe_off()
    assert resistor.forced[-1][0] == 0.0
    with pytest.raises(BenchFailure, match="output was off"):
        live.measure()
    server.wire.disconnect_all()
    with pytest.raises(LinkError):
        live.measure()
    live.safe_off()
