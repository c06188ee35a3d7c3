"""NN-descent: who meets whom, what is found, and that no cut of the work changes or loses any of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from distnnd.kernels.codes import EVERYTHING, Rows, coder_of, encode, form_of, trusted
from distnnd.kernels.descent import (
    Companions,
    Finds,
    apply,
    draw,
    gather_companions,
    join,
    limits_of,
    mark,
    no_companions,
    settle,
)
from distnnd.kernels.merge import fill
from distnnd.kernels.neighbours import BORN, DRAWN, FRESH, OLD, Lists, empty, sort_rows
from distnnd.kernels.rows import Form, prepare, prepared_width, rescore
from distnnd.values.metric import METRICS
from tests import naive
from tests.strategies import JIT_OFF, few, make_points, points, sized

SEED = 2**62 + 12345
DTYPES = [np.float32, np.uint8]
METRIC_NAMES = ["sqeuclidean", "inner_product"]
# What draw() takes for fresh.
NEW = (FRESH, DRAWN, BORN)


def whole_points(n: int, d: int, seed: int, dtype: type = np.float32) -> np.ndarray:
    """Small whole numbers: every sum and product of them is exact in float32."""
    return np.random.default_rng(seed).integers(0, 12, (n, d)).astype(dtype)


def coded(raw: np.ndarray, name: str = "sqeuclidean", strict: bool = True) -> tuple[Rows, Form]:
    """The rows with their codes, and a form to compare them."""
    metric = METRICS[name]
    radius = float(np.linalg.norm(raw.astype(np.float64), axis=1).max())
    ready = prepare(raw, metric, prepared_width(metric, raw.dtype, raw.shape[1], False), radius)
    coder = coder_of(ready, metric)
    rows = encode(ready, coder)
    return rows, form_of(metric, rows, coder, strict)


def gaps_of(rows: Rows, form: Form) -> np.ndarray:
    """What a find is worth, of all pairs: the canonical surrogate, or the estimate where the form trusts it."""
    if form.trusted:
        return form.unit * naive.estimates(rows.values, rows.values, form.euclidean, form.columns).astype(np.float32)
    n = len(rows.points)
    lists = Lists(np.tile(np.arange(n, dtype=np.int32), (n, 1)), np.empty((n, n), np.float32), empty(n, n).state)
    rescore(rows.points, rows.points, form, lists, 0, n)
    return lists.distances


def some_lists(gaps: np.ndarray, k: int, seed: int, states: int = 4) -> Lists:
    """Random lists with true distances and random states; some have room, some hold what is elsewhere (below -1)."""
    rng = np.random.default_rng(seed)
    n = len(gaps)
    lists = empty(n, k)
    for row in range(n):
        held = rng.choice(np.delete(np.arange(n), row), min(k, n - 1) - (row % 5 == 0), replace=False)
        entries = sorted((gaps[row, label], int(label), int(rng.integers(0, states))) for label in held)
        for slot, (gap, label, state) in enumerate(entries):
            # As localise() writes it: -2 and less, for the place in the list that a row came with.
            label = -2 - slot if row % 7 == 1 and slot % 3 == 0 else label
            lists.ids[row, slot], lists.distances[row, slot], lists.state[row, slot] = label, gap, state
    sort_rows(lists, 0, n)
    return lists


def random_lists(n: int, k: int, seed: int) -> Lists:
    """Lists of which only the ids and states matter."""
    return some_lists(np.random.default_rng(seed).random((n, n)).astype(np.float32), k, seed)


def copied(lists: Lists) -> Lists:
    return Lists(*(part.copy() for part in lists))


def same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def drawn_of(companions: Companions) -> tuple[list[list[int]], list[list[int]]]:
    """The rows that were drawn for each row, through fresh entries and through old ones."""
    cap = companions.fresh.shape[1]
    fresh = [row[: min(seen, cap)].tolist() for row, seen in zip(companions.fresh, companions.fresh_count, strict=True)]
    old = [row[: min(seen, cap)].tolist() for row, seen in zip(companions.old, companions.old_count, strict=True)]
    return fresh, old


def drawn(lists: Lists, cap: int, seed: int = SEED) -> Companions:
    """Companions of all rows; what was fresh in the lists is marked as drawn."""
    n = len(lists.ids)
    companions = no_companions(n, cap)
    draw(lists, companions, 0, n, seed)
    mark(lists, 0, n)
    return companions


def expected_finds(lists: Lists, companions: Companions, gaps: np.ndarray) -> tuple[list[tuple], range]:
    """What the naive local join finds among the companions of all rows, and how many products that may take."""
    fresh, old = drawn_of(companions)
    fresh = naive.companions(lists.ids, lists.state, (DRAWN,), fresh)
    old = naive.companions(lists.ids, lists.state, (OLD,), old)
    found, products = naive.local_join(gaps, fresh, old, lists.ids, lists.distances)
    return sorted(found), products


def limits_now(form: Form, lists: Lists) -> np.ndarray:
    """The largest estimates that may enter the lists as they stand."""
    limits = np.empty(len(lists.ids), np.int32)
    limits_of(form, lists, limits)
    return limits


def meet(
    rows: Rows, companions: Companions, form: Form, lists: Lists, first: int = 0, last: int = -1, room: int = 10**6
) -> tuple[Finds, int, int]:
    """What join() says of the rows first .. last, mostly of all, when the lists are as they are."""
    last = last if last >= 0 else len(lists.ids)
    return join(rows, companions, limits_now(form, lists), form, lists, first, last, room)


def as_tuples(*finds: Finds) -> list[tuple[int, int, float]]:
    return sorted(entry for part in finds for entry in zip(*(column.tolist() for column in part), strict=True))


# --- draw and mark --------------------------------------------------------------------------------


@few(60)
@given(n=st.integers(8, 60), k=st.integers(1, 40), cap=st.integers(1, 12), seed=st.integers(0, 999))
def test_companions_are_drawn_from_those_that_hold_a_row_without_being_held(
    n: int, k: int, cap: int, seed: int
) -> None:
    """Whom a row holds it meets anyway; whoever else holds it is there, or has left a full reservoir behind."""
    lists = random_lists(n, k, seed)
    before, companions = copied(lists), no_companions(n, cap)
    draw(lists, companions, 0, n, SEED + seed)
    same(lists, before)
    counts = (companions.fresh_count, companions.old_count)
    for drawn_rows, seen, states in zip(drawn_of(companions), counts, (NEW, (OLD,)), strict=True):
        for mine, count, wanted in zip(drawn_rows, seen, naive.holders(lists.ids, lists.state, states), strict=True):
            assert count == len(wanted)
            assert len(set(mine)) == len(mine) == min(cap, len(wanted))
            assert set(mine) <= wanted


def test_nobody_is_drawn_twice_over_passes() -> None:
    """A pass begins anew: what an earlier one drew is forgotten."""
    lists = random_lists(40, 5, 1)
    companions, anew = no_companions(40, 4), no_companions(40, 4)
    for seed in (SEED, SEED + 1):
        draw(lists, companions, 0, 40, seed)
    draw(lists, anew, 0, 40, SEED + 1)
    assert drawn_of(companions) == drawn_of(anew)


@pytest.mark.parametrize("cuts", [(0, 1), (20, 21, 50), (59,)])
def test_ranges_draw_what_the_whole_draws(cuts: tuple[int, ...]) -> None:
    """The reservoir of a row depends on its offers alone, so threads may divide the rows as they like."""
    n, cap = 60, 4
    lists = random_lists(n, 6, 1)
    whole, parts = no_companions(n, cap), no_companions(n, cap)
    draw(lists, whole, 0, n, SEED)
    assert whole.fresh_count.max() > cap
    for first, last in reversed(list(pairwise([0, *cuts, n]))):
        others = np.delete(np.arange(n), np.arange(first, last))
        before = [part[others].copy() for part in parts]
        draw(lists, parts, first, last, SEED)
        same(tuple(part[others] for part in parts), tuple(before))
    assert drawn_of(parts) == drawn_of(whole)
    same(parts[2:], whole[2:])


@pytest.mark.parametrize("state", [FRESH, OLD])
def test_every_offer_has_an_equal_chance(state: int) -> None:
    """A hub that many hold: which of them it meets must not depend on where they come in the order."""
    n, cap, seeds = 61, 10, sized(3000, 60)
    lists = empty(n, 1)
    lists.ids[1:], lists.distances[1:], lists.state[1:] = 0, 1, state
    chosen = np.zeros(n, np.int64)
    companions = no_companions(n, cap)
    for seed in range(seeds):
        draw(lists, companions, 0, n, 1000 * seed)
        mine, nobody = (rows[0] for rows in drawn_of(companions)[:: 1 if state == FRESH else -1])
        assert nobody == []
        chosen[mine] += 1
    expected = seeds * cap / (n - 1)
    assert chosen[0] == 0
    assert chosen.sum() == seeds * cap
    assert abs(chosen[1:] - expected).max() < 5 * np.sqrt(expected)
    # The first `cap` come in without a draw: one number too few to draw from, and they leave a tenth too often.
    for some in (slice(1, 1 + cap), slice(1, 31), slice(31, 61)):
        assert chosen[some].mean() == pytest.approx(expected, rel=0.2 if JIT_OFF else 0.04)


def test_two_hubs_choose_independently() -> None:
    n, cap = 62, 10
    lists = empty(n, 2)
    lists.ids[2:], lists.distances[2:], lists.state[2:] = [0, 1], 1, FRESH
    shared = []
    for seed in range(20):
        companions = no_companions(n, cap)
        draw(lists, companions, 0, n, 1000 * seed)
        one, other = drawn_of(companions)[0][:2]
        shared.append(len(set(one) & set(other)))
    # By chance ten of sixty share 1.7 with another ten of them.
    assert np.mean(shared) < 4


def test_another_seed_draws_others() -> None:
    """Seeds have 63 bits, and the lowest of them count too."""
    lists = random_lists(40, 8, 2)
    one, again, other = (drawn_of(drawn(copied(lists), 2, seed)) for seed in (SEED, SEED, SEED + 1))
    assert one == again != other


def test_mark_turns_what_is_fresh_and_nothing_else() -> None:
    lists = random_lists(40, 6, 3)
    before = copied(lists)
    mark(lists, 10, 30)
    expected = before.state.copy()
    expected[10:30] = np.where(before.state[10:30] == FRESH, DRAWN, before.state[10:30])
    assert (expected != before.state).any()
    same(lists, before._replace(state=expected))


# --- gather_companions ----------------------------------------------------------------------------


@njit
def gathered(lists, companions, row, members):
    """The companions of a row as join() gathers them."""
    return gather_companions(lists, companions, row, members)


@few(60)
@given(n=st.integers(8, 60), k=st.integers(1, 40), cap=st.integers(1, 12), seed=st.integers(0, 999))
def test_companions_are_own_entries_and_drawn_rows(n: int, k: int, cap: int, seed: int) -> None:
    """Fresh ones first, nobody twice, padded to a multiple of sixteen; nobody at all where none is fresh.

    Neither what was found since the drawing nor what is elsewhere is a companion.
    """
    lists = random_lists(n, k, seed)
    lists.state[::4] = np.where(lists.state[::4] == FRESH, OLD, lists.state[::4])
    companions = drawn(lists, cap, SEED + seed)
    own = [naive.companions(lists.ids, lists.state, states, [[]] * n) for states in ((DRAWN,), (OLD,))]
    members = np.empty(2 * (k + cap) + 16, np.int32)
    for row in range(n):
        members[:] = -7
        fresh, old = (mine[row] + others[row] for mine, others in zip(own, drawn_of(companions), strict=True))
        expected = [*fresh, *old] if fresh else []
        news, count = gathered(lists, companions, row, members)
        assert members[:count].tolist() == expected
        assert (news, count) == (len(fresh), len(expected))
        assert min(expected, default=0) >= 0
        assert len(set(expected)) == len(expected)
        padded = -(-count // 16) * 16
        assert (members[count:padded] == (expected or [0])[-1]).all()
        assert (members[padded:] == -7).all()


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
    apply(finds, form, lists, limits_now(form, lists), 0, n)
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
    expected, products = expected_finds(lists, companions, gaps)
    assert len(expected) > n // 2
    assert as_tuples(finds) == expected
    assert stopped == n
    assert compared in products
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
    expected, products = expected_finds(lists, companions, gaps)
    assert as_tuples(finds) == expected
    assert compared in products


def test_the_last_column_of_inner_products_does_not_count() -> None:
    raw = whole_points(40, 6, 2)
    rows, form = coded(raw, "inner_product")
    other = raw.copy()
    ready = prepare(other, METRICS["inner_product"], 7, 1e3)
    ready[:, -1] = np.random.default_rng(2).normal(size=40) * 50
    coder = coder_of(ready, METRICS["inner_product"])
    moved = encode(ready, coder)
    lists = some_lists(naive.surrogates(raw, raw, False), 6, 2)
    companions = drawn(lists, 8)
    one, *_ = meet(rows, companions, form, lists)
    moved_form = form_of(METRICS["inner_product"], moved, coder, strict=True)
    two, *_ = meet(moved, companions, moved_form, lists)
    assert as_tuples(one) == as_tuples(two) == expected_finds(lists, companions, naive.surrogates(raw, raw, False))[0]
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
    expected, _ = expected_finds(lists, companions, naive.squared(raw, raw))
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
    expected = set(expected_finds(lists, companions, gaps)[0])
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


@pytest.mark.parametrize("cut", [0, 1, 31, 60])
def test_ranges_of_rows_find_what_the_whole_finds(cut: int) -> None:
    n = 60
    rows, form = coded(whole_points(n, 4, 5))
    lists = some_lists(gaps_of(rows, form), 5, 5)
    companions = drawn(lists, 6)
    whole, _, compared = meet(rows, companions, form, lists)
    one, other = (meet(rows, companions, form, lists, *ends) for ends in ((0, cut), (cut, n)))
    same(whole, tuple(np.concatenate(pair) for pair in zip(one[0], other[0], strict=True)))
    assert (one[1], other[1]) == (cut, n)
    assert one[2] + other[2] == compared


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


@pytest.mark.parametrize("trust", [False, True], ids=["canonical", "estimates"])
def test_limits_let_in_what_lists_would_keep(trust: bool) -> None:
    """A full list keeps no estimate beyond its limit, though what it holds is within; one with room takes anything."""
    n = 60
    rows, form = coded(make_points("plain", np.float32, n, 6, seed=10))
    form = trusted(form) if trust else form
    gaps, lists = gaps_of(rows, form), empty(n, 5)
    for row in range(n):
        lists.ids[row] = np.argsort(gaps[row])[1:6]
        lists.distances[row] = gaps[row, lists.ids[row]]
    lists.ids[:7, 4], lists.distances[:7, 4] = -1, np.inf
    limits = limits_now(form, lists)
    assert (limits[:7] == EVERYTHING).all()
    limits, estimates = limits[7:], naive.estimates(rows.values[7:], rows.values, True, 6)
    held = np.take_along_axis(estimates, lists.ids[7:].astype(np.int64), axis=1)
    assert (held.max(axis=1) <= limits).all()
    if trust:
        np.testing.assert_array_equal(held[:, 4], limits)
    assert (estimates > limits[:, None]).mean() > 0.5


# --- apply and settle -----------------------------------------------------------------------------


def test_apply_puts_finds_into_the_lists_whoever_takes_which_rows() -> None:
    n, k = 50, 5
    rows, form = coded(whole_points(n, 4, 7))
    lists = some_lists(gaps_of(rows, form), k, 7)
    companions = drawn(lists, 8)
    before = copied(lists)
    finds, *_ = meet(rows, companions, form, lists)
    parts, limits, limits_in_parts = copied(lists), limits_now(form, lists), limits_now(form, lists)
    apply(finds, form, lists, limits, 0, n)
    for first, last in ((30, n), (0, 13), (13, 30)):
        others = np.delete(np.arange(n), np.arange(first, last))
        untouched = (*(part[others] for part in parts), limits_in_parts[others])
        apply(finds, form, parts, limits_in_parts, first, last)
        same((*(part[others] for part in parts), limits_in_parts[others]), untouched)
    same((*lists, limits), (*parts, limits_in_parts))
    np.testing.assert_array_equal(limits, limits_now(form, lists))
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
    companions, limits = no_companions(n, cap), limits_now(form, lists)
    for number in range(12):
        draw(lists, companions, 0, n, SEED + 1000 * number)
        mark(lists, 0, n)
        at = 0
        while at < n:
            finds, at, _ = join(rows, companions, limits, form, lists, at, n, 20 * n)
            apply(finds, form, lists, limits, 0, n)
        passes += 1
        if settle(lists, 0, n) < 0.001 * n * k:
            break
    assert start < 0.3
    assert naive.recall(lists.ids, gaps, k) > 0.95
    assert 1 < passes < 12, "it should settle"
    naive.assert_ordered(lists.ids, lists.distances)
    assert (lists.ids != np.arange(n)[:, None]).all()
