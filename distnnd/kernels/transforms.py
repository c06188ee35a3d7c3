"""What the inner form does to rows before they are compared, and to what comes of it; which rows it must refuse.

Plain numpy on strips of rows, in float64: rows become float32 only when all is done (kernels/rows.py: prepare).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ..values.errors import InputError
from ..values.metric import CUSTOM, Metric, described
from ..values.metrics_table import DOMAINS
from ..values.points import Csr, row_of_entries

# Squared distances between rows of larger numbers, divided by the root of d, overflow float32.
LARGEST = 4e18
# Where no number is larger squares of what tells rows apart vanish from float32.
LEAST = 1e-15
# Parts of what two longer rows of bits hold between them would leave 32 bits.
MOST_BYTES = 2**14
# Parts of a turn of which longitudes in degrees are whole multiples, where they were written with three digits after
# the point, or in whole seconds of arc.
DEGREE_STEPS = (1 / 1000, 1 / 3600)
# So many numbers at least before it is no accident.
FEW_NUMBERS = 8
# Steps that make of a number what they do whatever stands beside it.
NUMBER_BY_NUMBER = frozenset({"root", "fill", "eighth_root", "presence"})
# Multipliers that mix bits (Steele, Lea and Flood 2014).
_ODD, _OTHER_ODD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def transform(points: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows after the steps of the metric, which may be none: float64[m, laid_out_columns(d)]; points: numbers[m, d].

    Scaling to unit length is not one of them: what becomes of zero rows is for `prepare` to say.
    """
    if points.dtype.itemsize == 1 and NUMBER_BY_NUMBER.issuperset(metric.steps):
        # There are 256 different numbers, some of which a metric may not take.
        all_bytes = np.arange(256, dtype=np.uint8).view(points.dtype).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return _stepped(all_bytes, metric)[points.view(np.uint8)]
    return _stepped(points if "fold" in metric.steps else points.astype(np.float64), metric)


def _stepped(rows: np.ndarray, metric: Metric) -> np.ndarray:
    for step in metric.steps:
        rows = _STEPS[step](rows, metric)
    return rows


def vacant(points: np.ndarray, metric: Metric) -> np.ndarray:
    """Which rows the steps of the metric turn into zeros: bool[m]."""
    if "centre" in metric.steps:
        return (points == points[:, :1]).all(axis=1)
    # Rows that begin with another number need not be looked at.
    empty = points[:, 0] == 0
    empty[empty] = ~points[empty].any(axis=1)
    return empty


def finish(surrogates: np.ndarray, metric: Metric, scale: float = 1.0) -> np.ndarray:
    """The distances that the user sees, float32, from surrogates: float32 squared distances, or negated products.

    scale: by which rows were multiplied as they were prepared (see values/plan.py: Shift).
    """
    if metric.double:
        surrogates = surrogates.astype(np.float64) / (scale * scale)
    half, root, turn = (metric.finish in names for names in _FINISHES)
    distances = surrogates * np.float32(0.5) if half else surrogates
    if root:
        distances = np.sqrt(distances, dtype=distances.dtype)
    if turn:
        # A chord of the unit sphere and the angle that it spans; free places of lists stay at inf.
        angles = 2 * np.arcsin(np.minimum(distances.astype(np.float64) / 2, 1))
        angles /= math.pi if metric.finish == "half_turns" else 1
        distances = np.where(np.isinf(distances), distances, angles)
    return distances.astype(np.float32, copy=False)


def surrogates_near(distances: np.ndarray, metric: Metric) -> np.ndarray:
    """What `finish` makes these distances of, about; float32, for metrics of the inner form."""
    half, root, turn = (metric.finish in names for names in _FINISHES)
    values = distances.astype(np.float64)
    if turn:
        values = 2 * np.sin(values * (math.pi if metric.finish == "half_turns" else 1) / 2)
    if root:
        values = values * values
    return (2 * values if half else values).astype(np.float32)


# Which finishes take the half, the root, and the angle, in this order.
_FINISHES = (
    ("half", "root_half"),
    ("root", "root_half", "angle", "half_turns"),
    ("angle", "half_turns"),
)


# --- the steps ------------------------------------------------------------------------------------


