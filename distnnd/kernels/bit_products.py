"""Products of rows of bits: how many columns are set in both, sixteen rows at a time.

A base of rows is packed so that words of 64 columns of sixteen rows stand side by side; a query's word meets all of
them, and set bits are counted byte by byte, which every machine with vectors can do at once.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from .bit_distances import WORD_BYTES, count_ones
from .jit import kernel
from .lanes import LANES, invoke, numbers_of, splat, sum_up, written

# Words whose counts of set bits, at most eight a byte, add up within a byte.
WORDS = 31

_BYTE, _INT, _LONG = (ir.IntType(bits) for bits in (8, 32, 64))
_WORDS = ir.VectorType(_LONG, LANES)
_COUNTS = ir.VectorType(_BYTE, WORD_BYTES * LANES)


def _word(builder, call, array, index):
    """The word of 64 columns from byte `index` of an array on."""
    return builder.load(call.place(array, index, _LONG), align=1)


_word_at_lanes, _put_word_lanes = numbers_of(types.uint64)


@intrinsic
def _meet_lanes(typingctx, queries, query, base, at, words, products, place, more):
    """products[place + l] = (more: itself +) the bits that words of a query and of row l of the base have in common."""
    sizes = (types.intp,) * 2
    signature = types.void(queries, types.intp, base, *sizes, products, types.intp, types.boolean)

    @written
    def code(call):
        builder, (query, at, words, place, more) = call.builder, (call.arguments[i] for i in (1, 3, 4, 6, 7))
        none = ir.Constant(_COUNTS, [0] * _COUNTS.count)

        def add(byte, counts):
            own = splat(builder, _word(builder, call, 0, builder.add(query, byte)), _WORDS)
            here = call.place(2, builder.add(at, builder.mul(byte, _LONG(LANES))), _WORDS)
            both = builder.and_(builder.load(here, align=1), own)
            return [builder.add(*counts, _set_bits_of(builder, builder.bitcast(both, _COUNTS)))]

        (counts,) = sum_up(builder, builder.mul(words, _LONG(WORD_BYTES)), WORD_BYTES, [none], add)
        total = _add_up_bytes(builder, counts)
        products = call.place(5, place, total.type)
        known = builder.load(products, align=4)
        nothing = ir.Constant(total.type, [0] * LANES)
        builder.store(builder.add(total, builder.select(more, known, nothing)), products, align=4)

    return signature, code


def _set_bits_of(builder, both):
    """How many bits of each byte are set."""
    return invoke(builder, f"llvm.ctpop.v{_COUNTS.count}i8", _COUNTS, both)


def _add_up_bytes(builder, counts):
    """The sums of each eight bytes: int32[16]."""
    for bits in (8, 16, 32):
        wide = ir.VectorType(ir.IntType(2 * bits), _COUNTS.count * 8 // (2 * bits))
        counts = builder.bitcast(counts, wide)
        low, shift = (ir.Constant(wide, [number] * wide.count) for number in (2**bits - 1, bits))
        counts = builder.add(builder.and_(counts, low), builder.lshr(counts, shift))
    return builder.trunc(counts, ir.VectorType(_INT, LANES))


def _word_at_python(codes, index):
    return codes.reshape(-1)[index : index + WORD_BYTES].view(np.uint64)[0]


def _put_word_python(codes, index, word):
    codes.reshape(-1)[index : index + WORD_BYTES].view(np.uint64)[0] = word


def _meet_python(queries, query, base, at, words, products, place, more):
    size = words * WORD_BYTES
    own = queries.reshape(-1)[query : query + size].view(np.uint64)[:, None]
    others = base.reshape(-1)[at : at + size * LANES].view(np.uint64).reshape(words, LANES)
    here = products.reshape(-1)[place : place + LANES]
    here[:] = np.bitwise_count(own & others).sum(axis=0, dtype=np.int32) + (here if more else 0)


# The word of 64 columns from flat byte `index` of codes, uint8, on, and another one in its place.
word_at = _word_at_python if config.DISABLE_JIT else _word_at_lanes
put_word = _put_word_python if config.DISABLE_JIT else _put_word_lanes
_meet = _meet_python if config.DISABLE_JIT else _meet_lanes


def pack(values, rows, first, count, width, packed):
    """As products.pack has it; values: uint8[m, w], w a multiple of eight."""
    stride = values.shape[1]
    for group in range((count + LANES - 1) // LANES):
        for lane in range(LANES):
            row, place = rows[first + LANES * group + lane], group * width * LANES + lane * WORD_BYTES
            for byte in range(0, width, WORD_BYTES):
                put_word(packed, place + byte * LANES, word_at(values, row * stride + byte))


def multiply(queries, width, first, last, starts, packed, first_group, groups, products):
    """As products.multiply has it; starts are not asked for: products of bits begin with nothing."""
    words = width // WORD_BYTES
    for query in range(first, last):
        for group in range(first_group, groups):
            place = query * products.shape[1] + LANES * (group - first_group)
            for word in range(0, words, WORDS):
                at, own = (group * width + word * WORD_BYTES) * LANES, query * width + word * WORD_BYTES
                _meet(queries, own, packed, at, min(WORDS, words - word), products, place, word > 0)


def dots(values, rows, count, query, start, products):
    """As products.dots has it."""
    width = values.shape[1]
    for i in range(count):
        products[i] = common_bits(values, rows[i] * width, query, 0, width)


def pair_dots(values, ones, others, count, columns, products):
    """As products.pair_dots has it."""
    width = values.shape[1]
    for i in range(count):
        products[i] = common_bits(values, ones[i] * width, values, others[i] * width, width)


@kernel(inline=True)
def common_bits(values, first, others, other, width):
    """How many columns are set in two rows of `width` bytes, from bytes `first` and `other` on."""
    total = 0
    for byte in range(0, width, WORD_BYTES):
        total += count_ones(word_at(values, first + byte) & word_at(others, other + byte))
    return total


@kernel(inline=True)
def share_apart(apart, square, other):
    """The Jaccard distance of two sets of so many columns, of which `apart` are in one only."""
    union = (np.float64(square) + np.float64(other) + np.float64(apart)) / 2
    return np.float32(np.float64(apart) / union) if apart > 0 else np.float32(0)


def bits_apart(points, i, others, j, form):
    """The surrogate of two rows of bits: how many columns differ, or their share of those that are set in any."""
    width = points.shape[1]
    apart = one = other = 0
    for byte in range(0, width, WORD_BYTES):
        x, y = word_at(points, i * width + byte), word_at(others, j * width + byte)
        apart += count_ones(x ^ y)
        one += count_ones(x)
        other += count_ones(y)
    return share_apart(apart, one, other) if form.share else np.float32(apart)


def set_bits(values, squares, starts):
    """squares[i] = the columns that are set in row i; products begin with nothing."""
    width = values.shape[1]
    for row in range(values.shape[0]):
        squares[row], starts[row] = common_bits(values, row * width, values, row * width, width), 0
