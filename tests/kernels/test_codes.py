"""Codes: the nearest whole steps, sums that fit, and a form that says how far an estimate may be off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numba import njit

from distnnd.kernels import codes, products
from distnnd.kernels.codes import (
    EVERYTHING,
    FAR,
    LARGEST_SQUARE,
    LOOKED_AT,
    OFFSET,
    PEAK,
    Coder,
    Rows,
    add_up,
    beyond,
    coded_form,
    coder_of,
    encode,
    routing_form,
    trusted,
)
from distnnd.kernels.rows import Form
from distnnd.values.memory import code_columns
from distnnd.values.metric import METRICS, Metric
from tests import naive
from tests.kernels.estimates import (
    EUCLIDEAN,
    NARROW,
    PRODUCT,
    assert_nothing_is_kept_out,
    canonical,
    estimated,
    limit,
    limits,
    limits_of,
    prepared,
)
from tests.strategies import FLAVOURS, few, make_points, points, sized


@njit
def gather(rows, chosen, first, count, columns, width, block, starts):
    codes.gather(rows, chosen, first, count, columns, width, block, starts)


@njit
def multiplied(columns, width):
    return codes.multiplied(columns, width)


@njit
def multiply(values, names, count, block, width, queries, starts, packed, out):
    products.pack(values, names, 0, count, width, packed)
    products.multiply(block, width, 0, queries, starts, packed, 0, (count + 15) // 16, out)


# --- narrow numbers are their own codes -----------------------------------------------------------


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_narrow_rows_lose_nothing(flavour: str, dtype: type) -> None:
    """The estimate is the squared distance of the raw rows, and so is the canonical surrogate."""
    raw = make_points(flavour, dtype, sized(40, 12), 7, seed=7)
    raw[0], raw[1] = np.iinfo(dtype).min, np.iinfo(dtype).max
    rows = prepared(raw, EUCLIDEAN)
    coder = coder_of(rows, EUCLIDEAN)
    coded = encode(rows, coder)
    form = coded_form(EUCLIDEAN, coded, coder, strict=True)
    assert coder.exact
    assert coded.points is coded.values is rows, "one array, not two"
    told = estimated(coded, coded, form)
    np.testing.assert_array_equal(told, naive.squared(raw, raw))
    np.testing.assert_array_equal(form.unit * told.astype(np.float32), canonical(rows, rows, EUCLIDEAN))
    np.testing.assert_array_equal(limits(form, canonical(rows, rows, EUCLIDEAN)), told)
    assert form == coded_form(EUCLIDEAN, coded, coder) == routing_form(coded, coder)
    assert form == Form(True, 8, 1, 0, 0, trusted=True, cut=False)


@pytest.mark.parametrize("dtype", NARROW)
def test_the_widest_narrow_rows_stay_below_everything(dtype: type) -> None:
    """Farther apart than these no two rows can be; they are still told from `EVERYTHING`."""
    raw = np.empty((2, 8192), dtype)
    raw[0], raw[1] = np.iinfo(dtype).min, np.iinfo(dtype).max
    rows = prepared(raw, EUCLIDEAN)
    coder = coder_of(rows, EUCLIDEAN)
    coded = encode(rows, coder)
    form = coded_form(EUCLIDEAN, coded, coder)
    told = estimated(coded, coded, form)[0, 1]
    assert told == 8192 * 255**2 < EVERYTHING
    assert coded.squares.tolist() == [8192 * 128**2, 8192 * 127**2]
    assert coded.squares.max() <= LARGEST_SQUARE
    assert told <= limit(form, float(np.float32(told))) <= EVERYTHING


# --- coder_of and encode --------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [EUCLIDEAN, PRODUCT], ids=["euclidean", "inner"])
@few(40)
@given(rows=points(dtypes=(np.float32,), rows=(1, sized(60, 20)), columns=(1, sized(40, 10))))
def test_codes_are_the_nearest_whole_steps(metric: Metric, rows: np.ndarray) -> None:
    coder = coder_of(rows, metric)
    coded = encode(rows, coder)
    m, d = rows.shape
    assert coded.points is rows
    assert coded.values.dtype == np.int8
    assert coded.values.shape == (m, code_columns(d))
    assert (coded.values[:, d:] == 0).all()
    values = coded.values[:, :d].astype(np.float64)
    exactly = (rows.astype(np.float64) - coder.centre) / coder.step
    reachable = np.abs(exactly) <= PEAK + 0.5
    assert (np.abs(values - exactly)[reachable] <= 0.5001).all()
    np.testing.assert_array_equal(values[~reachable], PEAK * np.sign(exactly[~reachable]))
    assert reachable.all() or coder.cuts
    if not metric.euclidean:
        assert not coder.centre.any()
    if rows.any() and not coder.cuts and not (rows == rows[0]).all():
        assert np.abs(values).max() == PEAK, "all codes are used"


def test_the_whole_range_of_codes_and_nothing_beyond() -> None:
    """-128 has no opposite: it is nobody's code."""
    coder = Coder(np.zeros(1, np.float32), 1.0, exact=False, cuts=True)
    numbers = np.array([*range(-131, 132), 1e30, -1e30], np.float32)
    values = encode(numbers[:, None], coder).values[:, 0]
    np.testing.assert_array_equal(values, numbers.clip(-PEAK, PEAK))
    halves = np.array([-1.6, -1.4, -0.6, -0.4, 0.4, 0.6, 1.4, 1.6], np.float32)
    assert encode(halves[:, None], coder).values[:, 0].tolist() == [-2, -1, -1, 0, 0, 1, 1, 2]


