"""Real data sets that come with scikit-learn, by name: no file and no network needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.options import OpenOptions

BUILTIN_NAMES = ("breast_cancer", "diabetes", "digits", "iris", "wine")


def open_builtin(builtin: str, options: OpenOptions) -> ArrayDataset:
    """The set called `builtin`: a column for each feature (for digits: `image`), and `target`.

    The target's categories are the class names, where the set has any.
    """
    from sklearn import datasets

    options.refuse_unused(f"the built-in set {builtin!r}")
    bunch = getattr(datasets, f"load_{builtin}")()
    columns: dict[str, NDArray[Any]] = {}
    if builtin == "digits":
        columns["image"] = np.ascontiguousarray(bunch.images)
    else:
        for position, feature in enumerate(bunch.feature_names):
            columns[str(feature)] = np.ascontiguousarray(bunch.data[:, position])
    labels = np.asarray(bunch.target)
    is_regression = labels.dtype.kind == "f"
    columns["target"] = labels if is_regression else labels.astype(np.int64)
    class_names = np.asarray(getattr(bunch, "target_names", ()))
    has_class_names = not is_regression and class_names.dtype.kind == "U"
    name = options.name or builtin
    chosen = options.choose(name, tuple(columns), default_target="target")
    categories = {}
    if has_class_names and "target" in chosen.columns:
        categories["target"] = tuple(str(text) for text in class_names)
    return ArrayDataset(
        {column: columns[column] for column in chosen.columns},
        name=name,
        target=chosen.target,
        categories=categories,
    )
