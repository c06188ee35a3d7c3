"""Chunks of our own arrays on a local disk, read and written without the way through Zarr's event loop.

A build exchanges thousands of small pieces, and a call of Zarr costs a millisecond for each: a third of an out-of-core
build. The format is Zarr's own (uncompressed little-endian values, then their crc32c), so either side may be Zarr.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from io import FileIO
from typing import Any

import google_crc32c
import numpy as np
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import LocalStore

CHECKSUM = 4  # bytes


class Damage(Exception):
    """A chunk that is not what was written. key: of the chunk; missing: it is not there at all."""

    def __init__(self, key: str, reason: str, missing: bool = False) -> None:
        super().__init__(reason)
        self.key, self.missing = key, missing


def direct(array: Any) -> bool:
    """Whether the chunks of `array` are files that hold whole rows, their checksum, and nothing else."""
    if (
        not isinstance(getattr(array, "store", None), LocalStore)
        or array.chunks[1:] != array.shape[1:]
        or array.dtype.byteorder == ">"
    ):
        return False
    codecs = getattr(array.metadata, "codecs", ())
    return tuple(map(type, codecs)) == (BytesCodec, Crc32cCodec)


def read(array: Any, first: int, last: int) -> np.ndarray:
    """Rows first .. last of a direct array, 0 <= first < last <= length; Damage names the chunk that cannot be read."""
    rows = array.chunks[0]
    parts = []
    for chunk in range(first // rows, -(-last // rows)):
        begin = chunk * rows
        values = _read_chunk(array, _key(array, chunk))
        parts.append(values[max(first - begin, 0) : last - begin])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def write(array: Any, first: int, values: np.ndarray) -> None:
    """Write whole chunks of a direct array from row `first` on: a chunk is there whole or not at all."""
    rows = array.chunks[0]
    values = np.ascontiguousarray(values, array.dtype)
    assert first % rows == 0, "a chunk is written in one piece"
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        if len(part) < rows:
            assert first + len(values) == array.shape[0], "only the last chunk may be short"
            part = np.concatenate([part, np.full((rows - len(part), *part.shape[1:]), array.fill_value, part.dtype)])
        _write_chunk(array, _key(array, (first + start) // rows), part)


def _key(array: Any, chunk: int) -> str:
    key: str = array.metadata.encode_chunk_key((chunk, *(0,) * (array.ndim - 1)))
    return key


def checksum(values: np.ndarray) -> bytes:
    """The crc32c of contiguous values, as it stands behind them."""
    return int(google_crc32c.value(values.reshape(-1).view(np.uint8))).to_bytes(CHECKSUM, "little")


def path_of(array: Any, key: str) -> str:
    """The file of that key."""
    return os.path.join(array.store.root, array.path, key)


def _read_chunk(array: Any, key: str) -> np.ndarray:
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
    if done < values.nbytes or len(rest) != CHECKSUM:
        raise Damage(key, f"it does not hold the {values.nbytes + CHECKSUM} bytes it should")
    if checksum(values) != rest:
        raise Damage(key, "its checksum does not match")
    return values


def created(path: str) -> FileIO:
    """A new file; most chunks have neighbours in their folder, so it is looked for only where it is missing."""
    try:
        return open(path, "wb", buffering=0)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "wb", buffering=0)


def _write_chunk(array: Any, key: str, values: np.ndarray) -> None:
    write_file(path_of(array, key), [values.reshape(-1).view(np.uint8).data, checksum(values)])


def name_aside(path: str) -> str:
    """A name of its own under which a file is written before it is moved to its place: several may write the same."""
    return f"{path}.{uuid.uuid4().hex}.partial"


def write_all(file: FileIO, pieces: Sequence[bytes | memoryview]) -> None:
    """Write pieces one after the other, all of each."""
    for piece in pieces:
        done = 0
        while done < len(piece):
            done += file.write(piece[done:])


def write_file(path: str, pieces: Sequence[bytes | memoryview]) -> None:
    """Write a file aside and move it to its place: nobody sees half of it."""
    aside = name_aside(path)
    try:
        with created(aside) as file:
            write_all(file, pieces)
        os.replace(aside, path)
    except BaseException:
        if os.path.exists(aside):
            os.unlink(aside)
        raise
