from __future__ import annotations

import json
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.weighted import WeightedOrder

GOLDEN_DRAWS = json.loads(Path(__file__).with_name("golden_draws.json").read_text())

seeds = st.integers(-(2**63), 2**64)
epochs = st.integers(0, 10**6)
whole_weights = st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(any)
real_weights = st.lists(
    st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=60
).filter(any)


def whole_epoch(order: WeightedOrder, seed: int = 0, epoch: int = 0):
    return order.positions(order.length, seed, epoch, 0, order.length)


@pytest.mark.parametrize("golden", GOLDEN_DRAWS["weighted"])
def test_golden_draws(golden):
    places = np.arange(golden["population"])
    order = (
        WeightedOrder.balanced(places**2 % 3, golden["length"])
        if golden["unit"] is None
        else WeightedOrder.from_weights(places * 7 % 11 * golden["unit"], golden["length"])
    )
    start = golden["start"]
    found = order.positions(
        golden["length"], golden["seed"], golden["epoch"], start, start + len(golden["positions"])
    )
    assert found.tolist() == golden["positions"], (
        "these draws are pinned: an upgrade must never change what somebody's run draws. Restore "
        "the order; do not edit the golden file."
    )


@given(whole_weights, st.integers(1, 500), seeds, epochs)
def test_a_sample_comes_its_expected_number_of_times_rounded_up_or_down(
    weights, length, seed, epoch
):
    order = WeightedOrder.from_weights(weights, length)
    counts = np.bincount(whole_epoch(order, seed, epoch), minlength=len(weights))
    for weight, count in zip(weights, counts, strict=True):
        expected = Fraction(length * weight, sum(weights))
        assert floor(expected) <= count <= ceil(expected)


@given(real_weights, st.integers(1, 500), seeds, epochs)
def test_real_weights_are_kept_up_to_their_rounding(weights, length, seed, epoch):
    order = WeightedOrder.from_weights(weights, length)
    counts = np.bincount(whole_epoch(order, seed, epoch), minlength=len(weights))
    expected = length * np.array(weights) / np.sum(weights)
    assert (np.floor(expected - 1e-9) <= counts).all()
    assert (counts <= np.ceil(expected + 1e-9)).all()
    assert not counts[np.array(weights) == 0].any()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=80), st.integers(1, 500), seeds, epochs)
def test_every_class_of_a_balanced_order_comes_as_often_and_so_do_its_samples(
    classes, length, seed, epoch
):
    codes = np.array(classes)
    drawn = whole_epoch(WeightedOrder.balanced(codes, length), seed, epoch)
    sizes = np.bincount(codes)
    present = np.flatnonzero(sizes)
    by_class = np.bincount(codes[drawn], minlength=len(sizes))
    counts = np.bincount(drawn, minlength=len(codes))
    for code in present:
        share = Fraction(length, len(present))
        assert floor(share) <= by_class[code] <= ceil(share)
        of_one = float(share / int(sizes[code]))
        assert counts[codes == code].min() >= floor(of_one - 1e-9)
        assert counts[codes == code].max() <= ceil(of_one + 1e-9)


@given(st.integers(1, 300), st.floats(1e-300, 1e300), seeds, epochs)
def test_equal_weights_and_as_many_draws_as_samples_are_law_1(length, weight, seed, epoch):
    order = WeightedOrder.from_weights(np.full(length, weight), length)
    assert np.array_equal(np.sort(whole_epoch(order, seed, epoch)), np.arange(length))


def test_over_the_epochs_a_sample_comes_as_often_as_its_weight_says():
    weights = np.array([0.1, 0.2, 0.3, 0.7, 1.3, 0.0, 2.9])
    order = WeightedOrder.from_weights(weights, 5)
    rounds = 4_000
    counts = sum(
        np.bincount(order.positions(5, 3, epoch, 0, 5), minlength=7) for epoch in range(rounds)
    )
    expected = 5 * weights / weights.sum()
    # A count an epoch is one of two neighbours; five standard deviations of the mean.
    spread = np.sqrt((expected % 1) * (1 - expected % 1) / rounds)
    assert (np.abs(counts / rounds - expected) <= 5 * spread + 1e-9).all()


@given(real_weights, st.integers(1, 60), seeds, st.integers(0, 10**6), st.integers(1, 150))
def test_over_epochs_in_a_row_a_sample_comes_as_often_to_within_a_few(
    weights, length, seed, first, count
):
    order = WeightedOrder.from_weights(weights, length)
    drawn = [whole_epoch(order, seed, first + number) for number in range(count)]
    totals = np.bincount(np.concatenate(drawn), minlength=len(weights))
    expected = count * length * np.array(weights) / np.sum(weights)
    assert np.abs(totals - expected).max() <= 3 + 3.6 * np.log(count)


