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
from tests.strategies import few, sized

DTYPES = [np.int32, np.int64]


@njit
def masks_of(bias, products, count, bound):
    """The mask of every start."""
    masks = np.zeros(count, np.uint32)
    for start in range(count):
        masks[start] = lanes.below(bias, products, start, count, bound)
    return masks


@njit
def masks_of_either(bias, products, limits, first, count, limit, bound):
    """The mask of every start."""
    masks = np.zeros(count, np.uint32)
    for start in range(count):
        masks[start] = lanes.either(bias, products, limits, first, start, count, limit, bound)
    return masks


@njit
def bits_of(mask):
    """The bits of a mask in the order in which select() takes them."""
    bits = np.full(33, -1)
    used = 0
    while mask != 0:
        bits[used] = lanes.lowest_bit(mask)
        mask = lanes.without_lowest(mask)
        used += 1
    return bits[:used]


@njit
def any_equal(numbers, start, number):
    return lanes.any_equal(numbers, start, number)


@njit
def counts_before(distances, ids, distance, label):
    """For every flat start how many of sixteen entries come before (distance, label)."""
    counts = np.zeros(distances.size - LANES + 1, np.int32)
    for start in range(counts.size):
        counts[start] = lanes.count_before(distances, ids, start, distance, label)
    return counts


@njit
def counts_at_most(numbers, bound):
    """For every start how many of sixteen numbers are at most `bound`."""
    counts = np.zeros(numbers.size - LANES + 1, np.int32)
    for start in range(counts.size):
        counts[start] = lanes.count_at_most(numbers, start, bound)
    return counts


@njit
def keep_lower(bias, products, start, minima, at):
    lanes.keep_lower(bias, products, start, minima, at)


@njit
def make_room(distances, ids, states, at, distance, label, state):
    lanes.make_room(distances, ids, states, at, distance, label, state)


@njit
def prefetch_all(numbers):
    for at in range(numbers.size):
        lanes.prefetch(numbers, at)


def expected(bias: np.ndarray, products: np.ndarray, count: int, bound: int) -> list[int]:
    return [naive.below(bias, products, start, count, bound) for start in range(count)]


def numbers(rng: np.random.Generator, count: int, reach: int = 5) -> np.ndarray:
    """`count` small whole numbers, many of them equal, and behind them room for a vector, which no mask may show."""
    return rng.integers(-reach, reach + 1, count + LANES).astype(np.int32)


# --- which of sixteen candidates may enter --------------------------------------------------------


@pytest.mark.parametrize("counts", [range(1, 16), range(16, 34), range(34, 71)], ids=["short", "middle", "long"])
def test_every_count_and_start_against_single_comparisons(counts: range) -> None:
    rng = np.random.default_rng(len(counts))
    for count in counts:
        bias, products = numbers(rng, count), numbers(rng, count)
        for bound in rng.integers(-9, 10, sized(6, 2)).astype(np.int32):
            assert masks_of(bias, products, count, bound).tolist() == expected(bias, products, count, bound)


@pytest.mark.parametrize("counts", [range(1, 16), range(16, 34), range(34, 71)], ids=["short", "middle", "long"])
def test_either_limit_lets_a_candidate_in(counts: range) -> None:
    rng = np.random.default_rng(len(counts))
    for count in counts:
        first = int(rng.integers(0, 40))
        bias, limits = numbers(rng, first + count), numbers(rng, first + count)
        products = numbers(rng, count)
        for limit, bound in rng.integers(-9, 10, (sized(6, 2), 2)).astype(np.int32):
            told = masks_of_either(bias, products, limits, first, count, limit, bound).tolist()
            arguments = bias, products, limits, first
            assert told == [naive.either(*arguments, start, count, limit, bound) for start in range(count)]


def test_what_lies_behind_the_last_candidate_is_not_seen() -> None:
    bias, products, limits = np.zeros((3, 56), np.int32)
    for count in (3, 16, 17, 25):
        full = [2 ** min(16, count - start) - 1 for start in range(count)]
        assert masks_of(bias, products, count, np.int32(1)).tolist() == full
        assert masks_of_either(bias, products, limits, 15, count, np.int32(0), np.int32(1)).tolist() == full


