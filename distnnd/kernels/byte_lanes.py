"""How products of bytes are written as LLVM's vector code: on machines that multiply bytes, and on the others."""

from __future__ import annotations

from llvmlite import ir

from .lanes import LANES, invoke, machine_has, splat
from .rows import WORD

QUERIES = 4  # rows that are multiplied with a base at once
COLUMNS = 64  # columns that are packed at a time: one vector of bytes
OFFSET = 128  # packed bytes are unsigned, this much above their value

BYTE, HALF, INT, LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
VECTOR = ir.VectorType(INT, LANES)
# Whether the machine multiplies bytes; else they are spread out to numbers of 16 bits first.
BYTES = machine_has("avx512vnni") or machine_has("avxvnni")
# Sums that are kept in registers at once, half of them: 32 of 512 bits or 16 of 256.
ROWS = LANES if machine_has("avx512f") else LANES // 2
WIDE = ir.VectorType(INT, ROWS)


def all_of(number, vector):
    """The vector of which every lane is that number."""
    return ir.Constant(vector, [number] * vector.count)


def lanes_of(builder, vector, lanes):
    """Those lanes of a vector, in that order."""
    lanes = list(lanes)
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(INT, len(lanes)), lanes))


def words_of(builder, codes):
    """What add_products takes of bytes that count as signed, int32 each four of them: as they are, or in 16 bits."""
    if BYTES:
        return (codes,)
    halves = ir.VectorType(HALF, 2 * codes.type.count)
    codes, eight = builder.bitcast(codes, halves), all_of(8, halves)
    return builder.ashr(builder.shl(codes, eight), eight), builder.ashr(codes, eight)


def add_products(builder, total, base, words):
    """total[l] + the sum over four bytes of base[l], unsigned, times those of a query, signed.

    words: the bytes themselves where the machine multiplies them, or the even and the odd ones, 16 bits each.
    """
    if len(words) == 1:
        return _add_byte_products(builder, total, base, *words)
    halves = ir.VectorType(HALF, 2 * total.type.count)
    base = builder.bitcast(base, halves)
    for one, other in zip(
        (builder.and_(base, all_of(255, halves)), builder.lshr(base, all_of(8, halves))), words, strict=True
    ):
        total = builder.add(total, sums_of_pairs(builder, one, builder.bitcast(other, halves)))
    return total


def _add_byte_products(builder, total, base, word):
    """The same by the machine's own instruction, in vectors as wide as its registers."""
    count = total.type.count
    if count > ROWS:
        parts = [
            _add_byte_products(builder, *(lanes_of(builder, whole, half) for whole in (total, base, word)))
            for half in (range(ROWS), range(ROWS, count))
        ]
        return builder.shuffle_vector(*parts, ir.Constant(ir.VectorType(INT, count), list(range(count))))
    return invoke(builder, f"llvm.x86.avx512.vpdpbusd.{32 * count}", total.type, total, base, word)


def sums_of_pairs(builder, one, other):
    """Products of numbers of 16 bits, two neighbouring ones added up: LLVM knows that as one instruction."""
    wide = ir.VectorType(INT, one.type.count)
    product = builder.mul(builder.sext(one, wide), builder.sext(other, wide))
    return builder.add(*(lanes_of(builder, product, range(odd, wide.count, 2)) for odd in (0, 1)))


def masked(builder, pointer, inside, otherwise):
    """A vector of words from memory as far as `inside` says, elsewhere as `otherwise` has it."""
    name = f"llvm.masked.load.v{otherwise.type.count}i32.p0"
    return invoke(builder, name, otherwise.type, pointer, INT(4), inside, otherwise)


def words_left(builder, width, column, vector):
    """Which words of a vector from `column` on lie inside a row of `width` columns."""
    left = builder.trunc(builder.udiv(builder.sub(width, column), LONG(WORD)), INT)
    return builder.icmp_signed("<", ir.Constant(vector, list(range(vector.count))), splat(builder, left, vector))


def exchange(builder, one, other, bit):
    """The lanes of two vectors without and with `bit` in their number: (of both without, of both with)."""
    vector = one.type
    low = [lane if not lane & bit else vector.count + (lane ^ bit) for lane in range(vector.count)]
    high = [lane | bit if not lane & bit else vector.count + lane for lane in range(vector.count)]
    return [builder.shuffle_vector(one, other, ir.Constant(vector, lanes)) for lanes in (low, high)]


def sums_over(builder, vectors):
    """Lane l is the sum over vector l, of as many vectors as they have lanes."""
    # Butterfly: sums of pairs of vectors, until one is left.
    bit = 1
    while len(vectors) > 1:
        vectors = [builder.add(*exchange(builder, *vectors[i : i + 2], bit)) for i in range(0, len(vectors), 2)]
        bit *= 2
    return vectors[0]
