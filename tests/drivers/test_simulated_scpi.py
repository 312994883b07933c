"""The SCPI core and its line server, through real sockets, with a small instrument made for it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from drivers.simulated.line_server import LONGEST_LINE
from drivers.simulated.scpi import (
    Boolean,
    Bounds,
    Choice,
    InstrumentServer,
    Number,
    ScpiInstrument,
    Setting,
    Text,
    command,
    query,
)
from tests.drivers.simulated_instruments import Client


class Oven(ScpiInstrument):
    """Something with every kind of parameter."""

    IDENTITY = "rram-bench,OVEN,1,0"
    SETTINGS = (
        Setting(
            "[SOURce[1]:]VOLTage[:LEVel][:IMMediate][:AMPLitude]",
            Number(Bounds(0.0, 30.0, 1.5), "V", 3),
            lambda oven: oven,
            "volts",
        ),
        Setting("[SOURce[1]:]VOLTage:RAMP:TIME", Number(Bounds(0, 10, 0), "S"), lambda oven: oven, "seconds"),
        Setting("RESistance", Number(Bounds(0, 1e9, 0), "OHM"), lambda oven: oven, "ohms"),
        Setting("DOOR[:OPEN]", Boolean(), lambda oven: oven, "door"),
        Setting("FAN{1|2}:MODE", Choice(("NORMal", "QUIet")), lambda oven, fan: oven.fans[fan], "mode"),
        Setting("LABel", Text(), lambda oven: oven, "label"),
    )

    class Fan:
        mode = "NORM"

    def reset(self) -> None:
        self.volts, self.seconds, self.ohms, self.door, self.label = 1.5, 0.0, 0.0, False, ""
        self.fans = {"1": Oven.Fan(), "2": Oven.Fan()}

    @command("ZONE<n>:MOVE", Number(Bounds(-5, 5, 0)), Number(Bounds(-5, 5, 0), optional=True))
    def _move(self, zone: int, x: float, y: float = 0.0) -> None:
        self.label = f"{zone}:{x}:{y}"

    @query("LIST", rest=Number(Bounds(0, 9, 0)))
    def _list(self, *numbers: float) -> str:
        return ",".join(map(str, numbers))


@pytest.fixture
def oven() -> Iterator[InstrumentServer]:
    with InstrumentServer(Oven(threading.RLock())) as server:
        yield server


@pytest.fixture
def client(oven: InstrumentServer) -> Iterator[Client]:
    with Client(oven) as client:
        assert client.ask("*ESR?") == "128"  # power on
        yield client


@pytest.mark.parametrize(
    ("message", "volts"),
    [
        ("VOLT 2", 2.0),
        ("volt 2", 2.0),
        ("VoLtAgE 2", 2.0),
        ("VOLT  2", 2.0),
        ("VOLT\t 2 \r", 2.0),
        (":VOLT 2.5V", 2.5),
        ("VOLT 2.5 V", 2.5),
        ("VOLT 1e-3", 0.001),
        ("VOLT +1.E+1", 10.0),
        ("VOLT .5", 0.5),
        ("VOLT 0", 0.0),
        ("VOLT -0.0", 0.0),
        ("SOUR:VOLT 250 mv", 0.25),
        ("SOURce1:VOLTage:LEVel:IMMediate:AMPLitude 0.02kV", 20.0),
        ("source:voltage:amplitude 5000000uV", 5.0),
        ("VOLT MAX", 30.0),
        ("VOLT minimum", 0.0),
        ("VOLT DEF", 1.5),
        ("VOLT 1.23456", 1.235),
    ],
)
def test_a_number_is_understood_in_every_form_that_scpi_allows(client: Client, message: str, volts: float) -> None:
    client.send(message)
    assert float(client.ask("VOLT?")) == volts
    assert client.errors() == []


def test_units_scale_by_what_they_measure(client: Client) -> None:
    client.send("RES 2.2 MOHM;:VOLT:RAMP:TIME 20MS")
    assert client.ask("RES?;:VOLT:RAMP:TIME?") == "2200000.0;0.02"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("VOLTA 1", -113),
        ("VOL 1", -113),
        ("VOLT:LEVE 1", -113),
        ("VOLT:LEV:LEV 1", -113),
        ("SOURce2:VOLT 1", -113),
        ("LIST 1", -113),
        ("ZONE:MOVE?", -113),
        ("VOLT", -109),
        ("ZONE:MOVE 1,", -109),
        ("VOLT 1,2", -108),
        ("*RST 1", -108),
        ("VOLT abc", -104),
        ("VOLT 'abc'", -104),
        ("VOLT NAN", -104),
        ("VOLT INF", -104),
        ("VOLT --1", -104),
        ("DOOR perhaps", -104),
        ("FAN1:MODE 3", -104),
        ("LAB word", -104),
        ("VOLT 1 A", -131),
        ("VOLT 1 XV", -131),
        ("ZONE:MOVE 1 V", -138),
        ("VOLT 30.001", -222),
        ("VOLT -1", -222),
        ("VOLT 1E400", -222),
        ("FAN1:MODE LOUD", -224),
        ("LAB 'open", -151),
        ("VOLT=1", -111),
        ("5", -102),
        ("INTERNATIONALIZATION 1", -112),
        ("VOLT 1\N{LATIN SMALL LETTER E WITH ACUTE}", -101),
    ],
)
def test_what_is_wrong_is_refused_with_its_own_code_and_changes_nothing(
    client: Client, message: str, code: int
) -> None:
    client.send(message)
    assert client.errors() == [code]
    assert client.ask("VOLT?;DOOR?;LAB?") == "1.5;0;"
    event = {1: 32, 2: 16}[-code // 100]
    assert client.ask("*ESR?") == str(event)


def test_booleans_choices_and_text(client: Client) -> None:
    for sent, state in [("ON", "1"), ("off", "0"), ("1", "1"), ("0", "0"), ("2.7", "1"), ("0.4", "0")]:
        client.send(f"DOOR:OPEN {sent}")
        assert client.ask("DOOR?") == state
    client.send("FAN2:MODE QUIET;:LAB 'a;b,\"c\"'")
    assert client.ask("FAN1:MODE?;:FAN2:MODE?;:LAB?") == 'NORM;QUI;a;b,"c"'


def test_numeric_suffixes_default_to_one_and_lists_may_have_any_length(client: Client) -> None:
    assert client.ask("ZONE:MOVE 1;:LAB?") == "1:1.0:0.0"
    assert client.ask("zone12:move 1,-2;:LAB?") == "12:1.0:-2.0"
    assert client.ask("LIST? 1,2, 3") == "1.0,2.0,3.0"


def test_a_number_tells_its_range(client: Client) -> None:
    assert client.ask("VOLT? MIN;VOLT? MAX;VOLT? DEF") == "0.0;30.0;1.5"


def test_the_header_path_carries_over_until_a_colon_and_common_commands_leave_it_alone(client: Client) -> None:
    assert client.ask("SOUR:VOLT:LEV 3;RAMP:TIME 4;*ESE 8;TIME?;:DOOR 1;DOOR?;*ESE?") == "4.0;1;8"
    assert client.errors() == []
    client.send("SOUR:VOLT:LEV 3;SOUR:VOLT 4")
    assert client.errors() == [-113]


def test_a_command_error_ends_the_message_and_an_execution_error_does_not(client: Client) -> None:
    assert client.ask("VOLT?;VOLT 2;BOGUS;VOLT 3") == "1.5"
    assert client.ask("VOLT 99;DOOR 1;VOLT?") == "2.0"
    assert client.ask("DOOR?") == "1"
    assert client.errors() == [-113, -222]


def test_empty_units_and_colons_before_common_commands_are_accepted(client: Client) -> None:
    client.send("*RST;:stat:pres;:*CLS;")
    client.send(";;")
    client.send("")
    assert client.errors() == []


def test_the_error_queue_is_first_in_first_out_and_ends_with_overflow(client: Client) -> None:
    client.send("VOLT")
    client.send("VOLT 99")
    assert client.ask("SYST:ERR:COUN?") == "2"
    assert client.ask("system:error:next?") == '-109,"Missing parameter"'
    assert client.ask("SYST:ERR?") == '-222,"Data out of range"'
    assert client.ask("SYST:ERR?") == '0,"No error"'
    for _ in range(30):
        client.send("BOGUS")
    codes = client.errors()
    assert codes == [-113] * 19 + [-350]
    client.send("BOGUS;*CLS")
    client.send("*CLS")
    assert client.errors() == []


def test_status_registers_sum_up_what_happened(client: Client) -> None:
    client.send("*ESE 33;*SRE 255")
    assert client.ask("*ESE?;*SRE?;*STB?") == "33;191;80"  # replies of this message wait: MAV, and so the summary
    assert client.ask("*STB?") == "0"
    client.send("BOGUS")
    assert client.ask("*STB?") == "100"  # error queue, event summary, master summary
    assert client.ask("*ESR?;*ESR?") == "32;0"
    client.send("*CLS;*OPC")
    assert client.ask("*STB?;*ESR?") == "96;1"
    assert client.ask("*OPC?;*TST?;SYST:VERS?;*IDN?") == "1;0;1999.0;rram-bench,OVEN,1,0"


def test_reset_keeps_errors_and_events_and_power_on_drops_them(oven: InstrumentServer, client: Client) -> None:
    client.send("VOLT 3;BOGUS")
    client.send("*RST")
    assert client.ask("VOLT?;*ESR?;:SYST:ERR:COUN?") == "1.5;32;1"
    client.do("VOLT 3;*ESE 1")
    oven.instrument.power_on()
    assert client.ask("VOLT?;*ESR?;*ESE?;:SYST:ERR:COUN?") == "1.5;128;0;0"


def test_several_messages_in_one_packet_and_one_message_in_several(client: Client) -> None:
    client.send_bytes(b"VOLT 2\nVOLT?\nDOOR?\nVO")
    assert [client.read(), client.read()] == ["2.0", "0"]
    client.send_bytes(b"LT?\r\n")
    assert client.read() == "2.0"


def test_garbage_and_endless_lines_are_survived(client: Client) -> None:
    client.send_bytes(bytes(range(256)).replace(b"\n", b"") + b"\n")
    client.send_bytes(b"VOLT " + b"1" * (3 * LONGEST_LINE) + b"\n")
    client.send_bytes(b"\0" * 100 + b"\n")
    assert client.ask("VOLT?") == "1.5"
    assert client.errors() == [-101, -363, -101]


def test_clients_are_served_at_the_same_time_and_one_that_vanishes_harms_nobody(oven: InstrumentServer) -> None:
    with Client(oven) as first, Client(oven) as second:
        first.send("VOLT 7")
        assert first.ask("VOLT?") == second.ask("VOLT?") == "7.0"
        rude = socket.create_connection(("127.0.0.1", oven.wire.port))
        rude.sendall(b"VOLT?\n" * 1000 + b"VOLT 5")
        rude.close()
        assert second.ask("VOLT?") == "7.0"
    with Client(oven) as third:
        assert third.ask("VOLT?") == "7.0"


def test_many_threads_each_get_their_own_answers(oven: InstrumentServer) -> None:
    wrong: list[int] = []

    def hammer(number: int) -> None:
        with Client(oven) as client:
            wrong.extend(n for n in range(100) if client.ask(f"LIST? {number},{n % 10}") != f"{number}.0,{n % 10}.0")

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_stopping_closes_everything_and_the_state_survives_a_restart() -> None:
    server = InstrumentServer(Oven(threading.RLock()))
    server.stop()
    server.start()
    port = server.wire.port
    client = Client(server)
    assert client.ask("VOLT 4;VOLT?") == "4.0"
    server.wire.delay_s = 60.0
    client.send("VOLT?")  # its reply is being waited for when the server stops
    server.stop()
    assert client.read() == ""
    client.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("line server")]
    with pytest.raises(ConnectionRefusedError), contextlib.closing(socket.create_connection(("127.0.0.1", port))):
        pass
    with pytest.raises(RuntimeError):
        _ = server.resource
    server.wire.delay_s = 0.0
    with server, Client(server) as again:
        assert again.ask("VOLT?") == "4.0"


def test_a_port_can_be_asked_for_and_is_refused_when_taken(oven: InstrumentServer) -> None:
    other = InstrumentServer(Oven(threading.RLock()), oven.wire.port)
    with pytest.raises(OSError, match=r"[Aa]ddress"):
        other.start()


def test_replies_can_be_tampered_with_and_cables_pulled(oven: InstrumentServer, client: Client) -> None:
    oven.wire.tamper = lambda reply: reply.replace(b"1.5", b"1.7")
    assert client.ask("VOLT?") == "1.7"
    oven.wire.tamper = lambda reply: None if reply.startswith(b"1.5") else reply
    client.send("VOLT?")
    assert client.ask("DOOR?") == "0"
    oven.wire.disconnect_all()
    assert client.read() == ""


def test_pyvisa_opens_the_resource(oven: InstrumentServer) -> None:
    pyvisa = pytest.importorskip("pyvisa")
    manager = pyvisa.ResourceManager("@py")
    with contextlib.closing(manager), contextlib.closing(manager.open_resource(oven.resource)) as resource:
        resource.read_termination = resource.write_termination = "\n"
        resource.timeout = 5000
        assert resource.query("*IDN?") == "rram-bench,OVEN,1,0"
        resource.write("VOLT 12.5 V")
        assert float(resource.query("VOLT?")) == 12.5
