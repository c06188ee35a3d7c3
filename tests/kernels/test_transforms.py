"""The inner form: prepared rows, one surrogate and a finish are the metric; rows that it cannot compare are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from distnnd.kernels.rows import finish, prepare, prepared_width
from distnnd.kernels.transforms import MOST_BYTES, check_columns, check_rows, check_sparse_rows, transform
from distnnd.values.errors import InputError
from distnnd.values.metric import METRICS, Metric, as_built, metric_of
from distnnd.values.metrics_table import ENTRIES
from tests.kernels.test_distances import params_of, rows_for, true
from tests.naive import surrogates
from tests.sparse_points import as_csr

INNER = [name for name, entry in ENTRIES.items() if entry.form == "inner"]
ALL = [(name, params) for name in INNER for params in params_of(name, 2 if name == "haversine" else 6)]
ALL += [("minkowski", {"p": 2}), ("weighted_minkowski", {"w": [1, 0, 2, 3, 0.5, 1]})]


def prepare_rows(points: np.ndarray, metric: Metric) -> np.ndarray:
    """All rows of a small set, prepared with room for zero rows: float32[m, width]."""
    points = points.astype(np.float32, copy=False)
    radius = np.sqrt(np.einsum("ij,ij->i", points, points, dtype=np.float64).max(initial=0))
    return prepare(points, metric, prepared_width(metric, points.dtype, points.shape[1], True), radius)


def all_pairs(rows: np.ndarray, name: str, params: dict[str, Any]) -> np.ndarray:
    metric = metric_of(name, params, rows.shape[1])
    assert metric.form == "inner"
    ready = prepare_rows(rows, metric)
    assert ready.dtype == np.float32
    ready = ready[:, : ready.shape[1] - (not metric.euclidean)]
    return finish(surrogates(ready, ready, metric.euclidean).astype(np.float32), metric)


@pytest.mark.parametrize(("name", "params"), ALL, ids=[name for name, _ in ALL])
def test_the_finished_surrogate_is_the_metric(name: str, params: dict[str, Any]) -> None:
    """To 1e-5 of the value, and to what rounding prepared rows to float32 leaves of small distances."""
    rows = rows_for(name, 2 if name == "haversine" else 6)
    told, expected = all_pairs(rows, name, params), true(name, rows, params)
    sizes = abs(prepare_rows(rows, metric_of(name, params))).max(axis=1)
    rounding = 3e-7 * np.maximum(sizes[:, None], sizes)
    turn = {"angle": 1, "half_turns": math.pi}.get(metric_of(name, params).finish)
    if turn:
        # Near opposite places a small part of the chord is a large one of the angle.
        told, expected = np.sin(told * turn / 2), np.sin(expected * turn / 2)
    if metric_of(name, params).finish == "none":
        rounding *= np.maximum(sizes[:, None], sizes)
    assert (abs(told - expected) <= 1e-5 * abs(expected) + rounding).all()


def test_some_parameters_have_a_form_of_their_own() -> None:
    assert metric_of("minkowski").form == "inner"
    assert metric_of("minkowski", {"p": 3}).form == "pair"
    assert metric_of("minkowski", {"p": 2, "w": [1, 2]}).steps == ("scale",)


def test_zero_rows_stand_apart_where_rows_are_scaled_to_one() -> None:
    rows = np.array([[0, 0, 0], [2, 2, 2], [1, 2, 3]], np.float32)
    assert all_pairs(rows, "correlation", {}).tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    np.testing.assert_allclose(all_pairs(rows, "true_angular", {})[0], [0, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(all_pairs(rows, "hellinger", {})[0], [0, 1, 1], rtol=1e-6)


def test_constant_rows_leave_nothing_whatever_their_number() -> None:
    rows = np.repeat(np.float32([0.1, 1 / 3, 1e30, -7e-30]), 777).reshape(4, 777)
    for name in ("correlation", "spearmanr"):
        assert not transform(rows, metric_of(name)).any()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "bool"])
@pytest.mark.parametrize("name", ["canberra", "jaccard", "hamming", "hellinger"])
def test_bytes_are_transformed_as_numbers_are(name: str, dtype: str) -> None:
    """Number by number from a table, or as they stand beside each other."""
    rows = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 128, (40, 11)).astype(dtype)
    if dtype == "int8" and name != "hellinger":
        rows -= np.int8(60)
    metric = metric_of(name, None, 11)
    np.testing.assert_array_equal(transform(rows, metric), transform(rows.astype(np.float64), metric))


def test_ranks_share_the_mean_of_their_places() -> None:
    rows = np.float32([[3, 1, 3, 2], [5, 5, 5, 5], [-1, -0.0, 0, 9]])
    ranks = transform(rows, metric_of("spearmanr")) + 1.5
    assert ranks.tolist() == [[2.5, 0, 2.5, 1], [1.5, 1.5, 1.5, 1.5], [0, 1.5, 1.5, 3]]


def test_antipodes_are_half_a_turn_apart() -> None:
    rows = np.float32([[0, 0], [0, math.pi], [math.pi / 2, 0], [-math.pi / 2, 1]])
    told = all_pairs(rows, "haversine", {})
    assert told[0, 1] == told[2, 3] == np.float32(math.pi)
    np.testing.assert_allclose(told[0, 2:], math.pi / 2, rtol=1e-6)
    assert metric_of("haversine").laid_out_columns(2) == 3


@pytest.mark.parametrize("name", INNER)
def test_free_places_of_lists_stay_at_infinity(name: str) -> None:
    metric = metric_of(name, params_of(name, 3)[0])
    assert np.isinf(finish(np.float32([np.inf]), metric)).all()


def test_a_metric_without_steps_leaves_rows_alone() -> None:
    rows = np.float32([[1, 2], [3, 4]])
    assert prepare_rows(rows, METRICS["euclidean"]) is rows


# --- what cannot be compared ----------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.domain == "non-negative"])
def test_a_negative_share_is_named(name: str) -> None:
    metric = metric_of(name, params_of(name, 3)[0])
    rows = np.ones((4, 3), np.float32)
    check_rows(rows, metric)
    rows[2, 1] = -0.5
    with pytest.raises(InputError, match=rf"{metric.name}.* row 102, column 1 holds -0.5: .*clip"):
        check_rows(rows, metric, 100)
    rows[0] = 0
    with pytest.raises(InputError, match=rf"{metric.name}.* row 102, column 1 holds -0.5: .*clip"):
        check_sparse_rows(as_csr(rows), metric, 100)


def test_places_have_two_columns_in_radians() -> None:
    metric = metric_of("haversine")
    check_columns(metric, 2, "float32")
    with pytest.raises(InputError, match="3 columns"):
        check_columns(metric, 3, "float32")
    check_rows(np.float32([[math.pi / 2, 7], [-math.pi / 2, -12]]), metric)
    with pytest.raises(InputError, match=r"row 1, column 0 holds 48.* degrees"):
        check_rows(np.float32([[1, 6], [48, 11]]), metric)


def test_a_missing_value_is_nan_and_nothing_else() -> None:
    metric = metric_of("nan_euclidean")
    check_rows(np.float32([[np.nan, 1]]), metric)
    with pytest.raises(InputError, match=r"row 0, column 1 holds inf: write NaN"):
        check_rows(np.float32([[1, np.inf]]), metric)


def test_packed_rows_are_bytes() -> None:
    check_columns(metric_of("bit_jaccard"), 4, np.uint8)
    with pytest.raises(InputError, match=r"float32; .*packbits.*: jaccard"):
        check_columns(metric_of("bit_jaccard"), 4, np.float32)


def test_other_metrics_take_any_number() -> None:
    check_rows(np.float32([[-1e30, 5]]), metric_of("manhattan"))
    check_columns(metric_of("cosine"), 9, "uint8")


def test_sets_have_an_end() -> None:
    metric = as_built(metric_of("bit_jaccard"))
    check_columns(metric, MOST_BYTES, "uint8")
    check_columns(as_built(metric_of("bit_hamming")), 10 * MOST_BYTES, "uint8")
    with pytest.raises(InputError, match=f"takes rows of at most {MOST_BYTES} bytes, but the points have"):
        check_columns(metric, MOST_BYTES + 1, "uint8")
