"""Sixteen candidates at once are kept as single ones would be: ragged ends, ties, the largest numbers, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from distnnd.kernels import sieve
from distnnd.kernels.codes import EVERYTHING, LARGEST_SQUARE
from distnnd.kernels.lanes import LANES
from tests import naive
from tests.strategies import JIT_OFF, few

Array = np.ndarray
NAMES = ["sift", "within", "meetings", "acquainted", "strangers", "near", "strike", "order", "rank", "share"]
# Around multiples of sixteen, none at all, and as many as a tile has.
COUNTS = [0, 1, 2, 15, 16, 17, 31, 32, 33, 48, 70, 512]
UNTOUCHED = -123456789
LARGEST = 2**31 - 1
HOWS = ["kernel", "python"]


@njit
def sift(bias, products, first, count, bound, places):
    return sieve.sift(bias, products, first, count, bound, places)


@njit
def within(numbers, start, count, first, last, places):
    return sieve.within(numbers, start, count, first, last, places)


@njit
def meetings(cards, row, member):
    return sieve.meetings(cards, row, member)


@njit
def acquainted(leaves, one, count, met):
    sieve.acquainted(leaves, one, count, met)


@njit
def strangers(met, squares, limits, members, one, met_all, count, base, bases, higher, ones, others, used):
    return sieve.strangers(
        met, squares, limits, members, one, met_all, count, base, bases, higher, ones, others, used
    )  # fmt: skip


@njit
def near(bases, products, limits, ones, others, count, found, used, share):
    return sieve.near(bases, products, limits, ones, others, count, found, used, share)


@njit
def share(bias, products, first, count, own, shares):
    sieve.share(bias, products, first, count, own, shares)


@njit
def strike(labels, places, scores, first, count, bound, itself, ids, row, width):
    return sieve.strike(labels, places, scores, first, count, bound, itself, ids, row, width)


@njit
def order(distances, ids, count, start, ranks):
    sieve.order(distances, ids, count, start, ranks)


@njit
def rank(distances, ids, count, held_distances, held_ids, start, ranks, gains):
    sieve.rank(distances, ids, count, held_distances, held_ids, start, ranks, gains)


def run(how: str, name: str, *arguments: object) -> int:
    """One of the primitives, from inside of a kernel or by its twin."""
    function = globals()[name] if how == "kernel" else getattr(sieve, f"_{name}_python")
    return function(*arguments)


def up(count: int) -> int:
    return -(-count // LANES) * LANES


def room(count: int, columns: int) -> list[Array]:
    """Columns of int32 that nothing has been written to, with room for `count` numbers and a vector, and some more."""
    return [np.full(count + LANES + 40, UNTOUCHED, np.int32) for _ in range(columns)]


def written(columns: list[Array], first: int, last: int, beyond: int = LANES) -> list[tuple[int, ...]]:
    """What stands in the columns from `first` to `last`; nothing may stand before, nor a vector behind."""
    for column in columns:
        assert (column[:first] == UNTOUCHED).all()
        assert (column[last + beyond :] == UNTOUCHED).all()
    return list(zip(*(column[first:last].tolist() for column in columns), strict=True))


def ints(values: object) -> Array:
    return np.asarray(values).astype(np.int32)


def small(rng: np.random.Generator, count: int, reach: int = 5, behind: int = 0) -> Array:
    """`count` small whole numbers, many of them equal, up to a multiple of sixteen filled with `behind`."""
    numbers = rng.integers(-reach, reach + 1, up(count) + LANES)
    numbers[count:] = behind
    return ints(numbers)


def test_without_the_jit_the_twins_are_what_kernels_call() -> None:
    for name in NAMES:
        assert (getattr(sieve, name) is getattr(sieve, f"_{name}_python")) == JIT_OFF


# --- sift -----------------------------------------------------------------------------------------


def sifted(how: str, bias: Array, products: Array, first: int, count: int, bound: int) -> list[int]:
    places = np.full(count + LANES + 40, -7, np.int16)
    found = run(how, "sift", bias, products, first, count, np.int32(bound), places)
    assert (places[found + LANES :] == -7).all()
    return places[:found].tolist()


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("count", COUNTS)
def test_sift_keeps_what_is_within_the_bound(how: str, count: int) -> None:
    """Ascending, ties with the bound included; what lies behind the last candidate would be kept if it were seen."""
    rng = np.random.default_rng(count)
    bias, table = small(rng, count, behind=-1000), ints(rng.integers(-5, 6, (3, up(count) + LANES)))
    for first in (0, table.shape[1], table.shape[1] + 3):
        for bound in (-1000, -15, -3, 0, 1, 7, 15, 1000):
            expected = naive.sift(bias, table, first, count, bound)
            assert sifted(how, bias, table, first, count, bound) == expected
            assert len(expected) in ({-1000: [0], 1000: [count]}.get(bound) or range(count + 1))


@pytest.mark.parametrize("how", HOWS)
def test_equal_is_within_and_one_more_is_not(how: str) -> None:
    bias, products = np.full((2, 32), 7, np.int32)
    bias[[3, 19]] = 6
    assert sifted(how, bias, products, 0, 20, -9) == []
    assert sifted(how, bias, products, 0, 20, -8) == [3, 19]
    assert sifted(how, bias, products, 0, 19, -8) == [3]
    assert sifted(how, bias, products, 0, 20, -7) == list(range(20))


@pytest.mark.parametrize("how", HOWS)
def test_the_largest_scores_do_not_overflow(how: str) -> None:
    """Squares and products reach 2^27, limits 2^29 in both directions."""
    square = LARGEST_SQUARE
    bias, products = ints([0, square, 0, square] * 8), ints([square, square, -square, -square] * 8)
    for own in (0, square):
        for limit in (-EVERYTHING, -2 * square, -square, 0, square, 3 * square, EVERYTHING):
            expected = naive.sift(bias, products, 0, 21, limit - own)
            assert sifted(how, bias, products, 0, 21, limit - own) == expected
    assert len(sifted(how, bias, products, 0, 21, EVERYTHING - square)) == 21


# --- within ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("count", [0, 16, 32, 48, 160, 4096])
def test_within_finds_the_places_of_a_range(how: str, count: int) -> None:
    """Lists hold -1 for nobody and less for who is elsewhere, neither of which is in any range."""
    rng = np.random.default_rng(count)
    table = ints(rng.integers(-4, 30, count + 40)).reshape(2, -1)
    for start in (0, 3, 40):
        for first, last in ((0, 1), (0, 30), (7, 7), (7, 8), (12, 29), (29, 30), (30, 99), (0, LARGEST)):
            places = room(count, 1)
            # With room for no more than there are numbers.
            found = run(how, "within", table, start, count, np.int32(first), np.int32(last), *places)
            assert [place for (place,) in written(places, 0, found, LANES)] == naive.within(
                table, start, count, first, last
            )
            assert (places[0][count:] == UNTOUCHED).all()


@pytest.mark.parametrize("how", HOWS)
def test_ranges_at_the_end_of_all_numbers(how: str) -> None:
    numbers = ints([LARGEST, LARGEST - 1, LARGEST - 2, 0, -1, -2, -LARGEST, 5] * 2)
    for first, last in ((LARGEST - 1, LARGEST), (LARGEST - 2, LARGEST), (0, LARGEST), (0, 5), (5, 6)):
        places = room(16, 1)
        found = run(how, "within", numbers, 0, 16, np.int32(first), np.int32(last), *places)
        assert [place for (place,) in written(places, 0, found)] == naive.within(numbers, 0, 16, first, last)


# --- meetings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@few(60)
@given(leaves=st.integers(1, 12), width=st.sampled_from([4, 8]), seed=st.integers(0, 999))
def test_meetings_tell_each_leaf_of_the_first_that_the_other_shares(
    how: str, leaves: int, width: int, seed: int
) -> None:
    """At whatever place of the other; what the card says beside leaves is none."""
    rng = np.random.default_rng(seed)
    cards = ints(rng.integers(0, leaves, (6, width)))
    cards[:, 1:4] = np.where(rng.random((6, 3)) < 0.3, -2 - np.arange(6)[:, None], cards[:, 1:4])
    for row in range(6):
        for member in range(6):
            assert run(how, "meetings", cards, row, member) == naive.meetings(cards, row, member)


@pytest.mark.parametrize("how", HOWS)
def test_every_pair_of_places_meets(how: str) -> None:
    for place in range(4):
        for other in range(4):
            cards = np.arange(24, dtype=np.int32).reshape(3, 8)
            cards[2, other] = cards[1, place]
            assert run(how, "meetings", cards, 1, 2) == 1 << 4 * place
            assert run(how, "meetings", cards, 2, 1) == 1 << 4 * other
            assert run(how, "meetings", cards, 0, 1) == run(how, "meetings", cards, 0, 2) == 0
    cards = np.zeros((2, 8), np.int32)
    assert run(how, "meetings", cards, 0, 1) == 0x1111


# --- acquainted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
@pytest.mark.parametrize("leaves", [3, 30])
def test_acquainted_are_those_in_any_leaf_of_a_member(how: str, count: int, leaves: int) -> None:
    """At whatever place of either; who comes before its sixteen is not asked, nor is a vector behind."""
    rng = np.random.default_rng(count)
    most = up(count) + LANES
    standing = ints(rng.integers(0, leaves, (sieve.LEAVES, most)))
    nowhere = rng.random(most) < 0.3
    standing[:, nowhere] = -2 - np.arange(most)[nowhere]
    for one in range(count):
        met = ints([UNTOUCHED] * most)
        run(how, "acquainted", standing, one, count, met)
        expected = [naive.acquainted(standing, one, other) for other in range(one, count)]
        assert met[one:count].tolist() == expected
        assert expected[0]
        assert (met[: one // LANES * LANES] == UNTOUCHED).all()
        assert (met[up(count) :] == UNTOUCHED).all()


# --- strangers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("count", [count for count in COUNTS if count])
def test_strangers_are_those_that_come_later_and_have_not_met(how: str, count: int) -> None:
    """Both of a pair are followed by the first member up to a multiple of sixteen: a valid row."""
    rng = np.random.default_rng(count)
    bits = np.array([0, 1, 16, 17, 256, 4096, 4352])
    for chance in (0.9, 0.3):
        met = np.where(rng.random(up(count)) < chance, 0, rng.choice(bits, up(count)))
        # Behind the last member they would all be strangers.
        met[count:] = 1 if count % 2 else 0
        met, members = ints(met), ints(rng.integers(0, 999, up(count)))
        squares, limits = small(rng, count, 99), small(rng, count, 99)
        for used, one in enumerate({0, count // 2, count - 1, min(count - 1, 16)}):
            for met_all in (0, 1, 16, 4096):
                columns = room(used + count, 4)
                told = (met, squares, limits, members, one)
                end = run(how, "strangers", *told, np.int32(met_all), count, np.int32(-7), *columns, used)
                expected = naive.strangers(*told, met_all, count, -7)
                assert written(columns, used, end) == expected
                for ids in columns[2:]:
                    assert (ids[end : used + up(end - used)] == members[0]).all()


@pytest.mark.parametrize("how", HOWS)
def test_each_pair_of_members_meets_once_unless_it_has(how: str) -> None:
    """Those that all met each other wait for the others: who takes whose turn, no pair is lost and none comes twice."""
    count, rng = 37, np.random.default_rng(1)
    met = ints(rng.choice([0, 1, 1, 17, 16, 256], count + LANES))
    members, nothing = np.arange(count + LANES, dtype=np.int32), np.zeros(count + LANES, np.int32)
    for met_all in (0, 1, 16):
        columns, used = room(count * count, 4), 0
        for one in range(count):
            if not met[one] & met_all:
                told = (met, nothing, nothing, members, one, np.int32(met_all), count, np.int32(0))
                used = run(how, "strangers", *told, *columns, used)
        pairs = [tuple(sorted(pair)) for _, _, *pair in written(columns, 0, used)]
        expected = [(i, j) for i in range(count) for j in range(i + 1, count) if not met[i] & met[j]]
        assert sorted(pairs) == expected


# --- near -----------------------------------------------------------------------------------------


def nearby(how: str, told: tuple[Array, ...], count: int, used: int = 0, share: bool = False) -> list[tuple[int, ...]]:
    columns = room(used + count, 3)
    end = run(how, "near", *told, count, tuple(columns), used, share)
    return written(columns, used, end)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("count", COUNTS)
def test_near_notes_pairs_up_to_their_limits(how: str, count: int) -> None:
    """Ties included, a row with itself never; from any pair on."""
    rng = np.random.default_rng(count)
    bases, products, limits = (small(rng, count) for _ in range(3))
    # Behind the last one anything would be near.
    bases[count:] = -1000
    ones, others = (ints(rng.integers(0, 9, up(count) + LANES)) for _ in range(2))
    for used in (0, 5, 16):
        for limit in (-20, 0, 20, 1000):
            told = (bases, products, limits + np.int32(limit), ones, others)
            expected = naive.near(*told, count, False)
            assert nearby(how, told, count, used) == expected
            assert limit < 1000 or len(expected) == (ones[:count] != others[:count]).sum()


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("count", COUNTS)
def test_limits_may_be_a_part_of_what_both_rows_hold(how: str, count: int) -> None:
    rng = np.random.default_rng(count)
    bases = ints(rng.integers(0, 2**18, up(count) + LANES))
    products = ints(rng.random(bases.size) * bases / 2)
    limits = ints(rng.integers(0, 4097, bases.size))
    ones, others = np.arange(bases.size, dtype=np.int32), ints(rng.integers(0, bases.size, bases.size))
    for told in ((bases, products, limits, ones, others), (bases, products, ints([4096] * bases.size), ones, others)):
        assert nearby(how, told, count, 5, True) == naive.near(*told, count, True)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("count", COUNTS)
def test_shares_are_parts_of_what_both_rows_hold(how: str, count: int) -> None:
    rng = np.random.default_rng(count)
    bias = ints(rng.integers(0, 2**17, up(count)))
    products = ints(np.concatenate([[7] * 3, rng.random(bias.size) * bias]))
    for own in (0, 5, 2**17):
        shares = ints([UNTOUCHED] * (bias.size + LANES))
        run(how, "share", bias, products, 3, count, np.int32(own), shares)
        columns = np.maximum(bias.astype(np.int64) + own, 1)
        true = (own + bias.astype(np.int64) - 2 * products[3:]) / columns * 4096
        assert (np.abs(shares[: bias.size] - np.trunc(true)) <= 1).all()
        assert (shares[bias.size :] == UNTOUCHED).all()


@pytest.mark.parametrize("how", HOWS)
def test_the_higher_of_two_limits_counts(how: str) -> None:
    """A pair is looked at if it may enter the list of one or of the other."""
    met, members, squares = np.zeros(16, np.int32), np.arange(16, dtype=np.int32), np.full(16, 10, np.int32)
    limits = ints([9, 12, 8, *[-5] * 13])
    columns = room(16, 4)
    end = run(how, "strangers", met, squares, limits, members, 0, np.int32(0), 4, np.int32(3), *columns, 0)
    assert written(columns, 0, end) == [(13, 12, 0, 1), (13, 9, 0, 2), (13, 9, 0, 3)]


@pytest.mark.parametrize("how", HOWS)
def test_the_largest_estimates_do_not_overflow(how: str) -> None:
    """Two squares and twice a product reach 2^29, which is EVERYTHING: a list with room takes even that."""
    top = LARGEST_SQUARE
    bases, products = ints([0, 2 * top, top, 2 * top] * 4), ints([top, top, -top, -top] * 4)
    ones, others = np.arange(16, dtype=np.int32), np.arange(1, 17, dtype=np.int32)
    for limit in (-EVERYTHING, -top, 0, top, EVERYTHING):
        told = (bases, products, np.full(16, limit, np.int32), ones, others)
        assert nearby(how, told, 16) == naive.near(*told, 16, False)
    assert len(nearby(how, told, 16)) == 16


# --- strike ---------------------------------------------------------------------------------------


def stricken(
    how: str, candidates: Array, first: int, count: int, bound: int, itself: int, ids: Array, row: int
) -> list[tuple[int, ...]]:
    """What is kept of candidates int32[3, .]; nothing before them and nothing a vector behind them may change."""
    columns = candidates.copy()
    width = ids.shape[1]
    kept = run(how, "strike", *columns, first, count, np.int32(bound), np.int32(itself), ids, row, width)
    np.testing.assert_array_equal(columns[:, :first], candidates[:, :first])
    np.testing.assert_array_equal(columns[:, first + up(count) :], candidates[:, first + up(count) :])
    return list(zip(*columns[:, first : first + kept].tolist(), strict=True))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("count", [count for count in COUNTS if count <= 70])
def test_strike_keeps_in_place_what_a_list_does_not_know(how: str, count: int) -> None:
    """A list of any width, in the middle of others that hold other candidates; places go along with their labels."""
    rng = np.random.default_rng(count)
    for width in (1, 2, 15, 16, 17, 40):
        ids = ints(rng.integers(-3, 120, (3, width)))
        for first in (0, 48, 5):
            labels = rng.permutation(first + up(count) + 40)
            candidates = ints([labels, 1000 + labels, rng.integers(-5, 6, len(labels))])
            # Behind the last candidate all are within the bound, and unknown.
            candidates[2, first + count :] = -1000
            for bound in (-6, 0, 5):
                entries = list(zip(*candidates[:, first : first + count].tolist(), strict=True))
                itself = int(labels[first])
                for ignored in (itself, -1):
                    expected = naive.struck(entries, bound, ignored, ids[1].tolist())
                    assert stricken(how, candidates, first, count, bound, ignored, ids, 1) == expected


@pytest.mark.parametrize("how", HOWS)
def test_each_place_of_a_list_strikes(how: str) -> None:
    """All candidates are known: all are struck, whatever the order, and without the bound none would be."""
    for width in (1, 16, 33):
        ids = ints([range(100, 100 + width), range(width), range(200, 200 + width)])
        for row in range(3):
            candidates = np.zeros((3, up(width) + LANES), np.int32)
            candidates[0, :width] = ids[row][::-1]
            assert stricken(how, candidates, 0, width, 0, -1, ids, row) == []
            assert len(stricken(how, candidates, 0, width, 0, -1, ids, (row + 1) % 3)) == width
            assert stricken(how, candidates, 0, width, -1, -1, ids, (row + 1) % 3) == []


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@few(80)
@given(count=st.integers(1, 40), seed=st.integers(0, 999))
def test_order_counts_who_of_all_comes_before(how: str, count: int, seed: int) -> None:
    """By distance, then by id, whatever stands behind the last one; ranks of sixteen alone are set."""
    rng = np.random.default_rng(seed)
    distances = rng.choice(np.array([-1, 0, 0.5, 1, np.inf], np.float32), up(count))
    ids = ints(rng.permutation(up(count)) - 9)
    entries = list(zip(distances.tolist(), ids.tolist(), strict=True))[:count]
    for start in range(0, count, LANES):
        ranks = np.full(up(count) + LANES, UNTOUCHED, np.int32)
        run(how, "order", distances, ids, count, start, ranks)
        here = entries[start : start + LANES]
        assert ranks[start : start + len(here)].tolist() == [sum(other < one for other in entries) for one in here]
        assert (np.delete(ranks, np.arange(start, start + LANES)) == UNTOUCHED).all()


# --- rank -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@few(80)
@given(count=st.integers(0, 40), start=st.sampled_from([0, 1, 16, 21]), seed=st.integers(0, 999))
def test_rank_counts_who_comes_before_whom(how: str, count: int, start: int, seed: int) -> None:
    """By distance, then by id; free places are infinitely far. Ranks add up, gains are set, of sixteen alone."""
    rng = np.random.default_rng(seed)
    distances = rng.choice(np.array([-1, 0, 0.5, 1, np.inf], np.float32), up(count) + LANES)
    held_distances = rng.choice(np.array([-1, 0, 0.5, 1, np.inf], np.float32), 48)
    labels = [-9, -1, 0, 3, 4, LARGEST - 1, LARGEST]
    ids, held_ids = ints(rng.choice(labels, len(distances))), ints(rng.choice(labels, 48))
    ranks, gains = ints(rng.integers(0, 9, len(distances))), np.full(48, UNTOUCHED, np.int32)
    before = ranks.copy()
    run(how, "rank", distances, ids, count, held_distances, held_ids, start, ranks, gains)
    held = list(zip(held_distances.tolist(), held_ids.tolist(), strict=True))[start : start + LANES]
    entries = list(zip(distances.tolist(), ids.tolist(), strict=True))[:count]
    assert (ranks - before)[:count].tolist() == [sum(other < one for other in held) for one in entries]
    assert (ranks == before)[count:].all()
    assert gains[start : start + LANES].tolist() == [sum(one <= other for one in entries) for other in held]
    assert (np.delete(gains, np.arange(start, start + LANES)) == UNTOUCHED).all()
