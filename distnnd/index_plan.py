"""What an index is made of and how it is cut, before anything is made: the finished graph, its points, the plan."""

from __future__ import annotations

import os
from typing import Any

from .runtime.cluster import machine_for, memory_of
from .runtime.serial import Machine
from .stages.views import same_points
from .storage import graph as store
from .storage.source import Source, SparseSource
from .values.budget import RESERVED
from .values.errors import SpecError, StoreError, brief
from .values.metric import metric_behind
from .values.searching import IndexPlan, IndexSpec, lay_out_index, prune_bytes
from .values.spec import parse_bytes

# Positions are int32 in the edges.
MOST_ROWS = 2**31 - 1


def plan_index(
    graph: Any,
    source: Any = None,
    *,
    pruning_degree_multiplier: float = 2.0,
    diversify_prob: float = 1.0,
    partitions: int | None = None,
    memory_limit: int | str | None = None,
    client: Any = None,
    n_workers: int | None = None,
    threads_per_worker: int | None = None,
) -> IndexPlan:
    """What build_index() would make with the same arguments: edges, partitions, memory of a task, size of the index.

    Only metadata of the graph and of the points are read. Raises as build_index().
    """
    spec = IndexSpec(pruning_degree_multiplier, diversify_prob)
    place, limit = place_of_graph(graph), parse_bytes(memory_limit)
    facts = finished(place)
    with (
        same_points(place, facts, points_named(source, facts)) as points,
        machine_for(client, limit, n_workers, threads_per_worker) as machine,
    ):
        return index_plan_for(spec, place, facts, points, machine, limit, partitions)


def place_of_graph(graph: Any) -> str:
    """Where a graph lies, given itself or by its path or URL; SpecError for points in its place."""
    location = getattr(graph, "location", graph)
    if not isinstance(location, str | os.PathLike):
        raise SpecError(
            f"an index is made of a finished graph, or of its path, not of {brief(graph)}; build the graph of "
            "the points first: graph = build(points), then build_index(graph, out, points)"
        )
    return store.place_of(location)


def finished(place: str) -> dict[str, Any]:
    """The facts of the finished graph at `place`; StoreError where there is none."""
    facts = store.facts_of(place)
    if facts is None or facts["state"] != "complete":
        what = "there is no graph at" if facts is None else "nothing is finished yet of the graph at"
        raise StoreError(f"{what} {place}; build it first, or resume its build")
    return facts


def points_named(source: Any, facts: dict[str, Any]) -> Any:
    """The points: those given, or those that the graph names; SpecError where they lay in memory."""
    location = str(facts["source"]["location"])
    if source is None and location.startswith("<"):
        raise SpecError(
            "the points of this graph lay in memory; hand them over: build_index(graph, out, source=points)"
        )
    return location if source is None else source


def index_plan_for(
    spec: IndexSpec,
    place: str,
    facts: dict[str, Any],
    points: Source | SparseSource,
    machine: Machine,
    limit: int | None,
    partitions: int | None,
) -> IndexPlan:
    """How an index of that graph is cut for those workers; BudgetError where it does not fit."""
    kind, n, d = metric_behind(facts), points.n, points.d
    if isinstance(points, SparseSource) or kind.form == "sparse":
        raise SpecError(f"the graph at {place} is of sparse points, of which no index can be made yet")
    if n > MOST_ROWS:
        raise SpecError(f"an index holds {MOST_ROWS:,} rows at most, not {n:,}; cut the points into several graphs")
    memory, share = memory_of(machine, limit)
    # Beside the arrays a worker holds its interpreter.
    room = int(memory * share) - RESERVED
    threads = machine.threads if partitions in (None, 1) else 1
    task_memory = room // (machine.threads // threads)
    layout = lay_out_index(spec, kind, n, d, points.dtype.name, facts["n_neighbors"], task_memory, partitions)
    return IndexPlan(
        spec=spec,
        metric=facts["metric"],
        layout=layout,
        worker_memory=memory,
        task_memory=task_memory,
        projected=prune_bytes(kind, layout),
        threads=threads if layout.partitions == 1 else 1,
        index=layout.bytes(kind),
    )
