"""Area accounts: of a chip that holds a whole network, tile beside tile.

A tile is an array with its sense amplifiers, its gates, one tree of adders that its rows use in turn, and an
accumulator. Each group of tiles that share their rows has one comparator. Pads, control, level shifters, buffers and
wiring between tiles are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from models.accounts import Account, Entry, Item, account
from models.energy import Design, System, decoder_gates
from models.integer import IntegerNetwork
from models.operations import LayerWork, conversions, network_work, pixel_bits, tree_adders
from models.parameters import Parameters, quantity


@dataclass(frozen=True)
class CircuitArea(Parameters):
    """Areas of single circuits, their share of the wiring around them included."""

    section: ClassVar[str] = "area"

    cell_2t2r_um2: float = quantity("um2", 1e-4, 1e4, "a differential cell: two devices and two transistors")
    cell_1t1r_um2: float = quantity("um2", 1e-4, 1e4, "a cell of one device and one transistor")
    sram_cell_um2: float = quantity("um2", 1e-4, 1e4, "a cell of six transistors")
    sense_amplifier_um2: float = quantity("um2", 1e-3, 1e5, "a sense amplifier, one per column")
    xnor_in_sense_um2: float = quantity("um2", 0.0, 1e5, "what XNOR adds to a sense amplifier")
    gate_um2: float = quantity("um2", 1e-3, 1e5, "a two-input gate")
    full_adder_um2: float = quantity("um2", 1e-3, 1e5, "a full adder")
    register_um2: float = quantity("um2", 1e-3, 1e5, "a flip-flop")


def chip_area(network: IntegerNetwork, area: CircuitArea, system: System) -> Account:
    """Area in um2 of a chip that holds the network.

    Raises:
        UserMistake: the inputs are of a kind that has no account.
    """
    bits = pixel_bits(network.encoding)
    # inputs come in as many at a time as an array has columns, and share their comparators
    converters = system.tile_columns * bits if conversions(network.encoding) else 0
    drawn = area.register_um2 if network.encoding.kind == "stochastic" else 0.0
    entries = [Entry(None, Item.CONVERSION, converters, area.full_adder_um2 + drawn)]
    for index, work in enumerate(network_work(network)):
        entries += [Entry(index, item, count, each) for item, count, each in _layer(work, area, system)]
    return account(f"{network.name}: {system.design}", "um2", entries)


def _layer(work: LayerWork, area: CircuitArea, system: System) -> Iterator[tuple[Item, float, float]]:
    _, bits = system.passes(work)
    tall, wide = -(-work.rows // system.tile_rows), len(work.tile_widths(system.tile_columns))
    tiles, columns = tall * wide, tall * wide * system.tile_columns
    cells = tiles * system.tile_rows * system.tile_columns * system.stored_bits(work)
    kinds = {Design.SRAM: area.sram_cell_um2, Design.CORRECTED: area.cell_1t1r_um2}
    yield Item.MEMORY, cells, kinds.get(system.design, area.cell_2t2r_um2)
    yield Item.SENSING, columns * system.stored_bits(work), area.sense_amplifier_um2
    if system.design is Design.CORRECTED:
        words = columns * system.stored_bits(work) / system.code.word_bits
        yield Item.CORRECTION, words * decoder_gates(system.code), area.gate_um2
    if system.design is Design.IN_SENSE and bits == 1:
        yield Item.XNOR, columns, area.xnor_in_sense_um2
    else:
        yield Item.XNOR, columns * (bits + work.ternary), area.gate_um2
    yield Item.REGISTERS, columns * bits, area.register_um2
    yield Item.POPCOUNT, tiles * tree_adders(system.tile_columns, bits + work.ternary), area.full_adder_um2
    yield Item.ACCUMULATION, tiles * work.sum_bits, area.full_adder_um2 + area.register_um2
    yield Item.THRESHOLD, tall * work.sum_bits, area.full_adder_um2
