"""How many steps, samples and seconds each run took to a loss that all of them reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rightbatch.advice.comparison import Curve


@dataclass(frozen=True, kw_only=True)
class TargetPoint:
    """When one run first came down to the target."""

    batch_size: int
    label: str
    seed: int
    steps: float
    samples: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ToTarget:
    """The steps of several runs to one loss; runs that never came down to it are left out.

    `measure` is what the target is of: "train_loss".
    """

    target: float
    measure: str
    points: list[TargetPoint]


def to_target(curves: Sequence[Curve], target: float | None = None) -> ToTarget | None:
    """The first step at which each run's training loss was `target` or lower.

    Without `target` it is the lowest loss that every run came down to (runs that diverged apart).
    Losses are those at the weights after a step (`Curve.checked_losses`), read between two checks
    on a straight line. None where no run has a check.

    >>> curve = Curve(batch_size=10, is_full=False, learning_rate=0.1, seed=0, history=[
    ...     {"epoch": 1, "steps": 4, "samples": 40, "seconds": 0.5, "train_loss": 1.0}],
    ...     step_losses=[], checked_losses=[(0, 2.0), (2, 1.0), (4, 0.5)])
    >>> to_target([curve], 1.5).points[0].steps
    1.0
    """
    checked = [curve for curve in curves if curve.checked_losses and curve.diverged is None]
    if not checked:
        return None
    if target is None:
        target = max(min(loss for _, loss in curve.checked_losses) for curve in checked)
    points = []
    for curve in checked:
        steps = _first_crossing(curve.checked_losses, target)
        if steps is None or not curve.history:
            continue
        known = [0, *(row["steps"] for row in curve.history)]
        points.append(
            TargetPoint(
                batch_size=curve.batch_size,
                label=curve.label,
                seed=curve.seed,
                steps=steps,
                samples=_at(steps, known, [0, *(row["samples"] for row in curve.history)]),
                seconds=_at(steps, known, [0.0, *(row["seconds"] for row in curve.history)]),
            )
        )
    return ToTarget(target=target, measure="train_loss", points=points)


def _first_crossing(checked: Sequence[tuple[int, float]], target: float) -> float | None:
    before: tuple[int, float] | None = None
    for step, loss in checked:
        if loss <= target:
            if before is None:
                return float(step)
            share = (before[1] - target) / (before[1] - loss)
            return before[0] + share * (step - before[0])
        before = (step, loss)
    return None


def _at(step: float, steps: Sequence[float], values: Sequence[float]) -> float:
    return float(np.interp(step, steps, values))
