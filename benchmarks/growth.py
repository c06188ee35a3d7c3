"""`python -m benchmarks.growth [rows ...]`: CPU seconds against rows, at a measured recall of 0.95.

The generated manifold of 96 columns, by default 250,000, 1,000,000 and 4,000,000 rows, in memory. For each size
targets are tried until one measures 0.95 within 0.01, or until two neighbours in the list of targets lie on either
side of it: then CPU seconds are interpolated between the two, linearly in recall. The table says which. The exponent
is that of the least squares line through log(rows), log(CPU seconds). Writes benchmarks/results/growth.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from . import data
from .measure import Built, build
from .table import Table, mib

SIZES = (250_000, 1_000_000, 4_000_000)
COLUMNS = 96
RECALL, NEAR = 0.95, 0.01
TARGETS = (0.4, 0.6, 0.75, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)


class Cost(NamedTuple):
    """CPU seconds at the wanted recall, and where they come from."""

    recall: float
    cpu: float
    said: str


def cost_at(recall: float, build: Callable[[float], Built]) -> Cost:
    """CPU seconds at a measured recall: of a build that comes near it, or between the two on either side of it."""
    tried: dict[int, Built] = {}
    at: int | None = TARGETS.index(RECALL)
    while at is not None:
        one = tried[at] = build(TARGETS[at])
        if abs(one.recall - recall) <= NEAR:
            return Cost(one.recall, one.cpu, f"target {TARGETS[at]}")
        at = _next(recall, tried)
    below, above = _around(recall, tried)
    if below is None or above is None:
        at = min(tried, key=lambda at: abs(tried[at].recall - recall))
        return Cost(tried[at].recall, tried[at].cpu, f"target {TARGETS[at]}, no other comes nearer")
    cpu = between(recall, *((tried[at].recall, tried[at].cpu) for at in (below, above)))
    ends = ", ".join(_point(TARGETS[at], tried[at]) for at in (below, above))
    return Cost(recall, cpu, f"interpolated: {ends}")


def _around(recall: float, tried: dict[int, Built]) -> tuple[int | None, int | None]:
    """Of the targets tried, the highest that measured less and the lowest that measured more."""
    below = max((at for at, one in tried.items() if one.recall < recall), default=None)
    above = min((at for at, one in tried.items() if one.recall >= recall), default=None)
    return below, above


def _next(recall: float, tried: dict[int, Built]) -> int | None:
    """The target to try next: an end of the list, then halves; None where nothing is left to try."""
    below, above = _around(recall, tried)
    if below is None or above is None:
        end = 0 if below is None else len(TARGETS) - 1
        return None if end in tried else end
    return (below + above) // 2 if above - below > 1 else None


def between(recall: float, one: tuple[float, float], other: tuple[float, float]) -> float:
    """Seconds at `recall` on the line through two points (recall, seconds)."""
    share = (recall - one[0]) / (other[0] - one[0])
    return one[1] + share * (other[1] - one[1])


def exponent(rows: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log(seconds) over log(rows), by least squares."""
    return float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])


def _point(target: float, one: Built) -> str:
    return f"target {target} took {one.cpu:.1f} s to {one.recall:.4f}"


def measure(name: str, peaks: list[int]) -> Cost:
    """The cost of one set; appends the peak memory of each build."""

    def tried(target: float) -> Built:
        one = build("distnnd", name, {"target_recall": target})
        peaks.append(one.peak)
        print(_point(target, one), file=sys.stderr, flush=True)
        return one

    return cost_at(RECALL, tried)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("rows", nargs="*", type=int)
    sizes = parser.parse_args().rows or SIZES
    table = Table("growth", "rows", "recall", "CPU s", "µs per row", "peak MiB", "from")
    costs = []
    for rows in sizes:
        name = f"manifold-{rows}-{COLUMNS}"
        data.task(name)
        peaks: list[int] = []
        cost = measure(name, peaks)
        costs.append(cost)
        micro = cost.cpu / rows * 1e6
        table.add(f"{rows:,}", f"{cost.recall:.4f}", f"{cost.cpu:.1f}", f"{micro:.1f}", mib(max(peaks)), cost.said)
    if len(sizes) > 1:
        table.say("", f"CPU seconds grow as rows to the power of {exponent(sizes, [one.cpu for one in costs]):.3f}.")


if __name__ == "__main__":
    main()
