"""Steps, samples and seconds to a loss."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.advice.comparison import Curve
from rightbatch.advice.target import to_target


def curve(batch_size, losses, **others):
    """A run whose loss is checked after every step, ten steps an epoch, a second each."""
    rows = [
        {"epoch": epoch, "steps": 10 * epoch, "samples": 10 * epoch * batch_size,
         "seconds": float(epoch), "train_loss": 0.0}
        for epoch in range(1, len(losses) // 10 + 2)
    ]  # fmt: skip
    return Curve(
        batch_size=batch_size, is_full=False, learning_rate=0.1, seed=0, history=rows,
        step_losses=[], checked_losses=list(enumerate(losses)), **others,
    )  # fmt: skip


def test_the_crossing_is_read_between_two_checks():
    reached = to_target([curve(4, [2.0, 1.0, 0.5])], 0.75)
    (point,) = reached.points
    assert (point.steps, point.samples, point.seconds) == (1.5, 6.0, pytest.approx(0.15))
    assert (point.batch_size, point.label, point.seed) == (4, "batch 4", 0)


def test_a_run_that_never_gets_there_is_left_out():
    reached = to_target([curve(4, [2.0, 1.0]), curve(8, [2.0, 1.5])], 1.2)
    assert [point.batch_size for point in reached.points] == [4]


def test_without_a_target_it_is_what_every_run_reached():
    curves = [curve(4, [2.0, 0.1, 0.3]), curve(8, [2.0, 1.5, 0.7])]
    reached = to_target([*curves, curve(2, [2.0, 9.0], diverged="the loss is inf")])
    assert reached.target == 0.7
    assert {point.batch_size for point in reached.points} == {4, 8}


def test_a_run_that_begins_below_the_target_needs_no_step():
    assert to_target([curve(4, [0.5, 0.4])], 0.5).points[0].steps == 0.0


def test_without_checks_there_is_nothing_to_say():
    assert to_target([]) is None
    assert to_target([curve(4, [])]) is None


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=40), st.floats(0.01, 10))
def test_before_the_crossing_every_check_is_above_the_target(losses, target):
    found = to_target([curve(1, losses)], target).points
    if not found:
        assert min(losses) > target
        return
    steps = found[0].steps
    assert all(loss > target for loss in losses[: math.ceil(steps)])
    assert any(loss <= target for loss in losses[: math.ceil(steps) + 1])
