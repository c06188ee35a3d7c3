"""Estimates: they may let in too much, but never keep out what belongs in, and are mostly near the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distnnd.kernels.codes import (
    FAR,
    LARGEST_SQUARE,
    LOOKED_AT,
    OFFSET,
    PEAK,
    Coder,
    Rows,
    coded_form,
    coder_of,
    encode,
)
from distnnd.values.metric import METRICS, Metric
from tests import naive
from tests.kernels.estimates import (
    EUCLIDEAN,
    PRODUCT,
    assert_nothing_is_kept_out,
    canonical,
    estimated,
    limits,
    prepared,
)
from tests.strategies import few, make_points, points, sized


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
    assert_nothing_is_kept_out(coded_form(metric, coded, coder, strict=True), coded, coded, metric)


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
    assert_nothing_is_kept_out(coded_form(EUCLIDEAN, rows, coder, strict=True), rows, rows, EUCLIDEAN)


def test_floats_round_a_coordinate_by_a_little_more_than_half_a_step() -> None:
    """These two are less than a step apart, and their codes two: 0.499993 + 128.5 is 129 as a float32."""
    verge = np.array([[0.499993], [-0.500004]], np.float32)
    coder = Coder(np.zeros(1, np.float32), 1.0, exact=False, cuts=False)
    rows = encode(verge, coder)
    assert rows.values[:, 0].tolist() == [1, -1]
    assert_nothing_is_kept_out(coded_form(EUCLIDEAN, rows, coder, strict=True), rows, rows, EUCLIDEAN)


@pytest.mark.parametrize("code", [0, 3, 100])
def test_the_largest_product_that_codes_can_hide(code: int) -> None:
    """All coordinates of parallel rows rounded down by almost half a step: no product is farther from its estimate."""
    width = 400
    raw = np.full((2, width), code + 0.499, np.float32)
    raw[:, -1] = 0
    coder = Coder(np.zeros(width, np.float32), 1.0, exact=False, cuts=False)
    rows = encode(raw, coder)
    assert rows.values[0, :width].tolist() == [code] * (width - 1) + [0]
    assert not rows.values[:, width:].any()
    below = assert_nothing_is_kept_out(coded_form(PRODUCT, rows, coder, strict=True), rows, rows, PRODUCT)
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
        form = coded_form(EUCLIDEAN, rows, coder, strict)
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
    form = coded_form(EUCLIDEAN, rows, coder, strict=True)
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
    assert_nothing_is_kept_out(coded_form(PRODUCT, rows, coder, strict=True), others, near, PRODUCT)


def test_one_large_coordinate_under_inner_product() -> None:
    """All rows have one length, but a few hold it in one column: several times as far as coordinates of the others."""
    rng = np.random.default_rng(3)
    raw = rng.normal(size=(sized(2000, 250), 600)).astype(np.float32)
    raw[:2] = 0
    raw[:2, 7] = 1
    rows = prepared(raw / np.linalg.norm(raw, axis=1)[:, None], PRODUCT)
    coder = coder_of(rows, PRODUCT)
    coded, few_rows = encode(rows, coder), encode(rows[:4], coder)
    form = coded_form(PRODUCT, coded, coder, strict=True)
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
    assert_nothing_is_kept_out(coded_form(metric, coded, coder, strict=True), coded, coded, metric)


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
    form = coded_form(metric, coded, coder, strict=True)
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
    form, strict = coded_form(metric, coded, coder), coded_form(metric, coded, coder, strict=True)
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
    form = coded_form(EUCLIDEAN, coded, coder)
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
    assert_nothing_is_kept_out(coded_form(EUCLIDEAN, rows, coder, strict=True), some, rows, EUCLIDEAN)
