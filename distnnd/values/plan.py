"""A plan is what will be done, as plain values: which stages, which tasks, how many bytes each may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .metric import Metric, of_sparse
from .spec import BuildSpec, format_bytes

# Wider rows are never tried with a k-d tree: none was seen that it suits, and its memory grows with them.
TREE_COLUMNS = 40


class Sparsity(NamedTuple):
    """What a plan must know of sparse points beside their size.

    entries: how many are stored; products: about how many entries all rows would go through, the sum over the columns
    of the squared number of rows that have them; densest: for each power of two from 1 on the most entries that so many
    rows have which are read together.
    """

    entries: int
    products: float
    densest: tuple[int, ...]

    def most(self, rows: int) -> int:
        """The most entries of a block of that many rows, a power of two."""
        return self.densest[min(rows.bit_length() - 1, len(self.densest) - 1)]


class Extent(NamedTuple):
    """The size of a source: n rows of d numbers of `dtype`, read `chunk_rows` at a time; sparsity: of sparse points."""

    n: int
    d: int
    dtype: str
    chunk_rows: int = 1
    sparsity: Sparsity | None = None


class Cut(NamedTuple):
    """How a plan is to be cut although memory does not ask for it, as `distnnd.testing.forced_partitions` wants it.

    partitions: how many; block_rows: consecutive rows of a block; cap: most rows of a local task, None for no bound;
    sketches: whether sparse points that would be compared with all others go through partitions of sketches instead.
    """

    partitions: int
    block_rows: int
    cap: int | None = None
    sketches: bool = False


@dataclass(frozen=True)
class Layout:
    """How the data is cut.

    n, d: rows and columns; dtype: of the points as read; width: columns of a prepared row (d, or d + 1 where zero
    rows need a place of their own); block_rows: consecutive rows of one block of the source and of the graph;
    partitions: how many; fanout: partitions a row looks for its neighbours in; copies: those it is written to, both
    on the average; cap: most rows of a unit, which is what one local task holds; probes: rows solved exactly; sample:
    rows kept aside to draw pivots from; exact: so few rows that all pairs are compared; chunk_rows: rows that the
    source reads at a time; leaves: of the whole set, to which rows may be routed, 0 where partitions are to grow their
    own; entries: of sparse points, how many a local task holds, None for dense ones; block_entries: the
    most that a block has; longest: entries that a list may grow to, 0 for as many as are of use.
    """

    n: int
    d: int
    dtype: str
    block_rows: int
    partitions: int = 1
    fanout: float = 1
    copies: float = 1
    cap: int = 0
    probes: int = 0
    sample: int = 0
    exact: bool = False
    chunk_rows: int = 1
    leaves: int = 0
    entries: int | None = None
    block_entries: int = 0
    longest: int = 0

    @property
    def sparse(self) -> bool:
        """Whether the points are sparse."""
        return self.entries is not None

    @property
    def exchanges(self) -> bool:
        """Whether rows travel between partitions."""
        return self.partitions > 1 and not self.exact

    def columns_held(self, metric: Metric) -> int:
        """Columns that a row takes as it is read, dense, or as a sparse one is laid out by the metric."""
        return metric.laid_out_columns(self.d) if self.sparse else self.d

    def held_by(self, metric: Metric) -> Layout:
        """The same with the columns that rows are laid out in: what tasks hold of sparse rows beside what they list."""
        return replace(self, d=self.columns_held(metric), chunk_rows=1) if self.sparse else self

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.n // self.block_rows)

    def block(self, index: int) -> tuple[int, int]:
        """First row and end of block `index`."""
        return index * self.block_rows, min(self.n, (index + 1) * self.block_rows)


class Shift(NamedTuple):
    """How float64 rows are moved and scaled as they are prepared, so that float32 can hold their squared distances.

    centre: float64 numbers, subtracted after the metric's steps (and after scaling to unit length); empty for nothing.
    scale: a power of two, by which rows are multiplied then; surrogates grow by its square.
    """

    centre: tuple[float, ...] = ()
    scale: float = 1.0

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Shift:
        """The one that the facts of a graph tell; of points that are not float64 there is none to speak of."""
        scanned = facts.get("scan") or {}
        return cls(tuple(scanned.get("centre", ())), scanned.get("scale", 1.0))


# Of rows that are prepared as they are.
AS_THEY_ARE = Shift()


@dataclass(frozen=True)
class Job:
    """All that a task must know besides its own number; small, so that it travels with every task.

    source: description from which a worker opens the points; out, scratch: locations of the graph store and of the
    mailboxes; threads: how many threads one task may use; zero_rows: whether the data holds rows of
    zeros; radius: the largest norm of a row, where the metric needs it; shift: of float64 rows; bounded: whether the
    memory of the process is, so that it must not keep a compiler's; slots: threads of a worker that may be busy at a
    time, 0 for all; room: bytes that the tasks of a worker may take together, 0 where nobody counts.
    """

    uuid: str
    spec: BuildSpec
    layout: Layout
    source: dict[str, Any]
    out: str
    scratch: str
    threads: int = 1
    zero_rows: bool = False
    radius: float = 0.0
    bounded: bool = False
    shift: Shift = AS_THEY_ARE
    slots: int = 0
    room: int = 0

    @property
    def kind(self) -> Metric:
        """The metric as the points of the job take it."""
        return of_sparse(self.spec.kind) if self.layout.sparse else self.spec.kind

    @property
    def exchange_dtype(self) -> str | None:
        """The dtype in which prepared rows travel between partitions, if they do not travel as they are read."""
        return self.spec.exchange_dtype if self.layout.exchanges else None

    @property
    def compares(self) -> tuple[Metric, str]:
        """The metric, and the dtype of the rows: what decides which kernels are called."""
        return self.kind, self.layout.dtype


@dataclass(frozen=True)
class Task:
    """One call of a stage's function: its round, its number and a few numbers of its own."""

    stage: str
    round: int
    index: int
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a task says when it is done: counters, bytes read and written, seconds, peak memory in bytes."""

    counters: dict[str, float] = field(default_factory=dict)
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    peak: int = 0


@dataclass(frozen=True)
class Stage:
    """A plain function and the list it is mapped over.

    run: called as run(job, task); projected: bytes of memory one task may take at most, its worker's own aside;
    threads: that one task uses.
    """

    name: str
    run: Callable[[Job, Task], Report]
    tasks: list[Task]
    projected: int
    threads: int = 1

    def at_once(self, threads: int, room: int = 0) -> int:
        """Tasks that may run side by side in a worker of so many threads, whose tasks have `room` bytes; 0: any."""
        most = max(threads // self.threads, 1)
        return max(min(most, room // max(self.projected, 1)), 1) if room else most


@dataclass(frozen=True)
class StageCost:
    """A line of the plan's table: bytes per task, and bytes read and written by all tasks of one run of the stage.

    at_once: tasks that run side by side in a worker.
    """

    name: str
    tasks: int
    projected: int
    read: int
    written: int
    each_round: bool
    at_once: int = 1


@dataclass(frozen=True)
class Plan:
    """The whole build before it starts: the layout, the costs of its stages, and what it needs of the machine.

    task_memory: bytes that the tasks of a worker may take together; worker_memory: bytes of a whole worker, of which
    `share` may be used, `reserved` of them its own; threads: that a worker uses, of those `available`; workers: how
    many there are; disk: bytes of scratch needed at most; graph: bytes of the result.
    """

    spec: BuildSpec
    layout: Layout
    costs: tuple[StageCost, ...]
    task_memory: int
    worker_memory: int
    reserved: int
    threads: int
    disk: int
    graph: int
    workers: int = 1
    share: float = 1.0
    available: int = 0

    @property
    def peak(self) -> int:
        """Bytes one worker takes at most: its own, and those tasks of the largest stage that run side by side."""
        return self.reserved + max(cost.projected * cost.at_once for cost in self.costs)

    @property
    def task_threads(self) -> int:
        """Threads that a task uses which compares all pairs or improves the lists of a partition."""
        heavy = next((cost for cost in self.costs if cost.name in ("local", "blocks")), None)
        return max(self.threads // heavy.at_once, 1) if heavy else 1

    @property
    def may_use_trees(self) -> bool:
        """Whether partitions may be solved by a k-d tree instead of leaves; a trial in each of them decides."""
        layout = self.layout
        return not (layout.exact or layout.sparse) and self.spec.kind.euclidean and layout.d < TREE_COLUMNS

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON: sizes in bytes."""
        layout = {key: getattr(self.layout, key) for key in self.layout.__dataclass_fields__}
        stages = [{key: getattr(cost, key) for key in cost.__dataclass_fields__} for cost in self.costs]
        names = ("task_memory", "worker_memory", "share", "reserved", "workers", "threads")
        numbers = {key: getattr(self, key) for key in names}
        sizes = {"peak": self.peak, "disk": self.disk, "graph": self.graph}
        return {"spec": self.spec.to_json(), "layout": layout, "stages": stages, **numbers, **sizes}

    def __str__(self) -> str:
        layout = self.layout
        how = "all pairs, exact" if layout.exact else f"{layout.partitions} partition(s), fanout {layout.fanout}"
        sent = (
            f" sent as {self.spec.exchange_dtype}" if self.spec.exchange_dtype is not None and layout.exchanges else ""
        )
        points = layout.dtype + sent
        if layout.sparse:
            points = "sparse"
            how = f"{layout.blocks} block(s), each with all rows, exact" if layout.exact else how + ", by sketches"
        lines = [
            f"{layout.n:,} x {layout.d} {points}, k = {self.spec.n_neighbors}, {self.spec.metric}: {how}",
            f"{'stage':<10}{'tasks':>8}{'at once':>9}{'memory/task':>14}{'read':>12}{'written':>12}",
        ]
        for cost in self.costs:
            row = (format_bytes(cost.projected), format_bytes(cost.read), format_bytes(cost.written))
            name = cost.name + (" *" if cost.each_round else "")
            lines.append(f"{name:<10}{cost.tasks:>8}{cost.at_once:>9}{row[0]:>14}{row[1]:>12}{row[2]:>12}")
        lines.append("* each round")
        if self.may_use_trees:
            lines.append("a partition is solved exactly by a k-d tree if a trial in it finds that cheaper")
        lines += self._about_workers()
        lines.append(
            f"worker memory {format_bytes(self.peak)} at most of {format_bytes(self.worker_memory)}; "
            f"scratch disk {format_bytes(self.disk)}; graph {format_bytes(self.graph)}"
        )
        return "\n".join(lines)

    def _about_workers(self) -> list[str]:
        """How many workers and threads there are, and what is to be known of them."""
        fewer = f" of {self.available}, as more do not fit the memory" if self.threads < self.available else ""
        lines = [f"{self.workers} worker(s), {self.threads} thread(s) each{fewer}"]
        if self.share < 1:
            lines.append(f"{self.share:.0%} of a worker's memory is used, as Dask spills and pauses above that")
        if self.workers > 1 and self.layout.partitions == 1:
            lines.append(
                f"all rows fit one task, so one worker does the work; partitions={self.workers} would share it out, "
                "for about twice the work in all"
            )
        return lines
