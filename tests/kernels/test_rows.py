"""Rows: prepared so that one surrogate serves the metric, and compared by one canonical number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.neighbours import empty
from distnnd.kernels.rows import (
    WIDEST_NARROW,
    Form,
    finish,
    plain_form,
    prepare,
    prepared_width,
    rescore,
    stays_narrow,
)
from distnnd.values.metric import METRICS, Metric
from tests import naive
from tests.strategies import FLAVOURS, few, make_points, points, sized

DTYPES = [np.float32, np.uint8, np.int8]
NARROW = [np.uint8, np.int8]


def prepared(raw: np.ndarray, metric: Metric) -> tuple[np.ndarray, Form]:
    """Rows as the stages would prepare them, and their form."""
    width = prepared_width(metric, raw.dtype, raw.shape[1], zero_rows=not raw.any(axis=1).all())
    radius = float(np.linalg.norm(raw.astype(np.float64), axis=1).max())
    return prepare(raw, metric, width, radius), plain_form(metric, width)


def over(euclidean: bool, columns: int) -> Form:
    """The form of a surrogate over leading columns; what it says of codes does not matter here."""
    return Form(euclidean, columns, np.float32(3), np.float32(5), np.float32(7), trusted=False, cut=True)


def canonical(rows: np.ndarray, others: np.ndarray, form: Form) -> np.ndarray:
    """Surrogates of all pairs as rescore writes them: float32[m, p]."""
    lists = empty(len(rows), len(others))
    lists.ids[:] = np.arange(len(others))
    rescore(rows, others, form, lists, 0, len(rows))
    return lists.distances


# --- prepare, surrogate and finish make the metric ------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
@few(40)
@given(data=st.data())
def test_the_finished_surrogate_is_the_metric(name: str, data: st.DataObject) -> None:
    raw = data.draw(points(rows=(1, sized(30, 12))))
    metric = METRICS[name]
    rows, form = prepared(raw, metric)
    told, true = finish(canonical(rows, rows, form), metric), naive.distances(name, raw, raw)
    assert told.dtype == np.float32
    # Errors are a share of what was summed: of the distance, of the absolute products, of unit lengths.
    allowed = 1e-5 * np.abs(true)
    if metric.unit:
        allowed = np.full(true.shape, 2e-6)
    elif not metric.euclidean:
        allowed = 1e-5 * naive.products(np.abs(raw.astype(np.float64)), np.abs(raw.astype(np.float64)))
    assert (np.abs(told - true) <= allowed).all()


@pytest.mark.parametrize("euclidean", [True, False], ids=["euclidean", "inner"])
@few(40)
@given(rows=points(dtypes=(np.float32, np.int8), rows=(1, sized(40, 12)), columns=(1, 70)))
def test_the_surrogate_is_symmetric_exact_and_zero_for_equal_rows(euclidean: bool, rows: np.ndarray) -> None:
    form = over(euclidean, rows.shape[1])
    told, true = canonical(rows, rows, form), naive.surrogates(rows, rows, euclidean)
    np.testing.assert_array_equal(told, told.T)
    size = np.abs(rows.astype(np.float64))
    assert (np.abs(told - true) <= 1e-5 * (true if euclidean else naive.products(size, size))).all()
    if euclidean:
        equal = (rows[:, None] == rows[None]).all(axis=2)
        assert (told[equal] == 0).all()
        assert (told[~equal] > 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
@pytest.mark.parametrize("euclidean", [True, False], ids=["euclidean", "inner"])
def test_the_surrogate_is_the_same_number_wherever_the_rows_lie(dtype: type, euclidean: bool) -> None:
    """Two partitions find the same pair: merging relies on equal bits, whatever lies before the rows in memory."""
    for d in (1, 3, 16, 33, 130)[: sized(5, 3)]:
        rows = make_points("plain", dtype, sized(20, 5), d, seed=d)
        moved = np.zeros((27 + len(rows), d), dtype)
        moved[27:] = rows
        form = over(euclidean, d)
        here = canonical(rows, rows, form)
        np.testing.assert_array_equal(here, canonical(rows, moved, form)[:, 27:])
        np.testing.assert_array_equal(here, canonical(moved, moved, form)[27:, 27:])


def test_columns_beyond_the_form_do_not_count() -> None:
    rows = make_points("plain", np.float32, 10, 6, seed=0)
    for euclidean in (True, False):
        form = over(euclidean, 4)
        cut = np.ascontiguousarray(rows[:, :4])
        np.testing.assert_array_equal(canonical(rows, rows, form), canonical(cut, cut, form))


# --- prepare --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["euclidean", "sqeuclidean"])
def test_euclidean_rows_stay_as_they_are(name: str) -> None:
    raw = make_points("plain", np.float32, 9, 5, seed=1)
    rows, form = prepared(raw, METRICS[name])
    assert rows is raw
    assert form == Form(True, 5, 1, 0, 0, trusted=False, cut=False)


@pytest.mark.parametrize("d", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", ["euclidean", "sqeuclidean"])
def test_narrow_rows_become_int8_and_are_filled_up(name: str, dtype: type, d: int) -> None:
    """Moved by 128 where they have no sign: all differences stay. Columns go by fours, as products of codes do."""
    metric = METRICS[name]
    raw = np.random.default_rng(d).integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, (30, d)).astype(dtype)
    raw[0], raw[1] = np.iinfo(dtype).min, np.iinfo(dtype).max
    before = raw.copy()
    rows, form = prepared(raw, metric)
    assert rows.dtype == np.int8
    assert rows.shape == (30, -(-d // 4) * 4)
    np.testing.assert_array_equal(rows[:, :d].astype(int), raw.astype(int) - (128 if dtype == np.uint8 else 0))
    assert (rows[:, d:] == 0).all()
    np.testing.assert_array_equal(raw, before)
    assert form == plain_form(metric, rows.shape[1]) == Form(True, rows.shape[1], 1, 0, 0, trusted=False, cut=False)
    np.testing.assert_array_equal(canonical(rows, rows, form), naive.squared(raw, raw))


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_rows_of_any_layout_are_prepared(dtype: type) -> None:
    """A source may hand out a view: every other row, or columns first."""
    raw = make_points("plain", dtype, 20, 6, seed=2)
    expected, _ = prepared(raw, METRICS["euclidean"])
    np.testing.assert_array_equal(prepared(np.asfortranarray(raw), METRICS["euclidean"])[0], expected)
    np.testing.assert_array_equal(prepared(raw[::2], METRICS["euclidean"])[0], expected[::2])


@pytest.mark.parametrize("dtype", NARROW)
def test_the_widest_narrow_rows(dtype: type) -> None:
    """One column more, and squares of bytes would leave 32 bits: such rows are floats."""
    metric = METRICS["euclidean"]
    for d, kept in ((WIDEST_NARROW, np.int8), (WIDEST_NARROW + 1, np.float32)):
        raw = make_points("plain", dtype, 2, d, seed=3)
        rows, _ = prepared(raw, metric)
        assert stays_narrow(metric, dtype, d) == (kept == np.int8)
        assert rows.dtype == kept
        assert rows.shape == (2, d)
        if kept == np.float32:
            np.testing.assert_array_equal(rows, raw)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, "float32", "uint8", *NARROW])
def test_only_narrow_numbers_under_a_plain_euclidean_metric_stay_narrow(name: str, dtype: type | str) -> None:
    """A plan knows its dtype by name."""
    narrow = name in ("euclidean", "sqeuclidean") and np.dtype(dtype).kind != "f"
    assert stays_narrow(METRICS[name], dtype, 7) == narrow
    assert (prepared_width(METRICS[name], dtype, 7, zero_rows=False) == 8) == (narrow or name == "inner_product")


def test_half_precision_becomes_single() -> None:
    raw = make_points("plain", np.float32, 9, 4, seed=1).astype(np.float16)
    rows = prepare(raw, METRICS["euclidean"], 4, 0.0)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, raw)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cosine_rows_have_unit_length(flavour: str, dtype: type) -> None:
    raw = make_points(flavour, dtype, 40, 7, seed=2)
    rows, _ = prepared(raw, METRICS["cosine"])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)
    there = raw.any(axis=1)
    lengths = np.linalg.norm(raw.astype(np.float64), axis=1)[there, None]
    np.testing.assert_allclose(rows[there, :7], raw[there] / lengths, atol=1e-6)


def test_rows_of_any_size_have_a_direction() -> None:
    """Squares of these leave float32; they must not leave the preparation."""
    raw = np.array([[3e18, 4e18], [3e-30, 4e-30], [1e-42, 0], [-3e18, -4e18]], np.float32)
    rows, _ = prepared(raw, METRICS["cosine"])
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.6, 0.8], [1, 0], [-0.6, -0.8]], atol=1e-6)


def test_zero_rows_have_a_column_of_their_own() -> None:
    raw = make_points("plain", np.float32, 8, 3, seed=3)
    raw[[2, 5]] = 0
    metric = METRICS["cosine"]
    rows, form = prepared(raw, metric)
    assert rows.shape == (8, 4)
    assert rows[[2, 5]].tolist() == [[0, 0, 0, 1]] * 2
    assert (rows[[0, 1, 3, 4, 6, 7], 3] == 0).all()
    told = finish(canonical(rows, rows, form), metric)
    others = [0, 1, 3, 4, 6, 7]
    assert told[2, 5] == told[5, 2] == told[2, 2] == 0
    np.testing.assert_allclose(told[2, others], 1, atol=1e-6)


def test_more_rows_than_one_strip_are_all_prepared() -> None:
    raw = make_points("zeros", np.float32, 8192 + 100, 2, seed=4)
    unit, product = METRICS["cosine"], METRICS["inner_product"]
    np.testing.assert_array_equal(prepare(raw, unit, 3, 0.0)[8100:], prepare(raw[8100:], unit, 3, 0.0))
    np.testing.assert_array_equal(prepare(raw, product, 3, 9.0)[8100:], prepare(raw[8100:], product, 3, 9.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_inner_product_rows_lie_on_a_sphere(dtype: type) -> None:
    """There the largest product is the nearest point: routing may look for it by euclidean distance."""
    raw = make_points("plain", dtype, 50, 5, seed=5)
    metric = METRICS["inner_product"]
    radius = float(np.linalg.norm(raw.astype(np.float64), axis=1).max())
    rows, form = prepared(raw, metric)
    assert rows.dtype == np.float32
    assert rows.shape == (50, 6)
    np.testing.assert_array_equal(rows[:, :5], raw)
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), radius, rtol=1e-6)
    assert form == Form(False, 5, 1, 0, 0, trusted=False, cut=False)
    query = rows[7] * np.float32([1, 1, 1, 1, 1, 0])
    apart, products = naive.squared(query[None], rows)[0], raw.astype(np.float64) @ raw[7].astype(np.float64)
    np.testing.assert_allclose(apart, apart[0] + 2 * (products[0] - products), rtol=1e-5, atol=1e-5 * radius**2)


@pytest.mark.parametrize(
    ("name", "zero_rows", "dtype", "width"),
    [
        ("euclidean", False, np.float32, 5),
        ("euclidean", True, np.float32, 5),
        ("euclidean", False, np.uint8, 8),
        ("sqeuclidean", True, np.int8, 8),
        ("cosine", False, np.float32, 5),
        ("cosine", True, np.float32, 6),
        ("cosine", False, np.uint8, 5),
        ("cosine", True, np.int8, 6),
        ("inner_product", False, np.float32, 6),
        ("inner_product", True, np.uint8, 6),
    ],
)
def test_columns_are_added_only_where_they_are_needed(name: str, zero_rows: bool, dtype: type, width: int) -> None:
    assert prepared_width(METRICS[name], dtype, 5, zero_rows) == width
    assert prepare(np.ones((2, 5), dtype), METRICS[name], width, 3.0).shape == (2, width)


@pytest.mark.parametrize("name", METRICS)
def test_a_plain_form_compares_what_the_metric_compares(name: str) -> None:
    """Without codes only the canonical surrogate is asked; the last column of inner_product is none of it."""
    form = plain_form(METRICS[name], 9)
    inner = name == "inner_product"
    assert form == Form(not inner, 9 - inner, 1, 0, 0, trusted=False, cut=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("euclidean", [0, 1, 2]), ("sqeuclidean", [0, 1, 4]), ("cosine", [0, 0.5, 2]), ("inner_product", [0, 1, 4])],
)
def test_finish(name: str, expected: list[float]) -> None:
    told = finish(np.array([0, 1, 4], np.float32), METRICS[name])
    assert told.dtype == np.float32
    assert told.tolist() == expected


# --- rescore --------------------------------------------------------------------------------------


def test_rescore_leaves_alone_what_is_not_at_hand() -> None:
    rows = make_points("plain", np.float32, 6, 3, seed=8)
    others = make_points("plain", np.float32, 9, 3, seed=9)
    lists = empty(6, 4)
    lists.ids[:] = [8, -2, 0, -1]
    lists.distances[:] = [5, 6, 7, np.inf]
    rescore(rows, others, over(True, 3), lists, 1, 5)
    true = naive.squared(rows, others)
    np.testing.assert_allclose(lists.distances[1:5, 0], true[1:5, 8], rtol=1e-6)
    np.testing.assert_allclose(lists.distances[1:5, 2], true[1:5, 0], rtol=1e-6)
    assert lists.distances[:, 1].tolist() == [6] * 6
    assert np.isinf(lists.distances[:, 3]).all()
    assert lists.distances[[0, 5], 0].tolist() == [5, 5]
