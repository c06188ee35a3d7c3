"""The k-d tree: boxes cut along their longest side (Bentley 1975), down to leaves of sixteen rows that search together.

A node is cut in the middle of its longest side, not at its median (Maneewongvatana and Mount 1999, "It's okay to be
skinny, if your friends are fat"): so rare values, one-hot columns say, are cut away at once. Every leaf but the last is
full, so leaf l holds the rows 16 l .. 16 l + 15 of the tree's order, and its block is compared in whole vectors. The
sixteen rows of a leaf walk the tree together: boxes are tested for all of them, blocks for those that they concern.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .gaps import apart, nearer, reaching
from .jit import kernel
from .lanes import LANES, lowest_bit, without_lowest
from .neighbours import OLD, put
from .random import below as random_below
from .ranges import Each, even_cuts, serial
from .sums import long_squared_distance

# Cuts in the middle may take little away each time; from this depth on a node is cut at its median. A walk never holds
# more nodes than the tree is deep, and halving 2^31 rows takes 27 levels.
DEEPEST = 96
ROOM = 128
# Rows from which a node learns its longest side.
LOOKED_AT = 1024
# A subtree of fewer leaves is not worth a thread.
FEWEST = 64


class Tree(NamedTuple):
    """Rows in boxes. order: int32[t], rows of the points by leaf; blocks: flat float32, sixteen rows a leaf.

    A block holds number 16 c + l for column c of row l, inf behind the last row. boxes: flat float32, lowest and
    highest corner of each node, as gaps.py has them. Nodes stand in the order of a walk that goes left first: the left
    child of a node comes next, its right child is rights[node], int32; a leaf l has -1 - l there. homes: int32[leaves],
    the node of each leaf. columns: of a row as compared, an even number.
    """

    order: np.ndarray
    blocks: np.ndarray
    boxes: np.ndarray
    rights: np.ndarray
    homes: np.ndarray
    columns: int

    @property
    def leaves(self) -> int:
        """Number of leaves."""
        return len(self.homes)


def plant(points: np.ndarray, rows: np.ndarray, each: Each = serial, parts: int = 1) -> Tree:
    """The tree over some rows of the points, the same whatever the number of parts.

    points: prepared rows [m, w], float32 or int8; rows: int32[t], t > 0, distinct.
    """
    order, keys = rows.astype(np.int32), np.empty(len(rows), np.float32)
    leaves, columns = -(-len(rows) // LANES), points.shape[1] + points.shape[1] % 2
    rights, homes = np.empty(2 * leaves - 1, np.int32), np.empty(leaves, np.int32)
    enough = leaves if parts == 1 else max(FEWEST, leaves // (2 * parts))
    todo = np.array([[0, 0, leaves, 0]])
    if parts > 1:
        todo = halve(points, order, keys, rights, todo, enough)
    each(lambda a, b: halve(points, order, keys, rights, todo[a:b], 1), even_cuts(len(todo), len(todo)))
    blocks = np.empty(leaves * LANES * columns, np.float32)
    each(lambda a, b: fill_blocks(points, order, columns, blocks, a, b), even_cuts(leaves, parts))
    width = -(-columns // LANES) * LANES
    boxes = np.zeros(len(rights) * 2 * width, np.float32)
    bound_boxes(blocks, columns, rights, boxes, width, homes)
    return Tree(order, blocks, boxes, rights, homes, columns)


@kernel(inline=True)
def _select(keys, order, first, last, nth):
    """Order first .. last so that no key before `nth` is larger, and none from there on smaller, than that at `nth`."""
    last -= 1
    while first < last:
        # Three at random: no order in which rows may come makes this slow.
        size = last - first + 1
        a, b = keys[first + random_below(1, size, size)], keys[first + random_below(2, size, size)]
        c = keys[first + random_below(3, size, size)]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = first, last
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if nth <= j:
            last = j
        elif nth >= i:
            first = i
        else:
            return


@kernel(inline=True)
def _longest(points, order, start, stop, low, high):
    """The column along which some of the rows start .. stop of the order reach farthest."""
    low[:], high[:] = np.inf, -np.inf
    for at in range(start, stop, max(1, (stop - start) // LOOKED_AT)):
        for column in range(low.size):
            value = np.float32(points[order[at], column])
            low[column], high[column] = min(low[column], value), max(high[column], value)
    longest = 0
    for column in range(low.size):
        if high[column] - low[column] > high[longest] - low[longest]:
            longest = column
    return longest


@kernel
def halve(points, order, keys, rights, nodes, enough):
    """Halve nodes until none has more than `enough` leaves; those that are left over.

    nodes: int64[., 4]: number, first leaf, end, depth; keys: room, float32 like order. Writes rights, puts `order` into
    the order of the leaves.
    """
    low, high = np.empty(points.shape[1], np.float32), np.empty(points.shape[1], np.float32)
    todo = [(node[0], node[1], node[2], node[3]) for node in nodes]
    left_over = [todo[0]]
    left_over.pop()
    while len(todo):
        node, a, b, depth = todo.pop()
        if b - a <= enough:
            rights[node] = -1 - a
            left_over.append((node, a, b, depth))
            continue
        start, stop = a * LANES, min(b * LANES, order.size)
        middle = (a + b + 1) // 2
        column = _longest(points, order, start, stop, low, high)
        if high[column] > low[column]:
            for at in range(start, stop):
                keys[at] = points[order[at], column]
            if depth < DEEPEST:
                # To the nearest whole leaf, as halves of numbers that are too large for their sum.
                border, count = low[column] * np.float32(0.5) + high[column] * np.float32(0.5), 0
                for at in range(start, stop):
                    count += keys[at] < border
                middle = min(max(a + (count + LANES // 2) // LANES, a + 1), b - 1)
            _select(keys, order, start, stop, middle * LANES)
        rights[node] = node + 2 * (middle - a)
        todo.append((node + 1, a, middle, depth + 1))
        todo.append((node + 2 * (middle - a), middle, b, depth + 1))
    found = np.empty((len(left_over), 4), np.int64)
    for i, entry in enumerate(left_over):
        found[i, 0], found[i, 1], found[i, 2], found[i, 3] = entry
    return found


@kernel
def fill_blocks(points, order, columns, blocks, first, last):
    """Write the blocks of the leaves first .. last; a column that rows do not have is zero."""
    for at in range(first * LANES, last * LANES):
        base = at // LANES * columns * LANES + at % LANES
        for column in range(columns):
            value = np.float32(np.inf)
            if at < order.size:
                value = np.float32(points[order[at], column]) if column < points.shape[1] else np.float32(0)
            blocks[base + column * LANES] = value


@kernel
def rows_from_blocks(blocks, columns, points, count):
    """Make the first `count` rows of the points those of the tree, in its order, without a gather."""
    for at in range(count):
        base = at // LANES * columns * LANES + at % LANES
        for column in range(points.shape[1]):
            points[at, column] = blocks[base + column * LANES]


@kernel
def bound_boxes(blocks, columns, rights, boxes, width, homes):
    """Write the boxes of all nodes, children before parents, and the node of each leaf."""
    size = 2 * width
    for node in range(rights.size - 1, -1, -1):
        if rights[node] >= 0:
            left, right = (node + 1) * size, rights[node] * size
            for i in range(columns):
                boxes[node * size + i] = min(boxes[left + i], boxes[right + i])
            for i in range(width, width + columns):
                boxes[node * size + i] = max(boxes[left + i], boxes[right + i])
            continue
        leaf = -1 - rights[node]
        homes[leaf] = node
        for column in range(columns):
            low, high = np.float32(np.inf), np.float32(-np.inf)
            for lane in range(LANES):
                value = blocks[(leaf * columns + column) * LANES + lane]
                if value < np.inf:
                    low, high = min(low, value), max(high, value)
            boxes[node * size + column], boxes[node * size + width + column] = low, high


@kernel
def squares_from(points, rows, row):
    """Squared distances float32[r] of some rows, int[r], of points float64[m, w] from one."""
    squares = np.empty(rows.size, np.float32)
    for i in range(rows.size):
        squares[i] = long_squared_distance(points, row, points, rows[i], points.shape[1])
    return squares


@kernel(inline=True)
def _farthest(bounds):
    farthest = bounds[0]
    for lane in range(1, LANES):
        if bounds[lane] > farthest:
            farthest = bounds[lane]
    return farthest


@kernel(inline=True)
def _compare(tree, leaf, i, other, bounds, found, lists, row):
    """Row i of a leaf with the block of another leaf, or of its own; how many entered its list."""
    size, entered, last = tree.columns * LANES, 0, lists.ids.shape[1] - 1
    hits = nearer(tree.blocks, leaf * size + i, other * size, tree.columns, bounds[i], found)
    if other == leaf:
        hits = np.uint32(hits & ~(np.uint32(1) << np.uint32(i)))
    while hits != 0:
        lane = lowest_bit(hits)
        hits = without_lowest(hits)
        if found[lane] < lists.distances[row, last]:
            put(lists, row, np.int32(other * LANES + lane), found[lane], np.uint8(OLD), False)
            entered += 1
    bounds[i] = min(bounds[i], lists.distances[row, last])
    return entered


@kernel
def walk(tree, limits, lists, first, last):
    """Find the nearest rows of each row of the leaves first .. last, but for itself.

    limits: float32[r], only what is nearer is asked for; lists: of these r rows, empty; they become positions in the
    tree's order and squared distances as blocks have them, rounded otherwise than canonical ones. Of rows as far as the
    last of a list some are found: a run of identical rows costs no more than another. Returns nodes opened
    or tested, blocks compared with a row, entries into lists.
    """
    blocks, boxes, rights, columns = tree.blocks, tree.boxes, tree.rights, tree.columns
    width = (columns + LANES - 1) // LANES * LANES
    # Squared distances are rounded once a column, or less.
    slack = np.float32(1) - np.float32(4e-7) * (columns + 4)
    bounds, found = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    nodes, gaps = np.empty(ROOM, np.int64), np.empty(ROOM, np.float32)
    tested, compared, entered = 0, 0, 0
    for leaf in range(first, last):
        row = (leaf - first) * LANES
        count = min(LANES, tree.order.size - leaf * LANES)
        own = tree.homes[leaf] * 2 * width
        bounds[:] = -1
        bounds[:count] = limits[row : row + count]
        for i in range(count):
            entered += _compare(tree, leaf, i, leaf, bounds, found, lists, row + i)
        compared += count
        farthest = _farthest(bounds)
        nodes[0], gaps[0], top = 0, 0, 1
        while top > 0:
            top -= 1
            node, gap = nodes[top], gaps[top]
            # Down to the nearest leaf; what is farther off waits.
            while rights[node] >= 0 and gap * slack < farthest:
                near, far = node + 1, rights[node]
                gap = apart(boxes, own, near * 2 * width, width)
                rest = apart(boxes, own, far * 2 * width, width)
                tested += 1
                if gap > rest:
                    near, far, gap, rest = far, near, rest, gap
                if rest * slack < farthest:
                    nodes[top], gaps[top] = far, rest
                    top += 1
                node = near
            other = -1 - rights[node]
            if other < 0 or other == leaf or not gap * slack < farthest:
                continue
            tested += 1
            mask = reaching(blocks, leaf * columns * LANES, boxes, node * 2 * width, width, columns, slack, bounds)
            if mask == 0:
                continue
            while mask != 0:
                i = lowest_bit(mask)
                mask = without_lowest(mask)
                compared += 1
                entered += _compare(tree, leaf, i, other, bounds, found, lists, row + i)
            farthest = _farthest(bounds)
    return tested, compared, entered
