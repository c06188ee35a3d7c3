"""Points in containers of other libraries: read as numpy would, or refused with a line of Python that works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import h5py
import numpy as np
import pandas
import polars
import pytest
import scipy.io
import scipy.sparse
import zarr

from distnnd.storage.source import open_source
from distnnd.values.errors import InputError, SpecError, StoreError

Array = np.ndarray[Any, Any]


@pytest.fixture
def points() -> Array:
    """Forty rows of six numbers, float32."""
    return np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def rows_of(source: object, **how: Any) -> Array:
    """All rows of what can be opened."""
    opened = open_source(source, **how)
    try:
        return opened.read(0, opened.n)
    finally:
        opened.release()


def remedy_in(error: BaseException, pattern: str) -> str:
    """The line of Python that a message tells, found by its first words."""
    found = re.search(pattern, str(error))
    assert found, str(error)
    return found[0]


class Arrayish:
    """An array that only numpy.asarray knows to read."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.values if dtype is None else self.values.astype(dtype)


class FakeTensor:
    """What is used of a tensor of torch: it must be detached before numpy takes it."""

    __module__ = "torch"
    layout, device = "torch.strided", SimpleNamespace(type="cpu")

    def __init__(self, values: Array, detached: bool = False) -> None:
        self.values, self.detached = values, detached

    def detach(self) -> FakeTensor:
        return FakeTensor(self.values, True)

    def cpu(self) -> FakeTensor:
        return self

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        if not self.detached:
            raise RuntimeError("call detach first")
        return self.values


class DataArray:
    """What is used of a DataArray of xarray, which always has __dask_graph__."""

    __module__ = "xarray.core.dataarray"

    def __init__(self, data: Any) -> None:
        self.data = data

    def __dask_graph__(self) -> None: ...


class Dataset(dict[str, Any]):
    """What is used of a Dataset of xarray."""

    __module__ = "xarray.core.dataset"

    def __dask_graph__(self) -> None: ...

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise TypeError("it holds several arrays")


CONTAINERS: dict[str, Callable[[Array], Any]] = {
    "list of lists": lambda values: values.tolist(),
    "tuple of arrays": tuple,
    "pandas": lambda values: pandas.DataFrame(values, columns=list("abcdef")),
    "pandas with another index": lambda values: pandas.DataFrame(values, index=np.arange(40)[::-1]),
    "pandas with a column twice": lambda values: pandas.DataFrame(values, columns=list("aabbcd")),
    "pandas, nullable": lambda values: pandas.DataFrame(values).astype("Float32"),
    "pandas, sparse": lambda values: pandas.DataFrame(values).astype(pandas.SparseDtype("float32", 0.0)),
    "pandas of two dtypes": lambda values: pandas.DataFrame(values).astype({0: "float64"}),
    "polars": polars.DataFrame,
    "polars of two dtypes": lambda values: polars.DataFrame(values).with_columns(polars.col("column_0").cast(float)),
    "arrow": lambda values: polars.DataFrame(values).to_arrow(),
    "__array__": Arrayish,
    "memoryview": memoryview,
    "torch": FakeTensor,
    "list of torch": lambda values: list(map(FakeTensor, values)),
    "xarray": DataArray,
    "numpy subclass": lambda values: values.view(np.matrix),
    "anndata's view of an array": lambda values: anndata.AnnData(values)[:40].X,
}


@pytest.mark.parametrize("container", list(CONTAINERS))
def test_containers_hold_the_rows_that_numpy_reads(points: Array, container: str) -> None:
    read = rows_of(CONTAINERS[container](points))
    assert read.shape == points.shape
    np.testing.assert_array_equal(read, points)


def test_frames_of_truths_and_of_mixed_columns(points: Array) -> None:
    frame = pandas.DataFrame({"truth": points[:, 0] > 0, "number": points[:, 1], "count": np.arange(40)})
    wanted = np.column_stack([points[:, 0] > 0, points[:, 1], np.arange(40)]).astype(np.float32)
    for given in (frame, polars.DataFrame(frame.to_dict("list"))):
        np.testing.assert_array_equal(rows_of(given), wanted)
    truths = open_source(pandas.DataFrame(points > 0))
    assert truths._stored_rows(0, 1).dtype == np.bool_


@pytest.mark.parametrize("kind", [pandas.DataFrame, polars.DataFrame])
def test_columns_that_are_no_numbers_are_named_and_the_remedy_works(points: Array, kind: Any) -> None:
    frame = kind({"a": points[:, 0], "name": [f"row {i}" for i in range(40)], "b": points[:, 1]})
    with pytest.raises(InputError, match="'name'") as caught:
        open_source(frame)
    remedy = remedy_in(caught.value, r"points\.drop\([^)]*\)")
    np.testing.assert_array_equal(rows_of(eval(remedy, {"points": frame})), points[:, :2])


