"""The scratch of a build: sampled rows, pivots, routed rows and found lists, each written once by one task.

    sample/<block>, probes/<block>  rows of the block to choose pivots from, or to be solved     scan    -> collect
    sample/all, probes/all          the same of all blocks                                      collect -> draw, probe
    truth/<block>, truth/all        nearest rows to every probe row, in the block and of all    probe   -> merge
    truth/near                      their ids, where rows travel as float16                     truth   -> merge
    <round>/pivots/...              pivots, and the partition of each                           draw    -> route
    <round>/way/...                 how distances to them are reckoned, and how far rows look   draw    -> route
    <round>/guide/...               the few columns by which rows find leaves of the whole set  draw    -> route
    <round>/narrow/...              the columns by which wide rows are compared in partitions   draw    -> local
    <round>/settle/<block>, all     what the round before says of rows that may stay at home    settle  -> route
    <round>/settled/<block>         which rows have their neighbours, and who is wanted         route   -> settle
    <round>/mail/<block>/...        rows of the block, copied and sorted by partition           route   -> local
    <round>/listed/<block>/...      what these rows list, if they are sparse                    route   -> local
    <round>/found/<unit>/...        lists of the rows of a unit, in the order of its mail       local   -> merge

Rows are mailed as they were read; or prepared, as steps from the middle of what goes to the same partition, where they
are asked to travel as float16 (stages/wire.py).

What was drawn and which rows are settled is kept until the next round is done.

Mail and found lists are records, the columns of a row side by side in one array of bytes: a unit reads a slice of every
block, and each slice should cost one call, not one for each column. On a local disk such an array is one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..values.errors import StoreError
from ..values.memory import WRITTEN_AT_ONCE
from . import arrays, documents, marks, shards, stores

KIND = "scratch"
# Smaller chunks cost more in calls than they save in bytes.
LEAST_CHUNK = 32768


def create(scratch: str, uuid: str, output: str) -> None:
    """Make the scratch of the build with that uuid, if it is not there; StoreError if something else is."""
    text = documents.group_text(marks.attributes(KIND, uuid, output)).encode()
    if stores.is_vacant(scratch) and stores.put_new(scratch, marks.DOCUMENT, text):
        return
    if not is_of(scratch, uuid):
        raise StoreError(f"{scratch} exists and is not the scratch of this build; name another scratch directory")


def is_of(scratch: str, uuid: str) -> bool:
    """Whether there is a scratch of the build with that uuid."""
    mark = marks.of(scratch)
    return mark is not None and (mark.kind, mark.uuid) == (KIND, uuid)


def holds(scratch: str, place: str) -> bool:
    """Whether there is an array at a place of the scratch."""
    return documents.stands(scratch, place)


def drop(scratch: str, place: str) -> None:
    """Delete everything below `place`."""
    stores.remove(scratch, place)
    arrays.opened_once.cache_clear()


def drop_round(scratch: str, number: int) -> None:
    """Delete the mail of a round that is committed, and what the next would have asked of the round before it."""
    for what in ("settle", "mail", "listed", "found"):
        drop(scratch, f"{number}/{what}")
    if number > 1:
        drop(scratch, str(number - 1))


def discard(scratch: str, uuid: str) -> None:
    """Delete the whole scratch of the build with that uuid; nothing if there is something else."""
    marks.remove(scratch, KIND, uuid)
    arrays.opened_once.cache_clear()


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


def mail_record(dtype: str, d: int | None, width: int, roles: bool, leaves: int = 0) -> np.dtype[Any]:
    """A routed row: its number in its block, its points, its present list if it has one, its role if roles differ.

    leaves: how many of the whole set it names, int32, in which it stands. d: None for sparse rows, of which only the
    length is told, and what they list stands elsewhere.
    """
    points = ("length", "<i4") if d is None else ("points", np.dtype(dtype).newbyteorder("<"), (d,))
    columns: list[Any] = [("row", "<i4"), points]
    columns += found_record(width).descr if width else []
    columns += [("leaves", "<i4", (leaves,))] if leaves else []
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
        shape, dims = (length, record.itemsize), ("row", "byte")
        self._target = arrays.create(scratch, f"{place}/records", shape, np.uint8, self._chunk, dims, ".", True)
        self._shard = shards.Writer(self._target) if shards.direct(self._target) else None
        self._length, self._at = length, 0
        self._begun = np.empty((0, record.itemsize), np.uint8)

    def append(self, records: np.ndarray) -> None:
        """Add the next records, a structured array."""
        rows = _as_bytes(records)
        if len(self._begun):
            taken = self._chunk - len(self._begun)
            self._begun, rows = np.concatenate([self._begun, rows[:taken]]), rows[taken:]
            if len(self._begun) < self._chunk:
                return
            self._write(self._begun)
        whole = len(rows) - len(rows) % self._chunk
        self._write(rows[:whole])
        self._begun = rows[whole:].copy()

    def close(self) -> None:
        """Write what is pending; AssertionError if fewer records came than were announced."""
        came = self._at + len(self._begun)
        assert came == self._length, f"{came} of {self._length} records written"
        self._write(self._begun)
        if self._shard is not None:
            self._shard.close()

    def __enter__(self) -> RecordWriter:
        """The writer itself; when the block ends it is closed, or what it wrote is deleted if the block failed."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close, or clean up: a file that will never be whole only takes space."""
        try:
            if kind is None:
                self.close()
        finally:
            # After close() there is nothing left to discard.
            if self._shard is not None:
                self._shard.discard()

    def _write(self, rows: np.ndarray) -> None:
        if self._shard is not None:
            self._shard.append(rows)
        else:
            arrays.write(self._target, self._at, rows)
        self._at += len(rows)


def read_records(scratch: str, place: str, record: np.dtype[Any], first: int, last: int) -> np.ndarray:
    """Records first .. last below `place`, as a structured array."""
    return np.ascontiguousarray(arrays.read(arrays.opened_once(scratch, f"{place}/records"), first, last)).view(record)[
        :, 0
    ]


def offsets(scratch: str, number: int, blocks: int) -> np.ndarray:
    """Where each partition's mail begins in each block's: int64[blocks, partitions + 1]."""
    return np.stack([read(scratch, f"{number}/mail/{block}", "starts") for block in range(blocks)])


def partition_of(starts: np.ndarray, first: int, last: int) -> np.ndarray:
    """To which partition each of the copies first .. last of a block goes, by where each one's begin: int64[m]."""
    return np.searchsorted(starts, np.arange(first, last), side="right") - 1


def _as_bytes(records: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(records).view(np.uint8).reshape(len(records), records.dtype.itemsize)
