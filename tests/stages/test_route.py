"""Every row finds the partitions in which it looks and is found."""

from __future__ import annotations

import numpy as np
import pytest

from distnnd.kernels import signposts
from distnnd.kernels.codes import coder_of
from distnnd.kernels.rows import prepare
from distnnd.stages import route
from distnnd.stages.drawn import Drawn
from distnnd.values.metric import METRICS
from distnnd.values.partitioning import LOOKED_IN, MOST_PARTITIONS
from distnnd.values.plan import Job, Layout
from distnnd.values.spec import BuildSpec

PIVOTS, ROWS = 600, 2000


def points(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(30, 12)) * 3
    return (centres[rng.integers(0, 30, count)] + rng.normal(size=(count, 12))).astype(np.float32)


def way_of(pivots: np.ndarray, partition: np.ndarray, reach: float, metric: str = "euclidean") -> route.Way:
    return route.Way.of(Drawn(pivots, partition, coder_of(pivots, METRICS[metric]), reach))


def test_a_row_goes_to_the_partitions_of_its_nearest_pivots() -> None:
    pivots, rows = points(PIVOTS, 0), points(ROWS, 1)
    partition = (np.arange(PIVOTS) // 15).astype(np.int32)
    job = Job("x", BuildSpec(), Layout(ROWS, 12, "float32", 1024, partitions=40), {}, "", "")
    slots, roles, leaves = route.places_of(job, rows, way_of(pivots, partition, 1.3))
    assert leaves.shape == (ROWS, 0)
    gaps = ((rows[:, None].astype(np.float64) - pivots[None]) ** 2).sum(axis=2)
    first = partition[gaps.argmin(axis=1)]
    assert (slots[:, 0] == first).mean() > 0.95, "estimates differ by little"
    assert 1.2 < (slots >= 0).sum() / ROWS < 3.5
    others = np.where(slots[:, :1] == slots[:, 1:], -2, slots[:, 1:])
    assert (others != -2).all(), "each partition once"
    assert (roles[slots >= 0] == route.QUERY | route.BASE).all()


def test_the_metric_of_two_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signposts, "MANY", 100)
    assert not METRICS["inner_product"].euclidean
    width = np.c_[points(PIVOTS, 0), np.ones(PIVOTS, np.float32)]
    layout = Layout(ROWS, 12, "float32", 1024, partitions=40)
    job = Job("x", BuildSpec(metric="inner_product"), layout, {}, "out", "scratch", radius=50.0)
    way = way_of(width, (np.arange(PIVOTS) // 15).astype(np.int32), 1.3, "inner_product")
    assert way.signposts.following is not None
    rows = prepare(points(300, 2), job.kind, 13, job.radius)
    slots, roles, _ = route.places_of(job, rows, way)
    assert (slots[:, 0] >= 0).all()
    assert set(np.unique(roles)) <= {0, route.QUERY, route.BASE, route.QUERY | route.BASE}
    assert (roles & route.QUERY > 0).sum(axis=1).max() == LOOKED_IN
    assert (roles & route.BASE > 0).sum(axis=1).max() <= MOST_PARTITIONS
    near = way_of(width, (np.arange(PIVOTS) // 15).astype(np.int32), 1.0, "inner_product")
    slots, roles, _ = route.places_of(job, rows, near)
    assert ((roles & route.BASE > 0).sum(axis=1) == 1).all(), "stands as far as the reach says"
    assert (roles & route.QUERY > 0).sum(axis=1).max() == LOOKED_IN, "but looks as before"
    assert ((roles & route.QUERY).any(axis=1) & (roles & route.BASE).any(axis=1)).all()
