"""Right answers by brute force in float64, and what every graph and every answer of an index must hold to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import distnnd
from distnnd.runtime.serial import SerialExecutor
from distnnd.testing import forced_partitions

Array = np.ndarray
REFUSALS = (distnnd.SpecError, distnnd.InputError)


def normal(n: int, d: int, seed: int = 0) -> Array:
    """Rows of independent normal numbers: float32[n, d]."""
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def distances_between(points: Any, others: Any, metric: str = "euclidean") -> Array:
    """All pairs in float64: [m, n]; zero rows lie at cosine 1 from all others, and at 0 from each other."""
    a, b = (np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float64) for rows in (points, others))
    if metric == "inner_product":
        return -(a @ b.T)
    if metric in ("jaccard", "dice"):
        return of_sets(a != 0, b != 0, metric)
    if metric == "haversine":
        sines = np.sin((a[:, None] - b) / 2) ** 2
        h = sines[..., 0] + np.cos(a[:, None, 0]) * np.cos(b[:, 0]) * sines[..., 1]
        return 2 * np.arcsin(np.sqrt(np.minimum(h, 1)))
    if metric in ("cosine", "correlation", "true_angular"):
        cosine = of_directions(*((rows - mean_of(rows) if metric == "correlation" else rows) for rows in (a, b)))
        return cosine if metric != "true_angular" else 2 * np.arcsin(np.minimum(np.sqrt(cosine / 2), 1)) / np.pi
    return cdist(a, b, {"manhattan": "cityblock"}.get(metric, metric))


def mean_of(rows: Array) -> Array:
    """The mean of each row, found near its first number, so that rows of one number are exactly their mean."""
    return rows[:, :1] + (rows - rows[:, :1]).mean(axis=1, keepdims=True)


def of_directions(a: Array, b: Array) -> Array:
    """Cosine distances, as half of the squared chord of unit rows: without cancellation."""
    # By the largest number first, so that the squares of tiny rows do not vanish.
    sizes = [np.abs(rows).max(axis=1) for rows in (a, b)]
    a, b = (rows / np.where(size > 0, size, 1)[:, None] for rows, size in zip((a, b), sizes, strict=True))
    norms = [np.linalg.norm(rows, axis=1) for rows in (a, b)]
    a, b = (rows / np.where(norm > 0, norm, 1)[:, None] for rows, norm in zip((a, b), norms, strict=True))
    zero_a, zero_b = (size == 0 for size in sizes)
    found = cdist(a, b, "sqeuclidean") / 2
    found[zero_a[:, None] ^ zero_b] = 1
    found[zero_a[:, None] & zero_b] = 0
    return found


def of_sets(a: Array, b: Array, metric: str) -> Array:
    """Jaccard and Dice distances of rows of truths; two empty rows are equal."""
    both = a.astype(float) @ b.T.astype(float)
    either = a.sum(axis=1)[:, None] + b.sum(axis=1) - both
    whole = either if metric == "jaccard" else both + either
    return np.divide(either - both, whole, out=np.zeros_like(both), where=whole > 0)


def lists_of(points: Any, k: int, metric: str = "euclidean", decimals: int | None = None) -> tuple[Array, Array]:
    """The k nearest other rows of each, by (distance, id): ids and distances."""
    gaps = distances_between(points, points, metric)
    gaps = gaps if decimals is None else gaps.round(decimals)
    np.fill_diagonal(gaps, np.inf)
    ids = np.argsort(gaps, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(gaps, ids, axis=1)


def build(points: Any, k: int = 10, **wanted: Any) -> Any:
    """The graph by one task after the other, in memory unless `out` says otherwise."""
    return distnnd.build(points, wanted.pop("out", None), k, **({"client": SerialExecutor()} | wanted))


def ids_of(graph: Any) -> Array:
    """The neighbours of each row, read while the graph is held."""
    return graph.to_numpy()[0]


def alike(graph: Any, other: Any) -> bool:
    """Whether two graphs have the same neighbours, at distances that differ by rounding to float32 at most."""
    (ids, distances), (others, gaps) = graph.to_numpy(), other.to_numpy()
    return bool((ids == others).all() and np.allclose(distances, gaps, rtol=1e-6))


def told(points: Any, k: int = 10, **wanted: Any) -> tuple[Any, list[str]]:
    """The graph, and the warnings that its build gave."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        graph = build(points, k, **wanted)
    return graph, [str(one.message) for one in heard]


def three_ways(points: Any, k: int = 10, **wanted: Any) -> Iterator[Any]:
    """Graphs of the same points: all pairs or as they come, one partition of leaves, and four that exchange rows."""
    yield build(points, k, **wanted)
    yield from by_leaves(points, k, **wanted)


