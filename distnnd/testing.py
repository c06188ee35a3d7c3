"""For tests: small data that goes through several partitions, as data larger than memory does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

from .sources import FORCED
from .values.errors import SpecError
from .values.plan import Cut


@contextmanager
def forced_partitions(
    partitions: int = 4, block_rows: int = 512, cap: int | None = None, *, sketches: bool = False
) -> Iterator[None]:
    """Inside the `with` block, build() and plan() cut even small data into `partitions`.

    A small build compares all pairs of rows in one task. With this, its rows travel between partitions as those of a
    large build do, so that a test of a few thousand rows runs the same code::

        with distnnd.testing.forced_partitions(partitions=4):
            graph = distnnd.build(points, n_neighbors=10)

    partitions: how many; 1 puts all rows into one partition that is solved by leaves. block_rows: consecutive rows of
    one block of the points and of the graph. cap: most rows that one task holds; a partition of more is split; None
    for as many as there are. Recall is then estimated from at most 300 rows, also where all pairs would have been
    exact. Partitions should hold many times as many rows as a list: some hundred, if n_neighbors is ten.

    Sparse rows are mostly compared with all others, exactly, in blocks: they are cut into at least as many blocks as
    `partitions`, and the answer stays exact. sketches: True lets them travel between partitions, as very many rows do.

    It holds for all builds and plans that start in this process: by Python, by the command line called in process,
    in threads that were started before or inside. Worker processes need nothing, because the cut is stored with the
    graph. A process that is started afresh, such as the command line in a shell, is not affected; one that is forked
    inside is. Where two are nested the inner one counts. An interrupted build goes on with the cut that it began with.

    Raises SpecError unless partitions, block_rows and cap are whole numbers of at least 1.
    """
    asked = {"partitions": partitions, "block_rows": block_rows} | ({} if cap is None else {"cap": cap})
    for name, value in asked.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise SpecError(f"{name}={value!r} of forced_partitions is no whole number of at least 1")
    token = object()
    FORCED[token] = Cut(int(partitions), int(block_rows), None if cap is None else int(cap), bool(sketches))
    try:
        yield
    finally:
        del FORCED[token]
