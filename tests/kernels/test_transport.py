"""Transports: bounds below what they cost, mass that stays in place, distances that are told as far as needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from distnnd.kernels.descent import Finds
from distnnd.kernels.distances import distance_up_to, distances_between
from distnnd.kernels.forms import detours_are_dearer, form_of
from distnnd.kernels.judge import Judge
from distnnd.kernels.neighbours import Lists, empty
from distnnd.kernels.sparse_distances import listed
from distnnd.kernels.transport import least_cost_at_least
from distnnd.kernels.whole_rows import farthest_column, leave_in_place, listed_masses, part_of, shares_of
from distnnd.values.metric import metric_of
from distnnd.values.points import Csr
from tests.naive_metrics import kantorovich

D = 7
PLACES = np.random.default_rng(0).normal(size=(D, 2))
APART = np.linalg.norm(PLACES[:, None] - PLACES, axis=2)
# Between places, with something to pay everywhere; where detours are cheaper; anything.
COSTS = {
    "places": APART,
    "dear places": APART + 0.3,
    "squares": APART**2,
    "any": (lambda any_: any_ + any_.T)(np.random.default_rng(1).random((D, D))),
}


def rows_with_zeros(n: int, seed: int = 2) -> np.ndarray:
    """Sparse ones, full ones, some that are equal or zero: float32[n, D]."""
    rng = np.random.default_rng(seed)
    rows = rng.random((n, D)) * (rng.random((n, D)) < rng.uniform(0.2, 1, (n, 1)))
    rows[1], rows[2] = 0, rows[3]
    return rows.astype(np.float32)


def form(cost: np.ndarray) -> Any:
    return form_of(metric_of("kantorovich", {"cost": cost}, D), D)


def all_pairs(rows: np.ndarray, cost: np.ndarray) -> np.ndarray:
    out = np.empty((len(rows), len(rows)), np.float32)
    distances_between(rows, rows, form(cost), out)
    return out


def sparse(rows: np.ndarray) -> Any:
    csr = scipy.sparse.csr_matrix(rows)
    return listed(Csr(csr.indptr.astype(np.int64), csr.indices, csr.data, D))


def test_mass_stays_where_no_detour_is_cheaper() -> None:
    assert [detours_are_dearer(cost) for cost in COSTS.values()] == [True, True, False, False]
    # Rounded costs are no detours, and one column has none.
    assert detours_are_dearer(0.1 * abs(np.subtract.outer(np.arange(50), np.arange(50))))
    assert detours_are_dearer(np.array([[3.0]]))


@pytest.mark.parametrize("name", COSTS)
def test_the_cost_is_that_of_the_linear_programme(name: str) -> None:
    rows = rows_with_zeros(12)
    told = all_pairs(rows, COSTS[name])
    true = [[kantorovich(x, y, cost=COSTS[name]) for y in rows.astype(float)] for x in rows.astype(float)]
    np.testing.assert_allclose(told, true, rtol=1e-5, atol=1e-9)


# Sixteenths; and with zeros.
SHARES = np.array([[1, 2, 3, 4, 6], [5, 5, 2, 3, 1], [1, 1, 1, 1, 12], [4, 3, 3, 3, 3]], np.float32) / 16
FEW = np.array([[1, 0, 0, 4, 6], [0, 5, 2, 3, 1], [0, 0, 0, 1, 12], [4, 3, 3, 3, 3]], np.float32)
# What PyNNDescent 0.7.0 says of pairs 01, 02, 03, 12, 13, 23, the cost being |i - j| to a power.
ANCHOR: list[tuple[str, np.ndarray, float, dict[str, float], list[float]]] = [
    ("kantorovich", SHARES, 1, {}, [1.375, 0.625, 0.875, 2.0, 0.5, 1.5]),
    ("kantorovich", SHARES, 2, {}, [2.375, 0.875, 1.125, 5.375, 0.5, 3.5]),
    ("kantorovich", FEW, 1, {}, [1.45454545, 0.65034965, 1.39772727, 1.92307692, 0.375, 2.04807692]),
    ("kantorovich", FEW, 2, {}, [2.54545455, 1.27972028, 3.06818182, 4.70629371, 0.375, 6.08653846]),
    ("kantorovich", FEW, 0.5, {}, [0.94021971, 0.46853147, 0.83514832, 1.24022976, 0.36059149, 1.20050149]),
    *(
        ("sinkhorn", SHARES, 1, {"regularization": weight}, says)
        for weight, says in {
            5: [1.72973995, 1.20918444, 1.49855697, 2.19722911, 1.36696476, 1.80953401],
            1: [1.44595766, 0.77877866, 1.01773433, 2.03292098, 0.76007208, 1.54523885],
            0.5: [1.38444776, 0.65948263, 0.89486145, 2.00439472, 0.55115503, 1.5054961],
        }.items()
    ),
]


@pytest.mark.parametrize(("name", "rows", "power", "params", "says"), ANCHOR)
def test_the_anchor_project_says_the_same(
    name: str, rows: np.ndarray, power: float, params: dict[str, float], says: list[float]
) -> None:
    cost = abs(np.subtract.outer(np.arange(5.0), np.arange(5.0))) ** power
    told = np.empty((4, 4), np.float32)
    distances_between(rows, rows, form_of(metric_of(name, {"cost": cost} | params, 5), 5), told)
    np.testing.assert_allclose(told[np.triu_indices(4, 1)], says, rtol=1e-6)


@pytest.mark.parametrize("name", COSTS)
def test_no_bound_is_above_the_cost(name: str) -> None:
    rows, cost = rows_with_zeros(20), COSTS[name]
    true = all_pairs(rows, cost)
    share = []
    for i, j in np.argwhere(true > 0):
        one, other = shares_of(rows[i]), shares_of(rows[j])
        if not (one.any() and other.any()):
            continue
        stay = leave_in_place(one, other, cost) if detours_are_dearer(cost) else 0.0
        bounds = [farthest_column(one, other, cost)] if detours_are_dearer(cost) else []
        (supply, here), (demand, there) = listed_masses(one), listed_masses(other)
        bounds.append(least_cost_at_least(supply, demand, part_of(cost, here, there)))
        assert stay + max(bounds) <= true[i, j] * (1 + 1e-6)
        share.append((stay + max(bounds)) / true[i, j])
    # They would be bounds if they were 0, too.
    assert np.mean(share) > 0.6


@pytest.mark.parametrize("kind", [np.asarray, sparse])
@pytest.mark.parametrize("name", COSTS)
def test_a_distance_is_told_as_far_as_it_matters(name: str, kind: Any) -> None:
    rows, what = rows_with_zeros(14), form(COSTS[name])
    true = all_pairs(rows, COSTS[name])
    points = kind(rows)
    for bound in np.quantile(true, [0, 0.1, 0.5, 0.9]).astype(np.float32):
        told = np.array([[distance_up_to(what, points, i, points, j, bound) for j in range(14)] for i in range(14)])
        near = true <= bound
        np.testing.assert_array_equal(told[near], true[near])
        assert (told[~near] > bound).all()
        assert (told <= true * np.float32(1 + 1e-6)).all()


# --- who judges -------------------------------------------------------------------------------------------


def test_the_nearest_that_are_kept_are_settled_as_if_all_were() -> None:
    rows = rows_with_zeros(60)
    judge = Judge(rows, form(APART))
    rng = np.random.default_rng(3)
    lists = [empty(60, 20), empty(60, 20)]
    for row in range(60):
        lists[0].ids[row] = lists[1].ids[row] = rng.choice(60, 20, replace=False)
    judge.settle(lists[0], 0, 60)
    judge.settle(lists[1], 0, 60, kept=6)
    for one, other in zip(lists[0][:2], lists[1][:2], strict=True):
        np.testing.assert_array_equal(one[:, :6], other[:, :6])
    assert (lists[0].distances[:, 6:] != lists[1].distances[:, 6:]).any()


def test_all_pairs_are_offered_as_if_each_was_measured() -> None:
    rows = rows_with_zeros(80)
    lists = empty(80, 5)
    Judge(rows, form(APART)).offer_all(lists, 0, 80)
    true = all_pairs(rows, APART)
    np.fill_diagonal(true, np.inf)
    order = np.argsort(true, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(lists.ids, order)
    np.testing.assert_array_equal(lists.distances, np.take_along_axis(true, order, axis=1))


def test_finds_have_the_distance_where_they_enter_a_list() -> None:
    rows = rows_with_zeros(50)
    true = all_pairs(rows, APART)
    worst = np.quantile(true, 0.4, axis=1).astype(np.float32)[:, None]
    lists = Lists(np.zeros((50, 1), np.int32), worst, np.zeros((50, 1), np.uint8))
    ones, others = np.triu_indices(50, 1)
    targets, labels = (np.stack(pair, axis=1).ravel().astype(np.int32) for pair in ((ones, others), (others, ones)))
    finds = Finds(targets, labels, np.zeros(len(targets), np.float32))
    Judge(rows, form(APART)).price(finds, lists, 0, len(targets))
    enters = true[targets, labels] <= worst[targets, 0]
    np.testing.assert_array_equal(finds.distances[enters], true[targets, labels][enters])
    assert (finds.distances[~enters] > worst[targets[~enters], 0]).all()
