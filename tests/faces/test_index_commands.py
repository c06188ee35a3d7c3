"""The commands `index` and `query`."""

from __future__ import annotations

from pathlib import Path

import distributed
import numpy as np
import pytest
import zarr

import distnnd
from distnnd.storage.points import write_points
from tests.faces.command_line import normal, run

OWN = """
import numba
import numpy as np


@numba.njit
def farthest(x, y):
    return np.abs(x - y).max()
"""


@pytest.fixture
def indexed(shelf: Path, tmp_path: Path) -> Path:
    """An index of points.npy, made by the command line, with queries beside it."""
    said = run("index", shelf / "points.zarr", tmp_path / "index.zarr", "--quiet")
    assert (said.code, said.out) == (0, "")
    np.save(tmp_path / "queries.npy", normal(300)[:40] + np.float32(0.1))
    return tmp_path


def test_index_says_what_it_made(shelf: Path, tmp_path: Path) -> None:
    said = run("index", shelf / "points.zarr", tmp_path / "index.zarr", "--partitions", 2, "--json", "--quiet")
    assert said.code == 0
    assert {"n", "d", "degree", "edges", "partitions", "bytes", "seconds"} <= set(said.json)
    assert (said.json["n"], said.json["partitions"]) == (300, 2)
    again = run("index", shelf / "points.zarr", tmp_path / "index.zarr", "--partitions", 3, "--quiet")
    assert again.code == 2
    assert "exists" in again.err


@pytest.mark.parametrize("out", ["answers.zarr", "answers.npy"])
def test_query_writes_what_python_answers(indexed: Path, out: str) -> None:
    said = run("query", indexed / "index.zarr", indexed / "queries.npy", indexed / out, "-k", 7, "--epsilon", 0.2)
    assert said.code == 0
    assert "40 x 7" in said.out
    assert "whole index" in said.out
    expected = distnnd.open_index(indexed / "index.zarr").query(np.load(indexed / "queries.npy"), 7, 0.2)
    if out.endswith(".npy"):
        found = np.load(indexed / out), np.load(indexed / "answers.distances.npy")
    else:
        group = zarr.open_group(str(indexed / out), mode="r")
        found = group["indices"][:], group["distances"][:]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert run("query", indexed / "index.zarr", indexed / "queries.npy", indexed / out).code == 2


def test_query_refuses_what_does_not_fit(indexed: Path, shelf: Path) -> None:
    wide = run("query", indexed / "index.zarr", shelf / "many.npy", indexed / "out.zarr")
    assert wide.code == 2
    assert "30 columns" in wide.err
    assert not (indexed / "out.zarr").exists()
    missing = run("query", indexed / "nothing", shelf / "points.npy", indexed / "out.zarr")
    assert missing.code == 3
    assert "no index" in missing.err
    many = run("query", indexed / "index.zarr", indexed / "queries.npy", indexed / "out.zarr", "-k", 301)
    assert many.code == 2
    assert "300 rows" in many.err


def test_query_takes_what_python_takes(indexed: Path) -> None:
    queries = np.load(indexed / "queries.npy")
    opened = distnnd.open_index(indexed / "index.zarr")
    np.save(indexed / "ids.npy", np.arange(0, 300, 3))
    np.save(indexed / "bools.npy", np.arange(300) % 3 == 0)
    expected = opened.query(queries, 5, ef=40, radius=1.5, filter=np.arange(0, 300, 3))
    assert (expected[0] == -1).any()
    for name in ("ids", "bools"):
        out = indexed / f"{name}-out.npy"
        limits = ("--ef", 40, "--radius", 1.5, "--filter", indexed / f"{name}.npy")
        assert run("query", indexed / "index.zarr", indexed / "queries.npy", out, "-k", 5, *limits).code == 0
        np.testing.assert_array_equal(np.load(out), expected[0])
    short = run(
        *("query", indexed / "index.zarr", indexed / "queries.npy", indexed / "x"), "--filter", indexed / "queries.npy"
    )
    assert short.code == 2
    assert "filter" in short.err
    missing = run("query", indexed / "index.zarr", indexed / "queries.npy", indexed / "x", "--filter", "nothing.npy")
    assert missing.code == 2
    assert "nothing.npy" in missing.err
    assert not (indexed / "x").exists()


def test_queries_from_zarr_and_fbin(indexed: Path) -> None:
    queries = np.load(indexed / "queries.npy")
    write_points(indexed / "queries.zarr", [queries], n=40, d=8, dtype="float32", chunk_rows=16)
    header = np.array([40, 8], np.uint32).tobytes()
    (indexed / "queries.fbin").write_bytes(header + queries.tobytes())
    right = distnnd.open_index(indexed / "index.zarr").query(queries)[0]
    for name in ("queries.zarr", "queries.fbin"):
        assert run("query", indexed / "index.zarr", indexed / name, indexed / f"{name}.npy").code == 0
        np.testing.assert_array_equal(np.load(indexed / f"{name}.npy"), right)


def test_the_workers_of_a_cluster_answer(indexed: Path) -> None:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, memory_limit="2GiB", dashboard_address=None
    ) as cluster:
        scheduler = ("--scheduler", cluster.scheduler_address)
        said = run("query", indexed / "index.zarr", indexed / "queries.npy", indexed / "out.zarr", *scheduler)
        assert said.code == 0
        # The index is on the workers, and this process has opened nothing.
        assert "2.0 GiB opens the whole index" in said.out
        refused = run("query", indexed / "index.zarr", indexed / "queries.npy", indexed / "out.zarr", *scheduler)
        assert refused.code == 2
    right = distnnd.open_index(indexed / "index.zarr").query(np.load(indexed / "queries.npy"))[0]
    np.testing.assert_array_equal(zarr.open_group(str(indexed / "out.zarr"), mode="r")["indices"][:], right)


def test_a_metric_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_farthest.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    np.save("points.npy", normal(300))
    own = ("--metric", "my_farthest:farthest")
    assert run("build", "points.npy", "graph.zarr", "-k", 5, *own).code == 0
    assert run("index", "graph.zarr", "index.zarr", "--metric", "cosine").code == 2
    assert "metric of your own" in run("index", "graph.zarr", "index.zarr").err
    assert not (tmp_path / "index.zarr").exists()
    assert run("index", "graph.zarr", "index.zarr", *own).code == 0
    assert run("query", "index.zarr", "points.npy", "nothing.npy").code == 2
    assert run("query", "index.zarr", "points.npy", "out.npy", "-k", 3, *own).code == 0
    assert not (tmp_path / "nothing.npy").exists()
    points = normal(300)
    true = np.abs(points[:, None] - points[None]).max(axis=2)
    found = np.take_along_axis(true, np.load("out.npy"), axis=1)
    assert (found <= np.sort(true, axis=1)[:, :3] + 1e-6).mean() > 0.95
