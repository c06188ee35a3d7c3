"""Zarr arrays that anyone may have written, of format 2 or 3, read with every chunk accounted for.

Zarr reads a missing chunk as its fill value without an error. `ForeignArray` therefore looks for each chunk that a read
has touched, and names the one that is missing, truncated or altered.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import stat
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, NoReturn

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import RangeByteRequest, Store
from zarr.buffer.cpu import buffer_prototype

# Zarr has no public way to wait for a store's coroutines, and those of fsspec are tied to Zarr's event loop.
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from distnnd.storage.stores import Objects
from distnnd.values.errors import DistnndWarning, SpecError, StoreError, Unreachable

# Fewer chunks than these below each other may all be lost by chance.
FEWEST_LACKING = 3
MISSING = ("fill", "error")
METADATA_NAMES = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"})
ABSENT_IN_SHARD = np.iinfo(np.uint64).max


@dataclass(frozen=True, eq=False)
class ForeignArray:
    """A Zarr array, sharded or not, split along any of its axes, that is read by ranges of its first.

    `location` is a name for messages, `grid` the shape of one stored object, a chunk or a shard; `index` the dtype of
    the index at the head of a shard, if it stands there. `lacking` says which objects need not be there and read as the
    fill value: "fill" for all, "error" for none, or the numbers along the second axis of those that were never written.
    A chunk that its shard says was not written reads as the fill value: a shard is lost as a whole. Zarr's concurrency
    stays as it is: that setting is global to the process, and threads that set and restore it side by side restore each
    other's values.
    """

    array: zarr.Array
    location: str
    grid: tuple[int, ...]
    index: np.dtype[Any] | None
    lacking: str | tuple[int, ...] = "error"

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Entries [start, stop) along the first axis; StoreError names what is missing or damaged."""
        try:
            values = np.asarray(self.array[start:stop])
        except (MemoryError, Unreachable):
            raise
        except Exception as error:
            self._raise_damage(start, stop, error)
        # After the read, so that a chunk deleted meanwhile is noticed.
        self._check_present(self._keys(start, stop))
        return values

    def _keys(self, start: int, stop: int) -> dict[str, tuple[slice, ...]]:
        """The key of each object that entries [start, stop) touch, with the part of these that it holds."""
        ends = ((start, stop), *((0, length) for length in self.array.shape[1:]))
        axes = [_parts(first, last, size) for (first, last), size in zip(ends, self.grid, strict=True)]
        keys = {}
        for place in itertools.product(*axes):
            keys[self.array.metadata.encode_chunk_key(tuple(i for i, _ in place))] = tuple(part for _, part in place)
        return keys

    def _all_keys(self) -> list[str]:
        """The keys of all objects there may be, from the top of the store."""
        return [(self.array.store_path / key).path for key in self._keys(0, self.array.shape[0])]

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

    def _check_present(self, keys: dict[str, tuple[slice, ...]]) -> None:
        """Raise StoreError if an object is missing or empty, or is a shard cut short behind its index."""
        sizes = self._sizes(list(keys))
        if absent := [key for key, size in sizes.items() if not size and not self._may_lack(keys[key])]:
            more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            fill = self.array.fill_value
            remedy = ""
            if is_number(fill) and self.lacking != "fill":
                remedy = (
                    f"; if it was never written because it holds {fill} alone, as Zarr and Dask do by default, say so: "
                    'missing="fill" (--missing fill)'
                )
            raise StoreError(
                f"{self.location}: chunk {absent[0]} is missing{more} and would read as {fill}; if it was lost, copy "
                f"the data again{remedy}"
            )
        for key, size in sizes.items() if self.index is not None else ():
            if size and size < (end := self._shard_end(key)):
                raise StoreError(
                    f"{self.location}: chunk {key} is truncated, {size} bytes of {end}; copy the data again"
                )

    def _may_lack(self, part: tuple[slice, ...]) -> bool:
        """Whether the object of that part of the array need not be there."""
        if isinstance(self.lacking, str):
            return self.lacking == "fill" and is_number(self.array.fill_value)
        return len(part) == 2 and part[1].start // self.grid[1] in self.lacking

    def never_written(self) -> tuple[int, ...]:
        """The numbers along the second axis for which no object is there at all, while all others are there.

        That a column of chunks is gone in all rows and the rest is whole is no loss: chunks are lost singly, by folder,
        or from where a copy was interrupted on. Empty where there are few of them, or it looks otherwise.
        """
        if self.array.ndim != 2 or not is_number(self.array.fill_value):
            return ()
        rows, columns = (-(-length // size) for length, size in zip(self.array.shape, self.grid, strict=True))
        if columns < 2 or rows < FEWEST_LACKING:
            return ()
        keys = self._keys(0, self.array.shape[0])
        there = self._there(list(keys))
        found = np.zeros(columns, np.int64)
        for key, part in keys.items():
            found[part[1].start // self.grid[1]] += key in there
        lacking = np.flatnonzero(found == 0)
        whole = int((found == rows).sum())
        return tuple(lacking.tolist()) if whole and whole + len(lacking) == columns else ()

    def _there(self, keys: list[str]) -> set[str]:
        """Those of the keys for which there is an object."""
        if isinstance(self.array.store, LocalStore | FsspecStore | ObjectStore):
            try:
                return {name for name, size, _ in _objects(self.array, self._all_keys) if size}
            except Unreachable:
                raise
            except Exception as error:
                raise StoreError(f"{self.location}: its chunks cannot be listed ({error})") from error
        return {key for key, size in self._sizes(keys).items() if size}

    def _sizes(self, keys: list[str]) -> dict[str, int]:
        """The bytes of each object, 0 for one that does not exist."""
        store = self.array.store
        try:
            if isinstance(store, LocalStore):
                folder = os.path.join(store.root, self.array.path)
                return {key: _file_size(os.path.join(folder, key)) for key in keys}
            sizes = sync(_object_sizes(store, [(self.array.store_path / key).path for key in keys]))
        except Unreachable:
            raise
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
            objects = sorted(_objects(self.array, self._all_keys))
        except Unreachable:
            raise
        except Exception as error:
            raise StoreError(f"{self.location}: its chunks cannot be listed ({error})") from error
        layout = {key: document[key] for key in document if key not in ("attributes", "dimension_names")}
        digest = blake2b(json.dumps([layout, objects], sort_keys=True).encode(), digest_size=16)
        coding = ("codecs", "compressor", "filters", "order")
        return {
            "kind": "zarr",
            "format": layout["zarr_format"],
            "shape": list(self.array.shape),
            "dtype": np.dtype(self.array.dtype).str,
            "chunks": list(self.array.chunks),
            "grid": list(self.grid),
            "codecs": {key: layout[key] for key in coding if key in layout},
            "objects": len(objects),
            "bytes": sum(size for _, size, _ in objects),
            "digest": digest.hexdigest(),
        }


def is_number(fill: Any) -> bool:
    """Whether a fill value is a finite number, that points may hold."""
    try:
        return fill is not None and math.isfinite(fill)
    except TypeError:
        return False


def check_missing(missing: Any) -> None:
    """SpecError unless that is what a caller may say about chunks that are not there."""
    if missing is not None and missing not in MISSING:
        known = " or ".join(map(repr, MISSING))
        raise SpecError(f"missing is {known}, or None to find out which chunks were never written, not {missing!r}")


def foreign_array(array: zarr.Array, location: str, missing: Any = None) -> ForeignArray:
    """The array, to be read with care; raises SpecError for chunks of varying size, StoreError for impossible ones.

    missing: "fill" or "error" for chunks that are not there, or which columns of chunks were never written; None to
    find that out, see ForeignArray.never_written, which is warned of.
    """
    try:
        chunks, shards = array.chunks, array.shards
    except NotImplementedError as error:
        raise SpecError(f"{location}: chunks of varying size are not supported; rechunk evenly") from error
    if min(*chunks, *(shards or chunks)) < 1:
        raise StoreError(f"{location}: the metadata claims chunks of shape {chunks}")
    lacking = missing if isinstance(missing, str) else tuple(missing or ())
    opened = ForeignArray(array, location, shards or chunks, _leading_index(array), lacking or "error")
    if missing is None and (never := opened.never_written()):
        warnings.warn(_what_is_lacking(opened, never), DistnndWarning, stacklevel=2)
        return replace(opened, lacking=never)
    return opened


def _what_is_lacking(array: ForeignArray, never: tuple[int, ...]) -> str:
    first, last = never[0] * array.grid[1], min((never[0] + 1) * array.grid[1], array.array.shape[1]) - 1
    more = f" and of {len(never) - 1} more such ranges" if len(never) > 1 else ""
    return (
        f"{array.location}: the chunks of columns {first} to {last}{more} were never written in any row, and read as "
        f'{array.array.fill_value}, the fill value; missing="fill" (--missing fill) says that this is right, '
        'missing="error" refuses it'
    )


def _parts(first: int, last: int, size: int) -> list[tuple[int, slice]]:
    """The pieces of `size` that first .. last touches: their numbers, and the part of first .. last in each."""
    return [(i, slice(max(first, i * size), min(last, (i + 1) * size))) for i in range(first // size, -(-last // size))]


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


def _objects(array: zarr.Array, keys: Callable[[], Iterable[str]]) -> list[tuple[str, int, str]]:
    """(name, bytes, a mark that changes with the content) of each chunk or shard that exists; keys: of all."""
    store = array.store
    if isinstance(store, LocalStore):
        found = list(_local_objects(os.path.join(store.root, array.path)))
    elif isinstance(store, FsspecStore):
        found = _fsspec_objects(store, array.path)
    elif isinstance(store, Objects):
        found = [(key.removeprefix(array.path), size, mark) for key, size, mark in store.described(array.path, keys)]
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
