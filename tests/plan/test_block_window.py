"""The block-window order: uniform where it promises to be, refused where it makes no sense."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rightbatch.errors import OptionError
from rightbatch.plan.order import Order


def block_order(block, window):
    return Order(kind="block-window", block=block, window=window)


def test_resolve_takes_a_block_beside_a_window() -> None:
    assert Order.resolve(True, 20, 100, block=5) == block_order(5, 20)
    assert Order.resolve(True, 100, 100, block=5) == Order(kind="uniform")
    assert Order.resolve(True, 1, 100, block=1) == block_order(1, 1)


@pytest.mark.parametrize(
    ("window", "block", "match"),
    [
        (None, 5, "say how many samples a window has, window=20"),
        (12, 5, "window=12 is no whole number of blocks of 5 samples; take window=10 or 15"),
        (3, 5, "take window=5"),
        (10, 0, "block=0 is not valid"),
        (10, 2.5, "block=2.5 is not valid"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(window, block, match) -> None:
    with pytest.raises(OptionError, match=match):
        Order.resolve(True, window, 100, block=block)


def test_a_block_without_shuffling_is_refused() -> None:
    with pytest.raises(OptionError, match="shuffle=False"):
        Order.resolve(False, 10, 100, block=5)
    with pytest.raises(OptionError, match="no meaning"):
        Order(kind="uniform", block=3)
    with pytest.raises(OptionError, match="block=None"):
        Order(kind="block-window", window=3)


def test_it_goes_through_json() -> None:
    order = block_order(64, 4096)
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order
    assert str(order) == "block-window of 4096 in blocks of 64"


def test_orders_of_earlier_versions_are_written_as_they_were() -> None:
    assert Order(kind="window", window=3).to_json() == {"kind": "window", "window": 3}


@pytest.mark.parametrize("length", [60, 62])
def test_every_sample_comes_at_every_place(length) -> None:
    order = block_order(4, 12)
    epochs = 4_000
    counts = np.zeros((length, length), np.int64)
    for epoch in range(epochs):
        counts[order.positions(length, 7, epoch, 0, length), np.arange(length)] += 1
    expected = epochs / length
    # Those of the short block can not stand where a window ends only if it holds whole blocks.
    whole_blocks = counts[: length // 4 * 4]
    # Six standard deviations over the 3,600 and more cells of a fixed seed.
    slack = 6 * expected**0.5 + (0 if length % 4 == 0 else 0.1 * expected)
    assert np.abs(whole_blocks - expected).max() < slack


def test_neighbours_are_parted_as_far_as_the_window_allows() -> None:
    length, order = 10_000, block_order(10, 1_000)
    found = order.positions(length, 1, 0, 0, length)
    first_window = found[:1_000]
    assert len(np.unique(first_window // 10)) == 100
    # Blocks come from everywhere, and inside the window the order is uniform.
    assert np.ptp(first_window) > 0.9 * length
    assert abs(np.corrcoef(np.arange(1_000), first_window)[0, 1]) < 0.15


def test_the_last_samples_stand_anywhere_in_the_epoch() -> None:
    order = block_order(10, 40)
    places = [
        int(np.flatnonzero(order.positions(205, 3, epoch, 0, 205) == 204)[0])
        for epoch in range(500)
    ]
    assert np.histogram(places, bins=5, range=(0, 205))[0].min() > 60


def test_the_cost_does_not_depend_on_the_length() -> None:
    length, order = 10**15, block_order(1_000, 256_000)
    found = order.positions(length, 7, 3, length // 2, length // 2 + 100)
    assert len(set(found.tolist())) == 100
    assert np.array_equal(
        found[50:], order.positions(length, 7, 3, length // 2 + 50, length // 2 + 100)
    )


@pytest.mark.parametrize("place", [-1, 100])
def test_a_place_outside_the_epoch_has_no_window(place) -> None:
    with pytest.raises(IndexError, match="lies outside"):
        block_order(5, 10).windows(100, 0, 0).bounds(place)
