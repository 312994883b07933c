"""Go-back-N without a wire: what is sent, when, and what each received frame leads to."""

from __future__ import annotations

import pytest

from drivers.framed.codec import Frame, decode
from drivers.framed.exchange import SEQUENCES, Exchange, Request, SessionLostError
from drivers.framed.messages import RESPONSE, Opcode, Status

SESSION, BOOT = 7, 99


def pings(count: int) -> list[Request]:
    return [Request(Opcode.PING, bytes([number])) for number in range(count)]


def exchange(count: int, window: int = 4, first: int = 1) -> Exchange:
    return Exchange(pings(count), 1, SESSION, BOOT, first, window)


def sent(wire: bytes) -> list[int]:
    return [decode(piece).sequence for piece in wire.split(b"\0") if piece]


def reply(sequence: int, status: int = Status.OK, body: bytes = b"", session: int = SESSION) -> Frame:
    return Frame(1, session, sequence % SEQUENCES, Opcode.PING | RESPONSE, bytes([status]) + body)


def refused(sequence: int, expected: int) -> Frame:
    return reply(sequence, Status.OUT_OF_ORDER, expected.to_bytes(2, "little"))


DAMAGED = Frame(0, 0, 0, Opcode.BAD_FRAME | RESPONSE, bytes([Status.BAD_FRAME, 0, 0]))


def test_the_window_opens_as_the_oldest_is_answered() -> None:
    run = exchange(6)
    assert sent(run.fresh()) == [1, 2, 3, 4]
    assert sent(run.fresh()) == []
    run.take(reply(2))
    assert sent(run.fresh()) == []
    run.take(reply(1))
    assert sent(run.fresh()) == [5, 6]


@pytest.mark.parametrize("first", [1, SEQUENCES - 2])
def test_replies_come_out_in_order_whatever_order_they_came_in(first: int) -> None:
    run = exchange(4, first=first)
    run.fresh()
    for offset in (2, 0, 3, 1):
        run.take(reply(first + offset, body=bytes([offset])))
    assert run.replies == [b"\0", b"\1", b"\2", b"\3"]
    run.fresh()
    assert run.finished
    assert run.next_sequence == (first + 4) % SEQUENCES


def test_a_missing_reply_is_asked_for_once() -> None:
    run = exchange(4)
    run.fresh()
    assert sent(run.take(reply(3))) == [1, 2]
    assert sent(run.take(reply(4))) == []


def test_a_lost_request_is_sent_again_once_with_all_that_follow() -> None:
    run = exchange(5, window=5)
    run.fresh()
    run.take(reply(1))
    assert sent(run.take(refused(3, expected=2))) == [2, 3, 4, 5]
    assert sent(run.take(refused(4, expected=2))) == []
    assert sent(run.take(refused(5, expected=2))) == []


def test_a_request_lost_again_is_noticed_by_the_second_refusal_of_a_later_one() -> None:
    run = exchange(4)
    run.fresh()
    for later in (2, 3, 4):
        run.take(refused(later, expected=1))
    assert sent(run.take(refused(2, expected=1))) == [1, 2, 3, 4]
    assert run.attempts == 2


def test_another_loss_after_progress_is_noticed_at_once() -> None:
    run = exchange(8)
    run.fresh()
    run.take(refused(2, expected=1))
    for sequence in (1, 2, 3, 4):
        run.take(reply(sequence))
    assert run.attempts == 0
    run.fresh()
    assert sent(run.take(refused(6, expected=5))) == [5, 6, 7, 8]


def test_a_damaged_request_is_sent_again_and_the_refusals_it_causes_are_no_news() -> None:
    run = exchange(3)
    run.fresh()
    assert sent(run.take(DAMAGED)) == [1, 2, 3]
    assert sent(run.take(refused(2, expected=1))) == []
    assert sent(run.take(DAMAGED)) == []


def test_a_damaged_reply_is_asked_for_once() -> None:
    run = exchange(2)
    run.fresh()
    assert sent(run.reply_damaged()) == [1]
    assert sent(run.reply_damaged()) == []


def test_a_report_of_damage_with_nothing_in_flight_is_ignored() -> None:
    run = exchange(1)
    run.fresh()
    run.take(reply(1))
    assert run.take(DAMAGED) == b""
    assert run.reply_damaged() == b""


@pytest.mark.parametrize(
    "frame",
    [
        reply(1, session=6),
        reply(9),
        reply(1)._replace(opcode=Opcode.SENSE | RESPONSE),
        reply(1)._replace(opcode=Opcode.PING),
    ],
)
def test_what_answers_no_open_question_is_ignored(frame: Frame) -> None:
    run = exchange(1)
    run.fresh()
    assert run.take(frame) == b""
    assert run.in_flight == 1


def test_a_reply_taken_twice_counts_once() -> None:
    run = exchange(2)
    run.fresh()
    run.take(reply(1, body=b"a"))
    run.take(reply(1, body=b"b"))
    assert run.replies == [b"a"]


def test_after_a_refusal_nothing_new_is_sent() -> None:
    run = exchange(9)
    run.fresh()
    run.take(reply(1, Status.BAD_ARGUMENT, b"why"))
    assert run.fresh() == b""
    for sequence in (2, 3, 4):
        run.take(reply(sequence))
    assert run.finished
    assert run.refusal is not None
    assert (run.refusal.status, run.refusal.text) == (Status.BAD_ARGUMENT, "why")


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (Status.NO_SESSION, (BOOT + 1).to_bytes(4, "little"), "the board was reset"),
        (Status.NO_SESSION, BOOT.to_bytes(4, "little"), "another program"),
        (Status.VERSION, b"\2\3", "version"),
        (Status.MISMATCH, b"", "another request"),
    ],
)
def test_a_lost_session_is_told_from_its_cause(status: Status, body: bytes, why: str) -> None:
    run = exchange(1)
    run.fresh()
    with pytest.raises(SessionLostError, match=why):
        run.take(reply(1, status, body))
