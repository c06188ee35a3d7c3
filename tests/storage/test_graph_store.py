"""The graph store: begun once, committed in one piece, read as it is now, and never taken for what it is not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from distnnd.storage import graph as store
from distnnd.storage import mailbox
from distnnd.values.errors import SpecError, StoreError

Lists = tuple[NDArray[np.int64], NDArray[np.float32]]
Blocks = list[int] | None
FACTS: dict[str, Any] = {"state": "building", "n": 20, "n_neighbors": 3, "rounds": []}


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "graph.zarr")


def lists(n: int = 20, k: int = 3, seed: int = 0) -> Lists:
    rng = np.random.default_rng(seed)
    return rng.integers(0, n, (n, k)), np.sort(rng.random((n, k), np.float32), axis=1)


def write_result(
    place: str, ids: NDArray[np.int64], distances: NDArray[np.float32], rows: int = 8, blocks: Blocks = None
) -> None:
    store.create_result(place, *ids.shape, rows)
    for first in range(0, len(ids), rows):
        if blocks is None or first // rows in blocks:
            store.write_result(place, first, ids[first : first + rows], distances[first : first + rows])


def read_result(place: str) -> Lists:
    blocks = list(store.result_blocks(place))
    assert [first for first, _, _ in blocks] == list(np.cumsum([0, *(len(ids) for _, ids, _ in blocks[:-1])]))
    return np.concatenate([ids for _, ids, _ in blocks]), np.concatenate([distances for _, _, distances in blocks])


# --- facts -------------------------------------------------------------------------------------------------


def test_where_nothing_is_there_are_no_facts(place: str) -> None:
    assert store.facts_of(place) is None


def test_facts_come_back_with_the_version_of_the_format(place: str) -> None:
    store.create(place, FACTS)
    assert store.facts_of(place) == {"format_version": store.FORMAT_VERSION, **FACTS}


def test_a_commit_replaces_the_facts_in_one_piece(place: str) -> None:
    store.create(place, FACTS)
    names = set(os.listdir(place))
    after = {key: FACTS[key] for key in ("n", "n_neighbors")} | {"state": "complete", "rounds": [{"number": 1}]}
    store.commit(place, after)
    assert store.facts_of(place) == {"format_version": store.FORMAT_VERSION, **after, "commits": 1}
    # One document: what is written beside it would have to be swapped in with it.
    assert set(os.listdir(place)) == names == {"zarr.json"}


def test_facts_are_read_as_they_are_now(place: str) -> None:
    store.create(place, FACTS)
    assert store.facts_of(place)["state"] == "building"  # type: ignore[index]
    store.commit(place, FACTS | {"state": "complete"})
    assert store.facts_of(place)["state"] == "complete"  # type: ignore[index]


def test_a_store_is_begun_only_where_nothing_is(place: str) -> None:
    store.create(place, FACTS)
    store.commit(place, FACTS | {"state": "complete"})
    with pytest.raises(SpecError, match="exists; choose another output"):
        store.create(place, FACTS)
    assert store.facts_of(place)["state"] == "complete"  # type: ignore[index]


@pytest.mark.parametrize("version", ["2.0", "0.9", "11.0"])
def test_another_format_version_is_refused(place: str, version: str) -> None:
    zarr.create_group(place, attributes={store.ATTRIBUTE: {"format_version": version, **FACTS}})
    with pytest.raises(StoreError, match=rf"format version {version}, this distnnd reads {store.FORMAT_VERSION}"):
        store.facts_of(place)


def test_a_later_minor_version_is_read(place: str) -> None:
    zarr.create_group(place, attributes={store.ATTRIBUTE: {"format_version": "1.7", **FACTS}})
    assert store.facts_of(place)["format_version"] == "1.7"  # type: ignore[index]


def foreign_group(place: str) -> None:
    zarr.create_group(place, attributes={"title": "someone else's"})


def foreign_attribute(place: str) -> None:
    zarr.create_group(place, attributes={store.ATTRIBUTE: "mine"})


def foreign_array(place: str) -> None:
    zarr.create_array(place, shape=(3, 3), dtype="float32")


def flat_file(place: str) -> None:
    Path(place).write_bytes(b"no store")


@pytest.mark.parametrize("make", [foreign_group, foreign_attribute, foreign_array, flat_file])
def test_what_is_no_graph_is_not_taken_for_one(place: str, make: Any) -> None:
    make(place)
    with pytest.raises(SpecError, match="no graph of distnnd; name another place"):
        store.facts_of(place)
    with pytest.raises(SpecError, match="no graph of distnnd"):
        store.drop(place)
    assert os.path.exists(place)


def test_an_empty_folder_is_no_store_yet(place: str) -> None:
    """A process that was killed before the first document leaves one."""
    os.mkdir(place)
    Path(place, f"zarr.json.{'0' * 32}.partial").touch()
    assert store.facts_of(place) is None
    store.create(place, FACTS)
    assert store.facts_of(place) == {"format_version": store.FORMAT_VERSION, **FACTS}


def test_damaged_metadata_are_named(place: str) -> None:
    store.create(place, FACTS)
    document = Path(place, "zarr.json")
    document.write_bytes(document.read_bytes()[:-20])
    with pytest.raises(StoreError, match=rf"{place}: the metadata cannot be read"):
        store.facts_of(place)


# --- lists of a round ----------------------------------------------------------------------------------------


def write_round(
    place: str, number: int, ids: NDArray[np.int64], distances: NDArray[np.float32], blocks: Blocks = None
) -> None:
    store.create_round(place, number, *ids.shape, 8)
    for first in range(0, len(ids), 8):
        if blocks is None or first // 8 in blocks:
            store.write_lists(place, number, first, ids[first : first + 8], distances[first : first + 8])


def test_lists_of_a_round_come_back(place: str) -> None:
    store.create(place, FACTS)
    ids, distances = lists()
    ids[3, 2], distances[3, 2] = -1, np.inf  # a row that is still short
    write_round(place, 1, ids, distances)
    for first, last in ((0, 20), (7, 9), (16, 20)):
        found = store.read_lists(place, 1, first, last)
        np.testing.assert_array_equal(found[0], ids[first:last])
        np.testing.assert_array_equal(found[1], distances[first:last])
        assert [part.dtype for part in found] == [np.int64, np.float32]


@pytest.mark.parametrize("name", ["ids", "distances"])
def test_a_missing_block_of_a_round_is_named(place: str, name: str) -> None:
    store.create(place, FACTS)
    write_round(place, 1, *lists())
    chunk = Path(place, "rounds/1", name, "c/1/0")
    chunk.unlink()
    store.read_lists(place, 1, 0, 8)
    with pytest.raises(StoreError, match=rf"{chunk} is missing"):
        store.read_lists(place, 1, 0, 20)


def test_a_round_that_is_dropped_is_gone(place: str) -> None:
    store.create(place, FACTS)
    for number in (1, 2):
        write_round(place, number, *lists(seed=number))
    store.drop_round(place, 1)
    assert not os.path.exists(f"{place}/rounds/1")
    with pytest.raises(StoreError, match=r"rounds/1/ids cannot be opened"):
        store.read_lists(place, 1, 0, 20)
    np.testing.assert_array_equal(store.read_lists(place, 2, 0, 20)[0], lists(seed=2)[0])


def test_an_interrupted_run_goes_on_with_the_blocks_that_are_there(place: str) -> None:
    store.create(place, FACTS)
    ids, distances = lists()
    for blocks in ([1], [0, 2]):
        write_round(place, 1, ids, distances, blocks)
        write_result(place, ids, distances, blocks=blocks)
    for found in (store.read_lists(place, 1, 0, 20), read_result(place)):
        np.testing.assert_array_equal(found[0], ids)
        np.testing.assert_array_equal(found[1], distances)


def test_lists_of_another_length_do_not_stay(place: str) -> None:
    store.create(place, FACTS)
    write_round(place, 1, *lists(k=3))
    write_round(place, 1, *lists(k=5), blocks=[0])
    with pytest.raises(StoreError, match="is missing"):
        store.read_lists(place, 1, 0, 20)


def test_a_rebuild_in_the_same_place_is_read_afresh(place: str) -> None:
    for n, k in ((20, 3), (13, 5)):
        store.create(place, FACTS)
        ids, distances = lists(n, k)
        write_round(place, 1, ids, distances)
        write_result(place, ids, distances)
        for found in (store.read_lists(place, 1, 0, n), read_result(place)):
            np.testing.assert_array_equal(found[0], ids)
            np.testing.assert_array_equal(found[1], distances)
        assert [array.shape for array in store.result_arrays(place)] == [(n, k), (n, k)]
        shutil.rmtree(place)


# --- the finished graph ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_rows", [1, 7, 20, 64])
def test_a_finished_graph_comes_back_block_by_block(place: str, block_rows: int) -> None:
    store.create(place, FACTS)
    ids, distances = lists()
    write_result(place, ids, distances, block_rows)
    found = read_result(place)
    np.testing.assert_array_equal(found[0], ids)
    np.testing.assert_array_equal(found[1], distances)
    store.check_result(place, FACTS)


def test_a_reader_of_the_arrays_alone_can_tell_what_is_missing(place: str) -> None:
    store.create(place, FACTS)
    store.create_result(place, 20, 3, 8)
    indices, distances = store.result_arrays(place)
    assert (indices[:] == -1).all()
    assert np.isnan(distances[:]).all()
    assert indices.metadata.dimension_names == distances.metadata.dimension_names == ("row", "neighbour")


@pytest.mark.parametrize("name", ["indices", "distances"])
def test_a_missing_or_damaged_chunk_is_named(place: str, name: str) -> None:
    store.create(place, FACTS)
    write_result(place, *lists())
    chunk = Path(place, name, "c/2/0")
    data = chunk.read_bytes()
    for damaged in (data[:-1], data[:4], b"", data[:9] + bytes([data[9] ^ 8]) + data[10:], data + b"\0"):
        chunk.write_bytes(damaged)
        with pytest.raises(StoreError, match=rf"{chunk} is truncated or altered .*restore it from a copy"):
            read_result(place)
    chunk.unlink()
    with pytest.raises(StoreError, match=rf"{chunk} is missing"):
        read_result(place)


def test_a_chunk_is_named_by_the_encoding_of_its_key(place: str) -> None:
    store.create(place, FACTS)
    ids, distances = lists()
    write_result(place, ids, distances)
    flat = {"name": "v2", "separator": "."}
    zarr.create_array(
        place, name="indices", data=ids, chunks=(8, 3), chunk_key_encoding=flat, compressors=None, overwrite=True
    )
    Path(place, "indices/1.0").unlink()
    with pytest.raises(StoreError, match=r"indices/1\.0 is missing and would read as 0"):
        read_result(place)


FAULTS = {
    "narrow ids": ("indices", {"data": lists()[0].astype(np.int32)}, "dtype int32 instead of int64"),
    "wide distances": ("distances", {"data": lists()[1].astype(np.float64)}, "dtype float64 instead of float32"),
    "a row less": (
        "distances",
        {"data": lists()[1][:19]},
        r"shape \(19, 3\), but the facts of the graph say \(20, 3\)",
    ),
    "a neighbour less": ("indices", {"data": lists()[0][:, :2], "chunks": (8, 2)}, r"shape \(20, 2\)"),
    "other blocks": ("distances", {"chunks": (4, 3)}, r"chunks of \(4, 3\)"),
    "rows in parts": ("indices", {"chunks": (8, 1)}, r"chunks of \(8, 1\)"),
    "no checksums": ("indices", {"compressors": None}, "no crc32c"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_array_that_is_not_as_the_facts_say_is_named(place: str, fault: str) -> None:
    store.create(place, FACTS)
    write_result(place, *lists())
    store.check_result(place, FACTS)
    name, changes, said = FAULTS[fault]
    array = store.result_arrays(place)[name == "distances"]
    layout = {"data": array[:], "chunks": (8, 3), "compressors": array.compressors} | changes
    zarr.create_array(place, name=name, overwrite=True, **layout)
    with pytest.raises(StoreError, match=rf"{place}/{name} has .*{said}"):
        store.check_result(place, FACTS)


# --- places ------------------------------------------------------------------------------------------------


def test_a_place_is_an_absolute_path_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    here = os.getcwd()
    assert store.place_of("graph.zarr") == f"{here}/graph.zarr"
    assert store.place_of(Path("a/../graph.zarr/")) == f"{here}/graph.zarr"
    assert store.place_of("~/graph.zarr") == f"{tmp_path}/home/graph.zarr"
    assert store.place_of("s3://bucket/graph.zarr/") == "s3://bucket/graph.zarr"
    assert store.place_of(f"file://{here}/graph.zarr") == f"{here}/graph.zarr"


@pytest.mark.parametrize("location", ["", None, 3, b"graph.zarr", ["graph.zarr"]])
def test_what_names_no_place_is_refused(location: Any) -> None:
    with pytest.raises(SpecError, match="named by a path or a URL"):
        store.place_of(location)


def test_output_and_input_lie_apart() -> None:
    store.check_apart("/data/graph.zarr", "/data/points.zarr")
    store.check_apart("/data/points.zarr-graph", "/data/points.zarr")
    store.check_apart("/data/points.zarr/graph", "/data/points.zarr/points")
    store.check_apart("/data/graph.zarr", "<numpy array>")
    for out, source in (
        ("/data/points.zarr", "/data/points.zarr"),
        ("/data/points.zarr/graph", "/data/points.zarr"),
        ("/data", "/data/points.zarr"),
        ("s3://bucket/points.zarr/graph", "s3://bucket/points.zarr/"),
    ):
        with pytest.raises(SpecError, match="lie inside each other"):
            store.check_apart(out, source)


def test_free_bytes_are_those_of_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    free = store.free_bytes(str(tmp_path / "not" / "yet" / "graph.zarr"))
    assert free is not None
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    assert store.free_bytes("s3://bucket/graph.zarr") is None


def test_a_store_that_is_dropped_leaves_nothing(place: str) -> None:
    store.drop(place)
    store.create(place, FACTS)
    write_result(place, *lists())
    store.drop(place)
    assert not os.path.exists(place)
    assert store.facts_of(place) is None


def test_a_published_graph_sheds_what_only_its_build_needed(place: str) -> None:
    store.create(place, FACTS)
    write_round(place, 1, *lists())
    write_result(place, *lists())
    mailbox.create(f"{place}/scratch/0", "0" * 32, place)
    for _ in range(2):  # the second time after an interruption, when nothing is left
        store.tidy(place)
        assert sorted(os.listdir(place)) == ["distances", "indices", "zarr.json"]
    np.testing.assert_array_equal(read_result(place)[0], lists()[0])


def test_facts_are_json_that_anyone_can_read(place: str) -> None:
    store.create(place, FACTS)
    document = json.loads(Path(place, "zarr.json").read_text())
    assert document["attributes"][store.ATTRIBUTE]["state"] == "building"
