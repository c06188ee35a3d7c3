"""The index store: a Zarr v3 group with a search graph, and the files of it that workers map into their memory.

/          attribute "distnnd_index": all facts, written last and in one piece
/codes     int8[n, w]: rows as a search compares them; /rows: as exact distances take them; /edges int32[n, r]:
           positions, -1 at the end; /order int64[n]: the row id at each position
/pivots    int64[p]: positions where searches begin, ascending; /pieces int64[p]: a number for all that is
           reached from the same pivots

On a local disk an array is one chunk, hence one file of plain values with their crc32c behind them: any range of rows
can be mapped. It is written in ranges, beside its place, and moved there when all are. Elsewhere a chunk is a
partition, and what is opened is read, once a process.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import google_crc32c
import numpy as np

from ..values.errors import InUse, SpecError, StoreError
from . import arrays, chunks, facts, files, marks, stores
from .files import write_all

AT_ONCE = 2**22
NAMES = ("codes", "rows", "edges", "order", "pivots", "pieces")
REMEDY = "restore it from a copy, or build the index again"
KIND = facts.Kind(
    "index",
    "distnnd_index",
    "1.1",
    other="no finished index of distnnd; build it with build_index",
    damaged=REMEDY,
    outdated="build the index again from its graph",
)


# --- facts -----------------------------------------------------------------------------------------------


def facts_of(location: str) -> dict[str, Any]:
    """The facts of the index at `location`; StoreError if nothing is there, else errors as `facts.read` has them."""
    found = facts.read(location, KIND)
    if found is None:
        raise StoreError(f"there is no index at {location}")
    marks.checked(found.get("uuid"), location)
    return found


def found_at(location: str) -> dict[str, Any] | None:
    """The facts of a finished index, None if nothing is there, or one that was begun and will never be finished.

    SpecError if something else is there; InUse if a process of this machine is still at work on it.
    """
    mark = begun_at(location)
    if mark is None:
        try:
            return facts.read(location, KIND)
        except SpecError as error:
            raise SpecError(f"{location} exists and is no index of distnnd; choose another output") from error
    if mark.at_work:
        raise InUse(f"{location}: process {mark.pid} is making this index; wait for it, or choose another output")
    return None


def begun_at(location: str) -> marks.Mark | None:
    """The mark of an index that was begun and is not finished; None where there is none."""
    mark = marks.of(location)
    if mark is None or mark.kind != KIND.name:
        return None
    try:
        facts.read(location, KIND)
    except SpecError:
        return mark
    return None


def create(location: str, uuid: str) -> None:
    """Begin an index, in the place of one that was begun and never finished; SpecError if anything else is there."""
    left = begun_at(location)
    if left is not None:
        marks.remove(location, KIND.name, left.uuid)
    facts.create(location, KIND, attributes=marks.attributes(KIND.name, uuid, location))


def commit(location: str, known: dict[str, Any]) -> None:
    """Write the facts, which turn what was written into an index; InUse if another process has begun one here."""
    facts.commit(location, KIND, known)


def tidy(location: str, scratch: str) -> None:
    """Delete what only the making of an index needs, and what killed processes left, there or in the scratch."""
    stores.remove(location, "scratch")
    if stores.is_local(location):
        files.sweep(location)
    marks.sweep(location, scratch)


def drop(location: str) -> None:
    """Delete an index of ours, finished or only begun."""
    if begun_at(location) is not None or facts.read(location, KIND) is not None:
        marks.remove_store(location)


def abandon(location: str, uuid: str) -> None:
    """Delete the index that was begun with that uuid."""
    marks.remove(location, KIND.name, uuid)


# --- writing ---------------------------------------------------------------------------------------------


def create_array(location: str, name: str, shape: tuple[int, ...], dtype: Any, partition_rows: int) -> None:
    """A new array of the index, to be written by ranges of whole partitions and then sealed."""
    local = stores.is_local(location)
    rows = shape[0] if local else partition_rows
    array = arrays.create(location, name, shape, dtype, rows, ("row", "dim")[: len(shape)])
    if local:
        aside = _aside(array)
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        with open(aside, "wb") as file:
            file.truncate(_bytes_of(array))


def write(location: str, name: str, first: int, values: np.ndarray) -> None:
    """Write rows from `first` on, in whole partitions where the store is elsewhere."""
    array = arrays.opened(location, name, "r+")
    if not chunks.in_files(array):
        arrays.write(array, first, values)
        return
    values = np.ascontiguousarray(values, array.dtype)
    row = values.nbytes // max(len(values), 1)
    with open(_aside(array), "r+b", buffering=0) as file:
        file.seek(first * row)
        write_all(file, [values.reshape(-1).view(np.uint8).data])


def seal(location: str, name: str) -> None:
    """Put the checksum behind a local array, all of whose rows are written, and move it to its place."""
    array = arrays.opened(location, name)
    if not chunks.in_files(array):
        return
    aside = _aside(array)
    if os.path.exists(_path(array)) and not os.path.exists(aside):
        return
    with open(aside, "r+b") as file:
        crc = 0
        while piece := file.read(AT_ONCE):
            crc = google_crc32c.extend(crc, piece)
        file.write(int(crc).to_bytes(chunks.CHECKSUM, "little"))
    os.replace(aside, _path(array))


def _path(array: Any) -> str:
    return chunks.path_of(array, array.metadata.encode_chunk_key((0,) * array.ndim))


def _aside(array: Any) -> str:
    # All tasks write to the same file, each its own range, and a task that is done again writes the same.
    return f"{_path(array)}.unsealed"


def _bytes_of(array: Any) -> int:
    return int(np.prod(array.shape)) * int(array.dtype.itemsize)


# --- reading ---------------------------------------------------------------------------------------------


def rows_of(location: str, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
    """Rows first .. last of an array of the index, mapped where it is a local file, else read.

    What is mapped can be written to without effect on the file. StoreError names what is missing or truncated.
    """
    array = arrays.opened(location, name)
    last = array.shape[0] if last is None else last
    if not (chunks.direct(array) and chunks.in_files(array)) or array.chunks[0] < array.shape[0]:
        return arrays.read(array, first, last)
    path, row = _path(array), _bytes_of(array) // max(array.shape[0], 1)
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from error
    if size != _bytes_of(array) + chunks.CHECKSUM:
        raise StoreError(f"{path} has {size} bytes, not {_bytes_of(array) + chunks.CHECKSUM}; {REMEDY}")
    shape = (last - first, *array.shape[1:])
    if 0 in shape:
        return np.empty(shape, array.dtype)
    # Not "r": kernels are compiled for arrays that may be written to.
    mapped = np.memmap(path, array.dtype, "c", offset=first * row, shape=shape)
    return np.asarray(mapped).view(np.ndarray)


class Reader:
    """The arrays of an index as one process holds them: mapped where they are local files, elsewhere read and kept."""

    def __init__(self, location: str, room: int | None) -> None:
        """room: bytes that may be kept of what was read, None for all; what was asked for longest ago goes first."""
        self._location, self._room = location, room
        self._opened: dict[str, Any] = {}
        self._kept: dict[tuple[str, int, int], np.ndarray] = {}
        self._lock = threading.Lock()

    def rows(self, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
        """Rows first .. last of an array of the index, as `rows_of` has them."""
        if stores.is_local(self._location):
            return rows_of(self._location, name, first, last)
        # Threads that ask for the same wait for the one that reads it.
        with self._lock:
            if name not in self._opened:
                self._opened[name] = arrays.opened(self._location, name)
            array = self._opened[name]
            asked = name, first, array.shape[0] if last is None else last
            rows = self._kept.pop(asked, None)
            if rows is None:
                fits = self._make_room(_bytes_of(array) * (asked[2] - first) // max(array.shape[0], 1))
                rows = arrays.read(array, first, asked[2])
                if not fits:
                    return rows
            self._kept[asked] = rows
            return rows

    def _make_room(self, size: int) -> bool:
        """Let go of what was asked for longest ago until so many bytes fit; whether they do."""
        if self._room is None:
            return True
        while self._kept and sum(rows.nbytes for rows in self._kept.values()) + size > self._room:
            del self._kept[next(iter(self._kept))]
        return size <= self._room


def chunks_of(location: str) -> list[tuple[str, int, int]]:
    """Every chunk of the index: the array it is of, its first row and the end."""
    opened = {name: arrays.opened(location, name) for name in NAMES}
    return [
        (name, first, min(array.shape[0], first + array.chunks[0]))
        for name, array in opened.items()
        for first in range(0, array.shape[0], array.chunks[0])
    ]


def read_chunk(location: str, name: str, first: int, last: int) -> int:
    """Read such a chunk against its checksum and return its bytes; StoreError where it is damaged."""
    return int(arrays.read(arrays.opened(location, name), first, last).nbytes)
