"""Points as a Zarr array: read with every chunk accounted for, written in whole chunks with checksums.

Zarr reads a missing chunk as its fill value without an error. `ZarrSource` therefore looks for each chunk
that a read has touched, and names the one that is missing, truncated or altered.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import math
import os
import re
import shutil
import stat
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NoReturn

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.abc.store import RangeByteRequest, Store
from zarr.buffer.cpu import buffer_prototype
from zarr.codecs import Crc32cCodec

# Zarr has no public way to wait for a store's coroutines, and those of fsspec are tied to Zarr's event loop.
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError, ContainsGroupError
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from distnnd.storage import formats
from distnnd.storage.formats import Source
from distnnd.values.errors import InputError, SpecError, StoreError

CHUNK_BYTES = 16 << 20
WHOLE_SHARD_BYTES = 32 << 20
METADATA_NAMES = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"})
ABSENT_IN_SHARD = np.iinfo(np.uint64).max


def open_store(location: str, *, read_only: bool) -> Store:
    """The store at a local path or URL, which need not exist yet.

    Raises SpecError for a URL that carries credentials, or that nothing installed here opens.
    """
    if "://" not in location:
        return LocalStore(location, read_only=read_only)
    if "?" in location or re.search("://[^/@]*:[^/@]*@", location):
        raise SpecError("a URL with a password or a query would stay in logs; give these by the environment")
    try:
        return FsspecStore.from_url(location, read_only=read_only)
    except (ImportError, ValueError) as error:
        reason = error
    try:
        # Optional, hence named at run time: it serves where fsspec has no driver for the protocol.
        store = importlib.import_module("obstore.store").from_url(location)
    except Exception as error:
        raise SpecError(f"{location}: nothing installed opens this ({reason}); try distnnd[s3]") from error
    return ObjectStore(store, read_only=read_only)


# --- reading ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ZarrSource(Source):
    """Points in a Zarr array of format 2 or 3, sharded or not, split along rows and maybe columns.

    `grid` is the (rows, columns) of one stored object, a chunk or a shard; `index` the dtype of the index at
    the head of a shard, if it stands there. Zarr's concurrency stays as it is: that setting is global to the
    process, and threads that set and restore it side by side restore each other's values.
    """

    array: zarr.Array
    grid: tuple[int, int]
    index: np.dtype[Any] | None
    origin: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        """As in Source."""
        return super().spec if self.resident else self.origin

    def _stored_rows(self, start: int, stop: int) -> NDArray[Any]:
        try:
            rows = np.asarray(self.array[start:stop])
        except MemoryError:
            raise
        except Exception as error:
            self._raise_damage(start, stop, error)
        # After the read, so that a chunk deleted meanwhile is noticed.
        self._check_present(self._keys(start, stop))
        return rows

    def _keys(self, start: int, stop: int) -> dict[str, tuple[slice, slice]]:
        """The key of each object that rows [start, stop) touch, with the part of these rows that it holds."""
        height, width = self.grid
        keys = {}
        for i, j in itertools.product(range(start // height, -(-stop // height)), range(-(-self.d // width))):
            rows = slice(max(start, i * height), min(stop, (i + 1) * height))
            columns = slice(j * width, min(self.d, (j + 1) * width))
            keys[self.array.metadata.encode_chunk_key((i, j))] = rows, columns
        return keys

    def _raise_damage(self, start: int, stop: int, error: Exception) -> NoReturn:
        """Raise StoreError for a read that failed, naming the object that cannot be read by itself."""
        keys = self._keys(start, stop)
        self._check_present(keys)
        for key, part in keys.items():
            try:
                self.array[part]
            except Exception as cause:
                raise StoreError(
                    f"{self.location}: chunk {key} is truncated or altered ({cause}); copy the data again"
                ) from cause
        raise StoreError(f"{self.location}: rows [{start}, {stop}) could not be read ({error})") from error

    def _check_present(self, keys: Iterable[str]) -> None:
        """Raise StoreError if an object is missing or empty, or is a shard cut short behind its index."""
        sizes = self._sizes(list(keys))
        if absent := [key for key, size in sizes.items() if not size]:
            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            fill = self.array.fill_value
            raise StoreError(
                f"{self.location}: chunk {absent[0]} is missing{more} and would read as {fill}; copy the "
                f"data again, or, if its rows really are all {fill}, rewrite the array with "
                'config={"write_empty_chunks": True}'
            )
        for key, size in sizes.items() if self.index is not None else ():
            if size < (end := self._shard_end(key)):
                raise StoreError(
                    f"{self.location}: chunk {key} is truncated, {size} bytes of {end}; copy the data again"
                )

    def _sizes(self, keys: list[str]) -> dict[str, int]:
        """The bytes of each object, 0 for one that does not exist."""
        store = self.array.store
        try:
            if isinstance(store, LocalStore):
                folder = os.path.join(store.root, self.array.path)
                return {key: _file_size(os.path.join(folder, key)) for key in keys}
            sizes = sync(_object_sizes(store, [(self.array.store_path / key).path for key in keys]))
        except Exception as error:
            raise StoreError(f"{self.location}: cannot look for chunk {keys[0]} ({error})") from error
        return dict(zip(keys, sizes, strict=True))

    def _shard_end(self, key: str) -> int:
        """The bytes that a shard must have, by the index of (offset, length) at its head.

        Zarr before 3.3 reads what lies behind the end of such a shard as fill value, without an error.
        """
        chunks = math.prod(self.grid) // math.prod(self.array.chunks)
        head = self._fetch(key, RangeByteRequest(0, 16 * chunks))
        index = np.frombuffer(head, self.index).reshape(-1, 2)
        return int(index[index[:, 0] != ABSENT_IN_SHARD].sum(axis=1).max(initial=0))

    def _fetch(self, key: str, span: RangeByteRequest | None = None) -> bytes:
        value = sync((self.array.store_path / key).get(buffer_prototype, span))
        if value is None:
            raise StoreError(f"{self.location}: {key} is missing; copy the data again")
        return bytes(value.to_bytes())

    def fingerprint(self) -> dict[str, Any]:
        """The array's layout, and a digest of its metadata and of each object's size and time, or etag.

        Objects of a store that tells neither, such as one in memory, are read and hashed.
        """
        head = ".zarray" if self.array.metadata.zarr_format == 2 else "zarr.json"
        try:
            document = json.loads(self._fetch(head), parse_constant=str)
            objects = sorted(_objects(self.array))
        except Exception as error:
            raise StoreError(f"{self.location}: its chunks cannot be listed ({error})") from error
        layout = {key: document[key] for key in document if key not in ("attributes", "dimension_names")}
        digest = blake2b(json.dumps([layout, objects], sort_keys=True).encode(), digest_size=16)
        coding = ("codecs", "compressor", "filters", "order")
        return {
            "kind": "zarr",
            "format": layout["zarr_format"],
            "shape": [self.n, self.d],
            "dtype": np.dtype(self.array.dtype).str,
            "chunks": list(self.array.chunks),
            "grid": list(self.grid),
            "codecs": {key: layout[key] for key in coding if key in layout},
            "objects": len(objects),
            "bytes": sum(size for _, size, _ in objects),
            "digest": digest.hexdigest(),
        }


def open_zarr(array: zarr.Array, location: str, origin: dict[str, Any]) -> ZarrSource:
    """The source of a Zarr array that is described to other processes by `origin`.

    Raises InputError for a shape or dtype that is not that of points, SpecError for chunks of varying size.
    """
    dtype = formats.points_dtype(np.dtype(array.dtype), location)
    n, d = formats.points_shape(array.shape, location)
    try:
        chunks, shards = array.chunks, array.shards
    except NotImplementedError as error:
        raise SpecError(f"{location}: chunks of varying size are not supported; rechunk evenly") from error
    height, width = shards or chunks
    if min(*chunks, height, width) < 1:
        raise StoreError(f"{location}: the metadata claims chunks of shape {chunks}")
    rows = min(n, _unit_rows(chunks[0], height, d * array.dtype.itemsize))
    index = _leading_index(array)
    return ZarrSource(n, d, dtype, rows, location, None, array, (height, width), index, origin)


def _unit_rows(chunk: int, shard: int, row_bytes: int) -> int:
    """Rows to read together: a chunk where there are no shards, else a shard, halved while it is large."""
    rows = shard
    while rows * row_bytes > WHOLE_SHARD_BYTES and rows % (2 * chunk) == 0:
        rows //= 2
    return rows if rows * row_bytes <= WHOLE_SHARD_BYTES else chunk


def _leading_index(array: zarr.Array) -> np.dtype[Any] | None:
    """The dtype of the entries of a shard's index, if that stands at the head of the shard."""
    codecs = array.metadata.to_dict().get("codecs", ())
    if len(codecs) != 1 or codecs[0]["name"] != "sharding_indexed":
        return None
    settings = codecs[0]["configuration"]
    if settings.get("index_location") != "start":
        return None
    big = settings["index_codecs"][0].get("configuration", {}).get("endian") == "big"
    return np.dtype(">u8" if big else "<u8")


