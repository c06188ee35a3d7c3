"""The scratch of a build: sampled rows, pivots, routed rows and found lists, each written once by one task.

    sample/<block>, probes/<block>  rows of the block to choose pivots from, or to be solved     scan    -> collect
    sample/all, probes/all          the same of all blocks                                      collect -> draw, probe
    truth/<block>, truth/all        nearest rows to every probe row, in the block and of all    probe   -> merge
    <round>/pivots/...              pivots, and the partition of each                           draw    -> route
    <round>/mail/<block>/...        rows of the block, copied and sorted by partition           route   -> local
    <round>/found/<unit>/...        lists of the rows of a unit, in the order of its mail       local   -> merge

Mail and found lists are records, the columns of a row side by side in one array of bytes: a unit reads a slice of every
block, and each slice should cost one call, not one for each column.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import zarr

from ..values.memory import WRITTEN_AT_ONCE
from . import arrays

# Smaller chunks cost more in calls than they save in bytes.
LEAST_CHUNK = 32768


def create(scratch: str) -> None:
    """Make the scratch group, if it is not there."""
    zarr.open_group(store=scratch, mode="a")


def drop(scratch: str, place: str) -> None:
    """Delete everything below `place`, a round's mail once the round is committed."""
    arrays.remove(scratch, place)
    arrays.opened_once.cache_clear()


def discard(scratch: str) -> None:
    """Delete the whole scratch of a build."""
    drop(scratch, "")
    if "://" not in scratch:
        shutil.rmtree(scratch, ignore_errors=True)


def strips(first: int, last: int, rows: int) -> Iterator[tuple[int, int]]:
    """first .. last in pieces of at most `rows`."""
    for start in range(first, last, rows):
        yield start, min(last, start + rows)


def write(scratch: str, place: str, columns: Mapping[str, np.ndarray]) -> None:
    """Write arrays of equal length side by side below `place`."""
    for name, values in columns.items():
        row = max(1, values.nbytes // max(len(values), 1))
        dims = ("row", *["dim"] * (values.ndim - 1))
        chunk = max(1, WRITTEN_AT_ONCE // row)
        target = arrays.create(scratch, f"{place}/{name}", values.shape, values.dtype, chunk, dims, ".")
        arrays.write(target, 0, values)


def read(scratch: str, place: str, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
    """Rows first .. last of one column below `place`."""
    array = arrays.opened_once(scratch, f"{place}/{name}")
    return arrays.read(array, first, array.shape[0] if last is None else last)


def mail_record(dtype: str, d: int, width: int, roles: bool) -> np.dtype[Any]:
    """A routed row: its number in its block, its points, its present list if it has one, its role if roles differ."""
    columns: list[Any] = [("row", "<i4"), ("points", np.dtype(dtype).newbyteorder("<"), (d,))]
    columns += found_record(width).descr if width else []
    return np.dtype(columns + ([("role", "u1")] if roles else []))


def found_record(width: int) -> np.dtype[Any]:
    """A neighbour list as it travels: ids int64[width], surrogates float32[width]."""
    return np.dtype([("ids", "<i8", (width,)), ("distances", "<f4", (width,))])


class RecordWriter:
    """Records of a known number, written from the front in strips that need not meet chunk borders."""

    def __init__(self, scratch: str, place: str, length: int, record: np.dtype[Any], read_at_once: int) -> None:
        """read_at_once: about how many records will be read together, which is how many a chunk should hold."""
        most = max(1, WRITTEN_AT_ONCE // record.itemsize)
        least = max(1, LEAST_CHUNK // record.itemsize)
        self._chunk = min(most, max(least, read_at_once))
        shape = (length, record.itemsize)
        self._target = arrays.create(scratch, f"{place}/records", shape, np.uint8, self._chunk, ("row", "byte"), ".")
        self._length, self._at = length, 0
        self._pending: list[np.ndarray] = []

    def append(self, records: np.ndarray) -> None:
        """Add the next records, a structured array."""
        self._pending.append(_as_bytes(records))
        waiting = sum(map(len, self._pending))
        self._write(waiting - (self._at + waiting) % self._chunk)

    def close(self) -> None:
        """Write what is pending; AssertionError if fewer records came than were announced."""
        waiting = sum(map(len, self._pending))
        assert self._at + waiting == self._length, f"{self._at + waiting} of {self._length} records written"
        self._write(waiting)

    def _write(self, ready: int) -> None:
        if ready <= 0:
            return
        rows = np.concatenate(self._pending)
        arrays.write(self._target, self._at, rows[:ready])
        self._pending = [rows[ready:].copy()] if ready < len(rows) else []
        self._at += ready


def read_records(scratch: str, place: str, record: np.dtype[Any], first: int, last: int) -> np.ndarray:
    """Records first .. last below `place`, as a structured array."""
    return np.ascontiguousarray(arrays.read(arrays.opened_once(scratch, f"{place}/records"), first, last)).view(record)[
        :, 0
    ]


def offsets(scratch: str, number: int, blocks: int) -> np.ndarray:
    """Where each partition's mail begins in each block's: int64[blocks, partitions + 1]."""
    return np.stack([read(scratch, f"{number}/mail/{block}", "starts") for block in range(blocks)])


def _as_bytes(records: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(records).view(np.uint8).reshape(len(records), records.dtype.itemsize)
