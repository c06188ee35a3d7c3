"""Scan: look at every number once, before hours of work, and keep the sampled rows aside."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ..kernels.halves import as_float32
from ..kernels.transforms import LARGEST, LEAST, check_rows, degree_signs, transform, vacant
from ..storage import listings, mailbox
from ..values.errors import InputError
from ..values.memory import collect_bytes, scan_bytes
from ..values.metric import CUSTOM, Metric
from ..values.partitioning import first_width
from ..values.plan import Job, Report, Stage, Task
from ..values.points import together
from .measured import measured
from .points import PROBES, SAMPLE, chosen_rows, read_strips
from .rounding import note_rounding, rows_for_centre, sizes_of

# The largest difference of float64 numbers that a distance may be made of.
LARGEST_DISTANCE = 1e37
# Metrics of which the distance grows with a power of the numbers.
BY_POWERS = ("sqeuclidean", "inner_product", "tsss", CUSTOM)
# The metric for which NaN says that a value is missing.
GAPS = "nan_euclidean"
PLACES = {"sample": SAMPLE, "probes": PROBES}
# Where the first zero rows of each block are noted, if all rows are near them.
ZEROS = "zeros"


def plan_scan(job: Job) -> Stage:
    """One task a block."""
    tasks = [Task("scan", 0, index) for index in range(job.layout.blocks)]
    return Stage("scan", run_scan, tasks, scan_bytes(job.layout))


def plan_collect(job: Job) -> Stage:
    """One task."""
    return Stage("collect", run_collect, [Task("collect", 0, 0)], collect_bytes(job.layout.held_by(job.kind)))


@measured
def run_scan(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Check block `task.index` and write its sampled rows.

    Counters: zero_rows; radius: the largest norm; largest: the largest number, of float64 rows after the metric's
    steps, of others only where it matters if all are tiny; tiny: rows of which the squares vanish from float32;
    rounded: rows that are hashed because the points are rounded as they are read.
    """
    first, last = job.layout.block(task.index)
    # One partition needs no pivots, and solves its probe rows where it reads them.
    places = PLACES if job.layout.partitions > 1 else {}
    chosen = {place: chosen_rows(job, what) for place, what in places.items()}
    if (rows := rows_for_centre(job)).size:
        chosen["centre"] = rows
    kept: dict[str, list[np.ndarray]] = {place: [] for place in chosen}
    zero_rows, radius, largest, tiny, read = 0, 0.0, 0.0, 0, 0
    zeros: list[np.ndarray] = []
    signs: Counter[str] = Counter()
    for start, strip in read_strips(job, first, last):
        check_strip(strip, start, job.kind)
        if by_squares(job.kind):
            largest = largest if largest >= LEAST else largest_of(strip)
            tiny += count_tiny(strip)
        elif job.kind.double and not job.kind.unit:
            reach = np.abs(transform(strip, job.kind)).max(axis=1)
            largest = max(largest, float(reach.max()))
            signs.update(sizes_of(reach))
        if job.kind.unit:
            zero_rows += int(vacant(strip, job.kind).sum())
        elif not job.kind.euclidean:
            radius = max(radius, float(np.linalg.norm(transform(strip, job.kind), axis=1).max()))
        for place, rows in chosen.items():
            kept[place].append(strip[rows[(rows >= start) & (rows < start + len(strip))] - start])
        if job.kind.name != CUSTOM:
            signs.update(degree_signs(strip, job.kind))
        read += strip.nbytes
        if job.kind.zeros_are_near:
            zeros.append(start + np.flatnonzero(~strip.any(axis=1)))
    points = {place: np.concatenate(parts) for place, parts in kept.items()}
    note_zeros(job, task, zeros)
    for place, rows in points.items():
        mailbox.write(job.scratch, f"{place}/{task.index}", {"points": rows})
    counters = {"zero_rows": zero_rows, "radius": radius, "largest": largest, "tiny": tiny, **signs}
    counters["rounded"] = note_rounding(job, task)
    return counters, read, sum(rows.nbytes for rows in points.values())


