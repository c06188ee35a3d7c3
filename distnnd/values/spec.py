"""What the user asks for: checked once, at the door, and carried as JSON afterwards."""

from __future__ import annotations

import numbers
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from .errors import SpecError, brief
from .metric import CUSTOM, OWN, Metric, as_built, metric_of, of_points

# Of points, as they are read and sent.
DTYPES = ("float32", "float16", "uint8", "int8", "float64")
# To which the points may be converted before they are compared.
CONVERTED = ("float32", "float64")
# Rows of a partition that somebody asks for, on the average at least.
LEAST_ROWS = 1024
# In which float32 points may travel between partitions instead.
EXCHANGE_DTYPES = ("float16",)

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def parse_bytes(value: int | float | str | None) -> int | None:
    """Bytes from 2_000_000_000, "2GB" or "2GiB"; None and "auto" stay None. SpecError for anything else."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return None
    if isinstance(value, (bool, np.bool_)) or np.ndim(value):
        raise SpecError(f"a size in bytes is a number or a text like '2GiB', not {brief(value)}")
    size = real_number(value)
    if size is None:
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([kmgt]i?)?b?\s*", str(value), re.IGNORECASE)
        if match is None:
            raise SpecError(f"cannot read {brief(value)} as a size; write for example '2GiB', '700MB' or 2000000000")
        size = float(match[1]) * _UNITS[(match[2] or "").lower()]
    if not 1 <= size < float("inf"):
        raise SpecError(f"a size must be at least one byte, not {brief(value)}")
    return int(size)


def format_bytes(size: float) -> str:
    """A size for people: 1.5 GiB, 300 MiB, 12 KiB, 7 B."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def real_number(value: Any) -> float | None:
    """The value as a float, if it is a number of Python or numpy, or an array of a single one; None for others."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return float(value)


def whole_number(name: str, value: Any, least: int) -> int:
    """The value as an int; SpecError, by that name, unless it is a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise SpecError(f"{name} must be a whole number, not {brief(value)}") from None
    if isinstance(value, bool):
        raise SpecError(f"{name} must be a whole number, not {brief(value)}")
    if number < least:
        raise SpecError(f"{name} must be at least {least}, not {number}")
    return number


def exchange_dtype_of(exchange_dtype: str | None, wire: str | None, stacklevel: int) -> str | None:
    """The dtype of rows between partitions, also by its old name `wire`, with a FutureWarning; SpecError for both."""
    if wire is None:
        return exchange_dtype
    if exchange_dtype is not None:
        raise SpecError("wire is the old name of exchange_dtype; give exchange_dtype alone")
    warnings.warn("wire is now called exchange_dtype; the old name will go", FutureWarning, stacklevel=stacklevel)
    return wire


