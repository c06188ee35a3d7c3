"""An interval that says 95 % holds the truth about that often, also where neighbours are missed together."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from distnnd.values.recall import EXACT, Recall, estimate_recall

K = 15
Shares = NDArray[np.float64]


def estimate(shares: Shares, k: int = K) -> Recall:
    return estimate_recall(len(shares), float(shares.sum()), float((shares * shares).sum()), k)


def alone(rng: np.random.Generator, truth: float, rows: int) -> Shares:
    """Every neighbour is found or missed for itself."""
    return rng.binomial(K, truth, rows) / K


def together(rng: np.random.Generator, truth: float, rows: int) -> Shares:
    """Each row has a chance of its own, mostly near 0 or 1: a list is nearly whole or nearly lost."""
    spread = 0.5
    return rng.binomial(K, rng.beta(truth * spread, (1 - truth) * spread, rows)) / K


def whole_lists(rng: np.random.Generator, truth: float, rows: int) -> Shares:
    """All neighbours of a row are found, or none."""
    return rng.binomial(1, truth, rows).astype(np.float64)


@pytest.mark.parametrize("hits", [alone, together, whole_lists])
@pytest.mark.parametrize("truth", [0.5, 0.8, 0.95, 0.99])
def test_the_interval_holds_the_truth_at_about_its_rate(hits: object, truth: float) -> None:
    assert callable(hits)
    rng = np.random.default_rng(7)
    found = [estimate(hits(rng, truth, 400)) for _ in range(1000)]
    held = np.mean([recall.low <= truth <= recall.high for recall in found])
    assert 0.92 <= held <= 0.985
    assert np.mean([recall.estimate for recall in found]) == pytest.approx(truth, abs=0.01)


def test_neighbours_that_are_missed_together_widen_the_interval() -> None:
    rng = np.random.default_rng(8)
    one, other = estimate(alone(rng, 0.9, 500)), estimate(together(rng, 0.9, 500))
    assert other.high - other.low > 2 * (one.high - one.low)


def test_more_probe_rows_narrow_the_interval() -> None:
    rng = np.random.default_rng(9)
    few, many = estimate(alone(rng, 0.9, 100)), estimate(alone(rng, 0.9, 1600))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.3)


def test_all_found_is_not_yet_certain() -> None:
    recall = estimate(np.ones(500))
    assert recall.estimate == recall.high == 1
    # As sure as 500 independent neighbours make it: no fewer, no more.
    assert 0.990 < recall.low < 0.995


def test_nothing_found_is_not_yet_hopeless() -> None:
    recall = estimate(np.zeros(500))
    assert recall.estimate == recall.low == 0
    assert 0.005 < recall.high < 0.010


@given(st.lists(st.integers(0, K), min_size=1, max_size=60))
def test_the_estimate_lies_in_its_interval_and_both_between_0_and_1(hits: list[int]) -> None:
    recall = estimate(np.array(hits) / K)
    assert 0 <= recall.low <= recall.estimate <= recall.high <= 1
    assert recall.low < recall.high
    assert recall.probes == len(hits)
    assert recall.estimate == pytest.approx(np.mean(hits) / K)


@given(st.integers(0, 30), st.integers(1, 30))
def test_found_and_missed_are_mirror_images(found: int, rows: int) -> None:
    shares = np.zeros(rows)
    shares[: min(found, rows)] = 1
    one, other = estimate(shares), estimate(1 - shares)
    assert one.low == pytest.approx(1 - other.high, abs=1e-9)
    assert one.high == pytest.approx(1 - other.low, abs=1e-9)


def test_it_is_said_in_words_and_as_json() -> None:
    recall = Recall(0.95, 0.94, 0.96, 500)
    assert str(recall) == "0.9500 (95 %: 0.9400 to 0.9600, 500 sampled rows)"
    assert str(EXACT) == "exact"
    for one in (recall, EXACT):
        assert Recall(**json.loads(json.dumps(one.to_json()))) == one
