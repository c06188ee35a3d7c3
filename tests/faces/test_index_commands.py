"""The commands `index` and `query`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import distnnd
from tests.faces.command_line import normal, run


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
    again = run("index", shelf / "points.zarr", tmp_path / "index.zarr", "--quiet")
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
