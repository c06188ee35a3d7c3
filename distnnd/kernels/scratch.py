"""Arrays that begin where kernels read and write them best."""

from __future__ import annotations

import numpy as np

from .jit import kernel
from .lanes import LINE

PAGE = 4096
# Most of what is written down ends within so many bytes.
MOSTLY = 512


@kernel
def scratch(count, dtype):
    """Room for what is written down side by side, sixteen numbers at a time, wherever the last ones ended (sieve.py).

    `count` numbers of a type, zeros, with no end of a page of memory near their beginning.

    A vector that is stored across one takes some forty cycles: selection was two to eight times as slow where chance
    had put the array there. It begins a line of the cache, but not always a page, as arrays that all did would be in
    each other's way there.
    """
    whole = np.zeros(count + 2 * MOSTLY, dtype)
    place = whole.ctypes.data
    first = -place % LINE
    left = -(place + first) % PAGE
    if left < MOSTLY:
        first += left
    first //= whole.itemsize
    return whole[first : first + count]


def on_lines(shape: tuple[int, int], dtype: np.dtype | type) -> np.ndarray:
    """Room for rows that are read as wholes, zeros, from where a line of the cache begins.

    Rows of whole lines then lie in no more of them than they must, and no vector of a row in two.
    """
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    whole = np.zeros(size + LINE, np.uint8)
    first = -whole.ctypes.data % LINE
    return whole[first : first + size].view(dtype).reshape(shape)
