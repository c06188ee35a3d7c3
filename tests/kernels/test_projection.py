"""Narrower codes bring rows together, keep what is near near, and are only used where they lose little."""

from __future__ import annotations

import numpy as np
import pytest

from distnnd.kernels import projection
from distnnd.kernels.codes import Coder, Rows, coder_of, encode
from distnnd.values.metric import METRICS

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
    axes = projection.principal_axes(rows.values[:1000] - rows.values[:1000].mean(axis=0, dtype=np.float32), _rng())
    assert axes is None or np.allclose(axes.T @ axes, np.eye(axes.shape[1]), atol=1e-4)
    axes = np.linalg.qr(_rng().standard_normal((320, 64)))[0].astype(np.float32)
    sample = rows.values[::3].astype(np.float32)
    mean = sample.mean(axis=0)
    narrow, worth = projection.project(rows, coder, axes, mean, sample - mean)
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
    axes = projection.principal_axes(sample, _rng())
    assert axes is not None
    assert axes.shape == (320, 128)
    assert np.allclose(axes.T @ axes, np.eye(128), atol=1e-4)
    assert ((sample @ axes) ** 2).sum() >= (1 - projection.LOST) * (sample**2).sum()
    spread = (sample @ axes).std(axis=0)
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
    found = projection.narrower(rows, coder, 0)
    assert found is None or not found[0].values.any()


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
