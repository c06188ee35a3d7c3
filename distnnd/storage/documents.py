"""Metadata documents of our own arrays, written and read without the way through Zarr.

`zarr.create_array` takes six milliseconds, and half a dozen requests in an object store. A build makes some hundred
arrays for each round, and all that differs between those of a kind is their shape, their chunks and the names of their
dimensions. So Zarr makes one document of each kind, and the others are copies of it. Where a version of Zarr does
otherwise than is expected here, the answer is None, and Zarr itself is asked.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import StorePath

from ..values.errors import SpecError, Unreachable
from . import shards, stores
from .files import write_file

NAME = "zarr.json"
CONFIG = {"write_empty_chunks": True}


class Kind(NamedTuple):
    """What a document is copied for: dtype as a string, separator of chunk keys, whether the array is one file."""

    dtype: str
    separator: str
    one_file: bool


class Form(NamedTuple):
    """What differs within a kind; chunks: of whole rows, the inner ones where the array is one file."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dims: tuple[str, ...]

    def shard(self) -> tuple[int, ...]:
        """The shape of a single shard that holds all chunks."""
        return max(1, -(-self.shape[0] // self.chunks[0])) * self.chunks[0], *self.shape[1:]


def fill_of(dtype: np.dtype[Any]) -> Any:
    """A value that no finished array of `dtype` holds, where the dtype has one."""
    if dtype.kind == "f":
        return np.nan
    return -1 if dtype.kind == "i" and dtype.itemsize > 1 else 0


def create_by_zarr(store: Any, name: str, kind: Kind, form: Form) -> Any:
    """The new array as Zarr makes it, in any store of Zarr's; what was there is replaced."""
    dtype = np.dtype(kind.dtype)
    return zarr.create_array(
        store=store,
        name=name,
        shape=form.shape,
        dtype=dtype,
        chunks=form.chunks,
        shards=form.shard() if kind.one_file else None,
        compressors=[Crc32cCodec()],
        fill_value=fill_of(dtype),
        dimension_names=form.dims,
        config=CONFIG,
        chunk_key_encoding={"name": "default", "separator": kind.separator},
        overwrite=True,
    )


def create(location: str, name: str, kind: Kind, form: Form, attributes: dict[str, Any] | None = None) -> Any | None:
    """The same at a location, from a copied document; None where Zarr has to do it. attributes: of the array."""
    try:
        array_text, group_text = _text(kind, form, attributes), _group()
        array = _array(location, name, json.loads(array_text), read_only=False)
    except (MemoryError, SpecError):
        raise
    except Exception:
        return None
    if 0 in form.chunks or (kind.one_file and not shards.direct(array)):
        return None
    document, local = f"{name}/{NAME}", stores.is_local(location)
    there = stores.get(location, document)
    if there == array_text.encode():
        # Another attempt at the same task, dead or still at work: what it writes is the same, chunk by chunk.
        return array
    if local or there is not None:
        stores.remove(location, name)
    if local:
        # In an object store nothing asks for the groups above while a build is under way, and then they are gone.
        _ensure_parents(location, name, group_text)
    stores.put(location, document, array_text.encode())
    return array


def stands(location: str, name: str) -> bool:
    """Whether there is a document at location/name."""
    return stores.get(location, f"{name}/{NAME}") is not None


def opened(location: str, name: str, mode: Literal["r", "r+"] = "r") -> Any | None:
    """The array at location/name; None where Zarr has to say what is wrong."""
    try:
        return _array(location, name, json.loads(stores.get(location, f"{name}/{NAME}") or b""), mode == "r")
    except (MemoryError, Unreachable):
        raise
    except Exception:
        return None


def _array(location: str, name: str, document: Any, read_only: bool) -> Any:
    place = StorePath(stores.opened(location, read_only=read_only), name)
    return zarr.Array(zarr.AsyncArray(document, place, CONFIG))


def _text(kind: Kind, form: Form, attributes: dict[str, Any] | None = None) -> str:
    """The document of an array, as Zarr would write it."""
    document = json.loads(_template(kind, len(form.shape)))
    document["attributes"] = attributes or {}
    document["shape"] = list(form.shape)
    document["dimension_names"] = list(form.dims)
    document["chunk_grid"]["configuration"]["chunk_shape"] = list(form.shard() if kind.one_file else form.chunks)
    if kind.one_file:
        document["codecs"][0]["configuration"]["chunk_shape"] = list(form.chunks)
    return json.dumps(document, indent=zarr.config.get("json_indent"))


@lru_cache(maxsize=64)
def _template(kind: Kind, ndim: int) -> str:
    """A document of the kind, made by Zarr."""
    store: dict[str, Any] = {}
    shape, dims = (1,) * ndim, ("row",) + ("dim",) * (ndim - 1)
    create_by_zarr(store, "", kind, Form(shape, shape, dims))
    return _written(store)


@lru_cache(maxsize=1)
def _group() -> str:
    """The document of a group without attributes, made by Zarr."""
    return group_text({})


def group_text(attributes: dict[str, Any]) -> str:
    """The document of a group, as Zarr writes it."""
    store: dict[str, Any] = {}
    zarr.create_group(store=store, attributes=attributes)
    return _written(store)


def _written(store: dict[str, Any]) -> str:
    text: str = store[NAME].to_bytes().decode()
    return text


def _ensure_parents(location: str, name: str, group: str) -> None:
    """Make groups of the folders above that are none yet, from the top: one that is there has those above it."""
    parents, folder = [location], location
    for part in name.split("/")[:-1]:
        folder = os.path.join(folder, part)
        parents.append(folder)
    missing = []
    while parents and not os.path.exists(path := os.path.join(parents.pop(), NAME)):
        missing.append(path)
    for path in reversed(missing):
        write_file(path, [group.encode()])
