"""Builds by every metric: the neighbours are those of the metric, and distances are what its twin says."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import distnnd
from distnnd.runtime.events import RoundEnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.values.metrics_table import ENTRIES
from tests.conftest import graph_bytes
from tests.metric_rows import mixed_rows, params_for, real_rows, recall_by_distance, twins

# One or two of each way to be laid out and judged: by the distance itself, by sets, by bits, where the surrogate says
# it but not exactly enough, where nearness is not mutual, where values are missing, and where passes by the distance
# itself follow.
KINDS = (
    "manhattan",
    "canberra",
    "hamming",
    "chebyshev",
    "wasserstein_1d",
    "jaccard",
    "russellrao",
    "bit_jaccard",
    "bit_hamming",
    "haversine",
    "hellinger",
    "mahalanobis",
    "spearmanr",
    "nan_euclidean",
)
# Where cosines are rounded they are off by so much at most.
ROUNDED = 1e-9


def params_for_build(name: str, rows: np.ndarray) -> dict[str, Any]:
    """The first parameters to test by, or none."""
    return params_for(name, rows.shape[1])[0] if name != "minkowski" else {"p": 3.5}


def assert_sound(graph: Any, rows: np.ndarray) -> None:
    """What is promised of every graph: finite distances, in order, of other rows, given again by the rows."""
    assert np.isfinite(graph.distances[:]).all()
    graph.verify(rows)


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENTRIES)
def test_few_rows_are_solved_exactly_with_the_distances_of_the_twin(serial: SerialExecutor, name: str) -> None:
    rows = mixed_rows(name, 45)
    for params in params_for(name, rows.shape[1]):
        graph = distnnd.build(rows, n_neighbors=6, metric=name, metric_params=params, client=serial)
        assert graph.recall.exact
        assert_sound(graph, rows)
        true = twins(name, rows, params)
        named = np.take_along_axis(true, graph.indices[:], axis=1)
        # A product of large rows is as exact as the larger of what it subtracts.
        slack = 1e-6 * np.abs(true).max() if name == "inner_product" else ROUNDED
        np.testing.assert_allclose(graph.distances[:], named, rtol=1e-5, atol=slack)
        np.fill_diagonal(true, np.inf)
        np.testing.assert_allclose(named, np.sort(true, axis=1)[:, :6], rtol=1e-5, atol=slack)


@pytest.mark.parametrize("name", KINDS)
def test_leaves_and_trees_reach_the_recall(serial: SerialExecutor, name: str) -> None:
    rows = mixed_rows(name, 4500)
    params = params_for_build(name, rows)
    graph = distnnd.build(rows, n_neighbors=10, metric=name, metric_params=params, client=serial)
    assert not graph.recall.exact
    assert_sound(graph, rows)
    assert recall_by_distance(name, rows, params, graph) >= 0.93


@pytest.mark.parametrize("name", ["bit_hamming", "bit_jaccard"])
def test_a_few_bytes_of_bits_are_no_places_for_a_tree(serial: SerialExecutor, name: str) -> None:
    """Of so many rows of four numbers a tree would be planted."""
    rows = np.random.default_rng(0).integers(0, 256, (9000, 4)).astype(np.uint8)
    graph = distnnd.build(rows, n_neighbors=10, metric=name, client=serial)
    assert graph.facts["rounds"][0]["engine"] == "leaves"
    assert_sound(graph, rows)
    assert recall_by_distance(name, rows, {}, graph) >= 0.93


@pytest.mark.parametrize("name", KINDS)
def test_partitions_reach_the_recall(serial: SerialExecutor, cut: Any, name: str) -> None:
    cut(4, 1024)
    rows = mixed_rows(name, 3000)
    params = params_for_build(name, rows)
    graph = distnnd.build(rows, n_neighbors=10, metric=name, metric_params=params, client=serial)
    assert graph.facts["layout"]["partitions"] == 4
    assert_sound(graph, rows)
    assert recall_by_distance(name, rows, params, graph) >= 0.93


@pytest.mark.parametrize("name", ["euclidean", "sqeuclidean", "inner_product", "minkowski", "l2"])
def test_numbers_whose_squares_would_vanish_are_refused(serial: SerialExecutor, tmp_path: Any, name: str) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    with pytest.raises(distnnd.InputError, match=r"squares vanish from float32.*scale the data up"):
        distnnd.build(rows * np.float32(1e-20), tmp_path / "g", n_neighbors=3, metric=name, client=serial)
    assert not (tmp_path / "g").exists()
    # One number that does not vanish is enough, and zeros are no tiny numbers.
    rows[1:] *= np.float32(1e-20)
    for points in (rows, rows * 0):
        assert_sound(distnnd.build(points, n_neighbors=3, metric=name, client=serial), points)


@pytest.mark.parametrize("name", ["manhattan", "cosine", "correlation", "seuclidean", "canberra", "wasserstein_1d"])
def test_tiny_rows_are_told_apart_where_nothing_is_squared(serial: SerialExecutor, name: str) -> None:
    rows = (abs(np.random.default_rng(0).normal(size=(40, 5))) * 1e-30).astype(np.float32)
    params = {"V": [1e-20] * 5} if name == "seuclidean" else {}
    graph = distnnd.build(rows, n_neighbors=39, metric=name, metric_params=params, client=serial)
    true = np.take_along_axis(twins(name, rows, params), graph.indices[:], axis=1)
    np.testing.assert_allclose(graph.distances[:], true, rtol=1e-5, atol=1e-9 if name == "correlation" else 0)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("seuclidean", {"V": [1, 1e-40, 1, 1, 1]}),
        ("mahalanobis", {"VI": np.eye(5) * 1e40}),
        ("minkowski", {"p": 3, "w": [1, 1, 1, 1, 1e40]}),
    ],
)
def test_rows_that_parameters_make_too_long_are_named(
    serial: SerialExecutor, tmp_path: Any, name: str, params: dict[str, Any]
) -> None:
    rows = np.zeros((30, 5), np.float32)
    rows[7:] = np.random.default_rng(0).normal(size=(23, 5))
    with pytest.raises(distnnd.InputError, match=r"row 7: with the parameters.*overflows.*scale the data down"):
        distnnd.build(rows, tmp_path / "g", n_neighbors=3, metric=name, metric_params=params, client=serial)
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("zeros", [1, 4, 40])
@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("name", ["tsss", "yule"])
def test_zero_rows_that_are_near_all_are_found_by_all(
    serial: SerialExecutor, cut: Any, name: str, partitions: int, zeros: int
) -> None:
    cut(partitions, 1000)
    rows = real_rows(name, 3000)
    empty = np.random.default_rng(zeros).choice(3000, zeros, replace=False)
    rows[~rows.any(axis=1)], rows[empty] = 1, 0
    graph = distnnd.build(rows, n_neighbors=10, metric=name, client=serial)
    assert graph.facts["layout"]["partitions"] == partitions
    assert len(graph.facts["rounds"]) <= 2
    assert_sound(graph, rows)
    others = np.setdiff1d(np.arange(3000), empty)
    held = np.isin(graph.indices[:][others], empty).sum(axis=1)
    if name == "tsss":
        assert (held == min(zeros, 10)).all()
    assert (graph.distances[:][others, : min(zeros, 10)] == 0).all()
    assert (graph.distances[:][empty] == 0).all()
    assert recall_by_distance(name, rows, {}, graph) >= 0.93


# --- whoever builds, and however often it stopped ---------------------------------------------------------


@pytest.mark.parametrize("name", ["canberra", "bit_jaccard", "haversine"])
def test_more_threads_same_bytes(name: str) -> None:
    rows = real_rows(name, 5000)
    one, three = (distnnd.build(rows, metric=name, client=SerialExecutor(threads=threads)) for threads in (1, 3))
    assert graph_bytes(one) == graph_bytes(three)


class Stop(Exception):
    """What a crash looks like from inside."""


@pytest.mark.parametrize(("name", "partitions"), [("canberra", 4), ("nan_euclidean", 4), ("nan_euclidean", 1)])
def test_resume_after_a_round_gives_the_same_bytes(
    serial: SerialExecutor, tmp_path: Any, cut: Any, name: str, partitions: int
) -> None:
    cut(partitions, 1000)
    rows = real_rows(name, 2500)
    wanted = {"metric": name, "target_recall": 1.0, "max_rounds": 3, "client": serial}

    def stop(event: object) -> None:
        if isinstance(event, RoundEnd) and event.round == 1:
            raise Stop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = distnnd.build(rows, tmp_path / "whole", **wanted)
        assert len(whole.facts["rounds"]) > 1, "nothing is left to resume"
        with pytest.raises(Stop):
            distnnd.build(rows, tmp_path / "g", progress=stop, **wanted)
        assert graph_bytes(distnnd.build(rows, tmp_path / "g", **wanted)) == graph_bytes(whole)
