"""The batch size, as a user gives it."""

from __future__ import annotations

import operator
from typing import SupportsIndex

from rightbatch.errors import OptionError, did_you_mean
from rightbatch.plan.checks import is_integer


def resolve_batch_size(batch_size: SupportsIndex | str, length: int) -> int:
    """Samples in a batch: `batch_size`, or all `length` of them for "full".

    A batch size past the length is one batch, smaller than asked. Raises OptionError for zero,
    negative numbers, other types and other text.

    >>> resolve_batch_size(128, 1000), resolve_batch_size("full", 1000)
    (128, 1000)
    >>> resolve_batch_size("ful", 1000)
    Traceback (most recent call last):
    rightbatch.errors.OptionError: batch_size='ful' is not valid. Did you mean 'full'? Give an \
integer of at least 1, or "full" for all 1000 samples in one batch.
    """
    if batch_size == "full":
        if length < 1:
            raise OptionError('batch_size="full" of no samples is no batch; the data are empty')
        return length
    if is_integer(batch_size) and operator.index(batch_size) >= 1:
        return operator.index(batch_size)
    hint = did_you_mean(batch_size, ["full"]) if isinstance(batch_size, str) else ""
    raise OptionError(
        f"batch_size={batch_size!r} is not valid.{hint} Give an integer of at least 1, "
        f'or "full" for all {length} samples in one batch.'
    )
