"""What results show, in a few sentences with numbers."""

from __future__ import annotations

from collections.abc import Sequence

from rightbatch.advice.advice import Advice
from rightbatch.advice.law import StepTime
from rightbatch.advice.target import ToTarget
from rightbatch.advice.target import to_target as find_target
from rightbatch.advice.timing import Speed, half_batch_text, time_text
from rightbatch.loading.shuffle_result import ShuffleQuality
from rightbatch.report.curve_rows import explodes
from rightbatch.report.findings import Origin, Study
from rightbatch.report.standing import Standing, standing
from rightbatch.report.wording import (
    METRIC_NAMES,
    activity,
    counted,
    joined_words,
    measure_name,
    with_article,
)

# Costs within this share of the least are told as equal.
_EQUAL_COST = 0.03


def study_facts(study: Study) -> list[str]:
    """What the runs show: who validates best, who gets to one loss first, the test scores."""
    facts = []
    for curves, samples in study.comparable():
        found = standing(curves, samples)
        if found is not None:
            facts.append(_validation(found))
        reached = find_target([curve for curve in curves if not explodes(curve)])
        if reached is not None and len({point.label for point in reached.points}) > 1:
            facts.append(_race(reached, with_seconds=study.timings_comparable))
    for origin in study.origins:
        for metric, word in METRIC_NAMES.items():
            score = origin.result.get(f"test_{metric}")
            if score is not None:
                name = f"{origin.name}: " if len(study.origins) > 1 else ""
                facts.append(
                    f"{name}{'t' if name else 'T'}est {word} {score:.4g} on "
                    f"{origin.provenance.sizes.get('test', 0):,} samples."
                )
    return facts


def speed_facts(speed: Speed) -> list[str]:
    """What the timings show, in two sentences with numbers."""
    if not speed.points:
        return []
    slowest = max(speed.points, key=lambda point: point.seconds_per_sample)
    fastest = speed.fastest
    facts = []
    if fastest.batch_size != slowest.batch_size:
        gain = slowest.seconds_per_sample / fastest.seconds_per_sample
        times = f"{gain:,.0f}" if gain >= 100 else f"{gain:.3g}"
        facts.append(
            f"A sample takes {time_text(slowest.seconds_per_sample)} at batch size "
            f"{slowest.batch_size:,} and {time_text(fastest.seconds_per_sample)} at "
            f"{fastest.batch_size:,}: {times} times less ({activity(speed.mode)}, "
            f"{counted(speed.threads, 'thread')}, {speed.device})."
        )
    if speed.fit is not None:
        facts.append(_law(speed.fit, max(point.batch_size for point in speed.points)))
    return facts


def lead(
    studies: Sequence[Study],
    speeds: Sequence[Speed],
    origins: Sequence[Origin],
    advices: Sequence[Advice] = (),
    shuffles: Sequence[ShuffleQuality] = (),
) -> str:
    """The sentence under the heading: how much there is, and of when."""
    pieces = []
    if len(advices) == 1:
        pieces.append(
            f"advice from {counted(len(advices[0].tested), 'tested batch size')} and "
            f"{advices[0].seconds_spent:.3g} seconds of measurement"
        )
    elif advices:
        pieces.append(f"{len(advices)} pieces of advice on the batch size")
    runs = sum(len(study.curves) for study in studies)
    if runs:
        trained = {
            size
            for study in studies
            for origin in study.origins
            if (size := origin.provenance.sizes.get("train"))
        }
        sizes = [f"{size:,}" for size in sorted(trained)]
        on = f" on {joined_words(sizes)} training samples" if sizes else ""
        pieces.append(f"{counted(runs, 'run')}{on}")
    if len(speeds) == 1:
        pieces.append(f"timings at {counted(len(speeds[0].points), 'batch size')}")
    elif speeds:
        pieces.append(f"{len(speeds)} measurements of speed")
    if shuffles:
        pieces.append(f"the quality of {counted(len(shuffles), 'shuffle')}")
    days = sorted(
        {
            str(started)[:10]
            for origin in origins
            if (started := origin.provenance.environment.get("started"))
        }
    )
    text = joined_words(pieces) if advices else " and ".join(pieces)
    when = f", {days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}" if days else ""
    return f"{text[:1].upper()}{text[1:]}{when}."


def _validation(found: Standing) -> str:
    measure = measure_name(found.measure)
    first = found.places[0]
    over = f"over the last {found.tail:,} epochs" if found.tail > 1 else "in the last epoch"
    seeds = max(place.seeds for place in found.places)
    mean = f"mean of {counted(seeds, 'seed')}; " if seeds > 1 else ""
    if len(found.places) == 1:
        of = f" of {first.label}" if found.left_out else ""
        without = (
            f" Without a place: {joined_words(found.left_out)}, which diverged or ended above "
            "where training began."
            if found.left_out
            else ""
        )
        return (
            f"The validation {measure}{of} is {first.final:.4g} {over} ({mean}{first.best:.4g} in "
            f"the best epoch).{without}"
        )
    if found.is_decided:
        second = found.places[1]
        return (
            f"Best on the validation samples: {first.label}, with {with_article(measure)} of "
            f"{first.final:.4g} {over} ({mean}{first.best:.4g} in the best epoch), before "
            f"{second.label} with {second.final:.4g}."
        )
    names = joined_words([place.label for place in found.leaders])
    ends = sorted({f"{place.final:.3g}" for place in found.leaders}, key=float)
    bests = sorted({f"{place.best:.3g}" for place in found.leaders}, key=float)
    return (
        f"Which validates best is not decided: {names} have {with_article(measure)} of "
        f"{_range(ends)} {over} ({mean}{_range(bests)} in the best epoch), closer together than "
        "epochs, seeds and single samples move it."
    )


def _range(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _race(reached: ToTarget, *, with_seconds: bool) -> str:
    costs = ("steps", "samples", "seconds") if with_seconds else ("steps", "samples")
    pieces = []
    for cost in costs:
        taken: dict[str, list[float]] = {}
        for point in reached.points:
            taken.setdefault(point.label, []).append(getattr(point, cost))
        mean = {label: sum(values) / len(values) for label, values in taken.items()}
        least = min(mean, key=lambda label: mean[label])
        # Within the seeds' own range nothing is decided either.
        limit = max(mean[least] * (1 + _EQUAL_COST), *(max(taken[least]), mean[least]))
        equal = [label for label in mean if mean[label] <= limit]
        amount = f"{mean[least]:.3g}" if cost == "seconds" else f"{mean[least]:,.0f}"
        if len(equal) == len(mean):
            pieces.append(f"all took about as many {cost} ({amount})")
        elif len(equal) > 1:
            pieces.append(f"{joined_words(equal)} took about as few {cost} ({amount})")
        else:
            pieces.append(f"{least} took the fewest {cost} ({amount})")
    return f"Down to a training loss of {reached.target:.3g}, {'; '.join(pieces)}."


def _law(fit: StepTime, largest: int) -> str:
    """What was measured, and where the law bends if that was reached."""
    if fit.half_batch_size > largest:
        return (
            f"A step costs about {time_text(fit.latency_seconds)} whatever its size, up to "
            f"{largest:,} samples: n½, where the samples cost as much as the step itself, lies "
            f"{half_batch_text(fit, largest)}."
        )
    return (
        f"A step costs about {time_text(fit.latency_seconds)} whatever its size, and about "
        f"{time_text(fit.seconds_per_sample)} a sample; the two are equal at "
        f"n½ = {half_batch_text(fit)}."
    )
