"""The graph store: a Zarr v3 group that a reader finds complete or is told how to resume.

/            attribute "distnnd": all facts, written in one piece; the only commit point
/indices     int64[n, k], /distances float32[n, k]: the finished graph, same row chunks, crc32c
/rounds/<r>  ids int64[n, width], distances float32[n, width]: committed lists of round r; surrogates, not distances
/scratch     mailboxes of the running round, unless the user gave them another place
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import numpy as np
import zarr
from zarr.errors import ContainsArrayError, ContainsGroupError

from ..values.errors import SpecError, StoreError
from . import arrays

FORMAT_VERSION = "1.0"
ATTRIBUTE = "distnnd"


def facts_of(location: str) -> dict[str, Any] | None:
    """The facts of the graph store at `location`; None if nothing is there; SpecError or StoreError if something else is."""
    try:
        group = zarr.open_group(store=location, mode="r")
    except (FileNotFoundError, KeyError) as error:
        if "://" not in location and os.path.exists(location):
            raise SpecError(f"{location} exists and is no graph of distnnd; choose another output") from error
        return None
    except Exception as error:
        raise StoreError(f"{location} is there but is no Zarr group ({error})") from error
    facts = group.attrs.get(ATTRIBUTE)
    if not isinstance(facts, dict) or "format_version" not in facts:
        raise StoreError(f"{location} is a Zarr group, but no graph of distnnd")
    if str(facts["format_version"]).split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise StoreError(
            f"{location} has format version {facts['format_version']}, this distnnd reads {FORMAT_VERSION}; "
            "use the version that wrote it"
        )
    return facts


def create(location: str, facts: dict[str, Any]) -> None:
    """Begin a graph store; SpecError if something is at `location` already."""
    try:
        zarr.create_group(store=location, attributes={ATTRIBUTE: {"format_version": FORMAT_VERSION, **facts}})
    except (ContainsGroupError, ContainsArrayError, FileExistsError) as error:
        raise SpecError(f"{location} exists; choose another output, or delete it first") from error


def commit(location: str, facts: dict[str, Any]) -> None:
    """Replace the facts: one small document, written atomically, is what turns new arrays into the truth."""
    group = zarr.open_group(store=location, mode="r+")
    group.update_attributes({ATTRIBUTE: {"format_version": FORMAT_VERSION, **facts}})


def create_round(location: str, number: int, n: int, width: int, block_rows: int) -> None:
    """Empty lists of a round, one chunk a block."""
    place = f"rounds/{number}"
    arrays.create(location, f"{place}/ids", (n, width), np.int64, block_rows, ("row", "neighbour"))
    arrays.create(location, f"{place}/distances", (n, width), np.float32, block_rows, ("row", "neighbour"))


def write_lists(location: str, number: int, first: int, ids: np.ndarray, distances: np.ndarray) -> None:
    """Write the lists of the rows from `first` on, whole blocks of a round: ids int64[m, width], surrogates float32."""
    for name, values in (("ids", ids), ("distances", distances)):
        target = zarr.open_array(store=location, path=f"rounds/{number}/{name}", mode="r+")
        target[first : first + len(values)] = values


def read_lists(location: str, number: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The lists of the rows first .. last as round `number` left them; StoreError where a chunk is missing."""
    ids = arrays.read(location, f"rounds/{number}/ids", first, last)
    distances = arrays.read(location, f"rounds/{number}/distances", first, last)
    lost = np.flatnonzero(np.isnan(distances).any(axis=1))
    if lost.size:
        raise StoreError(
            f"{location}/rounds/{number}: the chunk of row {first + int(lost[0])} is missing; "
            "delete the graph store and build it again"
        )
    return ids, distances


def drop_round(location: str, number: int) -> None:
    """Delete the lists of a round that a later commit made useless."""
    arrays.remove(location, f"rounds/{number}")
    arrays.opened.cache_clear()


def create_result(location: str, n: int, k: int, block_rows: int) -> None:
    """The arrays of the finished graph, still empty."""
    arrays.create(location, "indices", (n, k), np.int64, block_rows, ("row", "neighbour"))
    arrays.create(location, "distances", (n, k), np.float32, block_rows, ("row", "neighbour"))


def write_result(location: str, first: int, ids: np.ndarray, distances: np.ndarray) -> None:
    """Write finished rows from `first` on: ids int64[m, k], distances float32[m, k]."""
    for name, values in (("indices", ids), ("distances", distances)):
        target = zarr.open_array(store=location, path=name, mode="r+")
        target[first : first + len(values)] = values


def read_result(location: str, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Finished rows first .. last; StoreError names the chunk that is missing or damaged."""
    ids = arrays.read(location, "indices", first, last)
    distances = arrays.read(location, "distances", first, last)
    lost = np.flatnonzero((ids < 0).any(axis=1) | np.isnan(distances).any(axis=1))
    if lost.size:
        row = first + int(lost[0])
        name = "indices" if (ids[lost[0]] < 0).any() else "distances"
        chunk = row // arrays.opened(location, name).chunks[0]
        raise StoreError(
            f"{location}/{name}/c/{chunk}/0, which holds row {row}, is missing or empty; "
            "restore it from a copy, or build the graph again"
        )
    return ids, distances


def result_arrays(location: str) -> tuple[Any, Any]:
    """The Zarr arrays of a finished graph: indices and distances."""
    return arrays.opened(location, "indices"), arrays.opened(location, "distances")


def place_of(location: Any) -> str:
    """A path made absolute, or a URL as it is; SpecError for anything else."""
    if isinstance(location, os.PathLike):
        location = os.fspath(location)
    if not isinstance(location, str) or not location:
        raise SpecError(f"a graph is named by a path or a URL, not {location!r}")
    return location if "://" in location else os.path.abspath(os.path.expanduser(location))


def check_apart(out: str, source: str) -> None:
    """SpecError if one of the two lies inside the other."""
    one, other = out.rstrip("/") + "/", source.rstrip("/") + "/"
    if one.startswith(other) or other.startswith(one):
        raise SpecError(
            f"the output {out} and the input {source} lie inside each other; choose another output"
        )


def free_bytes(location: str) -> int | None:
    """Free bytes of the disk a local path lies on; None for other stores."""
    if "://" in location:
        return None
    folder = location
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free


def drop(location: str) -> None:
    """Delete a graph store of ours, whole."""
    if facts_of(location) is not None:
        arrays.remove(location, "")
        if "://" not in location:
            shutil.rmtree(location, ignore_errors=True)
