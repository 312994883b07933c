from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.ecc import SEC_7_4, SECDED_8_4, SECDED_72_64, HammingCode
from models.errors import two_t2r_from_1t1r
from models.exceptions import UserMistake

ALL_CODES = (SEC_7_4, SECDED_8_4, SECDED_72_64)
NIBBLES = np.array(list(itertools.product((0, 1), repeat=4)), dtype=np.uint8)


def some_data(code: HammingCode, words: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 2, (words, code.data_bits), dtype=np.uint8)


def test_sizes_and_redundancies():
    assert [code.word_bits for code in ALL_CODES] == [7, 8, 72]
    assert [code.redundancy for code in ALL_CODES] == [1.75, 2.0, 1.125]
    assert HammingCode(1, detects_double=False).word_bits == 3
    assert HammingCode(11, detects_double=False).word_bits == 15


@pytest.mark.parametrize(("code", "distance"), [(SEC_7_4, 3), (SECDED_8_4, 4)])
def test_words_differ_by_the_distance_of_the_code(code, distance):
    words = code.encode(NIBBLES)
    differences = (words[:, None] != words[None]).sum(axis=-1)
    assert differences[differences > 0].min() == distance


@pytest.mark.parametrize("code", ALL_CODES)
def test_no_error_and_every_single_error_are_corrected(code):
    data = some_data(code, 5)
    words = code.encode(data)
    assert words.shape == (5, code.word_bits)
    assert (words[:, : code.data_bits] == data).all()
    errors = np.concatenate([np.zeros((1, code.word_bits)), np.eye(code.word_bits)]).astype(np.uint8)
    read, detected = code.decode(words[:, None] ^ errors)
    assert (read == data[:, None]).all()
    assert not detected.any()


@pytest.mark.parametrize("code", [SECDED_8_4, SECDED_72_64])
def test_every_double_error_is_detected_and_left_alone(code):
    data = some_data(code, 1)
    pairs = np.array(list(itertools.combinations(range(code.word_bits), 2)))
    errors = np.zeros((len(pairs), code.word_bits), dtype=np.uint8)
    np.put_along_axis(errors, pairs, 1, axis=1)
    read, detected = code.decode(code.encode(data) ^ errors)
    assert detected.all()
    assert ((read ^ data) == errors[:, : code.data_bits]).all()


def test_the_plain_code_makes_double_errors_triple():
    errors = (np.eye(7, dtype=np.uint8)[:, None] | np.eye(7, dtype=np.uint8))[np.triu_indices(7, 1)]
    read, detected = SEC_7_4.decode(errors)
    assert not detected.any()
    assert read.any(axis=1).all()


def test_the_data_do_not_matter():
    for code in (SEC_7_4, SECDED_8_4):
        patterns = (np.arange(2**code.word_bits)[:, None] >> np.arange(code.word_bits)) & 1
        read, _ = code.decode((code.encode(NIBBLES)[:, None] ^ patterns).astype(np.uint8))
        wrong = read ^ NIBBLES[:, None]
        assert (wrong == wrong[:1]).all()


@pytest.mark.parametrize(
    "code", [SEC_7_4, SECDED_8_4, HammingCode(6, detects_double=False), HammingCode(8, detects_double=True)]
)
def test_counting_by_syndrome_is_the_same_as_trying_every_pattern(code):
    np.testing.assert_array_equal(code._counted(), code._enumerated())


def test_the_long_code_leaves_what_decoding_random_errors_leaves():
    rng = np.random.default_rng(9)
    rate = 0.02
    data = some_data(SECDED_72_64, 20_000)
    words = SECDED_72_64.encode(data) ^ (rng.random((len(data), 72)) < rate)
    read, _ = SECDED_72_64.decode(words.astype(np.uint8))
    wrong = (read != data).mean(axis=1)
    # five standard errors
    error = wrong.std() / np.sqrt(len(wrong))
    assert SECDED_72_64.residual_error_rate(rate) == pytest.approx(wrong.mean(), abs=5.0 * error)
    assert error < 0.02 * wrong.mean()


@pytest.mark.parametrize("rate", [1e-4, 1e-3])
def test_single_error_correction_leaves_nine_times_the_square(rate):
    assert SEC_7_4.residual_error_rate(rate) == pytest.approx(9.0 * rate**2, rel=0.01)
    assert SECDED_8_4.residual_error_rate(rate) == pytest.approx(7.0 * rate**2, rel=0.01)


def test_the_exact_rate_includes_more_than_double_errors():
    assert SEC_7_4.residual_error_rate(1e-2) == pytest.approx(8.743e-4, rel=1e-3)
    assert SEC_7_4.residual_error_rate(1.0) == 1.0
    assert [code.residual_error_rate(0.5) for code in ALL_CODES] == pytest.approx([0.5, 0.5, 0.5])
    assert [code.residual_error_rate(0.0) for code in ALL_CODES] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("rate", [1e-4, 3e-4, 1e-3, 3e-3, 1e-2])
@pytest.mark.parametrize("code", [SEC_7_4, SECDED_8_4])
def test_two_devices_per_bit_do_as_well_as_a_code_of_that_redundancy(rate, code):
    ratio = code.residual_error_rate(rate) / two_t2r_from_1t1r(rate)
    assert 1.0 / 3.0 < ratio < 3.0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: HammingCode(0, detects_double=False), "0 data bits"),
        (lambda: HammingCode(257, detects_double=True), "1 to 256"),
        (lambda: SEC_7_4.encode(np.zeros((2, 5), dtype=np.uint8)), r"\(\.\.\., 4\)"),
        (lambda: SEC_7_4.decode(np.full(7, 2, dtype=np.uint8)), "0 and 1"),
        (lambda: SEC_7_4.residual_error_rate(-0.1), "0 to 1"),
        (lambda: SEC_7_4.residual_error_rate(float("nan")), "0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(call, says):
    with pytest.raises(UserMistake, match=says):
        call()
