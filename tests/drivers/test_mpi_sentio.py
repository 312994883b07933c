"""The prober: its driver and the simulated one through the wire, and answers that the simulated one never gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from drivers.errors import InstrumentError, LimitError, ReadBackError, ReplyError
from drivers.mpi_sentio import MpiSentio
from drivers.prober_role import Die, Prober
from drivers.simulated.mpi_sentio import IDENTITY, MpiSentioServer
from drivers.visa_link import open_visa
from models.exceptions import BenchFailure
from tests.drivers.transcript import Exchange, TranscriptLink

DIES = (Die(-1, 0), Die(0, 0), Die(1, 0))
HELLO: list[Exchange] = [("*IDN?", IDENTITY), ("get_chuck_site_status Wafer", "0,0,1,1,0,1")]
HEIGHTS: Exchange = ("get_chuck_site_heights Wafer", "0,0,12000.0,250.0,0.0,50.0")


@pytest.fixture
def touched() -> list[Die | None]:
    return []


@pytest.fixture
def server(touched: list[Die | None]) -> Iterator[MpiSentioServer]:
    with MpiSentioServer(threading.RLock(), DIES, touched.append) as running:
        yield running


@pytest.fixture
def prober(server: MpiSentioServer) -> Iterator[MpiSentio]:
    driver = MpiSentio(open_visa(server.resource, backend="@py"))
    yield driver
    driver.close()


def test_it_touches_the_die_that_it_stepped_to_and_lifts_off_again(
    prober: MpiSentio, touched: list[Die | None]
) -> None:
    role: Prober = prober
    assert role.dies == DIES
    assert role.position is None
    role.separate()
    role.step(Die(-1, 0))
    assert (role.position, role.in_contact) == (Die(-1, 0), False)
    role.contact()
    assert role.in_contact
    role.safe_off()
    assert not role.in_contact
    assert touched == [Die(-1, 0), None]


def test_a_step_in_contact_is_refused_before_the_wire(prober: MpiSentio, server: MpiSentioServer) -> None:
    prober.separate()
    prober.step(DIES[0])
    prober.contact()
    before = list(server.prober.heard)
    with pytest.raises(BenchFailure, match="not confirmed to be separated"):
        prober.step(DIES[1])
    assert server.prober.heard == before


def test_needles_that_somebody_else_brought_down_stop_the_step(prober: MpiSentio, server: MpiSentioServer) -> None:
    prober.separate()
    server.prober.touching = True
    with pytest.raises(BenchFailure, match="came down"):
        prober.step(DIES[1])
    assert not any(line.startswith("map:step_die") for line in server.prober.heard)


def test_a_die_off_the_map_moves_nothing(prober: MpiSentio, server: MpiSentioServer) -> None:
    prober.separate()
    with pytest.raises(LimitError, match="7:0"):
        prober.step(Die(7, 0))
    assert server.prober.die is None


def test_a_chuck_that_does_not_come_down_from_contact_is_no_safe_state(
    prober: MpiSentio, server: MpiSentioServer
) -> None:
    prober.separate()
    prober.step(DIES[0])
    prober.contact()
    server.prober.stuck = True
    with pytest.raises(ReadBackError, match="may still touch"):
        prober.safe_off()


def test_safe_off_separates_on_a_link_that_is_out_of_step(prober: MpiSentio, server: MpiSentioServer) -> None:
    prober.separate()
    prober.step(DIES[0])
    prober.contact()
    prober.link.lose_step("of this test")
    prober.safe_off()
    assert not server.prober.touching


def test_dies_of_the_map_as_it_was_read_are_known_without_asking(prober: MpiSentio, server: MpiSentioServer) -> None:
    assert prober.dies == DIES
    prober.separate()
    before = list(server.prober.heard)
    for wrong in (Die(7, 0), (0.0, 0.0), None):
        with pytest.raises(LimitError):
            prober.step(wrong)  # type: ignore[arg-type]
    assert server.prober.heard == before


def test_contact_height_must_be_trained(prober: MpiSentio, server: MpiSentioServer) -> None:
    server.prober.trained = False
    with pytest.raises(BenchFailure, match="contact height"):
        prober.identify()


def test_the_end_of_the_route_is_no_error_but_an_error_is() -> None:
    with TranscriptLink([*HELLO, ("map:die:get_current_index", "1024,0,2,1,0")]) as link:
        assert MpiSentio(link, serial="0").position == Die(1, 0)
    with TranscriptLink([*HELLO, ("map:die:get_current_index", "20,0,busy")]) as link:
        with pytest.raises(InstrumentError, match="busy"):
            MpiSentio(link).position  # noqa: B018
        assert link.in_step


@pytest.mark.parametrize("reply", ["", "0", "OK", "0,0,1", "0,0,1,2,x", "0,0,1,2,3,4"])
def test_an_answer_that_does_not_fit_puts_the_link_out_of_step(reply: str) -> None:
    with TranscriptLink([*HELLO, ("map:die:get_current_index", reply)]) as link:
        with pytest.raises(ReplyError):
            MpiSentio(link).position  # noqa: B018
        assert not link.in_step


@pytest.mark.parametrize(("height", "touching"), [("11750.0", False), ("11755.1", True), ("12060.0", True)])
def test_every_height_that_is_not_surely_separated_counts_as_contact(height: str, touching: bool) -> None:
    with TranscriptLink([*HELLO, HEIGHTS, ("get_chuck_z Zero", f"0,0,{height}")]) as link:
        assert MpiSentio(link).in_contact is touching
