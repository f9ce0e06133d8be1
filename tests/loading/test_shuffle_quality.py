"""How good a shuffle is: numbers, the warning, and windows that were really tried."""

from __future__ import annotations

import json
import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.data.column import Column
from rightbatch.errors import OptionError
from rightbatch.plan.order import Order
from rightbatch.training.history import finite_json

SORTED = np.repeat(np.arange(10), 600)


class Endless(rb.Dataset):
    """10^12 samples that nobody can read."""

    fingerprint = "endless"

    def __len__(self) -> int:
        return 10**12

    def rows(self, indices):
        raise AssertionError("the samples are not needed")

    span = rows


def sorted_data() -> rb.Dataset:
    return rb.open({"x": np.arange(6000.0), "digit": SORTED}, target="digit")


def brute_force(plan, labels, epoch) -> tuple[float, float | None]:
    """Imbalance and equal labels of consecutive batches, sample by sample."""
    classes = np.unique(labels)
    whole = np.array([(labels == one).mean() for one in classes])
    batches = [labels[plan.positions(epoch, *span)] for span in plan.spans()]
    shares = np.array([[(batch == one).mean() for one in classes] for batch in batches])
    equal = [float(np.mean(a[:, None] == b)) for a, b in pairwise(batches)]
    return float(np.abs(shares - whole).sum(axis=1).mean() / 2), np.mean(equal) if equal else None


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    batch_size=st.integers(1, 20),
    order=st.sampled_from([{"shuffle": False}, {}, {"window": 8}, {"window": 8, "block": 4}]),
    epoch=st.integers(0, 3),
)
def test_the_label_measures_are_those_of_counting(labels, batch_size, order, epoch) -> None:
    labels = np.array(labels)
    data = rb.open({"x": np.zeros(len(labels))})
    found = rb.shuffle_quality(data, labels, batch_size=batch_size, seed=4, epoch=epoch, **order)
    plan = rb.Batches(data, batch_size, seed=4).plan
    plan = type(plan)(length=len(labels), batch_size=batch_size, order=found.order, seed=4)
    imbalance, equal = brute_force(plan, labels, epoch)
    assert found.label_imbalance.value == pytest.approx(imbalance, abs=1e-12)
    assert found.batches == len(found.batch_imbalances) == plan.batch_count()
    if equal is None:
        assert found.consecutive_labels is None
    else:
        assert found.consecutive_labels.value == pytest.approx(equal)


def test_golden_values_of_a_small_order() -> None:
    data = rb.open({"x": np.zeros(8), "y": [0, 0, 0, 0, 1, 1, 1, 1]}, target="y")
    found = rb.shuffle_quality(data, batch_size=4, shuffle=False)
    assert (found.travel.value, found.distinct_blocks.value) == (0, 4)
    assert found.neighbours.value == pytest.approx(6 / 7)
    assert found.neighbours.uniform == pytest.approx(3 / 7)
    assert found.label_imbalance.value == 0.5
    # Of 70 draws of 4, 2 are off by 1/2, 32 by 1/4, and 36 not at all.
    assert found.label_imbalance.uniform == pytest.approx((2 / 2 + 32 / 4) / 70)
    assert found.consecutive_labels.value == 0
    assert found.equal_neighbours.value == pytest.approx(6 / 7)
    assert found.equal_neighbours.uniform == pytest.approx(3 / 7)


def test_a_uniform_order_is_as_good_as_the_closed_forms_say(caplog) -> None:
    epochs = [rb.shuffle_quality(sorted_data(), batch_size=50, epoch=epoch) for epoch in range(20)]
    for name in (
        "travel",
        "distinct_blocks",
        "neighbours",
        "label_imbalance",
        "consecutive_labels",
    ):
        ratios = [getattr(found, name).ratio for found in epochs]
        assert np.mean(ratios) == pytest.approx(1, abs=0.03), name
    assert all(found.warning is None and found.tried == [] for found in epochs)
    assert caplog.records == []
    low, high = epochs[0].uniform_band
    inside = [low <= value <= high for found in epochs for _, value in found.batch_imbalances]
    # Both ends belong to the band, and an imbalance moves in steps of a sample of 50.
    assert 0.88 <= np.mean(inside) <= 0.96


