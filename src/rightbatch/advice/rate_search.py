"""The runs of a comparison, where rates are searched before further seeds are run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rightbatch.advice.comparison import RateTrial
from rightbatch.advice.rates import best_of, first_rates, next_rate, trials_of
from rightbatch.advice.run import Job, Run, loss_of
from rightbatch.advice.runner import Runner


def carry_out(
    jobs: Sequence[Job], runner: Runner, *, is_tuned: bool, seeds: int
) -> tuple[list[Run], list[Run], list[RateTrial]]:
    """The runs of the first seed, those of the others, size by size, and the rates tried."""
    if is_tuned:
        first, trials = _tuned(jobs, runner, repeats=seeds - 1)
        jobs = [
            _at_rate(job, run.curve.learning_rate) for job, run in zip(jobs, first, strict=True)
        ]
        return first, runner(_other_seeds(jobs, seeds)), trials
    others = _other_seeds(jobs, seeds)
    runner.expect(len(jobs) + len(others))
    # At once, so that no worker waits for the last of the first seed.
    runs = runner([*jobs, *others])
    return runs[: len(jobs)], runs[len(jobs) :], []


def _other_seeds(jobs: Sequence[Job], seeds: int) -> list[Job]:
    """The jobs with the seeds after the first, size by size."""
    return [
        replace(
            job,
            options=replace(job.options, seed=job.options.seed + number),
            keeps_trajectory=False,
        )
        for job in jobs
        for number in range(1, seeds)
    ]


def best_of_whole(
    runner: Runner, *, is_tuned: bool, seed: int
) -> tuple[list[Run], list[RateTrial]]:
    """Of a study that lost runs: those that are whole, of rates tried the best of each size."""
    runs = [run for _, run in runner.done]
    if not is_tuned:
        return runs, []
    whole: list[Run] = []
    trials: list[RateTrial] = []
    for size in dict.fromkeys(run.curve.batch_size for run in runs):
        tried = [r for r in runs if r.curve.batch_size == size and r.curve.seed == seed]
        best, found = _best_rate(tried)
        trials += found
        whole += [best, *(r for r in runs if r.curve.batch_size == size and r not in tried)]
    return whole, trials


def _tuned(
    jobs: Sequence[Job], runner: Runner, *, repeats: int
) -> tuple[list[Run], list[RateTrial]]:
    """The best run of each job over a grid of rates, and everything that was tried."""
    tried: list[list[Run]] = [[] for _ in jobs]
    wanted = [first_rates(job.options.learning_rate) for job in jobs]
    runner.expect(len(jobs) * repeats)
    while any(wanted):
        wave = [(place, rate) for place, rates in enumerate(wanted) for rate in rates]
        runner.expect(len(wave))
        done = runner([_at_rate(jobs[place], rate) for place, rate in wave])
        for (place, _), run in zip(wave, done, strict=True):
            tried[place].append(run)
        further = [
            next_rate([run.curve.learning_rate for run in runs], [loss_of(run) for run in runs])
            for runs in tried
        ]
        wanted = [[] if rate is None else [rate] for rate in further]
    best, trials = [], []
    for runs in tried:
        run, found = _best_rate(runs)
        best.append(run)
        trials += found
    return best, trials


def _best_rate(runs: Sequence[Run]) -> tuple[Run, list[RateTrial]]:
    """The run of the best rate of one size, and all that were tried."""
    rates, losses = [run.curve.learning_rate for run in runs], [loss_of(run) for run in runs]
    # Where every rate diverged, the lowest is the nearest to one that would not.
    found = best_of(losses)
    place = rates.index(min(rates)) if found is None else found
    return runs[place], trials_of(runs[place].curve.batch_size, rates, losses)


def _at_rate(job: Job, learning_rate: float) -> Job:
    return replace(job, options=replace(job.options, learning_rate=learning_rate))
