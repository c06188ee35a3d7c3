"""`python -m benchmarks.choices [set ...] [--targets T ...] [--runs N]`: what a build chooses, beside what it might.

A build in memory takes the rows that a leaf aims at, the leaves that a row stands in, the length of lists and the
companions of NN-descent from a small model of (n, d, k, target): values.partitioning.leaf_rows, leaf_fanout,
first_width and companion_cap. How many of the leaves are compared, and how many passes follow, the probe rows say. This
varies one choice at a time, in one process on one thread, and says what each costs at the recall that was asked for,
as a share of what the model's own choice costs: above 1 the model is right, and the least of a set is what it gives
away. Builds that miss the target in their first round pay for another, as a user would. Each is the least of N.
Writes benchmarks/results/choices.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from . import data
from .placement import processors
from .table import Table

SETS = ("mnist", "glove", "manifold-200000-128")
TARGETS = (0.9, 0.95, 0.99)
COLUMNS = ("set", "target", "choice", "rounds", "passes", "recall", "CPU s", "to the model's")


class Choice(NamedTuple):
    """One deviation from the model: leaves so many times as large, more places of a row, more entries of a list."""

    said: str
    larger: float = 1
    places: int = 0
    longer: int = 0
    companions: float = 1


MODEL = Choice("the model's")
OTHERS = (
    Choice("leaves of 0.6 of the rows", larger=0.6),
    Choice("leaves of 1.6 of the rows", larger=1.6),
    Choice("a place fewer", places=-1),
    Choice("a place more", places=1),
    Choice("lists shorter by 3", longer=-3),
    Choice("lists longer by 6", longer=6),
    Choice("half of the companions", companions=0.5),
    Choice("companions by a half more", companions=1.5),
)


class Cost(NamedTuple):
    """One build: CPU seconds, recall against the exact answers, rounds, passes of NN-descent."""

    cpu: float
    recall: float
    rounds: int
    passes: float


@contextmanager
def chosen(choice: Choice) -> Iterator[None]:
    """Builds in this process choose so."""
    from distnnd.stages import leaves, passes
    from distnnd.values import partitioning

    stream = importlib.import_module("distnnd.stream")

    def times(function: Callable[..., int], factor: float, more: int = 0) -> Callable[..., int]:
        return lambda *given: max(1, round(function(*given) * factor) + more)

    with ExitStack() as stack:
        for module, name, factor, more in (
            (leaves, "leaf_rows", choice.larger, 0),
            (leaves, "leaf_fanout", 1, choice.places),
            (stream, "first_width", 1, choice.longer),
            (passes, "companion_cap", choice.companions, 0),
        ):
            stack.enter_context(patch.object(module, name, times(getattr(partitioning, name), factor, more)))
        stack.enter_context(patch.object(leaves, "GUIDED_FANOUT", leaves.GUIDED_FANOUT + choice.places))
        yield


def cost_of(task: data.Task, target: float, choice: Choice) -> Cost:
    """What one build takes."""
    import distnnd
    from distnnd.runtime.events import RoundEnd, TaskEnd

    counted = {"rounds": 0.0, "passes": 0.0}

    def listen(event: Any) -> None:
        if isinstance(event, RoundEnd):
            counted["rounds"] += 1
        if isinstance(event, TaskEnd):
            counted["passes"] += event.report.counters.get("passes", 0)

    with chosen(choice), tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        out = Path(folder) / "graph"
        graph = distnnd.build(task.points, out, data.K, metric=task.metric, target_recall=target, progress=listen)
        cpu = time.process_time() - start
        recall = task.recall(graph.to_numpy()[0])
    return Cost(cpu, recall, int(counted["rounds"]), counted["passes"])


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choices", description=__doc__)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--targets", type=float, nargs="+", default=TARGETS)
    parser.add_argument("--runs", type=int, default=2)
    asked = parser.parse_args()
    # Kernels and what they call ask how many threads there are when they are loaded.
    os.environ |= {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    os.sched_setaffinity(0, {processors()[0]})
    table = Table("choices", *COLUMNS, note=f"One thread; the least of {asked.runs} builds of each, in alternation.")
    given_away = []
    for name in asked.sets or SETS:
        task = data.task(name)
        # Kernels are loaded, and rows lie in memory.
        cost_of(task, asked.targets[0], MODEL)
        for target in asked.targets:
            given_away.append(compare(table, task, target, asked.runs))
    table.say(
        "",
        f"Beside the best that was tried the model gives away {statistics.median(given_away):.0%} in the median, "
        f"{max(given_away):.0%} at most.",
    )


def compare(table: Table, task: data.Task, target: float, runs: int) -> float:
    """Rows of the table for one set and target; the share of its time that the model gives away to the best choice."""
    choices = (MODEL, *OTHERS)
    tried = [[cost_of(task, target, one) for one in choices] for _ in range(runs)]
    costs = [min(same) for same in zip(*tried, strict=True)]
    own = costs[0].cpu
    for choice, cost in zip(choices, costs, strict=True):
        figures = (cost.rounds, f"{cost.passes:.2g}", f"{cost.recall:.4f}", f"{cost.cpu:.2f}", f"{cost.cpu / own:.2f}")
        table.add(task.name, target, choice.said, *figures)
    return 1 - min(cost.cpu for cost in costs) / own


if __name__ == "__main__":
    main()
