"""Going on with a run of the command line, with the options it was started with."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rightbatch.data.opening_files import names_a_set
from rightbatch.data.remote_url import is_url
from rightbatch.errors import DataError, OptionError, ResumeError
from rightbatch.execution import absolute, fit_and_test, stored_command
from rightbatch.options import AUTO, AdviceOptions, DataOptions, TrainOptions
from rightbatch.preparation import prepare
from rightbatch.run_report import RunReport
from rightbatch.training.progress import Watcher
from rightbatch.training.ranks import Ranks
from rightbatch.training.run_folder import RunFolder

# What the user may change when a run goes on: how far, how fast, and where the data lie now (the
# fingerprint says whether they are the same).
_MAY_CHANGE = {"data", "epochs", "steps", "target_loss", "threads", "batch_size", "memory"}


def resume(
    run: str | Path,
    given: Mapping[str, Any],
    *,
    report: str | Path | None = None,
    started: Callable[[Path], None] | None = None,
    progress: Watcher | None = None,
) -> RunReport:
    """Go on with the run in the folder `run`, with the options it was started with.

    `given` are options that the user gave again, by field name. How far the run goes (`epochs`,
    `steps`, `target_loss`), `threads`, `batch_size` and where the data lie may be new; a model
    from a file must be given again, since code is not run because a folder names it. A batch size
    that was advised stays what it is: nothing is measured again.

    Raises ResumeError that names what differs otherwise.
    """
    folder = RunFolder(Path(run))
    config = Ranks.here().on_first(folder.read_config)
    data, training = _with_changes(folder.path, *_stored_options(folder.path, config), given)
    try:
        parts = prepare(data)
    except DataError as error:
        if "data" in given or _is_there(data.data):
            raise
        raise DataError(
            f"{folder.path} was trained on {data.data}, which is not there any more ({error}). "
            "Where the data lie elsewhere now, name them: rightbatch train DATA --resume "
            f"{folder.path}"
        ) from error
    if started is not None:
        started(folder.path)
    return fit_and_test(
        data,
        training,
        parts,
        folder,
        config={"command": stored_command(data, training)},
        advice=folder.advice if "asked" in config and folder.advice.exists() else None,
        report=report,
        progress=progress,
        is_resumed=True,
        allow_new_batch_size="batch_size" in given,
    )


def _is_there(data: str) -> bool:
    # Path.glob takes no absolute pattern.
    return (
        names_a_set(data)
        or is_url(data)
        or Path(data).exists()
        or bool(glob.glob(data, recursive=True))  # noqa: PTH207
    )


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
    searching = [field.name for field in fields(AdviceOptions) if field.name in given]
    if given.get("batch_size") == AUTO or searching:
        named = " and ".join(searching or ["batch_size='auto'"])
        raise ResumeError(
            f"{named} would look for a batch size, and {run} goes on at its own, "
            f"{training.batch_size}: leave {'it' if len(searching) < 2 else 'them'} out, or give a "
            "number to go on at another one"
        )
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
        data = replace(data, data=absolute(changes.pop("data")))
    if "epochs" in changes or "steps" in changes:
        # One replaces the other: both say when to stop.
        changes = {"epochs": None, "steps": None, **changes}
    return data, replace(training, **changes)
