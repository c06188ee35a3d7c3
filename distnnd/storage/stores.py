"""The one way to open a location: a path, or a URL of an object store (s3, gs, az, http) or of what fsspec knows.

Object stores are opened by obstore, which takes its settings and credentials from the environment of the process, here
and on each worker; a URL never holds them. Whatever an object store refuses or does not answer is an `Unreachable` that
says what was tried and what to do, the same for every room that reads or writes there.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.buffer.cpu import buffer_prototype
from zarr.core.buffer import Buffer, BufferPrototype

# Zarr has no public way to wait for a store's coroutines, and those of fsspec are tied to Zarr's event loop.
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from ..values.errors import SpecError, StoreError, Unreachable
from . import files

# What obstore opens, by scheme: the environment that its settings come from.
SETTINGS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "http": "the address",
}
ALIASES = {"s3a": "s3", "azure": "az", "adl": "az", "abfs": "az", "abfss": "az", "https": "http"}
# A server that is gone is noticed within a quarter of a minute; one that asks for patience gets it.
RETRIES = {
    "max_retries": 10,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=4), "base": 2},
}
# Requests of one read or write that are under way at the same time.
AT_ONCE = 10
# Bytes of an object that is read or written in one request, and of the parts of a larger one; parts sent at a time.
WHOLE, PIECE, PARTS = 17 << 20, 8 << 20, 4
REFUSED = re.compile(r"status code: 40[13]|//169\.254\.|//metadata\.")
A = TypeVar("A")
T = TypeVar("T")
TOLD = 300  # characters of what a server said


def is_local(location: str) -> bool:
    """Whether a location is a path, and no URL."""
    return "://" not in location


def refuse_secrets(location: str) -> None:
    """SpecError, which does not repeat them, if a URL carries credentials or a query."""
    if not is_local(location) and ("?" in location or re.search("://[^/@]*:[^/@]*@", location)):
        raise SpecError("a URL with a password or a query would stay in logs; give these by the environment")


def opened(location: str, *, read_only: bool = False) -> Store:
    """The store at a local path or URL, which need not exist yet; that of a URL is made once a process.

    Raises SpecError for a URL that carries credentials, or that nothing installed here opens.
    """
    return LocalStore(location, read_only=read_only) if is_local(location) else _remote(location, read_only)


@lru_cache(maxsize=256)
def _remote(location: str, read_only: bool) -> Store:
    refuse_secrets(location)
    scheme = _scheme(location)
    if scheme in SETTINGS:
        return Objects(location, read_only)
    try:
        return FsspecStore.from_url(location, read_only=read_only)
    except (ImportError, ValueError) as error:
        known = ", ".join(f"{name}://" for name in (*SETTINGS, *ALIASES))
        raise SpecError(f"{location}: nothing installed opens this ({error}); object stores are {known}") from error


def _lists(location: str) -> bool:
    """Whether a store can say what it holds, which a plain web server cannot."""
    return _scheme(location) != "http"


def forget() -> None:
    """Open every store anew from now on, by what the environment says then."""
    _remote.cache_clear()


def _scheme(location: str) -> str:
    scheme = location.partition("://")[0].lower()
    return ALIASES.get(scheme, scheme)


# --- object stores ---------------------------------------------------------------------------------------


class Objects(ObjectStore[Any]):  # type: ignore[misc]
    """An object store below a URL. It travels to another process as its URL alone, and is opened there anew."""

    def __init__(self, location: str, read_only: bool) -> None:
        """SpecError where obstore is missing, or cannot make sense of the URL and the environment."""
        self.location = location
        super().__init__(_client(location), read_only=read_only)

    def __reduce__(self) -> tuple[Any, ...]:
        """The URL: credentials stay where they are."""
        return _remote, (self.location, self.read_only)

    def __str__(self) -> str:
        return self.location

    def with_read_only(self, read_only: bool = False) -> Any:
        """The same store for reading, or for writing."""
        return _remote(self.location, read_only)

    @contextmanager
    def _telling(self, key: str, *passing: type[Exception]) -> Iterator[None]:
        """Turn what the client raises into Unreachable, save for `passing`."""
        try:
            yield
        except Exception as error:
            theirs = isinstance(error, OSError) or type(error).__module__.startswith("obstore")
            if isinstance(error, passing) or not theirs:
                raise
            raise unreachable(self.location, key, error) from error

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """As in Store."""
        with self._telling(key):
            return await super().get(key, prototype, byte_range)

    async def exists(self, key: str) -> bool:
        """As in Store."""
        with self._telling(key):
            return bool(await super().exists(key))

    async def getsize(self, key: str) -> int:
        """As in Store."""
        with self._telling(key, FileNotFoundError):
            return int(await super().getsize(key))

    async def set(self, key: str, value: Buffer) -> None:
        """As in Store, in one request."""
        with self._telling(key):
            await self.store.put_async(key, value.as_buffer_like(), use_multipart=False)

    async def set_large(self, key: str, pieces: Sequence[memoryview]) -> None:
        """The same from pieces, in parts, without a copy of them all: the object is there when the last one is."""
        parts = (piece[at : at + PIECE] for piece in pieces for at in range(0, len(piece), PIECE))
        with self._telling(key):
            await self.store.put_async(key, parts, use_multipart=True, chunk_size=PIECE, max_concurrency=PARTS)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """As in Store."""
        with self._telling(key):
            await super().set_if_not_exists(key, value)

    def tagged(self, key: str) -> tuple[bytes | None, str | None]:
        """An object and its etag; None for both where there is none."""
        with self._telling(key):
            try:
                found = self.store.get(key)
            except FileNotFoundError:
                return None, None
            return bytes(found.bytes()), found.meta["e_tag"]

    def put_if(self, key: str, data: bytes, mode: Any) -> bool:
        """Write an object in one request if `mode` ("create", or the etag it must have) allows; whether it did.

        A store that knows no such conditions writes it.
        """
        with self._telling(key):
            try:
                self.store.put(key, data, mode=mode, use_multipart=False)
            except Exception as error:
                refused = type(error).__name__
                if refused in ("AlreadyExistsError", "PreconditionError"):
                    return False
                if refused != "NotSupportedError" and not isinstance(error, NotImplementedError):
                    raise
                self.store.put(key, data, use_multipart=False)
        return True

    async def delete(self, key: str) -> None:
        """As in Store."""
        with self._telling(key):
            await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """As in Store; a thousand objects a request where the store can."""
        with self._telling(prefix):
            async for batch in self.store.list(prefix.rstrip("/") or None):
                await self.store.delete_async([item["path"] for item in batch])

    async def list(self) -> AsyncIterator[str]:
        """As in Store."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """As in Store."""
        with self._telling(prefix):
            async for batch in self.store.list(prefix or None):
                for item in batch:
                    yield item["path"]

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """As in Store."""
        with self._telling(prefix):
            async for key in super().list_dir(prefix):
                yield key

    def described(self, prefix: str, keys: Callable[[], Iterable[str]]) -> Sequence[tuple[str, int, str]]:
        """(key, bytes, etag or time) of each object below `prefix`; of `keys()` alone where a web server lists none."""
        with self._telling(prefix):
            if _lists(self.location):
                found = [item for batch in self.store.list(prefix or None) for item in batch]
            else:
                found = [item for item in sync(_at_once(self._head, keys())) if item is not None]
        return [(item["path"], int(item["size"]), str(item["e_tag"] or item["last_modified"])) for item in found]

    async def _head(self, key: str) -> Any | None:
        try:
            return await self.store.head_async(key)
        except FileNotFoundError:
            return None


def _client(location: str) -> Any:
    try:
        # Optional, hence named at run time.
        from_url = importlib.import_module("obstore.store").from_url
    except ImportError as error:
        raise SpecError(f'{location} needs obstore; install it with: pip install "distnnd[s3]"') from error
    # Elsewhere these would take the place of all that the environment says of the client, AWS_ALLOW_HTTP for one.
    plain = {"client_options": {"allow_http": True}} if location.lower().startswith("http://") else {}
    try:
        return from_url(location, retry_config=RETRIES, **plain)
    except Exception as error:
        raise SpecError(f"{location} cannot be opened ({said(error)}); {_settings(location)}") from error


def said(error: Exception) -> str:
    """What a client or server said, in short: obstore tells its whole inner life, with an XML page of the server's."""
    text = str(error).partition("\n\nDebug source")[0]
    facts = re.findall("<(?:Code|Message)>(.*?)</", text)
    head = " ".join(re.sub("<.*", "", text, flags=re.DOTALL).split()).rstrip(": ")
    head = re.sub(".*Error performing ", "", head)
    # A query may hold a signature.
    head = re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", head)
    return ": ".join([head, *facts])[:TOLD]


