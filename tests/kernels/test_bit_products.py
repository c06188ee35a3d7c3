"""Rows of bits: products, distances and what may enter a list are those of sets of columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from distnnd.kernels import bit_distances, bit_products, codes
from distnnd.kernels.bit_products import common_bits
from distnnd.kernels.codes import WHOLE, Rows, coded_form, coder_of, encode
from distnnd.kernels.neighbours import empty
from distnnd.kernels.rows import Form, surrogate
from distnnd.kernels.signposts import compare_all
from distnnd.values.metric import Metric, as_built, metric_of
from tests import naive
from tests.kernels.test_products import dots, multiply, pack, pair_dots
from tests.strategies import few, sized

LANES = 16
# One word, around as many as fit into the counts of a byte, and around twice as many.
WIDTHS = [8, 16, 104, 240, 248, 256, 488, 496, 504]
NAMES = ["bit_hamming", "bit_jaccard"]


@njit
def apart(points, others, form, out):
    for i in range(points.shape[0]):
        for j in range(others.shape[0]):
            out[i, j] = surrogate(points, i, others, j, form)


@njit
def limit_of(form, share):
    return codes.limit_of(form, share)


def kind_of(name: str) -> Metric:
    return as_built(metric_of(name))


def rows_of_bits(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Sets from empty to full, some of them twice: uint8[n, width]."""
    rows = np.packbits(rng.random((n, 8 * width)) < rng.random((n, 1)) ** 2, axis=1)
    rows[0], rows[1], rows[n // 2] = 0, 255, rows[n // 3]
    rows[n - 1] = 0
    return rows


def as_sets(rows: np.ndarray) -> np.ndarray:
    return np.unpackbits(rows, axis=1).astype(np.int64)


def distances(name: str, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Written out: float64[m, p]."""
    one, other = as_sets(rows), as_sets(others)
    both = one @ other.T
    differ = one.sum(axis=1)[:, None] + other.sum(axis=1) - 2 * both
    return differ.astype(np.float64) if name == "bit_hamming" else differ / np.maximum(differ + both, 1)


def coded(rows: np.ndarray, name: str) -> tuple[Rows, Form]:
    coder = coder_of(rows, kind_of(name))
    assert coder.exact
    held = encode(rows, coder)
    return held, coded_form(kind_of(name), held, coder)


@pytest.mark.parametrize("how", ["kernel", "python"])
@pytest.mark.parametrize("width", WIDTHS)
def test_products_count_the_common_columns(how: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(width)
    rows, queries = rows_of_bits(rng, 37, width), rows_of_bits(rng, 6, width)
    true = as_sets(queries) @ as_sets(rows).T
    ids = np.minimum(np.arange(48), 36).astype(np.int32)
    run = (pack, multiply, dots, pair_dots)
    if how == "python":
        for name, twin in (("word_at", "_word_at"), ("put_word", "_put_word"), ("_meet", "_meet")):
            monkeypatch.setattr(bit_products, name, getattr(bit_products, f"{twin}_python"))
        monkeypatch.setattr(bit_products, "count_ones", bit_distances._count_ones_python)
        monkeypatch.setattr(bit_products, "common_bits", getattr(common_bits, "py_func", common_bits))
        run = (bit_products.pack, bit_products.multiply, bit_products.dots, bit_products.pair_dots)
    for first_group in (0, 1):
        packed, out = np.full(48 * width + 8, 99, np.uint8), np.full((7, 48), -1, np.int32)
        run[0](rows, ids, 0, 37, width, packed)
        run[1](queries.ravel(), width, 1, 6, np.zeros(8, np.int32), packed, first_group, 3, out)
        assert (packed[48 * width :] == 99).all()
        np.testing.assert_array_equal(out[1:6, : 37 - LANES * first_group], true[1:, LANES * first_group :])
        assert (out[[0, 6]] == -1).all()
    out = np.zeros(48, np.int32)
    run[2](rows, ids, 37, queries[5], np.int32(0), out)
    np.testing.assert_array_equal(out[:37], true[5])
    others = rng.integers(0, 37, 48).astype(np.int32)
    run[3](rows, ids, others, 37, width, out)
    np.testing.assert_array_equal(out[:37], (as_sets(rows)[ids[:37]] * as_sets(rows)[others[:37]]).sum(axis=1))


@pytest.mark.parametrize("name", NAMES)
def test_surrogates_are_the_distances(name: str) -> None:
    rows = rows_of_bits(np.random.default_rng(1), 40, 24)
    held, form = coded(rows, name)
    out = np.empty((40, 40), np.float32)
    apart(rows, rows, form, out)
    np.testing.assert_array_equal(out, distances(name, rows, rows).astype(np.float32))
    np.testing.assert_array_equal(held.squares, as_sets(rows).sum(axis=1))
    # What a list keeps is made of the estimate, and is the same number.
    estimates = distances("bit_hamming", rows, rows).astype(np.int32)
    for i, j in np.random.default_rng(2).integers(0, 40, (sized(200, 50), 2)):
        assert measured(held, i, j, estimates[i, j], form) == out[i, j]


@njit
def measured(rows, i, j, estimate, form):
    return codes.measure(rows, i, rows, j, estimate, form)


@few(100)
@given(st.integers(0, 2**16), st.integers(0, 2**16), st.floats(0, 1), st.floats(0, 1))
def test_what_is_no_farther_is_within_the_limit(one: int, other: int, common: float, slack: float) -> None:
    _, form = coded(np.zeros((2, 8), np.uint8), "bit_jaccard")
    both = int(common * min(one, other))
    differ, union = one + other - 2 * both, max(one + other - both, 1)
    worst = np.float32(min(differ / union + slack * 0.1, 1))
    if worst >= np.float32(differ / union):
        assert differ <= int(limit_of(form, worst)) * (one + other) // WHOLE
    # Not much more is let in: another ten thousandth, and what whole numbers round.
    assert limit_of(form, worst) <= WHOLE * worst / (2 - worst) + 1.01
    assert limit_of(form, np.float32(np.inf)) == WHOLE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [8, 24, 256])
def test_a_leaf_holds_the_nearest(name: str, width: int) -> None:
    """Lists that are empty, and lists that know some rows already."""
    n, k = sized(230, 40), 12
    rows = rows_of_bits(np.random.default_rng(width), n, width)
    held, form = coded(rows, name)
    true = distances(name, rows, rows).astype(np.float32)
    lists = empty(n, k)
    half = Rows(*(part[: n // 2] for part in held))
    for others in (half, held):
        compare_all(held, np.arange(n, dtype=np.int32), others, form, lists)
    expected = naive.nearest_allowed(true, np.ones((n, n), bool), k)
    assert [naive.entries(lists.ids, lists.distances, row) for row in range(n)] == expected
