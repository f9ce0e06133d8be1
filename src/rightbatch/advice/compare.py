"""`compare`: the same model from the same start at several batch sizes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Never

from numpy.typing import ArrayLike
from torch import Tensor, nn

from rightbatch.advice.comparison import Comparison, RateTrial
from rightbatch.advice.landscape import map_landscape
from rightbatch.advice.landscape_map import Landscape
from rightbatch.advice.rates import (
    best_of,
    check_rule,
    first_rates,
    next_rate,
    scaled_rate,
    trials_of,
)
from rightbatch.advice.run import Job, Run, loss_of, training_loss_of
from rightbatch.errors import OptionError
from rightbatch.loading.parts import Parts
from rightbatch.loading.refused_options import refuse_options
from rightbatch.loading.transform import Function
from rightbatch.loading.weights import parts_without_weights
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import whole_number
from rightbatch.training.options import FitOptions
from rightbatch.training.progress import Progress
from rightbatch.training.provenance import Provenance

# The first two each curve has for itself; the others a comparison does not take.
_OF_NO_CURVE = (
    "batch_size",
    "learning_rate",
    "checkpoint_seconds",
    "early_stopping",
    "target_loss",
)
_NOT_TAKEN = {
    "batch_size": "it is batch_sizes, a list of them",
    "batch_tokens": "curves are compared by their batch sizes in samples: attach rb.pad() for "
    "samples that vary in length and give batch_sizes",
    "early_stopping": "curves are compared to the end: give epochs or steps",
    "target_loss": "curves are compared to the end: give epochs or steps",
}


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
ModelFactory = Callable[[int], nn.Module]


def compare(
    model: str | nn.Module | ModelFactory,
    parts: Parts,
    *,
    batch_sizes: Iterable[int | str] = (1, 32, 128, "full"),
    learning_rate: float = 0.01,
    lr_rule: str = "same",
    reference_batch_size: int = 32,
    seeds: int = 1,
    seed: int = 0,
    epochs: int | None = None,
    steps: int | None = None,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    activation: str = "relu",
    init: str = "default",
    shuffle: bool = True,
    window: int | None = None,
    block: int | None = None,
    memory: str | int | float | None = None,
    weights: ArrayLike | str | None = None,
    epoch_samples: int | None = None,
    micro_batch_size: int | None = None,
    threads: int | None = None,
    landscape: bool = True,
    executor: Executor | None = None,
    progress: CompareWatcher | None = None,
    command: str | None = None,
    **not_taken: Never,
) -> Comparison:
    """Train a model at several batch sizes, from the same initial weights and in the same order.

    `model` is a name, a `torch.nn.Module` (copied for every run, and left as it was) or a
    function of a seed that makes one. `batch_sizes` are numbers of samples, or "full"; one that
    is larger than the training part is the full batch. `seeds` is the number of repetitions, with
    the seeds `seed`, `seed + 1`, …: each has its own initial weights (but for a given Module)
    and its own order, the same for every batch size.

    `learning_rate` suits `reference_batch_size`. `lr_rule` says what other sizes take: "same",
    "linear" (∝ B; Goyal et al. 2017, arXiv 1706.02677), "sqrt" (∝ √B), or "tuned": five rates a
    factor of 4 apart around the square-root rule are run in full with the first seed, up to three
    more beyond the end of that grid where the best one lies there, and the rate of the lowest
    validation loss (training loss where there is no validation part) is taken; `trials` has all
    of them.

    `executor` runs them as independent tasks, for example in a `ProcessPoolExecutor`; without one
    they run one after another in this process, so that they do not disturb each other's timings.
    With `landscape` the loss around the paths of the first seed is computed, up to about 20
    seconds. The other options are those of `fit`. A run whose loss becomes NaN or infinite ends
    there, and its curve says so.

    Raises OptionError where an option is not valid, DataError where the model does not fit.

    >>> import rightbatch as rb
    >>> parts = rb.split(rb.open("breast_cancer"), val=0.2, seed=7).transform(rb.standardize())
    >>> study = rb.compare("logistic", parts, batch_sizes=[32, "full"], epochs=3,
    ...                    learning_rate=0.1)
    >>> [(curve.label, curve.history[-1]["steps"]) for curve in study.curves]
    [('batch 32', 45), ('full batch (455)', 3)]
    """
    refuse_options("compare", not_taken, _NOT_TAKEN)
    if not isinstance(parts, Parts):
        raise OptionError(
            f"compare trains on the parts of a split and was given {type(parts).__name__}: "
            "rb.compare(model, rb.split(data, val=0.1), …)"
        )
    check_rule(lr_rule)
    reference = whole_number("reference_batch_size", reference_batch_size, at_least=1)
    seeds = whole_number("seeds", seeds, at_least=1)
    options = FitOptions(
        learning_rate=learning_rate,
        epochs=epochs,
        steps=steps,
        optimizer=optimizer,
        momentum=momentum,
        l1=l1,
        l2=l2,
        loss=loss,
        activation=activation,
        init=init,
        seed=seed,
        shuffle=shuffle,
        window=window,
        block=block,
        memory=memory,
        weights=weights,
        epoch_samples=epoch_samples,
        micro_batch_size=micro_batch_size,
        threads=threads,
    )
    sizes = _sizes(batch_sizes, options.samples_in_epoch(parts.train))
    parts = parts_without_weights(parts, weights)
    _refuse_shared_random_state(executor, model)
    jobs = [
        Job(
            model=model,
            parts=parts,
            options=replace(
                options,
                batch_size=size,
                learning_rate=scaled_rate(
                    lr_rule, options.learning_rate, batch_size=size, reference=reference
                ),
                micro_batch_size=_micro(options.micro_batch_size, size),
            ),
            keeps_trajectory=landscape,
        )
        for size in sizes
    ]
    runner = _Runner(executor, progress)
    trials: list[RateTrial] = []
    if lr_rule == "tuned":
        first, trials = _tuned(jobs, runner, repeats=seeds - 1)
        jobs = [replace(job, options=run.options) for job, run in zip(jobs, first, strict=True)]
    else:
        runner.expect(len(jobs) * seeds)
        first = runner(jobs)
    others = [
        replace(
            job,
            options=replace(job.options, seed=options.seed + number),
            keeps_trajectory=False,
        )
        for job in jobs
        for number in range(1, seeds)
    ]
    later = runner(others)
    runs = [
        run
        for place, first_run in enumerate(first)
        for run in (first_run, *later[place * (seeds - 1) : (place + 1) * (seeds - 1)])
    ]
    notes = _notes(runs, first, lr_rule, trials)
    mapped, reason = _landscape(first, jobs[0]) if landscape else (None, None)
    if reason is not None:
        notes.append(reason)
    return Comparison(
        model=model if isinstance(model, str) else _name(model),
        metric=first[0].metric,
        learning_rate_rule=lr_rule,
        learning_rate=options.learning_rate,
        reference_batch_size=None if lr_rule == "same" else reference,
        curves=[run.curve for run in runs],
        trials=trials,
        landscape=mapped,
        timings_comparable=executor is None,
        notes=notes,
        settings={
            name: value for name, value in options.to_json().items() if name not in _OF_NO_CURVE
        },
        provenance=Provenance.of(parts, command=command),
    )


class _Runner:
    """Runs jobs, here or by an executor, and tells how far they are."""

    def __init__(self, executor: Executor | None, watcher: CompareWatcher | None) -> None:
        self._executor = executor
        self._watcher = watcher
        self._ended = 0
        self._expected = 0

    def expect(self, runs: int) -> None:
        """Say that so many more runs are coming."""
        self._expected += runs

    def __call__(self, jobs: Sequence[Job]) -> list[Run]:
        if self._executor is None:
            runs = []
            for job in jobs:
                runs.append(job(partial(self._tell, job)))
                self._ended += 1
            return runs
        _refuse_unsendable(self._executor, jobs)
        futures = [self._executor.submit(job) for job in jobs]
        runs = []
        for job, future in zip(jobs, futures, strict=True):
            runs.append(future.result())
            self._tell(job, None)
            self._ended += 1
        return runs

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


def _tuned(
    jobs: Sequence[Job], runner: _Runner, *, repeats: int
) -> tuple[list[Run], list[RateTrial]]:
    """The best run of each job over a grid of rates, and everything that was tried."""
    tried: list[list[Run]] = [[] for _ in jobs]
    wanted = [first_rates(job.options.learning_rate) for job in jobs]
    runner.expect(len(jobs) * repeats)
    while any(wanted):
        wave = [(place, rate) for place, rates in enumerate(wanted) for rate in rates]
        runner.expect(len(wave))
        done = runner(
            [
                replace(jobs[place], options=replace(jobs[place].options, learning_rate=rate))
                for place, rate in wave
            ]
        )
        for (place, _), run in zip(wave, done, strict=True):
            tried[place].append(run)
        further = [
            next_rate([run.curve.learning_rate for run in runs], [loss_of(run) for run in runs])
            for runs in tried
        ]
        wanted = [[] if rate is None else [rate] for rate in further]
    best, trials = [], []
    for job, runs in zip(jobs, tried, strict=True):
        rates, losses = [run.curve.learning_rate for run in runs], [loss_of(run) for run in runs]
        # Where every rate diverged, the lowest is the nearest to one that would not.
        found = best_of(losses)
        place = rates.index(min(rates)) if found is None else found
        assert isinstance(job.options.batch_size, int)  # compare has resolved "full"
        trials += trials_of(job.options.batch_size, rates, losses)
        best.append(runs[place])
    return best, trials


def _sizes(batch_sizes: Iterable[int | str], length: int) -> list[int]:
    if isinstance(batch_sizes, str):
        raise OptionError(
            f"batch_sizes={batch_sizes!r} is a text; give a list, such as [1, 32, 128, 'full']"
        )
    sizes: list[int] = []
    for size in batch_sizes:
        # What is larger than the part is the full batch.
        resolved = min(resolve_batch_size(size, length), length)
        if resolved not in sizes:
            sizes.append(resolved)
    if not sizes:
        raise OptionError("batch_sizes is empty; give such as [1, 32, 128, 'full']")
    return sizes


def _micro(micro_batch_size: int | None, batch_size: int) -> int | None:
    """A micro-batch is a piece of a batch: smaller batches take none."""
    return None if micro_batch_size is None or micro_batch_size >= batch_size else micro_batch_size


def _refuse_shared_random_state(
    executor: Executor | None, model: str | nn.Module | ModelFactory
) -> None:
    if isinstance(executor, ThreadPoolExecutor) and not isinstance(model, str):
        raise OptionError(
            "threads share torch's random state, so runs of a module of your own (dropout, say) "
            "would not be reproducible in a ThreadPoolExecutor: take a ProcessPoolExecutor, or none"
        )


def _refuse_unsendable(executor: Executor, jobs: Sequence[Job]) -> None:
    """OptionError where code of the user's can not be sent to another process."""
    if isinstance(executor, ThreadPoolExecutor) or not jobs:
        return
    code = {
        "model": jobs[0].model,
        "loss": jobs[0].options.loss,
        **{
            f"transform {transform.name}": transform
            for transform in jobs[0].parts.train.transforms
            if isinstance(transform, Function)
        },
    }
    for name, value in code.items():
        try:
            pickle.dumps(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise OptionError(
                f"the {name} can not be sent to another process: {error}. Define it at the top "
                "of a module (no lambda, no inner function), or leave executor out"
            ) from error


def _name(model: nn.Module | ModelFactory) -> str:
    if isinstance(model, nn.Module):
        return type(model).__name__
    return str(getattr(model, "__qualname__", model))


def _notes(
    runs: Sequence[Run],
    first: Sequence[Run],
    lr_rule: str,
    trials: Sequence[RateTrial],
) -> list[str]:
    notes = [
        f"{run.curve.label}, seed {run.curve.seed}: {run.curve.diverged}"
        for run in runs
        if run.curve.diverged is not None
    ]
    if lr_rule == "tuned":
        by_size = ", ".join(f"{run.curve.learning_rate:g} at {run.curve.label}" for run in first)
        notes.append(
            f"The learning rate was searched at each batch size, in {len(trials)} runs of the "
            f"first seed, a factor of 4 apart: {by_size}."
        )
    return notes


def _landscape(runs: Sequence[Run], job: Job) -> tuple[Landscape | None, str | None]:
    """The landscape of the runs, or the reason why there is none."""
    paths = [
        (run.curve.label, run.curve.batch_size, run.trajectory)
        for run in runs
        if run.trajectory is not None and run.curve.diverged is None
    ]
    if not paths:
        kept = any(run.trajectory is not None for run in runs)
        return None, (
            "No landscape: every run diverged."
            if kept
            else "No landscape: the model has too many weights to keep a path of them."
        )
    return map_landscape(paths, training_loss_of(job)), None
