"""What orders do to the samples, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.plan.order import Order
from rightbatch.plan.order_measures import Measure, measure_order
from rightbatch.plan.plan import Plan
from rightbatch.plan.sampled_epoch import SampledEpoch


@given(
    length=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    block=st.integers(1, 12),
    order=st.sampled_from(
        [
            Order(kind="sequential"),
            Order(kind="uniform"),
            Order(kind="window", window=7),
            Order(kind="block-window", window=6, block=3),
        ]
    ),
    remainder=st.sampled_from(["keep", "drop"]),
)
def test_measures_are_those_of_counting(length, batch_size, block, order, remainder) -> None:
    if remainder == "drop" and batch_size > length:
        remainder = "keep"
    plan = Plan(length=length, batch_size=batch_size, order=order, seed=5, remainder=remainder)
    found = measure_order(SampledEpoch.of(plan, 2), block)
    batches = [plan.positions(2, *span).tolist() for span in plan.spans()]
    rows = [row for batch in batches for row in batch]
    travelled = [abs(place - row) / length for place, row in enumerate(rows)]
    assert found.travel.value == pytest.approx(np.mean(travelled))
    assert found.travel_low.value == pytest.approx(np.quantile(travelled, 0.1))
    assert found.travel_high.value == pytest.approx(np.quantile(travelled, 0.9))
    blocks = [len({row // block for row in batch}) for batch in batches]
    assert found.distinct_blocks.value == pytest.approx(np.mean(blocks))
    together = sum(row + 1 in batch for batch in batches for row in batch)
    assert found.neighbours.value == pytest.approx(together / max(1, length - 1))


def test_the_uniform_chance_of_neighbours_is_that_of_any_two_samples() -> None:
    plan = Plan(length=60, batch_size=12, order=Order(kind="uniform"), seed=5)
    assert measure_order(SampledEpoch.of(plan, 0), 4).neighbours.uniform == pytest.approx(11 / 59)


def test_over_many_epochs_a_uniform_order_is_what_the_closed_forms_say() -> None:
    plan = Plan(length=500, batch_size=32, order=Order(kind="uniform"), seed=11)
    found = [measure_order(SampledEpoch.of(plan, epoch), 16) for epoch in range(200)]
    for name in ("travel", "travel_low", "travel_high", "distinct_blocks", "neighbours"):
        measures = [getattr(one, name) for one in found]
        ratio = np.mean([one.value for one in measures]) / measures[0].uniform
        assert ratio == pytest.approx(1, abs=0.03), name


def test_a_ratio_to_nothing_is_one_or_infinite() -> None:
    assert Measure(value=0.0, uniform=0.0).ratio == 1
    assert Measure(value=0.1, uniform=0.0).ratio == float("inf")
