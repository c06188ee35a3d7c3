"""The search graph and the search, beside what a few lines of Python say they should be."""

from __future__ import annotations

import numpy as np
import pytest

from distnnd.kernels import prune
from distnnd.kernels import search as kernels
from distnnd.kernels.codes import Rows, coded_form, coder_of, encode
from distnnd.kernels.neighbours import empty
from distnnd.kernels.rows import plain_form
from distnnd.values.metric import metric_of
from tests.conftest import clustered

NOBODY, NOTHING = np.zeros(0, np.uint8), np.zeros(0, np.int32)


def coded(points: np.ndarray, metric: str = "euclidean") -> tuple[Rows, prune.Coded, np.ndarray]:
    """Rows, the same laid out, and the estimates of all pairs: float64[m, m]."""
    kind = metric_of(metric)
    if not kind.euclidean:
        points = np.concatenate([points, np.zeros((len(points), 1), np.float32)], axis=1)
    coder = coder_of(points, kind)
    rows = encode(points, coder)
    form = coded_form(kind, rows, coder)
    codes = np.empty((len(points), prune.coded_width(form.columns)), np.int8)
    prune.lay_out(rows, form, codes)
    values = rows.values[:, : form.columns].astype(np.int64)
    squares = rows.squares.astype(np.int64) * kind.euclidean
    return rows, prune.with_words(codes), squares[:, None] + squares - 2 * values @ values.T


def lists_of(estimates: np.ndarray, k: int) -> np.ndarray:
    """The k nearest others of each row by estimates, int32[m, k]."""
    estimates = estimates.copy()
    np.fill_diagonal(estimates, 2**40)
    return np.argsort(estimates, axis=1, kind="stable")[:, :k].astype(np.int32)


def naive_kept(estimates: np.ndarray, ids: np.ndarray, most: int) -> list[list[int]]:
    """Neighbours that no kept one hides."""
    result = []
    for row, mine in enumerate(ids):
        kept: list[int] = []
        for label in mine:
            between = [np.float32(estimates[label, other]) for other in kept]
            own = np.float32(estimates[row, label])
            if len(kept) < most and not any(b + prune.SLACK * abs(b) < own for b in between):
                kept.append(int(label))
        result.append(kept)
    return result


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_a_neighbour_near_a_kept_one_is_dropped(metric: str) -> None:
    _, rows, estimates = coded(clustered(300, 20), metric)
    ids = lists_of(estimates, 24)
    kept = np.empty((300, 10), np.int32)
    prune.diversify(rows, ids, 1.0, 7, 0, 300, kept)
    for mine, naive in zip(kept, naive_kept(estimates, ids, 10), strict=True):
        assert mine[mine != -1].tolist() == naive


def test_with_probability_zero_nothing_is_dropped_and_in_between_some() -> None:
    _, rows, estimates = coded(clustered(300, 20))
    ids, counts = lists_of(estimates, 12), []
    for probability in (0.0, 0.5, 1.0):
        kept = np.empty_like(ids)
        prune.diversify(rows, ids, probability, 7, 0, 300, kept)
        counts.append(int((kept >= 0).sum()))
    assert counts[0] == ids.size > counts[1] > counts[2]


def test_rows_that_are_not_at_hand_stay() -> None:
    _, rows, estimates = coded(clustered(300, 20))
    ids = lists_of(estimates, 12)
    ids[:, 5], ids[:, 7] = -2 - 5, -2 - 7
    kept = np.empty_like(ids)
    prune.diversify(rows, ids, 1.0, 7, 0, 300, kept)
    assert ((kept == -7).sum(axis=1) == 1).all()
    edges = prune.both_ways(kept, 24)
    assert ((edges == -7).sum(axis=1) == 1).all()
    assert ((edges == -9).sum(axis=1) == 1).all()


def test_edges_go_both_ways_while_there_is_room() -> None:
    ids = lists_of(coded(clustered(300, 20))[2], 6)
    edges = prune.both_ways(ids, 300)
    there = [set(row[row >= 0].tolist()) for row in edges]
    assert all(row in there[other] for row, mine in enumerate(ids) for other in mine)
    assert all(other in there[row] for row, mine in enumerate(ids) for other in mine)
    narrow = prune.both_ways(ids, 8)
    for row, mine in enumerate(narrow):
        used = mine[mine != -1]
        assert len(set(used.tolist())) == len(used)
        assert mine[: len(used)].tolist() == used.tolist()
        assert set(ids[row, :4].tolist()) <= set(used.tolist())


