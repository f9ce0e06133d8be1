"""Laws 1, 2, 4 and 5, of plans and splits: integers alone, no data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rightbatch.errors import OptionError, ResumeError
from rightbatch.plan.cursor import Cursor
from rightbatch.plan.mixture import MixtureOrder
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan, Remainder
from rightbatch.plan.ranks import rank_span
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.split import part_sizes, split_rows
from rightbatch.plan.weighted import WeightedOrder

# Short epochs show every case of the arithmetic; those near 65,536 take both permutations.
lengths = st.one_of(st.integers(1, 300), st.sampled_from([65_535, 65_536, 65_537, 70_001]))
seeds = st.integers(-(2**63), 2**64)
epochs = st.integers(0, 10**6)
remainders: st.SearchStrategy[Remainder] = st.sampled_from(["keep", "drop", "pad"])


@st.composite
def block_windows(draw: st.DrawFn, length: int) -> Order:
    block = draw(st.integers(1, max(1, length // 2)))
    # Windows of a few samples only where epochs are short: 70,000 windows show no more than 300.
    fewest = max(1, length // (300 * block))
    blocks = draw(st.integers(fewest, max(1, length // block + 1)))
    return Order(kind="block-window", block=block, window=block * blocks)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    length = draw(lengths)
    windows = st.one_of(st.integers(1, length + 2), st.integers(1, 400))
    order = draw(
        st.one_of(
            st.sampled_from([Order(kind="sequential"), Order(kind="uniform")]),
            st.builds(Order, kind=st.just("window"), window=windows),
            block_windows(length),
        )
    )
    remainder = draw(remainders)
    largest = length if remainder == "drop" else 2 * length
    # Batches of a few samples only where epochs are short: thousands of batches show no more.
    batch_size = draw(st.integers(max(1, length // 100), largest))
    return Plan(
        length=length, batch_size=batch_size, order=order, seed=draw(seeds), remainder=remainder
    )


@st.composite
def drawing_plans(draw: st.DrawFn) -> Plan:
    """Plans whose orders draw: by weight, balanced, or from a mixture."""
    length = draw(lengths)
    sizes = st.integers(1, 80)
    kind = draw(st.sampled_from(["weights", "balanced", "mixture"]))
    order: WeightedOrder | MixtureOrder
    if kind == "mixture":
        counts = draw(st.lists(sizes, min_size=1, max_size=5))
        order = MixtureOrder.of(counts, [draw(st.integers(1, 9)) for _ in counts])
    elif kind == "balanced":
        classes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=80))
        order = WeightedOrder.balanced(np.array(classes), length)
    else:
        weights = draw(st.lists(st.floats(0, 9), min_size=1, max_size=80).filter(any))
        order = WeightedOrder.from_weights(weights, length)
    return Plan(
        length=length,
        batch_size=draw(st.integers(max(1, length // 100), length)),
        order=order,
        seed=draw(seeds),
        remainder=draw(remainders),
    )


any_plans = st.one_of(plans(), drawing_plans())


def epoch_of(plan: Plan, epoch: int) -> NDArray[np.int64]:
    return plan.positions(epoch, 0, plan.length)


@given(plans(), epochs, st.integers(1, 9))
def test_law_1_an_epoch_visits_every_sample_exactly_once(plan, epoch, world_size):
    visited = [
        plan.positions(epoch, *rank_span(start, stop, rank, world_size))
        for start, stop in plan.spans()
        for rank in range(world_size)
    ]
    counts = np.bincount(np.concatenate(visited), minlength=plan.length)
    assert len(counts) == plan.length
    assert counts.max() == 1
    assert counts.sum() == plan.length - plan.dropped
    if plan.remainder == "drop":
        assert plan.dropped == plan.length % plan.batch_size
    else:
        assert plan.dropped == 0


@given(any_plans)
def test_law_1_only_the_last_batch_is_smaller(plan):
    sizes = [stop - start for start, stop in plan.spans()]
    assert len(sizes) == plan.batch_count()
    assert all(size == plan.batch_size for size in sizes[:-1])
    assert 1 <= sizes[-1] <= plan.batch_size
    assert [start for start, _ in plan.spans()] == [k * plan.batch_size for k in range(len(sizes))]


@given(any_plans, epochs, st.data())
def test_law_2_any_span_is_the_slice_of_the_epoch(plan, epoch, data):
    start = data.draw(st.integers(0, plan.length))
    stop = data.draw(st.integers(start, plan.length))
    k = data.draw(st.integers(0, plan.batch_count() - 1))
    whole = epoch_of(plan, epoch)
    assert np.array_equal(plan.positions(epoch, start, stop), whole[start:stop])
    first, last = plan.span(k)
    assert np.array_equal(plan.positions(epoch, first, last), whole[first:last])


@given(st.integers(20, 300), st.sampled_from([None, 8, 12]), st.integers(-1_000, 1_000), epochs)
def test_law_2_seed_and_epoch_are_hashed_and_not_added(length, window, seed, epoch):
    order = Order.resolve(True, window, length)
    assert not np.array_equal(
        order.positions(length, seed, epoch + 1, 0, length),
        order.positions(length, seed + 1, epoch, 0, length),
    )


@pytest.mark.parametrize("length", [1_000, 100_000, 10**12])
def test_law_2_seed_42_epoch_1_is_not_seed_43_epoch_0(length):
    order = Order(kind="uniform")
    some, others = (
        order.positions(length, 42, 1, 0, 1_000),
        order.positions(length, 43, 0, 0, 1_000),
    )
    # Unrelated orders agree at one position on average, whatever the length.
    assert np.count_nonzero(some == others) < 10


@given(plans(), epochs, st.data())
def test_law_2_a_window_keeps_rows_near(plan, epoch, data):
    assume(plan.order.kind == "window")
    window = plan.order.window
    away = np.abs(epoch_of(plan, epoch) - np.arange(plan.length))
    assert away.max() < window


@given(drawing_plans(), epochs, st.integers(1, 9))
def test_law_3_ranks_share_the_draws_of_a_global_batch(plan, epoch, world_size):
    for start, stop in plan.spans():
        shares = [
            plan.positions(epoch, *rank_span(start, stop, rank, world_size))
            for rank in range(world_size)
        ]
        assert np.array_equal(np.concatenate(shares), plan.positions(epoch, start, stop))


@given(lengths, seeds, epochs, st.data())
def test_law_2_a_window_of_blocks_holds_whole_blocks(length, seed, epoch, data):
    order = data.draw(block_windows(length))
    assume(order.window < length)
    whole = order.positions(length, seed, epoch, 0, length)
    windows = order.windows(length, seed, epoch)
    begin = 0
    while begin < length:
        end = windows.bounds(begin)[1]
        assert windows.bounds(end - 1) == (begin, end)
        assert begin < end <= begin + order.window
        inside = np.sort(whole[begin:end])
        blocks = np.unique(inside // order.block)
        assert len(blocks) <= order.window // order.block
        expected = [np.arange(b * order.block, min(length, (b + 1) * order.block)) for b in blocks]
        assert np.array_equal(inside, np.concatenate(expected))
        begin = end


@given(any_plans, epochs, st.data())
def test_law_4_a_run_stopped_anywhere_goes_on_with_the_remaining_samples(plan, epoch, data):
    samples = data.draw(st.integers(0, plan.length))
    written = json.dumps(Cursor.of(plan, epoch=epoch, samples=samples, fingerprint="f").to_json())
    cursor = Cursor.from_json(json.loads(written))
    cursor.check(plan, "f")
    resumed_epoch, consumed = cursor.resume_point(plan)
    if resumed_epoch == epoch:
        assert consumed == samples
    else:
        assert (resumed_epoch, consumed) == (epoch + 1, 0)
        assert plan.length - samples < (plan.batch_size if plan.remainder == "drop" else 1)
    remaining = [plan.positions(resumed_epoch, start, stop) for start, stop in plan.spans(consumed)]
    kept = sum(len(batch) for batch in remaining)
    assert plan.length - consumed - kept < (plan.batch_size if plan.remainder == "drop" else 1)
    expected = epoch_of(plan, resumed_epoch)[consumed : consumed + kept]
    assert np.array_equal(np.concatenate(remaining), expected)


@given(any_plans, epochs, st.data())
def test_law_4_stopped_at_a_batch_the_remaining_batches_are_the_same(plan, epoch, data):
    stopped_after = data.draw(st.integers(0, plan.batch_count()))
    spans = list(plan.spans())
    consumed = spans[stopped_after - 1][1] if stopped_after else 0
    assert list(plan.spans(consumed)) == spans[stopped_after:]


@given(any_plans, epochs, st.data())
def test_law_4_another_batch_size_goes_on_where_allowed_and_only_there(plan, epoch, data):
    samples = data.draw(st.integers(0, plan.length))
    batch_size = data.draw(st.integers(max(1, plan.length // 100), plan.length))
    assume(batch_size != plan.batch_size)
    other = Plan(
        length=plan.length,
        batch_size=batch_size,
        order=plan.order,
        seed=plan.seed,
        remainder=plan.remainder,
    )
    cursor = Cursor.of(plan, epoch=epoch, samples=samples, fingerprint="f")
    with pytest.raises(ResumeError, match="batch size"):
        cursor.check(other, "f")
    cursor.check(other, "f", allow_new_batch_size=True)
    remaining = [other.positions(epoch, *span) for span in other.spans(samples)]
    joined = np.concatenate([np.empty(0, np.int64), *remaining])
    assert np.array_equal(joined, epoch_of(plan, epoch)[samples : samples + len(joined)])
    if plan.remainder != "drop":
        assert samples + len(joined) == plan.length


@given(any_plans, epochs)
def test_law_4_other_data_are_refused(plan, epoch):
    cursor = Cursor.of(plan, epoch=epoch, samples=0, fingerprint="f")
    with pytest.raises(ResumeError, match="data fingerprint: f in the cursor, g now"):
        cursor.check(plan, "g", allow_new_batch_size=True)


@st.composite
def splits(draw: st.DrawFn):
    """The arguments of a split that may or may not be possible."""
    total = draw(st.integers(2, 200))
    if draw(st.booleans()):
        candidates = RowSet.from_range(total, draw(st.integers(0, total - 1)), total)
    else:
        rows = draw(st.sets(st.integers(0, total - 1), min_size=1))
        candidates = RowSet.from_rows(total, sorted(rows))
    size = st.one_of(st.none(), st.integers(0, max(1, len(candidates) // 2)), st.floats(0.05, 0.45))
    labels = st.lists(st.integers(-3, 8), min_size=len(candidates), max_size=len(candidates)).map(
        np.array
    )
    return {
        "candidates": candidates,
        "val": draw(size),
        "test": draw(size),
        "seed": draw(seeds),
        "strata": draw(st.none() | labels),
        "groups": draw(st.none() | labels),
    }


def rows_of(rows: RowSet) -> NDArray[np.int64]:
    return rows.take(np.arange(len(rows)))


@given(splits())
def test_law_5_parts_are_disjoint_cover_the_candidates_and_are_frozen(arguments):
    candidates = arguments["candidates"]
    try:
        parts = split_rows(**arguments)
    except OptionError:
        return
    again = split_rows(**arguments)
    together = np.concatenate([rows_of(parts[name]) for name in ("train", "val", "test")])
    assert np.array_equal(np.sort(together), rows_of(candidates))
    assert len(parts["train"]) > 0
    for name, rows in parts.items():
        assert rows.fingerprint == again[name].fingerprint
        assert all(rows.count_common(other) == 0 for other in parts.values() if other is not rows)
    for name in ("val", "test"):
        assert (len(parts[name]) > 0) == bool(arguments[name])


@given(splits())
def test_law_5_sizes_are_exact_unless_groups_forbid_it_and_groups_never_straddle(arguments):
    candidates, groups = arguments["candidates"], arguments["groups"]
    try:
        parts = split_rows(**arguments)
    except OptionError:
        return
    if groups is None:
        sizes = part_sizes(len(candidates), arguments["val"], arguments["test"])
        assert tuple(len(parts[name]) for name in ("train", "val", "test")) == sizes
        return
    all_rows = rows_of(candidates)
    homes = [set(groups[np.searchsorted(all_rows, rows_of(rows))]) for rows in parts.values()]
    assert sum(len(home) for home in homes) == len(set(groups))


@given(splits())
def test_law_5_every_stratum_is_shared_out_exact_to_one_sample(arguments):
    arguments["groups"] = None
    candidates, strata = arguments["candidates"], arguments["strata"]
    assume(strata is not None)
    try:
        parts = split_rows(**arguments)
    except OptionError:
        return
    all_rows = rows_of(candidates)
    for rows in parts.values():
        own = strata[np.searchsorted(all_rows, rows_of(rows))]
        for stratum, count in zip(*np.unique(strata, return_counts=True), strict=True):
            exact = count * len(rows) / len(candidates)
            assert abs(np.count_nonzero(own == stratum) - exact) < 1 + 1e-9


@given(splits(), epochs)
def test_law_5_no_epoch_moves_a_sample_of_validation_into_training(arguments, epoch):
    arguments["val"] = arguments["val"] or 1
    try:
        parts = split_rows(**arguments)
    except OptionError:
        return
    train = parts["train"]
    plan = Plan(length=len(train), batch_size=7, order=Order(kind="uniform"), seed=1)
    trained = train.take(plan.positions(epoch, 0, plan.length))
    assert not parts["val"].contains(trained).any()
    assert np.array_equal(np.sort(trained), rows_of(train))


@given(st.integers(10, 300), seeds)
def test_law_5_another_seed_is_another_split(length, seed):
    whole = RowSet.from_range(length, 0, length)
    found = {
        split_rows(whole, val=0.4, test=None, seed=seed + step)["val"].fingerprint
        for step in range(8)
    }
    # Two of eight may agree by chance where there are few ways to split.
    assert len(found) > 4