def test_the_code_of_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    rows = make_points("plain", np.float32, 12, 5, seed=8)
    coder = coder_of(rows, EUCLIDEAN)
    together = encode(rows, coder)
    for row in range(len(rows)):
        alone = encode(rows[row : row + 1], coder)
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[row])


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("value", [0.0, 7.5, -1e6])
def test_rows_that_are_all_the_same(name: str, value: float) -> None:
    """Nothing to tell apart, and no division by zero; under cosine and inner_product they may be all zero too."""
    metric = METRICS[name]
    rows = prepared(np.full((5, 3), value, np.float32), metric)
    coder = coder_of(rows, metric)
    assert coder.step > 0
    assert not coder.cuts
    coded = encode(rows, coder)
    assert (coded.values == coded.values[0]).all()
    form = coded_form(metric, coded, coder, strict=True)
    assert_nothing_is_kept_out(form, coded, coded, metric)
    if metric.euclidean:
        assert (estimated(coded, coded, form) == 0).all()


def test_no_rows_at_all() -> None:
    coder = Coder(np.zeros(3, np.float32), 1.0, exact=False, cuts=False)
    coded = encode(np.zeros((0, 3), np.float32), coder)
    assert coded.values.shape == (0, 4)
    assert np.isfinite(coded_form(PRODUCT, coded, coder).spare)


@pytest.mark.parametrize(("times", "cuts"), [(0.5, False), (3.5, False), (4.5, True), (1e6, True)])
def test_only_what_is_far_out_is_cut_off(times: float, cuts: bool) -> None:
    """Farther than a few times what all but a hundredth of the rows reach; however far, it does not draw the centre."""
    rng = np.random.default_rng(9)
    rows = rng.uniform(-1, 1, (1000, 2)).astype(np.float32)
    rows[:, 0] = np.sign(rows[:, 0])
    rows[0] = 0, times
    coder = coder_of(rows, EUCLIDEAN)
    assert coder.cuts == cuts
    assert coder.step == pytest.approx((FAR if cuts else max(times, 1)) / PEAK, rel=0.1)
    assert np.abs(coder.centre).max() < 0.1


def test_a_few_rows_among_many_that_are_the_same_are_not_cut_off() -> None:
    """Where all but a hundredth of the rows lie on the centre, what is beyond is all there is to tell apart."""
    rows = np.zeros((1000, 3), np.float32)
    rows[5, 1], rows[6, 1] = 3, -3
    coder = coder_of(rows, EUCLIDEAN)
    assert not coder.cuts
    assert encode(rows, coder).values[[5, 6], 1].tolist() == [127, -127]


def test_a_coder_looks_at_rows_from_end_to_end() -> None:
    """Sorted rows would mislead a look at the first ones."""
    rows = np.linspace(-50, 150, 5 * LOOKED_AT, dtype=np.float32)[:, None]
    coder = coder_of(rows, EUCLIDEAN)
    assert coder.centre[0] == pytest.approx(50, abs=0.1)
    assert coder.step == pytest.approx(100 / PEAK, rel=0.01)


