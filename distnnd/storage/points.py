"""Points as a Zarr array: read by rows, written in whole chunks with checksums."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec
from zarr.errors import ContainsArrayError, ContainsGroupError

from distnnd.storage import files, formats, marks, outputs, stores
from distnnd.storage.foreign import ForeignArray, foreign_array
from distnnd.storage.formats import Source
from distnnd.values.errors import InputError, SpecError, StoreError, Unreachable

CHUNK_BYTES = 16 << 20
WHOLE_SHARD_BYTES = 32 << 20


# --- reading ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ZarrSource(Source):
    """Points in a Zarr array of format 2 or 3, sharded or not, split along rows and maybe columns."""

    stored: ForeignArray
    origin: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        """As in Source."""
        return super().spec if self.resident else self.origin

    def _stored_rows(self, start: int, stop: int) -> NDArray[Any]:
        return self.stored.read(start, stop)

    def fingerprint(self) -> dict[str, Any]:
        """The array's layout, and a digest of its metadata and of each object's size and time, or etag.

        Objects of a store that tells neither, such as one in memory, are read and hashed.
        """
        return self.origin.get("made_of") or self.stored.fingerprint()


def open_zarr(array: zarr.Array, location: str, origin: dict[str, Any], missing: Any = None) -> ZarrSource:
    """The source of a Zarr array that is described to other processes by `origin`.

    missing: as foreign_array has it. Raises InputError for a shape or dtype that is not that of points, SpecError for
    chunks of varying size.
    """
    dtype = formats.points_dtype(np.dtype(array.dtype), location)
    n, d = formats.points_shape(array.shape, location)
    stored = foreign_array(array, location, missing)
    if stored.lacking != "error":
        # Other processes need not find out.
        origin = origin | {"missing": stored.lacking if isinstance(stored.lacking, str) else list(stored.lacking)}
    rows = min(n, _unit_rows(array.chunks[0], stored.grid[0], d * array.dtype.itemsize))
    return ZarrSource(n, d, dtype, rows, location, None, stored, origin)


def _unit_rows(chunk: int, shard: int, row_bytes: int) -> int:
    """Rows to read together: a chunk where there are no shards, else a shard, halved while it is large."""
    rows = shard
    while rows * row_bytes > WHOLE_SHARD_BYTES and rows % (2 * chunk) == 0:
        rows //= 2
    return rows if rows * row_bytes <= WHOLE_SHARD_BYTES else chunk


# --- writing ---------------------------------------------------------------------------------------------


def write_points(
    path: str | os.PathLike[str],
    blocks: Iterable[NDArray[Any]],
    *,
    n: int,
    d: int,
    dtype: DTypeLike,
    chunk_rows: int | None = None,
    attributes: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write blocks of rows, together (n, d), to a new Zarr v3 array of float64, float32, float16, uint8 or int8.

    The array is uncompressed, with a crc32c in each chunk of (chunk_rows, d); by default `chunk_rows` is a
    power of two that takes 8 to 16 MiB. Memory: a block and two or three chunks. A local array appears under
    `path` once it is whole. attributes: of the array. overwrite: whether points that were written so before may be
    replaced. Raises SpecError if something else is at `path` or an argument makes no sense, InputError if the blocks
    do not add up to (n, d) or lose precision in `dtype`, StoreError if they cannot be written.
    """
    stored = np.dtype(dtype)
    if stored not in formats.KEPT:
        raise SpecError(f"points are written as {', '.join(map(str, formats.KEPT))}, not as {stored}")
    if min(n, d, 1 if chunk_rows is None else chunk_rows) < 1:
        raise SpecError(f"n={n}, d={d}, chunk_rows={chunk_rows}: each must be at least 1")
    # No larger than the points: a chunk is stored in full, whatever part of it is used.
    rows = chunk_rows or min(formats.rows_within(CHUNK_BYTES, d * stored.itemsize), 1 << (n - 1).bit_length())
    with new_store(place := formats.absolute(path), overwrite) as store:
        array = zarr.create_array(
            store=store,
            attributes=attributes or marked(place),
            shape=(n, d),
            chunks=(rows, d),
            dtype=stored,
            compressors=[Crc32cCodec()],
            fill_value=np.nan if stored.kind == "f" else 0,
            dimension_names=("row", "dim"),
            config={"write_empty_chunks": True},
        )
        for start, chunk in _whole_chunks(blocks, (n, d), rows, stored):
            array[start : start + len(chunk)] = chunk


