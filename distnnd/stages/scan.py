"""Scan: look at every number once, before hours of work, and keep the sampled rows aside."""

from __future__ import annotations

import numpy as np

from ..storage import mailbox
from ..values.errors import InputError
from ..values.memory import STRIP_ROWS, scan_bytes
from ..values.plan import Job, Stage, Task
from .measured import measured
from .points import PROBES, SAMPLE, chosen_rows, read_block

# Squares of larger numbers, summed over a row, overflow float32.
LARGEST = 1e18


def plan_scan(job: Job) -> Stage:
    """One task a block."""
    tasks = [Task("scan", 0, index) for index in range(job.layout.blocks)]
    return Stage("scan", run_scan, tasks, scan_bytes(job.layout))


@measured
def run_scan(job: Job, task: Task) -> tuple[dict[str, float], int, int]:
    """Check block `task.index` and write its sampled rows; counters: zero_rows, radius (largest norm)."""
    first, last = job.layout.block(task.index)
    block = read_block(job, task.index)
    zero_rows, radius = 0, 0.0
    for start, stop in mailbox.strips(0, last - first, STRIP_ROWS):
        strip = block[start:stop]
        check_finite(strip, first + start)
        if job.spec.kind.unit:
            zero_rows += int((~strip.any(axis=1)).sum())
        elif not job.spec.kind.euclidean:
            radius = max(radius, float(np.linalg.norm(strip.astype(np.float64), axis=1).max()))
    written = 0
    for place, what in (("sample", SAMPLE), ("probes", PROBES)):
        rows = chosen_rows(job, what)
        mine = rows[np.searchsorted(rows, first) : np.searchsorted(rows, last)] - first
        mailbox.write(job.scratch, f"{place}/{task.index}", {"points": block[mine]})
        written += mine.size * block.shape[1] * block.itemsize
    return {"zero_rows": zero_rows, "radius": radius}, block.nbytes, written


def check_finite(strip: np.ndarray, first: int) -> None:
    """InputError names the first row, column and value that cannot be compared; `first`: row id of strip[0]."""
    if strip.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(strip) <= LARGEST)
    if not bad.any():
        return
    row = int(np.flatnonzero(bad.any(axis=1))[0])
    column = int(np.flatnonzero(bad[row])[0])
    value = strip[row, column]
    if np.isfinite(value):
        raise InputError(
            f"row {first + row}, column {column} holds {value}: its square overflows float32; scale the data down"
        )
    raise InputError(
        f"row {first + row}, column {column} holds {value}: no distance is defined; "
        "drop or impute such rows before building"
    )
