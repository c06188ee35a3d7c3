"""Making an index and asking it, in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distnnd
from distnnd import InputError, SpecError, StoreError
from distnnd.runtime.serial import SerialExecutor
from distnnd.values.plan import Report, Stage
from tests.conftest import all_distances, clustered
from tests.index.conftest import Made, make


def between(queries: np.ndarray, points: np.ndarray, metric: str = "euclidean") -> np.ndarray:
    """Distances of queries and points: float64[m, n]."""
    both = np.concatenate([queries, points]).astype(np.float64)
    return all_distances(both, metric)[: len(queries), len(queries) :]


def recall_of(ids: np.ndarray, distances: np.ndarray) -> float:
    """Share of answers no farther than the k-th true one; distances: of all rows."""
    k = ids.shape[1]
    kth = np.sort(distances, axis=1)[:, k - 1 : k]
    return float(np.mean(np.take_along_axis(distances, ids, axis=1) <= kth + 1e-5 * np.abs(kth)))


def variant(metric: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Points and queries that suit the metric, of that dtype."""
    rows = clustered(3200, 24, seed=3)
    if dtype in ("uint8", "int8"):
        info = np.iinfo(dtype)
        rows = np.clip(rows * 8 + (info.max + info.min) // 2, info.min, info.max)
    rows = rows.astype(dtype)
    return rows[:3000], rows[3000:]


@pytest.mark.parametrize(
    ("metric", "dtype"),
    [
        ("euclidean", "float32"),
        ("euclidean", "float16"),
        ("euclidean", "uint8"),
        ("sqeuclidean", "int8"),
        ("cosine", "float32"),
        ("cosine", "uint8"),
        ("inner_product", "float32"),
    ],
)
def test_answers_are_near_and_distances_exact(tmp_path: Path, metric: str, dtype: str) -> None:
    points, queries = variant(metric, dtype)
    index = make(tmp_path / "here", points, queries, metric).index
    ids, distances = index.query(queries, k=10, epsilon=0.2)
    true = between(queries, points, metric)
    assert ids.dtype == np.int64
    assert distances.dtype == np.float32
    assert recall_of(ids, true) > 0.97
    np.testing.assert_allclose(distances, np.take_along_axis(true, ids, 1), rtol=2e-5, atol=2e-5)
    assert (np.diff(distances, axis=1) >= 0).all()


@pytest.mark.parametrize("metric", ["manhattan", "correlation", "chebyshev", "hellinger"])
def test_metrics_that_are_judged(tmp_path: Path, metric: str) -> None:
    from scipy.spatial.distance import cdist

    points, queries = (np.abs(part) for part in variant(metric, "float32"))
    index = make(tmp_path / "here", points, queries, metric).index
    ids, distances = index.query(queries, k=10, epsilon=0.2)
    if metric == "hellinger":
        shares = [part.astype(np.float64) / part.sum(axis=1, keepdims=True) for part in (queries, points)]
        true = cdist(*(np.sqrt(part) for part in shares)) / np.sqrt(2)
    else:
        true = cdist(queries, points, {"manhattan": "cityblock"}.get(metric, metric))
    assert recall_of(ids, true) > 0.9
    np.testing.assert_allclose(distances, np.take_along_axis(true, ids, 1), rtol=1e-4, atol=1e-5)


def test_bits_and_a_metric_of_the_users_own(tmp_path: Path) -> None:
    import numba

    bits = clustered(2100, 128, seed=5) > 0.5
    packed = np.packbits(bits, axis=1)
    index = make(tmp_path / "bits", packed[:2000], packed[2000:], "bit_hamming").index
    ids, distances = index.query(packed[2000:], k=5, epsilon=0.2)
    true = (bits[2000:, None] != bits[None, :2000]).sum(axis=2)
    assert recall_of(ids, true) > 0.9
    np.testing.assert_array_equal(distances, np.take_along_axis(true, ids, 1))

    @numba.njit
    def farthest(x, y):
        return np.abs(x - y).max()

    rows = clustered(2100, 8)
    graph = distnnd.build(rows[:2000], metric=farthest)
    distnnd.build_index(graph, tmp_path / "own", source=rows[:2000])
    with pytest.raises(SpecError, match="metric of your own"):
        distnnd.open_index(tmp_path / "own").query(rows[2000:])
    ids, _ = distnnd.open_index(tmp_path / "own", metric=farthest).query(rows[2000:], k=5, epsilon=0.2)
    assert recall_of(ids, np.abs(rows[2000:, None] - rows[None, :2000]).max(axis=2)) > 0.9


class Failing(SerialExecutor):
    """Does everything up to the pruning."""

    def run(self, stage: Stage, job: Any, listen: Any) -> list[Report]:
        if stage.name == "prune":
            raise RuntimeError("the disk is on fire")
        return super().run(stage, job, listen)


def test_what_fails_midway_is_not_in_the_way_of_the_next_attempt(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "index"
    with pytest.raises(RuntimeError, match="on fire"):
        distnnd.build_index(made.folder / "graph.zarr", out, client=Failing())
    assert not list(tmp_path.iterdir())
    assert distnnd.build_index(made.folder / "graph.zarr", out).n == 6000


def test_defaults_find_rows_never_seen(made: Made) -> None:
    assert recall_of(made.index.query(made.queries)[0], between(made.queries, made.points)) > 0.97


def test_a_wider_search_finds_more_and_ef_is_another_way(made: Made) -> None:
    true = between(made.queries, made.points)
    recalls = [recall_of(made.index.query(made.queries, epsilon=epsilon)[0], true) for epsilon in (0.0, 0.1, 0.3)]
    assert recalls == sorted(recalls)
    assert recalls[-1] > 0.99
    assert recall_of(made.index.query(made.queries, ef=200)[0], true) > 0.99


@pytest.mark.parametrize("k", [1, 3, 10])
def test_rows_find_themselves_first(made: Made, k: int) -> None:
    ids, distances = made.index.query(made.points, k=k)
    np.testing.assert_array_equal(ids[:, 0], np.arange(6000))
    assert (distances[:, 0] == 0).all()


def test_threads_and_batches_change_nothing(made: Made) -> None:
    ids, distances = made.index.query(made.points[:2500], k=7)
    more = made.index.query(made.points[:2500], k=7, threads=3)
    np.testing.assert_array_equal(ids, more[0])
    np.testing.assert_array_equal(distances, more[1])
    alone = [made.index.query(made.points[row : row + 1], k=7)[0][0] for row in range(5)]
    np.testing.assert_array_equal(ids[:5], alone)


def test_no_queries_no_answers(made: Made, cut: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.array as da

    from distnnd.values import searching

    monkeypatch.setattr(searching, "OWN", 0)
    for each, limit in ((made, None), (cut, None), (cut, cut.index.plan().index - 1)):
        for none in (each.queries[:0], each.queries[:0].astype(np.float64), each.queries[:0].astype(np.int64)):
            for more in ({}, {"filter": np.array([5])}, {"radius": 1.0}, {"ef": 20}, {"threads": 3}):
                ids, distances = each.index.query(none, k=4, memory_limit=limit, **more)
                assert (ids.shape, ids.dtype) == ((0, 4), np.int64)
                assert (distances.shape, distances.dtype) == ((0, 4), np.float32)
        lazy = da.from_array(each.queries, chunks=((0, 100, 0, 200, 0), 16))
        ids, _ = each.index.query(lazy, k=4, memory_limit=limit)
        right = each.index.query(each.queries, k=4, memory_limit=limit)[0]
        np.testing.assert_array_equal(ids.compute(scheduler="sync"), right)
        ids, distances = each.index.query(lazy[:0], k=4, memory_limit=limit)
        assert ids.compute(scheduler="sync").shape == distances.compute(scheduler="sync").shape == (0, 4)


@pytest.mark.parametrize(("metric", "dtype"), [("manhattan", "float32"), ("hellinger", "float32"), ("cosine", "uint8")])
def test_no_queries_by_other_metrics(tmp_path: Path, metric: str, dtype: str) -> None:
    points, queries = (np.abs(part) for part in variant(metric, dtype))
    index = make(tmp_path / "here", points[:500], queries, metric).index
    assert index.query(queries[:0], k=3)[0].shape == (0, 3)


def test_a_radius_and_ids_alone(made: Made) -> None:
    everything, distances = made.index.query(made.queries, k=10)
    limit = float(np.median(distances))
    ids, near = made.index.query(made.queries, k=10, radius=limit)
    np.testing.assert_array_equal(ids, np.where(distances <= limit, everything, -1))
    assert (near[ids == -1] == np.inf).all()
    np.testing.assert_array_equal(made.index.query(made.queries, return_distances=False), everything)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.9])
@pytest.mark.parametrize("fixture", ["made", "cut"])
def test_a_filter(request: pytest.FixtureRequest, fixture: str, share: float) -> None:
    made: Made = request.getfixturevalue(fixture)
    allowed = np.random.default_rng(0).random(6000) < share
    ids, distances = made.index.query(made.queries, k=10, filter=allowed)
    count = min(10, int(allowed.sum()))
    assert (ids[:, :count] >= 0).all()
    assert allowed[ids[ids >= 0]].all()
    assert (distances[ids < 0] == np.inf).all()
    true = np.where(allowed, between(made.queries, made.points), np.inf)
    if fixture == "made":
        assert recall_of(ids[:, :count], true) > 0.97
    by_ids = made.index.query(made.queries, k=10, filter=np.flatnonzero(allowed))[0]
    np.testing.assert_array_equal(ids, by_ids)


def test_a_filter_of_half_the_rows_is_walked(tmp_path: Path) -> None:
    rows = clustered(12300, 8)
    made = make(tmp_path / "here", rows[:12000], rows[12000:])
    allowed = np.arange(12000) % 2 == 0
    ids, _ = made.index.query(made.queries, k=10, filter=allowed)
    assert allowed[ids].all()
    assert recall_of(ids, np.where(allowed, between(made.queries, made.points), np.inf)) > 0.97


def test_zero_rows_under_cosine(tmp_path: Path) -> None:
    points = clustered(2000, 12)
    points[[5, 700, 1500]] = 0
    index = make(tmp_path / "here", points, points, "cosine").index
    ids, distances = index.query(np.zeros((1, 12), np.float32), k=5)
    assert ids[0, :3].tolist() == [5, 700, 1500]
    np.testing.assert_array_equal(distances[0], [0, 0, 0, 1, 1])


def test_duplicates_and_few_rows(tmp_path: Path) -> None:
    points = np.repeat(np.eye(4, dtype=np.float32), 20, axis=0)
    index = make(tmp_path / "here", points, points).index
    ids, distances = index.query(points[:1], k=80)
    assert sorted(ids[0].tolist()) == list(range(80))
    assert ids[0, :20].tolist() == list(range(20))
    assert distances[0, 0] == 0
    with pytest.raises(SpecError, match="k=81"):
        index.query(points, k=81)


# --- the store -------------------------------------------------------------------------------------------


def test_the_same_bytes_again_and_by_threads(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from distnnd.runtime import threads

    monkeypatch.setattr(threads, "CPU_COUNT", 3)
    distnnd.build_index(made.folder / "graph.zarr", tmp_path / "again")
    for name in ("codes", "rows", "edges", "order", "pivots", "pieces"):
        one, other = (next((place / name).rglob("c/*")) for place in (made.folder / "index.zarr", tmp_path / "again"))
        first, second = (file.read_bytes() if file.is_file() else (file / "0").read_bytes() for file in (one, other))
        assert first == second, name
    assert made.index.verify()["bytes"] > 0


def test_partitions_hold_the_same_rows(made: Made, cut: Made) -> None:
    import zarr

    whole, parts = (zarr.open_group(str(each.folder / "index.zarr"), mode="r") for each in (made, cut))
    for name in ("codes", "rows", "order"):
        np.testing.assert_array_equal(whole[name][:], parts[name][:])
    # A partition keeps the edges to rows that were not at hand, and whoever opens all of it walks along them.
    places = np.where(parts["edges"][:] >= 0, parts["edges"][:] // 1500, -1)
    own = np.arange(6000)[:, None] // 1500
    assert ((places >= 0) & (places != own)).any()
    true = between(cut.queries, cut.points)
    assert recall_of(cut.index.query(cut.queries)[0], true) > 0.97


def test_an_index_larger_than_the_limit_is_opened_by_partitions(cut: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from distnnd.values import searching

    monkeypatch.setattr(searching, "OWN", 0)
    plan = cut.index.plan()
    assert plan.whole
    assert "whole" in str(plan)
    limit = plan.index - 1
    assert not cut.index.plan(limit).whole
    assert "partition by partition" in str(cut.index.plan(limit))
    ids, distances = cut.index.query(cut.queries, memory_limit=limit)
    true = between(cut.queries, cut.points)
    assert recall_of(ids, true) > 0.95
    np.testing.assert_allclose(distances, np.take_along_axis(true, ids, 1), rtol=1e-5)
    with pytest.raises(distnnd.BudgetError, match="more partitions"):
        cut.index.query(cut.queries, memory_limit=plan.partition - 1)


def test_partitions_find_what_the_whole_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distnnd.values import searching

    # Rows without any shape, whose neighbours are everywhere: half of each list lies in other partitions.
    rows = np.random.default_rng(1).normal(size=(8300, 16)).astype(np.float32)
    made = make(tmp_path / "here", rows[:8000], rows[8000:], partitions=8)
    monkeypatch.setattr(searching, "OWN", 0)
    limit, true = made.index.plan().index - 1, between(made.queries, made.points)
    assert not made.index.plan(limit).whole
    found = recall_of(made.index.query(made.queries, memory_limit=limit)[0], true)
    assert found > 0.97
    own = made.index.query(made.points, k=1, memory_limit=limit)[0]
    np.testing.assert_array_equal(own[:, 0], np.arange(8000))


def test_a_plan_refuses_what_does_not_fit(made: Made, tmp_path: Path) -> None:
    with pytest.raises(distnnd.BudgetError, match="MiB"):
        distnnd.build_index(made.folder / "graph.zarr", tmp_path / "index", memory_limit="240MiB")
    assert not (tmp_path / "index").exists()


def test_opening_reads_metadata_only(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from distnnd.storage import index as store

    def refuse(*_: object) -> None:
        raise AssertionError("opened more than metadata")

    monkeypatch.setattr(store, "rows_of", refuse)
    assert distnnd.open_index(made.folder / "index.zarr").n == 6000
    assert "6,000 rows" in repr(made.index)


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:, :5], "16 columns"),
        (lambda rows: rows[0], r"queries\[None\]"),
        (lambda rows: np.where(np.arange(16) == 3, np.nan, rows), "query 0, column 3"),
        (lambda rows: rows.astype("S4"), "dtype"),
        (lambda rows: rows.astype(complex), "dtype"),
        (lambda rows: rows.astype(np.float64) * 1e300, "beyond float32"),
    ],
)
def test_queries_that_cannot_be(made: Made, change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made.index.query(change(made.queries))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 6001}, "6000 rows"),
        ({"k": 0}, "k must be at least 1"),
        ({"k": 2.5}, "whole number"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"ef": 0}, "ef"),
        ({"radius": np.nan}, "radius"),
        ({"filter": np.ones(7, bool)}, "boolean"),
        ({"filter": np.array([6000])}, "ids are 0 to 5999"),
        ({"filter": np.array([0.5])}, "filter"),
    ],
)
def test_arguments_that_cannot_be(made: Made, arguments: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        made.index.query(made.queries, **arguments)


def test_narrow_rows_take_narrow_queries(tmp_path: Path) -> None:
    points, queries = variant("euclidean", "uint8")
    index = make(tmp_path / "here", points, queries).index
    np.testing.assert_array_equal(index.query(queries.astype(np.float64))[0], index.query(queries)[0])
    with pytest.raises(InputError, match="convert them"):
        index.query(queries + 0.5)


def test_what_is_no_index(tmp_path: Path, made: Made) -> None:
    with pytest.raises(StoreError, match="no index"):
        distnnd.open_index(tmp_path / "nothing")
    with pytest.raises(SpecError, match="no finished index"):
        distnnd.open_index(made.folder / "graph.zarr")
    with pytest.raises(SpecError, match=r"exists: it holds a finished index with partitions=1 \(now 2\)"):
        distnnd.build_index(made.folder / "graph.zarr", made.folder / "index.zarr", partitions=2)
    with pytest.raises(StoreError, match="no graph"):
        distnnd.build_index(tmp_path / "nothing", tmp_path / "index")


def edit(place: Path, **facts: object) -> None:
    """Change facts of a store."""
    document = json.loads((place / "zarr.json").read_text())
    (attributes,) = document["attributes"].values()
    attributes.update(facts)
    (place / "zarr.json").write_text(json.dumps(document))


def test_a_changed_graph_another_version_and_damage(tmp_path: Path) -> None:
    points = clustered(500)
    made = make(tmp_path / "here", points, points)
    index, graph = made.folder / "index.zarr", made.folder / "graph.zarr"
    file = next((index / "codes" / "c").rglob("0/0"))
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    with pytest.raises(StoreError, match="bytes"):
        distnnd.open_index(index).query(points)
    file.write_bytes(content[:100] + b"\x77" + content[101:])
    with pytest.raises(StoreError, match="checksum"):
        distnnd.open_index(index).verify()
    file.write_bytes(content)
    edit(graph, uuid="0" * 32)
    with pytest.raises(StoreError, match="changed since"):
        distnnd.open_index(index)
    edit(index, format_version="9.0")
    with pytest.raises(StoreError, match=r"version 9\.0"):
        distnnd.open_index(index)


def test_changed_points_and_points_that_are_gone(tmp_path: Path) -> None:
    points = clustered(500)
    graph = distnnd.build(points, tmp_path / "graph.zarr")
    with pytest.raises(SpecError, match="source=points"):
        distnnd.build_index(graph, tmp_path / "index")
    with pytest.raises(StoreError, match="changed since"):
        distnnd.build_index(graph, tmp_path / "index", source=points + 1)
    assert not (tmp_path / "index").exists()
