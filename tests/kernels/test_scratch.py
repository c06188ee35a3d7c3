"""Room for what is written down: its size, and where it begins."""

import numpy as np
import pytest

from distnnd.kernels.scratch import LINE, MOSTLY, PAGE, scratch


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.float32])
def test_room_begins_a_line_and_far_from_the_end_of_a_page(dtype):
    held = []
    for count in range(1, 400):
        room = scratch(count, dtype)
        held.append(room)
        place = room.ctypes.data
        assert room.shape == (count,)
        assert room.dtype == dtype
        assert not room.any()
        assert place % LINE == 0
        assert -place % PAGE in {0, *range(MOSTLY, PAGE)}
        room[:] = 1
    assert all((room == 1).all() for room in held)
