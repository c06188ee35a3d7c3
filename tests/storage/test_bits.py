"""Truths are packed on the way in, whatever they lie in."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr

import distnnd
from distnnd.storage.bits import PackedSource, packed
from distnnd.storage.source import open_source, reopen_source
from distnnd.values.errors import InputError


@pytest.fixture
def truths() -> np.ndarray:
    """Rows of thirteen truths, which fill no whole byte."""
    return np.random.default_rng(0).random((400, 13)) < 0.3


def test_packed_rows_are_those_of_numpy(truths: np.ndarray) -> None:
    source = packed(open_source(truths))
    assert (source.n, source.d, source.dtype) == (400, 2, np.uint8)
    assert np.array_equal(source.read(7, 30), np.packbits(truths[7:30], axis=1))
    assert np.array_equal(reopen_source(source.spec).read(0, 9), source.read(0, 9))
    assert source.fingerprint()["shape"] == [400, 2]
    assert source.fingerprint() != open_source(truths).fingerprint()
    source.release()


def test_what_is_no_truth_stays(truths: np.ndarray) -> None:
    numbers = open_source(truths.astype(np.uint8))
    assert packed(numbers) is numbers
    source = packed(open_source(truths))
    assert isinstance(source, PackedSource)
    assert packed(source) is source


@pytest.mark.parametrize("metric", ["bit_jaccard", "bit_hamming"])
def test_all_ways_in_give_the_same_graph(truths: np.ndarray, metric: str, tmp_path: Path) -> None:
    zarr.save_array(tmp_path / "truths.zarr", truths)
    np.save(tmp_path / "truths.npy", truths)
    ways = [
        np.packbits(truths, axis=1),
        truths,
        tmp_path / "truths.zarr",
        tmp_path / "truths.npy",
        da.from_array(truths, chunks=(150, 6)),
    ]
    graphs = [distnnd.build(way, n_neighbors=5, metric=metric) for way in ways]
    first = graphs[0].to_numpy()
    for graph in graphs[1:]:
        for one, other in zip(first, graph.to_numpy(), strict=True):
            assert np.array_equal(one, other)
    assert graphs[2].verify(tmp_path / "truths.zarr")["recomputed"] == 400
    assert distnnd.plan(truths, 5, metric=metric).layout.d == 2


def test_numbers_are_not_taken_for_truths(truths: np.ndarray) -> None:
    with pytest.raises(InputError, match="packbits"):
        distnnd.build(truths.astype(np.float32), metric="bit_jaccard")
