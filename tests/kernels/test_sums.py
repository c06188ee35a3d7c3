"""Sums over two rows: in the order that is written down, so the same number on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from numba import TypingError

from distnnd.kernels.sums import inner_product, squared_distance, squared_length
from tests.strategies import JIT_OFF, make_points

WIDTHS = [0, 1, 3, 4, 5, 15, 16, 17, 29, 31, 32, 33, 48, 100, 128, 784]
DTYPES = [np.float32, np.float64, np.int8, np.uint8]


def dealt(terms: list[np.floating], lanes: int) -> np.floating:
    """The terms dealt to lanes, of each lane by turns to two sums; the upper half of the lanes goes onto the lower."""
    zero = type(terms[0])(0)
    sums = [[zero] * lanes, [zero] * lanes]
    for place, term in enumerate(terms):
        turn = sums[place // lanes % 2]
        turn[place % lanes] += term
    total = [one + other for one, other in zip(*sums, strict=True)]
    while len(total) > 1:
        half = len(total) // 2
        total = [total[lane] + total[lane + half] for lane in range(half)]
    return total[0]


def in_order(terms: list[np.floating], zero: np.floating) -> np.floating:
    """Sixteen at a time, what is left four at a time, the rest one by one."""
    total, at = zero, 0
    for lanes in (16, 4, 1):
        whole = (len(terms) - at) // lanes * lanes
        if whole:
            total += dealt(terms[at : at + whole], lanes)
        at += whole
    return total


def two_rows(dtype: type, width: int) -> tuple[np.ndarray, np.ndarray]:
    rows = [make_points("plain", np.float32, 3, max(width, 1), seed)[:, :width] * 50 for seed in (1, 2)]
    low = 0 if dtype is np.uint8 else -128
    if np.dtype(dtype).itemsize == 1:
        rows = [np.clip(np.rint(part), low, low + 255) for part in rows]
    return np.ascontiguousarray(rows[0].astype(dtype)), np.ascontiguousarray(rows[1].astype(dtype))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_are_added_up_in_one_order(dtype: type, width: int) -> None:
    points, others = two_rows(dtype, width)
    one, other = points[2].astype(np.float32), others[1].astype(np.float32)
    gaps, zero = one - other, np.float32(0)
    assert squared_distance(points, 2, others, 1, width) == in_order(list(gaps * gaps), zero)
    assert inner_product(points, 2, others, 1, width) == in_order(list(one * other), zero)
    long = points[2].astype(np.float64)
    assert squared_length(points, 2) == in_order(list(long * long), np.float64(0))
    np.testing.assert_allclose(squared_length(points, 2), (long**2).sum(), rtol=1e-12)


def test_columns_behind_the_last_one_take_no_part() -> None:
    points, others = two_rows(np.float32, 40)
    cut = np.ascontiguousarray(points[:, :23]), np.ascontiguousarray(others[:, :23])
    for of_rows in (squared_distance, inner_product):
        assert of_rows(points, 1, others, 2, 23) == of_rows(cut[0], 1, cut[1], 2, 23)


@pytest.mark.skipif(JIT_OFF, reason="nothing is compiled")
def test_rows_that_do_not_follow_one_another_are_refused() -> None:
    points, others = two_rows(np.float32, 40)
    with pytest.raises(TypingError, match="one after the other"):
        squared_distance(points[:, ::2], 1, others, 2, 16)
