"""Steps, samples and seconds to one loss, against the batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair
import numpy as np

from rightbatch.advice.target import ToTarget
from rightbatch.report.axes import log_scale
from rightbatch.report.curve_rows import rounded
from rightbatch.report.theme import dressed, rows_chart

_COSTS = ("steps", "samples", "seconds")
# The scale's range changes with the cost, so the round numbers are chosen in the chart.
_IS_ROUND = "indexof('125', slice(format(datum.value, 'e'), 0, 1)) >= 0"


def to_target(
    reached: ToTarget,
    *,
    with_seconds: bool = True,
    theme: str = "light",
    width: int | str = 640,
    height: int = 280,
) -> altair.LayerChart | None:
    """What each batch size needed until the training loss came down to the target, in decades.

    A point a run, a line through the means of the seeds; the reader switches between steps,
    samples and seconds. The dashed line is perfect scaling from the smallest batch on: twice the
    batch, half the steps, which costs the same samples (Shallue et al. 2019, arXiv 1811.03600).
    `with_seconds=False` leaves seconds out. None where fewer than two batch sizes got there.

    >>> from rightbatch.advice.target import TargetPoint
    >>> points = [TargetPoint(batch_size=size, label=f"batch {size}", seed=0, steps=640 / size,
    ...                       samples=640.0, seconds=1.0) for size in (1, 32)]
    >>> to_target(ToTarget(target=0.1, measure="train_loss", points=points)).to_dict()["height"]
    280
    >>> to_target(ToTarget(target=0.1, measure="train_loss", points=points[:1])) is None
    True
    """
    sizes = sorted({point.batch_size for point in reached.points})
    if len(sizes) < 2:
        return None
    costs = _COSTS if with_seconds else _COSTS[:-1]
    rows = [
        {
            "label": point.label,
            "batch_size": point.batch_size,
            "seed": point.seed,
            # A run that began below the target needed no step, and a logarithm no zero.
            **{cost: rounded(max(getattr(point, cost), 1e-3)) for cost in costs},
        }
        for point in sorted(reached.points, key=lambda point: point.batch_size)
    ]
    means = [
        {
            "batch_size": size,
            **{
                cost: rounded(float(np.mean([r[cost] for r in rows if r["batch_size"] == size])))
                for cost in costs
            },
        }
        for size in sizes
    ]
    perfect = _perfect(means, rows)
    labels = list(dict.fromkeys(str(row["label"]) for row in rows))
    x = altair.X(
        "batch_size:Q",
        title="batch size",
        scale=log_scale([float(size) for size in sizes], padding=1.25),
        axis=altair.Axis(values=sizes, format=",d", titleAnchor="end"),
    )
    y = altair.Y(
        "y:Q",
        title=None,
        scale=altair.Scale(type="log", nice=True),
        # The 1s of every decade, and 2s and 5s where there is room for them.
        axis=altair.Axis(
            labelExpr=f"{_IS_ROUND} ? (datum.value >= 1e4 ? format(datum.value, '~s') : "
            "format(datum.value, ',~g')) : ''",
            gridOpacity=altair.condition(_IS_ROUND, altair.value(1), altair.value(0)),
            labelOverlap="greedy",
        ),
    )
    cost = altair.param(
        name="cost",
        value=_COSTS[0],
        bind=altair.binding_radio(options=list(costs), name="Cost in"),
    )
    colour = altair.Color("label:N", scale=altair.Scale(domain=labels), legend=None)
    chart = (
        altair.layer(
            _drawn(perfect).mark_line(style="guide", strokeWidth=1).encode(x=x, y=y),
            _drawn(means).mark_line(style="fitted", strokeWidth=1.5).encode(x=x, y=y),
            _drawn(rows)
            .mark_point(filled=True, size=80, opacity=1)
            .encode(
                x=x,
                y=y,
                color=colour,
                tooltip=[
                    altair.Tooltip("label:N", title="run"),
                    altair.Tooltip("seed:N"),
                    *(altair.Tooltip(f"{name}:Q", format=",.4~g") for name in costs),
                ],
            ),
        )
        .add_params(cost)
        .properties(width=width, height=height)
    )
    return dressed(chart, theme, series=len(labels))


def _perfect(
    means: list[dict[str, float]], rows: list[dict[str, Any]]
) -> list[dict[str, float | None]]:
    """Perfect scaling from the smallest batch on, not far below what was measured."""
    first, last = means[0]["batch_size"], means[-1]["batch_size"]
    # The line ends a little below the data: all the way down, it would stretch the axis.
    lowest = min(row["steps"] for row in rows) / 3
    reached = min(last, first * means[0]["steps"] / lowest)
    ends = sorted({first, max(first, reached), last})
    return [
        {
            "batch_size": rounded(size),
            "steps": rounded(means[0]["steps"] * first / size) if size <= reached else None,
            "samples": means[0]["samples"],
        }
        for size in ends
    ]


def _drawn(rows: Sequence[Mapping[str, Any]]) -> altair.Chart:
    return (
        rows_chart(rows).transform_calculate(y="datum[cost]").transform_filter("isValid(datum.y)")
    )
