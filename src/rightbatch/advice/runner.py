"""Carries out the runs of a comparison: one after another here, or wherever an executor does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    as_completed,
)
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from rightbatch.advice.placement import with_overlaps
from rightbatch.advice.run import Job, Run
from rightbatch.advice.sending import code_of, to_bytes
from rightbatch.advice.sent_task import LocalTask, Raised, SentTask
from rightbatch.training.progress import Progress

_MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class CompareProgress:
    """Which of the runs is under way, and how it stands; sent whenever that changes.

    `run` counts from 1; `runs` may grow while learning rates are searched. `training` is None
    where the run is in another process and has just ended.
    """

    run: int
    runs: int
    batch_size: int
    learning_rate: float
    seed: int
    training: Progress | None


CompareWatcher = Callable[[CompareProgress], None]


class LostRunsError(Exception):
    """Some runs came to no end, since whoever carried them out did; `message` is for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Runner:
    """Runs jobs, here or by an executor, and tells how far they are.

    `finished` maps what `Job.key` says to runs that were carried out before, which are taken as
    they are. `done` has all runs in the order in which they were asked for, with their jobs.
    """

    def __init__(
        self,
        executor: Executor | None,
        watcher: CompareWatcher | None,
        finished: Mapping[str, Run] | None = None,
    ) -> None:
        self._executor = executor
        self._watcher = watcher
        self._finished = dict(finished or {})
        self._ended = 0
        self._expected = 0
        self._sent: bytes | None = None
        self.done: list[tuple[Job, Run]] = []

    def expect(self, runs: int) -> None:
        """Say that so many more runs are coming."""
        self._expected += runs

    def __call__(self, jobs: Sequence[Job]) -> list[Run]:
        """A run for every job, in their order.

        Raises LostRunsError where the executor lost some; those that it did not are in `done`.
        """
        if self._executor is None:
            runs = []
            for job in jobs:
                run = self._taken_over(job)
                if run is None:
                    run = job(partial(self._tell, job))
                    self._ended += 1
                runs.append(run)
        else:
            runs = self._by_executor(self._executor, jobs)
        self.done += zip(jobs, runs, strict=True)
        return runs

    def placed(self, runs: Iterable[Run]) -> list[Run]:
        """These runs, each with the number of others of `done` that shared its machine."""
        places = [place for _, run in self.done if (place := run.curve.placement) is not None]
        counted = dict(zip(map(id, places), with_overlaps(places), strict=True))
        return [
            replace(run, curve=replace(run.curve, placement=counted.get(id(run.curve.placement))))
            for run in runs
        ]

    def kept(self) -> dict[str, Run]:
        """All runs that were carried out, by the key of their job."""
        return {job.key: run for job, run in self.done}

    def _by_executor(self, executor: Executor, jobs: Sequence[Job]) -> list[Run]:
        runs: dict[int, Run] = {}
        futures: dict[Future[Any], int] = {}
        lost: dict[int, Exception] = {}
        try:
            for place, job in enumerate(jobs):
                found = self._taken_over(job)
                if found is not None:
                    runs[place] = found
                    continue
                try:
                    futures[executor.submit(self._task(executor, job))] = place
                except RuntimeError as error:  # the pool is broken, or was shut down
                    lost[place] = error
            for future in as_completed(futures):
                place = futures[future]
                try:
                    outcome = future.result()
                # A task gives its own errors back: what is raised is of the executor.
                except Exception as error:
                    lost[place] = error
                    continue
                if isinstance(outcome, Raised):
                    raise outcome.error
                run: Run = outcome.value
                curve = replace(run.curve, placement=outcome.placement)
                runs[place] = replace(run, curve=curve)
                self._tell(jobs[place], None)
                self._ended += 1
        except BaseException:
            # Nobody waits for the others any more.
            for future in futures:
                future.cancel()
            raise
        if lost:
            self.done += [(jobs[place], beside_another(runs[place])) for place in sorted(runs)]
            raise LostRunsError(
                told_of_lost(
                    [jobs[place].label for place in sorted(lost)],
                    [job.label for job, _ in self.done],
                    lost[min(lost)],
                )
            ) from lost[min(lost)]
        return [runs[place] for place in range(len(jobs))]

    def _taken_over(self, job: Job) -> Run | None:
        found = self._finished.get(job.key) if self._finished else None
        # A landscape needs the path, and a run that kept none is not enough for it.
        if found is None or (job.keeps_trajectory and not found.has_path):
            return None
        self._ended += 1
        return found

    def _task(self, executor: Executor, job: Job) -> Callable[[], Any]:
        if isinstance(executor, ThreadPoolExecutor):
            return LocalTask(work=job.run_with, argument=job.changes())
        if self._sent is None:
            # Once for all jobs: model and data, which may be large, are those of each.
            code = code_of(job.model, job.options.loss, job.parts)
            self._sent = to_bytes(job.run_with, code)
        return SentTask(
            work=self._sent, argument=job.changes(), torch_threads=torch.get_num_threads()
        )

    def _tell(self, job: Job, training: Progress | None) -> None:
        if self._watcher is not None:
            assert isinstance(job.options.batch_size, int)  # compare has resolved "full"
            self._watcher(
                CompareProgress(
                    run=self._ended + 1,
                    runs=max(self._expected, self._ended + 1),
                    batch_size=job.options.batch_size,
                    learning_rate=job.options.learning_rate,
                    seed=job.options.seed,
                    training=training,
                )
            )


def beside_another(run: Run) -> Run:
    """The run as one that may have shared its machine: with one that was lost, and left no trace.

    Without a placement it is returned as it is.
    """
    place = run.curve.placement
    if place is None:
        return run
    shared = replace(place, overlapping_runs=max(1, place.overlapping_runs))
    return replace(run, curve=replace(run.curve, placement=shared))


def told_of_lost(lost: Sequence[str], whole: Sequence[str], error: Exception) -> str:
    """What to say of runs that an executor lost by `error`, and of those that are whole.

    >>> print(told_of_lost(["batch 1"], ["batch 8"], CancelledError()))
    1 of 2 runs came to no end, since they were cancelled. Lost: batch 1. Whole: batch 8.
    """
    if isinstance(error, BrokenExecutor):
        why = (
            f"a worker process ended before its work did ({type(error).__name__}). Most often "
            "memory ran out and the system ended it: take fewer workers, or cut large batches "
            "(micro_batch_size). A script that starts processes does so under "
            'if __name__ == "__main__":'
        )
    elif isinstance(error, CancelledError):
        why = "they were cancelled"
    elif type(error).__name__ == "KilledWorker":
        why = (
            "every worker of the cluster that took them ended (KilledWorker). Most often memory "
            "ran out there: give workers more, or cut large batches (micro_batch_size)"
        )
    else:
        why = f"the executor failed: {type(error).__name__}: {error}"
    runs = len(lost) + len(whole)
    return (
        f"{len(lost):,} of {runs:,} runs came to no end, since {why}. Lost: {_named(lost)}. Whole: "
        f"{_named(whole) or 'none'}."
    )


def _named(labels: Sequence[str]) -> str:
    shown = "; ".join(labels[:_MOST_NAMED])
    more = len(labels) - _MOST_NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown
