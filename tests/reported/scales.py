"""Rows that float32 cannot hold, or that lie far from the origin, from each other, or from nothing at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from scipy import sparse

import distnnd
from distnnd.faces.cli import main
from tests.reported.answers import (
    assert_right,
    assert_sound,
    build,
    by_leaves,
    lists_of,
    normal,
    right_or_told,
    share_found,
    three_ways,
    told,
    tried,
)


def a_billionth_apart(place: Path) -> None:
    """float64 rows around one place, a billionth apart: their neighbours, where the middle can be taken off."""
    rng = np.random.default_rng(42)
    points = 10 * rng.random(16) + 1e-9 * rng.random((600, 16))
    for metric in ("euclidean", "manhattan"):
        assert_right(build(points, metric=metric), points, metric, rtol=1e-3, atol=1e-12)
    for metric in ("cosine", "correlation"):
        right_or_told(points, metric, rtol=1e-2, atol=1e-18)


def a_billionth_apart_by_the_command_line(place: Path) -> None:
    """The same file by the command line."""
    points = 10 * np.random.default_rng(1).random(8) + 1e-9 * np.random.default_rng(2).random((300, 8))
    np.save(place / "x.npy", points)
    run = CliRunner().invoke(main, ["build", str(place / "x.npy"), str(place / "g"), "-k", "5"])
    assert run.exit_code == 0, run.output
    assert_right(distnnd.open_graph(place / "g"), points, rtol=1e-3, atol=1e-12)


def metres_of_a_map(place: Path) -> None:
    """float32 metres around 400,000, a tenth of a metre apart at least: the differences are exact."""
    points = (4e5 + np.round(np.random.default_rng(0).uniform(0, 80, (1500, 2)), 1)).astype(np.float32)
    for graph in three_ways(points):
        assert_right(graph, points)
    few = np.array([[4e5, 4e5], [4e5, 4e5 + 2], [4e5, 4e5 + 7], [4e5 + 1, 4e5]])
    ids, _ = lists_of(few, 2)
    for dtype in (np.float32, np.float64):
        for metric in ("euclidean", "sqeuclidean", "manhattan", "chebyshev"):
            graph = build(few.astype(dtype), 2, metric=metric)
            assert_right(graph, few, metric)
            assert metric == "manhattan" or (graph.indices[:] == ids).all()


def millimetres_of_a_map(place: Path) -> None:
    """float64 metres around 400,000 by the millimetre."""
    points = 4e5 + np.round(np.random.default_rng(0).uniform(0, 3, (1500, 2)), 3)
    for metric in ("euclidean", "manhattan"):
        for graph in three_ways(points, metric=metric):
            assert_right(graph, points, metric, rtol=1e-5, atol=1e-9)


def places_on_earth(place: Path) -> None:
    """Metres from the middle of the Earth, as float32 has them."""
    middle = np.array([4_200_000.0, 2_300_000.5, 4_100_000.2])
    points = (middle + np.random.default_rng(1).uniform(-2000, 2000, (1500, 3))).astype(np.float32)
    for graph in three_ways(points):
        assert_right(graph, points)
    index = graph.build_index(place / "i", source=points)
    ids, _ = index.query(points[:200], k=10)
    assert np.mean(ids[:, 1:] == graph.indices[:200, :9]) > 0.9


def a_scan_of_one_metre_on_earth(place: Path) -> None:
    """float64 metres from the middle of the Earth, all within one metre, and a line of millimetres."""
    middle = np.array([4_200_000.0, 2_300_000.5, 4_100_000.2])
    points = middle + np.random.default_rng(1).uniform(-0.5, 0.5, (1500, 3))
    for graph in three_ways(points):
        assert_right(graph, points, rtol=1e-5, atol=1e-9)
    line = np.zeros((5, 3))
    line[:, 0] = 4_200_000 + np.array([0.001, 0.002, 0.004, 0.008, 1])
    graph = build(line, 2)
    assert (graph.indices[:] == lists_of(line, 2, decimals=6)[0]).all()
    np.testing.assert_allclose(graph.distances[0], [0.001, 0.003], rtol=1e-4)


def seconds_and_ids(place: Path) -> None:
    """Whole numbers that float32 rounds: seconds as int64, large ids as uint32, and a shift of a billion."""
    rng = np.random.default_rng(5)
    seconds = 1_700_000_000 + rng.integers(0, 3000, (700, 2))
    ids = (4_000_000_000 + rng.integers(0, 3000, (700, 2))).astype(np.uint32)
    for points in (seconds, ids, seconds.astype(np.int32), 1e9 + normal(700, 4).astype(np.float64)):
        for graph in three_ways(points):
            assert_right(graph, points, rtol=1e-5)


def measured_by_the_points_as_given(place: Path) -> None:
    """measure_recall and verify go by the float64 rows, too."""
    points = 1e6 + 1e-3 * np.random.default_rng(3).normal(size=(1500, 3))
    for graph in by_leaves(points):
        measured = graph.measure_recall(points, probes=400)
        share = share_found(graph, points, "euclidean", np.arange(0, 1500, 5), rtol=1e-6)
        assert abs(measured.estimate - share) < 0.05
        assert share > 0.94
        graph.verify(points)


def a_graph_of_float64_verifies(place: Path) -> None:
    """Ordinary float64 rows: distances and recall hold."""
    points = np.random.default_rng(0).normal(size=(1200, 20))
    for graph in three_ways(points):
        assert graph.verify(points)["recomputed"] > 0
        assert graph.measure_recall(points, probes=200).estimate > 0.93


def rows_of_nearly_one_direction(place: Path) -> None:
    """Unit rows that differ by 1e-4 to 1e-6: nothing cancels out."""
    direction = normal(1, 64, 2)[0].astype(np.float64)
    direction /= np.linalg.norm(direction)
    for spread in (1e-4, 1e-5, 1e-6):
        points = (direction + spread * np.random.default_rng(1).normal(size=(1300, 64))).astype(np.float32)
        for graph in three_ways(points):
            assert_right(graph, points, atol=0)


def two_half_circles(place: Path) -> None:
    """Noisy half circles in two columns, at the origin, far from it, and as float16 with its many ties."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, 2000)
    circle = np.c_[np.cos(angle), np.sin(angle)]
    circle[1000:] = [1, 0.5] - circle[1000:]
    circle += 0.05 * rng.normal(size=circle.shape)
    for points in (circle.astype(np.float32), (circle + 1000).astype(np.float32), circle.astype(np.float16)):
        for graph in three_ways(points, 15):
            assert_right(graph, points)


