"""The search graph and the search, beside what a few lines of Python say they should be."""

from __future__ import annotations

import numpy as np
import pytest

from distnnd.kernels import compared, prune
from distnnd.kernels import search as kernels
from distnnd.kernels.codes import Rows, coded_form, coder_of, encode
from distnnd.kernels.neighbours import empty
from distnnd.kernels.rows import plain_form
from distnnd.values.metric import metric_of
from tests.conftest import clustered

NOBODY, NOTHING = np.zeros(0, np.uint8), np.zeros(0, np.int32)
EVERYONE = np.arange(300, dtype=np.int32)


def coded(points: np.ndarray, metric: str = "euclidean") -> tuple[Rows, compared.Coded, np.ndarray]:
    """Rows, the same laid out, and the estimates of all pairs: float64[m, m]."""
    kind = metric_of(metric)
    if not kind.euclidean:
        points = np.concatenate([points, np.zeros((len(points), 1), np.float32)], axis=1)
    coder = coder_of(points, kind)
    rows = encode(points, coder)
    form = coded_form(kind, rows, coder)
    codes = np.empty((len(points), compared.coded_width(form.columns)), np.int8)
    compared.lay_out(rows, form, codes)
    values = rows.values[:, : form.columns].astype(np.int64)
    squares = rows.squares.astype(np.int64) * kind.euclidean
    return rows, compared.with_words(codes), squares[:, None] + squares - 2 * values @ values.T


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
    prune.diversify(rows, ids, prune.SLACK, 1.0, 7, EVERYONE, kept)
    for mine, naive in zip(kept, naive_kept(estimates, ids, 10), strict=True):
        assert mine[mine != -1].tolist() == naive


def test_with_probability_zero_nothing_is_dropped_and_in_between_some() -> None:
    _, rows, estimates = coded(clustered(300, 20))
    ids, counts = lists_of(estimates, 12), []
    for probability in (0.0, 0.5, 1.0):
        kept = np.empty_like(ids)
        prune.diversify(rows, ids, prune.SLACK, probability, 7, EVERYONE, kept)
        counts.append(int((kept >= 0).sum()))
    assert counts[0] == ids.size > counts[1] > counts[2]


def test_rows_that_are_not_at_hand_stay() -> None:
    _, rows, estimates = coded(clustered(300, 20))
    ids = lists_of(estimates, 12)
    ids[:, 5], ids[:, 7] = -2 - 5, -2 - 7
    kept = np.empty_like(ids)
    prune.diversify(rows, ids, prune.SLACK, 1.0, 7, EVERYONE, kept)
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


def reach(k: int, epsilon: float, pool: int = 512) -> kernels.Reach:
    return kernels.Reach(k, (1 + epsilon) ** 2 - 1, pool)


def queries(rows: Rows, first: int = 0) -> compared.Codes:
    """Rows from `first` on as queries."""
    return compared.Codes(rows.values[first:], rows.squares[first:], rows.points.shape[1])


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
    searched = kernels.Searched(compared.with_words(base.codes[:m]), edges, 0, NOBODY)
    entries = np.tile(np.array([[1, 90, 200, -1]], np.int32), (20, 1))
    found = np.empty((20, 10), np.int32)
    how = reach(5, epsilon)
    kernels.search(searched, queries(rows, m), entries, how, NOTHING, found)
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
        costs.append(kernels.search(searched, queries(rows), entries, reach(10, 9, 600), wanted, found)[0])
        assert (found[:, 0] == np.arange(500)).all()
    assert costs[1] < costs[0] / 2


def test_a_wide_search_is_exhaustive_and_bits_are_cleared() -> None:
    rows, base, estimates = coded(clustered(500, 20))
    edges = prune.both_ways(lists_of(estimates, 10), 20)
    begins, _ = prune.make_reachable(edges, lists_of(estimates, 10), np.array([0], np.int32), np.zeros(500, np.int32))
    found, entries = np.empty((500, 10), np.int32), np.tile(begins, (500, 1))
    searched = kernels.Searched(base, edges, 0, NOBODY)
    looked, _ = kernels.search(searched, queries(rows), entries, reach(500, 9, 600), NOTHING, found)
    assert looked == 500 * 500
    np.testing.assert_array_equal(
        np.take_along_axis(estimates, found.astype(np.int64), 1), np.sort(estimates, axis=1)[:, :10]
    )


