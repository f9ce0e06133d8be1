"""The reasons and alerts of an advice: what was measured, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rightbatch.advice.advice import CostPoint, Goal
from rightbatch.advice.choice import Choice
from rightbatch.advice.law import Law
from rightbatch.advice.memory import Memory
from rightbatch.advice.noise_scale import Noise, noise_text
from rightbatch.advice.pilot_result import Pilot
from rightbatch.advice.rank_shares import RankShares
from rightbatch.advice.timing import Speed, half_batch_text, time_text
from rightbatch.byte_sizes import bytes_text

# Where making the batches takes this share of the loop's time, the model waits for them.
_LOADER_LIMIT = 0.8
_POOR_FIT = 0.10
# Below, several ranks are no faster than one of them, within what times are known to.
_LEAST_SPEEDUP = 1.05


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that was measured, and what was chosen from it.

    `coupled` says why the model's samples can not be told apart, None where they can;
    `has_validation` whether there is a validation part; `training_samples` the samples of train;
    `branch_alerts` what is to be said of where branches ran. `micro_batch_size` is that of a rank's
    share; `ranks` is None for one process.
    """

    goal: Goal
    choice: Choice
    memory: Memory | None
    speed: Speed
    noise: Noise
    pilot: Pilot | None
    law: Law | None
    coupled: str | None
    micro_batch_size: int | None
    has_validation: bool
    training_samples: int
    model: str
    loss: str
    branch_alerts: Sequence[str] = ()
    ranks: RankShares | None = None

    @property
    def seconds_per_sample(self) -> float:
        """Of the training loop at the chosen size."""
        return next(
            point.seconds_per_sample
            for point in self.speed.points
            if point.batch_size == self.choice.batch_size
        )

    @property
    def loader_share(self) -> float:
        """Seconds of making a batch over seconds of a step of the loop; about 1 where it limits."""
        return (self.speed.loading_seconds_per_sample or 0.0) / self.seconds_per_sample

    @property
    def is_limited_by_loader(self) -> bool:
        """Whether the loop waits for its batches rather than for the model."""
        return self.loader_share >= _LOADER_LIMIT


def reasons_of(evidence: Evidence) -> list[str]:
    """Why this size: memory, speed, statistics, and what the choice costs and saves."""
    reasons = []
    if evidence.is_limited_by_loader:
        reasons.append(_loader_reason(evidence))
    if evidence.memory is not None and evidence.memory.declined is None:
        reasons.append(_memory_reason(evidence.memory, evidence.ranks))
    reasons.append(_speed_reason(evidence.speed))
    if evidence.ranks is not None:
        reasons.append(_ranks_reason(evidence.ranks))
    if evidence.coupled is None:
        reasons.append(_statistics_reason(evidence))
    reasons.append(_choice_reason(evidence))
    if evidence.micro_batch_size is not None:
        reasons.append(_micro_batch_reason(evidence, evidence.micro_batch_size))
    return reasons


def _micro_batch_reason(evidence: Evidence, micro_batch_size: int) -> str:
    size = evidence.choice.batch_size
    what, where = f"a batch of {size:,}", ""
    if evidence.ranks is not None:
        size = evidence.ranks.largest_share
        what, where = f"a rank's share of {size:,}", " of a rank"
    return (
        f"Memory{where} holds {micro_batch_size:,} samples at a time: {what} is worked through in "
        f"{math.ceil(size / micro_batch_size):,} micro-batches, with the same gradient; each of "
        "them pays the latency of a step"
    )


