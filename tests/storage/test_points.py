"""Points in Zarr: nothing missing is taken for data, nothing is written that could be."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from distnnd.storage import formats
from distnnd.storage import points as zarr_points
from distnnd.storage.points import write_points
from distnnd.storage.source import open_source, reopen_source
from distnnd.values.errors import InputError, SpecError, StoreError
from tests.storage.test_source import (
    COPIED,
    MAKERS,
    Array,
    D,
    N,
    as_group,
    as_strided,
    as_zarr,
    as_zarr_v2,
    leading_index,
    write_zarr,
)

CHECKED = [Crc32cCodec()]


@pytest.fixture
def points() -> Array:
    return np.random.default_rng(3).normal(size=(N, D)).astype(np.float32)


# --- grids -------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_grid_of_chunks_reads_any_range(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 5))
    chunks = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 7))
    parts = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    shards = data.draw(st.sampled_from([None, (chunks[0] * parts[0], chunks[1] * parts[1])]))
    array = np.arange(1, n * d + 1, dtype=np.float32).reshape(n, d)
    start, stop = sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))
    source = open_source(write_zarr(MemoryStore(), array, chunks=chunks, shards=shards))
    np.testing.assert_array_equal(source.read(start, stop), array[start:stop])
    assert 1 <= source.chunk_rows <= n
    source.release()


def test_the_unit_of_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: Array) -> None:
    sharded = as_zarr(tmp_path, points, chunks=(4, D), shards=(48, D))
    for limit, rows in ((48, 48), (30, 24), (11, 4), (1, 4)):
        monkeypatch.setattr(zarr_points, "WHOLE_SHARD_BYTES", limit * D * 4)
        assert open_source(sharded).chunk_rows == rows
    assert open_source(np.broadcast_to(np.float32(0), (10, 128))).chunk_rows == 8192
    assert open_source(np.broadcast_to(np.float32(0), (1, 9 << 20))).chunk_rows == 1


def test_paths_may_be_relative_odd_and_under_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: Array
) -> None:
    folder = tmp_path / "Zahlen & Größen"
    folder.mkdir()
    path = as_zarr(folder, points)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("Zahlen & Größen/z.zarr", f"{path}/", "~/Zahlen & Größen/z.zarr", path, path.as_uri()):
        source = open_source(name)
        assert source.location == source.spec["location"] == str(path)
        np.testing.assert_array_equal(source.read(0, N), points)


# --- groups ------------------------------------------------------------------------------------------------


def test_component_names_an_array_below_a_group(tmp_path: Path, points: Array) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    group.create_array("obsm/pca", data=points, chunks=(8, D))
    for given_source in (tmp_path / "g.zarr", group):
        source = open_source(given_source, "/obsm/pca/")
        assert source.location.endswith("g.zarr/obsm/pca")
        np.testing.assert_array_equal(reopen_source(source.spec).read(0, N), points)
    np.testing.assert_array_equal(open_source(tmp_path / "g.zarr/obsm").read(0, N), points)


def test_a_group_with_a_choice_lists_it(tmp_path: Path, points: Array) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    with pytest.raises(SpecError, match="no array of two dimensions"):
        open_source(group)
    group.create_array("a", data=points)
    group.create_array("sub/b", data=points[:, :2])
    assert open_source(group).d == D
    group.create_array("c", data=points)
    with pytest.raises(SpecError, match=r"is a group.*'a' \(53, 6\) float32, 'c'.*, 'sub/b' \(53, 2\)"):
        open_source(tmp_path / "g.zarr")
    with pytest.raises(SpecError, match=r"no component 'aa'; choose one.*'a' \(53, 6\)"):
        open_source(tmp_path / "g.zarr", "aa")
    with pytest.raises(SpecError, match="downwards"):
        open_source(tmp_path / "g.zarr", "a/../c")
    group.create_array("X", data=points)
    assert open_source(group).location.endswith("/X")
    group.create_array("points", data=points)
    with pytest.raises(SpecError, match="choose one by component"):
        open_source(group)


def test_component_of_what_is_no_group(tmp_path: Path, points: Array) -> None:
    (tmp_path / "p.npy").touch()
    for given_source, message in (
        (points, r"numpy\.ndarray is none"),
        (tmp_path / "p.npy", "is a file"),
        (as_zarr(tmp_path, points), "it is itself an array"),
    ):
        with pytest.raises(SpecError, match=message):
            open_source(given_source, "a")


def test_an_open_array_in_a_local_store_is_described_by_its_path(tmp_path: Path, points: Array) -> None:
    path = as_group(tmp_path, points)
    source = open_source(zarr.open_array(path, path="points", mode="r"))
    assert source.spec == {"kind": "zarr", "location": str(path), "component": "points"}
    assert source.location == str(path / "points")
    assert not source.resident


# --- damage ------------------------------------------------------------------------------------------------


def alter(path: Path, change: str) -> None:
    content = bytearray(path.read_bytes())
    if change == "missing":
        path.unlink()
        return
    if change == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: {"empty": 0, "truncated": len(content) - 5}.get(change, len(content))])


LAYOUTS = {
    "c/2/0": {"compressors": CHECKED},
    "c/2/1": {"compressors": CHECKED, "chunks": (8, 4)},
    "c/1/0": {"compressors": CHECKED, "chunks": (4, D), "shards": (16, D)},
    "c.1.0": leading_index() | {"chunk_key_encoding": {"name": "default", "separator": "."}},
}


@pytest.mark.parametrize("change", ["missing", "empty", "truncated", "flipped"])
@pytest.mark.parametrize("key", list(LAYOUTS))
def test_a_damaged_chunk_is_named_with_its_array(tmp_path: Path, points: Array, key: str, change: str) -> None:
    path = as_zarr(tmp_path, points, **LAYOUTS[key])
    source = open_source(path)
    alter(path / key, change)
    wanted = "is missing" if change in ("missing", "empty") else "truncated"
    with pytest.raises(StoreError, match=rf"z\.zarr: chunk {key} .*{wanted}.*copy the data again") as caught:
        source.read(0, N)
    assert (wanted == "is missing") == ('missing="fill"' in str(caught.value))
    np.testing.assert_array_equal(source.read(0, 16), points[:16])
    np.testing.assert_array_equal(source.read(32, N), points[32:])


@pytest.mark.parametrize("kept", range(85, 400, 20))
def test_a_shard_cut_short_behind_its_leading_index(tmp_path: Path, points: Array, kept: int) -> None:
    path = as_zarr(tmp_path, points, **leading_index())
    shard = path / "c/1/0"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(StoreError, match="chunk c/1/0 is truncated"):
        open_source(path).read(28, 32)


def test_chunks_that_were_lost_in_zarr_v2_and_in_memory(tmp_path: Path, points: Array) -> None:
    path = as_zarr_v2(tmp_path, points)
    (path / "3/1").unlink()
    (path / "4/1").unlink()
    with pytest.raises(StoreError, match=r"chunk 3/1 is missing \(and 1 more\)"):
        open_source(path).read(0, N)
    store: dict[str, Any] = {}
    array = write_zarr(MemoryStore(store), points)
    del store["c/4/0"]
    with pytest.raises(StoreError, match="<zarr in memory>: chunk c/4/0 is missing"):
        open_source(array).read(30, 40)


def test_a_chunk_that_was_never_written_is_not_taken_for_zeros(tmp_path: Path, points: Array) -> None:
    points[8:16] = 0
    path = as_zarr(tmp_path, points, config={"write_empty_chunks": False})
    with pytest.raises(StoreError, match=r"chunk c/1/0 is missing and would read as 0\.0"):
        open_source(path).read(8, 9)


def test_bad_metadata_is_damage(tmp_path: Path, points: Array) -> None:
    path = as_zarr(tmp_path, points)
    for content in ("{", '{"zarr_format": 3, "node_type": "array"}', "[]"):
        (path / "zarr.json").write_text(content)
        with pytest.raises(StoreError, match=r"z\.zarr: the metadata cannot be read"):
            open_source(path)


@pytest.mark.parametrize("claim", ["rows", "chunk", "shard"])
def test_metadata_that_claims_terabytes_allocates_nothing(tmp_path: Path, points: Array, claim: str) -> None:
    path = as_zarr(tmp_path, points, chunks=(4, D), shards=(16, D), compressors=None)
    document = json.loads((path / "zarr.json").read_text())
    grid, codec = document["chunk_grid"]["configuration"], document["codecs"][0]["configuration"]
    parts = {"rows": [document["shape"]], "shard": [grid["chunk_shape"]]}
    parts["chunk"] = [*parts["shard"], codec["chunk_shape"]]
    for shape in parts[claim]:
        shape[0] = 1 << 40
    (path / "zarr.json").write_text(json.dumps(document))
    tracemalloc.start()
    source = open_source(path)
    with pytest.raises(StoreError, match=r"z\.zarr: chunk c/.*/0"):
        source.read(source.n - 20, source.n)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


# --- fingerprints ------------------------------------------------------------------------------------------


def change_one_value(given_source: Any, folder: Path) -> None:
    if isinstance(given_source, np.ndarray) and not isinstance(given_source, np.memmap):
        given_source[17, 3] += 1
    elif isinstance(given_source, zarr.Array) and isinstance(given_source.store, MemoryStore):
        given_source[17, 3] = 99
    elif str(given_source).startswith("memory://"):
        zarr.open_array(given_source, mode="r+")[17, 3] = 99
    else:
        path = max(path for path in folder.rglob("*") if path.is_file() and path.name[0] not in "z.")
        status = path.stat()
        path.write_bytes(path.read_bytes()[:-2] + b"\x01\x02")
        # However coarse the clock of the file system, the change is later.
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {COPIED}))
def test_a_changed_value_changes_the_fingerprint(tmp_path: Path, points: Array, name: str) -> None:
    given_source = MAKERS[name](tmp_path, points)
    source = open_source(given_source)
    before = source.fingerprint()
    assert source.fingerprint() == before
    change_one_value(given_source, tmp_path)
    assert source.fingerprint() != before


def test_only_data_and_layout_count_for_the_fingerprint(tmp_path: Path, points: Array) -> None:
    path = as_zarr(tmp_path, points)
    before = open_source(path).fingerprint()
    assert (before["shape"], before["dtype"], before["chunks"]) == ([N, D], "<f4", [8, D])
    zarr.open_array(path, mode="r+").attrs["title"] = "points"
    (path / "c/0/0.deadbeef.partial").write_bytes(b"left by a killed writer")
    assert open_source(path).fingerprint() == before
    assert open_source(as_group(tmp_path, points)).fingerprint() != before
    in_memory = open_source(points).fingerprint()
    assert open_source(np.asfortranarray(points)).fingerprint() == in_memory
    assert open_source(as_strided(tmp_path, points)).fingerprint() == in_memory


@pytest.mark.parametrize("strides", [1, -1])
def test_every_byte_of_a_large_array_counts(monkeypatch: pytest.MonkeyPatch, points: Array, strides: int) -> None:
    monkeypatch.setattr(formats, "WHOLE_DIGEST_BYTES", points.nbytes // 3)
    rows = points[::strides, ::strides]
    before = open_source(rows).fingerprint()
    for row in range(len(rows)):
        changed = points.copy()[::strides, ::strides]
        changed[row, 1] += 1
        assert open_source(changed).fingerprint() != before
    assert open_source(rows.copy()).fingerprint() == before


# --- writing -----------------------------------------------------------------------------------------------


def split(array: Array, *borders: int) -> Iterator[Array]:
    yield from np.split(array, sorted(borders))


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(formats.KEPT),
    chunk_rows=st.sampled_from([None, 1, 7, 8, 52, 53, 100]),
    borders=st.lists(st.integers(0, N), max_size=12),
)
def test_blocks_of_any_size_come_back(
    tmp_path_factory: pytest.TempPathFactory, dtype: Any, chunk_rows: int | None, borders: list[int]
) -> None:
    array = (np.random.default_rng(4).normal(size=(N, D)) * 9).astype(np.int8).astype(dtype)
    path = tmp_path_factory.mktemp("written") / "p.zarr"
    write_points(path, split(array, *borders), n=N, d=D, dtype=dtype, chunk_rows=chunk_rows)
    source = open_source(path)
    np.testing.assert_array_equal(source.read(0, N), array)
    assert source.dtype == dtype
    assert source.chunk_rows == min(N, chunk_rows or 64)


def test_the_array_that_is_written(tmp_path: Path, points: Array) -> None:
    points[8:16] = 0
    path = tmp_path / "new folder" / "p.zarr"
    write_points(f"{path}/", split(points, 9), n=N, d=D, dtype="float32", chunk_rows=8)
    document = json.loads((path / "zarr.json").read_text())
    assert document["zarr_format"] == 3
    assert document["dimension_names"] == ["row", "dim"]
    assert document["fill_value"] == "NaN"
    assert [codec["name"] for codec in document["codecs"]] == ["bytes", "crc32c"]
    sizes = [(path / f"c/{chunk}/0").stat().st_size for chunk in range(7)]
    assert sizes == [8 * D * 4 + 4] * 7
    assert os.listdir(path.parent) == ["p.zarr"]
    alter(path / "c/5/0", "flipped")
    with pytest.raises(StoreError, match=r"p\.zarr: chunk c/5/0 is truncated or altered"):
        open_source(path).read(0, N)


def test_chunks_by_default_are_a_power_of_two_of_rows(tmp_path: Path) -> None:
    for d, rows in ((128, 32768), (3, 1 << 20), (1000, 4096)):
        path = tmp_path / f"{d}.zarr"
        with pytest.raises(InputError, match="hold 0 rows, not the 10000000"):
            write_points(path, [], n=10_000_000, d=d, dtype="float32")
        assert not path.exists()
        assert formats.rows_within(zarr_points.CHUNK_BYTES, d * 4) == rows
        assert 4 << 20 <= rows * d * 4 <= 32 << 20


def test_wider_blocks_become_what_they_would_be_read_as(tmp_path: Path) -> None:
    blocks = [np.array([[1e300, 1 / 3]]), np.array([[1, 2]], ">i8"), np.array([[True, False]])]
    write_points(tmp_path / "p", blocks, n=3, d=2, dtype="float32")
    expected = np.array([[np.inf, 1 / 3], [1, 2], [1, 0]], np.float32)
    np.testing.assert_array_equal(open_source(tmp_path / "p").read(0, 3), expected)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([np.ones((4, 2), "f4"), np.ones((5, 2), "f4")], "more than the 8 rows"),
        ([np.ones((4, 2), "f4")], "hold 4 rows, not the 8"),
        ([np.ones((8, 3), "f4")], r"\(8, 3\) does not have rows of 2"),
        ([np.ones(8, "f4")], r"\(8,\) does not have rows of 2"),
        ([np.ones((8, 2), "f8")], "float64 would lose precision as float16"),
        ([np.ones((8, 2), "O")], "a block: points of dtype object"),
    ],
)
def test_blocks_that_do_not_fit_leave_nothing_behind(tmp_path: Path, blocks: Any, message: str) -> None:
    dtype = "float16" if "float16" in message else "float32"
    with pytest.raises(InputError, match=message):
        write_points(tmp_path / "p", blocks, n=8, d=2, dtype=dtype, chunk_rows=2)
    assert os.listdir(tmp_path) == []


def test_arguments_that_make_no_sense(tmp_path: Path, points: Array) -> None:
    whole: dict[str, Any] = {"n": N, "d": D, "dtype": "float32"}
    for wrong in ({"dtype": "int16"}, {"dtype": ">f4"}, {"n": 0}, {"d": -1}, {"chunk_rows": 0}):
        with pytest.raises(SpecError, match=r"not as|at least 1"):
            write_points(tmp_path / "p", [points], **whole | wrong)
    (tmp_path / "p").mkdir()
    for path in (tmp_path / "p", (tmp_path / "p").as_uri()):
        with pytest.raises(SpecError, match="exists already"):
            write_points(path, [points], **whole)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        write_points(tmp_path / "file" / "p", [points], **whole)


def test_a_url_is_written_once(tmp_path: Path, points: Array) -> None:
    url = f"memory:/{tmp_path}/p.zarr"
    write_points(url, [points], n=N, d=D, dtype="float32")
    np.testing.assert_array_equal(open_source(url).read(0, N), points)
    with pytest.raises(SpecError, match="exists already"):
        write_points(url, [points], n=N, d=D, dtype="float32")


def test_writing_takes_the_memory_of_a_few_chunks(tmp_path: Path) -> None:
    block = np.ones((1000, 64), np.float32)
    tracemalloc.start()
    write_points(tmp_path / "p", (block for _ in range(100)), n=100_000, d=64, dtype="float32", chunk_rows=2048)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2048 * 64 * 4
