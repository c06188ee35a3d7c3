"""A round's pivots move to means, and send rows to as many partitions as were asked for, most of them at borders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distnnd.runtime.events import silent
from distnnd.runtime.serial import SerialExecutor
from distnnd.stages import draw, route
from distnnd.stages.points import read_chosen
from distnnd.stages.probe import plan_probe, plan_truth
from distnnd.stages.scan import plan_collect, plan_scan
from distnnd.storage import mailbox
from distnnd.storage.source import open_source
from distnnd.values.partitioning import FANOUT, PIVOTS_PER_PARTITION
from distnnd.values.plan import Job, Layout, Task
from distnnd.values.spec import BuildSpec
from tests.conftest import clustered

ROWS, PARTITIONS = 12_000, 6


def drawn(
    folder: Path,
    points: np.ndarray,
    metric: str = "euclidean",
    number: int = 2,
    target: float = 0.95,
    leaves: int = 0,
) -> Job:
    """A job whose pivots of a round have been drawn: the first, which may make do with fewer copies, or the second."""
    source = open_source(points)
    n, d = points.shape
    sample = min(n, 24 * PIVOTS_PER_PARTITION * PARTITIONS)
    sample = max(sample, 4000 if leaves else 0)
    layout = Layout(n, d, points.dtype.name, 4096, partitions=PARTITIONS, sample=sample, probes=100, leaves=leaves)
    job = Job(
        "x",
        BuildSpec(metric=metric, target_recall=target),
        layout,
        source.spec,
        str(folder / "g"),
        str(folder / "scratch"),
    )
    mailbox.create(job.scratch, "0" * 32, job.out)
    for stage in (plan_scan(job), plan_collect(job), plan_probe(job), plan_truth(job)):
        SerialExecutor().run(stage, job, silent)
    draw.run_draw(job, Task("draw", number, 0))
    return job


def slots_of(job: Job, number: int = 2) -> np.ndarray:
    """The partitions to which the rows of all blocks go."""
    blocks = range(job.layout.blocks)
    return np.concatenate([route.read_and_place(job, Task("route", number, i))[1].slots for i in blocks])


@pytest.mark.parametrize(("dtype", "metric"), [("float32", "euclidean"), ("uint8", "euclidean"), ("float32", "cosine")])
def test_rows_go_to_so_many_partitions_on_the_average(tmp_path: Path, dtype: str, metric: str) -> None:
    points = clustered(ROWS, 12)
    if dtype == "uint8":
        points = np.clip(10 * points + 100, 0, 255)
    slots = slots_of(drawn(tmp_path, points.astype(dtype), metric))
    places = (slots >= 0).sum(axis=1)
    assert places.min() == 1
    assert places.max() > FANOUT
    assert FANOUT - 0.6 < places.mean() < FANOUT + 0.15


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_fewer_copies_bring_enough_neighbours_together(tmp_path: Path, dtype: str) -> None:
    points = clustered(ROWS, 12)
    if dtype == "uint8":
        points = np.clip(10 * points + 100, 0, 255)
    points = points.astype(dtype)
    rows, copies = points[:300].astype(np.float64), []
    gaps = ((rows[:, None] - points[None].astype(np.float64)) ** 2).sum(axis=2)
    near = np.argsort(gaps, axis=1, kind="stable")[:, 1:16]
    for target in (0.7, 0.9, 1.0):
        slots = slots_of(drawn(tmp_path / str(target), points, number=1, target=target), 1)
        meet = slots[:300, None, :, None] == slots[near][:, :, None]
        met = (meet & (slots[:300, None, :, None] >= 0)).any(axis=(2, 3)).mean()
        assert met >= target - 0.1 * (1 - target) - 0.02
        copies.append((slots >= 0).sum(axis=1).mean())
    assert copies[0] < copies[1] < copies[2]
    assert copies[0] < FANOUT - 0.5


@pytest.mark.parametrize("metric", ["inner_product", "manhattan"])
def test_where_distances_are_others_copies_are_not_fewer(tmp_path: Path, metric: str) -> None:
    job = drawn(tmp_path, clustered(ROWS, 12), metric, number=1, target=0.5)
    assert draw.pairs_of_neighbours(job, None, None) is None


def test_far_rows_do_not_change_how_far_others_look(tmp_path: Path) -> None:
    """Means reach less far than rows: rows beyond them must not look as if they stood at the border."""
    points = clustered(ROWS, 12)
    points[::50] *= 3
    places = (slots_of(drawn(tmp_path, points)) >= 0).sum(axis=1)
    assert FANOUT - 0.6 < places.mean() < FANOUT + 0.15


def test_pivots_are_means(tmp_path: Path) -> None:
    """Means lie nearer to the rows of the sample than as many rows of it do."""
    job = drawn(tmp_path, clustered(ROWS, 12))
    sample, pivots = read_chosen(job, "sample").points, mailbox.read(job.scratch, "2/pivots", "points")
    chosen = sample[np.sort(np.random.default_rng(0).choice(len(sample), len(pivots), replace=False))]

    def spread(some: np.ndarray) -> float:
        return float(((sample[:, None] - some[None]) ** 2).sum(axis=2).min(axis=1).mean())

    assert spread(pivots) < 0.9 * spread(chosen)
