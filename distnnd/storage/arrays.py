"""Zarr arrays as this project writes them: whole row chunks, uncompressed, each chunk with its crc32c.

Vectors and distances hardly compress, and a checksum turns a flipped bit into an error. Zarr reads a missing chunk as
its fill value without an error: every read looks for the chunks it has touched, and fill values are impossible values
(-1 for ids, NaN for distances), so that other readers can tell too.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NoReturn

import numpy as np
import zarr
from zarr.core.sync import sync
from zarr.storage import LocalStore

from ..values.errors import StoreError, Unreachable
from . import chunks, documents, shards, stores

REMEDY = "restore it from a copy, or delete the graph store and build it again"


def create(
    location: str,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    chunk_rows: int,
    dims: tuple[str, ...],
    separator: Literal[".", "/"] = "/",
    one_file: bool = False,
    attributes: dict[str, Any] | None = None,
) -> Any:
    """A new array at location/name, cut along its first axis only; what a dead attempt left there is replaced.

    separator: "." puts all chunks into one folder; a folder for each takes as long to make as a small chunk.
    one_file: on a local disk, all chunks into one file, to be written by `shards.Writer`. attributes: of the array.
    """
    chunk_shape = (max(1, min(chunk_rows, max(shape[0], 1))), *shape[1:])
    kind, form = documents.Kind(np.dtype(dtype).str, separator, one_file), documents.Form(shape, chunk_shape, dims)
    if not stores.is_local(location):
        kind = kind._replace(one_file=False)
    array = documents.create(location, name, kind, form, attributes)
    if array is not None:
        return array
    # Zarr would read and write a shard again for each strip that is added: it gets a file for each chunk.
    return documents.create_by_zarr(stores.opened(location), name, kind._replace(one_file=False), form)


def ensure(location: str, name: str, shape: tuple[int, ...], dtype: Any, chunk_rows: int, dims: tuple[str, ...]) -> Any:
    """The array as create() would make it, with the chunks that an interrupted run of the same build has written."""
    if not documents.stands(location, name):
        return create(location, name, shape, dtype, chunk_rows, dims)
    array = opened(location, name, "r+")
    same = array.shape == shape and array.dtype == np.dtype(dtype) and array.chunks[0] == min(chunk_rows, shape[0])
    return array if same else create(location, name, shape, dtype, chunk_rows, dims)


def opened(location: str, name: str, mode: Literal["r", "r+"] = "r") -> Any:
    """The array at location/name as it is now; StoreError if there is none or its metadata are damaged."""
    array = documents.opened(location, name, mode)
    if array is not None:
        return array
    try:
        return zarr.open_array(store=stores.opened(location, read_only=mode == "r"), path=name, mode=mode)
    except Unreachable:
        raise
    except Exception as error:
        raise StoreError(f"{location}/{name} cannot be opened ({error}); {REMEDY}") from error


@lru_cache(maxsize=4096)
def opened_once(location: str, name: str) -> Any:
    """The same, opened once a process: for scratch alone, where a name bears the build's uuid and never changes."""
    return opened(location, name)


def read(array: Any, first: int, last: int) -> np.ndarray:
    """Rows first .. last of an open array of ours; StoreError names the chunk that is missing, truncated or altered."""
    if first < last and chunks.direct(array):
        return _read_directly(chunks.read, array, first, last)
    if first < last and shards.direct(array):
        return _read_directly(shards.read, array, first, last)
    try:
        values = np.asarray(array[first:last])
    except (MemoryError, Unreachable):
        raise
    except Exception as error:
        _raise_damage(array, first, last, error)
    # After the read, so that a chunk deleted meanwhile is noticed.
    _check_present(array, first, last)
    return values


def write(array: Any, first: int, values: np.ndarray) -> None:
    """Write rows from `first` on, whole chunks, to an open array of ours."""
    if len(values) and chunks.direct(array):
        chunks.write(array, first, values)
    elif len(values):
        array[first : first + len(values)] = values


def _read_directly(reader: Callable[..., np.ndarray], array: Any, first: int, last: int) -> np.ndarray:
    try:
        return reader(array, first, last)
    except chunks.Damage as damage:
        place = _place(array, damage.key)
        if damage.missing:
            raise StoreError(f"{place} {damage} and would read as {array.fill_value}; {REMEDY}") from damage
        raise StoreError(f"{place} is truncated or altered ({damage}); {REMEDY}") from damage


def _keys(array: Any, first: int, last: int) -> dict[str, int]:
    """The key of each chunk or shard that holds some of rows first .. last, with the first row of it."""
    rows, rest = (array.shards or array.chunks)[0], (0,) * (array.ndim - 1)
    touched = range(first // rows, -(-last // rows)) if first < last else ()
    return {array.metadata.encode_chunk_key((chunk, *rest)): chunk * rows for chunk in touched}


def _place(array: Any, key: str) -> str:
    """Where a chunk lies, for messages."""
    return str(array.store_path / key).removeprefix("file://")


def _check_present(array: Any, first: int, last: int) -> None:
    """Raise StoreError if a chunk that holds some of rows first .. last is not there."""
    keys = list(_keys(array, first, last))
    if isinstance(array.store, LocalStore):
        # Without a trip to Zarr's event loop, which would cost a third of a small read.
        folder = os.path.join(array.store.root, array.path)
        there = [os.path.isfile(os.path.join(folder, key)) for key in keys]
    else:
        there = sync(_exist([array.store_path / key for key in keys]))
    for key, found in zip(keys, there, strict=True):
        if not found:
            raise StoreError(f"{_place(array, key)} is missing and would read as {array.fill_value}; {REMEDY}")


async def _exist(paths: list[Any]) -> list[bool]:
    return list(await asyncio.gather(*(path.exists() for path in paths)))


def _raise_damage(array: Any, first: int, last: int, error: Exception) -> NoReturn:
    """Raise StoreError for a read that failed, naming the first chunk that cannot be read by itself."""
    for key, row in _keys(array, first, last).items():
        try:
            array[row]
        except Exception as cause:
            raise StoreError(f"{_place(array, key)} is truncated or altered ({cause}); {REMEDY}") from cause
    raise StoreError(f"{array.store_path}: rows {first}:{last} cannot be read ({error}); {REMEDY}") from error


def put_json(location: str, name: str, value: Any) -> None:
    """Write a small JSON document beside the arrays, in one piece."""
    stores.put(location, name, json.dumps(value).encode())


def get_json(location: str, name: str) -> Any | None:
    """The JSON document of that name, None where there is none."""
    data = stores.get(location, name)
    return None if data is None else json.loads(data)
