"""What the adapters of `python -m benchmarks.kernels` share: the form of a case, rows, codes and lists."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np

from distnnd.kernels import codes, groups, leaves, neighbours, rows, trees
from distnnd.kernels.jit import FASTMATH
from distnnd.values.metric import METRICS

WIDTH, LEAF, SEED = 20, 400, 7
looped = numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")


class Size(NamedTuple):
    """rows: of the data; loops: how often short work is done in a repeat."""

    rows: int
    loops: int


class Case(NamedTuple):
    """unit: what is counted; run: does the work on what reset returned, and says how many units it was.

    reset: called before each repeat, its time does not count.
    """

    unit: str
    run: Callable[[Any], int]
    reset: Callable[[], Any] = lambda: None


Make = Callable[[Size], Case]


def wide(make: Callable[[Size, int], Case], name: str, *columns: int) -> dict[str, Make]:
    """The same for rows of several widths."""
    return {f"{name} d={d}": lambda size, d=d: make(size, d) for d in columns}


# --- data that several share --------------------------------------------------------------------------------


@cache
def points(n: int, d: int) -> np.ndarray:
    """Rows around 40 centres on a bent sheet of ten dimensions, in leaf order, as in a partition: float32[n, d]."""
    rng = np.random.default_rng(SEED)
    centres = rng.normal(size=(40, 10)) * 2
    flat = centres[rng.integers(0, 40, n)] + rng.normal(size=(n, 10))
    bent = np.tanh(flat @ rng.normal(size=(10, d)) / 3) + rng.normal(size=(n, d)) / 50
    unordered = bent.astype(np.float32)
    coder = codes.coder_of(unordered, METRICS["euclidean"])
    own = codes.encode(unordered, coder)
    role = trees.Role(codes.routing_form(own, coder), np.ones(n, np.bool_))
    (ends,) = trees.descend(own, [role], trees.Shape(LEAF, 2 * LEAF, 64, 4), SEED)
    return np.ascontiguousarray(unordered[np.argsort(ends.slots[:, 0], kind="stable")])


@cache
def coded(n: int, d: int) -> tuple[codes.Rows, rows.Form]:
    """The rows with their codes, compared by estimates that are kept."""
    coder = codes.coder_of(points(n, d), METRICS["euclidean"])
    own = codes.encode(points(n, d), coder)
    return own, codes.trusted(codes.coded_form(METRICS["euclidean"], own, coder))


@cache
def leaf_groups(n: int, shift: int = 0) -> groups.Groups:
    """Leaves of LEAF rows that lie one after the other, the first one shorter by `shift`."""
    numbers = (np.arange(n) + shift).astype(np.int32) // np.int32(LEAF)
    return groups.Groups(*groups.group_rows(numbers, int(numbers[-1]) + 1))


def joined(n: int, d: int, lists: neighbours.Lists, shift: int = 0) -> int:
    """All pairs of each leaf; returns how many."""
    own, form = coded(n, d)
    group = leaf_groups(n, shift)
    return leaves.join(own, group, own, group, group.rows, form, lists, True, 0, len(group.starts) - 1)


@cache
def full_lists(n: int, d: int) -> neighbours.Lists:
    """Lists after all pairs of two leaves a row, which overlap by half; to be copied before they are changed."""
    lists = neighbours.empty(n, WIDTH)
    joined(n, d, lists)
    joined(n, d, lists, LEAF // 2)
    return lists


def copied(lists: neighbours.Lists) -> neighbours.Lists:
    """Lists of one's own."""
    return neighbours.Lists(*(part.copy() for part in lists))
