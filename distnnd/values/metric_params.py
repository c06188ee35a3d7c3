"""metric_params, checked before any work: presence, names, types, shapes and ranges."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from .errors import SpecError, brief
from .metrics_table import Entry, Param

# JSON has numbers, texts and lists; a value that is hashed has tuples in the place of lists.
Value: TypeAlias = float | str | tuple[float, ...] | tuple[tuple[float, ...], ...]

_LIMITS = {
    "positive": lambda numbers: numbers >= np.finfo(np.float64).tiny,
    "from 0.1 to 40": lambda numbers: (numbers >= 0.1) & (numbers <= 40),
    "non-negative": lambda numbers: numbers >= 0,
    "above 1": lambda numbers: numbers > 1,
    "at least 1": lambda numbers: numbers >= 1,
    "from 1 to 40": lambda numbers: (numbers >= 1) & (numbers <= 40),
    "any": lambda numbers: numbers == numbers,
}
# Of the largest number of a matrix: what may be owed to the rounding of whoever computed it.
ROUNDING = 1e-6
# How many times as large as the weight of the entropy a cost may be.
STEEPEST = 1e6


def checked(entry: Entry, params: Mapping[str, Any], d: int | None) -> dict[str, Value]:
    """The parameters of that metric under their own names, defaults filled in; d: columns, None while unknown.

    SpecError names the parameter, its value and the remedy.
    """
    by_name = {name: param for param in entry.params for name in (param.name, *param.aliases)}
    strangers = sorted(str(name) for name in params if name not in by_name)
    if strangers:
        takes = f"takes {', '.join(param.name for param in entry.params)}" if by_name else "takes no parameters"
        raise SpecError(f"metric {entry.name!r} {takes}, but metric_params has {', '.join(strangers)}")
    given: dict[str, Value] = {}
    for name, value in params.items():
        param = by_name[name]
        if value is None and param.optional:
            continue
        if param.name in given:
            raise SpecError(f"metric_params has {param.name} twice, once as {name}; give it once")
        given[param.name] = _value(entry, param, value, d)
    for param in entry.params:
        if param.name not in given and param.default is not None:
            given[param.name] = param.default
        if param.kind == "choice":
            given.setdefault(param.name, param.limits.split()[0])
        if param.name not in given and not param.optional:
            raise SpecError(_missing(entry, param))
    if entry.name == "sinkhorn":
        _check_steepness(given)
    return _covariance(given) if entry.name == "mahalanobis" else given


def _check_steepness(given: dict[str, Value]) -> None:
    """SpecError where entropy weighs so little beside the cost that float64 does not tell it from none."""
    largest, regularization = float(np.max(given["cost"])), given["regularization"]
    assert isinstance(regularization, int | float)
    if largest > STEEPEST * regularization:
        raise SpecError(
            f"regularization of metric 'sinkhorn' is {regularization}, less than a millionth of the largest cost, "
            f"{largest:g}: it would not differ from kantorovich; take that metric, or a larger regularization"
        )


def _missing(entry: Entry, param: Param) -> str:
    """What to do about a parameter that is not there."""
    shape = {"vector": "d numbers", "matrix": "a symmetric d x d matrix"}.get(param.kind, f"a {param.kind}")
    text = f"metric {entry.name!r} needs {param.name}, {shape}: {param.words}"
    if entry.name == "seuclidean":
        text += "; for example numpy.var(points, axis=0, ddof=1), as SciPy would"
    if entry.name == "kantorovich":
        text += "; for columns in a row wasserstein_1d needs none"
    return text + f". Pass metric_params={{'{param.name}': ...}}"


def _value(entry: Entry, param: Param, value: Any, d: int | None) -> Value:
    """One parameter as a number, as tuples of numbers, or as one of some words."""
    where = f"{param.name} of metric {entry.name!r}"
    if param.kind == "choice":
        if not isinstance(value, str) or value not in param.limits.split():
            raise SpecError(f"{where} must be {' or '.join(map(repr, param.limits.split()))}, not {brief(value)}")
        return value
    if param.kind == "whole":
        try:
            if isinstance(value, bool):
                raise TypeError
            numbers = np.asarray(float(operator.index(value)))
        except TypeError:
            raise SpecError(f"{where} must be a whole number, not {brief(value)}") from None
    else:
        numbers = _floats(where, value)
    _check_shape(where, param, numbers, d)
    # A power may be infinite: the largest gap.
    endless = param.name == "p" and entry.name in ("minkowski", "weighted_minkowski")
    good = _LIMITS[param.limits](numbers) & (np.isfinite(numbers) | (endless & (numbers == math.inf)))
    if not good.all():
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        place = f"[{', '.join(map(str, at))}]" if at else ""
        must = {"any": "finite"}.get(param.limits, f"finite and {param.limits}")
        raise SpecError(f"{where} must be {must}, but {param.name}{place} is {numbers[at]}")
    if param.name == "w" and not numbers.any():
        raise SpecError(f"{where} must have a weight above 0, or all rows are at distance 0; all are 0")
    result: Value = int(numbers) if param.kind == "whole" else _tuples(numbers.tolist())
    return result


def _floats(where: str, value: Any) -> np.ndarray:
    """float64 numbers, whatever they came as."""
    try:
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "fiu":
            raise TypeError
        return numbers.astype(np.float64)
    except (TypeError, ValueError):
        raise SpecError(f"{where} must be numbers, not {brief(value)}") from None


def _check_shape(where: str, param: Param, numbers: np.ndarray, d: int | None) -> None:
    """SpecError unless a number is one, a vector has d numbers, and a matrix d x d that are symmetric."""
    size = "d" if d is None else str(d)
    if param.kind in ("number", "whole") and numbers.ndim:
        raise SpecError(f"{where} must be one number, but has shape {numbers.shape}")
    if param.kind == "vector" and (numbers.ndim != 1 or d not in (None, len(numbers))):
        raise SpecError(f"{where} must be {size} numbers, one for each column, but has shape {numbers.shape}")
    if param.kind != "matrix":
        return
    if numbers.ndim != 2 or numbers.shape[0] != numbers.shape[1] or d not in (None, len(numbers)):
        raise SpecError(f"{where} must be a {size} x {size} matrix, but has shape {numbers.shape}")
    apart = abs(numbers - numbers.T)
    # NaN and inf are told apart from this later, by their place.
    if np.isfinite(numbers).all() and apart.max(initial=0) > ROUNDING * abs(numbers).max():
        row, column = np.unravel_index(apart.argmax(), apart.shape)
        raise SpecError(
            f"{where} must be symmetric, but [{row}, {column}] is {numbers[row, column]} and [{column}, {row}] is "
            f"{numbers[column, row]}; pass ({param.name} + {param.name}.T) / 2"
        )


def _tuples(value: Any) -> Any:
    """Lists of JSON as tuples, which can be hashed."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _covariance(given: dict[str, Value]) -> dict[str, Value]:
    """VI alone, from one of VI and V; SpecError unless squares of distances would be at least 0."""
    if len(given) != 1:
        said = "both V and VI" if given else "neither V nor VI"
        raise SpecError(f"metric 'mahalanobis' takes a covariance V or its inverse VI, and metric_params has {said}")
    ((name, value),) = given.items()
    matrix = np.asarray(value)
    matrix = (matrix + matrix.T) / 2
    values = np.linalg.eigvalsh(matrix)
    least, most = float(values[0]), float(values[-1])
    if name == "V":
        if least <= 1e-14 * most:
            raise SpecError(
                f"V of metric 'mahalanobis' has no inverse: its eigenvalues reach from {least:g} to {most:g}; leave "
                "out columns that follow from others, or pass VI=numpy.linalg.pinv(V)"
            )
        matrix = np.linalg.inv(matrix)
        matrix = (matrix + matrix.T) / 2
    elif most <= 0 or least < -ROUNDING * most:
        raise SpecError(
            f"VI of metric 'mahalanobis' must have no negative eigenvalues, but they reach from {least:g} to {most:g}; "
            "is it the inverse of a covariance?"
        )
    return {"VI": _tuples(matrix.tolist())}
