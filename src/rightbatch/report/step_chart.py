"""The loss of every step: smooth with the full batch, noisy with one sample at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair
import numpy as np
from numpy.typing import NDArray

from rightbatch.advice.comparison import Curve
from rightbatch.report.axes import SwitchedAxis, log_scale, log_ticks
from rightbatch.report.curve_rows import (
    by_label,
    ceiling_of,
    finite_values,
    labels_of,
    step_rows,
)
from rightbatch.report.legend import IsolatingLegend
from rightbatch.report.theme import dressed, rows_chart

# A range narrower than this reads better on a linear axis.
_LEAST_RATIO = 5.0


def step_losses(
    curves: Sequence[Curve],
    *,
    with_seconds: bool = True,
    theme: str = "light",
    width: int | str = 640,
    height: int = 300,
) -> altair.LayerChart | None:
    """The loss of each step's own batch, before its update; of each label the first seed.

    Thinned to 1,500 points a curve, which keep the least and the greatest of every stretch. Small
    batches are drawn first and thin, so that the larger ones stay visible. `with_seconds=False`
    leaves seconds out. None without steps.

    >>> curve = Curve(batch_size=3, is_full=False, learning_rate=0.1, seed=0, history=[
    ...     {"epoch": 1, "steps": 2, "samples": 6, "seconds": 0.1, "train_loss": 0.6}],
    ...     step_losses=[(1, 0.7), (2, 0.5)])
    >>> len(step_losses([curve]).to_dict()["layer"])
    1
    """
    first = [seeds[0] for seeds in by_label(curves).values()]
    rows = [row for curve in first for row in step_rows(curve, with_seconds=with_seconds)]
    if not rows:
        return None
    labels = labels_of(curves)
    axis, legend = SwitchedAxis(rows), IsolatingLegend(labels, width=width)
    ceiling = ceiling_of(curves)
    losses = np.array([row["loss"] for row in rows])
    losses = losses[losses <= ceiling] if (losses <= ceiling).any() else losses
    vertical = _vertical(first, losses, is_cut=len(losses) < len(rows))
    # A loss of 0 has no logarithm: it is drawn at the foot of the axis.
    is_log = vertical["scale"].type == "log"
    lifted = f"max(datum.loss, {vertical['scale'].domain[0]!r})" if is_log else "datum.loss"
    several = len(labels) > 1
    widths = np.linspace(0.6, 2.0, len(labels)).tolist() if several else [1.0]
    strengths = np.linspace(0.4, 1.0, len(labels)).tolist() if several else [0.9]
    lines = [
        rows_chart([row for row in rows if row["label"] == label])
        .transform_calculate(x=axis.calculation, y=lifted)
        .mark_line(clip=True, strokeCap="butt", strokeJoin="bevel", strokeWidth=line_width)
        .encode(
            x=axis.encoding,
            y=altair.Y("y:Q", title="loss of the step's batch", **vertical),
            color=legend.colour,
            opacity=legend.opacity(strength, 0.03),
        )
        for label, line_width, strength in zip(labels, widths, strengths, strict=True)
        if any(row["label"] == label for row in rows)
    ]
    chart = (
        altair.layer(*lines)
        .add_params(axis.parameter, legend.selection)
        .properties(
            width=width,
            height=height,
            usermeta={"entryPixels": legend.entry_pixels},
            title=axis.title,
        )
    )
    return dressed(chart, theme, series=len(labels))


def _vertical(
    curves: Sequence[Curve], losses: NDArray[np.float64], *, is_cut: bool
) -> dict[str, Any]:
    above = losses[losses > 0]
    if not len(above) or np.quantile(above, 0.98) / np.quantile(above, 0.02) < _LEAST_RATIO:
        scale = altair.Scale(zero=False)
        if is_cut:
            scale = altair.Scale(zero=False, domain=[float(losses.min()), float(losses.max())])
        return {"scale": scale, "axis": altair.Axis(format="~g")}
    # A single sample is learned to a loss of 1e-9, which would take the room of all other curves:
    # the axis ends a little below the lowest mean of an epoch.
    means = [mean for curve in curves for mean in finite_values(curve, "train_loss") if mean > 0]
    floor = max(float(above.min()), min(means, default=0.0) / 4, float(above.max()) * 1e-6)
    shown = [min(floor, float(above.max()) / _LEAST_RATIO), float(above.max())]
    return {
        "scale": log_scale(shown, clamp=False),
        "axis": altair.Axis(values=log_ticks(shown), format="~g"),
    }
