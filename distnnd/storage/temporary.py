"""Temporary folders of graphs without a place: each lives as long as anything that was made from what is in it.

Who hands out something that reads from such a folder lets it hold the Folder: the graph, and the stores of its Zarr
arrays. A copy, by pickle or deepcopy, holds the same Folder in the same process. In another process it is a guest: it
works while the folder is there, and is told when it is gone, since Zarr would read fill values.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from typing import Any

import zarr
from zarr.storage import LocalStore

from ..values.errors import StoreError

_folders: weakref.WeakValueDictionary[str, Folder] = weakref.WeakValueDictionary()


class Folder:
    """A temporary folder. `path`: where it is; it is deleted when nobody holds its owner any more, or at exit."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def new(cls) -> Folder:
        """A new folder of this process, which is its owner."""
        folder = cls(tempfile.mkdtemp(prefix="distnnd-"))
        weakref.finalize(folder, _delete, folder.path, os.getpid())
        _folders[folder.path] = folder
        return folder

    def __reduce__(self) -> tuple[Any, ...]:
        return rejoin, (self.path,)

    def check(self) -> None:
        """StoreError if the folder is gone."""
        if not os.path.isdir(self.path):
            raise gone(self.path)


def _delete(path: str, pid: int) -> None:
    # A forked child ends without taking away what is its parent's.
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)


def rejoin(path: str) -> Folder:
    """The folder at a path, held by this process too if it is its owner; StoreError if it is gone."""
    folder = _folders.get(path) or Folder(path)
    folder.check()
    return folder


def gone(path: str) -> StoreError:
    """The error for a folder that was deleted."""
    return StoreError(
        f"the temporary graph in {path} is gone: it lived as long as the process that built it held it, or an array of "
        'it; build with a place to keep it, build(points, "graph.zarr")'
    )


class HeldStore(LocalStore):  # type: ignore[misc]
    """A local store that holds the temporary folder it lies in."""

    def __init__(self, root: Any, *, read_only: bool = False, folder: Folder | None = None) -> None:
        super().__init__(root, read_only=read_only)
        self.folder = folder

    def with_read_only(self, read_only: bool = False) -> HeldStore:
        """The same store for reading, or for writing."""
        return type(self)(self.root, read_only=read_only, folder=self.folder)

    async def get(self, key: str, *arguments: Any, **named: Any) -> Any:
        """As in LocalStore; StoreError if nothing is there because the folder is gone."""
        found = await super().get(key, *arguments, **named)
        self._check(found)
        return found

    def get_sync(self, key: str, **named: Any) -> Any:
        """As in LocalStore; StoreError likewise."""
        found = super().get_sync(key, **named)
        self._check(found)
        return found

    async def _open(self, **named: Any) -> None:
        if self.folder is not None:
            self.folder.check()
        await super()._open(**named)

    def _check(self, found: Any) -> None:
        if found is None and self.folder is not None:
            self.folder.check()


def folder_of(location: str) -> Folder | None:
    """The temporary folder of this process that a location lies in; None for any other."""
    parts = location.split(os.sep)
    return next((folder for end in range(len(parts)) if (folder := _folders.get(os.sep.join(parts[: end + 1])))), None)


def held(array: Any) -> Any:
    """The same Zarr array; where it lies in a temporary folder, one that holds it."""
    store = array.store
    folder = folder_of(str(store.root)) if isinstance(store, LocalStore) else None
    if folder is None:
        return array
    return zarr.open_array(store=HeldStore(store.root, read_only=True, folder=folder), path=array.path, mode="r")