def reachable(edges: np.ndarray, pivots: np.ndarray) -> set[int]:
    """All rows that edges lead to."""
    found, todo = set(pivots.tolist()), list(pivots.tolist())
    while todo:
        new = {int(other) for other in edges[todo.pop()] if other >= 0} - found
        found |= new
        todo += new
    return found


def test_every_row_is_reachable() -> None:
    points = np.concatenate([clustered(200, 8), clustered(50, 8) + 1000]).astype(np.float32)
    ids = lists_of(coded(points)[2], 5)
    edges = np.full((250, 6), -1, np.int32)
    edges[:, :2] = ids[:, :2]
    pivots = np.array([3], np.int32)
    assert len(reachable(edges, pivots)) < 250
    begins, piece = prune.make_reachable(edges, ids, pivots, np.zeros(250, np.int32))
    pieces = piece[begins]
    # The rows far away have no neighbour among the others: one of them has to become a pivot, of another piece.
    assert begins[0] == pieces[0] == 3
    assert (begins[1:] >= 200).any()
    assert set(pieces[begins >= 200]).isdisjoint([3])
    assert len(reachable(edges, begins)) == 250
    assert len(reachable(edges, begins[pieces == 3])) > 150


def test_a_piece_takes_in_what_its_rows_are_neighbours_of() -> None:
    # A chain in which each row knows the one before: nothing leads from the first to the others.
    ids = np.maximum(np.arange(40)[:, None] - [[1, 2]], 0).astype(np.int32)
    edges = np.full((40, 4), -1, np.int32)
    edges[1:, :1] = ids[1:, :1]
    begins, piece = prune.make_reachable(edges, ids, np.array([39, 0], np.int32), np.arange(40, dtype=np.int32) // 10)
    # Each cell has one.
    assert begins.tolist() == [39, 0, 10, 20]
    assert piece.tolist() == [39] * 40
    edges[:, :] = -1
    begins, piece = prune.make_reachable(edges, ids, np.array([0], np.int32), np.zeros(40, np.int32))
    assert (begins.tolist(), piece.tolist()) == ([0], [0] * 40)
    assert len(reachable(edges, begins)) == 40


def test_lists_with_room_take_in_what_stands_beside() -> None:
    rows, _, _ = coded(clustered(50, 8))
    lists = empty(50, 6)
    lists.ids[7, 0], lists.distances[7, 0] = 30, 0.0
    prune.fill_beside(rows.points, plain_form(metric_of("euclidean"), 8), lists, 0, 50)
    assert sorted(lists.ids[0].tolist()) == [1, 2, 3, 4, 5, 6]
    assert {8, 9} <= set(lists.ids[7, 1:].tolist()) <= {4, 5, 6, 8, 9, 10}
    assert lists.ids[7, 0] == 30
    gaps = ((rows.points[:, None] - rows.points[lists.ids]) ** 2).sum(axis=2)
    gaps[7, 0] = 0
    np.testing.assert_allclose(lists.distances, gaps, rtol=1e-5)
    assert (np.diff(lists.distances, axis=1) >= 0).all()


def test_what_was_found_stands_behind_what_was_known() -> None:
    ids = np.array([[4, -3, 9], [-2, -3, -4]], np.int32)
    found = np.array([[9, 7, 4, 8], [5, -1, -1, -1]], np.int32)
    both = prune.append_found(ids, found)
    assert both.tolist() == [[4, -3, 9, 7, 8, -1, -1], [-2, -3, -4, 5, -1, -1, -1]]


def test_a_row_is_held_by_the_nearest_that_has_room() -> None:
    edges = np.array([[1, 2], [0, -1], [-1, -1], [0, 1]], np.int32)
    prune.hold_by_found(edges, np.array([3, 2, 1], np.int32), np.array([[0, 1, 2], [0, 1, -1], [0, 3, -1]], np.int32))
    # The second finds the first row full and the other one filled by then; the third finds none.
    assert edges.tolist() == [[1, 2], [0, 3], [-1, -1], [0, 1]]


def reach(k: int, epsilon: float, columns: int, pool: int = 512, euclidean: bool = True) -> kernels.Reach:
    return kernels.Reach(k, (1 + epsilon) ** 2 - 1, pool, columns, euclidean)


def naive_search(estimates: np.ndarray, edges: np.ndarray, entries: list[int], k: int, factor: float) -> list[int]:
    """Best first, with sets and sorted lists."""
    seen, looked = set(entries), set()
    while True:
        order = sorted(seen, key=lambda row: (estimates[row], row))
        bound = np.inf if len(order) < k else estimates[order[k - 1]] + int(factor * abs(estimates[order[k - 1]]))
        waiting = [row for row in order if row not in looked and estimates[row] <= bound]
        if not waiting:
            return order
        looked.add(waiting[0])
        seen |= {int(other) for other in edges[waiting[0]] if other >= 0}


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.3])
def test_a_search_finds_what_a_naive_one_finds(epsilon: float) -> None:
    points = clustered(420, 20)
    rows, base, estimates = coded(points)
    m = 400
    ids = lists_of(estimates[:m, :m], 8)
    edges = prune.both_ways(ids, 12)
    searched = kernels.Searched(prune.with_words(base.codes[:m]), edges, 0, NOBODY)
    entries = np.tile(np.array([[1, 90, 200, -1]], np.int32), (20, 1))
    found = np.empty((20, 10), np.int32)
    how = reach(5, epsilon, 20)
    kernels.search(searched, rows.values[m:], rows.squares[m:], entries, how, NOTHING, found)
    for query in range(20):
        own = estimates[m + query, :m]
        naive = naive_search(own, edges, [1, 90, 200], 5, how.factor)
        # Beyond the fifth, what lies outside the bound is not written down in either.
        assert own[found[query, :5]].tolist() == own[naive[:5]].tolist()


