"""Batches as torch tensors, on the device that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from rightbatch.data.dataset import Dataset
from rightbatch.data.ragged import MAKE_ARRAYS, Ragged
from rightbatch.errors import OptionError


def to_torch(values: Any, data: Dataset) -> Any:
    """An array, or each of a dict of arrays, as a tensor on the same memory.

    Raises OptionError where entries vary in length; `data` are what messages speak of.
    """
    import torch

    if isinstance(values, dict):
        return {name: to_torch(array, data) for name, array in values.items()}
    if isinstance(values, Ragged):
        raise ragged_for_torch(data)
    if not isinstance(values, torch.Tensor):
        array = np.asarray(values)
        # A function may have returned a flipped or a broadcast view; torch takes neither.
        if not array.flags.writeable or min(array.strides, default=0) < 0:
            array = array.copy()
        values = torch.from_numpy(array)
    return values


def ragged_for_torch(data: Dataset) -> OptionError:
    """What to say where a batch of tensors would have entries of varying length."""
    names = ", ".join(repr(column.name) for column in data.columns if column.is_ragged)
    return OptionError(
        f"output='torch' makes tensors, and the entries of {names} vary in length: {MAKE_ARRAYS}. "
        "Or take batches of output='numpy', in which they are a Ragged"
    )


def find_device(device: Any) -> Any:
    """The torch device of that name; OptionError where this machine or torch has none such.

    >>> find_device("cpu")
    device(type='cpu')
    """
    import torch

    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        valid = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        first_line = str(error).splitlines()[0]
        raise OptionError(
            f"device={device!r} is not to be had here ({first_line}); valid are {', '.join(valid)}"
        ) from error
    return found
