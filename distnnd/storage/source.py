"""Opening any input of points: `open_source` from what a user names, `reopen_source` in a worker."""

from __future__ import annotations

import difflib
import itertools
import os
from dataclasses import replace
from typing import Any, overload

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore

from distnnd.storage import stores
from distnnd.storage.bits import packed
from distnnd.storage.containers import (
    array_of,
    is_read_by_rows,
    is_scipy_sparse,
    is_xarray,
    kind_of,
    name_of,
    open_rows,
)
from distnnd.storage.converted import converted
from distnnd.storage.dense import narrowed, open_array, open_file, reopen_mapped
from distnnd.storage.foreign import check_missing
from distnnd.storage.formats import Opened, Source, absolute, find_resident, keep_resident
from distnnd.storage.points import ZarrSource, open_zarr
from distnnd.storage.remedies import refused, remedy_for_file, remedy_for_object
from distnnd.storage.sparse import CsrSource, SparseSource, open_csr, open_matrix, open_npz, sparse_encoding
from distnnd.values.errors import SpecError, StoreError, Unreachable
from distnnd.values.metric import Metric

__all__ = [
    "Source",
    "SparseSource",
    "is_dask_array",
    "made_of",
    "open_for",
    "open_source",
    "reopen_source",
    "unwrapped",
]

USUAL_NAMES = ("points", "X")
NAMES_LISTED = 10


def is_dask_array(source: object) -> bool:
    """Whether `source` is a lazy Dask collection, told without importing Dask."""
    return hasattr(source, "__dask_graph__") and not is_xarray(source)


def unwrapped(source: Any) -> Any:
    """The array in a DataArray of xarray, which may be a dask array; anything else as it is."""
    return source.data if is_xarray(source) and hasattr(source, "data") else source


def made_of(source: Source | SparseSource, fingerprint: dict[str, Any]) -> Source | SparseSource:
    """The points in a Zarr store, with the fingerprint of what they were copied from."""
    assert isinstance(source, ZarrSource | CsrSource)
    return replace(source, origin=source.origin | {"made_of": fingerprint})


@overload
def open_source(source: object, component: str | None = None, *, missing: str | None = None) -> Source: ...
@overload
def open_source(
    source: object, component: str | None = None, *, sparse: bool, missing: str | None = None
) -> Source | SparseSource: ...
def open_source(
    source: object, component: str | None = None, *, sparse: bool = False, missing: str | None = None
) -> Source | SparseSource:
    """The points in a path, URL, zarr.Array, zarr.Group, numpy array, memmap or scipy matrix, to be read by rows.

    sparse: whether the caller can do with sparse points, which are refused otherwise.

    A path may name a Zarr array or group, or a .npy, .fbin, .u8bin, .i8bin, .fvecs or .bvecs file, or an .npz of
    scipy.sparse. In a Zarr group, `component` is the path of the array, or of a sparse matrix as AnnData writes it; it
    may be left out if one 2-D array or sparse matrix is called "points" or "X", or if there is only one. missing: of a
    Zarr array, whether chunks that are not there read as the fill value, "fill", or are refused, "error"; by default
    they are refused unless they must be such that were never written, of which a warning tells. Raises SpecError if
    nothing can be meant by `source`, InputError for a shape or dtype that is not that of points, StoreError for what is
    damaged.
    """
    check_missing(missing)
    opened = _open_any(source, component, sparse, missing)
    return opened if sparse else _dense(opened)


def _dense(opened: Opened) -> Source:
    """The source; raises SpecError where it is sparse."""
    if isinstance(opened, Source):
        return opened
    opened.release()
    raise SpecError(f"{opened.location} holds sparse points, which cannot be used here; write them out, X.toarray()")


def _open_any(source: Any, component: str | None, sparse: bool, missing: Any) -> Source | SparseSource:
    source = unwrapped(source)
    if isinstance(source, str | os.PathLike):
        return _open_path(source, component, sparse, missing)
    if isinstance(source, zarr.Group):
        store = source.store
        return _open_node_of(_find_points(store, _join(source.path, component), _place(store), sparse), missing)
    if component is not None:
        raise SpecError(f"component={component!r} names an array in a Zarr group; {kind_of(source)} is none")
    if isinstance(source, Source | SparseSource):
        return source
    if isinstance(source, zarr.Array):
        return _open_node_of(source, missing)
    group = getattr(source, "group", None)
    if isinstance(group, zarr.Group) and hasattr(source, "to_memory"):
        # A sparse matrix that AnnData reads from Zarr when it is needed.
        return _open_node_of(group, missing)
    if missing is not None:
        raise SpecError(
            f"missing={missing!r} is about chunks of a Zarr array that are not there; {kind_of(source)} has none"
        )
    if is_scipy_sparse(source):
        return open_matrix(source)
    if isinstance(source, np.ndarray):
        return open_array(source)
    if is_dask_array(source):
        raise SpecError(
            'a dask array must be spooled first: write it to Zarr, points.to_zarr("points.zarr"), and give the path'
        )
    return _open_container(source, sparse)