def alerts_of(evidence: Evidence) -> list[str]:
    """What stands in the way of trusting the advice."""
    alerts = list(evidence.branch_alerts)
    if evidence.is_limited_by_loader:
        alerts.append(
            "The loader is the limit, not the model: a faster one changes this advice. Load "
            "smaller or already decoded samples, attach fewer transforms, or keep them in memory"
        )
    if evidence.ranks is not None:
        alerts += _rank_alerts(evidence.ranks)
    if evidence.coupled is not None:
        alerts.append(
            f"No critical batch size: {evidence.coupled}. The size is chosen by memory and speed "
            "alone"
        )
    elif evidence.noise.refused is not None:
        alerts.append(f"The gradient noise is not resolved: {evidence.noise.refused}")
    if evidence.memory is not None and evidence.memory.declined is not None:
        alerts.append(f"No memory advice: {evidence.memory.declined}")
    if not evidence.has_validation:
        alerts.append(
            "There is no validation part: losses are those of training samples. Split with val=0.1"
        )
    pilot = evidence.pilot
    if pilot is not None and not pilot.sizes:
        alerts.append(
            "No branch of the pilot came anywhere within its budget: the advice is that of the "
            "quick grade. Give it more time (budget_seconds, --budget), or another learning rate"
        )
    elif pilot is not None and pilot.target_loss is None and pilot.enough_samples is None:
        alerts.append(
            f"Within the budget the branches came down to a loss of {pilot.loss:.3g}, not to the "
            "end of the epochs, and sizes are compared there: larger ones do better as the loss "
            "falls. More time (budget_seconds, --budget) tells"
        )
    elif pilot is not None and pilot.target_loss is not None and not pilot.reaches_target:
        alerts.append(
            f"The budget ended at a loss of {pilot.loss:.3g}, above the target of "
            f"{pilot.target_loss:g}: the trend of the critical batch size is carried on to it, and "
            "the interval is wider for that. More time (budget_seconds, --budget) narrows it"
        )
    if pilot is not None and any(
        size.runs == 1 for size in pilot.sizes if size.batch_size == evidence.choice.batch_size
    ):
        alerts.append(
            "The rate at this size was tried with one seed alone, and rates that learn fast lie "
            "close to those that diverge: take half of it where the loss jumps about, or give the "
            "pilot more time (budget_seconds, --budget)"
        )
    fit = evidence.speed.fit
    if fit is not None and fit.residual > _POOR_FIT:
        alerts.append(
            f"Step times are off the law by {fit.residual:.0%}: what was measured is used, each "
            "size smoothed with those beside it, and not the law"
        )
    largest = max(point.batch_size for point in evidence.speed.points)
    if evidence.choice.batch_size == largest and largest < evidence.training_samples:
        is_cap = evidence.memory is not None and evidence.memory.cap == largest
        alerts.append(
            f"{largest:,} is the largest size that was run"
            + (" and that fits in memory" if is_cap else "")
            + "; of larger ones nothing is known"
        )
    return alerts


def _loader_reason(evidence: Evidence) -> str:
    loading = evidence.speed.loading_seconds_per_sample or 0.0
    return (
        f"The loader comes first: making a batch takes {time_text(loading)} a sample on one "
        f"thread, and the training loop takes {time_text(evidence.seconds_per_sample)} in all"
    )


def _ranks_reason(ranks: RankShares) -> str:
    return (
        f"A batch of {ranks.batch_size:,} is {ranks.shares_text}: {ranks.times_text}. The rate is "
        f"that of {ranks.world_size:,} ranks, and another number of them may call for another size"
    )


def _rank_alerts(ranks: RankShares) -> list[str]:
    alerts = []
    if ranks.idle_ranks:
        alerts.append(
            f"A batch of {ranks.batch_size:,} leaves {ranks.idle_ranks:,} of {ranks.world_size:,} "
            "ranks without a sample: start fewer of them"
        )
    if ranks.speedup < _LEAST_SPEEDUP:
        alerts.append(
            f"{ranks.world_size:,} ranks do not pay here: together they take "
            f"{time_text(ranks.step_seconds)} for a step of {ranks.batch_size:,}, and one of them "
            f"alone {time_text(ranks.single_seconds)}. Train in one process, or with a model whose "
            "steps take longer than communication does"
        )
    return alerts


def _memory_reason(memory: Memory, ranks: RankShares | None) -> str:
    limit = "" if memory.limit_bytes is None else f" in {bytes_text(memory.limit_bytes)}"
    source = f" ({memory.limit_source})" if memory.limit_source else ""
    above = f"; the process takes {bytes_text(memory.loaded_bytes)} before the first batch"
    if memory.fit is not None and memory.cap is not None:
        needed, high = memory.fit.bytes(memory.cap), memory.fit.high(memory.cap)
        above += (
            f", needs {bytes_text(needed)} more at that size and holds {bytes_text(high)} more at "
            "most, with freed memory that is kept"
        )
    # Time ended the probes before memory did, where the next size would fit as well.
    has_more = memory.cap is not None and memory.holds(2 * memory.cap)
    probed = ", the largest that was probed," if has_more else ""
    told = f"Fits up to {memory.cap:,}{probed}{limit}{source}{above}"
    if ranks is not None and memory.cap is not None:
        share = memory.cap // ranks.world_size
        told = f"{told}. That is of one rank, which holds {max(1, share):,} of {memory.cap:,}"
    return told


def _speed_reason(speed: Speed) -> str:
    fastest = speed.fastest
    told = (
        f"A sample costs {time_text(fastest.seconds_per_sample)} at {fastest.batch_size:,}, the "
        "fastest"
    )
    if speed.fit is not None:
        half = half_batch_text(speed.fit, max(point.batch_size for point in speed.points))
        place = half if half.startswith("beyond") else f"at {half}"
        told += f"; half of the throughput is reached {place}"
    return told


