"""Projected bytes of each kind of task: what it allocates at most, its worker's own memory aside.

Each formula lists the arrays that are alive at the worst moment of the stage of that name. Data size enters only
through the rows of a block or a partition; a test holds measured peaks against these numbers.
"""

from __future__ import annotations

import numpy as np

from .metric import CUSTOM, Metric
from .plan import TREE_COLUMNS, Layout

# One tile of products with the codes of its rows, packed to whole vectors, per thread, and what the interpreter and
# Zarr allocate beside the arrays.
TILE_ROWS = 1152
TILE = 768 * 1024
COLUMNS = 64
# Codes are multiplied four columns at a time; rows of narrow numbers, which are their own codes, are as wide.
WORD = 4
SLACK = 12 * 2**20
# NN-descent compares the companions of this many rows, in ranges of so many, and writes down at most so many finds per
# row, before it puts them into the lists.
DESCENT_ROWS = 16384
DESCENT_RANGE = 2048
DESCENT_FINDS = 40
# Holders of a row that NN-descent looks at to draw companions; of so many rows at a time. Kernels compile these in.
HOLDERS = 32
DRAWN_AT_ONCE = 65536
# Bytes of those that a thread gathers, with their counts, and of the places where it found them in a strip of lists.
HOLDERS_GATHERED = 4 * DRAWN_AT_ONCE * (HOLDERS + 1)
HOLDERS_FOUND = 2**16
# Leaves of a k-d tree whose rows search at a time.
TREE_AT_ONCE = 128
# Leaves that a row stands in at most.
LEAF_FANOUT = 4
# Rows wider than this may have narrower codes beside their own, of so many columns at most (kernels/projection.py).
NARROWED_WIDTH, NARROW = 256, 256
# Partitions that a row is written to at most, where it looks elsewhere than it stands.
PLACES = 7
WRITTEN_AT_ONCE = 2 * 2**20
# Bytes by which a pivot is found: its few columns, the guides that it follows, and itself among their followers.
SIGNED = 400
# Pivots near a row by which it is told whether it is settled, and bytes that this takes; of how many pivots at most, as
# each is looked at with each other.
SETTLED_BY, SETTLED_PIVOTS = 16, 768
SETTLED_ROW = 6 * SETTLED_BY + 2
# Rows that are made up for each probe row to see whether neighbours meet.
DIRECTIONS = 4
# Rows that are read, prepared or written at a time where a whole block or partition need not be copied.
STRIP_BYTES = 2**21


def prepared_bytes(metric: Metric, dtype: str, d: int) -> int:
    """Bytes of one prepared row: float64 and narrow integers stay so, all else is float32, one column to spare."""
    if metric.double:
        return 8 * (metric.laid_out_columns(d) + 1)
    if metric.packed:
        return d + 7
    if dtype in ("uint8", "int8") and metric.euclidean and not metric.unit and not metric.steps:
        return d + 3
    return 4 * (metric.laid_out_columns(d) + 1)


def raw_bytes(metric: Metric, dtype: str, d: int) -> int:
    """Bytes of one row as a judge takes it, beside the prepared one (see kernels/judge.py: as_they_came)."""
    if not metric.judged or metric.form == "sparse":
        return 0
    if "whiten" in metric.steps:
        return 8 * d
    if metric.form == "bits":
        return d + 7
    as_floats = dtype == "float16" or (metric.name == CUSTOM and dtype != "float64")
    return 4 * d if as_floats else d * item_bytes(dtype)


# Bytes of an entry of sparse rows as a stage reads it, puts it in order and writes it.
LISTED = 60
# So many of them are read at once where a whole block need not be held.
ENTRIES_AT_ONCE = 2**20


def sampled_listings(layout: Layout) -> int:
    """Bytes of what the sampled rows list, where rows are sparse."""
    return LISTED * (layout.sample + layout.probes) * layout.block_entries // max(layout.block_rows, 1)


def listed_bytes(layout: Layout) -> int:
    """Bytes of what sparse rows list, and of a copy while they are put into another order; see Layout.entries."""
    if layout.entries is None:
        return 0
    return 32 * layout.entries + 24 * layout.cap + LISTED * min(layout.block_entries, ENTRIES_AT_ONCE)


