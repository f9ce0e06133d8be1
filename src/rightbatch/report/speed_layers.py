"""What the two charts of speed share: intervals, points, the fitted law, its n½."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import altair
import numpy as np

from rightbatch.advice.law import StepTime
from rightbatch.advice.timing import Speed, half_batch_text
from rightbatch.report.axes import log_scale, log_ticks, powers_of_two
from rightbatch.report.curve_rows import rounded
from rightbatch.report.theme import dressed, rows_chart


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What stands on the vertical axis: a function of the seconds a sample."""

    title: str
    unit: str
    of: Callable[[float], float]


def speed_layers(
    speed: Speed, measured: Measured, *, theme: str, width: int | str, height: int
) -> altair.LayerChart:
    """The chart of one function of the seconds a sample, against the batch size."""
    rows = [
        {
            "batch_size": point.batch_size,
            "value": rounded(measured.of(point.seconds_per_sample)),
            "from": rounded(measured.of(point.low)),
            "to": rounded(measured.of(point.high)),
            "batch": rounded(point.seconds_per_batch),
        }
        for point in speed.points
    ]
    fitted = _fitted(speed, measured)
    sizes = [float(point.batch_size) for point in speed.points]
    values = [row[name] for row in rows for name in ("value", "from", "to")]
    values += [row["value"] for row in fitted]
    x = altair.X(
        "batch_size:Q",
        title="batch size",
        scale=log_scale(sizes, padding=1.1),
        axis=altair.Axis(values=powers_of_two(sizes), format=",d", titleAnchor="end"),
    )
    label = f"format(datum.value, '~s') + '{measured.unit}'"
    y = altair.Y(
        "value:Q",
        title=measured.title,
        scale=log_scale(values),
        axis=altair.Axis(values=log_ticks(values), labelExpr=label),
    )
    shown = ".3~s"
    tooltip = [
        altair.Tooltip("batch_size:Q", title="batch size", format=",d"),
        altair.Tooltip("value:Q", title=measured.title, format=shown),
        altair.Tooltip("from:Q", title="95 % from", format=shown),
        altair.Tooltip("to:Q", title="to", format=shown),
        altair.Tooltip("batch:Q", title="seconds a batch", format=shown),
    ]
    points = rows_chart(rows).encode(x=x)
    layers = [
        *_half_rule(speed.fit, sizes, x),
        rows_chart(fitted).mark_line(style="fitted", strokeWidth=1.5).encode(x=x, y=y),
        points.mark_rule(style="interval").encode(y=altair.Y("from:Q"), y2="to:Q"),
        points.mark_point(filled=True, size=42, opacity=1, style="measured").encode(
            y=y, tooltip=tooltip
        ),
    ]
    if not fitted:
        del layers[-3]
    chart = altair.layer(*layers).properties(width=width, height=height)
    return dressed(chart, theme, series=1)


def _fitted(speed: Speed, measured: Measured) -> list[dict[str, float]]:
    if speed.fit is None or len(speed.points) < 2:
        return []
    sizes = [point.batch_size for point in speed.points]
    grid = np.geomspace(min(sizes), max(sizes), 80)
    return [
        {"batch_size": rounded(size), "value": rounded(measured.of(speed.fit.seconds(size) / size))}
        for size in grid.tolist()
    ]


def _half_rule(fit: StepTime | None, sizes: list[float], x: altair.X) -> list[altair.Chart]:
    """A dashed line at n½ with its number, where the chart reaches it."""
    if fit is None or not min(sizes) <= fit.half_batch_size <= max(sizes):
        return []
    half = fit.half_batch_size
    base = rows_chart([{"batch_size": rounded(half)}]).encode(x=x)
    on_the_left = math.log(half / min(sizes)) > 0.6 * math.log(max(sizes) / min(sizes))
    return [
        base.mark_rule(style="guide"),
        base.mark_text(
            style="guide-text",
            text=f"n½ = {half_batch_text(fit)}",
            align="right" if on_the_left else "left",
            dx=-6 if on_the_left else 6,
            y=8,
        ),
    ]
