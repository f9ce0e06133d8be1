"""Batches as torch tensors, on the device that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from rightbatch.data.dataset import Dataset
from rightbatch.data.ragged import MAKE_ARRAYS, Ragged
from rightbatch.errors import OptionError

_ALIGNED_BYTES = 16


def to_torch(values: Any, data: Dataset, device: Any) -> Any:
    """An array, or each of a dict of arrays, as a tensor, moved to `device`.

    It is on the same memory, but for floats whose memory does not begin at a multiple of 16 bytes.

    Raises OptionError where entries vary in length; `data` are what messages speak of.
    """
    import torch

    if isinstance(values, dict):
        return {name: to_torch(array, data, device) for name, array in values.items()}
    if isinstance(values, Ragged):
        raise ragged_for_torch(data)
    if not isinstance(values, torch.Tensor):
        array = np.asarray(values)
        # A function may have returned a flipped or a broadcast view; torch takes neither.
        if not array.flags.writeable or min(array.strides, default=0) < 0:
            array = array.copy()
        values = torch.from_numpy(array)
    # Products of few rows or columns round otherwise where memory does not begin at 16 bytes, and
    # where in a slab a batch lies depends on where reading began: a resumed run would differ.
    if values.is_floating_point() and values.data_ptr() % _ALIGNED_BYTES:
        values = values.clone()
    return values if device is None else values.to(device)


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
