"""The data of the benchmarks: real sets with exact answers where they are present, and one generated family.

Real sets are looked for in the folder DISTNND_DATA, by default `../shared/data` beside the repository; derived files
(.npy copies, generated Zarr stores) go to `benchmarks/data/`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("DISTNND_DATA", ROOT.parent / "shared" / "data"))
MADE = ROOT / "benchmarks" / "data"


class Task(NamedTuple):
    """One data set: file of the points, metric, and the rows whose neighbours are known."""

    name: str
    points: Path
    metric: str
    queries: np.ndarray
    truth: np.ndarray


def real(name: str) -> Task:
    """ "mnist" (70,000 x 784 uint8, euclidean) or "glove" (341,479 x 100 float16, cosine), as .npy with its answers."""
    source, key, answers, metric = {
        "mnist": ("mnist_u8.npz", "X", "mnist_10kq.gt.npz", "euclidean"),
        "glove": ("glove_en_341k_100_f16.npz", "points", "glove_en_341k_100_f16.gt.npz", "cosine"),
    }[name]
    MADE.mkdir(parents=True, exist_ok=True)
    points = MADE / f"{name}.npy"
    if not points.exists():
        np.save(points, np.load(REAL / source)[key])
    truth = np.load(REAL / answers)
    return Task(name, points, metric, truth["query_ids"], truth["indices"])


def task(name: str) -> Task:
    """The data set of that name: a real one, or "manifold-<rows>-<columns>" with answers for a thousand of its rows."""
    if not name.startswith("manifold-"):
        return real(name)
    n, d = map(int, name.split("-")[1:])
    MADE.mkdir(parents=True, exist_ok=True)
    points, answers = MADE / f"{name}.npy", MADE / f"{name}.gt.npz"
    if not points.exists():
        np.save(points, np.concatenate(list(manifold(n, d))))
    if not answers.exists():
        queries = np.sort(np.random.default_rng(1).choice(n, 1000, replace=False))
        np.savez(answers, queries=queries, truth=_nearest(np.load(points), queries))
    truth = np.load(answers)
    return Task(name, points, "euclidean", truth["queries"], truth["truth"])


def _nearest(points: np.ndarray, queries: np.ndarray, k: int = 15) -> np.ndarray:
    """The k nearest rows of each query row but itself, those that float32 finds nearest ranked anew in float64."""
    squares = np.einsum("ij,ij->i", points, points)
    nearest = np.empty((len(queries), k), np.int64)
    for i, row in enumerate(queries):
        gaps = squares - 2 * (points @ points[row])
        gaps[row] = np.inf
        some = np.argpartition(gaps, 3 * k)[: 3 * k]
        nearest[i] = some[np.argsort(_distances(points[row], points[some], "euclidean"))[:k]]
    return nearest


def recall(task: Task, ids: np.ndarray, k: int) -> float:
    """Recall of `ids` [n, >= k] against the exact answers, neighbours as near as the k-th true one counted as right."""
    points = np.load(task.points, mmap_mode="r")
    hits = 0.0
    for row, truth in zip(task.queries, task.truth, strict=True):
        both = np.concatenate([ids[row, :k], truth[:k]])
        gaps = _distances(points[row], points[both], task.metric)
        hits += np.mean(gaps[:k] <= gaps[k:].max() * (1 + 1e-6))
    return hits / len(task.queries)


def _distances(row: np.ndarray, others: np.ndarray, metric: str) -> np.ndarray:
    row, others = row.astype(np.float64), others.astype(np.float64)
    if metric == "cosine":
        return 1 - others @ row / (np.linalg.norm(others, axis=1) * np.linalg.norm(row))
    return np.linalg.norm(others - row, axis=1)


def manifold(n: int, d: int, seed: int = 0, step: int = 65536) -> Iterator[np.ndarray]:
    """Blocks of a generated set: 400 clusters of Pareto-distributed size, each a bent 12-dimensional sheet with noise,
    and 1 % of rows that repeat one of the first thousand exactly. float32[<= step, d]."""
    rng = np.random.default_rng(seed)
    latent, clusters, kinds = 12, 400, 16
    weights = rng.pareto(1.2, clusters) + 0.05
    weights /= weights.sum()
    centres = rng.normal(size=(clusters, d)).astype(np.float32) * np.float32(0.7)
    maps = [rng.normal(size=(latent, d)).astype(np.float32) / np.float32(latent**0.5) for _ in range(kinds)]
    first: np.ndarray | None = None
    for start in range(0, n, step):
        count = min(step, n - start)
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


def generated(n: int, d: int) -> Path:
    """The generated set as a Zarr store, made if it is not there."""
    from distnnd.storage.points import write_points

    MADE.mkdir(parents=True, exist_ok=True)
    place = MADE / f"manifold-{n}-{d}.zarr"
    if not place.exists():
        write_points(place, manifold(n, d), n=n, d=d, dtype="float32")
    return place
