"""The simulated C2N boards satisfy a client written as the laboratory writes its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data.device_files import default_device, load_device
from drivers.simulated.c2n_boards import ColumnBoardServer, TernaryBoardServer
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import World
from models.cells import Device, Geometry, Polarity
from tests.drivers.c2n_bench import column, running, ternary
from tests.drivers.fake_chip import FakeChip
from tests.drivers.lab_client import LabClient, column_client, fill_bytes, register_words, ternary_client

PATTERN = np.array([[1, 0, -1, 0, 1, 0, -1, 0]] * 8)


@pytest.fixture(params=["pty", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def chip() -> FakeChip:
    return FakeChip(Geometry(8, 8), PATTERN.astype(np.int8))


@pytest.fixture
def lab(chip: FakeChip) -> Iterator[LabClient]:
    with running(ternary(chip)) as server:
        client = ternary_client(server.port)
        yield client
        client.line.close()


@pytest.fixture
def lab_column() -> Iterator[tuple[LabClient, FakeChip]]:
    chip = FakeChip(Geometry(64, 64))
    with running(column(chip)) as server:
        client = column_client(server.port)
        yield client, chip
        client.line.close()


def test_greeting_and_echo_on_every_transport(chip: FakeChip, transport: str) -> None:
    with running(ternary(chip, transport=transport)) as server:
        client = ternary_client(server.port)
        assert client.call("DEBUG_LED") == b"Hello, C2N!"
        for byte in (0, 0x21, 0xAA, 0xAB, 0xFF):
            assert client.call("DEBUG_ECHO", byte) == bytes([byte])
        client.line.close()


def test_a_whole_session_of_the_ternary_board(lab: LabClient, chip: FakeChip) -> None:
    lab.call("ACK_MODE", lab.all_bits())
    set_mask = [{1: 0b01, -1: 0b10, 0: 0b00}[int(weight)] for weight in PATTERN.ravel()]
    lab.call("SET", *set_mask)
    lab.call("RESET", *[mask ^ 0b11 for mask in set_mask])
    low = np.stack([PATTERN == -1, PATTERN == 1], axis=-1)
    assert (chip.pulses[..., Polarity.SET] == low).all()
    assert (chip.pulses[..., Polarity.RESET] == ~low).all()
    expected = bytes({1: 0b10, -1: 0b01, 0: 0b00}[int(weight)] for weight in PATTERN.ravel())
    assert lab.call("SENSE_UC") == expected
    assert lab.call("SENSE") == expected
    lab.call("WRITE_CS", 1, 1)
    lab.call("SET_ADR", 0)
    lab.call("CLK")
    lab.call("CLK2")
    assert lab.quiet()


def test_only_what_the_mask_asks_for_is_acknowledged(lab: LabClient, chip: FakeChip) -> None:
    cells = [0] * 63 + [3]
    for mask in (0, 4, 8, 1 | 32, 63, 0):
        lab.call("ACK_MODE", mask)
        for name in ("SET", "RESET"):
            lab.call(name, *cells)
        lab.call("WRITE_CS", 7, 0)
        lab.call("CLK2")
        assert lab.quiet()
    assert (chip.pulses[7, 7] == 6).all()
    assert chip.pulses.sum() == 24


def test_the_simulated_ternary_chip_is_programmed_by_it() -> None:
    model = load_device(Path(__file__).parents[2] / "data/devices/hfo2_130nm_ternary.toml").model
    world = World(SimulatedChip(model, Geometry(8, 8), 3, "C"))

    def rails(vdd: float, vddc: float, vddr: float) -> None:
        for channel, volts in ((3, vdd), (2, vddc), (1, vddr)):
            world.drive_channel(channel, volts)

    weights = np.where(PATTERN == 0, 1, PATTERN)
    set_mask = [{1: 0b01, -1: 0b10}[int(weight)] for weight in weights.ravel()]
    with running(TernaryBoardServer(world)) as server:
        client = ternary_client(server.port)
        client.call("ACK_MODE", client.all_bits())
        rails(1.2, 3.0, 3.0)
        for _ in range(3):
            client.call("SET", *[3] * 64)
        rails(1.2, 3.5, 3.0)
        client.call("SET", *set_mask)
        rails(1.2, 4.5, 5.0)
        client.call("RESET", *[mask ^ 3 for mask in set_mask])
        rails(1.2, 1.2, 2.5)
        sensed = client.call("SENSE")
        rails(0.0, 0.0, 0.0)
        assert client.call("SENSE") == bytes(64)
        client.line.close()
    expected = [{1: 0b10, -1: 0b01}[int(weight)] for weight in weights.ravel()]
    assert np.mean(np.array(list(sensed)) == expected) >= 62 / 64


def test_the_registers_pass_its_sanity_check(lab_column: tuple[LabClient, FakeChip]) -> None:
    lab, _ = lab_column
    lab.call("ACK_MODE", lab.all_bits())
    words = [0x0123456789ABCDEF, 0xAAAAAAAAAAAAAAAA, 1, 1 << 63, 0xFF00FF]
    lab.call("FILL_SRs", *fill_bytes(words))
    for bit in range(63, -1, -1):
        assert [lab.call("GET_CTL", register) for register in range(5)] == [bytes([word >> bit & 1]) for word in words]
        lab.call("CLK_SR")


def test_one_bit_walks_to_the_end_of_a_register(lab_column: tuple[LabClient, FakeChip]) -> None:
    lab, _ = lab_column
    lab.call("ACK_MODE", 64)
    lab.call("SET_SR", 0, 1)
    lab.call("CLK_SR")
    lab.call("SET_SR", 0, 0)
    for _ in range(62):
        lab.call("CLK_SR")
    assert lab.call("GET_CTL", 0) == b"\0"
    lab.call("CLK_SR")
    assert lab.call("GET_CTL", 0) == b"\1"
    assert lab.call("GET_CTL", 1) == b"\0"


def test_direct_access_addresses_a_device(lab_column: tuple[LabClient, FakeChip]) -> None:
    lab, chip = lab_column
    lab.call("ACK_MODE", lab.all_bits())
    lab.call("SET_CS", 0, 1)
    for row, col, bar in ((0, 0, False), (13, 7, True), (63, 63, False)):
        lab.call("FILL_SRs", *fill_bytes(register_words(row, col, bar, to_set=True)))
        assert chip.connected == (row, col, Device.BLB if bar else Device.BL)
    lab.call("SET_CS", 0, 0)
    assert chip.connected is None


def test_every_command_of_the_column_board_is_acknowledged_as_the_mask_says(
    lab_column: tuple[LabClient, FakeChip],
) -> None:
    lab, _ = lab_column
    for mask in (0, 1, 2, 128, 0x55, 255):
        lab.call("ACK_MODE", mask)
        lab.call("SET_SR", 4, 0)
        lab.call("FILL_SRs", *[0xAA] * 40)
        lab.call("SET_CS", 8, 1)
        lab.call("SET_ADR_R", 0)
        lab.call("SET_ADR_C", 63)
        for name in ("CLK", "CLK_SR", "CLK_XNOR"):
            lab.call(name)
        assert lab.call("DEBUG_ECHO", 0xAA) == b"\xaa"
        assert lab.quiet()


def test_a_formed_device_conducts_through_the_pads() -> None:
    world = World(SimulatedChip(default_device().model, Geometry(64, 64), 8, "ARRAY"))
    with running(ColumnBoardServer(world)) as server:
        client = column_client(server.port)
        client.call("ACK_MODE", 255)
        client.call("SET_CS", 0, 1)
        for channel, volts in ((3, 1.2), (1, 3.0)):
            world.drive_channel(channel, volts)
        client.call("FILL_SRs", *fill_bytes(register_words(10, 20, False, to_set=True)))
        before = world.force_pads(0.1, 1e-3)[1]
        world.force_pads(3.3, 100e-6)
        assert world.force_pads(0.1, 1e-3)[1] > 20 * before
        client.call("FILL_SRs", *[0] * 40)
        assert world.force_pads(0.1, 1e-3)[1] == 0.0
        client.line.close()
