"""Room for what kernels write down side by side, sixteen numbers at a time, wherever the last ones ended (sieve.py)."""

from __future__ import annotations

import numpy as np

from .jit import kernel
from .lanes import LINE

PAGE = 4096
# Most of what is written down ends within so many bytes.
MOSTLY = 512


@kernel
def scratch(count, dtype):
    """Room for `count` numbers of a type, zeros, with no end of a page of memory near its beginning.

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
