"""Arrays that are one file on a local disk: Zarr's sharding codec, a single shard that holds all chunks.

A file costs the file system more than the chunk in it: mail and found lists of a round were thousands of them. In a
shard each chunk has its own crc32c as it would have as a file, and an index at the end says where chunks lie. Either
side may be Zarr (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html).
"""

from __future__ import annotations

import os
from io import FileIO
from typing import Any

import numpy as np
from zarr.codecs import ShardingCodec
from zarr.storage import LocalStore

from .chunks import CHECKSUM, Damage, checksum, path_of
from .files import created, name_aside, write_all

ENTRY = 16  # bytes of the index for each chunk: where it begins and how long it is, as little-endian uint64
NOWHERE = 2**64 - 1  # both numbers of a chunk that was never written
ABSENT, OUTSIDE = -1, -2  # what stands for the begin of a chunk that cannot be read


def direct(array: Any) -> bool:
    """Whether `array` is one local file of whole-row chunks, each with its checksum, and their index at its end."""
    codecs = list(getattr(getattr(array, "metadata", None), "codecs", ()))
    if not isinstance(getattr(array, "store", None), LocalStore) or list(map(type, codecs)) != [ShardingCodec]:
        return False
    settings = codecs[0].to_dict()["configuration"]
    return (
        array.dtype.byteorder != ">"
        and array.chunks[1:] == array.shards[1:] == array.shape[1:]
        and array.shards[0] >= array.shape[0]
        and settings["index_location"] == "end"
        and _checked(settings["codecs"])
        and _checked(settings["index_codecs"])
    )


def _checked(codecs: Any) -> bool:
    """Whether these documents of codecs mean little-endian values and their crc32c."""
    endian = [codec.get("configuration", {}).get("endian", "little") for codec in codecs]
    return [codec["name"] for codec in codecs] == ["bytes", "crc32c"] and set(endian) == {"little"}


def key_of(array: Any) -> str:
    """The key of the only shard."""
    key: str = array.metadata.encode_chunk_key((0,) * array.ndim)
    return key


class Writer:
    """Writes the chunks of a direct array one after the other, beside their place until the last one is there."""

    def __init__(self, array: Any) -> None:
        self._array, self._rows = array, 0
        self._path = path_of(array, key_of(array))
        self._aside = name_aside(self._path)
        self._file: FileIO | None = None

    def append(self, values: np.ndarray) -> None:
        """Write the next chunks, all of them whole except for the last of the array."""
        rows = self._array.chunks[0]
        values = np.ascontiguousarray(values, self._array.dtype)
        assert self._rows % rows == 0, "a chunk is written in one piece"
        for start in range(0, len(values), rows):
            part = values[start : start + rows]
            if len(part) < rows:
                assert self._rows + len(values) == self._array.shape[0], "only the last chunk may be short"
                rest = (rows - len(part), *part.shape[1:])
                part = np.concatenate([part, np.full(rest, self._array.fill_value, part.dtype)])
            self._write(part.reshape(-1).view(np.uint8))
        self._rows += len(values)

    def close(self) -> None:
        """Write the index and move the file to its place; an array without rows has no file."""
        assert self._rows == self._array.shape[0], "an array is written whole"
        if self._file is None:
            return
        count, size = _chunk_count(self._array), _chunk_bytes(self._array)
        index = np.empty((count, 2), "<u8")
        index[:, 0] = np.arange(count, dtype=np.uint64) * np.uint64(size)
        index[:, 1] = size
        self._write(index.reshape(-1).view(np.uint8))
        self._file.close()
        os.replace(self._aside, self._path)
        self._file = None

    def discard(self) -> None:
        """Delete what was written, unless it is at its place already."""
        if self._file is not None:
            self._file.close()
            self._file = None
            if os.path.exists(self._aside):
                os.unlink(self._aside)

    def _write(self, data: np.ndarray) -> None:
        if self._file is None:
            self._file = created(self._aside)
        write_all(self._file, [data.data, checksum(data)])


