"""A client of C2N's boards as the laboratory writes them, from the published facts alone: it imports nothing of ours.

It waits for what it expects and believes what comes. Only its waiting ends after a while, so that a test ends too.
"""

from __future__ import annotations

import time
from typing import Any

import serial

PATIENCE_S = 10.0


def number(value: int) -> bytes:
    """Little endian, as short as it goes."""
    digits = [value & 0xFF]
    while value := value >> 8:
        digits.append(value & 0xFF)
    return bytes(digits)


class LabClient:
    """One board.

    Args:
        port: serial port.
        codes: name of each command, in the order of the codes.
        acknowledged: names of the commands that can be acknowledged, in the order of the mask's bits.
    """

    def __init__(self, port: str, codes: list[str], acknowledged: list[str]) -> None:
        self.line: Any = serial.serial_for_url(port, 921600, timeout=PATIENCE_S)
        self.codes, self.acknowledged = codes, acknowledged
        self.mask = 0

    def all_bits(self) -> int:
        """The mask that acknowledges everything."""
        return (1 << len(self.acknowledged)) - 1

    def call(self, name: str, *values: int) -> bytes:
        """Send a command; wait for its acknowledgement if one is due, for whatever it answers if it answers."""
        if name == "ACK_MODE":
            self.mask = values[0]
        code = self.codes.index(name)
        data = b"".join(number(value) for value in values)
        packet, rest = bytes([0xAA, code]) + data[:61], data[61:]
        while rest:
            self.line.write(packet + b"\xab")
            packet, rest = rest[:63], rest[63:]
        self.line.write(packet + b"\xaa")
        if name in self.acknowledged:
            due = self.mask >> self.acknowledged.index(name) & 1
        else:
            due = name == "ACK_MODE" and self.mask != 0
        if due:
            got = self.line.read(2)
            assert got == bytes([0xAA, code]), f"{name}: {got.hex(' ')}"
        if name in self.acknowledged or name == "ACK_MODE":
            return b""
        return self.everything()

    def everything(self) -> bytes:
        """Wait for the first byte, then take what is there until nothing is."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.line.in_waiting:
            assert time.monotonic() < deadline, "no answer"
        got = b""
        while self.line.in_waiting:
            got += self.line.read()
        return got

    def quiet(self) -> bool:
        """True when nothing comes for a moment."""
        time.sleep(0.02)
        return not self.line.in_waiting


def ternary_client(port: str) -> LabClient:
    """A client of the 8 x 8 ternary board."""
    names = "WRITE_CS SET_ADR SET RESET SENSE SENSE_UC CLK CLK2 ACK_MODE DEBUG_ECHO DEBUG_LED"
    return LabClient(port, names.split(), ["WRITE_CS", "SET_ADR", "SET", "RESET", "CLK", "CLK2"])


def column_client(port: str) -> LabClient:
    """A client of the 64-column board."""
    names = "SET_SR FILL_SRs SET_CS SET_ADR_R SET_ADR_C GET_CTL CLK CLK_SR CLK_XNOR ACK_MODE DEBUG_ECHO DEBUG_LED"
    acknowledged = "SET_SR FILL_SRs SET_CS SET_ADR_R SET_ADR_C CLK CLK_SR CLK_XNOR"
    return LabClient(port, names.split(), acknowledged.split())


def register_words(row: int, col: int, bar: bool, to_set: bool) -> list[int]:
    """What the five registers hold to address one device: WLE, WLO, SL, BL, BLB."""
    bit = 2**col
    return [
        2 ** (row // 2) if row % 2 == 0 else 0,
        2 ** ((row - 1) // 2) if row % 2 == 1 else 0,
        bit if to_set else 0,
        bit if bar == to_set else 0,
        bit if bar != to_set else 0,
    ]


def fill_bytes(words: list[int]) -> list[int]:
    """The 40 bytes of FILL_SRs."""
    return [byte for word in words for byte in word.to_bytes(8, "little")]
