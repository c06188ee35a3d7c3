"""Marks: what says that a folder is ours, and the only things that are deleted as a whole.

A mark is an attribute in the Zarr document of a group or array that a build makes beside its output, or begins as its
output: its kind, the uuid of the work that made it, and the output that it was made for. It is written in one piece
with the document. What a document says is never enough to delete something else: a folder is deleted if it bears the
mark that is expected there, and a symbolic link is never followed.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

# Zarr has no public way to wait for a store's coroutines.
from zarr.core.sync import sync

from ..values.errors import StoreError
from . import files, stores

ATTRIBUTE = "distnnd_mark"
DOCUMENT = "zarr.json"
UUID = re.compile(r"[0-9a-f]{32}")
# Names that are ours: of a copy of points, and of what was to be renamed.
POINTS, LEFT = r"(-points-[0-9a-f]{32}\.zarr)?", r"(\.[0-9a-f]{32}\.partial)*"
# Where the mark stands if the document of the group itself is written last.
PARTS = ("", "indices")


class Mark(NamedTuple):
    """kind: what bears it; uuid: of the work that made it; output: what for; host, pid, started: by which process."""

    kind: str
    uuid: str
    output: str
    host: str = ""
    pid: int = 0
    started: str = ""

    @property
    def at_work(self) -> bool:
        """Whether the process that made it is of this machine and still runs."""
        if self.host != socket.gethostname() or not isinstance(self.pid, int) or self.pid < 1:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass
        # Another process may have got its number, in a container the very same command.
        return _started(self.pid) == self.started


def attributes(kind: str, uuid: str, output: str) -> dict[str, Any]:
    """The attributes of what this process makes for `output`."""
    by = socket.gethostname(), os.getpid(), _started(os.getpid())
    return {ATTRIBUTE: Mark(kind, uuid, output, *by)._asdict()}


def _started(pid: int) -> str:
    """When a process began, in ticks since the system did; empty where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The name of the program, in parentheses, may hold anything.
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def lasting(kind: str, uuid: str, output: str) -> dict[str, Any]:
    """The same for an output itself, which may go to others: it does not tell the machine."""
    return {ATTRIBUTE: {"kind": kind, "uuid": uuid, "output": output}}


def of(location: str) -> Mark | None:
    """The mark at a location; None where there is none, or where the location is a symbolic link."""
    if stores.is_local(location) and os.path.islink(location):
        return None
    for part in PARTS:
        found = _attributes(location, part).get(ATTRIBUTE)
        if isinstance(found, dict) and {"kind", "uuid", "output"} <= set(found):
            return Mark(**{name: found[name] for name in Mark._fields if name in found})
    return None


def _attributes(location: str, part: str) -> dict[str, Any]:
    try:
        document = json.loads(stores.get(location, f"{part}/{DOCUMENT}".lstrip("/")) or b"{}")
        found = document.get("attributes")
    except (ValueError, AttributeError, IsADirectoryError):
        return {}
    return found if isinstance(found, dict) else {}


def is_uuid(value: Any) -> bool:
    """Whether a value is a uuid as we write them: 32 hexadecimal digits, which lead nowhere as part of a path."""
    return isinstance(value, str) and UUID.fullmatch(value) is not None


def checked(value: Any, location: str) -> str:
    """The uuid that facts name; StoreError if it is none."""
    if not is_uuid(value):
        raise StoreError(
            f"{location}: its facts name {value!r} as uuid, which is none; somebody altered them, so nothing is read, "
            "written or deleted by them: restore them from a copy, or delete the store"
        )
    return str(value)


# --- deleting --------------------------------------------------------------------------------------------


def remove(location: str, kind: str, uuid: str) -> bool:
    """Delete a folder if it bears this mark; whether it did."""
    mark = of(location)
    if mark is None or (mark.kind, mark.uuid) != (kind, uuid):
        return False
    remove_store(location)
    return True


def remove_store(location: str) -> None:
    """Delete a whole store that is known to be ours, its document last: what is left of it still says what it is."""
    if not stores.is_local(location):
        store = stores.opened(location)
        for name in sync(_names(store)):
            if name != DOCUMENT:
                sync(store.delete_dir(name))
        sync(store.delete_dir(""))
        return
    place = os.path.realpath(location)
    aside = files.name_aside(place)
    try:
        os.rename(place, aside)
    except OSError:  # it is not there, or is where a disk is mounted
        aside = place
    with suppress(OSError):
        for name in sorted(os.listdir(aside), key=lambda name: name == DOCUMENT):
            stores.remove(aside, name)
            with suppress(OSError):
                os.unlink(os.path.join(aside, name))
        os.rmdir(aside)


async def _names(store: Any) -> list[str]:
    return [name async for name in store.list_dir("")]


def sweep(output: str, *scratch: str) -> None:
    """Delete what killed processes left: beside `output` what was to become it, and in its scratch what served it.

    scratch: the folders named for scratch. To be called when `output` is finished: whoever still works on one of these
    can only fail.
    """
    folder, _, name = output.rpartition("/")
    beside = re.compile(re.escape(name) + POINTS + LEFT)
    _sweep_in(folder, lambda entry: entry != name and beside.fullmatch(entry) is not None, output)
    within = re.compile(f"({UUID.pattern}|spool{POINTS}){LEFT}")
    for place in scratch:
        _sweep_in(place, lambda entry: within.fullmatch(entry) is not None, output)


def _sweep_in(folder: str, fits: Callable[[str], bool], output: str) -> None:
    for entry in filter(fits, _entries(folder)):
        path = f"{folder}/{entry}"
        if not stores.is_local(path):
            if (mark := of(path)) is not None and mark.output == output:
                remove_store(path)
        elif not os.path.islink(path) and _left_by_us(path, output):
            _remove_any(path)


def _entries(folder: str) -> list[str]:
    if stores.is_local(folder):
        return os.listdir(folder) if os.path.isdir(folder) else []
    return list(sync(_names(stores.opened(folder))))


def _left_by_us(path: str, output: str) -> bool:
    if os.path.isfile(path):
        return path.endswith(".partial")
    if files.is_vacant(path):
        return True
    mark = of(path)
    if mark is not None:
        return mark.output == output
    # A graph or an index that was replaced.
    return path.startswith(f"{output}.") and bool({"distnnd", "distnnd_index"} & set(_attributes(path, "")))


def _remove_any(path: str) -> None:
    if os.path.isfile(path):
        with suppress(OSError):
            os.unlink(path)
    else:
        remove_store(path)
