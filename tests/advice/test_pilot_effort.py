"""How long a pilot goes on, in terms of what it is to speed up."""

from __future__ import annotations

import math

import pytest

from rightbatch.advice.pilot_effort import Effort


def effort(budget_seconds: float = 1e6) -> Effort:
    """Ten runs took 20 seconds, and the best of them 1."""
    found = Effort(budget_seconds, clock=iter([0.0, 20.0]).__next__)
    found.set_by(runs=10, best_seconds=1.0)
    return found


def test_it_is_a_number_of_runs_within_the_budget() -> None:
    assert effort().limit_seconds(1.0) == 28 * 2.0
    assert effort(30.0).limit_seconds(1.0) == 30.0
    assert Effort(30.0).limit_seconds(math.inf) == 30.0


def test_runs_that_stray_are_worth_more_of_it_up_to_a_limit() -> None:
    quiet, noisy, wild = effort(), effort(), effort()
    quiet.weigh(0.05)
    noisy.weigh(0.15 * math.sqrt(2))
    wild.weigh(3.0)
    assert quiet.limit_seconds(1.0) == 56.0
    assert noisy.limit_seconds(1.0) == pytest.approx(112.0)
    assert wild.limit_seconds(1.0) == 4 * 56.0


def test_it_grows_where_the_best_turns_out_slower_and_not_where_it_turns_out_faster() -> None:
    assert effort().limit_seconds(2.5) == pytest.approx(2.5 * 56.0)
    assert effort().limit_seconds(0.1) == 56.0


def test_a_pilot_of_a_second_is_short_enough() -> None:
    short = Effort(60.0, clock=iter([0.0, 0.01]).__next__)
    short.set_by(runs=10, best_seconds=0.001)
    assert short.limit_seconds(0.001) == 1.2


def test_without_the_limit_the_budget_alone_ends_it() -> None:
    found = effort(500.0)
    found.is_limited = False
    assert found.limit_seconds(1.0) == 500.0
