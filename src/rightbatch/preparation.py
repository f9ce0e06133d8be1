"""Data and model as the options name them: opened, split, scaled, and the model chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from rightbatch.data.dataset import Dataset
from rightbatch.data.opening import open as open_data
from rightbatch.data.opening_files import find_tables
from rightbatch.data.tables import is_csv
from rightbatch.errors import OptionError
from rightbatch.loading.decode_images import Crop, DecodeImages, decode_images
from rightbatch.loading.parts import Part, Parts
from rightbatch.loading.splitting import split
from rightbatch.loading.transforms import scale, standardize
from rightbatch.model_file import load_model
from rightbatch.options import DEFAULT_HELD_OUT, DataOptions, TrainOptions
from rightbatch.training.task import resolve_task

# The simplest model for each loss that a target calls for.
_SIMPLEST = {
    "cross_entropy": "softmax",
    "binary_cross_entropy": "logistic",
    "squared_error": "linear",
}


def prepare(options: DataOptions, source: object = None) -> Parts:
    """Open the data, split them and attach the transforms that `options` ask for.

    `source` is an object that stands for what `options.data` names, such as arrays or a frame.

    Raises OptionError and DataError where the options or the data are refused.

    >>> prepare(DataOptions(data="breast_cancer", val=0.16, test=0.2, stratify=True)).sizes
    {'train': 364, 'val': 91, 'test': 114}
    """
    data = open_dataset(options, source)
    own_test = "test" in data.own_parts
    test = DEFAULT_HELD_OUT if options.test is None and not own_test else options.test
    # The default share gives way to a part that the data bring.
    has_val = "val" in data.own_parts
    val = None if has_val and options.val == DEFAULT_HELD_OUT else options.val
    parts = split(
        data,
        val=val or None,
        # Data with a test part of their own refuse to give up another one, 0 included.
        test=test if own_test else test or None,
        stratify=options.stratify or None,
        group=options.group,
        weights=options.weights_column,
        on_duplicates=options.on_duplicates,  # type: ignore[arg-type]  # DataOptions has checked it
        seed=options.seed,
        contiguous=options.contiguous,
    )
    transforms = image_transforms(options)
    if transforms:
        parts = parts.transform(*transforms)
    if wants_scaling(parts.data, options.scale, is_decoded=bool(transforms)):
        parts = parts.transform(scale(1 / 255))
    if options.standardize:
        parts = parts.transform(standardize(channel_axis=0 if transforms else None))
    return parts


def image_transforms(options: DataOptions) -> list[DecodeImages]:
    """What decodes images, where the options ask for it."""
    if options.image_size is None:
        return []
    crop: Crop = "random" if options.random_crop else "center"
    return [decode_images(options.image_size, crop=crop, flip=options.random_flip)]


def open_dataset(options: DataOptions, source: object = None) -> Dataset:
    """The data that `options` name, or `source`, before anything is split."""
    columns = options.columns
    hidden = [name for name in (options.group, options.weights_column) if name is not None]
    if columns is not None:
        columns = tuple(dict.fromkeys([*columns, *hidden]))
    data = open_data(
        options.data if source is None else source,
        target=options.target,
        columns=columns,
        header=options.header,
        missing=options.missing,
        categories=options.categories,
        sequence_length=options.sequence_length,
        stride=options.stride,
        tokenizer=options.tokenizer,
        **(_bad_rows(options) if reads_rows_of_text(options, source) else {}),
    )
    names = [column.name for column in data.columns]
    if options.group is not None and options.group not in names and options.categories == "one-hot":
        raise OptionError(
            f"group={options.group!r} is no column once categories=one-hot has spread the text "
            "columns; take categories=codes, or a group column of numbers"
        )
    return data


def _bad_rows(options: DataOptions) -> dict[str, Any]:
    return {"on_bad_sample": options.on_bad_sample, "max_bad": options.max_bad}


def reads_rows_of_text(options: DataOptions, source: object = None) -> bool:
    """Whether opening meets rows of text, which may be bad; other bad samples show when read."""
    if source is not None or options.sequence_length is not None:
        return False
    tables = find_tables(options.data)
    return tables is not None and any(is_csv(path) for path in tables[0])


def wants_scaling(data: Dataset, wanted: bool | None, *, is_decoded: bool = False) -> bool:
    """Whether the inputs are divided by 255; OptionError where that is asked for in vain."""
    of_bytes = [
        column for column in data.inputs if column.dtype == np.uint8 and not column.is_token
    ]
    if wanted and not of_bytes:
        found = ", ".join(sorted({str(column.dtype) for column in data.inputs}))
        raise OptionError(
            f"scale divides uint8 inputs by 255, and {data.name} has none: its inputs are {found}. "
            "Leave scale out, or take standardize"
        )
    if wanted is None:
        # A table's small whole numbers are not brightness: only arrays of bytes are images.
        is_image = is_decoded or (len(of_bytes) > 0 and of_bytes[0].shape != ())
        return len(data.inputs) == len(of_bytes) == 1 and is_image
    return wanted


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
