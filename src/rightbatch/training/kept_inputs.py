"""What a prediction reads is never what it writes: the model's files and those of the data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rightbatch.data.dataset import Dataset
from rightbatch.errors import OptionError
from rightbatch.training.run_folder import RunFolder


def refuse_inputs(out: Path, model: object, data: Dataset) -> None:
    """OptionError where `out` is a file that the model or the data are read from.

    Another path to the same file is that file: through a link, or through another folder. Of the
    data their own `files` are known, and the files of arrays that are mapped into memory.
    """
    for path in _files_of_model(model):
        if _is_same(out, path):
            raise OptionError(f"out={str(out)!r} would replace {path}, the model: {_NEXT}")
    for path in files_of(data):
        if _is_same(out, path):
            raise OptionError(
                f"out={str(out)!r} would replace {path}, which the data are read from: {_NEXT}"
            )


_NEXT = "name another file"


def files_of(data: Dataset) -> Iterator[Path]:
    """The files that the data are read from, as far as they can be known."""
    yield from data.files
    if data.remote_objects:
        return  # nothing is mapped, and asking for a column would fetch it
    for column in data.columns:
        ragged = data.ragged(column.name)
        array: Any = data.array(column.name) if ragged is None else ragged.values
        while array is not None:
            if isinstance(array, np.memmap) and array.filename is not None:
                yield Path(os.fsdecode(array.filename))
                break
            array = getattr(array, "base", None)


def _files_of_model(model: object) -> Iterator[Path]:
    """A weights file, or the folder of a run and the files that make it one."""
    if not isinstance(model, (str, Path)):
        return
    path = Path(model).expanduser()
    yield path
    if path.is_dir():
        run = RunFolder(path)
        yield from (run.config, run.transforms, run.environment, run.result, run.landscape)
        yield from (run.checkpoint, run.weights, run.history.path, run.steps.path)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of the two is not there
        return False
