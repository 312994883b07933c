"""Energy accounts: of an inference, layer by layer, and of programming.

Every figure comes from a parameter file (:mod:`data.energy_files`); here is only what is counted, which docs/energy.md
tells in words. The designs that are compared are those of Hirtzlin et al., Frontiers in Neuroscience 13:1383 (2020),
and IEEE Access 2019 for stochastic inputs. Clock, control, leakage and long wires are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol

import numpy as np

from models.accounts import Account, Entry, Item, account
from models.devices.memory import Memory
from models.ecc import SECDED_8_4, HammingCode
from models.exceptions import UserMistake
from models.integer import IntegerNetwork
from models.operations import LayerWork, conversions, network_work, pixel_bits
from models.parameters import Parameters, quantity


class Design(StrEnum):
    """Where weights lie and where they meet the inputs."""

    IN_SENSE = "2T2R, XNOR in the sense amplifier"
    SEPARATE = "2T2R, digital XNOR"
    SRAM = "SRAM, digital"
    CORRECTED = "1T1R with SECDED"


class InputWords(StrEnum):
    """How inputs of several bits meet the weights: all bits at once in wide adders, or one plane after the other."""

    PARALLEL = "parallel"
    SERIAL = "serial"


@dataclass(frozen=True)
class System:
    """A way to build the hardware.

    Attributes:
        design: memory and place of the XNOR.
        words: how inputs of several bits are taken.
        tile_rows, tile_columns: size of an array; its columns share a tree of adders.
        code: of :attr:`Design.CORRECTED`; (8, 4) takes as many devices as 2T2R.
    """

    design: Design = Design.IN_SENSE
    words: InputWords = InputWords.PARALLEL
    tile_rows: int = 32
    tile_columns: int = 32
    code: HammingCode = SECDED_8_4

    def __post_init__(self) -> None:
        """Raise UserMistake for an array without cells."""
        if min(self.tile_rows, self.tile_columns) < 1:
            raise UserMistake(f"arrays of {self.tile_rows} x {self.tile_columns} cells are refused")

    def passes(self, work: LayerWork) -> tuple[int, int]:
        """How often a layer's array is used in one presentation, and with how many bits of an input at a time."""
        return (work.planes, 1) if self.words is InputWords.SERIAL else (1, work.planes)

    def stored_bits(self, work: LayerWork) -> float:
        """Bits, or pairs of devices in 2T2R, that store one weight, those of the code included."""
        # a pair of devices holds a zero as well: both in the HRS
        if self.design in (Design.IN_SENSE, Design.SEPARATE):
            return 1.0
        data = 2.0 if work.ternary else 1.0
        return data * self.code.redundancy if self.design is Design.CORRECTED else data


@dataclass(frozen=True)
class CircuitEnergy(Parameters):
    """Energies of single operations, per bit."""

    section: ClassVar[str] = "energy"

    sense_j: float = quantity("J", 1e-18, 1e-9, "sensing a 2T2R cell with a precharge sense amplifier")
    xnor_in_sense_j: float = quantity("J", 0.0, 1e-9, "what XNOR inside the sense amplifier adds to a sense")
    single_sense_j: float = quantity("J", 1e-18, 1e-9, "sensing a 1T1R cell against a reference")
    gate_j: float = quantity("J", 1e-18, 1e-9, "a two-input gate, such as XNOR")
    full_adder_j: float = quantity("J", 1e-18, 1e-9, "a full adder; comparators are made of them")
    register_j: float = quantity("J", 1e-18, 1e-9, "writing a flip-flop")
    sram_read_j: float = quantity("J", 1e-18, 1e-9, "reading a bit of a memory bank of some kilobytes")
    sram_write_j: float = quantity("J", 1e-18, 1e-9, "writing a bit of such a bank")
    off_chip_j: float = quantity("J", 1e-18, 1e-9, "bringing a bit from another chip")


class Pulses(Protocol):
    """A programming condition of RRAM."""

    @property
    def set_energy_j(self) -> float:
        """Energy in J of a SET of one device."""

    @property
    def reset_energy_j(self) -> float:
        """Energy in J of a RESET of one device."""


def inference_energy(network: IntegerNetwork, energy: CircuitEnergy, system: System) -> Account:
    """Energy of one inference: all presentations of one image.

    Raises:
        UserMistake: the inputs are of a kind that has no account.
    """
    encoding, works = network.encoding, network_work(network)
    entries = list(_image(network, energy))
    for index, work in enumerate(works):
        last = index == len(works) - 1
        per_presentation = _layer(index, work, last, energy, system)
        entries += [Entry(index, item, encoding.presentations * n, each) for item, n, each in per_presentation]
    return account(f"{network.name}: {system.design}", "J", entries)


def _image(network: IntegerNetwork, energy: CircuitEnergy) -> Iterator[Entry]:
    """The image from outside into the buffer, and from there into inputs."""
    bits = pixel_bits(network.encoding)
    image, converted = network.encoding.features * bits, conversions(network.encoding) * bits
    yield Entry(None, Item.OFF_CHIP, image, energy.off_chip_j)
    yield Entry(None, Item.BUFFER_WRITE, image, energy.sram_write_j)
    # a comparison with a threshold or with the state of a shift register that moves on
    drawn = energy.register_j if network.encoding.kind == "stochastic" else 0.0
    yield Entry(None, Item.CONVERSION, converted, energy.full_adder_j + drawn)


