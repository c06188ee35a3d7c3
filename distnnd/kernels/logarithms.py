"""Logarithms and powers that run in vector lanes, where those of the C library are called for one number at a time.

A number is taken apart by its bits; what is left lies near 1, and a short series does the rest.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import kernel

# Bits of the root of one half, from which a mantissa is counted, and how many bits a mantissa has.
_HALF_ROOT, _MANTISSA, _BIAS = np.int64(0x3FE6A09E667F3BCD), 52, 1023
_HALF_ROOT_32, _MANTISSA_32 = np.int32(0x3F3504F3), 23
# ln 2 as a sum, of which the first part times a small whole number is exact.
_LN2, _LN2_HIGH, _LN2_LOW = math.log(2), 6.93147180369123816490e-01, 1.90821492927058770002e-10
# A smaller power of e is nothing beside 1.
_LEAST = -700.0
_NARROW_LN2, _ONE, _TWO = np.float32(math.log(2)), np.float32(1), np.float32(2)
_THIRD, _FIFTH, _SEVENTH, _NINTH = (np.float32(1 / odd) for odd in (3, 5, 7, 9))


@kernel(inline=True)
def log_of(number):
    """ln of a normal float64 above 0, to 1e-12 of it."""
    bits = np.float64(number).view(np.int64)
    exponent = (bits - _HALF_ROOT) >> _MANTISSA
    rest = np.int64(bits - (exponent << _MANTISSA)).view(np.float64)
    z = (rest - 1.0) / (rest + 1.0)
    s = z * z
    series = 1.0 + s * (1 / 3 + s * (1 / 5 + s * (1 / 7 + s * (1 / 9 + s * (1 / 11 + s * (1 / 13 + s / 15))))))
    return exponent * _LN2 + 2.0 * z * series


@kernel(inline=True)
def narrow_log_of(number):
    """ln of a normal float32 above 0, to what float32 can say."""
    bits = np.float32(number).view(np.int32)
    exponent = np.int32(bits - _HALF_ROOT_32) >> np.int32(_MANTISSA_32)
    rest = np.int32(bits - np.int32(exponent << np.int32(_MANTISSA_32))).view(np.float32)
    z = (rest - _ONE) / (rest + _ONE)
    s = z * z
    series = _ONE + s * (_THIRD + s * (_FIFTH + s * (_SEVENTH + s * _NINTH)))
    return np.float32(exponent) * _NARROW_LN2 + _TWO * z * series


@kernel(inline=True)
def exp_of(number):
    """e to the power of a float64 of at most 0, to 1e-14 of it; below e^-700 it is that."""
    number = max(number, _LEAST) if number == number else _LEAST
    whole = np.int64(number / _LN2 - 0.5)
    r = number - whole * _LN2_HIGH - whole * _LN2_LOW
    series = 1.0
    for term in range(12, 0, -1):
        series = 1.0 + series * r / term
    return series * np.int64((whole + _BIAS) << _MANTISSA).view(np.float64)


@kernel(inline=True)
def power_of_share(number, power):
    """A float64 from 0 to about 1, to a power above 0."""
    value = exp_of(power * log_of(number))
    return value if number > 0 else 0.0


@kernel(inline=True)
def whole_power_of(number, power):
    """A float64 to a whole power of 1 to 15, by multiplication."""
    square = number * number
    fourth = square * square
    value = number if power & 1 else 1.0
    value *= square if power & 2 else 1.0
    value *= fourth if power & 4 else 1.0
    return value * (fourth * fourth if power & 8 else 1.0)
