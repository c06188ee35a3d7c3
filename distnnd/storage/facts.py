"""The facts of a store: one attribute of its Zarr group, written in one piece; what commits it, and what it says it is.

The major number of the format version says whether this distnnd can read the rest. `commits` counts how often the facts
were replaced: who replaces them must have read, or written, the last ones.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import zarr
from zarr.errors import ContainsArrayError

from ..values.errors import InUse, SpecError, StoreError, Unreachable
from . import documents, marks, stores


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
        if not stores.is_vacant(location):
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


def create(
    location: str, kind: Kind, facts: dict[str, Any] | None = None, attributes: dict[str, Any] | None = None
) -> None:
    """Begin a store, with its facts or without any yet; SpecError if anything is at `location` already.

    attributes: more of them, which stand beside the facts. Of several processes that do so at once, one succeeds.
    """
    if not stores.is_vacant(location):
        raise taken(location)
    both = (attributes or {}) | ({} if facts is None else _attributes(kind, facts))
    if not stores.put_new(location, marks.DOCUMENT, documents.group_text(both).encode()):
        raise taken(location)


def commit(location: str, kind: Kind, facts: dict[str, Any], was: str | None = None) -> dict[str, Any]:
    """Replace the facts, and return them as they stand there now.

    One small document, written atomically, is what turns new arrays into the truth. was: the uuid that stands there, if
    that is to change. InUse, and nothing is written, if another process has replaced the facts since these were read.
    """
    mine = was or facts.get("uuid"), facts.get("commits", 0)
    after = facts | {"commits": mine[1] + 1}

    def changed(text: bytes | None) -> bytes:
        document = _document(location, text)
        _check_same(location, kind, document, mine)
        # It is what its facts say from now on.
        document["attributes"].pop(marks.ATTRIBUTE, None)
        document["attributes"] |= _attributes(kind, after)
        return json.dumps(document, indent=2).encode()

    if not stores.change(location, marks.DOCUMENT, changed):
        raise in_use(location)
    return after


def check_current(location: str, kind: Kind, facts: dict[str, Any]) -> None:
    """InUse if the facts at `location` are not those that this process read or wrote last."""
    document = _document(location, stores.get(location, marks.DOCUMENT))
    _check_same(location, kind, document, (facts.get("uuid"), facts.get("commits", 0)))


def _document(location: str, text: bytes | None) -> Any:
    try:
        document = json.loads(text or b"{}")
        document.setdefault("attributes", {})
    except (ValueError, AttributeError) as error:
        raise StoreError(f"{location}: the metadata cannot be read ({error})") from error
    return document


def _check_same(location: str, kind: Kind, document: Any, mine: tuple[Any, int]) -> None:
    """InUse unless the document holds the facts of this uuid after so many commits, or is marked by it and has none."""
    found = document["attributes"].get(kind.attribute)
    if not isinstance(found, dict):
        found = document["attributes"].get(marks.ATTRIBUTE, {})
    if (found.get("uuid"), found.get("commits", 0)) != mine:
        raise in_use(location)


def in_use(location: str) -> InUse:
    """The error for a store whose facts another process has replaced, or deleted."""
    return InUse(
        f"{location}: another process builds here, and has changed the store since this one read it; this one stops "
        "and leaves all as it is. Let the other one finish, and do not start two builds with one output"
    )


def taken(location: str) -> SpecError:
    """The error for a new store where something is already."""
    return SpecError(f"{location} exists; choose another output, or delete it first")


def _attributes(kind: Kind, facts: dict[str, Any]) -> dict[str, Any]:
    return {kind.attribute: {"format_version": kind.version, **facts}}
