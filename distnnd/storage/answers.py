"""Answers to queries, written batch by batch: a Zarr group, or two .npy files side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from ..values.errors import SpecError
from . import arrays, stores
from .formats import absolute

CHUNK_ROWS = 65536


def free_place(out: Any) -> str:
    """The path or URL of answers to be; SpecError if something is there already."""
    place = absolute(out)
    npy = place.endswith(".npy")
    if npy and not stores.is_local(place):
        raise SpecError(f"{place}: a file of answers cannot lie there; name a Zarr group, without .npy")
    for path in (place, _beside(place)) if npy else (place,):
        if not stores.is_empty(path):
            raise SpecError(f"{path} exists already; name a new path, or remove it first")
    return place


def _beside(out: str) -> str:
    return f"{out.removesuffix('.npy')}.distances.npy"


class Writer:
    """Writes ids int64[m, k] and distances float32[m, k] to a new place.

    out: of free_place, "<name>.npy" for the ids, with the distances beside it in "<name>.distances.npy"; else a Zarr
    group with the arrays `indices` and `distances`.
    """

    def __init__(self, out: str, m: int, k: int) -> None:
        self._out, self._m, self._k, self._at = out, m, k, 0
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._files: list[Any] = []
        if out.endswith(".npy"):
            for path, dtype in ((out, np.int64), (_beside(out), np.float32)):
                self._files.append(np.lib.format.open_memmap(path, "w+", dtype, (m, k)))
        else:
            zarr.create_group(store=stores.opened(out))
            for name, dtype in (("indices", np.int64), ("distances", np.float32)):
                self._files.append(arrays.create(out, name, (m, k), dtype, CHUNK_ROWS, ("query", "neighbour")))

    def __enter__(self) -> Writer:
        return self

    def append(self, ids: np.ndarray, distances: np.ndarray) -> None:
        """Write the answers that come next."""
        if self._out.endswith(".npy"):
            for file, values in zip(self._files, (ids, distances), strict=True):
                file[self._at : self._at + len(values)] = values
            self._at += len(ids)
            return
        self._held.append((ids, distances))
        self._write_chunks(last=False)

    def _write_chunks(self, last: bool) -> None:
        """Write what makes whole chunks, and at the end the rest."""
        waiting = sum(len(ids) for ids, _ in self._held)
        if not waiting or (waiting < CHUNK_ROWS and not last):
            return
        whole = waiting if last else waiting - waiting % CHUNK_ROWS
        both = [np.concatenate(part) for part in zip(*self._held, strict=True)]
        for file, values in zip(self._files, both, strict=True):
            arrays.write(file, self._at, values[:whole])
        self._held = [(both[0][whole:], both[1][whole:])]
        self._at += whole

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and not self._out.endswith(".npy"):
            self._write_chunks(last=True)
        for file in self._files:
            if isinstance(file, np.memmap):
                file.flush()
