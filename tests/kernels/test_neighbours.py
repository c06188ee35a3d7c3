"""Bounded lists: whatever comes in whatever order, the k smallest (distance, id) stay, none twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from distnnd.kernels import neighbours
from distnnd.kernels.neighbours import BORN, DRAWN, FRESH, OLD, Lists, empty, room_for_offers, sort_rows
from tests import naive
from tests.strategies import JIT_OFF, Offers, few, offers, sized

DTYPES = [np.int32, np.int64]
WIDEST = {np.int32: 2**31 - 1, np.int64: 2**45}
# Around each multiple of the sixteen places that are moved at once.
EDGES = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 70]


@njit
def insert_all(lists, row, labels, distances, states):
    """Insert one after the other; which of them went in."""
    done = np.zeros(labels.size, np.bool_)
    for i in range(labels.size):
        done[i] = neighbours.insert(lists, row, labels[i], distances[i], states[i])
    return done


@njit
def holds(ids, row, label):
    return neighbours.holds(ids, row, label)


@njit
def take(lists, row, offers, count, state):
    neighbours.take(lists, row, offers, count, state)


def insert(lists: Lists, row: int, label: int, distance: float, state: int = FRESH) -> bool:
    one = np.array([label], lists.ids.dtype), np.array([distance], np.float32), np.array([state], np.uint8)
    return bool(insert_all(lists, row, *one)[0])


def offered(offers: Offers, dtype: type) -> Lists:
    """A list that got the offers, between two rows that got none."""
    lists = empty(3, offers.k, dtype)
    labels = np.array([label for _, label in offers.offers], dtype)
    distances = np.array([distance for distance, _ in offers.offers], np.float32)
    insert_all(lists, 1, labels, distances, np.full(len(labels), FRESH, np.uint8))
    return lists


def triples(lists: Lists, row: int) -> list[tuple[float, int, int]]:
    """(distance, id, state) of what list `row` holds, free places left out."""
    found = zip(lists.distances[row].tolist(), lists.ids[row].tolist(), lists.state[row].tolist(), strict=True)
    return [entry for entry in found if entry[1] != -1]


def filled(held: list[tuple], k: int, dtype: type = np.int32) -> Lists:
    """Three lists of k places of which the middle one holds these (distance, id, state), in order."""
    lists = empty(3, k, dtype)
    for slot, (distance, label, state) in enumerate(sorted(held)):
        lists.distances[1, slot], lists.ids[1, slot], lists.state[1, slot] = distance, label, state
    return lists


def assert_others_are_free(lists: Lists) -> None:
    assert (lists.ids[[0, 2]] == -1).all()
    assert np.isinf(lists.distances[[0, 2]]).all()
    assert (lists.state[[0, 2]] == 0).all()


# --- insert and holds -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@few(100)
@given(data=st.data())
def test_the_smallest_stay_in_any_order(dtype: type, data: st.DataObject) -> None:
    given_offers = data.draw(offers(WIDEST[dtype]))
    lists = offered(given_offers, dtype)
    assert naive.entries(lists.ids, lists.distances, 1) == naive.nearest(given_offers.offers, given_offers.k)
    naive.assert_ordered(lists.ids, lists.distances)
    assert_others_are_free(lists)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", [1, 4, 1000], ids=["all-tie", "ties", "few-ties"])
def test_lists_of_every_width(dtype: type, values: int) -> None:
    """Sixteen places move at once; what is left of a width moves one by one."""
    rng = np.random.default_rng(values)
    for width in EDGES if JIT_OFF else range(1, 71):
        labels = rng.choice(WIDEST[dtype] if values > 4 else 2 * width + 3, 2 * width + 3, replace=False)
        distance = rng.integers(0, values, len(labels))
        states = rng.integers(0, 4, len(labels))
        order = np.concatenate([rng.permutation(len(labels)), rng.integers(0, len(labels), width)])
        lists = empty(3, width, dtype)
        insert_all(
            lists, 1, labels[order].astype(dtype), distance[order].astype(np.float32), states[order].astype(np.uint8)
        )
        known = sorted(zip(distance.tolist(), labels.tolist(), states.tolist(), strict=True))
        assert triples(lists, 1) == known[:width], f"width {width}"
        assert_others_are_free(lists)


@pytest.mark.parametrize("width", EDGES)
def test_a_newcomer_finds_each_place_of_a_full_list(width: int) -> None:
    """Also the first, the last, and the one behind it; ties go by id."""
    held = [(float(slot // 3), 10 * slot + 5, slot % 4) for slot in range(width)]
    for at in range(width + 1):
        distance = held[min(at, width - 1)][0]
        lists = filled(held, width)
        newcomer = (distance, 10 * at, BORN)
        assert insert(lists, 1, newcomer[1], distance, BORN) == (at < width)
        assert triples(lists, 1) == sorted([*held, newcomer])[:width]
        assert_others_are_free(lists)


@pytest.mark.parametrize("dtype", DTYPES)
def test_holds_sees_every_place_of_its_own_row(dtype: type) -> None:
    for width in EDGES if JIT_OFF else range(1, 71):
        ids = np.arange(3 * width, dtype=dtype).reshape(3, width) * 3
        mine = set(ids[1].tolist())
        for label in range(3 * width - 4, 6 * width + 4) if width < 20 or not JIT_OFF else (*list(mine)[::7], 1):
            assert bool(holds(ids, 1, dtype(label))) == (label in mine), (width, label)
        ids[1, width // 2] = -7
        assert holds(ids, 1, dtype(-7))


@pytest.mark.parametrize("above", [2**24, 2**32])
@pytest.mark.parametrize("k", [6, 20])
def test_neighbouring_large_ids_stay_apart(above: int, k: int) -> None:
    """A float32 cannot tell 2^24 from 2^24 + 1, an int32 not 2^32 from 0."""
    ids = [above + 1, above, above + 2, above - 1]
    lists = offered(Offers([(1.0, label) for label in [*ids, *ids]], k), np.int64)
    assert lists.ids[1].tolist() == [*sorted(ids), *[-1] * (k - 4)]
    assert holds(lists.ids, 1, np.int64(above))
    assert not holds(lists.ids, 1, np.int64(above + 3))
    assert not holds(lists.ids, 1, np.int64(above - 2**24))


def test_insert_says_whether_it_did() -> None:
    lists = empty(1, 2)
    steps = [(2.0, 5, True), (2.0, 5, False), (1.0, 5, False), (2.0, 7, True), (2.0, 8, False), (2.0, 6, True)]
    steps += [(2.0, 7, False), (3.0, 1, False), (0.0, 9, True), (np.inf, 3, False)]
    for distance, label, done in steps:
        assert insert(lists, 0, label, distance) == done, (distance, label)
    assert lists.ids[0].tolist() == [9, 5]
    assert lists.distances[0].tolist() == [0, 2]


@pytest.mark.parametrize("k", [3, 16, 40])
def test_what_is_infinitely_far_or_not_a_number_does_not_enter_an_empty_list(k: int) -> None:
    lists = empty(1, k)
    assert not insert(lists, 0, 1, np.inf)
    assert not insert(lists, 0, 1, np.nan)
    assert lists.ids[0].tolist() == [-1] * k


@pytest.mark.parametrize("k", [4, 20])
def test_states_travel_with_their_entries(k: int) -> None:
    lists = empty(1, k)
    for label, state in ((4, OLD), (3, FRESH), (2, DRAWN), (1, BORN), (0, OLD)):
        insert(lists, 0, label, float(label), state)
    assert lists.ids[0, :4].tolist() == [0, 1, 2, 3]
    assert lists.state[0, :4].tolist() == [OLD, BORN, DRAWN, FRESH]


# --- take -----------------------------------------------------------------------------------------


def given_to(lists: Lists, row: int, given_offers: list[tuple[float, int]], state: int, most: int = 80) -> None:
    """Let a list take offers; the room has seen other offers before."""
    room = room_for_offers(lists.ids.shape[1], most)
    room.distances[:], room.ids[:], room.ranks[:], room.gains[:] = -5, 77, 3, 5
    for i, (distance, label) in enumerate(given_offers):
        room.distances[i], room.ids[i] = distance, label
    take(lists, row, room, len(given_offers), np.uint8(state))


def draw_entries(rng: np.random.Generator, width: int, held: int, count: int, values: int) -> tuple[list, list]:
    """What a list holds, with names such as -2 - slot for neighbours that are not at hand, and what it is offered."""
    labels = rng.choice(4 * (held + count), held + count, replace=False)
    distances = rng.integers(0, values, held + count).tolist()
    names = [int(label) if i >= held or rng.random() < 0.7 else -2 - int(label) for i, label in enumerate(labels)]
    entries = list(zip(map(float, distances), names, strict=True))
    return [(*entry, int(rng.integers(0, 4))) for entry in entries[:held]], entries[held:]


@few(150)
@given(data=st.data())
def test_take_merges_like_sorting(data: st.DataObject) -> None:
    """Lists of any width that hold nothing, something or all they can, and any number of offers."""
    width = data.draw(st.sampled_from(EDGES) | st.integers(1, 70))
    held = data.draw(st.sampled_from([0, width // 2, width]) | st.integers(0, width))
    count = data.draw(st.integers(1, 70))
    values = data.draw(st.sampled_from([1, 3, 1000]))
    dtype = data.draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    known, found = draw_entries(rng, width, held, count, values)
    lists = filled(known, width, dtype)
    given_to(lists, 1, found, BORN)
    assert triples(lists, 1) == naive.taken(known, [(*offer, BORN) for offer in found], width)
    naive.assert_ordered(lists.ids, lists.distances)
    assert_others_are_free(lists)


@pytest.mark.parametrize("count", [1, 3, 15, 16, 17, 48, 63, 64, 70])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 48])
def test_take_at_every_edge(width: int, count: int) -> None:
    """Numbers of offers and of places around multiples of sixteen; a list that is empty, half full and full."""
    rng = np.random.default_rng(width * 100 + count)
    for held in {0, width // 2, width}:
        known, found = draw_entries(rng, width, held, count, 4)
        lists = filled(known, width)
        given_to(lists, 1, found, FRESH, most=count)
        assert triples(lists, 1) == naive.taken(known, [(*offer, FRESH) for offer in found], width)


@pytest.mark.parametrize("width", EDGES)
def test_offers_that_are_all_worse_or_all_better(width: int) -> None:
    """All worse: a full list stays. All better: as many as there are push out the last."""
    known = [(100.0 + slot, slot, slot % 4) for slot in range(width)]
    for count in (1, 16, 33):
        labels = range(1000, 1000 + count)
        lists = filled(known, width)
        given_to(lists, 1, [(500.0, label) for label in labels], FRESH)
        assert triples(lists, 1) == known
        given_to(lists, 1, [(1.0, label) for label in reversed(labels)], FRESH)
        assert triples(lists, 1) == [*((1.0, label, FRESH) for label in labels), *known][:width]
        # As far as the last, with a higher id, is worse; with a lower one it is better.
        lists = filled(known, width)
        given_to(lists, 1, [(known[-1][0], width + 5)], FRESH)
        assert triples(lists, 1) == known
        given_to(lists, 1, [(known[-1][0], -9)], FRESH)
        assert triples(lists, 1) == [*known[:-1], (known[-1][0], -9, FRESH)]


def test_offers_that_are_infinitely_far_are_not_taken() -> None:
    """The surrogate of huge numbers overflows; a free place is infinitely far too."""
    lists = empty(1, 5)
    given_to(lists, 0, [(np.inf, 3), (2.0, 4), (np.inf, 0)], FRESH)
    assert lists.ids[0].tolist() == [4, -1, -1, -1, -1]
    assert lists.distances[0].tolist() == [2, *[np.inf] * 4]


def test_the_same_room_serves_list_after_list() -> None:
    """What one list left in the room does not show in the next."""
    rng = np.random.default_rng(8)
    width = 19
    room = room_for_offers(width, 40)
    for _ in range(sized(40, 10)):
        held, count = int(rng.integers(0, width + 1)), int(rng.integers(1, 41))
        known, found = draw_entries(rng, width, held, count, 5)
        lists = filled(known, width)
        for i, (distance, label) in enumerate(found):
            room.distances[i], room.ids[i] = distance, label
        take(lists, 1, room, count, np.uint8(DRAWN))
        assert triples(lists, 1) == naive.taken(known, [(*offer, DRAWN) for offer in found], width)


@pytest.mark.parametrize("most", [1, 16, 17, 64])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 48])
def test_room_for_offers_is_whole_vectors(width: int, most: int) -> None:
    """They are looked at sixteen at a time; places that no list entry fills come behind all others."""
    room = room_for_offers(width, most)
    upto, places = -(-most // 16) * 16, -(-width // 16) * 16
    assert room.distances.shape == room.ids.shape == room.ranks.shape == (upto,)
    assert room.gains.shape == room.held_distances.shape == room.held_ids.shape == (places,)
    # What falls out of the list is written down too.
    assert room.all_distances.shape == room.all_ids.shape == room.all_states.shape == (upto + places,)
    assert np.isinf(room.held_distances).all()


# --- sort_rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 9, 33])
def test_sort_rows_orders_by_distance_then_id(dtype: type, k: int) -> None:
    rng = np.random.default_rng(0)
    n = sized(300, 60)
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
