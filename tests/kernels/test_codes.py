"""Codes: an estimate may let in too much, but never keeps out what belongs in, and says how far it may be off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    coder_of,
    encode,
    form_of,
    routing_form,
    trusted,
)
from distnnd.kernels.neighbours import empty
from distnnd.kernels.rows import Form, plain_form, prepare, prepared_width, rescore
from distnnd.values.metric import METRICS, Metric
from tests import naive
from tests.strategies import FLAVOURS, few, make_points, points, sized

EUCLIDEAN, PRODUCT = METRICS["euclidean"], METRICS["inner_product"]
NARROW = [np.uint8, np.int8]


@njit
def limits_of(form, surrogates):
    """The largest estimate of each surrogate."""
    limits = np.empty(surrogates.size, np.int32)
    for i in range(surrogates.size):
        limits[i] = codes.limit_of(form, surrogates[i])
    return limits


@njit
def gather(rows, chosen, first, count, columns, block, starts):
    codes.gather(rows, chosen, first, count, columns, block, starts)


@njit
def copy_codes(values, row, columns, block):
    codes.copy_codes(values, row, columns, block)


@njit
def multiply(values, names, count, block, width, queries, starts, packed, out):
    products.pack(values, names, 0, count, packed)
    products.multiply(block, width, 0, queries, starts, packed, 0, (count + 15) // 16, out)


def limit(form: Form, surrogate: float) -> int:
    return int(limits_of(form, np.array([surrogate], np.float32))[0])


def prepared(raw: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows as the stages would prepare them."""
    width = prepared_width(metric, raw.dtype, raw.shape[1], zero_rows=not raw.any(axis=1).all())
    radius = float(np.linalg.norm(raw.astype(np.float64), axis=1).max())
    return prepare(raw, metric, width, radius)


def canonical(rows: np.ndarray, others: np.ndarray, metric: Metric) -> np.ndarray:
    """Surrogates of all pairs as lists keep them: float32[m, p]."""
    lists = empty(len(rows), len(others))
    lists.ids[:] = np.arange(len(others))
    rescore(rows, others, plain_form(metric, rows.shape[1]), lists, 0, len(rows))
    return lists.distances


def estimated(rows: Rows, others: Rows, form: Form) -> np.ndarray:
    return naive.estimates(rows.values, others.values, form.euclidean, form.columns)


def limits(form: Form, surrogates: np.ndarray) -> np.ndarray:
    return limits_of(form, surrogates.astype(np.float32).ravel()).reshape(surrogates.shape)


def assert_nothing_is_kept_out(form: Form, rows: Rows, others: Rows, metric: Metric) -> np.ndarray:
    """No estimate is above the limit of its pair's surrogate; returns how far below they are, in units."""
    allowed = limits(form, canonical(rows.points, others.points, metric))
    below = allowed - estimated(rows, others, form)
    assert (below >= 0).all(), f"{(below < 0).sum()} of {below.size} pairs are estimated too high"
    return below


def with_outliers(rows: int, d: int, seed: int, times: float = 1000) -> np.ndarray:
    """Normal points of which the last two lie so many times farther out."""
    some = make_points("plain", np.float32, rows, d, seed)
    some[-2:] *= np.float32(times)
    return some


# --- a strict estimate keeps nothing out ----------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
@few(60)
@given(raw=points(rows=(1, sized(50, 10)), columns=(1, sized(40, 10))))
def test_a_strict_estimate_is_never_above_the_limit_of_its_surrogate(name: str, raw: np.ndarray) -> None:
    metric = METRICS[name]
    rows = prepared(raw, metric)
    coder = coder_of(rows, metric)
    coded = encode(rows, coder)
    assert_nothing_is_kept_out(form_of(metric, coded, coder, strict=True), coded, coded, metric)


