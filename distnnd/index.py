"""An index as the user holds it: made of a graph, opened from its path, asked in this process or through Dask."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from .runtime import indexes
from .runtime.cluster import current_client, executor_for, machine_memory
from .runtime.events import Listener, silent
from .stages import coder, own_recall, prune, query
from .stages.views import same_points
from .storage import answers, mailbox, stores
from .storage import graph as graph_store
from .storage import index as store
from .storage.source import Source, is_dask_array, open_source
from .storage.spool import Spool
from .values.budget import RESERVED, USABLE
from .values.errors import SpecError, StoreError
from .values.memory import strip_rows
from .values.metric import metric_behind
from .values.recall import Recall
from .values.searching import (
    IndexJob,
    IndexLayout,
    IndexSpec,
    SearchPlan,
    SearchSpec,
    lay_out_index,
    plan_search,
)
from .values.spec import format_bytes, parse_bytes

# Positions are int32 in the edges.
MOST_ROWS = 2**31 - 1
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
    metric: Function = None,
    progress: Listener | None = None,
) -> Index:
    """Make the search graph of a finished kNN graph, in the new Zarr store `out`.

    graph: path or URL, or a Graph. source: the points of the graph, by default from where it was built; they must be
    the same. pruning_degree_multiplier: edges of a row at most, as a multiple of the graph's n_neighbors;
    diversify_prob: how likely an edge is dropped that the search can do without. partitions: how many, by default as
    few as fit: an index is opened whole, or partition by partition where a worker cannot hold it. memory_limit, client,
    n_workers, scratch: as for build(). metric: the user's own, if the graph is of one.

    The index measures its own recall, and a warning says so where that is poor.

    Raises SpecError, StoreError (the points have changed, damage), BudgetError (what is needed and what there is).
    """
    spec = IndexSpec(pruning_degree_multiplier, diversify_prob, random_state)
    place, limit = graph_store.place_of(getattr(graph, "location", graph)), parse_bytes(memory_limit)
    facts, function = _finished(place), metric or getattr(graph, "function", None)
    target = graph_store.place_of(out)
    graph_store.check_apart(target, place)
    with ExitStack() as stack:
        points = stack.enter_context(same_points(place, facts, _named(source, facts)))
        executor = stack.enter_context(executor_for(client, limit, n_workers))
        limits = [one for one in (limit, executor.memory) if one]
        memory = min(limits, default=machine_memory())
        # Beside the arrays a worker holds its interpreter; in this process nobody set a limit for it.
        room = int(memory * USABLE) - RESERVED if limits else memory
        kind, n, d = metric_behind(facts), points.n, points.d
        if kind.form == "sparse":
            raise SpecError(f"the graph at {place} is of sparse points, of which no index can be made yet")
        if n > MOST_ROWS:
            raise SpecError(f"an index holds {MOST_ROWS:,} rows at most, not {n:,}; cut the points into several graphs")
        threads = executor.threads if partitions in (None, 1) else 1
        layout = lay_out_index(
            spec, kind, n, d, points.dtype.name, facts["n_neighbors"], room // (executor.threads // threads), partitions
        )
        spool = stack.enter_context(Spool(target, scratch))
        if points.resident and not executor.in_process:
            points = spool.copy(points)
        name = uuid.uuid4().hex
        work = f"{spool.scratch}/{name}"
        job = IndexJob(
            name,
            spec,
            layout,
            facts,
            place,
            points.spec,
            target,
            work,
            threads if layout.partitions == 1 else 1,
            function,
            bounded=layout.partitions > 1 or not executor.in_process,
        )
        # Refuses a graph whose metric is not at hand, before there is anything at `out`.
        coder.ruler(job)
        store.create(target)
        try:
            _carry_out(job, executor, progress or silent)
        except BaseException:
            # No later attempt could go on with it, and it would be in that one's way.
            stores.remove(target)
            raise
        finally:
            mailbox.discard(work)
            if spool.scratch == f"{target}/scratch":
                mailbox.discard(spool.scratch)
        return _told(open_index(target, metric=function))


def _told(index: Index) -> Index:
    """The index itself, after a warning where its recall is poor."""
    recall = index.recall
    if recall is not None and recall.estimate < POOR:
        warnings.warn(
            f"the index at {index.location} finds {recall.estimate:.3f} of true neighbours as it is asked by default: "
            f"measured {recall}; ask with a larger epsilon or ef, or build the graph with more n_neighbors",
            stacklevel=3,
        )
    return index


def _carry_out(job: IndexJob, executor: Any, listen: Listener) -> None:
    """All stages, and the facts that turn what they wrote into an index."""
    mailbox.create(job.scratch)
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


def _finished(place: str) -> dict[str, Any]:
    """The facts of the finished graph at `place`; StoreError where there is none."""
    facts = graph_store.facts_of(place)
    if facts is None or facts["state"] != "complete":
        what = "there is no graph at" if facts is None else "nothing is finished yet of the graph at"
        raise StoreError(f"{what} {place}; build it first, or resume its build")
    return facts


def _named(source: Any, facts: dict[str, Any]) -> Any:
    """The points: those given, or those that the graph names; SpecError where they lay in memory."""
    location = str(facts["source"]["location"])
    if source is None and location.startswith("<"):
        raise SpecError(
            "the points of this graph lay in memory; hand them over: build_index(graph, out, source=points)"
        )
    return location if source is None else source


def open_index(location: Any, metric: Function = None) -> Index:
    """The index at a path or URL; only metadata are read. metric: the user's own, if its graph was built by one.

    StoreError if nothing is there, if it is damaged or of another format version, or if the graph it was made of has
    changed since; SpecError if something else is there.
    """
    place = graph_store.place_of(location)
    facts = store.facts_of(place)
    made_of = facts["graph"]
    try:
        graph = graph_store.facts_of(made_of["location"])
    except (SpecError, StoreError):
        graph = None
    if graph is not None and graph["uuid"] != made_of["uuid"]:
        raise StoreError(
            f"the graph at {made_of['location']} changed since {place} was made of it; build the index again"
        )
    return Index(place, facts, metric)


class Index:
    """A search graph, opened for queries: opening costs metadata only; files are mapped at the first query."""

    def __init__(self, location: str, facts: dict[str, Any], function: Function = None) -> None:
        self.location, self.facts, self.function = location, facts, function
        self.layout = IndexLayout(**facts["layout"])
        self._here: query.Opened | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What travels to workers: they open the files themselves."""
        return self.__dict__ | {"_here": None}

    @property
    def n(self) -> int:
        """Rows."""
        return self.layout.n

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return str(self.facts["metric"])

    @property
    def recall(self) -> Recall | None:
        """The share of true neighbours that it finds by default, as measured when it was made, with its interval.

        k = 10 and epsilon = 0.1, of random rows that were hidden from their own searches. None of an index that was
        made before this was measured.
        """
        return Recall(**self.facts["recall"]) if "recall" in self.facts else None

    def plan(self, memory_limit: int | str | None = None) -> SearchPlan:
        """How a worker of that memory would hold the index: whole, or by partitions; BudgetError where it cannot."""
        return plan_search(self.layout, metric_behind(self.facts), parse_bytes(memory_limit))

    def query(
        self,
        queries: Any,
        k: int = 10,
        epsilon: float = 0.1,
        *,
        ef: int | None = None,
        radius: float | None = None,
        filter: Any = None,
        return_distances: bool = True,
        threads: int = 1,
        memory_limit: int | str | None = None,
        client: Any = None,
    ) -> Any:
        """The k nearest rows to each query: ids int64[m, k] and distances float32[m, k], ascending by (distance, id).

        queries: numbers [m, d], answered here; or a dask array, answered lazily where it is computed, by workers that
        open the index themselves. epsilon: a row is looked at while it is no more than so much farther than the k-th
        answer so far (as PyNNDescent has it); ef: instead, how many nearest rows are looked at (as HNSW has it).
        radius: no answer lies farther; filter: which rows may be answers, bool[n] or row ids; -1 and inf stand where
        fewer are left. return_distances: False for the ids alone. threads: of this process. memory_limit: what the
        index may take; of a lazy query by default what workers have. client: a Dask client, by default the current one.

        Raises InputError for queries that cannot be compared, with the first bad row, SpecError for k > n and other
        arguments that cannot be meant, BudgetError where workers cannot hold the index.
        """
        spec = SearchSpec(k, epsilon, ef, radius)
        spec.check_rows(self.n)
        if is_dask_array(queries):
            answers = self._lazily(queries, spec, filter, parse_bytes(memory_limit), client)
        else:
            asked = self._asked(spec, filter, parse_bytes(memory_limit))
            answers = asked.answers(self._opened(asked.plan), queries, threads)
        return answers if return_distances else answers[0]

    def query_into(
        self,
        queries: Any,
        out: Any,
        k: int = 10,
        epsilon: float = 0.1,
        *,
        ef: int | None = None,
        radius: float | None = None,
        filter: Any = None,
        threads: int = 1,
        memory_limit: int | str | None = None,
        client: Any = None,
        component: str | None = None,
    ) -> dict[str, Any]:
        """Answer the queries of a file and write ids and distances, batch by batch, in memory that does not grow.

        queries: whatever build() takes as dense points; component: the array of a Zarr group. out: a new Zarr group
        with the arrays `indices` int64[m, k] and `distances` float32[m, k], or "<name>.npy" for the ids, with
        "<name>.distances.npy" beside it. client: a Dask client, cluster or address, whose workers answer; by default
        the current client, or this process. The other arguments are those of `query`. Returns location, queries (how
        many), k, and plan: how the index was held.

        Raises what `query` does, and SpecError if something is at `out`.
        """
        spec, place = SearchSpec(k, epsilon, ef, radius), answers.free_place(out)
        spec.check_rows(self.n)
        asked = open_source(queries, component)
        if asked.d != self.layout.d:
            raise SpecError(
                f"{asked.location} holds rows of {asked.d} columns, but the index at {self.location} of {self.layout.d}"
            )
        with indexes.client_of(client) as own:
            limit = parse_bytes(memory_limit) or indexes.worker_limit(own)
            run = self._asked(spec, filter, limit, own)
            found = (
                (run.answers(self._opened(run.plan), batch, threads) for batch in batches(asked))
                if own is None
                else (query.apart(both) for both in indexes.in_order(own, run, run.plan.need, batches(asked)))
            )
            # What is wrong with the index or the arguments shows before anything is written.
            first = next(found)
            with answers.Writer(place, asked.n, k) as writer:
                for ids, distances in chain([first], found):
                    writer.append(ids, distances)
        return {"location": place, "queries": asked.n, "k": k, "plan": str(run.plan)}

    def _opened(self, plan: SearchPlan) -> query.Opened:
        if self._here is None or (self._here.whole, self._here.room) != (plan.whole, plan.room):
            self._here = query.Opened(self.location, self.facts, plan.whole, self.function, plan.room)
        return self._here

    def _asked(self, spec: SearchSpec, allowed: Any, limit: int | None, client: Any = None) -> Asked:
        """What travels to workers that have so many bytes; those of the client, if there is one, open the index."""
        run = Asked(self, self.plan(limit), spec, allowed)
        if client is not None:
            indexes.install(client, run.name, run.open, run.plan.need)
        return run

    def _lazily(self, queries: Any, spec: SearchSpec, allowed: Any, limit: int | None, client: Any) -> tuple[Any, Any]:
        if queries.ndim != 2 or queries.shape[1] != self.layout.d:
            raise SpecError(f"queries have shape {queries.shape}, but the index holds rows of {self.layout.d} columns")
        known = client or current_client()
        run = self._asked(spec, allowed, limit or indexes.worker_limit(known), known)
        return indexes.query_lazily(queries, spec.k, run, run.plan.need, query.no_answers())

    def verify(self) -> int:
        """Read the whole index against its checksums; returns its bytes. StoreError names what is damaged."""
        return store.verify(self.location)

    def info(self) -> dict[str, Any]:
        """n, d, n_neighbors, metric, degree, edges, partitions, recall, compares, bytes, format_version, location.

        recall: as JSON, None where it was not measured; compares: whether searches compare "codes" or exact "rows".
        """
        names = ("n", "d", "n_neighbors", "metric", "format_version", "edges")
        size = plan_search(self.layout, metric_behind(self.facts), None).index
        more = {"degree": self.layout.degree, "partitions": self.layout.partitions, "recall": self.facts.get("recall")}
        more["compares"] = self.facts.get("compares", "codes")
        return {name: self.facts[name] for name in names} | more | {"bytes": size, "location": self.location}

    def __repr__(self) -> str:
        facts = self.info()
        parts = f" in {facts['partitions']} partitions" if facts["partitions"] > 1 else ""
        return (
            f"<distnnd.Index of {self.n:,} rows{parts}, {self.metric}, {facts['edges'] / self.n:.1f} edges a row, "
            f"{format_bytes(facts['bytes'])} at {self.location}>"
        )


