"""Scratch comes back as it was written, whatever the strips, and what is missing or damaged is named by its path."""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distnnd.storage import arrays, mailbox, stores
from distnnd.values.errors import StoreError

Array = NDArray[Any]
RECORDS = [
    mailbox.mail_record("float32", 3, 0, roles=False),
    mailbox.mail_record("uint8", 5, 4, roles=True),
    mailbox.found_record(4),
]


def some_columns(length: int) -> dict[str, Array]:
    """A column of each kind, full of numbers that differ."""
    shapes = {"points": (np.uint8, (3,)), "rows": (np.int32, ()), "ids": (np.int64, (4,)), "far": (np.float32, (4,))}
    return {
        name: (np.arange(length * int(np.prod(shape))) % 251).reshape(length, *shape).astype(dtype)
        for name, (dtype, shape) in shapes.items()
    }


def some_records(length: int, record: np.dtype[Any]) -> Array:
    """Records full of numbers that differ; none of them is a NaN, which would not equal itself."""
    records = np.zeros(length, record)
    for at, name in enumerate(record.names or ()):
        records[name] = (np.arange(records[name].size) * (at + 1) % 251).reshape(records[name].shape)
    return records


@pytest.fixture
def scratch(tmp_path: Path) -> str:
    place = str(tmp_path / "scratch")
    mailbox.create(place, "0" * 32, "out")
    return place


# --- records, one after the other ----------------------------------------------------------------------------


class Tape:
    """What a writer takes for an array: notes what is written where, and which chunks are touched."""

    def __init__(self, shape: tuple[int, ...], chunk: int) -> None:
        self.chunk = max(1, min(chunk, shape[0]))
        self.rows = np.zeros(shape, np.uint8)
        self.touched: list[int] = []

    def __setitem__(self, rows: slice, values: Array) -> None:
        assert rows.stop - rows.start == len(values) > 0
        self.rows[rows] = values
        self.touched += range(rows.start // self.chunk, -(-rows.stop // self.chunk))


@given(strips=st.lists(st.integers(0, 23), max_size=12), at_once=st.integers(1, 30), record=st.sampled_from(RECORDS))
def test_strips_need_not_meet_the_borders_of_chunks(strips: list[int], at_once: int, record: np.dtype[Any]) -> None:
    sent = some_records(sum(strips), record)
    tapes: dict[str, Tape] = {}

    def create(scratch: str, name: str, shape: tuple[int, ...], dtype: Any, chunk: int, *_: Any) -> Tape:
        assert dtype is np.uint8
        return tapes.setdefault(name, Tape(shape, chunk))

    with mock.patch.object(arrays, "create", create), mock.patch.object(mailbox, "LEAST_CHUNK", 1):
        writer = mailbox.RecordWriter("scratch", "place", len(sent), record, at_once)
        for start, stop in pairwise(np.cumsum([0, *strips])):
            writer.append(sent[start:stop])
        writer.close()
    tape = tapes["place/records"]
    assert tape.rows.tobytes() == sent.tobytes()
    # A chunk that two strips write is read, joined and written again; each is written once, and whole.
    assert tape.touched == list(range(-(-len(sent) // tape.chunk)))


@settings(max_examples=20, deadline=None)
@given(strips=st.lists(st.integers(0, 20), max_size=6), record=st.sampled_from(RECORDS), data=st.data())
def test_any_range_comes_back_as_it_was_written(strips: list[int], record: np.dtype[Any], data: st.DataObject) -> None:
    sent = some_records(sum(strips), record)
    with tempfile.TemporaryDirectory() as scratch, mock.patch.object(mailbox, "LEAST_CHUNK", 1):
        mailbox.create(scratch, "0" * 32, "out")
        writer = mailbox.RecordWriter(scratch, "1/mail/0", len(sent), record, data.draw(st.integers(1, 30)))
        for start, stop in pairwise(np.cumsum([0, *strips])):
            writer.append(sent[start:stop])
        writer.close()
        first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(sent))] * 2)))
        found = mailbox.read_records(scratch, "1/mail/0", record, first, last)
        assert found.dtype == record
        np.testing.assert_array_equal(found, sent[first:last])


def test_a_writer_that_got_too_few_records_says_so(scratch: str) -> None:
    writer = mailbox.RecordWriter(scratch, "1/found/0", 10, mailbox.found_record(3), 4)
    writer.append(some_records(7, mailbox.found_record(3)))
    with pytest.raises(AssertionError, match="7 of 10 records"):
        writer.close()


