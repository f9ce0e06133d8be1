"""`compare`: the same model from the same start at several batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Never

from numpy.typing import ArrayLike
from torch import Tensor, nn

from rightbatch.advice.comparison import Comparison, Curve, RateTrial
from rightbatch.advice.landscape import map_landscape
from rightbatch.advice.landscape_map import Landscape
from rightbatch.advice.placement import why_not_comparable
from rightbatch.advice.rate_search import best_of_whole, carry_out
from rightbatch.advice.rates import check_rule, scaled_rate
from rightbatch.advice.run import Job, Run, training_loss_of
from rightbatch.advice.runner import CompareWatcher, LostRunsError, Runner
from rightbatch.advice.sent_task import check_executor
from rightbatch.errors import OptionError, WorkerError
from rightbatch.loading.parts import Parts
from rightbatch.loading.refused_options import refuse_options
from rightbatch.loading.weights import parts_without_weights
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import whole_number
from rightbatch.training.options import FitOptions
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
    finished: WorkerError | None = None,
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

    `executor` runs them as independent tasks: a `ProcessPoolExecutor`, or Dask's
    (`client.get_executor()`), MPI's or any other `concurrent.futures.Executor`. The curves are the
    same; each says in its `placement` where it ran, and where runs shared a machine,
    `timings_comparable` is False and `notes` says so. Without one they run one after another in
    this process, so that they do not disturb each other's timings. `finished` is the WorkerError
    of an earlier call that lost a worker: the runs that came to their end then are taken over.
    With `landscape` the loss around the paths of the first seed is computed, up to about 20
    seconds. The other options are those of `fit`. A run whose loss becomes NaN or infinite ends
    there, and its curve says so.

    Raises OptionError where an option is not valid or something can not be sent to a worker,
    DataError where the model does not fit or a worker does not find the data, WorkerError where
    workers ended before their runs did.

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
    if finished is not None and not isinstance(finished, WorkerError):
        raise OptionError(
            f"finished={type(finished).__name__} is not valid; it is the WorkerError that an "
            "earlier compare raised: except rb.WorkerError as error: …"
        )
    check_executor(executor)
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
    runner = Runner(executor, progress, None if finished is None else finished.runs)
    describe = partial(
        _Description(
            model=model if isinstance(model, str) else _name(model),
            learning_rate_rule=lr_rule,
            reference_batch_size=None if lr_rule == "same" else reference,
            options=options,
            provenance=lambda: Provenance.of(parts, command=command),
        ).comparison,
        runner,
    )
    try:
        first, later, trials = carry_out(jobs, runner, is_tuned=lr_rule == "tuned", seeds=seeds)
    except LostRunsError as error:
        whole, trials = best_of_whole(runner, is_tuned=lr_rule == "tuned", seed=options.seed)
        lost = WorkerError(
            error.message,
            comparison=describe(whole, trials, notes=[error.message]) if whole else None,
            runs=runner.kept(),
        )
        if whole:
            lost.add_note(
                "What is whole is kept: `error.comparison` shows it, and with a new executor "
                "compare(…, finished=error) runs the others alone."
            )
        raise lost from error.__cause__
    runs = [
        run
        for place, first_run in enumerate(first)
        for run in (first_run, *later[place * (seeds - 1) : (place + 1) * (seeds - 1)])
    ]
    mapped, reason = _landscape(first, jobs[0]) if landscape else (None, None)
    return describe(runs, trials, first=first, landscape=mapped, notes=[reason] if reason else [])


@dataclass(frozen=True, kw_only=True)
class _Description:
    """What a comparison says of itself beside its runs."""

    model: str
    learning_rate_rule: str
    reference_batch_size: int | None
    options: FitOptions
    provenance: Callable[[], Provenance]

    def comparison(
        self,
        runner: Runner,
        runs: Sequence[Run],
        trials: list[RateTrial],
        *,
        first: Sequence[Run] = (),
        landscape: Landscape | None = None,
        notes: Sequence[str] = (),
    ) -> Comparison:
        """The comparison of these runs; `first` are those of the rates that were found."""
        curves = [run.curve for run in runner.placed(runs)]
        untimed = why_not_comparable(
            [curve.placement for curve in curves if curve.placement is not None]
        )
        told = _notes(curves, first, trials) + list(notes)
        return Comparison(
            model=self.model,
            metric=runs[0].metric,
            learning_rate_rule=self.learning_rate_rule,
            learning_rate=self.options.learning_rate,
            reference_batch_size=self.reference_batch_size,
            curves=curves,
            trials=trials,
            landscape=landscape,
            timings_comparable=untimed is None,
            notes=told if untimed is None else [*told, untimed],
            settings={
                name: value
                for name, value in self.options.to_json().items()
                if name not in _OF_NO_CURVE
            },
            provenance=self.provenance(),
        )


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


def _name(model: nn.Module | ModelFactory) -> str:
    if isinstance(model, nn.Module):
        return type(model).__name__
    return str(getattr(model, "__qualname__", model))


def _notes(curves: Sequence[Curve], first: Sequence[Run], trials: Sequence[RateTrial]) -> list[str]:
    notes = [
        f"{curve.label}, seed {curve.seed}: {curve.diverged}"
        for curve in curves
        if curve.diverged is not None
    ]
    if trials and first:
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
