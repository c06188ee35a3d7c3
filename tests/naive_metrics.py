"""Each metric as the textbook has it, of one pair of rows: plain numpy in float64. Tests compare with these.

`TWINS[name](x, y, **params)`; zero rows, and what else the textbook leaves open, are as the table of metrics promises.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.stats import rankdata

Array = np.ndarray
FARTHEST = float(np.finfo(np.float32).max)


def powers(x: Array, y: Array, p: float = 2, w: Any = None) -> float:
    """(sum w |x - y|^p)^(1/p)."""
    weights = np.ones(len(x)) if w is None else np.asarray(w, float)
    gaps = abs(x - y)[weights > 0]
    if not gaps.any():
        return 0.0
    if math.isinf(p):
        return gaps.max()
    return gaps.max() * float((weights[weights > 0] * (gaps / gaps.max()) ** p).sum()) ** (1 / p)


def mahalanobis(x: Array, y: Array, V: Any = None, VI: Any = None) -> float:
    """By the inverse of the covariance."""
    inverse = np.linalg.inv(V) if VI is None else np.asarray(VI)
    return math.sqrt(max((x - y) @ inverse @ (x - y), 0))


def nan_euclidean(x: Array, y: Array) -> float:
    """Over the columns that are there, scaled up to all."""
    both = ~(np.isnan(x) | np.isnan(y))
    return math.sqrt(len(x) / both.sum() * ((x - y)[both] ** 2).sum()) if both.any() else FARTHEST


def canberra(x: Array, y: Array) -> float:
    """Columns of two zeros add nothing."""
    return sum(abs(a - b) / (abs(a) + abs(b)) for a, b in zip(x, y, strict=True) if a or b)


def braycurtis(x: Array, y: Array) -> float:
    """Opposite rows are as far as can be told."""
    gaps, sizes = abs(x - y).sum(), abs(x + y).sum()
    return 0.0 if gaps == 0 else FARTHEST if sizes == 0 else gaps / sizes


def haversine(x: Array, y: Array) -> float:
    """The angle between two unit vectors, by the chord and its complement."""
    one, other = (
        np.array([math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a)]) for a, b in (x[:2], y[:2])
    )
    return 2 * math.atan2(np.linalg.norm(one - other), np.linalg.norm(one + other))


def angle(x: Array, y: Array) -> float:
    """Between two rows: a quarter turn where one is zero, nothing where both are."""
    long, short = np.linalg.norm(x), np.linalg.norm(y)
    if long == 0 or short == 0:
        return 0.0 if long == short else math.pi / 2
    one, other = x / long, y / short
    return 2 * math.atan2(np.linalg.norm(one - other), np.linalg.norm(one + other))


def cosine(x: Array, y: Array) -> float:
    """Without cancellation: 1 - cos t = 2 sin^2 (t / 2)."""
    return 2 * math.sin(angle(x, y) / 2) ** 2


def centred(x: Array) -> Array:
    """Nothing is left of a constant row."""
    return np.zeros(len(x)) if x.min() == x.max() else x - x.mean()


def tsss(x: Array, y: Array) -> float:
    """Triangle times sector, of the paper."""
    long, short = np.linalg.norm(x), np.linalg.norm(y)
    turn = math.degrees(angle(x, y)) + 10
    triangle = long * short * max(math.sin(math.radians(turn)), 0) / 2
    sector = math.pi * (np.linalg.norm(x - y) + abs(long - short)) ** 2 * turn / 360
    return triangle * sector


def apart(farthest: Callable[..., float]) -> Callable[..., Callable[..., float]]:
    """A metric of distributions: rows become shares; a zero row is `farthest(d, **params)` from all others."""

    def of(metric: Callable[..., float]) -> Callable[..., float]:
        def distance(x: Array, y: Array, **params: Any) -> float:
            if not x.any() or not y.any():
                return 0.0 if x.any() == y.any() else farthest(len(x), **params)
            return metric(x / x.sum(), y / y.sum(), **params)

        return distance

    return of


@apart(lambda d: 1.0)
def hellinger(p: Array, q: Array) -> float:
    """From the gaps of the roots."""
    return math.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2)


@apart(lambda d: math.log(2))
def jensen_shannon(p: Array, q: Array) -> float:
    """Both divergences from the mean."""
    mean = (p + q) / 2
    terms = [one[one > 0] * np.log(one[one > 0] / mean[one > 0]) for one in (p, q)]
    return max(sum(term.sum() for term in terms) / 2, 0)


def jensenshannon(x: Array, y: Array, base: float = math.e) -> float:
    """SciPy's."""
    return math.sqrt(jensen_shannon(x, y) / math.log(base))


