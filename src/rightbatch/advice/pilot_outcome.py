"""What the search of a pilot found: its runs, the best rates, and which run got further."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rightbatch.advice.loss_points import smoothed_at
from rightbatch.advice.pilot_result import PilotRun
from rightbatch.advice.samples_posterior import Observation


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the search found: the loss that sizes are compared at, the best rates, all runs.

    `enough_samples` is the whole number of samples that a goal of epochs allows, where the loss is
    the one that it comes down to: a size that needs fewer ends as low as any. None elsewhere.
    """

    loss: float
    rates: dict[int, float]
    runs: list[PilotRun]
    seconds: float
    enough_samples: float | None = None


def is_better(tried: PilotRun, than: PilotRun) -> bool:
    """Whether a run got further: fewer samples to the loss, or else a lower loss at the end."""
    if tried.samples is not None or than.samples is not None:
        return (tried.samples or math.inf) < (than.samples or math.inf)
    if tried.ended == "diverged":
        return False
    if than.ended == "diverged":
        return True
    return last_loss(tried) < last_loss(than)


def last_loss(run: PilotRun) -> float:
    """The smoothed loss that a run ended with."""
    return smoothed_at(run.points, len(run.points) - 1)


def observations_of(outcome: Outcome) -> list[Observation]:
    """The runs at the best rate of their size; of a size that never got there, its longest run.

    Repetitions that were given up count as bounds: without them a size would be judged by those
    of its runs alone that were lucky.
    """
    found = [
        Observation(
            batch_size=run.batch_size,
            seed=run.seed,
            samples=run.points[-1].samples if run.samples is None else run.samples,
            is_bound=run.samples is None,
        )
        for run in outcome.runs
        if run.learning_rate == outcome.rates.get(run.batch_size)
        and (run.samples is not None or run.ended == "hopeless")
    ]
    for size in sorted({run.batch_size for run in outcome.runs} - set(outcome.rates)):
        given_up = [
            run for run in outcome.runs if run.batch_size == size and run.ended == "hopeless"
        ]
        longest = max((run.points[-1].samples for run in given_up), default=0)
        if longest:
            found.append(
                Observation(batch_size=size, seed=given_up[0].seed, samples=longest, is_bound=True)
            )
    return found
