"""Studies of the batch size from the command line: advise, compare and speed."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from rightbatch.advice.advice import Advice
from rightbatch.advice.compare import compare
from rightbatch.advice.comparison import Comparison
from rightbatch.advice.progress import AdviceWatcher
from rightbatch.advice.runner import CompareWatcher
from rightbatch.advice.speed import speed
from rightbatch.advice.stopwatch import SpeedWatcher
from rightbatch.advice.timing import Speed
from rightbatch.errors import OptionError, WorkerError
from rightbatch.loading.parts import Part, Parts
from rightbatch.model_file import ModelFile, load_model
from rightbatch.options import AdviceOptions, DataOptions, TrainOptions
from rightbatch.plan.row_set import RowSet
from rightbatch.preparation import choose_model, prepare
from rightbatch.training.provenance import Provenance
from rightbatch.training.run_folder import RunFolder
from rightbatch.workflow import ask

logger = logging.getLogger(__name__)


def advise_batch_size(
    data: DataOptions,
    training: TrainOptions,
    search: AdviceOptions,
    *,
    batch_sizes: Sequence[int | str] | None = None,
    command: str | None = None,
    progress: AdviceWatcher | None = None,
) -> Advice:
    """Open the data, and find the batch size at which to train the model on them.

    The goal is `target_loss` of `training`, or its `epochs`; its batch size says nothing here.
    `batch_sizes` are those to choose from. See `advise` for the rest.

    Raises OptionError and DataError where options or data are refused, MemoryLimitError where not
    even one sample fits into the memory there is.

    >>> advice = advise_batch_size(
    ...     DataOptions(data="iris", standardize=True), TrainOptions(epochs=5),
    ...     AdviceOptions(grade="quick", budget_seconds=2))
    >>> advice.batch_size in advice.tested
    True
    """
    if training.epochs is not None and training.target_loss is not None:
        raise OptionError(
            f"epochs={training.epochs} and target_loss={training.target_loss:g} are two goals: the "
            "best batch size for one need not be the best for the other. Give one of them"
        )
    parts = prepare(data)
    training = replace(training, model=choose_model(training, parts.train))
    return ask(
        parts, data, training, search, batch_sizes=batch_sizes, command=command, progress=progress
    )


def compare_batch_sizes(
    data: DataOptions,
    training: TrainOptions,
    *,
    batch_sizes: Sequence[int | str],
    lr_rule: str = "same",
    reference_batch_size: int = 32,
    seeds: int = 1,
    landscape: bool = True,
    processes: int = 1,
    command: str | None = None,
    progress: CompareWatcher | None = None,
) -> Comparison:
    """Open the data, and train the model on them at each of the batch sizes.

    With more than one of `processes` the runs share the machine, and their seconds can not be
    compared; where one of them ends, its runs begin again in half as many. See `compare` for the
    rest.

    Raises OptionError and DataError where options or data are refused, WorkerError where one
    process alone ends as well.

    >>> study = compare_batch_sizes(
    ...     DataOptions(data="iris", standardize=True), TrainOptions(epochs=2),
    ...     batch_sizes=[16, "full"], landscape=False)
    >>> [curve.label for curve in study.curves]
    ['batch 16', 'full batch (120)']
    """
    parts = prepare(data)
    training = replace(training, model=choose_model(training, parts.train))
    options = training.fit_options(seed=data.seed)
    run = partial(
        compare,
        ModelFile(str(training.model)) if training.has_model_file else str(training.model),
        parts,
        batch_sizes=batch_sizes,
        learning_rate=options.learning_rate,
        lr_rule=lr_rule,
        reference_batch_size=reference_batch_size,
        seeds=seeds,
        seed=options.seed,
        epochs=options.epochs,
        steps=options.steps,
        optimizer=options.optimizer,
        momentum=options.momentum,
        l1=options.l1,
        l2=options.l2,
        loss=options.loss,
        activation=options.activation,
        init=options.init,
        shuffle=options.shuffle,
        window=options.window,
        block=options.block,
        memory=options.memory,
        weights=data.weights,
        epoch_samples=options.epoch_samples,
        micro_batch_size=options.micro_batch_size,
        threads=options.threads,
        landscape=landscape,
        progress=progress,
        command=command,
    )
    return _in_processes(run, processes)


def _in_processes(run: Callable[..., Comparison], processes: int) -> Comparison:
    """Call `run` with an executor of so many processes; with fewer again where one of them ends.

    What ends a process is most often that memory runs out, and fewer of them need less.
    """
    if processes == 1:
        return run()
    finished: WorkerError | None = None
    while True:
        try:
            with _workers(processes) as executor:
                return run(executor=executor, finished=finished)
        except WorkerError as error:
            # What ends a process that is alone would end it again.
            if processes == 1 or not isinstance(error.__cause__, BrokenExecutor):
                raise
            finished, processes = error, processes // 2
            logger.warning(
                "A worker process ended before its run did, most often for want of memory. What is "
                "whole is kept (runs: %d), and the others begin again in %s",
                len(error.runs),
                "one process" if processes == 1 else f"{processes} processes",
            )


@contextmanager
def _workers(processes: int) -> Iterator[Executor]:
    # A forked process inherits torch's threads in a state that can hang; a spawned one does not.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(processes, mp_context=context)
    try:
        with _ignored_interrupts():
            # Handing over work starts them, and they inherit that Ctrl-C, which a terminal sends
            # to all, is not theirs. Nobody waits for the work: this process still heeds Ctrl-C.
            executor.map(_nothing, range(processes))
        yield executor
    except BaseException:
        # Without this a run of hours would go on; a public way comes with Python 3.14.
        for process in (executor._processes or {}).values():
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _nothing(_: int) -> None:
    """Work that makes a process start."""


def measure_speed(
    model: str,
    data: DataOptions,
    *,
    part: str = "train",
    batch_sizes: Sequence[int | str] | None = None,
    mode: str = "predict",
    threads: int = 1,
    seconds: float = 5.0,
    neighbours: bool = True,
    activation: str | None = None,
    loss: str | None = None,
    learning_rate: float = 0.01,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    command: str | None = None,
    progress: SpeedWatcher | None = None,
) -> Speed:
    """Open the data, and measure the time of a sample at each of the batch sizes.

    `model` is the name of a built-in model, a file of weights, the folder of a run, or a function
    of a Python file, `module.py:factory`; `part` is "train", "val", "test" or "all". See `speed`
    for the rest.

    Raises OptionError and DataError where options or data are refused.

    >>> timing = measure_speed("softmax", DataOptions(data="iris"), batch_sizes=[1, 16],
    ...                        seconds=0.05)
    >>> timing.provenance.sizes
    {'train': 120, 'val': 15, 'test': 15}
    """
    parts = prepare(data)
    measured = speed(
        load_model(model, seed=data.seed) if ".py:" in model else model,
        _part(parts, part),
        batch_sizes=batch_sizes,
        mode=mode,
        threads=threads,
        seconds=seconds,
        seed=data.seed,
        neighbours=neighbours,
        activation=activation,
        loss=loss,
        learning_rate=learning_rate,
        optimizer=optimizer,
        momentum=momentum,
        progress=progress,
    )
    return replace(
        measured,
        model=model,
        settings={**measured.settings, "part": part},
        provenance=replace(
            Provenance.of(parts, command=command), environment=measured.provenance.environment
        ),
    )


def with_options_of_run(model: str, data: DataOptions, given: Collection[str]) -> DataOptions:
    """`data` with the options that the run in the folder `model` was trained with.

    Those that the user has `given`, by field name, stay. A model that is no run of the command
    line leaves all as they are.

    >>> with_options_of_run("mlp:10", DataOptions(data="iris", val=0.2), {"val"}).val
    0.2
    """
    folder = RunFolder(Path(model).expanduser())
    if not folder.config.is_file():
        return data
    stored = (folder.read_config().get("command") or {}).get("data")
    if stored is None:
        return data
    options = DataOptions.from_json(stored)
    kept = {name: getattr(data, name) for name in {"data", *given}}
    return replace(options, **kept)


def _part(parts: Parts, name: str) -> Part:
    """The part of that name, or all samples with the transforms of the held-out ones."""
    if name == "all":
        rows = RowSet.from_range(len(parts.data), 0, len(parts.data))
        return Part(data=parts.data, rows=rows, name=name, transforms=parts.held_out_transforms)
    if name not in parts.all:
        raise OptionError(
            f"{parts.data.name} has no {name} part as it is split here; there are "
            f"{', '.join(parts.all)} and all"
        )
    return parts.all[name]
