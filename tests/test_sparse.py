"""Builds of sparse points: exact, whatever the metric, the blocks, the workers and how often they stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from scipy import sparse

import distnnd
from distnnd import sources
from distnnd.kernels.distances import distances_between
from distnnd.kernels.forms import form_of
from distnnd.kernels.sparse_distances import as_compared, listed
from distnnd.runtime.events import BuildEnd, TaskEnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage.source import open_source
from distnnd.storage.sparse import convert_csr
from distnnd.testing import forced_partitions
from distnnd.values import sparse_plan
from distnnd.values.errors import BudgetError, InputError, SpecError
from distnnd.values.metric import metric_of, of_sparse
from distnnd.values.metrics_table import ENTRIES
from distnnd.values.sparse_plan import plan_sparse
from tests import naive
from tests.conftest import graph_bytes
from tests.faces.command_line import run
from tests.kernels.test_distances import params_of
from tests.sparse_points import TFIDF

K = 6
SPARSE = [name for name, entry in ENTRIES.items() if entry.sparse]


def words(n: int, d: int, seed: int = 0, signs: bool = False) -> sparse.csr_matrix:
    """Rows of a few words each, common ones and rare ones; some rows are empty, some twice."""
    rng = np.random.default_rng(seed)
    shares = 1 / (np.arange(d) + 3.0)
    columns = rng.choice(d, (n, 6), p=shares / shares.sum())
    values = rng.integers(1, 5, (n, 6)) * (rng.choice([-1, 1], (n, 6)) if signs else 1)
    kept = rng.random((n, 6)) < 0.7
    kept[:: n // 5] = False
    columns[n // 2 : n // 2 + 3], values[n // 2 : n // 2 + 3] = columns[:3], values[:3]
    rows = np.broadcast_to(np.arange(n)[:, None], (n, 6))
    return sparse.csr_matrix((values[kept].astype(np.float64), (rows[kept], columns[kept])), (n, d))


def params_for(name: str, d: int) -> dict[str, Any]:
    return params_of(name, d)[0]


def assert_exact(graph: Any, matrix: sparse.csr_matrix, name: str, params: dict[str, Any]) -> None:
    """The graph holds the k smallest (distance, id) of each row, by the distances of all pairs."""
    n, d = matrix.shape
    metric = of_sparse(metric_of(name, params, d))
    points = listed(as_compared(open_source(matrix, sparse=True).read(0, n), metric))
    gaps = np.empty((n, n), np.float32)
    distances_between(points, points, form_of(metric, d), gaps)
    expected = naive.nearest_allowed(gaps, ~np.eye(n, dtype=bool), graph.n_neighbors)
    ids, distances = graph.to_numpy()
    assert [naive.entries(ids, distances, row) for row in range(n)] == expected
    assert graph.recall.exact


@pytest.fixture
def in_blocks(cut: Callable[..., None]) -> Callable[[int], None]:
    """Plans cut sparse points into blocks of so many rows, a power of two, as a lack of memory would."""
    return lambda rows: cut(1, rows)


@pytest.mark.parametrize("name", SPARSE)
def test_each_metric_is_exact(name: str, in_blocks: Callable[[int], None]) -> None:
    in_blocks(64)
    d = {"haversine": 2, "sinkhorn": 10, "kantorovich": 20}.get(name, 40)
    matrix = words(150, d, signs=ENTRIES[name].domain == "finite") * (0.02 if name == "haversine" else 1)
    params = params_for(name, d)
    graph = distnnd.build(matrix, n_neighbors=K, metric=name, metric_params=params, client=SerialExecutor())
    assert graph.facts["layout"]["partitions"] == 3
    assert_exact(graph, matrix, name, params)
    graph.verify(matrix, rows=20)


def test_blocks_and_threads_change_nothing(in_blocks: Callable[[int], None], tmp_path: Path) -> None:
    matrix = words(300, 80)
    convert_csr(open_source(matrix, sparse=True), tmp_path / "x.zarr")
    whole = distnnd.build(matrix, metric="cosine", client=SerialExecutor(2))
    assert whole.facts["rounds"][0]["engine"] == "inverted lists"
    in_blocks(64)
    stored = distnnd.build(tmp_path / "x.zarr", metric="cosine", client=SerialExecutor())
    for one, other in zip(whole.to_numpy(), stored.to_numpy(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_untidy_rows_are_put_in_order() -> None:
    tidy = words(120, 30)
    order = np.random.default_rng(1).permutation(tidy.nnz)
    rows = np.repeat(np.arange(120), np.diff(tidy.indptr))
    order = order[np.argsort(rows[order], kind="stable")]
    halves = np.repeat(tidy.data[order] / 2, 2)
    untidy = sparse.csr_matrix((halves, np.repeat(tidy.indices[order], 2), tidy.indptr * 2), tidy.shape)
    untidy.indices, untidy.indptr = untidy.indices.astype(np.int64), untidy.indptr.astype(np.int64)
    one, other = (distnnd.build(points, n_neighbors=5, metric="jaccard") for points in (tidy, untidy))
    np.testing.assert_array_equal(one.to_numpy()[0], other.to_numpy()[0])


def test_an_interrupted_build_goes_on_where_it_was(in_blocks: Callable[[int], None], tmp_path: Path) -> None:
    in_blocks(64)
    matrix = words(300, 50)
    done: list[int] = []

    def stop(event: Any) -> None:
        if isinstance(event, TaskEnd) and event.stage == "blocks":
            done.append(event.index)
            if len(done) == 2:
                raise KeyboardInterrupt

    whole = distnnd.build(matrix, tmp_path / "whole", n_neighbors=5, metric="cosine", client=SerialExecutor())
    with pytest.raises(KeyboardInterrupt):
        distnnd.build(matrix, tmp_path / "g", n_neighbors=5, metric="cosine", progress=stop, client=SerialExecutor())
    graph = distnnd.build(matrix, tmp_path / "g", n_neighbors=5, metric="cosine", client=SerialExecutor())
    assert graph_bytes(graph) == graph_bytes(whole)


def test_bad_rows_are_named() -> None:
    matrix = words(100, 20)
    matrix.data[matrix.indptr[7]] = -1
    with pytest.raises(InputError, match="row 7, column"):
        distnnd.build(matrix, metric="hellinger")
    matrix.data[matrix.indptr[9]] = np.nan
    with pytest.raises(InputError, match="row 9, column"):
        distnnd.build(matrix, metric="cosine")
    with pytest.raises(SpecError, match="no sparse points"):
        distnnd.build(matrix, metric="nan_euclidean")


def test_a_metric_of_the_users_own_sees_what_rows_list() -> None:
    @numba.njit
    def gap(ind1, data1, ind2, data2):
        return abs(data1.sum() - data2.sum())

    matrix = words(80, 20)
    ids, distances = distnnd.build(matrix, n_neighbors=4, metric=gap).to_numpy()
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    gaps = abs(sums[:, None] - sums) + np.where(np.eye(80), np.inf, 0)
    np.testing.assert_allclose(distances, np.sort(gaps, axis=1)[:, :4])
    assert (ids >= 0).all()


@numba.njit
def undefined_for_two(ind1, data1, ind2, data2):
    """Of the rows that begin with 777 and 778 there is no distance."""
    two = data1.size > 0 and data2.size > 0 and data1[0] + data2[0] == 777 + 778
    return np.nan if two else abs(data1.sum() - data2.sum())


@pytest.mark.parametrize("way", ["whole", "blocks", "sketches"])
def test_a_pair_without_a_distance_is_said_wherever_it_meets(way: str, request: pytest.FixtureRequest) -> None:
    if way == "blocks":
        request.getfixturevalue("in_blocks")(64)
    if way == "sketches":
        request.getfixturevalue("by_sketches")
    matrix = words(200, 20).tolil()
    for row, value in ((10, 777), (180, 778)):
        matrix[row] = 0
        matrix[row, 0] = value
    with pytest.raises(InputError, match=r"the metric returned nan for the rows columns \[0\] with \[77[78].\]"):
        distnnd.build(matrix.tocsr(), n_neighbors=4, metric=undefined_for_two, client=SerialExecutor())


@pytest.mark.parametrize("name", ["cosine", "true_angular"])
def test_real_rows_from_a_file_get_their_true_neighbours(name: str, tmp_path: Path) -> None:
    place = Path(__file__).resolve().parents[1] / "examples" / "tfidf_3k.npz"
    graph = distnnd.build(place, tmp_path / "g", n_neighbors=15, metric=name, client=SerialExecutor(2))
    matrix = sparse.load_npz(place).astype(np.float64)
    unit = sparse.diags(1 / np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())) @ matrix
    true = 1 - (unit @ unit.T).toarray()
    np.fill_diagonal(true, np.inf)
    nearest = np.sort(true, axis=1)[:, :15]
    if name == "true_angular":
        nearest = np.arccos(np.clip(1 - nearest, -1, 1)) / np.pi
    np.testing.assert_allclose(graph.to_numpy()[1], nearest, atol=1e-7 if name == "cosine" else 2e-5)
    assert graph.measure_recall(place, probes=200).estimate == 1
    graph.verify(place, rows=200)


def test_the_command_line_takes_sparse_files(tmp_path: Path) -> None:
    matrix = words(200, 30)
    sparse.save_npz(tmp_path / "x.npz", matrix)
    said = run("convert", tmp_path / "x.npz", tmp_path / "x.zarr", "--json")
    assert (said.code, said.json["entries"]) == (0, matrix.nnz)
    assert run("convert", tmp_path / "x.npz", tmp_path / "y.zarr", "--dtype", "uint8").code == 2
    assert run("build", tmp_path / "x.zarr", tmp_path / "g", "-k", 4, "--metric", "cosine").code == 0
    assert run("verify", tmp_path / "g", "--source", tmp_path / "x.zarr").code == 0
    assert run("recall", tmp_path / "g", "--source", tmp_path / "x.zarr", "--json").json["recall"]["estimate"] == 1
    sparse.save_npz(tmp_path / "columns.npz", matrix.tocsc())
    said = run("plan", tmp_path / "columns.npz", "-k", 4)
    assert said.code == 2
    assert "tocsr" in said.err


def test_an_index_of_sparse_points_is_refused(tmp_path: Path) -> None:
    matrix = words(100, 20)
    graph = distnnd.build(matrix, tmp_path / "g", n_neighbors=4, metric="cosine", client=SerialExecutor())
    with pytest.raises(SpecError, match="sparse points"):
        distnnd.build_index(graph, tmp_path / "i", matrix)
    assert not (tmp_path / "i").exists()


def test_processes_find_the_same(processes: Any) -> None:
    matrix = words(3000, 200)
    serial = distnnd.build(matrix, n_neighbors=5, metric="cosine", client=SerialExecutor())
    with forced_partitions(3):
        spread = distnnd.build(matrix, n_neighbors=5, metric="cosine", client=processes)
    assert spread.facts["layout"]["partitions"] >= 3
    assert graph_bytes(spread) == graph_bytes(serial)


@pytest.fixture
def by_sketches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact answers seem to cost too much."""
    monkeypatch.setattr(sparse_plan, "AFFORDABLE", 0.0)
    monkeypatch.setattr(sparse_plan, "EXACT_ROWS", 0)


