"""Points that float32 cannot hold: neighbours, distances and recall are those of the numbers as they were given."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

import distnnd
from distnnd import SpecError
from distnnd.testing import forced_partitions

K = 5
N = 1500
CDIST = {"euclidean": "euclidean", "manhattan": "cityblock", "chebyshev": "chebyshev", "sqeuclidean": "sqeuclidean"}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def whole(low: int, high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, shape)


POINTS = {
    "far from the origin": lambda: 1e9 + normal(N, 6),
    "metres by a millimetre": lambda: 4e5 + np.round(3 * np.random.default_rng(0).random((N, 2)), 3),
    "around the earth's centre": lambda: np.array([4208848.0, 2334863.5, 4171170.2]) + normal(N, 3),
    "two places far apart": lambda: np.where(np.arange(N)[:, None] % 2, 1e9, -1e9) + normal(N, 4),
    "tiny beside large": lambda: normal(N, 4) * np.where(np.arange(N) % 2, 1e-30, 1)[:, None],
    "tiny": lambda: 1e-30 * normal(N, 4),
    "large": lambda: 1e25 * normal(N, 4),
    "unix seconds": lambda: 1_700_000_000 + whole(0, 40_000_000, N, 2),
    "ids": lambda: (4_000_000_000 + np.random.default_rng(0).permutation(N)).astype(np.uint32)[:, None],
    "int32": lambda: (2_000_000_000 + whole(0, 3000, N, 3)).astype(np.int32),
    "big-endian": lambda: (1e9 + normal(N, 3)).astype(">f8"),
}


def true_distances(points: np.ndarray, metric: str, rows: np.ndarray) -> np.ndarray:
    points = points.astype(np.float64)
    if metric == "cosine":
        # By chords: 1 - cos of what is almost parallel is rounded to nothing.
        points = points / np.abs(points).max(axis=1, keepdims=True)
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
        between = cdist(points[rows], points, "sqeuclidean") / 2
    else:
        between = cdist(points[rows], points, CDIST[metric])
    between[np.arange(len(rows)), rows] = np.inf
    return between


def true_recall(graph: distnnd.Graph, points: np.ndarray, metric: str = "euclidean") -> float:
    rows = np.random.default_rng(1).choice(len(points), min(len(points), 300), replace=False)
    between = true_distances(points, metric, rows)
    kth = np.sort(between, axis=1)[:, K - 1 : K]
    ids = graph.indices[:][rows]
    return float((np.take_along_axis(between, ids, axis=1) <= kth * (1 + 1e-6)).mean())


def check(graph: distnnd.Graph, points: np.ndarray, metric: str = "euclidean") -> None:
    recall = true_recall(graph, points, metric)
    assert recall == 1 if graph.recall.exact else recall > 0.93
    assert graph.recall.exact or graph.recall.low - 0.02 <= recall <= graph.recall.high + 0.02
    rows = np.arange(50)
    told, ids = graph.distances[:50], graph.indices[:50]
    true = np.take_along_axis(true_distances(points, metric, rows), ids, axis=1)
    np.testing.assert_allclose(told, true, rtol=1e-5, atol=1e-37)
    assert graph.verify(points)["recomputed"] > 0
    measured = graph.measure_recall(points, probes=300)
    assert measured.low - 0.02 <= recall <= measured.high + 0.02


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_neighbours_are_those_of_the_numbers_as_given(name: str, metric: str) -> None:
    points = POINTS[name]()
    check(distnnd.build(points, None, K, metric=metric), points, metric)


@pytest.mark.parametrize("name", ["far from the origin", "two places far apart", "tiny beside large", "ids"])
@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
@pytest.mark.parametrize("partitions", [1, 4])
def test_and_so_they_are_where_leaves_and_partitions_look_for_them(name: str, metric: str, partitions: int) -> None:
    points = POINTS[name]()
    with forced_partitions(partitions=partitions, block_rows=512):
        graph = distnnd.build(points, None, K, metric=metric)
    check(graph, points, metric)


@pytest.mark.parametrize("scale", [1e-50, 1e-200, 1e-300, 1e30])
def test_directions_do_not_depend_on_length(scale: float) -> None:
    points = normal(N, 5) * np.where(np.arange(N) % 2, scale, 1)[:, None]
    check(distnnd.build(points, None, K, metric="cosine"), points, "cosine")


def test_almost_parallel_rows_have_neighbours_under_cosine() -> None:
    points = 10 * np.random.default_rng(0).random(16) + 1e-9 * np.random.default_rng(1).random((600, 16))
    graph = distnnd.build(points, None, K, metric="cosine")
    between = true_distances(points, "cosine", np.arange(600))
    kth = np.sort(between, axis=1)[:, K - 1 : K]
    # A unit vector in float64 is itself known to a millionth of these differences.
    assert (np.take_along_axis(between, graph.indices[:], axis=1) <= kth * (1 + 1e-4)).mean() > 0.99


def test_zero_rows_keep_their_place_under_cosine() -> None:
    points = np.concatenate([np.zeros((3, 4)), normal(60, 4) + 1e6])
    graph = distnnd.build(points, None, 3, metric="cosine")
    np.testing.assert_array_equal(graph.indices[:3, :2], [[1, 2], [0, 2], [0, 1]])
    np.testing.assert_allclose(graph.distances[:3], [[0, 0, 1]] * 3)


def test_largest_inner_products_of_tiny_and_of_wide_numbers() -> None:
    for points in (1e-30 * normal(400, 6), 1e9 + whole(-5, 5, 400, 4)):
        graph = distnnd.build(points, None, K, metric="inner_product")
        products = points.astype(np.float64) @ points.T.astype(np.float64)
        np.fill_diagonal(products, -np.inf)
        kth = np.sort(products, axis=1)[:, -K, None]
        assert (np.take_along_axis(products, graph.indices[:], axis=1) >= kth * (1 - 1e-6)).all()


def test_same_bytes_from_memory_file_and_dask_and_by_any_number_of_threads(tmp_path) -> None:
    points = POINTS["far from the origin"]()
    np.save(tmp_path / "points.npy", points)
    import dask.array

    from distnnd.runtime.serial import SerialExecutor

    sources = [points, tmp_path / "points.npy", dask.array.from_array(points, chunks=(400, 3))]
    with forced_partitions(partitions=3, block_rows=512):
        graphs = [distnnd.build(source, None, K) for source in sources]
        graphs.append(distnnd.build(points, None, K, client=SerialExecutor(threads=1)))
    for graph in graphs[1:]:
        np.testing.assert_array_equal(graph.indices[:], graphs[0].indices[:])
        np.testing.assert_array_equal(graph.distances[:], graphs[0].distances[:])


def test_numbers_of_16_bits_and_truths_are_told_by_float32() -> None:
    for points in (whole(-(2**15), 2**15, 100, 3).astype(np.int16), whole(0, 2, 100, 30).astype(bool)):
        assert distnnd.plan(points, K).layout.dtype == "float32"
    assert distnnd.plan(whole(2**30, 2**31, 100, 3), K).layout.dtype == "float64"


def test_arrays_of_wide_numbers_that_float32_holds_give_the_bytes_of_float32() -> None:
    narrow = normal(500, 4).astype(np.float32)
    graph = distnnd.build(narrow, None, K)
    for points in (narrow.astype(np.float64), narrow.tolist()):
        again = distnnd.build(points, None, K)
        np.testing.assert_array_equal(again.indices[:], graph.indices[:])
        np.testing.assert_array_equal(again.distances[:], graph.distances[:])
        assert again.verify(points)["recomputed"] == 500
    # Unit length is rounded by float32, so directions are compared in float64.
    assert distnnd.plan(narrow.astype(np.float64), K, metric="cosine").layout.dtype == "float64"
    assert distnnd.plan(narrow.astype(np.float64) * 1e-30, K).layout.dtype == "float64"


# --- where rounding is asked for -------------------------------------------------------------------


def test_rounding_to_float32_is_asked_for_and_says_how_many_rows_became_equal(tmp_path) -> None:
    points = np.repeat(2.0**30 + 1024.0 * np.arange(300)[:, None], 2, axis=0) + np.tile([0.0, 1e-3], 300)[:, None]
    with pytest.warns(UserWarning, match="about 600 of 600 rows became equal"):
        graph = distnnd.build(points, tmp_path / "graph.zarr", K, dtype="float32")
    assert graph.info()["n"] == 600
    assert graph.facts["layout"]["dtype"] == "float32"
    # Those that were equal before are no concern of rounding.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equal = distnnd.build(np.repeat(normal(100, 3), 2, axis=0), None, K, dtype="float32")
    # The graph remembers as what its points were read.
    assert graph.verify(points)["recomputed"] == 600
    assert equal.recall.exact


def test_whole_numbers_beyond_float64_are_counted_too() -> None:
    points = 2**60 + np.arange(200)[:, None]
    with pytest.warns(UserWarning, match="about 200 of 200 rows became equal .* rounded to float64"):
        distnnd.build(points, None, K)


def test_sparse_rows_that_became_equal_are_counted() -> None:
    rows = np.repeat(np.eye(50), 2, axis=0)
    rows[1::2] *= 1 + 1e-12
    with pytest.warns(UserWarning, match="about 100 of 100 rows became equal"):
        distnnd.build(sparse.csr_matrix(rows), None, K, metric="cosine")


def test_float32_rows_of_which_squares_vanish_are_told_and_the_remedy_works() -> None:
    points = np.concatenate([1e-30 * normal(99, 4), np.ones((1, 4))]).astype(np.float32)
    with pytest.warns(UserWarning, match='99 of 100 rows hold no number beyond 1e-15.*dtype="float64"'):
        distnnd.build(points, None, K)
    check_all = distnnd.build(points, None, K, dtype="float64")
    assert true_recall_of_all(check_all, points) == 1


def true_recall_of_all(graph: distnnd.Graph, points: np.ndarray) -> float:
    between = true_distances(points, "euclidean", np.arange(len(points)))
    kth = np.sort(between, axis=1)[:, K - 1 : K]
    return float((np.take_along_axis(between, graph.indices[:], axis=1) <= kth * (1 + 1e-6)).mean())


def test_another_dtype_is_refused() -> None:
    with pytest.raises(SpecError, match="dtype is 'float32' or 'float64', or None"):
        distnnd.build(normal(20, 2), None, K, dtype="float16")
    with pytest.raises(SpecError, match="dtype='float64' is for dense points"):
        distnnd.build(sparse.csr_matrix(np.eye(20)), None, K, dtype="float64")


def test_the_command_line_rounds_on_request_and_resumes_as_it_began(tmp_path, capsys) -> None:
    from distnnd.faces.cli import main

    np.save(tmp_path / "points.npy", 2.0**30 + np.arange(300.0)[:, None] / 8)
    source, out = str(tmp_path / "points.npy"), str(tmp_path / "graph.zarr")
    main(["build", source, out, "-k", "3", "--dtype", "float32", "--quiet"], standalone_mode=False)
    assert "rows became equal to other rows" in capsys.readouterr().err
    facts = distnnd.open_graph(out).facts
    assert (facts["layout"]["dtype"], facts["spec"]["dtype"]) == ("float32", "float32")
    main(["resume", out], standalone_mode=False)
    main(["verify", out, "--source", source], standalone_mode=False)
    assert "300" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["far from the origin", "around the earth's centre", "tiny beside large"])
@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
def test_an_index_answers_for_the_numbers_as_given(tmp_path, name: str, metric: str) -> None:
    points = POINTS[name]()
    graph = distnnd.build(points, None, 10, metric=metric)
    index = graph.build_index(tmp_path / "index.zarr", points)
    ids, distances = index.query(points[:200], k=K)
    between = true_distances(points, metric, np.arange(200))
    between[np.arange(200), np.arange(200)] = 0
    kth = np.sort(between, axis=1)[:, K - 1 : K]
    # A unit vector in float64 is itself known to a millionth of such differences.
    found = np.take_along_axis(between, ids, axis=1)
    assert (found <= kth * (1 + 1e-4)).mean() > 0.93
    np.testing.assert_array_equal(ids[:, 0], np.arange(200))
    np.testing.assert_allclose(distances, found, rtol=1e-4, atol=1e-37)
    assert index.recall is not None
    assert index.recall.estimate > 0.9
    index.close()


def test_rows_too_small_beside_the_largest_are_told() -> None:
    points = normal(200, 4) * np.where(np.arange(200) < 100, 1e-60, 1)[:, None]
    with pytest.warns(UserWarning, match="100 of 200 rows are so small beside"):
        distnnd.build(points, None, K)


def test_a_metric_of_ones_own_gets_rows_of_float64() -> None:
    import numba

    @numba.njit
    def taxicab(x, y):
        return np.abs(x - y).sum()

    points = 1e9 + np.random.default_rng(0).random((200, 6))
    graph = distnnd.build(points, None, K, metric=taxicab)
    assert true_recall(graph, points, "manhattan") == 1
