"""What any memory offers to the tools that weigh write energy against bit errors."""

from __future__ import annotations

from typing import Protocol

from models.exceptions import UserMistake


class Memory(Protocol):
    """A memory whose writes cost less energy when they may fail more often."""

    def bit_energy_j(self, error_rate: float) -> float:
        """Least energy in J to write a bit that is wrong with at most this probability.

        Raises:
            UserMistake: the memory cannot be written at this rate.
        """


def write_saving(memory: Memory, strict_rate: float, tolerated_rate: float, redundancy: float = 1.0) -> float:
    """How many times less write energy a network needs that tolerates errors, per bit of data.

    Args:
        memory: any memory.
        strict_rate: bit error rate that must be written when errors are not tolerated.
        tolerated_rate: bit error rate that the network tolerates, without error correction.
        redundancy: stored bits per data bit (>= 1) of the error correction that goes with the strict rate.

    Raises:
        UserMistake: the redundancy is below 1, or the memory cannot be written at one of the rates.
    """
    if not redundancy >= 1.0:
        raise UserMistake(f"a redundancy of {redundancy:g} stored bits per data bit is refused; it must be at least 1")
    return redundancy * memory.bit_energy_j(strict_rate) / memory.bit_energy_j(tolerated_rate)