def test_a_search_ends_as_soon_as_it_meets_what_it_wants() -> None:
    rows, base, estimates = coded(clustered(500, 20))
    edges = prune.both_ways(lists_of(estimates, 10), 20)
    begins, _ = prune.make_reachable(edges, lists_of(estimates, 10), np.array([0], np.int32), np.zeros(500, np.int32))
    searched, entries = kernels.Searched(base, edges, 0, NOBODY), np.tile(begins, (500, 1))
    costs, found = [], np.empty((500, 10), np.int32)
    for wanted in (NOTHING, np.arange(500, dtype=np.int32)):
        costs.append(
            kernels.search(searched, rows.values, rows.squares, entries, reach(10, 9, 20, 600), wanted, found)[0]
        )
        assert (found[:, 0] == np.arange(500)).all()
    assert costs[1] < costs[0] / 2


def test_a_wide_search_is_exhaustive_and_bits_are_cleared() -> None:
    rows, base, estimates = coded(clustered(500, 20))
    edges = prune.both_ways(lists_of(estimates, 10), 20)
    begins, _ = prune.make_reachable(edges, lists_of(estimates, 10), np.array([0], np.int32), np.zeros(500, np.int32))
    found, entries = np.empty((500, 10), np.int32), np.tile(begins, (500, 1))
    searched = kernels.Searched(base, edges, 0, NOBODY)
    looked, _ = kernels.search(searched, rows.values, rows.squares, entries, reach(500, 9, 20, 600), NOTHING, found)
    assert looked == 500 * 500
    np.testing.assert_array_equal(
        np.take_along_axis(estimates, found.astype(np.int64), 1), np.sort(estimates, axis=1)[:, :10]
    )


def test_only_allowed_rows_are_answers() -> None:
    rows, base, estimates = coded(clustered(500, 20))
    edges = prune.both_ways(lists_of(estimates, 10), 20)
    allowed = (np.arange(500) % 3 == 0).astype(np.uint8)
    found, entries = np.empty((500, 10), np.int32), np.zeros((500, 1), np.int32)
    kernels.search(
        kernels.Searched(base, edges, 0, allowed), rows.values, rows.squares, entries, reach(10, 1, 20), NOTHING, found
    )
    assert (found[found >= 0] % 3 == 0).all()
    allowed_only = np.where(allowed, estimates, 2**40)
    right = np.take_along_axis(estimates, found.astype(np.int64), 1) == np.sort(allowed_only, axis=1)[:, :10]
    assert right.mean() > 0.9


def test_edges_to_rows_elsewhere_are_passed_over() -> None:
    rows, base, estimates = coded(clustered(300, 20))
    edges = prune.both_ways(lists_of(estimates, 10), 20)
    part = kernels.Searched(prune.with_words(base.codes[100:200].copy()), edges[100:200].copy(), 100, NOBODY)
    found, entries = np.empty((300, 5), np.int32), np.full((300, 1), 7, np.int32)
    kernels.search(part, rows.values, rows.squares, entries, reach(5, 0.2, 20), NOTHING, found)
    assert found.max() < 100
    assert (found[:, 0] >= 0).all()


def test_pool_keeps_its_order() -> None:
    pool, size = np.empty(8, np.int64), 0
    for key in np.random.default_rng(0).permutation(40).astype(np.int64) * 2:
        if size < 8 or key < pool[size - 1]:
            kernels.put(pool, size, key)
            size = min(size + 1, 8)
    assert pool.tolist() == list(range(0, 16, 2))
