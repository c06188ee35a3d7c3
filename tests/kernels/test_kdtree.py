"""The k-d tree: full leaves, boxes that hold their rows, walks that find what comparing all pairs finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.kdtree import DEEPEST, Tree, plant, walk
from distnnd.kernels.lanes import LANES
from distnnd.kernels.neighbours import Lists, empty
from tests import naive
from tests.strategies import few, make_points, points, sized


def tree_over(rows: np.ndarray, chosen: np.ndarray | None = None, parts: int = 1) -> Tree:
    chosen = np.arange(len(rows)) if chosen is None else chosen
    return plant(rows, chosen.astype(np.int32), parts=parts)


def depth_of(tree: Tree) -> int:
    depth, deepest = np.zeros(len(tree.rights), np.int64), 0
    for node, right in enumerate(tree.rights):
        if right >= 0:
            depth[[node + 1, right]] = depth[node] + 1
        deepest = max(deepest, int(depth[node]))
    return deepest


def searched(tree: Tree, places: int, limits: np.ndarray | None = None) -> tuple[Lists, tuple[int, int, int]]:
    lists = empty(len(tree.order), places)
    limits = np.full(len(tree.order), np.inf, np.float32) if limits is None else limits
    return lists, walk(tree, limits, lists, 0, tree.leaves)


def assert_nearest(rows: np.ndarray, tree: Tree, lists: Lists, some: slice = slice(None)) -> None:
    """The lists of some rows of the tree hold the nearest of its other rows, in order by (distance, id)."""
    held = rows[tree.order].astype(np.float64)
    gaps, others = naive.squared(held[some], held), ~np.eye(len(held), dtype=bool)[some]
    naive.assert_nearest(lists.ids[some], lists.distances[some], gaps, others, 1e-5 * gaps)


@few(60)
@given(points(rows=(1, 120), columns=(1, 9)))
def test_a_tree_holds_each_row_once_in_full_leaves_within_their_boxes(rows: np.ndarray) -> None:
    tree = tree_over(rows)
    assert sorted(tree.order.tolist()) == list(range(len(rows)))
    assert tree.leaves == -(-len(rows) // LANES)
    held = rows[tree.order].astype(np.float32)
    boxes = tree.boxes.reshape(len(tree.rights), 2, -1)[..., : rows.shape[1]]
    blocks = tree.blocks.reshape(tree.leaves, tree.columns, LANES)
    for leaf, home in enumerate(tree.homes.tolist()):
        inside = held[leaf * LANES : (leaf + 1) * LANES]
        assert tree.rights[home] == -1 - leaf
        np.testing.assert_array_equal(blocks[leaf, : rows.shape[1], : len(inside)].T, inside)
        assert np.isinf(blocks[leaf, :, len(inside) :]).all()
        np.testing.assert_array_equal(boxes[home], [inside.min(axis=0), inside.max(axis=0)])
    for node, right in enumerate(tree.rights.tolist()):
        if right >= 0:
            np.testing.assert_array_equal(boxes[node, 0], np.minimum(boxes[node + 1, 0], boxes[right, 0]))
            np.testing.assert_array_equal(boxes[node, 1], np.maximum(boxes[node + 1, 1], boxes[right, 1]))


@few(80)
@given(points(rows=(1, 150), columns=(1, 9)), st.integers(1, 20))
def test_a_walk_finds_the_nearest_rows(rows: np.ndarray, places: int) -> None:
    tree = tree_over(rows)
    lists, _ = searched(tree, places)
    assert_nearest(rows, tree, lists)


@few(20)
@given(points(rows=(20, 150), columns=(1, 5)), st.integers(1, 8))
def test_only_what_is_nearer_than_its_limit_is_asked_for(rows: np.ndarray, places: int) -> None:
    tree = tree_over(rows)
    everything, _ = searched(tree, places)
    limits = everything.distances[:, places // 2].copy()
    lists, _ = searched(tree, places, limits)
    for row in range(len(rows)):
        near = everything.distances[row][everything.distances[row] < limits[row]]
        np.testing.assert_array_equal(lists.distances[row, : len(near)], near)
        assert np.isinf(lists.distances[row, len(near) :]).all()


def test_rows_that_are_left_out_are_not_found() -> None:
    rows = make_points("plain", np.float32, 200, 3, 0)
    chosen = np.flatnonzero(np.arange(200) % 3 > 0)
    tree = tree_over(rows, chosen)
    assert sorted(tree.order.tolist()) == chosen.tolist()
    assert_nearest(rows, tree, searched(tree, 5)[0])


@pytest.mark.parametrize("flavour", ["plain", "ties", "duplicates"])
def test_parts_and_ranges_change_nothing(flavour: str) -> None:
    rows = make_points(flavour, np.float32, sized(6000, 1500), 3, 0)
    one, other = tree_over(rows), tree_over(rows, parts=7)
    for mine, theirs in zip(one[:5], other[:5], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    lists, counts = searched(one, 8)
    half, total = one.leaves // 2, np.zeros(3, np.int64)
    for first, last in ((0, half), (half, one.leaves)):
        where = slice(first * LANES, min(last * LANES, len(rows)))
        part = empty(where.stop - where.start, 8)
        total += walk(one, np.full(len(part.ids), np.inf, np.float32), part, first, last)
        np.testing.assert_array_equal(part.ids, lists.ids[where])
        np.testing.assert_array_equal(part.distances, lists.distances[where])
    assert tuple(total) == counts


def test_a_run_of_identical_rows_costs_no_more_than_others() -> None:
    rows = np.ones((sized(20_000, 2000), 3), np.float32)
    lists, (tested, compared, _) = searched(tree_over(rows), 17)
    assert (lists.distances == 0).all()
    assert compared <= 2 * len(rows)
    assert tested <= 4 * len(rows)


def test_rare_values_make_no_deep_tree_and_no_long_walks() -> None:
    """Columns of equal spread, most of them nearly always zero: a cut at the median would part equal values."""
    rng = np.random.default_rng(0)
    n = sized(16_000, 1600)
    rows = np.zeros((n, 22), np.float32)
    rows[:, :2] = rng.normal(size=(n, 2))
    rows[np.arange(n), 2 + rng.integers(0, 20, n)] = 30
    tree = tree_over(rows)
    lists, (_, compared, _) = searched(tree, 9)
    assert compared < 40 * n
    assert_nearest(rows, tree, lists, slice(0, None, 97))


def test_spread_over_all_powers_ends() -> None:
    """Each cut in the middle takes one leaf away: from some depth on cuts are at the median."""
    rows = (2.0 ** np.linspace(-60, 60, sized(8000, 4000)))[:, None].astype(np.float32)
    tree = tree_over(rows)
    assert depth_of(tree) <= DEEPEST + 10
    lists, _ = searched(tree, 3)
    assert (lists.ids >= 0).all()
