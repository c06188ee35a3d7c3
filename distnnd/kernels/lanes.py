"""Sixteen comparisons at once: the vector test that lets selection skip what cannot enter a list.

Written as LLVM vector code, so one text serves AVX-512, AVX2 and NEON; with the JIT disabled plain Python runs.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .jit import kernel

LANES = 16


def _splat(builder, value, vector):
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


@intrinsic
def _below16_lanes(typingctx, bias, product, start, bound):
    signature = types.uint32(bias, product, types.intp, types.float32)

    def codegen(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType(), LANES)
        lanes = []
        for array, value in zip(signature.args[:2], arguments[:2], strict=True):
            data = context.make_array(array)(context, builder, value).data
            pointer = builder.bitcast(builder.gep(data, [arguments[2]]), vector.as_pointer())
            lanes.append(builder.load(pointer, align=4))
        score = builder.fsub(lanes[0], lanes[1])
        hit = builder.fcmp_ordered("<", score, _splat(builder, arguments[3], vector))
        return builder.zext(builder.bitcast(hit, ir.IntType(LANES)), ir.IntType(32))

    return signature, codegen


def _below16_python(bias, product, start, bound):
    hits = bias[start : start + LANES] - product[start : start + LANES] < bound
    return np.uint32(sum(1 << lane for lane in range(LANES) if hits[lane]))


@intrinsic
def _lowest_bit_lanes(typingctx, mask):
    def codegen(context, builder, signature, arguments):
        return builder.zext(builder.cttz(arguments[0], cgutils.true_bit), ir.IntType(64))

    return types.int64(types.uint32), codegen


def _lowest_bit_python(mask):
    return (int(mask) & -int(mask)).bit_length() - 1


_below16 = _below16_python if config.DISABLE_JIT else _below16_lanes
lowest_bit = _lowest_bit_python if config.DISABLE_JIT else _lowest_bit_lanes


@kernel(inline=True)
def below(bias, product, start, count, bound):
    """Bit l of the answer is set where bias[start + l] - product[start + l] < bound, for start + l < count, l < 16.

    bias, product: float32[>= count]. Near the end the sixteen lanes are read from further left and shifted.
    """
    if start + LANES <= count:
        return _below16(bias, product, start, bound)
    if count >= LANES:
        return _below16(bias, product, count - LANES, bound) >> np.uint32(start + LANES - count)
    mask = np.uint32(0)
    for lane in range(count - start):
        if bias[start + lane] - product[start + lane] < bound:
            mask |= np.uint32(1) << np.uint32(lane)
    return mask


@kernel(inline=True)
def without_lowest(mask):
    """The mask with its lowest set bit cleared."""
    return np.uint32(mask & (mask - np.uint32(1)))
