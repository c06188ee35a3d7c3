"""Rows as tasks get them: a block of the source, raw or prepared for the metric, and the fixed random rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..kernels.forms import own_form
from ..kernels.judge import Judge, as_they_came, judge_of
from ..kernels.random import seed_of
from ..kernels.rows import prepare, prepared_width
from ..kernels.transforms import check_columns
from ..storage import mailbox
from ..storage.source import reopen_source
from ..values.memory import laid_out_rows, strip_rows
from ..values.metric import Metric
from ..values.plan import Job
from ..values.spec import BuildSpec

SAMPLE, PROBES = 1, 2  # what chosen rows are for: a part of their seed


class Held(NamedTuple):
    """Rows as a task holds them. points: prepared [m, width]; raw: as a judge takes them, None where none is needed."""

    points: np.ndarray
    raw: np.ndarray | None


class Ruler(NamedTuple):
    """How rows are prepared and measured. d: columns; zero_rows, radius: as in Job; function: the user's own metric."""

    metric: Metric
    d: int
    zero_rows: bool
    radius: float
    function: Callable[..., float] | None = None

    @classmethod
    def of(cls, job: Job) -> Ruler:
        """The one of a job."""
        return cls(job.spec.kind, job.layout.d, job.zero_rows, job.radius, job.spec.function)

    def hold(self, points: np.ndarray, only_judged: bool = False) -> Held:
        """Rows as they were read, [m, d], ready for a task.

        only_judged: they are compared as they came, if that is how the metric judges, and need not be laid out.
        """
        if only_judged and self.metric.form != "inner":
            return Held(points, as_they_came(points, points, self.metric))
        width = prepared_width(self.metric, points.dtype, self.d, self.zero_rows)
        prepared = prepare(points, self.metric, width, self.radius)
        return Held(prepared, as_they_came(points, prepared, self.metric))

    def judge(self, held: Held) -> Judge:
        """Who settles lists of these rows."""
        return judge_of(*held, self.metric, self.d, self.function)


def check_points(spec: BuildSpec, d: int, dtype: str) -> None:
    """SpecError or InputError unless the metric and its parameters fit points of d columns of that dtype."""
    spec.check_metric(d)
    if spec.function is not None:
        own_form(spec.function, d)
    else:
        check_columns(spec.kind, d, dtype)


def width_of(job: Job) -> int:
    """Columns of a prepared row of the job."""
    return prepared_width(job.spec.kind, job.layout.dtype, job.layout.d, job.zero_rows)


def read_strips(job: Job, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
    """Rows first .. last of the source in pieces (row id of the first, points [m, d]) that follow its own chunks.

    Where rows become wider as they are laid out, pieces are shorter by as much.
    """
    source = reopen_source(job.source)
    rows = source.chunk_rows * max(1, strip_rows(job.layout.d) // source.chunk_rows)
    start, piece = first, laid_out_rows(job.spec.kind, job.layout.d, rows)
    while start < last:
        stop = min(last, start - start % rows + rows)
        strip = source.read(start, stop)
        for at in range(0, len(strip), piece):
            yield start + at, strip[at : at + piece]
        start = stop


def read_rows(job: Job, first: int, last: int, only_judged: bool = False) -> Held:
    """Rows first .. last of the source; beside them only a strip is held. only_judged: as Ruler.hold has it."""
    pieces = ((start - first, piece) for start, piece in read_strips(job, first, last))
    return assemble(job, last - first, pieces, only_judged)


def assemble(job: Job, count: int, pieces: Iterable[tuple[int, np.ndarray]], only_judged: bool = False) -> Held:
    """`count` rows from (position, rows as they were read) pieces."""
    held, ruler = None, Ruler.of(job)
    for at, piece in pieces:
        part = ruler.hold(piece, only_judged)
        if held is None:
            held = _room_for(count, part)
        held.points[at : at + len(piece)] = part.points
        if held.raw is not None and held.raw is not held.points:
            held.raw[at : at + len(piece)] = part.raw
    assert held is not None, "a task was planned without rows"
    return held


def _room_for(count: int, part: Held) -> Held:
    """Room for `count` rows like these."""
    points = np.empty((count, part.points.shape[1]), part.points.dtype)
    if part.raw is None or part.raw is part.points:
        return Held(points, part.raw if part.raw is None else points)
    return Held(points, np.empty((count, part.raw.shape[1]), part.raw.dtype))


def chosen_rows(job: Job, what: int) -> np.ndarray:
    """The rows drawn for the sample or for the probes, the same in every task: int64, ascending."""
    count = job.layout.sample if what == SAMPLE else job.layout.probes
    draw = np.random.default_rng(seed_of(job.spec.random_state, what))
    return np.sort(draw.choice(job.layout.n, count, replace=False))


def read_chosen(job: Job, place: str, only_judged: bool = False) -> Held:
    """The rows that the scan kept at `place`, in the order of chosen_rows. only_judged: as Ruler.hold has it."""
    return Ruler.of(job).hold(mailbox.read(job.scratch, f"{place}/all", "points"), only_judged)
