"""Sparse points: scipy and AnnData's layout give the same rows, in order, and say so when they cannot."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from distnnd.storage import chunks, marks
from distnnd.storage.source import open_source, reopen_source
from distnnd.storage.sparse import SparseSource, convert_csr, write_csr
from distnnd.values.errors import InputError, SpecError, StoreError
from distnnd.values.points import Csr
from tests.sparse_points import TFIDF, as_csr
from tests.strategies import few

N, D = 41, 17
RANGES = [(0, N), (0, 1), (N - 1, N), (5, 6), (3, 29), (20, 20), (0, 0), (N, N)]


@pytest.fixture
def matrix() -> sparse.csr_matrix:
    """Some rows of a few entries, the last and some others without any."""
    made = sparse.random(N, D, 0.2, "csr", np.float32, random_state=0)
    keep = sparse.diags(np.arange(N) % 5 > 0, dtype=np.float32)
    return sparse.csr_matrix(keep @ made)


def untidy(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """The same rows with columns in descending order, each entry in two halves, and zeros in between."""
    rows = [
        (np.tile(matrix.indices[a:b][::-1], 2), np.tile(matrix.data[a:b][::-1] / 2, 2))
        for a, b in pairwise(matrix.indptr)
    ]
    rows = [(np.append(indices, 3), np.append(data, np.float32(0))) for indices, data in rows]
    indptr = np.cumsum([0, *(len(indices) for indices, _ in rows)])
    parts = (np.concatenate([part[i] for part in rows]) for i in (1, 0))
    return sparse.csr_matrix((*parts, indptr), matrix.shape)


def encode(group: zarr.Group, matrix: Any, **layout: Any) -> None:
    """The three arrays in a group and the attributes that AnnData gives it; layout may name other dtypes, or chunks."""
    form = "csc_matrix" if matrix.format == "csc" else "csr_matrix"
    group.attrs.update({"encoding-type": form, "encoding-version": "0.1.0", "shape": list(matrix.shape)})
    dtypes = layout.pop("dtypes", {})
    for name in ("data", "indices", "indptr"):
        values = getattr(matrix, name)
        group.create_array(name, data=values.astype(dtypes.get(name, values.dtype)), **{"chunks": (16,)} | layout)


def as_zarr(folder: Path, matrix: Any, zarr_format: Any = 3, **layout: Any) -> Path:
    encode(zarr.create_group(folder / "s.zarr", zarr_format=zarr_format), matrix, **layout)
    return folder / "s.zarr"


def as_anndata(folder: Path, matrix: Any) -> Path:
    root = zarr.create_group(
        folder / "cells.zarr", attributes={"encoding-type": "anndata", "encoding-version": "0.1.0"}
    )
    encode(root.create_group("X"), matrix)
    encode(root.create_group("layers/counts"), matrix * 2)
    root.create_group("obsm").create_array("pca", data=np.zeros((N, 3)))
    return folder / "cells.zarr"


def in_memory(folder: Path, matrix: Any) -> zarr.Group:
    encode(group := zarr.create_group(MemoryStore()), matrix)
    return group


WIDE = {"indices": np.int64, "indptr": np.int64, "data": np.float64}
MAKERS: dict[str, Callable[[Path, Any], Any]] = {
    "csr_matrix": lambda folder, matrix: matrix,
    "csr_array": lambda folder, matrix: sparse.csr_array(matrix),
    "csc_matrix": lambda folder, matrix: matrix.tocsc(),
    "coo_array": lambda folder, matrix: sparse.coo_array(matrix),
    "untidy csr_matrix": lambda folder, matrix: untidy(matrix),
    "zarr": as_zarr,
    "zarr v2": lambda folder, matrix: as_zarr(folder, matrix, 2),
    "zarr of wide numbers": lambda folder, matrix: as_zarr(folder, matrix, dtypes=WIDE),
    "untidy zarr": lambda folder, matrix: as_zarr(folder, untidy(matrix), chunks=(7,)),
    "zarr of one chunk": lambda folder, matrix: as_zarr(folder, matrix, chunks=(1000,)),
    "zarr with shards": lambda folder, matrix: as_zarr(folder, matrix, chunks=(5,), shards=(20,)),
    "compressed zarr": lambda folder, matrix: as_zarr(folder, matrix, compressors=[BloscCodec()]),
    "zarr.Group": lambda folder, matrix: zarr.open_group(as_zarr(folder, matrix), mode="r"),
    "zarr.Group in memory": in_memory,
    "AnnData": as_anndata,
}


@pytest.fixture(params=list(MAKERS))
def source(request: pytest.FixtureRequest, tmp_path: Path, matrix: Any) -> Iterator[SparseSource]:
    opened = open_source(MAKERS[request.param](tmp_path, matrix), sparse=True)
    assert isinstance(opened, SparseSource)
    yield opened
    opened.release()


def assert_rows(points: Csr, dense: np.ndarray) -> None:
    for part, expected in zip(points, as_csr(dense), strict=True):
        np.testing.assert_array_equal(part, expected)


def test_every_form_gives_the_same_rows(source: SparseSource, matrix: Any) -> None:
    assert (source.n, source.d, source.dtype) == (N, D, np.float32)
    assert 1 <= source.chunk_rows <= N
    for start, stop in RANGES:
        assert_rows(source.read(start, stop), matrix[start:stop].toarray())
    for start, stop in ((-1, 3), (5, 4), (0, N + 1)):
        with pytest.raises(SpecError, match="do not lie within"):
            source.read(start, stop)


def test_a_description_opens_the_same(source: SparseSource, matrix: Any) -> None:
    spec = json.loads(json.dumps(source.spec))
    again = reopen_source(spec, sparse=True)
    assert again.fingerprint() == source.fingerprint() == json.loads(json.dumps(source.fingerprint()))
    assert_rows(again.read(3, 29), matrix[3:29].toarray())
    source.release()
    if source.resident:
        with pytest.raises(StoreError, match="have been released"):
            reopen_source(spec, sparse=True)


def test_another_process_opens_a_path(tmp_path: Path, matrix: Any) -> None:
    spec = open_source(as_anndata(tmp_path, matrix), "layers/counts", sparse=True).spec
    code = "import json, sys; from distnnd.storage.source import reopen_source as r; "
    code += "print(float(r(json.loads(sys.argv[1]), sparse=True).read(0, 41).data.sum()))"
    done = subprocess.run([sys.executable, "-c", code, json.dumps(spec)], capture_output=True, text=True, timeout=60)
    assert float(done.stdout) == pytest.approx(2 * matrix.data.sum(), rel=1e-5), done.stderr


def test_the_fingerprint_tells_other_points_apart(source: SparseSource, tmp_path: Path, matrix: Any) -> None:
    wider = sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), (N, D + 1))
    for other in (matrix * 2, wider):
        if isinstance(source.spec.get("location"), str):
            shutil.rmtree(tmp_path / "other", ignore_errors=True)
            (tmp_path / "other").mkdir()
            opened = open_source(as_zarr(tmp_path / "other", other), sparse=True)
        else:
            opened = open_source(other, sparse=True)
        assert opened.fingerprint() != source.fingerprint()


# --- which points are meant ---------------------------------------------------------------------------------


def test_components_of_anndata(tmp_path: Path, matrix: Any) -> None:
    path = as_anndata(tmp_path, matrix)
    assert_rows(open_source(path, "layers/counts", sparse=True).read(0, N), (2 * matrix).toarray())
    assert open_source(path, "obsm/pca").d == 3
    with pytest.raises(SpecError, match=r"'X' \[41, 17\] csr_matrix, 'layers/counts' .*, 'obsm/pca' \(41, 3\)"):
        open_source(path, "obs", sparse=True)
    group = zarr.open_group(path, mode="r")
    assert_rows(open_source(group, "layers/counts", sparse=True).read(0, N), (2 * matrix).toarray())


def test_what_can_only_do_with_dense_points_says_so(tmp_path: Path, matrix: Any) -> None:
    for given_ in (matrix, as_anndata(tmp_path, matrix)):
        with pytest.raises(SpecError, match=r"holds sparse points.*X\.toarray\(\)"):
            open_source(given_)
    with pytest.raises(SpecError, match="holds sparse points"):
        reopen_source(open_source(matrix, sparse=True).spec)


def test_columns_first_is_refused_with_the_remedy(tmp_path: Path, matrix: Any) -> None:
    with pytest.raises(SpecError, match=r"is a csc_matrix: .*adata\.X\.tocsr\(\)"):
        open_source(as_zarr(tmp_path, matrix.tocsc()), sparse=True)


# --- what is no matrix --------------------------------------------------------------------------------------


def changed(matrix: Any, part: str, at: int, value: float) -> Any:
    """The matrix with one number of a part changed, past all of scipy's checks."""
    made = matrix.copy()
    values = getattr(made, part).astype(np.float64 if part == "data" else np.int64)
    values[at] = value
    setattr(made, part, values)
    return made


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    ("part", "at", "value", "words"),
    [
        ("data", 7, np.nan, r"row {row}, column {column} holds nan"),
        ("data", 7, -np.inf, r"row {row}, column {column} holds -inf"),
        ("data", 7, 1e39, r"row {row}, column {column} holds inf as float32"),
        ("indices", 7, -1, r"row {row} has an entry in column -1, outside the 17"),
        ("indices", 7, D, r"row {row} has an entry in column 17, outside the 17"),
        ("indices", 7, 2**40, r"row {row} has an entry in column 1099511627776"),
        ("indptr", 9, 1, r"row 8 begins at entry \d+ and ends at 1"),
        ("indptr", 9, -1, r"indptr\[9\], where row 9 begins, is -1"),
        ("indptr", 9, 10_000, r"indptr\[9\], where row 9 begins, is 10000"),
    ],
)
def test_bad_numbers_are_named(
    tmp_path: Path, matrix: Any, stored: bool, part: str, at: int, value: float, words: str
) -> None:
    bad = changed(matrix, part, at, value)
    source = open_source(as_zarr(tmp_path, bad) if stored else bad, sparse=True)
    row = int(np.searchsorted(matrix.indptr, at, side="right")) - 1
    with pytest.raises(InputError, match=words.format(row=row, column=matrix.indices[at])):
        source.read(1, N)
    assert_rows(source.read(12, N), matrix[12:].toarray())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"shape": [N + 1, D]}, InputError, "42 rows have an indptr of 43 numbers, not of 42"),
        ({"shape": [N]}, InputError, r"need the shape \(n, d\)"),
        ({"shape": [N, 0]}, InputError, "no columns"),
        ({"shape": [N, 2**31]}, SpecError, "2147483648 columns are more than"),
        ({"shape": "many"}, StoreError, '"shape" of the csr_matrix is missing or damaged'),
    ],
)
def test_a_shape_that_does_not_fit(
    tmp_path: Path, matrix: Any, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    path = as_zarr(tmp_path, matrix)
    zarr.open_group(path).attrs.update(change)
    with pytest.raises(error, match=words):
        open_source(path, sparse=True)


def test_parts_that_do_not_fit(tmp_path: Path, matrix: Any) -> None:
    def opened(name: str, values: np.ndarray | None) -> SparseSource:
        path = as_zarr(tmp_path, matrix)
        shutil.rmtree(path / name)
        if values is not None:
            zarr.open_group(path).create_array(name, data=values)
        try:
            return open_source(path, sparse=True)
        finally:
            shutil.rmtree(path)

    with pytest.raises(StoreError, match="indices of the csr_matrix are missing"):
        opened("indices", None)
    with pytest.raises(InputError, match="data have"):
        opened("data", matrix.data[1:])
    with pytest.raises(InputError, match="indices must hold whole numbers, not float32"):
        opened("indices", matrix.data)
    with pytest.raises(InputError, match="complex64 cannot be compared"):
        opened("data", matrix.data.astype(np.complex64))
    with pytest.raises(InputError, match="data must have one axis"):
        opened("data", matrix.data[None])
    with pytest.raises(InputError, match="complex64 cannot be compared"):
        open_source(matrix.astype(np.complex64), sparse=True)
    with pytest.raises(InputError, match="no rows"):
        open_source(matrix[:0], sparse=True)


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
@pytest.mark.parametrize("change", ["missing", "truncated", "flipped"])
def test_a_damaged_chunk_is_named(tmp_path: Path, matrix: Any, part: str, change: str) -> None:
    write_csr(path := tmp_path / "s.zarr", [as_csr(matrix.toarray())], n=N, d=D, entries=matrix.nnz)
    chunk = path / part / "c" / "0"
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.unlink()
    if change != "missing":
        chunk.write_bytes(content[:-7] if change == "truncated" else content)
    words = "missing" if change == "missing" else "truncated or altered"
    with pytest.raises(StoreError, match=rf"s\.zarr/{part}: chunk c/0 is {words}"):
        open_source(path, sparse=True).read(0, N)


# --- writing ------------------------------------------------------------------------------------------------


def test_a_source_is_converted_strip_by_strip(
    source: SparseSource, tmp_path: Path, matrix: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distnnd.storage.sparse.CHUNK_BYTES", 64)
    object.__setattr__(source, "chunk_rows", 7)
    convert_csr(source, path := tmp_path / "out.zarr")
    assert_rows(open_source(path, sparse=True).read(0, N), matrix.toarray())
    group = zarr.open_group(path, mode="r")
    assert {name: group.attrs[name] for name in group.attrs if name != marks.ATTRIBUTE} == {
        "encoding-type": "csr_matrix",
        "encoding-version": "0.1.0",
        "shape": [N, D],
    }
    assert {name: (*array.shape, array.dtype) for name, array in group.arrays()} == {
        "data": (matrix.nnz, np.float32),
        "indices": (matrix.nnz, np.int32),
        "indptr": (N + 1, np.int64),
    }
    assert all(chunks.direct(array) for _, array in group.arrays())
    # As scipy would read it, without anything of ours.
    read = sparse.csr_matrix(tuple(group[name][:] for name in ("data", "indices", "indptr")), group.attrs["shape"])
    np.testing.assert_array_equal(read.toarray(), matrix.toarray())


@few(40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 2**16))
def test_blocks_of_any_size_are_written(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = max(1, sum(sizes))
    dense = np.where(rng.random((n, 9)) < 0.3, rng.normal(size=(n, 9)), 0).astype(np.float32)
    points = as_csr(dense)
    cuts = [0, *np.cumsum(sizes).tolist(), n]
    blocks = [points.between(a, b) for a, b in pairwise(cuts)]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr("distnnd.storage.sparse.CHUNK_BYTES", 64)
        write_csr(f"{folder}/s", blocks, n=n, d=9, entries=len(points.data) + 3)
        assert_rows(open_source(f"{folder}/s", sparse=True).read(0, n), dense)


def test_what_does_not_add_up_leaves_nothing(tmp_path: Path, matrix: Any) -> None:
    points, path = as_csr(matrix.toarray()), tmp_path / "s.zarr"
    announced = {"n": N, "d": D, "entries": matrix.nnz}
    for change in ({"n": N - 1}, {"d": D + 1}, {"entries": matrix.nnz - 1}):
        with pytest.raises(InputError, match="not within the"):
            write_csr(path, [points], **announced | change)
    with pytest.raises(InputError, match="hold 41 rows, not the 42"):
        write_csr(path, [points], **announced | {"n": N + 1})
    assert list(tmp_path.iterdir()) == []
    write_csr(path, [points], **announced)
    with pytest.raises(SpecError, match="exists already"):
        write_csr(path, [points], **announced)


@pytest.mark.skipif(not TFIDF.is_file(), reason="needs the TF-IDF rows")
def test_real_rows_there_and_back(tmp_path: Path) -> None:
    matrix = sparse.load_npz(TFIDF)
    convert_csr(open_source(matrix, sparse=True), path := tmp_path / "tfidf.zarr")
    source = open_source(path, sparse=True)
    points = source.read(20_000, 50_000)
    np.testing.assert_array_equal(points.data, matrix[20_000:50_000].data)
    np.testing.assert_array_equal(points.indices, matrix[20_000:50_000].indices)