@few(40)
@given(
    d=st.integers(1, 6),
    unit=st.sampled_from([1e-6, 1e-3, 1.0, 300.0, 1e9]),
    seed=st.integers(0, 2**16),
)
def test_coordinates_between_two_codes_are_the_worst(d: int, unit: float, seed: int) -> None:
    """There all roundings may go the same way, and an estimate is off by as much as it can be."""
    rng = np.random.default_rng(seed)
    verge = rng.integers(-126, 127, (sized(60, 12), d)) + 0.5 + rng.normal(size=(sized(60, 12), d)) * 1e-5
    coder = Coder(np.zeros(d, np.float32), unit, exact=False, cuts=False)
    rows = encode((verge * unit).astype(np.float32), coder)
    assert_nothing_is_kept_out(form_of(EUCLIDEAN, rows, coder, strict=True), rows, rows, EUCLIDEAN)


def test_floats_round_a_coordinate_by_a_little_more_than_half_a_step() -> None:
    """These two are less than a step apart, and their codes two: 0.499993 + 128.5 is 129 as a float32."""
    verge = np.array([[0.499993], [-0.500004]], np.float32)
    coder = Coder(np.zeros(1, np.float32), 1.0, exact=False, cuts=False)
    rows = encode(verge, coder)
    assert rows.values[:, 0].tolist() == [1, -1]
    assert_nothing_is_kept_out(form_of(EUCLIDEAN, rows, coder, strict=True), rows, rows, EUCLIDEAN)


@pytest.mark.parametrize("code", [0, 3, 100])
def test_the_largest_product_that_codes_can_hide(code: int) -> None:
    """All coordinates of parallel rows rounded down by almost half a step: no product is farther from its estimate."""
    width = 400
    raw = np.full((2, width), code + 0.499, np.float32)
    raw[:, -1] = 0
    coder = Coder(np.zeros(width, np.float32), 1.0, exact=False, cuts=False)
    rows = encode(raw, coder)
    assert rows.values[0].tolist() == [code] * (width - 1) + [0]
    below = assert_nothing_is_kept_out(form_of(PRODUCT, rows, coder, strict=True), rows, rows, PRODUCT)
    assert below.max() < 3 * code + 0.2 * width, "nor is more allowed for than that"


@pytest.mark.parametrize("d", [1, 3, 17, 200])
def test_what_is_cut_off_seems_near_but_never_far(d: int) -> None:
    """A few rows far out would leave all others a handful of codes."""
    raw = with_outliers(sized(300, 220), d, seed=d)
    coder = coder_of(raw, EUCLIDEAN)
    assert coder.cuts
    rows = encode(raw, coder)
    some = encode(raw[-8:], coder)
    for strict in (False, True):
        form = form_of(EUCLIDEAN, rows, coder, strict)
        assert form.cut, "such estimates are no bound for what is near"
    below = assert_nothing_is_kept_out(form, some, rows, EUCLIDEAN)
    assert (below[-2:, :-2] > 1e5).all(), "the outliers were not cut off"
    assert coder.step < 6 * FAR / PEAK, "codes are as fine as the other rows need them"


@few(30)
@given(data=st.data())
def test_rows_of_elsewhere_that_the_coder_saw_are_not_kept_out(data: st.DataObject) -> None:
    """Probe rows of other blocks may lie anywhere: what they reach is reached, or said to be cut off."""
    d, seed = data.draw(st.integers(1, 8)), data.draw(st.integers(0, 2**16))
    known, others = make_points("plain", np.float32, 30, d, seed), make_points("plain", np.float32, 8, d, seed + 1)
    others *= np.float32(data.draw(st.sampled_from([1, 3, 100])))
    others += np.float32(data.draw(st.sampled_from([0, 2, 50])))
    coder = coder_of(known, EUCLIDEAN, others)
    rows = encode(known, coder)
    form = form_of(EUCLIDEAN, rows, coder, strict=True)
    assert form.cut == coder.cuts
    assert coder.cuts or np.abs(others - coder.centre).max() <= 1.0001 * PEAK * coder.step
    assert_nothing_is_kept_out(form, encode(others, coder), rows, EUCLIDEAN)


