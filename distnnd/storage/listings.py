"""Sparse rows in the scratch of a build: what they list, one after the other, and how much of it each row lists."""

from __future__ import annotations

import numpy as np

from ..values.points import Csr, starts_of
from . import mailbox

ENTRY = np.dtype([("column", "<i4"), ("value", "<f4")])


def write(scratch: str, place: str, points: Csr) -> None:
    """Write the rows below `place`, to be read together."""
    entries = as_records(points)
    mailbox.write(scratch, place, {"lengths": np.diff(points.indptr)})
    with mailbox.RecordWriter(scratch, place, len(entries), ENTRY, len(entries)) as writer:
        writer.append(entries)


def read(scratch: str, place: str, columns: int) -> Csr:
    """All rows below `place`; columns: how many a row has."""
    lengths = mailbox.read(scratch, place, "lengths")
    return read_entries(scratch, place, lengths, 0, columns)


def as_records(points: Csr) -> np.ndarray:
    """The entries of rows as records of ENTRY."""
    records = np.empty(len(points.data), ENTRY)
    records["column"], records["value"] = points.indices, points.data
    return records


def read_entries(scratch: str, place: str, lengths: np.ndarray, first: int, columns: int) -> Csr:
    """The rows of these lengths, of which the first begins at entry `first` below `place`."""
    indptr = starts_of(lengths)
    records = mailbox.read_records(scratch, place, ENTRY, first, first + int(indptr[-1]))
    return Csr(indptr, records["column"].copy(), records["value"].copy(), columns)
