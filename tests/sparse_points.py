"""Sparse points for tests: drawn, made from dense rows, and written out again."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from distnnd.values.points import Csr, starts_of
from tests.conftest import SHARED
from tests.strategies import make_points

TFIDF = SHARED / "tfidf_60k.npz"


def as_csr(points: np.ndarray) -> Csr:
    """The entries of dense rows that are not zero, in canonical form."""
    rows, columns = np.nonzero(points)
    indptr = starts_of(np.bincount(rows, minlength=len(points)))
    return Csr(indptr, columns.astype(np.int32), points[rows, columns].astype(np.float32), points.shape[1])


def as_dense(points: Csr) -> np.ndarray:
    """Float64 rows written out, one entry after the other; entries of one column add up."""
    dense = np.zeros((points.rows, points.columns))
    for row in range(points.rows):
        for entry in range(points.indptr[row], points.indptr[row + 1]):
            dense[row, points.indices[entry]] += float(points.data[entry])
    return dense


@st.composite
def sparse_points(draw: st.DrawFn, rows: tuple[int, int] = (2, 40), columns: tuple[int, int] = (1, 30)) -> Csr:
    """A small sparse point set: few values and many ties, or any; duplicates, zero rows, columns that nobody has."""
    n, d = draw(st.integers(*rows)), draw(st.integers(*columns))
    flavour = draw(st.sampled_from(["plain", "ties", "duplicates", "zeros"]))
    seed, share = draw(st.integers(0, 2**16)), draw(st.sampled_from([0.05, 0.2, 0.6, 1.0]))
    dense = make_points(flavour, np.float32, n, d, seed)
    if flavour == "ties":
        dense -= draw(st.sampled_from([0, 1]))
    rng = np.random.default_rng(seed)
    kept = rng.random((n, d)) < share
    if flavour == "duplicates":
        kept[n // 2 :] = kept[: n - n // 2]
        dense[n // 2 :] = dense[: n - n // 2]
    return as_csr(np.where(kept, dense, 0).astype(np.float32))
