"""Groups of rows, each compared with a base of its own: whom a row meets, and what its list carries on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.codes import coded_form, coder_of, encode, trusted
from distnnd.kernels.groups import Groups, group_rows, keep_range
from distnnd.kernels.leaves import join
from distnnd.kernels.neighbours import Lists, empty
from distnnd.values.metric import METRICS
from tests import naive
from tests.kernels.joins import (
    WAYS,
    assert_dense,
    assert_right,
    canonical,
    coded,
    dense,
    everyone,
    grouped,
    same,
)
from tests.strategies import few, make_points, points, sized

# --- groups ---------------------------------------------------------------------------------------


@few(40)
@given(group_of=st.lists(st.integers(-1, 6), max_size=30))
def test_group_rows(group_of: list[int]) -> None:
    rows, starts = group_rows(np.array(group_of, np.int32), 7)
    assert naive.members((rows, starts)) == naive.group_rows(group_of, 7)
    assert starts[-1] == len(rows) == sum(group >= 0 for group in group_of)


@few(40)
@given(numbers=st.lists(st.lists(st.integers(-1, 12), min_size=3, max_size=3), max_size=20), first=st.integers(0, 8))
def test_a_range_of_numbers_moves_to_the_front(numbers: list[list[int]], first: int) -> None:
    slots = np.array(numbers, np.int32).reshape(-1, 3)
    stayed = keep_range(slots, first, first + 4)
    for row, before, there in zip(slots.tolist(), numbers, stayed.tolist(), strict=True):
        kept = [number - first for number in before if first <= number < first + 4]
        assert row == kept + [-1] * (3 - len(kept))
        assert there == (first <= before[0] < first + 4)


# --- groups of queries, groups of base ------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@few(30)
@given(data=st.data())
def test_rows_meet_the_base_of_their_group_and_nothing_else(way: str, data: st.DataObject) -> None:
    raw = data.draw(points(dtypes=(np.float32,), columns=(3, 3)))
    other = data.draw(points(dtypes=(np.float32,), columns=(3, 3)))
    groups, k = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    queries = grouped(rng.integers(-1, groups, len(raw)), groups)
    # A row of the base may stand in two groups, as in overlapping leaves.
    base = [np.flatnonzero(rng.random(len(other)) < 0.5) for _ in range(groups)]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in base])])
    stock = Groups(np.concatenate(base).astype(np.int32), starts)
    names = (1000 + stock.rows).astype(np.int32)
    coder = coder_of(np.concatenate([raw, other]), METRICS["sqeuclidean"])
    rows, others = encode(raw, coder), encode(other, coder)
    form = coded_form(METRICS["sqeuclidean"], others, coder, strict=True)
    form = {"strict": form, "cut": form._replace(cut=True), "trusted": trusted(form)}[way]
    lists = empty(len(raw), k)
    compared = join(rows, queries, others, stock, names, form, lists, False, 0, groups)
    allowed = naive.allowed_by_join((len(raw), len(other)), naive.members(queries), naive.members(stock), itself=False)
    assert compared == allowed.sum()
    ids = np.where(lists.ids >= 0, lists.ids - 1000, -1)
    assert_right(lists._replace(ids=ids), canonical(rows, others, form), allowed)


def test_itself_is_skipped_only_when_asked() -> None:
    rows, form = coded(make_points("plain", np.float32, 20, 3, seed=4))
    group = everyone(20)
    for itself in (True, False):
        lists = empty(20, 3)
        join(rows, group, rows, group, group.rows, form, lists, itself, 0, 1)
        assert (lists.ids[:, 0] == np.arange(20)).all() == (not itself)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parts", [2, 5])
def test_lists_and_their_thresholds_carry_on(way: str, parts: int) -> None:
    """Calls with a part of the base each find what one call finds with all of it."""
    n, k = sized(300, 90), 6
    rows, form = coded(make_points("plain", np.float32, n, 4, seed=5), way)
    lists = empty(n, k)
    for part in np.array_split(np.random.default_rng(5).permutation(n), parts):
        base = Groups(part.astype(np.int32), np.array([0, len(part)]))
        join(rows, everyone(n), rows, base, base.rows, form, lists, True, 0, 1)
    assert_dense(lists, rows, form)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("known", [1, 5, 9])
def test_a_list_that_is_partly_filled_is_filled_from_a_base_that_holds_the_same(way: str, known: int) -> None:
    """What is known already must not count twice towards the bound that an unfilled list starts from."""
    n, k = 150, 10
    raw = make_points("plain", np.float32, n, 4, seed=11)
    rows, form = coded(raw, way)
    first = np.argsort(naive.squared(raw[:1], raw)[0])[1 : known + 1].astype(np.int32)
    lists = empty(n, k)
    join(rows, everyone(n), rows, Groups(first, np.array([0, known])), first, form, lists, True, 0, 1)
    assert (lists.ids[0] >= 0).sum() == known
    join(rows, everyone(n), rows, everyone(n), everyone(n).rows, form, lists, True, 0, 1)
    assert_dense(lists, rows, form)


@pytest.mark.parametrize("way", WAYS)
def test_a_second_meeting_changes_nothing(way: str) -> None:
    """Nothing enters twice, and what was known keeps its state."""
    rows, form = coded(make_points("ties", np.float32, 60, 4, seed=6), way)
    lists = dense(rows, 5, form)
    lists.state[:] = np.arange(5)
    before = Lists(*(part.copy() for part in lists))
    join(rows, everyone(60), rows, everyone(60), everyone(60).rows, form, lists, True, 0, 1)
    same(lists, before)


@pytest.mark.parametrize("way", WAYS)
def test_a_list_keeps_what_is_nearer_than_all_that_comes(way: str) -> None:
    """Neighbours that are elsewhere have numbers below -1, and their distances count like any other."""
    rows, form = coded(make_points("plain", np.float32, 30, 3, seed=7), way)
    lists = empty(30, 3)
    lists.ids[:], lists.distances[:] = [40, 41, -2], [-2, -1, -0.5]
    lists.ids[20:], lists.distances[20:] = [-2, -3, -1], [-1, 0.25, np.inf]
    before = Lists(*(part.copy() for part in lists))
    join(rows, everyone(30), rows, everyone(30), everyone(30).rows, form, lists, True, 0, 1)
    same(Lists(*(part[:20] for part in lists)), Lists(*(part[:20] for part in before)))
    gaps, others = canonical(rows, rows, form), ~np.eye(30, dtype=bool)
    for row, found in list(enumerate(naive.nearest_allowed(gaps, others, 3)))[20:]:
        expected = naive.nearest([(-1.0, -2), (0.25, -3), *found], 3)
        assert naive.entries(lists.ids, lists.distances, row) == expected


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
def test_ranges_of_groups_are_independent(cut: int) -> None:
    n, groups = 120, 5
    rows, form = coded(make_points("plain", np.float32, n, 4, seed=8))
    leaves = grouped(np.random.default_rng(9).integers(0, groups, n), groups)
    whole, parts = empty(n, 4), empty(n, 4)
    compared = join(rows, leaves, rows, leaves, leaves.rows, form, whole, True, 0, groups)
    in_parts = 0
    for first, last in ((cut, groups), (0, cut)):
        in_parts += join(rows, leaves, rows, leaves, leaves.rows, form, parts, True, first, last)
    same(whole, parts)
    assert compared == in_parts == sum(len(group) ** 2 for group in naive.members(leaves))


def test_empty_groups_cost_nothing() -> None:
    rows, form = coded(make_points("plain", np.float32, 6, 2, seed=10))
    queries = grouped(np.array([0, 0, 2, 2, -1, -1]), 4)
    base = grouped(np.array([1, 1, 2, 2, 3, 3]), 4)
    lists = empty(6, 2)
    assert join(rows, queries, rows, base, base.rows, form, lists, True, 0, 4) == 4
    assert lists.ids[2:4, 0].tolist() == [3, 2]
    assert (lists.ids[[0, 1, 4, 5]] == -1).all()
