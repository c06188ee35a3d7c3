"""NN-descent, whom a row meets: who is drawn among its holders, who is gathered, and what their cards say of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from distnnd.kernels import companions as drawing
from distnnd.kernels import descent
from distnnd.kernels.codes import EVERYTHING, OFFSET, coded_form, coder_of, encode, trusted
from distnnd.kernels.companions import draw, mark, no_companions
from distnnd.kernels.descent import (
    CARD,
    LIMIT,
    SQUARE,
    START,
    Meeting,
    fill_cards,
    new_cards,
    room_for_meeting,
)
from distnnd.kernels.neighbours import BORN, DRAWN, FRESH, OLD, Lists, empty
from distnnd.kernels.sieve import LEAVES
from distnnd.values.memory import DRAWN_AT_ONCE, HOLDERS
from distnnd.values.metric import METRICS
from tests import naive
from tests.kernels.walks import (
    METRIC_NAMES,
    SEED,
    cards_of,
    coded,
    copied,
    drawn,
    drawn_of,
    gaps_of,
    random_lists,
    same,
    stand,
    whole_points,
)
from tests.strategies import JIT_OFF, few, make_points, sized

# What draw() takes for fresh.
NEW = (FRESH, DRAWN, BORN)


def degrees(lists: Lists) -> np.ndarray:
    """How many lists hold each row."""
    return np.bincount(lists.ids[lists.ids >= 0], minlength=len(lists.ids))


def scattered_lists(n: int, k: int, seed: int) -> Lists:
    """Lists of many rows, some of which are held by very many; some entries are elsewhere, some places free."""
    rng = np.random.default_rng(seed)
    # The first row of each stretch is a hub; a step that differs from slot to slot keeps a list from naming one twice.
    hubs = (np.arange(n) // 700 * 700)[:, None]
    ids = (np.arange(n)[:, None] + np.cumsum(rng.integers(1, 400, (n, k)), axis=1)) % n
    ids[:, :1] = np.where(hubs == np.arange(n)[:, None], ids[:, :1], hubs)
    ids[:, 1:][ids[:, 1:] == ids[:, :1]] = -3
    ids[rng.random((n, k)) < 0.05] = -2
    ids[::13, -1] = -1
    return Lists(ids.astype(np.int32), np.ones((n, k), np.float32), rng.integers(0, 4, (n, k)).astype(np.uint8))


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
    some = degrees(lists) > HOLDERS
    counts = (companions.fresh_count, companions.old_count)
    wanted_of = [naive.holders(lists.ids, lists.state, states) for states in (NEW, (OLD,))]
    for drawn_rows, seen, around in zip(drawn_of(companions), counts, wanted_of, strict=True):
        for row, (mine, count, wanted) in enumerate(zip(drawn_rows, seen, around, strict=True)):
            assert count <= min(len(wanted), HOLDERS) if some[row] else count == len(wanted)
            assert len(set(mine)) == len(mine) == min(cap, count)
            assert set(mine) <= wanted
    # Of very many holders so many are looked at, of which it may hold some itself.
    everyone = np.array([len(fresh | old) for fresh, old in zip(*wanted_of, strict=True)])
    least = HOLDERS - (degrees(lists) - everyone)
    assert (sum(counts)[some] >= least[some]).all()


def test_few_holders_are_all_drawn_and_many_are_chosen_among() -> None:
    """With room for all, whoever holds a row is there up to HOLDERS of them; more than one batch of lists and rows."""
    n, k = sized(DRAWN_AT_ONCE + 3001, 1500), 3
    lists = scattered_lists(n, k, 1)
    companions = no_companions(n, HOLDERS + 3)
    draw(lists, companions, 0, n, SEED)
    degree = degrees(lists)
    fresh, old = drawn_of(companions)
    true = [naive.holders(lists.ids, lists.state, states) for states in (NEW, (OLD,))]
    for row in range(n):
        if degree[row] <= HOLDERS:
            assert (set(fresh[row]), set(old[row])) == (true[0][row], true[1][row])
        else:
            assert set(fresh[row]) <= true[0][row]
            assert set(old[row]) <= true[1][row]
        assert len(set(fresh[row] + old[row])) == len(fresh[row] + old[row])
    hubs = np.flatnonzero(degree > 2 * HOLDERS)
    assert len(hubs) > 1
    assert all(len(fresh[row] + old[row]) > HOLDERS - 4 for row in hubs)


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
    """The reservoirs of a row depend on its offers alone, so threads may divide the rows as they like."""
    n, cap = 60, 4
    lists = random_lists(n, 8, 1)
    # A hub at each end of a cut: both of its reservoirs overflow.
    for hub in (0, 20, 21, 50, 59):
        for row in range(n):
            if row != hub and hub not in lists.ids[row]:
                lists.ids[row, hub % 7] = hub
    assert degrees(lists).max() > HOLDERS + 10
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


def test_batches_of_rows_draw_what_the_whole_draws() -> None:
    """However the ends of ranges fall among the rows that are drawn for at once."""
    n = sized(DRAWN_AT_ONCE + 3001, 1500)
    lists = scattered_lists(n, 3, 2)
    whole = no_companions(n, 5)
    draw(lists, whole, 0, n, SEED)
    for cuts in ([701], [5, 1400], [n // 2, n - DRAWN_AT_ONCE, n - 1]):
        parts = no_companions(n, 5)
        for first, last in pairwise(sorted({0, *(max(cut, 0) for cut in cuts), n})):
            draw(lists, parts, first, last, SEED)
        assert drawn_of(parts) == drawn_of(whole)
        same(parts[2:], whole[2:])


def test_strips_of_lists_bear_the_ranges_that_they_name() -> None:
    rng, strip = np.random.default_rng(3), 32
    # More ranges than bits: the last ones share theirs with the first.
    ids = rng.integers(0, 70 * DRAWN_AT_ONCE, (95, 3)).astype(np.int32)
    ids[strip : 2 * strip] = 5
    named = drawing.ranges_named(ids, strip)
    ranges = [set((part // DRAWN_AT_ONCE % 64).ravel().tolist()) for part in (ids[:32], ids[32:64], ids[64:])]
    assert [{bit for bit in range(64) if int(bits) >> bit & 1} for bits in named] == ranges
    assert ranges[1] == {0}


@pytest.mark.parametrize("state", [FRESH, OLD])
@pytest.mark.parametrize("cap", [10, HOLDERS + 8])
def test_every_offer_has_an_equal_chance(cap: int, state: int) -> None:
    """A hub that many hold: which of them it meets must not depend on where they come in the order.

    Neither among those that are looked at nor, where there is room for all of these, among those that are drawn.
    """
    n, seeds = 61, sized(3000, 60)
    lists = empty(n, 1)
    lists.ids[1:], lists.distances[1:], lists.state[1:] = 0, 1, state
    chosen = np.zeros(n, np.int64)
    companions = no_companions(n, cap)
    for seed in range(seeds):
        draw(lists, companions, 0, n, 1000 * seed)
        mine, nobody = (rows[0] for rows in drawn_of(companions)[:: 1 if state == FRESH else -1])
        assert nobody == []
        chosen[mine] += 1
    expected = seeds * min(cap, HOLDERS) / (n - 1)
    assert chosen[0] == 0
    assert chosen.sum() == seeds * min(cap, HOLDERS)
    assert abs(chosen[1:] - expected).max() < 5 * np.sqrt(expected)
    # The first `cap` come in without a draw: one number too few to draw from, and they leave a tenth too often.
    for some in (slice(1, 1 + cap), slice(1, 1 + HOLDERS), slice(1, 31), slice(31, 61)):
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
    return drawing.gather_companions(lists, companions, row, members)


@few(60)
@given(n=st.integers(8, 60), k=st.integers(1, 40), cap=st.integers(1, 12), seed=st.integers(0, 999))
def test_companions_are_own_entries_and_drawn_rows(n: int, k: int, cap: int, seed: int) -> None:
    """Fresh ones first, nobody twice; nobody at all where none is fresh.

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
        assert (members[count + 1 :] == -7).all()