def test_equal_is_below_and_one_more_is_not() -> None:
    """An estimate that is exactly the limit may belong to a neighbour as near as the last, with a lower id."""
    bias, products = np.full((2, 36), 7, np.int32)
    bias[[3, 19]] = 6
    masks = masks_of(bias, products, 20, np.int32(-8))
    assert masks[0] == 1 << 3
    assert masks[10] == 1 << 9
    assert masks[4] == 1 << 15
    assert masks_of(bias, products, 5, np.int32(-8)).tolist() == [8, 4, 2, 1, 0]
    assert masks_of(bias, products, 5, np.int32(-9)).max() == 0
    assert masks_of(bias, products, 5, np.int32(-7)).tolist() == [31, 15, 7, 3, 1]


def test_the_higher_of_two_limits_counts() -> None:
    """A pair is looked at if it may enter the list of one or of the other."""
    bias, products = np.full(32, 10, np.int32), np.zeros(32, np.int32)
    limits = np.array([9, 10, 11, *[-5] * 29], np.int32)
    assert masks_of_either(bias, products, limits, 0, 16, np.int32(-6), np.int32(0))[0] == 0b110
    assert masks_of_either(bias, products, limits, 0, 16, np.int32(10), np.int32(0))[0] == 2**16 - 1
    assert masks_of_either(bias, products, limits, 0, 16, np.int32(-6), np.int32(1))[0] == 0b111
    assert masks_of_either(bias, products, limits, 0, 16, np.int32(-6), np.int32(-1))[0] == 0b100


def test_the_largest_numbers_of_codes_do_not_overflow() -> None:
    """Squares and products reach 2^27, limits 2^29 in both directions."""
    square = LARGEST_SQUARE
    bias = np.array([0, square, 0, square] * 8, np.int32)
    products = np.array([square, square, -square, -square] * 8, np.int32)
    for own in (0, square):
        for limit in (-EVERYTHING, -square, 0, square, EVERYTHING):
            bound = np.int32(limit - own)
            assert masks_of(bias, products, 16, bound).tolist() == expected(bias, products, 16, bound)
            for others in (-EVERYTHING, EVERYTHING):
                limits = np.full(32, others, np.int32)
                told = masks_of_either(bias, products, limits, 0, 16, np.int32(limit), np.int32(-own))
                arguments = bias, products, limits, 0
                assert told.tolist() == [naive.either(*arguments, start, 16, limit, -own) for start in range(16)]


def test_a_row_inside_a_larger_table_may_begin_anywhere() -> None:
    """Rows of a tile are not aligned to a vector."""
    rng = np.random.default_rng(2)
    products = rng.integers(-9, 10, (7, 39)).astype(np.int32)
    bias = numbers(rng, 23, 9)
    for row in products:
        assert masks_of(bias, row, 23, np.int32(2)).tolist() == expected(bias, row, 23, 2)


def test_bits_come_out_lowest_first() -> None:
    rng = np.random.default_rng(3)
    masks = [0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, *rng.integers(0, 2**16, 60).tolist()]
    for mask in masks:
        bits = bits_of(np.uint32(mask)).tolist()
        assert bits == [bit for bit in range(32) if mask >> bit & 1]


# --- the smallest of many -------------------------------------------------------------------------


def test_keep_lower_takes_the_lower_score_of_each_lane() -> None:
    rng = np.random.default_rng(4)
    for _ in range(sized(60, 10)):
        bias, products, minima = numbers(rng, 40), numbers(rng, 40), numbers(rng, 40, 20)
        start, at = rng.integers(0, 41, 2).tolist()
        true = naive.lower(bias, products, start, minima, at)
        keep_lower(bias, products, start, minima, at)
        assert minima.tolist() == true


def test_any_score_is_lower_than_everything() -> None:
    """The minima begin with EVERYTHING."""
    minima = np.full(16, EVERYTHING, np.int32)
    bias, products = np.full(16, LARGEST_SQUARE, np.int32), np.full(16, -LARGEST_SQUARE, np.int32)
    keep_lower(bias, products, 0, minima, 0)
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
def test_count_before_orders_by_distance_then_id(dtype: type, data: st.DataObject) -> None:
    """The entries need no order: offers have none. Free places are infinitely far, and -1."""
    largest = int(np.iinfo(dtype).max)
    seed = data.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    distances = rng.choice(np.array([-1, 0, 0.5, 1, np.inf], np.float32), (2, 20))
    ids = rng.choice(np.array([-9, -1, 0, 3, 4, largest - 1, largest], dtype), (2, 20))
    distance, label = rng.choice(distances.ravel()), rng.choice(ids.ravel())
    told = counts_before(distances, ids, distance, label).tolist()
    assert told == [naive.count_before(distances, ids, start, distance, label) for start in range(25)]


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
