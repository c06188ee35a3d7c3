"""The scratch of a round: sampled rows, pivots, routed rows and found lists, each written once by one task.

sample/<block>/points      rows of the block that were drawn to choose pivots from     scan   -> draw
probes/<block>/points      rows of the block that are solved exactly                   scan   -> probe
truth/<block>/...          nearest rows of the block for every probe row               probe  -> build
<round>/pivots/...         pivots by partition                                         draw   -> route
<round>/mail/<block>/...   rows of the block, copied and sorted by partition           route  -> local
<round>/found/<unit>/...   lists of the rows of a unit, in the order of its mail       local  -> merge
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zarr

from ..values.memory import WRITTEN_AT_ONCE
from . import arrays

# Smaller chunks cost more in calls than they save in bytes.
LEAST_CHUNK = 65536


def write(scratch: str, place: str, columns: Mapping[str, np.ndarray], chunk_rows: int | None = None) -> None:
    """Write arrays of equal length side by side below `place`; chunk_rows: about what will be read at a time."""
    for name, values in columns.items():
        rows = _rows_of_chunk(_row_bytes(values.dtype, values.shape[1:]), chunk_rows)
        target = _create(scratch, f"{place}/{name}", len(values), values.shape[1:], values.dtype, rows)
        if len(values):
            target[:] = values


class Writer:
    """Arrays of a known length below `place`, written in strips from the front; strips need not meet chunk borders."""

    def __init__(
        self,
        scratch: str,
        place: str,
        length: int,
        columns: Mapping[str, tuple[Any, tuple[int, ...]]],
        chunk_rows: int,
    ) -> None:
        """columns: name -> (dtype, shape of one row)."""
        # One chunk length for all columns, so that a strip ends at a chunk's border in each of them.
        rows = _rows_of_chunk(max(_row_bytes(*column) for column in columns.values()), chunk_rows)
        self._targets = {
            name: _create(scratch, f"{place}/{name}", length, shape, dtype, rows)
            for name, (dtype, shape) in columns.items()
        }
        self._length, self._at = length, 0
        self._pending: dict[str, list[np.ndarray]] = {name: [] for name in columns}

    def append(self, strip: Mapping[str, np.ndarray]) -> None:
        """Add the next rows: an array for each column."""
        for name, values in strip.items():
            self._pending[name].append(values)
        self._flush(everything=False)

    def close(self) -> None:
        """Write what is pending; AssertionError if fewer rows came than were announced."""
        self._flush(everything=True)
        assert self._at == self._length, f"{self._at} of {self._length} rows written"

    def _flush(self, everything: bool) -> None:
        waiting = sum(map(len, next(iter(self._pending.values()))))
        chunk = next(iter(self._targets.values())).chunks[0]
        ready = waiting if everything else waiting - (self._at + waiting) % chunk
        if ready <= 0:
            return
        for name, target in self._targets.items():
            parts = self._pending[name]
            values = parts[0] if len(parts) == 1 else np.concatenate(parts)
            target[self._at : self._at + ready] = values[:ready]
            self._pending[name] = [values[ready:].copy()] if ready < waiting else []
        self._at += ready


def _rows_of_chunk(row_bytes: int, wanted: int | None) -> int:
    most = max(1, WRITTEN_AT_ONCE // row_bytes)
    least = max(1, LEAST_CHUNK // row_bytes)
    return most if wanted is None else min(most, max(least, wanted))


def _row_bytes(dtype: Any, shape: tuple[int, ...]) -> int:
    return max(1, np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64)))


def _create(scratch: str, name: str, length: int, shape: tuple[int, ...], dtype: Any, rows: int) -> Any:
    return arrays.create(scratch, name, (length, *shape), dtype, rows, ("row", *["dim"] * len(shape)))


def read(scratch: str, place: str, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
    """Rows first .. last of one column below `place`."""
    stop = arrays.opened(scratch, f"{place}/{name}").shape[0] if last is None else last
    return arrays.read(scratch, f"{place}/{name}", first, stop)


def strips(first: int, last: int, rows: int) -> Iterator[tuple[int, int]]:
    """first .. last in pieces of at most `rows`."""
    for start in range(first, last, rows):
        yield start, min(last, start + rows)


def create(scratch: str) -> None:
    """Make the scratch group, if it is not there."""
    zarr.open_group(store=scratch, mode="a")


def drop(scratch: str, place: str) -> None:
    """Delete everything below `place`: a round's mail once the round is committed, or the whole scratch (\"\")."""
    arrays.remove(scratch, place)
    arrays.opened.cache_clear()


def offsets(scratch: str, number: int, blocks: int) -> np.ndarray:
    """Where each partition's mail begins in each block's: int64[blocks, partitions + 1]."""
    return np.stack([read(scratch, f"{number}/mail/{block}", "starts") for block in range(blocks)])
