"""Locations: what is opened, what is said of stores that cannot be, and how many requests things take."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from distnnd.storage import arrays, chunks, facts, graph, stores
from distnnd.values.errors import SpecError, StoreError, Unreachable
from tests.object_store import KEYS, Server

ROWS = np.arange(50 * 3, dtype=np.float32).reshape(50, 3)


@pytest.fixture(params=["folder", "memory", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A location of each kind, where nothing is yet."""
    if request.param == "s3":
        return request.getfixturevalue("place")
    return str(tmp_path / "here") if request.param == "folder" else f"memory:/{tmp_path}/here"


# --- documents ---------------------------------------------------------------------------------------------


def test_what_is_put_is_got_until_it_is_removed(anywhere: str) -> None:
    assert stores.is_empty(anywhere)
    assert stores.get(anywhere, "a/note") is None
    for data in (b"one", b"and another"):
        stores.put(anywhere, "a/note", data)
        assert stores.get(anywhere, "a/note") == data
    stores.put(anywhere, "ab", b"beside")
    assert not stores.is_empty(anywhere)
    stores.remove(anywhere, "a")
    stores.remove(anywhere, "nothing")
    assert (stores.get(anywhere, "a/note"), stores.get(anywhere, "ab")) == (None, b"beside")
    stores.put(f"{anywhere}-too", "note", b"beside")
    stores.remove(anywhere)
    assert stores.is_empty(anywhere)
    assert stores.get(f"{anywhere}-too", "note") == b"beside"


def test_a_new_store_is_refused_where_anything_is(anywhere: str) -> None:
    stores.put(anywhere, "data/table.csv", b"1,2")
    with pytest.raises(SpecError, match="exists; choose another output"):
        graph.create(anywhere, {})
    with pytest.raises(SpecError, match="exists and is no graph of distnnd"):
        graph.facts_of(anywhere)
    assert stores.get(anywhere, "data/table.csv") == b"1,2"


def test_facts_are_replaced_by_one_request(s3: Server, place: str) -> None:
    graph.create(place, {"state": "building"})
    s3.asked.clear()
    graph.commit(place, {"state": "complete"})
    assert s3.requests("PUT") == 1
    assert facts.read(place, graph.KIND) == {"format_version": "1.0", "state": "complete", "commits": 1}


# --- chunks ------------------------------------------------------------------------------------------------


def some_array(place: str) -> Any:
    array = arrays.create(place, "rounds/1/ids", ROWS.shape, ROWS.dtype, 8, ("row", "dim"))
    arrays.write(array, 0, ROWS)
    return array


def test_an_array_comes_back_here_and_by_zarr(anywhere: str) -> None:
    array = some_array(anywhere)
    assert chunks.direct(array)
    for first, last in ((0, 50), (0, 8), (3, 5), (7, 9), (8, 24), (5, 47), (48, 50)):
        found = arrays.read(array, first, last)
        np.testing.assert_array_equal(found, ROWS[first:last])
        assert found.flags.writeable
    np.testing.assert_array_equal(array[:], ROWS)
    np.testing.assert_array_equal(arrays.opened(anywhere, "rounds/1/ids")[:], ROWS)
    array[8:16] = 7
    assert (arrays.read(array, 8, 16) == 7).all()


def test_a_chunk_is_one_request_and_an_array_two(s3: Server, place: str) -> None:
    some_array(place)
    assert s3.requests("PUT", "/c/") == s3.requests("PUT") - 1 == 7
    assert s3.requests("GET") == 1
    s3.asked.clear()
    arrays.read(arrays.opened(place, "rounds/1/ids"), 3, 47)
    assert sum(s3.asked.values()) == 1 + 6


def cut_short(data: bytes) -> bytes:
    return data[:-5]


def flipped(data: bytes) -> bytes:
    return data[:20] + bytes([data[20] ^ 1]) + data[21:]


