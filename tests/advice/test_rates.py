"""Learning rates by rule, and the search that `tuned` does."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rightbatch.advice.rates import best_of, first_rates, next_rate, scaled_rate, trials_of


@given(st.floats(1e-6, 10), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_rules_agree_at_the_reference_and_order_themselves_elsewhere(rate, size, reference):
    same, linear, root = (
        scaled_rate(rule, rate, batch_size=size, reference=reference)
        for rule in ("same", "linear", "sqrt")
    )
    assert same == rate
    assert math.isclose(root**2, linear * rate, rel_tol=1e-9)
    low, high = sorted((same, linear))
    assert low * (1 - 1e-9) <= root <= high * (1 + 1e-9)


def search(loss_of):
    """The whole search on a function of the rate: rates and losses in the order of trying."""
    rates = first_rates(1.0)
    losses = [loss_of(rate) for rate in rates]
    while (rate := next_rate(rates, losses)) is not None:
        rates.append(rate)
        losses.append(loss_of(rate))
    return rates, losses


@given(st.floats(-8, 8))
def test_the_search_finds_a_valley_within_a_factor_of_two_or_ends_after_eight(exponent):
    valley = 4.0**exponent
    rates, losses = search(lambda rate: abs(math.log(rate / valley)))
    assert len(rates) == len(set(rates)) <= 8
    best = rates[best_of(losses)]
    if len(rates) < 8:
        assert max(best / valley, valley / best) <= 2.0 * (1 + 1e-9)


def test_the_search_turns_away_from_rates_that_diverge():
    rates, losses = search(lambda rate: None if rate > 0.1 else -rate)
    assert rates[best_of(losses)] == 0.0625
    assert min(rates) < 0.0625 < max(rates)


def test_when_all_diverge_there_is_no_best_and_no_further_rate():
    assert best_of([None, None]) is None
    assert next_rate(first_rates(1.0), [None] * 5) is None
    trials = trials_of(8, [2.0, 1.0], [None, None])
    assert [(trial.learning_rate, trial.is_chosen) for trial in trials] == [
        (1.0, False),
        (2.0, False),
    ]
