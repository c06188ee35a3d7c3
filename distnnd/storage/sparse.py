"""Sparse points: scipy matrices in memory, and CSR in Zarr as AnnData lays it out, read by ranges of rows.

AnnData's layout is a group with the attributes `encoding-type` "csr_matrix" and `shape`, and the arrays `data`,
`indices` and `indptr` (anndata, "On-disk format", section Sparse arrays). A read takes the part of `indptr` that it
needs, never all of it: 8 bytes a row in each worker would be more than a block of rows. Rows come in canonical form,
put in order strip by strip.
"""

from __future__ import annotations

import os
import zipfile
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from distnnd.storage import formats
from distnnd.storage.documents import fill_of
from distnnd.storage.foreign import ForeignArray, foreign_array
from distnnd.storage.formats import Opened
from distnnd.storage.points import CHUNK_BYTES, marked, new_store
from distnnd.storage.remedies import remedy_for_npz
from distnnd.values.errors import InputError, SpecError, StoreError
from distnnd.values.plan import Sparsity
from distnnd.values.points import Csr, canonical, row_of_entries

PARTS = ("data", "indices", "indptr")
# One more is kept for zero rows, and ends of rows must fit too.
MOST_COLUMNS = 2**31 - 2
ENTRY_BYTES = 8
# Rows of which a plan knows the most entries, and how many rows in how many strips tell what all of them share.
DENSEST = 65536
STRIP, STRIPS = 256, 64


