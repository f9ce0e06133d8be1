from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.order import Order

GOLDEN_ORDERS = json.loads(Path(__file__).with_name("golden_orders.json").read_text())


@pytest.mark.parametrize(
    "golden",
    GOLDEN_ORDERS,
    ids=lambda golden: "-".join(
        str(golden[key]) for key in ("kind", "length", "window", "seed", "epoch", "start")
    ),
)
def test_golden_orders(golden):
    order = Order(kind=golden["kind"], window=golden["window"], block=golden.get("block"))
    found = order.positions(
        golden["length"],
        golden["seed"],
        golden["epoch"],
        golden["start"],
        golden["start"] + len(golden["positions"]),
    )
    assert found.tolist() == golden["positions"], (
        "this order is pinned: an upgrade must never reorder somebody's run, or a cursor saved "
        "before it resumes into other batches. Restore the order; do not edit the golden file."
    )


def test_a_window_of_one_keeps_the_order_and_one_of_the_length_is_uniform():
    uniform = Order(kind="uniform").positions(500, 3, 1, 0, 500)
    assert np.array_equal(Order(kind="window", window=1).positions(500, 3, 1, 0, 500), range(500))
    for window in (500, 501, 10**9):
        found = Order(kind="window", window=window).positions(500, 3, 1, 0, 500)
        assert np.array_equal(found, uniform)


@pytest.mark.parametrize(
    ("length", "window"),
    [(1_000, 2), (1_000, 100), (1_000, 999), (5_000, 256), (5_000, 257), (200_000, 70_000)],
)
def test_a_row_is_fewer_than_a_window_away_from_its_position(length, window):
    for epoch in range(3):
        found = Order(kind="window", window=window).positions(length, 5, epoch, 0, length)
        away = np.abs(found - np.arange(length))
        assert away.max() < window
        # Inside windows the order is uniform, so the mean distance is near a third of a window;
        # partial windows at both ends make it smaller where there are few windows.
        assert 0.1 * window < away.mean() < 0.4 * window


def test_window_boundaries_move_with_the_epoch():
    order = Order(kind="window", window=10)
    # A position is a boundary where everything before it is the rows before it.
    boundaries = set()
    for epoch in range(20):
        found = order.positions(1_000, 7, epoch, 0, 1_000)
        largest_so_far = np.maximum.accumulate(found)
        first = int(np.flatnonzero(largest_so_far == np.arange(1_000))[0])
        boundaries.add(first)
    assert len(boundaries) > 3


@pytest.mark.parametrize("window", [50, 300])
def test_rows_inside_a_window_are_uniform(window):
    # Over epochs the first row of the data moves to every position within its window: its window
    # is cut to a uniform length by the shift, so position p has probability sum over lengths > p.
    order = Order(kind="window", window=window)
    found = [
        int(np.flatnonzero(order.positions(1_000, 1, epoch, 0, window) == 0)[0])
        for epoch in range(3_000)
    ]
    lengths = np.arange(1, window + 1)
    probability = np.array([(1 / lengths[lengths > at]).sum() / window for at in range(window)])
    expected_mean = float((probability * np.arange(window)).sum())
    variance = float((probability * np.arange(window) ** 2).sum()) - expected_mean**2
    # Five standard deviations of the mean, for fixed seeds.
    assert abs(np.mean(found) - expected_mean) < 5 * (variance / len(found)) ** 0.5


def test_resolve():
    assert Order.resolve(False, None, 10) == Order(kind="sequential")
    assert Order.resolve(True, None, 10) == Order(kind="uniform")
    assert Order.resolve(True, 1, 10) == Order(kind="sequential")
    assert Order.resolve(True, 9, 10) == Order(kind="window", window=9)
    assert Order.resolve(True, 10, 10) == Order(kind="uniform")
    with pytest.raises(OptionError, match="shuffle=False"):
        Order.resolve(False, 5, 10)


@pytest.mark.parametrize("window", [0, -1, 2.0, "8", True, np.bool_(True), np.array([3])])
def test_a_window_that_is_no_positive_integer_is_refused(window):
    with pytest.raises(OptionError, match="window="):
        Order.resolve(True, window, 10)
    with pytest.raises(OptionError, match="window="):
        Order(kind="window", window=window)


def test_kinds_that_do_not_fit_are_refused():
    with pytest.raises(OptionError, match="Did you mean 'uniform'"):
        Order(kind="unifrom")  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(OptionError, match="window=None"):
        Order(kind="window")
    with pytest.raises(OptionError, match="no meaning"):
        Order(kind="uniform", window=3)


@given(
    st.one_of(
        st.sampled_from([Order(kind="sequential"), Order(kind="uniform")]),
        st.builds(Order, kind=st.just("window"), window=st.integers(1, 2**40)),
    )
)
def test_json_round_trip(order):
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order


@pytest.mark.parametrize("saved", [{}, {"kind": "uniform"}, {"kind": "x", "window": None}])
def test_json_that_is_no_order_is_refused(saved):
    with pytest.raises(OptionError):
        Order.from_json(saved)


@pytest.mark.parametrize("kind", ["sequential", "uniform"])
def test_a_span_outside_the_epoch_is_refused(kind):
    with pytest.raises(IndexError, match="lies outside"):
        Order(kind=kind).positions(10, 0, 0, 5, 11)
