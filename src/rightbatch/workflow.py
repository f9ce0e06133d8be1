"""The main job end to end, as the command line runs it: open, split, transform, train, test."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from rightbatch.advice.landscape import PathMap
from rightbatch.data.builtin import BUILTIN_NAMES
from rightbatch.data.dataset import Dataset
from rightbatch.data.opening import open as open_data
from rightbatch.errors import OptionError, ResumeError
from rightbatch.loading.parts import Part, Parts, split
from rightbatch.loading.transforms import scale, standardize
from rightbatch.model_file import load_model
from rightbatch.options import DEFAULT_HELD_OUT, DataOptions, TrainOptions
from rightbatch.training.fit import evaluate, fit
from rightbatch.training.history import finite_json
from rightbatch.training.progress import Watcher
from rightbatch.training.run_folder import RunFolder
from rightbatch.training.task import resolve_task

# The simplest model for each loss that a target calls for.
_SIMPLEST = {
    "cross_entropy": "softmax",
    "binary_cross_entropy": "logistic",
    "squared_error": "linear",
}
# What the user may change when a run goes on: how far, how fast, and where the data lie now (the
# fingerprint says whether they are the same).
_MAY_CHANGE = {"data", "epochs", "steps", "threads", "batch_size"}


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """How a model learned, and how well it does on samples it has not seen.

    Losses and the metric (`accuracy` or `r2`) are exact means over samples, of the epoch whose
    weights the model has (`best_epoch`); `val` and `test` are None where nothing was held out.
    """

    run: str
    data: str
    model: str
    metric: str
    epochs: int
    best_epoch: int
    steps: int
    batch_size: int
    train_loss: float
    val: dict[str, float] | None
    test: dict[str, float] | None
    seconds: float
    samples_per_second: float
    leaked_samples: int
    duplicate_samples: int | None

    def to_json(self) -> dict[str, Any]:
        """The report as one flat JSON-able object."""
        report = {
            name: value for name, value in asdict(self).items() if name not in ("val", "test")
        }
        for part, scores in (("val", self.val), ("test", self.test)):
            for measure in ("loss", self.metric):
                report[f"{part}_{measure}"] = None if scores is None else scores[measure]
        return report


def prepare(options: DataOptions) -> Parts:
    """Open the data, split them and attach the transforms that `options` ask for.

    Raises OptionError and DataError where the options or the data are refused.

    >>> prepare(DataOptions(data="breast_cancer", val=0.16, test=0.2, stratify=True)).sizes
    {'train': 364, 'val': 91, 'test': 114}
    """
    data = open_dataset(options)
    own_test = "test" in data.own_parts
    test = DEFAULT_HELD_OUT if options.test is None and not own_test else options.test
    parts = split(
        data,
        val=options.val or None,
        # Data with a test part of their own refuse to give up another one, 0 included.
        test=test if own_test else test or None,
        stratify=options.stratify or None,
        group=options.group,
        on_duplicates=options.on_duplicates,  # type: ignore[arg-type]  # DataOptions has checked it
        seed=options.seed,
    )
    if wants_scaling(parts.data, options.scale):
        parts = parts.transform(scale(1 / 255))
    if options.standardize:
        parts = parts.transform(standardize())
    return parts


def choose_model(training: TrainOptions, part: Part) -> str:
    """The model that `training` names, or the simplest one for the target of `part`.

    >>> choose_model(TrainOptions(), prepare(DataOptions(data="diabetes")).train)
    'linear'
    """
    if training.model is not None:
        return training.model
    return _SIMPLEST[resolve_task(part, model=None, loss=training.loss).loss.name]


def model_to_fit(name: str, *, seed: int) -> str | nn.Module:
    """What `fit` takes: the name of a built-in model, or the module that a user's file makes."""
    return load_model(name, seed=seed) if TrainOptions(model=name).has_model_file else name


