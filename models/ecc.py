"""Error correcting codes of memories, for comparison with two devices per bit: Hamming codes, plain and extended.

A plain Hamming code corrects one wrong bit per word (SEC); with one more parity bit over the whole word it also detects
two (SECDED). What a code leaves of the bit errors is exact: all patterns of errors count, not only double ones, which
alone give ``9 p^2`` for the (7,4) code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake

Bits = NDArray[np.uint8]

_ENUMERABLE_BITS = 16


@dataclass(frozen=True)
class HammingCode:
    """A systematic Hamming code, shortened to the number of data bits.

    A word is the data bits, then the parity bits, then the overall parity bit of a SECDED code.

    Args:
        data_bits: data bits per word, 1 or more.
        detects_double: whether it has the overall parity bit (SECDED).
    """

    data_bits: int
    detects_double: bool

    def __post_init__(self) -> None:
        if not 1 <= self.data_bits <= 256:
            raise UserMistake(f"{self.data_bits} data bits per word are refused; allowed is 1 to 256")

    @cached_property
    def _parity_bits(self) -> int:
        """Parity bits of the plain code."""
        count = 2
        while 2**count - count - 1 < self.data_bits:
            count += 1
        return count

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        """Syndrome that a lone error of each bit of a word gives; the overall parity is its highest bit."""
        data = [number for number in range(2**self._parity_bits) if number.bit_count() > 1][: self.data_bits]
        columns = np.array(data + [1 << bit for bit in range(self._parity_bits)])
        overall = 1 << self._parity_bits
        return np.append(columns + overall, overall) if self.detects_double else columns

    @property
    def word_bits(self) -> int:
        """Stored bits per word."""
        return len(self._columns)

    @property
    def redundancy(self) -> float:
        """Stored bits per data bit."""
        return self.word_bits / self.data_bits

    def encode(self, data: Bits) -> Bits:
        """Words ``(..., word_bits)`` of data ``(..., data_bits)``, both of 0 and 1.

        Raises:
            UserMistake: the data are not 0 and 1 of that shape.
        """
        bits = _checked_bits(data, self.data_bits)
        checks = np.bitwise_xor.reduce(bits * self._columns[: self.data_bits], axis=-1)
        parity = (checks[..., None] >> np.arange(self._parity_bits)) & 1
        word = np.concatenate([bits, parity], axis=-1)
        if self.detects_double:
            word = np.concatenate([word, word.sum(axis=-1, keepdims=True) % 2], axis=-1)
        return word.astype(np.uint8)

    def decode(self, words: Bits) -> tuple[Bits, NDArray[np.bool_]]:
        """Data ``(..., data_bits)`` of words as read, and which words ``(...)`` have errors seen but not corrected.

        Raises:
            UserMistake: the words are not 0 and 1 of shape ``(..., word_bits)``.
        """
        bits = _checked_bits(words, self.word_bits)
        syndrome = np.bitwise_xor.reduce(bits * self._columns, axis=-1)
        wrong = syndrome[..., None] == self._columns
        corrected = (bits ^ wrong)[..., : self.data_bits]
        return corrected.astype(np.uint8), (syndrome != 0) & ~wrong.any(axis=-1)

    def residual_error_rate(self, bit_error_rate: float) -> float:
        """Probability that a data bit is wrong after decoding, for independent errors of the stored bits.

        Words with errors that are seen but cannot be corrected are used as they are.

        Raises:
            UserMistake: the rate is not between 0 and 1.
        """
        if not 0.0 <= bit_error_rate <= 1.0:
            raise UserMistake(f"a bit error rate of {bit_error_rate:g} is refused; allowed is 0 to 1")
        weights = np.arange(self.word_bits + 1)
        odds = bit_error_rate**weights * (1.0 - bit_error_rate) ** weights[::-1]
        return float(self.wrong_bits_by_errors @ odds) / self.data_bits

    @cached_property
    def wrong_bits_by_errors(self) -> NDArray[np.float64]:
        """Wrong data bits after decoding, added up over all patterns with 0, 1, ... ``word_bits`` errors.

        Short words: every pattern goes through the encoder and the decoder. Long ones: patterns are counted by their
        syndrome.
        """
        return self._enumerated() if self.word_bits <= _ENUMERABLE_BITS else self._counted()

    def _enumerated(self) -> NDArray[np.float64]:
        data = (np.arange(self.data_bits) % 2).astype(np.uint8)
        patterns = (np.arange(2**self.word_bits)[:, None] >> np.arange(self.word_bits)) & 1
        read, _ = self.decode((self.encode(data) ^ patterns).astype(np.uint8))
        wrong = (read != data).sum(axis=1)
        return np.asarray(np.bincount(patterns.sum(axis=1), weights=wrong), dtype=float)

    def _counted(self) -> NDArray[np.float64]:
        """As :meth:`_enumerated`: a data bit is wrong if hit and not corrected, or not hit and "corrected"."""
        wrong = np.zeros(self.word_bits + 1)
        syndromes = np.arange(2 ** int(self._columns.max()).bit_length())
        for bit in range(self.data_bits):
            # patterns of the other bits, by syndrome and number of errors
            patterns = np.zeros((syndromes.size, self.word_bits + 1))
            patterns[0, 0] = 1.0
            for column in np.delete(self._columns, bit):
                patterns[:, 1:] += patterns[syndromes ^ column, :-1]
            wrong[1:] += patterns[1:, :-1].sum(axis=0)
            wrong += patterns[self._columns[bit]]
        return wrong


SEC_7_4 = HammingCode(4, detects_double=False)
"""Hamming (7,4): corrects one error with 1.75 stored bits per data bit."""

SECDED_8_4 = HammingCode(4, detects_double=True)
"""Extended Hamming (8,4): as many devices per data bit as 2T2R without a code."""

SECDED_72_64 = HammingCode(64, detects_double=True)
"""Extended Hamming (72,64), the usual code of memories."""


def _checked_bits(values: Bits, length: int) -> Bits:
    bits = np.asarray(values)
    if bits.ndim < 1 or bits.shape[-1] != length or not np.isin(bits, (0, 1)).all():
        raise UserMistake(f"bits must be 0 and 1 of shape (..., {length}), not {bits.dtype} of {bits.shape}")
    return bits.astype(np.uint8)