@dataclass(frozen=True, eq=False)
class SparseSource(Opened):
    """Sparse points; `entries` is how many numbers are stored, duplicates and zeros among them counted."""

    entries: int

    @abstractmethod
    def _part(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Numbers [start, stop) of "data", "indices" or "indptr", of any dtype; may be a view of someone's memory."""

    @property
    @abstractmethod
    def stored_dtype(self) -> np.dtype[Any]:
        """The dtype in which the numbers are stored; `read` rounds them to float32."""

    def read(self, start: int, stop: int, dtype: type = np.float32) -> Csr:
        """Rows [start, stop) in canonical form, with numbers of `dtype`.

        Raises SpecError for rows outside [0, n); InputError, which names the row and the value, for columns outside
        [0, d), ends of rows that do not ascend, and NaN or inf; StoreError for what is missing or damaged.
        """
        self.check_range(start, stop)
        ends = self._ends(start, stop)
        span = int(ends[0]), int(ends[-1])
        indices, data = self._part("indices", *span), self._part("data", *span)
        indptr = ends - ends[0]
        wrong = np.flatnonzero((indices < 0) | (indices >= self.d))
        if wrong.size:
            row = start + int(np.searchsorted(indptr, wrong[0], side="right")) - 1
            raise InputError(
                f"{self.location}: row {row} has an entry in column {indices[wrong[0]]}, outside the {self.d} columns "
                "of its shape; correct the indices or the shape"
            )
        points = canonical(Csr(indptr, indices, data, self.d), dtype)
        self._check_finite(points, start)
        return points

    def sparsity(self) -> Sparsity:
        """What a plan must know: all ends of rows are read, and sampled rows; raises as `read`."""
        densest = np.zeros((DENSEST - 1).bit_length() + 1, np.int64)
        for start in range(0, self.n, DENSEST):
            lengths = np.diff(self._ends(start, min(start + DENSEST, self.n)))
            lengths = np.append(lengths, np.zeros(-len(lengths) % DENSEST, np.int64))
            for power in range(len(densest)):
                densest[power] = max(densest[power], lengths.max())
                lengths = lengths[0::2] + lengths[1::2] if len(lengths) > 1 else lengths
        return Sparsity(self.entries, self._products(), tuple(densest.tolist()))

    def _products(self) -> float:
        """About the sum over the columns of the squared number of rows that have them.

        Without bias, from rows drawn in strips: two of n rows are both among m drawn with chance m (m - 1) / n (n - 1).
        """
        starts = STRIP * np.unique(np.linspace(0, (self.n - 1) // STRIP, STRIPS).astype(np.int64))
        strips = [self.read(int(start), min(int(start) + STRIP, self.n)) for start in starts]
        rows = sum(strip.rows for strip in strips)
        _, lengths = np.unique(np.concatenate([strip.indices for strip in strips]), return_counts=True)
        pairs = float((lengths * (lengths - 1.0)).sum()) / max(rows * (rows - 1.0), 1.0)
        return self.entries + pairs * self.n * (self.n - 1.0)

    def _ends(self, start: int, stop: int) -> NDArray[np.int64]:
        """indptr[start .. stop]; raises InputError unless it ascends within the entries."""
        ends = self._part("indptr", start, stop + 1).astype(np.int64)
        wrong = np.flatnonzero((ends < 0) | (ends > self.entries))
        if wrong.size:
            at = start + int(wrong[0])
            raise InputError(
                f"{self.location}: indptr[{at}], where row {at} begins, is {ends[wrong[0]]}, outside the "
                f"{self.entries} entries; the matrix is not what was written, write it again"
            )
        falling = np.flatnonzero(ends[1:] < ends[:-1])
        if falling.size:
            i = int(falling[0])
            raise InputError(
                f"{self.location}: row {start + i} begins at entry {ends[i]} and ends at {ends[i + 1]}: indptr must "
                "not descend; the matrix is not what was written, write it again"
            )
        return ends

    def _check_finite(self, points: Csr, start: int) -> None:
        wrong = np.flatnonzero(~np.isfinite(points.data))
        if wrong.size:
            row = start + int(row_of_entries(points.indptr)[wrong[0]])
            raise InputError(
                f"{self.location}: row {row}, column {points.indices[wrong[0]]} holds {points.data[wrong[0]]} as "
                "float32: no distance is defined; drop or impute such rows before building"
            )


def check_layout(
    shape: tuple[int, ...], parts: dict[str, tuple[tuple[int, ...], np.dtype[Any]]], where: str
) -> tuple[int, int]:
    """(n, d) of sparse points with parts of these shapes and dtypes; InputError or SpecError says what is amiss."""
    n, d = formats.points_shape(shape, where)
    if d > MOST_COLUMNS:
        raise SpecError(f"{where}: {d} columns are more than the {MOST_COLUMNS} that are supported")
    for name, (lengths, dtype) in parts.items():
        if len(lengths) != 1:
            raise InputError(f"{where}: {name} must have one axis, not the shape {lengths}")
        if name == "data":
            formats.points_dtype(dtype, where)
        elif dtype.kind not in "iu":
            raise InputError(f"{where}: {name} must hold whole numbers, not {dtype}")
    if parts["data"][0] != parts["indices"][0]:
        raise InputError(f"{where}: {parts['data'][0][0]} data have {parts['indices'][0][0]} indices")
    if parts["indptr"][0] != (n + 1,):
        raise InputError(f"{where}: {n} rows have an indptr of {n + 1} numbers, not of {parts['indptr'][0][0]}")
    return n, d


def rows_of(entries: int, n: int, most: int) -> int:
    """As many rows as hold `most` entries on the average, as a power of two; at least 1 and no more than n."""
    return min(n, formats.rows_within(most, max(1, -(-entries // n))))


# --- in memory -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MatrixSource(SparseSource):
    """Sparse points in three numpy arrays, of any integer and real dtype."""

    parts: dict[str, NDArray[Any]]

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """As in SparseSource."""
        return np.dtype(self.parts["data"].dtype)

    def _part(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return self.parts[name][start:stop]

    def fingerprint(self) -> dict[str, Any]:
        """The shape, and of each part its length, its dtype and a digest like that of a numpy array."""
        parts = {
            name: {"length": len(part), "dtype": part.dtype.str, **formats.digest_of(part, len(part))}
            for name, part in self.parts.items()
        }
        return {"kind": "csr", "shape": [self.n, self.d], "parts": parts}


def open_matrix(matrix: Any) -> MatrixSource:
    """The source of a scipy sparse matrix or array; what is not CSR is converted, CSR is not copied.

    Raises InputError for a shape or dtype that is not that of points.
    """
    where = "<scipy sparse matrix>"
    formats.points_shape(matrix.shape, where)
    csr = matrix.tocsr()
    return open_parts(csr.shape, {name: np.asarray(getattr(csr, name)) for name in PARTS}, where)


def open_parts(shape: tuple[int, ...], parts: dict[str, NDArray[Any]], where: str) -> MatrixSource:
    """The source of the three arrays of a matrix of that shape, which are not copied; raises as open_matrix."""
    n, d = check_layout(shape, {name: (part.shape, part.dtype) for name, part in parts.items()}, where)
    entries = len(parts["data"])
    rows = rows_of(entries, n, formats.BLOCK_BYTES // ENTRY_BYTES)
    return formats.keep_resident(MatrixSource(n, d, np.dtype(np.float32), rows, where, None, entries, parts))


def open_npz(path: str) -> MatrixSource:
    """The source of a .npz file that scipy.sparse.save_npz wrote, read into memory.

    Raises SpecError for arrays of numpy and another format than CSR, StoreError for what cannot be read, InputError as
    open_matrix.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not {"format", "shape"} <= set(file.files):
                raise SpecError(f"{path} {remedy_for_npz(path)}")
            kind, shape = np.asarray(file["format"]).item(), tuple(int(length) for length in file["shape"])
            parts = {name: file[name] for name in PARTS if name in file.files}
    except SpecError:
        raise
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} cannot be read as what scipy.sparse.save_npz writes ({error})") from error
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if kind != "csr" or len(parts) != len(PARTS):
        raise SpecError(f"{path} holds a matrix in the format {kind}; write it as CSR, save_npz(path, X.tocsr())")
    return open_parts(shape, parts, path)


# --- in Zarr ---------------------------------------------------------------------------------------------


def sparse_encoding(group: zarr.Group) -> str | None:
    """The encoding of a group that is a sparse matrix by AnnData's attributes, such as "csr_matrix"; else None."""
    encoding = group.attrs.get("encoding-type")
    return str(encoding) if encoding in ("csr_matrix", "csc_matrix") else None


@dataclass(frozen=True, eq=False)
class CsrSource(SparseSource):
    """Sparse points in a Zarr group of AnnData's layout."""

    parts: dict[str, ForeignArray]
    origin: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        """As in Opened."""
        return super().spec if self.resident else self.origin

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """As in SparseSource."""
        stored: np.dtype[Any] = np.dtype(self.parts["data"].array.dtype)
        return stored

    def _part(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return self.parts[name].read(start, stop)

    def fingerprint(self) -> dict[str, Any]:
        """The shape, and of each part its layout and a digest, as of a dense array."""
        if "made_of" in self.origin:
            return dict(self.origin["made_of"])
        parts = {name: part.fingerprint() for name, part in self.parts.items()}
        return {"kind": "csr in zarr", "shape": [self.n, self.d], "parts": parts}


def open_csr(group: zarr.Group, location: str, origin: dict[str, Any], missing: Any = None) -> CsrSource:
    """The source of a group for which `sparse_encoding` says something, described to other processes by `origin`.

    missing: as foreign_array has it. Raises SpecError for csc_matrix; InputError for a shape, dtype or ends that are
    not those of points; StoreError for parts that are missing.
    """
    if sparse_encoding(group) != "csr_matrix":
        raise SpecError(
            f"{location} is a {sparse_encoding(group)}: it is stored by columns, and points are read by rows; convert "
            "it once, for example adata.X = adata.X.tocsr(), and write it again"
        )
    arrays = {name: group.get(name) for name in PARTS}
    if gone := [name for name, array in arrays.items() if not isinstance(array, zarr.Array)]:
        raise StoreError(f"{location}: {' and '.join(gone)} of the csr_matrix are missing; copy the data again")
    parts = {name: foreign_array(array, f"{location}/{name}", missing) for name, array in arrays.items()}
    layout = {name: (array.shape, np.dtype(array.dtype)) for name, array in arrays.items()}
    n, d = check_layout(_shape_of(group, location), layout, location)
    entries = layout["data"][0][0]
    most = max(parts["data"].array.chunks[0], formats.BLOCK_BYTES // ENTRY_BYTES)
    rows = rows_of(entries, n, most)
    origin = origin | {"missing": missing} if missing == "fill" else origin
    return CsrSource(n, d, np.dtype(np.float32), rows, location, None, entries, parts, origin)


def _shape_of(group: zarr.Group, location: str) -> tuple[int, ...]:
    try:
        return tuple(int(length) for length in group.attrs["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f'{location}: the attribute "shape" of the csr_matrix is missing or damaged') from error


# --- writing ---------------------------------------------------------------------------------------------


class _Part:
    """One of the three arrays while it is written, from the front, in whole chunks."""

    def __init__(self, group: zarr.Group, name: str, dtype: str, most: int) -> None:
        kind = np.dtype(dtype)
        # No larger than what there is: a chunk is stored in full, whatever part of it is used.
        self._chunk = min(formats.rows_within(CHUNK_BYTES, kind.itemsize), 1 << max(most - 1, 0).bit_length())
        self._array = group.create_array(
            name,
            shape=(most,),
            chunks=(self._chunk,),
            dtype=kind,
            compressors=[Crc32cCodec()],
            fill_value=fill_of(kind),
            config={"write_empty_chunks": True},
        )
        self._pending: list[NDArray[Any]] = []
        self._at = 0

    def append(self, values: NDArray[Any]) -> None:
        """Add the next numbers."""
        self._pending.append(values)
        waiting = sum(map(len, self._pending))
        self._write(waiting - waiting % self._chunk)

    def close(self) -> None:
        """Write what is pending; the array ends there."""
        self._write(sum(map(len, self._pending)))
        if self._at < self._array.shape[0]:
            self._array.resize((self._at,))

    def _write(self, ready: int) -> None:
        if ready:
            values = np.concatenate(self._pending)
            self._array[self._at : self._at + ready] = values[:ready]
            self._pending, self._at = [values[ready:].copy()], self._at + ready


def write_csr(
    path: str | os.PathLike[str],
    blocks: Iterable[Csr],
    *,
    n: int,
    d: int,
    entries: int,
    attributes: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write blocks of rows, together n of d columns, to a new Zarr v3 group of AnnData's layout.

    entries: of all blocks, at most. The arrays are uncompressed, with a crc32c in each chunk of at most 16 MiB. Memory:
    two blocks and two chunks. A local group appears under `path` once it is whole. attributes, overwrite: as of
    write_points. Raises SpecError if something else is at `path`, InputError if the blocks do not add up, StoreError if
    they cannot be written.
    """
    encoding = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [n, d]}
    with new_store(place := formats.absolute(path), overwrite) as store:
        group = zarr.create_group(store, attributes=encoding | (attributes or marked(place)))
        data, indices = _Part(group, "data", "<f4", entries), _Part(group, "indices", "<i4", entries)
        indptr = _Part(group, "indptr", "<i8", n + 1)
        indptr.append(np.zeros(1, np.int64))
        rows = end = 0
        for block in blocks:
            rows, end = rows + block.rows, end + len(block.data)
            if block.columns != d or rows > n or end > entries:
                raise InputError(
                    f"the blocks hold {rows} rows of {block.columns} columns with {end} entries so far, which is not "
                    f"within the {n} rows of {d} columns with {entries} entries that were announced"
                )
            data.append(block.data)
            indices.append(block.indices)
            indptr.append(block.indptr[1:] + (end - len(block.data)))
        if rows < n:
            raise InputError(f"the blocks hold {rows} rows, not the {n} that were announced")
        for part in (data, indices, indptr):
            part.close()


def convert_csr(
    source: SparseSource,
    path: str | os.PathLike[str],
    attributes: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write sparse points, in canonical form, to a new Zarr group, a strip at a time; raises as write_csr and read."""
    starts = range(0, source.n, source.chunk_rows)
    blocks = (source.read(start, min(start + source.chunk_rows, source.n)) for start in starts)
    size = {"n": source.n, "d": source.d, "entries": source.entries}
    write_csr(path, blocks, **size, attributes=attributes, overwrite=overwrite)
