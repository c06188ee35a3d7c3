"""Chunks of our own arrays, read and written without the way through Zarr: files directly, objects by one request each.

A build exchanges thousands of small pieces, and a call of Zarr costs a millisecond for each: a third of an out-of-core
build. The format is Zarr's own (uncompressed little-endian values, then their crc32c), so either side may be Zarr.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import LocalStore

from . import stores
from .files import write_file

CHECKSUM = 4  # bytes


class Damage(Exception):
    """A chunk that is not what was written. key: of the chunk; missing: it is not there at all."""

    def __init__(self, key: str, reason: str, missing: bool = False) -> None:
        super().__init__(reason)
        self.key, self.missing = key, missing


def direct(array: Any) -> bool:
    """Whether the chunks of `array` hold whole rows, their checksum, and nothing else."""
    if not isinstance(array, zarr.Array) or array.chunks[1:] != array.shape[1:] or array.dtype.byteorder == ">":
        return False
    codecs = getattr(array.metadata, "codecs", ())
    return tuple(map(type, codecs)) == (BytesCodec, Crc32cCodec)


def in_files(array: Any) -> bool:
    """Whether the chunks of `array` are files on a local disk."""
    return isinstance(getattr(array, "store", None), LocalStore)


def read(array: Any, first: int, last: int) -> np.ndarray:
    """Rows first .. last of a direct array, 0 <= first < last <= length; Damage names the chunk that cannot be read."""
    rows = array.chunks[0]
    numbers = range(first // rows, -(-last // rows))
    if len(numbers) == 1:
        values, begin = next(_whole_chunks(array, numbers)), numbers[0] * rows
        values = values[first - begin : last - begin]
        # Kernels are compiled for arrays that may be written to.
        return np.require(values, requirements=["C", "A", "W"])
    result = np.empty((last - first, *array.shape[1:]), array.dtype)
    for number, values in zip(numbers, _whole_chunks(array, numbers), strict=True):
        begin = number * rows
        start, stop = max(first, begin), min(last, begin + rows)
        result[start - first : stop - first] = values[start - begin : stop - begin]
    return result


def write(array: Any, first: int, values: np.ndarray) -> None:
    """Write whole chunks of a direct array from row `first` on: a chunk is there whole or not at all."""
    rows = array.chunks[0]
    values = np.ascontiguousarray(values, array.dtype)
    assert first % rows == 0, "a chunk is written in one piece"
    parts = {}
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        if len(part) < rows:
            assert first + len(values) == array.shape[0], "only the last chunk may be short"
            part = np.concatenate([part, np.full((rows - len(part), *part.shape[1:]), array.fill_value, part.dtype)])
        parts[_key(array, (first + start) // rows)] = part.reshape(-1).view(np.uint8)
    if in_files(array):
        for key, data in parts.items():
            write_file(path_of(array, key), [data.data, checksum(data)])
    else:
        stores.send(array.store, {_object(array, key): (data.data, checksum(data)) for key, data in parts.items()})


def _key(array: Any, chunk: int) -> str:
    key: str = array.metadata.encode_chunk_key((chunk, *(0,) * (array.ndim - 1)))
    return key


def checksum(values: np.ndarray) -> bytes:
    """The crc32c of contiguous values, as it stands behind them."""
    return int(google_crc32c.value(values.reshape(-1).view(np.uint8))).to_bytes(CHECKSUM, "little")


def path_of(array: Any, key: str) -> str:
    """The file of that key."""
    return os.path.join(array.store.root, array.path, key)


def _object(array: Any, key: str) -> str:
    """The object of that key."""
    path: str = (array.store_path / key).path
    return path


def _whole_chunks(array: Any, numbers: range) -> Iterator[np.ndarray]:
    """The values of chunks, one after the other; some may be views that cannot be written to."""
    keys = [_key(array, number) for number in numbers]
    if in_files(array):
        yield from (_read_file(array, key) for key in keys)
        return
    for some in (keys[at : at + stores.AT_ONCE] for at in range(0, len(keys), stores.AT_ONCE)):
        objects = stores.fetch(array.store, [_object(array, key) for key in some])
        yield from (_decoded(array, key, data) for key, data in zip(some, objects, strict=True))


def _read_file(array: Any, key: str) -> np.ndarray:
    values = np.empty(array.chunks, array.dtype)
    view = memoryview(values.reshape(-1).view(np.uint8))
    try:
        with open(path_of(array, key), "rb", buffering=0) as file:
            done = 0
            while done < values.nbytes and (more := file.readinto(view[done:])):
                done += more
            rest = file.read(CHECKSUM + 1)
    except FileNotFoundError:
        raise Damage(key, "is missing", missing=True) from None
    except OSError as error:
        raise Damage(key, str(error)) from error
    _check(key, values.reshape(-1).view(np.uint8)[:done], values.nbytes, rest)
    return values


def _decoded(array: Any, key: str, data: np.ndarray | None) -> np.ndarray:
    """The values of an object's bytes."""
    if data is None:
        raise Damage(key, "is missing", missing=True)
    length = int(np.prod(array.chunks)) * int(array.dtype.itemsize)
    _check(key, data[:length], length, data[length:].tobytes())
    values: np.ndarray = data[:length].view(array.dtype).reshape(array.chunks)
    return values


def _check(key: str, body: np.ndarray, length: int, rest: bytes) -> None:
    """Damage unless `body` has `length` bytes, and `rest` is their checksum."""
    if len(body) < length or len(rest) != CHECKSUM:
        raise Damage(key, f"it does not hold the {length + CHECKSUM} bytes it should")
    if checksum(body) != rest:
        raise Damage(key, "its checksum does not match")
