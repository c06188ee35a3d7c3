"""Generated sets: functions of their size and a seed, block by block, so that none need fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

STEP = 65536


def manifold(n: int, d: int, seed: int = 0, step: int = STEP) -> Iterator[np.ndarray]:
    """Blocks of a generated set: 400 clusters of Pareto-distributed size, each a bent 12-dimensional sheet with noise,
    and 1 % of rows that repeat one of the first thousand exactly. float32[<= step, d]."""
    rng = np.random.default_rng(seed)
    latent, clusters, kinds = 12, 400, 16
    weights = _shares(rng.pareto(1.2, clusters) + 0.05)
    centres = rng.normal(size=(clusters, d)).astype(np.float32) * np.float32(0.7)
    maps = [rng.normal(size=(latent, d)).astype(np.float32) / np.float32(latent**0.5) for _ in range(kinds)]
    first: np.ndarray | None = None
    for count in _counts(n, step):
        label = rng.choice(clusters, count, p=weights)
        inner = rng.normal(size=(count, latent)).astype(np.float32)
        rows = centres[label]
        for kind, sheet in enumerate(maps):
            mine = label % kinds == kind
            rows[mine] += np.tanh(inner[mine] @ sheet)
        rows += rng.normal(size=rows.shape).astype(np.float32) * np.float32(0.02)
        first = rows[:1000].copy() if first is None else first
        repeats = rng.random(count) < 0.01
        rows[repeats] = first[rng.integers(0, len(first), int(repeats.sum()))]
        yield rows


def stars(n: int, d: int = 3, seed: int = 0, step: int = STEP) -> Iterator[np.ndarray]:
    """Blocks of positions in a made-up galaxy, in parsecs from a sun: a thin and a thick disc, a bulge, and 15 % of the
    stars in 2,000 clusters of Pareto-distributed size. float32[<= step, 3]; d is 3."""
    if d != 3:
        raise ValueError(f"stars have 3 coordinates, not {d}")
    rng = np.random.default_rng(seed)
    clusters = 2000
    weights = _shares(rng.pareto(1.2, clusters) + 0.05)
    centres = _disc(rng, clusters, 100.0)
    radii = rng.uniform(1.0, 8.0, clusters)
    for count in _counts(n, step):
        kind = rng.choice(4, count, p=[0.6, 0.12, 0.13, 0.15])
        rows = _disc(rng, count, np.where(kind == 0, 300.0, 900.0))
        rows[kind == 2] = rng.normal(size=(int((kind == 2).sum()), 3)) * [1000.0, 700.0, 500.0]
        label = rng.choice(clusters, int((kind == 3).sum()), p=weights)
        # Plummer's sphere: the share of mass within r of a cluster is (1 + (radius / r)^2)^(-3/2).
        inner = radii[label] / np.sqrt(rng.uniform(0.001, 0.99, len(label)) ** (-2 / 3) - 1)
        rows[kind == 3] = centres[label] + inner[:, None] * _directions(rng, len(label))
        yield (rows - [8000.0, 0.0, 20.0]).astype(np.float32)


def _disc(rng: np.random.Generator, count: int, height: float | np.ndarray) -> np.ndarray:
    """Places in an exponential disc of 2,600 parsecs scale length, float64[count, 3]."""
    radius, angle = rng.gamma(2.0, 2600.0, count), rng.uniform(0, 2 * np.pi, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.laplace(size=count) * height], axis=1)


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.normal(size=(count, 3))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _shares(sizes: np.ndarray) -> np.ndarray:
    return sizes / sizes.sum()


def _counts(n: int, step: int) -> Iterator[int]:
    return (min(step, n - start) for start in range(0, n, step))


FAMILIES: dict[str, Callable[[int, int], Iterator[np.ndarray]]] = {"manifold": manifold, "stars": stars}