@pytest.mark.parametrize("where", ["looked at", "between"])
def test_inner_products_are_never_cut_off(where: str) -> None:
    """Cut off, the rows with the largest products would have small ones: all others would seem nearer."""
    m, d = sized(3, 2) * LOOKED_AT + 5, 3
    raw = make_points("plain", np.float32, m, d, seed=1)
    stride = m // LOOKED_AT
    far = np.arange(0, 40) * stride + (0 if where == "looked at" else stride - 1)
    raw[far] = make_points("plain", np.float32, 40, d, seed=2) * 1000
    # Not put on a sphere: there the last column reaches about as far as any.
    raw[:, -1] = 0
    coder = coder_of(raw, PRODUCT)
    assert not coder.cuts
    some = np.concatenate([far[:3], far[-3:]])
    rows, others = encode(raw, coder), encode(raw[some], coder)
    assert np.abs(rows.values.astype(int)).max() == PEAK
    here = np.concatenate([far, np.arange(50)])
    near = Rows(*(np.ascontiguousarray(part[here]) for part in rows))
    assert_nothing_is_kept_out(form_of(PRODUCT, rows, coder, strict=True), others, near, PRODUCT)


def test_one_large_coordinate_under_inner_product() -> None:
    """All rows have one length, but a few hold it in one column: several times as far as coordinates of the others."""
    rng = np.random.default_rng(3)
    raw = rng.normal(size=(sized(2000, 250), 600)).astype(np.float32)
    raw[:2] = 0
    raw[:2, 7] = 1
    rows = prepared(raw / np.linalg.norm(raw, axis=1)[:, None], PRODUCT)
    coder = coder_of(rows, PRODUCT)
    coded, few_rows = encode(rows, coder), encode(rows[:4], coder)
    form = form_of(PRODUCT, coded, coder, strict=True)
    assert_nothing_is_kept_out(form, few_rows, few_rows, PRODUCT)
    assert estimated(few_rows, few_rows, form)[0, 1] == pytest.approx(-1 / form.unit, rel=0.02)


@pytest.mark.parametrize("metric", [EUCLIDEAN, PRODUCT], ids=["euclidean", "inner"])
def test_wide_rows(metric: Metric) -> None:
    """Codes get smaller where there are many, so that squares and products stay below 2^27."""
    d = sized(20_000, 4000) if metric.euclidean else 20_000
    raw = make_points("plain", np.float32, 3, d, seed=4)
    raw[1] = -raw[0]
    # The farthest coordinate in every column: no code may be larger.
    raw[2] = np.abs(raw).max()
    rows = raw if metric.euclidean else prepared(raw, metric)
    coder = coder_of(rows, metric)
    coded = encode(rows, coder)
    true = (coded.values.astype(np.int64) ** 2).sum(axis=1)
    assert coded.squares.tolist() == true.tolist()
    assert true.max() <= LARGEST_SQUARE
    assert np.abs(naive.whole_products(coded.values, coded.values)).max() <= LARGEST_SQUARE
    assert_nothing_is_kept_out(form_of(metric, coded, coder, strict=True), coded, coded, metric)


@pytest.mark.parametrize("d", [1, 8192, 8322, 8323, 20_000, 10**6])
def test_no_square_is_too_large_at_any_width(d: int) -> None:
    """Two rows as far from the centre as any, in each of their coordinates."""
    rows = np.ones((2, d), np.float32)
    rows[1] = -1
    coder = coder_of(rows, EUCLIDEAN)
    peak = min(PEAK, int((LARGEST_SQUARE / d) ** 0.5))
    assert coder.step == pytest.approx(1 / peak)
    if d <= sized(10**6, 8323):
        coded = encode(rows, coder)
        assert coded.squares.tolist() == [peak * peak * d] * 2
        assert coded.squares.max() <= LARGEST_SQUARE
        assert coded.starts.tolist() == [-OFFSET * peak * d, OFFSET * peak * d]


