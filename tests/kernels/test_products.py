"""Products of packed bytes are the plain integer products: whole numbers leave no room for a tolerance."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from distnnd.kernels import byte_products, framed_products, products, row_products
from distnnd.kernels.byte_lanes import BYTES
from distnnd.kernels.products import OFFSET, QUERIES
from tests import naive
from tests.strategies import JIT_OFF, few, sized

WIDTHS = [4, 8, 12, 60, 64, 68, 124, 128, 132, 192, 256, 784, 1000]
LANES = 16
UNTOUCHED = 123456789


@njit
def dots(values, rows, count, query, start, out):
    products.dots(values, rows, count, query, start, out)


@njit
def pair_dots(values, ones, others, count, columns, out):
    products.pair_dots(values, ones, others, count, columns, out)


@njit
def room_for(width):
    return products.room_for(width)


def up(count: int, to: int) -> int:
    return -(-count // to) * to


def in_full(rows: np.ndarray, first: int, count: int) -> np.ndarray:
    """Some row ids, the last again up to whole vectors: int32, as the tiles lay them out."""
    whole = np.minimum(np.arange(up(count, LANES)), count - 1)
    return np.concatenate([rows[:first], rows[first:][whole]]).astype(np.int32)


class Way(NamedTuple):
    """One of the ways to pack and to multiply, with the bytes that packed rows take."""

    pack: Callable[..., None]
    multiply: Callable[..., None]
    size: Callable[[int, int], int]


def way_of(room: ModuleType) -> Way:
    """How that room does it, as other kernels call it."""
    pack_rows, multiply_rows, size = room.pack, room.multiply, room.packed_size

    @njit
    def pack(values, rows, first, count, width, packed):
        pack_rows(values, rows, first, count, width, packed)

    @njit
    def multiply(queries, width, first, last, starts, packed, first_group, groups, out):
        multiply_rows(queries, width, first, last, starts, packed, first_group, groups, out)

    return Way(pack, multiply, njit(lambda width, count: size(width, count)))


AS_HERE, PLAIN, FRAMED = (way_of(room) for room in (products, byte_products, framed_products))
PYTHON = Way(byte_products._pack_python, byte_products._multiply_python, PLAIN.size)
pack, multiply = AS_HERE.pack, AS_HERE.multiply
# Whatever a machine multiplies with, it can do so within a frame.
WAYS = [
    pytest.param(AS_HERE, id="kernel"),
    pytest.param(PYTHON, id="python"),
    pytest.param(FRAMED, id="framed", marks=pytest.mark.skipif(JIT_OFF, reason="nothing is compiled")),
]


def packed_of(values: np.ndarray, rows: np.ndarray, first: int, count: int, way: Way = AS_HERE) -> np.ndarray:
    """Packed rows[first : first + count], in a room a little larger than they need."""
    width = values.shape[1]
    packed = np.full(way.size(width, count) + 64, 99, np.int8)
    way.pack(values, rows, first, count, width, packed)
    assert (packed[-64:] == 99).all()
    return packed[:-64]


def starts_of(queries: np.ndarray) -> np.ndarray:
    """What makes up for the offset of packed bytes."""
    return (-OFFSET * queries.astype(np.int64).sum(axis=1)).astype(np.int32)


def multiplied(
    queries: np.ndarray, values: np.ndarray, first: int, first_group: int, way: Way = AS_HERE, spare: int = 0
) -> np.ndarray:
    """Products of queries[first:] with all rows of `values` from a group on, checked to have touched nothing else."""
    count, width = queries.shape
    groups = up(len(values), LANES) // LANES
    room = up(count - first, QUERIES) + first
    left, starts = np.zeros((room, width), np.int8), np.zeros(room, np.int32)
    left[:count], starts[:count] = queries, starts_of(queries)
    packed = packed_of(values, in_full(np.arange(len(values)), 0, len(values)), 0, len(values), way)
    columns = LANES * (groups - first_group)
    out = np.full((room + 1, columns + spare), UNTOUCHED, np.int32)
    way.multiply(left.ravel(), width, first, count, starts, packed, first_group, groups, out)
    assert (out[:first] == UNTOUCHED).all()
    assert (out[room:] == UNTOUCHED).all()
    assert (out[:, columns:] == UNTOUCHED).all()
    return out[first:count, : len(values) - LANES * first_group]


def random_bytes(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    """Bytes of the whole range, the ends more often than by chance."""
    values = rng.integers(-128, 128, (rows, width))
    ends = rng.random((rows, width))
    values[ends < 0.1], values[ends > 0.9] = -128, 127
    return values.astype(np.int8)


# --- pack -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_packed_rows_lie_where_they_should(width: int) -> None:
    """Compiled and as plain Python, byte by byte: sixteen rows side by side, four columns of each."""
    rng = np.random.default_rng(width)
    values = random_bytes(rng, 40, width)
    for count in (1, 15, 16, 17, 33)[:: sized(1, 2)]:
        first = int(rng.integers(0, 5))
        rows = in_full(rng.integers(0, 40, first + count), first, count)
        told = packed_of(values, rows, first, count, PLAIN).view(np.uint8)
        np.testing.assert_array_equal(told, packed_of(values, rows, first, count, PYTHON).view(np.uint8))
        if width <= 256:
            assert told.tolist() == naive.packed(values, rows[first:])


def test_the_last_row_of_a_table_may_be_the_last_of_its_memory() -> None:
    """Where a row ends before a vector does, nothing behind it is read: the next row must not show."""
    values = np.full((3, 20), -128, np.int8)
    values[1] = 5
    values[2] = 127
    told = packed_of(values, in_full(np.array([1, 2]), 0, 2), 0, 2, PLAIN).view(np.uint8).reshape(16, 16, 4)
    assert (told[:5, 0] == 133).all()
    assert (told[:5, 1:] == 255).all()
    assert (told[5:] == OFFSET).all()


@pytest.mark.parametrize(("width", "room"), [(4, 64), (60, 64), (64, 64), (68, 128), (128, 128), (1000, 1024)])
def test_room_for_a_packed_row_is_whole_vectors(width: int, room: int) -> None:
    assert room_for(width) == room


# --- multiply -------------------------------------------------------------------------------------


@few(120)
@given(data=st.data())
def test_products_are_the_integer_products(data: st.DataObject) -> None:
    width = 4 * data.draw(st.integers(1, sized(250, 60)))
    base, count = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    first = QUERIES * data.draw(st.integers(0, (count - 1) // QUERIES))
    first_group = data.draw(st.integers(0, (base - 1) // LANES))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    queries, values = random_bytes(rng, count, width), random_bytes(rng, base, width)
    way = data.draw(st.sampled_from([AS_HERE] if JIT_OFF else [AS_HERE, FRAMED]))
    told = multiplied(queries, values, first, first_group, way, spare=data.draw(st.sampled_from([0, 1, 48])))
    np.testing.assert_array_equal(told, naive.whole_products(queries[first:], values[LANES * first_group :]))


@few(200)
@given(data=st.data())
def test_products_of_rows_that_lie_near_each_other(data: st.DataObject) -> None:
    """Within a frame many of their products fit into 16 bits, or few, or none, of some rows or of all."""
    width = 4 * data.draw(st.integers(1, sized(250, 60)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    centre = rng.integers(-128, 128, width) * data.draw(st.sampled_from([0, 1]))
    reach = [data.draw(st.sampled_from([0, 1, 3, 10, 30, 60, 128, 256])) for _ in range(2)]
    queries, values = (
        np.clip(centre + rng.integers(-size, size + 1, (count, width)), -128, 127).astype(np.int8)
        for size, count in zip(reach, (9, 20), strict=True)
    )
    # One that lies far away among those that do not.
    queries[rng.integers(9)] = data.draw(st.sampled_from([-128, 0, 127]))
    for way in [AS_HERE] if JIT_OFF else [AS_HERE, FRAMED]:
        np.testing.assert_array_equal(multiplied(queries, values, 0, 0, way), naive.whole_products(queries, values))


@pytest.mark.skipif(JIT_OFF, reason="nothing is compiled")
@pytest.mark.parametrize("width", [8, 16, 32, 64, 128, 196])
@pytest.mark.parametrize("reach", [1, 2, 16, 62, 127, 128, 254, 255])
def test_products_on_the_verge_of_sixteen_bits(width: int, reach: int) -> None:
    """Bases that reach that far, and queries of which sums of products just fit, and just do not."""
    values = np.full((16, width), -128, np.int64)
    values[8:] += reach
    middle = (values[0, 0] + values[8, 0]) // 2
    for words in (1, 2, 4, 8, 16, width // 4):
        most = (2**15 - 2) // reach / (2 * words)
        sizes = sorted({int(most) + more for more in (-1, 0, 1, 2)})
        for size in sizes:
            queries = np.full((4, width), np.clip(middle + size, -128, 127))
            queries[1] = np.clip(middle - size, -128, 127)
            queries[2, : 2 * words] = queries[1, 0]
            queries[3, ::2] = np.clip(middle, -128, 127)
            narrow = queries.astype(np.int8), values.astype(np.int8)
            np.testing.assert_array_equal(multiplied(*narrow, 0, 0, FRAMED), naive.whole_products(queries, values))


@pytest.mark.parametrize("way", WAYS)
def test_what_follows_the_rows_up_to_sixteen_is_multiplied_too(way: Way) -> None:
    """Any valid rows, which may lie far from the others."""
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.integers(0, 4, (3, 36)), random_bytes(rng, 13, 36)]).astype(np.int8)
    packed, out = np.zeros(way.size(36, 3), np.int8), np.zeros((4, 16), np.int32)
    way.pack(values, np.arange(16, dtype=np.int32), 0, 3, 36, packed)
    way.multiply(values[:4].ravel(), 36, 0, 4, starts_of(values[:4]), packed, 0, 1, out)
    np.testing.assert_array_equal(out, naive.whole_products(values[:4], values))


def test_one_framed_row() -> None:
    """A frame of no extent: what lies above the least is zero everywhere."""
    queries, values = np.array([[5, -128, 127, 0]] * 4, np.int8), np.array([[-128, 127, 3, 0]], np.int8)
    for way in [AS_HERE] if JIT_OFF else [AS_HERE, FRAMED]:
        assert (multiplied(queries, values, 0, 0, way) == naive.whole_products(queries, values)).all()


@pytest.mark.parametrize("way", WAYS)
def test_only_the_leading_columns_are_packed(way: Way) -> None:
    """A form may compare leading columns alone: what lies behind is not even looked at."""
    rng = np.random.default_rng(3)
    values, queries = random_bytes(rng, 20, 136), random_bytes(rng, 4, 136)
    rows = in_full(np.arange(20), 0, 20)
    for width in (4, 64, 68, 100):
        packed, out = np.zeros(way.size(width, 20), np.int8), np.zeros((4, 32), np.int32)
        way.pack(values, rows, 0, 20, width, packed)
        left = np.ascontiguousarray(queries[:, :width])
        way.multiply(left.ravel(), width, 0, 4, starts_of(left), packed, 0, 2, out)
        np.testing.assert_array_equal(out[:, :20], naive.whole_products(left, values[:, :width]))


@pytest.mark.parametrize("way", [way for way in WAYS if way.values[0] is not PYTHON])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_number_of_groups_and_of_queries(width: int, way: Way) -> None:
    """Four groups are multiplied at once, then what is left of them; queries go by fours."""
    rng = np.random.default_rng(width)
    queries, values = random_bytes(rng, 9, width), random_bytes(rng, 16 * 9, width)
    true = naive.whole_products(queries, values)
    for base in (1, 16, 17, 32, 33, 48, 64, 65, 80, 113, 144):
        for count in (1, 4, 5, 9):
            np.testing.assert_array_equal(multiplied(queries[:count], values[:base], 0, 0, way), true[:count, :base])
    for first_group in range(1, 9):
        np.testing.assert_array_equal(multiplied(queries, values, 4, first_group, way), true[4:, 16 * first_group :])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("width", [4, 64, 68, 1000, 8192])
@pytest.mark.parametrize(("query", "other"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
def test_the_largest_products(width: int, query: int, other: int, way: Way) -> None:
    """Sums of 16-bit halves would leave 16 bits; at 8192 columns a product is 2^27, its unsigned twin twice that."""
    queries, values = np.full((5, width), query, np.int8), np.full((17, width), other, np.int8)
    assert (multiplied(queries, values, 0, 0, way) == query * other * width).all()


@pytest.mark.parametrize("way", WAYS)
def test_wide_rows_of_small_codes(way: Way) -> None:
    """Codes of wide rows are smaller, but the bytes that they are multiplied with are not: they lie 128 too high."""
    width = sized(200_000, 20_000)
    peak = int((2**27 / width) ** 0.5)
    queries, values = np.full((4, width), peak, np.int8), np.full((16, width), peak, np.int8)
    values[8:] = -peak
    told = multiplied(queries, values, 0, 0, way)
    assert (told[:, :8] == peak * peak * width).all()
    assert (told[:, 8:] == -peak * peak * width).all()


@pytest.mark.parametrize("way", WAYS)
def test_sums_begin_with_what_they_are_given(way: Way) -> None:
    rng = np.random.default_rng(0)
    queries, values = random_bytes(rng, 4, 12), random_bytes(rng, 16, 12)
    starts = np.array([0, 1, -(2**27), 2**27], np.int32)
    out = np.zeros((4, 16), np.int32)
    rows = np.arange(16, dtype=np.int32)
    way.multiply(queries.ravel(), 12, 0, 4, starts, packed_of(values, rows, 0, 16, way), 0, 1, out)
    unsigned = values.astype(np.int64) + OFFSET
    np.testing.assert_array_equal(out, naive.whole_products(queries, unsigned) + starts[:, None])


@pytest.mark.parametrize("width", [4, 64, 132])
def test_the_python_twin_multiplies_the_same(width: int) -> None:
    rng = np.random.default_rng(width)
    queries, values = random_bytes(rng, 11, width), random_bytes(rng, 50, width)
    for first, first_group in ((0, 0), (4, 1), (8, 3)):
        np.testing.assert_array_equal(
            multiplied(queries, values, first, first_group, PYTHON),
            multiplied(queries, values, first, first_group),
        )


def test_without_the_jit_the_twin_is_what_kernels_call() -> None:
    for room, names in ((byte_products, ("pack", "multiply")), (row_products, ("dots", "pair_dots"))):
        for name in names:
            assert (getattr(room, name) is getattr(room, f"_{name}_python")) == JIT_OFF
    assert products._packed is (byte_products if BYTES or JIT_OFF else framed_products)


# --- dots -----------------------------------------------------------------------------------------


def dotted(values: np.ndarray, rows: np.ndarray, query: np.ndarray, start: int, python: bool = False) -> list[int]:
    """start + query . row of some rows, checked to have touched nothing beyond whole vectors."""
    whole, count = up(len(rows), LANES), len(rows)
    padded = np.zeros(room_for(values.shape[1]), np.int8)
    padded[: len(query)] = query
    # The first row stands in up to a multiple of sixteen.
    chosen = np.concatenate([rows, np.full(whole - count, rows[0])]).astype(np.int32)
    out = np.full(whole + LANES, UNTOUCHED, np.int32)
    (row_products._dots_python if python else dots)(values, chosen, count, padded, np.int32(start), out)
    assert (out[whole:] == UNTOUCHED).all()
    return out[:count].tolist()


def true_dots(values: np.ndarray, rows: np.ndarray, query: np.ndarray, start: int) -> list[int]:
    """By numbers of 64 bits: the bytes of rows count for 128 more, as when they are packed."""
    unsigned = values[rows].astype(np.int64) + OFFSET
    return (naive.whole_products(unsigned, query[None])[:, 0] + start).tolist()


@pytest.mark.parametrize("width", [*range(4, 140, 4), 188, 192, 196, 256, 300, 784, 828, 832])
def test_dots_of_every_count_and_width(width: int) -> None:
    """Rows anywhere in a table, in any order, some twice; what lies behind a row is the next one and must not show."""
    rng = np.random.default_rng(width)
    values, query = random_bytes(rng, 40, width), random_bytes(rng, 1, width)[0]
    start = int(rng.integers(-(2**27), 2**27))
    for count in (*range(1, 18), 31, 32, 33)[:: sized(1, 4)]:
        rows = rng.integers(0, 40, count)
        # The last row of the table is the last of its memory.
        rows[count // 2] = 39
        true = true_dots(values, rows, query, start)
        assert dotted(values, rows, query, start) == true
        assert dotted(values, rows, query, start, python=True) == true
    own = int(starts_of(query[None])[0])
    assert dotted(values, rows, query, own) == naive.whole_products(values[rows], query[None])[:, 0].tolist()


@pytest.mark.parametrize("width", [4, 68, 832, 8192])
@pytest.mark.parametrize(("one", "other"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
def test_the_largest_dots(width: int, one: int, other: int) -> None:
    query, values = np.full(width, one, np.int8), np.full((3, width), other, np.int8)
    told = dotted(values, np.array([2, 0]), query, int(starts_of(query[None])[0]))
    assert told == [one * other * width] * 2


def test_columns_that_a_query_leaves_out_do_not_count() -> None:
    """A form may compare leading columns alone: the query is zero behind them, whatever the rows hold there."""
    rng = np.random.default_rng(1)
    values, query = random_bytes(rng, 20, 72), random_bytes(rng, 1, 72)[0]
    for columns in (1, 63, 64, 65, 71):
        query[columns:] = 0
        true = naive.whole_products(values[:, :columns], query[None, :columns])[:, 0]
        assert dotted(values, np.arange(20), query, int(starts_of(query[None])[0])) == true.tolist()
        query[:] = random_bytes(rng, 1, 72)[0]


# --- pair_dots ------------------------------------------------------------------------------------


def pairs_dotted(values: np.ndarray, ones: np.ndarray, others: np.ndarray, columns: int, python: bool) -> list[int]:
    """Products of pairs of rows, checked to have touched nothing beyond whole vectors."""
    whole, count = up(len(ones), LANES), len(ones)
    behind = np.zeros(whole - count, np.int32)
    both = [np.concatenate([rows, behind]).astype(np.int32) for rows in (ones, others)]
    out = np.full(whole + LANES, UNTOUCHED, np.int32)
    (row_products._pair_dots_python if python else pair_dots)(values, *both, count, columns, out)
    assert (out[whole:] == UNTOUCHED).all()
    return out[:count].tolist()


def true_pairs(values: np.ndarray, ones: np.ndarray, others: np.ndarray, columns: int) -> list[int]:
    """By numbers of 64 bits: the bytes of the others count for 128 more."""
    left, right = (values[rows, :columns].astype(np.int64) for rows in (ones, others))
    return (left * (right + OFFSET)).sum(axis=1).tolist()


@pytest.mark.parametrize("python", [False, True], ids=["kernel", "python"])
@pytest.mark.parametrize("width", [*range(4, 140, 4), 188, 192, 196, 256, 300, 784, 828, 832])
def test_pair_dots_of_every_count_and_width(width: int, python: bool) -> None:
    """Rows anywhere in a table, some with themselves; what lies behind a row is the next one and must not show."""
    rng = np.random.default_rng(width)
    values = random_bytes(rng, 40, width)
    for count in (*range(1, 18), 31, 32, 33)[:: sized(1, 4)]:
        ones, others = rng.integers(0, 40, (2, count))
        # The last row of the table is the last of its memory.
        ones[count // 2] = others[0] = 39
        assert pairs_dotted(values, ones, others, width, python) == true_pairs(values, ones, others, width)


@pytest.mark.parametrize("python", [False, True], ids=["kernel", "python"])
def test_columns_that_pairs_leave_out_do_not_count(python: bool) -> None:
    rng = np.random.default_rng(1)
    values = random_bytes(rng, 20, 136)
    ones, others = rng.integers(0, 20, (2, 21))
    for columns in (1, 31, 32, 33, 63, 64, 65, 71, 127, 128, 129, 135):
        assert pairs_dotted(values, ones, others, columns, python) == true_pairs(values, ones, others, columns)


@pytest.mark.parametrize("width", [4, 68, 832, 8192])
@pytest.mark.parametrize(("one", "other"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
def test_the_largest_pair_dots(width: int, one: int, other: int) -> None:
    values = np.stack([np.full(width, one, np.int8), np.full(width, other, np.int8)])
    told = pairs_dotted(values, np.array([0, 0]), np.array([1, 1]), width, False)
    assert told == [one * (other + OFFSET) * width] * 2
