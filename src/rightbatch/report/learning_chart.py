"""Learning curves: the loss or the metric of several runs as training goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair

from rightbatch.advice.comparison import Curve
from rightbatch.report.axes import SwitchedAxis, log_scale, log_ticks
from rightbatch.report.curve_rows import (
    by_label,
    ceiling_of,
    epoch_rows,
    kept,
    labels_of,
    metric_of,
    r2_floor,
)
from rightbatch.report.legend import IsolatingLegend
from rightbatch.report.theme import dressed, rows_chart
from rightbatch.report.wording import METRIC_NAMES

_MEASURES = {"training loss": "train_loss", "validation loss": "val_loss"}
# A range narrower than this reads better on a linear axis.
_LEAST_RATIO_OF_DECADES = 5.0
_TOOLTIPS_A_CURVE = 60

# As an axis' format, "~g" writes ticks of 10 and 20 as 1e+1 and 2e+1.
_LABEL = "format(datum.value, ',~g')"


def learning_curves(
    curves: Sequence[Curve],
    *,
    measure: str = "loss",
    with_seconds: bool = True,
    theme: str = "light",
    width: int | str = 640,
    height: int = 300,
) -> altair.LayerChart | None:
    """The loss, or the validation's metric (`measure="metric"`), as training goes on.

    A line a batch size, the mean of its seeds in their band from least to greatest; a cross where
    a run diverged. The reader switches the axis between epochs, steps, samples and seconds, and
    between the loss on the training and on the validation samples; a click on a legend entry
    isolates its curve. `with_seconds=False` leaves seconds out, which do not compare where runs
    shared a machine (`timings_comparable`). Losses of runs that explode are cut off at ten times
    the highest first one. None where no run measured it.

    >>> history = [{"epoch": k, "steps": 3 * k, "samples": 9 * k, "seconds": 0.1 * k,
    ...             "train_loss": 1 / k} for k in (1, 2, 3)]
    >>> curve = Curve(batch_size=3, is_full=False, learning_rate=0.1, seed=0, history=history,
    ...               step_losses=[])
    >>> learning_curves([curve]).to_dict()["width"]
    640
    >>> learning_curves([curve], measure="metric") is None
    True
    """
    metric = metric_of(curves)
    if measure == "metric":
        measures = {} if metric is None else {METRIC_NAMES[metric]: f"val_{metric}"}
    else:
        measures = _MEASURES
    rows = epoch_rows(curves, measures, with_seconds=with_seconds)
    parts = [name for name in measures if any(name in row for row in rows)]
    if not parts:
        return None
    labels = labels_of(curves)
    axis, legend = SwitchedAxis(rows), IsolatingLegend(labels, width=width)
    shown = _shown(rows, parts, curves, is_loss=measure == "loss")
    value = altair.Y(
        "y:Q", title=measure if measure == "loss" else f"validation {parts[0]}", **shown.channel
    )
    base = _drawn(rows_chart(rows), axis, shown)
    layers: list[altair.Chart] = []
    if any(len(seeds) > 1 for seeds in by_label(curves).values()):
        layers.append(
            base.mark_area(clip=True).encode(
                x=axis.encoding,
                y=altair.Y("low:Q"),
                y2="high:Q",
                color=legend.colour,
                opacity=legend.opacity(0.16, 0.02),
            )
        )
    layers.append(
        base.mark_line(clip=True, strokeWidth=2.25).encode(
            x=axis.encoding, y=value, color=legend.colour, opacity=legend.opacity()
        )
    )
    if len(labels) == 1 and len(parts) == 2:
        # A single run has room for both: the one that is not shown, dashed, to compare with.
        layers.append(
            base.transform_calculate(
                y=shown.lifted(f"datum[part == '{parts[0]}' ? '{parts[1]}' : '{parts[0]}']")
            )
            .mark_line(clip=True, strokeWidth=1.25, strokeDash=[5, 4], opacity=0.7)
            .encode(x=axis.encoding, y=value, color=legend.colour)
        )
    layers.append(_readings(rows, axis, legend, value, parts, shown))
    crosses = _ends_of_diverged(curves, rows)
    if crosses:
        layers.append(
            _drawn(rows_chart(crosses), axis, shown)
            .transform_calculate(y=f"clamp(datum.y, {shown.low!r}, {shown.high!r})")
            .mark_text(text="✕", style="diverged")
            .encode(
                x=axis.encoding,
                y=value,
                tooltip=[altair.Tooltip("label:N", title="run"), altair.Tooltip("why:N")],
            )
        )
    part = altair.param(
        name="part",
        value=parts[0],
        bind=altair.binding_radio(options=parts, name="Show")
        if len(parts) > 1
        else altair.Undefined,
    )
    chart = (
        altair.layer(*layers)
        .add_params(part, axis.parameter, legend.selection)
        .properties(
            width=width,
            height=height,
            usermeta={"entryPixels": legend.entry_pixels},
            title=axis.title,
        )
    )
    return dressed(chart, theme, series=len(labels))


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """The range of values that the chart shows, and the scale and the axis of it."""

    low: float
    high: float
    channel: dict[str, Any]

    def lifted(self, value: str) -> str:
        """The expression of a value that is not below the axis: a loss of 0 has no logarithm."""
        if self.channel["scale"].type != "log":
            return value
        return f"isValid({value}) ? max({value}, {self.low!r}) : null"


def _drawn(chart: altair.Chart, axis: SwitchedAxis, shown: _Shown) -> altair.Chart:
    return chart.transform_calculate(
        x=axis.calculation,
        y=shown.lifted("datum[part]"),
        low=shown.lifted("datum[part + '_low']"),
        high=shown.lifted("datum[part + '_high']"),
    ).transform_filter("isValid(datum.y)")


def _readings(
    rows: list[dict[str, Any]],
    axis: SwitchedAxis,
    legend: IsolatingLegend,
    value: altair.Y,
    parts: list[str],
    shown: _Shown,
) -> altair.Chart:
    """Points that show their numbers under the pointer, and nothing else."""
    chosen = []
    for label in legend.labels:
        own = [row for row in rows if row["label"] == label]
        chosen += [own[index] for index in kept(len(own), _TOOLTIPS_A_CURVE)]
    hovered = altair.selection_point(
        name="hovered", on="pointerover", empty=False, clear="pointerout"
    )
    points: altair.Chart = (
        _drawn(rows_chart(chosen), axis, shown)
        .mark_point(filled=True, size=70, clip=True)
        .encode(
            x=axis.encoding,
            y=value,
            color=legend.colour,
            opacity=altair.condition(hovered, altair.value(1), altair.value(0)),
            tooltip=[
                altair.Tooltip("label:N", title="run"),
                *(altair.Tooltip(f"{name}:Q", format=",~r") for name in axis.positions),
                *(altair.Tooltip(f"{name}:Q", format=".4~g") for name in parts),
            ],
        )
        .add_params(hovered)
    )
    return points


def _shown(
    rows: list[dict[str, Any]], parts: list[str], curves: Sequence[Curve], *, is_loss: bool
) -> _Shown:
    """Decades for a loss that falls far, else linear; without the heights of explosions."""
    fields = [f"{name}{end}" for name in parts for end in ("_low", "_high")]
    values = [row[field] for row in rows for field in fields if field in row]
    ceiling = ceiling_of(curves) if is_loss else math.inf
    floor = r2_floor(curves) if parts == [METRIC_NAMES["r2"]] else -math.inf
    inside = [value for value in values if floor <= value <= ceiling] or values
    low, high = min(inside), max(inside)
    above = [value for value in inside if value > 0]
    if is_loss and above and high / min(above) > _LEAST_RATIO_OF_DECADES:
        low = max(min(above), high * 1e-8)
        scale = log_scale([low, high], clamp=False)
        return _Shown(
            low=low,
            high=high,
            channel={
                "scale": scale,
                "axis": altair.Axis(values=log_ticks([low, high]), labelExpr=_LABEL),
            },
        )
    scale = altair.Scale(zero=False, nice=True)
    if len(inside) < len(values):
        margin = 0.04 * (high - low)
        scale = altair.Scale(zero=False, nice=False, domain=[low - margin, high + margin])
    return _Shown(
        low=low, high=high, channel={"scale": scale, "axis": altair.Axis(labelExpr=_LABEL)}
    )


def _ends_of_diverged(curves: Sequence[Curve], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ends = []
    for label, seeds in by_label(curves).items():
        why = next((curve.diverged for curve in seeds if curve.diverged), None)
        own = [row for row in rows if row["label"] == label]
        if why and own:
            ends.append({**own[-1], "why": why})
    return ends
