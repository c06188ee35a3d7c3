"""`python -m tests.warmed METRICS DTYPES`: builds as users start them; prints what became of the kernels, as JSON.

Of other sizes than those of a warm-up: all pairs, one partition, several partitions, and several of rows so wide and so
alike that they are routed to leaves of the whole set, where the metric has any; from memory and from a store. Where
float32 rows may travel as float16, that too.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np

import distnnd
from distnnd.kernels.jit import tally
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage.points import write_points
from distnnd.testing import forced_partitions
from distnnd.values.metric import metric_of
from distnnd.values.partitioning import leaves_of_all

D, WIDE, FEW, MANY = 30, 320, 300, 4500
in_pieces = partial(forced_partitions, 3, 1024)


def near_a_subspace(dtype: str) -> np.ndarray:
    """Wide rows that few columns guide, around 100."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((MANY, 8)) @ rng.standard_normal((8, WIDE))
    return (100 + 10 * rows / np.abs(rows).max(axis=0)).astype(dtype)


def main(metrics: str, dtypes: str) -> None:
    """Build each combination three times."""
    warnings.simplefilter("ignore")
    counts = {}
    for dtype in dtypes.split(","):
        points = np.random.default_rng(1).integers(1, 100, size=(MANY, D)).astype(dtype)
        for metric in metrics.split(","):
            before = tally()
            with tempfile.TemporaryDirectory() as folder:
                stored = Path(folder) / "points.zarr"
                write_points(stored, [points], n=MANY, d=D, dtype=dtype, chunk_rows=700)
                arguments = {"metric": metric, "client": SerialExecutor(), "target_recall": 1.0, "max_rounds": 2}
                ways = [(points[:FEW], nullcontext()), (points, nullcontext()), (stored, in_pieces())]
                guided = leaves_of_all(metric_of(metric), MANY, WIDE, 15) > 0
                if guided:
                    ways.append((near_a_subspace(dtype), in_pieces()))
                for source, planned in ways:
                    with planned:
                        distnnd.build(source, **arguments).verify(source)
                if guided and dtype == "float32" and not metric_of(metric).judged:
                    with in_pieces():
                        distnnd.build(stored, exchange_dtype="float16", **arguments).verify(stored)
            counts[f"{metric} {dtype}"] = tally().since(before)._asdict()
    print(json.dumps(counts | {"all": tally()._asdict()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
