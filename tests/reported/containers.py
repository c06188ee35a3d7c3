"""What users hold their rows in, and what is wrong inside."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from scipy import sparse

import distnnd
from distnnd.faces.cli import main
from distnnd.storage.source import open_source
from distnnd.storage.sparse import open_parts
from distnnd.testing import forced_partitions
from tests.conftest import graph_bytes
from tests.reported.answers import alike, build, ids_of, index_of, normal, refused, tried


def one_bad_number(place: Path) -> None:
    """NaN and inf in the last column of the last row are refused with row and column, wherever the rows lie."""
    for bad in (np.nan, np.inf, -np.inf):
        points = normal(1501, 8)
        points[-1, 7] = bad
        refused(lambda points=points: build(points, 5), "1500", "column 7")
    for metric in ("cosine", "manhattan", "inner_product", "jaccard", "correlation"):
        refused(lambda metric=metric: build(points, 5, metric=metric), "1500")
    with forced_partitions():
        refused(lambda: build(points, 5), "1500")
    zarr.create_array(place / "z", data=points, chunks=(777, 3))
    for source in (place / "z", da.from_array(points, chunks=(400, 5)), points.astype(np.float16)):
        refused(lambda source=source: build(source, 5), "1500")
    listed = sparse.random(300, 50, 0.1, "csr", dtype=np.float32, random_state=0)
    listed.data[-1] = np.nan
    refused(lambda: build(listed, 5), "row")
    np.save(place / "x.npy", points)
    run = CliRunner().invoke(main, ["build", str(place / "x.npy"), str(place / "g"), "-k", "5"])
    assert run.exit_code == 1
    assert "1500" in run.output
    assert not (place / "g").exists()


def one_bad_query(place: Path) -> None:
    """A query with NaN is refused with its number; so is k of 0 and k beyond the rows."""
    points = normal(300, 8)
    index = index_of(points, place / "i", 10)
    queries = points[:5].copy()
    queries[4, 2] = np.nan
    refused(lambda: index.query(queries, k=3), "query 4", "column 2")
    refused(lambda: index.query(points[:2], k=0))
    refused(lambda: index.query(points[:2], k=301))


class Arrayish:
    """Anything that NumPy can make an array of."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """The rows."""
        return self.rows if dtype is None else self.rows.astype(dtype)


def rows_in_other_hands(place: Path) -> None:
    """Lists, tuples, memmaps, read-only and backward arrays, and what NumPy can read: right, or refused with a way."""
    points = normal(200, 6)
    right = graph_bytes(build(points, 5))
    np.save(place / "x.npy", points)
    frozen = points.copy()
    frozen.flags.writeable = False
    backwards = np.ascontiguousarray(points[::-1])[::-1]
    for rows in (np.load(place / "x.npy", mmap_mode="r"), frozen, backwards, np.asfortranarray(points)):
        assert graph_bytes(build(rows, 5)) == right
    assert_right_or_remedy([points.tolist(), tuple(points), Arrayish(points)], points)


def frames(place: Path) -> None:
    """Data frames of numbers: right, or refused with a way that works."""
    points = normal(200, 6)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(points, columns=list("abcdef"))
    shuffled = frame.set_index(np.arange(200)[::-1])
    assert_right_or_remedy([frame, shuffled, frame.values], points)


def frames_with_missing_values(place: Path) -> None:
    """A frame of nullable Float32 in which nothing is missing: right, or refused with a way that works."""
    points = normal(200, 6)
    assert_right_or_remedy([pytest.importorskip("pandas").DataFrame(points).astype("Float32")], points)


def frames_that_are_columns(place: Path) -> None:
    """Polars frames and Arrow tables: right, or refused with a way that works."""
    points = normal(200, 6)
    polars = pytest.importorskip("polars")
    assert_right_or_remedy([polars.DataFrame(points)], points)


def tensors(place: Path) -> None:
    """Torch tensors, also those that take gradients: right, or refused with a way that works."""
    torch = pytest.importorskip("torch")
    points = normal(200, 6)
    tensor = torch.tensor(points)
    assert_right_or_remedy([tensor, tensor.numpy()], points)
    refused_or_right(tensor.clone().requires_grad_(), points)
    refused_or_right(tensor.to(torch.bfloat16), points)


def open_hdf5(place: Path) -> None:
    """A data set of an open HDF5 file, and the path of one: right, or refused with a way that works."""
    h5py = pytest.importorskip("h5py")
    points = normal(200, 6)
    with h5py.File(place / "x.h5", "w") as file:
        file["x"] = points
        file.create_dataset("chunked", data=points, chunks=(50, 4), compression="gzip")
    with h5py.File(place / "x.h5") as file:
        assert_right_or_remedy([file["x"], file["chunked"]], points)
        assert graph_bytes(build(da.from_array(file["chunked"], chunks=(60, -1)), 5)) == graph_bytes(build(points, 5))


def paths_of_files_that_others_read(place: Path) -> None:
    """.h5, .h5ad and .npz of NumPy are read, or refused with the call that reads them."""
    h5py = pytest.importorskip("h5py")
    points = normal(200, 6)
    with h5py.File(place / "x.h5", "w") as file:
        file["x"] = points
    (place / "x.h5ad").write_bytes((place / "x.h5").read_bytes())
    np.savez(place / "x.npz", x=points)
    for name, remedy in (("x.h5", "h5py"), ("x.h5ad", "anndata"), ("x.npz", "load")):
        graph, refusal = tried(lambda name=name: build(place / name, 5))
        assert graph_bytes(graph) == graph_bytes(build(points, 5)) if graph is not None else remedy in refusal, refusal


def assert_right_or_remedy(sources: list[Any], points: np.ndarray) -> None:
    """Each gives the graph of the points, or is refused with numpy.asarray, which gives it."""
    right = build(points, 5)
    for source in sources:
        graph, refusal = tried(lambda source=source: build(source, 5))
        if graph is None:
            assert "numpy.asarray" in refusal
            graph = build(np.asarray(source), 5)
        # Lists hold numbers of float64.
        assert alike(graph, right)


def refused_or_right(source: Any, points: np.ndarray) -> None:
    """The graph of the points, or a refusal that says more than that."""
    graph, refusal = tried(lambda: build(source, 5))
    if graph is None:
        assert len(refusal) > 40
    else:
        assert (graph.indices[:] == ids_of(build(points, 5))).mean() > 0.9


def groups_of_anndata(place: Path) -> None:
    """CSR and arrays in a Zarr group as AnnData lays them out: named, by path, and refused with a way out."""
    listed = sparse.random(200, 60, 0.1, "csr", dtype=np.float32, random_state=0)
    points = normal(200, 6)
    root = zarr.create_group(place / "a.zarr")
    root.create_group("obsm").create_array("X_pca", data=points, chunks=(64, 6))
    for name, matrix in (("X", listed), ("layers/counts", listed.tocsc())):
        group = root.create_group(name)
        kind = f"{matrix.format}_matrix"
        group.attrs.update({"encoding-type": kind, "encoding-version": "0.1.0", "shape": list(matrix.shape)})
        for part in ("data", "indices", "indptr"):
            group.create_array(part, data=getattr(matrix, part))
    dense, thin = build(points, 5), build(listed, 5, metric="cosine")
    for source, component in ((place / "a.zarr", "obsm/X_pca"), (f"{place}/a.zarr/obsm/X_pca", None)):
        assert graph_bytes(build(source, 5, component=component)) == graph_bytes(dense)
    for source, component in ((place / "a.zarr", "X"), (place / "a.zarr", None), (f"{place}/a.zarr/X", None)):
        assert graph_bytes(build(source, 5, component=component, metric="cosine")) == graph_bytes(thin)
    refused(lambda: build(place / "a.zarr", 5, component="layers/counts"), "tocsr")
    refused(lambda: build(place / "a.zarr", 5, component="obsm/X_pcaa"), "X_pca")
    asked = ["build", str(place / "a.zarr"), str(place / "g"), "--component", "obsm/X_pca", "-k", "5"]
    assert CliRunner().invoke(main, asked).exit_code == 0
    assert graph_bytes(distnnd.open_graph(place / "g")) == graph_bytes(dense)


def columns_that_nobody_has(place: Path) -> None:
    """Zarr leaves out chunks that hold nothing but the fill value, as it does by default: read as what they are."""
    points = np.random.default_rng(0).poisson(0.05, (400, 30)).astype(np.float32)
    points[:, 10:20] = 0
    right = graph_bytes(build(points, 5))
    zarr.create_array(place / "two", data=points, chunks=(100, 10))
    zarr.create_array(place / "v2", data=points, chunks=(100, 10), zarr_format=2)
    da.from_array(points, chunks=(100, 10)).to_zarr(str(place / "dask"))
    for name in ("two", "v2", "dask"):
        assert graph_bytes(build(place / name, 5)) == right
    run = CliRunner().invoke(main, ["convert", str(place / "two"), str(place / "converted")])
    assert run.exit_code == 0, run.output


def columns_that_are_written(place: Path) -> None:
    """The same in chunks of whole rows, in shards, and with every chunk written."""
    points = np.random.default_rng(0).poisson(0.05, (400, 30)).astype(np.float32)
    points[:, 10:20] = 0
    right = graph_bytes(build(points, 5))
    zarr.create_array(place / "rows", data=points, chunks=(100, 30))
    zarr.create_array(place / "shards", data=points, chunks=(50, 10), shards=(200, 30))
    zarr.create_array(place / "all", data=points, chunks=(100, 10), config={"write_empty_chunks": True})
    for name in ("rows", "shards", "all"):
        assert graph_bytes(build(place / name, 5)) == right


def more_numbers_than_int32_counts(place: Path) -> None:
    """The last rows of 2,400 million numbers, dense and sparse, in files with holes."""
    n, d = 3_000_000, 800
    last = bytes(range(200)) * 4
    with open(place / "x.u8bin", "wb") as file:
        file.write(struct.pack("<II", n, d))
        file.truncate(8 + n * d)
        file.seek(8 + (n - 1) * d)
        file.write(last)
    assert open_source(place / "x.u8bin").read(n - 1, n).tobytes() == last
    assert distnnd.plan(place / "x.u8bin", 15, memory_limit="2GiB", n_workers=2).layout.partitions > 1
    columns = np.lib.stride_tricks.as_strided(np.arange(d, dtype=np.int32), (n, d), (0, 4))
    weights = np.memmap(place / "weights", np.uint8, "w+", shape=(n * d,))
    weights[-d:] = np.frombuffer(last, np.uint8)
    parts = {"data": weights, "indices": Repeated(columns), "indptr": np.arange(0, n * d + 1, d)}
    row = open_parts((n, d), parts, "<parts>").read(n - 1, n)
    assert (np.asarray(row.indices) == np.flatnonzero(np.frombuffer(last, np.uint8))).all() or len(row.data) == d
    del weights


class Repeated:
    """The flat view of rows that are all the same one in memory."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.dtype = rows, rows.dtype
        self.shape = (rows.shape[0] * rows.shape[1],)
        self.size, self.ndim, self.nbytes = self.shape[0], 1, self.shape[0] * rows.itemsize

    def __len__(self) -> int:
        """How many numbers."""
        return self.shape[0]

    def __getitem__(self, wanted: slice) -> np.ndarray:
        """Numbers in a row."""
        first, last, _ = wanted.indices(len(self))
        return self.rows[0][np.arange(first, last) % self.rows.shape[1]]
