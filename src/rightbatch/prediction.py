"""Predicting from the command line: open the model, open the data, write the results."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rightbatch.data.dataset import Dataset
from rightbatch.errors import MissingColumnError, OptionError, ResumeError
from rightbatch.loading.parts import Part, Parts
from rightbatch.loading.splitting import split
from rightbatch.loading.transforms import scale
from rightbatch.model_file import load_model
from rightbatch.options import DataOptions
from rightbatch.plan.row_set import RowSet
from rightbatch.preparation import (
    image_transforms,
    open_dataset,
    prepare,
    reads_rows_of_text,
    wants_scaling,
)
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE
from rightbatch.training.predict import predict
from rightbatch.training.prediction import Prediction
from rightbatch.training.run_description import RunDescription
from rightbatch.training.run_folder import RunFolder

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test", "all")

# What a run has settled for good: other samples held out would be such as it was trained on.
_OF_THE_RUN = (
    *("val", "test", "stratify", "group", "weights", "on_duplicates", "seed", "contiguous"),
    *("standardize", "scale", "image_size", "random_crop", "random_flip"),
)


@dataclass(frozen=True, kw_only=True)
class PredictReport:
    """What a model says of a part of the data: scores here, the predictions in `output`."""

    model: str
    data: str
    part: str
    prediction: Prediction

    def to_json(self) -> dict[str, Any]:
        """The report as one flat JSON-able object."""
        return {
            **self.prediction.to_json(),
            "part": self.part,
            "data": self.data,
            "model": self.model,
        }


def predict_data(
    model: str,
    data: str | None = None,
    *,
    given: Mapping[str, Any] | None = None,
    part: str | None = None,
    batch_size: int | str = EVALUATION_BATCH_SIZE,
    memory: str | None = None,
    activation: str | None = None,
    loss: str | None = None,
    out: str | Path | None = None,
    network: str | None = None,
) -> PredictReport:
    """Predict a part of `data` by the run or the weights file `model`.

    `given` are data options that the user gave, by field name of `DataOptions`; a run that the
    command line made brings its own. `data` may be left out for such a run: its own are taken.
    Without `part` it is the test part where the run held one out of these very data or the data
    bring one, else all samples. `network` is the module of a run whose model is code, as
    `FILE.py:FACTORY`.

    Raises OptionError and DataError where model, data and options do not belong together.

    >>> predict_data("no/such/run", "iris")
    Traceback (most recent call last):
    rightbatch.errors.OptionError: model='no/such/run': there is no such file or folder ...
    """
    given = dict(given or {})
    path = Path(model).expanduser()
    if part is not None and part not in PARTS:
        raise OptionError(f"part={part!r} is not valid; valid are {', '.join(PARTS)}")
    if (path / "config.json").is_file():
        chosen = _part_of_run(path, data, given, part)
    elif not path.exists():
        # Said before large data are read; what is valid, `predict` knows.
        predict(model, None)
        raise AssertionError("a model that is not there was predicted by")
    elif data is None:
        raise OptionError(f"name the DATA to predict: {path} is no run, which would know its own")
    else:
        options = DataOptions(data=data, **given)
        _refuse_quarantine(options, given)
        chosen = _part_of(options, part)
    prediction = predict(
        model,
        chosen,
        batch_size=batch_size,
        memory=memory,
        activation=activation,
        loss=loss,
        out=out,
        network=None if network is None else load_model(network, seed=0),
    )
    return PredictReport(
        model=model, data=chosen.data.name, part=chosen.name, prediction=prediction
    )


def _part_of_run(path: Path, data: str | None, given: dict[str, Any], part: str | None) -> Part:
    """The part of the data, by the split of the run where the data are its own."""
    run = RunDescription.read(RunFolder(path))
    stored: dict[str, Any] = dict(run.command.get("data") or {})
    for name in _OF_THE_RUN:
        if name in given and stored.get(name, ...) != given[name]:
            was = f" ({name} was {stored[name]!r})" if name in stored else ""
            raise OptionError(
                f"{name}={given[name]!r}: the split and the transforms of {path} were settled when "
                f"it was trained{was}; leave it out"
            )
    if data is None and "data" not in stored:
        raise OptionError(
            f"name the DATA to predict: {path} was trained from Python, and does not know where "
            "its own lie"
        )
    try:
        settled = DataOptions.from_json(
            {**stored, **_by_name(run, stored), **({} if data is None else {"data": data}), **given}
        )
    except (TypeError, OptionError) as error:
        if given and isinstance(error, OptionError):
            raise
        raise ResumeError(
            f"the options in {path / 'config.json'} can not be read: {error}. Put the file back "
            "from a copy, or train anew"
        ) from error
    _refuse_quarantine(settled, given)
    opened = _open_for(run, settled, given)
    parts = _own_split(opened, run, part)
    if parts is not None:
        chosen = parts.all.get(part or "test")
        if chosen is not None:
            return chosen
        if part not in (None, "all"):
            raise OptionError(f"the run {path} held out no {part} part; take --part all")
        return _all(opened)
    if part in (None, "test") and "test" in opened.own_parts:
        return _own_part(opened, "test")
    if part == "train" and "train" in opened.own_parts:
        return _own_part(opened, "train")
    if part not in (None, "all"):
        raise OptionError(
            f"{opened.name} are not the data that {path} was trained on, and have no {part} part "
            "of their own: take --part all"
        )
    return _all(opened)


def _refuse_quarantine(options: DataOptions, given: Mapping[str, Any]) -> None:
    """OptionError where samples are to be left out that only training leaves out."""
    if given.get("on_bad_sample") == "quarantine" and not reads_rows_of_text(options):
        raise OptionError(
            f"on_bad_sample='quarantine' leaves out rows of a CSV file when it is opened, and "
            f"{options.data} is none: every sample is predicted. Repair or remove those that can "
            "not be read, and leave the option out"
        )


def _by_name(run: RunDescription, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The run's target and columns by name: in other data, a position is another column."""
    named: dict[str, Any] = {"target": None if run.target is None else run.target.name}
    # Where text was spread, the inputs are called COLUMN=TEXT.
    is_spread = stored.get("categories") == "one-hot"
    inputs = [
        column.name.partition("=")[0] if is_spread and column.dtype == np.uint8 else column.name
        for column in run.inputs
    ]
    columns = stored.get("columns")
    if columns is not None and not set(columns) <= {*inputs, named["target"]}:
        named["columns"] = list(dict.fromkeys(inputs))
    return named


