"""Metrics as the columns that two sparse rows share decide them: a total over these columns, and the size of each row.

A column adds `common` of its two weights to the total. From the total and both sizes comes the *surrogate*, which
orders pairs as the distance does: `level` leads from a distance to it, `told` back. Totals are float32 and select; the
distance that is kept comes from kernels/distances.py, save where totals are counts and say it themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..values.points import Csr, row_of_entries, starts_of
from .chosen import chosen
from .forms import (
    SETS,
    BrayCurtis,
    Canberra,
    Correlation,
    Cosine,
    Dice,
    Euclidean,
    Hamming,
    Hellinger,
    InnerProduct,
    Jaccard,
    JensenShannon,
    JensenShannonRoot,
    Manhattan,
    SokalSneath,
    SquaredEuclidean,
    TrueAngular,
    WeightedEuclidean,
    Yule,
)
from .gap_metrics import gap_between
from .sets import set_distance

_UNIT = (Cosine, TrueAngular, Hellinger)
_GAPS = (Euclidean, SquaredEuclidean, WeightedEuclidean)
_SHARES = (JensenShannon, JensenShannonRoot)
# Zero rows are at 0 from each other, and as far from all others as rows can be that share nothing.
_VACANT = (*_UNIT, *_SHARES, Correlation, BrayCurtis, Jaccard, Dice, SokalSneath)
SERVED = (*_UNIT, *_GAPS, *_SHARES, *SETS, Correlation, InnerProduct, Manhattan, BrayCurtis, Canberra, Hamming)

LEAST = 1e-300


class Weighted(NamedTuple):
    """Sparse rows by what each entry weighs. starts: int64[m + 1]; columns: int32[nnz]; weights: float32[nnz].

    sizes: float64[m], what else a distance needs of a row; width: how many columns there are; vacancy: whether the last
    of them is that of zero rows.
    """

    starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray
    width: int
    vacancy: bool

    def between(self, first: int, last: int) -> Weighted:
        """Rows first .. last; their entries are views of these."""
        entries = slice(self.starts[first], self.starts[last])
        starts, sizes = self.starts[first : last + 1] - self.starts[first], self.sizes[first:last]
        return self._replace(starts=starts, columns=self.columns[entries], weights=self.weights[entries], sizes=sizes)

    def among(self, known: np.ndarray) -> Weighted:
        """The same without the columns that are none of the known ones, int32, ascending, and numbered by these."""
        at = np.searchsorted(known, self.columns).astype(np.int32)
        at[at == len(known)] = 0
        kept = known[at] == self.columns if len(known) else np.zeros(len(at), bool)
        return self._replace(
            starts=starts_of(kept)[self.starts],
            columns=at[kept],
            weights=self.weights[kept],
            width=len(known),
            vacancy=self.vacancy and len(known) > 0 and bool(known[-1] == self.width - 1),
        )


# --- rows by weight -------------------------------------------------------------------------------


class Entries(NamedTuple):
    """What weights are made of. row: int64[nnz]; columns: int32[nnz]; values: float64[nnz]; m: how many rows."""

    row: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    m: int

    def per_row(self, values: np.ndarray) -> np.ndarray:
        """The sum of a number of each entry over the entries of each row: float64[m]."""
        return np.bincount(self.row, values, self.m).astype(np.float64)


def weigh(points: Csr, form: Any) -> Weighted:
    """The rows by weight, for a form of SERVED.

    Where zero rows are near each other a row without weights gets one, in a column of its own behind the others.
    """
    entries = Entries(row_of_entries(points.indptr), points.indices, points.data.astype(np.float64), points.rows)
    weights, sizes = _WEIGHTS[type(form)](entries, form)
    starts, columns, weights = points.indptr, points.indices, weights.astype(np.float32)
    if not isinstance(form, _VACANT):
        return Weighted(starts, columns, weights, sizes, points.columns, False)
    lengths = np.diff(starts)
    if isinstance(form, Correlation):
        # Nothing is left of a constant row, which may list all its columns.
        kept = (sizes != np.inf)[entries.row]
        columns, weights = columns[kept], weights[kept]
        lengths = np.where(sizes != np.inf, lengths, 0)
        sizes = np.where(sizes != np.inf, sizes, 0)
    empty = np.flatnonzero(lengths == 0)
    at = starts_of(lengths)[empty]
    columns, weights = np.insert(columns, at, np.int32(points.columns)), np.insert(weights, at, np.float32(1))
    if not isinstance(form, Correlation):
        sizes = np.where(lengths > 0, sizes, 1.0)
    return Weighted(starts_of(np.maximum(lengths, 1)), columns, weights, sizes, points.columns + 1, True)


def _of_unit_length(entries: Entries, form: Any) -> tuple[np.ndarray, np.ndarray]:
    values = np.sqrt(entries.values) if isinstance(form, Hellinger) else entries.values
    lengths = np.sqrt(entries.per_row(values * values))
    return values / lengths[entries.row], np.ones(entries.m)


def _centred(entries: Entries, form: Correlation) -> tuple[np.ndarray, np.ndarray]:
    """Over the length of what is left around the mean; sizes: of the mean, sqrt(d) times it, inf of constant rows."""
    d, values = form.columns, entries.values
    means = entries.per_row(values) / d
    around = entries.per_row((values - means[entries.row]) ** 2)
    around += (d - np.bincount(entries.row, minlength=entries.m)) * means**2
    listed = np.bincount(entries.row, minlength=entries.m)
    least, most = np.full(entries.m, np.inf), np.full(entries.m, -np.inf)
    np.minimum.at(least, entries.row, values)
    np.maximum.at(most, entries.row, values)
    constant = (listed == 0) | ((listed == d) & (least == most)) | (around == 0)
    lengths = np.where(constant, 1.0, np.sqrt(around))
    return values / lengths[entries.row], np.where(constant, np.inf, math.sqrt(d) * means / lengths)


def _as_they_are(entries: Entries, form: Any) -> tuple[np.ndarray, np.ndarray]:
    values = entries.values
    if isinstance(form, WeightedEuclidean):
        values = values * np.sqrt(form.weights)[entries.columns]
    squares = entries.per_row(values * values)
    return values, np.sqrt(squares) if isinstance(form, InnerProduct) else squares


def _with_sums(entries: Entries, form: Any) -> tuple[np.ndarray, np.ndarray]:
    return entries.values, entries.per_row(abs(entries.values))


def _with_counts(entries: Entries, form: Any) -> tuple[np.ndarray, np.ndarray]:
    return entries.values, np.bincount(entries.row, minlength=entries.m).astype(np.float64)


def _as_shares(entries: Entries, form: Any) -> tuple[np.ndarray, np.ndarray]:
    return entries.values / entries.per_row(entries.values)[entries.row], np.ones(entries.m)


def _as_sets(entries: Entries, form: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(len(entries.values)), np.bincount(entries.row, minlength=entries.m).astype(np.float64)


_WEIGHTS: dict[type, Callable[[Entries, Any], tuple[np.ndarray, np.ndarray]]] = {
    **dict.fromkeys(_UNIT, _of_unit_length),
    **dict.fromkeys((*_GAPS, InnerProduct), _as_they_are),
    **dict.fromkeys(_SHARES, _as_shares),
    **dict.fromkeys(SETS, _as_sets),
    **dict.fromkeys((Manhattan, BrayCurtis), _with_sums),
    **dict.fromkeys((Canberra, Hamming), _with_counts),
    Correlation: _centred,
}


def order_apart(sizes: np.ndarray, form: Any) -> np.ndarray:
    """Numbers in the order of which rows are near to one with which they share no column: float64[m]."""
    # A set that holds no column is part of any.
    return np.sign(sizes) if isinstance(form, Yule) else sizes


def sums_float32(form: Any) -> bool:
    """Whether the canonical distance of rows that share no column is a sum of numbers that is rounded to float32."""
    return isinstance(form, Manhattan)


def are_whole(rows: Weighted) -> bool:
    """Whether all weights are whole numbers so small that float32 sums of those of two rows are exact."""
    return bool((rows.weights == np.rint(rows.weights)).all()) and rows.sizes.max(initial=0) < 2**23


# --- what a shared column adds --------------------------------------------------------------------


@chosen()
def common(form, a, b):
    """What a column adds in which the rows weigh a and b, both float32 and not 0."""
    return a * b


@common.of(Manhattan, BrayCurtis)
def _what_both_have(form, a, b):
    return abs(a) + abs(b) - gap_between(a, b)


@common.of(Canberra)
def _what_is_not_gap(form, a, b):
    return np.float32(2) - gap_between(a, b) / (abs(a) + abs(b))


@common.of(Hamming)
def _twice_unless_equal(form, a, b):
    return np.float32(1) if a != b else np.float32(2)


@common.of(*_SHARES)
def _less_divergent(form, a, b):
    """ln 2 less this over all columns is the divergence: p ln p + q ln q is what is left where one share is 0."""
    # Shares too small for float32 have no logarithm.
    p, q = max(np.float64(a), LEAST), max(np.float64(b), LEAST)
    return np.float32(((p + q) * math.log(p + q) - p * math.log(p) - q * math.log(q)) / 2)


# --- from totals to surrogates --------------------------------------------------------------------


@chosen()
def surrogate_of(form, total, x, y):
    """The surrogate of rows of sizes x and y with that total; of its type."""
    return np.float32(1) - total


@surrogate_of.of(Correlation)
def _around_means(form, total, x, y):
    return np.float32(1) - total + x * y


@surrogate_of.of(*_GAPS)
def _squared_gap(form, total, x, y):
    return x + y - (total + total)


@surrogate_of.of(InnerProduct)
def _negative(form, total, x, y):
    return -total


@surrogate_of.of(Manhattan, Canberra, Hamming)
def _what_is_not_shared(form, total, x, y):
    return x + y - total


@surrogate_of.of(BrayCurtis)
def _share_not_shared(form, total, x, y):
    return (x + y - total) / (x + y)


@surrogate_of.of(*_SHARES)
def _divergence(form, total, x, y):
    return np.float32(math.log(2)) - total


@surrogate_of.of(*SETS)
def _of_sets(form, total, x, y):
    return set_distance(form, np.float64(total), np.float64(x) - total, np.float64(y) - total)


@chosen()
def doubt(form, error, x, y):
    """By how much a surrogate may be off; error: how far a float32 sum of products of unit rows may be."""
    return error


@doubt.of(Correlation)
def _of_both_lengths(form, error, x, y):
    return error * (np.float32(1) + x * x + y * y)


@doubt.of(*_GAPS)
def _of_squares(form, error, x, y):
    return error * (x + y)


@doubt.of(InnerProduct)
def _of_norms(form, error, x, y):
    return error * (x * y)


@doubt.of(Manhattan, Canberra)
def _of_two_sums(form, error, x, y):
    # The distance itself is summed in float32 too.
    return np.float32(2) * error * (x + y)


@doubt.of(BrayCurtis, *_SHARES)
def _several_times(form, error, x, y):
    return np.float32(4) * error


@doubt.of(Hamming, *SETS)
def _none(form, error, x, y):
    return np.float32(0)


@chosen()
def bounds(form):
    """Whether the surrogate bounds the distance from above too."""
    return True


@bounds.of(BrayCurtis)
def _does_not(form):
    # Columns of opposite signs make the sum of sizes smaller than it is taken for.
    return False


@chosen()
def counted(form):
    """Whether totals are counts, so that a surrogate is exact."""
    return False


@counted.of(Hamming, *SETS)
def _is_counted(form):
    return True


# --- between surrogates and distances -------------------------------------------------------------


@chosen()
def level(form, distance):
    """The surrogate of a distance, float64 both."""
    return distance


@chosen()
def told(form, surrogate):
    """The distance of a surrogate, float64 both."""
    return surrogate


@level.of(TrueAngular)
def _less_cosine(form, distance):
    return 1.0 - math.cos(math.pi * distance)


@told.of(TrueAngular)
def _half_turns(form, surrogate):
    return math.acos(min(max(1.0 - surrogate, -1.0), 1.0)) / math.pi


@level.of(Hellinger, Euclidean, WeightedEuclidean)
def _square(form, distance):
    return distance * distance


@told.of(Hellinger, Euclidean, WeightedEuclidean)
def _root(form, surrogate):
    return math.sqrt(max(surrogate, 0.0))


@level.of(JensenShannonRoot)
def _nats(form, distance):
    return distance * distance * form.unit


@told.of(JensenShannonRoot)
def _root_of_nats(form, surrogate):
    return math.sqrt(max(surrogate, 0.0) / form.unit)


@level.of(Hamming)
def _count(form, distance):
    return distance * form.columns


@told.of(Hamming)
def _share(form, surrogate):
    return surrogate / form.columns