def code_columns(columns: int) -> int:
    """Columns of a coded row, zeros behind its own: whole words; whole lines of the cache if that adds a third at most.

    A row of whole lines is read in one vector a line, and one that begins elsewhere in two.
    """
    words, lines = -(-columns // WORD) * WORD, -(-columns // COLUMNS) * COLUMNS
    return lines if 3 * lines <= 4 * words else words


def coded_bytes(metric: Metric, dtype: str, d: int) -> int:
    """Bytes of one prepared row with its codes; narrow integers are their own codes."""
    prepared = prepared_bytes(metric, dtype, d)
    return prepared + 8 + (0 if metric.packed or prepared == d + 3 else code_columns(metric.laid_out_columns(d) + 1))


def item_bytes(dtype: str) -> int:
    """Bytes of one number of the points."""
    return np.dtype(dtype).itemsize


def sent_bytes(metric: Metric, dtype: str, d: int, wire: str | None) -> int:
    """Bytes of the numbers of a row as it travels: as it is read, or prepared and of the dtype `wire`."""
    return d * item_bytes(dtype) if wire is None else (metric.laid_out_columns(d) + 1) * item_bytes(wire)


def tile_bytes(d: int) -> int:
    """A tile of products, with the codes of its rows packed to whole vectors."""
    return TILE + TILE_ROWS * (d + COLUMNS)


def local_row(metric: Metric, dtype: str, d: int, width: int, fanout: int, companions: int) -> int:
    """Bytes per row of a partition in the local stage.

    The prepared row with its codes, and narrower ones; its list (9 bytes an entry) beside the one that it came with (8
    for the id, 4 for the distance); its leaves; then either what the tree needs to grow, or the companions of both
    kinds and a card; row ids, their table, the order; pivots, one for a hundred rows or more. Rows are put into leaf
    order in place. Where a judge settles the lists, rows as he takes them, and a longer list beside the one that came.
    """
    coded = coded_bytes(metric, dtype, d)
    narrow = NARROW + 8 if metric.euclidean and not metric.packed and metric.laid_out_columns(d) > NARROWED_WIDTH else 0
    at_work = max(28 * fanout, 8 * companions + 24)
    leaves = coded + narrow + coded // 64 + 21 * width + 4 * fanout + at_work + 60
    if metric.judged:
        leaves += raw_bytes(metric, dtype, d) + 9 * metric.selected(width)
    return max(leaves, tree_row(metric, dtype, d, width) if metric.euclidean and d < TREE_COLUMNS else 0)


def tree_row(metric: Metric, dtype: str, d: int, width: int) -> int:
    """Bytes per row of a partition that a k-d tree solves.

    The prepared row; its copy in float32 by blocks of sixteen, filled up to an even number of columns, and the corners
    of two boxes for each block, filled up to a multiple of sixteen; its list and the one it came with (21 a place);
    keys, nodes, orders, row ids and their table.
    """
    judged = raw_bytes(metric, dtype, d) + 9 * metric.selected(width) if metric.judged else 0
    return prepared_bytes(metric, dtype, d) + 5 * metric.laid_out_columns(d) + 34 + 21 * width + 64 + judged


def thread_bytes(metric: Metric, d: int) -> int:
    """Bytes that one more thread adds to a task of the local stage: a tile of products, or the holders it gathers."""
    return max(tile_bytes(metric.laid_out_columns(d)), HOLDERS_GATHERED) + HOLDERS_FOUND


def local_fixed(metric: Metric, dtype: str, d: int, width: int, threads: int, rows: int | None = None) -> int:
    """Bytes of the local stage that do not grow with its rows; rows: how many there are, None for any number.

    What is held at one time: a strip of mail or of lists as it is read or written; or the holders that threads gather,
    with their counts; or a tile of each thread beside the finds of NN-descent.
    """
    columns = metric.laid_out_columns(d)
    gathered = threads * HOLDERS_GATHERED
    finds = 2 * 12 * DESCENT_ROWS * DESCENT_FINDS
    if rows is not None:
        gathered = min(gathered, HOLDERS_GATHERED // DRAWN_AT_ONCE * rows)
        finds = min(finds, 2 * 12 * DESCENT_RANGE * DESCENT_FINDS * -(-rows // (4 * DESCENT_RANGE)))
    tiles = threads * (tile_bytes(columns) + HOLDERS_FOUND)
    strip = 3 * WRITTEN_AT_ONCE + strip_rows(d) * (2 * (d * item_bytes(dtype) + 20 * width) + 4 * columns)
    strip += strip_rows(columns) * 16 * columns
    return SLACK + max(strip, gathered + threads * HOLDERS_FOUND, tiles + finds)


def whole_bytes(layout: Layout, metric: Metric, width: int, threads: int, companions: int) -> int:
    """Bytes of a local task that holds all rows: as it reads the source, as it compares, or as it writes the lists.

    Rows are read a chunk of the source at a time, which is held twice; lists are written a block at a time, with the
    copies that Zarr makes.
    """
    n, d, dtype = layout.n, layout.d, layout.dtype
    prepared = prepared_bytes(metric, dtype, d) + raw_bytes(metric, dtype, d)
    row = local_row(metric, dtype, d, width, LEAF_FANOUT, companions)
    reading = n * (prepared + 12 * width + 24) + strip_bytes(layout)
    comparing = n * row - SLACK + local_fixed(metric, dtype, d, width, threads, n)
    writing = n * (prepared + 21 * width + 60) + 36 * width * min(n, layout.block_rows)
    return SLACK + max(reading, comparing, writing)


def strip_rows(d: int) -> int:
    """Rows of d numbers that are read, prepared, routed or written at a time."""
    return min(max(STRIP_BYTES // (4 * d), 256), 8192)


def laid_out_rows(metric: Metric, d: int, rows: int) -> int:
    """How many of so many rows of d columns are laid out at a time: fewer where they become wider by it."""
    return max(1, rows * d // max(d, metric.laid_out_columns(d)))


def strip_bytes(layout: Layout) -> int:
    """A strip of the source as Zarr reads it, whole chunks and twice, and as it is prepared, in float64."""
    item = item_bytes(layout.dtype)
    chunk = layout.chunk_rows * layout.d * item
    return 2 * max(chunk, strip_rows(layout.d) * layout.d * item) + strip_rows(layout.d) * layout.d * 20


def scan_bytes(layout: Layout) -> int:
    """A strip as read and as checked, and the sampled rows."""
    item = item_bytes(layout.dtype)
    return SLACK + strip_bytes(layout) + 2 * (layout.sample + layout.probes) * (layout.d * item + 8)


def collect_bytes(layout: Layout) -> int:
    """The sampled rows, in parts and together."""
    sampled = 3 * (layout.sample + layout.probes) * layout.d * item_bytes(layout.dtype)
    return SLACK + sampled + sampled_listings(layout)


def probe_bytes(layout: Layout, metric: Metric, width: int) -> int:
    """A block as prepared, strip by strip, the probe rows and their lists, one tile."""
    prepared = prepared_bytes(metric, layout.dtype, layout.d)
    probes = layout.probes * (4 * prepared + 40 * width)
    strip = strip_bytes(layout)
    raw = raw_bytes(metric, layout.dtype, layout.d)
    # What is compared as it came is not laid out.
    inner = metric.form == "inner"
    held = raw + (coded_bytes(metric, layout.dtype, layout.d) if inner else layout.d * item_bytes(layout.dtype))
    rows = layout.block_rows * (held + 4) + LISTED * layout.block_entries
    return SLACK + rows + probes + sampled_listings(layout) + strip + tile_bytes(layout.d)


def route_row(metric: Metric, dtype: str, d: int, width: int, wire: str | None = None) -> int:
    """Bytes per row of a block in the route stage: the row, its list with Zarr's copy, its leaves and places.

    wire: where that is not the dtype of rows, they are held prepared.
    """
    held = d * item_bytes(dtype) if wire is None else prepared_bytes(metric, dtype, d)
    return held + 24 * width + 17 * PLACES + 4 * LEAF_FANOUT


def looking_bytes(layout: Layout, metric: Metric, pivots: int) -> int:
    """A strip of rows as it is read, prepared and coded, and the pivots among which these look."""
    pivots = max(pivots, layout.leaves)
    # Strips follow the chunks of the source.
    strip = max(strip_rows(layout.d), min(layout.chunk_rows, layout.block_rows or layout.chunk_rows))
    strip = laid_out_rows(metric, layout.d, strip)
    return (
        strip_bytes(layout)
        + pivots * (2 * coded_bytes(metric, layout.dtype, layout.d) + SIGNED)
        + strip * (coded_bytes(metric, layout.dtype, layout.d) + 300)
        + tile_bytes(metric.laid_out_columns(layout.d))
    )


def route_bytes(layout: Layout, metric: Metric, width: int, pivots: int, wire: str | None = None) -> int:
    """A block with its lists and places, a strip of it prepared, the pivots, and records as they are written.

    wire: the dtype in which rows travel, where that is another than theirs; then there are the middles of partitions, a
    sixteenth of the pivots or less, and a strip of rows with its middles.
    """
    sent = sent_bytes(metric, layout.dtype, layout.d, wire)
    narrowed = 0 if wire is None else strip_rows(layout.d) * 7 * sent + pivots * sent // 8
    record = sent + 12 * width + 4 * LEAF_FANOUT + 5
    block = layout.block_rows * route_row(metric, layout.dtype, layout.d, width, wire) + LISTED * layout.block_entries
    written = 3 * (WRITTEN_AT_ONCE + strip_rows(layout.d) * record)
    return SLACK + block + narrowed + looking_bytes(layout, metric, pivots) + written


def settle_bytes(layout: Layout, metric: Metric, width: int, pivots: int) -> int:
    """The lists of a block with Zarr's copy, or pivots near its rows; a strip prepared, and all pairs of pivots."""
    block = layout.block_rows * (max(24 * width, 2 * SETTLED_ROW) + 8)
    pairs = 20 * min(pivots, SETTLED_PIVOTS) ** 2
    return SLACK + block + looking_bytes(layout, metric, pivots) + pairs


def settled_disk(layout: Layout, pivots: int) -> int:
    """Bytes of scratch that it takes to know which rows are settled: of each row, and how far those of a block look."""
    return layout.n * SETTLED_ROW + layout.blocks * 4 * min(pivots, SETTLED_PIVOTS) ** 2


def draw_bytes(layout: Layout, metric: Metric, pivots: int) -> int:
    """The sample as read, in parts and together, and prepared; then prepared and coded in two parts.

    Beside it the pivots nearest to the rows of one part, and pivots that move to means, or leaves of the whole set, or
    rows that are made up for probe rows, with what they are made of.
    """
    prepared = prepared_bytes(metric, layout.dtype, layout.d)
    coded = coded_bytes(metric, layout.dtype, layout.d)
    row = prepared + max(2 * layout.d * item_bytes(layout.dtype), coded) + 200
    columns = metric.laid_out_columns(layout.d)
    made = DIRECTIONS * layout.probes * (2 * coded + 16 * columns + 400)
    moved = pivots * (3 * coded + 24 * columns + 64)
    leaves = layout.leaves * (2 * coded + SIGNED)
    return SLACK + layout.sample * row + moved + max(made, leaves) + sampled_listings(layout)


def merge_row(width: int) -> int:
    """Bytes per row of a block in the merge stage: its list, and the one before it or the copy Zarr writes."""
    return 13 * width + 24 * width + 32


def merge_bytes(layout: Layout, width: int) -> int:
    """The lists of a block, the lists one partition found for its rows, and the copies Zarr makes of both."""
    return SLACK + layout.block_rows * merge_row(width) + 4 * strip_rows(layout.d) * 12 * width


def publish_bytes(layout: Layout, width: int, k: int) -> int:
    """The lists of a block as read and as written."""
    return SLACK + layout.block_rows * (24 * width + 36 * k)


def exact_row(metric: Metric, dtype: str, d: int, width: int) -> int:
    """Bytes per row in the exact stage: the prepared row, its list, and the order of that list's entries by id."""
    return prepared_bytes(metric, dtype, d) + 16 * width


def exact_bytes(layout: Layout, metric: Metric, width: int, k: int, blocks: int) -> int:
    """So many blocks with their lists, one of these as it is read, sorted or written, a strip of the source.

    The strip is prepared, and rows are gathered for some of its pairs.
    """
    rows = min(blocks * layout.block_rows, layout.n)
    strip = laid_out_rows(metric, layout.d, max(strip_rows(layout.d), layout.chunk_rows))
    prepared = prepared_bytes(metric, layout.dtype, layout.d)
    return (
        SLACK
        + rows * exact_row(metric, layout.dtype, layout.d, width)
        + layout.block_rows * (24 * width + 36 * k)
        + strip_bytes(layout)
        + strip * 2 * prepared
        + strip_rows(layout.d) * (prepared + 40)
    )


def exact_blocks(layout: Layout, metric: Metric, width: int, k: int, most: int) -> int:
    """Blocks that a task of the exact stage may hold in `most` bytes, at least one."""
    room = most - exact_bytes(layout, metric, width, k, 0)
    block = layout.block_rows * exact_row(metric, layout.dtype, layout.d, width)
    return min(max(room // max(block, 1), 1), layout.blocks)
