"""How many samples each batch size needs to the goal: as branches took, or as the noise says."""

from __future__ import annotations

import math
from typing import Any

import altair

from rightbatch.advice.advice import Advice
from rightbatch.advice.law import NEAR_BEST, Law
from rightbatch.advice.pilot_result import Pilot
from rightbatch.report.advice_axis import AdviceAxis, line, panel, vertical
from rightbatch.report.curve_rows import rounded
from rightbatch.report.theme import rows_chart

# A critical batch size that may be anything down to zero would take all the room.
_WIDEST = 64.0


def samples_chart(
    advice: Advice, *, theme: str = "light", width: int | str = 640
) -> altair.LayerChart | None:
    """The samples to the goal against the batch size, both in decades.

    With a pilot: a large point for each size at its best rate, with its 95 % interval, a small one
    for each branch that got there, and the law E_min (1 + B/B_crit). Without one: 1 + B/B_crit as
    the noise scale lets expect it, with the noise scale and its interval marked. None where
    neither is known.
    """
    if advice.pilot is not None and advice.pilot.sizes:
        return _of_pilot(advice, advice.pilot, theme=theme, width=width)
    if not has_samples(advice):
        return None
    return _expected(advice, theme=theme, width=width)


def is_carried(advice: Advice) -> bool:
    """Whether the pilot ended above the target, so that its law was carried on to it."""
    pilot = advice.pilot
    return pilot is not None and pilot.target_loss is not None and not pilot.reaches_target


def has_samples(advice: Advice) -> bool:
    """Whether anything tells how the samples to the goal grow with the batch size."""
    has_pilot = advice.pilot is not None and bool(advice.pilot.sizes)
    return has_pilot or advice.law is not None or advice.noise.scale is not None


def critical_text(value: float) -> str:
    """A batch size that was estimated, for people.

    >>> critical_text(204.4), critical_text(4.84)
    ('204', '4.8')
    """
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _of_pilot(advice: Advice, pilot: Pilot, *, theme: str, width: int | str) -> altair.LayerChart:
    axis = AdviceAxis(advice)
    rows: list[dict[str, Any]] = [
        {
            "batch_size": size.batch_size,
            "value": rounded(size.samples),
            "from": rounded(size.low),
            "to": rounded(size.high),
            "rate": f"{size.learning_rate:.3g}",
            "runs": size.runs,
        }
        for size in pilot.sizes
    ]
    branches: list[dict[str, Any]] = [
        {
            "batch_size": run.batch_size,
            "value": rounded(run.samples),
            "rate": f"{run.learning_rate:.3g}",
            "seed": run.seed,
        }
        for run in pilot.runs
        if run.samples is not None and run.samples > 0
    ]
    law = advice.law
    curve, marks = [], []
    if law is not None:
        curve = [
            {"batch_size": rounded(size), "value": rounded(law.samples(size))}
            for size in axis.grid()
        ]
        marks = _critical(law, axis)
    limits = allowed_samples(advice)
    values = [row[name] for row in rows for name in ("from", "to") if row[name] > 0]
    values += [row["value"] for row in (*curve, *branches)] + limits
    y = vertical(values, f"samples to a validation loss of {pilot.loss:.3g}")
    points = rows_chart(rows).encode(x=axis.encoding)
    shown = ",.4~s"
    layers = [
        *marks,
        *line(curve, axis, y),
        *allowed_line(advice, axis, y),
        *_branches(branches, axis, y),
        points.mark_rule(style="interval", clip=True).encode(y=altair.Y("from:Q"), y2="to:Q"),
        points.mark_point(filled=True, size=54, opacity=1, style="measured").encode(
            y=y,
            tooltip=[
                altair.Tooltip("batch_size:Q", title="batch size", format=",d"),
                altair.Tooltip("value:Q", title="samples", format=shown),
                altair.Tooltip("from:Q", title="95 % from", format=shown),
                altair.Tooltip("to:Q", title="to", format=shown),
                altair.Tooltip("rate:N", title="learning rate"),
                altair.Tooltip("runs:Q", title="branches"),
            ],
        ),
    ]
    return panel(axis, layers, theme=theme, width=width)


def _branches(rows: list[dict[str, Any]], axis: AdviceAxis, y: altair.Y) -> list[altair.Chart]:
    if not rows:
        return []
    return [
        rows_chart(rows)
        .mark_point(filled=True, size=14, opacity=0.35, style="measured")
        .encode(
            x=axis.encoding,
            y=y,
            tooltip=[
                altair.Tooltip("batch_size:Q", title="batch size", format=",d"),
                altair.Tooltip("value:Q", title="samples of one branch", format=",.4~s"),
                altair.Tooltip("rate:N", title="learning rate"),
                altair.Tooltip("seed:Q"),
            ],
        )
    ]


def _expected(advice: Advice, *, theme: str, width: int | str) -> altair.LayerChart:
    axis = AdviceAxis(advice)
    noise = advice.noise
    marks = []
    if noise.scale is not None:
        marks = [
            *axis.band(noise.low or noise.scale, noise.high or math.inf),
            *axis.guide(noise.scale, f"noise scale = {critical_text(noise.scale)}"),
        ]
    rows = relative_rows(advice, axis)
    limits = allowed_samples(advice)
    y = vertical(
        [*(row[name] for row in rows for name in ("low", "high")), *limits],
        "samples to the goal, times the fewest",
    )
    layers = [
        *marks,
        *line(rows, axis, y),
        *allowed_line(advice, axis, y),
    ]
    return panel(axis, layers, theme=theme, width=width)


def relative_rows(advice: Advice, axis: AdviceAxis) -> list[dict[str, float]]:
    """1 + B/B_crit with its interval, B_crit being that of the law or else the noise scale."""
    law, noise = advice.law, advice.noise
    if law is not None:
        middle, low, high = law.critical_batch_size, law.low, law.high
    else:
        assert noise.scale is not None  # one of the two is known, see `has_samples`
        middle, low, high = noise.scale, noise.low or noise.scale, noise.high or math.inf
    return [
        {
            "batch_size": rounded(size),
            "value": rounded(1 + size / middle),
            "low": rounded(1 + size / high),
            "high": rounded(1 + size / max(low, middle / _WIDEST)),
        }
        for size in axis.grid()
    ]


def allowed_samples(advice: Advice) -> list[float]:
    """The samples that a number of epochs allows a size to need; empty for other goals.

    All of them where the loss is the lowest that they lead to, else 10 % above the fewest.
    """
    if advice.goal.kind != "epochs" or not advice.costs:
        return []
    return [enough_samples(advice) or (1 + NEAR_BEST) * min(cost.samples for cost in advice.costs)]


def enough_samples(advice: Advice) -> float | None:
    """The samples of all epochs, where the pilot went to their end; None elsewhere."""
    return None if advice.pilot is None else advice.pilot.enough_samples


def allowed_line(advice: Advice, axis: AdviceAxis, y: altair.Y) -> list[altair.Chart]:
    """The dashed line of `allowed_samples`."""
    label = "10 % above the fewest" if enough_samples(advice) is None else "the epochs end"
    return [layer for value in allowed_samples(advice) for layer in axis.level(value, label, y)]


def _critical(law: Law, axis: AdviceAxis) -> list[altair.Chart]:
    if math.isinf(law.critical_batch_size):
        return []
    return [
        *axis.band(law.low, law.high),
        *axis.guide(law.critical_batch_size, f"B_crit = {critical_text(law.critical_batch_size)}"),
    ]
