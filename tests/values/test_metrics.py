"""The table of metrics: every name is there, every parameter is checked, and a metric is a value."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from distnnd.values.errors import SpecError
from distnnd.values.metric import METRICS, Metric, described, metric_of
from distnnd.values.metrics_table import DOMAINS, ENTRIES, PRIMARY

# The names that PyNNDescent 0.7 has, dense and sparse, those of its talk, and those of SciPy and scikit-learn.
NAMES = (
    "euclidean l2 sqeuclidean manhattan taxicab l1 chebyshev linfinity linfty linf minkowski seuclidean "
    "standardised_euclidean wminkowski weighted_minkowski mahalanobis canberra cosine direct_cosine dot inner_product "
    "correlation haversine braycurtis spearmanr tsss true_angular hellinger kantorovich wasserstein wasserstein_1d "
    "wasserstein-1d kantorovich-1d kantorovich_1d circular_kantorovich circular_wasserstein sinkhorn jensen-shannon "
    "jensen_shannon symmetric-kl symmetric_kl symmetric_kullback_liebler hamming jaccard dice matching kulsinski "
    "rogerstanimoto russellrao sokalsneath sokalmichener yule bit_hamming bit_jaccard "
    "spearman bray-curtis angular ts-ss nan_euclidean cityblock jensenshannon infinity "
)


def test_every_name_is_known() -> None:
    assert [name for name in NAMES.split() if name not in PRIMARY] == []
    assert all(described(name).name == PRIMARY[name] for name in PRIMARY)


def test_no_name_means_two_metrics() -> None:
    every = [name for entry in ENTRIES.values() for name in (entry.name, *entry.aliases)]
    assert len(every) == len(set(every)) == len(PRIMARY)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_everything(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.form in ("inner", "pair", "set", "bits")
    assert all((entry.formula, entry.zero, entry.axioms))
    assert entry.domain in DOMAINS
    assert entry.form == "inner" or entry.finish == "none"
    for param in entry.params:
        assert param.words
        assert param.kind in ("number", "whole", "vector", "matrix", "choice")


def test_the_metrics_of_builds_are_those_of_the_table() -> None:
    for name, metric in METRICS.items():
        assert metric_of(name) is metric
        assert not metric.judged
    assert metric_of("l2") is METRICS["euclidean"]
    assert metric_of("dot") == metric_of("direct_cosine") == METRICS["cosine"]
    assert METRICS["cosine"] == Metric("cosine", unit=True, euclidean=True, finish="half")


def test_a_metric_is_a_value() -> None:
    cost = np.array([[0, 1.5], [1.5, 0]], np.float32)
    one, other = (metric_of("sinkhorn", {"cost": given}) for given in (cost, cost.tolist()))
    assert one == other
    assert hash(one) == hash(other)
    assert json.loads(json.dumps(dict(one.params))) == {"cost": cost.tolist(), "regularization": 1}
    assert metric_of("sinkhorn", json.loads(json.dumps(dict(one.params)))) == one


def test_an_unknown_name_is_told_the_near_ones() -> None:
    with pytest.raises(SpecError, match=r"unknown metric 'manhatten'; near names: manhattan"):
        metric_of("manhatten")


def test_defaults_are_filled_in() -> None:
    assert metric_of("minkowski").param("p") == 2
    assert metric_of("wasserstein_1d").param("p") == 1
    assert metric_of("jensenshannon").params == ()
    assert metric_of("jensenshannon", {"base": None}).params == ()
    assert metric_of("minkowski", {"p": 3, "w": None}).params == (("p", 3),)
    assert metric_of("kantorovich", {"cost": [[0]]}).param("max_iter") == 100_000


@pytest.mark.parametrize("power", [math.inf, np.float32(3), 1, np.int8(4)])
def test_a_power_may_be_any_number_above_0(power: Any) -> None:
    assert metric_of("minkowski", {"p": power}).param("p") == power


def test_a_power_beyond_float32_is_that_of_the_largest_gap() -> None:
    assert metric_of("minkowski", {"p": 1e300}) == metric_of("minkowski", {"p": math.inf})
    given = {"w": [0.5, 0]}
    assert metric_of("minkowski", {"p": 2e9} | given) == metric_of("minkowski", {"p": math.inf} | given)


COST = [[0, 1], [1, 0]]
REFUSED: list[tuple[str, dict[str, Any], int | None, str]] = [
    ("euclidean", {"p": 2}, None, "takes no parameters, but metric_params has p"),
    ("minkowski", {"q": 2}, None, "takes p, w, but metric_params has q"),
    ("minkowski", {"p": 0}, None, "p .*positive, but p is 0"),
    ("minkowski", {"p": math.nan}, None, "p is nan"),
    ("minkowski", {"p": "two"}, None, "must be numbers, not 'two'"),
    ("minkowski", {"p": True}, None, "must be numbers, not True"),
    ("minkowski", {"p": [1, 2]}, None, r"one number, but has shape \(2,\)"),
    ("wminkowski", {}, None, "needs w, d numbers"),
    ("wminkowski", {"w": [1, -1]}, None, r"w\[1\] is -1"),
    ("wminkowski", {"w": [0, 0]}, None, "weight above 0"),
    ("wminkowski", {"w": [1, 2]}, 3, r"must be 3 numbers, .* shape \(2,\)"),
    ("wminkowski", {"w": 2}, None, "must be d numbers"),
    ("seuclidean", {}, None, r"needs V, .*numpy\.var\(points, axis=0, ddof=1\)"),
    ("seuclidean", {"V": [1, 0]}, 2, r"positive, but V\[1\] is 0"),
    ("seuclidean", {"V": [1, math.inf]}, 2, r"V\[1\] is inf"),
    ("seuclidean", {"V": [1], "sigma": [1]}, 1, "V twice, once as sigma"),
    ("mahalanobis", {}, None, "neither V nor VI"),
    ("mahalanobis", {"V": COST, "VI": COST}, None, "both V and VI"),
    ("mahalanobis", {"V": [[1, 1], [1, 1]]}, None, r"no inverse.*pinv"),
    ("mahalanobis", {"VI": COST}, None, "no negative eigenvalues, .* -1"),
    ("mahalanobis", {"VI": [[0, 0], [0, 0]]}, None, "eigenvalues"),
    ("mahalanobis", {"VI": [[1, 0.5], [0, 1]]}, None, r"symmetric, but \[0, 1\] is 0.5"),
    ("mahalanobis", {"VI": np.eye(2)}, 3, r"3 x 3 matrix, but has shape \(2, 2\)"),
    ("mahalanobis", {"V": [[1, math.nan], [math.nan, 1]]}, None, r"V\[0, 1\] is nan"),
    ("kantorovich", {}, None, "needs cost, a symmetric d x d matrix.*wasserstein_1d needs none"),
    ("kantorovich", {"cost": [[0, -1], [-1, 0]]}, 2, r"cost\[0, 1\] is -1"),
    ("kantorovich", {"cost": [[0, 1], [2, 0]]}, 2, "symmetric"),
    ("kantorovich", {"cost": [[0, 1], [2]]}, 2, "must be numbers"),
    ("kantorovich", {"cost": COST, "max_iter": 1.5}, 2, "whole number, not 1.5"),
    ("kantorovich", {"cost": COST, "max_iter": 0}, 2, "at least 1"),
    ("kantorovich", {"cost": COST, "max_iter": True}, 2, "whole number, not True"),
    ("seuclidean", {"V": [1, 1e-320]}, 2, r"positive, but V\[1\] is 1"),
    ("sinkhorn", {"cost": COST, "regularization": 0}, 2, "positive"),
    ("sinkhorn", {"cost": COST, "regularization": 1e-7}, 2, "less than a millionth of the largest cost.*kantorovich"),
    ("wasserstein_1d", {"p": 41}, None, "from 0.1 to 40, but p is 41"),
    ("wasserstein_1d", {"p": math.inf}, None, "finite and from 0.1"),
    ("circular_wasserstein", {"p": 0.5}, None, "from 1 to 40"),
    ("jensenshannon", {"base": 1}, None, "above 1"),
]


@pytest.mark.parametrize(("name", "params", "d", "words"), REFUSED)
def test_what_cannot_be_meant_is_refused(name: str, params: dict[str, Any], d: int | None, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        metric_of(name, params, d)


def test_a_weight_of_zero_does_not_count_under_the_largest_gap() -> None:
    assert metric_of("minkowski", {"p": math.inf, "w": [0, 7]}).param("w") == (0, 1)


def test_a_covariance_that_lacks_a_dimension_may_be_given_by_its_inverse() -> None:
    assert metric_of("mahalanobis", {"VI": [[1, 1], [1, 1]]}).param("VI") == ((1, 1), (1, 1))
