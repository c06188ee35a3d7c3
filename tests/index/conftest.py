"""Graphs and indexes that the tests of queries share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import distnnd
from tests.conftest import clustered


class Made(NamedTuple):
    """An index with all that it was made of. folder: of points.npy, graph.zarr and index.zarr."""

    folder: Path
    points: np.ndarray
    queries: np.ndarray
    index: distnnd.Index


def make(folder: Path, points: np.ndarray, queries: np.ndarray, metric: str = "euclidean", **options: object) -> Made:
    """An index of the points in a folder."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "points.npy", points)
    if not (folder / "graph.zarr").exists():
        distnnd.build(folder / "points.npy", folder / "graph.zarr", metric=metric)
    index = distnnd.build_index(folder / "graph.zarr", folder / "index.zarr", **options)
    return Made(folder, points, queries, index)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """6,000 clustered rows of 16 numbers and 300 queries like them."""
    rows = clustered(6300)
    return make(tmp_path_factory.mktemp("index"), rows[:6000], rows[6000:])


@pytest.fixture(scope="session")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same in four partitions."""
    rows = clustered(6300)
    return make(tmp_path_factory.mktemp("cut"), rows[:6000], rows[6000:], partitions=4)
