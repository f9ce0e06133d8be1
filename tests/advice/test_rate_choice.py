"""Which rate of a batch size is taken, from the runs that there are."""

from __future__ import annotations

from dataclasses import replace

from rightbatch.advice.loss_points import LossPoint
from rightbatch.advice.pilot_result import PilotRun
from rightbatch.advice.rate_choice import best_rate, log_samples


def runs_at(rate: float, *took: float | str) -> list[PilotRun]:
    """Runs with the seeds 0, 1, …: the samples that each took, or how it ended after 500."""
    return [
        PilotRun(
            batch_size=8,
            learning_rate=rate,
            seed=seed,
            samples=None if isinstance(each, str) else float(each),
            ended=each if isinstance(each, str) else "reached",
            points=[LossPoint(samples=500, seconds=0.1, loss=1.0)],
        )
        for seed, each in enumerate(took)
    ]


def test_of_single_runs_the_one_of_fewest_samples_is_taken() -> None:
    runs = [*runs_at(0.1, 300), *runs_at(0.2, 200), *runs_at(0.4, "hopeless")]
    assert best_rate(runs, 8) == 0.2
    assert best_rate(runs, 16) is None


def test_a_rate_that_reached_the_loss_with_no_seed_is_none() -> None:
    assert best_rate(runs_at(0.1, "hopeless", "hopeless", "hopeless"), 8) is None
    assert best_rate([*runs_at(0.1, "hopeless"), *runs_at(0.2, 900)], 8) == 0.2


def test_a_rate_with_one_lucky_run_does_not_displace_one_that_is_known() -> None:
    known = runs_at(0.1, 300, 320, 310)
    assert best_rate([*known, *runs_at(0.2, 30)], 8) == 0.1
    assert best_rate([*known, *runs_at(0.2, 30, 40)], 8) == 0.1
    assert best_rate([*known, *runs_at(0.2, 30, 40, 50)], 8) == 0.2


def test_rates_are_compared_by_the_seeds_that_they_share() -> None:
    # The seeds 3 and 4 are hard ones, which the second rate was not tried with.
    first = runs_at(0.1, 100, 100, 100, 5_000, 5_000)
    assert best_rate([*first, *runs_at(0.2, 150, 150, 150)], 8) == 0.1


def test_rates_that_share_no_seed_count_with_their_own() -> None:
    one = runs_at(0.1, 900)
    other = [replace(run, seed=1) for run in runs_at(0.2, 100)]
    assert best_rate([*one, *other], 8) == best_rate([*other, *one], 8) == 0.2


def test_given_up_runs_count_with_what_they_had_taken() -> None:
    # The mean of those that arrived is lower at the second rate: 100 of one seed in three.
    first = runs_at(0.1, 200, 210, 220)
    assert best_rate([*first, *runs_at(0.2, 100, "hopeless", "hopeless")], 8) == 0.1
    assert log_samples(runs_at(0.2, "budget")[0]) is None


def test_a_rate_at_which_seeds_run_away_is_left_out() -> None:
    stable = runs_at(0.1, 300, 310, 320, 330)
    assert best_rate([*stable, *runs_at(0.2, 100, 100, 100, "diverged")], 8) == 0.2
    assert best_rate([*stable, *runs_at(0.2, 100, "diverged", 100, "diverged")], 8) == 0.1
