"""Pivots: dealt out evenly, near ones together; rows go to the first different partitions of their nearest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.neighbours import empty
from distnnd.kernels.pivots import BASE, QUERY, assign, count_pivots, means, reach_for, share_out
from distnnd.kernels.rows import plain_form
from distnnd.values.metric import METRICS
from tests import naive
from tests.strategies import few, make_points

SEED = 2**62 + 12345


# --- share_out ------------------------------------------------------------------------------------


def shared(pivots: np.ndarray, loads: np.ndarray, parts: int) -> np.ndarray:
    partition = share_out(pivots, loads, parts, plain_form(METRICS["euclidean"], pivots.shape[1]), SEED)
    assert partition.dtype == np.int32
    assert partition.min(initial=0) >= 0
    assert partition.max(initial=0) < parts
    return partition


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 16])
def test_loads_are_balanced_and_all_parts_used(parts: int, dtype: type) -> None:
    pivots = make_points("plain", dtype, 8 * parts, 5, seed=parts)
    loads = np.random.default_rng(parts).integers(50, 150, 8 * parts)
    totals = np.bincount(shared(pivots, loads, parts), weights=loads, minlength=parts)
    assert totals.min() > 0.6 * totals.mean()
    assert totals.max() < 1.4 * totals.mean()


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_equal_loads_are_shared_equally(parts: int) -> None:
    pivots = make_points("plain", np.float32, 8 * parts, 5, seed=parts)
    partition = shared(pivots, np.full(8 * parts, 10), parts)
    assert np.bincount(partition, minlength=parts).tolist() == [8] * parts


@pytest.mark.parametrize("loads", [[1000, *[1] * 7], [*[1] * 7, 1000], [0] * 8], ids=["first", "last", "none"])
def test_uneven_loads_leave_no_partition_empty(loads: list[int]) -> None:
    """Among identical rows one pivot is the nearest of all, and the others stand for nobody."""
    pivots = np.arange(8, dtype=np.float32)[:, None]
    assert len(np.unique(shared(pivots, np.array(loads), 4))) == 4


def test_fewer_pivots_than_parts_stay_apart() -> None:
    pivots = make_points("plain", np.float32, 3, 4, seed=1)
    partition = shared(pivots, np.ones(3, np.int64), 10)
    assert len(set(partition.tolist())) == 3


def test_near_pivots_share_a_partition() -> None:
    pivots = make_points("plain", np.float32, 64, 2, seed=2)
    partition = shared(pivots, np.full(64, 10), 8)
    gaps = naive.squared(pivots, pivots)
    together = partition[:, None] == partition[None]
    assert gaps[together].mean() < 0.3 * gaps.mean()
    # So are those that were halved last: small partitions are held together with the next.
    siblings = (partition[:, None] // 2 == partition[None] // 2) & ~together
    assert gaps[siblings].mean() < 0.6 * gaps.mean()


def test_identical_pivots_are_dealt_out_too() -> None:
    pivots = np.full((16, 3), 2, np.float32)
    assert len(np.unique(shared(pivots, np.ones(16, np.int64), 4))) == 4


def test_the_same_seed_shares_out_the_same() -> None:
    pivots = make_points("plain", np.float32, 40, 3, seed=4)
    np.testing.assert_array_equal(shared(pivots, np.ones(40), 5), shared(pivots, np.ones(40), 5))


# --- assign ---------------------------------------------------------------------------------------


def nearest_of(rows: list[list[int]], places: int, step: float = 1.0):
    """Lists of pivots, nearest first, each `step` farther than the one before; the nearest at 1."""
    lists = empty(len(rows), places)
    for row, pivots in enumerate(rows):
        lists.ids[row, : len(pivots)] = pivots
        lists.distances[row, : len(pivots)] = 1 + step * np.arange(len(pivots))
    return lists


@few(50)
@given(data=st.data())
def test_rows_go_to_the_first_different_partitions(data: st.DataObject) -> None:
    partition_of = np.array(data.draw(st.lists(st.integers(0, 5), min_size=6, max_size=12)), np.int32)
    pivot = st.integers(0, len(partition_of) - 1)
    looking = data.draw(st.lists(st.lists(pivot, min_size=1, max_size=8, unique=True), min_size=1, max_size=10))
    found = [data.draw(st.lists(pivot, min_size=1, max_size=8, unique=True)) for _ in looking]
    most, reach = data.draw(st.integers(1, 3)), np.float32(data.draw(st.sampled_from([1.0, 2.5, 4.0, np.inf])))
    slots = np.full((len(looking), 2 * most), -1, np.int32)
    roles = np.zeros(slots.shape, np.uint8)
    assign(nearest_of(found, 8), BASE, partition_of, most, reach, slots, roles)
    assign(nearest_of(looking, 8), QUERY, partition_of, most, np.float32(np.inf), slots, roles)
    for row in range(len(looking)):
        wanted: dict[int, int] = {}
        for pivots, role, far in ((found[row], BASE, reach), (looking[row], QUERY, np.inf)):
            distances = [1.0 + i for i in range(len(pivots))]
            for partition in naive.assign(pivots, distances, partition_of, most, far):
                wanted[partition] = wanted.get(partition, 0) | role
        told = list(zip(slots[row].tolist(), roles[row].tolist(), strict=True))
        # In the order in which they were written: those to be found in first.
        assert told == [*wanted.items(), *[(-1, 0)] * (2 * most - len(wanted))]


def test_both_roles_at_once() -> None:
    """Where nearness is mutual one call writes both roles, and there are no more places than partitions at most."""
    slots, roles = np.full((2, 2), -1, np.int32), np.zeros((2, 2), np.uint8)
    partition_of = np.array([4, 4, 1, 0], np.int32)
    nearest = nearest_of([[0, 1, 2, 3], [1, 0]], 4)
    assign(nearest, QUERY | BASE, partition_of, 2, np.float32(np.inf), slots, roles)
    assert slots.tolist() == [[4, 1], [4, -1]]
    assert roles.tolist() == [[3, 3], [3, 0]]


# --- how far a row looks --------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [1.0, 1.5, 2.0, 2.5, 3.0])
def test_as_many_copies_as_wanted(copies: float) -> None:
    rng = np.random.default_rng(3)
    nearest = empty(4000, 8)
    nearest.distances[:] = np.sort(rng.uniform(1, 4, nearest.ids.shape), axis=1)
    nearest.ids[:] = rng.permuted(np.tile(np.arange(8), (4000, 1)), axis=1)
    partition_of = np.arange(8, dtype=np.int32)
    reach = reach_for(nearest, partition_of, 4, copies)
    slots, roles = np.full((4000, 4), -1, np.int32), np.zeros((4000, 4), np.uint8)
    assign(nearest, QUERY, partition_of, 4, np.float32(reach), slots, roles)
    assert abs((slots >= 0).sum() / 4000 - copies) < 0.01


def test_a_row_that_sees_one_partition_goes_to_it_alone() -> None:
    """Copies that nobody can use are not forced upon rows that are deep inside."""
    nearest = nearest_of([[0, 1], [1, 0]], 2)
    reach = reach_for(nearest, np.zeros(2, np.int32), 4, 2.0)
    slots, roles = np.full((2, 4), -1, np.int32), np.zeros((2, 4), np.uint8)
    assign(nearest, QUERY, np.zeros(2, np.int32), 4, np.float32(reach), slots, roles)
    assert (slots >= 0).sum() == 2


def test_repeated_rows_do_not_make_all_rows_look_everywhere() -> None:
    """Rows that lie on their pivot say nothing of how far others look; pivots that are the same are equally near."""
    nearest = nearest_of([[0, 1, 2]] * 10, 3)
    nearest.distances[:8] = [0, 0, 7]
    nearest.distances[8:] = [1, 3, 7]
    reach = reach_for(nearest, np.arange(3, dtype=np.int32), 3, 2.5)
    assert reach == 7, "of those that can be told the farthest, for too few can"
    assert reach_for(nearest, np.arange(3, dtype=np.int32), 3, 1.8) == 1


def test_rows_that_lie_on_their_pivot_go_to_its_partition() -> None:
    nearest = nearest_of([[0, 1]], 2)
    nearest.distances[:] = [[0, 5]]
    slots, roles = np.full((1, 4), -1, np.int32), np.zeros((1, 4), np.uint8)
    assign(nearest, QUERY, np.array([3, 4], np.int32), 4, np.float32(2), slots, roles)
    assert slots.tolist() == [[3, -1, -1, -1]]


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_pivots_move_to_the_means_of_their_rows(dtype: type) -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(-100, 100, (300, 5)).astype(dtype)
    pivots, nearest = points[:7].copy(), rng.integers(-1, 6, 300).astype(np.int32)
    moved = means(points, nearest, pivots)
    assert moved.dtype == dtype
    for pivot in range(6):
        mean = points[nearest == pivot].astype(np.float64).mean(axis=0)
        wanted = np.rint(mean) if dtype == np.int8 else mean
        np.testing.assert_allclose(moved[pivot], wanted, rtol=1e-6)
    assert np.array_equal(moved[6], pivots[6]), "a pivot that is nearest to nobody stays"


def test_count_pivots_counts_the_nearest() -> None:
    nearest = nearest_of([[2, 0], [2, 1], [0, 2], [4]], 2)
    assert count_pivots(nearest, 6).tolist() == [1, 0, 2, 0, 1, 0]


def test_pivots_of_bits_stay() -> None:
    bits = np.random.default_rng(0).integers(0, 256, (60, 8)).astype(np.uint8)
    moved = means(bits[5:], np.zeros(55, np.int32), bits[:5].copy())
    np.testing.assert_array_equal(moved, bits[:5])
