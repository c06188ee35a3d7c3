"""What is put in the place of something: made beside it, and swapped with it when it is whole."""

from __future__ import annotations

import os

from . import files, marks, stores


def beside(final: str) -> str:
    """Where the successor of what is at `final` is made: beside it; in a store that cannot rename, in its place."""
    # Where the user named a link: beside what it leads to, which may be on another disk.
    return f"{os.path.realpath(final)}.overwriting" if stores.is_local(final) else final


def swap(place: str, final: str) -> None:
    """Put what was made at `place` to `final`, and delete what was there.

    A process that is killed meanwhile leaves at least one of them whole, and the same again goes on from there.
    """
    if place == final:
        return
    # Where the user named a link, it goes on leading to the same place.
    final = os.path.realpath(final)
    retired = files.name_aside(final)
    there = os.path.lexists(final)
    if there:
        os.rename(final, retired)
    os.rename(place, final)
    if there:
        marks.remove_store(retired)
    marks.sweep(final)
