"""Loops over candidates, sixteen at once, that keep what selection wants and write it down side by side, branch-free.

Written as LLVM vector code like the operations of `lanes`; with the JIT disabled plain Python runs.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from .kept import write_down
from .lanes import FLOATS, INTS, LANES, mask_of, precede, splat, written

_INT, _LONG = ir.IntType(32), ir.IntType(64)
_TRUTHS = ir.VectorType(ir.IntType(1), LANES)
SHARE_BITS = 12
# Leaves that a row may stand in.
LEAVES = 4
_IOTA = ir.Constant(INTS, list(range(LANES)))


def _steps(builder, count):
    """A loop in steps of sixteen up to `count`; yields the number of the first lane."""
    return cgutils.for_range_slice(builder, _LONG(0), count, _LONG(LANES), _LONG)


def _from(builder, number):
    """Sixteen numbers one after the other, from `number` on."""
    return builder.add(splat(builder, builder.trunc(number, _INT), INTS), _IOTA)


def _inside(builder, start, count):
    """Which of the lanes from `start` on come before `count`."""
    return builder.icmp_signed("<", _IOTA, splat(builder, builder.trunc(builder.sub(count, start), _INT), INTS))


@intrinsic
def _sift_lanes(typingctx, bias, products, first, count, bound, places):
    @written
    def code(call):
        builder, (first, count, bound) = call.builder, call.arguments[2:5]
        used = cgutils.alloca_once_value(builder, _LONG(0))
        lanes = cgutils.alloca_once_value(builder, _IOTA)
        bound, whole = splat(builder, bound, INTS), builder.and_(count, _LONG(-LANES))

        def sixteen(start, also=None):
            here = builder.load(lanes)
            kept = builder.icmp_signed("<=", call.scores(start, builder.add(first, start)), bound)
            kept = kept if also is None else builder.and_(kept, also)
            write_down(call, kept, ((*call.array(5), here),), used)
            builder.store(builder.add(here, ir.Constant(INTS, [LANES] * LANES)), lanes)

        with _steps(builder, whole) as (start, _):
            sixteen(start)
        with builder.if_then(builder.icmp_signed("<", whole, count)):
            sixteen(whole, _inside(builder, whole, count))
        return builder.load(used)

    return types.intp(bias, products, *(types.intp,) * 2, types.int32, places), code


@intrinsic
def _share_lanes(typingctx, bias, products, first, count, own, shares):
    @written
    def code(call):
        builder, (first, count, own) = call.builder, call.arguments[2:5]
        own = splat(builder, own, INTS)
        whole = ir.Constant(FLOATS, [float(2**SHARE_BITS)] * LANES)
        with _steps(builder, count) as (start, _):
            apart = builder.add(own, call.scores(start, builder.add(first, start)))
            columns = builder.add(own, call.sixteen(0, start))
            # Of empty sets nothing differs.
            one = ir.Constant(INTS, [1] * LANES)
            columns = builder.select(builder.icmp_signed(">", columns, one), columns, one)
            apart, columns = (builder.sitofp(numbers, FLOATS) for numbers in (apart, columns))
            share = builder.fmul(builder.fdiv(apart, columns), whole)
            builder.store(builder.fptosi(share, INTS), call.place(5, start, INTS), align=4)

    return types.void(bias, products, *(types.intp,) * 2, types.int32, shares), code


@intrinsic
def _within_lanes(typingctx, numbers, start, count, first, last, places):
    @written
    def code(call):
        builder, (offset, count, first, last) = call.builder, call.arguments[1:5]
        used = cgutils.alloca_once_value(builder, _LONG(0))
        size = splat(builder, builder.sub(last, first), INTS)
        first = splat(builder, first, INTS)
        with _steps(builder, count) as (start, _):
            here = call.sixteen(0, builder.add(offset, start))
            # As unsigned numbers those before the first are beyond the last.
            kept = builder.icmp_unsigned("<", builder.sub(here, first), size)
            columns = ((*call.array(5), _from(builder, builder.add(offset, start))),)
            write_down(call, kept, columns, used)
        return builder.load(used)

    return types.intp(numbers, *(types.intp,) * 2, *(types.int32,) * 2, places), code


@intrinsic
def _meetings_lanes(typingctx, cards, row, member):
    @written
    def code(call):
        builder = call.builder
        width = call.columns(0)
        four = ir.VectorType(_INT, 4)
        own, other = (builder.load(call.place(0, builder.mul(at, width), four), align=4) for at in call.arguments[1:])
        own, other = (
            builder.shuffle_vector(one, ir.Constant(four, ir.Undefined), ir.Constant(INTS, lanes))
            for one, lanes in (
                (own, [lane // 4 for lane in range(LANES)]),
                (other, [lane % 4 for lane in range(LANES)]),
            )
        )
        bits = mask_of(builder, builder.icmp_signed("==", own, other))
        for step in (1, 2):
            bits = builder.or_(bits, builder.lshr(bits, _INT(step)))
        return builder.and_(bits, _INT(0x1111))

    return types.int32(cards, types.intp, types.intp), code


@intrinsic
def _acquainted_lanes(typingctx, leaves, one, count, met):
    @written
    def code(call):
        builder, (one, count) = call.builder, call.arguments[1:3]
        most = call.columns(0)
        places = [builder.mul(_LONG(place), most) for place in range(LEAVES)]
        own = [splat(builder, builder.load(call.place(0, builder.add(at, one), _INT)), INTS) for at in places]
        first = builder.and_(one, _LONG(-LANES))
        with cgutils.for_range_slice(builder, first, count, _LONG(LANES), _LONG) as (start, _):
            theirs = [call.sixteen(0, builder.add(at, start)) for at in places]
            same = [builder.icmp_signed("==", mine, other) for mine in own for other in theirs]
            builder.store(builder.zext(reduce(builder.or_, same), INTS), call.place(3, start, INTS), align=4)

    return types.void(leaves, *(types.intp,) * 2, met), code


@intrinsic
def _strangers_lanes(
    typingctx, met, squares, limits, members, one, met_all, count, base, bases, higher, ones, others, used
):
    """See `strangers`."""
    told, outputs = (met, squares, limits, members, types.intp, types.int32, types.intp, types.int32), (bases, higher)
    signature = types.intp(*told, *outputs, ones, others, types.intp)

    @written
    def code(call):
        builder, (one, met_all, count, base), used = call.builder, call.arguments[4:8], call.arguments[-1]
        used = cgutils.alloca_once_value(builder, used)
        own, own_limit, member = (splat(builder, builder.load(call.place(i, one, _INT)), INTS) for i in (0, 2, 3))
        nothing, itself = ir.Constant(INTS, [0] * LANES), splat(builder, builder.trunc(one, _INT), INTS)
        met_all, base = (splat(builder, number, INTS) for number in (met_all, base))
        with _steps(builder, count) as (start, _):
            met, squares, limits, members = (call.sixteen(i, start) for i in range(4))
            kept = builder.icmp_signed(">", _from(builder, start), itself)
            kept = builder.or_(kept, builder.icmp_signed("!=", builder.and_(met, met_all), nothing))
            kept = builder.and_(kept, builder.icmp_signed("==", builder.and_(met, own), nothing))
            kept = builder.and_(kept, _inside(builder, start, count))
            limits = builder.select(builder.icmp_signed(">", limits, own_limit), limits, own_limit)
            builder.store(member, call.place(10, builder.load(used), INTS), align=4)
            columns = ((8, builder.add(squares, base)), (9, limits), (11, members))
            write_down(call, kept, [(*call.array(i), vector) for i, vector in columns], used)
        # Up to a multiple of sixteen the first member stands in for both.
        for i in (10, 11):
            builder.store(
                splat(builder, builder.load(call.place(3, _LONG(0), _INT)), INTS),
                call.place(i, builder.load(used), INTS),
                align=4,
            )
        return builder.load(used)

    return signature, code


@intrinsic
def _near_lanes(typingctx, bases, products, limits, ones, others, count, found, used, share):
    signature = types.intp(bases, products, limits, ones, others, types.intp, found, types.intp, types.boolean)

    @written
    def code(call):
        builder, (count, found, used, share) = call.builder, call.arguments[5:]
        used = cgutils.alloca_once_value(builder, used)
        outputs = [(kind, builder.extract_value(found, i)) for i, kind in enumerate(call.signature.args[6])]
        with _steps(builder, count) as (start, _):
            scores = call.scores(start, start)
            bases, limits, ones, others = (call.sixteen(i, start) for i in (0, 2, 3, 4))
            part = builder.lshr(builder.mul(limits, bases), ir.Constant(INTS, [SHARE_BITS] * LANES))
            limits = builder.select(share, part, limits)
            kept = builder.and_(builder.icmp_signed("<=", scores, limits), _inside(builder, start, count))
            kept = builder.and_(kept, builder.icmp_signed("!=", ones, others))
            columns = zip(outputs, (ones, others, scores), strict=True)
            write_down(call, kept, [(*output, vector) for output, vector in columns], used)
        return builder.load(used)

    return signature, code


@intrinsic
def _strike_lanes(typingctx, labels, places, scores, first, count, bound, itself, ids, row, width):
    signature = types.intp(labels, places, scores, *(types.intp,) * 2, *(types.int32,) * 2, ids, *(types.intp,) * 2)

    @written
    def code(call):
        builder, (first, count, bound, itself, _, row, width) = call.builder, call.arguments[3:]
        used = cgutils.alloca_once_value(builder, first)
        bound, itself = splat(builder, bound, INTS), splat(builder, itself, INTS)
        known = cgutils.alloca_once(builder, _TRUTHS)
        list_at = builder.mul(row, width)
        with _steps(builder, count) as (start, _):
            at = builder.add(first, start)
            vectors = [call.sixteen(i, at) for i in range(3)]
            builder.store(builder.icmp_signed("==", vectors[0], itself), known)
            with cgutils.for_range(builder, width, intp=_LONG) as loop:
                label = builder.load(call.place(7, builder.add(list_at, loop.index), _INT))
                same = builder.icmp_signed("==", vectors[0], splat(builder, label, INTS))
                builder.store(builder.or_(builder.load(known), same), known)
            kept = builder.and_(builder.icmp_signed("<=", vectors[2], bound), builder.not_(builder.load(known)))
            kept = builder.and_(kept, _inside(builder, start, count))
            write_down(call, kept, [(*call.array(i), vector) for i, vector in enumerate(vectors)], used)
        return builder.sub(builder.load(used), first)

    return signature, code


@intrinsic
def _order_lanes(typingctx, distances, ids, count, start, ranks):
    @written
    def code(call):
        builder, (count, start) = call.builder, call.arguments[2:4]
        some = [call.sixteen(i, start) for i in (0, 1)]
        # Each entry counts itself too.
        upto = cgutils.alloca_once_value(builder, ir.Constant(INTS, [-1] * LANES))
        with cgutils.for_range(builder, count, intp=_LONG) as loop:
            one = [builder.load(call.place(i, loop.index, call.kind(i))) for i in (0, 1)]
            after = builder.not_(precede(builder, *some, *one))
            builder.store(builder.add(builder.load(upto), builder.zext(after, INTS)), upto)
        builder.store(builder.load(upto), call.place(4, start, INTS), align=4)

    return types.void(distances, ids, *(types.intp,) * 2, ranks), code


@intrinsic
def _rank_lanes(typingctx, distances, ids, count, held_distances, held_ids, start, ranks, gains):
    signature = types.void(distances, ids, types.intp, held_distances, held_ids, types.intp, ranks, gains)

    @written
    def code(call):
        builder, count, start = call.builder, call.arguments[2], call.arguments[5]
        held = [call.sixteen(i, start) for i in (3, 4)]
        later = cgutils.alloca_once_value(builder, ir.Constant(INTS, [0] * LANES))
        with cgutils.for_range(builder, count, intp=_LONG) as loop:
            one = [builder.load(call.place(i, loop.index, call.kind(i))) for i in (0, 1)]
            before = precede(builder, *held, *one)
            rank = call.place(6, loop.index, _INT)
            builder.store(builder.add(builder.load(rank), builder.ctpop(mask_of(builder, before))), rank)
            builder.store(builder.add(builder.load(later), builder.zext(builder.not_(before), INTS)), later)
        builder.store(builder.load(later), call.place(7, start, INTS), align=4)

    return signature, code


def _sift_python(bias, products, first, count, bound, places):
    found = bias[:count] - 2 * products.reshape(-1)[first : first + count]
    kept = np.flatnonzero(found <= bound)
    places[: kept.size] = kept
    return kept.size


def _share_python(bias, products, first, count, own, shares):
    count = -(-count // LANES) * LANES
    columns = own + bias[:count]
    apart = (columns - 2 * products.reshape(-1)[first : first + count]).astype(np.float32)
    shares[:count] = apart / np.maximum(columns, 1).astype(np.float32) * np.float32(2**SHARE_BITS)


def _within_python(numbers, start, count, first, last, places):
    here = numbers.reshape(-1)[start : start + count]
    kept = np.flatnonzero((here >= first) & (here < last)) + start
    places[: kept.size] = kept
    return kept.size


def _meetings_python(cards, row, member):
    return np.int32(sum(16**i for i in range(LEAVES) if cards[row, i] in cards[member, :LEAVES]))


def _acquainted_python(leaves, one, count, met):
    first, last = one // LANES * LANES, -(-count // LANES) * LANES
    met[first:last] = (leaves[:, None, first:last] == leaves[None, :, one, None]).any(axis=(0, 1))


def _strangers_python(met, squares, limits, members, one, met_all, count, base, bases, higher, ones, others, used):
    kept = (np.arange(count) > one) | (met[:count] & met_all != 0)
    kept = np.flatnonzero(kept & (met[:count] & met[one] == 0))
    found = (squares[kept] + base, np.maximum(limits[kept], limits[one]), members[one], members[kept])
    end = used + kept.size
    for column, values in zip((bases, higher, ones, others), found, strict=True):
        column[used:end] = values
    ones[end : end + LANES] = others[end : end + LANES] = members[0]
    return end


def _near_python(bases, products, limits, ones, others, count, found, used, share):
    scores, limits = bases[:count] - 2 * products[:count], limits[:count]
    limits = (limits * bases[:count]) >> SHARE_BITS if share else limits
    kept = np.flatnonzero((scores <= limits) & (ones[:count] != others[:count]))
    for column, values in zip(found, (ones, others, scores), strict=True):
        column[used : used + kept.size] = values[kept]
    return used + kept.size


def _strike_python(labels, places, scores, first, count, bound, itself, ids, row, width):
    here = slice(first, first + count)
    held = np.append(ids.reshape(-1)[row * width : (row + 1) * width], itself)
    kept = np.flatnonzero((scores[here] <= bound) & ~np.isin(labels[here], held)) + first
    for column in (labels, places, scores):
        column[first : first + kept.size] = column[kept]
    return kept.size


def _order_python(distances, ids, count, start, ranks):
    entries = list(zip(distances, ids, strict=True))
    for at in range(start, start + LANES):
        ranks[at] = sum(not entries[at] < one for one in entries[:count]) - 1


def _rank_python(distances, ids, count, held_distances, held_ids, start, ranks, gains):
    gains[start : start + LANES] = 0
    for i in range(count):
        for at in range(start, start + LANES):
            before = (held_distances[at], held_ids[at]) < (distances[i], ids[i])
            ranks[i] += before
            gains[at] += not before


# sift: places of the candidates whose score bias[j] - 2 products[first + j] is at most `bound`, j < count <= 2^15,
# ascending; returns how many. bias and products, int32, have room to the next multiple of sixteen, places, int16, for
# sixteen more than are found: narrow ones, as vectors that are stored across lines of the cache take the most time.
sift = _sift_python if config.DISABLE_JIT else _sift_lanes
# share: shares[j] = the estimate own + bias[j] - 2 products[first + j] for each of own + bias[j], in parts of
# 2^SHARE_BITS, rounded down, j < count; all int32, with room to the next multiple of sixteen.
share = _share_python if config.DISABLE_JIT else _share_lanes
# within: places of those of the numbers int32 from flat index `start` on, `count` of them, a multiple of sixteen, that
# are at least `first` and below `last`: to places, int32, with room for `count`; returns how many.
within = _within_python if config.DISABLE_JIT else _within_lanes
# meetings: bit 4 i is set where number i of the first four on the card of `row` is among those of `member`.
meetings = _meetings_python if config.DISABLE_JIT else _meetings_lanes
# acquainted: met[j] = 1 where member j stands in a leaf of member `one`, else 0, one <= j < count and up to sixteen
# before and behind. leaves: int32[LEAVES, .], by member; met: int32; both have room as in sift.
acquainted = _acquainted_python if config.DISABLE_JIT else _acquainted_lanes
# strangers: of the first `count` members those that share no bit of `met` with `one` and come after it or have a bit of
# `met_all`, as pairs from `used` on: base + their squares, the larger of the limits of both, the ids of `one` and the
# other; the ids up to sixteen farther. Returns where they end. All int32, room as in sift.
strangers = _strangers_python if config.DISABLE_JIT else _strangers_lanes
# near: of the first `count` pairs of different rows those whose estimate bases[j] - 2 products[j] is at most limits[j]:
# both ids and the estimate to the three arrays of `found`, from `used` on; returns where they end. share: bases are the
# columns that both rows hold, and limits are for each of them, in parts of 2^SHARE_BITS.
near = _near_python if config.DISABLE_JIT else _near_lanes
# strike: of the `count` candidates from `first` on keep, in place, those with a score of at most `bound` whose label is
# neither `itself` nor in list `row` of ids[., width]; returns how many. All int32, with room as in sift.
strike = _strike_python if config.DISABLE_JIT else _strike_lanes
# order: ranks[start + l] = how many of the `count` entries come before entry start + l, which is one of them, for
# sixteen l; those behind the last one count wrong.
order = _order_python if config.DISABLE_JIT else _order_lanes
# rank: compares `count` entries with the sixteen held ones from `start` on: adds to ranks[i] how many held ones come
# before entry i, and sets gains[start + l] to the number of entries before which held entry l does not come.
rank = _rank_python if config.DISABLE_JIT else _rank_lanes
