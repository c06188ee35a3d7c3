"""A metric as a value that a kernel can be compiled for: how rows are compared, and what is done to the result.

A metric of the *inner form* is three steps: prepare the rows, compare them by squared euclidean distance or by
negated inner product (the *surrogate*, the only number that kernels and rounds know), finish the surrogate.
`metrics_table.py` describes every metric; METRICS are those that builds compare rows by.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import SpecError
from .metric_params import Value, checked
from .metrics_table import ENTRIES, PRIMARY, Entry


class Metric(NamedTuple):
    """One metric, with its parameters.

    name: its public name; unit: rows are scaled to unit length first; euclidean: the surrogate is the squared
    euclidean distance (else the negated inner product); finish: "none", "root", "half", "root_half", "angle" or
    "half_turns", what turns the surrogate into the distance. steps: what is done to rows before that, in order: "rank",
    "centre", "root", "scale", "whiten" or "sphere". These are the inner form's; form "pair", "set" or "bits" has none
    of them and compares by kernels/distances.py. params: (name, number, or nested tuples of numbers), checked.
    """

    name: str
    unit: bool
    euclidean: bool
    finish: str
    form: str = "inner"
    steps: tuple[str, ...] = ()
    params: tuple[tuple[str, Value], ...] = ()

    def param(self, name: str, default: Value | None = None) -> Any:
        """The parameter of that name, or what stands for it."""
        return dict(self.params).get(name, default)


def _plain(entry: Entry) -> Metric:
    """The metric of that entry without parameters."""
    return Metric(entry.name, entry.unit, entry.euclidean, entry.finish, entry.form, entry.steps)


METRICS = {name: _plain(ENTRIES[name]) for name in ("euclidean", "sqeuclidean", "cosine", "inner_product")}
ALIASES = {"l2": "euclidean"}


def find_metric(name: str, params: Mapping[str, Any] | None = None) -> Metric:
    """The metric of that name or alias, of those that builds take.

    SpecError lists the near names, or the parameters that it does not take.
    """
    key = ALIASES.get(name, name)
    if key not in METRICS and name in PRIMARY:
        raise SpecError(f"metric {name!r} is described, but builds do not take it yet; they take {', '.join(METRICS)}")
    if key not in METRICS:
        raise unknown(name, [*METRICS, *ALIASES])
    if params:
        raise SpecError(f"metric {name!r} takes no parameters, but metric_params has {', '.join(sorted(params))}")
    return METRICS[key]


def described(name: str) -> Entry:
    """The entry of the table by name or alias; SpecError lists the near names."""
    if name not in PRIMARY:
        raise unknown(name, PRIMARY)
    return ENTRIES[PRIMARY[name]]


def unknown(name: str, names: Any) -> SpecError:
    """The error for a name that is none of `names`."""
    known = sorted(names)
    near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.5) or known
    return SpecError(f"unknown metric {name!r}; near names: {', '.join(near)}. All: {', '.join(known)}")


def metric_of(name: str, params: Mapping[str, Any] | None = None, d: int | None = None) -> Metric:
    """The metric of that name or alias, of the whole table, with its parameters.

    params: as metric_params has them, by name; d: columns of the points, None while they are unknown, when lengths are
    not checked. SpecError is raised for an unknown name, and for parameters that are missing, unknown or out of range.
    """
    entry = described(name)
    given = checked(entry, params or {}, d)
    if not entry.params:
        return METRICS.get(entry.name) or _plain(entry)
    if entry.name in ("minkowski", "weighted_minkowski"):
        return _minkowski(entry, given)
    return _plain(entry)._replace(params=tuple(sorted(given.items())))


def _minkowski(entry: Entry, given: dict[str, Value]) -> Metric:
    """Powers with a metric of their own are compared by that one: 2 has the inner form, inf no power at all."""
    power = given["p"]
    params = tuple(sorted(given.items()))
    if power == 2:
        steps = ("scale",) if "w" in given else ()
        return Metric(entry.name, unit=False, euclidean=True, finish="root", steps=steps, params=params)
    if power == math.inf and "w" in given:
        # The limit of the powers: a weight above 0 does not matter, a column of weight 0 does not count.
        params = (("p", power), ("w", tuple(float(one > 0) for one in _numbers(given["w"]))))
    return _plain(entry)._replace(params=params)


def _numbers(value: Value) -> tuple[Any, ...]:
    assert isinstance(value, tuple)
    return value
