"""Points read as another dtype than their own, where the user asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import Source


@dataclass(frozen=True, eq=False)
class ConvertedSource(Source):
    """The rows of another source, read as `dtype`: rounded to float32, or widened to float64."""

    given: Source

    @property
    def spec(self) -> dict[str, Any]:
        """As in Opened."""
        return {"kind": "converted", "dtype": self.dtype.name, "of": self.given.spec}

    def fingerprint(self) -> dict[str, Any]:
        """That of the points as they are stored."""
        return self.given.fingerprint()

    def release(self) -> None:
        """As in Opened."""
        self.given.release()

    def as_stored(self, start: int, stop: int) -> NDArray[Any]:
        """As in Source."""
        return self.given.as_stored(start, stop)

    def _stored_rows(self, start: int, stop: int) -> NDArray[Any]:
        return self.given._stored_rows(start, stop)


def converted(source: Source, dtype: str | None) -> Source:
    """The source read as `dtype`, "float32" or "float64"; as it is where it is read so, or where dtype is None."""
    if dtype is None or source.dtype == dtype:
        return source
    as_dtype = np.dtype(dtype)
    return ConvertedSource(source.n, source.d, as_dtype, source.chunk_rows, source.location, source.token, source)
