"""The metrics as values: what is done to rows, how two rows are compared, what is done to the result.

A metric of the *inner form* is three steps: prepare the rows, compare them by squared euclidean distance or by
negated inner product (the *surrogate*, the only number that kernels and rounds know), finish the surrogate.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import SpecError


class Metric(NamedTuple):
    """One metric of the inner form.

    name: its public name; unit: rows are scaled to unit length first; euclidean: the surrogate is the squared
    euclidean distance (else the negated inner product); finish: "none", "root" or "half", what turns the
    surrogate into the distance.
    """

    name: str
    unit: bool
    euclidean: bool
    finish: str


METRICS = {
    metric.name: metric
    for metric in (
        Metric("euclidean", unit=False, euclidean=True, finish="root"),
        Metric("sqeuclidean", unit=False, euclidean=True, finish="none"),
        Metric("cosine", unit=True, euclidean=True, finish="half"),
        Metric("inner_product", unit=False, euclidean=False, finish="none"),
    )
}
ALIASES = {"l2": "euclidean"}


def find_metric(name: str, params: Mapping[str, Any] | None = None) -> Metric:
    """The metric of that name or alias; SpecError lists the near names, or the parameters it does not take."""
    key = ALIASES.get(name, name)
    if key not in METRICS:
        known = sorted({*METRICS, *ALIASES})
        near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.5) or known
        raise SpecError(f"unknown metric {name!r}; near names: {', '.join(near)}. All: {', '.join(known)}")
    if params:
        raise SpecError(f"metric {name!r} takes no parameters, but metric_params has {', '.join(sorted(params))}")
    return METRICS[key]
