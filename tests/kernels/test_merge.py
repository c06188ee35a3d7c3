"""Merging: order, repeats and retries cannot matter, and row ids come through unharmed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.merge import count_hits, fill, fold, globalise, localise, permute, table_of, widened
from distnnd.kernels.neighbours import FRESH, OLD, Lists, empty
from distnnd.kernels.rows import plain_form
from distnnd.values.metric import METRICS
from tests import naive
from tests.strategies import few, lists_of_one_row, make_points, sized

Entries = list[tuple[float, int]]
SEED = 2**62 + 12345


# --- fold -----------------------------------------------------------------------------------------


def as_arrays(entries: Entries, width: int) -> tuple[np.ndarray, np.ndarray]:
    """One row of ids and distances as a partition writes them, free places last."""
    ids, distances = np.full((1, width), -1, np.int64), np.full((1, width), np.inf, np.float32)
    for slot, (distance, label) in enumerate(entries):
        ids[0, slot], distances[0, slot] = label, distance
    return ids, distances


def folded(lists_of_one: list[Entries], k: int) -> Entries:
    """The given lists folded into an empty one of k places, one after the other."""
    lists = empty(1, k, np.int64)
    for entries in lists_of_one:
        fold(lists, np.array([0]), *as_arrays(entries, 9))
    naive.assert_ordered(lists.ids, lists.distances)
    return naive.entries(lists.ids, lists.distances, 0)


@few(80)
@given(found=lists_of_one_row())
def test_fold_keeps_the_nearest_in_any_order(found: tuple[list[Entries], int]) -> None:
    lists, k = found
    expected = naive.merged(lists, k)
    for order in itertools.islice(itertools.permutations(lists), 8):
        assert folded(list(order), k) == expected


@few(60)
@given(found=lists_of_one_row())
def test_folding_again_changes_nothing(found: tuple[list[Entries], int]) -> None:
    lists, k = found
    assert folded([*lists, *lists], k) == folded([lists[0], *lists, lists[-1]], k) == folded(lists, k)


@few(60)
@given(found=lists_of_one_row(), cut=st.integers(0, 4))
def test_fold_may_go_by_way_of_merged_lists(found: tuple[list[Entries], int], cut: int) -> None:
    lists, k = found
    one, other = folded(lists[:cut], k), folded(lists[cut:], k)
    assert folded([one, other], k) == folded([other, one], k) == folded(lists, k)


def test_fold_serves_many_rows_and_rows_may_repeat() -> None:
    """A unit may hold two copies of one row: both lists go to the same place."""
    rng = np.random.default_rng(0)
    rows = np.array([3, 0, 3, 5, 0, 3])
    ids = np.array([rng.choice(30, 4, replace=False) for _ in rows]) + 2**33
    distances = (ids % 7).astype(np.float32)
    order = np.argsort(distances, axis=1)
    ids, distances = np.take_along_axis(ids, order, axis=1), np.take_along_axis(distances, order, axis=1)
    lists = empty(6, 5, np.int64)
    fold(lists, rows, ids, distances)
    for row in range(6):
        mine = [naive.entries(ids, distances, i) for i in np.flatnonzero(rows == row)]
        assert naive.entries(lists.ids, lists.distances, row) == naive.merged(mine, 5)


def test_a_smaller_id_may_follow_where_distances_tie() -> None:
    """Partitions order ties by their own labels: the first that does not enter is not the last that could."""
    assert folded([[(1.0, 5)], [(1.0, 9), (1.0, 3), (1.0, 7)]], 1) == [(1.0, 3)]
    assert folded([[(0.0, 4), (1.0, 5)], [(0.0, 4), (1.0, 2)]], 2) == [(0.0, 4), (1.0, 2)]


def test_what_is_behind_a_free_place_is_not_read() -> None:
    lists = empty(1, 3, np.int64)
    fold(lists, np.array([0]), np.array([[7, -1, 9]]), np.array([[1, np.nan, 2]], np.float32))
    assert lists.ids[0].tolist() == [7, -1, -1]


# --- ids into the partition and back --------------------------------------------------------------


@few(40)
@given(data=st.data())
def test_ids_come_back_as_they_went(data: st.DataObject) -> None:
    """Neighbours that are here become positions, those that are elsewhere come back by their slot."""
    id_of_a_row = st.integers(0, 60) | st.integers(2**32, 2**32 + 60) | st.integers(2**61, 2**62)
    rows = np.array(data.draw(st.lists(id_of_a_row, min_size=1, max_size=50)), np.int64)
    near = st.sampled_from(rows.tolist()) | id_of_a_row | st.just(-1)
    width = data.draw(st.integers(1, 6))
    flat = data.draw(st.lists(near, min_size=len(rows) * width, max_size=len(rows) * width))
    ids = np.array(flat, np.int64).reshape(len(rows), width)
    table, first_time = table_of(rows)
    positions = {}
    for position, row in enumerate(rows.tolist()):
        positions.setdefault(row, position)
    assert first_time.tolist() == [positions[row] == i for i, row in enumerate(rows.tolist())]
    lists = empty(len(rows), width)
    localise(ids, table, rows, 0, FRESH, lists)
    for row, slot in itertools.product(range(len(rows)), range(width)):
        wanted, label, state = ids[row, slot], lists.ids[row, slot], lists.state[row, slot]
        if wanted in positions:
            assert (label, state) == (positions[wanted], FRESH)
        else:
            assert (label, state) == (-1 if wanted < 0 else -2 - slot, OLD)
    some = np.random.default_rng(0).permutation(len(rows))[: 1 + len(rows) // 2]
    lists.distances[:] = np.random.default_rng(1).random(lists.ids.shape)
    for kept in range(ids.shape[1] + 1):
        found, distances = globalise(lists, rows, ids, some, kept)
        np.testing.assert_array_equal(found, ids[some, :kept])
        np.testing.assert_array_equal(distances, lists.distances[some, :kept])


def test_ids_that_share_their_low_bits_stay_apart() -> None:
    """Crowded tables, so that the search for a stranger often passes its like."""
    for first in range(0, 2000, 8):
        rows = np.concatenate([np.arange(first, first + 8), np.arange(first, first + 8) + 2**33])
        table, first_time = table_of(rows)
        assert first_time.all()
        lists = empty(16, 2)
        localise(np.stack([rows + 2**32, rows], axis=1), table, rows, 0, FRESH, lists)
        assert lists.ids[:, 0].tolist() == [-2] * 16
        assert lists.ids[:, 1].tolist() == list(range(16))


def test_foreign_ids_are_found_again_after_the_list_has_moved_on() -> None:
    """Entries shift as nearer ones come in; the label says in which slot the id came."""
    rows = np.array([100, 200, 2**40, 300])
    known = np.array([[2**41, 200, 2**42], [100, -1, -1], [2**43, 300, 100], [-1, -1, -1]])
    table, _ = table_of(rows)
    lists = empty(4, 4)
    localise(known, table, rows, 0, OLD, lists)
    lists.ids[0] = [2, -4, 1, -2]
    lists.ids[2] = [-2, 0, 1, -1]
    told, distances = globalise(lists, rows, known, np.array([2, 0, 3]), 4)
    assert told.dtype == np.int64
    assert distances.dtype == np.float32
    assert told.tolist() == [[2**43, 100, 200, -1], [2**40, 2**42, 200, 2**41], [-1, -1, -1, -1]]


def test_lists_may_come_in_strips() -> None:
    rng = np.random.default_rng(1)
    rows = rng.choice(10**6, 40, replace=False)
    ids = rng.choice(np.concatenate([rows, [5, 6, 7]]), (40, 3))
    table, _ = table_of(rows)
    whole, strips = empty(40, 3), empty(40, 3)
    localise(ids, table, rows, 0, FRESH, whole)
    for first, last in ((25, 40), (0, 25)):
        localise(ids[first:last], table, rows, first, FRESH, strips)
    np.testing.assert_array_equal(whole.ids, strips.ids)
    np.testing.assert_array_equal(whole.state, strips.state)


def test_widened_lists_begin_with_the_given_ones() -> None:
    ids, distances = np.array([[2**40, 3], [4, -1]]), np.array([[1, 2], [0, np.inf]], np.float32)
    lists = widened(ids, distances, 4)
    assert lists.ids.tolist() == [[2**40, 3, -1, -1], [4, -1, -1, -1]]
    np.testing.assert_array_equal(lists.distances, [[1, 2, np.inf, np.inf], [0, np.inf, np.inf, np.inf]])
    assert (lists.ids.dtype, lists.distances.dtype) == (np.int64, np.float32)


# --- permute --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int8, np.int32, np.int64])
def test_permute_is_fancy_indexing_in_place(dtype: type) -> None:
    rng = np.random.default_rng(2)
    for n, width in ((0, 3), (1, 1), (2, 3), (7, 0), (200, 5)):
        block = rng.integers(0, 100, (n, width)).astype(dtype)
        for order in (rng.permutation(n), np.arange(n), np.roll(np.arange(n), 1), np.arange(n)[::-1].copy()):
            expected, moved, flat = block[order], block.copy(), np.arange(n).astype(dtype)
            permute([moved, flat, moved], order.astype(np.int64))
            np.testing.assert_array_equal(moved, expected)
            np.testing.assert_array_equal(flat, order.astype(dtype))


# --- fill -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
@pytest.mark.parametrize("n", [9, 25, 150])
def test_fill_gives_full_lists_of_present_others(n: int, dtype: type) -> None:
    points = make_points("plain", dtype, n, 4, seed=n)
    present = np.random.default_rng(n).random(n) < 0.8
    width = min(6, int(present.sum()) // 2)
    lists = empty(n, width)
    fill(points, plain_form(METRICS["euclidean"], 4), lists, present, SEED, 0, n)
    naive.assert_ordered(lists.ids, lists.distances)
    assert (lists.ids[~present] == -1).all()
    assert (lists.ids[present] >= 0).all()
    assert present[lists.ids[present]].all()
    assert (lists.ids != np.arange(n)[:, None]).all()
    np.testing.assert_allclose(
        lists.distances[present],
        np.take_along_axis(naive.squared(points, points), lists.ids.astype(np.int64), axis=1)[present],
        rtol=1e-5,
    )
    assert (lists.state[present] == FRESH).all()


def test_fill_is_the_same_in_any_ranges_and_another_with_another_seed() -> None:
    points = make_points("plain", np.float32, 60, 3, seed=3)
    form, present = plain_form(METRICS["euclidean"], 3), np.ones(60, bool)
    whole, parts, other = (empty(60, 5) for _ in range(3))
    fill(points, form, whole, present, SEED, 0, 60)
    for first, last in ((40, 60), (0, 7), (7, 40)):
        fill(points, form, parts, present, SEED, first, last)
    fill(points, form, other, present, SEED + 10**6, 0, 60)
    np.testing.assert_array_equal(whole.ids, parts.ids)
    assert (whole.ids != other.ids).mean() > 0.5


def test_fill_leaves_full_lists_and_known_neighbours_alone() -> None:
    points = make_points("plain", np.float32, 30, 3, seed=4)
    lists = empty(30, 3)
    lists.ids[0], lists.distances[0] = [5, 6, 7], [1, 2, 3]
    lists.ids[1], lists.distances[1] = [-2, 8, -1], [0, 0, np.inf]
    fill(points, plain_form(METRICS["euclidean"], 3), lists, np.ones(30, bool), SEED, 0, 2)
    assert lists.ids[0].tolist() == [5, 6, 7]
    assert lists.ids[1, :2].tolist() == [-2, 8]
    assert lists.ids[1, 2] not in (-2, -1, 1, 8)
    assert (lists.ids[2:] == -1).all()


# --- count_hits -----------------------------------------------------------------------------------


def test_hits_are_what_is_as_near_as_the_threshold() -> None:
    """Ties with the k-th true neighbour count, whoever of them was found; places beyond k do not."""
    ids = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [7, 8, -1, -1], [2**40, 1, -2, 5], [0, 1, 2, 3]])
    distances = np.array([[0, 1, 1, 1], [0, 1, 2, 2], [0, 1, np.inf, np.inf], [1, 1, 1, 1], [3, 4, 5, 6]], np.float32)
    lists = Lists(ids, distances, np.zeros(ids.shape, np.uint8))
    rows, thresholds = np.array([4, 0, 1, 2, 3]), np.array([2, 1, 1, 1, 1], np.float32)
    told = count_hits(lists, rows, thresholds, 3)
    assert told.dtype == np.float64
    # An entry that is elsewhere (-2) is no id: lists are counted where ids are global, or where all is at hand.
    expected = [0, 1, 2 / 3, 2 / 3, 2 / 3]
    np.testing.assert_allclose(told, expected, rtol=1e-12)
    for row in (4, 0, 1, 2):
        threshold = thresholds[rows.tolist().index(row)]
        share = naive.hits(naive.entries(ids, distances, row), float(threshold), 3)
        assert told[rows.tolist().index(row)] == pytest.approx(share)


def test_all_found_is_exactly_one() -> None:
    """Or a target_recall of 1.0 is never reached."""
    for k in range(1, sized(65, 20)):
        lists = empty(1, k)
        lists.ids[:], lists.distances[:] = np.arange(k), 0
        assert count_hits(lists, np.array([0]), np.ones(1, np.float32), k)[0] == 1