def test_sorted_data_that_are_not_shuffled_are_as_bad_as_can_be_and_said_so(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        found = rb.shuffle_quality(sorted_data(), batch_size=50, shuffle=False)
    assert found.label_imbalance.value == pytest.approx(0.9)  # one label in every batch
    assert found.warning in caplog.text
    assert "sorted by label" in found.warning
    assert "Take shuffle=True" in found.warning


@pytest.mark.parametrize(
    ("batch_size", "order"),
    [
        (50, {"window": 200, "block": 20}),
        (1, {"window": 64}),
        (4, {"shuffle": False}),
        (1, {"window": 40, "block": 20}),
    ],
)
def test_the_window_told_does_and_half_of_it_does_not(batch_size, order) -> None:
    data = sorted_data()
    found = rb.shuffle_quality(data, batch_size=batch_size, **order)
    window, block = found.window_that_would_do, order.get("block")
    assert found.warning is not None
    assert f"window={window}" in found.warning
    assert window in [one.window for one in found.tried]
    options = {"batch_size": batch_size, "block": block}
    assert rb.shuffle_quality(data, window=window, **options).warning is None
    half = window // 2
    assert half == order.get("window") or half in [one.window for one in found.tried]
    assert rb.shuffle_quality(data, window=half, **options).warning is not None


@given(
    run=st.integers(20, 400),
    classes=st.integers(2, 12),
    batch_size=st.integers(1, 60),
    block=st.sampled_from([None, 8, 32]),
    seed=st.integers(0, 2**32),
)
def test_a_window_is_told_if_and_only_if_it_was_measured_and_mixes(
    run, classes, batch_size, block, seed
) -> None:
    labels = np.repeat(np.arange(2000 // run + 1) % classes, run)
    data = rb.open({"x": np.zeros(len(labels))})
    options = {"batch_size": batch_size, "block": block, "seed": seed}
    found = rb.shuffle_quality(data, labels, window=64, **options)
    for tried in found.tried:
        again = rb.shuffle_quality(data, labels, window=tried.window, **options)
        assert again.label_imbalance.value == tried.imbalance
        if tried.window < len(labels):
            assert (again.warning is None) == tried.is_mixed or "too few" in again.notes[-1]
    smaller = [tried.is_mixed for tried in found.tried if tried.window < len(labels)]
    assert (found.window_that_would_do is not None) == any(smaller)


def test_where_no_window_does_the_uniform_shuffle_was_tried_too() -> None:
    found = rb.shuffle_quality(sorted_data(), batch_size=200, window=100)
    assert found.window_that_would_do is None
    assert [(one.window, one.is_mixed) for one in found.tried] == [(4096, False), (6000, True)]
    assert "Leave window out: the uniform shuffle would do" in found.warning
    assert "a window of 4,096, the largest tried, would not" in found.warning


def test_few_samples_that_no_shuffle_mixes_better_are_no_reason_to_warn(caplog) -> None:
    labels = [0, 0, 0, 1]
    for seed in range(40):
        found = rb.shuffle_quality({"x": labels}, labels, batch_size=2, shuffle=False, seed=seed)
        assert (found.warning is None) == (not any(one.is_mixed for one in found.tried))


def test_batches_of_one_sample_are_told_by_the_batches_that_follow() -> None:
    found = rb.shuffle_quality(sorted_data(), batch_size=1, shuffle=False)
    assert found.label_imbalance.ratio == pytest.approx(1)
    assert "consecutive batches of 1 have the same label in 99.8 % of cases" in found.warning


def test_labels_that_drift_are_not_called_sorted() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(6000) < np.linspace(0.1, 0.9, 6000)).astype(int)
    found = rb.shuffle_quality({"x": np.zeros(6000)}, labels, batch_size=500, window=1000)
    assert "the shares drift along the data" in found.warning


def test_data_in_a_random_order_need_no_shuffle() -> None:
    labels = np.random.default_rng(0).permutation(SORTED)
    for order in ({"shuffle": False}, {"window": 100}, {"window": 100, "block": 10}):
        assert rb.shuffle_quality({"x": SORTED * 1.0}, labels, **order).warning is None


def test_batches_bring_their_own_order_and_take_no_other() -> None:
    part = rb.split(sorted_data(), val=0.2, seed=1).train
    batches = rb.Batches(part, 64, seed=9, window=500, remainder="drop")
    found = rb.shuffle_quality(batches, epoch=2)
    assert (found.seed, found.epoch, found.batch_size) == (9, 2, 64)
    assert found.order == Order(kind="window", window=500)
    assert found.evaluated == len(part) - batches.dropped_samples
    for given_too in ({"batch_size": 64}, {"seed": 0}, {"shuffle": True}, {"window": 3}):
        with pytest.raises(OptionError, match=f"{next(iter(given_too))} cannot be given with Batc"):
            rb.shuffle_quality(batches, **given_too)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 4, "shuffle": False}, "asks for no shuffling"),
        ({"block": 4}, "window=16"),
        ({"window": 7, "block": 4}, "take window=4 or 8"),
        ({"batch_size": 0}, "batch_size=0 is not valid"),
        ({"epoch": -1}, "epoch=-1 is not valid"),
        ({"labels": [1, 2]}, "one label a sample"),
    ],
)
def test_options_that_are_not_valid_are_refused(options, message) -> None:
    with pytest.raises(OptionError, match=message):
        rb.shuffle_quality(sorted_data(), **options)


def test_all_parts_at_once_are_refused() -> None:
    with pytest.raises(OptionError, match=r"parts\.train, parts\.val"):
        rb.shuffle_quality(rb.split(sorted_data(), val=0.2))


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"shuffle": False},
        {"window": 10**6},
        {"window": 2**20, "block": 2**10},
        {"window": 4, "block": 2},
    ],
)
def test_endless_data_cost_no_more_than_a_million_positions(order) -> None:
    endless = Endless(name="endless", columns=[Column(name="x", dtype=np.dtype("f4"))])
    found = rb.shuffle_quality(endless, **order)
    assert found.is_sampled
    assert found.evaluated <= 2**20
    assert "of 1,000,000,000,000 positions were looked at" in found.notes[-1]
    assert found.label_imbalance is None
    if "block" in order or not order:
        assert found.travel.ratio == pytest.approx(1, abs=0.05)
        assert found.distinct_blocks.ratio <= 1.01


def test_the_result_survives_json_and_has_text_forms() -> None:
    found = rb.shuffle_quality(sorted_data(), batch_size=50, window=200, block=20)
    stored = json.loads(json.dumps(finite_json(found.to_json())))
    assert rb.ShuffleQuality.from_json(stored) == found
    assert stored["window_that_would_do"] == found.window_that_would_do
    assert "badly mixed labels" in repr(found)
    assert "<table>" in found._repr_html_()
    assert len(json.dumps(stored)) < 60_000


def test_mnist_sorted_by_label_needs_more_than_a_small_window(real_data: Path) -> None:
    data = rb.open(real_data / "mnist")
    digits = np.sort(data.array(data.target)[:60_000])
    found = rb.shuffle_quality({"x": digits * 1.0}, digits, window=4096, block=64)
    assert found.label_imbalance.ratio > 1.5
    assert found.window_that_would_do == 16_384