def ask_by_rows(index: Index, queries: Any) -> None:
    """Ask a small index by exact rows, whatever its codes tell, so that what this needs is compiled."""
    query.try_rows(query.Opened(index.location, index.facts, True, index.function), queries)


def batches(asked: Source) -> Iterator[Any]:
    """The queries of a source, a few megabytes at a time, in chunks that are read as a whole."""
    rows = strip_rows(asked.d)
    for first in range(0, asked.n, asked.chunk_rows):
        chunk = asked.read(first, min(asked.n, first + asked.chunk_rows))
        for start in range(0, len(chunk), rows):
            yield chunk[start : start + rows]


class Asked(NamedTuple):
    """A question to an index that travels to workers: what to open there and how, what is asked."""

    index: Index
    plan: SearchPlan
    spec: SearchSpec
    allowed: Any

    @property
    def name(self) -> str:
        """The name of the index on a worker."""
        return f"distnnd-{self.index.facts['uuid']}-{'whole' if self.plan.whole else 'parts'}"

    @property
    def open(self) -> Callable[[], query.Opened]:
        """What opens the index in another process."""
        return partial(
            query.Opened, self.index.location, self.index.facts, self.plan.whole, self.index.function, self.plan.room
        )

    def answers(self, opened: query.Opened, queries: Any, threads: int = 1) -> Any:
        """ids and distances of the queries."""
        points = query.check_queries(queries, self.index.facts, opened.metric)
        allowed = None if self.allowed is None else query.allowed_positions(opened, self.allowed)
        return query.answer(opened, points, self.spec, allowed, threads)

    def __call__(self, queries: Any) -> Any:
        """The same in one array, by the index that this process has opened."""
        opened = indexes.opened(self.name, self.open)
        return query.side_by_side_of(*self.answers(opened, queries))