def _open_container(source: object, sparse: bool) -> Source | SparseSource:
    """The points in what is of no kind that is known by its type; SpecError says what to do about anything else."""
    if is_read_by_rows(source):
        return open_rows(source)
    sparse_too = "a scipy sparse matrix, " if sparse else ""
    others = (
        f"give a path, a URL, a zarr.Array, a dask array, {sparse_too}a frame of numbers, or a numpy array, "
        "numpy.asarray(points)"
    )
    try:
        array = array_of(source)
    except SpecError as error:
        if remedy_for_object(source) is None:
            raise
        raise SpecError(refused(source, others)) from error
    if array is None:
        raise SpecError(refused(source, others))
    return open_array(array, f"<{name_of(source)}>", "numpy.asarray(points)")


def open_for(
    source: object, component: str | None, metric: Metric, missing: str | None = None, dtype: str | None = None
) -> Source | SparseSource:
    """The points as builds by this metric take them, see open_source: truths packed where it compares bits.

    dtype: "float32" or "float64", as which they are read; None for the dtype that suits them: arrays in memory of
    float64 numbers that float32 holds are read as float32, unless the metric scales rows to unit length, which float32
    would round. SpecError where sparse points are asked for as float64.
    """
    opened = open_source(source, component, sparse=True, missing=missing)
    if isinstance(opened, SparseSource):
        check_sparse_dtype(dtype)
        return opened
    if metric.bits:
        return packed(opened)
    return converted(opened, dtype) if dtype is not None or metric.unit else narrowed(opened)


def check_sparse_dtype(dtype: str | None) -> None:
    """SpecError where sparse points are asked for as another dtype than float32."""
    if dtype not in (None, "float32"):
        raise SpecError(f"dtype={dtype!r} is for dense points; sparse points are compared as float32, leave it out")


@overload
def reopen_source(spec: dict[str, Any]) -> Source: ...
@overload
def reopen_source(spec: dict[str, Any], *, sparse: bool) -> Source | SparseSource: ...
def reopen_source(spec: dict[str, Any], *, sparse: bool = False) -> Source | SparseSource:
    """The source that a `spec` describes, in this process; sparse: as in open_source.

    Raises StoreError where the points are out of its reach: gone, in another process, or on a path that this
    machine does not see.
    """
    opened = _reopen_any(spec)
    return opened if sparse else _dense(opened)


def _reopen_any(spec: dict[str, Any]) -> Source | SparseSource:
    kind = spec.get("kind")
    try:
        if kind == "resident":
            kept = find_resident(spec)
            assert isinstance(kept, Source | SparseSource)
            return kept
        if kind == "packed":
            return packed(_dense(_reopen_any(spec["of"])))
        if kind == "converted":
            return converted(_dense(_reopen_any(spec["of"])), spec["dtype"])
        if kind == "mapped":
            return reopen_mapped(spec)
        if kind == "zarr":
            return _open_path(spec["location"], spec["component"], True, spec.get("missing", "error"))
    except SpecError as error:
        raise StoreError(f"{error}; each worker must see the points under the same path") from error
    except (KeyError, TypeError) as error:
        raise StoreError(f"not the description of a source: {spec}") from error
    raise StoreError(f"not the description of a source known to this version: {spec}")


def _open_path(
    path: str | os.PathLike[str], component: str | None, sparse: bool, missing: Any
) -> Source | SparseSource:
    if not os.fspath(path):
        raise SpecError("the path of the points is empty")
    place = absolute(path)
    if not stores.is_local(place):
        return _open_store(place, component, sparse, missing)
    if not os.path.exists(place):
        raise SpecError(_what_is_near(place))
    if os.path.isdir(place):
        return _open_store(place, component, sparse, missing)
    if component is not None:
        raise SpecError(f"component={component!r} names an array in a Zarr group; {place} is a file")
    if missing == "fill":
        raise SpecError(f"missing={missing!r} is about chunks of a Zarr array that are not there; {place} is a file")
    return open_npz(place) if place.lower().endswith(".npz") else open_file(place)


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


def _open_store(location: str, component: str | None, sparse: bool, missing: Any) -> Source | SparseSource:
    """The source of an array or sparse matrix at, or within the group at, a local path or URL."""
    node = _find_points(stores.opened(location, read_only=True), component or "", location, sparse)
    source = _source_of(node, location, {"kind": "zarr", "location": location, "component": node.path or None}, missing)
    return keep_resident(source) if location.startswith("memory://") else source


