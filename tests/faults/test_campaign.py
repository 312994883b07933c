"""A short, seeded part of the fault campaign; and of each of its parts, that it would notice what must never happen."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.framed import codec
from drivers.framed.messages import Counters
from drivers.limits import Range
from drivers.scpi_settings import Change, Setting
from drivers.simulated.firmware import BoardFirmware
from drivers.visa_link import VisaLink, open_visa
from drivers.visa_open import SocketPeek
from tests.drivers.fake_chip import FakeChip
from tests.faults import endings, framed_board, report, safe_off, scpi_wires, setters, two_threads
from tests.faults.campaign import Campaign, Row
from tests.faults.stands import STANDS, all_drivers
from tests.faults.victims import supply_2230g

SEED = 20


def campaign(scale: float) -> Campaign:
    return Campaign(scale, SEED, io.StringIO())


def nothing(row: Row) -> None:
    """Progress that nobody looks at."""


# The short part


@pytest.mark.parametrize(
    ("part", "scale"),
    [(framed_board.run, 0.006), (scpi_wires.run, 0.01), (two_threads.run, 0.02), (safe_off.run, 0.05)],
    ids=["framed board", "SCPI", "two threads", "safe-off"],
)
def test_nothing_is_lost(part: Callable[[Campaign], None], scale: float) -> None:
    short = campaign(scale)
    part(short)
    assert [note for row in short.rows if row.lost for note in row.notes] == []
    assert all(row.injected >= row.total > 0 for row in short.rows)


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_every_ending_leaves_all_outputs_off_and_is_on_record() -> None:
    short = campaign(0.01)
    endings.run(short, benches=2)
    assert [note for row in short.rows if row.lost for note in row.notes] == []


@pytest.mark.parametrize("driver", all_drivers(), ids=lambda driver: driver.__name__)
def test_every_setter_refuses_takes_zero_and_reads_back(driver: type) -> None:
    name = driver.__name__
    assert name in STANDS, f"{driver.__module__}.{name} has no stand in tests/faults/stands.py"
    short = campaign(0.005)
    rows = [short.row(what, 1) for what in ("refused", "zero", "read back")]
    with STANDS[name](setters.NARROW) as stand:
        setters.refuse(stand, rows[0])
    with STANDS[name](setters.WIDE) as stand:
        assert stand.uncovered() == []
        setters.refuse(stand, rows[0])
        setters.zero(stand, rows[1])
        setters.read_back(stand, short, rows[2])
    assert [note for row in rows for note in row.notes] == []
    assert rows[0].injected > 50


# It would notice


def lost_on_the_framed_board(kind: str, faults: int = 30) -> int:
    row = Row(kind, faults)
    framed_board.befall(row, kind, np.random.default_rng(SEED), nothing)
    return row.lost


def test_a_pulse_that_acts_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Eager(FakeChip):
        def pulse(self, *arguments: Any) -> None:
            for _ in range(2 if len(self.calls) % 20 == 0 else 1):
                super().pulse(*arguments)

    monkeypatch.setattr(framed_board, "FakeChip", Eager)
    assert lost_on_the_framed_board("doubled") > 0


def test_a_board_that_forgets_what_it_did_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = BoardFirmware._answer

    def forgetful(firmware: BoardFirmware, frame: codec.Frame) -> bytes:
        session = firmware._session
        if session is not None and frame.sequence in session.replies:
            session.replies.clear()
            session.expected = frame.sequence
        return answer(firmware, frame)

    monkeypatch.setattr(BoardFirmware, "_answer", forgetful)
    assert lost_on_the_framed_board("missing") > 0


def test_a_missing_checksum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec.zlib, "crc32", lambda data: 0)

    def unchecked(encoded: bytes) -> codec.Frame:
        try:
            data = codec.cobs.decode(encoded)
            return codec.Frame(*codec.HEADER.unpack_from(data), data[codec.HEADER.size : -4])
        except (codec.cobs.DecodeError, codec.struct.error) as error:
            raise codec.FrameError(str(error)) from None

    monkeypatch.setattr(codec, "decode", unchecked)
    with contextlib.suppress(RuntimeError):  # it may not even find the board again
        assert lost_on_the_framed_board("flipped") > 0


def lost_on_scpi(kind: str, faults: int = 30) -> int:
    row = Row(kind, faults)
    rng, on_wire, noise = np.random.default_rng(SEED).spawn(3)
    with supply_2230g(noise) as victim:
        wire = scpi_wires.BadWire(victim, on_wire)
        wire.attach()
        while row.injected < row.total:
            scpi_wires.strike(victim, wire, kind, rng, row)
    return row.lost


def test_a_link_that_stays_in_step_after_a_late_reply_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VisaLink, "_usable", lambda link: link._visa)
    monkeypatch.setattr(SocketPeek, "buffered", lambda peek: False)
    assert lost_on_scpi("late", 40) > 0


def test_a_setting_that_is_not_read_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    change = Setting.change

    def trusting(setting: Any, owner: Any, value: object) -> Change:
        real = change(setting, owner, value)
        return Change(real.command, real.question, lambda reply: None)

    monkeypatch.setattr(Setting, "change", trusting)
    monkeypatch.setattr(scpi_wires, "SETS", 1.0)
    monkeypatch.setattr(scpi_wires, "STRIKES", 1.0)
    assert lost_on_scpi("command flipped") > 0


def test_a_link_without_a_lock_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unlocked(resource: str) -> VisaLink:
        # each answer that the other thread takes away is waited for
        link = open_visa(resource, timeout_s=0.05)
        link._lock = contextlib.nullcontext()  # type: ignore[assignment]
        return link

    monkeypatch.setattr(two_threads, "open_visa", unlocked)
    row = Row("no lock", 1000)
    two_threads.visa(row, nothing)
    assert row.lost > 0


def test_a_setter_without_limits_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Range, "check", lambda allowed, value, what: float(value))
    row = Row("no limits", 1)
    with STANDS["Keithley2230G"](setters.WIDE) as stand:
        setters.refuse(stand, row)
    assert row.lost > 100


def test_a_zero_that_counts_as_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Range.check
    monkeypatch.setattr(Range, "check", lambda allowed, value, what: check(allowed, value, what) or 1.0)
    row = Row("zero", 1)
    with STANDS["Keithley2230G"](setters.WIDE) as stand:
        setters.zero(stand, row)
    assert row.lost == row.injected > 0


def test_a_safe_off_that_ends_at_the_first_failure_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.safe import SafeReport, SafeStep, safe_step

    def hasty(steps: Any) -> SafeReport:
        done: list[SafeStep] = []
        for role, step in steps:
            done.append(safe_step(role, step) if all(each.confirmed for each in done) else SafeStep(role, True))
        return SafeReport(tuple(done))

    monkeypatch.setattr(safe_off, "switch_off", hasty)
    row = Row("hasty", 8)
    safe_off.of_four(row, np.random.default_rng(SEED), SEED, nothing)
    assert row.lost > 0


@pytest.mark.parametrize(
    ("supply", "smu", "safe"),
    [
        ("0.000;0;0.000;0;0.000;0;0.000, 0.000, 0.000", "0;0.000000E+00", (True, True)),
        ("0.000;0;0.000;1;0.000;0;0.000, 0.000, 0.000", "1;0.000000E+00", (False, False)),
        ("0.000;0;0.000;0;1.200;0;0.000, 0.000, 0.000", "0;2.000000E-01", (False, False)),
        ("0.000;0;0.000;0;0.000;0;0.000, 0.000, 1.200", "0;0.000000E+00", (False, True)),
    ],
)
def test_what_is_off_and_what_is_not(supply: str, smu: str, safe: tuple[bool, bool]) -> None:
    outputs = endings.Outputs(supply, smu, Counters(0, 0, 0, 0, 0))
    assert (outputs.supply_off, outputs.smu_off) == safe


# What it says


@pytest.fixture
def rows() -> list[Row]:
    return [Row("flipped", 10, 10, 0, 2, notes=["undetectable: 1.2 became 1.3"]), Row("cut", 5, 5, 1, 0)]


def test_the_json_line_and_the_page_hold_all_figures(rows: list[Row], tmp_path: Path) -> None:
    first, second = json.loads(report.json_line(rows))["rows"]
    assert first == {"fault": "flipped", "injected": 10, "survived": 8, "undetectable": 2, "lost": 0}
    assert (second["survived"], second["lost"]) == (4, 1)
    report.write_page(tmp_path / "page.md", rows, "make faults", 12.0)
    page = (tmp_path / "page.md").read_text()
    assert "| flipped | 10 | 8 | 2 | 0 | 0 |" in page
    assert "1.2 became 1.3" in page
    assert "make faults" in page


def test_the_same_seed_draws_the_same_faults() -> None:
    drawn = [Campaign(1.0, seed, io.StringIO()).rng("scpi", "flipped").integers(1 << 30, size=4) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


@pytest.mark.parametrize(
    ("clean", "spoilt", "legal"),
    [
        (b"1.200\n", b"1.300\n", True),
        (b"1.200, 0.100;1\n", b"1.200, 9;1\n", True),
        (b"1.200\n", b"1.2", False),
        (b"1.200, 0.100;1\n", b"1.200; 0.100;1\n", False),
        (b"1.200\n", b"1.2x0\n", False),
        (b"1.200\n", b"1.200\n1.200\n", False),
    ],
)
def test_what_counts_as_undetectable(clean: bytes, spoilt: bytes, legal: bool) -> None:
    assert scpi_wires.legal(clean, spoilt) is legal