@pytest.mark.usefixtures("by_sketches")
@pytest.mark.parametrize("name", ["cosine", "inner_product", "chebyshev", "jaccard"])
def test_sketches_reach_the_recall_in_one_partition(name: str) -> None:
    matrix = words(1500, 900)
    graph = distnnd.build(matrix, n_neighbors=K, metric=name, client=SerialExecutor(2))
    assert not graph.recall.exact
    assert graph.recall.estimate >= 0.95
    assert graph.measure_recall(matrix, probes=300).estimate >= 0.94
    graph.verify(matrix, rows=100)


@pytest.mark.parametrize("name", ["cosine", "jaccard", "chebyshev", "tsss"])
def test_sketches_reach_the_recall_in_partitions(name: str, cut: Callable[..., None]) -> None:
    cut(4, 512, cap=900, sketches=True)
    matrix = words(1500, 900)
    graph = distnnd.build(matrix, n_neighbors=K, metric=name, client=SerialExecutor())
    assert graph.recall.estimate >= 0.95
    assert graph.measure_recall(matrix, probes=300).estimate >= 0.94
    graph.verify(matrix, rows=100)


@pytest.mark.usefixtures("by_sketches")
@pytest.mark.parametrize("memory", [f"{mib}MiB" for mib in (1000, 2000, 8000)])
def test_plans_by_sketches_keep_within_the_memory(memory: str) -> None:
    from distnnd.values.budget import Workers
    from distnnd.values.plan import Extent, Sparsity
    from distnnd.values.spec import BuildSpec, parse_bytes

    densest = tuple(20 * 2**power for power in range(17))
    extent = Extent(3_000_000, 10**6, "float32", 4096, Sparsity(10 * 3_000_000, 1e13, densest))
    limit = parse_bytes(memory)
    assert limit is not None
    plan = plan_sparse(BuildSpec(metric="cosine"), extent, Workers(limit))
    assert plan.layout.partitions > 1
    assert plan.peak <= limit
    assert plan.layout.cap >= 1024


