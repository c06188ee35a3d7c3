"""Work cut into ranges that may run side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

# Calls function(first, last) for each range, wherever and in whatever order; the answers in the order of the ranges.
Each = Callable[[Callable[..., Any], Iterable[tuple[int, int]]], list[Any]]


def serial(function: Callable[..., Any], ranges: Iterable[tuple[int, int]]) -> list[Any]:
    """Call function(first, last) for each range, one after the other."""
    return [function(first, last) for first, last in ranges]


def even_ranges(weights: np.ndarray, parts: int) -> list[tuple[int, int]]:
    """Cut 0 .. len(weights) into at most `parts` ranges of about equal weight."""
    total = np.concatenate([[0], np.cumsum(weights, dtype=np.float64)])
    cuts = np.searchsorted(total, np.linspace(0, total[-1], parts + 1))
    cuts[0], cuts[-1] = 0, len(weights)
    return [(int(a), int(b)) for a, b in pairwise(cuts) if b > a]


def even_cuts(count: int, parts: int) -> list[tuple[int, int]]:
    """Cut 0 .. count into at most `parts` ranges of about equal length."""
    return [(first, last) for first, last in pairwise(count * i // parts for i in range(parts + 1)) if last > first]