@measured
def run_collect(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Put what the blocks kept together, so that later tasks read it in one call."""
    size = 0
    for place in PLACES:
        if job.layout.sparse:
            blocks = range(job.layout.blocks)
            rows = together([listings.read(job.scratch, f"{place}/{block}", job.layout.d) for block in blocks])
            listings.write(job.scratch, f"{place}/all", rows)
            size += rows.nbytes
            continue
        parts = [mailbox.read(job.scratch, f"{place}/{block}", "points") for block in range(job.layout.blocks)]
        mailbox.write(job.scratch, f"{place}/all", {"points": np.concatenate(parts)})
        size += sum(part.nbytes for part in parts)
    return {}, size, size


def check_strip(strip: np.ndarray, first: int, metric: Metric) -> None:
    """InputError names the first row that holds what the metric cannot compare; `first`: row id of strip[0]."""
    gaps = metric.name == GAPS
    numbers = np.nan_to_num(strip, nan=0.0, posinf=np.inf, neginf=-np.inf) if gaps else strip
    check_finite(numbers, first, largest_allowed(metric, strip))
    if metric.name != CUSTOM:
        check_rows(strip, metric, first)


def note_zeros(job: Job, task: Task, zeros: list[np.ndarray]) -> None:
    """Write the ids of the first zero rows of a block, as many as a list may need, where rows may not meet them."""
    if job.kind.zeros_are_near and job.layout.partitions > 1:
        width = first_width(job.spec.n_neighbors, job.layout.n, job.spec.target_recall)
        mailbox.write(job.scratch, f"{ZEROS}/{task.index}", {"rows": np.concatenate(zeros)[: width + 1]})


def by_squares(metric: Metric) -> bool:
    """Whether distances come from float32 squares, or products, of numbers as they are."""
    return not (metric.unit or metric.judged or metric.double)


def check_scale(reports: list[Report], metric: Metric) -> None:
    """InputError where the scan found that squares of all numbers would vanish: all distances would be told as 0."""
    largest = max(report.counters.get("largest", 0.0) for report in reports)
    if by_squares(metric) and 0 < largest < LEAST:
        raise InputError(
            f"no number of the points is larger than {largest:g}: their squares vanish from float32. Build with "
            'dtype="float64", or scale the data up'
        )


def largest_of(strip: np.ndarray) -> float:
    """The largest absolute number of a strip; mostly its first rows already hold one that is large enough."""
    for part in (strip[:1], strip):
        largest = max(float(part.max(initial=0)), -float(part.min(initial=0)))
        if largest >= LEAST:
            break
    return largest


def count_tiny(strip: np.ndarray) -> int:
    """How many rows hold numbers, but none of which the square is told by float32."""
    if strip.dtype != np.float32:
        return 0
    # Rows that begin with a larger number need not be looked at.
    few = strip[np.abs(strip[:, 0]) < LEAST]
    return int(((np.abs(few) < LEAST).all(axis=1) & few.any(axis=1)).sum())


def largest_allowed(metric: Metric, strip: np.ndarray) -> float:
    """The largest number that distances of such rows allow, which are float32."""
    columns = strip.shape[1]
    if metric.double and metric.name not in BY_POWERS:
        return LARGEST_DISTANCE / columns
    return min(LARGEST / columns**0.5, float(np.finfo(strip.dtype).max) if strip.dtype.kind == "f" else np.inf)


def check_finite(strip: np.ndarray, first: int, largest: float) -> None:
    """InputError names the first row, column and value that cannot be compared; `first`: row id of strip[0].

    largest: what may be compared.
    """
    if strip.dtype.kind != "f":
        return
    numbers = as_float32(strip) if strip.dtype == np.float16 else strip
    bad = ~(np.abs(numbers) <= numbers.dtype.type(largest))
    if not bad.any():
        return
    row = int(np.flatnonzero(bad.any(axis=1))[0])
    column = int(np.flatnonzero(bad[row])[0])
    value = strip[row, column]
    if np.isfinite(value):
        raise InputError(
            f"row {first + row}, column {column} holds {value}: distances to it overflow float32; scale the data down"
        )
    raise InputError(
        f"row {first + row}, column {column} holds {value}: no distance is defined; "
        "drop or impute such rows before building"
    )
