"""Dense points in numpy arrays and in flat files: .npy, and the formats of big-ann-benchmarks and TEXMEX."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distnnd.values.errors import InputError, SpecError, StoreError

from .formats import (
    READ_BYTES,
    Source,
    digest_of,
    keep_resident,
    points_dtype,
    points_shape,
    rows_within,
)
from .remedies import remedy_for_file

# Squares of smaller or larger numbers, or their sums, would not be told by float32.
LEAST_TOLD, MOST_TOLD = 1e-15, 1e15

# --- arrays in memory ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ArraySource(Source):
    """Points in a numpy array of any strides and byte order."""

    array: NDArray[Any]
    told_by_float32: bool = False

    @property
    def lossless(self) -> bool:
        """As in Source."""
        return self.told_by_float32

    def _stored_rows(self, start: int, stop: int) -> NDArray[Any]:
        return self.array[start:stop]

    def fingerprint(self) -> dict[str, Any]:
        """Layout, and a digest of all bytes."""
        layout = {"kind": "array", "shape": [self.n, self.d], "dtype": self.array.dtype.str}
        return layout | digest_of(self.array, self.chunk_rows)


def open_array(array: NDArray[Any], where: str = "<numpy array>", given: str = "points") -> Source:
    """The source of a numpy array or memmap; a memmap of a file is opened by its path.

    where: a name for messages; given: what they call the array, in Python. Raises InputError for a shape, dtype or mask
    that is not that of points.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{where}: masked values have no distance; fill them first, points.filled(value)")
    dtype = points_dtype(array.dtype, where, given)
    n, d = points_shape(array.shape, where, given)
    if (mapping := _mapping_of(array)) is not None:
        path, offset = mapping
        return MappedSource.over(path, offset, (n, d), (array.strides[0], array.strides[1]), array.dtype)
    rows = rows_within(READ_BYTES, d * array.itemsize)
    return keep_resident(ArraySource(n, d, dtype, rows, where, None, np.asarray(array)))


def narrowed(source: Source) -> Source:
    """The source read as float32, if it is an array in memory of float64 or wide integers that float32 holds all of.

    Numbers whose squares vanish from float32, or overflow it, are not what it holds.
    """
    if not isinstance(source, ArraySource) or source.dtype != np.float64 or not holds_in_float32(source):
        return source
    # Tasks find points in memory by their token.
    source.release()
    return keep_resident(replace(source, dtype=np.dtype(np.float32), told_by_float32=True))


def holds_in_float32(source: Source) -> bool:
    """Whether float32 holds all numbers of the points and their squares; it ends at the first one that it does not."""
    for start in range(0, source.n, source.chunk_rows):
        given = source.as_stored(start, min(start + source.chunk_rows, source.n))
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = given.astype(np.float32)
        sizes = np.abs(rounded)
        if not ((rounded == given) & ((sizes == 0) | ((sizes > LEAST_TOLD) & (sizes < MOST_TOLD)))).all():
            return False
    return True


def _mapping_of(array: NDArray[Any]) -> tuple[str, int] | None:
    """The file that `array` is a view of, and the byte of its element [0, 0]; None if it has no file."""
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    # Mode "c" keeps what was written to it in memory, so the file may tell another story.
    if not isinstance(root, np.memmap) or root.mode == "c" or root.filename is None:
        return None
    path = os.path.abspath(os.fspath(root.filename))
    if not os.path.isfile(path):
        return None
    root.flush()
    ahead = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    return path, int(root.offset + ahead)


