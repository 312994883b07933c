"""The role of a prober: it brings one die of a wafer after the other under the needles."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from drivers.roles import Instrument

FEWEST_ACROSS, MOST_ACROSS = 3, 25
"""Dies across the wafer that a simulated bench can have."""


class Die(NamedTuple):
    """Where a die is on the prober's wafer map: counted in dies from the origin of its grid."""

    column: int
    row: int

    def __str__(self) -> str:
        return f"{self.column}:{self.row}"


class Prober(Instrument, Protocol):
    """A chuck that moves a wafer under needles. Its safe state is separated: the needles touch nothing.

    It knows nothing of what is on the needles: whoever moves it has switched those outputs off before.
    """

    @property
    def dies(self) -> tuple[Die, ...]:
        """Read which dies are selected on the wafer map, in the map's own order.

        Raises:
            BenchFailure: there is no map, or a die is on it twice.
        """

    @property
    def position(self) -> Die | None:
        """Read which die is under the needles, touched or not; None where none is."""

    @property
    def in_contact(self) -> bool:
        """Read whether the needles may touch the wafer: True for every height that is not surely separated."""

    def step(self, die: Die) -> None:
        """Bring a die under the needles, without touching it, and check the read-back.

        Raises:
            LimitError: that is no die, or not one of the wafer map; the chuck does not move.
            BenchFailure: the needles are not confirmed to be separated; the chuck does not move.
            ReadBackError: another die is there, or the needles may touch it.
        """

    def contact(self) -> None:
        """Bring the needles down on the die, and check the read-back."""

    def separate(self) -> None:
        """Bring the needles off the die, and check the read-back. Harmless when separated already."""
