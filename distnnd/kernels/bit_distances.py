"""Distances of rows whose columns are bits, 64 at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from .jit import kernel
from .sets import set_distance, tells_sides_apart

WORD_BYTES = 8


class BitRows(NamedTuple):
    """Rows of bits: words: uint64[n, w], zero beyond the last column."""

    words: np.ndarray


def pack(points: np.ndarray) -> BitRows:
    """Which columns of numbers or truths [n, d] are not zero; -0.0 is zero."""
    return from_bytes(np.packbits(points != 0, axis=1))


def from_bytes(packed: np.ndarray) -> BitRows:
    """Rows that are packed already, eight columns to a byte: uint8[n, b]."""
    width = -(-packed.shape[1] // WORD_BYTES) * WORD_BYTES
    padded = np.zeros((len(packed), width), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return BitRows(padded.view(np.uint64))


@intrinsic
def _count_ones_word(typingctx, word):
    def codegen(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), codegen


def _count_ones_python(word):
    return int(word).bit_count()


# How many bits of a word are set.
count_ones = _count_ones_python if config.DISABLE_JIT else _count_ones_word


@kernel(inline=True)
def over_words(words, i, others, j, form):
    """Distance of row i and row j of words, by a metric of sets; float64."""
    both, one, other = 0, 0, 0
    for word in range(words.shape[1]):
        x, y = words[i, word], others[j, word]
        both += count_ones(x & y)
        if tells_sides_apart(form):
            one += count_ones(x & ~y)
            other += count_ones(y & ~x)
        else:
            one += count_ones(x ^ y)
    return set_distance(form, np.float64(both), np.float64(one), np.float64(other))