def _statistics_reason(evidence: Evidence) -> str:
    law, noise = evidence.law, evidence.noise
    scale = "" if noise.scale is None else f"; gradient noise scale {noise_text(noise)}"
    if evidence.pilot is not None and len(evidence.pilot.sizes) == 1:
        return (
            f"Branches got somewhere at batch size {evidence.pilot.sizes[0].batch_size:,} alone, "
            f"which says nothing of what others need{scale}"
        )
    if evidence.pilot is not None and evidence.pilot.sizes and law is not None:
        seeds = {run.seed for run in evidence.pilot.runs}
        sizes = {run.batch_size for run in evidence.pilot.runs}
        return (
            f"Gradients stop agreeing above about {law.critical_batch_size:,.0f} "
            f"({law.low:,.0f} to {law.high:,.0f}), by {len(evidence.pilot.runs):,} branches at "
            f"{len(sizes):,} sizes with {len(seeds):,} seed{'s' if len(seeds) > 1 else ''}{scale}"
        )
    if law is None:
        return "What larger batches cost in samples was not measured"
    if noise.scale is None:
        return (
            "The gradient noise is not resolved, so the size from which on larger batches only "
            f"burn samples is anywhere from {law.low:,.0f} to {law.high:,.0f}"
        )
    return (
        f"The gradient noise scale is {noise_text(noise)}; where gradients stop agreeing follows "
        f"from it to a factor of 4 at best: {law.low:,.0f} to {law.high:,.0f}"
    )


def _choice_reason(evidence: Evidence) -> str:
    choice = evidence.choice
    size = f"{choice.batch_size:,}"
    if choice.batch_size >= evidence.training_samples:
        size += ", the full batch,"
    costs = {cost.batch_size: cost for cost in choice.costs}
    if evidence.coupled is not None or choice.batch_size not in costs:
        return (
            f"Batch size {size} is the smallest within 10 % of the highest throughput: below it "
            "time is lost, above it nothing is gained in speed"
        )
    own = costs[choice.batch_size]
    if evidence.goal.kind == "epochs":
        return _epochs_reason(size, own, choice)
    others = sorted(
        (cost for cost in costs.values() if cost.has_run and cost.batch_size != choice.batch_size),
        key=lambda cost: cost.batch_size,
    )
    if evidence.pilot is not None and evidence.pilot.sizes:
        told = (
            f"Batch size {size} reaches {_reached(evidence.pilot)} after about "
            f"{own.samples:,.0f} samples, "
            f"{own.samples / choice.batch_size:,.0f} steps, {time_text(own.seconds)} of training"
        )
    else:
        told = f"Batch size {size} is expected to be the fastest to the goal"
    compared = [
        f"{cost.batch_size:,} takes about {_times(cost.seconds / own.seconds)} as long"
        for cost in (others[:1] + others[-1:] if len(others) > 1 else others)
    ]
    return told + (f"; {', '.join(compared)}" if compared else "")


def _reached(pilot: Pilot) -> str:
    """What the samples of a pilot lead to: the goal, or the loss that its budget allowed."""
    return "the goal" if pilot.reaches_target else f"the pilot's loss of {pilot.loss:.3g}"


def _epochs_reason(size: str, own: CostPoint, choice: Choice) -> str:
    fewest = min(cost.samples for cost in choice.costs)
    more = max(own.samples / fewest - 1, 0)
    if choice.enough_samples is not None and own.samples <= choice.enough_samples:
        return (
            f"Batch size {size} is the fastest that comes down to the lowest loss of these epochs "
            f"before they end: after about {own.samples:,.0f} of {choice.enough_samples:,.0f} "
            f"samples, {_times(1 + more)} those of the most frugal size"
        )
    if not choice.is_frugal:
        return (
            f"Batch size {size} needs the fewest samples to the same loss of those that were "
            f"trained, {more:.0%} above the fewest that any size is expected to need"
        )
    return (
        f"Batch size {size} is the fastest that is likely to need no more than 10 % above the "
        f"fewest samples to the same loss (on average {more:.0%} above): after the same epochs its "
        "loss is about that of any smaller batch, sooner"
    )


def _times(ratio: float) -> str:
    """A ratio for people.

    >>> _times(1.6), _times(163.4)
    ('1.6 times', '160 times')
    """
    return f"{ratio:.2g} times" if ratio < 10 else f"{float(f'{ratio:.2g}'):,.0f} times"
