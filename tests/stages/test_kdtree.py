"""The k-d tree engine: exact where it is chosen, chosen by counted work, the same bytes whoever runs it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import distnnd
from distnnd.kernels.kdtree import plant
from distnnd.runtime.events import TaskEnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.stages import kdtree
from distnnd.values.memory import local_row, tree_row
from distnnd.values.metric import METRICS
from distnnd.values.partitioning import LEAF_FANOUT, companion_cap, first_width, widest
from distnnd.values.plan import TREE_COLUMNS
from tests.conftest import SHARED, clustered, graph_bytes, true_recall

N = 9000


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions of any size may be solved by a tree."""
    monkeypatch.setattr(kdtree, "TREE_ROWS", 1)


def local_counters(points: np.ndarray, **wanted: Any) -> tuple[distnnd.Graph, list[dict[str, float]]]:
    """A graph, and what its local tasks counted."""
    ended: list[TaskEnd] = []
    listen = lambda event: ended.append(event) if isinstance(event, TaskEnd) else None  # noqa: E731
    graph = distnnd.build(points, progress=listen, **({"client": SerialExecutor()} | wanted))
    return graph, [event.report.counters for event in ended if event.stage == "local"]


def low_dimensional(flavour: str, n: int = N) -> np.ndarray:
    """Rows that suit a tree: float32 or uint8 [n, 2 to 24]."""
    rng = np.random.default_rng(3)
    if flavour == "grid":
        return rng.integers(0, 14, (n, 3)).astype(np.float32)
    if flavour == "bytes":
        return rng.integers(0, 256, (n, 3)).astype(np.uint8)
    if flavour == "far":
        return (rng.normal(size=(n, 2)) + 1000).astype(np.float32)
    if flavour == "duplicates":
        points = rng.normal(size=(n, 3)).astype(np.float32)
        points[1000:4000] = points[0]
        return points
    if flavour == "constant":
        return np.full((n, 4), 0.25, np.float32)
    # A curved sheet in 24 columns.
    plane = rng.uniform(size=(n, 2))
    return np.sin(plane @ rng.normal(size=(2, 24)) * 2).astype(np.float32)


FLAVOURS = ("grid", "bytes", "far", "duplicates", "constant", "sheet")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_one_partition_is_solved_exactly_in_one_round(flavour: str) -> None:
    points = low_dimensional(flavour)
    graph, counters = local_counters(points, n_neighbors=10, target_recall=0.999)
    assert [one["kdtree"] for one in counters] == [1]
    assert len(graph.facts["rounds"]) == 1
    assert graph.recall.estimate == 1.0
    assert true_recall(points, graph) == 1.0
    assert graph.facts["rounds"][0]["engine"].startswith("k-d tree (")


@pytest.mark.parametrize(("metric", "d"), [("sqeuclidean", 2), ("cosine", 3), ("cosine", 4)])
def test_other_metrics_that_are_euclidean_inside(metric: str, d: int) -> None:
    points = np.random.default_rng(0).normal(size=(N, d)).astype(np.float32)
    points[:5] = 0
    graph, counters = local_counters(points, metric=metric)
    assert [one["kdtree"] for one in counters] == [1]
    assert true_recall(points, graph, metric) >= 0.9999


@pytest.mark.parametrize("flavour", ["plain", *FLAVOURS])
def test_the_lists_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch, always: None, flavour: str) -> None:
    """Ids and distances, byte for byte but for ties: distances come from the same canonical kernel."""
    points = clustered(2500, 6) if flavour == "plain" else low_dimensional(flavour, 2500)
    truth = distnnd.build(points, n_neighbors=12, client=SerialExecutor())
    assert truth.recall.exact
    import distnnd.values.partitioning as partitioning

    monkeypatch.setattr(partitioning, "EXACT_ROWS", 100)
    monkeypatch.setattr(kdtree, "LIMIT", 1e9)
    graph, counters = local_counters(points, n_neighbors=12)
    assert [one["kdtree"] for one in counters] == [1]
    (ids, distances), (true_ids, true_distances) = graph.to_numpy(), truth.to_numpy()
    np.testing.assert_array_equal(distances, true_distances)
    if flavour in ("plain", "sheet"):
        np.testing.assert_array_equal(ids, true_ids)


@pytest.mark.parametrize("flavour", ["grid", "duplicates", "sheet"])
def test_more_threads_same_bytes(flavour: str) -> None:
    points = low_dimensional(flavour)
    one, other = (local_counters(points, client=SerialExecutor(threads=threads)) for threads in (1, 3))
    assert one[1][0]["kdtree"] == 1
    assert graph_bytes(one[0]) == graph_bytes(other[0])
    assert one[1] == other[1]


