"""The main job end to end: open, split, advise, train, test, report.

The only place where batch_size="auto" becomes a number.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from rightbatch.advice.advice import Advice
from rightbatch.advice.advise import advise
from rightbatch.advice.progress import AdviceProgress, AdviceWatcher
from rightbatch.errors import OptionError
from rightbatch.execution import (
    absolute,
    fit_and_test,
    new_folder,
    refuse_taken,
    stored_command,
)
from rightbatch.launch import most_restarts, restart_count
from rightbatch.loading.parts import Parts
from rightbatch.model_file import ModelFile
from rightbatch.options import DEFAULT_HELD_OUT, AdviceOptions, DataOptions, TrainOptions
from rightbatch.preparation import choose_model, prepare
from rightbatch.report.reading import read_results
from rightbatch.run_report import RunReport
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE
from rightbatch.training.history import finite_json
from rightbatch.training.progress import Progress, Watcher
from rightbatch.training.ranks import Ranks
from rightbatch.training.run_folder import RunFolder

# Where the way to a target loss was predicted, training may take this many times as long; where
# it was not, so many epochs. Beyond, the target is likely out of reach.
_PATIENCE = 3.0
_LEAST_EPOCHS, _MOST_EPOCHS = 10, 100


@dataclass(frozen=True, kw_only=True)
class RunWatchers:
    """Whom to tell how far the job is: each is called with what its name says, or left out.

    `advice` and `training` are called a few times a second, `advised` with the advice when there
    is one, and `started` with the run's folder before the first step.
    """

    advice: AdviceWatcher | None = None
    advised: Callable[[Advice], None] | None = None
    started: Callable[[Path], None] | None = None
    training: Watcher | None = None


def run(
    data: Any,
    *,
    model: str | nn.Module | None = None,
    batch_size: int | str = "auto",
    batch_tokens: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    target_loss: float | None = None,
    learning_rate: float = 0.01,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    loss: str | None = None,
    activation: str | None = None,
    init: str = "default",
    shuffle: bool = True,
    window: int | None = None,
    block: int | None = None,
    memory: str | int | float | None = None,
    epoch_samples: int | None = None,
    micro_batch_size: int | None = None,
    batch_statistics: str | None = None,
    evaluation_batch_size: int | None = None,
    early_stopping: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: str = "float32",
    compile: bool = False,  # noqa: A002 - torch's word for it
    grade: str | None = None,
    budget_seconds: float | None = None,
    memory_limit: str | int | float | None = None,
    target: str | int | None = None,
    columns: Sequence[str] | None = None,
    header: bool | None = None,
    missing: str = "refuse",
    categories: str = "codes",
    on_bad_sample: str = "stop",
    max_bad: int | float | None = None,
    sequence_length: int | None = None,
    stride: int | None = None,
    tokenizer: str | None = None,
    val: int | float = DEFAULT_HELD_OUT,
    test: int | float | None = None,
    stratify: bool = False,
    group: str | None = None,
    weights: str | None = None,
    on_duplicates: str = "report",
    contiguous: bool = False,
    standardize: bool = False,
    scale: bool | None = None,
    image_size: int | tuple[int, int] | None = None,
    random_crop: bool = False,
    random_flip: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    report: str | Path | None = None,
    progress: Callable[[AdviceProgress | Progress], None] | None = None,
) -> RunReport:
    """Open data, split them, find the batch size, train, test, and report: the main job in a call.

    `data` is anything that `open` takes, with its options `target` to `tokenizer`. The options
    `val` to `seed` are those of the command line: `val` and `test` are shares or counts, 0.1
    unless given (where the data have a test part of their own, it is taken); `standardize` is
    fitted on the training part; `scale=None` divides images of bytes by 255; `image_size` decodes
    encoded images (see `decode_images`), with `random_crop` and `random_flip` in training.
    `model` is a name, `FILE.py:FACTORY` or a `torch.nn.Module`, which is trained in place; without
    one it is the simplest that fits the target. The options of the training are those of `fit`.

    `batch_size="auto"` asks `advise` first, with `grade`, `budget_seconds` and `memory_limit`. The
    goal is `target_loss` where it is given, else the `epochs` (10). Training then takes the advised
    batch size, the micro-batch size that memory calls for and the advised learning rate, for which
    `learning_rate` is where the search starts; a number as batch size keeps everything as given.
    With `target_loss` training ends after the first epoch whose validation loss is no higher, at
    the latest after `epochs`; left out, these are three times as many as the pilot predicts.

    With `batch_tokens`, for samples that vary in length, no batch size is looked for.

    The run's folder is `out`, or `runs/DATA-MODEL-TIME`; it keeps the advice as advice.json.
    `report` names an HTML page to write. `progress` is called a few times a second, with an
    `AdviceProgress` while the batch size is looked for and a `Progress` while training goes on.

    Raises OptionError and DataError where options or data are refused, MemoryLimitError where not
    even one sample fits, NonFiniteLossError where the loss becomes NaN or infinite.

    >>> import tempfile, rightbatch as rb
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = rb.run("iris", batch_size=16, epochs=20, learning_rate=0.1, standardize=True,
    ...                     out=f"{folder}/run")
    >>> result.epochs, result.batch_size, result.test["accuracy"] > 0.5
    (20, 16, True)
    """
    is_path = isinstance(data, str | os.PathLike)
    network = model if isinstance(model, nn.Module) else None
    if isinstance(data, Parts):
        raise OptionError(
            "run opens and splits the data itself, and was given parts: give the data, or take the "
            "two steps: advice = rb.advise(model, parts), then rb.fit(model, parts, "
            "batch_size=advice.batch_size)"
        )
    if network is not None and (activation is not None or init != "default"):
        raise OptionError(
            "activation and init are for models by name; a torch.nn.Module has its own"
        )
    if isinstance(data, os.PathLike):
        # A path is never the name of a built-in set.
        data = str(Path(data).expanduser().absolute())
    return train(
        DataOptions(
            data=data if is_path else type(data).__name__,
            target=target,
            columns=None if columns is None else tuple(columns),
            header=header,
            missing=missing,
            categories=categories,
            on_bad_sample=on_bad_sample,
            max_bad=max_bad,
            sequence_length=sequence_length,
            stride=stride,
            tokenizer=tokenizer,
            val=val,
            test=test,
            stratify=stratify,
            group=group,
            weights=weights,
            on_duplicates=on_duplicates,
            contiguous=contiguous,
            standardize=standardize,
            scale=scale,
            image_size=image_size,
            random_crop=random_crop,
            random_flip=random_flip,
            seed=seed,
        ),
        TrainOptions(
            model=None if isinstance(model, nn.Module) else model,
            activation=activation,
            init=init,
            loss=loss,
            optimizer=optimizer,
            learning_rate=learning_rate,
            momentum=momentum,
            l1=l1,
            l2=l2,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            micro_batch_size=micro_batch_size,
            batch_statistics=batch_statistics,
            evaluation_batch_size=evaluation_batch_size,
            epochs=epochs,
            steps=steps,
            shuffle=shuffle,
            window=window,
            block=block,
            memory=memory,
            epoch_samples=epoch_samples,
            early_stopping=early_stopping,
            target_loss=target_loss,
            threads=threads,
            device=device,
            precision=precision,
            compile=compile,
        ),
        search=AdviceOptions(grade=grade, budget_seconds=budget_seconds, memory_limit=memory_limit),
        source=None if is_path else data,
        network=network,
        out=out,
        report=report,
        watchers=RunWatchers(advice=progress, training=progress),
    )


def train(
    data: DataOptions,
    training: TrainOptions,
    *,
    search: AdviceOptions | None = None,
    source: object = None,
    network: nn.Module | None = None,
    out: str | Path | None = None,
    report: str | Path | None = None,
    command: str | None = None,
    watchers: RunWatchers | None = None,
) -> RunReport:
    """Train a model on data, keep the run in the folder `out`, and test it; see `run`.

    `source` and `network` are objects in the place of what `data` and `training` name. `command`
    is kept with the run, so that a report can say how it was made; with `report` the loss around
    the run's path is computed and kept too (landscape.json).

    Raises OptionError, DataError and TrainingError where options, data or the loss are refused,
    KeyboardInterrupt where Ctrl-C stops it, with the checkpoint kept.
    """
    search, watchers = search or AdviceOptions(), watchers or RunWatchers()
    search.refuse_without_auto(training.batch_size)
    if out is not None:
        refuse_taken(Path(out))
    if report is not None and Path(report).is_dir():
        raise OptionError(f"{report} is a folder: name a file, such as {Path(report, 'page.html')}")
    parts = prepare(data, source)
    if network is None:
        training = replace(training, model=choose_model(training, parts.train))
    _refuse_without_validation(training, parts)
    model = type(network).__name__ if network is not None else str(training.model)
    folder = _folder_of(out, parts.data.name, model)
    # The run is gone on with from any folder.
    data = replace(data, data=absolute(data.data))
    advice = None
    config: dict[str, Any] = {}
    if training.is_auto:
        asked = training
        advice = _kept_advice(folder) or ask(
            parts,
            data,
            training,
            search,
            network=network,
            command=command,
            progress=watchers.advice,
        )
        training = _as_advised(training, advice)
        # The options below say what was run; these, what was asked for.
        config["asked"] = {"batch_size": asked.batch_size, "learning_rate": asked.learning_rate}
        if Ranks.here().is_first:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.write_json(folder.advice, finite_json(advice.to_json()))
        if watchers.advised is not None:
            watchers.advised(advice)
    if watchers.started is not None:
        watchers.started(folder.path)
    if source is None and network is None:
        config["command"] = stored_command(data, training)
    if command is not None:
        config["command_line"] = command
    return fit_and_test(
        data,
        training,
        parts,
        folder,
        network=network,
        config=config,
        advice=advice,
        report=report,
        progress=watchers.training,
    )


def _kept_advice(folder: RunFolder) -> Advice | None:
    """The advice that the run was begun with, where torchrun has started its ranks anew.

    Another measurement may come to another size, at which the run could not be gone on with.
    """

    def kept() -> dict[str, Any] | None:
        if restart_count() == 0 or not folder.advice.is_file():
            return None
        return read_results([folder.advice]).advices[0].to_json()

    stored = Ranks.here().on_first(kept)
    return None if stored is None else Advice.from_json(stored)


def _folder_of(out: str | Path | None, data: str, model: str) -> RunFolder:
    """The folder that was named, or a new one, which rank 0 names for all."""
    if out is not None:
        return RunFolder(Path(out))
    if most_restarts():
        raise OptionError(
            "torchrun may start the ranks anew (--max-restarts), and without a name for its folder "
            "the run would not be found again: give out=… (--out FOLDER)"
        )
    return RunFolder(Path(Ranks.here().on_first(lambda: str(new_folder(data, model)))))


def ask(
    parts: Parts,
    data: DataOptions,
    training: TrainOptions,
    search: AdviceOptions,
    *,
    network: nn.Module | None = None,
    batch_sizes: Sequence[int | str] | None = None,
    command: str | None = None,
    progress: AdviceWatcher | None = None,
) -> Advice:
    """The advice of `advise` for a training as `training` has it, at whatever batch size.

    The goal is the target loss where there is one, else the number of epochs.
    """
    if data.weights is not None or training.epoch_samples is not None:
        raise OptionError(
            "a batch size is found by measuring on samples that come once each, and weights draw "
            "them otherwise: leave weights out to find it, then train with them at the size that "
            "you give (--batch-size 32)"
        )
    options = replace(training, batch_size=1).fit_options(seed=data.seed)
    model = str(training.model)
    named = ModelFile(model) if training.has_model_file else model
    advice = advise(
        named if network is None else network,
        parts,
        loss=options.loss,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        momentum=options.momentum,
        l1=options.l1,
        l2=options.l2,
        epochs=None if training.target_loss is not None else options.epochs_wanted,
        target_loss=training.target_loss,
        activation=options.activation,
        init=options.init,
        seed=data.seed,
        shuffle=options.shuffle,
        window=options.window,
        block=options.block,
        memory=options.memory,
        batch_statistics=options.batch_statistics,
        threads=options.threads,
        device=training.device,
        batch_sizes=batch_sizes,
        progress=progress,
        command=command,
        **search.given,
    )
    if network is not None or not training.has_model_file:
        return advice
    # By its place, as the user named it; its class says little.
    return replace(advice, model=model, speed=replace(advice.speed, model=model))


def _as_advised(training: TrainOptions, advice: Advice) -> TrainOptions:
    """The training at the advised batch size, with the rate that goes with it."""
    return replace(
        training,
        batch_size=advice.batch_size,
        micro_batch_size=advice.micro_batch_size,
        evaluation_batch_size=training.evaluation_batch_size
        # Its default is left to `fit`, so that a run's options name what memory has called for.
        or (
            None
            if advice.evaluation_batch_size == EVALUATION_BATCH_SIZE
            else advice.evaluation_batch_size
        ),
        learning_rate=advice.learning_rate,
        epochs=_epochs_to_target(advice)
        if training.target_loss is not None and training.epochs is None
        else training.epochs,
    )


def _epochs_to_target(advice: Advice) -> int:
    """After how many epochs to give up a target loss that was not reached."""
    # Without a pilot that got there the samples to the target are not known.
    is_known = advice.pilot is not None and advice.pilot.reaches_target
    predicted = [
        point.samples
        for point in advice.costs
        if is_known and point.batch_size == advice.batch_size
    ]
    if not predicted or not math.isfinite(predicted[0]):
        return _MOST_EPOCHS
    return max(_LEAST_EPOCHS, math.ceil(_PATIENCE * predicted[0] / advice.training_samples))


def _refuse_without_validation(training: TrainOptions, parts: Parts) -> None:
    """OptionError where an option needs a validation part: said before a minute of advice."""
    named = [
        name for name in ("early_stopping", "target_loss") if getattr(training, name) is not None
    ]
    if named and parts.val is None:
        raise OptionError(
            f"{' and '.join(named)} {'watches' if len(named) == 1 else 'watch'} the validation "
            "loss, and there is no validation part: hold one out, val=0.1 (--val 0.1)"
        )
