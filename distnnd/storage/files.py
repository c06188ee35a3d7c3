"""Files that nobody sees half of: written aside, and moved to their place."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO

try:
    import fcntl
except ImportError:  # a system without them
    fcntl = None  # type: ignore[assignment]

# What a killed writer leaves: files of ours and of Zarr's, and stores that were to be renamed.
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")


def created(path: str) -> FileIO:
    """A new file; most chunks have neighbours in their folder, so it is looked for only where it is missing."""
    try:
        return open(path, "wb", buffering=0)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "wb", buffering=0)


def name_aside(path: str) -> str:
    """A name of its own under which a file is written before it is moved to its place: several may write the same."""
    return f"{path}.{uuid.uuid4().hex}.partial"


def write_all(file: FileIO, pieces: Sequence[bytes | memoryview]) -> None:
    """Write pieces one after the other, all of each."""
    for piece in pieces:
        done = 0
        while done < len(piece):
            done += file.write(piece[done:])


def write_file(path: str, pieces: Sequence[bytes | memoryview]) -> None:
    """Write a file aside and move it to its place: nobody sees half of it."""
    aside = name_aside(path)
    try:
        with created(aside) as file:
            write_all(file, pieces)
        os.replace(aside, path)
    except BaseException:
        if os.path.exists(aside):
            os.unlink(aside)
        raise


def write_new(path: str, data: bytes) -> bool:
    """Write a file whole, unless there is one of that name already; whether it was written.

    Of several processes that do so at once, one succeeds.
    """
    aside = name_aside(path)
    try:
        with created(aside) as file:
            write_all(file, [data])
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            with open(path, "xb") as file:
                file.write(data)
        return True
    except FileExistsError:
        return False
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside)


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold the lock of a folder, which no other process holds meanwhile; the system frees it when a process dies.

    Some network file systems have no locks of folders. There this does nothing.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sweep(folder: str) -> None:
    """Delete what killed writers left of files below a folder; links are not followed."""
    for parent, _, names in os.walk(folder):
        for name in names:
            if PARTIAL.search(name):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(parent, name))


def is_vacant(path: str) -> bool:
    """Whether nothing is at a path, or a folder with nothing in it but what a killed writer left of a document."""
    if not os.path.lexists(path):
        return True
    if not os.path.isdir(path):
        return False
    with os.scandir(path) as entries:
        return all(PARTIAL.search(entry.name) and entry.is_file(follow_symlinks=False) for entry in entries)
