"""Rounding: what becomes of points that are compared as another dtype than they are stored in.

Rows of float64 are moved to a centre and scaled, so that float32 can hold their squared distances (values/plan.py:
Shift); where the points are rounded as they are read, it is counted how many rows became equal by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..kernels.equal_rows import count_made_equal, hashes
from ..kernels.random import seed_of
from ..kernels.rows import prepare
from ..storage import mailbox
from ..storage.formats import LARGEST_WHOLE
from ..storage.source import Source, SparseSource, reopen_source
from ..values.memory import SLACK, strip_rows
from ..values.plan import Job, Shift, Stage, Task
from .measured import measured

CENTRE = 8  # part of a seed, after those of other stages
# Rows of which the median is the centre.
ROWS = 1024
# The largest number after scaling, by the root of the columns: sums of squares stay below float32's largest number.
LARGEST = 2.0**58
# Squares of smaller numbers vanish from float32.
LEAST = 2.0**-63
# Sizes of rows are counted by so many powers of two, under such names.
STEP, SIZE = 16, "size "
# Of about so many rows at most it is told whether they became equal.
COMPARED = 2**20


def rows_for_centre(job: Job) -> np.ndarray:
    """The rows of which the centre is the median, the same in every task: int64, ascending; none where none is asked.

    Distances do not change with the centre where rows are laid out for euclidean ones.
    """
    n = job.layout.n if job.kind.double and job.kind.euclidean else 0
    draw = np.random.default_rng(seed_of(job.spec.random_state, CENTRE))
    return np.sort(draw.choice(n, min(n, ROWS), replace=False)) if n else np.empty(0, np.int64)


def plan_centre(job: Job) -> Stage:
    """One task."""
    bytes_of_row = 8 * (job.layout.d + 3 * job.kind.laid_out_columns(job.layout.d))
    return Stage("centre", run_centre, [Task("centre", 0, 0)], SLACK + ROWS * bytes_of_row)


@measured
def run_centre(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Write the median of the chosen rows as they are prepared: float64[c]; no outlier draws it away."""
    parts = [mailbox.read(job.scratch, f"centre/{block}", "points") for block in range(job.layout.blocks)]
    rows = np.concatenate(parts)
    columns = job.kind.laid_out_columns(job.layout.d)
    # Without a place for zero rows: they are no more than a few zeros here.
    prepared = prepare(rows, job.kind, columns, 0.0, shift=Shift())
    centre = np.median(prepared, axis=0)
    mailbox.write(job.scratch, "centre/all", {"row": centre})
    return {}, rows.nbytes, centre.nbytes


def shift_of(job: Job, largest: float) -> Shift:
    """How rows are moved and scaled; largest: of all numbers of the rows after the metric's steps."""
    if not job.kind.double:
        return Shift()
    centre: tuple[float, ...] = ()
    if job.kind.euclidean:
        centre = tuple(mailbox.read(job.scratch, "centre/all", "row").tolist())
    if job.kind.unit or largest == 0:
        return Shift(centre)
    return Shift(centre, scale_for(job, largest))


def scale_for(job: Job, largest: float) -> float:
    """The power of two that brings the largest number near LARGEST; none is farther from the centre than twice it."""
    columns = job.kind.laid_out_columns(job.layout.d)
    return 2.0 ** math.floor(math.log2(LARGEST / (2 * largest * columns**0.5)))


def sizes_of(reach: np.ndarray) -> dict[str, int]:
    """How many rows have their largest number within which powers of two; reach: that number, float64[m]."""
    powers, counts = np.unique(np.frexp(reach[reach > 0])[1] // STEP, return_counts=True)
    return {f"{SIZE}{power}": int(count) for power, count in zip(powers, counts, strict=True)}


def count_vanishing(job: Job, counters: Mapping[str, float], largest: float) -> int:
    """How many float64 rows are so much smaller than the largest that float32 loses squares between them.

    counters: of the scan, with those of `sizes_of`. Metrics without an inner form look at the rows themselves.
    """
    if not job.kind.double or job.kind.form != "inner" or largest == 0:
        return 0
    told = math.log2(LEAST / scale_for(job, largest))
    sizes = {int(name.removeprefix(SIZE)): count for name, count in counters.items() if name.startswith(SIZE)}
    return int(sum(count for power, count in sizes.items() if STEP * (power + 1) <= told))


# --- rows that rounding made equal -----------------------------------------------------------------


def note_rounding(job: Job, task: Task) -> int:
    """Write hashes of sampled rows of a block before and after rounding; how many, 0 where nothing is rounded."""
    first, last = job.layout.block(task.index)
    source = reopen_source(job.source, sparse=job.layout.sparse)
    step = max(source.chunk_rows, strip_rows(job.layout.d))
    pieces = [
        sampled(source, start, min(start + step, last), -(-job.layout.n // COMPARED))
        for start in range(first, last, step)
        if rounds(source, start)
    ]
    if not pieces:
        return 0
    before, after = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    mailbox.write(job.scratch, f"rounded/{task.index}", {"before": before, "after": after})
    return len(before)


def rounds(source: Source | SparseSource, row: int) -> bool:
    """Whether numbers like those of that row may be rounded as they are read."""
    if isinstance(source, Source) and source.lossless:
        return False
    stored = source.stored_dtype if isinstance(source, SparseSource) else source.as_stored(row, row + 1).dtype
    if stored.kind in "iu" and source.dtype == np.float64:
        return stored.itemsize == 8
    return not np.can_cast(stored, source.dtype, "safe")


def sampled(source: Source | SparseSource, start: int, stop: int, slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of rows start .. stop, before and after rounding, of one of so many slices of all rows."""
    if isinstance(source, SparseSource):
        before, after = hashes(source.read(start, stop, np.float64)), hashes(source.read(start, stop))
    else:
        stored = source.as_stored(start, stop)
        if stored.dtype.kind in "iu" and stored.max() <= LARGEST_WHOLE and stored.min() >= -LARGEST_WHOLE:
            stored = stored.astype(np.float64)
        before, after = hashes(stored), hashes(source.read(start, stop))
    kept = after % np.uint64(slices) == 0
    return before[kept], after[kept]


def count_equal(job: Job, noted: list[int]) -> int:
    """About how many rows became equal to others that they differed from; noted: by each block of the scan."""
    blocks = [block for block, count in enumerate(noted) if count]
    if not blocks:
        return 0
    read = [[mailbox.read(job.scratch, f"rounded/{block}", name) for block in blocks] for name in ("before", "after")]
    before, after = (np.concatenate(parts) for parts in read)
    return count_made_equal(before, after) * -(-job.layout.n // COMPARED)
