"""Chunks that are not there: lost, or never written because they hold the fill value alone."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import scipy.sparse
import zarr

import distnnd
from distnnd.storage.source import open_source, reopen_source
from distnnd.storage.sparse import convert_csr, open_matrix
from distnnd.values.errors import SpecError, StoreError
from tests.conftest import graph_bytes
from tests.faces.command_line import run

Array = np.ndarray[Any, Any]
NEVER = "the chunks of columns 8 to 15 were never written in any row, and read as 0"


@pytest.fixture
def counts() -> Array:
    """Counts of which columns 8 to 15 are never seen: float32[80, 24]."""
    counts = np.random.default_rng(0).poisson(2.0, (80, 24)).astype(np.float32)
    counts[:, 8:16] = 0
    return counts


def written(path: Path, values: Array, **layout: Any) -> Path:
    """An array as Zarr writes it by default, which leaves out chunks that hold the fill value alone."""
    zarr.create_array(path, data=values, **({"chunks": (20, 8)} | layout))
    return path


LAYOUTS: dict[str, dict[str, Any]] = {
    "v3": {},
    "v2": {"zarr_format": 2},
    "shards of some columns": {"chunks": (10, 4), "shards": (20, 8)},
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_columns_that_were_never_written_are_read_and_told(tmp_path: Path, counts: Array, layout: str) -> None:
    path = written(tmp_path / "z", counts, **LAYOUTS[layout])
    with pytest.warns(UserWarning, match=NEVER):
        source = open_source(path)
    np.testing.assert_array_equal(source.read(0, 80), counts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = reopen_source(json.loads(json.dumps(source.spec)))
        np.testing.assert_array_equal(again.read(30, 50), counts[30:50])


def test_dask_writes_so_too(tmp_path: Path, counts: Array) -> None:
    dask.array.from_array(counts, chunks=(20, 8)).to_zarr(str(tmp_path / "z"))
    with pytest.warns(UserWarning, match=NEVER):
        np.testing.assert_array_equal(open_source(tmp_path / "z").read(0, 80), counts)


def test_chunks_that_a_shard_says_are_empty_are_read(tmp_path: Path, counts: Array) -> None:
    path = written(tmp_path / "z", counts, chunks=(10, 8), shards=(20, 24))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(open_source(path).read(0, 80), counts)


@pytest.mark.parametrize("lost", [["c/1/0"], ["c/0/0", "c/0/2"], ["c/2/0", "c/3/0"]])
def test_a_lost_chunk_beside_columns_that_were_never_written_is_an_error(
    tmp_path: Path, counts: Array, lost: list[str]
) -> None:
    path = written(tmp_path / "z", counts)
    for key in lost:
        (path / key).unlink()
    with pytest.raises(StoreError, match=r'is missing.*missing="fill"'):
        open_source(path).read(0, 80)


def test_a_chunk_that_is_lost_later_is_an_error(tmp_path: Path, counts: Array) -> None:
    path = written(tmp_path / "z", counts)
    with pytest.warns(UserWarning, match=NEVER):
        source = open_source(path)
    (path / "c/1/0").unlink()
    with pytest.raises(StoreError, match="chunk c/1/0 is missing"):
        source.read(0, 80)


def test_a_few_chunks_below_each_other_may_be_lost(tmp_path: Path, counts: Array) -> None:
    path = written(tmp_path / "z", counts, chunks=(40, 8))
    with pytest.raises(StoreError, match=r"chunk c/0/1 is missing.*copy the data again"):
        open_source(path).read(0, 80)


def test_what_is_said_of_missing_chunks_counts(tmp_path: Path, counts: Array) -> None:
    path = written(tmp_path / "z", counts)
    (path / "c/1/0").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = open_source(path, missing="fill")
    wanted = counts.copy()
    wanted[20:40, :8] = 0
    np.testing.assert_array_equal(source.read(0, 80), wanted)
    np.testing.assert_array_equal(reopen_source(source.spec).read(0, 80), wanted)
    strict = open_source(written(tmp_path / "y", counts), missing="error")
    with pytest.raises(StoreError, match="chunk c/0/1 is missing"):
        strict.read(0, 80)
    with pytest.raises(StoreError, match="chunk c/0/1 is missing"):
        reopen_source(strict.spec).read(0, 80)


def test_rows_that_are_all_zeros(tmp_path: Path, counts: Array) -> None:
    counts[20:40] = 0
    path = written(tmp_path / "z", counts, chunks=(20, 24))
    with pytest.raises(StoreError, match=r'chunk c/1/0 is missing.*missing="fill"'):
        open_source(path).read(0, 80)
    np.testing.assert_array_equal(open_source(path, missing="fill").read(0, 80), counts)


def test_a_fill_value_that_is_no_number_fills_nothing(tmp_path: Path, counts: Array) -> None:
    counts[:, 8:16] = np.nan
    path = written(tmp_path / "z", counts, fill_value=np.nan)
    with pytest.raises(StoreError, match=r"would read as nan; if it was lost, copy the data again$"):
        open_source(path, missing="fill").read(0, 80)


def test_parts_of_a_sparse_matrix(tmp_path: Path) -> None:
    matrix = scipy.sparse.random(60, 10, 0.5, "csr", dtype=np.float32, random_state=0)
    convert_csr(open_matrix(matrix), tmp_path / "m")
    group = zarr.open_group(tmp_path / "m", mode="r+")
    data = group["data"][:]
    zarr.create_array(group.store, name="data", data=np.r_[np.zeros(50, "f4"), data[50:]], chunks=(50,), overwrite=True)
    with pytest.raises(StoreError, match="data: chunk c/0 is missing"):
        open_source(tmp_path / "m", sparse=True).read(0, 60)
    rows = open_source(tmp_path / "m", sparse=True, missing="fill").read(0, 60)
    np.testing.assert_array_equal(rows.data, data[50:])


@pytest.mark.parametrize("source", ["array", "npy", "dask"])
def test_only_zarr_arrays_have_missing_chunks(tmp_path: Path, counts: Array, source: str) -> None:
    np.save(tmp_path / "x.npy", counts)
    given = {"array": counts, "npy": tmp_path / "x.npy", "dask": dask.array.from_array(counts)}[source]
    with pytest.raises(SpecError, match="missing='fill' is about"):
        distnnd.build(given, None, 3, missing="fill")


def test_other_words_are_refused(tmp_path: Path, counts: Array) -> None:
    with pytest.raises(SpecError, match="missing is 'fill' or 'error'"):
        distnnd.plan(written(tmp_path / "z", counts), 3, missing="zero")


def test_every_call_that_reads_points_takes_it(tmp_path: Path, counts: Array) -> None:
    path = written(tmp_path / "z", counts)
    (path / "c/1/0").unlink()
    filled = counts.copy()
    filled[20:40, :8] = 0
    wanted = distnnd.build(filled, None, 5)
    distnnd.plan(path, 5, missing="fill")
    graph = distnnd.build(path, tmp_path / "g", 5, missing="fill")
    assert graph_bytes(graph) == graph_bytes(wanted)
    # A graph remembers what was said when it was built.
    for missing in (None, "fill"):
        assert graph.verify(path, missing=missing)["recomputed"] == 80
        assert graph.measure_recall(path, missing=missing).estimate == 1
    index = distnnd.build_index(graph, tmp_path / "i")
    assert index.query_into(path, tmp_path / "a.npy", k=3, missing="fill")["queries"] == 80
    with pytest.raises(StoreError, match="is missing"):
        graph.verify(path, missing="error")


def test_the_command_line_takes_it(tmp_path: Path, counts: Array) -> None:
    path = written(tmp_path / "z", counts)
    told = run("convert", path, tmp_path / "c")
    assert told.code == 0
    assert NEVER in told.err
    (path / "c/1/0").unlink()
    refused = run("build", path, tmp_path / "g", "-k", 5)
    assert refused.code == 3
    assert "--missing fill" in refused.err
    assert run("build", path, tmp_path / "g", "-k", 5, "--missing", "fill").code == 0
    assert run("verify", tmp_path / "g", "--source", path, "--missing", "fill").code == 0
    assert run("recall", tmp_path / "g", "--source", path, "--missing", "fill").code == 0
    assert run("index", tmp_path / "g", tmp_path / "i", "--source", path, "--missing", "fill").code == 0
    assert run("plan", path, "--missing", "zero").code == 2
