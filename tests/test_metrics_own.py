"""Builds by a metric of the user's own, and parameters of metrics: what is refused, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import distnnd
from distnnd.runtime.serial import SerialExecutor
from tests.conftest import graph_bytes, true_recall
from tests.metric_rows import recall_by_distance, small_pictures


@numba.njit
def city_blocks(x, y):
    """Manhattan's."""
    total = np.float32(0)
    for column in range(len(x)):
        total += abs(x[column] - y[column])
    return total


@numba.njit
def squares(x, y):
    """Of which the order is euclidean."""
    return ((x - y) ** 2).sum()


@numba.njit
def undefined(x, y):
    """Not a number where the first columns agree."""
    return np.nan if x[0] == y[0] else abs(x[0] - y[0])


def plain(x, y):
    """Nothing that was compiled."""
    return abs(x - y).sum()


# --- it works, wherever it runs ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [600, 5000])
def test_a_users_own_metric_is_as_good_as_ours(serial: SerialExecutor, n: int) -> None:
    rows = small_pictures()[:n]
    own, ours = (distnnd.build(rows, metric=metric, client=serial) for metric in (city_blocks, "manhattan"))
    assert own.metric == "custom"
    assert recall_by_distance("manhattan", rows, {}, own) >= 0.94
    np.testing.assert_allclose(own.distances[:], ours.distances[:], rtol=1e-5) if n == 600 else own.verify(rows)


def test_it_works_in_partitions(serial: SerialExecutor, cut: Any) -> None:
    cut(4, 1000)
    rows = small_pictures()[:3000]
    graph = distnnd.build(rows, metric=city_blocks, client=serial)
    assert graph.facts["layout"]["partitions"] == 4
    assert recall_by_distance("manhattan", rows, {}, graph) >= 0.94


def test_workers_are_sent_the_function(serial: SerialExecutor, processes: Any, cut: Any) -> None:
    cut(3, 1000)
    rows = small_pictures()[:2000]
    there, here = (distnnd.build(rows, metric=squares, client=client) for client in (processes, serial))
    assert graph_bytes(there) == graph_bytes(here)
    assert true_recall(rows, there) >= 0.94


# --- what a store holds of it -----------------------------------------------------------------------------


def test_a_store_keeps_the_name_and_opening_asks_for_the_function(serial: SerialExecutor, tmp_path: Path) -> None:
    rows = small_pictures()[:300]
    distnnd.build(rows, tmp_path / "g", metric=city_blocks, client=serial)
    assert not [place for place in (tmp_path / "g").rglob("*") if place.is_file() and holds_code(place)]
    opened = distnnd.open_graph(tmp_path / "g")
    assert opened.metric == "custom"
    opened.verify()
    for ask in (opened.verify, opened.measure_recall):
        with pytest.raises(distnnd.SpecError, match=r"open_graph\(location, metric=function\)"):
            ask(rows)
    given = distnnd.open_graph(tmp_path / "g", metric=city_blocks)
    assert given.verify(rows)["recomputed"] == 300
    assert given.measure_recall(rows, 50).estimate == 1.0
    with pytest.raises(distnnd.StoreError, match="the points say"):
        distnnd.open_graph(tmp_path / "g", metric=squares).verify(rows)


def holds_code(place: Path) -> bool:
    """Whether a file says anything of the function."""
    return b"city_blocks" in place.read_bytes() or b"numba" in place.read_bytes()


# --- what is refused --------------------------------------------------------------------------------------


def refuses_before_any_work(tmp_path: Path, said: str, metric: Any, params: Any = None, rows: Any = None) -> None:
    """Neither a build nor a plan begins, and nothing is left behind."""
    rows = small_pictures()[:50] if rows is None else rows
    with pytest.raises(distnnd.DistnndError, match=said):
        distnnd.build(rows, tmp_path / "g", metric=metric, metric_params=params, client=SerialExecutor())
    with pytest.raises(distnnd.DistnndError, match=said):
        distnnd.plan(rows, metric=metric, metric_params=params, client=SerialExecutor())
    assert not (tmp_path / "g").exists()


def test_a_plain_function_is_refused_with_the_line_to_add(tmp_path: Path) -> None:
    refuses_before_any_work(tmp_path, r"plain Python function.*\n    @numba.njit\n    def plain", plain)
    refuses_before_any_work(tmp_path, "takes no metric_params", city_blocks, {"p": 3})
    refuses_before_any_work(tmp_path, "give the function itself", "custom")


@pytest.mark.parametrize("n", [60, 4500])
def test_a_distance_that_is_no_number_is_said_with_both_rows(serial: SerialExecutor, tmp_path: Path, n: int) -> None:
    rows = small_pictures()[:n].copy()
    rows[10, 0] = rows[20, 0]
    with pytest.raises(distnnd.InputError, match="the metric returned nan for the rows"):
        distnnd.build(rows, tmp_path / "g", metric=undefined, client=serial)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("minkowski", {"q": 3}, "takes p, w, but metric_params has q"),
        ("minkowski", {"p": 0}, "must be finite and positive"),
        ("minkowski", {"w": [1, [2, 3]]}, "must be numbers"),
        ("weighted_minkowski", None, "needs w"),
        ("weighted_minkowski", {"w": [1, 2, 3]}, r"must be 16 numbers.*shape \(3,\)"),
        ("weighted_minkowski", {"w": [-1] * 16}, "non-negative"),
        ("seuclidean", {"V": [1.0] * 15}, r"must be 16 numbers.*shape \(15,\)"),
        ("mahalanobis", {"VI": np.eye(4)}, r"must be a 16 x 16 matrix.*shape \(4, 4\)"),
        ("mahalanobis", {"V": np.ones((16, 16))}, "no inverse"),
        ("mahalanobis", None, "neither V nor VI"),
        ("kantorovich", None, "wasserstein_1d needs none"),
        ("kantorovich", {"cost": np.ones((16, 3))}, "d x d matrix"),
        ("sinkhorn", {"cost": np.ones((16, 16)), "regularization": 0}, "positive"),
        ("manhattan", {"p": 1}, "takes no parameters"),
        ("manhatten", None, "near names: manhattan"),
        ("haversine", None, "two columns.*have 16"),
        ("bit_jaccard", None, "numpy.packbits"),
    ],
)
def test_parameters_are_refused_before_any_work(tmp_path: Path, name: str, params: Any, said: str) -> None:
    refuses_before_any_work(tmp_path, said, name, params)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("hellinger", -1.0, "row 30, column 3 holds -1.0.*leave the row out"),
        ("manhattan", np.nan, "row 30, column 3 holds nan"),
        ("nan_euclidean", np.inf, "row 30, column 3 holds inf"),
    ],
)
def test_rows_outside_the_domain_are_named(
    serial: SerialExecutor, tmp_path: Path, name: str, value: float, said: str
) -> None:
    rows = small_pictures()[:50].copy()
    rows[30, 3] = value
    with pytest.raises(distnnd.InputError, match=said):
        distnnd.build(rows, tmp_path / "g", metric=name, client=serial)
    assert not (tmp_path / "g").exists()
