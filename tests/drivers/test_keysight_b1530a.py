"""The B1530A's driver against a small fake of the maker's library."""

# The library's own function names.

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import InDoubt, InstrumentError, LimitError, LinkError, ReplyError, WrongInstrument
from drivers.keysight_b1530a import KeysightB1530A
from drivers.limits import Range
from drivers.waveform_role import ChannelWaveform, MeasureEvent, Quantity, WaveformGenerator, WaveformLimits
from models.exceptions import BenchFailure

LIMITS = WaveformLimits(
    Range(-4.0, 4.0, "V", "waveform.voltage_v in bench.toml"), Range(0.0, 1e-3, "s", "waveform.width_s in bench.toml")
)
PULSE = ((1e-6, 0.0), (1e-7, 1.0), (1e-5, 1.0), (1e-7, 0.0), (1e-6, 0.0))
EVENT = MeasureEvent(2e-6, 3, 1e-6, 5e-7)


class FakeLibrary:
    """The functions of wgfmu.dll: it records calls, and fails where ``codes`` says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.codes: dict[str, int] = {}
        self.installed = [101, 102, 201, 202]
        self.statuses: list[int] = []
        self.samples = [0.5, 0.6, 0.7]
        self.texts: list[bytes] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def function(*arguments: Any) -> int:
            self.calls.append((name.removeprefix("WGFMU_"), *arguments))
            code = self.codes.get(name.removeprefix("WGFMU_"), 0)
            if code:
                self.texts = [b"Parameter is\nwrong."]
            return code

        return function

    def WGFMU_getErrorSize(self, size: Any) -> int:
        size.contents.value = len(self.texts[0]) if self.texts else 0
        return 0

    def WGFMU_getError(self, text: Any, size: Any) -> int:
        text.value = self.texts.pop(0)[: size.contents.value]
        return 0

    def WGFMU_getChannelIdSize(self, size: Any) -> int:
        size.contents.value = len(self.installed)
        return 0

    def WGFMU_getChannelIds(self, ids: Any, size: Any) -> int:
        ids[: size.contents.value] = self.installed
        return 0

    def WGFMU_getStatus(self, status: Any, elapsed: Any, total: Any) -> int:
        status.contents.value = self.statuses.pop(0) if len(self.statuses) > 1 else (self.statuses or [10000])[0]
        return self.codes.get("getStatus", 0)

    def WGFMU_getMeasureValueSize(self, channel: int, measured: Any, total: Any) -> int:
        measured.contents.value = total.contents.value = len(self.samples)
        return 0

    def WGFMU_getMeasureValues(self, channel: int, offset: int, size: Any, times: Any, values: Any) -> int:
        for index in range(size.contents.value):
            times[index], values[index] = index * 1e-6, self.samples[index]
        return 0

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


def opened(library: FakeLibrary) -> KeysightB1530A:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    unit = KeysightB1530A("GPIB0::18::INSTR", LIMITS, library, sleep=sleep, clock=lambda: now[0])
    role: WaveformGenerator = unit
    assert role.channels == (101, 102, 201, 202)
    return unit


@pytest.fixture
def library() -> FakeLibrary:
    return FakeLibrary()


@pytest.fixture
def unit(library: FakeLibrary) -> KeysightB1530A:
    return opened(library)


def test_an_absent_library_is_one_line_that_names_file_system_and_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ctypes, "WinDLL", raising=False)
    with pytest.raises(BenchFailure, match=r"wgfmu\.dll is missing.*maker's.*Windows only.*Keysight") as caught:
        KeysightB1530A("GPIB0::18::INSTR", LIMITS)
    assert "\n" not in str(caught.value)


def test_on_windows_a_file_that_does_not_load_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def loader(file: str) -> object:
        raise OSError("not found")

    monkeypatch.setattr(ctypes, "WinDLL", loader, raising=False)
    with pytest.raises(BenchFailure, match=r"wgfmu\.dll is missing.*not found.*Windows only.*Keysight"):
        KeysightB1530A("GPIB0::18::INSTR", LIMITS)


def test_identity_and_missing_channels(unit: KeysightB1530A, library: FakeLibrary) -> None:
    assert unit.identify().model == "B1530A"
    library.installed = [101, 102]
    with pytest.raises(WrongInstrument, match="201, 202"):
        unit.identify()


def test_a_run_drives_what_was_loaded_and_returns_samples(unit: KeysightB1530A, library: FakeLibrary) -> None:
    unit.load({202: ChannelWaveform(PULSE), 102: ChannelWaveform(((1.22e-5, 0.0),), (EVENT,), Quantity.CURRENT, 1e-3)})
    assert not library.named("connect")
    library.samples, library.statuses = [1e-4, 2e-4, -1e-4], [10002, 10001, 10000]
    unit.execute()
    unit.wait(1.0)
    assert [call[1:] for call in library.named("addVector") if call[0] == b"waveform202"] == list(PULSE)
    assert (102, 6004) in library.named("setMeasureCurrentRange")
    assert (102, 4001) in library.named("setMeasureMode")
    assert library.named("setForceVoltageRange") == [(202, 3001), (102, 3001)]
    names = [call[0] for call in library.calls]
    assert max(i for i, name in enumerate(names) if name == "connect") < names.index("execute")
    assert unit.read(102).value.tolist() == [1e-4, 2e-4, -1e-4]
    with pytest.raises(LimitError, match="measures nothing"):
        unit.read(202)


@pytest.mark.parametrize("value", [math.nan, math.inf, 9.9e37])
def test_an_overflow_is_never_a_number(unit: KeysightB1530A, library: FakeLibrary, value: float) -> None:
    library.samples = [0.1, value, 0.1]
    unit.load({101: ChannelWaveform(PULSE, (EVENT,))})
    unit.execute()
    unit.wait(1.0)
    with pytest.raises(ReplyError, match="sample 1"):
        unit.read(101)


def test_missing_samples_are_refused(unit: KeysightB1530A, library: FakeLibrary) -> None:
    unit.load({101: ChannelWaveform(PULSE, (EVENT,))}, repeats=2)
    unit.execute()
    unit.wait(1.0)
    with pytest.raises(ReplyError, match="6 were due"):
        unit.read(101)


@pytest.mark.parametrize("name", ["clear", "createPattern", "addVector", "addSequence", "connect", "setOperationMode"])
def test_every_refusal_carries_code_and_text(unit: KeysightB1530A, library: FakeLibrary, name: str) -> None:
    library.codes[name] = -1
    with pytest.raises(InstrumentError, match=f'WGFMU_{name}\'.*-1, "Parameter is wrong."'):
        unit.load({101: ChannelWaveform(PULSE)})
        unit.execute()
    assert not library.named("execute")


def test_a_failed_start_or_end_names_the_devices_in_doubt(unit: KeysightB1530A, library: FakeLibrary) -> None:
    unit.load({101: ChannelWaveform(PULSE)})
    library.codes["execute"] = -5
    with pytest.raises(InDoubt) as caught:
        unit.execute([(3, 4, 0)])
    assert caught.value.devices == [(3, 4, 0)]
    library.codes.clear()
    for statuses, text in (([10002], "did not end within 0.5 s"), ([10004], "ABORTED"), ([10005], "RUNNING_ILLEGAL")):
        library.statuses = statuses
        unit.execute([(3, 4, 0)])
        with pytest.raises(BenchFailure, match="a run is under way"):
            unit.load({101: ChannelWaveform(PULSE)})
        with pytest.raises(InDoubt, match=text):
            unit.wait(0.5)
        assert library.calls[-1] == ("abort",)


def test_safe_off_tries_every_step_and_tells_what_failed(unit: KeysightB1530A, library: FakeLibrary) -> None:
    library.codes["abort"] = -13
    library.statuses = [10006]
    unit.safe_off()
    for channel in unit.channels:
        assert (channel, 0.0) in library.named("dcforceVoltage")
        assert (channel,) in library.named("disconnect")
    assert library.calls[-1] == ("initialize",)
    for name in ("abort", "dcforceVoltage", "disconnect", "initialize"):
        library.calls, library.codes = [], {name: -5}
        with pytest.raises(BenchFailure, match=f"unknown state.*{name}"):
            unit.safe_off()
        assert [len(library.named(step)) for step in ("abort", "disconnect", "initialize")] == [1, 4, 1]
    library.codes, library.statuses = {}, [10002]
    with pytest.raises(BenchFailure, match="RUNNING"):
        unit.safe_off()


def test_after_close_nothing_is_called(unit: KeysightB1530A, library: FakeLibrary) -> None:
    unit.close()
    unit.close()
    assert len(library.named("closeSession")) == 1
    with pytest.raises(LinkError, match="closed"):
        unit.safe_off()


@pytest.mark.parametrize(
    ("wave", "text"),
    [
        (ChannelWaveform(((1e-7, 4.5), (1e-7, 0.0))), "bench.toml"),
        (ChannelWaveform(((1e-7, 1.0), (2e-3, 1.0), (1e-7, 0.0))), "width_s in bench.toml"),
        (ChannelWaveform(((1e-7, math.nan), (1e-7, 0.0))), "not finite"),
        (ChannelWaveform(((1e-7, True), (1e-7, 0.0))), "not a number"),
        (ChannelWaveform(((True, 0.0),)), "not a number"),
        (ChannelWaveform(((1.5e-8, 0.0),)), "multiples of 10 ns"),
        (ChannelWaveform(((1e-7, 1.0),)), "end it at 0 V"),
        (ChannelWaveform(((2e-8, 1.0), (1e-6, 1.0), (1e-7, 0.0))), "edge"),
        (ChannelWaveform(((3e-8, 1.0), (7e-8, 1.0), (3e-8, 0.0))), "pulse"),
        (ChannelWaveform(PULSE, (EVENT,), Quantity.CURRENT, 1e-6), "averaging|pulse"),
        (ChannelWaveform(PULSE, (EVENT,), Quantity.CURRENT, 2e-3), "current range"),
        (ChannelWaveform(PULSE, (MeasureEvent(1.2e-5, 3, 1e-6, 5e-7),)), "free are"),
        (ChannelWaveform(()), "0 segments"),
    ],
)
def test_what_is_refused_is_refused_before_any_call(
    unit: KeysightB1530A, library: FakeLibrary, wave: ChannelWaveform, text: str
) -> None:
    before = len(library.calls)
    with pytest.raises(LimitError, match=text):
        unit.load({101: wave})
    assert len(library.calls) == before


@settings(max_examples=150, deadline=None)
@given(
    volts=st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 4.0, -4.0])),
    edge=st.integers(1, 30),
    flat=st.integers(1, 120_000),
)
def test_exactly_the_pulses_inside_all_limits_are_driven(volts: float, edge: int, flat: int) -> None:
    library = FakeLibrary()
    unit = opened(library)
    wave = ChannelWaveform(((edge / 1e8, volts), (flat / 1e8, volts), (edge / 1e8, 0.0)))
    inside = abs(volts) <= 4.0 and (volts == 0.0 or (edge >= 3 and 10.5 <= edge + flat <= 100_000))
    if inside:
        unit.load({201: wave})
        driven = [call[2] for call in library.named("addVector")]
        assert driven == [volts, volts, 0.0]
        assert all(math.copysign(1.0, level) > 0 for level in driven if level == 0.0)
    else:
        with pytest.raises(LimitError):
            unit.load({201: wave})
        assert not library.named("createPattern")


def test_the_sense_has_the_laboratory_s_timing(unit: KeysightB1530A, library: FakeLibrary) -> None:
    unit.start_sense(5e-6, 4e-6)
    edges: dict[int, list[float]] = {}
    length = {}
    for channel in unit.channels:
        steps = [call[1:] for call in library.named("addVector") if call[0] == f"row{channel}".encode()]
        ends = list(accumulate(seconds for seconds, _ in steps))
        levels = [0.0, *(volts for _, volts in steps)]
        edges[channel] = [end - 1e-8 for end, a, b in zip(ends, levels, levels[1:], strict=False) if a != b]
        length[channel] = ends[-1]
        assert set(levels) == {0.0, 3.3}
    bit, word, select, clock = (edges[channel] for channel in unit.channels)
    assert len({round(seconds, 10) for seconds in length.values()}) == 1
    assert bit[1] - bit[0] == pytest.approx(1.4 * 9e-6, abs=1e-10)
    assert word[1] - word[0] == pytest.approx(9e-6, abs=1e-10)
    assert word[0] - bit[0] == pytest.approx(bit[1] - word[1], abs=1e-10)
    assert select[0] == word[0]
    assert word[1] - select[1] == pytest.approx(4e-6, abs=1e-10)
    assert clock[1] - clock[0] == pytest.approx(15e-6, abs=1e-10)
    assert word[1] < clock[0] < clock[1] < word[2]
    assert [len(times) for times in (bit, word, select, clock)] == [2, 4, 4, 4]
    assert {(call[1][:3], call[2]) for call in library.named("addSequence")} == {(b"lea", 1.0), (b"row", 8.0)}
    assert (b"lead101", 0.05, 0.0) in library.named("addVector")
    unit.start_sense(5e-6, 4e-6)
    assert len(library.named("execute")) == 2


@pytest.mark.parametrize("window", [math.nan, True, 0.0, 1.5e-8, 0.5])
def test_a_sense_out_of_range_starts_nothing(unit: KeysightB1530A, library: FakeLibrary, window: float) -> None:
    with pytest.raises(LimitError):
        unit.start_sense(5e-6, window)
    assert not library.named("execute")