def unreachable(location: str, key: str, error: Exception) -> Unreachable:
    """The error for a request to an object store that failed: what was tried, and the remedy."""
    what, place = said(error), f"{location}/{key}".rstrip("/")
    if isinstance(error, FileNotFoundError) or re.search("NoSuchBucket|ContainerNotFound", what):
        return Unreachable(f"{place}: there is no such bucket ({what}); create it, or correct its name")
    # Where the environment holds no credentials, a machine of the cloud is asked for its own.
    if REFUSED.search(what) or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return Unreachable(f"{place}: access was refused ({what}); {_settings(location)}")
    if "builder error" in what:
        return Unreachable(f"{place}: no request was made ({what}); for an http:// endpoint set AWS_ALLOW_HTTP=true")
    return Unreachable(
        f"{place}: the store did not answer as it should ({what}); see that it is there, and that the environment "
        "names it rightly, then run the same again: what was finished is kept"
    )


def _settings(location: str) -> str:
    return f"check {SETTINGS[_scheme(location)]}, in the environment of this process and of every worker"


# --- small documents, and many objects at a time ---------------------------------------------------------


def get(location: str, name: str) -> bytes | None:
    """The object or file `name` below a location, None where there is none."""
    if is_local(location):
        try:
            with open(os.path.join(location, name), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
    found = sync(opened(location, read_only=True).get(name, buffer_prototype))
    return None if found is None else bytes(found.to_bytes())


def put(location: str, name: str, data: bytes) -> None:
    """Write or replace it, in one piece: one request, or a file that is moved to its place."""
    if is_local(location):
        files.write_file(os.path.join(location, name), [data])
    else:
        sync(opened(location).set(name, buffer_prototype.buffer.from_bytes(data)))


def put_new(location: str, name: str, data: bytes) -> bool:
    """Write it unless it is there already; whether it was written. Of several that try at once, one succeeds."""
    if is_local(location):
        return files.write_new(os.path.join(location, name), data)
    store = opened(location)
    if isinstance(store, Objects):
        return store.put_if(name, data, "create")
    if sync(store.exists(name)):
        return False
    put(location, name, data)
    return True


def change(location: str, name: str, changed: Callable[[bytes | None], bytes]) -> bool:
    """Replace a document by what `changed` makes of it; False if another process replaced it meanwhile.

    On local disks this holds a lock, and object stores compare etags. Other stores of fsspec compare nothing.
    """
    if is_local(location):
        with files.locked(location):
            put(location, name, changed(get(location, name)))
        return True
    store = opened(location)
    if isinstance(store, Objects):
        before, tag = store.tagged(name)
        return store.put_if(name, changed(before), "create" if tag is None else {"e_tag": tag})
    put(location, name, changed(get(location, name)))
    return True


def remove(location: str, name: str = "") -> None:
    """Delete everything below location/name, a path of ours. A symbolic link may go, but is never followed."""
    parts = [part for part in name.split("/") if part]
    if {".", ".."} & set(parts) or name.startswith("/"):
        raise StoreError(f"{name!r} does not lie below {location}: nothing is deleted")
    if not is_local(location):
        sync(opened(location).delete_dir(name))
        return
    path = location
    for part in parts:
        if os.path.islink(path) and path != location:
            return
        path = os.path.join(path, part)
    if os.path.islink(path):
        os.unlink(path)
    else:
        # Another attempt at the same task may be writing or deleting there.
        shutil.rmtree(path, ignore_errors=True)


def is_empty(location: str) -> bool:
    """Whether nothing lies at a location; one that cannot be listed, on a plain web server, counts as empty."""
    if is_local(location):
        return not os.path.lexists(location)
    return not _lists(location) or bool(sync(opened(location, read_only=True).is_empty("")))


def is_vacant(location: str) -> bool:
    """The same, but for an empty folder, or one in which a killed process had written nothing yet, which count too."""
    return files.is_vacant(location) if is_local(location) else is_empty(location)


def fetch(store: Store, wanted: Mapping[str, NDArray[np.uint8]]) -> list[bytes | None]:
    """Fill each array with the first bytes of the object of that key, and return what follows them.

    None: there is no such object; b"" if it holds no more, or less than the array. One request each, more for large
    ones, and some of them at a time.
    """

    async def fill(key: str) -> bytes | None:
        return await _fill(store, key, wanted[key])

    return list(sync(_at_once(fill, wanted)))


async def _fill(store: Store, key: str, into: NDArray[np.uint8]) -> bytes | None:
    async def part(span: RangeByteRequest | None = None) -> Any:
        found = await store.get(key, buffer_prototype, span)
        return None if found is None else np.asarray(found.as_numpy_array()).view(np.uint8)

    if len(into) <= WHOLE:
        found = await part()
        if found is None:
            return None
        into[: len(found)] = found[: len(into)]
        return bytes(found[len(into) :])
    try:
        size = await store.getsize(key)
    except FileNotFoundError:
        return None
    if size < len(into):
        return b""

    async def piece(start: int) -> None:
        stop = min(start + PIECE, len(into))
        into[start:stop] = await part(RangeByteRequest(start, stop))

    await _at_once(piece, range(0, len(into), PIECE))
    return bytes(await part(RangeByteRequest(len(into), size))) if size > len(into) else b""


def send(store: Store, objects: Mapping[str, Sequence[memoryview]]) -> None:
    """Write objects, each from its pieces and whole or not at all: a request each, more for large ones."""

    async def one(key: str) -> None:
        pieces = objects[key]
        if isinstance(store, Objects) and sum(map(len, pieces)) > WHOLE:
            await store.set_large(key, pieces)
        else:
            await store.set(key, buffer_prototype.buffer.from_bytes(b"".join(pieces)))

    sync(_at_once(one, objects))


async def _at_once(task: Callable[[A], Coroutine[Any, Any, T]], each: Iterable[A]) -> list[T]:
    """The answers of a task for each, a few of which are under way at a time; none is any more when one has failed."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(what: A) -> T:
        async with free:
            return await task(what)

    running = [asyncio.ensure_future(one(what)) for what in each]
    try:
        return await asyncio.gather(*running)
    finally:
        for future in running:
            future.cancel()
