"""Arrays in one file are those that Zarr's sharding codec reads and writes, byte for byte, and damage is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from distnnd.storage import arrays, chunks, shards
from distnnd.values.errors import StoreError

CHUNK = 8
LENGTHS = [0, 1, 7, 8, 9, 16, 23]


def create(place: Path, length: int, dtype: Any = np.float32, width: tuple[int, ...] = (5,)) -> Any:
    dims = ("row", "x", "y")[: 1 + len(width)]
    return arrays.create(str(place), "a/b", (length, *width), dtype, CHUNK, dims, ".", True)


def numbers(array: Any) -> np.ndarray:
    """No two rows alike, and no chunk of nothing but fill values."""
    return (np.arange(array.size) % 249 + 1).reshape(array.shape).astype(array.dtype)


def write(array: Any, step: int = 2 * CHUNK) -> None:
    writer = shards.Writer(array)
    for first in range(0, array.shape[0], step):
        writer.append(numbers(array)[first : first + step])
    writer.close()


def file_of(array: Any) -> Path:
    return Path(chunks.path_of(array, shards.key_of(array)))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("dtype", "width"), [(np.float32, (5,)), (np.uint8, (3,)), (np.int64, ()), (np.int16, (2, 3))])
def test_both_write_the_same_file(tmp_path: Path, length: int, dtype: Any, width: tuple[int, ...]) -> None:
    array = create(tmp_path / "s", length, dtype, width)
    assert shards.direct(array)
    write(array)
    assert np.array_equal(array[:], numbers(array))
    assert np.array_equal(zarr.open_array(tmp_path / "s/a/b", mode="r")[:], numbers(array))
    if not length:
        assert not file_of(array).exists()
        return
    ours = file_of(array).read_bytes()
    array[:] = numbers(array)
    assert file_of(array).read_bytes() == ours


@pytest.mark.parametrize("length", LENGTHS)
def test_what_zarr_wrote_is_read(tmp_path: Path, length: int) -> None:
    array = create(tmp_path / "s", length)
    array[:] = numbers(array)
    opened = arrays.opened(str(tmp_path / "s"), "a/b")
    for first in range(length):
        for last in range(first, length + 1):
            got = arrays.read(opened, first, last)
            assert np.array_equal(got, numbers(array)[first:last])
    assert got.flags.writeable if length else arrays.read(opened, 0, 0).shape == (0, 5)


def test_chunks_may_lie_in_any_order(tmp_path: Path) -> None:
    array = create(tmp_path / "s", 23)
    for first in (16, 0, 8):  # each goes behind the others
        array[first : first + CHUNK] = numbers(array)[first : first + CHUNK]
    data = file_of(array).read_bytes()
    size = CHUNK * 5 * 4 + 4
    index = np.frombuffer(data[3 * size : -4], "<u8").reshape(3, 2).copy()
    turned = data[size : 2 * size] + data[2 * size : 3 * size] + data[:size]
    index[:, 0] = [2 * size, 0, size]
    raw = index.view(np.uint8).reshape(-1)
    file_of(array).write_bytes(turned + raw.tobytes() + chunks.checksum(raw))
    assert np.array_equal(array[:], numbers(array))
    for first, last in ((0, 23), (3, 12), (9, 23), (17, 18)):
        assert np.array_equal(shards.read(array, first, last), numbers(array)[first:last])


def test_half_a_chunk_and_half_an_array_are_refused(tmp_path: Path) -> None:
    writer = shards.Writer(create(tmp_path / "s", 23))
    with pytest.raises(AssertionError, match="only the last"):
        writer.append(np.zeros((4, 5), np.float32))
    writer.append(np.zeros((8, 5), np.float32))
    with pytest.raises(AssertionError, match="written whole"):
        writer.close()
    writer.discard()
    writer.discard()
    assert [path.name for path in (tmp_path / "s/a/b").iterdir()] == ["zarr.json"]


def flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda data: data[:-1], "index"),
        (lambda data: data[:7], "index"),
        (lambda data: data + b"x", "index"),
        (lambda data: b"", "index"),
        (lambda data: flipped(data, -1), "index"),
        (lambda data: flipped(data, -30), "index"),
        (lambda data: flipped(data, 200), "chunk 1"),
        (lambda data: flipped(data, 2 * 164 - 1), "chunk 1"),
        (lambda data: data[164:], "chunk 2 does not lie inside"),
    ],
)
def test_damage_is_named(tmp_path: Path, harm: Any, said: str) -> None:
    array = create(tmp_path / "s", 23)
    write(array)
    path = file_of(array)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(StoreError, match=rf"{path} is truncated or altered \(.*{said}"):
        arrays.read(array, 9 if "inside" not in said else 17, 23)
    if said == "chunk 1":
        assert np.array_equal(arrays.read(array, 0, CHUNK), numbers(array)[:CHUNK])
        assert np.array_equal(arrays.read(array, 16, 23), numbers(array)[16:])


def test_what_was_never_written_is_missing(tmp_path: Path) -> None:
    array = create(tmp_path / "s", 23, np.uint8)
    with pytest.raises(StoreError, match=rf"{file_of(array)} is missing and would read as 0"):
        arrays.read(array, 0, 1)
    opened = zarr.open_array(tmp_path / "s/a/b", mode="r+")  # leaves out chunks of nothing but zeros
    opened[16:] = 1
    assert np.array_equal(arrays.read(array, 16, 23), np.ones((7, 5)))
    with pytest.raises(StoreError, match=rf"{file_of(array)} has no chunk 1, which is missing and would read as 0"):
        arrays.read(array, 12, 20)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    array = create(tmp_path / "s", 23)
    writer = shards.Writer(array)
    writer.append(numbers(array))
    monkeypatch.setattr(shards.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        writer.close()
    writer.discard()
    assert [path.name for path in (tmp_path / "s/a/b").iterdir()] == ["zarr.json"]


def test_other_layouts_go_through_zarr(tmp_path: Path) -> None:
    def made(name: str, shape: tuple[int, ...] = (8, 4), shard: tuple[int, ...] = (8, 4), **codec: Any) -> Any:
        wanted = {"chunk_shape": (4, 4), "codecs": [BytesCodec(), Crc32cCodec()]} | codec
        place = {} if name == "memory" else tmp_path / name
        return zarr.create_array(
            place,
            shape=shape,
            chunks=shard,
            dtype="f4",
            serializer=ShardingCodec(**wanted),
            compressors=None,
            filters=None,
        )

    assert shards.direct(made("good"))
    assert not shards.direct(made("memory"))
    assert not shards.direct(made("several", shape=(9, 4)))
    assert not shards.direct(made("cut", chunk_shape=(4, 2)))
    assert not shards.direct(made("bare", codecs=[BytesCodec()]))
    assert not shards.direct(made("big", codecs=[BytesCodec(endian="big"), Crc32cCodec()]))
    assert not shards.direct(made("start", index_location="start"))
    assert not shards.direct(made("unchecked", index_codecs=[BytesCodec()]))
    assert not shards.direct(zarr.create_array(tmp_path / "flat", shape=(8, 4), chunks=(4, 4), dtype="f4"))
    for array in (made("memory"), made("begin", index_location="start"), made("more", shape=(9, 4))):
        array[:] = 3
        assert np.array_equal(arrays.read(array, 2, 8), np.full((6, 4), 3))
