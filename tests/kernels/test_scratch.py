"""Room for what is written down: its size, and where it begins."""

import numpy as np
import pytest

from distnnd.kernels.codes import coder_of, encode
from distnnd.kernels.descent import new_cards, room_for_meeting, room_for_near
from distnnd.kernels.lanes import LINE
from distnnd.kernels.leaves import room_for_tile
from distnnd.kernels.projection import WORTH_IT, guiding
from distnnd.kernels.scratch import MOSTLY, PAGE, on_lines, scratch
from distnnd.values.metric import METRICS


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.float32])
def test_room_begins_a_line_and_far_from_the_end_of_a_page(dtype):
    held = []
    for count in range(1, 400):
        room = scratch(count, dtype)
        held.append(room)
        assert room.shape == (count,)
        assert room.dtype == dtype
        assert not room.any()
        assert well_placed(room)
        room[:] = 1
    assert all((room == 1).all() for room in held)


def test_what_selection_writes_down_is_placed_so():
    values = np.zeros((1, 64), np.int8)
    held = []
    # Rooms of other sizes in between, or all of them might be placed well by chance.
    for width in range(10, 60):
        tile, meeting, near = room_for_tile(values, width), room_for_meeting(width), room_for_near(width)
        held.append((tile, meeting, near))
        written = (tile.labels, tile.places, tile.scores, *near)
        pairs = (meeting.ones, meeting.others, meeting.bases, meeting.higher)
        assert all(map(well_placed, (*written, *pairs)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.float32])
def test_rows_begin_a_line(dtype):
    held = []
    for shape in [(0, 4), (1, 1), (3, 5), (7, 64), (100, 128), *((rows, 17) for rows in range(1, 60))]:
        rows = on_lines(shape, dtype)
        held.append(rows)
        assert rows.shape == shape
        assert rows.dtype == dtype
        assert rows.flags.c_contiguous
        assert rows.flags.aligned
        assert not rows.any()
        assert rows.size == 0 or rows.ctypes.data % LINE == 0
        rows[:] = 1
    assert all((rows == 1).all() for rows in held)


def test_what_is_compared_begins_a_line():
    """Codes, as they are and narrowed, rows as they are held, and cards."""
    rng = np.random.default_rng(1)
    held = []
    for width in (64, 100, 128):
        points = (rng.normal(size=(WORTH_IT, 4)) @ rng.normal(size=(4, width))).astype(np.float32)
        coder = coder_of(points, METRICS["euclidean"])
        rows = encode(points, coder)
        guides = guiding(rows, coder, 1)
        held += [rows.values, new_cards(np.zeros((width, 3), np.int32)), *([guides[0].values] if guides else [])]
    assert len(held) == 8
    assert [part.ctypes.data % LINE for part in held] == [0] * 8


def well_placed(room: np.ndarray) -> bool:
    """Whether it begins a line of the cache, and no page ends near its beginning."""
    place = room.ctypes.data
    return place % LINE == 0 and -place % PAGE in {0, *range(MOSTLY, PAGE)}