def train(
    data: DataOptions,
    training: TrainOptions,
    *,
    out: str | Path | None = None,
    command: str | None = None,
    maps_landscape: bool = False,
    started: Callable[[Path], None] | None = None,
    progress: Watcher | None = None,
) -> TrainReport:
    """Train a model on data, keep the run in the folder `out`, and test it.

    Without `out` the folder is `runs/DATA-MODEL-TIME`. `started` is called with the folder
    before the first step, `progress` while training goes on. `command` is kept with the run, so
    that a report can say how it was made; with `maps_landscape` the loss around the run's path
    is computed and kept too (landscape.json).

    Raises OptionError, DataError and TrainingError where options, data or the loss are refused,
    KeyboardInterrupt where Ctrl-C stops it, with the checkpoint kept.
    """
    if out is not None:
        _refuse_taken(Path(out))
    parts = prepare(data)
    training = replace(training, model=choose_model(training, parts.train))
    run = Path(out) if out is not None else _new_folder(parts.data.name, str(training.model))
    # The run is gone on with from any folder.
    data = replace(data, data=_absolute(data.data))
    if started is not None:
        started(run)
    return _fit_and_test(
        data,
        training,
        parts,
        run,
        command=command,
        maps_landscape=maps_landscape,
        progress=progress,
    )


def resume(
    run: str | Path,
    given: Mapping[str, Any],
    *,
    started: Callable[[Path], None] | None = None,
    progress: Watcher | None = None,
) -> TrainReport:
    """Go on with the run in the folder `run`, with the options it was started with.

    `given` are options that the user gave again, by field name. How far the run goes (`epochs`,
    `steps`), `threads`, `batch_size` and where the data lie may be new; a model from a file must
    be given again, since code is not run because a folder names it.

    Raises ResumeError that names what differs otherwise.
    """
    folder = RunFolder(Path(run))
    config = folder.read_config()
    data, training = _with_changes(folder.path, *_stored_options(folder.path, config), given)
    parts = prepare(data)
    if started is not None:
        started(folder.path)

    return _fit_and_test(
        data,
        training,
        parts,
        folder.path,
        progress=progress,
        is_resumed=True,
        allow_new_batch_size="batch_size" in given,
    )


def _fit_and_test(
    data: DataOptions,
    training: TrainOptions,
    parts: Parts,
    run: Path,
    *,
    command: str | None = None,
    maps_landscape: bool = False,
    progress: Watcher | None,
    is_resumed: bool = False,
    allow_new_batch_size: bool = False,
) -> TrainReport:
    model = str(training.model)
    options = training.fit_options(seed=data.seed)
    to_fit = model_to_fit(model, seed=data.seed)
    path = PathMap(to_fit, parts, options) if maps_landscape else None
    result = fit(
        to_fit,
        parts,
        **asdict(options),
        out=run,
        resume=is_resumed,
        allow_new_batch_size=allow_new_batch_size,
        config={
            "command": _command(data, training),
            **({} if command is None else {"command_line": command}),
        },
        progress=progress,
        on_step=path,
    )
    row = result.history[result.best_epoch - 1]
    metric = result.task.loss.metric
    report = TrainReport(
        run=str(run),
        data=parts.data.name,
        model=model,
        metric=metric,
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        steps=result.steps,
        batch_size=result.batch_size,
        train_loss=row["train_loss"],
        val={name: row[f"val_{name}"] for name in ("loss", metric)} if parts.val else None,
        test=evaluate(result, parts.test) if parts.test else None,
        seconds=result.seconds,
        samples_per_second=result.samples_per_second,
        leaked_samples=result.leaked_samples,
        duplicate_samples=parts.duplicate_samples,
    )
    folder = RunFolder(run)
    folder.write_json(folder.result, finite_json(report.to_json()))
    landscape = path.landscape() if path is not None else None
    if landscape is not None:
        folder.write_json(folder.landscape, landscape.to_json())
    return report


def open_dataset(options: DataOptions) -> Dataset:
    """The data that `options` name, before anything is split."""
    columns = options.columns
    if columns is not None and options.group is not None and options.group not in columns:
        columns = (*columns, options.group)
    data = open_data(
        options.data,
        target=options.target,
        columns=columns,
        header=options.header,
        missing=options.missing,
        categories=options.categories,
    )
    names = [column.name for column in data.columns]
    if options.group is not None and options.group not in names and options.categories == "one-hot":
        raise OptionError(
            f"group={options.group!r} is no column once categories=one-hot has spread the text "
            "columns; take categories=codes, or a group column of numbers"
        )
    return data