def _file_size(path: str) -> int:
    try:
        status = os.stat(path)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    except (FileNotFoundError, NotADirectoryError):
        return 0


async def _object_sizes(store: Store, keys: list[str]) -> list[int]:
    async def size(key: str) -> int:
        try:
            return int(await store.getsize(key))
        except FileNotFoundError:
            return 0

    return list(await asyncio.gather(*map(size, keys)))


# --- what an array consists of ---------------------------------------------------------------------------


def _objects(array: zarr.Array) -> list[tuple[str, int, str]]:
    """(name, bytes, a mark that changes with the content) of each chunk or shard that exists."""
    store = array.store
    if isinstance(store, LocalStore):
        found = list(_local_objects(os.path.join(store.root, array.path)))
    elif isinstance(store, FsspecStore):
        found = _fsspec_objects(store, array.path)
    elif isinstance(store, ObjectStore):
        found = [
            (item["path"].removeprefix(array.path), item["size"], str(item["e_tag"] or item["last_modified"]))
            for batch in store.store.list(array.path or None)
            for item in batch
        ]
    else:
        found = sync(_hashed_objects(store, f"{array.path}/" if array.path else ""))
    return [
        (name.lstrip("/"), size, mark) for name, size, mark in found if name.rpartition("/")[2] not in METADATA_NAMES
    ]


