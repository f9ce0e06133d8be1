"""The validation losses of the pilot's branches as they trained."""

from __future__ import annotations

import math
from typing import Any

import altair

from rightbatch.advice.pilot_result import Pilot, PilotRun
from rightbatch.report.axes import log_scale, readable_ticks
from rightbatch.report.curve_rows import kept, rounded
from rightbatch.report.legend import IsolatingLegend
from rightbatch.report.samples_axis import SamplesAxis
from rightbatch.report.theme import dressed, rows_chart

_POINTS_A_BRANCH = 60
# A branch that ran away would take the room of all others.
_ROOM_ABOVE_FIRST = 1.3
_FAINT, _STRONG = 0.4, 1.0


def branch_curves(
    pilot: Pilot, *, theme: str = "light", width: int | str = 640, height: int = 300
) -> altair.LayerChart | None:
    """Validation loss against the samples seen, both in decades: a line a branch.

    Colours tell the batch size; branches at the best rate of their size are strong, those of the
    search for it faint, and a cross ends one that diverged. The dashed line is the loss at which
    sizes are compared. None where no branch was looked at twice.
    """
    runs = [run for run in pilot.runs if len(run.points) > 1]
    if not runs:
        return None
    labels = [f"batch {size:,}" for size in sorted({run.batch_size for run in runs})]
    axis = SamplesAxis([point.samples for run in runs for point in run.points])
    legend = IsolatingLegend(labels, width=width)
    ceiling = _ROOM_ABOVE_FIRST * max(run.points[0].loss for run in runs)
    best = {size.batch_size: size.learning_rate for size in pilot.sizes}
    search: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    for number, run in enumerate(runs):
        rows = _rows(run, number, axis)
        (chosen if best.get(run.batch_size) == run.learning_rate else search).extend(rows)
        ends.append(rows[-1])
    losses = [row["loss"] for row in (*search, *chosen) if 0 < row["loss"] <= ceiling] + [
        pilot.loss
    ]
    losses = [loss for loss in losses if loss > 0] or [1.0]
    low, high = min(losses) / 1.08, max(losses) * 1.08
    y = altair.Y(
        "loss:Q",
        title="validation loss",
        scale=log_scale([low, high], padding=1),
        axis=altair.Axis(values=readable_ticks(low, high), labelExpr="format(datum.value, ',~g')"),
    )
    detail = altair.Detail("branch:N")
    layers = [
        rows_chart(rows)
        .mark_line(clip=True, strokeWidth=thick)
        .encode(
            x=axis.encoding,
            y=y,
            color=legend.colour,
            detail=detail,
            opacity=legend.opacity(strength, 0.03),
        )
        for rows, thick, strength in ((search, 1, _FAINT), (chosen, 2, _STRONG))
        if rows
    ]
    layers += _compared(pilot, y)
    tooltip = [
        altair.Tooltip("label:N", title="branch"),
        altair.Tooltip("rate:N", title="learning rate"),
        altair.Tooltip("seed:Q"),
        altair.Tooltip("ended:N", title="ended"),
        altair.Tooltip("samples:Q", title="samples seen", format=",d"),
        altair.Tooltip("loss:Q", format=".4~g"),
    ]
    for rows, is_cross in (
        ([row for row in ends if row["ended"] != "diverged"], False),
        ([row for row in ends if row["ended"] == "diverged"], True),
    ):
        if not rows:
            continue
        base = rows_chart(rows).encode(x=axis.encoding, y=y, tooltip=tooltip)
        layers.append(
            base.mark_text(text="✕", style="diverged").encode(opacity=legend.opacity(1.0, 0.03))
            if is_cross
            else base.mark_point(filled=True, size=36, clip=True).encode(
                color=legend.colour, opacity=legend.opacity(1.0, 0.03)
            )
        )
    chart = (
        altair.layer(*layers)
        .add_params(legend.selection)
        .properties(width=width, height=height, usermeta={"entryPixels": legend.entry_pixels})
    )
    return dressed(chart, theme, series=len(labels))


def _rows(run: PilotRun, number: int, axis: SamplesAxis) -> list[dict[str, Any]]:
    finite = [point for point in run.points if math.isfinite(point.loss)]
    return [
        {
            "x": axis.place(point.samples),
            "samples": point.samples,
            "loss": rounded(point.loss),
            "label": f"batch {run.batch_size:,}",
            "branch": number,
            "rate": f"{run.learning_rate:.3g}",
            "seed": run.seed,
            "ended": run.ended,
        }
        for point in (finite[place] for place in kept(len(finite), _POINTS_A_BRANCH))
    ]


def _compared(pilot: Pilot, y: altair.Y) -> list[altair.Chart]:
    loss = pilot.loss
    if loss <= 0:
        return []
    name = "target" if pilot.reaches_target else "compared at"
    base = rows_chart([{"loss": rounded(loss)}]).encode(y=y)
    return [
        base.mark_rule(style="guide"),
        base.mark_text(
            style="guide-text",
            text=f"{name}: {loss:.3g}",
            x=0,
            align="left",
            dx=4,
            dy=-7,
        ),
    ]
