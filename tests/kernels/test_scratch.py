"""Room for what is written down: its size, and where it begins."""

import numpy as np
import pytest

from distnnd.kernels.descent import room_for_meeting, room_for_near
from distnnd.kernels.lanes import LINE
from distnnd.kernels.leaves import room_for_tile
from distnnd.kernels.scratch import MOSTLY, PAGE, scratch


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
        tile, meeting, near = room_for_tile(values, width), room_for_meeting(width, values), room_for_near(width)
        held.append((tile, meeting, near))
        written = (tile.labels, tile.places, tile.scores, *near)
        assert all(map(well_placed, (*written, meeting.others, meeting.other_squares, meeting.other_limits)))


def well_placed(room: np.ndarray) -> bool:
    """Whether it begins a line of the cache, and no page ends near its beginning."""
    place = room.ctypes.data
    return place % LINE == 0 and -place % PAGE in {0, *range(MOSTLY, PAGE)}
