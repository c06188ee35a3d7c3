"""Dask arrays: points that come lazily, and graphs that are read so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask

from ..values.errors import SpecError
from ..values.spec import DTYPES
from .cluster import DaskExecutor
from .serial import Executor, SerialExecutor


def shape_of(source: Any) -> tuple[int, int, str]:
    """Rows, columns and dtype that a dask array is read with as points; SpecError unless it has two dimensions."""
    if source.ndim != 2:
        raise SpecError(f"points are a 2-d array, this dask array has shape {source.shape}")
    kept = source.dtype.name in DTYPES
    name = source.dtype.name if kept else "float32" if source.dtype.itemsize <= 2 else "float64"
    return int(source.shape[0]), int(source.shape[1]), name


def packed_lazily(source: Any, pack: Callable[[Any], Any], columns: int) -> Any:
    """A dask array of truths with its rows packed, each to so many bytes; one of anything else as it is."""
    if source.dtype != bool or source.ndim != 2:
        return source
    whole = source.rechunk({1: -1})
    return whole.map_blocks(pack, dtype="uint8", chunks=(whole.chunks[0], (columns,)))


def store_lazily(executor: Executor, collection: Any, target: Any) -> None:
    """Write a dask array into a Zarr array, on the executor's cluster, chunk by chunk."""
    lazy = collection.rechunk((target.chunks[0], -1)).store(target, lock=False, compute=False)
    if isinstance(executor, DaskExecutor):
        executor.client.compute(lazy, sync=True)
    else:
        dask.compute(lazy, scheduler="sync" if isinstance(executor, SerialExecutor) else "threads")


def lazy_blocks(array: Any) -> Any:
    """A Zarr array as a lazy dask array, a chunk a chunk."""
    import dask.array

    return dask.array.from_zarr(array)
