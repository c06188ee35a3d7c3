"""Files that nobody sees half of: written aside, and moved to their place."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from io import FileIO


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
