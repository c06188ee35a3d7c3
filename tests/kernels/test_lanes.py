"""Sixteen at once say what sixteen single ones say, also at the ragged end, on ties and with the largest numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from distnnd.kernels import lanes
from distnnd.kernels.codes import EVERYTHING, LARGEST_SQUARE
from distnnd.kernels.lanes import LANES
from tests import naive
from tests.strategies import few

DTYPES = [np.int32, np.int64]


@njit
def any_equal(numbers, start, number):
    return lanes.any_equal(numbers, start, number)


@njit
def counts_at_most(numbers, bound):
    """For every start how many of sixteen numbers are at most `bound`."""
    counts = np.zeros(numbers.size - LANES + 1, np.int32)
    for start in range(counts.size):
        counts[start] = lanes.count_at_most(numbers, start, bound)
    return counts


@njit
def lowest(bias, products, first, last, step, minima):
    lanes.lowest(bias, products, first, last, step, minima)


@njit
def make_room(distances, ids, states, at, distance, label, state):
    lanes.make_room(distances, ids, states, at, distance, label, state)


@njit
def prefetch_all(numbers):
    for at in range(numbers.size):
        lanes.prefetch(numbers, at)


def numbers(rng: np.random.Generator, count: int, reach: int = 5) -> np.ndarray:
    """`count` small whole numbers, many of them equal, and behind them room for a vector."""
    return rng.integers(-reach, reach + 1, count + LANES).astype(np.int32)


# --- the smallest of many -------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [16, 32, 48])
@pytest.mark.parametrize("times", [1, 2, 7])
def test_lowest_is_the_least_score_of_each_group(groups: int, times: int) -> None:
    """Sixteen groups at a time; what lies behind the last whole dealing would be lower than all."""
    rng, count = np.random.default_rng(times), groups * times
    bias, products = numbers(rng, count, 90), numbers(rng, count, 90)
    bias[count:] = -1000
    minima = np.full(groups + LANES, -7, np.int32)
    for first in range(0, groups, LANES):
        lowest(bias, products, first, count, groups, minima)
        assert (minima[first + LANES :] == -7).all()
    scores = [int(one) - 2 * int(other) for one, other in zip(bias, products, strict=True)]
    assert minima[:groups].tolist() == naive.minima(scores[:count], groups)


def test_the_largest_score_is_a_minimum_too() -> None:
    bias, products = np.full(32, LARGEST_SQUARE, np.int32), np.full(32, -LARGEST_SQUARE, np.int32)
    minima = np.zeros(16, np.int32)
    lowest(bias, products, 0, 32, 16, minima)
    assert minima.tolist() == [3 * LARGEST_SQUARE] * 16


def test_count_at_most_counts_the_bound_itself() -> None:
    rng = np.random.default_rng(5)
    for count in (0, 1, 15, 16, 40):
        here = numbers(rng, count)
        for bound in range(-6, 7):
            told = counts_at_most(here, np.int32(bound)).tolist()
            assert told == [naive.count_at_most(here, start, bound) for start in range(count + 1)]
    largest = np.full(16, EVERYTHING, np.int32)
    assert counts_at_most(largest, np.int32(EVERYTHING)).tolist() == [16]
    assert counts_at_most(largest, np.int32(EVERYTHING - 1)).tolist() == [0]


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_equal_sees_each_of_sixteen_and_no_other(dtype: type) -> None:
    """Numbers lie in a table, and a start counts through its rows."""
    table = np.arange(3 * 19, dtype=dtype).reshape(3, 19)
    table[1, 3] = -7
    for start in range(3 * 19 - 15):
        for number in (*range(max(0, start - 2), start + 18), -7, 1000):
            assert bool(any_equal(table, start, dtype(number))) == (number in table.ravel()[start : start + 16])


def test_any_equal_compares_all_64_bits() -> None:
    ids = np.full((1, 16), 2**32 + 5, np.int64)
    assert any_equal(ids, 0, np.int64(2**32 + 5))
    assert not any_equal(ids, 0, np.int64(5))
    assert not any_equal(ids, 0, np.int64(2**33 + 5))


@pytest.mark.parametrize("dtype", DTYPES)
@few(60)
@given(data=st.data())
def test_make_room_inserts_into_sixteen_sorted_entries(dtype: type, data: st.DataObject) -> None:
    """Wherever the newcomer belongs: before the sixteen, at each of their places, behind them; states move along."""
    size = data.draw(st.integers(17, 40))
    at = data.draw(st.integers(1, size - 16))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    labels = rng.choice(200, size + 1, replace=False) - 50
    distances = rng.integers(0, data.draw(st.sampled_from([1, 3, 100])), size + 1)
    known = [*zip(distances.tolist(), labels.tolist(), rng.integers(0, 4, size + 1).tolist(), strict=True)]
    newcomer, entries = known[0], sorted(known[1:])
    parts = [np.array(part) for part in zip(*entries, strict=True)]
    table = parts[0].astype(np.float32)[None], parts[1].astype(dtype)[None], parts[2].astype(np.uint8)[None]
    distance, label, state = newcomer
    make_room(*table, at, np.float32(distance), dtype(label), np.uint8(state))
    now = list(zip(*(part[0].tolist() for part in table), strict=True))
    assert now == naive.with_room(entries, at, newcomer)


def test_prefetch_changes_nothing() -> None:
    for dtype in (np.float32, np.int32, np.int64, np.uint8):
        table = np.arange(40, dtype=dtype).reshape(4, 10)
        prefetch_all(table)
        assert table.ravel().tolist() == list(range(40))
