"""An index and its queries as plain values: what is asked for, how rows are cut, and the bytes that tasks may take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from . import memory
from .errors import BudgetError, SpecError, brief
from .metric import Metric, metric_behind
from .partitioning import companion_cap
from .spec import format_bytes, real_number, whole_number

# Rows that a search notes down to look at them later; only a wide epsilon has more.
POOL = 2048
# The bound follows this answer at least: the first few alone would end a search before it has come near.
FOLLOWED = 10
# Where products are compared: the largest few, of the longest rows, stand far before all others.
FOLLOWED_PRODUCTS = 40
# Queries that are answered together: their codes, entries and candidates are held for so many.
AT_ONCE = 1024
# Pivots: so many times the root of n, where searches begin; a query begins at the nearest few.
PIVOTS, LEAST_PIVOTS, ENTRIES = 4.0, 64, 4
# Where a graph is in pieces, a query begins on each piece that has one of so many nearest pivots, on so many at most.
PIECES, VISITED = 32, 4
# Rows that are compared at a time where all of them are.
EXHAUSTED = 65536
# Rows from which the coder of an index learns, and rows that are placed by one task.
SAMPLED, PLACED = 16384, 65536
# A query is sent to each partition that has one of its nearest pivots: of so many for each partition that there is.
SIGHT = 8
# Edges of a row are whole lines of memory.
EDGES = 16
# Where so few rows are allowed as answers, all of them are compared instead.
FEW_ALLOWED = 0.02, 4096
# What a worker that answers holds beside the index: its interpreter, compiled kernels, a batch.
OWN = 300 * 2**20


def _share(name: str, value: Any, least: float, most: float) -> float:
    number = real_number(value)
    if number is None or not least <= number <= most:
        raise SpecError(f"{name} is a number from {least} to {most}, not {brief(value)}")
    return number


@dataclass(frozen=True)
class IndexSpec:
    """How a graph is pruned; names and meanings are PyNNDescent's.

    pruning_degree_multiplier: most edges of a row, as a multiple of n_neighbors; diversify_prob: probability that an
    edge is dropped which searches can do without, 0 to keep all. random_state: seed. SpecError for values out of range.
    """

    pruning_degree_multiplier: float = 2.0
    diversify_prob: float = 1.0
    random_state: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (("pruning_degree_multiplier", 0.1, 100.0), ("diversify_prob", 0.0, 1.0)):
            object.__setattr__(self, name, _share(name, getattr(self, name), least, most))
        object.__setattr__(self, "random_state", whole_number("random_state", self.random_state, 0))

    def degree(self, n_neighbors: int) -> int:
        """Edges of a row at most."""
        return max(round(self.pruning_degree_multiplier * n_neighbors), 2)


@dataclass(frozen=True)
class SearchSpec:
    """What is asked of an index.

    k: answers for each query. epsilon: a search follows the edges of a row if it is at most this share farther from
    the query than the k-th nearest row found so far (at least the tenth). Distances are those that the index compares:
    euclidean, or under cosine the euclidean distance of rows of unit length. ef: instead of epsilon, the search follows
    the `ef` nearest rows, as in HNSW. radius: largest distance of an answer. SpecError for values out of range.
    """

    k: int = 10
    epsilon: float = 0.1
    ef: int | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", whole_number("k", self.k, 1))
        object.__setattr__(self, "epsilon", _share("epsilon", self.epsilon, 0, 10))
        if self.ef is not None:
            object.__setattr__(self, "ef", whole_number("ef", self.ef, 1))
        if self.radius is not None:
            radius = real_number(self.radius)
            if radius is None or not math.isfinite(radius):
                raise SpecError(f"radius is a distance, not {brief(self.radius)}")
            object.__setattr__(self, "radius", radius)

    def check_rows(self, n: int) -> None:
        """SpecError unless `n` rows hold k answers."""
        if self.k > n:
            raise SpecError(f"k={self.k}, but the index holds {n} rows; ask for at most {n}")

    def followed(self, metric: Metric, n: int) -> int:
        """The answer that the bound follows."""
        return min(max(self.k, FOLLOWED if metric.euclidean else FOLLOWED_PRODUCTS), n)

    def pool(self) -> int:
        """Rows that may wait to be looked at."""
        return max(self.ef, self.k, FOLLOWED) if self.ef is not None else max(POOL, 4 * self.k)

    def factor(self, euclidean: bool) -> float:
        """By how much of the k-th surrogate the bound lies above it: squares grow by twice as much."""
        if self.ef is not None:
            return 1e6
        return (1 + self.epsilon) ** 2 - 1 if euclidean else self.epsilon

    def candidates(self, metric: Metric, n: int) -> int:
        """Rows whose exact distances are computed: estimates order them almost, but not quite."""
        return min(n, metric.selected(max(2 * self.k + 10, self.followed(metric, n))))


@dataclass(frozen=True)
class IndexLayout:
    """How an index is cut. rows: of a partition, which is a range of the index's own order.

    degree: edges that a row has at most; width: room for them, whole lines of memory.
    """

    n: int
    d: int
    dtype: str
    n_neighbors: int
    degree: int
    width: int
    partitions: int
    rows: int

    def bytes(self, metric: Metric) -> int:
        """Bytes of the index on disk, and of a process that opens all of it."""
        return self.n * index_row(metric, self.dtype, self.d, self.width)

    def range_of(self, partition: int) -> tuple[int, int]:
        """First position and end of a partition."""
        return partition * self.rows, min(self.n, (partition + 1) * self.rows)


@dataclass(frozen=True)
class IndexJob:
    """All that a task must know to make an index; small, so that it travels with every task."""

    uuid: str
    spec: IndexSpec
    layout: IndexLayout
    facts: dict[str, Any]
    graph: str
    source: dict[str, Any]
    out: str
    scratch: str
    threads: int = 1
    function: Callable[..., float] | None = None
    bounded: bool = False

    @property
    def compares(self) -> tuple[Metric, str]:
        """As Job has it."""
        return metric_behind(self.facts), self.layout.dtype


def pivot_count(n: int) -> int:
    """Pivots of an index of n rows."""
    return min(n, max(LEAST_PIVOTS, int(PIVOTS * n**0.5)))


def code_bytes(metric: Metric, d: int) -> int:
    """Bytes of the codes of a row with its square, whole lines of memory."""
    return metric.laid_out_columns(d) + 1 + 4 + 63


def exact_bytes(metric: Metric, dtype: str, d: int) -> int:
    """Bytes of a row as exact distances take it."""
    return memory.raw_bytes(metric, dtype, d) or memory.prepared_bytes(metric, dtype, d)


def index_row(metric: Metric, dtype: str, d: int, width: int) -> int:
    """Bytes of one row in the index: codes with the square, exact numbers, edges, its id."""
    return code_bytes(metric, d) + exact_bytes(metric, dtype, d) + 4 * width + 8


def prune_row(metric: Metric, dtype: str, d: int, k: int, degree: int, cut: bool) -> int:
    """Bytes per row of a partition that is pruned; cut: there are several, so that lists have to be completed.

    Rows prepared, as they came and coded, and as they are stored, with their lists as positions in the whole and in the
    partition, and lists that are completed with the companions of passes and longer ones after them: where neighbours
    lie elsewhere, or are sought by distance beside those by product. Then codes, exact rows and lists alone, what was
    kept of them, edges, and what is reached from where.
    """
    codes, width = code_bytes(metric, d), edge_width(degree)
    rows = memory.coded_bytes(metric, dtype, d) + memory.raw_bytes(metric, dtype, d) + codes
    near = 0 if metric.euclidean else k
    completing = 17 * k + 8 * companion_cap(k) + 40 if cut or near else 0
    known = 12 * k + 4 * k * cut + 4 * near + 20
    kept = 4 * min(2 * k if cut else k, degree)
    edges = (2 * kept + 8 * min(near, degree) if near else kept) + 4 * degree + 8 * width + 32
    exact = exact_bytes(metric, dtype, d)
    return max(rows + exact + known + completing, codes + exact + known + edges)


def edge_width(degree: int) -> int:
    """Room for the edges of a row, whole lines of memory."""
    return -(-degree // EDGES) * EDGES


def prune_fixed(n: int, d: int, k: int, cut: bool) -> int:
    """Bytes of such a task beside them: where each row of the graph stands, a strip of points and of lists.

    cut: lists are completed, which takes the finds and the holders of a pass of NN-descent.
    """
    passes = 2 * 12 * memory.DESCENT_ROWS * memory.DESCENT_FINDS + 4 * memory.DRAWN_AT_ONCE * (memory.HOLDERS + 1)
    strips = memory.strip_rows(d) * 24 * d + 3 * 131072 * 16 * k
    return memory.SLACK + 8 * n + strips + cut * passes


def lay_out_index(
    spec: IndexSpec, metric: Metric, n: int, d: int, dtype: str, k: int, task_memory: int, partitions: int | None = None
) -> IndexLayout:
    """The fewest partitions that tasks of so many bytes can prune, or as many as are asked for.

    BudgetError with what is needed, what there is and what would fit.
    """
    degree = spec.degree(k)
    wanted = None if partitions is None else min(whole_number("partitions", partitions, 1), n)
    row, fixed = prune_row(metric, dtype, d, k, degree, False), prune_fixed(n, d, k, not metric.euclidean)
    cut = fixed + n * row > task_memory if wanted is None else wanted > 1
    if cut:
        row, fixed = prune_row(metric, dtype, d, k, degree, True), prune_fixed(n, d, k, True)
    room = (task_memory - fixed) // row
    rows = -(-n // (wanted or (-(-n // max(room, 1)) if cut else 1)))
    if rows > room or rows < min(n, 4 * k):
        least = fixed + row * min(n, max(4 * k, 1024))
        raise BudgetError(
            f"pruning partitions of {rows:,} rows takes {format_bytes(fixed + row * rows)}, but a task has "
            f"{format_bytes(task_memory)}; give workers more memory (at least {format_bytes(least)} a task), "
            "or cut into more partitions"
        )
    return IndexLayout(n, d, dtype, k, degree, edge_width(degree), -(-n // rows), rows)


def prune_bytes(metric: Metric, layout: IndexLayout) -> int:
    """Bytes that a task takes to prune a partition of such an index."""
    k, cut = layout.n_neighbors, layout.partitions > 1
    row = prune_row(metric, layout.dtype, layout.d, k, layout.degree, cut)
    return prune_fixed(layout.n, layout.d, k, cut) + row * layout.rows


@dataclass(frozen=True)
class IndexPlan:
    """What an index would be, before it is made.

    metric: its name. worker_memory, task_memory: bytes of a worker, and of them those that a task may take; projected:
    bytes that the largest task takes; threads: of a task. index: bytes on disk, and of a process that opens it whole.
    """

    spec: IndexSpec
    metric: str
    layout: IndexLayout
    worker_memory: int
    task_memory: int
    projected: int
    threads: int
    index: int

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON: sizes in bytes."""
        return asdict(self)

    def __str__(self) -> str:
        layout = self.layout
        cut = f"{layout.partitions} partitions of {layout.rows:,} rows" if layout.partitions > 1 else "one partition"
        return (
            f"{layout.n:,} x {layout.d} {layout.dtype}, {self.metric}: at most {layout.degree} edges a row, {cut}\n"
            f"the largest task takes {format_bytes(self.projected)} of memory; a worker has "
            f"{format_bytes(self.worker_memory)}\n"
            f"the index takes {format_bytes(self.index)}, on disk and in a process that opens all of it"
        )


