"""Documents that are copied are those that Zarr would write, and Zarr takes over where it would not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import zarr

from distnnd.storage import arrays, documents
from distnnd.values.errors import StoreError

KINDS = [
    documents.Kind(np.dtype(dtype).str, separator, one_file)
    for dtype in ("u1", "i1", "i4", "i8", "f2", "f4", "f8")
    for separator in "./"
    for one_file in (False, True)
]
FORMS = [
    documents.Form((0,), (1,), ("row",)),
    documents.Form((23,), (8,), ("row",)),
    documents.Form((1, 5), (1, 5), ("row", "byte")),
    documents.Form((23, 7), (8, 7), ("row", "neighbour")),
    documents.Form((4, 3, 2), (4, 3, 2), ("row", "dim", "dim")),
]


def texts(place: Path) -> dict[str, str]:
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_all_documents_are_those_of_zarr(tmp_path: Path, kind: documents.Kind, form: documents.Form) -> None:
    ours, zarrs = tmp_path / "ours", tmp_path / "zarrs"
    array = documents.create(str(ours), "1/mail/0/x", kind, form)
    other = documents.create_by_zarr(str(zarrs), "1/mail/0/x", kind, form)
    assert texts(ours) == texts(zarrs)
    assert set(texts(ours)) == {f"{folder}zarr.json" for folder in ("", "1/", "1/mail/", "1/mail/0/", "1/mail/0/x/")}
    assert array is not None
    assert array.metadata.to_dict() == other.metadata.to_dict()
    assert (array.shape, array.chunks, array.shards, array.dtype) == (
        form.shape,
        form.chunks,
        other.shards,
        other.dtype,
    )
    found = documents.opened(str(ours), "1/mail/0/x")
    assert found is not None
    assert found.metadata.to_dict() == other.metadata.to_dict()
    assert found.read_only
    array[:] = 1
    assert np.array_equal(found[:], np.ones(form.shape))


def test_a_new_array_replaces_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    zarr.create_group(store=str(tmp_path), attributes={"facts": 1})
    for name, rows in (("r/a", 20), ("r/b", 20), ("r/a", 19)):
        array = arrays.create(str(tmp_path), name, (rows, 3), np.int32, 8, ("row", "x"), ".")
        assert np.array_equal(array[:], np.full((rows, 3), -1))
        arrays.write(array, 0, np.ones((rows, 3), np.int32))
    (tmp_path / "r/a/left.partial").write_bytes(b"x")
    arrays.create(str(tmp_path), "r/a", (20, 3), np.int32, 8, ("row", "x"))
    assert [path.name for path in (tmp_path / "r/a").iterdir()] == ["zarr.json"]
    assert (arrays.opened(str(tmp_path), "r/b")[:] == 1).all()
    assert zarr.open_group(tmp_path, mode="r").attrs["facts"] == 1


def test_the_same_array_is_not_taken_from_another_attempt(tmp_path: Path) -> None:
    """Who writes the same array at the same time writes the same into it."""
    arrays.write(arrays.create(str(tmp_path), "a", (20, 3), np.int32, 8, ("row", "x")), 0, np.ones((20, 3), np.int32))
    again = arrays.create(str(tmp_path), "a", (20, 3), np.int32, 8, ("row", "x"))
    assert (again[:] == 1).all()


@pytest.mark.parametrize("gone", ["AsyncArray", "Array"])
def test_zarr_takes_over_where_it_has_changed(tmp_path: Path, gone: str) -> None:
    def changed(*_: Any) -> Any:
        raise TypeError("takes other arguments now")

    place = str(tmp_path)
    with mock.patch.object(documents.zarr, gone, changed):
        assert documents.create(place, "a", documents.Kind("<f4", ".", True), FORMS[3]) is None
    with mock.patch.object(documents, "_array", changed):
        array = arrays.create(place, "a", (23, 7), np.float32, 8, ("row", "x"), ".", True)
        assert array.shards is None
        arrays.write(array, 0, np.ones((23, 7), np.float32))
        assert documents.opened(place, "a") is None
        arrays.opened_once.cache_clear()
        assert (arrays.read(arrays.opened_once(place, "a"), 3, 20) == 1).all()


@pytest.mark.parametrize(
    "harm", [b"", b"{", b"[]", b'{"zarr_format": 3, "node_type": "group"}', None, "codec", "shape"]
)
def test_damaged_documents_are_said_to_be(tmp_path: Path, harm: Any) -> None:
    arrays.create(str(tmp_path), "a", (20, 3), np.int32, 8, ("row", "x"), ".")
    path = tmp_path / "a/zarr.json"
    document = json.loads(path.read_text())
    if harm == "codec":
        document["codecs"][1]["name"] = "crc33"
        harm = json.dumps(document).encode()
    elif harm == "shape":
        document["shape"] = [20, 3, 4]
        harm = json.dumps(document).encode()
    path.unlink()
    if harm is not None:
        path.write_bytes(harm)
    arrays.opened_once.cache_clear()
    with pytest.raises(StoreError, match="/a cannot be opened"):
        arrays.opened_once(str(tmp_path), "a")