# --- cards and introductions ----------------------------------------------------------------------


@pytest.mark.parametrize("places", [0, 1, 2, 4])
def test_new_cards_bear_the_leaves(places: int) -> None:
    """Where a row stands in no leaf, it has a number that no leaf and no other row has."""
    slots = stand(40, places, 6, places)
    cards = new_cards(slots)
    assert cards.shape == (40, CARD)
    assert cards.dtype == np.int32
    own = cards[:, :LEAVES]
    np.testing.assert_array_equal(own[:, :places][slots >= 0], slots[slots >= 0])
    nobody = np.concatenate([slots < 0, np.ones((40, LEAVES - places), bool)], axis=1)
    assert (own[nobody] < -1).all()
    for row in range(40):
        assert not np.isin(own[row][nobody[row]], np.delete(own, row, axis=0)).any()


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_cards_say_what_comparing_needs(name: str) -> None:
    """The square that estimates begin with, what products of counting columns begin with; leaves stay."""
    rows, form = coded(make_points("plain", np.float32, 40, 7, seed=3), name)
    lists = random_lists(40, 5, 3)
    cards = new_cards(stand(40, 3, 5, 3))
    before = cards.copy()
    fill_cards(rows, form, lists, cards)
    values = rows.values[:, : form.columns].astype(np.int64)
    np.testing.assert_array_equal(cards[:, :LEAVES], before[:, :LEAVES])
    np.testing.assert_array_equal(cards[:, SQUARE], (values**2).sum(axis=1) if form.euclidean else np.zeros(40))
    np.testing.assert_array_equal(cards[:, START], -OFFSET * values.sum(axis=1))
    assert rows.values[:, form.columns :].any() == (name == "inner_product")


