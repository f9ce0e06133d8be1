"""Losses looked at in the course of training, and when they first came down to one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rightbatch.errors import OptionError

# A single look may dip below the target by chance, at a rate so high that the loss jumps about: the
# looks of the last eighth of the samples are averaged, three of them at least.
_SMOOTHED, _LEAST_LOOKS = 0.88, 3


@dataclass(frozen=True, kw_only=True)
class LossPoint:
    """The validation loss after so many samples and seconds of training (evaluation apart)."""

    samples: int
    seconds: float
    loss: float


def smoothed_at(points: Sequence[LossPoint], position: int) -> float:
    """The mean loss of a point and those before it in the last eighth of its samples, or of three.

    >>> points = [LossPoint(samples=n, seconds=0.0, loss=l) for n, l in
    ...           ((0, 2.3), (100, 1.0), (104, 0.5), (200, 0.4), (208, 0.3))]
    >>> round(smoothed_at(points, 4), 3), smoothed_at(points, 1)
    (0.4, 1.65)
    """
    last = points[position]
    total, count = last.loss, 1
    for point in reversed(points[:position]):
        if count >= _LEAST_LOOKS and point.samples < _SMOOTHED * last.samples:
            break
        total, count = total + point.loss, count + 1
    return total / count


def samples_to(points: Sequence[LossPoint], loss: float) -> float | None:
    """The samples after which a curve first came down to `loss`; None where it never did.

    The curve is smoothed, see `smoothed_at`; between two looks it is read on a straight line over
    the logarithm of the samples.

    >>> points = [LossPoint(samples=n, seconds=0.0, loss=l) for n, l in
    ...           ((0, 2.5), (100, 1.0), (200, 1.0), (400, 0.5), (800, 0.25))]
    >>> round(samples_to(points, 1.0)), samples_to(points, 0.5)
    (336, None)
    """
    if not math.isfinite(loss):
        raise OptionError(f"loss={loss} is not finite")
    before = points[0].loss
    if before <= loss:
        return 0.0
    for position in range(1, len(points)):
        after = smoothed_at(points, position)
        if after <= loss:
            share = (before - loss) / (before - after)
            start, end = points[position - 1].samples, points[position].samples
            if start == 0:
                return end * share
            return float(start * (end / start) ** share)
        before = after
    return None