# --- how good estimates are -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["euclidean", "cosine", "inner_product"])
@few(40)
@given(raw=points(dtypes=(np.float32,), rows=(1, sized(50, 10)), columns=(1, sized(40, 10))))
def test_where_nothing_is_cut_off_estimates_are_not_too_low_either(name: str, raw: np.ndarray) -> None:
    """What as many rows are estimated to be within bounds what the farthest of them really is."""
    metric = METRICS[name]
    rows = prepared(raw, metric)
    coder = coder_of(rows, metric)
    if coder.cuts:
        return
    coded = encode(rows, coder)
    form = form_of(metric, coded, coder, strict=True)
    told = estimated(coded, coded, form)
    bounds = limits(form, form.unit * told.astype(np.float32))
    # Limits are rounded down to whole numbers, which is right for estimates; surrogates lie between them.
    assert (canonical(rows, rows, metric) <= form.unit * (bounds + np.float32(1))).all()


@pytest.mark.parametrize("d", [4, 30, 300])
@pytest.mark.parametrize("name", ["euclidean", "cosine", "inner_product"])
def test_what_estimates_are_forgiven_is_mostly_enough(name: str, d: int) -> None:
    """Without `strict` a pair in a thousand may be kept out, for far fewer that are let in."""
    metric = METRICS[name]
    rows = prepared(make_points("plain", np.float32, sized(150, 25), d, seed=d), metric)
    coder = coder_of(rows, metric)
    coded = encode(rows, coder)
    form, strict = form_of(metric, coded, coder), form_of(metric, coded, coder, strict=True)
    true, told = canonical(rows, rows, metric), estimated(coded, coded, form)
    assert (told <= limits(form, true)).mean() > 0.998
    assert (limits(form, true) <= limits(strict, true)).all()
    if d >= 30:
        assert limits(form, true).sum() - told.sum() < 0.3 * (limits(strict, true).sum() - told.sum())


@pytest.mark.parametrize("d", [2, 16, 120])
def test_a_unit_is_the_surrogate_of_one_estimate(d: int) -> None:
    rows = make_points("plain", np.float32, sized(60, 12), d, seed=d)
    coder = coder_of(rows, EUCLIDEAN)
    coded = encode(rows, coder)
    form = form_of(EUCLIDEAN, coded, coder)
    told = form.unit * estimated(coded, coded, form)
    allowed = 2 * np.sqrt(d) * coder.step
    assert (np.abs(np.sqrt(told) - np.sqrt(naive.squared(rows, rows))) <= allowed).all()


@pytest.mark.parametrize("offset", [0, 1e4, -3e6])
def test_far_from_the_origin_codes_are_as_fine(offset: float) -> None:
    """Codes lie around the centre of the rows, so what all rows share takes none of their bits."""
    raw = make_points("plain", np.float32, 200, 5, seed=6) + np.float32(offset)
    coder = coder_of(raw, EUCLIDEAN)
    # All but the farthest hundredth have a say in where the centre lies.
    assert np.abs(coder.centre - raw.mean(axis=0, dtype=np.float64)).max() < 0.1 + abs(offset) * 1e-6
    assert coder.step < 5 / PEAK
    rows, some = encode(raw, coder), encode(raw[:10], coder)
    assert_nothing_is_kept_out(form_of(EUCLIDEAN, rows, coder, strict=True), some, rows, EUCLIDEAN)


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
    form = form_of(EUCLIDEAN, coded, coder, strict=True)
    assert coder.exact
    assert coded.points is coded.values is rows, "one array, not two"
    told = estimated(coded, coded, form)
    np.testing.assert_array_equal(told, naive.squared(raw, raw))
    np.testing.assert_array_equal(form.unit * told.astype(np.float32), canonical(rows, rows, EUCLIDEAN))
    np.testing.assert_array_equal(limits(form, canonical(rows, rows, EUCLIDEAN)), told)
    assert form == form_of(EUCLIDEAN, coded, coder) == routing_form(coded, coder)
    assert form == Form(True, 8, 1, 0, 0, trusted=True, cut=False)


