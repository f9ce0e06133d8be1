"""The landscape of the loss with the paths of the runs on it, drawn as a map."""

from __future__ import annotations

from typing import Any

import altair

from rightbatch.advice.landscape_map import DescentPath, Landscape
from rightbatch.report.contours import contour_bands, contour_lines
from rightbatch.report.curve_rows import rounded
from rightbatch.report.legend import IsolatingLegend
from rightbatch.report.theme import HEAT_LEVELS, dressed, rows_chart


def landscape(
    mapped: Landscape, *, theme: str = "light", width: int | str = 640, height: int = 460
) -> altair.LayerChart:
    """Height lines of the training loss, and over them the way of each run from start to end.

    Bands and lines are at even steps of the loss's logarithm. A ring is the common start, a dot
    the end; a click on a legend entry isolates a path. The axes are the first two principal
    components of all paths (Li et al. 2018, arXiv 1712.09913, section 7).

    >>> path = DescentPath(label="batch 1", batch_size=1, steps=[0, 1], x=[0.1, 0.5], y=[0.1, 0.6],
    ...                    losses=[4.0, 1.0])
    >>> mapped = Landscape(x=[0.0, 1.0], y=[0.0, 1.0], losses=[[4.0, 2.0], [2.0, 1.0]],
    ...                    explained=(0.9, 0.1), paths=[path], samples=10)
    >>> landscape(mapped).to_dict()["height"]
    460
    """
    paths = sorted(mapped.paths, key=lambda path: path.batch_size)
    legend = IsolatingLegend(list(dict.fromkeys(path.label for path in paths)), width=width)
    x = _axis(
        altair.X,
        "x",
        mapped.x,
        f"first principal component ({mapped.explained[0]:.0%} of the variance)",
    )
    y = _axis(altair.Y, "y", mapped.y, f"second principal component ({mapped.explained[1]:.0%})")
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
        rows_chart(lines.labels)
        .mark_text(style="contour-label", dy=-5)
        .encode(x=x, y=y, text="text:N"),
    ]
    way_rows = _ways(paths)
    way = rows_chart(way_rows)
    last = {path.label: len(path.steps) - 1 for path in paths}
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
        way.mark_point(filled=True, size=60, opacity=0).encode(x=x, y=y, tooltip=path_tooltip),
        starts.mark_point(filled=True, size=100, style="end-halo").encode(x=x, y=y),
        starts.mark_point(size=100, style="start").encode(x=x, y=y, tooltip=path_tooltip),
        lasts.mark_point(filled=True, size=210, style="end-halo").encode(
            x=x, y=y, opacity=legend.opacity(1, 0)
        ),
        lasts.mark_point(filled=True, size=110).encode(
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
    return [
        {
            "label": path.label,
            "order": place,
            "steps": path.steps[place],
            "x": rounded(path.x[place]),
            "y": rounded(path.y[place]),
            "loss": rounded(path.losses[place]),
        }
        for path in paths
        for place in range(len(path.steps))
    ]
