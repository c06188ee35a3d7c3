"""Rows as a search compares them: by their codes, or by their numbers where codes cannot tell neighbours apart.

Pruning and search are one text for both. They see whole numbers, *keys*, that order rows as their distances do: of
codes the estimate itself, of numbers the bits of the float32 surrogate or distance. The type of the rows chooses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .bit_distances import BitRows
from .chosen import chosen
from .codes import Rows
from .distances import distance
from .jit import kernel
from .lanes import LANES, LINE, prefetch_row
from .neighbours import FRESH, insert
from .products import OFFSET, dots
from .rows import WORD, Form, surrogate

# Larger than every key.
FARTHEST = np.int64(2**31 - 1)


class Coded(NamedTuple):
    """Rows by their codes. codes: int8[m, w], w whole lines of memory; words: the same as int32[m, w / 4].

    The last word of a row is its square, or 0 where only the product counts; zeros lie between.
    """

    codes: np.ndarray
    words: np.ndarray


class Codes(NamedTuple):
    """Queries for coded rows. values: int8[m, v]; squares: int32[m], or 0 where only the product counts; columns."""

    values: np.ndarray
    squares: np.ndarray
    columns: int


class Exact(NamedTuple):
    """Rows, or queries, by their numbers. rows: as a judge takes them, numbers[m, w] or BitRows; form: his."""

    rows: Any
    form: Any


def coded_width(columns: int) -> int:
    """Bytes of a row of so many columns with its square: each begins a line of memory."""
    return -(-(columns + WORD) // LINE) * LINE


def lay_out(rows: Rows, form: Form, coded: np.ndarray) -> None:
    """Write rows into int8[m, coded_width(form.columns)], which may be a part of a larger array."""
    _lay_out(rows.values, rows.squares, form.euclidean, min(form.columns, rows.values.shape[1]), coded)


def with_words(codes: np.ndarray) -> Coded:
    """Rows that were laid out, ready to be compared."""
    return Coded(codes, codes.view(np.int32))


@kernel
def _lay_out(values, squares, euclidean, columns, coded):
    words = coded.view(np.int32)
    for row in range(values.shape[0]):
        for column in range(columns):
            coded[row, column] = values[row, column]
        for column in range(columns, coded.shape[1]):
            coded[row, column] = 0
        if euclidean:
            words[row, words.shape[1] - 1] = squares[row]


# --- one query after the other --------------------------------------------------------------------


@chosen()
def query_width(rows):
    """Room for a query: bytes of its codes."""
    return rows.codes.shape[1]


@query_width.of(Exact)
def _of_none(rows):
    return 1


@chosen()
def take_query(asked, row, query):
    """Copy the codes of a query to `query`, int8, zero behind them.

    Returns what its products begin with, and its square. Exact queries stay where they are. asked: Codes, Coded rows
    themselves, or Exact.
    """
    return _copy(asked.values, row, asked.columns, query), asked.squares[row]


@take_query.of(Coded)
def _take_row(asked, row, query):
    start = _copy(asked.codes, row, asked.codes.shape[1] - WORD, query)
    return start, asked.words[row, asked.words.shape[1] - 1]


@take_query.of(Exact)
def _take_nothing(asked, row, query):
    return np.int32(0), np.int32(0)


@kernel(inline=True)
def _copy(values, row, columns, query):
    total = np.int32(0)
    for column in range(columns):
        query[column] = values[row, column]
        total += np.int32(values[row, column])
    return np.int32(-OFFSET * total)


@chosen()
def keys_to(rows, others, count, asked, row, query, start, square, keys):
    """keys[i] becomes the key of a query and row others[i], for the first `count`; others has room beyond.

    query, start, square: of take_query, of row `row` of `asked`.
    """
    for i in range(count, (count + LANES - 1) // LANES * LANES):
        others[i] = others[0]
    dots(rows.codes, others, count, query, start, keys)
    last = rows.words.shape[1] - 1
    for i in range(count):
        keys[i] = square + rows.words[others[i], last] - 2 * keys[i]


@keys_to.of(Exact)
def _exact_keys(rows, others, count, asked, row, query, start, square, keys):
    for i in range(count):
        keys[i] = _key_of(length(rows.form, asked.rows, row, rows.rows, others[i]))


@chosen()
def length(form, points, i, others, j):
    """What a judge keeps of row i of `points` and row j of `others`, float32: the distance, or its surrogate."""
    return distance(points, i, others, j, form)


@length.of(Form)
def _surrogate(form, points, i, others, j):
    return surrogate(points, i, others, j, form)


@kernel
def offer_all(rows, asked, count, lists):
    """Offer the list of each query the first `count` rows. rows, asked: Exact."""
    for row in range(lists.ids.shape[0]):
        for label in range(count):
            far = length(rows.form, asked.rows, row, rows.rows, label)
            insert(lists, row, np.int32(label), far, np.uint8(FRESH))


@kernel(inline=True)
def _key_of(number):
    """A whole number that orders as a float32 does."""
    # Zero has two signs, and no place between them.
    bits = np.float32(number).view(np.int32) if number != 0 else np.int32(0)
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@chosen()
def number_of(rows, key):
    """The number that a key of these rows stands for, float32."""
    return np.float32(key)


@number_of.of(Exact)
def _float_of(rows, key):
    key = np.int32(key)
    return np.int32(key ^ ((key >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@chosen()
def key_above(rows, key, factor):
    """The key that lies above another one, int64, by a share of what that stands for."""
    return min(FARTHEST, key + np.int64(factor * np.float64(abs(key))))


@key_above.of(Exact)
def _exact_above(rows, key, factor):
    number = np.float64(number_of(rows, key))
    return np.int64(_key_of(np.float32(min(number + factor * abs(number), 3e38))))


@chosen()
def call_for(rows, row):
    """Ask for a row before it is needed."""
    prefetch_row(rows.codes, row)


@call_for.of(Exact)
def _call_for_numbers(rows, row):
    _call_for(rows.rows, row)


@chosen()
def _call_for(rows, row):
    prefetch_row(rows, row)


@_call_for.of(BitRows)
def _call_for_words(rows, row):
    prefetch_row(rows.words, row)
