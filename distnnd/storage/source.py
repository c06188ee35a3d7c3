"""Opening any dense input of points: `open_source` from what a user names, `reopen_source` in a worker."""

from __future__ import annotations

import difflib
import itertools
import os
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore

from distnnd.storage.formats import (
    Source,
    absolute,
    find_resident,
    keep_resident,
    open_array,
    open_file,
    reopen_mapped,
)
from distnnd.storage.points import open_store, open_zarr
from distnnd.values.errors import SpecError, StoreError

__all__ = ["Source", "is_dask_array", "open_source", "reopen_source"]

USUAL_NAMES = ("points", "X")
NAMES_LISTED = 10


def is_dask_array(source: object) -> bool:
    """Whether `source` is a lazy Dask collection, told without importing Dask."""
    return hasattr(source, "__dask_graph__")


def open_source(source: object, component: str | None = None) -> Source:
    """The points in a path, URL, zarr.Array, zarr.Group, numpy array or memmap, ready to be read by rows.

    A path may name a Zarr array or group, or a .npy, .fbin, .u8bin, .i8bin, .fvecs or .bvecs file. In a Zarr
    group, `component` is the path of the array; it may be left out if one 2-D array is called "points" or
    "X", or if there is only one. Raises SpecError if nothing can be meant by `source`, InputError for a shape
    or dtype that is not that of points, StoreError for what is damaged.
    """
    if isinstance(source, str | os.PathLike):
        return _open_path(source, component)
    if isinstance(source, zarr.Group):
        store = source.store
        return _open_array(_find_array(store, _join(source.path, component), _place(store)))
    if component is not None:
        raise SpecError(f"component={component!r} names an array in a Zarr group; {_kind(source)} is none")
    if isinstance(source, Source):
        return source
    if isinstance(source, zarr.Array):
        return _open_array(source)
    if isinstance(source, np.ndarray):
        return open_array(source)
    if is_dask_array(source):
        raise SpecError("a dask array must be spooled first: write it to Zarr, and open that")
    raise SpecError(
        f"{_kind(source)} is no source of points; give a path, a URL, a zarr.Array, a dask array, or a numpy "
        "array, numpy.asarray(points)"
    )


def reopen_source(spec: dict[str, Any]) -> Source:
    """The source that a `Source.spec` describes, in this process.

    Raises StoreError where the points are out of its reach: gone, in another process, or on a path that this
    machine does not see.
    """
    kind = spec.get("kind")
    try:
        if kind == "resident":
            return find_resident(spec)
        if kind == "mapped":
            return reopen_mapped(spec)
        if kind == "zarr":
            return _open_path(spec["location"], spec["component"])
    except SpecError as error:
        raise StoreError(f"{error}; each worker must see the points under the same path") from error
    except (KeyError, TypeError) as error:
        raise StoreError(f"not the description of a source: {spec}") from error
    raise StoreError(f"not the description of a source known to this version: {spec}")


def _kind(source: object) -> str:
    return f"a {type(source).__module__}.{type(source).__qualname__}"


def _open_path(path: str | os.PathLike[str], component: str | None) -> Source:
    if not os.fspath(path):
        raise SpecError("the path of the points is empty")
    place = absolute(path)
    if "://" in place:
        return _open_store(place, component)
    if not os.path.exists(place):
        raise SpecError(_what_is_near(place))
    if os.path.isdir(place):
        return _open_store(place, component)
    if component is not None:
        raise SpecError(f"component={component!r} names an array in a Zarr group; {place} is a file")
    return open_file(place)


def _what_is_near(path: str) -> str:
    """What to say of a path that does not exist: where it ends, and which names there are like the next."""
    folder, name = os.path.split(path)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder, name = os.path.split(folder)
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, 10_000)]
    except OSError:
        names = []
    near = difflib.get_close_matches(name, names)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"{path} does not exist: {folder} holds no {name!r}{hint}"


# --- Zarr ------------------------------------------------------------------------------------------------


def _open_store(location: str, component: str | None) -> Source:
    """The source of an array at, or within the group at, a local path or URL."""
    array = _find_array(open_store(location, read_only=True), component or "", location)
    origin = {"kind": "zarr", "location": location, "component": array.path or None}
    source = open_zarr(array, _join(location, array.path), origin)
    return keep_resident(source) if location.startswith("memory://") else source


def _open_array(array: zarr.Array) -> Source:
    """The source of an open Zarr array: of its path if that is local, else kept in this process.

    A store that is not local may hold credentials, which a description must not.
    """
    where = _join(_place(array.store), array.path)
    if isinstance(array.store, LocalStore):
        origin = {"kind": "zarr", "location": _place(array.store), "component": array.path or None}
        return open_zarr(array, where, origin)
    return keep_resident(open_zarr(array, where, {}))


def _place(store: Store) -> str:
    """A name for messages that tells no secret; of a local store, its path."""
    if isinstance(store, LocalStore):
        return os.path.abspath(str(store.root))
    return "<zarr in memory>" if isinstance(store, MemoryStore) else f"<zarr over {type(store).__name__}>"


def _join(first: str, second: str | None) -> str:
    return "/".join(part for part in (first, second) if part)


def _find_array(store: Store, component: str, where: str) -> zarr.Array:
    """The array at `component` of a store, or the one that must be meant in the group that is there."""
    node = _open_node(store, component.strip("/"), where)
    if isinstance(node, zarr.Array):
        return node
    arrays = {name: child for name, child in _members(node, where, 0) if child.ndim == 2}
    chosen = [name for name in USUAL_NAMES if name in arrays] or list(arrays)
    if len(chosen) == 1:
        return arrays[chosen[0]]
    raise SpecError(f"{_join(where, component)} is a group; {_choice(node, where)}")


def _open_node(store: Store, path: str, where: str) -> zarr.Array | zarr.Group:
    """The array or group at `path`; raises SpecError if there is none, StoreError if it cannot be read."""
    if {".", ".."} & set(path.split("/")):
        raise SpecError(f"component={path!r} must lead downwards from {where}")
    try:
        return zarr.open(store=store, path=path, mode="r")
    except FileNotFoundError as error:
        if not path:
            raise SpecError(f"{where} holds no Zarr array or group") from error
    except Exception as error:
        raise StoreError(f"{_join(where, path)}: the metadata cannot be read ({error})") from error
    root = _open_node(store, "", where)
    hint = _choice(root, where) if isinstance(root, zarr.Group) else "it is itself an array"
    raise SpecError(f"{where} has no component {path!r}; {hint}")


def _choice(group: zarr.Group, where: str) -> str:
    """Which arrays of a group `component` could name."""
    arrays = [f"{name!r} {child.shape} {child.dtype}" for name, child in _members(group, where, 3) if child.ndim == 2]
    if not arrays:
        return "it holds no array of two dimensions"
    more = f" and {len(arrays) - NAMES_LISTED} more" if len(arrays) > NAMES_LISTED else ""
    return f"choose one by component: {', '.join(arrays[:NAMES_LISTED])}{more}"


def _members(group: zarr.Group, where: str, depth: int) -> list[tuple[str, zarr.Array]]:
    """(path, array) of each array down to `depth` groups below `group`, by path."""
    try:
        members = list(group.members(max_depth=depth))
    except Exception as error:
        raise StoreError(f"{where}: the group cannot be listed ({error})") from error
    return sorted((name, node) for name, node in members if isinstance(node, zarr.Array))
