"""Rows find their nearest pivots through guides as well as without them, nearly, and every row finds some."""

from __future__ import annotations

import numpy as np
import pytest

from distnnd.kernels.codes import encode, routing_form
from distnnd.stages import route
from distnnd.values.metric import METRICS
from distnnd.values.plan import Job, Layout
from distnnd.values.spec import BuildSpec

PIVOTS, ROWS = 600, 2000


def points(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(30, 12)) * 3
    return (centres[rng.integers(0, 30, count)] + rng.normal(size=(count, 12))).astype(np.float32)


def signposts(pivots: np.ndarray) -> route.Signposts:
    layout = Layout(ROWS, 12, "float32", 1024, partitions=40, fanout=2, copies=2)
    job = Job("x", BuildSpec(), layout, {}, "out", "scratch")
    return route.Signposts.of(job, pivots, (np.arange(len(pivots)) // 15).astype(np.int32))


def nearest(posts: route.Signposts, rows: np.ndarray) -> np.ndarray:
    coded = encode(rows, posts.coder)
    return posts.nearest(coded, routing_form(coded, posts.coder)).ids


def test_few_pivots_are_all_looked_at() -> None:
    pivots, rows = points(PIVOTS, 0), points(ROWS, 1)
    posts = signposts(pivots)
    assert len(posts.guides.points) == PIVOTS
    gaps = ((rows[:, None].astype(np.float64) - pivots[None]) ** 2).sum(axis=2)
    truth = gaps.argsort(axis=1)[:, 0]
    assert (nearest(posts, rows)[:, 0] == truth).mean() > 0.95, "estimates differ by little"


def test_guides_lead_to_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pivots, rows = points(PIVOTS, 0), points(ROWS, 1)
    flat = nearest(signposts(pivots), rows)
    monkeypatch.setattr(route, "MANY", 100)
    posts = signposts(pivots)
    assert len(posts.guides.points) == 25
    assert np.array_equal(np.unique(posts.following.rows), np.arange(PIVOTS)), "every pivot can be found"
    guided = nearest(posts, rows)
    assert guided.shape == flat.shape
    assert (guided[:, 0] >= 0).all()
    assert all(len(set(ids[ids >= 0])) == (ids >= 0).sum() for ids in guided), "a pivot of two guides counts once"
    assert (guided[:, :, None] == flat[:, None, :2]).any(axis=1).mean() > 0.9


def test_guides_that_are_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "MANY", 100)
    guided = nearest(signposts(np.ones((PIVOTS, 12), np.float32)), points(50, 1))
    assert (guided[:, 0] >= 0).all()


def test_the_metric_of_two_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "MANY", 100)
    assert not METRICS["inner_product"].euclidean
    pivots = points(PIVOTS, 0)
    width = np.c_[pivots, np.ones(PIVOTS, np.float32)]
    layout = Layout(ROWS, 12, "float32", 1024, partitions=40, fanout=2, copies=4)
    job = Job("x", BuildSpec(metric="inner_product"), layout, {}, "out", "scratch", radius=50.0)
    posts = route.Signposts.of(job, width, (np.arange(PIVOTS) // 15).astype(np.int32))
    slots, roles = route.places_of(job, points(300, 2), posts)
    assert (slots[:, 0] >= 0).all()
    assert set(np.unique(roles)) <= {0, route.QUERY, route.BASE, route.QUERY | route.BASE}
    assert ((roles & route.QUERY).any(axis=1) & (roles & route.BASE).any(axis=1)).all()
