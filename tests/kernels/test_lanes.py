"""Sixteen comparisons at once say what sixteen single ones say, also at the ragged end."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from distnnd.kernels.lanes import below, lowest_bit, without_lowest
from tests import naive
from tests.strategies import sized


@njit
def masks_of(bias, product, count, bound):
    """The mask of every start."""
    masks = np.zeros(count, np.uint32)
    for start in range(count):
        masks[start] = below(bias, product, start, count, bound)
    return masks


@njit
def bits_of(mask):
    """The bits of a mask in the order in which select() takes them."""
    bits = np.full(33, -1)
    used = 0
    while mask != 0:
        bits[used] = lowest_bit(mask)
        mask = without_lowest(mask)
        used += 1
    return bits[:used]


def expected(bias: np.ndarray, product: np.ndarray, count: int, bound: float) -> list[int]:
    return [naive.below(bias, product, start, count, bound) for start in range(count)]


@pytest.mark.parametrize("counts", [range(1, 16), range(16, 34), range(34, 71)], ids=["short", "middle", "long"])
def test_every_count_and_start_against_single_comparisons(counts: range) -> None:
    rng = np.random.default_rng(len(counts))
    for count in counts:
        bias, product = rng.normal(size=(2, count)).astype(np.float32)
        for bound in rng.normal(size=sized(6, 2)).astype(np.float32):
            assert masks_of(bias, product, count, bound).tolist() == expected(bias, product, count, bound)


def test_what_lies_behind_the_last_candidate_is_not_seen() -> None:
    bias, product = np.zeros((2, 40), np.float32)
    for count in (3, 16, 17, 25):
        masks = masks_of(bias, product, count, np.float32(1))
        assert masks.tolist() == [2 ** min(16, count - start) - 1 for start in range(count)]


def test_equal_is_not_below() -> None:
    bias, product = np.full((2, 20), 0.1, np.float32)
    bias[[3, 19]] = 0
    masks = masks_of(bias, product, 20, np.float32(0))
    assert masks[0] == 1 << 3
    assert masks[10] == 1 << 9
    assert masks[4] == 1 << 15
    assert masks_of(bias, product, 5, np.float32(0)).tolist() == [8, 4, 2, 1, 0]


def test_infinity_takes_all_and_nan_nothing() -> None:
    rng = np.random.default_rng(1)
    bias, product = rng.normal(size=(2, 21)).astype(np.float32)
    assert masks_of(bias, product, 21, np.float32(np.inf))[0] == 2**16 - 1
    assert masks_of(bias, product, 21, np.float32(-np.inf)).max() == 0
    product[[0, 7, 20]] = np.nan
    product[2] = np.inf
    bias[4] = np.inf
    for bound in np.array([np.inf, 0, -np.inf, np.nan], np.float32):
        assert masks_of(bias, product, 21, bound).tolist() == expected(bias, product, 21, bound)


def test_a_row_inside_a_larger_table_may_begin_anywhere() -> None:
    """Rows of a tile are not aligned to a vector."""
    rng = np.random.default_rng(2)
    product = rng.normal(size=(7, 23)).astype(np.float32)
    bias = rng.normal(size=40).astype(np.float32)
    for row in product:
        assert masks_of(bias, row, 23, np.float32(0.2)).tolist() == expected(bias, row, 23, 0.2)


def test_bits_come_out_lowest_first() -> None:
    rng = np.random.default_rng(3)
    masks = [0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, *rng.integers(0, 2**16, 60).tolist()]
    for mask in masks:
        bits = bits_of(np.uint32(mask)).tolist()
        assert bits == [bit for bit in range(32) if mask >> bit & 1]
