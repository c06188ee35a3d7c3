"""Rows find their nearest pivots through guides as well as without them, nearly, and every row finds some."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from distnnd.kernels import signposts
from distnnd.kernels.codes import Coder, Rows, coder_of, encode, routing_form
from distnnd.kernels.neighbours import Lists, empty
from distnnd.kernels.signposts import Signposts, find_pivots, signposts_of
from distnnd.values.metric import METRICS

PIVOTS, ROWS, WANTED = 600, 2000, 16


def points(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(30, 12)) * 3
    return (centres[rng.integers(0, 30, count)] + rng.normal(size=(count, 12))).astype(np.float32)


def posts_of(pivots: np.ndarray) -> tuple[Signposts, Coder]:
    coder = coder_of(pivots, METRICS["euclidean"])
    rows = encode(pivots, coder)
    return signposts_of(rows, routing_form(rows, coder)), coder


def nearest(posts: Signposts, rows: Rows, coder: Coder, looking: np.ndarray | None = None, **how) -> Lists:
    lists = empty(len(rows.points), WANTED)
    everyone = np.arange(len(rows.points), dtype=np.int32)
    find_pivots(rows, everyone if looking is None else looking, posts, routing_form(rows, coder), lists, **how)
    return lists


def test_few_pivots_are_all_looked_at() -> None:
    pivots, rows = points(PIVOTS, 0), points(ROWS, 1)
    posts, coder = posts_of(pivots)
    assert posts.following is None
    gaps = ((rows[:, None].astype(np.float64) - pivots[None]) ** 2).sum(axis=2)
    found = nearest(posts, encode(rows, coder), coder)
    assert (found.ids[:, 0] == gaps.argmin(axis=1)).mean() > 0.95, "estimates differ by little"


def test_guides_lead_to_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pivots, (flat_posts, coder) = points(PIVOTS, 0), posts_of(points(PIVOTS, 0))
    rows = encode(points(ROWS, 1), coder)
    flat = nearest(flat_posts, rows, coder).ids
    monkeypatch.setattr(signposts, "MANY", 100)
    posts, _ = posts_of(pivots)
    assert len(posts.guides.points) == -(-PIVOTS // round(PIVOTS**0.5 / signposts.GUIDES)) < PIVOTS / 5
    assert np.array_equal(np.unique(posts.following.rows), np.arange(PIVOTS)), "every pivot can be found"
    guided = nearest(posts, rows, coder).ids
    assert (guided[:, 0] >= 0).all()
    assert all(len(set(ids[ids >= 0])) == (ids >= 0).sum() for ids in guided), "a pivot of two guides counts once"
    assert (guided[:, :, None] == flat[:, None, :4]).any(axis=1).mean() > 0.97


@pytest.mark.parametrize("many", [100, 10_000])
def test_neither_threads_nor_cuts_change_the_answer(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(signposts, "MANY", many)
    posts, coder = posts_of(points(PIVOTS, 0))
    rows = encode(points(ROWS, 1), coder)
    alone = nearest(posts, rows, coder)
    with ThreadPoolExecutor(2) as pool:
        several = nearest(
            posts, rows, coder, each=lambda run, ranges: list(pool.map(lambda ends: run(*ends), ranges)), parts=7
        )
    assert all(np.array_equal(one, other) for one, other in zip(alone, several, strict=True))


@pytest.mark.parametrize("many", [100, 10_000])
def test_only_those_who_look_are_told(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(signposts, "MANY", many)
    posts, coder = posts_of(points(PIVOTS, 0))
    rows = encode(points(ROWS, 1), coder)
    looking = np.arange(0, ROWS, 3, dtype=np.int32)
    some, everyone = nearest(posts, rows, coder, looking), nearest(posts, rows, coder)
    assert np.array_equal(some.ids[looking], everyone.ids[looking])
    assert (np.delete(some.ids, looking, axis=0) == -1).all()


def test_guides_that_are_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signposts, "MANY", 100)
    posts, coder = posts_of(np.ones((PIVOTS, 12), np.float32))
    assert (nearest(posts, encode(points(50, 1), coder), coder).ids[:, 0] >= 0).all()
