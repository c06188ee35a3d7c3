"""Numbers of 16 bits become float32 as numpy has it, every one of them."""

import numpy as np
import pytest

from distnnd.kernels.halves import as_float32

EVERY = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)


@pytest.mark.parametrize("points", [EVERY, EVERY[::3], EVERY[:, ::5], np.asfortranarray(EVERY), EVERY[:0]])
def test_every_number_of_16_bits(points: np.ndarray) -> None:
    """Zeros with their signs, numbers below the least normal one, infinities; of those that are none each stays one."""
    wide, true = as_float32(points), points.astype(np.float32)
    assert wide.dtype == np.float32
    numbers = ~np.isnan(true)
    assert (np.isnan(wide) == ~numbers).all()
    np.testing.assert_array_equal(wide.view(np.uint32)[numbers], true.view(np.uint32)[numbers])


def test_other_numbers_become_float32_too() -> None:
    points = np.array([[0.1, 2.5]])
    assert as_float32(points).tolist() == points.astype(np.float32).tolist()
    narrow = points.astype(np.float32)
    copy = as_float32(narrow)
    assert copy.tolist() == narrow.tolist()
    assert not np.shares_memory(copy, narrow)
