"""Zarr arrays as this project writes them: whole row chunks, uncompressed, each chunk with its crc32c.

Vectors and distances hardly compress, and a checksum turns a flipped bit into an error. Fill values are impossible
values (-1 for ids, NaN for distances), since Zarr reads a missing chunk as fill value without an error.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ..values.errors import StoreError


def fill_of(dtype: np.dtype[Any]) -> Any:
    """A value that no finished array of `dtype` holds, where the dtype has one."""
    if dtype.kind == "f":
        return np.nan
    return -1 if dtype.kind == "i" and dtype.itemsize > 1 else 0


def create(
    location: str, name: str, shape: tuple[int, ...], dtype: Any, chunk_rows: int, dims: tuple[str, ...]
) -> Any:
    """A new array at location/name, cut along its first axis only; what a dead attempt left there is replaced."""
    kind = np.dtype(dtype)
    return zarr.create_array(
        store=location,
        name=name,
        shape=shape,
        dtype=kind,
        chunks=(max(1, min(chunk_rows, max(shape[0], 1))), *shape[1:]),
        compressors=[Crc32cCodec()],
        fill_value=fill_of(kind),
        dimension_names=dims,
        config={"write_empty_chunks": True},
        overwrite=True,
    )


@lru_cache(maxsize=4096)
def opened(location: str, name: str) -> Any:
    """The array at location/name for reading, opened once a process: scratch names are never used twice."""
    try:
        return zarr.open_array(store=location, path=name, mode="r")
    except Exception as error:
        raise StoreError(f"{location}/{name} cannot be opened: {error}") from error


def read(location: str, name: str, first: int, last: int) -> np.ndarray:
    """Rows first .. last of an array of ours; StoreError names it if a chunk is damaged."""
    try:
        return np.asarray(opened(location, name)[first:last])
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(
            f"{location}/{name} is damaged within rows {first}:{last} ({error}); "
            "delete the graph store and build it again, or restore it from a copy"
        ) from error


def _key(group: Any, name: str) -> str:
    return f"{group.path}/{name}" if group.path else name


def put_json(location: str, name: str, value: Any) -> None:
    """Write a small JSON document beside the arrays, atomically where the store is."""
    group = zarr.open_group(store=location, mode="a")
    data = default_buffer_prototype().buffer.from_bytes(json.dumps(value).encode())
    sync(group.store.set(_key(group, name), data))


def get_json(location: str, name: str) -> Any | None:
    """The JSON document of that name, None where there is none."""
    try:
        group = zarr.open_group(store=location, mode="r")
    except FileNotFoundError:
        return None
    data = sync(group.store.get(_key(group, name), default_buffer_prototype()))
    return None if data is None else json.loads(data.to_bytes())


def remove(location: str, name: str) -> None:
    """Delete everything below location/name."""
    group = zarr.open_group(store=location, mode="a")
    sync(group.store.delete_dir(_key(group, name)))
