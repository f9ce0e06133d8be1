"""What a measurement of speed says in sentences, beside its numbers."""

from __future__ import annotations

import numpy as np

from rightbatch.advice.law import StepTime
from rightbatch.advice.stopwatch import LEAST_ROUNDS
from rightbatch.advice.timing import Neighbours, SpeedPoint, time_text

# A law that is so far off describes something else than the points.
_POOR_FIT = 0.15
# Intervals as wide as this say that the machine did other things beside.
_WIDE_INTERVAL = 0.15


def notes_of(
    points: list[SpeedPoint],
    neighbours: list[Neighbours],
    *,
    fit: StepTime | None,
    loading: float | None,
    samples: int,
    left_out: list[int],
    rounds: int,
    round_seconds: float,
    asked_seconds: float,
) -> list[str]:
    """The notes of a measurement, those that change what its numbers mean first."""
    notes = []
    if left_out:
        notes.append(
            f"These batch sizes do not fit in memory and were left out: {_listed(left_out)}."
        )
    repeated = [point.batch_size for point in points if point.batch_size > samples]
    if repeated:
        notes.append(
            f"The part has {samples:,} samples; batches of {_listed(repeated)} repeat them, which "
            "costs the arithmetic as much."
        )
    if rounds == LEAST_ROUNDS and round_seconds > 1.5 * asked_seconds:
        notes.append(
            f"A measurement takes {LEAST_ROUNDS} rounds at least; they took "
            f"{time_text(round_seconds)}, longer than the {time_text(asked_seconds)} asked for."
        )
    widths = [(point.high - point.low) / point.seconds_per_sample for point in points]
    if np.median(widths) > _WIDE_INTERVAL:
        notes.append(
            f"The 95 % intervals are wide (±{np.median(widths) / 2:.0%} at half of the sizes): "
            "the machine is busy with other work. Measure again on an idle one, or for longer "
            "(seconds=…, --seconds)."
        )
    if fit is not None and fit.residual > _POOR_FIT:
        notes.append(
            f"The law is off by {fit.residual:.0%} at a typical batch size: the times do not "
            "follow it, and n½ is a rough guide."
        )
    largest = max(point.batch_size for point in points)
    if fit is not None and largest < fit.half_batch_size < np.inf:
        notes.append(
            f"n½ lies beyond {largest:,}, the largest batch size measured: the time a sample still "
            "falls there, and larger sizes would tell where it ends."
        )
    # Nobody trains or predicts with batches of repeated samples.
    real = [point for point in points if point.batch_size <= samples]
    if loading is not None and real:
        fastest = min(real, key=lambda point: point.seconds_per_sample)
        if loading > fastest.seconds_per_sample:
            notes.append(
                f"Loading is the limit at batch size {fastest.batch_size:,}: making the batches "
                f"takes {time_text(loading)} a sample, the computation "
                f"{time_text(fastest.seconds_per_sample)}. Larger batches will not make the whole "
                "faster."
            )
    if neighbours:
        notes.append(neighbours_note(neighbours))
    return notes


def neighbours_note(neighbours: list[Neighbours]) -> str:
    """What the powers of two gain over the sizes beside them, in a sentence or two.

    >>> below, at, above = [
    ...     SpeedPoint(batch_size=size, seconds_per_batch=time, seconds_per_sample=time / size,
    ...                low=time / size, high=time / size)
    ...     for size, time in ((63, 64e-6), (64, 64.2e-6), (65, 66e-6))]
    >>> neighbours_note([Neighbours(below=below, at=at, above=above, saving=0.012, low=0.002,
    ...                             high=0.02)])
    'Powers of two against the sizes beside them: a batch of 64 takes 1.2 % less time than the \
mean of 63 and 65 (64.2 µs, against 64.0 µs and 66.0 µs; 95 % interval 0.2 % to 2.0 %).'
    """
    told = [
        f"a batch of {trio.at.batch_size:,} takes {_difference(trio)}"
        for trio in neighbours
        if trio.is_real
    ]
    within = [trio for trio in neighbours if not trio.is_real]
    if within:
        sizes = _listed([trio.at.batch_size for trio in within])
        told.append(f"at {sizes} the difference is within its 95 % interval of zero")
    return f"Powers of two against the sizes beside them: {'; '.join(told)}."


def _difference(trio: Neighbours) -> str:
    assert trio.saving is not None and trio.low is not None and trio.high is not None  # noqa: PT018
    sign = 1 if trio.saving > 0 else -1
    low, high = sorted((sign * trio.low, sign * trio.high))
    below, at, above = trio.below, trio.at, trio.above
    # The three times tell a size that is special from a step of the times between two sizes.
    times = [time_text(point.seconds_per_batch) for point in (at, below, above)]
    return (
        f"{abs(trio.saving) * 100:.1f} % {'less' if sign > 0 else 'more'} time than the mean of "
        f"{below.batch_size:,} and {above.batch_size:,} ({times[0]}, against {times[1]} and "
        f"{times[2]}; 95 % interval {low * 100:.1f} % to {high * 100:.1f} %)"
    )


def _listed(sizes: list[int]) -> str:
    words = [f"{size:,}" for size in sizes]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
