"""Numbers of 16 bits as float32: what a processor does at once, numpy does one by one."""

from __future__ import annotations

import numpy as np

from .jit import kernel

# A float16 has 10 bits of fraction and 5 of exponent, biased by 15; a float32 23 and 8, biased by 127.
_FRACTION, _SCALE = np.uint32(23 - 10), np.float32(2.0 ** (127 - 15))
_SIGN, _EXPONENT = np.uint32(0x8000), np.uint32(0x7C00)
_WITHOUT_SIGN, _LARGEST = np.uint32(0x7FFF), np.uint32(0x7F800000)


def as_float32(points: np.ndarray) -> np.ndarray:
    """A copy of the numbers of [m, d] as float32."""
    if points.dtype != np.float16:
        return points.astype(np.float32)
    # One kind of array for all callers, or the kernel would be compiled for each.
    points = np.require(points, requirements=["C", "A", "W"])
    wide = np.empty(points.shape, np.float32)
    widen(points.view(np.uint16), wide)
    return wide


@kernel
def widen(halves, wide):
    """Write float16 numbers, uint16[m, d] as they lie in memory, to `wide`, float32[m, d]."""
    for row in range(halves.shape[0]):
        for column in range(halves.shape[1]):
            half = np.uint32(halves[row, column])
            # Moved to where a float32 has them, exponent and fraction stand for a number that is too small by the same
            # factor for all, those below the least normal one included.
            moved = np.uint32((half & _WITHOUT_SIGN) << _FRACTION)
            above = np.uint32(moved | _LARGEST).view(np.float32)
            number = above if half & _EXPONENT == _EXPONENT else moved.view(np.float32) * _SCALE
            wide[row, column] = -number if half & _SIGN else number