@njit
def introduced(cards, row, news, members):
    """What introduce() writes down of some members."""
    meeting = room_for_meeting(members.size)
    meeting.members[: members.size] = members
    return descent.introduce(cards, row, news, members.size, meeting), meeting


def bits_of(meeting: Meeting, count: int) -> list[list[bool]]:
    """For each member in which leaves of the row it stands."""
    return [[bool(bits >> 4 * place & 1) for place in range(LEAVES)] for bits in meeting.met[:count].tolist()]


@pytest.mark.parametrize("places", [0, 1, 2, 4])
def test_members_are_introduced_by_their_cards(places: int) -> None:
    """If all are fresh by leaves of the row whose companions they are, which if it stands in none makes nobody known to
    another; else with their own."""
    n, rng = 60, np.random.default_rng(4)
    rows, form = coded(whole_points(n, 4, 4))
    slots = stand(n, places, 6, 4)
    cards = cards_of(rows, form, random_lists(n, 5, 4), slots)
    chosen_leaves = set()
    for row in range(n):
        members = rng.choice(np.delete(np.arange(n), row), int(rng.integers(2, 40)), replace=False).astype(np.int32)
        count = len(members)
        shared = [[leaf >= 0 and leaf in slots[member] for leaf in slots[row]] for member in members]
        shared = [[*places_of_one, *[False] * (LEAVES - places)] for places_of_one in shared]
        sums = np.sum(shared, axis=0).tolist()
        for news in (1, count):
            met_all, meeting = introduced(cards, row, news, members)
            if news == count:
                assert bits_of(meeting, count) == shared
                assert (meeting.met[:count] & ~0x1111 == 0).all()
            else:
                np.testing.assert_array_equal(meeting.leaves[:, :count], cards[members, :LEAVES].T)
            for told, at in ((meeting.squares, SQUARE), (meeting.starts, START), (meeting.limits, LIMIT)):
                np.testing.assert_array_equal(told[:count], cards[members, at])
            # Where old ones are among them, each fresh one has its turn.
            assert met_all == (1 << 4 * int(np.argmax(sums)) if news == count and any(sums) else 0)
            chosen_leaves.add(int(met_all))
    assert len(chosen_leaves) == places + 1


def test_who_stands_in_no_leaf_has_met_nobody() -> None:
    rows, form = coded(whole_points(20, 4, 5))
    slots = np.full((20, 2), -1, np.int32)
    slots[10:] = [3, 4]
    cards = cards_of(rows, form, random_lists(20, 5, 5), slots)
    members = np.delete(np.arange(20), [0, 12]).astype(np.int32)
    for row in (0, 12):
        met_all, meeting = introduced(cards, row, 18, members)
        assert met_all == (row == 12)
        assert meeting.met[:9].tolist() == [0] * 9
        assert meeting.met[9:18].tolist() == [0x11 if row == 12 else 0] * 9


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
    limits = cards_of(rows, form, lists)[:, LIMIT]
    assert (limits[:7] == EVERYTHING).all()
    limits, estimates = limits[7:], naive.estimates(rows.values[7:], rows.values, True, 6)
    held = np.take_along_axis(estimates, lists.ids[7:].astype(np.int64), axis=1)
    assert (held.max(axis=1) <= limits).all()
    if trust:
        np.testing.assert_array_equal(held[:, 4], limits)
    assert (estimates > limits[:, None]).mean() > 0.5


@njit
def all_near(rows, form, lists, news, count):
    """The pairs that near_pairs notes of the first rows, which have not met and whose lists take anything."""
    cards = np.empty((rows.squares.size, CARD), np.int32)
    for row in range(rows.squares.size):
        cards[row] = -2 - row
    meeting, pairs = room_for_meeting(news), descent.room_for_near(news)
    for i in range(count):
        meeting.members[i], meeting.limits[i] = i, EVERYTHING
        meeting.squares[i], meeting.starts[i] = rows.squares[i], rows.starts[i]
        meeting.leaves[:, i] = -2 - i
    used, compared = descent.near_pairs(rows, form, lists, cards, np.int32(0), news, count, meeting, pairs, 0)
    return pairs.ones[:used], pairs.others[:used], pairs.estimates[:used], compared, meeting.products.size


def test_many_pairs_are_multiplied_some_at_a_time() -> None:
    """More than there is room for together: none is lost, none comes twice, and each has its own estimate."""
    points, metric = np.random.default_rng(1).normal(size=(80, 9)).astype(np.float32), METRICS["euclidean"]
    coder = coder_of(points, metric)
    rows = encode(points, coder)
    ones, others, estimates, compared, room = all_near(rows, coded_form(metric, rows, coder), empty(80, 5), 40, 80)
    expected = [(i, j) for i in range(40) for j in range(i + 1, 80)]
    assert compared == len(expected) > 3 * room
    assert list(zip(ones.tolist(), others.tolist(), strict=True)) == expected
    codes = rows.values.astype(np.int64)
    assert estimates.tolist() == [int(((codes[i] - codes[j]) ** 2).sum()) for i, j in expected]
