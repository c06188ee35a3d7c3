"""Sixteen at once: small vector operations on arrays, and room made in a sorted list.

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

_INT, _LONG = ir.IntType(32), ir.IntType(64)
INTS, FLOATS, BYTES = (ir.VectorType(kind, LANES) for kind in (_INT, ir.FloatType(), ir.IntType(8)))


def splat(builder, value, vector):
    """A vector that holds `value` in every lane."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(INTS, [0] * LANES))


def place(context, builder, array_type, array, index, vector):
    """Pointer to sixteen numbers of an array in one piece, from number `index` on."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def mask_of(builder, hits):
    """Sixteen truths as the bits of a number."""
    return builder.zext(builder.bitcast(hits, ir.IntType(LANES)), _INT)


def sixteen(context, builder, array_type, array, index):
    """Sixteen numbers of an array in one piece, from number `index` on."""
    vector = ir.VectorType(context.get_value_type(array_type.dtype), LANES)
    return builder.load(place(context, builder, array_type, array, index, vector), align=1)


def scores_of(context, builder, signature, arguments, bias_at, product_at):
    """bias - 2 product of sixteen candidates; the arrays are the first two arguments."""
    bias, product = (
        sixteen(context, builder, signature.args[i], arguments[i], index)
        for i, index in ((0, bias_at), (1, product_at))
    )
    return builder.sub(bias, builder.add(product, product))


@intrinsic
def _prefetch_lanes(typingctx, array, index):
    signature = types.void(array, types.intp)

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        at = builder.gep(data, [arguments[1]])
        at = builder.bitcast(at, ir.IntType(8).as_pointer())
        shape = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), _INT, _INT, _INT])
        name = "llvm.prefetch.p0"
        fetch = builder.module.globals.get(name) or ir.Function(builder.module, shape, name)
        builder.call(fetch, [at, _INT(0), _INT(3), _INT(1)])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _any_equal_lanes(typingctx, numbers, start, number):
    signature = types.boolean(numbers, types.intp, numbers.dtype)

    def codegen(context, builder, signature, arguments):
        numbers, start, number = arguments
        vector = ir.VectorType(context.get_value_type(signature.args[0].dtype), LANES)
        here = builder.load(place(context, builder, signature.args[0], numbers, start, vector), align=1)
        equal = builder.icmp_signed("==", here, splat(builder, number, vector))
        return builder.icmp_signed("!=", mask_of(builder, equal), ir.Constant(_INT, 0))

    return signature, codegen


@intrinsic
def _keep_lower_lanes(typingctx, bias, products, start, minima, at):
    signature = types.void(bias, products, types.intp, minima, types.intp)

    def codegen(context, builder, signature, arguments):
        start, minima, at = arguments[2:]
        pointer = place(context, builder, signature.args[3], minima, at, INTS)
        scores, least = scores_of(context, builder, signature, arguments, start, start), builder.load(pointer, align=4)
        builder.store(builder.select(builder.icmp_signed("<", scores, least), scores, least), pointer, align=4)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _count_at_most_lanes(typingctx, numbers, start, bound):
    signature = types.int32(numbers, types.intp, types.int32)

    def codegen(context, builder, signature, arguments):
        numbers, start, bound = arguments
        here = builder.load(place(context, builder, signature.args[0], numbers, start, INTS), align=4)
        return builder.ctpop(mask_of(builder, builder.icmp_signed("<=", here, splat(builder, bound, INTS))))

    return signature, codegen


@intrinsic
def _lowest_bit_lanes(typingctx, mask):
    def codegen(context, builder, signature, arguments):
        return builder.zext(builder.cttz(arguments[0], cgutils.true_bit), _LONG)

    return types.int64(types.uint32), codegen


def precede(builder, distances, ids, distance, label):
    """Which of sixteen entries come before (distance, label): nearer, or as near with a lower id."""
    distance, label = splat(builder, distance, distances.type), splat(builder, label, ids.type)
    near = builder.fcmp_ordered("<", distances, distance)
    tie = builder.fcmp_ordered("==", distances, distance)
    return builder.or_(near, builder.and_(tie, builder.icmp_signed("<", ids, label)))


@intrinsic
def _make_room_lanes(typingctx, distances, ids, states, at, distance, label, state):
    signature = types.void(distances, ids, states, types.intp, types.float32, ids.dtype, types.uint8)

    def codegen(context, builder, signature, arguments):
        before = builder.sub(arguments[3], _LONG(1))
        kinds = (FLOATS, ir.VectorType(context.get_value_type(signature.args[1].dtype), LANES), BYTES)
        here, left = (
            [
                builder.load(place(context, builder, *array, index, kind), align=1)
                for array, kind in zip(zip(signature.args[:3], arguments[:3], strict=True), kinds, strict=True)
            ]
            for index in (arguments[3], before)
        )
        new = [splat(builder, value, kind) for value, kind in zip(arguments[4:], kinds, strict=True)]

        keep, first = (precede(builder, *entries[:2], *arguments[4:6]) for entries in (here, left))
        for i, kind in enumerate(kinds):
            value = builder.select(keep, here[i], builder.select(first, new[i], left[i]))
            builder.store(value, place(context, builder, signature.args[i], arguments[i], arguments[3], kind), align=1)
        return context.get_dummy_value()

    return signature, codegen


def _keep_lower_python(bias, products, start, minima, at):
    scores = bias[start : start + LANES] - 2 * products[start : start + LANES]
    minima[at : at + LANES] = np.minimum(minima[at : at + LANES], scores)


def _any_equal_python(numbers, start, number):
    return bool((numbers.reshape(-1)[start : start + LANES] == number).any())


def _count_at_most_python(numbers, start, bound):
    return np.int32((numbers[start : start + LANES] <= bound).sum())


def _prefetch_python(array, index):
    """Nothing: Python has no cache to fill."""


def _lowest_bit_python(mask):
    return (int(mask) & -int(mask)).bit_length() - 1


def _make_room_python(distances, ids, states, at, distance, label, state):
    flat = [part.reshape(-1) for part in (distances, ids, states)]
    entries = [(flat[0][i], flat[1][i], flat[2][i]) for i in range(at - 1, at + LANES)]
    for lane in range(LANES):
        left, here = entries[lane], entries[lane + 1]
        if not here[:2] < (distance, label):
            value = (distance, label, state) if left[:2] < (distance, label) else left
            for part, number in zip(flat, value, strict=True):
                part[at + lane] = number


# Whether one of the sixteen numbers from flat index `start` on is `number`.
any_equal = _any_equal_python if config.DISABLE_JIT else _any_equal_lanes
# Ask for the numbers from flat index `index` on before they are needed.
prefetch = _prefetch_python if config.DISABLE_JIT else _prefetch_lanes
# minima[at + l] becomes bias[start + l] - 2 products[start + l] where that is lower, for sixteen l.
keep_lower = _keep_lower_python if config.DISABLE_JIT else _keep_lower_lanes
# How many of the sixteen numbers from `start` on are at most `bound`.
count_at_most = _count_at_most_python if config.DISABLE_JIT else _count_at_most_lanes
# The number of the lowest bit that is set.
lowest_bit = _lowest_bit_python if config.DISABLE_JIT else _lowest_bit_lanes
# Insert (distance, label, state) into the sixteen sorted entries from flat index `at` on; the one before them is looked
# at too, the last of them falls out into the sixteen behind (or out of the list).
make_room = _make_room_python if config.DISABLE_JIT else _make_room_lanes


@kernel(inline=True)
def without_lowest(mask):
    """The mask with its lowest set bit cleared."""
    return np.uint32(mask & (mask - np.uint32(1)))
