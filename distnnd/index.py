"""An index as the user holds it: made of a graph, opened from its path, asked in this process or through Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from .progress import listening
from .runtime import indexes
from .runtime.clients import current_client
from .runtime.events import Listener, told
from .stages import query
from .storage import answers
from .storage import graph as graph_store
from .storage import index as store
from .storage.source import Source, is_dask_array, open_source
from .values.errors import SpecError, StoreError
from .values.memory import strip_rows
from .values.metric import function_of, metric_behind
from .values.recall import Recall
from .values.searching import (
    IndexLayout,
    SearchPlan,
    SearchSpec,
    plan_search,
)
from .values.spec import format_bytes, parse_bytes

# Below such a recall a warning says what to do.
POOR = 0.85
Function = Callable[..., float] | None


def open_index(location: Any, metric: str | Function = None) -> Index:
    """The index at a path or URL; only metadata are read. metric: as for build_index().

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
    return Index(place, facts, function_of(facts, metric, place))


class Index:
    """A search graph, opened for queries: opening costs metadata only; files are mapped at the first query.

    close(), or the end of a `with` block, lets go of the files, here and on the workers that have opened them.
    """

    def __init__(self, location: str, facts: dict[str, Any], function: Function = None) -> None:
        self.location, self.facts, self.function = location, facts, function
        self.layout = IndexLayout(**facts["layout"])
        self._here: query.Opened | None = None
        # Where workers were told to open it: client and name of the plugin.
        self._there: dict[tuple[int, str], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What travels to workers: they open the files themselves."""
        return self.__dict__ | {"_here": None, "_there": {}}

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files, here and on workers that opened them for queries; a later query opens them again."""
        self._here = None
        while self._there:
            (_, name), client = self._there.popitem()
            indexes.uninstall(client, name)

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

        queries: numbers [m, d], answered now; or a dask array, answered when it is computed, by workers that open the
        index themselves. epsilon: how far a search goes: it follows the edges of rows that are up to this share farther
        than the k-th nearest row found so far, as in PyNNDescent. More finds more and takes longer. ef: instead of
        epsilon, follow the `ef` nearest rows, as in HNSW. radius: largest distance of an answer; filter: the rows that
        may be answers, bool[n] or row ids. If fewer than k are left, -1 and inf fill the row. return_distances: False
        for the ids alone. threads: of this process. memory_limit: memory that the index may take; for a lazy query by
        default that of the workers. client: a Dask client, by default the current one.

        Raises InputError for queries that cannot be compared, with the first bad row; SpecError for a wrong argument,
        such as k > n; BudgetError if the workers cannot hold the index.
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
        progress: Listener | bool | None = None,
        missing: str | None = None,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Answer the queries of a file and write ids and distances, batch by batch, in memory that does not grow.

        queries: whatever build() takes as dense points; component, missing: as there. out: a new Zarr group
        with the arrays `indices` int64[m, k] and `distances` float32[m, k], or "<name>.npy" for the ids, with
        "<name>.distances.npy" beside it; what is there is whole. overwrite: True replaces answers of distnnd that are
        there already. client: a Dask client, cluster or address, whose workers answer; by default the current client,
        or this process. progress: as for build(). The other arguments are those of `query`. Returns location, queries
        (how many), k, and plan: how the index was held.

        Raises what `query` does, and SpecError if something is at `out`.
        """
        spec, place = SearchSpec(k, epsilon, ef, radius), answers.free_place(out, overwrite)
        spec.check_rows(self.n)
        asked = open_source(queries, component, missing=missing)
        if asked.d != self.layout.d:
            raise SpecError(
                f"{asked.location} holds rows of {asked.d} columns, but the index at {self.location} of {self.layout.d}"
            )
        with listening(progress) as listen, indexes.client_of(client) as own:
            limit = parse_bytes(memory_limit) or indexes.worker_limit(own)
            run = self._asked(spec, filter, limit, own)
            found = (
                (run.answers(self._opened(run.plan), batch, threads, at) for at, batch in batches(asked))
                if own is None
                else (query.apart(both) for both in indexes.in_order(own, run, run.plan.need, batches(asked)))
            )
            # What is wrong with the index or the arguments shows before anything is written.
            found = told(listen, "query", found, batch_count(asked))
            first = next(found)
            with answers.Writer(place, asked.n, k) as writer:
                for ids, distances in chain([first], found):
                    writer.append(ids, distances)
            if own is not None and own not in (client, current_client()):
                # Nobody could close it later: the client was opened for this call.
                self.close()
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
            self._there[id(client), run.name] = client
        return run

    def _lazily(self, queries: Any, spec: SearchSpec, allowed: Any, limit: int | None, client: Any) -> tuple[Any, Any]:
        if queries.ndim != 2 or queries.shape[1] != self.layout.d:
            raise SpecError(f"queries have shape {queries.shape}, but the index holds rows of {self.layout.d} columns")
        known = client or current_client()
        run = self._asked(spec, allowed, limit or indexes.worker_limit(known), known)
        return indexes.query_lazily(queries, spec.k, run, run.plan.need, query.no_answers())

    def verify(self, *, progress: Listener | bool | None = None) -> dict[str, Any]:
        """Read every chunk of the index against its checksum. progress: as for build().

        Returns n, n_neighbors, chunks and bytes, as Graph.verify does. StoreError names the chunk that is damaged.
        """
        chunks = store.chunks_of(self.location)
        with listening(progress) as listen:
            size = sum(store.read_chunk(self.location, *chunk) for chunk in told(listen, "verify", chunks, len(chunks)))
        return {"n": self.n, "n_neighbors": self.facts["n_neighbors"], "chunks": len(chunks), "bytes": size}

    def info(self) -> dict[str, Any]:
        """n, d, n_neighbors, metric, degree, edges, partitions, recall, compares, bytes, format_version, location.

        recall: as JSON, None where it was not measured; compares: whether searches compare "codes" or exact "rows".
        """
        names = ("n", "d", "n_neighbors", "metric", "format_version", "edges")
        size = self.layout.bytes(metric_behind(self.facts))
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


def batches(asked: Source) -> Iterator[tuple[int, Any]]:
    """The queries of a source, a few megabytes at a time, in chunks that are read as a whole, with each first row."""
    rows = strip_rows(asked.d)
    for first in range(0, asked.n, asked.chunk_rows):
        chunk = asked.read(first, min(asked.n, first + asked.chunk_rows))
        for start in range(0, len(chunk), rows):
            yield first + start, chunk[start : start + rows]


def batch_count(asked: Source) -> int:
    """How many these are."""
    rows, n = strip_rows(asked.d), asked.n
    return sum(-(-min(asked.chunk_rows, n - first) // rows) for first in range(0, n, asked.chunk_rows))


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

    def answers(self, opened: query.Opened, queries: Any, threads: int = 1, first: int = 0) -> Any:
        """ids and distances of the queries; first: number of the first of them, for messages."""
        points = query.check_queries(queries, self.index.facts, opened.metric, first)
        allowed = None if self.allowed is None else query.allowed_positions(opened, self.allowed)
        return query.answer(opened, points, self.spec, allowed, threads)

    def __call__(self, queries: Any, first: int = 0) -> Any:
        """The same in one array, by the index that this process has opened."""
        opened = indexes.opened(self.name, self.open)
        return query.side_by_side_of(*self.answers(opened, queries, first=first))
