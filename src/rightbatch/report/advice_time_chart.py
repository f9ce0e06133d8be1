"""The time that each batch size is expected to take to the goal."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import altair

from rightbatch.advice.advice import Advice, CostPoint
from rightbatch.advice.law import NEAR_BEST
from rightbatch.advice.timing import time_text
from rightbatch.report.advice_axis import PLAIN, AdviceAxis, line, panel, vertical
from rightbatch.report.curve_rows import rounded
from rightbatch.report.theme import rows_chart

# A time above a thousand seconds is no number of kiloseconds.
_SECONDS = "datum.value >= 1 ? format(datum.value, ',~g') + 's' : format(datum.value, '~s') + 's'"


def goal_time_chart(
    advice: Advice, *, theme: str = "light", width: int | str = 640
) -> altair.LayerChart | None:
    """The predicted time to the goal against the batch size, both in decades.

    The band is its 95 % interval; points are filled where the size ran and hollow elsewhere; the
    dashed line is 10 % above the best, or with epochs to go above the advised size. In the quick
    grade times are relative to the best. None where no time was predicted.
    """
    if not advice.costs:
        return None
    axis = AdviceAxis(advice)
    is_relative = are_times_relative(advice)
    rows = _rows(advice)
    limit, name = near_limit(advice)
    ends = [row[name] for row in rows for name in ("low", "high") if name in row]
    y = vertical(
        [*ends, *(row["value"] for row in rows), limit],
        "time to the goal, times that of the best size" if is_relative else "time to the goal",
        label=PLAIN if is_relative else _SECONDS,
    )
    tooltip = [
        altair.Tooltip("batch_size:Q", title="batch size", format=",d"),
        altair.Tooltip("time:N", title="time to the goal"),
        altair.Tooltip("range:N", title="95 % interval"),
        altair.Tooltip("samples:N", title="samples to the goal"),
        altair.Tooltip("ran:N", title="steps of this size ran"),
    ]
    layers = [
        *line(rows, axis, y),
        *axis.level(limit, name, y),
        *(
            rows_chart(chosen)
            .mark_point(filled=has_run, size=42, opacity=1, style="measured")
            .encode(x=axis.encoding, y=y, tooltip=tooltip)
            for has_run in (False, True)
            if (chosen := [row for row in rows if row["ran"] == ("yes" if has_run else "no")])
        ),
    ]
    return panel(axis, layers, theme=theme, width=width)


def are_times_relative(advice: Advice) -> bool:
    """Whether only the ratio of two times is known: to a loss that nothing was trained to."""
    return advice.grade == "quick" and advice.goal.kind == "target_loss"


def costs_of(advice: Advice) -> list[CostPoint]:
    """The costs in rising order; relative times in terms of the least."""
    costs = sorted(advice.costs, key=lambda cost: cost.batch_size)
    if not costs or not are_times_relative(advice):
        return costs
    least = min(cost.seconds for cost in costs)
    return [
        replace(cost, seconds=cost.seconds / least, low=cost.low / least, high=cost.high / least)
        for cost in costs
    ]


def near_limit(advice: Advice) -> tuple[float, str]:
    """The time up to which a size counts as good, and its name.

    With epochs to go the fastest size of all may learn too little from them: it is the advised
    one that others are held against.
    """
    costs = costs_of(advice)
    if advice.goal.kind == "epochs":
        own = [cost.seconds for cost in costs if cost.batch_size == advice.batch_size]
        if own:
            return (1 + NEAR_BEST) * own[0], "10 % above the advised"
    best = min(cost.seconds for cost in costs)
    return (1 + NEAR_BEST) * best, "10 % above the best"


def has_time_band(advice: Advice) -> bool:
    """Whether the times have intervals that a chart can show."""
    costs = advice.costs
    return all(math.isfinite(cost.high) for cost in costs) and any(
        cost.high > 1.001 * cost.low for cost in costs
    )


def cost_text(value: float, *, is_relative: bool) -> str:
    """A time to the goal for people: seconds, or so many times that of the best size.

    >>> cost_text(1.0812, is_relative=True), cost_text(75.2, is_relative=False)
    ('1.08 ×', '75.2 s')
    """
    if not is_relative:
        return time_text(value)
    return f"{value:,.0f} ×" if value >= 100 else f"{value:.3g} ×"


def _rows(advice: Advice) -> list[dict[str, Any]]:
    rows = []
    is_relative = are_times_relative(advice)
    has_band = has_time_band(advice)
    for point in costs_of(advice):
        low, value, high = (
            cost_text(seconds, is_relative=is_relative)
            for seconds in (point.low, point.seconds, point.high)
        )
        is_counted = advice.grade != "quick"
        samples = f"{point.samples:,.0f}" if is_counted else f"{point.samples:.3g} ×"
        row = {
            "batch_size": point.batch_size,
            "value": rounded(point.seconds),
            "time": value,
            "range": f"{low} to {high}",
            "samples": samples,
            "ran": "yes" if point.has_run else "no",
        }
        if has_band:
            row |= {"low": rounded(point.low), "high": rounded(point.high)}
        rows.append(row)
    return rows
