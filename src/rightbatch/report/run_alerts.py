"""What looks wrong in the curves of runs, said in numbers, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from rightbatch.advice.comparison import Curve
from rightbatch.report.alert import Alert
from rightbatch.report.curve_rows import by_label, explodes, finite_values
from rightbatch.report.standing import standing
from rightbatch.report.wording import joined_words, measure_name

# Shares and factors from which on something is worth a sentence.
_OVERFITTING_RISE = 0.1
_OVERFITTING_FALL = 0.05
_SWINGS_OF_RISE = 3.0
_FEWEST_EPOCHS = 5
_LOADER_SHARE = 0.5
_STILL_FALLING = 0.02
_RATE_SPAN = 4


def diverging(curves: Iterable[Curve]) -> list[Alert]:
    """Labels with runs that ended in a loss that is not finite, or above where they began."""
    alerts = []
    for label, seeds in by_label(list(curves)).items():
        broken = [curve for curve in seeds if explodes(curve)]
        if not broken:
            continue
        first = broken[0]
        who = _named(label, broken, of=len(seeds))
        losses = finite_values(first, "train_loss")
        if first.diverged is not None or len(losses) < len(first.history):
            # The advice stands below, once.
            why = (first.diverged or "its loss is not finite").split(". Lower the learning")[0]
            why = why.split("; the model was left")[0].rstrip(".")
            told = f"{who} diverged at a learning rate of {first.learning_rate:g}: {why}."
        else:
            told = (
                f"{who} ended with a training loss of {losses[-1]:.4g} at a learning rate of "
                f"{first.learning_rate:g}, above the {losses[0]:.4g} of the first epoch."
            )
        advice = (
            f"Lower the learning rate: try {first.learning_rate / 3:.2g}. Inputs of very "
            "different scales do this too: standardize them."
        )
        alerts.append(Alert(kind="diverging", severity="serious", text=told, advice=advice))
    return alerts


def overfitting(curves: Iterable[Curve]) -> list[Alert]:
    """Labels whose validation loss rose after its lowest point while the training loss fell.

    The rise is that of the last tenth of the epochs above the lowest of a smoothed curve, and
    more than the swing from epoch to epoch explains; the training loss is that at the weights at
    the end of each epoch where it is known (`Curve.checked_losses`).
    """
    alerts = []
    for label, seeds in by_label(list(curves)).items():
        risen = [(curve, found) for curve in seeds if (found := _rise(curve)) is not None]
        if not risen:
            continue
        epochs = sorted(found[0] for _, found in risen)
        low, end, train_low, train_end = np.mean([found[1:] for _, found in risen], axis=0)
        when = f"{epochs[0]:,}" + (f" to {epochs[-1]:,}" if epochs[-1] > epochs[0] else "")
        who = _named(label, [curve for curve, _ in risen], of=len(seeds))
        told = (
            f"{who}: the validation loss was lowest around epoch {when} ({low:.3g}) and "
            f"ends {end / low - 1:.0%} higher ({end:.3g}), while the training loss fell from "
            f"{train_low:.3g} to {train_end:.3g}."
        )
        advice = (
            "Stop at the lowest validation loss (--early-stopping keeps the weights of the best "
            "epoch), or hold the weights small (--l2)."
        )
        alerts.append(Alert(kind="overfitting", severity="warning", text=told, advice=advice))
    return alerts


def _rise(curve: Curve) -> tuple[int, float, float, float, float] | None:
    """Epoch of the lowest validation, its loss and that at the end, and those in training."""
    val, train = finite_values(curve, "val_loss"), finite_values(curve, "train_loss")
    if len(val) < _FEWEST_EPOCHS or len(train) != len(val) or len(val) != len(curve.history):
        return None
    if len(curve.checked_losses) > 1:
        steps, losses = zip(*curve.checked_losses, strict=True)
        train = np.interp([row["steps"] for row in curve.history], steps, losses).tolist()
    tail = max(1, len(val) // 10)
    smooth = _means(val, tail)
    # Entry k of the means begins at epoch k: its middle is the epoch that it stands for.
    best = int(np.argmin(smooth))
    middle = best + tail // 2
    low, end = float(smooth[best]), float(np.mean(val[-tail:]))
    swing = float(np.std(np.diff(val[middle:]))) if len(val) - middle > 2 else 0.0
    needed = max(_OVERFITTING_RISE * low, _SWINGS_OF_RISE * swing / np.sqrt(tail))
    train_low, train_end = float(_means(train, tail)[best]), float(np.mean(train[-tail:]))
    if best >= len(val) - 2 * tail or low <= 0 or end - low < needed:
        return None
    if not train_end < (1 - _OVERFITTING_FALL) * train_low:
        return None
    return curve.history[middle]["epoch"], low, end, train_low, train_end


def _means(values: Sequence[float], width: int) -> NDArray[np.float64]:
    return np.convolve(np.asarray(values, np.float64), np.full(width, 1 / width), mode="valid")


def validation_noise(curves: Sequence[Curve], validation_samples: int | None = None) -> list[Alert]:
    """Whether the best labels lie closer together than their epochs and seeds swing.

    All curves must be of one data set, split and loss.
    """
    found = standing(curves, validation_samples)
    if found is None or len(found.leaders) < 2:
        return []
    values = [place.final for place in found.leaders]
    apart = max(values) - min(values)
    names = joined_words([place.label for place in found.leaders])
    what = measure_name(found.measure)
    told = (
        f"{names} end with validation {what} values {apart:.2g} apart, and it takes "
        f"{found.margin:.2g} to tell them apart from the swing of single epochs, seeds and "
        "samples: which of them is better is not decided."
        if apart
        else f"{names} end with the same validation {what}: which of them is better is not decided."
    )
    advice = "Compare with more seeds (--seeds 5), or hold out more validation samples (--val)."
    return [Alert(kind="validation-noise", severity="note", text=told, advice=advice)]


def not_converged(curves: Iterable[Curve]) -> list[Alert]:
    """Labels whose training loss still falls at the end."""
    falling = {}
    for label, seeds in by_label(list(curves)).items():
        falls = []
        for curve in seeds:
            losses = finite_values(curve, "train_loss")
            tail = len(losses) // 10
            if tail >= 2 and not explodes(curve) and losses[-tail - 1] > 0:
                falls.append(1 - losses[-1] / losses[-tail - 1])
        if falls and float(np.mean(falls)) > _STILL_FALLING:
            falling[label] = float(np.mean(falls))
    if not falling:
        return []
    listed = ", ".join(f"{label} by {fall:.0%}" for label, fall in falling.items())
    return [
        Alert(
            kind="not-converged",
            severity="note",
            text=f"The training loss still fell over the last tenth of the epochs: {listed}.",
            advice="Give more epochs before judging the final losses; the speed of the fall "
            "compares as it is.",
        )
    ]


def loader_bound(curves: Iterable[Curve]) -> list[Alert]:
    """Labels that spent most of their time waiting for batches."""
    waiting = {}
    for label, seeds in by_label(list(curves)).items():
        last = [curve.history[-1] for curve in seeds if curve.history]
        seconds = sum(row["seconds"] for row in last)
        loading = sum(row.get("loading_seconds") or 0.0 for row in last)
        if seconds > 0 and loading / seconds > _LOADER_SHARE:
            waiting[label] = loading / seconds
    if not waiting:
        return []
    listed = ", ".join(f"{label} {share:.0%}" for label, share in waiting.items())
    return [
        Alert(
            kind="loader-bound",
            severity="warning",
            text=f"Most of the training time went into waiting for batches: {listed}.",
            advice="The model is faster than the data. Give the loader more threads, store the "
            "data in a format that needs no parsing (.npy), or take a larger batch.",
        )
    ]


def short_of_memory(curves: Iterable[Curve]) -> list[Alert]:
    """Labels whose batches found no room in memory, and were learned from in smaller pieces."""
    cut = {}
    for label, seeds in by_label(list(curves)).items():
        # A row has this from the epoch on in which memory ran out, and only then.
        rows = [
            row
            for curve in seeds
            for row in curve.history
            if row.get("micro_batch_size") is not None
        ]
        if rows:
            size = min(row["micro_batch_size"] for row in rows)
            cut[label] = f"{label} in {size:,} from epoch {min(row['epoch'] for row in rows):,}"
    if not cut:
        return []
    return [
        Alert(
            kind="memory",
            severity="note",
            text="Memory ran out, and batches were learned from in micro-batches of so many "
            f"samples: {', '.join(cut.values())}. Batch size, steps and losses are the same up to "
            "rounding (dropout draws other masks); the time is not.",
            advice="Ask for micro-batches from the first step (--micro-batch-size), which saves "
            "the failed attempts, or give the run more memory.",
        )
    ]


def untuned_rates(curves: Sequence[Curve], rule: str | None) -> list[Alert]:
    """One learning rate for batch sizes far apart: the comparison is of the rate as well."""
    sizes = [curve.batch_size for curve in curves]
    if rule != "same" or not sizes or max(sizes) < _RATE_SPAN * min(sizes):
        return []
    told = (
        f"All batch sizes from {min(sizes):,} to {max(sizes):,} ran with one learning rate, "
        f"{curves[0].learning_rate:g}. A larger batch often bears a larger rate: this compares the "
        "sizes at a rate that need not suit each of them."
    )
    advice = "Compare with --lr-rule tuned, which searches a rate for every size."
    return [Alert(kind="untuned-rates", severity="note", text=told, advice=advice)]


def _named(label: str, curves: Sequence[Curve], *, of: int) -> str:
    """The label, with its seeds where it has several."""
    if of == 1:
        return label[:1].upper() + label[1:] if label.startswith(("batch ", "full ")) else label
    words = joined_words([str(curve.seed) for curve in curves])
    return f"{label} (seed{'s' if len(curves) > 1 else ''} {words})"
