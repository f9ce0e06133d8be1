"""What looks wrong in curves and timings, said in numbers, with what to do about it.

Pure functions: results in, alerts out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from rightbatch.advice.comparison import Curve
from rightbatch.advice.timing import Speed
from rightbatch.report.curve_rows import by_label, metric_of
from rightbatch.report.findings import Origin, Study

Severity = Literal["serious", "warning", "note"]

_SEVERITIES: tuple[Severity, ...] = ("serious", "warning", "note")
# Shares and factors from which on something is worth a sentence.
_OVERFITTING_RISE = 0.1
_LOADER_SHARE = 0.5
_STILL_FALLING = 0.02
_RATE_SPAN = 4


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing that looks wrong: `kind` names it, `text` says what was seen, `advice` what to do.

    `severity` is "serious" (the result can not be relied on), "warning" or "note".
    """

    kind: str
    severity: Severity
    text: str
    advice: str

    def to_json(self) -> dict[str, str]:
        """As one JSON-able object."""
        return asdict(self)


def find_alerts(studies: Sequence[Study], speeds: Sequence[Speed]) -> list[Alert]:
    """Everything that looks wrong, the serious first."""
    found: list[Alert] = []
    for study in studies:
        for origin in study.origins:
            found += leaks(origin)
        for check in (diverging, overfitting, validation_noise, not_converged, loader_bound):
            found += check(study.curves)
        if study.is_comparison:
            found += untuned_rates(study.curves, study.learning_rate_rule)
        if not study.timings_comparable and len(by_label(study.curves)) > 1:
            found.append(_UNCOMPARABLE)
    for speed in speeds:
        found += slow_loading(speed)
        found += uncertain_timings(speed)
    unique = {(alert.kind, alert.text): alert for alert in found}
    return sorted(unique.values(), key=lambda alert: _SEVERITIES.index(alert.severity))


def diverging(curves: Iterable[Curve]) -> list[Alert]:
    """Runs that ended in a loss that is not finite, or above where they began."""
    alerts = []
    for curve in curves:
        losses = _values(curve, "train_loss")
        if curve.diverged is not None or len(losses) < len(curve.history):
            what = curve.diverged or "its loss is not finite"
            text = (
                f"{_named(curve)} diverged at a learning rate of {curve.learning_rate:g}: {what}."
            )
        elif len(losses) > 1 and losses[-1] > 1.05 * losses[0]:
            text = (
                f"{_named(curve)} ends with a training loss of {losses[-1]:.4g}, above the "
                f"{losses[0]:.4g} of its first epoch."
            )
        else:
            continue
        advice = (
            f"Lower the learning rate: try {curve.learning_rate / 3:.2g}. Inputs of very "
            "different scales do this too: standardize them."
        )
        alerts.append(Alert(kind="diverging", severity="serious", text=text, advice=advice))
    return alerts


