"""NN-descent: who meets whom, what is found, and that no cut of the work changes or loses any of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.descent import Candidates, apply, draw, join, no_candidates, settle
from distnnd.kernels.merge import fill
from distnnd.kernels.neighbours import BORN, DRAWN, FRESH, OLD, Lists, empty
from distnnd.kernels.rows import Form
from tests import naive
from tests.strategies import JIT_OFF, few, sized

# Seeds of 63 bits, as the stages have them, do not go through int32 arithmetic in plain Python (see the test of it).
SEED = 12345 if JIT_OFF else 2**62 + 12345
DTYPES = [np.float32, np.uint8]


def whole_points(n: int, d: int, seed: int, dtype: type = np.float32) -> np.ndarray:
    """Small whole numbers: every sum and product of them is exact in float32."""
    return np.random.default_rng(seed).integers(0, 12, (n, d)).astype(dtype)


def some_lists(points: np.ndarray, k: int, seed: int, euclidean: bool = True) -> Lists:
    """Random lists with true distances and random states; some have room, some hold what is elsewhere (below -1)."""
    rng = np.random.default_rng(seed)
    n = len(points)
    lists = empty(n, k)
    gaps = naive.surrogates(points, points, euclidean)
    for row in range(n):
        held = rng.choice(np.delete(np.arange(n), row), min(k, n - 1) - (row % 5 == 0), replace=False)
        entries = sorted((gaps[row, label], int(label), int(rng.integers(0, 4))) for label in held)
        if row % 7 == 1:
            entries[0] = (entries[0][0], -2, OLD)
        for slot, (gap, label, state) in enumerate(entries):
            lists.ids[row, slot], lists.distances[row, slot], lists.state[row, slot] = label, gap, state
    return lists


def copied(lists: Lists) -> Lists:
    return Lists(*(part.copy() for part in lists))


def same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def as_lists(candidates: Candidates) -> tuple[list[list[int]], list[list[int]]]:
    fresh = [row[:count].tolist() for row, count in zip(candidates.fresh, candidates.fresh_count, strict=True)]
    old = [row[:count].tolist() for row, count in zip(candidates.old, candidates.old_count, strict=True)]
    return fresh, old


# --- draw -----------------------------------------------------------------------------------------


@few(40)
@given(n=st.integers(8, 60), k=st.integers(2, 7), cap=st.integers(1, 12), seed=st.integers(0, 999))
def test_companions_are_neighbours_from_either_end(n: int, k: int, cap: int, seed: int) -> None:
    lists = some_lists(whole_points(n, 3, seed), k, seed)
    before, candidates = copied(lists), no_candidates(n, cap)
    draw(lists, candidates, 0, 0, n, SEED + seed)
    fresh, old = as_lists(candidates)
    wanted_fresh = naive.companions(before.ids, before.state, (FRESH, DRAWN))
    wanted_old = naive.companions(before.ids, before.state, (OLD,))
    # Old companions are only compared with fresh ones: who has none of those is given none.
    wanted_old = [theirs if news else set() for theirs, news in zip(wanted_old, wanted_fresh, strict=True)]
    for drawn, wanted in ((fresh, wanted_fresh), (old, wanted_old)):
        for mine, all_of_mine in zip(drawn, wanted, strict=True):
            assert len(set(mine)) == len(mine) <= cap
            assert set(mine) <= all_of_mine
            # Whoever fits is there; an offer that was dropped leaves a full reservoir behind.
            assert len(mine) == min(cap, len(all_of_mine))


@few(20)
@given(n=st.integers(8, 60), cap=st.integers(1, 8), seed=st.integers(0, 999))
def test_drawn_entries_are_marked_and_nothing_else_changes(n: int, cap: int, seed: int) -> None:
    lists = some_lists(whole_points(n, 3, seed), 5, seed)
    before, candidates = copied(lists), no_candidates(n, cap)
    draw(lists, candidates, 0, 0, n, SEED)
    fresh, _ = as_lists(candidates)
    marked = np.array([[label in fresh[row] for label in lists.ids[row]] for row in range(n)])
    expected = np.where((before.state == FRESH) & marked, DRAWN, before.state)
    np.testing.assert_array_equal(lists.state, expected)
    same((lists.ids, lists.distances), (before.ids, before.distances))


def test_ranges_and_blocks_draw_what_the_whole_draws() -> None:
    """The reservoir of a row depends on its offers alone, so threads and blocks may divide the rows as they like."""
    n, cap = sized(200, 60), 4
    lists = some_lists(whole_points(n, 3, 1), 6, 1)
    whole_lists, whole = copied(lists), no_candidates(n, cap)
    draw(whole_lists, whole, 0, 0, n, SEED)
    for origin, first, last in ((0, 0, n // 3), (n // 3, n // 3, n // 2), (n // 3, n // 2, n)):
        candidates = no_candidates(last - origin, cap)
        part_lists = copied(lists)
        draw(part_lists, candidates, origin, first, last, SEED)
        fresh, old = as_lists(candidates)
        assert fresh[first - origin :] == as_lists(whole)[0][first:last]
        assert old[first - origin :] == as_lists(whole)[1][first:last]
        np.testing.assert_array_equal(part_lists.state[first:last], whole_lists.state[first:last])


def test_every_offer_has_an_equal_chance() -> None:
    """A hub that many hold: which of them it meets must not depend on where they come in the order."""
    n, cap, seeds = 61, 10, sized(600, 60)
    lists = empty(n, 1)
    lists.ids[1:], lists.distances[1:], lists.state[1:] = 0, 1, FRESH
    drawn = np.zeros(n, np.int64)
    for seed in range(seeds):
        candidates = no_candidates(n, cap)
        draw(copied(lists), candidates, 0, 0, n, 1000 * seed)
        drawn[as_lists(candidates)[0][0]] += 1
    expected = seeds * cap / (n - 1)
    assert drawn[0] == 0
    assert drawn.sum() == seeds * cap
    assert abs(drawn[1:] - expected).max() < 5 * np.sqrt(expected)
    for half in (slice(1, 31), slice(31, 61)):
        assert drawn[half].mean() == pytest.approx(expected, rel=0.2 if JIT_OFF else 0.06)


def test_two_hubs_choose_independently() -> None:
    n, cap = 62, 10
    lists = empty(n, 2)
    lists.ids[2:], lists.distances[2:], lists.state[2:] = [0, 1], 1, FRESH
    shared = []
    for seed in range(20):
        candidates = no_candidates(n, cap)
        draw(copied(lists), candidates, 0, 0, n, 1000 * seed)
        one, other = as_lists(candidates)[0][:2]
        shared.append(len(set(one) & set(other)))
    # By chance ten of sixty share 1.7 with another ten of them.
    assert np.mean(shared) < 4


def test_seeds_have_63_bits() -> None:
    n = 30
    lists = some_lists(whole_points(n, 3, 1), 6, 1)
    candidates = no_candidates(n, 2)
    draw(copied(lists), candidates, 0, 0, n, 2**62 + 12345)
    assert candidates.fresh_count.max() == 2


# --- join -----------------------------------------------------------------------------------------


def found_by(found: tuple[np.ndarray, ...]) -> list[tuple[int, int, float]]:
    targets, labels, distances = found[:3]
    return sorted(zip(targets.tolist(), labels.tolist(), distances.tolist(), strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("euclidean", [True, False], ids=["euclidean", "inner"])
@pytest.mark.parametrize("cap", [3, 10, 20])
def test_join_finds_what_the_naive_local_join_finds(dtype: type, euclidean: bool, cap: int) -> None:
    n = sized(80, 40)
    points = whole_points(n, 5, cap, dtype)
    lists = some_lists(points, 6, cap, euclidean)
    candidates = no_candidates(n, cap)
    draw(lists, candidates, 0, 0, n, SEED)
    before = copied(lists)
    form = Form(euclidean, np.float32(2 if euclidean else 1), 5)
    *found, stopped, compared = join(points, candidates, 0, form, lists, 0, n, 10**6)
    expected, products = naive.local_join(points, *as_lists(candidates), euclidean, lists.ids, lists.distances)
    assert len(expected) > n // 2
    assert found_by(tuple(found)) == sorted(expected)
    assert stopped == n
    assert compared in products
    same(lists, before)


def test_columns_beyond_the_form_do_not_count() -> None:
    points = whole_points(40, 6, 2)
    lists = some_lists(points[:, :5], 6, 2, euclidean=False)
    candidates = no_candidates(40, 8)
    draw(lists, candidates, 0, 0, 40, SEED)
    found = join(points, candidates, 0, Form(False, np.float32(1), 5), lists, 0, 40, 10**6)
    expected, _ = naive.local_join(points[:, :5], *as_lists(candidates), False, lists.ids, lists.distances)
    assert found_by(found) == sorted(expected)


def test_far_from_the_origin_the_same_is_found() -> None:
    points = whole_points(60, 4, 3) + np.float32(1e6)
    lists = some_lists(points, 6, 3)
    candidates = no_candidates(60, 8)
    draw(lists, candidates, 0, 0, 60, SEED)
    found = join(points, candidates, 0, Form(True, np.float32(2), 4), lists, 0, 60, 10**6)
    expected, _ = naive.local_join(points, *as_lists(candidates), True, lists.ids, lists.distances)
    assert found_by(found) == sorted(expected)


def test_where_the_room_ends_the_next_call_goes_on() -> None:
    n, cap = sized(150, 60), 6
    points = whole_points(n, 4, 4)
    lists = some_lists(points, 5, 4)
    candidates = no_candidates(n, cap)
    draw(lists, candidates, 0, 0, n, SEED)
    form = Form(True, np.float32(2), 4)
    *whole, _, compared = join(points, candidates, 0, form, lists, 0, n, 10**6)
    parts, at, in_parts, calls = [], 0, 0, 0
    while at < n:
        *found, stopped, products = join(points, candidates, 0, form, lists, at, n, 0)
        assert stopped > at, "no progress"
        parts.append(found)
        at, in_parts, calls = stopped, in_parts + products, calls + 1
    assert calls > 3
    same(tuple(whole), tuple(np.concatenate([part[i] for part in parts]) for i in range(3)))
    assert in_parts == compared


def test_a_block_of_candidates_may_begin_anywhere() -> None:
    n, origin = 60, 25
    points = whole_points(n, 4, 5)
    lists = some_lists(points, 5, 5)
    whole, block = no_candidates(n, 6), no_candidates(n - origin, 6)
    draw(copied(lists), whole, 0, 0, n, SEED)
    draw(copied(lists), block, origin, origin, n, SEED)
    form = Form(True, np.float32(2), 4)
    one = join(points, whole, 0, form, lists, origin, n, 10**6)
    other = join(points, block, origin, form, lists, origin, n, 10**6)
    assert found_by(one)
    same(one[:3], other[:3])


def test_nobody_to_meet() -> None:
    """A row without fresh companions, or with one companion alone, compares nothing."""
    points = whole_points(6, 3, 6)
    candidates = no_candidates(6, 3)
    candidates.old[0], candidates.old_count[0] = [1, 2, 3], 3
    candidates.fresh[1, 0], candidates.fresh_count[1] = 4, 1
    *found, stopped, compared = join(points, candidates, 0, Form(True, np.float32(2), 3), empty(6, 2), 0, 6, 0)
    assert [len(part) for part in found] == [0, 0, 0]
    assert (stopped, compared) == (6, 0)


# --- apply and settle -----------------------------------------------------------------------------


def test_apply_puts_finds_into_the_lists_whoever_takes_which_rows() -> None:
    n, k = 50, 5
    points = whole_points(n, 4, 7)
    lists = some_lists(points, k, 7)
    candidates = no_candidates(n, 8)
    draw(lists, candidates, 0, 0, n, SEED)
    before = copied(lists)
    targets, labels, distances, *_ = join(points, candidates, 0, Form(True, np.float32(2), 4), lists, 0, n, 10**6)
    parts = copied(lists)
    apply(targets, labels, distances, lists, 0, n)
    for first, last in ((30, n), (0, 13), (13, 30)):
        others = np.delete(np.arange(n), np.arange(first, last))
        untouched = parts.ids[others]
        apply(targets, labels, distances, parts, first, last)
        np.testing.assert_array_equal(parts.ids[others], untouched)
    same(lists, parts)
    naive.assert_ordered(lists.ids, lists.distances)
    for row in range(n):
        mine = [(d, i) for t, i, d in zip(targets, labels, distances, strict=True) if t == row]
        offers = [*naive.entries(before.ids, before.distances, row), *mine]
        assert naive.entries(lists.ids, lists.distances, row) == naive.nearest(offers, k)
        known = dict(zip(before.ids[row].tolist(), before.state[row].tolist(), strict=True))
        states = zip(lists.ids[row].tolist(), lists.state[row].tolist(), strict=True)
        assert all(state == known.get(label, BORN) for label, state in states)


def test_settle_ends_a_pass() -> None:
    lists = some_lists(whole_points(40, 3, 8), 6, 8)
    before = copied(lists)
    births = settle(lists, 10, 30)
    turned = np.zeros(4, np.uint8)
    turned[[OLD, FRESH, DRAWN, BORN]] = [OLD, FRESH, OLD, FRESH]
    np.testing.assert_array_equal(lists.state[10:30], turned[before.state[10:30]])
    same((lists.state[:10], lists.state[30:]), (before.state[:10], before.state[30:]))
    same(lists[:2], before[:2])
    assert births == (before.state[10:30] == BORN).sum() > 0


# --- all together ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_few_passes_find_nearly_all_neighbours(dtype: type) -> None:
    n, k, width, cap = sized(2000, 120), 10, 14, sized(20, 12)
    rng = np.random.default_rng(9)
    centres = rng.integers(60, 190, (12, 8))
    points = (centres[rng.integers(0, 12, n)] + 12 * rng.normal(size=(n, 8))).clip(0, 255).astype(dtype)
    form = Form(True, np.float32(2), 8)
    lists = empty(n, width)
    fill(points, form, lists, np.ones(n, bool), SEED, 0, n)
    gaps = naive.squared(points, points)
    start = naive.recall(lists.ids, gaps, k)
    passes = 0
    for number in range(12):
        candidates = no_candidates(n, cap)
        draw(lists, candidates, 0, 0, n, SEED + 1000 * number)
        at = 0
        while at < n:
            *found, at, _ = join(points, candidates, 0, form, lists, at, n, 20 * n)
            apply(*found, lists, 0, n)
        passes += 1
        if settle(lists, 0, n) < 0.001 * n * k:
            break
    assert start < 0.3
    assert naive.recall(lists.ids, gaps, k) > 0.95
    assert 1 < passes < 12, "it should settle"
    naive.assert_ordered(lists.ids, lists.distances)
    assert (lists.ids != np.arange(n)[:, None]).all()
