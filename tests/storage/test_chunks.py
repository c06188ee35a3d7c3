"""Chunks that are read and written directly are those that Zarr reads and writes, byte for byte, and damage is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from distnnd.storage import arrays, chunks
from distnnd.values.errors import StoreError

ROWS, WIDTH, CHUNK = 23, 5, 8


@pytest.fixture(params=[".", "/"])
def array(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An empty array of three chunks, the last of them short."""
    return arrays.create(str(tmp_path / "s"), "a", (ROWS, WIDTH), np.float32, CHUNK, ("row", "x"), request.param)


def numbers() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)


def files(array: Any) -> dict[str, bytes]:
    folder = Path(array.store.root) / array.path
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_direct_and_zarr_write_the_same_files(array: Any) -> None:
    assert chunks.direct(array)
    chunks.write(array, 0, numbers())
    ours = files(array)
    array[:] = 0
    array[:] = numbers()
    assert files(array) == ours
    assert len(ours) == 4


@pytest.mark.parametrize(("first", "last"), [(0, 23), (0, 8), (3, 5), (7, 17), (16, 23), (22, 23)])
def test_direct_reads_what_zarr_wrote(array: Any, first: int, last: int) -> None:
    array[:] = numbers()
    got = chunks.read(array, first, last)
    assert np.array_equal(got, numbers()[first:last])
    assert got.flags.writeable
    assert np.array_equal(arrays.read(array, first, last), got)


def test_some_chunks_at_a_time(array: Any) -> None:
    for first in (16, 0, 8):
        chunks.write(array, first, numbers()[first : first + CHUNK])
    assert np.array_equal(array[:], numbers())


def test_half_a_chunk_is_refused(array: Any) -> None:
    with pytest.raises(AssertionError, match="in one piece"):
        chunks.write(array, 4, numbers()[4:8])
    with pytest.raises(AssertionError, match="only the last"):
        chunks.write(array, 0, numbers()[:4])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda data: data[:-1], "should"),
        (lambda data: data[:7], "should"),
        (lambda data: data + b"x", "should"),
        (lambda data: b"", "should"),
        (lambda data: data[:9] + bytes([data[9] ^ 4]) + data[10:], "checksum"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 4]), "checksum"),
    ],
)
def test_damage_is_named(array: Any, harm: Any, said: str) -> None:
    chunks.write(array, 0, numbers())
    key = array.metadata.encode_chunk_key((1, 0))
    path = Path(array.store.root) / array.path / key
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(StoreError, match=f"{key} is truncated or altered .*{said}"):
        arrays.read(array, 0, ROWS)
    assert np.array_equal(arrays.read(array, 0, CHUNK), numbers()[:CHUNK])
    path.unlink()
    with pytest.raises(StoreError, match=f"{key} is missing"):
        arrays.read(array, 7, 9)


def test_a_failed_write_leaves_nothing_behind(array: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chunks.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        chunks.write(array, 0, numbers())
    assert set(files(array)) == {"zarr.json"}


def test_other_layouts_go_through_zarr(tmp_path: Path) -> None:
    packed = zarr.create_array(tmp_path / "z", shape=(6, 4), chunks=(3, 4), dtype="f4")
    cut = zarr.create_array(tmp_path / "c", shape=(6, 4), chunks=(3, 2), dtype="f4", compressors=None)
    big = zarr.create_array(tmp_path / "b", shape=(6, 4), chunks=(3, 4), dtype=">f4", compressors=None)
    memory = zarr.create_array({}, shape=(6, 4), chunks=(3, 4), dtype="f4", compressors=None)
    for array in (packed, cut, big, memory):
        assert not chunks.direct(array)
