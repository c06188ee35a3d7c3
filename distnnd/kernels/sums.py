"""Sums of floats over two rows that are the same number on every machine: always added up in the same order.

Other sums of the kernels may be reordered by the compiler, so that they fill whatever vectors a machine has, and come
out differently in the last digit. These deal columns to sixteen lanes, what is left to four and then one by one, and
keep to that order; products are rounded before they are added. With the JIT disabled plain Python does the same.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config, errors
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from .jit import kernel
from .lanes import LANES, sum_of, sum_up, written

# Lanes for what is left of sixteen columns.
FEW = 4


def _gap(builder, one, other):
    gap = builder.fsub(one, other)
    return builder.fmul(gap, gap)


def _product(builder, one, other):
    return builder.fmul(one, other)


def _floats(call, i, index, vector):
    """Numbers of argument i from flat index `index` on as floats of `vector`."""
    builder, kind = call.builder, call.signature.args[i].dtype
    numbers = builder.load(call.place(i, index, ir.VectorType(call.kind(i), vector.count)), align=1)
    if isinstance(kind, types.Integer):
        return (builder.sitofp if kind.signed else builder.uitofp)(numbers, vector)
    if numbers.type == vector:
        return numbers
    return (builder.fpext if kind.bitwidth < 64 else builder.fptrunc)(numbers, vector)


def _lanes_of(term, kind, lanes):
    """An intrinsic: the sum of term(x, y) over the columns first .. last, at least one, of a row and another.

    kind: numpy's type of the sum; lanes: a power of two, of which last - first is a multiple.
    """
    vector = ir.VectorType({np.float32: ir.FloatType(), np.float64: ir.DoubleType()}[kind], lanes)
    returned = from_dtype(np.dtype(kind))

    @intrinsic
    def over_lanes(typingctx, points, i, others, j, first, last):
        if not points.layout == others.layout == "C":
            raise errors.TypingError("rows must lie one after the other")

        @written
        def code(call):
            builder, (_, i, _, j, first, last) = call.builder, call.arguments
            starts = [builder.add(builder.mul(row, call.columns(at)), first) for at, row in ((0, i), (2, j))]

            def add(column, sums):
                one, other = (
                    _floats(call, at, builder.add(start, column), vector)
                    for at, start in zip((0, 2), starts, strict=True)
                )
                # The sums take turns, so that neither waits for itself.
                return [sums[1], builder.fadd(sums[0], term(builder, one, other))]

            nothing = ir.Constant(vector, [0.0] * lanes)
            sums = sum_up(builder, builder.sub(last, first), lanes, [nothing, nothing], add)
            return sum_of(builder, builder.fadd(*sums))

        return returned(points, types.intp, others, *(types.intp,) * 3), code

    return over_lanes


def _python_of(term, kind, lanes):
    """The same in plain Python."""

    def over_lanes(points, i, others, j, first, last):
        one, other = (rows[at, first:last].astype(kind).reshape(-1, lanes) for rows, at in ((points, i), (others, j)))
        sums = np.zeros((2, lanes), kind)
        for number, added in enumerate(term(one, other)):
            sums[number % 2] += added
        total = sums[0] + sums[1]
        while len(total) > 1:
            total = total[: len(total) // 2] + total[len(total) // 2 :]
        return total[0]

    return over_lanes


def _sum_of(kind, term, python):
    """A kernel: the sum of term(x, y) over the first columns of points[i] and others[j], of numpy's type `kind`.

    points, others: numbers[m, w], one row after another. term: writes the code; python: the same of arrays.
    """
    lanes_of = partial(_python_of, python) if config.DISABLE_JIT else partial(_lanes_of, term)
    sixteen, four, single = (lanes_of(kind, lanes) for lanes in (LANES, FEW, 1))
    nothing = kind(0)

    @kernel(inline=True, exact=True)
    def over_columns(points, i, others, j, columns):
        whole, most = columns - columns % LANES, columns - columns % FEW
        total = nothing
        if whole > 0:
            total += sixteen(points, i, others, j, 0, whole)
        if most > whole:
            total += four(points, i, others, j, whole, most)
        if columns > most:
            total += single(points, i, others, j, most, columns)
        return total

    return over_columns


# |points[i] - others[j]|^2 and points[i] . others[j] over the first columns, float32.
squared_distance = _sum_of(np.float32, _gap, lambda one, other: (one - other) ** 2)
inner_product = _sum_of(np.float32, _product, lambda one, other: one * other)
# The same in float64.
long_squared_distance = _sum_of(np.float64, _gap, lambda one, other: (one - other) ** 2)
long_inner_product = _sum_of(np.float64, _product, lambda one, other: one * other)


@kernel(inline=True, exact=True)
def squared_length(points, i):
    """|points[i]|^2, float64."""
    return long_inner_product(points, i, points, i, points.shape[1])
