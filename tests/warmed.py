"""`python -m tests.warmed METRICS DTYPES`: builds as users start them; prints what became of the kernels, as JSON.

Of other sizes than those of a warm-up: all pairs, one partition, several partitions; from memory and from a store.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import distnnd
import distnnd.sources
from distnnd.kernels.jit import tally
from distnnd.runtime.serial import SerialExecutor
from distnnd.storage.points import write_points
from distnnd.values.partitioning import make_plan

D, FEW, MANY = 30, 300, 4500


def in_pieces(spec: Any, extent: Any, workers: Any) -> Any:
    """A plan that cuts small data too, as a lack of memory would."""
    plan = make_plan(spec, extent, workers)
    cut = {"partitions": 3, "block_rows": 1024, "cap": extent.n, "sample": 600, "fanout": 2}
    return replace(plan, layout=replace(plan.layout, copies=2 if spec.kind.euclidean else 4, **cut))


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
                for source, planner in ((points[:FEW], make_plan), (points, make_plan), (stored, in_pieces)):
                    sys.modules["distnnd.sources"].make_plan = planner
                    distnnd.build(source, **arguments).verify(source)
            counts[f"{metric} {dtype}"] = tally().since(before)._asdict()
    print(json.dumps(counts | {"all": tally()._asdict()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
