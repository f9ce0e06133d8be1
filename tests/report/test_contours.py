"""Height lines lie where the loss has their height."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rightbatch.report.contours import contour_bands, contour_lines


def area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def test_lines_of_a_bowl_are_circles_at_round_losses(bowl) -> None:
    lines = contour_lines(bowl)
    radii = [np.hypot(row["x"], row["y"]) for row in lines.rows]
    losses = np.array([0.1 + radius**2 for radius in radii])
    levels = np.array([float(label["text"]) for label in lines.labels])
    assert len(levels) >= 5
    # Interpolation within a cell of 0.2 is this far off at most.
    assert (np.abs(losses[:, None] - levels).min(axis=1) < 0.03).mean() > 0.8


def test_bands_lie_on_each_other_from_the_whole_map_to_the_valley(bowl) -> None:
    rows = contour_bands(bowl, 16).rows
    areas = {}
    for level in range(16):
        rings: dict[int, list] = {}
        for row in rows:
            if row["level"] == level:
                rings.setdefault(row["band"], []).append((row["x"], row["y"]))
        areas[level] = sum(area(np.array(ring)) for ring in rings.values())
    assert areas[15] == pytest.approx(16.0)
    assert sorted(areas.values()) == [areas[level] for level in range(16)]
    order = [row["level"] for row in rows]
    assert order == sorted(order, reverse=True)


def test_a_hill_is_cut_out_of_the_band_around_it(bowl) -> None:
    hill = replace(bowl, losses=[[3 - x * x / 2 - y * y / 2 + 5 for x in bowl.x] for y in bowl.y])
    rows = [row for row in contour_bands(hill, 4).rows if row["level"] == 2]
    assert area(np.array([(row["x"], row["y"]) for row in rows])) < 15.9


def test_losses_that_are_not_finite_are_a_wall(bowl) -> None:
    losses = [list(row) for row in bowl.losses]
    losses[0][0] = None
    losses[20][20] = 0.0
    walled = replace(bowl, losses=losses)
    assert contour_bands(walled, 16).rows
    assert contour_lines(walled).rows


def test_a_plain_has_no_lines(bowl) -> None:
    flat = replace(bowl, losses=[[0.5] * 21] * 21)
    assert contour_lines(flat).rows == contour_bands(flat, 16).rows == []
    none = replace(bowl, losses=[[None] * 21] * 21)
    assert contour_lines(none).rows == []
