"""Logarithms and powers in vector lanes are those of the C library."""

from __future__ import annotations

import math

import numpy as np

from distnnd.kernels.jit import kernel
from distnnd.kernels.logarithms import exp_of, log_of, narrow_log_of, power_of_share, whole_power_of
from distnnd.kernels.whole_rows import select


@kernel
def fill(numbers, power, out):
    """All of them of each number."""
    for i in range(len(numbers)):
        out[i, 0] = log_of(numbers[i])
        out[i, 1] = narrow_log_of(np.float32(numbers[i]))
        out[i, 2] = exp_of(-numbers[i])
        out[i, 3] = power_of_share(numbers[i], power)


@kernel
def whole_powers(numbers, power, out):
    """By products."""
    for i in range(len(numbers)):
        out[i] = whole_power_of(numbers[i], power)


def numbers() -> np.ndarray:
    """Of all sizes, and near 1."""
    rng = np.random.default_rng(0)
    return np.concatenate([10.0 ** rng.uniform(-30, 30, 500), 1 + rng.uniform(-0.3, 0.5, 500), [1, 0.5, 2, 4, 1 / 3]])


def test_logarithms_and_powers_are_those_of_the_library() -> None:
    given, out = numbers(), np.empty((1005, 4))
    fill(given, 2.5, out)
    np.testing.assert_allclose(out[:, 0], np.log(given), rtol=2e-12, atol=1e-15)
    narrow = given.astype(np.float32)
    np.testing.assert_allclose(out[:, 1], np.log(narrow.astype(float)), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(out[:, 2], np.exp(-np.minimum(given, 700)), rtol=2e-13)
    small = given <= 1.5
    np.testing.assert_allclose(out[small, 3], given[small] ** 2.5, rtol=1e-9)


def test_a_power_of_nothing_is_nothing() -> None:
    out = np.empty((3, 4))
    for power in (0.01, 0.5, 3.5, 900.0):
        fill(np.array([0.0, 1.0, 0.25]), power, out)
        assert out[0, 3] == 0
        assert math.isclose(out[1, 3], 1, rel_tol=1e-12)
        assert math.isclose(out[2, 3], max(0.25**power, 0.0), rel_tol=1e-9, abs_tol=1e-300)


def test_whole_powers_are_products() -> None:
    given = np.random.default_rng(1).random(50)
    out = np.empty(50)
    for power in range(1, 16):
        whole_powers(given, power, out)
        np.testing.assert_allclose(out, given**power, rtol=1e-14)


def test_the_number_at_a_place_is_selected() -> None:
    rng = np.random.default_rng(2)
    for n in (1, 2, 3, 10, 101):
        for values in (rng.normal(size=n), rng.integers(0, 3, n).astype(float), np.zeros(n)):
            for place in {0, n // 2, n - 1}:
                assert select(values.copy(), place) == np.sort(values)[place]