@pytest.mark.parametrize("flavour", ["sheet", "duplicates"])
def test_partitions_are_solved_by_trees_too(cut: Any, always: None, flavour: str) -> None:
    """Rows whose copies meet in one unit, and lists that rows bring along from the round before."""
    points = low_dimensional(flavour)
    cut(5, 2048)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        graph, counters = local_counters(points, target_recall=1.0, max_rounds=2)
    assert {one["kdtree"] for one in counters} == {1}
    recalls = [one["recall"]["estimate"] for one in graph.facts["rounds"]]
    assert recalls[0] > 0.9
    assert recalls == sorted(recalls)
    assert true_recall(points, graph) >= recalls[-1] - 0.01
    assert (graph.indices[:] != np.arange(len(points))[:, None]).all()


def test_a_tree_among_leaves(cut: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds tell how many partitions were solved by which engine."""
    monkeypatch.setattr(kdtree, "TREE_ROWS", 2200)
    cut(5, 2048)
    graph, counters = local_counters(low_dimensional("sheet"), max_rounds=1)
    trees = sum(one["kdtree"] for one in counters)
    assert 0 < trees < len(counters)
    assert graph.facts["rounds"][0]["engine"].startswith(f"k-d tree in {trees:.0f} of {len(counters)} partitions")


def test_high_dimension_is_left_to_leaves() -> None:
    points = np.random.default_rng(0).normal(size=(20_000, 20)).astype(np.float32)
    graph, counters = local_counters(points, target_recall=0.5)
    assert [one["kdtree"] for one in counters] == [0]
    assert counters[0]["tree_share"] > 1
    assert graph.facts["rounds"][0]["engine"].startswith("leaves (")


@pytest.mark.parametrize(("metric", "d"), [("inner_product", 3), ("euclidean", TREE_COLUMNS)])
def test_some_are_refused_without_a_look(monkeypatch: pytest.MonkeyPatch, metric: str, d: int) -> None:
    monkeypatch.setattr(kdtree, "plant", None)
    points = clustered(N, d)
    graph, counters = local_counters(points, metric=metric, target_recall=0.5)
    assert counters[0]["kdtree"] == 0
    assert graph.facts["rounds"][0]["engine"] == "leaves"


def test_a_trial_ends_early_where_it_says_no() -> None:
    points = np.random.default_rng(0).normal(size=(30_000, 30)).astype(np.float32)
    tree = plant(points, np.arange(len(points), dtype=np.int32))
    assert kdtree.trial(tree, 17, 100) > 100
    full = kdtree.trial(tree, 17, np.inf)
    assert full > 1000
    assert kdtree.trial(tree, 17, full * 1.01) == full


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("d", [1, 3, 12, TREE_COLUMNS - 1, TREE_COLUMNS])
def test_the_projection_holds_both_engines(dtype: str, d: int) -> None:
    metric = METRICS["euclidean"]
    for k in (1, 15, 100):
        for width in (first_width(k, 10**6), widest(k, 10**6, 1)):
            row = local_row(metric, dtype, d, width, LEAF_FANOUT, companion_cap(width))
            assert d >= TREE_COLUMNS or row >= tree_row(metric, dtype, d, width)


def test_a_plan_says_that_trees_are_possible(serial: SerialExecutor) -> None:
    assert "k-d tree" in str(distnnd.plan(clustered(N, 3), client=serial))
    assert "k-d tree" not in str(distnnd.plan(clustered(N, TREE_COLUMNS), client=serial))
    assert "k-d tree" not in str(distnnd.plan(clustered(N, 3), client=serial, metric="inner_product"))


@pytest.mark.skipif(not (SHARED / "nycflights_327k_29.npz").exists(), reason="the real data are not here")
def test_flights_are_solved_exactly() -> None:
    """Numbers beside one-hot columns: low intrinsic dimension in 29 columns, with near ties."""
    points = np.load(SHARED / "nycflights_327k_29.npz")["X"][::20].copy()
    graph, counters = local_counters(points)
    assert counters[0]["kdtree"] == 1
    chosen = np.random.default_rng(0).choice(len(points), 300, replace=False)
    squared = np.stack([((points.astype(np.float64) - points[row]) ** 2).sum(axis=1) for row in chosen])
    squared[np.arange(300), chosen] = np.inf
    kth = np.sort(squared, axis=1)[:, 14]
    found = np.take_along_axis(squared, graph.indices[:][chosen], axis=1)
    assert (found <= kth[:, None] * (1 + 1e-6)).all()
