"""No damage to a graph goes unnoticed, and its recall is measured as brute force would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest

import distnnd
from distnnd.graph import Graph
from distnnd.runtime.serial import SerialExecutor
from distnnd.stages import views
from distnnd.storage import formats
from distnnd.storage.points import write_points
from distnnd.storage.source import open_source
from distnnd.values.errors import SpecError, StoreError
from distnnd.values.metric import METRICS
from tests.conftest import clustered
from tests.graph.small import Array, D, K, N, all_distances, true_lists, write_graph

# --- verify -------------------------------------------------------------------------------------------------


def test_a_sound_graph_is_found_sound(graph: Graph, points: Array) -> None:
    read = {"n": N, "n_neighbors": K, "chunks": 8, "bytes": N * K * 12}
    assert graph.verify() == read | {"recomputed": 0}
    assert graph.verify(points) == read | {"recomputed": N}
    assert graph.verify(points, rows=7) == read | {"recomputed": 7}
    assert graph.verify(points, rows=0) == read | {"recomputed": 0}
    with pytest.raises(SpecError, match="rows=-1"):
        graph.verify(points, rows=-1)


VIEWS = {
    "verify": lambda graph: graph.verify(),
    "to_numpy": lambda graph: graph.to_numpy(),
    "to_csr": lambda graph: graph.to_csr(),
    "symmetrize": lambda graph: graph.symmetrize(),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["indices", "distances"])
def test_a_damaged_chunk_never_becomes_neighbours(graph: Graph, name: str, view: str) -> None:
    chunk = Path(graph.location, name, "c/2/0")
    data = chunk.read_bytes()
    flipped = bytearray(data)
    flipped[37] ^= 4
    for damaged in (bytes(flipped), data[:-1], data[: len(data) // 2], b""):
        chunk.write_bytes(damaged)
        with pytest.raises(StoreError, match=rf"{chunk} is truncated or altered"):
            VIEWS[view](graph)
    chunk.unlink()
    with pytest.raises(StoreError, match=rf"{chunk} is missing"):
        VIEWS[view](graph)
    chunk.write_bytes(data)
    VIEWS[view](graph)


ROW = 37


def swap_all(ids: Array, distances: Array) -> None:
    for part in (ids, distances):
        part[ROW, [0, 2]] = part[ROW, [2, 0]]


def repeat(ids: Array, distances: Array) -> None:
    ids[ROW, 3] = ids[ROW, 1]


def include_itself(ids: Array, distances: Array) -> None:
    ids[ROW, 2] = ROW


def beyond(ids: Array, distances: Array) -> None:
    ids[ROW, 2] = N


def unknown(ids: Array, distances: Array) -> None:
    ids[ROW, 3] = -1


def no_number(ids: Array, distances: Array) -> None:
    distances[ROW, 3] = np.nan


def endless(ids: Array, distances: Array) -> None:
    distances[ROW, 3] = np.inf


def negative(ids: Array, distances: Array) -> None:
    distances[ROW, 0] = -1e-7


def tie_by_falling_ids(ids: Array, distances: Array) -> None:
    ids[ROW] = np.sort(ids[ROW])[::-1]
    distances[ROW] = 1


PROMISES = {
    swap_all: "neighbours out of order",
    repeat: "a neighbour twice",
    include_itself: "itself among its neighbours",
    beyond: "an id that is no row",
    unknown: "an id that is no row",
    no_number: "a distance that is not finite",
    endless: "a distance that is not finite",
    negative: "a distance below 0",
    tie_by_falling_ids: "neighbours out of order",
}


@pytest.mark.parametrize("breach", PROMISES)
def test_a_row_that_breaks_a_promise_is_named(tmp_path: Path, points: Array, breach: Any) -> None:
    lists = true_lists(points, K, "euclidean")
    breach(*lists)
    graph = write_graph(tmp_path / "graph.zarr", points, lists)
    with pytest.raises(StoreError, match=rf"graph.zarr: row {ROW} has {PROMISES[breach]}: ids \["):
        graph.verify()


def test_negative_distances_are_sound_where_the_metric_has_them(tmp_path: Path, points: Array) -> None:
    lists = true_lists(points, K, "inner_product")
    assert (lists[1] < 0).any()
    write_graph(tmp_path / "graph.zarr", points, lists, "inner_product").verify(points)


def swap_ids(ids: Array, distances: Array) -> None:
    ids[ROW, [0, 2]] = ids[ROW, [2, 0]]


def shift(ids: Array, distances: Array) -> None:
    distances[ROW, 3] *= 1.001


@pytest.mark.parametrize("breach", [swap_ids, shift])
def test_what_looks_sound_is_held_against_the_points(tmp_path: Path, points: Array, breach: Any) -> None:
    lists = true_lists(points, K, "euclidean")
    breach(*lists)
    graph = write_graph(tmp_path / "graph.zarr", points, lists)
    graph.verify()
    with pytest.raises(StoreError, match=rf"row {ROW} has neighbour \d+ at [\d.]+, but the points say [\d.]+"):
        graph.verify(points)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int8", "float64"])
@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_recomputed_by_the_metric(tmp_path: Path, metric: str, dtype: str) -> None:
    rows = (np.random.default_rng(1).normal(size=(N, 70)) * 20 + (40 if dtype == "uint8" else 0)).clip(-128, 255)
    points = rows.clip(0) if dtype == "uint8" else rows.clip(-128, 127)
    points = points.astype(dtype)
    points[[5, 9, 30]] = 0
    points[11] = points[12]
    lists = true_lists(points.astype(np.float32), K, metric)
    graph = write_graph(tmp_path / "graph.zarr", points, lists, metric)
    assert graph.verify(points)["recomputed"] == N
    assert graph.measure_recall(points, N).estimate == 1


def test_other_points_are_not_held_against_the_graph(graph: Graph, points: Array) -> None:
    changed = points.copy()
    changed[50, 2] += 1
    for other in (changed, points[:-1], points[:, ::-1]):
        for look in (graph.verify, graph.measure_recall):
            with pytest.raises(StoreError, match=r"changed since the graph at .* was built"):
                look(other)


def test_points_in_a_file_that_was_written_again_are_others(tmp_path: Path, points: Array) -> None:
    path = tmp_path / "points.npy"
    np.save(path, points)
    graph = write_graph(tmp_path / "graph.zarr", points, true_lists(points, K, "euclidean"), source=path)
    graph.verify(path)
    graph.verify(open_source(path))
    points[1, 1] += 1
    np.save(path, points)
    with pytest.raises(StoreError, match=f"the points at {path} changed since"):
        graph.verify(path)


def test_points_that_were_copied_for_other_processes_are_the_same_points(tmp_path: Path, points: Array) -> None:
    elsewhere = SerialExecutor()
    elsewhere.in_process = False
    graph = distnnd.build(points, tmp_path / "graph.zarr", n_neighbors=K, client=elsewhere)
    assert graph.verify(points)["recomputed"] == N


def test_points_that_came_lazily_are_known_by_their_shape(tmp_path: Path, points: Array) -> None:
    lazy = dask.array.from_array(points, chunks=(20, D))
    graph = distnnd.build(lazy, tmp_path / "graph.zarr", n_neighbors=K, client=SerialExecutor())
    assert graph.verify(points)["recomputed"] == N
    assert graph.measure_recall(points).estimate == 1
    with pytest.raises(StoreError, match="changed since the graph"):
        graph.verify(points[:-1])
    with pytest.raises(StoreError, match="but the points say"):
        graph.verify(points[::-1])


def test_points_given_for_a_look_are_not_kept(graph: Graph, points: Array) -> None:
    before = dict(formats._residents)
    graph.verify(points)
    graph.measure_recall(points)
    assert formats._residents == before
    held = open_source(points)
    graph.verify(held)
    assert formats.find_resident(held.spec) is held


def test_a_graph_that_is_not_sound_is_not_measured(tmp_path: Path, points: Array) -> None:
    for name, breach in (("beyond", beyond), ("unknown", unknown)):
        lists = true_lists(points, K, "euclidean")
        breach(*lists)
        graph = write_graph(tmp_path / name, points, lists)
        with pytest.raises(StoreError, match=f"row {ROW} has an id that is no row"):
            graph.measure_recall(points, probes=5)


# --- recall ---------------------------------------------------------------------------------------------------


def in_order(ids: Array, distances: Array) -> tuple[Array, Array]:
    """Lists of these neighbours by (distance, id). ids: int64[n, k]; distances: float32[n, n], of all pairs."""
    far = np.take_along_axis(distances, ids, axis=1)
    order = np.lexsort((ids, far), axis=1)
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(far, order, axis=1)


def worse(lists: tuple[Array, Array], distances: Array, share: float) -> tuple[Array, Array]:
    """Lists that lack about `share` of the given neighbours, and have farther ones in their place."""
    lost = np.random.default_rng(2).random(lists[0].shape) < share
    rows = np.broadcast_to(np.arange(len(lost))[:, None], lost.shape)
    without = distances.copy()
    without[rows[lost], lists[0][lost]] = np.inf
    return in_order(np.argsort(without, axis=1)[:, : lost.shape[1]], distances)


def true_recall(lists: tuple[Array, Array], distances: Array) -> float:
    """Share of neighbours at most as far as the k-th true one, with room for what float32 rounds."""
    kth = np.sort(distances, axis=1)[:, lists[0].shape[1] - 1, None]
    return float((lists[1] <= kth + 1e-6 * np.abs(kth)).mean())


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "strip_rows", lambda d: 16)


@pytest.mark.parametrize("metric", METRICS)
def test_recall_on_all_rows_is_that_of_brute_force(
    tmp_path: Path, points: Array, small_blocks: None, metric: str
) -> None:
    points[[11, 50]] = 0
    place = tmp_path / "points.zarr"
    write_points(place, [points], n=N, d=D, dtype=np.float32, chunk_rows=8)
    distances = all_distances(points, metric)
    lists = worse(true_lists(points, K, metric), distances, 0.3)
    graph = write_graph(tmp_path / "graph.zarr", points, lists, metric, place)
    found, true = graph.measure_recall(place, probes=10 * N), true_recall(lists, distances)
    assert 0.6 < true < 0.9
    assert found.estimate == pytest.approx(true, abs=1e-9)
    assert found.low < true < found.high
    assert found.probes == N
    assert not found.exact
    assert graph.verify(place)["recomputed"] == N


def test_recall_on_some_rows_is_near_that_on_all(tmp_path: Path) -> None:
    points = clustered(500, 6)
    distances = all_distances(points, "euclidean")
    lists = worse(true_lists(points, K, "euclidean"), distances, 0.2)
    graph = write_graph(tmp_path / "graph.zarr", points, lists)
    true = true_recall(lists, distances)
    found = [graph.measure_recall(points, probes=100, random_state=seed) for seed in range(20)]
    assert {recall.probes for recall in found} == {100}
    assert len({recall.estimate for recall in found}) > 5
    assert sum(recall.low <= true <= recall.high for recall in found) >= 17
    assert found[3] == graph.measure_recall(points, probes=100, random_state=3)


def test_a_neighbour_as_near_as_the_true_one_counts(tmp_path: Path) -> None:
    """Points on a grid: most rows have more neighbours at the k-th distance than the graph has room for."""
    points = np.array([(x, y) for x in range(8) for y in range(8)], np.uint8)
    distances = all_distances(points, "euclidean")
    lists = in_order(63 - np.argsort(distances[:, ::-1], axis=1, kind="stable")[:, :K], distances)
    assert (lists[0] != true_lists(points, K, "euclidean")[0]).any()
    graph = write_graph(tmp_path / "graph.zarr", points, lists)
    assert graph.measure_recall(points).estimate == 1


def test_a_graph_of_the_farthest_rows_has_no_recall(tmp_path: Path, points: Array) -> None:
    distances = all_distances(points, "euclidean")
    farthest = np.argsort(np.where(np.isinf(distances), -1, distances), axis=1)[:, -K:]
    graph = write_graph(tmp_path / "graph.zarr", points, in_order(farthest, distances))
    assert graph.measure_recall(points).estimate == 0


def test_recall_does_not_believe_the_distances_of_the_graph(tmp_path: Path, points: Array) -> None:
    any_ids = np.sort((np.arange(N)[:, None] + np.arange(1, K + 1)) % N, axis=1)
    graph = write_graph(tmp_path / "graph.zarr", points, (any_ids, np.zeros((N, K), np.float32)))
    assert graph.measure_recall(points).estimate < 0.3


def test_recall_is_asked_for_with_numbers_that_make_sense(graph: Graph, points: Array) -> None:
    with pytest.raises(SpecError, match="probes=0"):
        graph.measure_recall(points, probes=0)
    with pytest.raises(SpecError, match="random_state=-1"):
        graph.measure_recall(points, random_state=-1)
