from __future__ import annotations

import dataclasses
import json

import pytest

from rightbatch.errors import ResumeError
from rightbatch.plan.cursor import Cursor
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan

PLAN = Plan(length=1_000, batch_size=128, order=Order(kind="window", window=50), seed=7)
CURSOR = Cursor.of(PLAN, epoch=3, samples=256, fingerprint="5ca1ab1e")


def test_a_cursor_is_a_short_line_of_json():
    line = json.dumps(CURSOR.to_json())
    assert len(line) < 300
    assert json.loads(line) == {
        "version": 1,
        "seed": 7,
        "epoch": 3,
        "samples": 256,
        "batch_size": 128,
        "remainder": "keep",
        "order": {"kind": "window", "window": 50},
        "length": 1_000,
        "fingerprint": "5ca1ab1e",
    }
    assert Cursor.from_json(json.loads(line)) == CURSOR


@pytest.mark.parametrize("key", sorted(CURSOR.to_json()))
def test_a_missing_key_is_named(key):
    saved = CURSOR.to_json()
    del saved[key]
    with pytest.raises(ResumeError, match=f"'{key}'"):
        Cursor.from_json(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("version", True),
        ("version", "1"),
        ("seed", 7.0),
        ("seed", None),
        ("epoch", -1),
        ("epoch", True),
        ("samples", -1),
        ("samples", 1_001),
        ("samples", "256"),
        ("batch_size", 0),
        ("remainder", "keeep"),
        ("remainder", ["keep"]),
        ("order", "uniform"),
        ("order", None),
        ("order", {"kind": "window", "window": 0}),
        ("order", {"kind": ["window"], "window": None}),
        ("length", 0),
        ("fingerprint", 5),
        ("surprise", 1),
    ],
)
def test_a_wrong_value_is_refused_and_its_key_named(key, value):
    with pytest.raises(ResumeError, match=f"'{key}'"):
        Cursor.from_json({**CURSOR.to_json(), key: value})


@pytest.mark.parametrize("saved", [None, [], "cursor"])
def test_what_is_no_dict_is_refused(saved):
    with pytest.raises(ResumeError, match="a cursor is a dict"):
        Cursor.from_json(saved)


def test_a_cursor_of_the_same_run_is_accepted():
    CURSOR.check(PLAN, "5ca1ab1e")


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [
        ({"seed": 8}, "seed: 7", "8 now"),
        ({"length": 999}, "samples in an epoch: 1000", "999 now"),
        ({"order": Order(kind="uniform")}, "order: window of 50", "uniform now"),
        ({"order": Order(kind="window", window=51)}, "order: window of 50", "window of 51 now"),
        ({"remainder": "pad"}, "remainder: keep", "pad now"),
    ],
)
@pytest.mark.parametrize("allow_new_batch_size", [False, True])
def test_another_plan_is_refused_with_the_old_and_the_new_value(
    change, old, new, allow_new_batch_size
):
    with pytest.raises(ResumeError) as refusal:
        CURSOR.check(
            dataclasses.replace(PLAN, **change),
            "5ca1ab1e",
            allow_new_batch_size=allow_new_batch_size,
        )
    assert old in str(refusal.value)
    assert new in str(refusal.value)
    assert "Remedy" in str(refusal.value)


def test_every_difference_is_named_at_once():
    other = dataclasses.replace(PLAN, seed=8, length=500, batch_size=64)
    with pytest.raises(ResumeError) as refusal:
        CURSOR.check(other, "0ther")
    for word in ("data fingerprint: 5ca1ab1e", "0ther now", "seed", "samples", "batch size: 128"):
        assert word in str(refusal.value)


def test_another_batch_size_is_refused_unless_allowed():
    other = dataclasses.replace(PLAN, batch_size=64)
    with pytest.raises(ResumeError, match="allow_new_batch_size=True"):
        CURSOR.check(other, "5ca1ab1e")
    CURSOR.check(other, "5ca1ab1e", allow_new_batch_size=True)


@pytest.mark.parametrize(
    ("remainder", "samples", "point"),
    [
        ("keep", 0, (3, 0)),
        ("keep", 896, (3, 896)),
        ("keep", 1_000, (4, 0)),
        ("pad", 896, (3, 896)),
        ("pad", 1_000, (4, 0)),
        ("drop", 768, (3, 768)),
        ("drop", 896, (4, 0)),
    ],
)
def test_an_epoch_without_a_batch_left_is_over(remainder, samples, point):
    plan = dataclasses.replace(PLAN, remainder=remainder)
    cursor = Cursor.of(plan, epoch=3, samples=samples, fingerprint="")
    assert cursor.resume_point(plan) == point