def wants_scaling(data: Dataset, wanted: bool | None) -> bool:
    """Whether the inputs are divided by 255; OptionError where that is asked for in vain."""
    of_bytes = [column for column in data.inputs if column.dtype == np.uint8]
    if wanted and not of_bytes:
        found = ", ".join(sorted({str(column.dtype) for column in data.inputs}))
        raise OptionError(
            f"scale divides uint8 inputs by 255, and {data.name} has none: its inputs are {found}. "
            "Leave scale out, or take standardize"
        )
    if wanted is None:
        # A table's small whole numbers are not brightness: only arrays of bytes are images.
        return len(data.inputs) == len(of_bytes) == 1 and of_bytes[0].shape != ()
    return wanted


def _refuse_taken(run: Path) -> None:
    """OptionError where `run` holds a run already: said before large data are read."""
    if RunFolder(run).config.exists():
        raise OptionError(
            f"{run} holds a run already: go on with it (--resume {run}) or choose another folder"
        )


def _command(data: DataOptions, training: TrainOptions) -> dict[str, Any]:
    return {"data": data.to_json(), "training": training.to_json()}


def _stored_options(run: Path, config: Mapping[str, Any]) -> tuple[DataOptions, TrainOptions]:
    command = config.get("command")
    if command is None:
        raise ResumeError(
            f"{run} was started from Python, not from the command line; go on with it there: "
            "rb.fit(…, out=…, resume=True)"
        )
    try:
        return (
            DataOptions.from_json(command["data"]),
            TrainOptions.from_json(command["training"]),
        )
    except (KeyError, TypeError, OptionError) as error:
        raise ResumeError(
            f"the options in {run / 'config.json'} can not be read: {error}. Start the run anew, "
            "in another folder"
        ) from error


def _with_changes(
    run: Path, data: DataOptions, training: TrainOptions, given: Mapping[str, Any]
) -> tuple[DataOptions, TrainOptions]:
    """The stored options with those of `given` that may change; ResumeError names the others."""
    if training.has_model_file and "model" not in given:
        raise ResumeError(
            f"the model of {run} is code, {training.model}, and code is not run because a folder "
            f"names it: give it again, --model {training.model}"
        )
    may_change = _MAY_CHANGE | ({"model"} if training.has_model_file else set())
    stored = {
        field.name: getattr(options, field.name)
        for options in (data, training)
        for field in fields(options)
    }
    different = [
        f"{name} was {stored[name]!r} and is {value!r}"
        for name, value in given.items()
        if name not in may_change and stored[name] != value
    ]
    if different:
        raise ResumeError(
            f"{run} can not be resumed with other options: {'; '.join(different)}. Leave them out, "
            "or start another run in another folder"
        )
    changes = {name: value for name, value in given.items() if name in may_change}
    if "data" in changes:
        data = replace(data, data=_absolute(changes.pop("data")))
    if "epochs" in changes or "steps" in changes:
        # One replaces the other: both say when to stop.
        changes = {"epochs": None, "steps": None, **changes}
    return data, replace(training, **changes)


def _absolute(data: str) -> str:
    """The data as they can be found from another folder: a path made absolute, a name as it is."""
    if data in BUILTIN_NAMES or "://" in data:
        return data
    return str(Path(data).expanduser().absolute())


def _new_folder(data: str, model: str) -> Path:
    """`runs/DATA-MODEL-TIME`, with a number where two runs begin within one second."""
    stems = [re.sub(r"[^\w.-]+", "-", Path(piece).stem).strip("-.") for piece in Path(data).parts]
    word = next((stem for stem in reversed(stems) if stem), "data")
    network = re.sub(r"[^\w.]+", "-", Path(model).name).strip("-")
    time = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / f"{word}-{network}-{time}"
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{word}-{network}-{time}-{number}")
        number += 1
    return folder
