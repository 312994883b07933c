"""XNOR streamed over real wires: the same sums as one by one, whatever happens on the line or to whoever asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.config import parse_bench_file
from bench.session import Bench, connect
from data.device_files import Quantity, default_device
from drivers.chip import Operation, OperationKind
from drivers.errors import InstrumentError, LimitError, LinkError, ReadBackError
from drivers.framed import FramedBoard, open_framed
from drivers.framed.exchange import Request
from drivers.framed.messages import Opcode
from drivers.framed.stream import RequestStream
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.firmware import BoardProperties
from models.cells import Geometry
from models.exceptions import UserMistake
from tests.drivers.fake_chip import FakeChip, served
from tests.drivers.test_framed_link import GEOMETRY, LIMITS, WIDTH_S, Mangler

SIZES = (64, 0, 1, 71, 284, 0, 3, 500, 130)
"""Of the batches: empty ones, one vector, a piece exactly, as much as may be in flight, more than that."""


@pytest.fixture(scope="module")
def quiet_world() -> Iterator[SimulatedBench]:
    # Without noise a sum is the same each time.
    device = default_device().updated({"sense.noise_sigma": Quantity(0.0, "1", "test", "proposed")})
    with SimulatedBench(2, device) as simulated:
        yield simulated


@pytest.fixture
def bench(quiet_world: SimulatedBench) -> Iterator[Bench]:
    text = quiet_world.bench_file()
    with connect(parse_bench_file(text, "test bench"), text) as session:
        rng = np.random.default_rng(1)
        session.chip.form(~session.chip.no_devices(), 3)
        session.chip.program(rng.choice(np.array([-1, 1], np.int8), size=(32, 32)))
        yield session


def batches(cols: int = 32, sizes: tuple[int, ...] = SIZES) -> list[NDArray[np.int8]]:
    rng = np.random.default_rng(3)
    return [rng.choice(np.array([-1, 1], np.int8), size=(size, cols)) for size in sizes]


class Account:
    """What the listeners heard of XNOR, beside what the board itself counts."""

    def __init__(self, bench: Bench) -> None:
        self.told: list[Operation] = []
        self._bench = bench
        self._before = bench.board.status().senses
        bench.chip.listeners.append(self._hear)

    def _hear(self, operation: Operation) -> None:
        if operation.kind is OperationKind.XNOR:
            self.told.append(operation)

    @property
    def vectors(self) -> int:
        return sum(operation.count for operation in self.told)

    def check(self) -> None:
        """Every vector that was sensed was told of, once; and the link is in order."""
        assert self.vectors == self._bench.board.status().senses - self._before


@pytest.mark.parametrize("used", [Geometry(32, 32), Geometry(13, 19)])
def test_streamed_sums_are_those_of_each_batch_by_itself(bench: Bench, used: Geometry) -> None:
    inputs = batches(used.cols)
    alone = [bench.chip.xnor(batch, used) for batch in inputs]
    account = Account(bench)
    streamed = list(bench.chip.xnor_stream(iter(inputs), used))
    assert [sums.shape for sums in streamed] == [(size, used.rows) for size in SIZES]
    for one, other in zip(streamed, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    account.check()
    row_s = bench.chip.points.sense.precharge_s + bench.chip.points.sense.window_s + 1e-6
    assert max(operation.count for operation in account.told) * used.rows * row_s <= 0.1
    assert list(bench.chip.xnor_stream([], used)) == []


def test_batches_are_drawn_as_they_are_needed_and_may_share_one_buffer(bench: Bench) -> None:
    expected = [bench.chip.xnor(batch) for batch in batches(sizes=(50,) * 40)]
    buffer = np.ones((50, 32), np.int8)
    drawn = 0

    def filled() -> Iterator[NDArray[np.int8]]:
        nonlocal drawn
        for batch in batches(sizes=(50,) * 40):
            drawn += 1
            buffer[...] = batch
            yield buffer

    for number, sums in enumerate(bench.chip.xnor_stream(filled())):
        np.testing.assert_array_equal(sums, expected[number])
        # 0.1 s of the board's time in flight and as much answered: 12 batches.
        assert drawn - number <= 14


def test_other_calls_come_in_between(bench: Bench) -> None:
    chip, inputs = bench.chip, batches()
    alone = [chip.xnor(batch) for batch in inputs]
    weights = chip.read()[0]
    account = Account(bench)
    unused = np.zeros((32, 32), dtype=bool)
    others = chip.xnor_stream(inputs[::-1])
    for number, (sums, backwards) in enumerate(zip(chip.xnor_stream(inputs), others, strict=True)):
        np.testing.assert_array_equal(sums, alone[number])
        np.testing.assert_array_equal(backwards, alone[-1 - number])
        np.testing.assert_array_equal(chip.read()[0], weights)
        chip.program(weights, unused)
        chip.resistance(0, 0, 0)  # type: ignore[arg-type]
        account._before += 1  # the read
    account.check()


def test_a_gate_may_switch_the_outputs_off_in_the_middle(bench: Bench) -> None:
    chip, inputs = bench.chip, batches()
    alone = [chip.xnor(batch) for batch in inputs]
    account, passed = Account(bench), 0

    def pause() -> None:
        nonlocal passed
        passed += 1
        if passed % 5 == 0:
            chip.settle()
            account.check()
            assert bench.outputs_off().confirmed

    chip.gates.append(pause)
    for sums, expected in zip(chip.xnor_stream(inputs), alone, strict=True):
        np.testing.assert_array_equal(sums, expected)
    assert passed > 10
    account.check()


def test_rails_that_go_behind_its_back_are_noticed(bench: Bench) -> None:
    passed = 0

    def cut_off() -> None:
        nonlocal passed
        passed += 1
        if passed == 3:
            bench.rails.off()

    bench.chip.gates.append(cut_off)
    account = Account(bench)
    with pytest.raises(ReadBackError, match="the rails were moved"):
        list(bench.chip.xnor_stream(batches()))
    assert account.told == []
    bench.chip.xnor(batches()[0])


class Stop(UserMistake):
    """Somebody asked for a stop."""


@pytest.mark.parametrize("who", ["gate", "listener", "batches", "wrong batch", "consumer"])
def test_an_early_end_loses_no_count_and_leaves_the_link_in_order(bench: Bench, who: str) -> None:
    chip, account, calls = bench.chip, Account(bench), 0
    alone = chip.xnor(batches()[0])
    sensed_alone = account.vectors

    def stop(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise Stop("stopped")

    def until_wrong() -> Iterator[NDArray[np.int8]]:
        yield from batches()
        if who == "batches":
            raise Stop("no more vectors")
        if who == "wrong batch":
            yield np.zeros((3, 32), np.int8)
        yield from batches()

    {"gate": chip.gates, "listener": chip.listeners}.get(who, []).append(stop)
    stream = chip.xnor_stream(until_wrong())
    if who == "consumer":
        for _ in range(4):
            next(stream)
        stream.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(LimitError if who == "wrong batch" else Stop) as caught:
            list(stream)
        assert not getattr(caught.value, "__notes__", [])
    chip.gates.clear()
    assert account.vectors > sensed_alone
    account.check()
    if stop in chip.listeners:
        chip.listeners.remove(stop)
    np.testing.assert_array_equal(chip.xnor(batches()[0]), alone)
    assert bench.board.link.stats.retries == 0  # type: ignore[attr-defined]


def test_what_cannot_be_is_refused_at_once(bench: Bench) -> None:
    sent = bench.board.status().senses
    with pytest.raises(LimitError, match="rows"):
        bench.chip.xnor_stream([], Geometry(33, 32))
    with pytest.raises(LimitError, match="XNOR inputs"):
        bench.chip.xnor(np.zeros((3, 32), np.int8))
    assert bench.board.status().senses == sent


@pytest.mark.parametrize("seed", [1, 2])
def test_faults_on_the_line_lose_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chip = FakeChip(GEOMETRY, rng.choice([-1, 0, 1], GEOMETRY).astype(np.int8))
    properties = BoardProperties(max_payload=200)
    inward, outward = Mangler(rng, 0.05), Mangler(rng, 0.05)
    with served(chip, properties=properties) as server, open_framed(server.port, timeout_s=0.04) as link:
        board = FramedBoard(link, LIMITS)
        stream = board.xnor_stream(WIDTH_S, WIDTH_S, GEOMETRY)
        server.to_board, server.to_host = inward, outward
        waiting: list[NDArray[np.int8]] = []
        for turn in range(600):
            vectors = rng.choice([-1, 1], (int(rng.integers(0, 200)), 4)).astype(np.int8)
            stream.put(vectors)
            waiting.append(vectors)
            if turn % 7 == 0:
                np.testing.assert_array_equal(board.sense(WIDTH_S, WIDTH_S)[0], chip.weights)
            if turn % 11 == 0:
                link.outputs_low(tries=50)
            while len(waiting) > rng.integers(0, 6):
                np.testing.assert_array_equal(stream.take(), waiting.pop(0).astype(int) @ chip.weights.T.astype(int))
        assert inward.done > 50
        assert outward.done > 50


def test_the_lines_come_down_at_once_while_a_stream_is_open() -> None:
    with served(FakeChip(GEOMETRY)) as server, open_framed(server.port) as link:
        stream = RequestStream(link)
        asked = [bytes([number]) for number in range(6)]
        for data in asked:
            stream.put(Request(Opcode.PING, data))
        other = threading.Thread(target=link.outputs_low)
        other.start()
        other.join(5.0)
        assert not other.is_alive()
        assert [stream.take() for _ in asked] == asked
        assert link.stats.retries == 0


def test_a_refusal_comes_at_its_place_and_a_new_session_ends_a_stream() -> None:
    with served(FakeChip(GEOMETRY)) as server, open_framed(server.port) as link:
        stream = RequestStream(link)
        for opcode, data in ((Opcode.PING, b"a"), (Opcode.SENSE, b"abc"), (Opcode.PING, b"b")):
            stream.put(Request(opcode, data))
        assert stream.take() == b"a"
        with pytest.raises(InstrumentError, match="SENSE.*BAD_LENGTH"):
            stream.take()
        with pytest.raises(InstrumentError, match="SENSE.*BAD_LENGTH"):
            stream.put(Request(Opcode.PING, b"c"))
        assert stream.take() == b"b"
        another = RequestStream(link)
        another.put(Request(Opcode.PING, b"d"))
        link.reopen()
        with pytest.raises(LinkError, match="opened anew"):
            another.take()
        link.ping()
