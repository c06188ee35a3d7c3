"""What the commands `index` and `query` do; each takes plain values and returns its Answer."""

from __future__ import annotations

import os
import time
from typing import Any

from ..index import Index, build_index, open_index
from ..storage import answers
from ..storage.source import open_source
from ..values.errors import SpecError
from ..values.searching import SearchSpec
from ..values.spec import format_bytes
from .answer import Answer, table
from .commands import hush
from .progress import listening


def index(graph: str, out: str, source: str | None, component: str | None, quiet: bool, **arguments: Any) -> Answer:
    """Make an index; the arguments are those of distnnd.build_index."""
    hush()
    points = None if source is None else open_source(source, component)
    start = time.perf_counter()
    with listening(not quiet) as show:
        made = build_index(graph, out, points, progress=show, **arguments)
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
            ("size", f"{format_bytes(facts['bytes'])}, format {facts['format_version']}"),
        ]
    )


def query(index: str, queries: str, out: str, component: str | None, quiet: bool, **arguments: Any) -> Answer:
    """Answer the queries of a file and write ids and distances; the arguments are those of Index.query."""
    hush()
    opened = open_index(index)
    asked = open_source(queries, component)
    if asked.d != opened.layout.d:
        raise SpecError(f"{queries} holds rows of {asked.d} columns, but the index at {index} of {opened.layout.d}")
    if os.path.lexists(out):
        raise SpecError(f"{out} exists already; name a new path, or remove it first")
    spec = SearchSpec(arguments["k"], arguments["epsilon"], arguments["ef"], arguments["radius"])
    spec.check_rows(opened.n)
    start, k = time.perf_counter(), spec.k
    with answers.Writer(out, asked.n, k) as writer:
        for first in range(0, asked.n, asked.chunk_rows):
            block = asked.read(first, min(asked.n, first + asked.chunk_rows))
            writer.append(*opened.query(block, **arguments))
    seconds = time.perf_counter() - start
    plan = str(opened.plan(arguments.get("memory_limit")))
    facts = {"location": out, "queries": asked.n, "k": k, "seconds": round(seconds, 3), "plan": plan}
    text = f"{out}: {asked.n:,} x {k} answers in {seconds:.1f} s; {plan}"
    return Answer(facts, "" if quiet else text)
