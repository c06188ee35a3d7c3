"""`python -m benchmarks.growth [rows ...]`: CPU seconds against rows, at a measured recall of 0.95.

The generated manifold of 96 columns, by default 250,000, 1,000,000 and 4,000,000 rows, in memory. For each size
targets are tried from 0.95 downwards or upwards until one measures 0.95 within 0.01, or two lie on either side of it:
then CPU seconds are interpolated between the two, linearly in recall. The table says which. The exponent is that of
the least squares line through log(rows), log(CPU seconds). Writes benchmarks/results/growth.md.
"""

from __future__ import annotations

import argparse
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
    at = TARGETS.index(RECALL)
    step, last, target = 0, None, RECALL
    while 0 <= at < len(TARGETS):
        now, before = build(TARGETS[at]), target
        target = TARGETS[at]
        if abs(now.recall - recall) <= NEAR:
            return Cost(now.recall, now.cpu, f"target {target}")
        if last is not None and (now.recall - recall) * (last.recall - recall) < 0:
            cpu = between(recall, (last.recall, last.cpu), (now.recall, now.cpu))
            return Cost(recall, cpu, f"interpolated: {_point(before, last)}, {_point(target, now)}")
        step, last = 1 if now.recall < recall else -1, now
        at += step
    assert last is not None
    return Cost(last.recall, last.cpu, f"target {target}, no other comes nearer")


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
        print(_point(target, one), flush=True)
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
