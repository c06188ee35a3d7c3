"""Dask arrays and clients as they come."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Thread
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
from scipy import sparse

import distnnd
from tests.conftest import graph_bytes
from tests.reported.answers import assert_right, assert_sound, build, ids_of, normal, refused, tried


def rows_of(n: int = 600) -> np.ndarray:
    """Some rows of ten numbers: float32[n, 10]."""
    return normal(n, 10)


def chunks_of_all_shapes(place: Path) -> None:
    """Odd, empty, single-row and Fortran chunks, other dtypes: the graph of the same rows in memory."""
    points = rows_of()
    right = graph_bytes(build(points, 6))
    lazy = da.from_array(points, chunks=(170, 4))
    nothing = da.zeros((0, 10), dtype=np.float32)
    for source in (
        lazy,
        da.from_array(points, chunks=-1),
        da.from_array(points, chunks=(1, 10)),
        lazy.map_blocks(np.asfortranarray),
        lazy[::-1][::-1],
        da.concatenate([nothing, lazy[:300], nothing, lazy[300:], nothing]),
        lazy.astype(np.float64),
    ):
        assert (ids_of(build(source, 6)) == ids_of(build(points, 6))).all()
    assert graph_bytes(build(lazy, 6)) == right
    whole = np.random.default_rng(0).integers(0, 9, points.shape)
    assert graph_bytes(build(da.from_array(whole, chunks=90), 6)) == graph_bytes(build(whole, 6))
    for metric in ("jaccard", "bit_hamming"):
        truths = da.from_array(points > 0, chunks=(100, 3))
        assert graph_bytes(build(truths, 6, metric=metric)) == graph_bytes(build(points > 0, 6, metric=metric))
    graph = build(lazy, 6, out=place / "g")
    assert graph.verify(points)
    assert not [one for one in place.iterdir() if "points" in one.name]


def bad_rows_of_dask(place: Path) -> None:
    """One axis or three, a NaN in the last row, chunks that are not what they say: refused."""
    points = rows_of()
    lazy = da.from_array(points, chunks=(170, 4))
    spoilt = points.copy()
    spoilt[-1, 2] = np.nan
    for source in (lazy[:, 0], lazy[:, :, None]):
        for call in (distnnd.build, distnnd.plan):
            refused(lambda call=call, source=source: call(source, n_neighbors=6))
    refused(lambda: build(da.from_array(spoilt, chunks=(170, 4)), 6), "599")
    large = da.map_blocks(
        lambda rows: rows.astype(np.float64) * 1e300, lazy, dtype=np.float32, meta=np.empty((0, 0), np.float32)
    )
    refused(lambda: build(large, 6), by=distnnd.DistnndError)


def dask_arrays_that_hold_no_rows(place: Path) -> None:
    """Chunks of unknown size, complex numbers, dates, objects, text, masks: refused by plan and build alike."""
    points = rows_of()
    lazy = da.from_array(points, chunks=(170, 4))
    dates = np.random.default_rng(0).integers(0, 9, (600, 10))
    unknown = lazy[lazy[:, 0] > 0]
    for source, word in (
        (lazy + 1j * lazy, "real"),
        (da.from_array((dates * 10**9).astype("M8[s]"), chunks=100), ""),
        (da.from_array(dates.astype("m8[s]"), chunks=100), ""),
        (da.from_array(points.astype(object), chunks=100), "astype"),
        (da.from_array(dates.astype(str), chunks=100), ""),
        (da.ma.masked_less(lazy, -2), "filled"),
    ):
        for call in (distnnd.build, distnnd.plan):
            refused(lambda call=call, source=source: call(source, n_neighbors=6), word)
    for call in (distnnd.build, distnnd.plan):
        found, refusal = tried(lambda call=call: call(unknown, n_neighbors=6))
        if found is None:
            assert "compute_chunk_sizes" in refusal
        elif call is distnnd.build:
            assert graph_bytes(found) == graph_bytes(build(points[points[:, 0] > 0], 6))
    unknown.compute_chunk_sizes()
    assert graph_bytes(build(unknown, 6)) == graph_bytes(build(points[points[:, 0] > 0], 6))


def chunks_of_sparse_rows(place: Path) -> None:
    """CSR chunks, as a lazily read AnnData has them: the graph of the sparse rows, or refused with a way."""
    points = sparse.random(300, 10, 0.3, "csr", dtype=np.float32, random_state=0)
    parts = [dask.delayed(lambda rows: rows)(points[first : first + 100]) for first in (0, 100, 200)]
    meta = sparse.csr_matrix((0, 0), dtype=np.float32)
    lazy = da.concatenate([da.from_delayed(part, (100, 10), meta=meta) for part in parts])
    graph, refusal = tried(lambda: build(lazy, 6))
    if graph is None:
        assert len(refusal) > 40
    else:
        assert_right(graph, points)


def chunks_of_other_sizes_than_declared(place: Path) -> None:
    """Twice as many rows as a chunk says are no graph of half of them; nor are fewer rows or columns."""
    lazy = da.from_array(rows_of(), chunks=(100, 10))
    for change in (lambda rows: np.concatenate([rows, rows]), lambda rows: rows[:-1], lambda rows: rows[:, :9]):
        wrong = da.map_blocks(change, lazy, dtype=np.float32, meta=np.empty((0, 0), np.float32))
        refused(lambda wrong=wrong: build(wrong, 6), by=distnnd.DistnndError)


def checked_before_anything_is_computed(place: Path) -> None:
    """Too many neighbours, or a metric for other rows: no chunk is computed for that."""
    computed = []

    def note(rows: np.ndarray) -> np.ndarray:
        computed.append(len(rows))
        return rows

    lazy = da.map_blocks(
        note, da.from_array(rows_of(), chunks=(170, 10)), dtype=np.float32, meta=np.empty((0, 0), np.float32)
    )
    refused(lambda: build(lazy, 600), "at most")
    refused(lambda: build(lazy, 6, metric="haversine"))
    assert not computed


def dask_arrays_everywhere(place: Path) -> None:
    """build_index, measure_recall and verify take the dask array that build took."""
    points = rows_of()
    lazy = da.from_array(points, chunks=(170, 4))
    graph = build(lazy, 6, out=place / "g")
    assert graph.measure_recall(lazy).estimate == 1
    assert graph.verify(lazy)
    ids, _ = graph.build_index(place / "i", source=lazy).query(points[:20], k=3)
    assert (ids[:, 0] == np.arange(20)).all()


def clients_that_work(place: Path) -> None:
    """A client, its cluster and its address."""
    points = rows_of(200)
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        for given in (client, cluster, cluster.scheduler_address):
            assert_sound(build(points, 5, client=given))


def clients_that_are_closed(place: Path) -> None:
    """A client that was closed, and one of a loop that waits: refused at once."""
    points = rows_of(200)
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        client = distributed.Client(cluster, set_as_default=False)
        client.close()
        refused(lambda: build(points, 5, client=client), by=distnnd.DistnndError)
    for how in ("client", "cluster", "current"):
        found: list[Any] = []
        thread = Thread(target=lambda how=how, found=found: found.append(asyncio.run(within_a_loop(points, how))))
        thread.daemon = True
        thread.start()
        thread.join(60)
        assert [type(one) for one in found] == [distnnd.SpecError], (how, found)


async def within_a_loop(points: np.ndarray, how: str) -> Any:
    """What a build in a running loop says to its asynchronous client."""
    async with (
        distributed.LocalCluster(
            n_workers=1, processes=False, asynchronous=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, asynchronous=True, set_as_default=how == "current") as client,
    ):
        try:
            return distnnd.build(points, None, 5, client={"client": client, "cluster": cluster, "current": None}[how])
        except Exception as error:
            return error


def nobody_at_the_address(place: Path) -> None:
    """An address that does not answer: refused in seconds, by name."""
    with pytest.raises(distnnd.DistnndError, match=r"127\.0\.0\.1:9"):
        build(rows_of(50), 5, client="tcp://127.0.0.1:9")