def symmetric_kl(x: Array, y: Array) -> float:
    """A zero row counts as uniform."""
    smooth = [(row / (row.sum() or 1) + 2**-23) for row in (x, y)]
    p, q = (row / row.sum() for row in smooth)
    return ((p - q) * np.log(p / q)).sum()


@apart(lambda d, p=1: max(d - 1, 1) ** (1 / p))
def wasserstein_1d(one: Array, other: Array, p: float = 1) -> float:
    """Powers of the gaps of running sums."""
    return powers(np.cumsum(one), np.cumsum(other), p)


@apart(lambda d, p=1: max(d // 2, 1) ** (1 / p))
def circular_kantorovich(one: Array, other: Array, p: float = 1) -> float:
    """The least over shifts: a convex function, cut into thirds."""
    ahead = np.cumsum(one - other)
    low, high = ahead.min(), ahead.max()
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if (abs(ahead - left) ** p).sum() < (abs(ahead - right) ** p).sum():
            high = right
        else:
            low = left
    return float((abs(ahead - low) ** p).sum()) ** (1 / p)


@apart(lambda d, cost, max_iter=0: np.max(cost))
def kantorovich(p: Array, q: Array, cost: Any, max_iter: int = 0) -> float:
    """A linear programme."""
    d = len(p)
    sums = np.concatenate([np.kron(np.eye(d), np.ones(d)), np.kron(np.ones(d), np.eye(d))])
    done = linprog(np.ravel(cost), A_eq=sums[:-1], b_eq=np.concatenate([p, q])[:-1])
    assert done.status == 0
    return done.fun


@apart(lambda d, cost, regularization=1: np.max(cost))
def sinkhorn(p: Array, q: Array, cost: Any, regularization: float = 1) -> float:
    """Rows and columns scaled in turn, many times."""
    cost = np.asarray(cost, float)
    kernel = np.exp(-cost / regularization)
    v = np.ones(len(q))
    for _ in range(2000):
        u = p / (kernel @ v)
        v = q / (kernel.T @ u)
    return (u[:, None] * kernel * v * cost).sum()


def of_sets(rule: Callable[[int, int, int, int], float]) -> Callable[..., float]:
    """A metric of the counts: in both, only in x, only in y, d."""

    def distance(x: Array, y: Array) -> float:
        a, b = x != 0, y != 0
        return rule(int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), len(x))

    return distance


def ratio(above: float, below: float) -> float:
    """0 / 0 is 0."""
    return above / below if above else 0.0


TWINS: dict[str, Callable[..., float]] = {
    "euclidean": powers,
    "sqeuclidean": lambda x, y: ((x - y) ** 2).sum(),
    "manhattan": lambda x, y: abs(x - y).sum(),
    "chebyshev": lambda x, y: abs(x - y).max(),
    "minkowski": powers,
    "weighted_minkowski": powers,
    "seuclidean": lambda x, y, V: math.sqrt(((x - y) ** 2 / np.asarray(V)).sum()),
    "mahalanobis": mahalanobis,
    "nan_euclidean": nan_euclidean,
    "canberra": canberra,
    "braycurtis": braycurtis,
    "hamming": lambda x, y: (x != y).mean(),
    "haversine": haversine,
    "cosine": cosine,
    "inner_product": lambda x, y: -(x @ y),
    "correlation": lambda x, y: cosine(centred(x), centred(y)),
    "spearmanr": lambda x, y: cosine(centred(rankdata(x)), centred(rankdata(y))),
    "true_angular": lambda x, y: angle(x, y) / math.pi,
    "tsss": tsss,
    "hellinger": hellinger,
    "jensen_shannon": jensen_shannon,
    "jensenshannon": jensenshannon,
    "symmetric_kl": symmetric_kl,
    "wasserstein_1d": wasserstein_1d,
    "circular_kantorovich": circular_kantorovich,
    "kantorovich": kantorovich,
    "sinkhorn": sinkhorn,
    "jaccard": of_sets(lambda both, s, t, d: ratio(s + t, both + s + t)),
    "dice": of_sets(lambda both, s, t, d: ratio(s + t, 2 * both + s + t)),
    "matching": of_sets(lambda both, s, t, d: (s + t) / d),
    "kulsinski": of_sets(lambda both, s, t, d: (s + t - both + d) / (s + t + d)),
    "rogerstanimoto": of_sets(lambda both, s, t, d: 2 * (s + t) / (d + s + t)),
    "russellrao": of_sets(lambda both, s, t, d: (d - both) / d),
    "sokalsneath": of_sets(lambda both, s, t, d: ratio(2 * (s + t), both + 2 * (s + t))),
    "yule": of_sets(lambda both, s, t, d: ratio(2 * s * t, both * (d - both - s - t) + s * t)),
    "bit_hamming": of_sets(lambda both, s, t, d: s + t),
    "bit_jaccard": of_sets(lambda both, s, t, d: ratio(s + t, both + s + t)),
}
