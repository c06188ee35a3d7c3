"""Answers to queries, written batch by batch: a Zarr group, or two .npy files side by side.

What is at the place that was named is whole: on a local disk answers are written aside and renamed, and in an object
store the document of the group is written last, without which there is no group.
"""

from __future__ import annotations

import os
import re
import uuid
from contextlib import suppress
from typing import Any

import numpy as np

from ..values.errors import SpecError, Unreachable
from . import arrays, documents, files, marks, outputs, stores
from .formats import absolute

CHUNK_ROWS = 65536
KIND = "answers"
DTYPES: dict[str, np.dtype[Any]] = {"indices": np.dtype(np.int64), "distances": np.dtype(np.float32)}


def free_place(out: Any, overwrite: bool = False) -> str:
    """The path or URL of answers to be; SpecError if something is there already.

    overwrite: answers that were written so before may be there. What a killed process left is no hindrance.
    """
    place = absolute(out)
    npy = place.endswith(".npy")
    if npy and not stores.is_local(place):
        raise SpecError(f"{place}: a file of answers cannot lie there; name a Zarr group, without .npy")
    if all(stores.is_empty(path) for path in ((place, _beside(place)) if npy else (place,))):
        return place
    if _left_half(place) or (overwrite and _is_ours(place)):
        return place
    if overwrite:
        raise SpecError(
            f"{place} exists and holds no answers of distnnd: overwrite does not replace it; name a new path"
        )
    raise SpecError(
        f"{place} exists already; name a new path, remove it first, or pass overwrite=True (--overwrite) to replace "
        "what distnnd wrote there"
    )


def _beside(out: str) -> str:
    return f"{out.removesuffix('.npy')}.distances.npy"


def _is_ours(place: str) -> bool:
    """Whether answers are there: a group with our mark, or a file of ids with their distances in a file beside it."""
    if not place.endswith(".npy"):
        mark = marks.of(place)
        return mark is not None and mark.kind == KIND
    ids, distances = (_header(path) for path in (place, _beside(place)))
    return ids is not None and distances is not None and (ids[1], distances[1]) == tuple(DTYPES.values())


def _header(path: str) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    return array.shape, array.dtype


def _left_half(place: str) -> bool:
    """Whether there is only what a process left that was killed before its answers were whole."""
    if not place.endswith(".npy"):
        mark = marks.of(place)
        return mark is not None and mark.kind == KIND and stores.get(place, marks.DOCUMENT) is None
    if os.path.lexists(place):
        return False
    folder, name = os.path.split(place)
    waiting = re.compile(re.escape(name) + r"\.[0-9a-f]{32}\.partial")
    return any(waiting.fullmatch(entry) for entry in os.listdir(folder))


class Writer:
    """Writes ids int64[m, k] and distances float32[m, k], which are at their place once the block ends well.

    out: of free_place, "<name>.npy" for the ids, with the distances beside it in "<name>.distances.npy"; else a Zarr
    group with the arrays `indices` and `distances`. If the block fails, nothing stays.
    """

    def __init__(self, out: str, m: int, k: int) -> None:
        self._out, self._at = out, 0
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._npy = out.endswith(".npy")
        if self._npy:
            self._places = [files.name_aside(path) for path in (out, _beside(out))]
        else:
            self._places = [files.name_aside(os.path.realpath(out)) if stores.is_local(out) else out]
            if not stores.is_local(out) and (mark := marks.of(out)) is not None and mark.kind == KIND:
                marks.remove_store(out)
        try:
            self._files = self._npy_files((m, k)) if self._npy else self._arrays((m, k))
        except BaseException:
            self._discard()
            raise

    def _npy_files(self, shape: tuple[int, int]) -> list[Any]:
        return [
            np.lib.format.open_memmap(path, "w+", dtype, shape)
            for path, dtype in zip(self._places, DTYPES.values(), strict=True)
        ]

    def _arrays(self, shape: tuple[int, int]) -> list[Any]:
        # The first thing that is written says whose it is.
        kept = marks.lasting(KIND, uuid.uuid4().hex, self._out)
        if stores.is_local(self._out):
            stores.put(self._places[0], marks.DOCUMENT, documents.group_text(kept).encode())
        dims = ("query", "neighbour")
        return [
            arrays.create(self._places[0], name, shape, dtype, CHUNK_ROWS, dims, attributes=kept)
            for name, dtype in DTYPES.items()
        ]

    def __enter__(self) -> Writer:
        return self

    def append(self, ids: np.ndarray, distances: np.ndarray) -> None:
        """Write the answers that come next."""
        if self._npy:
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
        if kind is not None:
            self._discard()
            return
        try:
            self._finish()
        except BaseException:
            self._discard()
            raise

    def _finish(self) -> None:
        if self._npy:
            for file in self._files:
                file.flush()
            # The ids last: as long as they wait, the distances are known to be left over.
            ids, distances = self._places
            os.replace(distances, _beside(self._out))
            os.replace(ids, self._out)
            for path in (self._out, _beside(self._out)):
                marks.sweep(path)
            return
        self._write_chunks(last=True)
        text = documents.group_text(marks.lasting(KIND, uuid.uuid4().hex, self._out))
        stores.put(self._places[0], marks.DOCUMENT, text.encode())
        outputs.swap(self._places[0], self._out)

    def _discard(self) -> None:
        """Delete what was written of answers that will never be whole."""
        self._files = []
        for place in self._places:
            if self._npy:
                with suppress(FileNotFoundError):
                    os.unlink(place)
            else:
                with suppress(Unreachable):
                    marks.remove_store(place)
