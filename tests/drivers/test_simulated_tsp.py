"""The simulated instruments' Lua, and the simulated 2636B through its wire, with other people's statements."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.simulated.keithley_2636b import Keithley2636BServer
from drivers.simulated.lua import LuaError, Value, run_chunk
from tests.drivers.simulated_instruments import Client, Resistor, world_with

OHMS = 10e3


@pytest.fixture
def resistor() -> Resistor:
    return Resistor(OHMS)


@pytest.fixture
def server(resistor: Resistor) -> Iterator[Keithley2636BServer]:
    with Keithley2636BServer(world_with(resistor), np.random.default_rng(1)) as server:
        yield server


class LuaClient(Client):
    """A line client that speaks Lua."""

    def do(self, text: str) -> None:
        """Send statements and wait until they have been run."""
        assert self.ask(f"{text} print('done')") == "done"

    def read_bytes(self, count: int) -> bytes:
        """Wait for so many bytes."""
        return self._replies.read(count)

    def value(self, expression: str) -> float:
        """Print one number."""
        return float(self.ask(f"print({expression})"))

    def errors(self) -> list[int]:
        """Take all codes out of the error queue."""
        codes = []
        while code := int(float(self.ask("print(errorqueue.next())").split("\t")[0])):
            codes.append(code)
        return codes


@pytest.fixture
def client(server: Keithley2636BServer) -> Iterator[LuaClient]:
    with LuaClient(server) as client:
        yield client


# The language


def results(chunk: str) -> list[Value]:
    """What a chunk gives to ``out``."""
    seen: list[Value] = []
    run_chunk(chunk, {"out": lambda values: seen.extend(values) or [], "two": lambda values: [1.0, 2.0]})
    return seen


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        ("out(1 + 2 * 3 ^ 2 - -4 / 8)", [19.5]),
        ("out(2 ^ 3 ^ 2, -2 ^ 2)", [512.0, -4.0]),
        ("out((1 + 2) * 3)", [9.0]),
        (
            "out(1 < 2, 2 <= 2, 1 > 2, 2 >= 3, 1 == 1.0, 1 ~= 1, 'a' == 'a', nil == false)",
            [True, True, False, False, True, False, True, False],
        ),
        ("out(nil or 3, false and 1, 0 and 1, not nil, true and not false)", [3.0, False, 1.0, True, True]),
        ("out('a' .. 'b' .. 1)", ["ab1"]),
        ('out("say \\"hi\\"")', ['say "hi"']),
        ("out(1e-07, .5, 5., 1E3)", [1e-7, 0.5, 5.0, 1000.0]),
        ("local a, b, c = two() out(a, b, c)", [1.0, 2.0, None]),
        ("out(two(), 5) out((two()))", [1.0, 5.0, 1.0]),
        ("a, b = 1, 2; a, b = b, a out(a, b)", [2.0, 1.0]),
        ("x = 1 do_x = 2 out(x, do_x, unknown)", [1.0, 2.0, None]),
        ("for k = 1, 3 do out(k) end", [1.0, 2.0, 3.0]),
        ("for k = 3, 1, -1 do out(k) end for k = 1, 0 do out('no') end", [3.0, 2.0, 1.0]),
        ("for k = 1, 2 do local y = k end out(y, k)", [None, None]),
        ("for k = 1, 2 do z = k end out(z)", [2.0]),
        ("if 1 > 2 then out('a') elseif 2 > 1 then out('b') else out('c') end", ["b"]),
        ("if false then out(1) else if nil then out(2) else out(3) end end", [3.0]),
        ("-- nothing\nout(1) -- more\n", [1.0]),
        ("", []),
    ],
)
def test_lua_is_run_as_its_manual_says(chunk: str, expected: list[Value]) -> None:
    assert results(chunk) == expected


@pytest.mark.parametrize(
    "chunk", ["out(", "out 1", "1 = 2", "for k = 1 do end", "if 1 then", "x = = 2", "end", "out(1))", "@", "two() = 1"]
)
def test_what_is_no_lua_is_a_syntax_error_and_runs_nothing(chunk: str) -> None:
    seen: list[Value] = []
    with pytest.raises(LuaError) as refused:
        run_chunk(f"out(1) {chunk}", {"out": lambda values: seen.extend(values) or []})
    assert refused.value.code == -285
    assert seen == []


@pytest.mark.parametrize(
    "chunk", ["a.b = 1", "out(a.b)", "a()", "out(1 + nil)", "out(1 < 'x')", "for k = 1, 1e9 do end", "out(#1)"]
)
def test_what_cannot_be_done_ends_the_chunk(chunk: str) -> None:
    with pytest.raises(LuaError):
        results(chunk)


def test_arithmetic_never_leaves_the_real_numbers() -> None:
    values = results("out(1 / 0, (-2) ^ 0.5, 10 ^ 1000)")
    assert all(isinstance(value, float) and math.isnan(value) for value in values)


@given(st.text(alphabet="abxy01.,=()+-*/^<>~'\" \nend for if local", max_size=60))
def test_any_text_is_run_or_refused(chunk: str) -> None:
    code = 0
    try:
        run_chunk(chunk, {})
    except LuaError as error:
        code = error.code
    assert code in (0, -285, -286)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=0.0))
def test_a_number_arrives_as_it_was_written(value: float) -> None:
    assert results(f"out({value!r})") == [value]


# Printing, errors, scripts


def test_identification_and_common_commands(client: LuaClient) -> None:
    assert client.ask("*IDN?") == "Keithley Instruments Inc., Model 2636B, 4036001, 3.2.2"
    assert client.ask("*OPC?") == "1"
    assert client.ask("print(localnode.model, localnode.linefreq)") == "2636B\t5.00000e+01"
    client.do("x = 3")
    assert client.ask("print(x)") == "3.00000e+00"  # a variable outlives its line


def test_numbers_are_printed_with_the_digits_asked_for(client: LuaClient) -> None:
    assert client.ask("print(1e-7, true, nil, 'text')") == "1.00000e-07\ttrue\tnil\ttext"
    client.do("format.asciiprecision = 10")
    assert client.ask("print(0.123456789012)") == "1.234567890e-01"
    client.do("reset()")
    assert client.ask("print(0.5)") == "5.00000e-01"


def test_errors_are_queued_and_taken_out(client: LuaClient) -> None:
    client.send("smua.source.levelv == 1")
    client.send("smuc.source.levelv = 1")
    client.send("smua.source.levelv = 300")
    client.send("smua.source.limiti = 0.000000")
    client.send("smua.source.nothing = 1")
    client.send("smua.source.levelv = nan")
    client.send("*WHAT?")
    assert client.value("errorqueue.count") == 7
    first = client.ask("print(errorqueue.next())").split("\t")
    assert float(first[0]) == -285
    assert first[2:] == ["2.00000e+01", "1.00000e+00"]
    assert client.errors() == [-286, 1101, 1102, -286, -286, -285]
    assert client.ask("print(errorqueue.next())") == "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00"
    client.send("nonsense")
    client.send("*CLS")
    assert client.errors() == []


def test_an_error_ends_the_chunk_that_it_stands_in(client: LuaClient) -> None:
    client.send("smua.source.limiti = 1e-3 smua.source.levelv = 999 smua.source.limiti = 2e-3")
    assert client.errors() == [1101]
    assert client.value("smua.source.limiti") == pytest.approx(1e-3)


def test_power_cycling_forgets_everything(server: Keithley2636BServer, client: LuaClient) -> None:
    client.do("x = 1 smua.source.output = 1 format.asciiprecision = 16")
    client.send("nonsense")
    assert client.value("errorqueue.count") == 1
    server.instrument.power_on()
    assert client.ask("print(x, smua.source.output, errorqueue.count)") == "nil\t0.00000e+00\t0.00000e+00"


# The unit on the pads


def test_the_pads_follow_every_change_and_stand_at_zero_when_off(client: LuaClient, resistor: Resistor) -> None:
    client.do("smua.source.levelv = 0.5 smua.source.limiti = 1e-3")
    assert {volts for volts, _ in resistor.forced} == {0.0}
    client.do("smua.source.output = smua.OUTPUT_ON")
    assert resistor.forced[-1] == (0.5, pytest.approx(1e-3))
    count = len(resistor.forced)
    client.do("smua.measure.nplc = 5")
    assert len(resistor.forced) == count
    client.do("smub.source.levelv = 2 smub.source.output = 1")
    assert len(resistor.forced) == count  # unit B is not on the pads
    client.do("smua.source.output = 0")
    assert resistor.forced[-1][0] == 0.0


def test_it_measures_a_resistor_and_reports_its_compliance(client: LuaClient, resistor: Resistor) -> None:
    client.do("smua.source.levelv = 0.2 smua.source.limiti = 1e-3 smua.source.output = 1")
    amps, volts = (float(field) for field in client.ask("print(smua.measure.iv())").split("\t"))
    assert (amps, volts) == (pytest.approx(0.2 / OHMS, rel=1e-4), pytest.approx(0.2, rel=1e-4))
    assert client.value("smua.measure.r()") == pytest.approx(OHMS, rel=1e-3)
    assert client.ask("print(smua.source.compliance)") == "false"
    client.do("smua.source.limiti = 1e-6")
    assert client.value("smua.measure.i()") == pytest.approx(1e-6, rel=1e-4)
    assert client.ask("print(smua.source.compliance, status.measurement.instrument.smua.condition)") == (
        "true\t2.00000e+00"
    )
    resistor.ohms = math.inf
    assert abs(client.value("smua.measure.i()")) < 1e-14


def test_a_fixed_range_overflows(client: LuaClient) -> None:
    client.do("smua.source.levelv = 1 smua.source.limiti = 1e-3 smua.source.output = 1 smua.measure.rangei = 1e-6")
    assert client.value("smua.measure.autorangei") == 0
    assert client.value("smua.measure.i()") == pytest.approx(9.91e37)
    client.do("smua.measure.autorangei = 1")
    assert client.value("smua.measure.i()") == pytest.approx(1.0 / OHMS, rel=1e-4)
    assert client.value("smua.measure.rangei") == pytest.approx(1e-4)


def test_as_a_current_source(client: LuaClient) -> None:
    client.do("smua.source.func = smua.OUTPUT_DCAMPS smua.source.limitv = 2 smua.source.leveli = 1e-5")
    client.do("smua.source.output = 1")
    assert client.value("smua.measure.v()") == pytest.approx(1e-5 * OHMS, rel=1e-3)
    client.do("smua.source.leveli = 1e-3")
    assert client.value("smua.measure.v()") == pytest.approx(2.0, rel=1e-3)
    assert client.value("status.measurement.instrument.smua.condition") == 1


# Other people's drivers


def test_pymeasures_statements_work(client: LuaClient) -> None:
    client.do("smua.source.func=1")
    client.do("smua.source.autorangev=1")
    client.do("smua.source.limiti=0.001000")
    client.do("smua.measure.i()")
    client.do("smua.measure.nplc=1.000000")
    client.do("smua.measure.autorangei=1")
    client.do("smua.sense=0")
    client.do("smua.source.levelv=0.500000")
    client.do("smua.source.output=1")
    assert client.value("smua.measure.i()") == pytest.approx(0.5 / OHMS, rel=1e-4)
    assert client.value("smua.source.levelv") == pytest.approx(0.5)
    assert client.value("smua.source.output") == 1
    assert client.errors() == []


def test_a_compliance_written_with_six_decimals_is_refused_not_taken_as_zero(client: LuaClient) -> None:
    before = client.value("smua.source.limiti")
    client.send("smua.source.limiti=0.000000")  # what 100 nA becomes there
    assert client.errors() == [1102]
    assert client.value("smua.source.limiti") == before


def test_qcodes_statements_work(client: LuaClient) -> None:
    assert client.ask("print(localnode.model)") == "2636B"
    client.send('display.settext("hello")')
    client.send("display.screen = display.SMUA_SMUB")
    client.do("smua.source.levelv=0.200000000000")
    client.do("smua.source.limiti=1e-05")
    client.do("smua.measure.autorangei=0")
    client.do("smua.measure.rangei=1e-09")
    client.do("smua.source.output=1")
    value, status = client.ask("print(smua.measure.v(), status.measurement.instrument.smua.condition)").split("\t")
    assert float(value) == pytest.approx(0.1, rel=1e-3)
    assert int(float(status)) == 2
    assert client.value("localnode.linefreq") == 50.0
    client.do("smua.reset()")
    assert client.ask("print(smua.source.output, smua.measure.autorangei)") == "0.00000e+00\t1.00000e+00"
    assert client.errors() == []


def test_qcodes_fast_sweep_runs_on_the_instrument(client: LuaClient) -> None:
    script = [
        "loadandrunscript",
        "smua.measure.nplc = 0.100000000000",
        "smua.sense = 0",
        "smua.measure.count = 1",
        "smua.source.func = 1",
        "smua.source.output = 1",
        "startX = 0.000000000000",
        "dX = 0.100000000000",
        "smua.nvbuffer1.clear()",
        "smua.nvbuffer1.appendmode = 1",
        "for index = 1, 5 do",
        "  target = startX + (index-1)*dX",
        "  smua.source.levelv = target",
        "  delay(0.001)",
        "  smua.measure.i(smua.nvbuffer1)",
        "end",
        "format.data = format.REAL32",
        "format.byteorder = format.LITTLEENDIAN",
        "printbuffer(1, 5, smua.nvbuffer1.readings)",
        "endscript",
    ]
    client.send("\r\n".join(script))
    reply = client.read_bytes(2 + 4 * 5 + 1)
    assert reply[:2] == b"#0"
    amps = struct.unpack("<5f", reply[2:-1])
    assert amps == pytest.approx([0.0, 1e-5, 2e-5, 3e-5, 4e-5], abs=1e-8)
    client.do("format.data = format.ASCII")
    assert len(client.ask("printbuffer(2, 4, smua.nvbuffer1)").split(", ")) == 3
    assert client.value("smua.nvbuffer1.n") == 5
    assert client.value("smua.nvbuffer1[5]") == pytest.approx(4e-5, abs=1e-8)
    assert client.errors() == []


def test_qcodes_time_trace_counts_readings(client: LuaClient) -> None:
    client.do("smua.source.levelv = 0.1 smua.source.output = 1 smua.measure.count=4")
    client.do("oldint=smua.measure.interval smua.measure.interval=0.001 smua.nvbuffer1.clear()")
    client.do("smua.measure.i(smua.nvbuffer1) smua.measure.interval=oldint smua.measure.count=1")
    assert client.value("smua.nvbuffer1.n") == 4
    client.do("smua.measure.i(smua.nvbuffer1)")
    assert client.value("smua.nvbuffer1.n") == 1  # without appending, new readings replace the old ones
