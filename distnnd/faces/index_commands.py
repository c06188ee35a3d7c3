"""What the commands `index` and `query` do; each takes plain values and returns its Answer."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from ..index import Index, open_index
from ..index_plan import plan_index
from ..indexing import build_index
from ..progress import listening
from ..storage.source import open_source
from ..values.errors import SpecError
from ..values.spec import format_bytes
from .answer import Answer, table
from .commands import hush, warnings_said
from .metric_options import metric_of_text

# What changes the plan of an index.
PLANNED = ("pruning_degree_multiplier", "diversify_prob", "partitions", "memory_limit", "client", "n_workers")


def index(
    graph: str,
    out: str | None,
    source: str | None,
    component: str | None,
    missing: str | None,
    metric: str | None,
    quiet: bool,
    plan: bool,
    **arguments: Any,
) -> Answer:
    """Make an index, or only plan it; the arguments are those of distnnd.build_index."""
    hush()
    function = metric_of_text(metric)
    points = None if source is None else open_source(source, component, missing=missing)
    if plan:
        planned = plan_index(graph, points, **{name: arguments[name] for name in PLANNED})
        return Answer(planned.to_json(), str(planned))
    if out is None:
        raise SpecError("name the index to be made: distnnd index GRAPH OUT; or give --plan to see what it would be")
    start = time.perf_counter()
    with listening(not quiet) as show, warnings_said():
        made = build_index(graph, out, points, metric=function, progress=show, **arguments)
    facts = made.info() | {"seconds": round(time.perf_counter() - start, 3)}
    return Answer(facts, "" if quiet else text_of_index(made))


def text_of_index(index: Index) -> str:
    """The facts of an index for people."""
    facts = index.info()
    parts = f" in {facts['partitions']} partitions" * (facts["partitions"] > 1)
    return table(
        [
            ("index", index.location),
            ("rows", f"{facts['n']:,} x {facts['d']}, {facts['metric']}{parts}"),
            ("edges", f"{facts['edges'] / facts['n']:.1f} a row, at most {facts['degree']}"),
            ("recall", "not measured" if index.recall is None else str(index.recall)),
            ("compares", "codes of a byte" if facts["compares"] == "codes" else "exact rows"),
            ("size", f"{format_bytes(facts['bytes'])}, format {facts['format_version']}"),
        ]
    )


def query(
    index: str, queries: str, out: str, metric: str | None, filter: str | None, quiet: bool, **arguments: Any
) -> Answer:
    """Answer the queries of a file and write ids and distances; the arguments are those of Index.query_into."""
    hush()
    opened = open_index(index, metric_of_text(metric))
    start = time.perf_counter()
    facts = opened.query_into(queries, out, filter=allowed_in(filter), progress=not quiet, **arguments)
    seconds = time.perf_counter() - start
    text = f"{out}: {facts['queries']:,} x {facts['k']} answers in {seconds:.1f} s; {facts['plan']}"
    return Answer(facts | {"seconds": round(seconds, 3)}, "" if quiet else text)


def allowed_in(path: str | None) -> np.ndarray | None:
    """What an .npy file says of the rows that may be answers: booleans over all of them, or ids; None without a file.

    SpecError for what cannot be read.
    """
    if path is None:
        return None
    try:
        return np.asarray(np.load(os.path.expanduser(path), allow_pickle=False))
    except (OSError, ValueError) as error:
        raise SpecError(f"--filter: {path} cannot be read ({error}); write it by numpy.save") from error
