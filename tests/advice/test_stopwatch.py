"""Fair timing: everything in every round, in random order, with intervals that cover."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import bootstrap

from rightbatch.advice import stopwatch
from rightbatch.advice.stopwatch import (
    LEAST_ROUNDS,
    SpeedProgress,
    Watched,
    median_intervals,
    read_rounds,
    resampled_medians,
    warm_up,
)


def watched(call: Callable[[int], object]) -> Watched:
    return Watched(call=call, prepare=lambda: None, finish=lambda: None)


def test_every_round_has_every_thing_once_in_an_order_of_its_own() -> None:
    seen: list[int] = []
    things = [watched(lambda _, n=number: seen.append(n)) for number in range(6)]
    readings = read_rounds(things, [1] * 6, seconds=1e-6, seed=3)
    assert readings.shape == (LEAST_ROUNDS, 6)
    rounds = [tuple(seen[k : k + 6]) for k in range(0, len(seen), 6)]
    assert len(rounds) == LEAST_ROUNDS
    assert {frozenset(order) for order in rounds} == {frozenset(range(6))}
    assert len(set(rounds)) > 1
    again: list[int] = []
    same = [watched(lambda _, n=number: again.append(n)) for number in range(6)]
    read_rounds(same, [1] * 6, seconds=1e-6, seed=3)
    assert again == seen


def test_short_things_are_repeated_and_the_first_call_is_not_timed() -> None:
    numbers: list[int] = []
    prepared: list[int] = []
    thing = Watched(call=numbers.append, prepare=lambda: prepared.append(1), finish=lambda: None)
    read_rounds([thing], [4], seconds=1e-6, seed=0)
    assert numbers == [0, 0, 1, 2, 3] * LEAST_ROUNDS
    assert len(prepared) == LEAST_ROUNDS


class Clock:
    """A clock that only the things that are timed move on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def thing(self, seconds: float, *, first: float = 0.0) -> Watched:
        """Takes `seconds` a call, and its first one `first` beside."""
        calls: list[int] = []

        def call(number: int) -> None:
            self.now += seconds + (0.0 if calls else first)
            calls.append(number)

        return watched(call)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stopwatch, "time", made)
    return made


def test_a_reading_is_the_time_of_one_call(clock: Clock) -> None:
    things = [clock.thing(0.0002), clock.thing(0.03)]
    readings = read_rounds(things, [5, 1], seconds=0.1, seed=0)
    assert readings == pytest.approx(np.tile([0.0002, 0.03], (LEAST_ROUNDS, 1)))


def test_warming_up_finds_how_often_a_millisecond_holds(clock: Clock) -> None:
    assert warm_up(clock.thing(0.002)) == 1
    assert warm_up(clock.thing(0.00024)) == 5
    # A first call that compiles or allocates says nothing of the later ones.
    assert warm_up(clock.thing(0.00024, first=1.0)) == 5


def test_rounds_go_on_for_the_budget_and_not_beyond(clock: Clock) -> None:
    assert len(read_rounds([clock.thing(0.125)], [1], seconds=2.0, seed=0)) == 16
    assert len(read_rounds([clock.thing(0.125)], [1], seconds=2.1, seed=0)) == 16
    assert len(read_rounds([clock.thing(0.125)], [1], seconds=0.1, seed=0)) == LEAST_ROUNDS


def test_progress_grows_to_its_end() -> None:
    news: list[SpeedProgress] = []
    read_rounds([watched(lambda _: None)], [1], seconds=0.01, seed=0, progress=news.append)
    assert [item.rounds for item in news] == list(range(1, len(news) + 1))
    assert news[-1].seconds == news[-1].total_seconds
    assert all(item.seconds <= item.total_seconds for item in news)


@pytest.mark.parametrize("was_enabled", [True, False])
def test_the_collector_is_as_it_was_also_after_an_error(was_enabled: bool) -> None:
    def fail(_: int) -> None:
        raise KeyboardInterrupt

    before = gc.isenabled()
    try:
        (gc.enable if was_enabled else gc.disable)()
        with pytest.raises(KeyboardInterrupt):
            read_rounds([watched(fail)], [1], seconds=1, seed=0)
        assert gc.isenabled() is was_enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("rounds", [21, 75])
def test_intervals_are_those_of_a_long_bootstrap(rounds: int) -> None:
    values = np.random.default_rng(0).lognormal(size=(rounds, 1))
    median, low, high = (float(value[0]) for value in median_intervals(values))
    peer = bootstrap(
        (values[:, 0],), np.median, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    assert median == np.median(values)
    assert (low, high) == pytest.approx((peer.low, peer.high), rel=0.02)


def test_intervals_cover_the_true_median_as_often_as_they_say() -> None:
    values = np.random.default_rng(1).lognormal(size=(30, 4000))
    _, low, high = median_intervals(values)
    assert 0.92 < float(((low <= 1) & (high >= 1)).mean()) < 0.98


@pytest.mark.parametrize("rounds", [1, 2, 5, 6, 400])
def test_intervals_hold_the_median(rounds: int) -> None:
    values = np.random.default_rng(rounds).normal(size=(rounds, 3))
    median, low, high = median_intervals(values)
    assert (low <= median).all()
    assert (median <= high).all()


def test_resampled_medians_spread_as_the_closed_form_says() -> None:
    values = np.random.default_rng(0).lognormal(size=(41, 2))
    _, low, high = median_intervals(values)
    drawn = np.percentile(resampled_medians(values, seed=0), [2.5, 97.5], axis=0)
    assert drawn == pytest.approx(np.stack([low, high]), rel=0.05)


def test_whole_rounds_are_drawn() -> None:
    column = np.random.default_rng(0).lognormal(size=41)
    medians = resampled_medians(np.stack([column, 2 * column], axis=1), seed=0)
    assert medians[:, 1] == pytest.approx(2 * medians[:, 0])
