"""build_index(): the index of a finished graph is made from it and from its points."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from .index import Index, open_index
from .index_plan import finished, index_plan_for, place_of_graph, points_named
from .progress import listening
from .runtime.clients import check_client
from .runtime.cluster import executor_for
from .runtime.events import Compiling, Listener
from .sources import points_of
from .stages import coder, own_recall, prune, query
from .stages.measured import compiling_told
from .stages.views import same_points
from .storage import graph as graph_store
from .storage import index as store
from .storage import mailbox, outputs
from .storage.source import is_dask_array, unwrapped
from .storage.spool import Spool
from .values.errors import DistnndWarning, SpecError
from .values.metric import function_of, metric_behind
from .values.searching import (
    IndexJob,
    IndexPlan,
    IndexSpec,
)
from .values.spec import parse_bytes

# Below such a recall a warning says what to do.
POOR = 0.85
Function = Callable[..., float] | None


def build_index(
    graph: Any,
    out: Any,
    source: Any = None,
    *,
    pruning_degree_multiplier: float = 2.0,
    diversify_prob: float = 1.0,
    partitions: int | None = None,
    memory_limit: int | str | None = None,
    client: Any = None,
    n_workers: int | None = None,
    scratch: Any = None,
    random_state: int = 0,
    metric: str | Function = None,
    progress: Listener | bool | None = None,
    missing: str | None = None,
    overwrite: bool = False,
    threads_per_worker: int | None = None,
) -> Index:
    """Make the index of a finished kNN graph, for queries of new rows, in the Zarr store `out`.

    If the index of the same graph with the same arguments is at `out` already, it is opened; one that a killed process
    left there unfinished is made anew. overwrite: True replaces another index at `out`, once the new one is whole; in
    an object store, which cannot rename, the old one is deleted first. Only what distnnd wrote is ever replaced.

    graph: path or URL, or a Graph. source: the points of the graph, by default from where it was built; they must be
    the same. pruning_degree_multiplier: most edges of a row, as a multiple of the graph's n_neighbors; diversify_prob:
    probability that an edge is dropped which searches can do without. partitions: how many, by default as few as fit;
    an index is opened whole, or partition by partition if a worker cannot hold it. memory_limit, client, n_workers,
    scratch, progress, missing, threads_per_worker: as for build(). metric: the function that the graph was built by, if
    it was one of the user's own; a name is compared with the metric of the graph.

    The index measures its own recall, and a warning says so where that is poor.

    Raises SpecError, StoreError (the points have changed, damage), BudgetError (what is needed and what there is).
    """
    spec = IndexSpec(pruning_degree_multiplier, diversify_prob, random_state)
    place, limit = place_of_graph(graph), parse_bytes(memory_limit)
    check_client(client, n_workers)
    facts = finished(place)
    function = function_of(facts, metric, place) or getattr(graph, "function", None)
    target = graph_store.place_of(out)
    graph_store.check_apart(target, place)
    at = place_for(target, spec, facts, partitions, overwrite)
    if at is not None:
        with ExitStack() as stack:
            listen = stack.enter_context(listening(progress))
            given = points_named(source, facts)
            named = stack.enter_context(points_of(given, metric_behind(facts), facts, missing))
            points = stack.enter_context(same_points(place, facts, named))
            executor = stack.enter_context(executor_for(client, limit, n_workers, threads_per_worker))
            plan = index_plan_for(spec, place, facts, points, executor, limit, partitions)
            spool = stack.enter_context(Spool(at, scratch))
            if not executor.in_process and (points.resident or is_dask_array(unwrapped(given))):
                points = spool.copy(points)
            _build_at(_job_of(plan, facts, place, points, spool, function, executor), executor, listen)
        outputs.swap(at, target)
    store.tidy(target, f"{target}/scratch" if scratch is None else graph_store.place_of(scratch))
    return _told(open_index(target, metric=function))


def _told(index: Index) -> Index:
    """The index itself, after a warning where its recall is poor."""
    recall = index.recall
    if recall is not None and recall.estimate < POOR:
        warnings.warn(
            f"the index at {index.location} finds {recall.estimate:.3f} of true neighbours as it is asked by default: "
            f"measured {recall}; ask with a larger epsilon or ef, or build the graph with more n_neighbors",
            DistnndWarning,
            stacklevel=3,
        )
    return index


def place_for(
    target: str, spec: IndexSpec, graph: dict[str, Any], partitions: int | None, overwrite: bool
) -> str | None:
    """Where to make the index that is to be at `target`: there, or beside it; None if it is there already.

    graph: facts of the graph; partitions: if they were asked for. SpecError if what is there is another index, and is
    not to be replaced, or is none of ours.
    """
    found, place = store.found_at(target), outputs.beside(target)
    if overwrite:
        # Of a former attempt, or what is there in a store that cannot rename.
        store.drop(place)
    if overwrite and found is not None:
        return place
    if found is None:
        return target
    asked = {**asdict(spec), "partitions": partitions or found["layout"]["partitions"]}
    there = {**found["pruning"], "partitions": found["layout"]["partitions"]}
    differ = [
        f"{name}={there.get(name)!r} (now {value!r})" for name, value in asked.items() if there.get(name) != value
    ]
    if found["graph"]["uuid"] != graph["uuid"]:
        differ.insert(0, f"another graph, of {found['graph']['location']}")
    if differ:
        raise SpecError(
            f"{target} exists: it holds a finished index with {', '.join(differ)}; open it with open_index, choose "
            "another output, or pass overwrite=True (--overwrite) to replace it"
        )
    return None


def _job_of(
    plan: IndexPlan,
    facts: dict[str, Any],
    place: str,
    points: Any,
    spool: Spool,
    function: Function,
    executor: Any,
) -> IndexJob:
    """What is to be made of the graph at `place`; points: where every worker can read them."""
    name, layout = uuid.uuid4().hex, plan.layout
    return IndexJob(
        name,
        plan.spec,
        layout,
        facts,
        place,
        points.spec,
        spool.out,
        f"{spool.scratch}/{name}",
        plan.threads,
        function,
        bounded=layout.partitions > 1 or not executor.in_process,
    )


def _build_at(job: IndexJob, executor: Any, listen: Listener) -> None:
    """Make the index, or leave nothing of it."""
    # Refuses a graph whose metric is not at hand, before there is anything at the output.
    coder.ruler(job)
    store.create(job.out, job.uuid)
    try:
        elsewhere = getattr(executor, "on_this_machine", False)
        with compiling_told(lambda: listen(Compiling()), job, elsewhere):
            _carry_out(job, executor, listen)
    except BaseException:
        # No later attempt could go on with it, and it would be in that one's way.
        store.abandon(job.out, job.uuid)
        raise
    finally:
        mailbox.discard(job.scratch, job.uuid)


def _carry_out(job: IndexJob, executor: Any, listen: Listener) -> None:
    """All stages, and the facts that turn what they wrote into an index."""
    mailbox.create(job.scratch, job.uuid, job.out)
    prune.create_arrays(job)
    counters: dict[str, float] = {"edges": 0, "new_pivots": 0, "pivots": 0}
    for stage in prune.plan_index(job):
        reports = executor.run(stage, job, listen)
        for report in reports:
            counters |= {key: value + counters.get(key, 0) for key, value in report.counters.items()}
    found = coder.facts_of(job) | own_recall.recall_facts(job, counters)
    made_of = {"graph": {"location": job.graph, "uuid": job.facts["uuid"]}, "source": job.facts["source"]}
    store.commit(
        job.out,
        found | made_of | {"uuid": job.uuid, "pruning": asdict(job.spec), "edges": int(counters["edges"])},
    )


def ask_by_rows(index: Index, queries: Any) -> None:
    """Ask a small index by exact rows, whatever its codes tell, so that what this needs is compiled."""
    query.try_rows(query.Opened(index.location, index.facts, True, index.function), queries)
