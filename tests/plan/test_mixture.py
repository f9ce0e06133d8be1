from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.mixture import MixtureOrder

GOLDEN_DRAWS = json.loads(Path(__file__).with_name("golden_draws.json").read_text())

seeds = st.integers(-(2**63), 2**64)


@st.composite
def mixtures(draw: st.DrawFn, most_sources: int = 9) -> MixtureOrder:
    count = draw(st.integers(1, most_sources))
    lengths = draw(st.lists(st.integers(1, 400), min_size=count, max_size=count))
    shares = st.one_of(st.integers(1, 100), st.floats(1e-3, 1e3), st.just(1 / 3))
    return MixtureOrder.of(lengths, draw(st.lists(shares, min_size=count, max_size=count)))


def stream(order: MixtureOrder, seed: int, length: int, epochs: int):
    """Samples of epochs one after another, and the source of each."""
    spans = [order.positions(length, seed, epoch, 0, length) for epoch in range(epochs)]
    samples = np.concatenate(spans)
    starts = np.cumsum([0, *order.lengths])
    return samples, np.searchsorted(starts, samples, side="right") - 1


@pytest.mark.parametrize("golden", GOLDEN_DRAWS["mixture"])
def test_golden_mixtures(golden):
    order = MixtureOrder.of(golden["lengths"], golden["proportions"])
    start = golden["start"]
    found = order.positions(
        golden["length"], golden["seed"], golden["epoch"], start, start + len(golden["positions"])
    )
    assert found.tolist() == golden["positions"], (
        "this order is pinned: an upgrade must never reorder somebody's run. Restore the order; "
        "do not edit the golden file."
    )


@given(mixtures(), seeds, st.integers(1, 700), st.data())
def test_any_samples_in_a_row_are_in_proportion(order, seed, length, data):
    _, sources = stream(order, seed, length, 3)
    start = data.draw(st.integers(0, 3 * length))
    stop = data.draw(st.integers(start, 3 * length))
    most = 1 if len(order.lengths) == 2 else 4
    for source, share in enumerate(order.proportions):
        counts = np.cumsum([0, *(sources == source)])
        off = counts - np.arange(3 * length + 1) * float(share)
        assert np.abs(off).max() <= most / 2 + 1e-9
        count = int(counts[stop] - counts[start])
        assert abs(count - (stop - start) * share) <= most


@given(mixtures(4), seeds, st.integers(1, 700))
def test_within_a_source_every_sample_comes_once_a_pass_across_epochs(order, seed, length):
    samples, sources = stream(order, seed, length, 4)
    start = 0
    for source, size in enumerate(order.lengths):
        own = samples[sources == source] - start
        whole = len(own) // size * size
        passes = np.sort(own[:whole].reshape(-1, size), axis=1)
        assert (passes == np.arange(size)).all()
        assert len(np.unique(own[whole:])) == len(own) - whole
        start += size


@given(mixtures(), seeds, st.integers(1, 700), st.integers(0, 10**9), st.data())
def test_counts_say_how_many_came_before_any_position(order, seed, length, epoch, data):
    stop = data.draw(st.integers(0, length))
    samples = order.positions(length, seed, epoch, 0, stop)
    starts = np.cumsum([0, *order.lengths])
    found = np.histogram(samples, bins=[*starts[:-1], starts[-1]])[0]
    before, after = order.counts(epoch * length), order.counts(epoch * length + stop)
    assert [b - a for a, b in zip(before, after, strict=True)] == found.tolist()


def test_passes_are_in_other_orders_and_so_are_sources_and_seeds():
    order = MixtureOrder.of([300, 300], [0.5, 0.5])
    samples, sources = stream(order, 7, 1_200, 1)
    one, other = samples[sources == 0], samples[sources == 1] - 300
    orders = [one[:300], one[300:], other[:300], stream(order, 8, 600, 1)[0][::2] % 300]
    for place, some in enumerate(orders):
        for others in orders[place + 1 :]:
            # Unrelated permutations agree at one place on average.
            assert np.count_nonzero(some == others) < 10


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 70_000])
def test_spans_are_slices_of_the_epoch_whatever_the_size_of_a_source(size):
    order = MixtureOrder.of([size, 10**9, 7], [0.5, 0.3, 0.2])
    whole = order.positions(150_000, 3, 2, 0, 150_000)
    for start, stop in [(0, 65_537), (65_535, 65_538), (100_000, 100_001), (131_071, 150_000)]:
        assert np.array_equal(order.positions(150_000, 3, 2, start, stop), whole[start:stop])


def test_far_positions_of_large_sources_cost_no_more_and_are_as_exact():
    order = MixtureOrder.of([10**9, 10**12, 3], [0.123456789, 0.7, 1 / 3])
    epoch = 10**6
    found = order.positions(10**9, 1, epoch, 10**9 - 1_000, 10**9)
    assert np.array_equal(found[-10:], order.positions(10**9, 1, epoch, 10**9 - 10, 10**9))
    total = sum(order.counts(10**15))
    assert total == 10**15
    for count, share in zip(order.counts(10**15), order.proportions, strict=True):
        assert abs(count - share * 10**15) <= 2


@pytest.mark.parametrize(
    ("given_as", "shares"),
    [
        ([0.7, 0.3], [Fraction(7, 10), Fraction(3, 10)]),
        ([7, 3], [Fraction(7, 10), Fraction(3, 10)]),
        ([1 / 3, 2 / 3], [Fraction(1, 3), Fraction(2, 3)]),
        ([np.float32(0.5), np.int8(1)], [Fraction(1, 3), Fraction(2, 3)]),
        ([Fraction(1, 7), Fraction(6, 7)], [Fraction(1, 7), Fraction(6, 7)]),
    ],
)
def test_proportions_count_as_they_are_written(given_as, shares):
    assert list(MixtureOrder.of([5, 5], given_as).proportions) == shares


@pytest.mark.parametrize("wrong", [0, -0.1, float("nan"), float("inf"), "0.5", None, True])
def test_a_proportion_that_is_none_is_refused(wrong):
    with pytest.raises(OptionError, match="is not valid; give a number above 0"):
        MixtureOrder.of([5, 5], [1, wrong])


def test_sources_without_samples_or_shares_are_refused():
    with pytest.raises(OptionError, match="length=0"):
        MixtureOrder.of([0], [1])
    with pytest.raises(OptionError, match="one length and one proportion"):
        MixtureOrder.of([3], [1, 2])
    with pytest.raises(OptionError, match="add up to 1"):
        MixtureOrder(lengths=(3, 4), proportions=(Fraction(1, 2), Fraction(1, 3)))
    with pytest.raises(IndexError, match="lies outside"):
        MixtureOrder.of([3], [1]).positions(5, 0, 0, 0, 6)
