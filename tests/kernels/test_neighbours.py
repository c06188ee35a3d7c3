"""Bounded lists: whatever comes in whatever order, the k smallest (distance, id) stay, none twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.neighbours import BORN, DRAWN, FRESH, OLD, Lists, empty, holds, insert, sort_rows
from tests import naive
from tests.strategies import Offers, few, offers, sized

DTYPES = [np.int32, np.int64]
WIDEST = {np.int32: 2**31 - 1, np.int64: 2**45}


def offered(offers: Offers, dtype: type) -> Lists:
    """A list that got the offers, between two rows that got none."""
    lists = empty(3, offers.k, dtype)
    for distance, label in offers.offers:
        insert(lists, 1, dtype(label), np.float32(distance), np.uint8(FRESH))
    return lists


@pytest.mark.parametrize("dtype", DTYPES)
@few(100)
@given(data=st.data())
def test_the_smallest_stay_in_any_order(dtype: type, data: st.DataObject) -> None:
    given_offers = data.draw(offers(WIDEST[dtype]))
    lists = offered(given_offers, dtype)
    assert naive.entries(lists.ids, lists.distances, 1) == naive.nearest(given_offers.offers, given_offers.k)
    naive.assert_ordered(lists.ids, lists.distances)
    assert (lists.ids[[0, 2]] == -1).all()
    assert np.isinf(lists.distances[[0, 2]]).all()


@pytest.mark.parametrize("above", [2**24, 2**32])
def test_neighbouring_large_ids_stay_apart(above: int) -> None:
    """A float32 cannot tell 2^24 from 2^24 + 1, an int32 not 2^32 from 0."""
    ids = [above + 1, above, above + 2, above - 1]
    lists = offered(Offers([(1.0, label) for label in [*ids, *ids]], 6), np.int64)
    assert lists.ids[1].tolist() == [*sorted(ids), -1, -1]
    assert holds(lists.ids, 1, np.int64(above))
    assert not holds(lists.ids, 1, np.int64(above + 3))
    assert not holds(lists.ids, 1, np.int64(above - 2**24))


def test_insert_says_whether_it_did() -> None:
    lists = empty(1, 2)
    take = [(2.0, 5, True), (2.0, 5, False), (1.0, 5, False), (2.0, 7, True), (2.0, 8, False), (2.0, 6, True)]
    take += [(2.0, 7, False), (3.0, 1, False), (0.0, 9, True), (np.inf, 3, False)]
    for distance, label, done in take:
        assert bool(insert(lists, 0, np.int32(label), np.float32(distance), np.uint8(FRESH))) == done, (distance, label)
    assert lists.ids[0].tolist() == [9, 5]
    assert lists.distances[0].tolist() == [0, 2]


def test_what_is_infinitely_far_does_not_enter_an_empty_list() -> None:
    lists = empty(1, 3)
    assert not insert(lists, 0, np.int32(1), np.float32(np.inf), np.uint8(FRESH))
    assert lists.ids[0].tolist() == [-1, -1, -1]


def test_states_travel_with_their_entries() -> None:
    lists = empty(1, 4)
    for label, state in ((4, OLD), (3, FRESH), (2, DRAWN), (1, BORN), (0, OLD)):
        insert(lists, 0, np.int32(label), np.float32(label), np.uint8(state))
    assert lists.ids[0].tolist() == [0, 1, 2, 3]
    assert lists.state[0].tolist() == [OLD, BORN, DRAWN, FRESH]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sort_rows_orders_by_distance_then_id(dtype: type) -> None:
    rng = np.random.default_rng(0)
    n, k = sized(300, 60), 9
    lists = empty(n, k, dtype)
    for row in range(n):
        held = rng.integers(0, k + 1)
        lists.ids[row, :held] = rng.choice(50, held, replace=False) - (5 if row % 3 == 0 else 0)
        lists.ids[row, :held] += 2**33 if dtype == np.int64 and row % 2 else 0
        lists.distances[row, :held] = rng.integers(0, 4, held)
    # The state says which entry it was: three bits are enough for a check of the pairing.
    lists.state[:] = (lists.ids + 3 * lists.distances.clip(0, 9).astype(dtype)) % 8
    first, last = n // 6, n - n // 6
    before = Lists(*(part.copy() for part in lists))
    sort_rows(lists, first, last)
    for row in range(n):
        was = sorted(zip(before.distances[row], before.ids[row], before.state[row], strict=True))
        now = list(zip(lists.distances[row], lists.ids[row], lists.state[row], strict=True))
        if first <= row < last:
            assert now == was
        else:
            assert sorted(now) == was
            assert (lists.ids[row] == before.ids[row]).all()
