"""What a scan found that the user should know, as sentences: the build goes on, and warns of it in the end."""

from __future__ import annotations

from collections import Counter

from ..kernels.transforms import like_degrees
from ..values.plan import Job, Report
from .rounding import count_equal, count_vanishing


def doubts_of(job: Job, reports: list[Report]) -> list[str]:
    """The warnings that the reports of a scan give rise to, in the order of its blocks."""
    signs: Counter[str] = Counter()
    for report in reports:
        signs.update(report.counters)
    equal = count_equal(job, [int(report.counters["rounded"]) for report in reports])
    largest = max(report.counters.get("largest", 0.0) for report in reports)
    smaller = far_smaller(job, count_vanishing(job, signs, largest), largest)
    doubts = [like_degrees(signs), became_equal(job, equal), vanish(job, int(signs["tiny"])), smaller]
    return [doubt for doubt in doubts if doubt is not None]


def became_equal(job: Job, rows: int) -> str | None:
    """Of rows that differ, but not after rounding."""
    if not rows:
        return None
    sparse = job.layout.sparse
    dtype = "float32" if sparse else job.layout.dtype
    remedy = "Subtract what the rows have in common before you build"
    if job.spec.dtype == "float32" and not sparse:
        remedy = "Leave dtype out, and the points are compared as they are given"
    return (
        f"about {rows:,} of {job.layout.n:,} rows became equal to other rows as they were rounded to {dtype}: their "
        f"neighbours are those of the rounded rows. {remedy}"
    )


def vanish(job: Job, rows: int) -> str | None:
    """Of float32 rows that are too small for their squares."""
    if not rows:
        return None
    return (
        f"{rows:,} of {job.layout.n:,} rows hold no number beyond 1e-15, and squares of such numbers vanish from "
        'float32: distances between these rows are told as 0. Build with dtype="float64", or scale the data up'
    )


def far_smaller(job: Job, rows: int, largest: float) -> str | None:
    """Of float64 rows that are too small beside the largest."""
    if not rows:
        return None
    return (
        f"{rows:,} of {job.layout.n:,} rows are so small beside {largest:g}, the largest number, that squares between "
        "them vanish from float32, in which distances are told: they are told as 0. Leave the largest rows out, or "
        "scale them down"
    )
