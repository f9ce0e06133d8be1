from __future__ import annotations

import json

import pytest

from rightbatch.errors import OptionError, ResumeError
from rightbatch.plan.cursor import Cursor
from rightbatch.plan.mixture import MixtureOrder
from rightbatch.plan.order import Order
from rightbatch.plan.orders import AnyOrder, StoredOrder, stored_order, stored_order_from_json
from rightbatch.plan.plan import Plan
from rightbatch.plan.weighted import WeightedOrder

ORDERS: list[AnyOrder] = [
    Order(kind="uniform"),
    Order(kind="block-window", block=2, window=4),
    WeightedOrder.from_weights([1.0, 2.5], 8),
    MixtureOrder.of([5, 3], [0.7, 0.3]),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.kind)
def test_what_a_cursor_keeps_of_an_order_comes_back_from_json(order):
    kept = stored_order(order)
    assert stored_order_from_json(json.loads(json.dumps(kept.to_json()))) == kept
    assert kept.kind == order.kind


def test_the_cursors_of_all_orders_are_small_and_tell_them_apart():
    plans = [Plan(length=8, batch_size=3, order=order, seed=1) for order in ORDERS]
    cursors = [Cursor.of(plan, epoch=2, samples=3, fingerprint="f") for plan in plans]
    for place, cursor in enumerate(cursors):
        written = json.dumps(cursor.to_json())
        assert len(written) < 400
        read = Cursor.from_json(json.loads(written))
        assert read == cursor
        for number, plan in enumerate(plans):
            if number == place:
                read.check(plan, "f")
            else:
                with pytest.raises(ResumeError, match="order: "):
                    read.check(plan, "f")


def test_cursors_of_earlier_versions_load():
    saved = {
        "version": 1,
        "seed": 7,
        "epoch": 3,
        "samples": 256,
        "batch_size": 128,
        "remainder": "keep",
        "order": {"kind": "uniform", "window": None},
        "length": 1000,
        "fingerprint": "5ca1ab1e",
    }
    cursor = Cursor.from_json(saved)
    assert cursor.order == Order(kind="uniform")
    plan = Plan(length=1000, batch_size=128, order=Order(kind="uniform"), seed=7)
    assert cursor == Cursor.of(plan, epoch=3, samples=256, fingerprint="5ca1ab1e")


def test_other_weights_and_proportions_are_said():
    weighted = [
        Plan(length=8, batch_size=3, order=WeightedOrder.from_weights(weights, 8), seed=1)
        for weights in ([1.0, 2.0], [1.0, 3.0])
    ]
    cursor = Cursor.of(weighted[0], epoch=0, samples=0, fingerprint="f")
    with pytest.raises(ResumeError, match=r"order: weighted \(population 2, source weights:"):
        cursor.check(weighted[1], "f")
    mixed = [
        Plan(length=8, batch_size=3, order=MixtureOrder.of([5, 3], shares), seed=1)
        for shares in ([7, 3], [8, 3])
    ]
    cursor = Cursor.of(mixed[0], epoch=0, samples=0, fingerprint="f")
    with pytest.raises(ResumeError, match=r"proportions \['7/10', '3/10'\]"):
        cursor.check(mixed[1], "f")


@pytest.mark.parametrize("saved", [{"kind": "weighted"}, {"kind": "mixture", "lengths": [1]}])
def test_json_that_is_no_order_is_refused(saved):
    with pytest.raises(OptionError, match="is not valid; it needs"):
        stored_order_from_json(saved)


def test_a_stored_order_has_a_text_form():
    assert str(StoredOrder.of({"kind": "weighted", "population": 2})) == "weighted (population 2)"