@pytest.mark.parametrize("width", [4, 12, 8192])
def test_add_up_sums_squares_and_what_products_begin_with(width: int) -> None:
    values = np.random.default_rng(width).integers(-128, 128, (4, width)).astype(np.int8)
    values[0], values[1] = -128, 127
    squares, starts = np.zeros((2, 4), np.int32)
    add_up(values, squares, starts)
    assert squares.tolist() == naive.whole_products(values, values).diagonal().tolist()
    assert starts.tolist() == (-OFFSET * values.astype(np.int64).sum(axis=1)).tolist()


# --- forms ----------------------------------------------------------------------------------------


def some_form(metric: Metric, strict: bool = False) -> tuple[Form, Rows, Coder]:
    rows = prepared(make_points("plain", np.float32, 40, 6, seed=10), metric)
    coder = coder_of(rows, metric)
    coded = encode(rows, coder)
    return coded_form(metric, coded, coder, strict), coded, coder


@pytest.mark.parametrize("strict", [False, True])
def test_form_of(strict: bool) -> None:
    """Which columns count, what a unit is, and that estimates may bound others where nothing was cut off."""
    for name, columns in (("euclidean", 6), ("cosine", 6), ("inner_product", 6)):
        metric = METRICS[name]
        form, coded, coder = some_form(metric, strict)
        assert form.euclidean == metric.euclidean
        assert form.columns == columns == coded.points.shape[1] - (not metric.euclidean)
        assert not form.trusted
        assert not form.cut
        assert form.unit == np.float32(coder.step**2 / (1 if metric.euclidean else 2))
        assert all(isinstance(number, np.float32) for number in (form.unit, form.spread, form.spare))


@pytest.mark.parametrize("metric", [EUCLIDEAN, PRODUCT], ids=["euclidean", "inner"])
def test_trusted_forms_allow_for_nothing(metric: Metric) -> None:
    form, _, _ = some_form(metric, strict=True)
    kept = trusted(form)
    assert kept == Form(form.euclidean, form.columns, form.unit, 0, 0, trusted=True, cut=False)
    for estimate in (0, 1, 77, 30_000):
        assert abs(limit(kept, float(form.unit * np.float32(estimate))) - estimate) <= 1


@pytest.mark.parametrize("metric", [EUCLIDEAN, PRODUCT], ids=["euclidean", "inner"])
def test_rows_look_for_pivots_by_all_columns(metric: Metric) -> None:
    """Under inner_product rows lie on a sphere: there the last column counts."""
    _, coded, coder = some_form(metric)
    form = routing_form(coded, coder)
    assert form == Form(True, coded.points.shape[1], np.float32(coder.step**2), 0, 0, trusted=True, cut=False)
    told = form.unit * estimated(coded, coded, form)
    gap = np.abs(np.sqrt(told) - np.sqrt(naive.squared(coded.points, coded.points)))
    assert gap.max() <= 2 * np.sqrt(form.columns) * coder.step


# --- limit_of -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [EUCLIDEAN, PRODUCT], ids=["euclidean", "inner"])
def test_a_larger_surrogate_has_no_smaller_limit(metric: Metric) -> None:
    form, _, _ = some_form(metric)
    sizes = np.concatenate([[0], np.geomspace(1e-9, 1e12, 300)]).astype(np.float32)
    surrogates = sizes if metric.euclidean else np.concatenate([-sizes[::-1], sizes])
    told = limits_of(form, surrogates).astype(np.int64)
    assert (np.diff(told) >= 0).all()
    assert told[-1] == EVERYTHING
    assert told[0] == int(form.spare) if metric.euclidean else told[0] < -0.99 * EVERYTHING


def test_everything_may_enter_a_list_that_knows_nothing() -> None:
    for metric in (EUCLIDEAN, PRODUCT):
        form, _, _ = some_form(metric)
        for one in (form, trusted(form), coded_form(metric, *some_form(metric)[1:], strict=True)):
            assert limit(one, np.inf) == EVERYTHING
            assert limit(one, 1e38) == EVERYTHING, "more units than a float32 can count"
            assert limit(one, -1e38) < -0.99 * EVERYTHING or metric.euclidean