def _local_objects(folder: str) -> Iterator[tuple[str, int, str]]:
    for parent, _, names in os.walk(folder, followlinks=True):
        # What ends in .partial was left by a killed writer; Zarr does not see it.
        for name in (name for name in names if not name.endswith(".partial")):
            path = os.path.join(parent, name)
            status = os.stat(path)
            yield os.path.relpath(path, folder), status.st_size, str(status.st_mtime_ns)


def _fsspec_objects(store: FsspecStore, path: str) -> list[tuple[str, int, str]]:
    root = f"{store.path.rstrip('/')}/{path}".rstrip("/")
    store.fs.invalidate_cache()
    found = sync(store.fs._find(root, detail=True))
    marks = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created")
    return [
        (name.removeprefix(root), int(facts["size"]), str(next((facts[m] for m in marks if m in facts), "")))
        for name, facts in found.items()
    ]


async def _hashed_objects(store: Store, prefix: str) -> list[tuple[str, int, str]]:
    found = []
    keys: AsyncIterator[str] = store.list_prefix(prefix)
    async for key in keys:
        value = (await store.get(key, buffer_prototype)).to_bytes()
        found.append((key.removeprefix(prefix), len(value), blake2b(value, digest_size=16).hexdigest()))
    return found


# --- writing ---------------------------------------------------------------------------------------------


def write_points(
    path: str | os.PathLike[str],
    blocks: Iterable[NDArray[Any]],
    *,
    n: int,
    d: int,
    dtype: DTypeLike,
    chunk_rows: int | None = None,
) -> None:
    """Write blocks of rows, together (n, d), to a new Zarr v3 array of float32, float16, uint8 or int8.

    The array is uncompressed, with a crc32c in each chunk of (chunk_rows, d); by default `chunk_rows` is a
    power of two that takes 8 to 16 MiB. Memory: a block and two or three chunks. A local array appears under
    `path` once it is whole. Raises SpecError if `path` exists or an argument makes no sense, InputError if
    the blocks do not add up to (n, d) or lose precision in `dtype`, StoreError if they cannot be written.
    """
    stored = np.dtype(dtype)
    if stored not in formats.NARROW:
        raise SpecError(f"points are written as {', '.join(map(str, formats.NARROW))}, not as {stored}")
    if min(n, d, 1 if chunk_rows is None else chunk_rows) < 1:
        raise SpecError(f"n={n}, d={d}, chunk_rows={chunk_rows}: each must be at least 1")
    # No larger than the points: a chunk is stored in full, whatever part of it is used.
    rows = chunk_rows or min(formats.rows_within(CHUNK_BYTES, d * stored.itemsize), 1 << (n - 1).bit_length())
    with _new_store(formats.absolute(path)) as store:
        array = zarr.create_array(
            store=store,
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
    """`block`; raises InputError unless it is (rows, d) and `dtype` holds what it would be read as."""
    if block.ndim != 2 or block.shape[1] != d:
        raise InputError(f"a block of shape {block.shape} does not have rows of {d} values")
    if not np.can_cast(formats.points_dtype(block.dtype, "a block"), dtype, "safe"):
        raise InputError(f"a block of {block.dtype} would lose precision as {dtype}; convert it first")
    return block


@contextmanager
def _new_store(path: str) -> Iterator[Store]:
    """A store for one new array; if local, it bears the name `path` from the last chunk on, or is removed."""
    if os.path.lexists(path):
        raise SpecError(f"{path} exists already; name a new path, or remove it first")
    remote = "://" in path
    place = path if remote else f"{path}.{uuid.uuid4().hex}.partial"
    try:
        yield open_store(place, read_only=False)
        if not remote:
            os.rename(place, path)
    except (ContainsArrayError, ContainsGroupError) as error:
        raise SpecError(f"{path} exists already; name a new path, or remove it first") from error
    except OSError as error:
        raise StoreError(f"the points cannot be written to {path} ({error})") from error
    finally:
        if not remote:
            shutil.rmtree(place, ignore_errors=True)
