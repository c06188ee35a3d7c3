"""Points that come as dask arrays: checked before anything runs, then chunk by chunk; the graph is that of numpy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe
import numpy as np
import pandas
import pytest
import scipy.sparse

import distnnd
from distnnd.runtime import cluster
from tests.conftest import clustered, graph_bytes

K = 6
ROWS, COLUMNS = 600, 10


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """600 rows of ten numbers."""
    return clustered(ROWS, COLUMNS)


@pytest.fixture(scope="module")
def wanted(rows: np.ndarray) -> bytes:
    """Their graph, of the array itself."""
    return graph_bytes(distnnd.build(rows, None, K))


def nothing_runs(array: Any) -> Any:
    """The array, whose chunks cannot be computed."""

    def fail(chunk: Any) -> Any:
        raise AssertionError("a chunk was computed")

    return array.map_blocks(fail, dtype=array.dtype, meta=array._meta)


def chunks_made_by(make: Callable[[int], Any], meta: Any, dtype: Any = "f4", shape: tuple[int, int] = (200, 10)) -> Any:
    """Three chunks below each other, which `make` makes, whatever the array says of them."""
    parts = [da.from_delayed(dask.delayed(make)(i), shape, dtype=dtype, meta=meta) for i in range(3)]
    return da.concatenate(parts)


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a cluster or asks for an executor fails."""

    def fail(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("an executor was asked for")

    monkeypatch.setattr(cluster, "_temporary", fail)
    monkeypatch.setattr(cluster.LocalExecutor, "__init__", fail)


# --- taken -----------------------------------------------------------------------------------------------

TAKEN: dict[str, Callable[[np.ndarray], Any]] = {
    "odd chunks": lambda rows: da.from_array(rows, chunks=(170, 4)),
    "one chunk": lambda rows: da.from_array(rows, chunks=-1),
    "columns one by one": lambda rows: da.from_array(rows, chunks=(250, 1)),
    "backwards twice": lambda rows: da.from_array(rows, chunks=170)[::-1][::-1],
    "in the order of Fortran": lambda rows: da.from_array(rows, chunks=170).map_blocks(np.asfortranarray),
    "an empty chunk": lambda rows: da.from_array(rows, chunks=((0, 300, 0, 300), (10,))),
    "counted": lambda rows: counted(da.from_array(rows, chunks=170)),
    "of a frame": lambda rows: dask.dataframe.from_pandas(pandas.DataFrame(rows), 3).to_dask_array(lengths=True),
    "masked by nothing": lambda rows: chunks_made_by(
        lambda i: np.ma.array(rows[200 * i : 200 * i + 200]), np.empty((0, 0), "f4")
    ),
    "float64 that says so": lambda rows: da.from_array(rows.astype("f8"), chunks=170),
    "float64 that says it is float32": lambda rows: chunks_made_by(
        lambda i: rows[200 * i : 200 * i + 200].astype("f8"), np.empty((0, 0), "f4")
    ),
}


def counted(array: Any) -> Any:
    """An array whose chunks were of unknown size."""
    chosen = array[da.ones(len(array), dtype=bool, chunks=170)]
    assert np.isnan(chosen.shape[0])
    return chosen.compute_chunk_sizes()


@pytest.mark.parametrize("form", list(TAKEN))
def test_the_graph_is_that_of_the_array(rows: np.ndarray, wanted: bytes, form: str) -> None:
    lazy = TAKEN[form](rows)
    planned = distnnd.plan(lazy, K).layout
    graph = distnnd.build(lazy, None, K)
    # That float32 holds all numbers is known once they are computed.
    assert graph.facts["layout"] | {"dtype": planned.dtype} == asdict(planned)
    assert graph.facts["layout"]["dtype"] == "float32"
    assert graph_bytes(graph) == wanted


def test_a_lazy_array_of_xarray_is_taken_as_the_dask_array_in_it(rows: np.ndarray, wanted: bytes) -> None:
    class DataArray:
        """What is used of xarray's."""

        __module__ = "xarray.core.dataarray"
        data = da.from_array(rows, chunks=170)

    assert graph_bytes(distnnd.build(DataArray(), None, K)) == wanted


def test_truths_are_packed(rows: np.ndarray) -> None:
    lazy = da.from_array(rows > 0, chunks=(170, 3))
    for metric in ("bit_hamming", "jaccard"):
        assert graph_bytes(distnnd.build(lazy, None, K, metric=metric)) == graph_bytes(
            distnnd.build(rows > 0, None, K, metric=metric)
        )


@pytest.mark.parametrize("columns", [10, 4])
@pytest.mark.parametrize("on_workers", [False, True])
def test_sparse_chunks_are_sparse_rows(
    tmp_path: Path, request: pytest.FixtureRequest, columns: int, on_workers: bool
) -> None:
    matrix = scipy.sparse.random(ROWS, COLUMNS, 0.3, "csr", dtype=np.float32, random_state=0)
    dense = da.from_array(matrix.toarray(), chunks=(170, columns))
    lazy = dense.map_blocks(scipy.sparse.csr_matrix, meta=scipy.sparse.csr_matrix((0, 0), dtype="f4"))
    client = request.getfixturevalue("processes") if on_workers else None
    graph = distnnd.build(lazy, tmp_path / "g", K, metric="cosine", client=client)
    assert graph_bytes(graph) == graph_bytes(distnnd.build(matrix, None, K, metric="cosine"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g"]
    assert graph.verify(lazy)["recomputed"] == ROWS
    assert graph.measure_recall(lazy).estimate == 1
    with pytest.raises(distnnd.SpecError, match=r"write the points to disk first.*save_npz"):
        distnnd.plan(lazy, K, metric="cosine")


def test_what_reads_the_points_of_a_graph_takes_them_too(tmp_path: Path, rows: np.ndarray) -> None:
    lazy = da.from_array(rows, chunks=(170, 4))
    for source in (rows, lazy):
        graph = distnnd.build(source, None, K)
        assert graph.verify(lazy)["recomputed"] == ROWS
        assert graph.measure_recall(lazy).estimate == 1
        index = distnnd.build_index(graph, tmp_path / f"i{type(source).__name__}", lazy)
        assert (index.query(rows, k=1)[0][:, 0] == np.arange(ROWS)).mean() > 0.99
    with pytest.raises(distnnd.StoreError, match="changed since"):
        graph.verify(lazy[:-1])
    with pytest.raises(distnnd.InputError, match="complex"):
        graph.measure_recall(lazy + 1j)


def test_an_index_on_workers_is_made_of_a_dask_array(tmp_path: Path, rows: np.ndarray, processes: Any) -> None:
    lazy = da.from_array(rows, chunks=(170, 4))
    graph = distnnd.build(lazy, tmp_path / "g", K, client=processes)
    index = graph.build_index(tmp_path / "i", lazy, client=processes)
    assert (index.query(rows, k=1)[0][:, 0] == np.arange(ROWS)).mean() > 0.99
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g", "i"]


# --- refused before anything runs ------------------------------------------------------------------------


def frame_of(array: Any, **columns: Any) -> Any:
    """A dask DataFrame of the first rows, with other columns beside."""
    frame = pandas.DataFrame(np.asarray(array[:60]), columns=list("abcdefghij")).assign(**columns)
    return dask.dataframe.from_pandas(frame, 2)


REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "unknown rows": (lambda x: x[x[:, 0] > 0], distnnd.SpecError, r"points\.compute_chunk_sizes\(\)"),
    "complex": (lambda x: x + 1j, distnnd.InputError, r"numpy\.hstack\(\[points\.real, points\.imag\]\)"),
    "datetime": (lambda x: x.astype("i8").astype("M8[s]"), distnnd.InputError, "take differences"),
    "timedelta": (lambda x: x.astype("i8").astype("m8[s]"), distnnd.InputError, "choose a unit"),
    "object": (lambda x: x.astype(object), distnnd.InputError, r'points\.astype\("float64"\)'),
    "text": (lambda x: x.astype(str), distnnd.InputError, "into numbers"),
    "masked": (lambda x: da.ma.masked_less(x, -2), distnnd.InputError, r"dask\.array\.ma\.filled\(points, value\)"),
    "1-d": (lambda x: x[:, 0], distnnd.InputError, r"points\.reshape\(-1, 1\)"),
    "3-d": (lambda x: x[:, :, None], distnnd.InputError, r"points\.reshape\(len\(points\), -1\)"),
    "no rows": (lambda x: x[:0], distnnd.InputError, "no rows"),
    "no columns": (lambda x: x[:, :0], distnnd.InputError, "no columns"),
    "a frame": (frame_of, distnnd.SpecError, r"points\.to_dask_array\(lengths=True\)"),
    "a frame of truths and numbers": (
        lambda x: frame_of(x, truth=True),
        distnnd.SpecError,
        r'points\.astype\("float32"\)\.to_dask_array\(lengths=True\)',
    ),
    "a frame with names": (lambda x: frame_of(x, name="x"), distnnd.InputError, "'name'"),
    "a column of a frame": (lambda x: frame_of(x)["a"], distnnd.SpecError, r"points\.to_frame\(\)"),
    "something delayed": (lambda x: dask.delayed(np.ones)((3, 3)), distnnd.SpecError, r"dask\.array\.from_delayed"),
}


@pytest.mark.parametrize("call", [distnnd.build, distnnd.plan], ids=["build", "plan"])
@pytest.mark.parametrize("form", list(REFUSED))
def test_what_cannot_be_points_is_refused_before_anything_runs(
    rows: np.ndarray, no_cluster: None, call: Callable[..., Any], form: str
) -> None:
    make, error, said = REFUSED[form]
    lazy = make(da.from_array(rows, chunks=170) if "frame" in form else nothing_runs(da.from_array(rows, chunks=170)))
    with pytest.raises(error, match=said):
        call(lazy, n_neighbors=K)


@pytest.mark.parametrize("form", ["unknown rows", "complex", "1-d", "3-d", "a frame", "a frame of truths and numbers"])
def test_the_remedy_works(rows: np.ndarray, form: str) -> None:
    make, error, said = REFUSED[form]
    lazy = make(da.from_array(rows, chunks=170))
    with pytest.raises(error, match=said) as caught:
        distnnd.plan(lazy, 3)
    found = re.search(said, str(caught.value))
    assert found is not None
    again = eval(found[0], {"points": lazy, "numpy": np, "dask": dask})
    assert distnnd.build(again, None, 3).n == again.shape[0]


@pytest.mark.parametrize("call", [distnnd.build, distnnd.plan], ids=["build", "plan"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_neighbors": ROWS}, "ask for at most 599"),
        ({"metric": "haversine"}, "takes two columns"),
        ({"metric": "mahalanobis", "metric_params": {"V": [[1.0]]}}, "mahalanobis"),
        ({"component": "X"}, "component='X'"),
        ({"n_workers": 0}, "n_workers must be at least 1"),
    ],
)
def test_arguments_are_checked_as_for_arrays(
    rows: np.ndarray, no_cluster: None, call: Callable[..., Any], options: dict[str, Any], said: str
) -> None:
    lazy = nothing_runs(da.from_array(rows, chunks=170))
    for source in (lazy, rows):
        with pytest.raises((distnnd.SpecError, distnnd.InputError), match=said):
            call(source, **options)


def test_an_output_that_exists_is_refused_first(tmp_path: Path, rows: np.ndarray, no_cluster: None) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "mine").touch()
    with pytest.raises(distnnd.SpecError, match="exists"):
        distnnd.build(nothing_runs(da.from_array(rows, chunks=170)), tmp_path / "g", K)


# --- chunks that are not what the array says -------------------------------------------------------------

PLAIN = np.empty((0, 0), "f4")
LYING: dict[str, tuple[Callable[[], Any], str]] = {
    "narrower": (lambda: chunks_made_by(lambda i: np.ones((200, 9), "f4"), PLAIN), r"chunk \(\d, 0\) has the shape"),
    "twice as long": (
        lambda: chunks_made_by(lambda i: np.ones((200 + 200 * (i == 1), 10), "f4"), PLAIN),
        r"chunk \(1, 0\) has the shape \(400, 10\).*compute_chunk_sizes",
    ),
    "of three axes": (lambda: chunks_made_by(lambda i: np.ones((200, 10, 1), "f4"), PLAIN), "has the shape"),
    "masked": (
        lambda: chunks_made_by(lambda i: np.ma.masked_less(np.arange(2000.0).reshape(200, 10), 5), PLAIN),
        r"chunk \(\d, 0\) has masked values.*filled",
    ),
    "complex": (lambda: chunks_made_by(lambda i: np.ones((200, 10), "c8"), PLAIN), "complex64"),
    "text": (lambda: chunks_made_by(lambda i: np.full((200, 10), "a"), PLAIN), "<U1"),
    "float64 that float32 does not hold": (
        lambda: chunks_made_by(lambda i: np.full((200, 10), 0.1), PLAIN),
        r"chunk \(\d, 0\) holds float64.*points\.map_blocks\(numpy\.asarray, dtype='float64'\)",
    ),
    "fractions where whole numbers are said": (
        lambda: chunks_made_by(lambda i: np.full((200, 10), 0.5), np.empty((0, 0), "i8"), "i8"),
        "holds float64, although the array says int64",
    ),
    "sparse": (
        lambda: chunks_made_by(lambda i: scipy.sparse.eye(200, 10, format="csr", dtype="f4"), PLAIN),
        r"points\.map_blocks\(scipy\.sparse\.csr_matrix",
    ),
    "dense where sparse are said": (
        lambda: chunks_made_by(lambda i: np.ones((200, 10), "f4"), scipy.sparse.csr_matrix((0, 0), dtype="f4")),
        r"points\.map_blocks\(scipy\.sparse\.csr_matrix\)",
    ),
}


@pytest.mark.parametrize("form", list(LYING))
def test_a_chunk_that_is_not_what_the_array_says_is_named(tmp_path: Path, form: str) -> None:
    make, said = LYING[form]
    with pytest.raises(distnnd.InputError, match=said):
        distnnd.build(make(), tmp_path / "g", K)
    assert not list(tmp_path.iterdir())


def test_a_chunk_is_named_by_a_worker_too(tmp_path: Path, processes: Any) -> None:
    lazy = da.from_array(np.ones((600, 10), "f4"), chunks=200).map_blocks(lambda chunk: chunk[:, :9], dtype="f4")
    with pytest.raises(distnnd.InputError, match=r"chunk \(\d, 0\) has the shape \(200, 9\)"):
        distnnd.build(lazy, tmp_path / "g", K, client=processes)
    assert not list(tmp_path.iterdir())


def test_a_chunk_that_cannot_be_computed_is_told_as_an_error_of_a_task(rows: np.ndarray) -> None:
    def fail(chunk: Any) -> Any:
        raise KeyError("no such file")

    lazy = da.from_array(rows, chunks=170).map_blocks(fail, dtype="f4", meta=np.empty((0, 0), "f4"))
    with pytest.raises(distnnd.StageError, match=r"could not be computed.*no such file") as caught:
        distnnd.build(lazy, None, K)
    assert isinstance(caught.value.__cause__, KeyError)
