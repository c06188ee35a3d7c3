"""The graph that the tests of this folder look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from distnnd.graph import Graph
from tests.graph.small import Array, K, few_points, true_lists, write_graph


@pytest.fixture
def points() -> Array:
    """Sixty rows, some of them equal."""
    return few_points()


@pytest.fixture
def graph(tmp_path: Path, points: Array) -> Graph:
    """Their exact graph."""
    return write_graph(tmp_path / "graph.zarr", points, true_lists(points, K, "euclidean"))
