"""Sixteen at once: small vector operations on arrays, and room made in a sorted list.

Written as LLVM vector code, so one text serves AVX-512, AVX2 and NEON; with the JIT disabled plain Python runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .jit import kernel

LANES = 16
# Bytes of a line of the cache.
LINE = 64

_INT, _LONG = ir.IntType(32), ir.IntType(64)
INTS, FLOATS, BYTES = (ir.VectorType(kind, LANES) for kind in (_INT, ir.FloatType(), ir.IntType(8)))


def machine_has(instructions: str) -> bool:
    """Whether the machine that numba compiles for has a set of instructions, by LLVM's name: "avx2", "avx512vnni"."""
    if config.CPU_NAME or config.CPU_FEATURES:
        return f"+{instructions}" in (config.CPU_FEATURES or "").split(",")
    return bool(llvmlite.binding.get_host_cpu_features().get(instructions))


def splat(builder, value, vector):
    """A vector that holds `value` in every lane."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_INT, 0))
    lanes = ir.VectorType(_INT, vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(lanes, [0] * vector.count))


def invoke(builder, name, kind, *arguments):
    """Call one of LLVM's own functions, which returns `kind`."""
    shape = ir.FunctionType(kind, [argument.type for argument in arguments])
    return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, shape, name), arguments)


def place(context, builder, array_type, array, index, vector):
    """Pointer to sixteen numbers of an array in one piece, from number `index` on."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def mask_of(builder, hits):
    """Sixteen truths as the bits of a number."""
    return builder.zext(builder.bitcast(hits, ir.IntType(LANES)), _INT)


def sum_of(builder, numbers, flags=()):
    """The sum of the lanes of a vector of floats: the upper half is added to the lower one until one is left."""
    half = numbers.type.count // 2
    while half:
        lanes = [(lane + half) % numbers.type.count for lane in range(numbers.type.count)]
        upper = ir.Constant(ir.VectorType(_INT, numbers.type.count), lanes)
        numbers = builder.fadd(numbers, builder.shuffle_vector(numbers, numbers, upper), flags=flags)
        half //= 2
    return builder.extract_element(numbers, _INT(0))


def sum_up(builder, width, step, begin, add):
    """Vectors that a loop over a row sums up, from 0 on in steps, until `width` is reached.

    begin: what they begin with; add(column, sums): the sums with what stands there.
    """
    before, loop, after = builder.block, *(builder.append_basic_block(name) for name in ("columns", "sums"))
    builder.branch(loop)
    builder.position_at_end(loop)
    at, sums = builder.phi(_LONG), [builder.phi(vector.type) for vector in begin]
    ended, following = add(at, sums), builder.add(at, _LONG(step))
    for number, first, then in zip([at, *sums], [_LONG(0), *begin], [following, *ended], strict=True):
        number.add_incoming(first, before)
        number.add_incoming(then, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, width), loop, after)
    builder.position_at_end(after)
    return ended


class Call(NamedTuple):
    """A call of an intrinsic while its code is written: what writes it, and the arguments with their types."""

    context: Any
    builder: Any
    signature: Any
    arguments: Any

    def array(self, i):
        """Type and value of argument i, an array."""
        return self.signature.args[i], self.arguments[i]

    def kind(self, i):
        """LLVM's type of the numbers of argument i, an array."""
        return self.context.get_value_type(self.signature.args[i].dtype)

    def place(self, i, index, vector):
        """Pointer to sixteen numbers of argument i in one piece, from number `index` on."""
        return place(self.context, self.builder, *self.array(i), index, vector)

    def columns(self, i):
        """How many columns argument i has, an array of two axes."""
        array = self.context.make_array(self.signature.args[i])(self.context, self.builder, self.arguments[i])
        return self.builder.extract_value(array.shape, 1)

    def sixteen(self, i, index):
        """Sixteen numbers of argument i in one piece, from number `index` on."""
        return self.builder.load(self.place(i, index, ir.VectorType(self.kind(i), LANES)), align=1)

    def scores(self, bias_at, product_at):
        """bias - 2 product of sixteen candidates; the arrays are the first two arguments."""
        bias, product = self.sixteen(0, bias_at), self.sixteen(1, product_at)
        return self.builder.sub(bias, self.builder.add(product, product))


def written(code: Callable[[Call], Any]) -> Callable[..., Any]:
    """What numba asks for the code of an intrinsic, from a function of the call; that may return nothing."""

    def codegen(context, builder, signature, arguments):
        value = code(Call(context, builder, signature, arguments))
        return context.get_dummy_value() if value is None else value

    return codegen


def numbers_of(kind: Any) -> tuple[Any, Any]:
    """Two intrinsics for numbers of numba's type `kind` in bytes: the one from flat byte `index` on; another there."""
    vector = ir.IntType(kind.bitwidth)

    @intrinsic
    def number_at(typingctx, codes, index):
        @written
        def code(call):
            return call.builder.load(call.place(0, call.arguments[1], vector), align=1)

        return kind(codes, types.intp), code

    @intrinsic
    def put_number(typingctx, codes, index, number):
        @written
        def code(call):
            call.builder.store(call.arguments[2], call.place(0, call.arguments[1], vector), align=1)

        return types.void(codes, types.intp, kind), code

    return number_at, put_number


