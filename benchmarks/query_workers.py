"""`python -m benchmarks.query_workers [--runs N]`: a million queries on two worker processes against one.

The index is that of the generated manifold of 200,000 x 128, the queries are a million other rows of the family, in a
Zarr array; answers go to another one. Each worker is a process of one thread, tied to a processor of its own. Kernels
are loaded and the index is opened before the clock starts. Writes benchmarks/results/query_workers.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distnnd.storage.held import peak_memory

from . import data
from .measure import alternate, median, ratio
from .table import Table, mib
from .workers import _cpu, _measured, _place

INDEXED, ASKED = "manifold-200000-128", "manifold-1000000-128"
CHUNK, LIMIT = 16384, 1 << 30


def prepared() -> Path:
    """The folder of the index and of the queries, made once."""
    import zarr

    import distnnd

    folder = data.MADE / "query-workers"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        points = np.array(data.task(INDEXED).open())
        graph = distnnd.build(points, folder / "graph.zarr")
        distnnd.build_index(graph, folder / "index.zarr", points)
        rows = data.task(ASKED).open()
        queries = zarr.create_array(
            folder / "queries.zarr", shape=rows.shape, dtype="float32", chunks=(CHUNK, rows.shape[1]), compressors=None
        )
        for first in range(0, len(rows), CHUNK):
            queries[first : first + CHUNK] = rows[first : first + CHUNK]
        (folder / "done").touch()
    return folder


def child(workers: int) -> None:
    """All queries by so many workers; prints what benchmarks.measure.Built holds."""
    import dask.array
    import zarr
    from distributed import Client, LocalCluster

    import distnnd

    place = prepared()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=LIMIT, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        start = time.perf_counter()
        _place(client)
        index = distnnd.open_index(place / "index.zarr")
        queries = dask.array.from_zarr(zarr.open_array(place / "queries.zarr"))
        # Each worker loads its kernels and maps the index.
        client.compute(index.query(queries[: 4 * workers * CHUNK], 10)[0], sync=True)
        startup = time.perf_counter() - start
        ids, _ = index.query(queries, 10)
        before, start = _cpu(client), time.perf_counter()
        ids.to_zarr(f"{folder}/ids.zarr")
        cpu, wall = _cpu(client) - before, time.perf_counter() - start
        found = zarr.open_array(f"{folder}/ids.zarr")[:]
        digest = hashlib.blake2b(found.tobytes(), digest_size=6).hexdigest()
        peak = max(client.run(peak_memory).values())
        facts = {"digest": digest, "n": len(found)}
        figures = {"cpu": cpu, "wall": wall, "peak": peak, "startup": startup}
        print(json.dumps(figures | {"recall": 0.0} | facts))


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.query_workers", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    prepared()
    note = f"a million queries of 128 columns, 200,000 rows, k = 10; {chosen.runs} pairs, in alternation; medians."
    columns = ("workers", "wall s", "queries/s", "CPU s", "peak MiB of a worker", "digest of ids")
    table = Table("query_workers", *columns, note=note)
    two, one = (partial(_measured, "benchmarks.query_workers", "child", str(workers)) for workers in (2, 1))
    pairs = alternate(two, one, chosen.runs)
    for workers, runs in zip((2, 1), zip(*pairs, strict=True), strict=True):
        middle: Any = median(runs)
        speed = f"{middle.facts['n'] / middle.wall:,.0f}"
        table.add(
            str(workers), f"{middle.wall:.1f}", speed, f"{middle.cpu:.1f}", mib(middle.peak), middle.facts["digest"]
        )
    same = len({one.facts["digest"] for pair in pairs for one in pair}) == 1
    table.say(
        "", f"Two are {ratio(pairs, 'wall')} times as fast as one; {'the same' if same else 'NOT the same'} answers."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(int(sys.argv[2]))
    else:
        main()
