"""`python -m benchmarks.out_of_core [set ...] [--runs N]`: one worker process, in memory and with little of it.

Little is what forces 8 partitions of MNIST and 12 of GloVe, and on other sets a limit at which a partition holds a
quarter of the rows. Both in alternation; the start of the worker process is counted. The ratio is taken pair by pair.
Writes benchmarks/results/out_of_core.md.
"""

from __future__ import annotations

import argparse
from functools import partial

from . import data
from .measure import Built, alternate, build, median, ratio
from .quarter import limit_for
from .table import Table, mib

SETS = ("mnist", "glove", "manifold-200000-128", "manifold-1000000-128")
LIMITS = {"mnist": 570 * 2**20, "glove": 680 * 2**20}
AMPLE = 12 * 2**30
COLUMNS = (
    "set",
    "limit MiB",
    "partitions",
    "rounds",
    "recall",
    "store says",
    "CPU s",
    "wall s",
    "worker peak MiB",
    "planned MiB",
    "CPU to in memory",
)


def cells(name: str, limit: int, one: Built, compared: str) -> list[str]:
    """A row of the table."""
    facts = one.facts
    return [
        name,
        mib(limit),
        str(facts["partitions"]),
        str(facts["rounds"]),
        f"{one.recall:.4f}",
        f"{facts['low']:.4f} to {facts['high']:.4f}",
        f"{one.cpu:.1f}",
        f"{one.wall:.1f}",
        mib(facts["worker_peak"]),
        mib(facts["planned"]),
        compared,
    ]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.out_of_core", description=__doc__)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--target", type=float, default=0.95)
    chosen = parser.parse_args()
    note = f"Target {chosen.target}; {chosen.runs} pairs of each, in alternation; medians, and ranges of ratios."
    table = Table("out_of_core", *COLUMNS, note=note)
    for name in chosen.sets or SETS:
        limit = LIMITS.get(name) or limit_for(data.task(name))
        data.task(name)
        ample, little = (
            partial(build, "distnnd", name, {"memory_limit": size, "n_workers": 1, "target_recall": chosen.target})
            for size in (AMPLE, limit)
        )
        pairs = alternate(ample, little, chosen.runs)
        inside, outside = (median(runs) for runs in zip(*pairs, strict=True))
        table.add(*cells(name, AMPLE, inside, "1"))
        table.add(*cells(name, limit, outside, str(ratio(pairs, "cpu"))))


if __name__ == "__main__":
    main()
