"""Chunks of our own arrays, read and written without the way through Zarr: files directly, objects by one request each.

A build exchanges thousands of small pieces, and a call of Zarr costs a millisecond for each: a third of an out-of-core
build. The format is Zarr's own (uncompressed little-endian values, then their crc32c), so either side may be Zarr.
"""

from __future__ import annotations

import os
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
    result = np.empty((last - first, *array.shape[1:]), array.dtype)
    places = {}
    for chunk in range(first // rows, -(-last // rows)):
        begin = chunk * rows - first
        inside = begin >= 0 and begin + rows <= len(result)
        places[chunk] = result[begin : begin + rows] if inside else np.empty(array.chunks, array.dtype)
    _fill(array, {_key(array, chunk): values.reshape(-1).view(np.uint8) for chunk, values in places.items()})
    for chunk, values in places.items():
        if values.base is not result:
            begin = chunk * rows
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
        stores.send(
            array.store, {_object(array, key): (data.data, memoryview(checksum(data))) for key, data in parts.items()}
        )


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


def _fill(array: Any, wanted: dict[str, np.ndarray]) -> None:
    """Read the values of each chunk into the bytes wanted of it."""
    if in_files(array):
        rests: Any = (_read_file(array, key, body) for key, body in wanted.items())
    else:
        rests = stores.fetch(array.store, {_object(array, key): body for key, body in wanted.items()})
    for (key, body), rest in zip(wanted.items(), rests, strict=True):
        if rest is None:
            raise Damage(key, "is missing", missing=True)
        if len(rest) != CHECKSUM:
            raise Damage(key, f"it does not hold the {len(body) + CHECKSUM} bytes it should")
        if checksum(body) != rest:
            raise Damage(key, "its checksum does not match")


def _read_file(array: Any, key: str, body: np.ndarray) -> bytes | None:
    """Fill `body`, and return what follows it in the file; None where there is no such file."""
    view, done = memoryview(body), 0
    try:
        with open(path_of(array, key), "rb", buffering=0) as file:
            while done < len(view) and (more := file.readinto(view[done:])):
                done += more
            return file.read(CHECKSUM + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damage(key, str(error)) from error