def _open_for(run: RunDescription, options: DataOptions, given: Mapping[str, Any]) -> Dataset:
    """The data; the run's target, group and weights may be missing: nothing is learned any more."""
    hidden = [name for name in (run.split.get("group"), run.split.get("weights")) if name]
    columns = options.columns
    if columns is not None:
        columns = tuple(dict.fromkeys([*columns, *hidden]))
    options = replace(options, columns=columns, group=None, weights=None)
    while True:
        try:
            data = open_dataset(options)
            break
        except MissingColumnError as error:
            if error.column == options.target and "target" not in given:
                options = replace(options, target=None)
            elif error.column in hidden and "columns" not in given and options.columns is not None:
                rest = tuple(column for column in options.columns if column != error.column)
                options = replace(options, columns=rest)
            else:
                raise
    names = [column.name for column in data.columns]
    if data.target is None and run.target is not None and run.target.name not in names:
        logger.warning(
            f"{data.name} has no column {run.target.name!r}, which the model has learned to tell: "
            "predictions without scores"
        )
    return data


def _own_split(data: Dataset, run: RunDescription, part: str | None) -> Parts | None:
    """The run's own parts; None where the data are others, or no part of a split is wanted."""
    # A split in order may have left out what overlaps.
    is_whole = sum(run.sizes.values()) == len(data) or run.split.get("contiguous", False)
    if (
        part == "all"
        or not is_whole
        or data.columns != run.columns
        or data.target != (None if run.target is None else run.target.name)
    ):
        return None
    try:
        # Other data with the same columns are not refused for what their own samples are like.
        is_strict = run.split.get("on_duplicates") == "error"
        lenient = {"on_duplicates": "report"} if is_strict else {}
        parts = split(data, **{**run.split, **lenient})
    except TypeError as error:
        raise ResumeError(
            f"the split in {run.path / 'config.json'} can not be read: {error}. Put the file back "
            "from a copy, or take --part all"
        ) from error
    return parts if parts.fingerprint == run.fingerprint else None


def _part_of(options: DataOptions, part: str | None) -> Part:
    """The part of the data for a model that knows nothing of them."""
    if part in ("train", "val"):
        return _named(prepare(options), part)
    data = open_dataset(options)
    if part == "test" and "test" not in data.own_parts:
        return _named(prepare(options), part)
    if options.standardize:
        raise OptionError(
            "standardize learns from a training part and weights do not say what they were "
            "trained on: predict with the folder of a run, which keeps what it learned, or take "
            "--part test of the same split"
        )
    decoding = image_transforms(replace(options, random_crop=False, random_flip=False))
    is_scaled = wants_scaling(data, options.scale, is_decoded=bool(decoding))
    transforms = (*decoding, *([scale(1 / 255)] if is_scaled else []))
    has_test = "test" in data.own_parts and part != "all"
    return replace(_own_part(data, "test") if has_test else _all(data), transforms=transforms)


def _named(parts: Parts, name: str) -> Part:
    if name not in parts.all:
        raise OptionError(f"no {name} part was held out: ask for one, --{name} 0.1")
    return parts.all[name]


def _own_part(data: Dataset, name: str) -> Part:
    rows = data.own_parts[name]
    return Part(data=data, rows=RowSet.from_range(len(data), rows.start, rows.stop), name=name)


def _all(data: Dataset) -> Part:
    return Part(data=data, rows=RowSet.from_range(len(data), 0, len(data)), name="all")
