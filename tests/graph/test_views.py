"""A finished graph in the user's hands: it opens only when it is whole, and its views keep downstream conventions."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import distnnd
from distnnd.graph import Graph, open_graph
from distnnd.runtime.serial import SerialExecutor
from distnnd.stages import views
from distnnd.storage import graph as store
from distnnd.values.errors import SpecError, StoreError
from distnnd.values.metric import METRICS
from tests.conftest import clustered
from tests.graph.small import Array, K, N, true_lists, write_graph

# --- views -------------------------------------------------------------------------------------------------


def test_arrays_as_they_are_stored(graph: Graph, points: Array) -> None:
    ids, distances = graph.to_numpy()
    for found, true, kind in zip(
        (ids, distances), true_lists(points, K, "euclidean"), (np.int64, np.float32), strict=True
    ):
        assert found.dtype == kind
        np.testing.assert_array_equal(found, true)
    np.testing.assert_array_equal(graph.indices[:], ids)
    np.testing.assert_array_equal(graph.distances[:], distances)


def test_arrays_with_each_row_itself_first(graph: Graph) -> None:
    ids, distances = graph.to_numpy(include_self=True)
    assert ids.shape == distances.shape == (N, K + 1)
    np.testing.assert_array_equal(ids[:, 0], np.arange(N))
    assert not distances[:, 0].any()
    bare = graph.to_numpy()
    np.testing.assert_array_equal(ids[:, 1:], bare[0])
    np.testing.assert_array_equal(distances[:, 1:], bare[1])


@pytest.mark.parametrize("include_self", [False, True])
def test_arrays_are_the_callers_own(graph: Graph, include_self: bool) -> None:
    """UMAP writes into what it is given."""
    for found in graph.to_numpy(include_self):
        assert found.flags.writeable
        assert found.flags.owndata
        assert found.flags.c_contiguous
        found[:] = -1
    assert (graph.to_numpy(include_self)[0] >= 0).all()


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_csr_keeps_every_row_in_the_order_of_distance(graph: Graph, include_self: bool, mode: str) -> None:
    matrix = graph.to_csr(include_self, mode)
    ids, distances = graph.to_numpy(include_self)
    assert sparse.issparse(matrix)
    assert matrix.format == "csr"
    assert matrix.shape == (N, N)
    assert matrix.dtype == np.float32
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    # Every row has as many entries, so that the stored order is the table of neighbours.
    np.testing.assert_array_equal(matrix.indptr, np.arange(N + 1) * ids.shape[1])
    np.testing.assert_array_equal(matrix.indices.reshape(N, -1), ids)
    expected = distances if mode == "distance" else np.ones_like(distances)
    np.testing.assert_array_equal(matrix.data.reshape(N, -1), expected)


def test_csr_has_explicit_zeros_for_rows_themselves_and_for_duplicates(graph: Graph) -> None:
    matrix = graph.to_csr()
    zeros = np.diff(np.add.reduceat(matrix.data == 0, matrix.indptr[:-1], dtype=int), prepend=0).cumsum()
    expected = np.ones(N, int)
    expected[[3, 7, 21, 40]] = 4
    np.testing.assert_array_equal(zeros, expected)


def test_csr_is_by_default_what_precomputed_neighbours_are(graph: Graph) -> None:
    default = graph.to_csr()
    explicit = graph.to_csr(include_self=True, mode="distance")
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(default, name), getattr(explicit, name))


@pytest.mark.parametrize(
    ("n", "entries", "kind"),
    [
        (10, 2**31 - 1, np.int32),
        (10, 2**31, np.int64),
        (2**31 - 1, 10, np.int32),
        (2**31, 10, np.int64),
        (1, 1, np.int32),
    ],
)
def test_ids_are_as_narrow_as_they_can_be(n: int, entries: int, kind: type) -> None:
    assert views.index_dtype(n, entries) == kind


def test_ids_that_need_it_are_wide(graph: Graph) -> None:
    with mock.patch.object(views, "index_dtype", return_value=np.dtype(np.int64)):
        wide = graph.to_csr()
    np.testing.assert_array_equal(wide.indices, graph.to_csr().indices)


def test_what_no_view_can_be_is_refused(graph: Graph) -> None:
    with pytest.raises(SpecError, match="mode='weights' is none of 'distance', 'connectivity'"):
        graph.to_csr(mode="weights")
    with pytest.raises(SpecError, match="how='sum' is none of 'max', 'min', 'mean'"):
        graph.symmetrize("sum")


def test_lazy_arrays_have_the_blocks_of_the_graph(graph: Graph) -> None:
    for lazy, found in zip(graph.to_dask(), graph.to_numpy(), strict=True):
        assert lazy.chunks == ((16, 16, 16, 12), (K,))
        assert lazy.dtype == found.dtype
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), found)


# --- both directions of every edge ----------------------------------------------------------------------------


@st.composite
def directed(draw: st.DrawFn) -> tuple[Array, Array]:
    """Lists of any rows at any distances, zeros among them, that need not agree with each other."""
    n = draw(st.integers(2, 9))
    k = draw(st.integers(1, n - 1))
    far = st.sampled_from([0.0, 0.0, 0.5, 1.0, 1.5, 2.25, -1.0])
    others = [draw(st.permutations([j for j in range(n) if j != i])) for i in range(n)]
    distances = [sorted(draw(st.lists(far, min_size=k, max_size=k))) for _ in range(n)]
    return np.array(others, np.int64)[:, :k], np.array(distances, np.float32)


HOWS: dict[str, Callable[[list[float]], float]] = {"max": max, "min": min, "mean": lambda both: sum(both) / len(both)}


@settings(max_examples=30, deadline=None)
@given(lists=directed())
def test_symmetrize_is_what_a_loop_would_do(lists: tuple[Array, Array]) -> None:
    edges: dict[tuple[int, int], list[float]] = {}
    for row, (ids, distances) in enumerate(zip(*lists, strict=True)):
        for neighbour, distance in zip(ids.tolist(), distances.tolist(), strict=True):
            edges.setdefault((row, neighbour), []).append(distance)
            edges.setdefault((neighbour, row), []).append(distance)
    with tempfile.TemporaryDirectory() as folder:
        graph = write_graph(Path(folder, "graph.zarr"), np.eye(len(lists[0]), dtype=np.float32), lists)
        for how, choose in HOWS.items():
            found = graph.symmetrize(how)
            assert found.dtype == np.float32
            assert found.has_sorted_indices
            rows = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
            said = dict(zip(zip(rows.tolist(), found.indices.tolist(), strict=True), found.data.tolist(), strict=True))
            assert len(said) == found.nnz
            assert said == {edge: choose(both) for edge, both in edges.items()}


def test_symmetrize_keeps_what_a_true_metric_says_and_the_zeros_of_duplicates(graph: Graph) -> None:
    ones = {how: graph.symmetrize(how) for how in HOWS}
    for found in ones.values():
        assert abs(found - found.T).max() == 0
        np.testing.assert_array_equal(found.data, ones["max"].data)
        assert found[3].nnz >= 4
        assert set(found[3].indices[found[3].data == 0]) == {7, 21, 40}


# --- what a person sees ---------------------------------------------------------------------------------------


def test_a_graph_says_what_it_is(graph: Graph) -> None:
    assert (graph.n, graph.n_neighbors, graph.metric) == (N, K, "euclidean")
    assert graph.recall == distnnd.Recall(0.97, 0.96, 0.98, 256)
    assert re.fullmatch(
        r"<distnnd.Graph 60 rows, 4 neighbours, euclidean, recall 0.9700 .* at .*graph.zarr>", repr(graph)
    )
    info = graph.info()
    assert info["state"] == "complete"
    assert info["bytes"] == N * K * 12
    assert info["format_version"] == store.FORMAT_VERSION


def test_a_notebook_shows_a_table_and_runs_nothing(tmp_path: Path, points: Array) -> None:
    place = tmp_path / "<script>alert('&')" / "graph.zarr"
    place.parent.mkdir()
    html = write_graph(place, points, true_lists(points, K, "euclidean"))._repr_html_()
    assert "<td>60</td>" in html
    assert "0.9700" in html
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)" in html
    assert set(re.findall(r"<(\w+)", html)) == {"table", "caption", "tbody", "tr", "th", "td"}


# --- opening ------------------------------------------------------------------------------------------------


def test_where_nothing_is_there_is_no_graph(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"there is no graph at {tmp_path}/graph.zarr"):
        open_graph(tmp_path / "graph.zarr")
    with pytest.raises(SpecError, match="named by a path"):
        open_graph(None)


def test_a_graph_that_is_not_finished_says_how_to_go_on(graph: Graph) -> None:
    store.commit(graph.location, graph.facts | {"state": "building"})
    with pytest.raises(StoreError, match=r"not finished \(1 round.s. committed\); run the same build again"):
        open_graph(graph.location)


def test_a_graph_of_another_format_is_not_guessed_at(graph: Graph) -> None:
    facts = graph.facts | {"format_version": "2.0"}
    zarr.open_group(graph.location, mode="r+").update_attributes({store.ATTRIBUTE: facts})
    with pytest.raises(StoreError, match=r"has format version 2\.0, this distnnd reads 1"):
        open_graph(graph.location)


def test_what_is_no_graph_is_not_opened(tmp_path: Path, points: Array) -> None:
    zarr.create_group(tmp_path / "group.zarr")
    zarr.create_array(tmp_path / "array.zarr", data=points)
    (tmp_path / "file.zarr").write_text("text")
    for name in ("group.zarr", "array.zarr", "file.zarr"):
        with pytest.raises(SpecError, match=rf"{name} .*no graph of distnnd"):
            open_graph(tmp_path / name)


@pytest.mark.parametrize("name", ["indices", "distances"])
def test_a_graph_without_one_of_its_arrays_is_damaged(graph: Graph, name: str) -> None:
    shutil.rmtree(Path(graph.location, name))
    with pytest.raises(StoreError, match=f"graph.zarr/{name} cannot be opened"):
        open_graph(graph.location)


def test_a_rebuilt_graph_is_not_served_stale(graph: Graph, points: Array) -> None:
    before = graph.to_numpy()
    shutil.rmtree(graph.location)
    again = write_graph(Path(graph.location), points[:20] * 2, true_lists(points[:20] * 2, 7, "euclidean"))
    assert (again.n, again.n_neighbors) == again.indices.shape == again.to_numpy()[0].shape == (20, 7)
    assert before[0].shape == (N, K)
    again.verify(points[:20] * 2)


# --- a graph that was built -----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_a_built_graph_is_sound(metric: str, serial: SerialExecutor) -> None:
    points = clustered(5000, 8)
    points[:3] = 0
    graph = distnnd.build(points, n_neighbors=10, metric=metric, client=serial)
    assert graph.verify(points)["recomputed"] == 1000
    measured = graph.measure_recall(points, probes=400)
    assert measured.low <= graph.recall.high
    assert graph.recall.low <= measured.high
    assert graph.symmetrize().nnz <= 2 * graph.to_csr(include_self=False).nnz == 2 * 5000 * 10
