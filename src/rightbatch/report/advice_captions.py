"""What the captions of an advice's charts say: only what these numbers show."""

from __future__ import annotations

import math
from collections import Counter

from rightbatch.advice.advice import Advice
from rightbatch.advice.law import NEAR_BEST
from rightbatch.advice.memory import Memory
from rightbatch.advice.noise_scale import Noise, noise_text
from rightbatch.advice.pilot_result import Pilot
from rightbatch.advice.timing import half_batch_text
from rightbatch.byte_sizes import bytes_text
from rightbatch.report.advice_memory_chart import left_bytes
from rightbatch.report.advice_samples_chart import critical_text, enough_samples, is_carried
from rightbatch.report.advice_time_chart import (
    are_times_relative,
    cost_text,
    costs_of,
    has_time_band,
    near_limit,
)
from rightbatch.report.wording import activity, counted, joined_words

_METHODS = {
    "per-sample": "gradients of single samples",
    "micro-batches": "gradients of micro-batches",
}


def interval_text(advice: Advice) -> str:
    """What the interval is, as a sentence.

    Where no time to the goal is known, the interval is of the throughput.
    """
    low, high = advice.interval
    if low == high:
        return "No other size that was looked at is within 10 % of it."
    if advice.costs and advice.goal.kind == "epochs":
        samples = (
            "need at most 10 % above the fewest samples"
            if enough_samples(advice) is None
            else "come down to the lowest loss before the epochs end"
        )
        return (
            f"Any size from {low:,} to {high:,} is about as good, as far as was measured: at most "
            f"10 % slower, and not unlikely to {samples}."
        )
    of = "the best" if advice.costs else "the highest throughput"
    return f"Any size from {low:,} to {high:,} is within 10 % of {of}, as far as was measured."


def memory_caption(memory: Memory) -> str:
    """Of the memory against the batch size."""
    where = "computer's memory" if memory.device == "cpu" else f"memory of {memory.device}"
    words = (
        f"What is in use at once of the {where}, above the {bytes_text(memory.loaded_bytes)} that "
        "the process has before the first batch: filled in training"
    )
    if memory.evaluation_measured:
        words += ", hollow in a pass without gradients"
    words += "."
    if memory.fit is not None or memory.predicted:
        words += (
            " The line is the law fitted to training; its band goes up to what the process may "
            "hold, with freed memory that is kept to be used again."
        )
    room = left_bytes(memory)
    if memory.limit_bytes is None:
        words += " There is no limit."
    elif room is None:
        words += (
            f" The limit of {bytes_text(memory.limit_bytes)} ({memory.limit_source}) leaves "
            "nothing for batches."
        )
    else:
        words += (
            f" The limit of {bytes_text(memory.limit_bytes)} ({memory.limit_source}) leaves "
            f"{bytes_text(room)} for batches."
        )
    return words + _caps(memory)


def _caps(memory: Memory) -> str:
    if memory.cap is None:
        return ""
    words = f" The largest batch that ran and fits is {memory.cap:,} in training"
    if memory.evaluation_cap is not None:
        words += f" and {memory.evaluation_cap:,} in evaluation"
    return f"{words}."


def advice_speed_caption(advice: Advice) -> str:
    """Of the throughput against the batch size."""
    speed = advice.speed
    words = (
        f"Samples a second in {activity(speed.mode)}; bars are 95 % intervals, medians of "
        f"{counted(speed.rounds, 'round')}."
    )
    if speed.fit is None:
        return words
    largest = max(point.batch_size for point in speed.points)
    half = speed.fit.half_batch_size
    if half > largest:
        return (
            f"{words} The curve is the fitted law; its n½ lies "
            f"{half_batch_text(speed.fit, largest)}: at every size here the fixed cost of a step "
            "is the larger part."
        )
    return (
        f"{words} The curve is the fitted law: below n½ = {half_batch_text(speed.fit)} the fixed "
        "cost of a step is the larger part, above it that of the samples."
    )


def samples_caption(advice: Advice) -> str:
    """Of the samples to the goal against the batch size."""
    if advice.pilot is not None and advice.pilot.sizes:
        return _of_pilot(advice, advice.pilot)
    return _expected(advice)