def as_stored(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a store holds, by today's names: stores of before have `wire` for `exchange_dtype`."""
    return {"exchange_dtype" if name == "wire" else name: value for name, value in spec.items()}


@dataclass(frozen=True)
class BuildSpec:
    """A graph to be built.

    n_neighbors: neighbours per row, self excluded. metric: its name, or "custom" for `function`, the user's
    own f(x, y) of two rows that numba has compiled. target_recall: share of the true neighbours that must be found, 0
    to 1, measured on the probe rows. max_rounds: give up after so many rounds.
    memory_limit: bytes of one worker process, None for what the machine or the cluster says. random_state: seed.
    exchange_dtype: in which dtype float32 points travel between partitions; None for as they are. dtype: as which the
    points are read and compared; None while that is unknown, and for sparse points. partitions: at least so many, None
    for as few as fit.
    SpecError is raised for a value of the wrong type or out of range.
    """

    n_neighbors: int = 15
    metric: str = "euclidean"
    metric_params: Mapping[str, Any] | None = None
    target_recall: float = 0.95
    max_rounds: int = 8
    memory_limit: int | None = None
    random_state: int = 0
    function: Callable[..., float] | None = None
    exchange_dtype: str | None = None
    dtype: str | None = None
    partitions: int | None = None

    @classmethod
    def asked(
        cls,
        n_neighbors: int,
        metric: str | Callable[..., float],
        metric_params: Mapping[str, Any] | None,
        target_recall: float,
        max_rounds: int,
        memory_limit: int | str | None,
        random_state: int,
        exchange_dtype: str | None = None,
        dtype: str | None = None,
        partitions: int | None = None,
    ) -> BuildSpec:
        """The spec of what a caller gives: the metric by its name or as the function itself, memory as a text too."""
        if not (isinstance(metric, str) or callable(metric)):
            raise SpecError(
                f"metric is a name of docs/metrics.md or a function that numba has compiled, not {brief(metric)}"
            )
        name, function = (metric, None) if isinstance(metric, str) else (CUSTOM, metric)
        limit = parse_bytes(memory_limit)
        if dtype is not None and dtype not in CONVERTED:
            known = " or ".join(map(repr, CONVERTED))
            raise SpecError(f"dtype is {known}, or None for the points as they are given, not {dtype!r}")
        limits = (target_recall, max_rounds, limit)
        more = (exchange_dtype, dtype, partitions)
        return cls(n_neighbors, name, metric_params, *limits, random_state, function, *more)

    def __post_init__(self) -> None:
        for name, least in (("n_neighbors", 1), ("max_rounds", 1), ("random_state", 0)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.partitions is not None:
            object.__setattr__(self, "partitions", whole_number("partitions", self.partitions, 1))
        share = real_number(self.target_recall)
        if share is None:
            raise SpecError(f"target_recall must be a number, not {brief(self.target_recall)}")
        if not 0 < share <= 1:
            raise SpecError(f"target_recall is a share above 0 and at most 1, not {share}")
        object.__setattr__(self, "target_recall", share)
        given = self.exchange_dtype
        if given is not None and not (isinstance(given, str) and given in EXCHANGE_DTYPES):
            known = " or ".join(map(repr, EXCHANGE_DTYPES))
            raise SpecError(
                f"exchange_dtype is {known}, or None for rows as they are, not {brief(given)}; leave it out"
            )
        if self.metric_params is not None:
            if not isinstance(self.metric_params, Mapping):
                raise SpecError(f"metric_params is a dictionary of parameters by name, not {brief(self.metric_params)}")
            params = {name: _as_lists(value) for name, value in self.metric_params.items()}
            object.__setattr__(self, "metric_params", params)
        self.check_metric()

    @cached_property
    def kind(self) -> Metric:
        """The metric as a value."""
        metric = OWN if self.metric == CUSTOM else as_built(metric_of(self.metric, self.metric_params))
        return of_points(metric, self.dtype)

    def for_points(self, dtype: str | None, sparse: bool) -> BuildSpec:
        """The same for points that are read as `dtype`, None while that is unknown."""
        return replace(self, dtype=None if sparse else dtype)

    def check_metric(self, d: int | None = None) -> None:
        """SpecError unless the metric exists and its parameters fit it, and rows of d columns if those are known."""
        if self.metric != CUSTOM:
            metric_of(self.metric, self.metric_params, d)
        elif self.function is None:
            raise SpecError(f"metric {CUSTOM!r} is a function of your own: give the function itself as the metric")
        elif self.metric_params:
            raise SpecError("a metric of your own takes no metric_params: let the function hold what it needs")

    def check_rows(self, n: int) -> None:
        """SpecError unless each of `n` rows can have n_neighbors others, and each of the partitions enough rows."""
        if self.n_neighbors >= n:
            raise SpecError(
                f"n_neighbors={self.n_neighbors} needs at least {self.n_neighbors + 1} rows, but there are {n}; "
                f"ask for at most {max(n - 1, 0)}"
            )
        most = max(n // LEAST_ROWS, 1)
        if self.partitions is not None and self.partitions > most:
            raise SpecError(
                f"partitions={self.partitions} of {n:,} rows would have fewer than {LEAST_ROWS:,} rows each; "
                f"ask for at most {most}"
            )

    def to_json(self) -> dict[str, Any]:
        """The parameters that decide the bytes of the graph, as JSON, but for a function of the user's own."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "function"}


def read_as(facts: Mapping[str, Any]) -> str | None:
    """As which dtype the points of a graph with these facts are read, where they might be given as another."""
    layout = facts.get("layout", {})
    return layout.get("dtype") if layout.get("dtype") in CONVERTED and layout.get("entries") is None else None


def _as_lists(value: Any) -> Any:
    """Arrays as JSON has them; what is no array is for the check of parameters to refuse."""
    try:
        return np.asarray(value).tolist()
    except ValueError:
        return value