def test_a_writer_leaves_strips_that_are_views_as_they_are(scratch: str) -> None:
    record = mailbox.found_record(3)
    sent = some_records(40, record)
    before = sent.copy()
    writer = mailbox.RecordWriter(scratch, "1/found/0", 20, record, 4)
    writer.append(sent[::2])
    writer.close()
    np.testing.assert_array_equal(mailbox.read_records(scratch, "1/found/0", record, 0, 20), before[::2])
    np.testing.assert_array_equal(sent, before)


def test_mail_holds_what_a_row_brings_along() -> None:
    assert mailbox.mail_record("float16", 7, 0, roles=False).names == ("row", "points")
    assert mailbox.mail_record("int8", 7, 5, roles=True).names == ("row", "points", "ids", "distances", "role")
    # Packed: a byte that pads is a byte that travels.
    assert mailbox.mail_record("int8", 7, 5, roles=True).itemsize == 4 + 7 + 5 * 12 + 1
    assert mailbox.found_record(5).itemsize == 5 * 12


def test_chunks_are_neither_tiny_nor_huge(scratch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "WRITTEN_AT_ONCE", 4 * mailbox.LEAST_CHUNK)
    record, sizes = np.dtype([("row", "<i4")]), []
    for at_once in (1, 10_000, 10**9):
        mailbox.RecordWriter(scratch, f"{at_once}", 100_000, record, at_once)
        sizes.append(arrays.opened(scratch, f"{at_once}/records").chunks[0] * 4)
    assert sizes == [mailbox.LEAST_CHUNK, 40_000, 4 * mailbox.LEAST_CHUNK]