@pytest.mark.parametrize("whole", [1, 1 << 20], ids=["in pieces", "at once"])
@pytest.mark.parametrize("harm", [cut_short, flipped, lambda data: data + b"more"])
def test_a_damaged_object_is_named(
    place: str, harm: Callable[[bytes], bytes], whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, name = some_array(place), "rounds/1/ids/c/2/0"
    monkeypatch.setattr(stores, "WHOLE", whole)
    monkeypatch.setattr(stores, "PIECE", 16)
    np.testing.assert_array_equal(arrays.read(array, 0, 50), ROWS)
    stores.put(place, name, harm(stores.get(place, name) or b""))
    np.testing.assert_array_equal(arrays.read(array, 0, 16), ROWS[:16])
    with pytest.raises(StoreError, match=f"^{place}/{name} is truncated or altered"):
        arrays.read(array, 10, 20)
    stores.remove(place, "rounds/1/ids/c/2")
    with pytest.raises(StoreError, match=f"^{place}/{name} is missing and would read as nan"):
        arrays.read(array, 10, 20)


def test_a_large_chunk_is_written_in_parts(s3: Server, place: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, stores.WHOLE // 2), dtype=np.uint8)
    array = arrays.create(place, "rows", values.shape, np.uint8, 3, ("row", "byte"))
    arrays.write(array, 0, values)
    assert s3.requests("PUT", "partNumber") == -(-values.nbytes // stores.PIECE)
    np.testing.assert_array_equal(arrays.read(array, 0, 3), values)
    np.testing.assert_array_equal(array[1], values[1])


def test_damaged_metadata_of_lists_are_not_written_over(anywhere: str) -> None:
    some_array(anywhere)
    stores.put(anywhere, "rounds/1/ids/zarr.json", b"{")
    with pytest.raises(StoreError, match="rounds/1/ids cannot be opened"):
        arrays.ensure(anywhere, "rounds/1/ids", ROWS.shape, ROWS.dtype, 8, ("row", "dim"))
    assert stores.get(anywhere, "rounds/1/ids/c/0/0") is not None


# --- opening -----------------------------------------------------------------------------------------------


def test_a_store_is_opened_once_a_process(place: str) -> None:
    assert stores.opened(place) is stores.opened(place)
    assert stores.opened(place) is not stores.opened(place, read_only=True)
    assert isinstance(stores.opened("/a/path"), LocalStore)


def test_a_store_travels_as_its_url(place: str) -> None:
    stores.put(place, "note", b"1")
    array = some_array(place)
    sent = pickle.dumps((stores.opened(place), array))
    assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in sent
    store, same = pickle.loads(sent)
    assert store is same.store is stores.opened(place)
    np.testing.assert_array_equal(same[:], ROWS)


@pytest.mark.parametrize("url", ["s3://me:secret@bucket/x", "https://host/x?token=secret", "az://a/b?sig=secret"])
def test_secrets_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    for use in (stores.opened, graph.place_of):
        with pytest.raises(SpecError, match="environment") as caught:
            use(url)
        assert "secret" not in str(caught.value)


def test_without_obstore_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    for url in ("s3://bucket/never-opened", "gs://bucket/x", "az://account/x", "https://host/x"):
        with pytest.raises(SpecError, match=r'pip install "distnnd\[s3\]"'):
            stores.opened(url)


def test_what_nothing_opens() -> None:
    with pytest.raises(SpecError, match=r"nothing installed opens this.*s3://"):
        stores.opened("gopher://host/x")
    with pytest.raises(SpecError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        stores.opened("az://container/without-an-account")


# --- stores that refuse or are not there -------------------------------------------------------------------

USES: list[Callable[[str], object]] = [
    lambda url: stores.get(url, "note"),
    lambda url: stores.put(url, "note", b"1"),
    lambda url: stores.remove(url),
    stores.is_empty,
    graph.facts_of,
    lambda url: graph.create(url, {}),
    lambda url: arrays.opened(url, "indices"),
    lambda url: arrays.create(url, "indices", (3, 3), "<f4", 3, ("row", "dim")),
    lambda url: arrays.ensure(url, "indices", (3, 3), "<f4", 3, ("row", "dim")),
    lambda url: zarr.open_group(stores.opened(url), mode="r"),
]


def told_by(use: Callable[[str], object], url: str) -> str:
    """What is said when a use fails, which is short, names the place and tells no secret."""
    with pytest.raises(Unreachable) as caught:
        use(url)
    text = str(caught.value)
    assert text.startswith(url)
    assert len(text) < 700
    assert "\n" not in text
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in text
    return text


@pytest.mark.parametrize("use", USES)
def test_wrong_keys(s3: Server, place: str, use: Callable[[str], object]) -> None:
    with s3.refusing():
        text = told_by(use, place)
    assert "access was refused" in text
    assert "AWS_ACCESS_KEY_ID" in text


@pytest.mark.parametrize("use", USES[1:6])
def test_a_bucket_that_is_not_there(s3: Server, use: Callable[[str], object]) -> None:
    text = told_by(use, "s3://no-such-bucket/g")
    assert "there is no such bucket" in text
    assert s3.address in text


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("use", USES)
def test_nobody_there(s3: Server, place: str, use: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    text = told_by(use, place)
    assert "http://127.0.0.1:9" in text
    assert "run the same again" in text


def test_a_server_that_is_gone_is_not_waited_for_long() -> None:
    assert stores.RETRIES["retry_timeout"].total_seconds() <= 15


@pytest.mark.usefixtures("impatient")
def test_an_endpoint_without_tls_has_to_be_allowed(s3: Server, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    assert "AWS_ALLOW_HTTP=true" in told_by(graph.facts_of, place)
