"""Sixteen squared distances at once are what sixteen single ones are, and boxes are never farther than their rows."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from distnnd.kernels import gaps
from distnnd.kernels.lanes import LANES


@njit
def nearer(blocks, query, start, columns, bound, out):
    return gaps.nearer(blocks, query, start, columns, bound, out)


@njit
def reaching(blocks, start, boxes, box, width, columns, slack, bounds):
    return gaps.reaching(blocks, start, boxes, box, width, columns, slack, bounds)


@njit
def apart(boxes, one, other, width):
    return gaps.apart(boxes, one, other, width)


def bits(mask: int) -> list[bool]:
    return [bool(int(mask) >> lane & 1) for lane in range(LANES)]


def made(columns: int, seed: int) -> np.ndarray:
    """Three blocks of small whole numbers, whose squares no order of summing rounds, the last one with two rows."""
    blocks = np.random.default_rng(seed).integers(-9, 10, (3, columns, LANES)).astype(np.float32)
    blocks[2, :, 2:] = np.inf
    return blocks


@pytest.mark.parametrize("columns", [2, 4, 10, 40])
def test_squared_distances_and_what_is_strictly_nearer(columns: int) -> None:
    blocks, out = made(columns, columns), np.empty(LANES, np.float32)
    for other in range(3):
        for lane in range(0, LANES, 5):
            true = ((blocks[other] - blocks[0, :, lane, None]) ** 2).sum(axis=0)
            for bound in (np.inf, float(np.median(true)), 0.0):
                start = other * columns * LANES
                mask = nearer(blocks.ravel(), lane, start, columns, np.float32(bound), out)
                np.testing.assert_array_equal(out, true)
                assert bits(mask) == (true < bound).tolist()


@pytest.mark.parametrize("columns", [2, 6, 40])
def test_who_reaches_a_box(columns: int) -> None:
    blocks = made(columns, columns)
    rng = np.random.default_rng(1)
    corners = np.sort(rng.integers(-6, 7, (2, columns)), axis=0).astype(np.float32)
    width = -(-columns // LANES) * LANES
    boxes = np.zeros(3 + 2 * width, np.float32)
    boxes[3 : 3 + columns], boxes[3 + width : 3 + width + columns] = corners
    outside = np.maximum(np.maximum(corners[0][:, None] - blocks, blocks - corners[1][:, None]), 0)
    for block in range(3):
        true = (outside[block] ** 2).sum(axis=0)
        bounds = rng.choice(np.append(true[:2], [0.0, 5.0, np.inf, -1.0]), LANES).astype(np.float32)
        for slack in (1.0, 0.5):
            start = block * columns * LANES
            mask = reaching(blocks.ravel(), start, boxes, 3, width, columns, np.float32(slack), bounds)
            assert bits(mask) == (true * slack < bounds).tolist()


@pytest.mark.parametrize("width", [16, 32, 48])
def test_how_far_boxes_are_apart(width: int) -> None:
    corners = np.sort(np.random.default_rng(width).integers(-20, 21, (9, 2, width)), axis=1).astype(np.float32)
    for one in range(9):
        for other in range(9):
            gap = np.maximum(np.maximum(corners[one, 0] - corners[other, 1], corners[other, 0] - corners[one, 1]), 0)
            assert apart(corners.ravel(), one * 2 * width, other * 2 * width, width) == (gap**2).sum()