# --- side by side ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_columns_are_written_side_by_side(scratch: str, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    monkeypatch.setattr(mailbox, "WRITTEN_AT_ONCE", 8192)
    sent = some_columns(length)
    mailbox.write(scratch, "sample/0", sent)
    for name, values in sent.items():
        found = mailbox.read(scratch, "sample/0", name)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)
        part = slice(length // 3, length // 2)
        np.testing.assert_array_equal(mailbox.read(scratch, "sample/0", name, part.start, part.stop), values[part])


def test_offsets_of_all_blocks_in_one_table(scratch: str) -> None:
    starts = np.array([[0, 3, 9], [0, 0, 4]])
    for block, row in enumerate(starts):
        mailbox.write(scratch, f"2/mail/{block}", {"starts": row})
    np.testing.assert_array_equal(mailbox.offsets(scratch, 2, 2), starts)


@given(first=st.integers(0, 50), count=st.integers(0, 50), rows=st.integers(1, 20))
def test_strips_are_a_range_cut_in_pieces(first: int, count: int, rows: int) -> None:
    strips = list(mailbox.strips(first, first + count, rows))
    assert [row for start, stop in strips for row in range(start, stop)] == list(range(first, first + count))
    assert all(0 < stop - start <= rows for start, stop in strips)


# --- what is gone, and what is damaged -----------------------------------------------------------------------


def test_a_second_attempt_replaces_what_a_dead_one_left(scratch: str) -> None:
    record = mailbox.found_record(4)
    sent = some_records(10, record)
    mailbox.RecordWriter(scratch, "1/found/3", 10, record, 4).append(sent[5:])
    for _ in range(2):
        writer = mailbox.RecordWriter(scratch, "1/found/3", 10, record, 4)
        writer.append(sent)
        writer.close()
    np.testing.assert_array_equal(mailbox.read_records(scratch, "1/found/3", record, 0, 10), sent)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_attempts_at_once_do_not_harm_each_other(scratch: str, order: tuple[int, int]) -> None:
    """A task may run twice: a worker that was thought dead goes on, and another does its task."""
    record = mailbox.found_record(4)
    sent = some_records(10, record)
    writers = []
    for _ in range(2):
        writers.append(mailbox.RecordWriter(scratch, "1/found/3", 10, record, 4))
        writers[-1].append(sent[:7])
    for which in order:
        writers[which].append(sent[7:])
        writers[which].close()
        np.testing.assert_array_equal(mailbox.read_records(scratch, "1/found/3", record, 0, 10), sent)


def test_what_is_dropped_is_gone_and_the_rest_is_not(scratch: str) -> None:
    for place in ("1/mail/0", "2/mail/0"):
        mailbox.write(scratch, place, some_columns(5))
        mailbox.read(scratch, place, "rows")
    mailbox.drop(scratch, "1")
    with pytest.raises(StoreError, match=r"1/mail/0/rows cannot be opened"):
        mailbox.read(scratch, "1/mail/0", "rows")
    assert len(mailbox.read(scratch, "2/mail/0", "rows")) == 5
    mailbox.discard(scratch, "0" * 32)
    assert not os.path.exists(scratch)


def mail_of_three_chunks(scratch: str, monkeypatch: pytest.MonkeyPatch) -> np.dtype[Any]:
    """Twenty records of nothing but zeros, which are good points, at 1/mail/0, eight in a chunk."""
    monkeypatch.setattr(mailbox, "LEAST_CHUNK", 1)
    record = mailbox.mail_record("uint8", 3, 0, roles=True)
    writer = mailbox.RecordWriter(scratch, "1/mail/0", 20, record, 8)
    writer.append(np.zeros(20, record))
    writer.close()
    return record


def test_missing_mail_is_never_taken_for_data(scratch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = mail_of_three_chunks(scratch, monkeypatch)
    shard = Path(scratch, "1/mail/0/records/c.0.0")
    shard.unlink()
    assert len(mailbox.read_records(scratch, "1/mail/0", record, 12, 12)) == 0
    for first, last in ((7, 9), (0, 20), (15, 16)):
        with pytest.raises(StoreError, match=rf"{shard} is missing and would read as 0"):
            mailbox.read_records(scratch, "1/mail/0", record, first, last)


def test_damaged_mail_is_named(scratch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = mail_of_three_chunks(scratch, monkeypatch)
    shard = Path(scratch, "1/mail/0/records/c.0.0")
    data = shard.read_bytes()
    for damaged in (data[:-1], data[:2], b"", data[:-1] + bytes([data[-1] ^ 1]), bytes([data[0] ^ 1]) + data[1:]):
        shard.write_bytes(damaged)
        with pytest.raises(StoreError, match=rf"{shard} is truncated or altered"):
            mailbox.read_records(scratch, "1/mail/0", record, 0, 20)
    # The last of them harmed the first chunk only.
    assert len(mailbox.read_records(scratch, "1/mail/0", record, 8, 20)) == 12


def test_mail_is_one_file_and_a_failed_writer_leaves_none(scratch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = mail_of_three_chunks(scratch, monkeypatch)
    folder = Path(scratch, "1/mail/1/records")

    def send(number: int, error: Exception | None) -> None:
        with mailbox.RecordWriter(scratch, "1/mail/1", 20, record, 8) as writer:
            writer.append(np.zeros(number, record))
            assert any(folder.glob("*.partial"))
            if error is not None:
                raise error

    with pytest.raises(ValueError, match="of the caller"):
        send(17, ValueError("of the caller"))
    assert [path.name for path in folder.iterdir()] == ["zarr.json"]
    with pytest.raises(AssertionError, match="17 of 20"):
        send(17, None)
    assert [path.name for path in folder.iterdir()] == ["zarr.json"]
    send(20, None)
    assert sorted(path.name for path in folder.iterdir()) == ["c.0.0", "zarr.json"]


def test_records_go_to_other_stores_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "LEAST_CHUNK", 1)
    record, place = mailbox.found_record(3), "memory://records-of-a-test"
    mailbox.create(place, "0" * 32, "out")
    sent = some_records(20, record)
    with mailbox.RecordWriter(place, "1/found/0", 20, record, 8) as writer:
        for first in (0, 7, 14):
            writer.append(sent[first : first + 7])
    np.testing.assert_array_equal(mailbox.read_records(place, "1/found/0", record, 3, 18), sent[3:18])
    assert arrays.opened(place, "1/found/0/records").shards is None


def test_other_stores_than_folders_are_looked_after_too() -> None:
    place = "memory://mailbox-of-a-test"
    mailbox.create(place, "0" * 32, "out")
    mailbox.write(place, "1/mail/0", {"points": np.zeros((20, 3), np.uint8)})
    assert mailbox.read(place, "1/mail/0", "points").shape == (20, 3)
    group = zarr.open_group(place, mode="a")
    arrays.sync(group.store.delete("1/mail/0/points/c.0.0"))
    with pytest.raises(StoreError, match=r"1/mail/0/points/c.0.0 is missing"):
        mailbox.read(place, "1/mail/0", "points")


def test_scratch_is_opened_once(scratch: str) -> None:
    mailbox.write(scratch, "1/mail/0", some_columns(20))
    with mock.patch.object(arrays.documents, "opened", wraps=arrays.documents.opened) as opens:
        for row in range(20):
            mailbox.read(scratch, "1/mail/0", "rows", row, row + 1)
    assert opens.call_count == 1


# --- notes ---------------------------------------------------------------------------------------------------


def test_notes_come_back_and_can_be_replaced(scratch: str) -> None:
    assert arrays.get_json(scratch, "done/1.json") is None
    assert arrays.get_json(f"{scratch}/nowhere", "done/1.json") is None
    for note in ({"counters": {"a": 1.5}}, [1, "zwei", None]):
        arrays.put_json(scratch, "done/1.json", note)
        assert arrays.get_json(scratch, "done/1.json") == note
    stores.remove(scratch, "done")
    assert arrays.get_json(scratch, "done/1.json") is None
