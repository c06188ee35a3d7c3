"""Dask arrays: points that come lazily, and graphs that are read so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dask
from distributed.scheduler import KilledWorker

from ..values.errors import DistnndError, StageError
from .clients import is_forked, told_if_lost
from .cluster import DaskExecutor
from .serial import Executor, SerialExecutor


def with_checked_chunks(array: Any, check: Callable[[Any, tuple[int, ...], tuple[int, ...]], Any], dtype: Any) -> Any:
    """The array with check(chunk, place, shape as the array says it) in the place of each chunk, where it is computed.

    dtype: of what comes out, None for that of the array.
    """
    return array.map_blocks(_checked, check=check, dtype=dtype or array.dtype, meta=array._meta)


def _checked(chunk: Any, check: Callable[..., Any], block_info: Any = None) -> Any:
    told = block_info[0]
    return check(chunk, told["chunk-location"], tuple(stop - start for start, stop in told["array-location"]))


def packed_lazily(source: Any, pack: Callable[[Any], Any], columns: int) -> Any:
    """A dask array of truths with its rows packed, each to so many bytes."""
    whole = source.rechunk({1: -1})
    return whole.map_blocks(pack, dtype="uint8", chunks=(whole.chunks[0], (columns,)))


def store_lazily(executor: Executor, collection: Any, target: Any) -> None:
    """Write a dask array into a Zarr array, on the executor's cluster, chunk by chunk; raises as computed()."""
    computed(executor, collection.rechunk((target.chunks[0], -1)).store(target, lock=False, compute=False))


def blocks_of_rows(executor: Executor, array: Any) -> Iterator[Any]:
    """The chunks of a dask array in the order of their rows, whole rows each, one at a time; raises as computed()."""
    whole = array.rechunk({1: -1})
    for place in range(whole.numblocks[0]):
        if whole.chunks[0][place]:
            yield computed(executor, whole.blocks[place, 0])


def computed(executor: Executor, collection: Any) -> Any:
    """What a dask collection comes to, computed on the executor's cluster, or else in threads of this process.

    Errors of the project pass as they are; StageError for others.
    """
    try:
        if isinstance(executor, DaskExecutor):
            with told_if_lost(executor.client):
                return executor.client.compute(collection, sync=True)
        # Dask's threads do not outlive a fork.
        here = "sync" if isinstance(executor, SerialExecutor) or is_forked() else "threads"
        (value,) = dask.compute(collection, scheduler=here)
        return value
    except DistnndError:
        raise
    except KilledWorker as error:
        raise StageError(
            "the points of the dask array could not be computed: a chunk lost its worker several times; give workers "
            "more memory, or make chunks smaller"
        ) from error
    except Exception as error:
        raise StageError(f"the points of the dask array could not be computed: {error!r}") from error


def lazy_blocks(array: Any) -> Any:
    """A Zarr array as a lazy dask array, a chunk a chunk."""
    import dask.array

    return dask.array.from_zarr(array)
