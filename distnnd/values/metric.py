"""A metric as a value that a kernel can be compiled for: how rows are laid out and compared, and what comes of it.

Rows are laid out by an *inner form*: prepare the rows, compare them by squared euclidean distance or by negated inner
product (the *surrogate*, the only number that trees, leaves and passes know), finish the surrogate. Where that is not
the metric itself, or not exactly enough, the layout only selects, and what it selects is *judged* by the distance of
the rows as they came (kernels/judge.py). `metrics_table.py` describes every metric.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .errors import SpecError, brief
from .metric_params import Value, checked
from .metrics_table import ENTRIES, PRIMARY, Entry

# Finishes that take the root of what may be tiny: the rounding of prepared rows would show.
_MAGNIFIES = ("root_half", "angle", "half_turns")
# Steps whose rounding grows with the rows, while distances do not: far from the origin it would show too.
_BLURS = ("scale", "whiten")
# How many more neighbours are selected than kept: where prepared rows are rounded, and how many times as many where the
# layout is another metric than what it selects for.
_SPARE, _WIDER = 4, 2.25
# The same where most of what is selected is seen to be too far without being computed, and passes would compute more.
_WIDEST = {"kantorovich": 5.0}
# Under these a row of zeros is at 0 from every row, wherever a layout puts it.
_ZEROS_ARE_NEAR = ("tsss", "yule")
# Rows of bits as builds compare them: see Metric.packed.
_PACKED = ("packed",)
# A larger power of gaps says of float32 what an infinite one says.
_LARGEST_POWER = 1e9
# Columns of a place on the sphere; bits of a byte, and up to how many columns they are laid out each for itself.
_SPHERE, _BITS, _MOST_BITS = 3, 8, 256
# Columns that sparse rows are laid out in at most, see kernels/sketches.py.
SKETCH = 256


class Metric(NamedTuple):
    """One metric, with its parameters.

    name: its public name; unit: rows are scaled to unit length first; euclidean: the surrogate is the squared
    euclidean distance (else the negated inner product); finish: "none", "root", "half", "root_half", "angle" or
    "half_turns", what turns the surrogate into the distance. steps: what is done to rows before that, in order (see
    kernels/transforms.py). form: "inner" where all this is the metric itself; "pair", "set", "bits" and
    "sparse" are laid out so, and judged by kernels/distances.py. params: (name, number, text, or nested tuples of
    numbers), checked. double: rows are prepared in float64, since float32 cannot hold the points (see `of_points`).
    """

    name: str
    unit: bool
    euclidean: bool
    finish: str
    form: str = "inner"
    steps: tuple[str, ...] = ()
    params: tuple[tuple[str, Value], ...] = ()
    double: bool = False

    @property
    def judged(self) -> bool:
        """Whether lists that leave a task hold distances of the rows as they came, instead of surrogates."""
        if self.form == "inner" and self.double:
            # Nothing that a float32 can show is lost by rounding in float64.
            return False
        return self.form != "inner" or self.finish in _MAGNIFIES or any(step in _BLURS for step in self.steps)

    @property
    def packed(self) -> bool:
        """Whether rows are compared as the bits that they are."""
        return self.steps == _PACKED

    @property
    def bits(self) -> bool:
        """Whether the columns of rows are bits."""
        return self.form == "bits" or self.packed

    @property
    def share(self) -> bool:
        """Whether rows of bits are compared by the share of columns that differ, of those that are set in any."""
        return self.packed and self.name == "bit_jaccard"

    @property
    def zeros_are_near(self) -> bool:
        """Whether rows of zeros are neighbours of all rows, though they may be elsewhere by the layout."""
        return self.name in _ZEROS_ARE_NEAR

    def selected(self, width: int) -> int:
        """How many neighbours a layout selects, to be judged, for lists of `width`: more where it is another metric."""
        if not self.judged:
            return width
        return width + _SPARE if self.form == "inner" else int(_WIDEST.get(self.name, _WIDER) * width)

    def param(self, name: str, default: Value | None = None) -> Any:
        """The parameter of that name, or what stands for it."""
        return dict(self.params).get(name, default)

    def laid_out_columns(self, d: int) -> int:
        """Columns after the steps of rows of d columns; of sparse rows a sketch."""
        if "sphere" in self.steps:
            return _SPHERE
        if self.form == "sparse":
            return min(d, SKETCH)
        return _BITS * d // self.folds(d) if "fold" in self.steps else d

    def products(self, d: int) -> int:
        """About how many products a pair of rows of d columns costs: transports look at pairs of columns."""
        return d * d if "smooth" in self.steps else d

    def folds(self, d: int) -> int:
        """How many bits of rows of d bytes share a column: 1 where they are few, 8 at most."""
        folds = 1
        while folds < _BITS and _BITS * d // folds > _MOST_BITS:
            folds *= 2
        return folds


def _plain(entry: Entry) -> Metric:
    """The metric of that entry without parameters."""
    return Metric(entry.name, entry.unit, entry.euclidean, entry.finish, entry.form, entry.steps)


# Those whose surrogate says all there is to say.
METRICS = {name: _plain(ENTRIES[name]) for name in ("euclidean", "sqeuclidean", "cosine", "inner_product")}
# The name of a metric that is a function of the user's own, and how rows are laid out for it.
CUSTOM = "custom"
OWN = Metric(CUSTOM, unit=False, euclidean=True, finish="none", form="pair")


def as_built(metric: Metric) -> Metric:
    """The metric as builds take it: rows of bits need no layout, as their products are exact; an index has one."""
    if metric.form != "bits":
        return metric
    return metric._replace(form="inner", unit=False, euclidean=True, finish="none", steps=_PACKED)


def of_points(metric: Metric, dtype: str | None) -> Metric:
    """The metric as dense points of that dtype take it: rows of float64 are prepared in float64."""
    double = dtype == "float64"
    return metric if metric.double == double else metric._replace(double=double)


def of_sparse(metric: Metric) -> Metric:
    """The metric as sparse points take it: whatever lays their rows out, distances are those of what they list."""
    return metric._replace(form="sparse")


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
    if entry.name == "haversine":
        return _haversine(entry, given)
    return _plain(entry)._replace(params=tuple(sorted(given.items())))


def metric_behind(facts: Mapping[str, Any]) -> Metric:
    """The metric of a graph, from its facts, as its points take it."""
    metric = OWN if facts["metric"] == CUSTOM else metric_of(facts["metric"], facts["spec"]["metric_params"])
    return of_sparse(metric) if of_sparse_points(facts) else of_points(metric, facts.get("layout", {}).get("dtype"))


def function_of(facts: Mapping[str, Any], metric: Any, place: str) -> Callable[..., float] | None:
    """The user's own function, if the graph or index at `place` with these facts was built by one.

    metric: that function, the name of the metric, or None. SpecError where it is another metric than the facts say.
    """
    if metric is None or (isinstance(metric, str) and described(metric).name == facts["metric"]):
        return None
    name = facts["metric"]
    if isinstance(metric, str) and name != CUSTOM and described(metric).name == described(name).name:
        return None
    if isinstance(metric, str) or name != CUSTOM:
        given = f"metric {metric!r}" if isinstance(metric, str) else "a function"
        wanted = "a function of your own: give that function" if name == CUSTOM else f"{name!r}: leave metric out"
        raise SpecError(f"{place} was given {given}, but was built by {wanted}")
    if not callable(metric):
        raise SpecError(f"metric is a name or a function of two rows, not {brief(metric)}")
    function: Callable[..., float] = metric
    return function


def of_sparse_points(facts: Mapping[str, Any]) -> bool:
    """Whether a graph with these facts is of sparse points: only of those a layout counts entries (see Layout)."""
    return facts.get("layout", {}).get("entries") is not None


def _minkowski(entry: Entry, given: dict[str, Value]) -> Metric:
    """Powers with a metric of their own are compared by that one: 2 has the inner form, inf no power at all."""
    power = given["p"]
    assert isinstance(power, int | float)
    if power > _LARGEST_POWER:
        power = given["p"] = math.inf
    params = tuple(sorted(given.items()))
    steps = ("scale",) if "w" in given else ()
    if power == 2:
        return Metric(entry.name, unit=False, euclidean=True, finish="root", steps=steps, params=params)
    if power == math.inf and "w" in given:
        # The limit of the powers: a weight above 0 does not matter, a column of weight 0 does not count.
        params = (("p", power), ("w", tuple(float(one > 0) for one in _numbers(given["w"]))))
    return _plain(entry)._replace(steps=steps, params=params)


def _haversine(entry: Entry, given: dict[str, Value]) -> Metric:
    """Radians are what is computed with, and no parameter any more; degrees become radians first."""
    if given["unit"] == "radians":
        return _plain(entry)
    return _plain(entry)._replace(steps=("radians", *entry.steps), params=tuple(given.items()))


def _numbers(value: Value) -> tuple[Any, ...]:
    assert isinstance(value, tuple)
    return value
