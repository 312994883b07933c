"""Accounts: what costs how much, and how often. Energies in J and areas in um2 are added up the same way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

Key = TypeVar("Key")


class Item(StrEnum):
    """What an account has an entry for; docs/energy.md says what each one counts."""

    OFF_CHIP = "off-chip"
    CONVERSION = "input conversion"
    BUFFER_READ = "buffer read"
    BUFFER_WRITE = "buffer write"
    REGISTERS = "input registers"
    MEMORY = "memory"
    SENSING = "sensing"
    CORRECTION = "error correction"
    XNOR = "xnor"
    POPCOUNT = "popcount"
    ACCUMULATION = "accumulation"
    POOLING = "pooling"
    THRESHOLD = "threshold"
    SCORES = "class scores"
    PROGRAM_SET = "SET"
    PROGRAM_RESET = "RESET"
    PROGRAM_WRITE = "write"


@dataclass(frozen=True)
class Entry:
    """One line of an account.

    Attributes:
        layer: index of the layer; None for what belongs to the network as a whole.
        item: what is counted.
        count: how often; a mean, where it depends on the data.
        each: what one costs, in the unit of the account.
    """

    layer: int | None
    item: Item
    count: float
    each: float

    @property
    def total(self) -> float:
        """Count times cost."""
        return self.count * self.each


@dataclass(frozen=True)
class Account:
    """Entries and their sums.

    Attributes:
        name: what it is the account of.
        unit: "J" or "um2".
        entries: the lines, in order.
    """

    name: str
    unit: str
    entries: tuple[Entry, ...]

    @property
    def total(self) -> float:
        """Sum of all entries."""
        return math.fsum(entry.total for entry in self.entries)

    def by_item(self) -> dict[Item, float]:
        """Item to its sum over the layers."""
        return self._summed(lambda entry: entry.item)

    def by_layer(self) -> dict[int | None, float]:
        """Layer to its sum over the items; None is what belongs to the network as a whole."""
        return self._summed(lambda entry: entry.layer)

    def count(self, item: Item) -> float:
        """How often the item is counted, over the layers."""
        return math.fsum(entry.count for entry in self.entries if entry.item is item)

    def without(self, *items: Item) -> Account:
        """The same account without some items, such as the way from and to other chips."""
        return Account(self.name, self.unit, tuple(entry for entry in self.entries if entry.item not in items))

    def _summed(self, key: Callable[[Entry], Key]) -> dict[Key, float]:
        groups: dict[Key, list[float]] = {}
        for entry in self.entries:
            groups.setdefault(key(entry), []).append(entry.total)
        return {name: math.fsum(values) for name, values in groups.items()}


def account(name: str, unit: str, entries: Iterable[Entry]) -> Account:
    """An account of the entries that count something."""
    return Account(name, unit, tuple(entry for entry in entries if entry.count > 0))
