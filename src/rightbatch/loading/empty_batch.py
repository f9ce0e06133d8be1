"""A batch of no sample, which a rank has where there are fewer samples than ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from rightbatch.data.ragged import Ragged


def none_of(batch: Any) -> Any:
    """The batch without its samples: the same shapes and types, in memory of its own.

    >>> none_of((np.ones((3, 2)), {"a": np.ones(3)}))
    (array([], shape=(0, 2), dtype=float64), {'a': array([], dtype=float64)})
    """
    if isinstance(batch, tuple):
        return tuple(map(none_of, batch))
    if isinstance(batch, dict):
        return {name: none_of(values) for name, values in batch.items()}
    if isinstance(batch, Ragged):
        return batch[:0]
    return batch[:0].copy() if isinstance(batch, np.ndarray) else batch[:0].clone()