def test_limits_of_large_whole_numbers_are_not_rounded_down() -> None:
    """A float32 does not hold each number above 2^24: what it stands for may be one more than it says."""
    form = Form(True, 8, np.float32(1), np.float32(0), np.float32(0), True, False)
    rng = np.random.default_rng(11)
    whole = np.concatenate([np.arange(2000), rng.integers(0, EVERYTHING - 200, 3000)])
    told = limits(form, whole)
    assert (told >= whole).all()
    assert (told[whole < 2**21] == whole[whole < 2**21]).all()
    assert (told <= whole * (1 + 5e-7) + 1).all()


# --- gather, and estimates as kernels make them ---------------------------------------------------


@pytest.mark.parametrize("columns", [12, 11, 5, 1])
def test_gather_takes_rows_and_leaves_columns_out(columns: int) -> None:
    """Whole rows, or as much of them as is multiplied."""
    values = np.random.default_rng(12).integers(-128, 128, (20, 12)).astype(np.int8)
    squares, starts = np.zeros((2, 20), np.int32)
    add_up(values, squares, starts)
    rows = Rows(values, values, squares, starts)
    chosen = np.array([3, 19, 0, 7, 7, 2], np.int32)
    true = values[[19, 0, 7, 7]].copy()
    true[:, columns:] = 0
    for width in {12, -(-columns // 4) * 4}:
        block, begin = np.full(5 * width, 77, np.int8), np.full(5, 77, np.int32)
        gather(rows, chosen, 1, 4, columns, width, block, begin)
        np.testing.assert_array_equal(block[: 4 * width].reshape(4, width), true[:, :width])
        assert begin[:4].tolist() == (-OFFSET * true.astype(np.int64).sum(axis=1)).tolist()
        assert (block[4 * width :] == 77).all()
        assert begin[4] == 77


def test_rows_of_codes_are_whole_lines_where_that_costs_little() -> None:
    """As many columns, or up to a third more; else whole words."""
    for columns in range(1, 1100):
        width, lines = code_columns(columns), -(-columns // 64) * 64
        assert width in {lines, -(-columns // 4) * 4}
        assert width >= columns
        assert (width == lines) == (lines <= 4 / 3 * (-(-columns // 4) * 4))
    assert [code_columns(columns) for columns in (3, 45, 50, 100, 128, 130, 300)] == [4, 64, 64, 128, 128, 132, 320]


def test_as_much_is_multiplied_as_takes_part() -> None:
    """Whole words, but no less than what lies behind would be packed beside."""
    for columns, width, words in ((100, 128, 100), (98, 128, 100), (128, 128, 128), (129, 128, 128), (1, 64, 4)):
        assert multiplied(columns, width) == words
    for columns, width in ((128, 132), (64, 128), (20, 68)):
        assert multiplied(columns, width) == width


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("name", METRICS)
def test_gather_pack_and_multiply_make_the_estimates(name: str, dtype: type) -> None:
    """From squares and products of packed codes, as leaves put them together."""
    metric = METRICS[name]
    rows = prepared(make_points("plain", dtype, 40, 9, seed=13), metric)
    coder = coder_of(rows, metric)
    coded = encode(rows, coder)
    form = coded_form(metric, coded, coder)
    width = multiplied(form.columns, coded.values.shape[1])
    chosen, names = np.arange(5, 13, dtype=np.int32), np.minimum(np.arange(48), 39).astype(np.int32)
    block, starts = np.zeros(8 * width, np.int8), np.zeros(8, np.int32)
    gather(coded, chosen, 0, 8, form.columns, width, block, starts)
    packed, out = np.zeros(products.packed_size(width, 48), np.int8), np.zeros((8, 48), np.int32)
    multiply(coded.values, names, 40, block, width, 8, starts, packed, out)
    squares = coded.squares if metric.euclidean else np.zeros(40, np.int32)
    told = squares[5:13, None] + squares - 2 * out[:, :40]
    np.testing.assert_array_equal(told, estimated(coded, coded, form)[5:13])


def test_rows_beyond_the_reach_of_codes_are_known() -> None:
    points = np.random.default_rng(0).normal(size=(4000, 6)).astype(np.float32)
    points[[3, 17], 2] = [1e5, -1e5]
    coder = coder_of(points, EUCLIDEAN)
    assert coder.cuts
    assert np.flatnonzero(beyond(points, coder)).tolist() == [3, 17]
    assert not beyond(points, coder._replace(exact=True)).any()
