"""`advise`: which batch size, from measured memory, speed and gradient noise."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import Never

import numpy as np
import torch
from torch import Tensor

from rightbatch.advice.advice import Advice, Goal
from rightbatch.advice.conclusion import conclude
from rightbatch.advice.ground import Model
from rightbatch.advice.measuring import Measuring
from rightbatch.advice.progress import AdviceWatcher
from rightbatch.advice.rank_measuring import RankMeasuring, agree_on_advice
from rightbatch.advice.sent_task import check_executor, start_workers
from rightbatch.advice.speed import find_batch_sizes
from rightbatch.errors import OptionError, did_you_mean
from rightbatch.loading.parts import Parts
from rightbatch.loading.refused_options import refuse_options
from rightbatch.plan.checks import whole_number
from rightbatch.training.options import FitOptions
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.provenance import Provenance
from rightbatch.training.ranks import Ranks
from rightbatch.training.sharded import is_sharded

GRADES = ("quick", "pilot")
_LARGEST_BY_DEFAULT = 8192
# The full batch is a candidate of its own where it is not far beyond.
_LARGEST_FULL = 16_384
_ONCE = (
    "it measures on samples that come once each: leave it out to find a batch size, then train "
    "with it at the size that you give"
)
_AS_IT_IS = (
    "it measures steps in float32 that are not compiled; find the batch size so, then give "
    "it to fit"
)
_NOT_TAKEN = {
    "weights": _ONCE,
    "epoch_samples": _ONCE,
    "batch_tokens": "a batch size counts samples: attach rb.pad() for those that vary in length, "
    "or choose the tokens yourself, rb.fit(…, batch_tokens=4096)",
    "precision": _AS_IT_IS,
    "compile": _AS_IT_IS,
}


def advise(
    model: Model,
    parts: Parts,
    *,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    optimizer: str = "sgd",
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    epochs: int | None = None,
    target_loss: float | None = None,
    memory_limit: str | int | float | None = None,
    grade: str = "pilot",
    budget_seconds: float = 60.0,
    activation: str = "relu",
    init: str = "default",
    seed: int = 0,
    shuffle: bool = True,
    window: int | None = None,
    block: int | None = None,
    memory: str | int | float | None = None,
    batch_statistics: str | None = None,
    threads: int | None = None,
    device: str | torch.device | None = None,
    batch_sizes: Iterable[int | str] | None = None,
    probe_memory: bool = True,
    executor: Executor | None = None,
    progress: AdviceWatcher | None = None,
    command: str | None = None,
    **not_taken: Never,
) -> Advice:
    """Answer "which batch size?" from measured memory, speed and gradient noise, in about a minute.

    `model` is a name, a `torch.nn.Module` or a function of a seed that makes one. The goal is the
    least time to `target_loss`, a validation loss in the units of the loss, or with `epochs` (10
    where neither is given) the least time for so many epochs whose loss is as low as that of
    smaller batches: below the critical batch size it hardly depends on the size, so the largest one
    wins that needs no more than 10 % above the fewest samples, or that comes down to the lowest
    loss of these epochs before they end.

    `grade="quick"` measures memory, the speed of the training loop and the gradient noise scale;
    what the noise scale says of the critical batch size is taken with a factor of 4 each way.
    `grade="pilot"` also trains short branches at a few batch sizes, each with a small search of
    its learning rate, within `budget_seconds` in all (less where training itself is short).
    `learning_rate` is the one that you would take at a batch size of 32; `optimizer`, `momentum`,
    `l1`, `l2`, `loss`, `activation`, `init`, `shuffle`, `window`, `block` and `memory` are
    those of `fit`.

    `memory_limit` is what the training process may take in all ("8GB", or bytes); without it, what
    the machine, its control group or the GPU has free, less a margin. `batch_sizes` are those to
    choose from (one beyond the training samples is the full batch); the default is the powers of
    two, and the full batch where that is small. `budget_seconds` is in seconds.
    `executor` (a `ProcessPoolExecutor`, Dask's or any other) runs the pilot's branches, those that
    are likely to come before they are asked for: more of them fit into the budget, and each is what
    it is here. Its workers are started before the budget begins. Memory, steps and noise are
    measured in this process before any branch begins, so that nobody disturbs them; the limits of
    time that end a branch are by the clock of its worker.
    `progress` is called with an `AdviceProgress`. The model, its modes, the random states and
    torch's threads are as before when this returns.

    In a process group of torch (`torchrun`, `torch.distributed.init_process_group`) all ranks call
    `advise` alike, and have one advice: sizes are those of the global batch, which the ranks share,
    steps are timed with their communication, memory is that of a rank, and the noise is told by the
    ranks' own gradients. `batch_statistics="rank"` is as in `fit`. docs/advice.md has the rest.

    Raises OptionError where an option is not valid or the model does not fit or can not be copied,
    DataError where the data have no target, MemoryLimitError where not even one sample fits in
    memory, RankError where ranks differ in data or options, or one of them has ended.

    >>> import rightbatch as rb
    >>> parts = rb.split(rb.open("digits"), val=0.2, seed=1).transform(rb.scale(1 / 16))
    >>> advice = rb.advise("mlp:16", parts, learning_rate=0.1, epochs=5, grade="quick",
    ...                    budget_seconds=5, probe_memory=False)
    >>> advice.interval[0] <= advice.batch_size <= advice.interval[1]
    True
    >>> advice.batch_size in advice.tested
    True
    """
    refuse_options("advise", not_taken, _NOT_TAKEN)
    if not isinstance(parts, Parts):
        raise OptionError(
            f"advise measures on the parts of a split and was given {type(parts).__name__}: "
            "rb.advise(model, rb.split(data, val=0.1), …)"
        )
    if parts.train.mixture is not None:
        raise OptionError(
            "advise measures on samples that come once each, and these are a mixture: ask for "
            "advice on the parts of one source, then fit the mixture at that batch size"
        )
    if not isinstance(model, str | torch.nn.Module) and not callable(model):
        raise OptionError(
            f"model={model!r} is none; give a name such as 'mlp:100', a torch.nn.Module, or a "
            "function of the seed that makes one"
        )
    if grade not in GRADES:
        raise OptionError(
            f"grade={grade!r} is not valid.{did_you_mean(str(grade), GRADES)} Valid are: "
            f"{', '.join(GRADES)}."
        )
    if executor is not None and grade == "quick":
        raise OptionError(
            "executor runs the branches of a pilot, and grade='quick' trains none: take "
            "grade='pilot', or leave executor out"
        )
    check_executor(executor)
    budget = _seconds("budget_seconds", budget_seconds)
    goal = find_goal(epochs, target_loss)
    options = FitOptions(
        learning_rate=learning_rate,
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
        batch_statistics=batch_statistics,
        threads=threads,
    )
    sizes = candidate_sizes(batch_sizes, len(parts.train))
    if memory_limit is not None and not probe_memory:
        raise OptionError(
            f"memory_limit={memory_limit!r} needs memory to be measured, and probe_memory=False "
            "leaves that out: give one of the two"
        )
    ranks = Ranks.here()
    kind: Callable[..., Measuring] = Measuring
    if isinstance(ranks, ProcessGroup):
        _check_ranks(ranks, model, batch_statistics, executor)
        asked = {
            "goal": goal.text,
            "grade": grade,
            "budget_seconds": budget,
            "batch_sizes": sizes,
            "memory_limit": memory_limit,
            "probe_memory": probe_memory,
        }
        agree_on_advice(ranks, model, parts, options, asked)
        kind = partial(RankMeasuring, ranks=ranks)
    if executor is not None:
        # Now, so that it neither takes of the budget nor disturbs what is timed.
        start_workers(executor)
    began = time.perf_counter()
    with _caller_untouched():
        evidence = kind(
            model,
            parts,
            options,
            goal=goal,
            is_pilot=grade == "pilot",
            budget_seconds=budget,
            device=device,
            watcher=progress,
            executor=executor,
        ).run(sizes, memory_limit=memory_limit, probe_memory=probe_memory)

        def concluded() -> Advice:
            return conclude(
                evidence,
                options,
                seconds_spent=time.perf_counter() - began,
                provenance=Provenance.of(parts, command=command),
                settings={"asked_grade": grade, "budget_seconds": budget},
            )

        if ranks.is_alone:
            return concluded()
        # Clocks and machines differ, and the advice is one.
        return Advice.from_json(ranks.on_first(lambda: concluded().to_json()))


def _check_ranks(
    ranks: ProcessGroup, model: Model, batch_statistics: str | None, executor: Executor | None
) -> None:
    """OptionError for what several ranks can not be advised on."""
    if executor is not None:
        raise OptionError(
            f"executor is for one process, and these are {ranks.world_size} ranks, of which rank 0 "
            "trains the branches: leave executor out, or ask without torchrun"
        )
    if isinstance(model, torch.nn.Module) and is_sharded(model):
        raise OptionError(
            f"the model {type(model).__name__} is divided among the ranks (fully_shard), and "
            "advise takes copies of its model, which torch does not make of such a one: give the "
            "whole model, or ask about a smaller one of its kind, and train this one at a batch "
            "size of your own (rb.fit(…, batch_size=256))"
        )
    if batch_statistics == "synchronised":
        raise OptionError(
            f"batch_statistics='synchronised' is not measured by advise: the {ranks.world_size} "
            "ranks are timed with statistics of their own, batch_statistics='rank'; fit takes "
            "both"
        )


def find_goal(epochs: int | None, target_loss: float | None) -> Goal:
    """The goal that is meant; OptionError where both are given or one is not valid.

    >>> find_goal(None, None).epochs
    10
    """
    if epochs is not None and target_loss is not None:
        raise OptionError(
            f"epochs={epochs} and target_loss={target_loss} are two goals: give the number of "
            "epochs, or the validation loss to reach"
        )
    if target_loss is not None:
        if not _is_number(target_loss) or not 0 < target_loss < math.inf:
            raise OptionError(
                f"target_loss={target_loss!r} is not valid; it is a validation loss above 0"
            )
        return Goal(kind="target_loss", target_loss=float(target_loss))
    count = 10 if epochs is None else whole_number("epochs", epochs, at_least=1)
    return Goal(kind="epochs", epochs=count)


def candidate_sizes(batch_sizes: Iterable[int | str] | None, samples: int) -> list[int]:
    """The sizes to choose from, in rising order.

    >>> candidate_sizes(None, 20), candidate_sizes(["full", 8], 20)
    ([1, 2, 4, 8, 16, 20], [8, 20])
    """
    if batch_sizes is not None:
        return sorted({min(size, samples) for size in find_batch_sizes(batch_sizes, samples)})
    largest = min(samples, _LARGEST_BY_DEFAULT)
    sizes = [2**power for power in range(largest.bit_length())]
    return sorted({*sizes, samples}) if samples <= _LARGEST_FULL else sizes


def _seconds(name: str, value: float) -> float:
    if not _is_number(value) or not 0 < value < math.inf:
        raise OptionError(f"{name}={value!r} is not valid; give a number of seconds above 0")
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


@contextmanager
def _caller_untouched() -> Iterator[None]:
    """Random states and threads put back: a user's transforms and layers may draw from any."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # the caller's own state
    threads = torch.get_num_threads()
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    try:
        with torch.random.fork_rng(cuda):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002  # the same
        torch.set_num_threads(threads)