def _layer(
    index: int, work: LayerWork, last: bool, energy: CircuitEnergy, system: System
) -> Iterator[tuple[Item, float, float]]:
    """Item, count and energy of each, for one presentation."""
    passes, bits = system.passes(work)
    tiles = len(work.tile_widths(system.tile_columns))
    yield Item.BUFFER_READ, work.inputs * work.planes, energy.sram_read_j
    yield Item.REGISTERS, work.window_inputs * work.planes, energy.register_j
    yield from _products(work, passes, bits, energy, system)
    adders = passes * work.sums * work.row_adders(system.tile_columns, bits)
    yield Item.POPCOUNT, adders, energy.full_adder_j
    added = passes * work.sums * tiles * work.sum_bits
    yield Item.ACCUMULATION, added, energy.full_adder_j + energy.register_j
    yield Item.POOLING, work.outputs * (work.pooled - 1) * work.sum_bits, energy.full_adder_j
    if last:
        # added to the scores of the presentations before, then compared with the largest so far
        yield Item.SCORES, 2 * work.outputs * work.sum_bits, energy.full_adder_j + energy.register_j
    else:
        yield Item.THRESHOLD, work.outputs * work.sum_bits, energy.full_adder_j
        yield Item.BUFFER_WRITE, work.outputs, energy.sram_write_j


def _products(
    work: LayerWork, passes: int, bits: int, energy: CircuitEnergy, system: System
) -> Iterator[tuple[Item, float, float]]:
    """Sensing, correction and XNOR."""
    read = passes * work.products
    sense = {Design.SRAM: energy.sram_read_j, Design.CORRECTED: energy.single_sense_j}
    yield Item.SENSING, read * system.stored_bits(work), sense.get(system.design, energy.sense_j)
    if system.design is Design.CORRECTED:
        words = read * system.stored_bits(work) / system.code.word_bits
        yield Item.CORRECTION, words * decoder_gates(system.code), energy.gate_j
    if system.design is Design.IN_SENSE and bits == 1:
        yield Item.XNOR, read, energy.xnor_in_sense_j
    else:
        # a zero weight masks the product with one gate more
        yield Item.XNOR, read * (bits + work.ternary), energy.gate_j


def decoder_gates(code: HammingCode) -> int:
    """Two-input gates that correct one word: the checks, an AND per data bit on their results, and the XOR with it."""
    generated = code.encode(np.eye(code.data_bits, dtype=np.uint8))[:, code.data_bits :]
    checks = int(generated.shape[1]) - code.detects_double
    parity = int(generated[:, :checks].sum())
    overall = code.word_bits - 1 if code.detects_double else 0
    return parity + overall + code.data_bits * checks


def programming_energy(network: IntegerNetwork, pulses: Pulses, system: System) -> Account:
    """Energy to program the weights of a network into RRAM once, one pulse per device.

    In 2T2R cells a weight of -1 or +1 takes a SET and a RESET and a zero two RESETs; in 1T1R cells with a code every
    stored bit takes either, in equal shares.

    Raises:
        UserMistake: the weights of the design do not lie in RRAM.
    """
    if system.design is Design.SRAM:
        raise UserMistake(f"{system.design} has no RRAM to program; its weights are loaded at every start")
    entries = []
    for index, (layer, work) in enumerate(zip(network.layers, network_work(network), strict=True)):
        if system.design is Design.CORRECTED:
            sets = resets = layer.weights.size * system.stored_bits(work) / 2
        else:
            sets = int(np.count_nonzero(layer.weights))
            resets = 2 * layer.weights.size - sets
        entries.append(Entry(index, Item.PROGRAM_SET, sets, pulses.set_energy_j))
        entries.append(Entry(index, Item.PROGRAM_RESET, resets, pulses.reset_energy_j))
    return account(f"{network.name}: programming {system.design}", "J", entries)


def writing_energy(network: IntegerNetwork, memory: Memory, error_rate: float, redundancy: float = 1.0) -> Account:
    """Energy to write the weights of a network once into a memory that may get a bit wrong at ``error_rate``.

    Args:
        network: whose binary weights are a bit each and ternary weights two.
        memory: such as ST-MRAM.
        error_rate: of a written bit.
        redundancy: stored bits per data bit (>= 1) of an error correcting code.

    Raises:
        UserMistake: the redundancy is below 1, or the memory cannot be written at this rate.
    """
    if not redundancy >= 1.0:
        raise UserMistake(f"a redundancy of {redundancy:g} stored bits per data bit is refused; it must be at least 1")
    each = memory.bit_energy_j(error_rate)
    entries = [
        Entry(index, Item.PROGRAM_WRITE, work.rows * work.columns * (1 + work.ternary) * redundancy, each)
        for index, work in enumerate(network_work(network))
    ]
    return account(f"{network.name}: written at an error rate of {error_rate:g}", "J", entries)


def loading_energy(network: IntegerNetwork, energy: CircuitEnergy) -> Account:
    """Energy to load the weights into SRAM from another chip, at every start; RRAM keeps its weights."""
    entries = []
    for index, work in enumerate(network_work(network)):
        bits = work.rows * work.columns * (1 + work.ternary)
        entries.append(Entry(index, Item.OFF_CHIP, bits, energy.off_chip_j))
        entries.append(Entry(index, Item.PROGRAM_WRITE, bits, energy.sram_write_j))
    return account(f"{network.name}: loading {Design.SRAM}", "J", entries)
