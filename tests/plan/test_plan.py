from __future__ import annotations

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

from rightbatch.errors import OptionError
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan

UNIFORM = Order(kind="uniform")


def plan_of(length: int, batch_size: int, remainder: str = "keep") -> Plan:
    return Plan(
        length=length,
        batch_size=batch_size,
        order=UNIFORM,
        seed=7,
        remainder=remainder,  # type: ignore[arg-type]  # tests pass wrong words too
    )


def test_a_thousand_samples_by_128_are_seven_batches_and_one_of_104():
    plan = plan_of(1_000, 128)
    sizes = [stop - start for start, stop in plan.spans()]
    assert sizes == [128] * 7 + [104]
    assert plan.batch_count() == 8
    assert plan.dropped == 0


def test_drop_leaves_out_the_last_batch_and_says_how_many():
    plan = plan_of(1_000, 128, "drop")
    assert [stop - start for start, stop in plan.spans()] == [128] * 7
    assert plan.dropped == 104


def test_drop_leaves_out_nothing_where_batches_divide():
    plan = plan_of(1_024, 128, "drop")
    assert (plan.batch_count(), plan.dropped) == (8, 0)


def test_pad_counts_real_samples_alone():
    assert list(plan_of(10, 4, "pad").spans()) == [(0, 4), (4, 8), (8, 10)]


def test_spans_from_a_start_in_the_middle():
    plan = plan_of(1_000, 128)
    assert list(plan.spans(start=900)) == [(900, 1_000)]
    assert plan.batch_count(start=744) == 2
    assert plan.span(1, start=744) == (872, 1_000)
    assert list(plan.spans(start=1_000)) == []
    assert plan_of(1_000, 128, "drop").batch_count(start=900) == 0


def test_batches_and_starts_outside_the_epoch_are_refused():
    plan = plan_of(1_000, 128)
    for k in (-1, 8):
        with pytest.raises(IndexError, match=f"batch {k} lies outside"):
            plan.span(k)
    for start in (-1, 1_001):
        with pytest.raises(IndexError, match=f"start {start} lies outside"):
            plan.batch_count(start)
    with pytest.raises(IndexError, match="lies outside"):
        plan.positions(0, 990, 1_001)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, "at least one sample"),
        ({"length": 2.0}, "length=2.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"seed": None}, "seed=None"),
        ({"remainder": "dropp"}, "Did you mean 'drop'"),
        ({"remainder": "drop", "batch_size": 11}, "would drop all 10 samples"),
    ],
)
def test_options_are_checked_at_birth(change, message):
    with pytest.raises(OptionError, match=message):
        dataclasses.replace(plan_of(10, 4), **change)


def test_a_plan_in_json_says_what_decides_the_order():
    assert json.loads(json.dumps(plan_of(10, 4).to_json())) == {
        "length": 10,
        "order": {"kind": "uniform", "window": None},
        "remainder": "keep",
        "seed": 7,
    }


@pytest.mark.parametrize(
    "order",
    [UNIFORM, Order(kind="window", window=1_000), Order(kind="window", window=1_000_000)],
    ids=str,
)
def test_the_index_of_180_million_samples_takes_no_memory(order):
    # A stored permutation takes 1.4 GB, peers up to 100 GB.
    plan = Plan(length=180_000_000, batch_size=256, order=order, seed=1)
    tracemalloc.start()
    try:
        for k in (0, 351_000, plan.batch_count() - 1):
            rows = plan.positions(2, *plan.span(k))
            assert len(np.unique(rows)) == len(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6