def _whole_chunks(
    blocks: Iterable[NDArray[Any]], shape: tuple[int, int], rows: int, dtype: np.dtype[Any]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first row, rows) of each chunk in turn, in one buffer that the next overwrites."""
    n, d = shape
    buffer = np.empty((min(rows, n), d), dtype)
    start = filled = 0
    for given in blocks:
        block = _checked(np.asarray(given), d, dtype)
        if start + filled + len(block) > n:
            raise InputError(f"the blocks hold more than the {n} rows that were announced")
        while len(block):
            take = min(len(block), len(buffer) - filled)
            with np.errstate(over="ignore", invalid="ignore"):
                buffer[filled : filled + take] = block[:take]
            block, filled = block[take:], filled + take
            if filled == len(buffer):
                yield start, buffer
                start, filled = start + filled, 0
    if filled:
        yield start, buffer[:filled]
    if start + filled < n:
        raise InputError(f"the blocks hold {start + filled} rows, not the {n} that were announced")


def _checked(block: NDArray[Any], d: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """`block`; raises InputError unless it is (rows, d) and `dtype` holds what it would be read as, or is float32."""
    if block.ndim != 2 or block.shape[1] != d:
        raise InputError(f"a block of shape {block.shape} does not have rows of {d} values")
    # To float32 whatever is wider is rounded, as points may be that are compared.
    if not np.can_cast(formats.points_dtype(block.dtype, "a block"), dtype, "safe") and dtype != np.float32:
        raise InputError(f"a block of {block.dtype} would lose precision as {dtype}; convert it first")
    return block


KIND = "points"


def marked(path: str) -> dict[str, Any]:
    """The attributes that say that points at `path` were written by us."""
    return marks.lasting(KIND, uuid.uuid4().hex, path)


@contextmanager
def new_store(path: str, overwrite: bool = False) -> Iterator[Store]:
    """A store for one new array, removed if that fails; if local, it bears the name `path` from the last chunk on.

    overwrite: whether it may take the place of what bears our mark, which in an object store is deleted first.
    """
    if not stores.is_empty(path):
        mark = marks.of(path)
        if not overwrite or mark is None or mark.kind != KIND:
            raise exists_already(path, overwrite)
        if not stores.is_local(path):
            marks.remove_store(path)
    place = files.name_aside(os.path.realpath(path)) if stores.is_local(path) else path
    kept = False
    try:
        yield stores.opened(place)
        if place != path:
            _move(place, path, overwrite)
            marks.sweep(path)
        kept = True
    except (ContainsArrayError, ContainsGroupError) as error:
        # Somebody else's, made meanwhile.
        kept = True
        raise exists_already(path, overwrite) from error
    except OSError as error:
        raise StoreError(f"the points cannot be written to {path} ({error})") from error
    finally:
        if not kept:
            with suppress(Unreachable, OSError):
                stores.remove(place)


def _move(place: str, path: str, overwrite: bool) -> None:
    if overwrite:
        outputs.swap(place, path)
    else:
        os.rename(place, path)


def exists_already(path: str, overwrite: bool) -> SpecError:
    """The error for a path where something is."""
    if overwrite:
        return SpecError(
            f"{path} exists and was not written by distnnd: overwrite does not replace it; name a new path"
        )
    return SpecError(
        f"{path} exists already; name a new path, remove it first, or pass overwrite=True (--overwrite) to replace "
        "what distnnd wrote there"
    )
