"""Which batches of an epoch are looked at."""

from __future__ import annotations

import numpy as np
import pytest

from rightbatch.errors import OptionError
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan
from rightbatch.plan.sampled_epoch import MOST_POSITIONS, SampledEpoch

UNIFORM = Order(kind="uniform")
BLOCKS = Order(kind="block-window", window=8, block=4)


def sampled(length, batch_size, order=UNIFORM, **more) -> SampledEpoch:
    return SampledEpoch.of(
        Plan(length=length, batch_size=batch_size, order=order, seed=3, **more), 1
    )


@pytest.mark.parametrize("order", [UNIFORM, BLOCKS, Order(kind="window", window=9)])
@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_a_short_epoch_is_looked_at_whole(order, remainder) -> None:
    found = sampled(100, 8, order, remainder=remainder)
    kept = 96 if remainder == "drop" else 100
    assert found.is_whole
    assert found.positions.tolist() == list(range(kept))
    assert found.rows.tolist() == found.plan.positions(1, 0, kept).tolist()
    assert found.batch.tolist() == [p // 8 for p in range(kept)]
    assert found.sizes.sum() == kept
    assert found.is_followed.all()


@pytest.mark.parametrize(
    ("length", "batch_size", "order"),
    [
        (10**12, 256, UNIFORM),
        (10**12, 1, UNIFORM),
        (10**12, 2**20, UNIFORM),
        (10**12, 700_000, UNIFORM),
        (2**20 + 1, 256, UNIFORM),
        (10**7, 256, BLOCKS),
        (2**62, 1000, Order(kind="window", window=10**6)),
        (10**11, 64, Order(kind="block-window", window=2**24, block=2**4)),
    ],
)
def test_of_a_long_epoch_whole_batches_spread_over_it(length, batch_size, order) -> None:
    found = sampled(length, batch_size, order)
    assert not found.is_whole
    assert len(found.rows) == len(found.positions) <= MOST_POSITIONS
    assert (np.diff(found.positions) > 0).all()
    assert (np.diff(found.numbers) > 0).all()
    ends = found.plan.batch_count() - 1
    assert set(found.sizes[found.numbers < ends].tolist()) <= {batch_size}
    for k in (0, len(found.sizes) - 1):
        start, stop = found.plan.span(int(found.numbers[k]))
        assert found.positions[found.batch == k].tolist() == list(range(start, stop))
        assert (found.rows[found.batch == k] == found.plan.positions(1, start, stop)).all()


def test_a_batch_that_is_too_long_is_refused_and_full_ones_are_not() -> None:
    with pytest.raises(OptionError, match="1,048,577 samples is more than the 1,048,576"):
        sampled(2**20 + 1, 2**20 + 1)
    assert sampled(100, 2**40).sizes.tolist() == [100]
