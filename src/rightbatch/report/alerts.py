"""What looks wrong in results, and what was looked at without finding anything.

Pure functions: results in, alerts out. Those of curves are in `run_alerts`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rightbatch.advice.advice import Advice
from rightbatch.advice.timing import Speed
from rightbatch.loading.shuffle_result import ShuffleQuality
from rightbatch.report.advice_section import origin_of_advice
from rightbatch.report.alert import SEVERITIES, Alert
from rightbatch.report.curve_rows import by_label, finite_values
from rightbatch.report.findings import Origin, Study
from rightbatch.report.run_alerts import (
    diverging,
    loader_bound,
    not_converged,
    overfitting,
    short_of_memory,
    untuned_rates,
    validation_noise,
)
from rightbatch.report.shuffle_section import shuffle_alerts
from rightbatch.report.wording import sentence

_FEWEST_EPOCHS = 5


def find_alerts(
    studies: Sequence[Study],
    speeds: Sequence[Speed],
    advices: Sequence[Advice] = (),
    shuffles: Sequence[ShuffleQuality] = (),
) -> list[Alert]:
    """Everything that looks wrong, the serious first."""
    found: list[Alert] = []
    for study in studies:
        for origin in study.origins:
            found += leaks(origin)
        for check in (diverging, overfitting, not_converged, loader_bound, short_of_memory):
            found += check(study.curves)
        # Runs on other data or another split are not ranked against each other.
        for curves, samples in study.comparable():
            found += validation_noise(curves, samples)
        if study.is_comparison:
            found += untuned_rates(study.curves, study.learning_rate_rule)
        if not study.timings_comparable and len(by_label(study.curves)) > 1:
            found.append(_UNCOMPARABLE)
    for speed in speeds:
        found += slow_loading(speed)
        found += uncertain_timings(speed)
    for advice in advices:
        found += leaks(origin_of_advice(advice))
        found += [
            Alert(kind="advice", severity="warning", text=sentence(text), advice="")
            for text in advice.alerts
        ]
    for quality in shuffles:
        found += shuffle_alerts(quality)
    unique = {(alert.kind, alert.text): alert for alert in found}
    return sorted(unique.values(), key=lambda alert: SEVERITIES.index(alert.severity))


def checks_without_finding(
    studies: Sequence[Study],
    speeds: Sequence[Speed],
    alerts: Sequence[Alert],
    shuffles: Sequence[ShuffleQuality] = (),
) -> list[str]:
    """What was really looked at and is in order, and what these results can not show."""
    kinds = {alert.kind for alert in alerts}
    curves = [curve for study in studies for curve in study.curves]
    origins = [origin for study in studies for origin in study.origins]
    fine, unseen = [], []

    def told(kind: str, *, is_seen: bool, words: str, otherwise: str = "") -> None:
        if is_seen and kind not in kinds:
            fine.append(words)
        elif not is_seen and otherwise:
            unseen.append(otherwise)

    if curves:
        told("diverging", is_seen=True, words="no run diverged")
        validated = [curve for curve in curves if finite_values(curve, "val_loss")]
        told(
            "overfitting",
            is_seen=any(len(curve.history) >= _FEWEST_EPOCHS for curve in validated),
            words="no validation loss rose while the training loss fell",
            otherwise="overfitting, for which the runs are too short"
            if validated
            else "overfitting, which takes a validation part",
        )
        told(
            "leak",
            is_seen=all(origin.result.get("leaked_samples") is not None for origin in origins),
            words="training read no held-out sample",
            otherwise="leaks, which `rightbatch train` counts",
        )
        told(
            "duplicates",
            is_seen=all(origin.provenance.duplicate_samples is not None for origin in origins),
            words="no sample lies on both sides of the split",
            otherwise="equal samples on both sides of the split",
        )
        told(
            "loader-bound",
            is_seen=any(row.get("loading_seconds") for c in curves for row in c.history[-1:]),
            words="the loader kept up with training",
        )
    if speeds:
        told("uncertain-timings", is_seen=True, words="the intervals of the timings are narrow")
        told(
            "loader-bound",
            is_seen=any(speed.loading_seconds_per_sample is not None for speed in speeds),
            words="loading takes less time than computing",
            otherwise="the time of loading beside the timings",
        )
    if shuffles:
        told(
            "shuffle",
            is_seen=all(quality.label_imbalance is not None for quality in shuffles),
            words="batches have the label shares of the whole, about as in a uniform shuffle",
            otherwise="the balance of labels, which takes classes",
        )
    sentences = []
    if fine:
        sentences.append(f"Looked at, and in order: {'; '.join(fine)}.")
    if unseen:
        sentences.append(f"Not looked at: {'; '.join(unseen)}.")
    return sentences


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
    """Whether making a batch takes longer than computing it, at the fastest batch size.

    Sizes beyond the samples there are do not count: nobody trains at them.
    """
    loading = speed.loading_seconds_per_sample
    samples = max(speed.provenance.sizes.values(), default=0)
    points = [point for point in speed.points if point.batch_size <= samples]
    if loading is None or not points:
        return []
    fastest = min(points, key=lambda point: point.seconds_per_sample)
    if loading <= fastest.seconds_per_sample:
        return []
    text = (
        f"Loading takes {loading * 1e6:.3g} µs a sample, and {speed.model} at batch size "
        f"{fastest.batch_size:,} {fastest.seconds_per_sample * 1e6:.3g} µs: the loader is the "
        "limit, not the batch size."
    )
    advice = "From there on larger batches do not make the whole faster; more loader threads may."
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
