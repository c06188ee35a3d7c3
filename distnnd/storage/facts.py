"""The facts of a store: one attribute of its Zarr group, written in one piece; what commits it, and what it says it is.

The major number of the format version says whether this distnnd can read the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import zarr
from zarr.errors import ContainsArrayError, ContainsGroupError

from ..values.errors import SpecError, StoreError, Unreachable
from . import stores


class Kind(NamedTuple):
    """A kind of store. name: what it is called; attribute: where its facts are; version: of the format as written now.

    For messages. other: what a group without the facts is; damaged, outdated: what to do where the metadata cannot be
    read, or are of another major version.
    """

    name: str
    attribute: str
    version: str
    other: str
    damaged: str
    outdated: str


def read(location: str, kind: Kind) -> dict[str, Any] | None:
    """The facts of the store at `location`; None if nothing is there.

    Raises SpecError if something else is there, StoreError if it is damaged or of another format version.
    """
    try:
        group = zarr.open_group(store=stores.opened(location, read_only=True), mode="r", zarr_format=3)
    except (FileNotFoundError, ContainsArrayError) as error:
        if not stores.is_empty(location):
            raise SpecError(f"{location} exists and is no {kind.name} of distnnd; name another place") from error
        return None
    except (SpecError, Unreachable):
        raise
    except Exception as error:
        raise StoreError(f"{location}: the metadata cannot be read ({error}); {kind.damaged}") from error
    facts = group.attrs.get(kind.attribute)
    if not isinstance(facts, dict) or "format_version" not in facts:
        raise SpecError(f"{location} is {kind.other}")
    version = str(facts["format_version"])
    if version.split(".")[0] != kind.version.split(".")[0]:
        raise StoreError(f"{location} has format version {version}, this distnnd reads {kind.version}; {kind.outdated}")
    return facts


def create(location: str, kind: Kind, facts: dict[str, Any] | None = None) -> None:
    """Begin a store, with its facts or without any yet; SpecError if anything is at `location` already."""
    if not stores.is_empty(location):
        raise taken(location)
    try:
        zarr.create_group(store=stores.opened(location), attributes=None if facts is None else _attributes(kind, facts))
    except (ContainsGroupError, ContainsArrayError, FileExistsError) as error:
        raise taken(location) from error


def commit(location: str, kind: Kind, facts: dict[str, Any]) -> None:
    """Replace the facts: one small document, written atomically, is what turns new arrays into the truth."""
    zarr.open_group(store=stores.opened(location), mode="r+", zarr_format=3).update_attributes(_attributes(kind, facts))


def taken(location: str) -> SpecError:
    """The error for a new store where something is already."""
    return SpecError(f"{location} exists; choose another output, or delete it first")


def _attributes(kind: Kind, facts: dict[str, Any]) -> dict[str, Any]:
    return {kind.attribute: {"format_version": kind.version, **facts}}
