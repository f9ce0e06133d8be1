from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.token_plan import TokenPlan

LENGTHS = [7, 1, 3, 9, 4, 2, 8, 8, 5, 6, 1, 2, 9, 3]


def plan_of(lengths=LENGTHS, tokens=20, shuffle=True, seed=42, edges=None) -> TokenPlan:
    return TokenPlan.of(lengths, tokens=tokens, shuffle=shuffle, seed=seed, edges=edges)


def batches_of(plan: TokenPlan, epoch: int) -> list[list[int]]:
    return [plan.positions(epoch, *span).tolist() for span in plan.spans(epoch=epoch)]


@st.composite
def plans(draw) -> tuple[list[int], TokenPlan]:
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=150))
    tokens = max(1, *lengths) + draw(st.integers(0, 300))
    last = max(1, *lengths)
    edges = draw(st.none() | st.sets(st.integers(1, last)).map(lambda some: sorted({*some, last})))
    plan = plan_of(lengths, tokens, draw(st.booleans()), draw(st.integers(-3, 3)), edges)
    return lengths, plan


@given(drawn=plans(), epoch=st.integers(0, 4))
def test_an_epoch_has_every_sample_once_and_no_batch_exceeds_its_tokens(drawn, epoch):
    lengths, plan = drawn
    batches = batches_of(plan, epoch)
    assert sorted(chain(*batches)) == list(range(len(lengths)))
    assert len(batches) == plan.batch_count(epoch=epoch)
    for batch in batches:
        longest = max(1, *(lengths[position] for position in batch))
        assert 1 <= len(batch) * longest <= plan.tokens
        assert plan.smallest_batch <= len(batch) <= plan.batch_size


@given(drawn=plans(), epoch=st.integers(0, 4), data=st.data())
def test_any_span_is_that_of_the_whole_epoch(drawn, epoch, data):
    lengths, plan = drawn
    whole = plan.positions(epoch, 0, len(lengths))
    start = data.draw(st.integers(0, len(lengths)))
    stop = data.draw(st.integers(start, len(lengths)))
    # A plan of its own: nothing depends on what was asked for before.
    again = TokenPlan(
        buckets=plan.buckets,
        tokens=plan.tokens,
        shuffle=plan.shuffle,
        seed=plan.seed,
        lengths_digest=plan.lengths_digest,
    )
    np.testing.assert_array_equal(again.positions(epoch, start, stop), whole[start:stop])


@given(drawn=plans(), epoch=st.integers(0, 4), data=st.data())
def test_the_rest_of_an_epoch_after_some_batches_is_its_rest(drawn, epoch, data):
    _, plan = drawn
    spans = list(plan.spans(epoch=epoch))
    taken = data.draw(st.integers(0, len(spans)))
    start = spans[taken - 1][1] if taken else 0
    assert list(plan.spans(start, epoch)) == spans[taken:]
    assert plan.batch_count(start, epoch) == len(spans) - taken
    assert plan.end(start) == plan.length


@given(drawn=plans())
def test_without_shuffling_rows_keep_their_order_as_far_as_buckets_allow(drawn):
    lengths, plan = drawn
    plan = plan_of(lengths, plan.tokens, shuffle=False)
    batches = batches_of(plan, 3)
    assert batches == batches_of(plan, 0)
    assert all(batch == sorted(batch) for batch in batches)
    firsts = [batch[0] for batch in batches]
    assert firsts == sorted(firsts)


def test_golden_batches():
    assert batches_of(plan_of(), 0) == GOLDEN[0]
    assert batches_of(plan_of(), 1) == GOLDEN[1]
    assert batches_of(plan_of(shuffle=False), 0) == GOLDEN_IN_ORDER


GOLDEN = [
    [[12, 3], [8, 9, 4], [10, 13, 1, 5, 11, 2], [0, 7], [6]],
    [[1, 5, 11, 2, 13, 10], [4, 8, 9], [12, 3], [6, 0], [7]],
]
GOLDEN_IN_ORDER = [[0, 6], [1, 2, 5, 10, 11, 13], [3, 12], [4, 8, 9], [7]]


def test_golden_order_of_a_large_bucket():
    # More samples than are permuted by sorting.
    plan = plan_of(np.full(100_000, 4), tokens=16)
    assert plan.positions(5, 40_000, 40_008).tolist() == GOLDEN_LARGE


GOLDEN_LARGE = [31709, 25448, 98504, 68865, 97269, 80563, 24721, 82892]


def test_seeds_and_epochs_are_hashed_together():
    lengths = np.random.default_rng(0).integers(1, 50, 500)
    orders = {
        (seed, epoch): tuple(plan_of(lengths, 100, seed=seed).positions(epoch, 0, 500))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9


def test_batches_of_long_and_short_samples_are_mixed():
    lengths = np.repeat([10, 100], 500)
    longest = [lengths[batch].max() for batch in batches_of(plan_of(lengths, 200), 0)]
    # 25 batches of the short ones among 250 of the long ones, and not at one end.
    short = np.flatnonzero(np.array(longest) == 10)
    assert len(short) == 25
    assert short.min() < 100 < 175 < short.max()


def test_what_can_not_be_planned_is_refused():
    with pytest.raises(OptionError, match="a plan of 0 samples"):
        plan_of([])
    with pytest.raises(OptionError, match="batch_tokens=0 is not valid"):
        plan_of(tokens=0)
    with pytest.raises(OptionError, match="9 tokens does not fit in a batch of 8"):
        plan_of(tokens=8)
    plan = plan_of()
    inside = next(stop for _, stop in plan.spans() if stop > 1) - 1
    with pytest.raises(IndexError, match="no batch of epoch 0 begins after"):
        list(plan.spans(inside))
    with pytest.raises(IndexError, match="lies outside"):
        plan.positions(0, 3, 15)
    assert not plan.is_boundary(inside, 0)
    assert plan.is_boundary(14, 0)