def read(array: Any, first: int, last: int) -> np.ndarray:
    """Rows first .. last of a direct array, 0 <= first < last <= length.

    Damage names the file, and says which of its chunks is not there or is not what was written.
    """
    key, rows = key_of(array), array.chunks[0]
    result = np.empty((last - first, *array.shape[1:]), array.dtype)
    out = result.reshape(-1).view(np.uint8)
    width = out.nbytes // len(result)
    chunk = first // rows
    try:
        with open(path_of(array, key), "rb", buffering=0) as file:
            begins = _begins(array, key, file)[chunk : -(-last // rows)]
            for run in np.split(begins, np.flatnonzero(np.diff(begins) != _chunk_bytes(array)) + 1):
                for data in _read_run(array, key, file, int(run[0]), chunk, len(run)):
                    start, stop = max(first, chunk * rows), min(last, (chunk + 1) * rows)
                    inside = data[(start - chunk * rows) * width : (stop - chunk * rows) * width]
                    out[(start - first) * width : (stop - first) * width] = inside
                    chunk += 1
    except FileNotFoundError:
        raise Damage(key, "is missing", missing=True) from None
    except OSError as error:
        raise Damage(key, str(error)) from error
    return result


def _chunk_count(array: Any) -> int:
    return int(array.shards[0] // array.chunks[0])


def _chunk_bytes(array: Any) -> int:
    return int(np.prod(array.chunks)) * int(array.dtype.itemsize) + CHECKSUM


def _begins(array: Any, key: str, file: FileIO) -> np.ndarray:
    """Where each chunk begins, int64[chunks]; ABSENT or OUTSIDE where there is none, or not inside the file."""
    length = _chunk_count(array) * ENTRY
    end = os.fstat(file.fileno()).st_size - length - CHECKSUM
    data = _read_bytes(file, end, length + CHECKSUM) if end >= 0 else b""
    if len(data) < length + CHECKSUM:
        raise Damage(key, f"it does not hold the {length + CHECKSUM} bytes of its index")
    index = np.frombuffer(data, np.uint8)
    if checksum(index[:length]) != bytes(data[length:]):
        raise Damage(key, "the checksum of its index does not match")
    begins, sizes = index[:length].view("<u8").reshape(-1, 2).T
    size = _chunk_bytes(array)
    result = begins.astype(np.int64)
    result[(sizes != size) | (begins > max(end - size, 0)) | (end < size)] = OUTSIDE
    result[(begins == NOWHERE) & (sizes == NOWHERE)] = ABSENT
    return result


def _read_run(array: Any, key: str, file: FileIO, begin: int, chunk: int, count: int) -> list[np.ndarray]:
    """The bytes of `count` chunks that lie side by side, from number `chunk` on, which begins at `begin`."""
    if begin == ABSENT:
        raise Damage(key, f"has no chunk {chunk}, which is missing", missing=True)
    if begin == OUTSIDE:
        raise Damage(key, f"chunk {chunk} does not lie inside the file")
    size = _chunk_bytes(array)
    data = np.frombuffer(_read_bytes(file, begin, count * size), np.uint8)
    if len(data) < count * size:
        raise Damage(key, f"it does not hold the {size} bytes of chunk {chunk + len(data) // size}")
    table = data.reshape(count, size)
    for number, row in enumerate(table, chunk):
        if checksum(row[:-CHECKSUM]) != row[-CHECKSUM:].tobytes():
            raise Damage(key, f"the checksum of chunk {number} does not match")
    return [row[:-CHECKSUM] for row in table]


def _read_bytes(file: FileIO, begin: int, length: int) -> memoryview:
    """`length` bytes from `begin` on, fewer where the file ends before."""
    data, done = memoryview(bytearray(length)), 0
    file.seek(begin)
    while done < length and (more := file.readinto(data[done:])):
        done += more
    return data[:done]
