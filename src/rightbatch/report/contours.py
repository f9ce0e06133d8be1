"""Height lines of a landscape and the bands between them, as polygons that any chart can draw."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray

from rightbatch.advice.landscape_map import Landscape
from rightbatch.report.curve_rows import rounded

_MOST_LINES = 12
_FEWEST_LINES = 5
# A line whose way is shorter than this share of the map's is drawn and not labelled.
_LEAST_LABELLED_LENGTH = 0.35


@dataclass(frozen=True, kw_only=True)
class Contours:
    """Rows of points in drawing order, and where the labels stand."""

    rows: list[dict[str, Any]]
    labels: list[dict[str, Any]] = field(default_factory=list)


def contour_bands(mapped: Landscape, count: int) -> Contours:
    """Filled polygons of `count` even bands of the loss's logarithm, as rows of their corners.

    `band` tells polygons apart, `order` their corners, and `level` is the band's number from 0,
    the lowest loss. A hole is cut out by a way to it and back, which fills to nothing.
    """
    heights = _heights(mapped)
    low, high = float(heights.min()), float(heights.max())
    if not high > low:
        return Contours(rows=[])
    edges = np.linspace(low, high, count + 1)
    # The ends are widened, so that rounding leaves no gap at the highest and the lowest point.
    edges[0], edges[-1] = low - 1e-9 * (high - low) - 1e-12, high + 1e-9 * (high - low) + 1e-12
    generator = _generator(mapped, heights)
    rows: list[dict[str, Any]] = []
    number = 0
    # Each band is drawn over all that is higher: neighbours overlap, and no seam is seen.
    for level in reversed(range(count)):
        polygons, offsets = generator.filled(float(edges[0]), float(edges[level + 1]))
        for points, starts in zip(polygons, offsets, strict=True):
            rows += _rows(_with_holes(points, starts), band=number, level=level)
            number += 1
    return Contours(rows=rows)


def contour_lines(mapped: Landscape) -> Contours:
    """Lines at round numbers of the loss, and a label on the longest piece of each."""
    heights = _heights(mapped)
    low, high = float(10 ** heights.min()), float(10 ** heights.max())
    if not high > low:
        return Contours(rows=[])
    generator = _generator(mapped, heights)
    extent = (mapped.x[-1] - mapped.x[0], mapped.y[-1] - mapped.y[0])
    rows: list[dict[str, Any]] = []
    labels = []
    number = 0
    for loss in _round_levels(low, high):
        pieces = generator.lines(math.log10(loss))
        for piece in pieces:
            rows += _rows(piece, line=number)
            number += 1
        longest = max(pieces, key=lambda piece: _length(piece, extent), default=None)
        if longest is not None and _length(longest, extent) > _LEAST_LABELLED_LENGTH:
            labels.append(_label(longest, loss, mapped, extent))
    return Contours(rows=rows, labels=labels)


def _heights(mapped: Landscape) -> NDArray[np.float64]:
    """log10 of the losses; where there is none, not finite or 0, the nearest bound."""
    losses = np.array(
        [[math.nan if loss is None else loss for loss in row] for row in mapped.losses], np.float64
    )
    positive = losses[np.isfinite(losses) & (losses > 0)]
    if not positive.size:
        return np.zeros_like(losses)
    heights = np.log10(np.clip(losses, positive.min(), None))
    # Beyond the finite the wall is as high as the highest that was measured.
    return np.where(np.isfinite(heights), heights, np.log10(positive.max()))


def _generator(mapped: Landscape, heights: NDArray[np.float64]) -> Any:
    return contourpy.contour_generator(
        np.asarray(mapped.x),
        np.asarray(mapped.y),
        heights,
        name="serial",
        line_type=contourpy.LineType.Separate,
        fill_type=contourpy.FillType.OuterOffset,
    )


def _round_levels(low: float, high: float) -> list[float]:
    """Round numbers between two losses, as many as a map can carry.

    >>> _round_levels(0.01, 1.5)
    [0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        levels = [float(f"{step}e{decade}") for decade in decades for step in steps]
        inside = [level for level in levels if low < level < high]
        if len(inside) <= _MOST_LINES:
            break
    if len(inside) < _FEWEST_LINES:
        # Too flat for a ladder: even steps of the logarithm.
        between = np.geomspace(low, high, _FEWEST_LINES + 2)[1:-1]
        return sorted({rounded_to(level, 3) for level in between.tolist()})
    return inside[:: math.ceil(len(inside) / _MOST_LINES)]


def rounded_to(value: float, digits: int) -> float:
    """`value` with so many significant digits.

    >>> rounded_to(0.0347, 2)
    0.035
    """
    return float(f"{value:.{digits}g}")


def _with_holes(points: NDArray[np.float64], starts: NDArray[np.uint32]) -> NDArray[np.float64]:
    rings = [points[start:stop] for start, stop in pairwise(starts.tolist())]
    way = [rings[0]]
    for hole in rings[1:]:
        way += [hole, rings[0][:1]]
    return np.concatenate(way)


def _rows(points: NDArray[np.float64], **same: int) -> list[dict[str, Any]]:
    return [
        {**same, "order": place, "x": rounded(x), "y": rounded(y)}
        for place, (x, y) in enumerate(points.tolist())
    ]


def _length(piece: NDArray[np.float64], extent: tuple[float, float]) -> float:
    steps = np.diff(piece, axis=0) / np.asarray(extent)
    return float(np.hypot(steps[:, 0], steps[:, 1]).sum())


def _label(
    piece: NDArray[np.float64], loss: float, mapped: Landscape, extent: tuple[float, float]
) -> dict[str, Any]:
    """Where the line runs most level and clear of the frame, so that upright text follows it."""
    shares = (piece - [mapped.x[0], mapped.y[0]]) / np.asarray(extent)
    slopes = np.gradient(shares, axis=0)
    level = np.abs(slopes[:, 1]) / (np.hypot(slopes[:, 0], slopes[:, 1]) + 1e-12)
    framed = (np.abs(shares - 0.5) > 0.44).any(axis=1)
    place = int(np.argmin(level + 10 * framed))
    return {
        "x": rounded(float(piece[place, 0])),
        "y": rounded(float(piece[place, 1])),
        "text": f"{loss:.3g}",
    }
