"""What is wrong with shift registers, told from what went into them and what came out."""

from __future__ import annotations

from drivers.c2n.protocol import REGISTER_BITS, Register, Words

_ONES = (1 << REGISTER_BITS) - 1
_GOLDEN = 0x9E37_79B9_7F4A_7C15
"""2**64 over the golden ratio: its multiples look alike neither with each other nor with their mirror images."""


def _pattern(complement: int) -> Words:
    return Words(*((_GOLDEN * (2 * register + 1) & _ONES) ^ complement for register in Register))


PATTERNS = (_pattern(0), _pattern(_ONES))
"""Every bit is walked once as 0 and once as 1, and no two registers hold the same."""


def explain_walk(sent: Words, read: Words) -> str:
    """One line that says which registers did not give back what they were given, and how; empty when all did.

    Args:
        sent: what was put into the registers.
        read: what came out of their ends.
    """
    wrong = [register for register in Register if sent[register] != read[register]]
    return ", ".join(f"{register.name} {_explain(register, sent, read[register])}" for register in wrong)


def _explain(register: Register, sent: Words, read: int) -> str:
    word = sent[register]
    if read in (0, _ONES):
        return f"is stuck at {read & 1}"
    if read == _mirror(word):
        return "is reversed"
    for other in Register:
        if other != register and read in (sent[other], _mirror(sent[other])):
            return f"gives what {other.name} was given"
    for shift in range(1, REGISTER_BITS // 2):
        # A register of another length, or a clock that was missed or doubled: the same bits, early or late.
        kept = _ONES >> shift
        if (read ^ word >> shift) & kept == 0:
            return f"comes late by {shift}"
        if (read >> shift ^ word) & kept == 0:
            return f"comes early by {shift}"
    bits = [bit for bit in range(REGISTER_BITS) if (word ^ read) >> bit & 1]
    shown = ", ".join(map(str, bits[:8]))
    return f"is wrong in {len(bits)} of its bits ({shown}{', ...' if len(bits) > 8 else ''})"


def _mirror(word: int) -> int:
    return int(f"{word:0{REGISTER_BITS}b}"[::-1], 2)