def test_a_plan_reads_no_more_than_a_sample_and_keeps_within_its_memory(tmp_path: Path) -> None:
    matrix = words(5000, 300)
    convert_csr(open_source(matrix, sparse=True), tmp_path / "x.zarr")
    lengths = np.bincount(matrix.indices, minlength=300)
    extent = sources.extent_of(open_source(tmp_path / "x.zarr", sparse=True))
    assert extent.sparsity is not None
    assert extent.sparsity.products == pytest.approx(float((lengths.astype(float) ** 2).sum()), rel=1e-9)
    assert extent.sparsity.most(1) == np.diff(matrix.indptr).max()
    assert extent.sparsity.most(8192) == matrix.nnz
    plan = distnnd.plan(tmp_path / "x.zarr", metric="cosine", memory_limit="2GiB")
    assert "sparse" in str(plan)
    assert plan.peak <= 2 * 2**30
    with pytest.raises(BudgetError, match="memory_limit="):
        distnnd.plan(tmp_path / "x.zarr", metric="cosine", memory_limit="240MiB")


@pytest.mark.skipif(not TFIDF.is_file(), reason="needs the TF-IDF rows")
def test_real_rows_out_of_core_within_a_bound(tmp_path: Path) -> None:
    convert_csr(open_source(TFIDF, sparse=True), tmp_path / "x.zarr")
    whole = distnnd.build(TFIDF, metric="cosine", client=SerialExecutor())
    ends: list[BuildEnd] = []

    def listen(event: Any) -> None:
        if isinstance(event, BuildEnd):
            ends.append(event)

    limit = {"memory_limit": "300MiB", "n_workers": 1}
    # The first of the two finds kernels that are not on disk; what the memory of a compiler is, is measured elsewhere.
    for place in ("first", "second"):
        graph = distnnd.build(tmp_path / "x.zarr", tmp_path / place, metric="cosine", progress=listen, **limit)
    assert graph.facts["layout"]["partitions"] >= 2
    assert ends[1].peak < 300 * 2**20
    assert graph_bytes(graph) == graph_bytes(whole)
