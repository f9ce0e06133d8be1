"""CIFAR-10's binary version: six files of records, a byte of label and 3,072 of pixels each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.options import OpenOptions
from rightbatch.errors import DataError

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST_FILE = "test_batch.bin"
# Red, green, blue; rows of pixels.
_IMAGE_SHAPE = (3, 32, 32)
_RECORD_BYTES = 1 + 3 * 32 * 32


def is_cifar_folder(folder: Path) -> bool:
    """Whether a folder holds files named like CIFAR-10's binary version."""
    return any((folder / name).is_file() for name in (*_TRAIN_FILES, _TEST_FILE))


def open_cifar_folder(folder: Path, options: OpenOptions) -> ArrayDataset:
    """The columns `image` (uint8, 3 x 32 x 32) and `label` (int64, with the classes' names).

    The five training files come first and the test file after them; the two parts stand in
    `own_parts`. Raises DataError where a file lacks, is cut off, or holds a label of no class.
    """
    options.refuse_unused(f"{folder} (CIFAR-10)")
    name = options.name or str(folder)
    chosen = options.choose(name, ("image", "label"), default_target="label")
    paths = [folder / file for file in (*_TRAIN_FILES, _TEST_FILE)]
    lacking = [path.name for path in paths if not path.is_file()]
    if lacking:
        raise DataError(
            f"{folder} has no {', '.join(lacking)}. The binary version of CIFAR-10 is "
            f"data_batch_1.bin to data_batch_5.bin and {_TEST_FILE}; fetch it anew."
        )
    counts = [_count(path) for path in paths]
    length, train_length = sum(counts), sum(counts[:-1])
    images = np.empty((length, *_IMAGE_SHAPE), np.uint8)
    labels = np.empty(length, np.int64)
    start = 0
    for path, count in zip(paths, counts, strict=True):
        records = _read(path, count)
        images[start : start + count] = records[:, 1:].reshape(count, *_IMAGE_SHAPE)
        labels[start : start + count] = records[:, 0]
        start += count
    columns: dict[str, NDArray[Any]] = {"image": images, "label": labels}
    data = ArrayDataset(
        {column: columns[column] for column in chosen.columns},
        name=name,
        target=chosen.target,
        categories={"label": CLASSES} if "label" in chosen.columns else {},
        own_parts={"train": range(train_length), "test": range(train_length, length)},
    )
    data.files = tuple(paths)
    return data


def _count(path: Path) -> int:
    size = path.stat().st_size
    if size == 0 or size % _RECORD_BYTES:
        raise DataError(
            f"{path} has {size:,} bytes, which is no whole number of records of {_RECORD_BYTES:,} "
            "bytes (a label and 3 x 32 x 32 pixels): it is cut off or another file. Fetch it anew."
        )
    return size // _RECORD_BYTES


def _read(path: Path, count: int) -> NDArray[Any]:
    values = np.frombuffer(path.read_bytes(), np.uint8)
    if len(values) != count * _RECORD_BYTES:
        raise DataError(f"{path} has changed while it was read. Open it anew.")
    records = values.reshape(count, _RECORD_BYTES)
    wrong = np.flatnonzero(records[:, 0] >= len(CLASSES))
    if len(wrong):
        raise DataError(
            f"{path}, record {int(wrong[0]) + 1}: the label {int(records[wrong[0], 0])} is of no "
            f"class; valid are 0 to {len(CLASSES) - 1}. Fetch the file anew."
        )
    return records
