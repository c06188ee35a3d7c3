"""Narrower codes bring rows together, keep what is near near, and are only used where they lose little."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from distnnd.kernels import projection
from distnnd.kernels.codes import Coder, Encoded, Rows, coded_form, coder_of, encode
from distnnd.kernels.judge import Judge
from distnnd.kernels.rows import plain_form
from distnnd.kernels.signposts import rows_at
from distnnd.stages import probe
from distnnd.values.metric import METRICS

from .estimates import limits_of

EUCLIDEAN = METRICS["euclidean"]


def low(rank: int, noise: float, m: int = 3000, width: int = 320, dtype: type = np.float32) -> np.ndarray:
    """Rows near a subspace of few dimensions, not around the origin."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, width)) / rank**0.5
    rows += noise * rng.standard_normal(rows.shape) + 2
    return rows.astype(np.float32) if dtype is np.float32 else np.clip(rows * 20, -128, 127).astype(np.int8)


def coded(points: np.ndarray) -> tuple[Rows, Coder]:
    coder = coder_of(points, EUCLIDEAN)
    return encode(points, coder), coder


def projected(rows: Rows, coder: Coder, axes: np.ndarray, middle: np.ndarray, sample: np.ndarray) -> Encoded:
    found = projection.projection_of(coder, axes, middle, sample)
    return projection.project(rows, found), found.coder


def squared(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return ((rows[pairs[0]] - rows[pairs[1]]) ** 2).sum(axis=1)


@pytest.fixture(autouse=True)
def always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "WORTH_IT", 1)


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_estimates_are_right_in_the_middle(dtype: type) -> None:
    points = low(20, 0.05, dtype=dtype)
    rows, coder = coded(points)
    found = projection.narrower(rows, coder, 0)
    assert found is not None
    narrow, worth = found
    assert narrow.values.shape == (3000, 64)
    assert narrow.points is rows.points
    pairs = np.random.default_rng(1).integers(0, 3000, (2, 4000))
    pairs = pairs[:, pairs[0] != pairs[1]]
    ratio = squared(narrow.values, pairs) * worth.step**2 / squared(points, pairs)
    assert abs(np.median(ratio) - 1) < 0.01
    assert np.quantile(np.abs(ratio - 1), 0.99) < 0.05
    assert np.array_equal(narrow.squares, (narrow.values.astype(np.int32) ** 2).sum(axis=1))
    assert np.array_equal(narrow.starts, -128 * narrow.values.astype(np.int32).sum(axis=1))


def test_a_projection_only_brings_rows_together() -> None:
    points = low(20, 0.3)
    rows, coder = coded(points)
    axes = np.linalg.qr(_rng().standard_normal((320, 64)))[0].astype(np.float32)
    sample = rows.values[::3].astype(np.float32)
    mean = sample.mean(axis=0)
    narrow, worth = projected(rows, coder, axes, mean, sample - mean)
    inside = np.mean(((sample - mean) @ axes) ** 2) * 64 / np.mean(((sample - mean) ** 2).sum(axis=1))
    pairs = np.random.default_rng(1).integers(0, 3000, (2, 4000))
    # Undone: what one unit was raised by for the share that the projection loses.
    short = squared(narrow.values, pairs) * worth.step**2 * inside
    assert (short <= squared(points, pairs) * 1.02 + 300 * worth.step**2).all()


def _rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_axes_are_orthonormal_and_hold_the_variance() -> None:
    sample = low(100, 0.01, m=1000)
    sample -= sample.mean(axis=0)
    axes, kept = projection.leading_axes(sample, 128, _rng())
    assert np.allclose(axes.T @ axes, np.eye(128), atol=1e-4)
    held = np.cumsum(((sample @ axes) ** 2).sum(axis=0)) / (sample**2).sum()
    assert np.allclose(held, kept, atol=1e-4)
    assert kept[-1] >= 1 - projection.LOST
    assert (np.diff(kept, n=2) <= 1e-6).all(), "the axis of the largest variance first"
    turned = projection.turned(axes, _rng())
    assert np.allclose(turned @ (turned.T @ axes), axes, atol=1e-4), "the same subspace"
    spread = (sample @ turned).std(axis=0)
    assert spread.max() < 3 * spread.min(), "turned at random, all coordinates vary alike"


def test_where_all_directions_matter_codes_stay_wide() -> None:
    rows, coder = coded(np.random.default_rng(0).standard_normal((3000, 320)).astype(np.float32))
    assert projection.narrower(rows, coder, 0) is None


def test_narrow_rows_and_few_rows_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, coder = coded(low(10, 0.01, width=256))
    assert projection.narrower(rows, coder, 0) is None
    rows, coder = coded(low(10, 0.01))
    monkeypatch.setattr(projection, "WORTH_IT", 3001)
    assert projection.narrower(rows, coder, 0) is None
    assert projection.narrower(rows, coder._replace(cuts=True), 0) is None


def test_constant_rows_are_no_trouble() -> None:
    rows, coder = coded(np.full((2000, 320), 7.0, np.float32))
    assert projection.narrower(rows, coder, 0) is None
    assert projection.guiding(rows, coder, 0) is None


