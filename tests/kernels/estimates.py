"""Prepared rows, their estimates and the limits of their surrogates: what the tests of codes share."""

from __future__ import annotations

import numpy as np
from numba import njit

from distnnd.kernels import codes
from distnnd.kernels.codes import (
    Rows,
)
from distnnd.kernels.neighbours import empty
from distnnd.kernels.rows import Form, plain_form, prepare, prepared_width, rescore
from distnnd.values.metric import METRICS, Metric
from tests import naive

EUCLIDEAN, PRODUCT = METRICS["euclidean"], METRICS["inner_product"]
NARROW = [np.uint8, np.int8]


@njit
def limits_of(form, surrogates):
    """The largest estimate of each surrogate."""
    limits = np.empty(surrogates.size, np.int32)
    for i in range(surrogates.size):
        limits[i] = codes.limit_of(form, surrogates[i])
    return limits


def limit(form: Form, surrogate: float) -> int:
    return int(limits_of(form, np.array([surrogate], np.float32))[0])


def prepared(raw: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows as the stages would prepare them."""
    width = prepared_width(metric, raw.dtype, raw.shape[1], zero_rows=not raw.any(axis=1).all())
    radius = float(np.linalg.norm(raw.astype(np.float64), axis=1).max())
    return prepare(raw, metric, width, radius)


def canonical(rows: np.ndarray, others: np.ndarray, metric: Metric) -> np.ndarray:
    """Surrogates of all pairs as lists keep them: float32[m, p]."""
    lists = empty(len(rows), len(others))
    lists.ids[:] = np.arange(len(others))
    rescore(rows, others, plain_form(metric, rows.shape[1]), lists, 0, len(rows))
    return lists.distances


def estimated(rows: Rows, others: Rows, form: Form) -> np.ndarray:
    return naive.estimates(rows.values, others.values, form.euclidean, form.columns)


def limits(form: Form, surrogates: np.ndarray) -> np.ndarray:
    return limits_of(form, surrogates.astype(np.float32).ravel()).reshape(surrogates.shape)


def assert_nothing_is_kept_out(form: Form, rows: Rows, others: Rows, metric: Metric) -> np.ndarray:
    """No estimate is above the limit of its pair's surrogate; returns how far below they are, in units."""
    allowed = limits(form, canonical(rows.points, others.points, metric))
    below = allowed - estimated(rows, others, form)
    assert (below >= 0).all(), f"{(below < 0).sum()} of {below.size} pairs are estimated too high"
    return below