def by_leaves(points: Any, k: int = 10, **wanted: Any) -> Iterator[Any]:
    """Graphs of one partition of leaves, and of four that exchange rows."""
    for partitions in (1, 4):
        with forced_partitions(partitions):
            yield build(points, k, **wanted)


def index_of(points: Any, place: Any, k: int = 15, metric: str = "euclidean", **wanted: Any) -> Any:
    """An index of the graph of the points, at `place`."""
    return build(points, k, metric=metric, **wanted).build_index(place, source=points)


def assert_sound(graph: Any) -> None:
    """Every row: k distinct valid ids but its own, finite distances, ascending by (distance, id)."""
    ids, distances = graph.to_numpy()
    n = len(ids)
    assert ((ids >= 0) & (ids < n)).all()
    assert (ids != np.arange(n)[:, None]).all(), "a row is its own neighbour"
    assert (np.diff(np.sort(ids, axis=1), axis=1) > 0).all(), "an id stands twice in a row"
    assert np.isfinite(distances).all()
    assert graph.metric == "inner_product" or (distances >= 0).all()
    steps = np.diff(distances, axis=1)
    assert ((steps > 0) | ((steps == 0) & (np.diff(ids, axis=1) > 0))).all(), "a row is not in order"


def share_found(graph: Any, points: Any, metric: str, rows: Array, rtol: float = 2e-6, atol: float = 0.0) -> float:
    """Share of the neighbours of these rows that are as near as the k-th true one, in float64."""
    gaps = distances_between(points[rows], points, metric)
    gaps[np.arange(len(rows)), rows] = np.inf
    kth = np.partition(gaps, graph.n_neighbors - 1, axis=1)[:, graph.n_neighbors - 1]
    found = np.take_along_axis(gaps, graph.to_numpy()[0][rows], axis=1)
    return float((found <= (kth + abs(kth) * rtol + atol)[:, None]).mean())


def assert_right(
    graph: Any,
    points: Any,
    metric: str = "euclidean",
    at_least: float = 0.94,
    rtol: float = 2e-6,
    atol: float = 1e-6,
    rows: int = 400,
) -> None:
    """Sound rows; true neighbours, all of them where the graph says exact; the recall it tells; true distances."""
    assert_sound(graph)
    n = graph.n
    drawn = np.arange(n) if n <= rows else np.sort(np.random.default_rng(0).choice(n, rows, replace=False))
    share = share_found(graph, points, metric, drawn, rtol, atol)
    recall = graph.recall
    assert share >= (1 if recall.exact else at_least), f"{share:.4f} of the neighbours are true, told is {recall}"
    assert recall.exact or recall.low - 0.02 <= share <= recall.high + 0.02, f"{share:.4f} are true, told is {recall}"
    ids, distances = (array[drawn] for array in graph.to_numpy())
    true = np.take_along_axis(distances_between(points[drawn], points, metric), ids, axis=1)
    np.testing.assert_allclose(distances, true, rtol=max(rtol, 1e-5), atol=atol)


def tried(call: Callable[[], Any]) -> tuple[Any, str]:
    """What the call gives, or None and the text of its refusal."""
    try:
        return call(), ""
    except (*REFUSALS, distnnd.StoreError) as error:
        return None, str(error)


def right_or_told(points: Any, metric: str, k: int = 10, **slack: float) -> None:
    """A graph that is right of the points as they were given, or a warning, or a refusal."""
    found, _ = tried(lambda: told(points, k, metric=metric))
    if found is not None and not found[1]:
        assert_right(found[0], points, metric, **slack)


def share_answered(
    found: tuple[Array, Array], queries: Any, points: Any, metric: str = "euclidean", allowed: Any = None
) -> float:
    """Share of the answers that are as near as the k-th true one; asserts that they are distinct and in order."""
    ids, distances = found
    gaps = distances_between(queries, points, metric)
    gaps = gaps if allowed is None else np.where(allowed, gaps, np.inf)
    kth = np.partition(gaps, ids.shape[1] - 1, axis=1)[:, ids.shape[1] - 1]
    assert (ids >= 0).all(), "an answer is missing"
    assert (np.diff(np.sort(ids, axis=1), axis=1) > 0).all(), "an answer stands twice"
    assert (np.diff(distances, axis=1) >= 0).all(), "answers are not in order"
    near = np.take_along_axis(gaps, ids, axis=1) <= (kth + abs(kth) * 1e-5)[:, None] + 1e-12
    return float(near.mean())


def refused(call: Callable[[], Any], *words: str, by: type[Exception] | tuple[type[Exception], ...] = REFUSALS) -> None:
    """The call is refused by an error of distnnd, whose text has these words."""
    with pytest.raises(by) as error:
        call()
    text = str(error.value)
    assert all(word.lower() in text.lower() for word in words), text
