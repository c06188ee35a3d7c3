"""Leaves: all pairs through matrix products, and nothing near gets lost on the way into the lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.leaves import BASE, QUERIES, Groups, group_rows, join
from distnnd.kernels.neighbours import FRESH, Lists, empty
from distnnd.kernels.rows import Form
from tests import naive
from tests.strategies import few, make_points, points, sized

DTYPES = [np.float32, np.uint8]


def everyone(n: int) -> Groups:
    return Groups(np.arange(n, dtype=np.int32), np.array([0, n]))


def grouped(group_of: np.ndarray, groups: int) -> Groups:
    return Groups(*group_rows(group_of.astype(np.int32), groups))


def euclidean(d: int) -> Form:
    return Form(True, np.float32(2), d)


def dense(rows: np.ndarray, k: int, form: Form) -> Lists:
    """The lists after all rows were compared with each other."""
    lists = empty(len(rows), k)
    group = everyone(len(rows))
    assert join(rows, group, rows, group, group.rows, form, lists, True, 0, 1) == len(rows) ** 2
    return lists


def tolerance_of(rows: np.ndarray) -> float:
    """Rounding of products around the mean, against the largest square that takes part."""
    around = rows.astype(np.float64) - rows.astype(np.float64).mean(axis=0)
    return 2e-6 * max(float((around**2).sum(axis=1).max()), 1e-6)


def same(one: Lists, other: Lists) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


# --- groups ---------------------------------------------------------------------------------------


@few(40)
@given(group_of=st.lists(st.integers(-1, 6), max_size=30))
def test_group_rows(group_of: list[int]) -> None:
    rows, starts = group_rows(np.array(group_of, np.int32), 7)
    assert naive.members((rows, starts)) == naive.group_rows(group_of, 7)
    assert starts[-1] == len(rows) == sum(group >= 0 for group in group_of)


# --- one group, all pairs -------------------------------------------------------------------------


@few(60)
@given(rows=points(dtypes=tuple(DTYPES), rows=(2, 120)), k=st.integers(1, 12))
def test_all_pairs_of_a_leaf(rows: np.ndarray, k: int) -> None:
    lists = dense(rows, k, euclidean(rows.shape[1]))
    others = ~np.eye(len(rows), dtype=bool)
    naive.assert_nearest(lists.ids, lists.distances, naive.squared(rows, rows), others, tolerance_of(rows))
    assert (lists.distances >= 0).all()
    assert (lists.state[lists.ids >= 0] == FRESH).all()


@few(30)
@given(rows=points(dtypes=(np.float32,), columns=(2, 12)), k=st.integers(1, 12))
def test_the_largest_inner_products_of_a_leaf(rows: np.ndarray, k: int) -> None:
    """The last column only serves routing: it must not count, whatever it holds."""
    form = Form(False, np.float32(1), rows.shape[1] - 1)
    counting = rows[:, :-1]
    lists = dense(rows, k, form)
    scale = float((counting.astype(np.float64) ** 2).sum(axis=1).max())
    gaps, others = -naive.products(counting, counting), ~np.eye(len(rows), dtype=bool)
    naive.assert_nearest(lists.ids, lists.distances, gaps, others, 2e-6 * max(scale, 1e-6))


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_rows_than_tiles(dtype: type) -> None:
    """Ragged tiles on both sides, and the base beyond its first tile."""
    n, d, k = sized(2 * BASE + 77, BASE + 30), 5, 7
    assert n > 2 * QUERIES
    rows = make_points("plain", dtype, n, d, seed=1)
    lists = dense(rows, k, euclidean(d))
    others = ~np.eye(n, dtype=bool)
    naive.assert_nearest(lists.ids, lists.distances, naive.squared(rows, rows), others, tolerance_of(rows))
    assert (lists.ids[: BASE // 2] >= BASE).any()
    assert (lists.ids[BASE:] < BASE).any()


@pytest.mark.parametrize("offset", [1e4, -1e4, 1e6])
def test_far_from_the_origin_neighbours_are_the_same(offset: float) -> None:
    """Around the origin a product of these has no digit left for the distance."""
    n, d, k = sized(400, 80), 8, 10
    rows = (np.random.default_rng(2).normal(size=(n, d)) + offset).astype(np.float32)
    lists = dense(rows, k, euclidean(d))
    others = ~np.eye(n, dtype=bool)
    naive.assert_nearest(lists.ids, lists.distances, naive.squared(rows, rows), others, tolerance_of(rows))


def test_a_whole_block_far_from_the_origin() -> None:
    """Probe rows meet a base of a whole block: its mean must still be a mean."""
    n, d, k = sized(2**17, 3000), 4, 5
    rows = (np.random.default_rng(3).normal(size=(n, d)) + 1e5).astype(np.float32)
    probes = rows[:: n // 20][:20].copy()
    lists = empty(len(probes), k)
    join(probes, everyone(len(probes)), rows, everyone(n), everyone(n).rows, euclidean(d), lists, False, 0, 1)
    true = np.take_along_axis(naive.squared(probes, rows), lists.ids.astype(np.int64), axis=1)
    np.testing.assert_allclose(lists.distances, true, rtol=0, atol=tolerance_of(rows))


def test_identical_rows_are_at_no_distance() -> None:
    rows = np.full((300, 6), 0.1, np.float32)
    lists = dense(rows, 8, euclidean(6))
    naive.assert_ordered(lists.ids, lists.distances)
    assert (lists.ids >= 0).all()
    assert (lists.ids != np.arange(300)[:, None]).all()
    assert lists.distances.min() >= 0
    assert lists.distances.max() < 1e-6


# --- groups of queries, groups of base ------------------------------------------------------------


@few(40)
@given(data=st.data())
def test_rows_meet_the_base_of_their_group_and_nothing_else(data: st.DataObject) -> None:
    rows = data.draw(points(dtypes=(np.float32,), columns=(3, 3)))
    others = data.draw(points(dtypes=(np.float32,), columns=(3, 3)))
    groups, k = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    queries = grouped(rng.integers(-1, groups, len(rows)), groups)
    # A row of the base may stand in two groups, as in overlapping leaves.
    base = [np.flatnonzero(rng.random(len(others)) < 0.5) for _ in range(groups)]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in base])])
    stock = Groups(np.concatenate(base).astype(np.int32), starts)
    names = (1000 + stock.rows).astype(np.int32)
    lists = empty(len(rows), k)
    compared = join(rows, queries, others, stock, names, euclidean(3), lists, False, 0, groups)
    allowed = naive.allowed_by_join(
        (len(rows), len(others)), naive.members(queries), naive.members(stock), itself=False
    )
    assert compared == allowed.sum()
    ids = np.where(lists.ids >= 0, lists.ids - 1000, -1)
    both = np.concatenate([rows, others])
    tolerance = 4 * tolerance_of(both) + 4e-7 * float(np.ptp(both, axis=0).max()) ** 2
    naive.assert_nearest(ids, lists.distances, naive.squared(rows, others), allowed, tolerance)


def test_itself_is_skipped_only_when_asked() -> None:
    rows = make_points("plain", np.float32, 20, 3, seed=4)
    group = everyone(20)
    for itself in (True, False):
        lists = empty(20, 3)
        join(rows, group, rows, group, group.rows, euclidean(3), lists, itself, 0, 1)
        assert (lists.ids[:, 0] == np.arange(20)).all() == (not itself)


def test_lists_and_their_thresholds_carry_on() -> None:
    """Two calls with half of the base each find what one call finds with all of it."""
    n, d, k = 90, 4, 6
    rows = make_points("plain", np.float32, n, d, seed=5)
    lists = empty(n, k)
    for half in (np.arange(n // 2), np.arange(n // 2, n)):
        base = Groups(half.astype(np.int32), np.array([0, len(half)]))
        join(rows, everyone(n), rows, base, base.rows, euclidean(d), lists, True, 0, 1)
    others = ~np.eye(n, dtype=bool)
    naive.assert_nearest(lists.ids, lists.distances, naive.squared(rows, rows), others, tolerance_of(rows))


@pytest.mark.parametrize("known", [1, 5, 9])
def test_a_list_that_is_partly_filled_is_filled_from_a_base_that_holds_the_same(known: int) -> None:
    """What is known already must not count twice towards the bound that an unfilled list starts from."""
    n, d, k = 150, 4, 10
    rows = make_points("plain", np.float32, n, d, seed=11)
    first = np.argsort(naive.squared(rows[:1], rows)[0])[1 : known + 1].astype(np.int32)
    lists = empty(n, k)
    join(rows, everyone(n), rows, Groups(first, np.array([0, known])), first, euclidean(d), lists, True, 0, 1)
    assert (lists.ids[0] >= 0).sum() == known
    join(rows, everyone(n), rows, everyone(n), everyone(n).rows, euclidean(d), lists, True, 0, 1)
    others = ~np.eye(n, dtype=bool)
    naive.assert_nearest(lists.ids, lists.distances, naive.squared(rows, rows), others, tolerance_of(rows))


def test_a_second_meeting_changes_nothing() -> None:
    n, d = 60, 4
    rows = make_points("plain", np.float32, n, d, seed=6)
    lists = dense(rows, 5, euclidean(d))
    before = Lists(*(part.copy() for part in lists))
    join(rows, everyone(n), rows, everyone(n), everyone(n).rows, euclidean(d), lists, True, 0, 1)
    np.testing.assert_array_equal(lists.ids, before.ids)


def test_a_list_keeps_what_is_nearer_than_all_that_comes() -> None:
    rows = make_points("plain", np.float32, 30, 3, seed=7)
    lists = empty(30, 3)
    lists.ids[:] = [40, 41, -2]
    lists.distances[:] = [-2, -1, -0.5]
    before = Lists(*(part.copy() for part in lists))
    join(rows, everyone(30), rows, everyone(30), everyone(30).rows, euclidean(3), lists, True, 0, 1)
    same(lists, before)


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
def test_ranges_of_groups_are_independent(cut: int) -> None:
    n, groups = 120, 5
    rows = make_points("plain", np.float32, n, 4, seed=8)
    leaves = grouped(np.random.default_rng(9).integers(0, groups, n), groups)
    whole, parts = empty(n, 4), empty(n, 4)
    compared = join(rows, leaves, rows, leaves, leaves.rows, euclidean(4), whole, True, 0, groups)
    in_parts = 0
    for first, last in ((cut, groups), (0, cut)):
        in_parts += join(rows, leaves, rows, leaves, leaves.rows, euclidean(4), parts, True, first, last)
    same(whole, parts)
    assert compared == in_parts == sum(len(group) ** 2 for group in naive.members(leaves))


def test_empty_groups_cost_nothing() -> None:
    rows = make_points("plain", np.float32, 6, 2, seed=10)
    queries = grouped(np.array([0, 0, 2, 2, -1, -1]), 4)
    base = grouped(np.array([1, 1, 2, 2, 3, 3]), 4)
    lists = empty(6, 2)
    assert join(rows, queries, rows, base, base.rows, euclidean(2), lists, True, 0, 4) == 4
    assert lists.ids[2:4, 0].tolist() == [3, 2]
    assert (lists.ids[[0, 1, 4, 5]] == -1).all()