def rounded_on_the_wire_only(place: Path) -> None:
    """float16 between partitions: distances are those of the points, the recall is that of the graph."""
    points = (normal(1500, 4, 8) + 1000).astype(np.float32)
    *_, graph = by_leaves(points, exchange_dtype="float16")
    assert_right(graph, points)


def directions_of_short_rows(place: Path) -> None:
    """Zero rows, -0.0 and rows of 1e-20 and 1e-30 beside rows of 1, under cosine; and the points of a compass."""
    rows = [[1, 1, 1], [2, 1, 1], [3, 1, 1], [0, 0, 0], [-0.0, 0, -0.0], [1e-20, 1e-20, 1e-20], [1e-30, 2e-30, 1e-30]]
    for dtype in (np.float32, np.float64):
        points = np.array(rows, dtype)
        for k in (3, 6):
            assert_right(build(points, k, metric="cosine"), points, "cosine", atol=2e-6)
    compass = np.array([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]])
    for points in (compass, compass.astype(np.int8), sparse.csr_matrix(compass)):
        graph = build(points, 7, metric="cosine")
        assert_right(graph, compass, "cosine")
        assert graph.distances[:].max() <= 2.000001


def directions_of_rows_that_float32_has_not(place: Path) -> None:
    """float64 rows of 1e-50, 1e-200 and 1e25 beside rows of 1, under cosine: the direction counts."""
    for factor in (1e-38, 1e-50, 1e-200, 1e-300, 1e18, 1e25):
        points = np.random.default_rng(0).normal(size=(200, 5))
        points[100:] *= factor
        right_or_told(points, "cosine", 5)
    right_or_told((points / 1e25 * 1e-44).astype(np.float32), "cosine", 5, atol=1e-2)


def tiny_rows_beside_a_row_of_ones(place: Path) -> None:
    """Rows of 1e-30 beside one of 1: right, or told."""
    tiny = 1e-30 * np.random.default_rng(1).normal(size=(100, 4))
    for metric in ("euclidean", "manhattan", "inner_product", "correlation"):
        for dtype in (np.float32, np.float64):
            for points in (tiny, np.concatenate([tiny, np.ones((1, 4))])):
                right_or_told(points.astype(dtype), metric, 5, atol=1e-37 if metric != "correlation" else 1e-6)


def rounding_that_was_asked_for(place: Path) -> None:
    """dtype="float32" rounds on demand, and a warning says how many rows became equal to another one."""
    points = 10 * np.random.default_rng(1).random(6) + 1e-9 * np.random.default_rng(2).random((300, 6))
    graph, heard = told(points, 5, dtype="float32")
    assert_sound(graph)
    assert any("300" in one and "equal" in one for one in heard), heard


def beyond_what_float32_reaches(place: Path) -> None:
    """A number of 1e300 is told with its row, or taken as it is."""
    points = np.random.default_rng(1).normal(size=(300, 4))
    points[299, 3] = 1e300
    graph, refusal = tried(lambda: build(points, 5))
    if graph is None:
        assert "299" in refusal
    else:
        assert (graph.indices[:299] == lists_of(points[:299], 5)[0]).all()