def _of_pilot(advice: Advice, pilot: Pilot) -> str:
    if is_carried(advice):
        words = (
            f"The training runs ended at a validation loss of {pilot.loss:.3g}, above the target "
            f"of {pilot.target_loss:.3g}: small points are the samples down to it, one a run. "
            "Large points are what each size needs with the trend carried on to the target, with "
            "95 % intervals."
        )
    else:
        words = (
            f"Training samples until the validation loss was {pilot.loss:.3g}: small points are "
            "single runs, large ones what each size needs at its best learning rate as all runs "
            "together tell, with 95 % intervals."
        )
    law = advice.law
    if law is None:
        return words + _allowed(advice)
    if math.isinf(law.critical_batch_size):
        return f"{words} Larger batches were not seen to need more samples.{_allowed(advice)}"
    return (
        f"{words} The curve is E(B) = E_min (1 + B/B_crit) with B_crit = "
        f"{critical_text(law.critical_batch_size)} ({_range(law.low, law.high)}), where twice the "
        f"fewest samples are needed.{_allowed(advice)}"
    )


def _expected(advice: Advice) -> str:
    noise, law = advice.noise, advice.law
    words = "What larger batches are expected to need, times the fewest: 1 + B/B_crit."
    if noise.scale is not None:
        words += f" The noise scale is {noise_text(noise)}; the bar under its name is its interval."
    else:
        words += " The noise scale is not known."
    if law is None:
        words += " It stands for B_crit here."
    else:
        biased = ", since the noise scale is a biased predictor of it" if noise.scale else ""
        words += (
            f" B_crit is taken to be anywhere from {_ends(law.low, law.high)}{biased}: that is the "
            "band."
        )
    return f"{words} No run was trained to the goal.{_allowed(advice)}"


def _allowed(advice: Advice) -> str:
    if advice.goal.kind != "epochs" or not advice.costs:
        return ""
    if enough_samples(advice) is not None:
        return " Sizes that come down to it before the epochs end do as well as smaller ones."
    return " Up to 10 % above the fewest samples, epochs end about as low as with smaller batches."


def time_to_goal_caption(advice: Advice) -> str:
    """Of the predicted time to the goal."""
    limit, _ = near_limit(advice)
    best = limit / (1 + NEAR_BEST)
    own = [cost for cost in costs_of(advice) if cost.batch_size == advice.batch_size]
    words = "Predicted from the two charts above"
    if has_time_band(advice):
        words += ", with a 95 % band"
    words += ". Filled points are sizes of which steps were run."
    if advice.goal.kind == "epochs":
        epochs = counted(advice.goal.epochs or 0, "epoch")
        return (
            f"{words} It is the time of {epochs}: larger batches may be faster and end with a "
            "higher loss."
        )
    if own and own[0].seconds > 0:
        share = own[0].seconds / best - 1
        told = "the least" if share < 0.005 else f"{share:.0%} above the least"
        if not are_times_relative(advice):
            told = f"{cost_text(own[0].seconds, is_relative=False)}, {told}"
        words += f" At the advised size it is {told}."
    return words


def noise_caption(noise: Noise) -> str:
    """Of the noise scale along the run."""
    method = _METHODS.get(noise.method, noise.method)
    words = (
        f"From {method}, along a run at batch size {noise.batch_size:,} and learning rate "
        f"{noise.learning_rate:.3g}; bars are 95 % intervals."
    )
    open_ends = sum(point.scale is None for point in noise.trajectory)
    if open_ends:
        words += (
            f" A triangle is a lower end: {counted(open_ends, 'look')} did not tell the mean "
            "gradient from zero."
        )
    known = [point.scale for point in noise.trajectory if point.scale is not None]
    if len(known) > 1 and known[0] > 0:
        growth = known[-1] / known[0]
        if growth > 1.5 or growth < 1 / 1.5:
            words += (
                f" It went from {known[0]:,.3g} to {known[-1]:,.3g} samples as training went on."
            )
    return words


def branches_caption(pilot: Pilot) -> str:
    """Of the branches' losses."""
    runs = "run" if len(pilot.runs) == 1 else "runs"
    words = f"{len(pilot.runs):,} training {runs} in {pilot.seconds:.3g} s; a dot ends each."
    if pilot.sizes:
        words += (
            " Those at the best learning rate of their size are strong, those of the search for "
            "it faint."
        )
    ends = Counter(run.ended for run in pilot.runs)
    told = [
        f"{ends[name]} {phrase}"
        for name, phrase in (
            ("reached", "got to the loss compared at"),
            ("hopeless", "fell behind and ended early"),
            ("diverged", "diverged (✕)"),
            ("budget", "ended with the budget"),
        )
        if ends[name]
    ]
    if told:
        words += f" Of them {joined_words(told)}."
    return f"{words} Click a name to isolate its size."


def _ends(low: float, high: float) -> str:
    top = "any size up" if math.isinf(high) else f"to {critical_text(high)}"
    return f"{critical_text(low)} {top}"


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return "any size" if low <= 0 else f"{critical_text(low)} or more"
    return f"{critical_text(low)} to {critical_text(high)}"
