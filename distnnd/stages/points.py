"""Rows as tasks get them: a block of the source, raw or prepared for the metric, and the fixed random rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..kernels.forms import own_form
from ..kernels.judge import Judge, as_they_came, judge_of
from ..kernels.own_metric import Rows, check_compiles
from ..kernels.random import seed_of
from ..kernels.rows import prepare, prepared_width
from ..kernels.scratch import on_lines
from ..kernels.sparse_distances import SparseRows, as_compared, listed
from ..kernels.transforms import check_columns, finish
from ..storage import listings, mailbox
from ..storage.source import reopen_source
from ..values.errors import SpecError
from ..values.memory import laid_out_rows, strip_rows
from ..values.metric import SKETCH, Metric
from ..values.plan import AS_THEY_ARE, Job, Shift
from ..values.points import Csr, together
from ..values.sparse_plan import check_sparse
from ..values.spec import BuildSpec

SAMPLE, PROBES = 1, 2  # what chosen rows are for: a part of their seed


class Held(NamedTuple):
    """Rows as a task holds them. points: prepared [m, width]; raw: as a judge takes them, None where none is needed."""

    points: np.ndarray
    raw: Any


class Ruler(NamedTuple):
    """How rows are prepared and measured.

    d: columns; zero_rows, radius, shift: as in Job; function: the user's own metric.
    """

    metric: Metric
    d: int
    zero_rows: bool
    radius: float
    function: Callable[..., float] | None = None
    shift: Shift = AS_THEY_ARE

    @classmethod
    def of(cls, job: Job) -> Ruler:
        """The one of a job."""
        return cls(job.kind, job.layout.d, job.zero_rows, job.radius, job.spec.function, job.shift)

    def prepare(self, points: np.ndarray | Csr, room: np.ndarray | None = None) -> np.ndarray:
        """Rows as they are compared, [m, width]; room: where they are to stand, if anywhere."""
        dtype = np.dtype(np.float32) if isinstance(points, Csr) else points.dtype
        width = prepared_width(self.metric, dtype, self.d, self.zero_rows)
        return prepare(points, self.metric, width, self.radius, room, self.shift)

    def finish(self, distances: np.ndarray) -> np.ndarray:
        """The distances that the user sees, float32, of those that lists hold."""
        return distances if self.metric.judged else finish(distances, self.metric, self.shift.scale)

    def hold(self, points: np.ndarray | Csr, only_judged: bool = False, room: np.ndarray | None = None) -> Held:
        """Rows as they were read, [m, d], ready for a task.

        only_judged: they are compared as they came, if that is how the metric judges, and need not be laid out; room:
        where they are laid out, if anywhere.
        """
        if isinstance(points, Csr):
            raw = listed(as_compared(points, self.metric))
            if only_judged:
                return Held(np.empty((points.rows, 0), np.float32), raw)
            return Held(self.prepare(points, room), raw)
        if only_judged and self.metric.form != "inner":
            return Held(points, as_they_came(points, points, self.metric))
        prepared = self.prepare(points, room)
        return Held(prepared, as_they_came(points, prepared, self.metric))

    def judge(self, held: Held) -> Judge:
        """Who settles lists of these rows."""
        return judge_of(*held, self.metric, self.d, self.function)


def check_points(spec: BuildSpec, d: int, dtype: str, sparse: bool = False) -> None:
    """SpecError or InputError unless the metric and its parameters fit points of d columns of that dtype."""
    spec.check_metric(d)
    check_exchange_dtype(spec, "sparse" if sparse else dtype)
    if sparse:
        check_sparse(spec.kind)
    if spec.function is not None:
        own_form(spec.function, d, sparse)
        check_compiles(spec.function, Rows(d, sparse, spec.kind.double))
    else:
        check_columns(spec.kind, d, dtype)


def check_exchange_dtype(spec: BuildSpec, dtype: str) -> None:
    """SpecError unless rows of that dtype, or "sparse", can travel as they are asked to under the metric."""
    if spec.exchange_dtype is None:
        return
    if dtype != "float32":
        raise SpecError(
            f"exchange_dtype={spec.exchange_dtype!r} is for float32 points, and {dtype} points travel as they are; "
            + ('leave it out, or add dtype="float32"' if dtype == "float64" else "leave exchange_dtype out")
        )
    kind = spec.kind
    if kind.form != "inner" or not kind.euclidean or kind.judged or kind.packed:
        raise SpecError(
            f"exchange_dtype={spec.exchange_dtype!r} is for metrics that are computed from a euclidean distance, like "
            f"euclidean and cosine, and not for {spec.metric}; leave exchange_dtype out"
        )


def width_of(job: Job) -> int:
    """Columns of a prepared row of the job."""
    return prepared_width(job.kind, job.layout.dtype, job.layout.d, job.zero_rows)


def read_strips(job: Job, first: int, last: int) -> Iterator[tuple[int, Any]]:
    """Rows first .. last of the source in pieces (row id of the first, points [m, d]) that follow its own chunks.

    Where rows become wider as they are laid out, pieces are shorter by as much. Points are Csr where they are sparse.
    """
    source = reopen_source(job.source, sparse=job.layout.sparse)
    rows = source.chunk_rows * max(1, strip_rows(job.layout.d) // source.chunk_rows)
    piece = strip_rows(SKETCH) if job.layout.sparse else laid_out_rows(job.kind, job.layout.d, rows)
    start = first
    while start < last:
        stop = min(last, start - start % rows + rows)
        strip = source.read(start, stop)
        for a, b in mailbox.strips(0, stop - start, piece):
            yield start + a, strip.between(a, b) if isinstance(strip, Csr) else strip[a:b]
        start = stop


def read_rows(job: Job, first: int, last: int, only_judged: bool = False) -> Held:
    """Rows first .. last of the source; beside them only a strip is held. only_judged: as Ruler.hold has it."""
    pieces = ((start - first, piece) for start, piece in read_strips(job, first, last))
    return assemble(Ruler.of(job), last - first, pieces, only_judged)


def assemble(
    ruler: Ruler, count: int, pieces: Iterable[tuple[int | np.ndarray, Any]], only_judged: bool = False
) -> Held:
    """`count` rows from (position, rows as they were read) pieces: of the first of them, or of each, int64[m].

    Sparse rows come in the order of positions.
    """
    held, listings = None, []
    for at, piece in pieces:
        # All but the first are laid out where they stand.
        in_place = held is not None and not isinstance(at, np.ndarray) and not only_judged
        count_here = piece.rows if isinstance(piece, Csr) else len(piece)
        here = at if isinstance(at, np.ndarray) else slice(at, at + count_here)
        part = ruler.hold(piece, only_judged, held.points[here] if in_place else None)
        if held is None:
            held = _room_for(count, part)
        if not in_place:
            held.points[here] = part.points
        if isinstance(piece, Csr):
            listings.append(as_compared(piece, ruler.metric))
        elif held.raw is not None and held.raw is not held.points:
            held.raw[here] = part.raw
    assert held is not None, "a task was planned without rows"
    return held._replace(raw=listed(together(listings))) if listings else held


def _room_for(count: int, part: Held) -> Held:
    """Room for `count` rows like these."""
    points = on_lines((count, part.points.shape[1]), part.points.dtype)
    if part.raw is None or part.raw is part.points or isinstance(part.raw, SparseRows):
        return Held(points, points if part.raw is part.points else None)
    return Held(points, np.empty((count, part.raw.shape[1]), part.raw.dtype))


def chosen_rows(job: Job, what: int) -> np.ndarray:
    """The rows drawn for the sample or for the probes, the same in every task: int64, ascending."""
    count = job.layout.sample if what == SAMPLE else job.layout.probes
    draw = np.random.default_rng(seed_of(job.spec.random_state, what))
    return np.sort(draw.choice(job.layout.n, count, replace=False))


def read_chosen(job: Job, place: str, only_judged: bool = False) -> Held:
    """The rows that the scan kept at `place`, in the order of chosen_rows. only_judged: as Ruler.hold has it."""
    if job.layout.sparse:
        return Ruler.of(job).hold(listings.read(job.scratch, f"{place}/all", job.layout.d), only_judged)
    return Ruler.of(job).hold(mailbox.read(job.scratch, f"{place}/all", "points"), only_judged)