def test_only_allowed_rows_are_answers() -> None:
    rows, base, estimates = coded(clustered(500, 20))
    edges = prune.both_ways(lists_of(estimates, 10), 20)
    allowed = (np.arange(500) % 3 == 0).astype(np.uint8)
    found, entries = np.empty((500, 10), np.int32), np.zeros((500, 1), np.int32)
    kernels.search(kernels.Searched(base, edges, 0, allowed), queries(rows), entries, reach(10, 1), NOTHING, found)
    assert (found[found >= 0] % 3 == 0).all()
    allowed_only = np.where(allowed, estimates, 2**40)
    right = np.take_along_axis(estimates, found.astype(np.int64), 1) == np.sort(allowed_only, axis=1)[:, :10]
    assert right.mean() > 0.9


def test_edges_to_rows_elsewhere_are_passed_over() -> None:
    rows, base, estimates = coded(clustered(300, 20))
    edges = prune.both_ways(lists_of(estimates, 10), 20)
    part = kernels.Searched(compared.with_words(base.codes[100:200].copy()), edges[100:200].copy(), 100, NOBODY)
    found, entries = np.empty((300, 5), np.int32), np.full((300, 1), 7, np.int32)
    kernels.search(part, queries(rows), entries, reach(5, 0.2), NOTHING, found)
    assert found.max() < 100
    assert (found[:, 0] >= 0).all()


def test_pool_keeps_its_order() -> None:
    pool, size = np.empty(8, np.int64), 0
    for key in np.random.default_rng(0).permutation(40).astype(np.int64) * 2:
        if size < 8 or key < pool[size - 1]:
            kernels.put(pool, size, key)
            size = min(size + 1, 8)
    assert pool.tolist() == list(range(0, 16, 2))


# --- exact rows ------------------------------------------------------------------------------------------


def exact_of(points: np.ndarray, metric: str = "euclidean") -> compared.Exact:
    """The rows by their numbers."""
    return compared.Exact(points, plain_form(metric_of(metric), points.shape[1] + (metric == "inner_product")))


def test_keys_order_as_numbers_do() -> None:
    rows = exact_of(np.zeros((1, 1), np.float32))
    numbers = np.array([-3e38, -2.5, -1e-40, -0.0, 0.0, 1e-40, 1e-3, 7.0, 3e38], np.float32)
    keys = [int(compared._key_of(number)) for number in numbers]
    assert keys == sorted(keys)
    assert keys[3] == keys[4] == 0
    assert [float(compared.number_of(rows, key)) for key in keys] == [float(number) for number in numbers]
    assert float(compared.number_of(rows, compared.key_above(rows, keys[7], 0.5))) == 10.5
    assert compared.key_above(rows, keys[8], 1e6) < compared.FARTHEST
    assert float(compared.number_of(rows, compared.key_above(rows, keys[1], 0.2))) == -2.0


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_exact_rows_are_pruned_and_walked_as_naively(metric: str) -> None:
    points = clustered(420, 20)
    if metric == "euclidean":
        points = points * np.float32(1e-3) + np.float32(5)
    pairs = -(points.astype(np.float64) @ points.T.astype(np.float64))
    if metric == "euclidean":
        pairs = ((points[:, None].astype(np.float64) - points) ** 2).sum(axis=2)
    rows, ids = exact_of(points[:300], metric), lists_of(pairs[:300, :300], 24)
    kept = np.empty((300, 10), np.int32)
    prune.diversify(rows, ids, prune.SLACK, 1.0, 7, EVERYONE, kept)
    naive = [set(mine) for mine in naive_kept(pairs, ids, 10)]
    # float32 may settle a tie otherwise.
    assert np.mean([set(mine[mine != -1].tolist()) == one for mine, one in zip(kept, naive, strict=True)]) > 0.98
    edges = prune.both_ways(ids[:, :8].copy(), 12)
    asked = compared.Exact(points[300:], rows.form)
    entries, found = np.tile(np.array([[1, 90, 200]], np.int32), (120, 1)), np.empty((120, 10), np.int32)
    how = reach(5, 0.1)
    kernels.search(kernels.Searched(rows, edges, 0, NOBODY), asked, entries, how, NOTHING, found)
    same = 0
    for query in range(120):
        own = pairs[300 + query, :300]
        order = naive_float_search(own, edges, [1, 90, 200], 5, how.factor)
        same += bool((own[found[query, :5]] <= own[order[4]] + 1e-4 * abs(own[order[4]])).all())
    assert same > 110