def test_short_epochs_soon_have_every_sample():
    order = WeightedOrder.from_weights(np.ones(1_000), 100)
    seen = [
        np.unique(np.concatenate([whole_epoch(order, 5, e) for e in range(n)])) for n in (10, 20)
    ]
    # Draws that know nothing of one another would have 651 and 878 of them.
    assert len(seen[0]) >= 800
    assert len(seen[1]) == 1_000


def test_the_draws_of_an_epoch_are_shuffled_and_do_not_follow_the_data():
    order = WeightedOrder.from_weights(np.ones(10_000), 1_000)
    drawn = whole_epoch(order, 1, 0)
    # A tenth of data with a period of ten is no one residue.
    assert np.bincount(drawn % 10).min() > 60
    assert abs(np.corrcoef(np.arange(1_000), drawn)[0, 1]) < 0.15


@given(st.integers(50, 500), seeds, epochs)
def test_seed_and_epoch_are_hashed_and_not_added(length, seed, epoch):
    order = WeightedOrder.from_weights(np.arange(1, 30), length)
    assert not np.array_equal(
        whole_epoch(order, seed, epoch + 1), whole_epoch(order, seed + 1, epoch)
    )


def test_spans_beyond_a_stretch_are_slices_of_the_epoch():
    order = WeightedOrder.from_weights(np.arange(1.0, 1_001), 200_000)
    whole = whole_epoch(order, 7, 2)
    for start, stop in [(0, 65_537), (65_535, 65_537), (131_071, 200_000), (199_999, 200_000)]:
        assert np.array_equal(order.positions(200_000, 7, 2, start, stop), whole[start:stop])


def test_weights_of_more_samples_than_2_to_24_reach_every_one_of_them():
    # torch.multinomial, and with it WeightedRandomSampler, refuses more than 2^24 of them.
    population = 2**24 + 1_000
    weights = np.zeros(population)
    weights[-500:] = 1.0
    weights[0] = 500.0
    order = WeightedOrder.from_weights(weights, 4_000)
    counts = np.bincount(whole_epoch(order), minlength=population)
    assert counts[0] == 2_000
    assert (counts[-500:] == 4).all()
    assert counts.sum() == 4_000
    assert order.nbytes == 501 * 12


def test_the_tables_take_twelve_bytes_a_sample():
    assert WeightedOrder.from_weights(np.arange(1.0, 1_001), 10).nbytes == 12_000


def test_a_billion_draws_need_no_more_than_the_weights():
    order = WeightedOrder.from_weights([1.0, 2.0], 10**9)
    drawn = order.positions(10**9, 0, 0, 10**9 - 300_000, 10**9)
    assert abs(drawn.mean() - 2 / 3) < 0.01


def test_orders_of_other_weights_are_told_apart():
    one, other = (WeightedOrder.from_weights([1.0, last], 5) for last in (2.0, 3.0))
    assert one.to_json() == WeightedOrder.from_weights([1.0, 2.0], 5).to_json()
    assert one.to_json() != other.to_json()
    assert str(one).startswith("weighted by weights ")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -0.5, -1.0], "the weight of entry 1 is -0.5, and 1 more are not valid"),
        ([1.0, float("nan")], "the weight of entry 1 is nan; a weight is a finite number"),
        ([float("inf")], "the weight of entry 0 is inf"),
        ([0.0, 0.0], "all weights are 0"),
        ([], "no list of numbers"),
        ([[1.0]], r"shape \(1, 1\)"),
        (["a"], "no list of numbers"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(OptionError, match=message):
        WeightedOrder.from_weights(weights, 3)


@pytest.mark.parametrize("length", [0, -1, 2.5, 2**41 + 1])
def test_a_length_that_is_none_is_refused(length):
    with pytest.raises(OptionError, match="epoch_samples="):
        WeightedOrder.from_weights([1.0], length)


def test_weights_near_the_ends_of_float64_count_by_their_ratio():
    for scale in (1e-310, 1e300):
        order = WeightedOrder.from_weights(np.array([1.0, 3.0, 4.0]) * scale, 8)
        assert np.bincount(whole_epoch(order)).tolist() == [1, 3, 4]


def test_a_span_outside_the_epoch_is_refused():
    order = WeightedOrder.from_weights([1.0], 10)
    with pytest.raises(IndexError, match="lies outside"):
        order.positions(10, 0, 0, 5, 11)
    with pytest.raises(ValueError, match="an order of 10 draws"):
        order.positions(11, 0, 0, 0, 11)
