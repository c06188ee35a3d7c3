"""NN-descent: what is found among companions, and that no cut of the work changes or loses any of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from distnnd.kernels import leaves
from distnnd.kernels.codes import Rows, coded_form, coder_of, encode, trusted
from distnnd.kernels.companions import draw, gather_companions, mark, no_companions, settle
from distnnd.kernels.descent import (
    AT_ONCE,
    LIMIT,
    apply,
    join,
)
from distnnd.kernels.groups import Groups, group_rows
from distnnd.kernels.merge import fill
from distnnd.kernels.neighbours import BORN, DRAWN, FRESH, OLD, Lists, empty, sort_rows
from distnnd.kernels.rows import Form, prepare
from distnnd.values.metric import METRICS
from tests import naive
from tests.kernels.walks import (
    METRIC_NAMES,
    SEED,
    as_tuples,
    cards_of,
    coded,
    copied,
    drawn,
    expected_finds,
    gaps_of,
    meet,
    random_lists,
    same,
    some_lists,
    stand,
    whole_points,
)
from tests.strategies import few, make_points, points, sized

DTYPES = [np.float32, np.uint8]


@njit
def gathered(lists, companions, row, members):
    """The companions of a row as join() gathers them."""
    return gather_companions(lists, companions, row, members)


def test_what_a_pass_finds_waits_for_the_next() -> None:
    """Lists change after each block; the rows of the next still gather only what was there at the drawing, once."""
    n, k, cap = 60, 8, 6
    rows, form = coded(whole_points(n, 3, 9))
    lists = some_lists(gaps_of(rows, form), k, 9, states=2)
    companions = drawn(lists, cap)
    members, before = np.empty(64, np.int32), []
    for row in range(n):
        _, count = gathered(lists, companions, row, members)
        before.append(set(members[:count].tolist()))
    finds, *_ = meet(rows, companions, form, lists, 0, n // 2)
    apply(finds, form, lists, cards_of(rows, form, lists), 0, n)
    assert (lists.state[n // 2 :] == BORN).any()
    for row in range(n // 2, n):
        _, count = gathered(lists, companions, row, members)
        mine = members[:count].tolist()
        assert len(set(mine)) == len(mine)
        assert set(mine) <= before[row]


# --- join -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("k", [3, 10, 20])
def test_join_finds_what_the_naive_local_join_finds(dtype: type, name: str, k: int) -> None:
    """Nothing is missed by a strict form, and every find bears its true surrogate; the lists stay as they were."""
    n = sized(80, 40)
    raw = whole_points(n, 5, k, dtype)
    rows, form = coded(raw, name)
    gaps = naive.surrogates(raw, raw, form.euclidean)
    lists = some_lists(gaps, k, k)
    companions = drawn(lists, k)
    before = copied(lists)
    finds, stopped, compared = meet(rows, companions, form, lists)
    expected, products = expected_finds(lists, companions, gaps, form)
    assert len(expected) > n // 2
    assert as_tuples(finds) == expected
    assert stopped == n
    assert compared == products
    same(lists, before)


@pytest.mark.parametrize("trust", [False, True], ids=["canonical", "estimates"])
@pytest.mark.parametrize("name", METRIC_NAMES)
@few(25)
@given(raw=points(dtypes=(np.float32, np.uint8, np.int8), rows=(4, 70)), k=st.integers(1, 20), seed=st.integers(0, 99))
def test_finds_bear_what_lists_keep(name: str, trust: bool, raw: np.ndarray, k: int, seed: int) -> None:
    """Rows of every flavour: to the bit the canonical surrogate, or the estimate where the form trusts it."""
    rows, form = coded(raw, name)
    if trust:
        form = trusted(form)
    gaps = gaps_of(rows, form)
    lists = some_lists(gaps, k, seed)
    companions = drawn(lists, 1 + k // 2)
    finds, _, compared = meet(rows, companions, form, lists)
    expected, products = expected_finds(lists, companions, gaps, form)
    assert as_tuples(finds) == expected
    assert compared == products


def test_the_last_column_of_inner_products_does_not_count() -> None:
    raw = whole_points(40, 6, 2)
    rows, form = coded(raw, "inner_product")
    other = raw.copy()
    ready = prepare(other, METRICS["inner_product"], 7, 1e3)
    ready[:, -1] = np.random.default_rng(2).normal(size=40) * 50
    coder = coder_of(ready, METRICS["inner_product"])
    moved = encode(ready, coder)
    gaps = naive.surrogates(raw, raw, False)
    lists = some_lists(gaps, 6, 2)
    companions = drawn(lists, 8)
    one, *_ = meet(rows, companions, form, lists)
    moved_form = coded_form(METRICS["inner_product"], moved, coder, strict=True)
    two, *_ = meet(moved, companions, moved_form, lists)
    assert as_tuples(one) == as_tuples(two) == expected_finds(lists, companions, gaps, form)[0]
    assert as_tuples(one)


@pytest.mark.parametrize("kind", ["far", "outliers", "identical"])
def test_what_upsets_codes_loses_no_find(kind: str) -> None:
    """An offset, coordinates that are cut off (rows beyond them look as near as their codes), nothing to tell apart."""
    n = sized(160, 120)
    raw = whole_points(n, 4, 3)
    if kind == "far":
        raw += np.float32(1e6)
    if kind == "outliers":
        raw[3] = [1000, 0, 5, -800]
        assert coder_of(raw, METRICS["sqeuclidean"]).cuts
    if kind == "identical":
        raw[:] = 3
        raw[::9] = 5
    rows, form = coded(raw)
    lists = some_lists(naive.squared(raw, raw), 6, 3)
    companions = drawn(lists, 8)
    finds, *_ = meet(rows, companions, form, lists)
    expected, _ = expected_finds(lists, companions, naive.squared(raw, raw), form)
    assert as_tuples(finds) == expected
    assert len(expected) > 20


def test_estimates_that_are_mostly_right_find_mostly_all() -> None:
    """Not strict: little is missed, nothing is invented, and what is found bears its canonical surrogate."""
    n, k = sized(400, 100), 12
    rows, form = coded(make_points("plain", np.float32, n, 24, seed=4), strict=False)
    strict = coded(make_points("plain", np.float32, n, 24, seed=4))[1]
    assert form.spread < strict.spread / 2
    gaps = gaps_of(rows, form)
    lists = some_lists(gaps, k, 4)
    companions = drawn(lists, 8)
    finds, *_ = meet(rows, companions, form, lists)
    expected = set(expected_finds(lists, companions, gaps, form)[0])
    found = set(as_tuples(finds))
    assert found <= expected
    assert len(found) > 0.99 * len(expected) > 100


@pytest.mark.parametrize("trust", [False, True], ids=["canonical", "estimates"])
def test_where_the_room_ends_the_next_call_goes_on(trust: bool) -> None:
    n, cap = sized(300, 120), 4
    rows, form = coded(whole_points(n, 4, 4))
    form = trusted(form) if trust else form
    lists = some_lists(gaps_of(rows, form), 3, 4)
    companions = drawn(lists, cap)
    whole, _, compared = meet(rows, companions, form, lists)
    parts, at, in_parts, calls = [], 0, 0, 0
    while at < n:
        finds, stopped, products = meet(rows, companions, form, lists, at, n, 0)
        assert stopped > at, "no progress"
        parts.append(finds)
        at, in_parts, calls = stopped, in_parts + products, calls + 1
    assert calls > 3
    same(whole, tuple(np.concatenate(column) for column in zip(*parts, strict=True)))
    assert in_parts == compared


@pytest.mark.parametrize("places", [0, 2], ids=["anew", "after leaves"])
@pytest.mark.parametrize("trust", [False, True], ids=["canonical", "estimates"])
@pytest.mark.parametrize("cuts", [(0,), (1,), (31,), (60,), (7, 8, 20, 41), tuple(range(1, 60))])
def test_ranges_of_rows_find_what_the_whole_finds(cuts: tuple[int, ...], trust: bool, places: int) -> None:
    """To the byte and in the same order, however many threads share the rows."""
    n = 60
    rows, form = coded(whole_points(n, 4, 5))
    form = trusted(form) if trust else form
    lists = some_lists(gaps_of(rows, form), 7, 5)
    companions, slots = drawn(lists, 6), stand(n, places, 5, 5)
    whole, _, compared = meet(rows, companions, form, lists, slots=slots)
    assert compared > 5 * AT_ONCE
    ends = [0, *cuts, n]
    parts = [meet(rows, companions, form, lists, first, last, slots=slots) for first, last in pairwise(ends)]
    same(whole, tuple(np.concatenate(column) for column in zip(*(part[0] for part in parts), strict=True)))
    assert [part[1] for part in parts] == ends[1:]
    assert sum(part[2] for part in parts) == compared


@pytest.mark.parametrize("step", [2, 4, 7])
def test_rows_in_turns_find_what_the_whole_finds(step: int) -> None:
    rows, form = coded(whole_points(60, 4, 5))
    lists = some_lists(gaps_of(rows, form), 7, 5)
    companions = drawn(lists, 6)
    whole, _, compared = meet(rows, companions, form, lists)
    turns = [meet(rows, companions, form, lists, turn, step=step) for turn in range(step)]
    assert as_tuples(*(part[0] for part in turns)) == as_tuples(whole)
    assert sum(part[2] for part in turns) == compared
    assert min(part[2] for part in turns) > 0


def test_nobody_to_meet() -> None:
    """A row without fresh companions, or with one companion alone, compares nothing; nor does one with nobody here."""
    rows, form = coded(whole_points(6, 3, 6))
    lists, companions = empty(6, 2), no_companions(6, 3)
    companions.old[0], companions.old_count[0] = [1, 2, 3], 3
    companions.fresh[1, 0], companions.fresh_count[1] = 4, 1
    lists.ids[2], lists.state[2] = [4, 5], OLD
    lists.ids[3], lists.state[3] = [4, 5], BORN
    lists.ids[4], lists.state[4] = [-2, -3], DRAWN
    finds, stopped, compared = meet(rows, companions, form, lists, 0, 6, 0)
    assert [len(part) for part in finds] == [0, 0, 0]
    assert (stopped, compared) == (6, 0)


# --- join after leaves ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("trust", [False, True], ids=["canonical", "estimates"])
@few(25)
@given(
    n=st.integers(10, sized(70, 40)),
    k=st.integers(1, 20),
    places=st.integers(1, 4),
    leaves=st.integers(1, 9),
    data=st.data(),
)
def test_who_met_in_a_leaf_finds_nothing_new(
    name: str, trust: bool, n: int, k: int, places: int, leaves: int, data: st.DataObject
) -> None:
    """Those, and nobody else: not who stands in none; old ones are there or not."""
    seed, states = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([1, 2, 4]))
    rows, form = coded(whole_points(n, 4, seed), name)
    form = trusted(form) if trust else form
    gaps, slots = gaps_of(rows, form), stand(n, places, leaves, seed)
    lists = some_lists(gaps, k, seed, states)
    # All fresh, as after leaves: whole groups that know each other wait for the others.
    lists.state[:] = np.where(states == 1, FRESH, lists.state)
    companions = drawn(lists, 1 + k // 2)
    finds, stopped, compared = meet(rows, companions, form, lists, slots=slots)
    expected, pairs = expected_finds(lists, companions, gaps, form, slots)
    assert as_tuples(finds) == expected
    assert (stopped, compared) == (n, pairs)


def after_leaves(rows: Rows, form: Form, slots: np.ndarray, k: int) -> Lists:
    """Lists of rows that met all other rows of each leaf they stand in."""
    lists, count = empty(len(slots), k), int(slots.max()) + 1
    stock = [np.flatnonzero((slots == leaf).any(axis=1)).astype(np.int32) for leaf in range(count)]
    base = Groups(np.concatenate(stock), np.concatenate([[0], np.cumsum([len(part) for part in stock])]))
    for place in range(slots.shape[1]):
        queries = Groups(*group_rows(np.ascontiguousarray(slots[:, place]), count))
        leaves.join(rows, queries, rows, base, base.rows, form, lists, True, 0, count)
    return lists


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("trust", [False, True], ids=["canonical", "estimates"])
@pytest.mark.parametrize("places", [1, 2, 4])
@pytest.mark.parametrize("k", [3, 12, 20])
def test_after_real_leaves_nothing_is_lost_by_what_is_skipped(name: str, trust: bool, places: int, k: int) -> None:
    """Who met in a leaf is in the list or too far for it: many pairs fewer, the same finds, and the same lists."""
    n = sized(300, 60)
    raw = make_points("plain", np.float32, n, 5, seed=places)
    rows, form = coded(raw, name)
    form = trusted(form) if trust else form
    # Leaves of neighbours, as trees make them: the nearest of some rows.
    nearest = np.argsort(naive.squared(raw, raw[:: n // 12]), axis=1)[:, :places].astype(np.int32)
    nearest[::17] = -1
    lists = after_leaves(rows, form, nearest, k)
    fill(rows.points, form, lists, np.ones(n, bool), SEED, 0, n)
    if trust:
        lists.distances[:] = np.take_along_axis(gaps_of(rows, form), lists.ids.astype(np.int64), axis=1)
        sort_rows(lists, 0, n)
    companions = drawn(lists, 10)
    told, outcomes = [], []
    for slots in (nearest, None):
        finds, _, compared = meet(rows, companions, form, lists, slots=slots)
        mine, cards = copied(lists), cards_of(rows, form, lists)
        apply(finds, form, mine, cards, 0, n)
        # What ties with the last of a list does no harm and may be told of.
        nearer = {entry for entry in as_tuples(finds) if entry[2] < lists.distances[entry[0], -1]}
        told.append((nearer, compared))
        outcomes.append((*mine, cards[:, LIMIT]))
    assert told[0][0] == told[1][0]
    assert told[0][0]
    assert told[0][1] < (sized(9, 10) / 10) * told[1][1]
    same(*outcomes)


# --- apply and settle -----------------------------------------------------------------------------


def test_apply_puts_finds_into_the_lists_whoever_takes_which_rows() -> None:
    """And the limits of the lists onto their cards, of which nothing else changes."""
    n, k = 50, 5
    rows, form = coded(whole_points(n, 4, 7))
    lists = some_lists(gaps_of(rows, form), k, 7)
    companions = drawn(lists, 8)
    before = copied(lists)
    finds, *_ = meet(rows, companions, form, lists)
    parts, cards = copied(lists), cards_of(rows, form, lists, stand(n, 3, 5, 7))
    cards[:, LIMIT + 1 :] = 77
    cards_before, cards_in_parts = cards.copy(), cards.copy()
    apply(finds, form, lists, cards, 0, n)
    for first, last in ((30, n), (0, 13), (13, 30)):
        others = np.delete(np.arange(n), np.arange(first, last))
        untouched = (*(part[others] for part in parts), cards_in_parts[others])
        apply(finds, form, parts, cards_in_parts, first, last)
        same((*(part[others] for part in parts), cards_in_parts[others]), untouched)
    same((*lists, cards), (*parts, cards_in_parts))
    np.testing.assert_array_equal(cards[:, LIMIT], cards_of(rows, form, lists)[:, LIMIT])
    assert (cards != cards_before).any(axis=0).nonzero()[0].tolist() == [LIMIT]
    naive.assert_ordered(lists.ids, lists.distances)
    for row in range(n):
        mine = [(d, i) for t, i, d in zip(*finds, strict=True) if t == row]
        offers = [*naive.entries(before.ids, before.distances, row), *mine]
        assert naive.entries(lists.ids, lists.distances, row) == naive.nearest(offers, k)
        known = dict(zip(before.ids[row].tolist(), before.state[row].tolist(), strict=True))
        states = zip(lists.ids[row].tolist(), lists.state[row].tolist(), strict=True)
        assert all(state == known.get(label, BORN) for label, state in states)


def test_settle_ends_a_pass() -> None:
    lists = random_lists(40, 6, 8)
    before = copied(lists)
    births = settle(lists, 10, 30)
    turned = np.zeros(4, np.uint8)
    turned[[OLD, FRESH, DRAWN, BORN]] = [OLD, FRESH, OLD, FRESH]
    np.testing.assert_array_equal(lists.state[10:30], turned[before.state[10:30]])
    same((lists.state[:10], lists.state[30:]), (before.state[:10], before.state[30:]))
    same(lists[:2], before[:2])
    assert births == (before.state[10:30] == BORN).sum() > 0


# --- all together ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["floats", "floats, trusted", "bytes"])
def test_a_few_passes_find_nearly_all_neighbours(kind: str) -> None:
    n, k, width, cap = sized(2000, 120), 10, 14, sized(10, 8)
    rng = np.random.default_rng(9)
    centres = rng.integers(60, 190, (12, 8))
    raw = (centres[rng.integers(0, 12, n)] + 12 * rng.normal(size=(n, 8))).clip(0, 255)
    rows, form = coded(raw.astype(np.uint8 if kind == "bytes" else np.float32), strict=False)
    if kind == "floats, trusted":
        form = trusted(form)
    assert form.trusted == (kind != "floats")
    lists = empty(n, width)
    fill(rows.points, form, lists, np.ones(n, bool), SEED, 0, n)
    lists.distances[:] = np.take_along_axis(gaps_of(rows, form), lists.ids.astype(np.int64), axis=1)
    sort_rows(lists, 0, n)
    gaps = naive.squared(rows.points, rows.points)
    start = naive.recall(lists.ids, gaps, k)
    passes = 0
    companions, cards = no_companions(n, cap), cards_of(rows, form, lists)
    for number in range(12):
        draw(lists, companions, 0, n, SEED + 1000 * number)
        mark(lists, 0, n)
        at = 0
        while at < n:
            finds, at, _ = join(rows, companions, cards, form, lists, at, n, 1, 20 * n)
            apply(finds, form, lists, cards, 0, n)
        passes += 1
        if settle(lists, 0, n) < 0.001 * n * k:
            break
    assert start < 0.3
    assert naive.recall(lists.ids, gaps, k) > 0.95
    assert 1 < passes < 12, "it should settle"
    naive.assert_ordered(lists.ids, lists.distances)
    assert (lists.ids != np.arange(n)[:, None]).all()