def naive_float_search(lengths: np.ndarray, edges: np.ndarray, entries: list[int], k: int, factor: float) -> list[int]:
    """As naive_search, of numbers."""
    seen, looked = set(entries), set()
    while True:
        order = sorted(seen, key=lambda row: (lengths[row], row))
        kth = lengths[order[min(k, len(order)) - 1]]
        bound = np.inf if len(order) < k else kth + factor * abs(kth)
        waiting = [row for row in order if row not in looked and lengths[row] <= bound]
        if not waiting:
            return order
        looked.add(waiting[0])
        seen |= {int(other) for other in edges[waiting[0]] if other >= 0}


def test_a_hidden_row_is_neither_met_nor_passed_through() -> None:
    points = np.arange(10, dtype=np.float32)[:, None]
    edges = np.full((10, 4), -1, np.int32)
    edges[:9, 0], edges[1:, 1] = np.arange(1, 10), np.arange(9)
    edges[0], edges[9] = [1, -1, -1, -1], [8, -1, -1, -1]
    rows = exact_of(points)
    found, entries = np.empty((2, 10), np.int32), np.array([[0, 5], [0, 5]], np.int32)
    hidden = np.array([-2 - 5, -1], np.int32)
    kernels.search(
        kernels.Searched(rows, edges, 0, NOBODY),
        compared.Exact(points[[5, 5]], rows.form),
        entries,
        reach(10, 10),
        hidden,
        found,
    )
    assert sorted(found[0].tolist()) == [-1] * 5 + [0, 1, 2, 3, 4]
    assert sorted(found[1].tolist()) == list(range(10))
    # What one query hid the next one meets.
    assert found[1, 0] == 5


def test_equals_hang_together_though_lists_name_the_same_few() -> None:
    ids = np.concatenate([np.tile([0, 1, 2, 3], (40, 1)), np.tile([40, 41, 42, 43], (10, 1))]).astype(np.int32)
    ids[:4] = [[1, 2, 3, 4], [0, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 4]]
    first = prune.equals_of(ids, np.concatenate([np.full(40, 4), np.zeros(10, np.int64)]))
    assert first.tolist() == [0] * 40 + list(range(40, 50))
    edges = ids.copy()
    prune.chain(edges, first, np.argsort(first, kind="stable"))
    assert len(reachable(edges, np.array([17]))) == 40
    assert len(reachable(edges, np.array([0]))) == len(reachable(edges, np.array([39]))) == 40
    np.testing.assert_array_equal(edges[40:], ids[40:])


def test_lists_are_laid_side_by_side() -> None:
    kept, others = np.array([[1, -2, -1], [4, 5, 6]], np.int32), np.array([[7, 1, 8], [-1, -1, -1]], np.int32)
    assert prune.side_by_side(kept, others).tolist() == [[7, 1, -2, 8, -1, -1], [4, 5, 6, -1, -1, -1]]


def test_a_search_among_many_equals_ends_with_enough_of_them() -> None:
    points = np.zeros((500, 4), np.float32)
    edges = np.full((500, 4), -1, np.int32)
    prune.chain(edges, np.zeros(500, np.int32), np.arange(500))
    rows, found = exact_of(points), np.empty((1, 10), np.int32)
    looked, _ = kernels.search(
        kernels.Searched(rows, edges, 0, NOBODY),
        compared.Exact(points[:1], rows.form),
        np.array([[250]], np.int32),
        reach(10, 0.1),
        NOTHING,
        found,
    )
    assert (found >= 0).all()
    assert looked < 20