def overfitting(curves: Iterable[Curve]) -> list[Alert]:
    """Runs whose validation loss has risen since its best epoch while the training loss fell."""
    alerts = []
    for curve in curves:
        val, train = _values(curve, "val_loss"), _values(curve, "train_loss")
        if len(val) < 4 or len(train) != len(val):
            continue
        # The mean over a tenth of the epochs: one noisy epoch is not a trend.
        tail = max(1, len(val) // 10)
        best, end = int(np.argmin(val)), float(np.mean(val[-tail:]))
        if best >= len(val) - tail or end < (1 + _OVERFITTING_RISE) * val[best]:
            continue
        if not np.mean(train[-tail:]) < train[best]:
            continue
        text = (
            f"{_named(curve)}: the validation loss was lowest in epoch "
            f"{curve.history[best]['epoch']:,} ({val[best]:.4g}) and has risen by "
            f"{end / val[best] - 1:.0%} since, while the training loss fell from {train[best]:.4g} "
            f"to {train[-1]:.4g}."
        )
        advice = (
            f"Stop there (--early-stopping {max(5, tail)} keeps the weights of the best epoch), or "
            "hold the weights small (--l2)."
        )
        alerts.append(Alert(kind="overfitting", severity="warning", text=text, advice=advice))
    return alerts


def validation_noise(curves: Sequence[Curve]) -> list[Alert]:
    """Whether the runs' final validation losses lie closer together than each of them swings."""
    groups = by_label(curves)
    ends: dict[str, float] = {}
    swings: list[float] = []
    for label, seeds in groups.items():
        tails = [_values(curve, "val_loss") for curve in seeds]
        tails = [values[-max(3, len(values) // 5) :] for values in tails if len(values) >= 5]
        if not tails:
            continue
        ends[label] = float(np.mean([np.mean(tail) for tail in tails]))
        # Differences from one epoch to the next: a steady fall is no noise.
        swings += [float(np.std(np.diff(tail)) / math.sqrt(2)) for tail in tails]
        if len(tails) > 1:
            swings.append(float(np.std([np.mean(tail) for tail in tails], ddof=1)))
    if len(ends) < 2:
        return []
    ranked = sorted(ends, key=lambda label: ends[label])
    difference, noise = ends[ranked[1]] - ends[ranked[0]], max(swings)
    if difference >= 2 * noise:
        return []
    text = (
        f"{ranked[0]} and {ranked[1]}, the two best, end with validation losses {difference:.2g} "
        f"apart, and single epochs or seeds swing by {noise:.2g}: which of them is better is not "
        "decided."
    )
    advice = "Compare with more seeds (--seeds 5), or hold out more validation samples (--val)."
    return [Alert(kind="validation-noise", severity="note", text=text, advice=advice)]


def not_converged(curves: Iterable[Curve]) -> list[Alert]:
    """Labels whose training loss still falls at the end."""
    falling = {}
    for label, seeds in by_label(list(curves)).items():
        falls = []
        for curve in seeds:
            losses = _values(curve, "train_loss")
            tail = len(losses) // 10
            if tail >= 2 and curve.diverged is None and losses[-tail - 1] > 0:
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


def untuned_rates(curves: Sequence[Curve], rule: str | None) -> list[Alert]:
    """One learning rate for batch sizes far apart: the comparison is of the rate as well."""
    sizes = [curve.batch_size for curve in curves]
    if rule != "same" or not sizes or max(sizes) < _RATE_SPAN * min(sizes):
        return []
    text = (
        f"All batch sizes from {min(sizes):,} to {max(sizes):,} ran with one learning rate, "
        f"{curves[0].learning_rate:g}. A larger batch bears a larger rate, so this compares the "
        "sizes at a rate that need not suit each of them."
    )
    advice = "Compare with --lr-rule tuned, which searches a rate for every size."
    return [Alert(kind="untuned-rates", severity="note", text=text, advice=advice)]


def leaks(origin: Origin) -> list[Alert]:
    """Held-out samples that training read, or that equal samples it read."""
    alerts = []
    leaked = origin.result.get("leaked_samples")
    if leaked:
        alerts.append(
            Alert(
                kind="leak",
                severity="serious",
                text=f"{origin.name}: training read {leaked:,} held-out samples.",
                advice="Scores on them are not to be believed. Split the data anew, once, before "
                "anything is shuffled.",
            )
        )
    duplicates = origin.provenance.duplicate_samples
    if duplicates:
        held_out = sum(size for part, size in origin.provenance.sizes.items() if part != "train")
        share = f" ({duplicates / held_out:.1%} of them)" if held_out else ""
        alerts.append(
            Alert(
                kind="duplicates",
                severity="warning",
                text=f"{origin.name}: {duplicates:,} held-out samples{share} have inputs equal to "
                "those of a sample on the other side of the split.",
                advice="Keep equal samples together: --on-duplicates together.",
            )
        )
    return alerts


def slow_loading(speed: Speed) -> list[Alert]:
    """Whether making a batch takes longer than computing it, at the fastest batch size."""
    loading = speed.loading_seconds_per_sample
    if loading is None or not speed.points:
        return []
    fastest = min(speed.points, key=lambda point: point.seconds_per_sample)
    if loading <= fastest.seconds_per_sample:
        return []
    text = (
        f"Loading takes {loading * 1e6:.3g} µs a sample, and {speed.model} at batch size "
        f"{fastest.batch_size:,} {fastest.seconds_per_sample * 1e6:.3g} µs: the loader is the "
        "limit, not the batch size."
    )
    advice = "Give the loader more threads, or store the data in a format that needs no parsing."
    return [Alert(kind="loader-bound", severity="warning", text=text, advice=advice)]


def uncertain_timings(speed: Speed) -> list[Alert]:
    """Whether the intervals are wide: the machine did something else meanwhile."""
    widths = {
        point.batch_size: (point.high - point.low) / point.seconds_per_sample
        for point in speed.points
        if point.seconds_per_sample > 0
    }
    wide = {size: width for size, width in widths.items() if width > 0.3}
    if len(wide) <= len(widths) / 4:
        return []
    worst = max(wide, key=lambda size: wide[size])
    text = (
        f"The timings of {len(wide)} of {len(widths)} batch sizes are uncertain by more than 30 %, "
        f"most at {worst:,} ({wide[worst]:.0%})."
    )
    advice = "Measure longer (--seconds), on a machine that does nothing else."
    return [Alert(kind="uncertain-timings", severity="note", text=text, advice=advice)]


_UNCOMPARABLE = Alert(
    kind="timings",
    severity="note",
    text="These runs were not timed under the same conditions: compare their losses by epochs, "
    "steps and samples, not by seconds.",
    advice="`rightbatch compare` runs one after another on an idle machine, where seconds do "
    "compare.",
)


def _named(curve: Curve) -> str:
    return f"{curve.label}, seed {curve.seed}"


def _values(curve: Curve, name: str) -> list[float]:
    found = [row.get(name) for row in curve.history]
    return [float(value) for value in found if value is not None and math.isfinite(value)]


def best_labels(curves: Sequence[Curve]) -> tuple[list[str], str, float] | None:
    """The labels that validated best, by which measure and how well; None without validation.

    Of each seed the best epoch counts, of each label the mean of its seeds.
    """
    metric = metric_of(curves)
    name = "val_loss" if metric is None else f"val_{metric}"
    scores: dict[str, float] = {}
    for label, seeds in by_label(curves).items():
        best: list[Any] = [
            (min if metric is None else max)(values)
            for curve in seeds
            if (values := _values(curve, name))
        ]
        if best:
            scores[label] = float(np.mean(best))
    if not scores:
        return None
    best_score = (min if metric is None else max)(scores.values())
    return [label for label, value in scores.items() if value == best_score], name, best_score
