"""Where a build writes: its output, its scratch, and a copy of points that live in no file."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import zarr

from ..values.errors import Unreachable
from . import arrays, graph, marks, stores
from .declared import Declared, sparse_rows
from .points import write_points
from .source import Source, SparseSource, made_of, open_source
from .sparse import convert_csr, write_csr
from .temporary import Folder

KIND = "points"


def spooled_rows(n: int, d: int) -> int:
    """Rows of a chunk of points that come lazily, and that are read together."""
    return max(1, min(n, 2**23 // max(1, d * 4)))


class Spool:
    """Output and scratch of a build, and what must be taken away at its end.

    out: where the graph goes; if the user named no place, a temporary folder that goes with the graph (see keep_for).
    scratch: where mailboxes go.
    """

    def __init__(self, out: Any, scratch: Any) -> None:
        self._folder = Folder.new() if out is None else None
        self.out = graph.place_of(out) if self._folder is None else os.path.join(self._folder.path, "graph.zarr")
        self.scratch = f"{self.out}/scratch" if scratch is None else graph.place_of(scratch)
        self._points: str | None = None
        self._uuid = uuid.uuid4().hex

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exception: object) -> None:
        # A graph of the temporary folder holds it; without one it goes now.
        self._folder = None
        if self._points is not None:
            # What is done, or what went wrong, matters more than a copy that stays.
            with suppress(Unreachable):
                marks.remove(self._points, KIND, self._uuid)

    def _place(self) -> str:
        # Never a name that somebody may have used for something else.
        base = self.out if self.scratch.startswith(self.out + "/") else f"{self.scratch}/spool"
        self._points = f"{base.rstrip('/')}-points-{self._uuid}.zarr"
        return self._points

    @property
    def _attributes(self) -> dict[str, Any]:
        return marks.attributes(KIND, self._uuid, self.out)

    def target(self, n: int, d: int, dtype: str) -> Any:
        """A new array for points that come lazily."""
        place = self._place()
        zarr.create_group(store=stores.opened(place), attributes=self._attributes)
        return arrays.create(place, "points", (n, d), dtype, spooled_rows(n, d), ("row", "dim"))

    def write(self, blocks: Iterable[Any], said: Declared) -> None:
        """Write the points that come lazily, block by block: arrays, or CSR matrices of scipy."""
        n, d, place = said.n, said.d, self._place()
        if said.sparse:
            # How many entries there are is known in the end: the arrays are cut then.
            write_csr(place, map(sparse_rows, blocks), n=n, d=d, entries=n * d, attributes=self._attributes)
        else:
            rows = spooled_rows(n, d)
            write_points(place, blocks, n=n, d=d, dtype=said.dtype, chunk_rows=rows, attributes=self._attributes)

    def spooled(self, fingerprint: dict[str, Any]) -> Source | SparseSource:
        """The points that were written, with the fingerprint of what they were made of."""
        assert self._points is not None, "nothing was written"
        return made_of(open_source(self._points, sparse=True), fingerprint)

    def copy(self, source: Source | SparseSource) -> Source | SparseSource:
        """The points of this process, written where other processes can read them."""
        place = self._place()
        if isinstance(source, SparseSource):
            convert_csr(source, place, self._attributes)
            return open_source(place, sparse=True)
        rows = source.chunk_rows
        blocks = (source.read(start, min(source.n, start + rows)) for start in range(0, source.n, rows))
        write_points(place, blocks, n=source.n, d=source.d, dtype=source.dtype, attributes=self._attributes)
        return open_source(place)
