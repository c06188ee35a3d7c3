"""The sets of the benchmarks: real ones where they are present, and generated families of any size.

Real sets are looked for in the folder DISTNND_DATA, by default `../shared/data` beside the repository. What is derived
or generated (.npy files, exact answers, Zarr stores) is made once and kept in `benchmarks/data/`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import truth
from .generated import FAMILIES, manifold

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("DISTNND_DATA", ROOT.parent / "shared" / "data"))
MADE = ROOT / "benchmarks" / "data"
K = 15
QUERIES = 1000
# name: file of the points, their key in it, file of the answers, metric.
SETS = {
    "mnist": ("mnist_u8.npz", "X", "mnist_10kq.gt.npz", "euclidean"),
    "glove": ("glove_en_341k_100_f16.npz", "points", "glove_en_341k_100_f16.gt.npz", "cosine"),
    "nycflights": ("nycflights_327k_29.npz", "X", "nycflights_327k_29.gt.npz", "euclidean"),
}


class Task(NamedTuple):
    """One data set: file of the points, metric, and the rows whose neighbours are known."""

    name: str
    points: Path
    metric: str
    queries: np.ndarray
    truth: np.ndarray

    def open(self) -> np.ndarray:
        """The points, mapped and not read."""
        return np.load(self.points, mmap_mode="r")

    def recall(self, ids: np.ndarray) -> float:
        """Recall of the lists `ids` [n, >= K] against the exact answers."""
        found = ids[self.queries, :K]
        return truth.recall(self.open(), self.queries, self.truth[:, :K], found, self.metric)


def task(name: str) -> Task:
    """The set of that name: "mnist", "glove", "nycflights", "manifold-<rows>-<columns>" or "stars-<rows>-3"."""
    MADE.mkdir(parents=True, exist_ok=True)
    return _real(name) if name in SETS else _generated(name)


def _real(name: str) -> Task:
    source, key, answers, metric = SETS[name]
    points = MADE / f"{name}.npy"
    if not points.exists():
        _save(points, np.load(REAL / source)[key])
    known = np.load(REAL / answers)
    return Task(name, points, metric, known["query_ids"].astype(np.int64), known["indices"].astype(np.int64))


def _generated(name: str) -> Task:
    n, d = _size(name)
    points, answers = MADE / f"{name}.npy", MADE / f"{name}.gt.npz"
    if not points.exists():
        _generate(points, name, n, d)
    if not answers.exists():
        queries = np.sort(np.random.default_rng(1).choice(n, min(QUERIES, n), replace=False))
        near = truth.nearest(np.load(points, mmap_mode="r"), queries, K)
        _save(answers, queries=queries, truth=near)
    known = np.load(answers)
    return Task(name, points, "euclidean", known["queries"], known["truth"])


def _size(name: str) -> tuple[int, int]:
    family, *size = name.split("-")
    if family not in FAMILIES or len(size) != 2 or not all(map(str.isdecimal, size)):
        families = ", ".join(f"{family}-<rows>-<columns>" for family in FAMILIES)
        raise SystemExit(f"there is no set {name!r}: {', '.join(SETS)}, {families}")
    return int(size[0]), int(size[1])


def _generate(place: Path, name: str, n: int, d: int) -> None:
    """Write the blocks of a family into a .npy file, one after the other."""
    family, unfinished, start = FAMILIES[name.split("-")[0]], _beside(place), 0
    rows = np.lib.format.open_memmap(unfinished, "w+", np.float32, (n, d))
    for block in family(n, d):
        rows[start : start + len(block)] = block
        start += len(block)
    rows.flush()
    unfinished.rename(place)


def _save(place: Path, *array: np.ndarray, **arrays: np.ndarray) -> None:
    """Write a .npy or .npz file that is there in full or not at all."""
    unfinished = _beside(place)
    if array:
        np.save(unfinished, *array)
    else:
        np.savez(unfinished, **arrays)
    unfinished.rename(place)


def _beside(place: Path) -> Path:
    return place.with_name(f"unfinished-{os.getpid()}-{place.name}")


def stored(n: int, d: int) -> Path:
    """A generated manifold as a Zarr store, made if it is not there."""
    from distnnd.storage.points import write_points

    MADE.mkdir(parents=True, exist_ok=True)
    place = MADE / f"manifold-{n}-{d}.zarr"
    if not place.exists():
        write_points(place, manifold(n, d), n=n, d=d, dtype="float32")
    return place
