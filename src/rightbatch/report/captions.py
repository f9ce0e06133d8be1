"""What the captions say: only what these numbers show, or else what to look for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rightbatch.advice.comparison import Curve
from rightbatch.advice.landscape_map import DescentPath, Landscape
from rightbatch.advice.target import ToTarget
from rightbatch.advice.timing import Speed, half_batch_text
from rightbatch.report.curve_rows import by_label, ceiling_of, explodes, finite_values, r2_floor
from rightbatch.report.wording import joined_words

# The exponent of steps against batch size, from which on they count as flat or as perfect.
_FLAT, _PERFECT = 0.15, 0.85
_STILL_RISING = 1.1


def loss_caption(curves: Sequence[Curve], *, timings_comparable: bool) -> str:
    """Of the losses as training goes on."""
    groups = by_label(curves)
    if len(groups) == 1:
        words = "The training loss is the mean over each epoch, before each update."
        if any(finite_values(curve, "val_loss") for curve in curves):
            words += (
                " Dashed is the other of the two: where the validation loss turns upwards while "
                "the training loss falls, the model begins to learn by heart."
            )
        return words + _cut_off(curves)
    words = _order_at_one_epoch(groups)
    if timings_comparable:
        words += " Switch to seconds to see what each costs: the order can turn round."
    return words + _seeds(groups) + " Click a name to isolate its curve." + _cut_off(curves)


def _order_at_one_epoch(groups: dict[str, list[Curve]]) -> str:
    sane = {label: seeds for label, seeds in groups.items() if not any(map(explodes, seeds))}
    sizes = [seeds[0].batch_size for seeds in sane.values()]
    epochs = min((len(curve.history) for seeds in sane.values() for curve in seeds), default=0)
    if len(set(sizes)) == len(sizes) > 1 and epochs:
        losses = [
            float(np.mean([curve.history[epochs - 1]["train_loss"] for curve in seeds]))
            for seeds in sane.values()
        ]
        first, *_, last = sane
        if bool((np.diff(losses) > 0).all()):
            return (
                f"Against epochs, the smaller the batch, the lower the training loss here: after "
                f"epoch {epochs:,} it is {losses[0]:.3g} with {first} and {losses[-1]:.3g} with "
                f"{last}."
            )
    return "Look at which curve is lowest at the same epoch, and at the same number of steps."


def _seeds(groups: dict[str, list[Curve]]) -> str:
    seeds = max((len(group) for group in groups.values()), default=0)
    if seeds < 2:
        return ""
    return f" Lines are means of {seeds} seeds, bands run from the least to the greatest."


def _cut_off(curves: Sequence[Curve]) -> str:
    ceiling = ceiling_of(curves)
    above = [
        label
        for label, seeds in by_label(curves).items()
        if any(
            value > ceiling
            for curve in seeds
            for name in ("train_loss", "val_loss")
            for value in finite_values(curve, name)
        )
    ]
    if not above:
        return ""
    leaves = "leaves" if len(above) == 1 else "leave"
    told = f"{ceiling:,.0f}" if 1e3 <= ceiling < 1e9 else f"{ceiling:.2g}"
    return f" Losses above {told} are cut off: {joined_words(above)} {leaves} the chart."


def metric_caption(curves: Sequence[Curve], metric: str | None) -> str:
    """Of the metric on the validation samples."""
    words = "Measured after each epoch on samples that training has not seen."
    if metric == "r2":
        words += " 1 is perfect, 0 is no better than always predicting the mean."
        if (floor := r2_floor(curves)) > -math.inf:
            words += f" Values below {floor:.2g} are cut off."
    return words


def step_caption(curves: Sequence[Curve]) -> str:
    """Of the loss of every step."""
    words = "Each point is the loss of one batch before its update"
    groups = {
        label: seeds[0]
        for label, seeds in by_label(curves).items()
        if len(seeds[0].step_losses) > 8 and not explodes(seeds[0])
    }
    swings = {label: _swing(curve) for label, curve in groups.items()}
    sizes = [curve.batch_size for curve in groups.values()]
    if len(set(sizes)) == len(sizes) > 1:
        values = list(swings.values())
        if bool((np.diff(values) < 0).all()):
            first, *_, last = swings
            return (
                f"{words}: the smaller the batch, the noisier. Over the second half of training "
                f"it changes from one point to the next by {swings[first]:.2g} of its mean with "
                f"{first}, and by {swings[last]:.2g} with {last}."
            )
    return f"{words}: look at how far it swings from one to the next."


def _swing(curve: Curve) -> float:
    """The mean change from point to point as a share of the mean loss, in the second half."""
    losses = [loss for _, loss in curve.step_losses if math.isfinite(loss)]
    second_half = losses[len(losses) // 2 :]
    mean = float(np.mean(second_half)) if len(second_half) > 1 else 0.0
    return float(np.mean(np.abs(np.diff(second_half)))) / mean if mean > 0 else 0.0


def target_caption(reached: ToTarget, curves: Sequence[Curve]) -> str:
    """Of the way to one loss against the batch size."""
    means: dict[int, list[float]] = {}
    for point in reached.points:
        means.setdefault(point.batch_size, []).append(max(point.steps, 1e-3))
    dashed = "Along the dashed line a doubled batch halves the steps and costs no more samples."
    if len(means) < 2:
        return dashed
    sizes = np.log(np.array(list(means), np.float64))
    steps = np.log([float(np.mean(values)) for values in means.values()])
    exponent = float(np.polyfit(sizes, steps, 1)[0])
    rates = {curve.learning_rate for curve in curves}
    at = "At this learning rate" if len(rates) == 1 else "At their learning rates"
    if abs(exponent) <= _FLAT:
        told = (
            f"{at} every batch size takes about as many steps, so smaller batches get there with "
            "fewer samples."
        )
    elif exponent < -_PERFECT:
        told = f"{at} a doubled batch takes about half the steps, and about as many samples."
    elif exponent < 0:
        told = (
            f"{at} a doubled batch takes {2**exponent:.2f} times the steps on average, and so "
            f"{2 ** (exponent + 1):.2f} times the samples."
        )
    else:
        told = f"{at} a larger batch takes more steps, and still more samples."
    return f"{dashed} {told}"


def landscape_caption(mapped: Landscape) -> str:
    """Of the paths over the landscape."""
    words = (
        "Height lines of the training loss on the plane that holds most of the movement. A ring "
        "is the start, a dot the end."
    )
    paths = sorted(mapped.paths, key=lambda path: path.batch_size)
    wild = [path.label for path in paths if path_explodes(path)]
    if wild:
        words += (
            f" {joined_words(wild)} went up, to losses far above the start, and may leave the map "
            "or stretch it."
        )
    lengths = {
        path.label: found
        for path in paths
        if path.label not in wild and (found := tortuosity(path)) is not None
    }
    if len(lengths) > 1:
        first, *_, last = lengths
        words += (
            f" As drawn, the way of {first} is {lengths[first]:.2f} times as long as the straight "
            f"line between its ends, that of {last} {lengths[last]:.2f} times."
        )
    return (
        f"{words} Losses on {mapped.samples:,} training samples; away from the plane the loss is "
        "different."
    )


def path_explodes(path: DescentPath) -> bool:
    """Whether a path ends in no finite loss, or far above where it began."""
    if not path.losses:
        return False
    first, last = path.losses[0], path.losses[-1]
    if last is None or not math.isfinite(last):
        return True
    return first is not None and math.isfinite(first) and last > 10 * first


def tortuosity(path: DescentPath) -> float | None:
    """The length of a path over the distance of its ends; None where they are one point.

    >>> tortuosity(DescentPath(label="a", batch_size=1, steps=[0, 1, 2], x=[0, 3, 3],
    ...                        y=[0, 0, 4], losses=[3.0, 2.0, 1.0]))
    1.4
    """
    # An absent coordinate becomes NaN.
    points = np.array([path.x, path.y], np.float64).T
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 2:
        return None
    straight = float(np.hypot(*(points[-1] - points[0])))
    length = float(np.hypot(*np.diff(points, axis=0).T).sum())
    return length / straight if straight > 0 else None


def time_caption(speed: Speed, what: str) -> str:
    """Of the time a sample."""
    words = f"What a sample costs in {what}, against the batch size; bars are 95 % intervals."
    if speed.fit is None:
        return words
    largest = max(point.batch_size for point in speed.points)
    half = speed.fit.half_batch_size
    if half > largest:
        return (
            f"{words} The curve is the fitted law. Its n½ lies "
            f"{half_batch_text(speed.fit, largest)}: at every size here the fixed cost of a step "
            "is the larger part."
        )
    return (
        f"{words} The curve is the fitted law, with n½ = {half_batch_text(speed.fit)}: below it "
        "the fixed cost of a step is the larger part, above it that of the samples."
    )


def throughput_caption(speed: Speed) -> str:
    """Of the samples a second."""
    words = "The same as throughput: where it levels off, a larger batch gains no more time."
    ordered = sorted(speed.points, key=lambda point: point.batch_size)
    largest: Any = ordered[-1]
    half = [point for point in ordered if point.batch_size <= largest.batch_size / 2]
    if half and largest.samples_per_second > _STILL_RISING * half[-1].samples_per_second:
        words += f" It still rises at {largest.batch_size:,}, the largest measured."
    return words