@intrinsic
def _prefetch_lanes(typingctx, array, index):
    @written
    def code(call):
        at = call.place(0, call.arguments[1], ir.IntType(8))
        invoke(call.builder, "llvm.prefetch.p0", ir.VoidType(), at, _INT(0), _INT(3), _INT(1))

    return types.void(array, types.intp), code


@intrinsic
def _any_equal_lanes(typingctx, numbers, start, number):
    @written
    def code(call):
        builder, here = call.builder, call.sixteen(0, call.arguments[1])
        equal = builder.icmp_signed("==", here, splat(builder, call.arguments[2], here.type))
        return builder.icmp_signed("!=", mask_of(builder, equal), ir.Constant(_INT, 0))

    return types.boolean(numbers, types.intp, numbers.dtype), code


@intrinsic
def _lowest_lanes(typingctx, bias, products, first, last, step, minima):
    @written
    def code(call):
        builder, (first, last, step) = call.builder, call.arguments[2:5]
        least = cgutils.alloca_once_value(builder, call.scores(first, first))
        with cgutils.for_range_slice(builder, builder.add(first, step), last, step, _LONG) as (start, _):
            scores, lowest = call.scores(start, start), builder.load(least)
            builder.store(builder.select(builder.icmp_signed("<", scores, lowest), scores, lowest), least)
        builder.store(builder.load(least), call.place(5, first, INTS), align=4)

    return types.void(bias, products, *(types.intp,) * 3, minima), code


@intrinsic
def _count_at_most_lanes(typingctx, numbers, start, bound):
    @written
    def code(call):
        builder, bound = call.builder, splat(call.builder, call.arguments[2], INTS)
        return builder.ctpop(mask_of(builder, builder.icmp_signed("<=", call.sixteen(0, call.arguments[1]), bound)))

    return types.int32(numbers, types.intp, types.int32), code


@intrinsic
def _lowest_bit_lanes(typingctx, mask):
    @written
    def code(call):
        return call.builder.zext(call.builder.cttz(call.arguments[0], cgutils.true_bit), _LONG)

    return types.int64(types.uint32), code


def precede(builder, distances, ids, distance, label):
    """Which of sixteen entries come before (distance, label): nearer, or as near with a lower id."""
    distance, label = splat(builder, distance, distances.type), splat(builder, label, ids.type)
    near = builder.fcmp_ordered("<", distances, distance)
    tie = builder.fcmp_ordered("==", distances, distance)
    return builder.or_(near, builder.and_(tie, builder.icmp_signed("<", ids, label)))


@intrinsic
def _make_room_lanes(typingctx, distances, ids, states, at, distance, label, state):
    signature = types.void(distances, ids, states, types.intp, types.float32, ids.dtype, types.uint8)

    @written
    def code(call):
        builder, at, entry = call.builder, call.arguments[3], call.arguments[4:]
        before = builder.sub(at, _LONG(1))
        here, left = ([call.sixteen(i, index) for i in range(3)] for index in (at, before))
        new = [splat(builder, value, column.type) for value, column in zip(entry, here, strict=True)]

        keep, first = (precede(builder, *entries[:2], *entry[:2]) for entries in (here, left))
        for i, column in enumerate(here):
            value = builder.select(keep, column, builder.select(first, new[i], left[i]))
            builder.store(value, call.place(i, at, column.type), align=1)

    return signature, code


def _any_equal_python(numbers, start, number):
    return bool((numbers.reshape(-1)[start : start + LANES] == number).any())


def _lowest_python(bias, products, first, last, step, minima):
    starts = np.arange(first, last, step)[:, None] + np.arange(LANES)
    minima[first : first + LANES] = (bias[starts] - 2 * products[starts]).min(axis=0)


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
# minima[first + l] becomes the lowest of bias[j + l] - 2 products[j + l], j = first, first + step ... < last, for
# sixteen l; there is at least one j.
lowest = _lowest_python if config.DISABLE_JIT else _lowest_lanes
# How many of the sixteen numbers from `start` on are at most `bound`.
count_at_most = _count_at_most_python if config.DISABLE_JIT else _count_at_most_lanes
# The number of the lowest bit that is set.
lowest_bit = _lowest_bit_python if config.DISABLE_JIT else _lowest_bit_lanes
# Insert (distance, label, state) into the sixteen sorted entries from flat index `at` on; the one before them is looked
# at too, the last of them falls out into the sixteen behind (or out of the list).
make_room = _make_room_python if config.DISABLE_JIT else _make_room_lanes


@kernel(inline=True)
def prefetch_row(array, row):
    """Ask for all numbers of a row of array[m, w] before they are needed."""
    width = array.shape[1]
    first = np.int64(row) * width
    for column in range(0, width, LINE // array.itemsize):
        prefetch(array, first + column)
    prefetch(array, first + width - 1)


@kernel(inline=True)
def without_lowest(mask):
    """The mask with its lowest set bit cleared."""
    return np.uint32(mask & (mask - np.uint32(1)))
