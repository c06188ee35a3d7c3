"""What the scan finds in a strip: numbers that cannot be compared, and rows of zeros."""

import numpy as np
import pytest

from distnnd.kernels.transforms import vacant
from distnnd.stages.scan import check_finite
from distnnd.values.errors import InputError
from distnnd.values.metric import METRICS, metric_of


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_number_that_is_none_is_named(dtype: type, bad: float) -> None:
    strip = np.random.default_rng(1).normal(size=(40, 7)).astype(dtype)
    strip[20:, 2] = np.finfo(dtype).max if dtype == np.float16 else 0
    check_finite(strip, 100, 1e18)
    strip[[7, 7, 30], [5, 6, 0]] = bad
    with pytest.raises(InputError, match=f"row 107, column 5 holds {bad}: no distance"):
        check_finite(strip, 100, 1e18)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
def test_rows_of_zeros_are_vacant(dtype: type) -> None:
    """Also where the first column says nothing, and where it says all."""
    rng = np.random.default_rng(1)
    points = rng.integers(0, 2, (300, 4)).astype(dtype)
    points[::7] *= dtype(0)
    for part in (points, points + dtype(1), points[:0], points[::7]):
        assert vacant(part, METRICS["cosine"]).tolist() == [not any(row) for row in part.tolist()]
    assert vacant(points, metric_of("correlation")).tolist() == [len(set(row)) == 1 for row in points.tolist()]
