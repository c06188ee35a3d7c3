"""What a graph says about searches in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import distnnd
from tests.conftest import clustered
from tests.index.conftest import Made


def test_degrees_and_components(made: Made) -> None:
    graph = distnnd.open_graph(made.folder / "graph.zarr")
    report = graph.search_report()
    held = np.bincount(graph.indices[:].ravel(), minlength=6000)
    assert report["in_degree"]["max"] == held.max()
    assert report["in_degree"]["none"] == (held == 0).sum()
    assert report["in_degree"]["hubness"] > 0
    assert sum(report["components"]["largest"]) <= 6000
    assert "bridges" not in report


def test_bridges_connect_islands(tmp_path: Path) -> None:
    points = np.concatenate([clustered(400, 8), clustered(100, 8) + 60, clustered(60, 8) - 60])
    graph = distnnd.build(points, n_neighbors=5)
    report = graph.search_report(connect=True, source=points)
    assert report["components"]["count"] == len(report["bridges"]) + 1 > 2
    for row, other, distance in report["bridges"]:
        np.testing.assert_allclose(np.linalg.norm(points[row] - points[other]), distance, rtol=1e-5)
    index = graph.build_index(tmp_path / "index", points)
    assert (index.query(points, k=1)[0][:, 0] == np.arange(560)).mean() > 0.9
