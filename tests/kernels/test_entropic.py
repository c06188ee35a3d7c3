"""Entropic transports, by products and in logarithms, are what scaling rows and columns in turn comes to."""

from __future__ import annotations

import numpy as np
import pytest

from distnnd.kernels.entropic import LANES, entropic_cost, entropic_cost_in_logs, filled_up
from distnnd.kernels.forms import STEEP, form_of
from distnnd.kernels.whole_rows import whole
from distnnd.values.metric import metric_of
from tests.naive_metrics import TWINS

SHAPES = [(1, 1), (1, 9), (7, 3), (8, 8), (16, 17)]


def masses(rng: np.random.Generator, count: int) -> np.ndarray:
    """Shares of very different size."""
    drawn = rng.random(count) ** 4 + 1e-6
    return drawn / drawn.sum()


@pytest.mark.parametrize(("m", "p"), SHAPES)
@pytest.mark.parametrize("regularization", [5.0, 1.0, 0.2])
def test_products_and_logarithms_come_to_what_plain_scaling_comes_to(m: int, p: int, regularization: float) -> None:
    rng = np.random.default_rng(m)
    supply, demand, cost = masses(rng, m), masses(rng, p), rng.random((m, p))
    gibbs = np.exp(-cost / regularization)
    u, v = np.ones(m), np.ones(p)
    for _ in range(5000):
        u = supply / (gibbs @ v)
        v = demand / (gibbs.T @ u)
    expected = (u[:, None] * gibbs * v * cost).sum()
    assert entropic_cost(supply, demand, cost, gibbs) == pytest.approx(expected, rel=1e-7)
    assert entropic_cost_in_logs(supply, demand, cost, regularization) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("share", [STEEP * 0.99, STEEP * 1.01])
def test_nothing_underflows_on_either_side_of_the_border(share: float) -> None:
    d = 5
    places = np.arange(d, dtype=float)
    cost = abs(places[:, None] - places)
    form = form_of(metric_of("sinkhorn", {"cost": cost, "regularization": (d - 1) / share}, d), d)
    assert form.steep == (share > STEEP)
    rows = np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 3], [1e-44, 0, 0, 0, 3e38], [2, 1, 1e-30, 1, 2]], np.float32)
    told = np.array([[whole(form, x, y) for y in rows] for x in rows])
    assert np.isfinite(told).all()
    # So steep a preference is none: these are the exact costs, but for a mass of e^-50 here and there.
    exact = [[TWINS["kantorovich"](x, y, cost=cost) for y in rows.astype(float)] for x in rows.astype(float)]
    np.testing.assert_allclose(told, exact, rtol=1e-5, atol=1e-9)


def test_columns_are_filled_up_with_copies() -> None:
    numbers = np.arange(20.0).reshape(2, 10)
    wide = filled_up(numbers)
    assert wide.shape == (2, 2 * LANES)
    np.testing.assert_array_equal(wide[:, :10], numbers)
    np.testing.assert_array_equal(wide[:, 10:], np.repeat(numbers[:, 9:], 6, axis=1))
