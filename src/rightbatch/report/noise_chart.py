"""The gradient noise scale as training goes on."""

from __future__ import annotations

import math
from typing import Any

import altair

from rightbatch.advice.noise_scale import Noise, NoisePoint
from rightbatch.report.axes import log_scale, readable_ticks
from rightbatch.report.curve_rows import rounded
from rightbatch.report.samples_axis import SamplesAxis
from rightbatch.report.theme import dressed, rows_chart

_LEAST_SCALE = 1e-3


def noise_trajectory(
    noise: Noise, *, theme: str = "light", width: int | str = 640, height: int = 230
) -> altair.LayerChart | None:
    """The noise scale against the samples seen, both in decades, with 95 % intervals.

    A triangle stands at the lower end where the upper one is open. The dashed line is the scale
    that the advice uses. None without a point of a known scale or end.

    >>> from rightbatch.advice.noise_scale import NoisePoint
    >>> points = [NoisePoint(samples=n, loss=1.0, scale=90.0, low=60.0, high=120.0,
    ...                      measured_on=512) for n in (0, 512, 1536)]
    >>> noise = Noise(scale=90.0, low=60.0, high=120.0, method="per-sample", batch_size=32,
    ...               learning_rate=0.1, trajectory=points)
    >>> noise_trajectory(noise).to_dict()["height"]
    230
    """
    known = [point for point in noise.trajectory if point.scale is not None or point.low > 0]
    if not known:
        return None
    axis = SamplesAxis([point.samples for point in known])
    rows = [_row(point, axis) for point in known]
    resolved = [row for row in rows if "value" in row]
    values = [row[name] for row in rows for name in ("value", "from", "to") if name in row]
    values += [noise.scale] if noise.scale is not None else []
    low, high = min(values) / 1.2, max(values) * 1.2
    y = altair.Y(
        "value:Q",
        title="noise scale, samples",
        scale=log_scale([low, high], padding=1),
        axis=altair.Axis(values=readable_ticks(low, high), labelExpr="format(datum.value, ',~g')"),
    )
    tooltip = [
        altair.Tooltip("samples:Q", title="samples seen", format=",d"),
        altair.Tooltip("scale:N", title="noise scale"),
        altair.Tooltip("interval:N", title="95 % interval"),
        altair.Tooltip("loss:Q", format=".4~g"),
        altair.Tooltip("measured_on:Q", title="from the gradients of", format=",d"),
    ]
    layers = []
    if noise.scale is not None:
        layers += _used(noise.scale, y, values=[row["value"] for row in resolved])
    if len(resolved) > 1:
        layers.append(
            rows_chart(resolved)
            .mark_line(style="fitted", strokeWidth=1.5)
            .encode(x=axis.encoding, y=y)
        )
    bounded = [row for row in rows if "to" in row]
    if bounded:
        layers.append(
            rows_chart(bounded)
            .mark_rule(style="interval")
            .encode(x=axis.encoding, y=altair.Y("from:Q"), y2="to:Q")
        )
    for chosen, shape in (
        (resolved, "circle"),
        ([r for r in rows if "value" not in r], "triangle"),
    ):
        if chosen:
            layers.append(
                rows_chart([{**row, "value": row.get("value", row.get("from"))} for row in chosen])
                .mark_point(filled=True, size=54, opacity=1, style="measured", shape=shape)
                .encode(x=axis.encoding, y=y, tooltip=tooltip)
            )
    chart = altair.layer(*layers).properties(width=width, height=height)
    return dressed(chart, theme, series=1)


def _row(point: NoisePoint, axis: SamplesAxis) -> dict[str, Any]:
    row: dict[str, Any] = {
        "x": axis.place(point.samples),
        "samples": point.samples,
        "loss": rounded(point.loss),
        "measured_on": point.measured_on,
        "scale": "not resolved" if point.scale is None else f"{point.scale:,.3g}",
        "interval": f"{point.low:,.3g} to "
        + ("no bound" if point.high is None else f"{point.high:,.3g}"),
    }
    if point.scale is not None:
        row["value"] = rounded(point.scale)
    if point.low > 0 or point.high is None:
        row["from"] = rounded(max(point.low, _LEAST_SCALE))
    if point.high is not None:
        row["from"] = rounded(max(point.low, _LEAST_SCALE))
        row["to"] = rounded(point.high)
    return row


def _used(scale: float, y: altair.Y, *, values: list[float]) -> list[altair.Chart]:
    base = rows_chart([{"value": rounded(scale)}]).encode(y=y)
    told = f"{scale:,.0f}" if scale >= 10 else f"{scale:.2g}"
    # Where the points are further from the line, there is room for its name.
    at_start = not values or abs(math.log(values[0] / scale)) > abs(math.log(values[-1] / scale))
    place: dict[str, Any] = {"x": 0, "align": "left", "dx": 4}
    if not at_start:
        place = {"x": "width", "align": "right", "dx": -4}
    return [
        base.mark_rule(style="guide"),
        base.mark_text(style="guide-text", text=f"over the run: {told}", dy=-7, **place),
    ]