@pytest.mark.parametrize("dtype", NARROW)
def test_the_widest_narrow_rows_stay_below_everything(dtype: type) -> None:
    """Farther apart than these no two rows can be; they are still told from `EVERYTHING`."""
    raw = np.empty((2, 8192), dtype)
    raw[0], raw[1] = np.iinfo(dtype).min, np.iinfo(dtype).max
    rows = prepared(raw, EUCLIDEAN)
    coder = coder_of(rows, EUCLIDEAN)
    coded = encode(rows, coder)
    form = form_of(EUCLIDEAN, coded, coder)
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
    assert coded.values.shape == (m, -(-d // 4) * 4)
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
    form = form_of(metric, coded, coder, strict=True)
    assert_nothing_is_kept_out(form, coded, coded, metric)
    if metric.euclidean:
        assert (estimated(coded, coded, form) == 0).all()


def test_no_rows_at_all() -> None:
    coder = Coder(np.zeros(3, np.float32), 1.0, exact=False, cuts=False)
    coded = encode(np.zeros((0, 3), np.float32), coder)
    assert coded.values.shape == (0, 4)
    assert np.isfinite(form_of(PRODUCT, coded, coder).spare)


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
    return form_of(metric, coded, coder, strict), coded, coder


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
        for one in (form, trusted(form), form_of(metric, *some_form(metric)[1:], strict=True)):
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
    values = np.random.default_rng(12).integers(-128, 128, (20, 12)).astype(np.int8)
    squares, starts = np.zeros((2, 20), np.int32)
    add_up(values, squares, starts)
    rows = Rows(values, values, squares, starts)
    chosen = np.array([3, 19, 0, 7, 7, 2], np.int32)
    block, begin = np.full(5 * 12, 77, np.int8), np.full(5, 77, np.int32)
    gather(rows, chosen, 1, 4, columns, block, begin)
    true = values[[19, 0, 7, 7]].copy()
    true[:, columns:] = 0
    np.testing.assert_array_equal(block[: 4 * 12].reshape(4, 12), true)
    assert begin[:4].tolist() == (-OFFSET * true.astype(np.int64).sum(axis=1)).tolist()
    assert (block[4 * 12 :] == 77).all()
    assert begin[4] == 77


@pytest.mark.parametrize("width", [4, 12, 64, 68])
def test_copy_codes_takes_a_row_and_leaves_columns_out(width: int) -> None:
    values = np.random.default_rng(width).integers(-128, 128, (3, width)).astype(np.int8)
    for columns in (width, width - 1, 1):
        block = np.full(width + 9, 77, np.int8)
        copy_codes(values, 1, columns, block)
        assert block.tolist() == [*values[1, :columns].tolist(), *[0] * (width - columns), *[77] * 9]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("name", METRICS)
def test_gather_pack_and_multiply_make_the_estimates(name: str, dtype: type) -> None:
    """From squares and products of packed codes, as leaves put them together."""
    metric = METRICS[name]
    rows = prepared(make_points("plain", dtype, 40, 9, seed=13), metric)
    coder = coder_of(rows, metric)
    coded = encode(rows, coder)
    form = form_of(metric, coded, coder)
    width = coded.values.shape[1]
    chosen, names = np.arange(5, 13, dtype=np.int32), np.minimum(np.arange(48), 39).astype(np.int32)
    block, starts = np.zeros(8 * width, np.int8), np.zeros(8, np.int32)
    gather(coded, chosen, 0, 8, form.columns, block, starts)
    packed, out = np.zeros(48 * products.room_for(width), np.int8), np.zeros((8, 48), np.int32)
    multiply(coded.values, names, 40, block, width, 8, starts, packed, out)
    squares = coded.squares if metric.euclidean else np.zeros(40, np.int32)
    told = squares[5:13, None] + squares - 2 * out[:, :40]
    np.testing.assert_array_equal(told, estimated(coded, coded, form)[5:13])