@pytest.mark.parametrize("kind", [pandas.DataFrame, polars.DataFrame])
def test_a_column_of_vectors_is_refused_and_the_remedy_works(points: Array, kind: Any) -> None:
    frame = kind({"embedding": list(points)})
    with pytest.raises(InputError, match="'embedding'") as caught:
        open_source(frame)
    remedy = remedy_in(caught.value, r"numpy\.stack\(.*\)")
    np.testing.assert_array_equal(rows_of(eval(remedy, {"points": frame, "numpy": np})), points)


def test_missing_numbers_of_a_frame_become_nan_which_the_scan_names(points: Array) -> None:
    frame = pandas.DataFrame({"a": pandas.array([1, None, 3], "Int64"), "b": [1.0, 2.0, 3.0]})
    read = rows_of(frame)
    assert np.isnan(read[1, 0])
    np.testing.assert_array_equal(np.delete(read, 1, axis=0), [[1, 1], [3, 3]])


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        ([], InputError, "without rows"),
        ([[1, 2], [3]], InputError, "row 1 of the list has 1 values and row 0 has 2"),
        ([[1.0, "a"]], InputError, "text"),
        ([[1.0, None]], InputError, r'numpy\.asarray\(points\)\.astype\("float64"\)'),
        (["a.npy", "b.npy"], SpecError, "give one path"),
        ([scipy.sparse.eye(3, format="csr")], SpecError, r"scipy\.sparse\.vstack\(points\)"),
        ({"a": [1, 2]}, SpecError, r"points\.values\(\)"),
        ((row for row in [[1, 2]]), SpecError, r"numpy\.asarray\(list\(points\)\)"),
        (5, SpecError, "builtins.int is no source"),
        (pandas.Series([1.0, 2.0]), InputError, r"numpy\.asarray\(points\)\.reshape\(-1, 1\)"),
    ],
)
def test_what_is_no_set_of_rows_is_refused_with_what_to_do(rows: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        open_source(rows)


def test_a_complex_sparse_matrix_and_a_query_of_polars_are_refused_with_what_works(points: Array) -> None:
    matrix = scipy.sparse.random(30, 9, 0.3, "csr", random_state=0).astype(complex)
    for given, error, remedy in (
        (matrix, InputError, r"scipy\.sparse\.hstack\(.*\)"),
        (polars.DataFrame(points).lazy(), SpecError, r"points\.collect\(\)"),
    ):
        with pytest.raises(error) as caught:
            open_source(given, sparse=True)
        taken = eval(remedy_in(caught.value, remedy), {"points": given, "scipy": scipy})
        opened = open_source(taken, sparse=True)
        assert opened.n in (30, 40)


def test_scipy_matrices_of_derived_classes_are_sparse_rows(points: Array) -> None:
    matrix = scipy.sparse.random(50, 12, 0.3, "csr", dtype=np.float32, random_state=0)
    view = anndata.AnnData(matrix.copy())[10:40].X
    assert not type(view).__module__.startswith("scipy")
    rows = rows_of(view, sparse=True)
    np.testing.assert_array_equal(rows.data, matrix[10:40].data)
    assert rows.rows == 30


# --- what lies in files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, (7, 4)])
def test_a_dataset_of_h5py_is_read_by_rows(tmp_path: Path, points: Array, chunks: Any) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=points, chunks=chunks)
    with h5py.File(tmp_path / "x.h5", "r") as file:
        opened = open_source(file["x"])
        assert opened.resident
        assert opened.chunk_rows % (7 if chunks else 1) == 0
        np.testing.assert_array_equal(opened.read(3, 31), points[3:31])
        first = opened.fingerprint()
        assert open_source(file["x"]).fingerprint() == first
    with pytest.raises(StoreError, match="keep its file open"):
        opened.read(0, 2)
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["x"][3, 3] += 1
        changed = open_source(file["x"]).fingerprint()
    assert changed != first


def test_masked_rows_of_a_dataset_are_refused_by_row_and_unmasked_ones_read(points: Array) -> None:
    class Variable:
        """What netCDF4 gives: masked arrays."""

        shape, dtype = points.shape, points.dtype

        def __init__(self, mask: Any) -> None:
            self.values = np.ma.array(points, mask=mask)

        def __getitem__(self, place: Any) -> Any:
            return self.values[place]

    np.testing.assert_array_equal(rows_of(Variable(False)), points)
    with pytest.raises(InputError, match="row 7, column 2 is masked"):
        rows_of(Variable(np.arange(240).reshape(40, 6) == 44))


def test_objects_that_hold_several_arrays_are_refused_by_their_names(tmp_path: Path, points: Array) -> None:
    adata = anndata.AnnData(points)
    adata.obsm["X_pca"] = points[:, :2]
    np.savez(tmp_path / "x.npz", first=points, other=points[:, 0])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["first"] = points
    with h5py.File(tmp_path / "x.h5", "r") as file:
        for given, remedy in (
            (adata, r"points\.obsm\['X_pca'\]"),
            (np.load(tmp_path / "x.npz"), r"points\['first'\]"),
            (file, r"points\['first'\]"),
        ):
            with pytest.raises(SpecError) as caught:
                open_source(given)
            taken = eval(remedy_in(caught.value, remedy), {"points": given})
            np.testing.assert_array_equal(rows_of(taken), points[:, : taken.shape[1]])