def test_the_same_seed_the_same_codes() -> None:
    rows, coder = coded(low(20, 0.05))
    one, two, other = (projection.narrower(rows, coder, seed) for seed in (1, 1, 2))
    assert one is not None
    assert two is not None
    assert other is not None
    assert np.array_equal(one[0].values, two[0].values)
    assert not np.array_equal(one[0].values, other[0].values)


def test_bits_have_no_directions() -> None:
    """Though as numbers these rows would lie in a narrow subspace."""
    numbers = np.abs(low(20, 0.05, dtype=np.int8))
    assert projection.narrower(*coded(numbers), 0) is not None
    assert projection.narrower(*coded(numbers.view(np.uint8)), 0) is None


def nearest(rows: Rows, coder: Coder, asking: np.ndarray, among: np.ndarray) -> np.ndarray:
    gaps = ((rows.values[asking, None].astype(np.int64) - rows.values[None, among]) ** 2).sum(axis=2)
    return np.argsort(gaps, axis=1, kind="stable")[:, : projection.NEAREST]


def test_few_columns_guide_rows_where_neighbours_stay_neighbours() -> None:
    rows, coder = coded(low(12, 0.02, width=128))
    found = projection.guiding(rows, coder, 0)
    assert found is not None
    assert found[0].values.shape == (3000, projection.GUIDING)
    assert found[0].points is rows.points
    asking, among = np.arange(50), np.arange(50, 3000)
    pairs = [nearest(*codes, asking, among) for codes in ((rows, coder), found)]
    share = np.mean([np.isin(a, b).mean() for a, b in zip(*pairs, strict=True)])
    assert share > 0.8
    way, sides = projection.guide_of(rows, coder, 0), (rows_at(rows, asking), rows_at(rows, among))
    assert way is not None
    assert np.array_equal(projection.project(sides[0], way).values, found[0].values[asking]), "row by row"
    assert projection.agreement(sides, coder, way) == pytest.approx(share, abs=0.02)


def test_few_columns_guide_nobody_where_all_directions_matter() -> None:
    rows, coder = coded(np.random.default_rng(0).standard_normal((3000, 128)).astype(np.float32))
    assert projection.guiding(rows, coder, 0) is None


def test_rows_that_are_narrow_or_cut_off_need_no_guiding() -> None:
    rows, coder = coded(low(12, 0.02, width=3 * projection.GUIDING - 4))
    assert projection.guiding(rows, coder, 0) is None
    rows, coder = coded(low(12, 0.02, width=3 * projection.GUIDING))
    assert projection.guiding(rows, coder, 0) is not None
    assert projection.guiding(rows, coder._replace(cuts=True), 0) is None


def test_few_rows_are_no_guide() -> None:
    points = low(12, 0.02, m=projection.ASKING + projection.OTHERS, width=128)
    assert projection.guide_of(*coded(points), 0) is not None
    assert projection.guide_of(*coded(points[1:]), 0) is None


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_no_pair_is_nearer_than_a_strict_form_allows(dtype: type) -> None:
    """The pairs that a projection brings together the most too: those that differ in what it loses."""
    points = low(20, 0.3, dtype=dtype)
    (rows, coder), rng = coded(points), _rng()
    axes = np.linalg.qr(rng.standard_normal((320, 64)))[0].astype(np.float32)
    mean, sample = projection.sampled(rows)
    narrow, worth = projected(rows, coder, axes, mean, sample)
    form = coded_form(EUCLIDEAN, narrow, worth, strict=True)
    assert form.cut
    pairs = rng.integers(0, 3000, (2, 4000))
    estimates = squared(narrow.values, pairs)
    true = squared(points, pairs).astype(np.float32)
    limits = limits_of(form, true)
    assert (estimates <= limits).all()
    assert not coded_form(EUCLIDEAN, narrow, worth).cut
    if dtype is np.int8:
        inside = points.astype(np.float64) @ axes
        short = ((inside[pairs[0]] - inside[pairs[1]]) ** 2).sum(axis=1)
        known = limits[true > 0] * np.float64(form.unit)
        assert np.median(known / true[true > 0]) < 1.2, "the bound is of use"
        assert (short <= true * 1.001).all()


def test_probe_rows_are_solved_exactly_by_narrower_codes() -> None:
    points = low(20, 0.3)
    rows, coder = coded(points)
    axes = np.linalg.qr(_rng().standard_normal((320, 64)))[0].astype(np.float32)
    found = projected(rows, coder, axes, *projection.sampled(rows))
    asking = np.arange(0, 3000, 60)
    codes = probe.Codes.of(rows_at(found[0], asking), *found, EUCLIDEAN)
    judge = Judge(points, plain_form(EUCLIDEAN, 320))
    lists = probe.nearest(points[asking], judge, codes, 10)
    true = np.sort(cdist(points[asking].astype(float), points.astype(float), "sqeuclidean"), axis=1)
    np.testing.assert_allclose(lists.distances[:, :11], true[:, :11], rtol=1e-4, atol=1e-3)
