"""What data are, and what training on them would take, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.ragged import Ragged
from rightbatch.errors import OptionError, RightbatchError
from rightbatch.loading.batches import Batches
from rightbatch.loading.image_sizes import image_notes
from rightbatch.loading.parts import Part, Parts
from rightbatch.loading.shuffle_quality import shuffle_quality
from rightbatch.loading.shuffle_result import ShuffleQuality
from rightbatch.loading.transform import as_numpy
from rightbatch.options import DataOptions, TrainOptions
from rightbatch.preparation import choose_model, model_to_fit, prepare
from rightbatch.training.building import build
from rightbatch.training.task import Task

_FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class InspectReport:
    """What the data are, and what training on them would take; sizes in samples and bytes.

    `bytes` counts float32 inputs, float32 targets (one-hot for classes) and parameters together,
    for the whole training part as one batch and for one batch; and parameters alone.
    `class_counts` has the samples a class, by part, where the target is one of classes.
    `shuffle_quality` is what the order does to the training part, None where nobody asked.
    """

    data: str
    target: str | None
    classes: int | None
    samples: int
    columns: list[dict[str, Any]]
    splits: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    duplicate_samples: int | None
    model: str | None
    batch_size: int
    batches: dict[str, int]
    bytes: dict[str, int]
    notes: list[str]
    shuffle_quality: ShuffleQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON-able object."""
        quality = self.shuffle_quality
        told = asdict(replace(self, shuffle_quality=None))
        return {**told, "shuffle_quality": None if quality is None else quality.to_json()}


def inspect_data(
    options: DataOptions,
    *,
    model: str | None = None,
    batch_size: int | str = 32,
    with_shuffle_quality: bool = False,
    shuffle: bool = True,
    window: int | None = None,
    block: int | None = None,
    memory: str | None = None,
) -> InspectReport:
    """What the data are, and what training `model` on them by `batch_size` would take.

    Without `model`, it is the one that `train` would take; data without a target have none.
    `with_shuffle_quality` measures what the order of `shuffle`, `window`, `block` and `memory` does
    to the training part; without it, these are not taken.

    Raises OptionError and DataError where options or data are refused, or `model` does not fit.

    >>> report = inspect_data(DataOptions(data="digits", val=0, test=0), batch_size=128)
    >>> report.batches, report.bytes["parameters"]
    ({'count': 15, 'last': 5}, 2600)
    """
    has_order = not shuffle or any(value is not None for value in (window, block, memory))
    if not with_shuffle_quality and has_order:
        raise OptionError(
            "shuffle, window, block and memory choose the order whose quality is measured: ask for "
            "it with --shuffle-quality (with_shuffle_quality=True), or leave them out"
        )
    training = TrainOptions(model=model)
    parts = prepare(options)
    train, data, notes = parts.train, parts.data, list(parts.data.notes)
    batches = Batches(train, batch_size, shuffle=False)
    task, parameters = None, 0
    if model is not None or data.target is not None:
        try:
            model = choose_model(training, train)
            network, task = build(
                model_to_fit(model, seed=options.seed),
                train,
                training.fit_options(seed=options.seed),
            )
            parameters = sum(tensor.numel() for tensor in network.parameters())
        except RightbatchError as error:
            if training.model is not None:
                raise
            notes.append(f"no model fits these data as they are: {error}")
    classes = None if task is None or task.classes is None else len(task.classes)
    if classes is None and data.target is not None:
        named = data.column(data.target).categories
        classes = None if named is None else len(named)
    notes += image_notes(data)
    inputs, target = _sample_sizes(train, task)

    def float_bytes(samples: int) -> int:
        return _FLOAT_BYTES * (samples * (inputs + target) + parameters)

    return InspectReport(
        data=data.name,
        target=data.target,
        classes=classes,
        samples=len(data),
        columns=[
            {
                "name": column.name,
                "dtype": str(column.dtype),
                "shape": [*[None] * column.is_ragged, *column.shape],
            }
            for column in data.columns
        ],
        splits=parts.sizes,
        class_counts={} if classes is None else _class_counts(parts),
        duplicate_samples=parts.duplicate_samples,
        model=model,
        batch_size=batches.batch_size,
        batches={
            "count": len(batches),
            "last": len(train) - (len(batches) - 1) * batches.batch_size,
        },
        bytes={
            "full_batch": float_bytes(len(train)),
            "one_batch": float_bytes(min(batches.batch_size, len(train))),
            "parameters": float_bytes(0),
        },
        notes=notes,
        shuffle_quality=shuffle_quality(
            train,
            batch_size=batch_size,
            shuffle=shuffle,
            window=window,
            block=block,
            memory=memory,
            seed=options.seed,
        )
        if with_shuffle_quality
        else None,
    )


def _sample_sizes(part: Part, task: Task | None) -> tuple[int, int]:
    """The numbers that one sample's inputs and its target hold, classes as one-hot.

    Of entries that vary in length, the mean of up to 1,000 samples across the part.
    """
    rows = part.rows.take(np.unique(np.linspace(0, len(part) - 1, 1000).astype(np.int64)))
    pipeline = part.pipeline
    has_ragged = pipeline.has_ragged
    inputs, target = (
        pipeline.finish(pipeline.gather(rows), rows, seed=0, epoch=0)
        if has_ragged
        else part.example()
    )
    samples = len(rows) if has_ragged else 1
    fields = inputs.values() if isinstance(inputs, dict) else [inputs]
    input_size = sum(_numbers(values) for values in fields) // samples
    if target is None:
        return input_size, 0
    if task is not None and task.classes is not None:
        return input_size, len(task.classes)
    return input_size, _numbers(target) // samples


def _numbers(values: Any) -> int:
    return as_numpy(values.values if isinstance(values, Ragged) else values).size


def _class_counts(parts: Parts) -> dict[str, dict[str, int]]:
    """The samples of each class, by part; nothing where the target is not at hand in memory."""
    target = parts.data.target
    if target is None:
        return {}
    categories = parts.data.column(target).categories
    values: NDArray[Any] | None = parts.data.array(target)
    if values is None:
        return {}
    counted = {}
    for name, part in parts.all.items():
        classes, counts = np.unique(
            values[part.rows.take(np.arange(len(part)))], return_counts=True
        )
        labels = [str(code) if categories is None else categories[int(code)] for code in classes]
        counted[name] = dict(zip(labels, counts.tolist(), strict=True))
    return counted
