"""CSR matrices whose rows stay in the order of distance when their dtype changes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy import sparse


def in_order(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """The same matrix, of which astype() leaves the entries of each row where they are, also after copy().

    SciPy's own astype sorts them by column, and scikit-learn and scanpy rely on their order: the first k entries of a
    row are taken for its nearest neighbours. They are attributes of the object, because AnnData writes matrices of no
    class but SciPy's own.
    """
    matrix.astype, matrix.copy = partial(_astype, matrix), partial(_copy, matrix)
    return matrix


def _astype(matrix: sparse.csr_matrix, dtype: Any, casting: Any = "unsafe", copy: bool = True) -> sparse.csr_matrix:
    """As scipy.sparse.csr_matrix.astype, with the entries of each row in the order that they have."""
    dtype = np.dtype(dtype)
    if matrix.dtype == dtype and not copy:
        return matrix
    parts = (matrix.data.astype(dtype, casting=casting), matrix.indices.copy(), matrix.indptr.copy())
    return in_order(sparse.csr_matrix(parts, shape=matrix.shape))


def _copy(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """As scipy.sparse.csr_matrix.copy."""
    return _astype(matrix, matrix.dtype)
