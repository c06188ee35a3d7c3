"""Where a build writes: its output, its scratch, and a copy of points that live in no file."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import weakref
from contextlib import suppress
from typing import Any

import zarr

from ..values.errors import Unreachable
from . import arrays, graph, stores
from .points import write_points
from .source import Source, SparseSource, open_source
from .sparse import convert_csr


def rows_spooled(d: int) -> int:
    """Rows of a chunk in which points that come lazily are written: some 8 MiB."""
    return max(1, 2**23 // max(1, d * 4))


class Spool:
    """Output and scratch of a build, and what must be taken away at its end.

    out: where the graph goes; if the user named no place, a temporary folder that goes with the graph (see keep_for).
    scratch: where mailboxes go.
    """

    def __init__(self, out: Any, scratch: Any) -> None:
        self._folder = tempfile.mkdtemp(prefix="distnnd-") if out is None else None
        self.out = graph.place_of(out) if self._folder is None else os.path.join(self._folder, "graph.zarr")
        self.scratch = f"{self.out}/scratch" if scratch is None else graph.place_of(scratch)
        self._points: str | None = None

    def __enter__(self) -> Spool:
        return self

    def keep_for(self, holder: object) -> None:
        """Let a temporary folder live as long as `holder` does."""
        if self._folder is not None:
            weakref.finalize(holder, shutil.rmtree, self._folder, ignore_errors=True)
            self._folder = None

    def __exit__(self, *exception: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._points is not None:
            # What is done, or what went wrong, matters more than a copy that stays.
            with suppress(Unreachable):
                stores.remove(self._points)

    def _place(self) -> str:
        # Never a name that somebody may have used for something else.
        base = self.out if self.scratch.startswith(self.out + "/") else f"{self.scratch}/spool"
        self._points = f"{base.rstrip('/')}-points-{uuid.uuid4().hex}.zarr"
        return self._points

    def target(self, n: int, d: int, dtype: str) -> Any:
        """A new array for points that come lazily."""
        place = self._place()
        rows = rows_spooled(d)
        zarr.create_group(store=stores.opened(place))
        return arrays.create(place, "points", (n, d), dtype, rows, ("row", "dim"))

    def spooled(self) -> Source:
        """The points that were written."""
        return open_source(self._points, "points")

    def copy(self, source: Source | SparseSource) -> Source | SparseSource:
        """The points of this process, written where other processes can read them."""
        place = self._place()
        if isinstance(source, SparseSource):
            convert_csr(source, place)
            return open_source(place, sparse=True)
        rows = source.chunk_rows
        blocks = (source.read(start, min(source.n, start + rows)) for start in range(0, source.n, rows))
        # In the same chunks: a plan for the points where they are holds for the copy.
        chunk = min(rows, 1 << (source.n - 1).bit_length())
        write_points(place, blocks, n=source.n, d=source.d, dtype=source.dtype, chunk_rows=chunk)
        return open_source(place)