@dataclass(frozen=True)
class SearchPlan:
    """How a worker of so many bytes holds an index: whole, or one partition after the other."""

    whole: bool
    partitions: int
    index: int
    partition: int
    limit: int | None

    @property
    def need(self) -> int:
        """Bytes that a worker must have."""
        return (self.index if self.whole else self.partition) + OWN

    @property
    def room(self) -> int | None:
        """Bytes for what is opened by partitions, beside what a worker holds; None where all of it is kept."""
        return None if self.whole or self.limit is None else self.limit - OWN

    def __str__(self) -> str:
        limit = "without a limit" if self.limit is None else f"of {format_bytes(self.limit)}"
        if self.whole:
            return f"each worker {limit} opens the whole index, {format_bytes(self.index)}"
        return (
            f"each worker {limit} opens the index, {format_bytes(self.index)}, partition by partition: "
            f"{self.partitions} of {format_bytes(self.partition)}; a query goes to those of its nearest "
            f"{SIGHT * self.partitions} pivots"
        )


def plan_search(layout: IndexLayout, metric: Metric, limit: int | None) -> SearchPlan:
    """How workers with that limit search; BudgetError where not even a partition fits."""
    row = index_row(metric, layout.dtype, layout.d, layout.width)
    index, partition = row * layout.n, row * layout.rows
    plan = SearchPlan(limit is None or index + OWN <= limit, layout.partitions, index, partition, limit)
    if not plan.whole and limit is not None and (plan.need > limit or layout.partitions == 1):
        advice = "build the index anew with more partitions" if layout.partitions > 1 else "build it with partitions="
        raise BudgetError(
            f"a partition of this index takes {format_bytes(plan.need)} of a worker, which has {format_bytes(limit)}; "
            f"give workers more memory, or {advice}{'' if layout.partitions > 1 else f'{-(-2 * index // limit)}'}"
        )
    return plan
