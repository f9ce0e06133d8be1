"""The section of the report about an advice: the answer, the reasons, pictures, tested sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import altair

from rightbatch.advice.advice import Advice
from rightbatch.advice.rank_shares import largest_share
from rightbatch.advice.timing import time_text
from rightbatch.byte_sizes import bytes_text
from rightbatch.report.advice_captions import (
    advice_speed_caption,
    branches_caption,
    interval_text,
    memory_caption,
    noise_caption,
    samples_caption,
    time_to_goal_caption,
)
from rightbatch.report.advice_memory_chart import memory_chart
from rightbatch.report.advice_samples_chart import has_samples, samples_chart
from rightbatch.report.advice_speed_chart import advice_speed_chart
from rightbatch.report.advice_time_chart import (
    are_times_relative,
    cost_text,
    costs_of,
    goal_time_chart,
)
from rightbatch.report.branches_chart import branch_curves
from rightbatch.report.figure import Absence, Figure
from rightbatch.report.findings import Origin
from rightbatch.report.noise_chart import noise_trajectory
from rightbatch.report.tables import Pairs, Table
from rightbatch.report.wording import sentence

_GRADES = {
    "quick": "quick: from memory, speed and gradient noise; nothing was trained to the goal",
    "pilot": "pilot: from memory, speed and training runs at several batch sizes",
}


@dataclass(frozen=True, kw_only=True)
class AdviceBlock:
    """One advice on the page.

    `stack` are the charts over one axis of batch sizes, `more` the others; what can not be drawn
    says why in its place. `answer` and `about` are the two lines of the headline.
    """

    title: str
    answer: str
    about: str
    pairs: Pairs
    reasons: list[str]
    stack: list[Figure | Absence]
    more: list[Figure | Absence]
    table: Table


def advice_blocks(advices: Sequence[Advice]) -> list[AdviceBlock]:
    """A block for each advice, in the order given."""
    blocks = []
    for number, advice in enumerate(advices, start=1):
        prefix = "advice-" if len(advices) == 1 else f"advice-{number}-"
        blocks.append(
            AdviceBlock(
                title=advice_title(advice),
                answer=f"{advice.batch_size:,}",
                about=_about(advice),
                pairs=_pairs(advice),
                reasons=[sentence(reason) for reason in advice.reasons],
                stack=list(_stack(advice, prefix)),
                more=list(_more(advice, prefix)),
                table=tested_table(advice),
            )
        )
    return blocks


def advice_title(advice: Advice) -> str:
    """What the advice is about."""
    return f"Batch size for {advice.model} on {advice.provenance.data}"


def origin_of_advice(advice: Advice) -> Origin:
    """Where an advice comes from."""
    return Origin(
        name=advice_title(advice),
        provenance=advice.provenance,
        facts={
            "model": advice.model,
            "goal": advice.goal.text,
            "grade": advice.grade,
            **advice.settings,
        },
    )


def advice_facts(advice: Advice) -> list[str]:
    """What the advice says, in two sentences for the summary."""
    full = ", the full batch" if advice.is_full else ""
    return [
        f"Advised batch size: {advice.batch_size:,}{full}{advice.shares_text}, for "
        f"{advice.goal.text}. "
        f"{interval_text(advice)}",
        f"Learning rate to start from: {advice.learning_rate:.3g} "
        f"({advice.companions.learning_rate_source}).",
    ]


def tested_table(advice: Advice) -> Table:
    """A row for every size that ran: what was measured of it and what is expected."""
    is_relative = are_times_relative(advice)
    timed = {point.batch_size: point for point in advice.speed.points}
    costs = {cost.batch_size: cost for cost in costs_of(advice)}
    sizes = {size.batch_size: size for size in advice.pilot.sizes} if advice.pilot else {}
    memory = {point.batch_size: point for point in advice.memory.measured} if advice.memory else {}
    low, high = advice.interval
    rows = []
    for size in sorted({*advice.tested, advice.batch_size}):
        texts = {"batch size": f"{size:,}"}
        if advice.ranks is not None:
            texts["on a rank"] = f"{largest_share(size, advice.ranks.world_size):,}"
        if size in memory:
            texts["memory"] = bytes_text(memory[size].bytes)
        if size in timed:
            texts["a step"] = time_text(timed[size].seconds_per_batch)
            texts["samples a second"] = f"{timed[size].samples_per_second:,.0f}"
        if size in sizes:
            pilot = sizes[size]
            texts["learning rate"] = f"{pilot.learning_rate:.3g}"
            texts["samples needed"] = f"{pilot.samples:,.0f}\n{pilot.low:,.0f} to {pilot.high:,.0f}"
        if size in costs:
            cost = costs[size]
            ends = [cost_text(end, is_relative=is_relative) for end in (cost.low, cost.high)]
            told = cost_text(cost.seconds, is_relative=is_relative)
            texts["time to the goal"] = (
                told if cost.low == cost.high else (f"{told}\n{' to '.join(ends)}")
            )
        if size == advice.batch_size:
            texts["place"] = "advised"
        elif low <= size <= high:
            texts["place"] = "in the interval"
        rows.append(texts)
    known = (
        "on a rank",
        "memory",
        "a step",
        "samples a second",
        "learning rate",
        "samples needed",
        "time to the goal",
        "place",
    )
    columns = ["batch size", *(name for name in known if any(name in texts for texts in rows))]
    notes = [*(advice.memory.notes if advice.memory else []), *advice.speed.notes]
    return Table(
        title="The sizes that ran",
        columns=["" if name == "place" else name for name in columns],
        rows=[[texts.get(name, "") for name in columns] for texts in rows],
        notes=[sentence(f"{note[:1].upper()}{note[1:]}") for note in notes],
    )


def _about(advice: Advice) -> str:
    full = "the full batch; " if advice.is_full else ""
    if advice.ranks is not None:
        full += f"{advice.ranks.shares_text}; "
    told = interval_text(advice)
    return f"{full}{told[0].lower()}{told[1:]}" if full else told


def _pairs(advice: Advice) -> Pairs:
    companions = advice.companions
    pairs: Pairs = [
        ("goal", advice.goal.text),
        ("grade", _GRADES.get(advice.grade, advice.grade)),
        (
            "learning rate",
            f"{advice.learning_rate:.3g} to start from ({companions.learning_rate_source})",
        ),
    ]
    if companions.beta2 is not None:
        pairs.append(("Adam's β₂", f"{companions.beta2:.6g} to start from"))
    pairs.append(("schedule", companions.schedule))
    if advice.ranks is not None:
        pairs += [("ranks", advice.ranks.shares_text), ("communication", advice.ranks.times_text)]
    if advice.micro_batch_size is not None:
        pairs.append(
            (
                "micro-batch size",
                f"{advice.micro_batch_size:,}; a step sums {advice.accumulation_steps:,} of them",
            )
        )
    pairs += [
        ("evaluation", f"batch size {advice.evaluation_batch_size:,}"),
        ("time spent", f"{advice.seconds_spent:.3g} s"),
    ]
    return pairs


def _stack(advice: Advice, prefix: str) -> Iterator[Figure | Absence]:
    memory = advice.memory
    if memory is None:
        yield Absence(title="Memory", words="Memory was not measured.")
    elif memory.declined is not None or not memory.measured:
        why = memory.declined or "no size was run"
        yield Absence(title="Memory", words=f"There is no advice on memory: {sentence(why)}")
    else:
        yield _figure(advice, f"{prefix}memory", "Memory", _memory_caption(advice), memory_chart)
    yield _figure(
        advice, f"{prefix}speed", "Speed", advice_speed_caption(advice), advice_speed_chart
    )
    if has_samples(advice):
        yield _figure(
            advice,
            f"{prefix}samples",
            "Samples to the goal",
            samples_caption(advice),
            samples_chart,
        )
    else:
        yield Absence(title="Samples to the goal", words=_why_no_samples(advice))
    if advice.costs:
        yield _figure(
            advice,
            f"{prefix}time",
            "Time to the goal",
            time_to_goal_caption(advice),
            goal_time_chart,
        )
    else:
        yield Absence(
            title="Time to the goal",
            words="Not predicted: it takes the samples to the goal. The batch size is the smallest "
            "of nearly the highest throughput.",
        )


def _memory_caption(advice: Advice) -> str:
    assert advice.memory is not None  # asked by the caller
    caption = memory_caption(advice.memory)
    if advice.ranks is None:
        return caption
    return (
        f"{caption} It is the memory of one of {advice.ranks.world_size:,} ranks, which hold a "
        "share each of a batch in training; a pass without gradients takes batches of its own."
    )


def _more(advice: Advice, prefix: str) -> Iterator[Figure | Absence]:
    noise, pilot = advice.noise, advice.pilot
    title = "The gradient noise scale as training goes on"
    if any(point.scale is not None or point.low > 0 for point in noise.trajectory):
        caption = noise_caption(noise)
        if noise.refused is not None:
            caption += f" No scale is told: {sentence(noise.refused)}"
        yield Figure(
            name=f"{prefix}noise",
            section="advice",
            group=advice_title(advice),
            title=title,
            caption=caption,
            draw=lambda **how: noise_trajectory(noise, **how),
        )
    else:
        why = noise.refused or "the run gave no look at it"
        yield Absence(title=title, words=f"There is no noise scale: {sentence(why)}")
    title = "The pilot: validation losses of its runs"
    if pilot is not None and any(len(run.points) > 1 for run in pilot.runs):
        runs = pilot
        yield Figure(
            name=f"{prefix}branches",
            section="advice",
            group=advice_title(advice),
            title=title,
            caption=branches_caption(runs),
            draw=lambda **how: branch_curves(runs, **how),
        )
    elif advice.grade == "pilot":
        yield Absence(title=title, words="No run of the pilot was looked at more than once.")
    else:
        yield Absence(
            title=title,
            words="No pilot was run. The pilot grade trains short runs at several batch sizes "
            "and takes the samples to the goal from them.",
        )


def _why_no_samples(advice: Advice) -> str:
    if advice.noise.refused is not None:
        return f"Not estimated: {sentence(advice.noise.refused)}"
    return "Not estimated: neither the noise scale nor a pilot told them."


def _figure(
    advice: Advice,
    name: str,
    title: str,
    caption: str,
    chart: Callable[..., altair.LayerChart | None],
) -> Figure:
    return Figure(
        name=name,
        section="advice",
        group=advice_title(advice),
        title=title,
        caption=caption,
        draw=lambda **how: chart(advice, **how),
    )
