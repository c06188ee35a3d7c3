"""What every source of points shares, dense or sparse, in memory or not.

Rules of type, for all formats: float32, float16, uint8 and int8 stay as they are, in native byte order;
every other integer, bool and wider float becomes float32, rounded; what is no real number is refused.
"""

from __future__ import annotations

import os
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from distnnd.storage.stores import refuse_secrets
from distnnd.values.errors import InputError, SpecError, StoreError

NARROW = tuple(np.dtype(name) for name in ("float32", "float16", "uint8", "int8"))
BLOCK_BYTES = 8 << 20
# Of points that any rows can be read from, in memory or in a flat file: so much at a time.
READ_BYTES = 4 << 20
WHOLE_DIGEST_BYTES = 64 << 20

_REMEDIES = {
    "O": 'convert it first, for example points.astype("float32")',
    "c": "put both parts side by side, numpy.hstack([points.real, points.imag])",
    "M": 'take differences to one moment in a unit of your choice, then astype("float32")',
    "m": 'choose a unit, then astype("float32")',
    **dict.fromkeys("SUT", "turn the text into numbers first, for example an embedding"),
}


@dataclass(frozen=True, eq=False)
class Opened(ABC):
    """Points, n rows of d values, that are read by ranges of rows: what dense and sparse ones have in common.

    `dtype` is what `read` gives, `chunk_rows` the rows that are cheapest to read together, `location` a name
    for messages. `token` is set for points in memory, which `keep_resident` keeps under it.
    """

    n: int
    d: int
    dtype: np.dtype[Any]
    chunk_rows: int
    location: str
    token: str | None

    @property
    def resident(self) -> bool:
        """Whether the points lie in this process's memory, so that no other process can open `spec`."""
        return self.token is not None

    @property
    def spec(self) -> dict[str, Any]:
        """A small JSON-able description, from which `distnnd.storage.source.reopen_source` opens the same."""
        return {"kind": "resident", "token": self.token, "pid": os.getpid()}

    def release(self) -> None:
        """Forget points in memory: their `spec` can be opened no more. Files and stores are left alone."""
        _residents.pop(self.token or "", None)

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """JSON-able facts, without the location, that differ once the points have changed."""

    def check_range(self, start: int, stop: int) -> None:
        """Raise SpecError unless rows [start, stop) lie within [0, n)."""
        if not 0 <= start <= stop <= self.n:
            raise SpecError(f"{self.location}: rows [{start}, {stop}) do not lie within [0, {self.n})")


class Source(Opened):
    """Dense points."""

    @abstractmethod
    def _stored_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows [start, stop) in any layout and stored dtype; may be a view of someone's memory."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows [start, stop) as a C-contiguous (stop - start, d) array of `dtype` that the caller owns.

        A float64 beyond float32's range becomes inf, for the scan of the points to name.
        Raises SpecError for rows outside [0, n), StoreError for what is missing or damaged.
        """
        self.check_range(start, stop)
        if start == stop:
            return np.empty((0, self.d), self.dtype)
        return to_points(self._stored_rows(start, stop), self.dtype)


# --- rules of type and shape -----------------------------------------------------------------------------


def points_dtype(stored: np.dtype[Any], where: str) -> np.dtype[Any]:
    """The dtype that points stored as `stored` are read as; raises InputError for what is no real number."""
    native = stored.newbyteorder("=")
    if native in NARROW:
        return native
    if stored.kind in "fiub":
        return np.dtype(np.float32)
    fields = "numpy.lib.recfunctions.structured_to_unstructured(points)"
    remedy = fields if stored.names else _REMEDIES.get(stored.kind, 'try points.astype("float32")')
    raise InputError(f"{where}: points of dtype {stored} cannot be compared; {remedy}")


def points_shape(shape: tuple[int, ...], where: str) -> tuple[int, int]:
    """(n, d) of a shape, as ints; raises InputError unless it has two axes and both are longer than 0."""
    if len(shape) == 2:
        n, d = int(shape[0]), int(shape[1])
        if n < 1 or d < 1:
            raise InputError(f"{where}: points of shape {(n, d)} have no {'columns' if n else 'rows'}")
        return n, d
    remedy = "one value is no set of points"
    if len(shape) == 1:
        remedy = "use reshape(-1, 1) if each value is a point, reshape(1, -1) if all are one point"
    elif len(shape) > 2:
        remedy = "use reshape(len(points), -1) to make each entry along the first axis a point"
    raise InputError(f"{where}: points need the shape (n, d), not {tuple(shape)}; {remedy}")


def to_points(rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`rows` as a C-contiguous array of `dtype` whose memory nobody else holds."""
    flags = rows.flags
    # An array that owns its data was made for this read: sources hand out slices of what others hold.
    if flags.owndata and flags.c_contiguous and flags.writeable and rows.dtype == dtype:
        return rows
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(rows, dtype=dtype, order="C")


def absolute(path: str | os.PathLike[str]) -> str:
    """The local path, ~ expanded, absolute, without a trailing slash; a URL stays one, save for file://.

    Raises SpecError for a URL that carries credentials.
    """
    text = os.fsdecode(path)
    refuse_secrets(text)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
        text = text if os.path.exists(text) else unquote(text)
    elif "://" in text:
        return text.rstrip("/")
    return os.path.abspath(os.path.expanduser(text))


def rows_within(target_bytes: int, row_bytes: int) -> int:
    """The largest power of two of rows that takes at most `target_bytes`; at least 1."""
    return 1 << max(0, (target_bytes // row_bytes).bit_length() - 1)


# --- points in memory ------------------------------------------------------------------------------------

_residents: dict[str, Opened] = {}
Kept = TypeVar("Kept", bound=Opened)


def keep_resident(source: Kept) -> Kept:
    """`source` with a token, kept for the life of this process or until `release`."""
    token = uuid.uuid4().hex
    kept = replace(source, token=token)
    _residents[token] = kept
    return kept


def find_resident(spec: dict[str, Any]) -> Opened:
    """The source that `keep_resident` kept; raises StoreError in any other process and after `release`."""
    token, pid = spec["token"], spec["pid"]
    if token in _residents:
        return _residents[token]
    if pid == os.getpid():
        raise StoreError("the points in memory have been released; open the source again")
    raise StoreError(
        f"the points lie in the memory of process {pid}, out of reach of process {os.getpid()}; write them "
        "to a path that every worker sees, as Zarr or .npy, and open that"
    )


# --- telling whether points have changed ------------------------------------------------------------------


def sampled_digest(array: NDArray[Any], at_once: int) -> dict[str, Any]:
    """A digest of an array, of every so many rows where it is large; at_once: rows that may be copied together."""
    stride = max(1, -(-array.nbytes // WHOLE_DIGEST_BYTES))
    sample = array[::stride]
    digest = blake2b(digest_size=16)
    for start in range(0, len(sample), max(1, at_once)):
        digest.update(sample[start : start + at_once].tobytes())
    return {"row_stride": stride, "digest": digest.hexdigest()}
