"""How many samples a second go through a step of training at each batch size."""

from __future__ import annotations

from typing import Any

import altair

from rightbatch.advice.advice import Advice
from rightbatch.advice.timing import half_batch_text, time_text
from rightbatch.report.advice_axis import AdviceAxis, line, panel, vertical
from rightbatch.report.curve_rows import rounded
from rightbatch.report.theme import rows_chart


def advice_speed_chart(
    advice: Advice, *, theme: str = "light", width: int | str = 640
) -> altair.LayerChart | None:
    """Samples a second against the batch size, both in decades, with 95 % intervals.

    The curve is the fitted law B/t(B), the dashed rule its n½. None where nothing was timed.
    """
    speed = advice.speed
    if not speed.points:
        return None
    axis = AdviceAxis(advice)
    rows: list[dict[str, Any]] = [
        {
            "batch_size": point.batch_size,
            "value": rounded(point.samples_per_second),
            "from": rounded(1 / point.high),
            "to": rounded(1 / point.low),
            "sample": time_text(point.seconds_per_sample),
            "step": time_text(point.seconds_per_batch),
        }
        for point in speed.points
    ]
    sizes = [point.batch_size for point in speed.points]
    law = []
    if speed.fit is not None:
        law = [
            {"batch_size": rounded(size), "value": rounded(size / speed.fit.seconds(size))}
            # Beyond the sizes that ran, the law is no measurement.
            for size in axis.grid(min(sizes), max(sizes))
        ]
    values = [row[name] for row in rows for name in ("from", "to")]
    values += [row["value"] for row in law]
    y = vertical(values, "samples a second")
    half = []
    if speed.fit is not None and min(sizes) <= speed.fit.half_batch_size <= max(sizes):
        half = axis.guide(speed.fit.half_batch_size, f"n½ = {half_batch_text(speed.fit)}")
    points = rows_chart(rows).encode(x=axis.encoding)
    layers = [
        *half,
        *line(law, axis, y),
        points.mark_rule(style="interval").encode(y=altair.Y("from:Q"), y2="to:Q"),
        points.mark_point(filled=True, size=42, opacity=1, style="measured").encode(
            y=y,
            tooltip=[
                altair.Tooltip("batch_size:Q", title="batch size", format=",d"),
                altair.Tooltip("value:Q", title="samples a second", format=",.3~r"),
                altair.Tooltip("from:Q", title="95 % from", format=",.3~r"),
                altair.Tooltip("to:Q", title="to", format=",.3~r"),
                altair.Tooltip("sample:N", title="a sample"),
                altair.Tooltip("step:N", title="a step"),
            ],
        ),
    ]
    return panel(axis, layers, theme=theme, width=width)
