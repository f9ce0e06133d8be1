"""How runs stand against each other on the validation samples, and whether that is decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rightbatch.advice.comparison import Curve
from rightbatch.report.curve_rows import by_label, explodes, finite_values, metric_of

# Differences below twice the swing of single epochs and seeds are called undecided.
_SWINGS = 2.0
# A single sample decides nothing: more than one and a half must lie between two accuracies.
_LEAST_SAMPLES_APART = 1.5
_FEWEST_EPOCHS_OF_SWING = 5


@dataclass(frozen=True, kw_only=True)
class Place:
    """One label's validation: the mean at the end, and in its best epoch."""

    label: str
    seeds: int
    final: float
    best: float
    swing: float


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Labels by how they validate at the end of their runs, the best first.

    `measure` is "loss", "accuracy" or "r2". The end is the mean over the last `tail` epochs.
    `leaders` are the first and all that can not be told from it; `margin` is the difference that
    would tell them apart. `left_out` are labels whose every run diverged or explodes.
    """

    measure: str
    tail: int
    places: list[Place]
    leaders: list[Place]
    margin: float
    left_out: list[str]

    @property
    def is_decided(self) -> bool:
        """Whether one label is ahead of all others."""
        return len(self.leaders) == 1 and len(self.places) > 1


def standing(curves: Sequence[Curve], validation_samples: int | None = None) -> Standing | None:
    """How the labels stand by the metric, or by the loss where there is none; None without either.

    Runs that diverged or explode have no standing. Two labels are told apart where they lie
    further from each other than twice the swing of their own epochs and seeds, and, by accuracy,
    by more than one validation sample. All curves must be of one data set, split and loss.

    >>> history = [{"epoch": k, "train_loss": 1 / k, "val_loss": 2 / k} for k in range(1, 9)]
    >>> curve = Curve(batch_size=3, is_full=False, learning_rate=0.1, seed=0, history=history,
    ...               step_losses=[])
    >>> standing([curve]).places[0].final
    0.25
    """
    metric = metric_of(curves)
    name = f"val_{metric or 'loss'}"
    sign = -1.0 if metric else 1.0
    sane = [curve for curve in curves if not explodes(curve)]
    series = {
        label: [values for curve in seeds if (values := finite_values(curve, name))]
        for label, seeds in by_label(sane).items()
    }
    series = {label: seeds for label, seeds in series.items() if seeds}
    if not series:
        return None
    tail = max(1, min(len(values) for seeds in series.values() for values in seeds) // 10)
    places = sorted(
        (_place(label, seeds, tail, sign) for label, seeds in series.items()),
        key=lambda place: sign * place.final,
    )
    first = places[0]
    least = 0.0
    if metric == "accuracy" and validation_samples:
        least = _LEAST_SAMPLES_APART / validation_samples
    margins = {place.label: max(_SWINGS * max(first.swing, place.swing), least) for place in places}
    # As they are written: by the batch size.
    leaders = [
        place
        for place in sorted(places, key=lambda place: list(series).index(place.label))
        if abs(place.final - first.final) < margins[place.label] or place.final == first.final
    ]
    return Standing(
        measure=metric or "loss",
        tail=tail,
        places=places,
        leaders=leaders,
        margin=max(margins[place.label] for place in leaders),
        left_out=[label for label in by_label(curves) if label not in by_label(sane)],
    )


def _place(label: str, seeds: Sequence[Sequence[float]], tail: int, sign: float) -> Place:
    ends = [float(np.mean(values[-tail:])) for values in seeds]
    # Differences from one epoch to the next: a steady fall is no noise.
    swings = [
        float(np.std(np.diff(values[-max(3, len(values) // 5) :])) / math.sqrt(2))
        for values in seeds
        if len(values) >= _FEWEST_EPOCHS_OF_SWING
    ]
    if len(ends) > 1:
        swings.append(float(np.std(ends, ddof=1)))
    return Place(
        label=label,
        seeds=len(seeds),
        final=float(np.mean(ends)),
        best=float(np.mean([sign * min(sign * value for value in values) for values in seeds])),
        swing=max(swings, default=0.0),
    )
