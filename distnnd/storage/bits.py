"""Truths as bits: points of dtype bool are packed on the way in, eight columns to a byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import Source


@dataclass(frozen=True, eq=False)
class PackedSource(Source):
    """The rows of a source of truths, as numpy.packbits packs them: uint8[n, d / 8], zeros behind the last column."""

    truths: Source

    @property
    def spec(self) -> dict[str, Any]:
        """As in Opened."""
        return {"kind": "packed", "of": self.truths.spec}

    def fingerprint(self) -> dict[str, Any]:
        """Those of the truths, under the shape of the packed rows."""
        return self.truths.fingerprint() | {"shape": [self.n, self.d], "packed": True}

    def _stored_rows(self, start: int, stop: int) -> NDArray[Any]:
        return pack(self.truths._stored_rows(start, stop))


def packed(source: Source) -> Source:
    """The source with its truths packed; one that holds no truths as it is."""
    if isinstance(source, PackedSource) or source._stored_rows(0, 1).dtype != np.bool_:
        return source
    columns = packed_columns(source.d)
    return PackedSource(source.n, columns, np.dtype(np.uint8), source.chunk_rows, source.location, source.token, source)


def pack(truths: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The rows [m, d] with eight columns to a byte: uint8[m, packed_columns(d)]."""
    return np.packbits(truths, axis=1)


def packed_columns(d: int) -> int:
    """Bytes of a packed row of d truths."""
    return -(-d // 8)
