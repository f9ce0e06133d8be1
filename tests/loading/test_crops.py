"""Pieces of images: their area and ratio, the centre, and draws that belong to the sample."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.loading.crops import Box, CropDraws, center_box
from rightbatch.loading.row_random import RowRandom

SIDES = st.integers(1, 900)
RATIO = (3 / 4, 4 / 3)


def draws(rows, seed: int = 0, epoch: int = 0) -> CropDraws:
    return CropDraws(RowRandom(seed=seed, epoch=epoch, rows=np.asarray(rows)))


@given(height=SIDES, width=SIDES, ratio=st.floats(0.1, 10))
def test_the_centre_is_the_largest_piece_of_its_ratio(height, width, ratio):
    top, left, high, wide = center_box(height, width, ratio)
    assert top >= 0 <= left
    assert 1 <= high <= height
    assert 1 <= wide <= width
    assert abs((height - high) - 2 * top) <= 1
    assert abs((width - wide) - 2 * left) <= 1
    assert high == height or wide == width
    assert abs(wide - high * ratio) <= max(1, ratio) or 1 in (high, wide)


@given(height=SIDES, width=SIDES, row=st.integers(0, 10**12))
def test_a_random_piece_lies_in_the_image(height, width, row):
    top, left, high, wide = draws([row]).box(0, height, width, (0.08, 1.0), RATIO)
    assert 0 <= top <= top + high <= height
    assert 0 <= left <= left + wide <= width
    assert high >= 1 <= wide


def test_areas_are_uniform_and_ratios_too_in_their_logarithm():
    many = draws(np.arange(20_000))
    boxes = np.array([many.box(k, 2000, 2000, (0.2, 0.4), RATIO) for k in range(20_000)])
    areas = boxes[:, 2] * boxes[:, 3] / 2000**2
    ratios = np.log(boxes[:, 3] / boxes[:, 2])
    for values, low, high in ((areas, 0.2, 0.4), (ratios, np.log(3 / 4), np.log(4 / 3))):
        shares = np.histogram(values, 10, (low - 1e-3, high + 1e-3))[0] / len(values)
        assert np.abs(shares - 0.1).max() < 0.01
    # Where a piece lies is uniform among the places that it has.
    places = boxes[:, 0] / (2000 - boxes[:, 2])
    assert np.abs(np.histogram(places, 5, (0, 1))[0] / len(places) - 0.2).max() < 0.015
    flips = [many.is_flipped(k) for k in range(20_000)]
    assert abs(np.mean(flips) - 0.5) < 0.015
    assert abs(np.corrcoef(flips, areas)[0, 1]) < 0.03


def test_where_nothing_fits_it_is_the_centre():
    assert draws([1]).box(0, 10, 1000, (0.9, 1.0), RATIO) == Box(0, 493, 10, 13)


@given(rows=st.lists(st.integers(0, 10**9), min_size=1, max_size=20), epoch=st.integers(0, 3))
def test_draws_belong_to_the_row(rows, epoch):
    together = draws(rows, 5, epoch)
    for place, row in enumerate(rows):
        alone = draws([row], 5, epoch)
        assert alone.box(0, 300, 400, (0.08, 1.0), RATIO) == together.box(
            place, 300, 400, (0.08, 1.0), RATIO
        )
        assert alone.is_flipped(0) == together.is_flipped(place)


def test_draws_are_pinned():
    many = draws([0, 1, 2], 7, 3)
    boxes = [many.box(place, 240, 320, (0.08, 1.0), RATIO) for place in range(3)]
    assert boxes == [Box(50, 142, 158, 144), Box(105, 229, 102, 86), Box(56, 43, 163, 173)]
    assert [many.is_flipped(place) for place in range(3)] == [True, True, True]
