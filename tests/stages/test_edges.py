"""The edges of a partition: which pieces hang together, and what completing and mending do."""

from __future__ import annotations

import numpy as np

from distnnd.kernels import compared
from distnnd.kernels import prune as kernels
from distnnd.kernels.codes import coded_form, coder_of, encode
from distnnd.kernels.judge import judge_of
from distnnd.kernels.ranges import serial
from distnnd.stages.edges import Ground, Place, completed, mended, unfound
from distnnd.stages.partition import Hands
from distnnd.stages.prune import joined
from distnnd.values.metric import metric_of
from distnnd.values.searching import IndexJob, IndexLayout, IndexSpec
from tests.conftest import all_distances, clustered

EUCLIDEAN = metric_of("euclidean")


def placed(points: np.ndarray, k: int, partitions: int = 1):
    """A place for these rows, their codes as passes and as searches take them, and their form."""
    n, d = points.shape
    coder = coder_of(points, EUCLIDEAN)
    rows = encode(points, coder)
    form = coded_form(EUCLIDEAN, rows, coder)
    codes = np.empty((n, compared.coded_width(form.columns)), np.int8)
    compared.lay_out(rows, form, codes)
    layout = IndexLayout(n, d, "float32", k, 2 * k, 16, partitions, n)
    job = IndexJob("uuid", IndexSpec(), layout, {}, "graph", {}, "out", "scratch")
    ground = Ground(compared.with_words(codes), judge_of(points, None, EUCLIDEAN, d), np.zeros(n, bool))
    return Place(job, 0, coder, EUCLIDEAN, Hands(serial, 1)), rows, ground, form


def nearest(points: np.ndarray, k: int) -> np.ndarray:
    distances = all_distances(points.astype(np.float64), "euclidean")
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :k].astype(np.int32)


def test_short_lists_are_completed_behind_what_was_known() -> None:
    points = clustered(1500, 12)
    place, rows, _, form = placed(points, 8, 2)
    true = nearest(points, 8)
    ids = true.copy()
    # As if six of eight lay elsewhere, and nothing but that were known of some rows.
    ids[:, 2:] = -2 - np.arange(2, 8, dtype=np.int32)
    ids[::10] = -2 - np.arange(8, dtype=np.int32)
    both = completed(place, rows, form, ids)
    np.testing.assert_array_equal(both[:, :8], ids)
    assert all(len(set(row[row >= 0].tolist())) == (row >= 0).sum() for row in both)
    hits = [len(set(row.tolist()) & set(mine.tolist())) for row, mine in zip(both, true, strict=True)]
    # Rows stand in no order here, so that passes begin with anybody.
    assert np.mean(hits) > 0.9 * 8


def test_rows_that_nobody_holds_are_found_after_mending() -> None:
    points = clustered(1500, 12)
    place, _, ground, _ = placed(points, 7)
    ids = nearest(points, 7)
    edges = np.full((1500, 16), -1, np.int32)
    edges[:, :7] = ids
    # Nobody holds these any more, and they stand at the end of no list.
    gone = np.arange(0, 1500, 100)
    edges[np.isin(edges, gone)] = -1
    edges = np.take_along_axis(edges, np.argsort(edges < 0, axis=1, kind="stable"), axis=1)
    begins, piece = np.arange(7, 1500, 90, dtype=np.int32), np.zeros(1500, np.int32)
    everyone = np.arange(1500, dtype=np.int32)
    missed, _ = unfound(place, ground, edges, begins, piece, everyone, False)
    assert set(gone.tolist()) <= set(missed.tolist())
    more, strayed = mended(place, ground, edges, begins, piece)
    assert strayed == len(missed)
    assert more[: len(begins)].tolist() == begins.tolist()
    # An edge was enough for most of them.
    assert len(more) - len(begins) < len(missed) / 4
    # What was added may divert the search for another row, seldom.
    still, _ = unfound(place, ground, edges, more, piece, everyone, False)
    assert set(still.tolist()).isdisjoint(missed.tolist())
    assert len(still) < len(missed) / 4


def test_a_row_without_room_around_it_becomes_a_pivot() -> None:
    points = clustered(400, 6)
    place, _, ground, _ = placed(points, 4)
    edges = kernels.both_ways(nearest(points, 4), 4)
    edges[np.isin(edges, [123])] = 5
    edges[edges == -1] = 6
    begins, piece = np.array([0, 200, 399], np.int32), np.zeros(400, np.int32)
    more, _ = mended(place, ground, edges, begins, piece)
    assert 123 in more


def test_equals_are_as_good_as_each_other() -> None:
    points = np.repeat(clustered(5, 6), 60, axis=0)
    place, _, ground, _ = placed(points, 4)
    edges = np.full((300, 16), -1, np.int32)
    edges[:, 0] = np.arange(300) // 60 * 60 + (np.arange(300) + 1) % 60
    begins, piece = np.arange(0, 300, 60, dtype=np.int32), np.zeros(300, np.int32)
    more, strayed = mended(place, ground, edges, begins, piece)
    assert (len(more), strayed) == (5, 0)


def test_partitions_hang_together_where_edges_go_there_and_back() -> None:
    leaving = np.array([[0, 5, 0, 0], [5, 0, 0, 0], [9, 9, 0, 0], [0, 0, 0, 9]])
    pieces = joined(np.array([0, 10, 13, 20, 30]), np.array([0, 10, 20, 30]), leaving, 100)
    assert pieces.tolist() == [0, 0, 13, 20, 30]
    assert joined(pieces, np.array([0, 10, 20, 30]), leaving, 1000).tolist() == pieces.tolist()
