"""Metrics as kernels take them: a NamedTuple class each, so that numba compiles for each, with its parameters inside.

All hold `columns`, the number of columns d of a row, since rows that are sparse or packed do not say it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba.core import config
from numba.core.dispatcher import Dispatcher

from ..values.errors import SpecError, brief
from ..values.metric import Metric


class SquaredEuclidean(NamedTuple):
    """sum (x - y)^2."""

    columns: int


class Euclidean(NamedTuple):
    """The root of it."""

    columns: int


class WeightedEuclidean(NamedTuple):
    """sqrt(sum w (x - y)^2); weights: float64[d]."""

    columns: int
    weights: np.ndarray


class Manhattan(NamedTuple):
    """sum |x - y|."""

    columns: int


class Chebyshev(NamedTuple):
    """max |x - y|."""

    columns: int


class Minkowski(NamedTuple):
    """(sum |x - y|^power)^(1 / power)."""

    columns: int
    power: float


class WholeMinkowski(NamedTuple):
    """The same for a whole power that a few products give."""

    columns: int
    power: int


class WeightedMinkowski(NamedTuple):
    """(sum w |x - y|^power)^(1 / power), power perhaps inf; weights: float64[d]."""

    columns: int
    power: float
    weights: np.ndarray


class Mahalanobis(NamedTuple):
    """sqrt((x - y)' inverse (x - y)); inverse: float64[d, d]."""

    columns: int
    inverse: np.ndarray


class NanEuclidean(NamedTuple):
    """Over the columns that both rows have."""

    columns: int


class Canberra(NamedTuple):
    """sum |x - y| / (|x| + |y|)."""

    columns: int


class BrayCurtis(NamedTuple):
    """sum |x - y| / sum |x + y|."""

    columns: int


class Hamming(NamedTuple):
    """The share of columns that differ."""

    columns: int


class Haversine(NamedTuple):
    """The angle between two places given as latitude and longitude."""

    columns: int


class HaversineOfDegrees(NamedTuple):
    """The same angle, in radians, between places given in degrees."""

    columns: int


class Cosine(NamedTuple):
    """1 - cos."""

    columns: int


class InnerProduct(NamedTuple):
    """-<x, y>."""

    columns: int


class Correlation(NamedTuple):
    """1 - cos of centred rows."""

    columns: int


class Spearman(NamedTuple):
    """1 - cos of centred ranks."""

    columns: int


class TrueAngular(NamedTuple):
    """The angle as a share of a half turn."""

    columns: int


class TsSs(NamedTuple):
    """Triangle times sector."""

    columns: int


class Hellinger(NamedTuple):
    """Between distributions."""

    columns: int


class JensenShannon(NamedTuple):
    """The divergence in nats."""

    columns: int


class JensenShannonRoot(NamedTuple):
    """The root of the divergence; unit: ln(base), what the divergence is measured by."""

    columns: int
    unit: float


class SymmetricKl(NamedTuple):
    """Kullback and Leibler's divergence in both directions."""

    columns: int


class Wasserstein1d(NamedTuple):
    """The gaps of running sums."""

    columns: int


class WassersteinPower1d(NamedTuple):
    """Powers of these gaps."""

    columns: int
    power: float


class CircularWasserstein(NamedTuple):
    """Of running sums around a circle; each: float64[d], of ones, over how many columns those of dense rows stand."""

    columns: int
    power: float
    each: np.ndarray


class Kantorovich(NamedTuple):
    """The least cost of a transport; cost: float64[d, d]; paths: how many are tried.

    stays: whether what both rows have in a column may stay there, since no detour is cheaper.
    """

    columns: int
    cost: np.ndarray
    paths: int
    stays: bool


class Sinkhorn(NamedTuple):
    """The cost of an entropic transport; cost: float64[d, d]; gibbs: exp(-cost / regularization), which is prepared.

    steep: whether that may underflow, so that logarithms are called for.
    """

    columns: int
    cost: np.ndarray
    regularization: float
    gibbs: np.ndarray
    steep: bool


class Jaccard(NamedTuple):
    """Of sets of nonzero columns, like all below."""

    columns: int


class Dice(NamedTuple):
    """See the table."""

    columns: int


class Matching(NamedTuple):
    """See the table."""

    columns: int


class Kulsinski(NamedTuple):
    """See the table."""

    columns: int


class RogersTanimoto(NamedTuple):
    """See the table."""

    columns: int


class RussellRao(NamedTuple):
    """See the table."""

    columns: int


class SokalSneath(NamedTuple):
    """See the table."""

    columns: int


class Yule(NamedTuple):
    """See the table."""

    columns: int


class BitHamming(NamedTuple):
    """How many columns differ."""

    columns: int


class UsersOwn(NamedTuple):
    """function(x, y), of two rows: numbers[d] each; compiled by numba."""

    columns: int
    function: Any


class UsersOwnSparse(NamedTuple):
    """function(columns_x, values_x, columns_y, values_y), of what two sparse rows list; compiled by numba."""

    columns: int
    function: Any


# The largest power that products give (kernels/logarithms.py: whole_power_of).
MOST_BY_PRODUCTS = 15
# The largest power of 1 / e that scaling by products goes with: factors come to the square of it, times shares.
STEEP = 200.0
# Of the largest cost: what may be owed to the rounding of whoever computed it.
ROUNDING = 1e-13
SETS = (Jaccard, Dice, Matching, Kulsinski, RogersTanimoto, RussellRao, SokalSneath, Yule, BitHamming)

_WITHOUT_PARAMETERS = {
    "euclidean": Euclidean,
    "sqeuclidean": SquaredEuclidean,
    "manhattan": Manhattan,
    "chebyshev": Chebyshev,
    "nan_euclidean": NanEuclidean,
    "canberra": Canberra,
    "braycurtis": BrayCurtis,
    "hamming": Hamming,
    "haversine": Haversine,
    "cosine": Cosine,
    "inner_product": InnerProduct,
    "correlation": Correlation,
    "spearmanr": Spearman,
    "true_angular": TrueAngular,
    "tsss": TsSs,
    "hellinger": Hellinger,
    "jensen_shannon": JensenShannon,
    "symmetric_kl": SymmetricKl,
    "jaccard": Jaccard,
    "dice": Dice,
    "matching": Matching,
    "kulsinski": Kulsinski,
    "rogerstanimoto": RogersTanimoto,
    "russellrao": RussellRao,
    "sokalsneath": SokalSneath,
    "yule": Yule,
    "bit_hamming": BitHamming,
    "bit_jaccard": Jaccard,
}


def form_of(metric: Metric, columns: int) -> Any:
    """The metric as a value that `distance` takes, for rows of so many columns (bits, where rows are packed).

    Sparse rows come as their ranks where the metric is of these (kernels/sparse_distances.py: as_compared).
    """
    if metric.form == "sparse" and metric.name == "spearmanr":
        return Correlation(columns)
    if metric.name == "haversine" and metric.param("unit") == "degrees":
        return HaversineOfDegrees(columns)
    if metric.name in _WITHOUT_PARAMETERS:
        return _WITHOUT_PARAMETERS[metric.name](columns)
    if metric.name in ("minkowski", "weighted_minkowski"):
        return _powers(columns, float(metric.param("p")), metric.param("w"))
    if metric.name == "seuclidean":
        return WeightedEuclidean(columns, 1 / _array(metric, "V"))
    if metric.name == "mahalanobis":
        return Mahalanobis(columns, _array(metric, "VI"))
    if metric.name == "jensenshannon":
        return JensenShannonRoot(columns, math.log(metric.param("base", math.e)))
    if metric.name == "wasserstein_1d":
        power = float(metric.param("p"))
        return Wasserstein1d(columns) if power == 1 else WassersteinPower1d(columns, power)
    if metric.name == "circular_kantorovich":
        return CircularWasserstein(columns, float(metric.param("p")), np.ones(columns))
    if metric.name == "kantorovich":
        cost = _array(metric, "cost")
        return Kantorovich(columns, cost, int(metric.param("max_iter")), detours_are_dearer(cost))
    assert metric.name == "sinkhorn"
    return _entropic(columns, _array(metric, "cost"), float(metric.param("regularization")))


def own_form(function: Any, columns: int, sparse: bool = False) -> UsersOwn | UsersOwnSparse:
    """The user's own metric as a value that `distance` takes, for dense rows or for sparse ones.

    SpecError unless the function was compiled by numba, with the line that is missing.
    """
    if not isinstance(function, Dispatcher) and not (config.DISABLE_JIT and callable(function)):
        name = getattr(function, "__name__", None)
        if not callable(function) or name is None:
            raise SpecError(f"a metric is a name or a function that numba has compiled, not {brief(function)}")
        raise SpecError(
            f"the metric {name} is a plain Python function, which would be called billions of times; let numba compile "
            f"it, by one line above it:\n    @numba.njit\n    def {name}(...)"
        )
    return UsersOwnSparse(columns, function) if sparse else UsersOwn(columns, function)


def detours_are_dearer(cost: np.ndarray) -> bool:
    """Whether to move mass in and as much out of a column costs no less than past it, for all columns: the triangle
    holds, but for rounding. cost: float64[d, d].
    """
    past = cost - ROUNDING * cost.max()
    return all((cost[:, [one]] + cost[[one]] >= cost[one, one] + past).all() for one in range(len(cost)))


def _entropic(columns: int, cost: np.ndarray, regularization: float) -> Sinkhorn:
    """With exp(-cost / regularization) at hand."""
    exponents = cost / regularization
    return Sinkhorn(columns, cost, regularization, np.exp(-exponents), bool(exponents.max() > STEEP))


def _powers(columns: int, power: float, weights: Any) -> Any:
    """The class with the least work for that power."""
    if weights is not None:
        weights = np.asarray(weights, np.float64)
        return WeightedEuclidean(columns, weights) if power == 2 else WeightedMinkowski(columns, power, weights)
    plain = {1: Manhattan, 2: Euclidean, math.inf: Chebyshev}
    if power in plain:
        return plain[power](columns)
    whole = power in range(1, MOST_BY_PRODUCTS + 1)
    return WholeMinkowski(columns, int(power)) if whole else Minkowski(columns, power)


def _array(metric: Metric, name: str) -> np.ndarray:
    return np.asarray(metric.param(name), np.float64)
