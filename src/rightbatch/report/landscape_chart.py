"""The landscape of the loss with the paths of the runs on it, drawn as a map."""

from __future__ import annotations

import math
from typing import Any

import altair

from rightbatch.advice.landscape_map import DescentPath, Landscape
from rightbatch.report.captions import path_explodes
from rightbatch.report.contours import contour_bands, contour_lines
from rightbatch.report.curve_rows import rounded
from rightbatch.report.legend import IsolatingLegend
from rightbatch.report.theme import HEAT_LEVELS, dressed, rows_chart

# Room around the ways, as a share of their own extent, and the cells of a map worth to look at.
_MARGIN = 0.15
_FEWEST_CELLS = 6


def landscape(
    mapped: Landscape, *, theme: str = "light", width: int | str = 640, height: int = 460
) -> altair.LayerChart:
    """Height lines of the training loss, and over them the way of each run from start to end.

    Bands and lines are at even steps of the loss's logarithm. A ring is the common start, a dot
    the end; a click on a legend entry isolates a path. The axes are the first two principal
    components of all paths (Li et al. 2018, arXiv 1712.09913, section 7). Runs that explode may
    leave the frame.

    >>> path = DescentPath(label="batch 1", batch_size=1, steps=[0, 1], x=[0.1, 0.5], y=[0.1, 0.6],
    ...                    losses=[4.0, 1.0])
    >>> mapped = Landscape(x=[0.0, 1.0], y=[0.0, 1.0], losses=[[4.0, 2.0], [2.0, 1.0]],
    ...                    explained=(0.9, 0.1), paths=[path], samples=10)
    >>> landscape(mapped).to_dict()["height"]
    460
    """
    paths = sorted(mapped.paths, key=lambda path: path.batch_size)
    legend = IsolatingLegend(list(dict.fromkeys(path.label for path in paths)), width=width)
    (left, right), (bottom, top) = shown_extent(mapped)
    x = _axis(
        altair.X,
        "x",
        [left, right],
        f"first principal component ({mapped.explained[0]:.0%} of the variance)",
    )
    y = _axis(
        altair.Y, "y", [bottom, top], f"second principal component ({mapped.explained[1]:.0%})"
    )
    # A mark at the frame is whole, but one outside of it must not be seen.
    is_zoomed = (left, right, bottom, top) != (mapped.x[0], mapped.x[-1], mapped.y[0], mapped.y[-1])
    bands, lines = contour_bands(mapped, HEAT_LEVELS), contour_lines(mapped)
    layers = [
        rows_chart(bands.rows)
        .mark_line(interpolate="linear-closed", strokeWidth=0, clip=True)
        .encode(
            x=x,
            y=y,
            order="order:Q",
            detail="band:N",
            fill=altair.Fill(
                "level:O", scale=altair.Scale(domain=list(range(HEAT_LEVELS))), legend=None
            ),
        ),
        rows_chart(lines.rows)
        .mark_line(style="contour", clip=True, strokeWidth=0.8)
        .encode(x=x, y=y, order="order:Q", detail="line:N"),
        rows_chart(
            [row for row in lines.labels if left <= row["x"] <= right and bottom <= row["y"] <= top]
        )
        .mark_text(style="contour-label", dy=-5)
        .encode(x=x, y=y, text="text:N"),
    ]
    way_rows = _ways(paths)
    way = rows_chart(way_rows)
    last = {row["label"]: row["order"] for row in way_rows}
    starts = rows_chart([row for row in way_rows if row["order"] == 0])
    lasts = rows_chart([row for row in way_rows if row["order"] == last[row["label"]]])
    path_tooltip = [
        altair.Tooltip("label:N", title="run"),
        altair.Tooltip("steps:Q", format=",d"),
        altair.Tooltip("loss:Q", title="training loss", format=".4~g"),
    ]
    layers += [
        way.mark_line(style="halo", clip=True, strokeWidth=4).encode(
            x=x, y=y, order="order:Q", detail="label:N", opacity=legend.opacity(0.7, 0)
        ),
        way.mark_line(clip=True, strokeWidth=1.9).encode(
            x=x, y=y, order="order:Q", color=legend.colour, opacity=legend.opacity(1, 0.06)
        ),
        way.mark_point(filled=True, size=60, opacity=0, clip=True).encode(
            x=x, y=y, tooltip=path_tooltip
        ),
        starts.mark_point(filled=True, size=100, style="end-halo", clip=is_zoomed).encode(x=x, y=y),
        starts.mark_point(size=100, style="start", clip=is_zoomed).encode(
            x=x, y=y, tooltip=path_tooltip
        ),
        lasts.mark_point(filled=True, size=210, style="end-halo", clip=is_zoomed).encode(
            x=x, y=y, opacity=legend.opacity(1, 0)
        ),
        lasts.mark_point(filled=True, size=110, clip=is_zoomed).encode(
            x=x, y=y, color=legend.colour, opacity=legend.opacity(1, 0.06), tooltip=path_tooltip
        ),
    ]
    chart = (
        altair.layer(*layers)
        .add_params(legend.selection)
        .properties(
            width=width,
            height=height,
            usermeta={"entryPixels": legend.entry_pixels},
        )
    )
    return dressed(chart, theme, series=len(legend.labels))


def shown_extent(mapped: Landscape) -> tuple[tuple[float, float], tuple[float, float]]:
    """The part of the map that is shown: without the ways of runs that explode, where it can be.

    The map was computed around all ways. Those of the others must cover so many of its cells that
    there is something to see between them.
    """
    whole = (mapped.x[0], mapped.x[-1]), (mapped.y[0], mapped.y[-1])
    calm = [path for path in mapped.paths if not path_explodes(path)]
    if not calm or len(calm) == len(mapped.paths):
        return whole
    found = []
    for axis, (low, high) in zip(("x", "y"), whole, strict=True):
        values = [value for path in calm for value in getattr(path, axis) if _is_finite(value)]
        if not values:
            return whole
        margin = _MARGIN * (max(values) - min(values))
        found.append((max(low, min(values) - margin), min(high, max(values) + margin)))
    cells = len(mapped.x) - 1, len(mapped.y) - 1
    seen = [
        (high - low) / (end - start) * count if end > start else 0.0
        for (low, high), (start, end), count in zip(found, whole, cells, strict=True)
    ]
    return (found[0], found[1]) if min(seen) >= _FEWEST_CELLS else whole


def _axis(kind: type, field: str, values: list[float], title: str) -> Any:
    return kind(
        f"{field}:Q",
        title=title,
        scale=altair.Scale(domain=[min(values), max(values)], nice=False, zero=False),
        axis=altair.Axis(
            grid=False,
            tickCount=5,
            # Without an expression, ticks of 10 and 20 are written 1e+1 and 2e+1.
            labelExpr="format(datum.value, '~g')",
            titleAnchor="end" if field == "x" else altair.Undefined,
        ),
    )


def _ways(paths: list[DescentPath]) -> list[dict[str, Any]]:
    rows = []
    for path in paths:
        placed = [
            place
            for place in range(len(path.steps))
            if _is_finite(path.x[place]) and _is_finite(path.y[place])
        ]
        for order, place in enumerate(placed):
            loss = path.losses[place]
            rows.append(
                {
                    "label": path.label,
                    "order": order,
                    "steps": path.steps[place],
                    "x": rounded(path.x[place]),
                    "y": rounded(path.y[place]),
                    "loss": rounded(loss) if loss is not None and math.isfinite(loss) else None,
                }
            )
    return rows


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
