"""The graph store: a Zarr v3 group that a reader finds complete or is told how to resume.

/            attribute "distnnd": all facts, written in one piece; the only commit point
/indices     int64[n, k], /distances float32[n, k]: the finished graph, same row chunks, crc32c
/rounds/<r>  ids int64[n, width], distances float32[n, width]: committed lists of round r; surrogates, not distances
/scratch     mailboxes of the running round, unless the user gave them another place
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..values.errors import SpecError, StoreError, brief
from . import arrays, facts, files, marks, stores
from .formats import absolute

FORMAT_VERSION = "1.0"
ATTRIBUTE = "distnnd"
KIND = facts.Kind(
    "graph",
    ATTRIBUTE,
    FORMAT_VERSION,
    other="a Zarr group, but no graph of distnnd; name another place",
    damaged="restore it from a copy",
    outdated="use the version that wrote it",
)


def facts_of(location: str) -> dict[str, Any] | None:
    """The facts of the graph store at `location`, None if nothing is there; errors as `facts.read` has them.

    StoreError if they name what no build of ours would: a uuid or a number of a round that would lead elsewhere.
    """
    found = facts.read(location, KIND)
    if found is not None:
        if "uuid" in found:
            marks.checked(found["uuid"], location)
        for place, one in enumerate(found.get("rounds", []), 1):
            if not isinstance(one, dict) or type(one.get("number")) is not int or one["number"] != place:
                raise StoreError(f"{location}: its facts do not number the rounds 1, 2, ...; restore them from a copy")
    return found


def create(location: str, known: dict[str, Any]) -> None:
    """Begin a graph store with the facts known so far; SpecError if something is at `location` already."""
    facts.create(location, KIND, known)


def commit(location: str, known: dict[str, Any], was: str | None = None) -> dict[str, Any]:
    """Replace the facts, which are returned: from now on the store is what they say.

    was: the uuid that stands there, if it is to change. InUse if another process has replaced them since `known`.
    """
    return facts.commit(location, KIND, known, was)


def check_current(location: str, known: dict[str, Any]) -> None:
    """InUse if another process has replaced the facts since `known` were read or written."""
    facts.check_current(location, KIND, known)


def create_round(location: str, number: int, n: int, width: int, block_rows: int) -> None:
    """Empty lists of a round, one chunk a block."""
    place = f"rounds/{number}"
    arrays.ensure(location, f"{place}/ids", (n, width), np.int64, block_rows, ("row", "neighbour"))
    arrays.ensure(location, f"{place}/distances", (n, width), np.float32, block_rows, ("row", "neighbour"))


def write_lists(location: str, number: int, first: int, ids: np.ndarray, distances: np.ndarray) -> None:
    """Write the lists of the rows from `first` on, whole blocks of a round: ids int64[m, width], surrogates float32."""
    for name, values in (("ids", ids), ("distances", distances)):
        arrays.write(arrays.opened(location, f"rounds/{number}/{name}", "r+"), first, values)


def read_lists(location: str, number: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The lists of the rows first .. last as round `number` left them; StoreError names a chunk that is damaged."""
    # Opened anew: after a rebuild in its place, another graph has its rounds under the same names.
    places = (f"rounds/{number}/ids", f"rounds/{number}/distances")
    ids, distances = (arrays.read(arrays.opened(location, place), first, last) for place in places)
    return ids, distances


def tidy(location: str) -> None:
    """Delete what only a build needs, once the graph is published, and what killed processes left half-written."""
    for name in ("rounds", "scratch"):
        stores.remove(location, name)
    if stores.is_local(location):
        files.sweep(location)


def drop_round(location: str, number: int) -> None:
    """Delete the lists of a round that a later commit made useless."""
    stores.remove(location, f"rounds/{number}")


def create_result(location: str, n: int, k: int, block_rows: int) -> None:
    """The arrays of the finished graph, still empty."""
    arrays.ensure(location, "indices", (n, k), np.int64, block_rows, ("row", "neighbour"))
    arrays.ensure(location, "distances", (n, k), np.float32, block_rows, ("row", "neighbour"))


def write_result(location: str, first: int, ids: np.ndarray, distances: np.ndarray) -> None:
    """Write finished rows from `first` on: ids int64[m, k], distances float32[m, k]."""
    for name, values in (("indices", ids), ("distances", distances)):
        arrays.write(arrays.opened(location, name, "r+"), first, values)


def result_arrays(location: str) -> tuple[Any, Any]:
    """The Zarr arrays of a finished graph as they are now: indices and distances."""
    return arrays.opened(location, "indices"), arrays.opened(location, "distances")


def result_blocks(location: str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The finished graph chunk by chunk: first row, ids int64[m, k], distances float32[m, k].

    StoreError names the chunk that is missing, truncated or altered.
    """
    indices, distances = result_arrays(location)
    n, rows = indices.shape[0], indices.chunks[0]
    for first in range(0, n, rows):
        last = min(n, first + rows)
        yield first, arrays.read(indices, first, last), arrays.read(distances, first, last)


def check_result(location: str, facts: dict[str, Any]) -> None:
    """StoreError unless the arrays of a finished graph have the shape, dtype, chunks and checksums that they should."""
    shape, found = (facts["n"], facts["n_neighbors"]), result_arrays(location)
    for array, dtype in zip(found, (np.int64, np.float32), strict=True):
        where = f"{location}/{array.path}"
        if array.shape != shape:
            raise StoreError(f"{where} has shape {array.shape}, but the facts of the graph say {shape}")
        if array.dtype != dtype:
            raise StoreError(f"{where} has dtype {array.dtype} instead of {np.dtype(dtype)}")
        if array.chunks != found[0].chunks or array.chunks[1] != shape[1]:
            raise StoreError(f"{where} has chunks of {array.chunks}, not of whole rows that both arrays share")
        codecs = [codec["name"] for codec in array.metadata.to_dict().get("codecs", ())]
        if "crc32c" not in codecs:
            raise StoreError(f"{where} has no crc32c in its chunks, so that what was altered could not be seen")


def place_of(location: Any) -> str:
    """A path made absolute, or a URL as it is; SpecError for anything else."""
    if not isinstance(location, str | os.PathLike) or not os.fspath(location):
        raise SpecError(f"a graph is named by a path or a URL, not {brief(location)}")
    return absolute(location)


def check_apart(out: str, source: str) -> None:
    """SpecError if one of the two lies inside the other."""
    one, other = out.rstrip("/") + "/", source.rstrip("/") + "/"
    if one.startswith(other) or other.startswith(one):
        raise SpecError(f"the output {out} and the input {source} lie inside each other; choose another output")


def free_bytes(location: str) -> int | None:
    """Free bytes of the disk a local path lies on; None for other stores."""
    if not stores.is_local(location):
        return None
    folder = location
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free


def check_no_links(location: str) -> None:
    """StoreError if a folder of a store is a symbolic link: a build would write into what is somebody else's."""
    if not stores.is_local(location):
        return
    for parent, folders, _ in os.walk(location):
        for path in (os.path.join(parent, name) for name in folders):
            if os.path.islink(path):
                raise StoreError(
                    f"{path} is a symbolic link to {os.readlink(path)}, which a build does not follow; put the folder "
                    "itself in its place, or remove the link. A scratch on another disk is named by scratch (--scratch)"
                )


def identity(location: str) -> str:
    """The name of the place of a store, the same by whatever link a process came there."""
    return os.path.realpath(location) if stores.is_local(location) else location


def drop(location: str) -> None:
    """Delete a graph store of ours, whole."""
    if facts_of(location) is not None:
        marks.remove_store(location)
