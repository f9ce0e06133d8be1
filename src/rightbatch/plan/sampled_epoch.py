"""An epoch looked at: every batch of it, or stretches of batches where it is long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError
from rightbatch.plan.plan import Plan

MOST_POSITIONS = 2**20
"""So many positions of an epoch are looked at, and no more."""

# Every window of a block-window order is a permutation of its own, worked out one by one.
_MOST_WINDOWS = 4096
# Whoever asks for places in such a window has all its blocks worked out.
_MOST_BLOCKS = 2**22
_STRETCHES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledEpoch:
    """The batches of one epoch that are looked at, whole ones alone.

    Up to 2^20 samples (fewer where the windows of a block-window order are small) these are all;
    of a longer epoch 64 stretches of neighbouring batches, evenly spaced. `positions` (M,) are the
    places in the epoch, `rows` (M,) the samples that stand there, `batch` (M,) the number, from 0,
    of the batch among those looked at; `numbers` (K,) are their numbers in the epoch and `sizes`
    (K,) their lengths. All are int64.

    >>> from rightbatch.plan.order import Order
    >>> plan = Plan(length=5, batch_size=2, order=Order(kind="sequential"), seed=0)
    >>> SampledEpoch.of(plan, 0).batch, SampledEpoch.of(plan, 0).sizes
    (array([0, 0, 1, 1, 2]), array([2, 2, 1]))
    """

    plan: Plan
    positions: NDArray[np.int64]
    rows: NDArray[np.int64]
    batch: NDArray[np.int64]
    numbers: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, plan: Plan, epoch: int) -> SampledEpoch:
        """The batches of `epoch`; OptionError where a single batch is longer than 2^20 samples."""
        most_samples = min(plan.batch_size, plan.length)
        if most_samples > MOST_POSITIONS:
            raise OptionError(
                f"a batch of {most_samples:,} samples is more than the {MOST_POSITIONS:,} that the "
                f"quality of a shuffle is measured on; give a batch_size of up to {MOST_POSITIONS}"
            )
        stretches = _stretches(plan)
        spans = [(plan.span(first)[0], plan.span(last - 1)[1]) for first, last in stretches]
        positions = np.concatenate([np.arange(*span, dtype=np.int64) for span in spans])
        rows = np.concatenate([plan.positions(epoch, *span) for span in spans])
        numbers = np.concatenate([np.arange(*stretch, dtype=np.int64) for stretch in stretches])
        batch = np.searchsorted(numbers, positions // plan.batch_size)
        return cls(
            plan=plan,
            positions=positions,
            rows=rows,
            batch=batch,
            numbers=numbers,
            sizes=np.bincount(batch, minlength=len(numbers)),
        )

    @property
    def is_whole(self) -> bool:
        """Whether every batch of the epoch is among them."""
        return len(self.numbers) == self.plan.batch_count()

    @property
    def is_followed(self) -> NDArray[np.bool_]:
        """Of each batch but the last, whether the next one follows it in the epoch, (K - 1,)."""
        followed: NDArray[np.bool_] = np.diff(self.numbers) == 1
        return followed


def _stretches(plan: Plan) -> list[tuple[int, int]]:
    """The first batch and the one past the last, of every stretch."""
    budget, most_stretches = MOST_POSITIONS, _STRETCHES
    if plan.order.block is not None and plan.order.window is not None:
        budget = min(budget, max(_MOST_WINDOWS * plan.order.window, 2 * plan.batch_size))
        most_stretches = min(_STRETCHES, _MOST_BLOCKS * plan.order.block // plan.order.window)
    count, most = plan.batch_count(), max(1, budget // plan.batch_size)
    if count <= most:
        return [(0, count)]
    # Batches are compared with the one that follows, so that a stretch has two where it can.
    stretches = max(1, min(most_stretches, most // 2))
    length = most // stretches
    # In the middle of equal shares of the epoch, which are no shorter.
    middles = [count * (2 * k + 1) // (2 * stretches) for k in range(stretches)]
    return [(middle - length // 2, middle - length // 2 + length) for middle in middles]