# --- flat files ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MappedSource(Source):
    """Points at fixed strides in a flat file, mapped afresh for each read.

    A mapping that is held turns a file cut short into a bus error that kills the process; one that is made
    for each read turns it into an exception, keeps no handle, and costs some microseconds.
    """

    offset: int
    strides: tuple[int, int]
    stored: np.dtype[Any]
    prefixed: bool

    @classmethod
    def over(
        cls,
        path: str,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, int],
        stored: np.dtype[Any],
        prefixed: bool = False,
    ) -> MappedSource:
        """The source of (n, d) values of `stored` at `offset`; `prefixed` rows each follow d as an int32."""
        dtype = points_dtype(stored, path)
        n, d = points_shape(shape, path)
        rows = rows_within(READ_BYTES, d * stored.itemsize)
        return cls(n, d, dtype, rows, path, None, offset, strides, stored, prefixed)

    @property
    def spec(self) -> dict[str, Any]:
        """As in Source."""
        return {
            "kind": "mapped",
            "path": self.location,
            "offset": self.offset,
            "shape": [self.n, self.d],
            "strides": list(self.strides),
            "dtype": self.stored.str,
            "prefixed": self.prefixed,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Layout, and the size and modification time of the file."""
        status = _status(self.location)
        facts = {key: value for key, value in self.spec.items() if key != "path"}
        return facts | {"size": status.st_size, "mtime_ns": status.st_mtime_ns}

    def _stored_rows(self, start: int, stop: int) -> NDArray[Any]:
        first = self.offset + start * self.strides[0]
        if not self.prefixed and self.strides == (self.d * self.stored.itemsize, self.stored.itemsize):
            return self._rows_in_one_piece(first, stop - start, start)
        try:
            with open(self.location, "rb") as file:
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            rows: NDArray[Any] = np.ndarray((stop - start, self.d), self.stored, pages, first, self.strides)
            if self.prefixed:
                lengths: NDArray[Any] = np.ndarray((stop - start,), "<i4", pages, first - 4, (self.strides[0],))
                self._check_lengths(lengths, start)
        except (OSError, TypeError, ValueError) as error:
            raise self._unreadable(start, stop, error) from error
        return rows

    def _rows_in_one_piece(self, offset: int, count: int, start: int) -> NDArray[Any]:
        """`count` rows that follow each other in the file: read, which spares the faults of a mapping's pages."""
        rows = np.empty((count, self.d), self.stored)
        try:
            with open(self.location, "rb", buffering=0) as file:
                file.seek(offset)
                view, done = memoryview(rows.reshape(-1).view(np.uint8)), 0
                while done < rows.nbytes and (more := file.readinto(view[done:])):
                    done += more
        except OSError as error:
            raise self._unreadable(start, start + count, error) from error
        if done < rows.nbytes:
            raise self._unreadable(start, start + count, f"{rows.nbytes - done} bytes are missing")
        return rows

    def _unreadable(self, start: int, stop: int, reason: object) -> StoreError:
        return StoreError(
            f"{self.location}: rows [{start}, {stop}) cannot be read, the file is missing or truncated "
            f"({reason}); copy it again"
        )

    def _check_lengths(self, lengths: NDArray[Any], start: int) -> None:
        if (wrong := np.flatnonzero(lengths != self.d)).size:
            row = int(wrong[0])
            raise StoreError(
                f"{self.location}: row {start + row} says it has {lengths[row]} values, row 0 has {self.d}; "
                "the file is damaged or not of this format"
            )


def reopen_mapped(spec: dict[str, Any]) -> Source:
    """The MappedSource of a `spec`; raises StoreError if this process does not see the file."""
    _status(spec["path"])
    strides = (int(spec["strides"][0]), int(spec["strides"][1]))
    return MappedSource.over(
        spec["path"], spec["offset"], tuple(spec["shape"]), strides, np.dtype(spec["dtype"]), spec["prefixed"]
    )


def open_file(path: str) -> Source:
    """The source of a .npy, .fbin, .u8bin, .i8bin, .fvecs or .bvecs file, by its suffix.

    Raises SpecError for another suffix, StoreError for a header or size that does not fit, InputError for a
    shape or dtype that is not that of points.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".npy":
        return _open_npy(path)
    if suffix in _BIN_DTYPES:
        return _open_bin(path, np.dtype(_BIN_DTYPES[suffix]))
    if suffix in _VECS_DTYPES:
        return _open_vecs(path, np.dtype(_VECS_DTYPES[suffix]))
    known = ", ".join([".npy", *_BIN_DTYPES, *_VECS_DTYPES])
    hint = remedy_for_file(path)
    raise SpecError(
        f"{path} is a file of no format known here: {known}, or the folder of a Zarr array{f'; {hint}' if hint else ''}"
    )


_BIN_DTYPES = {".fbin": "<f4", ".u8bin": "u1", ".i8bin": "i1"}
_VECS_DTYPES = {".fvecs": "<f4", ".bvecs": "u1"}


def _open_npy(path: str) -> Source:
    try:
        with open(path, "rb") as file:
            first = np.lib.format.read_magic(file) == (1, 0)
            header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, fortran, stored = header(file)
            offset = file.tell()
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: the header of the .npy file cannot be read ({error})") from error
    points_dtype(stored, path)
    n, d = points_shape(shape, path)
    _check_size(path, offset + n * d * stored.itemsize, exact=False)
    item = stored.itemsize
    return MappedSource.over(path, offset, (n, d), (item, n * item) if fortran else (d * item, item), stored)


def _open_bin(path: str, stored: np.dtype[Any]) -> Source:
    """The layout of big-ann-benchmarks: uint32 n, uint32 d, then the rows."""
    n, d = struct.unpack("<II", _head(path, 8))
    shape = points_shape((n, d), path)
    _check_size(path, 8 + n * d * stored.itemsize, exact=True)
    return MappedSource.over(path, 8, shape, (d * stored.itemsize, stored.itemsize), stored)


def _open_vecs(path: str, stored: np.dtype[Any]) -> Source:
    """The layout of TEXMEX: each row is int32 d, then d values."""
    (d,) = struct.unpack("<i", _head(path, 4))
    if d < 1:
        raise InputError(f"{path}: the first row says it has {d} values; the file is not of this format")
    row_bytes = 4 + d * stored.itemsize
    size = _status(path).st_size
    n, rest = divmod(size, row_bytes)
    if rest or not n:
        raise StoreError(f"{path} is truncated: {size} bytes are no whole number of rows of {row_bytes}")
    return MappedSource.over(path, 4, (n, d), (row_bytes, stored.itemsize), stored, prefixed=True)


def _head(path: str, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(size)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error})") from error
    if len(head) < size:
        raise StoreError(f"{path} is truncated: {len(head)} bytes do not hold a header of {size}")
    return head


def _check_size(path: str, needed: int, *, exact: bool) -> None:
    size = _status(path).st_size
    if size < needed:
        raise StoreError(f"{path} is truncated: it has {size} bytes of the {needed} that its header promises")
    if exact and size > needed:
        raise StoreError(f"{path} has {size} bytes where its header promises {needed}; is the suffix right?")


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error})") from error
