"""Learning curves as rows of a chart: seeds together, thinned, a position for every step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.advice.comparison import Curve

MOST_EPOCH_ROWS = 400
MOST_STEP_ROWS = 1500
_RISE_OF_EXPLOSION = 1.05
_ROOM_ABOVE_FIRST = 10.0
# What lies below is all the same: far worse than predicting the mean.
_WORST_R2 = -1.0
POSITIONS = ("epochs", "steps", "samples", "seconds")


def labels_of(curves: Iterable[Curve]) -> list[str]:
    """The labels of the curves, the smallest batch first, each once.

    >>> labels_of([Curve(batch_size=size, is_full=False, learning_rate=0.1, seed=0, history=[],
    ...            step_losses=[]) for size in (32, 1, 32)])
    ['batch 1', 'batch 32']
    """
    ordered = sorted(curves, key=lambda curve: curve.batch_size)
    return list(dict.fromkeys(curve.label for curve in ordered))


def by_label(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """The curves of each label: one for every seed."""
    return {
        label: [curve for curve in curves if curve.label == label] for label in labels_of(curves)
    }


def metric_of(curves: Iterable[Curve]) -> str | None:
    """`accuracy` or `r2`, whichever the validation measured; None where there was none."""
    for curve in curves:
        for metric in ("accuracy", "r2"):
            if any(_number(row.get(f"val_{metric}")) is not None for row in curve.history):
                return metric
    return None


def finite_values(curve: Curve, name: str) -> list[float]:
    """A measure of the history, epochs that lack it left out."""
    found = [_number(row.get(name)) for row in curve.history]
    return [value for value in found if value is not None]


def explodes(curve: Curve) -> bool:
    """Whether a run diverged, or its training loss ends above where it began.

    >>> explodes(Curve(batch_size=1, is_full=False, learning_rate=1.0, seed=0, step_losses=[],
    ...                history=[{"train_loss": 1.0}, {"train_loss": 9.0}]))
    True
    """
    losses = finite_values(curve, "train_loss")
    if curve.diverged is not None or len(losses) < len(curve.history):
        return True
    return len(losses) > 1 and losses[-1] > _RISE_OF_EXPLOSION * losses[0]


def ceiling_of(curves: Sequence[Curve]) -> float:
    """The highest loss that a chart should make room for: ten times the highest first one.

    Infinite where no run explodes. The first loss is that at the initial weights where it is
    known: the first epoch of a run that explodes is far above it.
    """
    if not any(explodes(curve) for curve in curves):
        return math.inf
    sane = [curve for curve in curves if not explodes(curve)]
    firsts = [
        loss
        for curve in curves
        for step, loss in curve.checked_losses[:1]
        if step == 0 and loss > 0
    ]
    firsts += [values[0] for curve in sane if (values := finite_values(curve, "train_loss"))]
    firsts += [values[0] for curve in sane if (values := finite_values(curve, "val_loss"))]
    if not firsts:
        firsts = [min(values) for curve in curves if (values := finite_values(curve, "train_loss"))]
    return _ROOM_ABOVE_FIRST * max(firsts) if firsts and max(firsts) > 0 else math.inf


def r2_floor(curves: Sequence[Curve]) -> float:
    """The lowest R² that a chart should make room for: -1, or ten times the best if that is lower.

    Minus infinite where nothing lies below.
    """
    values = [value for curve in curves for value in finite_values(curve, "val_r2")]
    if not values:
        return -math.inf
    floor = _WORST_R2 if max(values) > _WORST_R2 else _ROOM_ABOVE_FIRST * max(values)
    return floor if min(values) < floor else -math.inf


def epoch_rows(
    curves: Sequence[Curve], measures: dict[str, str], *, with_seconds: bool = True
) -> list[dict[str, Any]]:
    """A row for every label and epoch: the mean over its seeds, and their least and greatest.

    `measures` maps a name in the rows to a name in the histories. Where a measure is m, the rows
    hold m, m_low and m_high; epochs that only some seeds reached are the mean of those.
    """
    rows = []
    for label, seeds in by_label(curves).items():
        longest = max((curve.history for curve in seeds), key=len)
        for index in kept(len(longest), MOST_EPOCH_ROWS):
            at = [curve.history[index] for curve in seeds if index < len(curve.history)]
            row: dict[str, Any] = {"label": label, "epochs": at[0]["epoch"]}
            for position in POSITIONS[1:] if with_seconds else POSITIONS[1:-1]:
                row[position] = rounded(float(np.mean([one[position] for one in at])))
            for name, stored in measures.items():
                found = [value for one in at if (value := _number(one.get(stored))) is not None]
                if found:
                    row[name] = rounded(float(np.mean(found)))
                    row[f"{name}_low"] = rounded(min(found))
                    row[f"{name}_high"] = rounded(max(found))
            rows.append(row)
    return rows


def step_rows(
    curve: Curve, most: int = MOST_STEP_ROWS, *, with_seconds: bool = True
) -> list[dict[str, Any]]:
    """The loss of a curve's steps with their epochs, samples and seconds, thinned to `most`.

    Of each stretch of steps the least and the greatest loss stay, so that noise keeps its height.
    Stretches are short at the beginning, where an axis of decades spreads them.
    """
    pairs = [(step, loss) for step, loss in curve.step_losses if math.isfinite(loss)]
    if not pairs or not curve.history:
        return []
    steps = np.array([step for step, _ in pairs], np.float64)
    losses = np.array([loss for _, loss in pairs])
    chosen = _envelope(losses, most)
    known = [0.0, *(float(row["steps"]) for row in curve.history)]
    measured = {
        "epochs": _epochs_of(curve, known),
        "samples": [0.0, *(float(row["samples"]) for row in curve.history)],
    }
    if with_seconds:
        measured["seconds"] = [0.0, *(float(row["seconds"]) for row in curve.history)]
    positions = {name: np.interp(steps[chosen], known, at) for name, at in measured.items()}
    return [
        {
            "label": curve.label,
            "steps": int(steps[index]),
            "loss": rounded(float(losses[index])),
            **{name: rounded(float(at[place])) for name, at in positions.items()},
        }
        for place, index in enumerate(chosen)
    ]


def kept(count: int, most: int) -> list[int]:
    """At most `most` places out of `count`, the first and the last among them, early ones dense.

    >>> kept(3, 5), kept(1000, 6)
    ([0, 1, 2], [0, 9, 99, 499, 999])
    """
    if count <= most:
        return list(range(count))
    even = np.linspace(1, count, most - most // 2)
    early = np.geomspace(1, count, most // 2 + 1)
    return [int(place) - 1 for place in np.unique(np.concatenate([even, early]).astype(int))][:most]


def rounded(value: float) -> float:
    """Five significant digits: more than any screen shows, and half the bytes.

    >>> rounded(0.123456789)
    0.12346
    """
    return float(f"{value:.5g}")


def _epochs_of(curve: Curve, known: Sequence[float]) -> list[float]:
    # An epoch that was cut short by `steps=` ends before its number.
    epochs = [0.0, *(float(row["epoch"]) for row in curve.history)]
    if len(known) > 2 and (last := known[-1] - known[-2]) < (usual := known[1]):
        epochs[-1] = epochs[-2] + last / usual
    return epochs


def _envelope(losses: NDArray[np.float64], most: int) -> list[int]:
    count = len(losses)
    if count <= most:
        return list(range(count))
    even = np.linspace(0, count, most // 4)
    early = np.geomspace(1, count, most // 4)
    edges = np.unique(np.concatenate([[0.0], even, early]).astype(int))
    chosen = {0, count - 1}
    for start, stop in pairwise(edges.tolist()):
        stretch = losses[start:stop]
        chosen |= {int(start + stretch.argmin()), int(start + stretch.argmax())}
    return sorted(chosen)


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