def _open_node_of(node: zarr.Array | zarr.Group, missing: Any) -> Source | SparseSource:
    """The source of an open array or sparse matrix: of its path if that is local, else kept in this process.

    A store that is not local may hold credentials, which a description must not.
    """
    place = _place(node.store)
    if isinstance(node.store, LocalStore):
        return _source_of(node, place, {"kind": "zarr", "location": place, "component": node.path or None}, missing)
    return keep_resident(_source_of(node, place, {}, missing))


def _source_of(
    node: zarr.Array | zarr.Group, location: str, origin: dict[str, Any], missing: Any
) -> Source | SparseSource:
    open_node = open_zarr if isinstance(node, zarr.Array) else open_csr
    return open_node(node, _join(location, node.path), origin, missing)


def _place(store: Store) -> str:
    """A name for messages that tells no secret; of a local store, its path."""
    if isinstance(store, LocalStore):
        return os.path.abspath(str(store.root))
    return "<zarr in memory>" if isinstance(store, MemoryStore) else f"<zarr over {type(store).__name__}>"


def _join(first: str, second: str | None) -> str:
    return "/".join(part for part in (first, second) if part)


def _find_points(store: Store, component: str, where: str, sparse: bool) -> zarr.Array | zarr.Group:
    """The array or sparse matrix at `component` of a store, or the one that must be meant in the group there.

    Where sparse points cannot be used, they are meant only if there is no array.
    """
    node = _open_node(store, component.strip("/"), where)
    if _holds_points(node, anywhere=True):
        return node
    nodes = dict(_members(node, where, 0))
    if not sparse:
        nodes = {name: one for name, one in nodes.items() if isinstance(one, zarr.Array)} or nodes
    chosen = [name for name in USUAL_NAMES if name in nodes] or list(nodes)
    if len(chosen) == 1:
        return nodes[chosen[0]]
    raise SpecError(f"{_join(where, component)} is a group; {_choice(node, where)}")


def _holds_points(node: zarr.Array | zarr.Group, anywhere: bool = False) -> bool:
    """Whether a node is an array of two dimensions, of any if it was named itself, or a sparse matrix."""
    if isinstance(node, zarr.Array):
        return anywhere or node.ndim == 2
    return sparse_encoding(node) is not None


def _open_node(store: Store, path: str, where: str) -> zarr.Array | zarr.Group:
    """The array or group at `path`; raises SpecError if there is none, StoreError if it cannot be read."""
    if {".", ".."} & set(path.split("/")):
        raise SpecError(f"component={path!r} must lead downwards from {where}")
    try:
        return zarr.open(store=store, path=path, mode="r")
    except FileNotFoundError as error:
        if not path:
            raise SpecError(f"{where} holds no Zarr array or group{_why_nothing(where)}") from error
    except (SpecError, Unreachable):
        raise
    except Exception as error:
        raise StoreError(f"{_join(where, path)}: the metadata cannot be read ({error})") from error
    root = _open_node(store, "", where)
    hint = _choice(root, where) if isinstance(root, zarr.Group) else "it is itself an array"
    raise SpecError(f"{where} has no component {path!r}; {hint}")


def _why_nothing(where: str) -> str:
    """What more to say of a URL that holds no points; Unreachable where the bucket itself is not there."""
    if stores.is_local(where) or where.startswith("<"):
        hint = remedy_for_file(where)
        return f"; {hint}" if hint else ""
    if stores.is_empty(where):
        return ""
    return ", but other objects; points in object stores are Zarr, as `distnnd convert` writes them"


def _choice(group: zarr.Group, where: str) -> str:
    """Which arrays and sparse matrices of a group `component` could name."""
    named = [f"{name!r} {_describe(child)}" for name, child in _members(group, where, 3)]
    if not named:
        return "it holds no array of two dimensions"
    more = f" and {len(named) - NAMES_LISTED} more" if len(named) > NAMES_LISTED else ""
    return f"choose one by component: {', '.join(named[:NAMES_LISTED])}{more}"


def _describe(node: zarr.Array | zarr.Group) -> str:
    if isinstance(node, zarr.Array):
        return f"{node.shape} {node.dtype}"
    return f"{node.attrs.get('shape')} {sparse_encoding(node)}"


def _members(group: zarr.Group, where: str, depth: int) -> list[tuple[str, zarr.Array | zarr.Group]]:
    """(path, node) of each array of two dimensions and sparse matrix down to `depth` groups below `group`, by path."""
    try:
        members = list(group.members(max_depth=depth))
    except Unreachable:
        raise
    except Exception as error:
        raise StoreError(f"{where}: the group cannot be listed ({error})") from error
    return sorted(((name, node) for name, node in members if _holds_points(node)), key=lambda member: member[0])