def _centre(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Each row around its mean; around its first number before, so that nothing is left of a constant row."""
    rows = rows - rows[:, :1]
    return rows - rows.mean(axis=1, keepdims=True)


def _rank(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Ranks within each row, from 0; equal numbers share the mean of theirs."""
    order = np.argsort(rows, axis=1, kind="stable")
    ascending = np.take_along_axis(rows, order, axis=1)
    places = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
    new = np.ones(rows.shape, bool)
    new[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    last = np.roll(new, -1, axis=1)
    first_of_equal = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    last_of_equal = np.minimum.accumulate(np.where(last, places, rows.shape[1])[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(rows.shape)
    np.put_along_axis(ranks, order, (first_of_equal + last_of_equal) / 2, axis=1)
    return ranks


def _root(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Square roots: unit length afterwards is what sum 1 was before."""
    return np.sqrt(rows)


def _scale(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Columns times the root of their weight."""
    return rows * scales_of(metric)


def _whiten(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows whose squared distances are the quadratic form of VI."""
    return rows @ _whitening(metric)


def _radians(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Radians from degrees."""
    return np.radians(rows)


def _sphere(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Places on the unit sphere: float64[m, 3] from latitude and longitude."""
    latitude, longitude = rows[:, 0], rows[:, 1]
    around = np.cos(latitude)
    return np.stack([around * np.cos(longitude), around * np.sin(longitude), np.sin(latitude)], axis=1)


def _fill(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """0 where a value is missing."""
    return np.nan_to_num(rows, copy=False, nan=0.0)


def _eighth_root(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Numbers of which the ratio counts more than the gap, and most of all whether they are zero."""
    return np.sign(rows) * np.abs(rows) ** 0.125


def _hash(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """1 or -1 at random for each number of each column: rows that differ in c columns are at 2 c, give or take."""
    # -0.0 equals 0.0, but its bits do not.
    bits = (rows + 0.0).view(np.uint64)
    with np.errstate(over="ignore"):
        mixed = bits * _ODD + np.arange(1, rows.shape[1] + 1, dtype=np.uint64) * _OTHER_ODD
        mixed = (mixed ^ (mixed >> np.uint64(32))) * _OTHER_ODD
    return 1.0 - 2.0 * ((mixed >> np.uint64(61)) & np.uint64(1)).astype(np.float64)


def _sums(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Running sums of shares."""
    return np.cumsum(_shares(rows), axis=1)


def _smooth(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Shares, each spread over the columns to which it costs little to move it."""
    return _shares(rows) @ _spreading(metric)


def _shares(rows: np.ndarray) -> np.ndarray:
    totals = rows.sum(axis=1, keepdims=True)
    return rows / np.where(totals > 0, totals, 1)


def _presence(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """1 where a number is not zero."""
    return (rows != 0).astype(np.float64)


def _fold(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """A column for each bit, or, of many, the sum of a few with random signs: as far apart, give or take."""
    bits, folds = np.unpackbits(rows, axis=1).view(np.int8), metric.folds(rows.shape[1])
    if folds == 1:
        return bits.astype(np.float64)
    signs = np.random.default_rng(rows.shape[1]).choice(np.array([-1, 1], np.int8), bits.shape[1])
    return (bits * signs).reshape(len(rows), folds, -1).sum(axis=1, dtype=np.int8).astype(np.float64)


_STEPS = {
    "centre": _centre,
    "rank": _rank,
    "root": _root,
    "scale": _scale,
    "whiten": _whiten,
    "radians": _radians,
    "sphere": _sphere,
    "fill": _fill,
    "eighth_root": _eighth_root,
    "hash": _hash,
    "sums": _sums,
    "smooth": _smooth,
    "presence": _presence,
    "fold": _fold,
}


@lru_cache(maxsize=8)
def scales_of(metric: Metric) -> np.ndarray:
    """float64[d]: the root of 1 / V or of the weights."""
    variances = metric.param("V")
    return np.sqrt(1 / np.asarray(variances) if variances is not None else np.asarray(metric.param("w"), np.float64))


@lru_cache(maxsize=8)
def _whitening(metric: Metric) -> np.ndarray:
    """float64[d, d] W with W W' = VI."""
    values, vectors = np.linalg.eigh(np.asarray(metric.param("VI"), np.float64))
    return vectors * np.sqrt(np.maximum(values, 0))


@lru_cache(maxsize=8)
def _spreading(metric: Metric) -> np.ndarray:
    """float64[d, d] S with S S' = exp(-cost / (4 mean cost)), as near as such a root can be."""
    cost = np.asarray(metric.param("cost"), np.float64)
    values, vectors = np.linalg.eigh(np.exp(-cost / (4 * cost.mean() or 1.0)))
    return vectors * np.sqrt(np.maximum(values, 0))


# --- rows that a metric cannot compare ------------------------------------------------------------


def check_columns(metric: Metric, d: int, dtype: np.dtype | str) -> None:
    """InputError unless the metric compares rows of d columns of that dtype."""
    domain = described(metric.name).domain
    if domain == "positions" and d != 2:
        raise InputError(
            f"metric {metric.name!r} takes {DOMAINS[domain]}, but the points have {d} columns; select those two"
        )
    if domain == "bits" and np.dtype(dtype) != np.uint8:
        raise InputError(
            f"metric {metric.name!r} takes {DOMAINS[domain]}, but the points are {np.dtype(dtype)}; "
            "pack them by numpy.packbits(points != 0, axis=1), or take the metric of numbers: "
            f"{metric.name.removeprefix('bit_')}"
        )
    if metric.share and d > MOST_BYTES:
        raise InputError(f"metric {metric.name!r} takes rows of at most {MOST_BYTES} bytes, but the points have {d}")


# Steps that make numbers of any size of others.
_BY_PARAMETERS = ("scale", "whiten")
# What to do about rows that a metric of such a domain cannot compare.
_REMEDIES = {
    "gaps": "write NaN for a missing value, or leave the row out",
    "non-negative": "a distribution has no negative parts; leave the row out, or shift or clip the column",
    "positions": "if these are degrees pass metric_params={'unit': 'degrees'}, or on the command line --metric-param "
    "unit=degrees; the latitude comes first",
}


def check_rows(points: np.ndarray, metric: Metric, first: int = 0) -> None:
    """InputError for the first row that the metric cannot compare, with its value and the remedy.

    points: numbers[m, d]; first: number of the first of them. NaN and inf are for the scan to find, but under
    nan_euclidean only inf is.
    """
    domain = described(metric.name).domain
    bad = np.zeros(points.shape, bool)
    if domain == "gaps":
        bad = np.isinf(points)
    if domain == "non-negative":
        bad = points < 0
    if domain == "positions":
        # Of a turn: float32 has a number just above each of these.
        bad = abs(points.astype(np.float64)) > np.float32(turn_of(metric)) * np.array([1 / 4, 2])
    if bad.any():
        row, column = (int(place) for place in np.argwhere(bad)[0])
        raise _refusal(first + row, column, points[row, column], metric)
    if any(step in metric.steps for step in _BY_PARAMETERS):
        far = abs(transform(points, metric)).max(axis=1) > LARGEST / math.sqrt(points.shape[1])
        if far.any():
            raise InputError(
                f"row {first + int(far.argmax())}: with the parameters of metric {metric.name!r} its square overflows "
                "float32; scale the data down, or change the parameters"
            )


def turn_of(metric: Metric) -> float:
    """A whole turn in the unit of the places that the metric compares."""
    return 360.0 if metric.param("unit") == "degrees" else 2 * math.pi


def degree_signs(points: np.ndarray, metric: Metric) -> dict[str, float]:
    """What tells whether places that should be in radians are in degrees, as counters to be added up over blocks.

    points: numbers[m, 2]. beyond_turn: longitudes beyond a turn; nonzero: numbers that are not 0; off_step: numbers
    that are no multiples of a common step of degrees, of the step that most are multiples of.
    """
    if described(metric.name).domain != "positions" or metric.param("unit") == "degrees":
        return {}
    numbers = points.astype(np.float64)
    slack = 4 * float(np.finfo(np.float32).eps) * abs(numbers)
    signs = {"beyond_turn": float((abs(numbers[:, 1]) > np.float32(2 * math.pi)).sum())}
    signs["nonzero"] = float(np.count_nonzero(numbers))
    for step in DEGREE_STEPS:
        off = abs(numbers - np.round(numbers / step) * step) > slack
        signs[f"off_{round(1 / step)}"] = float(off.sum())
    return signs


def like_degrees(signs: dict[str, float]) -> str | None:
    """What to say of places in radians that look like degrees; None where they do not. signs: see degree_signs."""
    what = None
    if signs.get("beyond_turn"):
        what = f"{signs['beyond_turn']:.0f} longitudes lie beyond 2 pi"
    elif signs.get("nonzero", 0) >= FEW_NUMBERS:
        steps = [round(1 / step) for step in DEGREE_STEPS]
        fitting = [parts for parts in steps if not signs[f"off_{parts}"]]
        what = f"all numbers are multiples of 1/{fitting[0]}" if fitting else None
    if what is None:
        return None
    return (
        f"metric 'haversine' takes radians, but {what}, as in degrees; if they are degrees pass "
        "metric_params={'unit': 'degrees'}, or on the command line --metric-param unit=degrees"
    )


def check_sparse_rows(points: Csr, metric: Metric, first: int = 0) -> None:
    """The same of sparse rows; and InputError for numbers of which the squares overflow."""
    rows = row_of_entries(points.indptr)
    large = abs(points.data) > LARGEST / math.sqrt(points.columns)
    if large.any():
        at = int(np.flatnonzero(large)[0])
        raise InputError(
            f"row {first + rows[at]}, column {points.indices[at]} holds {points.data[at]}: its square overflows "
            "float32; scale the data down"
        )
    if metric.name == CUSTOM:
        return
    domain = described(metric.name).domain
    bad = np.zeros(len(points.data), bool)
    if domain == "non-negative":
        bad = points.data < 0
    if domain == "positions":
        most = np.float32(turn_of(metric)) * np.array([1 / 4, 2])
        bad = abs(points.data.astype(np.float64)) > most[points.indices]
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise _refusal(first + int(rows[at]), int(points.indices[at]), points.data[at], metric)


def _refusal(row: int, column: int, value: object, metric: Metric) -> InputError:
    """The error for a number that the metric does not take."""
    domain = described(metric.name).domain
    return InputError(
        f"metric {metric.name!r} takes {DOMAINS[domain]}, but row {row}, column {column} holds {value}: "
        f"{_REMEDIES[domain]}"
    )