def test_a_dataset_of_xarray_is_refused_by_its_names(points: Array) -> None:
    dataset = Dataset(one=points[:, 0], rows=points)
    with pytest.raises(SpecError) as caught:
        open_source(dataset)
    np.testing.assert_array_equal(
        rows_of(eval(remedy_in(caught.value, r"points\['rows'\]"), {"points": dataset})), points
    )


def test_sparse_matrices_that_anndata_keeps_in_files(tmp_path: Path) -> None:
    matrix = scipy.sparse.random(30, 9, 0.3, "csr", dtype=np.float32, random_state=0)
    anndata.AnnData(matrix).write_h5ad(tmp_path / "a.h5ad")
    anndata.AnnData(matrix).write_zarr(tmp_path / "a.zarr")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r").X
    with pytest.raises(SpecError) as caught:
        open_source(backed, sparse=True)
    taken = eval(remedy_in(caught.value, r"points\.to_memory\(\)"), {"points": backed})
    np.testing.assert_array_equal(rows_of(taken, sparse=True).data, matrix.data)
    lazily = anndata.io.sparse_dataset(zarr.open_group(tmp_path / "a.zarr", mode="r")["X"])
    np.testing.assert_array_equal(rows_of(lazily, sparse=True).data, matrix.data)


def as_text(path: Path, points: Array, **how: Any) -> Path:
    """A text of the points, as pandas writes it."""
    pandas.DataFrame(points, columns=list("abcdef")).to_csv(path, index=False, **how)
    return path


def as_hdf5(path: Path, points: Array) -> Path:
    """An HDF5 file of the points, and of something else."""
    with h5py.File(path, "w") as file:
        file["group/rows"], file["other"] = points, points[:, 0]
    return path


def as_npz(path: Path, points: Array) -> Path:
    """An archive of the points, and of something else."""
    np.savez(path, other=points[:, 0], rows=points)
    return path


def as_market(path: Path, points: Array) -> Path:
    """A MatrixMarket file of the points."""
    scipy.io.mmwrite(path, scipy.sparse.csr_matrix(points))
    return path


def as_h5ad(path: Path, points: Array) -> Path:
    """An AnnData file of the points."""
    anndata.AnnData(points).write_h5ad(path)
    return path


def as_archive(path: Path, points: Array) -> Path:
    """A Zarr array in an archive."""
    store = zarr.storage.ZipStore(path, mode="w")
    zarr.create_array(store, data=points)
    store.close()
    return path


def as_pickle(path: Path, points: Array) -> Path:
    """A pickled frame."""
    pandas.DataFrame(points).to_pickle(path)
    return path


FILES: dict[str, tuple[Callable[[Path, Array], Path], str]] = {
    "x.csv": (as_text, r"pandas\.read_csv\('[^']*'\)"),
    "bare.csv": (lambda path, points: as_text(path, points, header=False), r"pandas\.read_csv\(.*?None\)"),
    "x.tsv": (lambda path, points: as_text(path, points, sep="\t"), r"pandas\.read_csv\(.*?\\t'\)"),
    "x.h5": (as_hdf5, r"h5py\.File\([^)]*\)\['group/rows'\]"),
    "x.h5ad": (as_h5ad, r"anndata\.read_h5ad\([^)]*\)\.X"),
    "x.npz": (as_npz, r"numpy\.load\([^)]*\)\['rows'\]"),
    "x.mtx": (as_market, r"scipy\.io\.mmread\([^)]*\)\.tocsr\(\)"),
    "x.zip": (as_archive, r"zarr\.open\(.*?mode='r'\), mode='r'\)"),
    "x.pkl": (as_pickle, r"pandas\.read_pickle\([^)]*\)"),
}


@pytest.mark.parametrize("name", list(FILES))
def test_files_of_other_formats_are_refused_with_a_line_that_reads_them(
    tmp_path: Path, points: Array, name: str
) -> None:
    write, pattern = FILES[name]
    path = write(tmp_path / name, points)
    with pytest.raises(SpecError, match=re.escape(name)) as caught:
        open_source(path)
    known = {"pandas": pandas, "h5py": h5py, "anndata": anndata, "numpy": np, "scipy": scipy, "zarr": zarr}
    taken = eval(remedy_in(caught.value, pattern), known)
    if scipy.sparse.issparse(taken):
        taken = taken.toarray()
    np.testing.assert_allclose(rows_of(taken), points, rtol=1e-6)


def test_a_folder_of_parquet_and_a_file_of_no_known_kind(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").mkdir()
    with pytest.raises(SpecError, match=r"pandas\.read_parquet"):
        open_source(tmp_path / "x.parquet")
    (tmp_path / "x.strange").write_bytes(b"x")
    with pytest.raises(SpecError, match="no format known here"):
        open_source(tmp_path / "x.strange")
