"""A rank's view of a plan: positions of its own that are those of its shares, by arithmetic."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.mixture import MixtureOrder
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan
from rightbatch.plan.rank_plan import RankPlan
from rightbatch.plan.ranks import rank_span
from rightbatch.plan.weighted import WeightedOrder

LENGTHS = st.one_of(st.integers(1, 200), st.sampled_from([65_535, 70_001]))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of every order, with batches that divide among few ranks and that do not."""
    length = draw(LENGTHS)
    block = draw(st.integers(max(1, length // 60), max(1, length // 2)))
    order = draw(
        st.sampled_from(
            [
                Order(kind="uniform"),
                Order(kind="sequential"),
                Order(kind="window", window=draw(st.integers(1, 300))),
                Order(kind="block-window", block=block, window=block * draw(st.integers(1, 9))),
                WeightedOrder.from_weights([1.0, 0.0, 2.5, 3.0], length),
                MixtureOrder.of([7, 300], [0.3, 0.7]),
            ]
        )
    )
    remainder = draw(st.sampled_from(["keep", "drop"]))
    largest = length if remainder == "drop" else 2 * length
    return Plan(
        length=length,
        batch_size=draw(st.integers(max(1, length // 50), largest)),
        order=order,
        seed=draw(st.integers(0, 2**64)),
        remainder=remainder,
    )


@st.composite
def worlds(draw: st.DrawFn) -> list[RankPlan]:
    """All ranks' views of a plan, from anywhere in an epoch on, evenly or rank by rank."""
    plan = draw(plans())
    world_size = draw(st.integers(1, 9))
    share = None
    if draw(st.booleans()):
        share = -(-min(plan.batch_size, plan.length) // world_size) + draw(st.integers(0, 2))
    start = draw(st.integers(0, plan.length))
    return [
        RankPlan(plan=plan, rank=rank, world_size=world_size, share=share).after(start)
        for rank in range(world_size)
    ]


@given(worlds(), st.integers(0, 1000))
def test_the_ranks_of_a_batch_one_after_another_are_the_batch(ranks, epoch):
    plan, start = ranks[0].plan, ranks[0].start
    spans = list(plan.spans(start))
    of_ranks = [list(rank.spans()) for rank in ranks]
    assert [len(own) for own in of_ranks] == [len(spans)] * len(ranks)
    whole = plan.positions(epoch, 0, plan.length)
    own = [rank.positions(epoch, 0, rank.length) for rank in ranks]
    for k, span in enumerate(spans):
        shares = [samples[slice(*cut[k])] for samples, cut in zip(own, of_ranks, strict=True)]
        assert np.array_equal(np.concatenate(shares), whole[slice(*span)])
        for rank, share in zip(ranks, shares, strict=True):
            begin, end = rank_span(*span, rank.rank, rank.world_size)
            if rank.share is not None:
                assert len(share) in range(rank.share + 1)
                # Full shares come first, and one that is not is followed by empty ones.
                assert len(share) == min(
                    rank.share, max(0, span[1] - span[0] - rank.rank * rank.share)
                )
            else:
                assert len(share) == end - begin


@given(worlds(), st.integers(0, 1000), st.data())
def test_the_spans_of_a_rank_follow_one_another_and_none_but_the_last_is_smaller(
    ranks, epoch, data
):
    rank = data.draw(st.sampled_from(ranks))
    spans = list(rank.spans())
    edges = [0, *(stop for _, stop in spans)]
    assert [start for start, _ in spans] == edges[:-1]
    assert edges[-1] == rank.length
    sizes = np.diff(edges)
    if rank.plan.batch_count(rank.start) > 1:
        assert (sizes[:-1] == rank.batch_size).all()
        assert sizes[-1] <= rank.batch_size
    first = data.draw(st.integers(0, rank.length))
    if rank.batch_size and first < rank.length:
        assert list(rank.spans(first)) == spans[first // rank.batch_size :]
    start = data.draw(st.integers(0, rank.length))
    stop = data.draw(st.integers(start, rank.length))
    whole = rank.positions(epoch, 0, rank.length)
    assert np.array_equal(rank.positions(epoch, start, stop), whole[start:stop])


@given(worlds(), st.integers(0, 1000), st.data())
def test_stretches_cover_the_positions_and_stay_inside_of_windows(ranks, epoch, data):
    rank = data.draw(st.sampled_from(ranks))
    start = data.draw(st.integers(0, rank.length))
    most = data.draw(st.integers(max(1, rank.length // 50), rank.length + 1))
    stretches = list(rank.stretches(epoch, start, most))
    edges = [start, *(stop for _, stop in stretches)]
    assert [begin for begin, _ in stretches] == edges[:-1]
    assert edges[-1] == rank.length
    assert all(0 < stop - begin <= most for begin, stop in stretches)
    windows = rank.plan.windows(epoch)
    if windows is None or rank.plan.length > 1000:
        return
    # Where in the epoch the own positions lie, by the sequential order.
    in_order = replace(rank, plan=replace(rank.plan, order=Order(kind="sequential")))
    places = in_order.positions(epoch, 0, rank.length)
    for begin, stop in stretches:
        assert windows.bounds(int(places[begin])) == windows.bounds(int(places[stop - 1]))


@given(worlds(), st.data())
def test_no_run_of_neighbours_holds_more_own_positions_than_the_bound(ranks, data):
    rank = data.draw(st.sampled_from(ranks))
    in_order = replace(rank, plan=replace(rank.plan, order=Order(kind="sequential")))
    places = in_order.positions(0, 0, rank.length)
    samples = data.draw(st.integers(1, rank.plan.length))
    if len(places):
        held = np.searchsorted(places, places + samples) - np.arange(len(places))
        assert held.max() <= rank.most_within(samples)


ORDERS_OF_A_TRILLION = [
    Order(kind="uniform"),
    Order(kind="sequential"),
    Order(kind="window", window=10_000),
    Order(kind="block-window", block=1000, window=100_000),
]


@pytest.mark.parametrize("order", ORDERS_OF_A_TRILLION, ids=str)
@pytest.mark.parametrize("batch_size", [999, 4_000, 250_000])
def test_a_thousand_ranks_of_10_to_the_12_samples_take_little_memory(order, batch_size):
    length, world_size = 10**12, 1000
    plan = Plan(length=length, batch_size=batch_size, order=order, seed=7)
    start = length // 2
    ranks = [
        RankPlan(plan=plan, rank=rank, world_size=world_size, start=start)
        for rank in (0, 1, 500, 998, 999)
    ]
    tracemalloc.start()
    try:
        for rank in ranks:
            # The batches of a second or so, from the middle of the rank's own positions on.
            begin = rank.length // 2 // max(1, rank.batch_size) * rank.batch_size
            stop = min(rank.length, begin + 20 * rank.batch_size)
            own = rank.positions(3, begin, stop)
            k = begin // max(1, rank.batch_size)
            share = rank_span(*plan.span(k, start), rank.rank, world_size)
            assert np.array_equal(own[: rank.batch_size], plan.positions(3, *share))
            next(rank.stretches(3, begin, 10**6), None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6


def test_more_ranks_than_samples_leave_some_without_any():
    plan = Plan(length=5, batch_size=2, order=Order(kind="uniform"), seed=7)
    rank = RankPlan(plan=plan, rank=2, world_size=3)
    assert (rank.length, rank.batch_size) == (0, 0)
    assert list(rank.spans()) == [(0, 0)] * 3
    assert list(rank.stretches(0, 0, 10)) == []
    assert rank.positions(0, 0, 0).shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 2}, r"rank=2 is not valid in a world_size of 2; ranks are 0 and 1"),
        ({"rank": 5, "world_size": 5}, r"rank=5 is not valid .* ranks are 0 to 4"),
        ({"rank": 1, "world_size": 1}, r"rank=1 is not valid .* rank 0 is the only one"),
        ({"rank": -1}, r"rank=-1 is not valid; give an integer of at least 0"),
        ({"rank": 0.5}, r"rank=0.5 is not valid"),
        ({"world_size": 0}, r"world_size=0 is not valid; give an integer of at least 1"),
        ({"share": 1}, r"2 ranks with a share of 1 samples .* batch of 4; .* at least 2"),
        ({"share": 0}, r"share=0 is not valid"),
    ],
    ids=str,
)
def test_what_is_no_rank_and_no_share_is_refused(options, message):
    plan = Plan(length=10, batch_size=4, order=Order(kind="uniform"), seed=7)
    with pytest.raises(OptionError, match=message):
        RankPlan(**{"plan": plan, "rank": 0, "world_size": 2, **options})


def test_padding_is_refused():
    plan = Plan(length=10, batch_size=4, order=Order(kind="uniform"), seed=7, remainder="pad")
    with pytest.raises(OptionError, match=r'remainder="pad" .* 3 ranks .*"keep"'):
        RankPlan(plan=plan, rank=0, world_size=3)


def test_positions_outside_of_the_rank_are_refused():
    plan = Plan(length=10, batch_size=4, order=Order(kind="uniform"), seed=7)
    with pytest.raises(IndexError, match="stop <= 5"):
        RankPlan(plan=plan, rank=0, world_size=2).positions(0, 3, 6)
