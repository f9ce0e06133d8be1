"""The pilot's search: on curves that follow a known law, and on real branches."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from rightbatch.advice.branch import Branch
from rightbatch.advice.choice import EpochsGoal, TargetGoal
from rightbatch.advice.ground import Ground
from rightbatch.advice.law import Law, StepTime, best_batch_size
from rightbatch.advice.loss_points import LossPoint, samples_to
from rightbatch.advice.pilot import PilotSearch
from rightbatch.advice.pilot_outcome import Outcome
from rightbatch.advice.pilot_result import Pilot
from rightbatch.advice.pilot_summary import infer_from_pilot, law_of, summarise
from rightbatch.loading.parts import Parts
from rightbatch.training.options import FitOptions

SIZES = [2**power for power in range(11)]
TIME = StepTime(latency_seconds=1e-3, seconds_per_sample=1e-5, p=1.0, residual=0.0)


@dataclass
class Clock:
    """A clock that the trials move."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Known:
    """Training whose samples to the loss 1 follow a law, with a best rate and noise by seed.

    Below the best rate the samples grow in inverse proportion to it, beyond 1.6 times of it the
    training diverges: what real curves do. The loss falls as a power of the samples.
    """

    critical: float
    clock: Clock
    noise: float = 0.1
    best_rate: float = 0.8
    floor: float = 0.0
    rates: dict[int, float] = field(default_factory=dict)

    def start(self, batch_size: int, learning_rate: float, seed: int) -> KnownTrial:
        best = self.best_rate / (1 + self.critical / batch_size)
        ratio = learning_rate / best
        generator = np.random.default_rng([seed, batch_size])
        samples = 2e4 * (1 + batch_size / self.critical) * max(1 / ratio, ratio**2)
        samples *= math.exp(self.noise * generator.standard_normal())
        return KnownTrial(self, batch_size, samples, has_diverged=ratio > 1.6)


@dataclass
class KnownTrial:
    known: Known
    batch_size: int
    needed: float
    has_diverged: bool
    samples: int = 0
    points: list[LossPoint] = field(
        default_factory=lambda: [LossPoint(samples=0, seconds=0.0, loss=2.5)]
    )

    def advance(
        self, *, target: float, most_samples: float = math.inf, most_seconds: float = math.inf
    ) -> None:
        if self.has_diverged:
            self.known.clock.now += 5 * TIME.seconds(self.batch_size)
            return
        a_sample = TIME.seconds(self.batch_size) / self.batch_size
        end = min(1.3 * self.needed / max(target, 1e-9) ** 2, most_samples, most_seconds / a_sample)
        for samples in np.geomspace(min(100, end), end, 60):
            loss = min(2.5, max((samples / self.needed) ** -0.5, self.known.floor))
            self.points.append(LossPoint(samples=math.ceil(samples), seconds=0.0, loss=loss))
        self.samples = math.ceil(end)
        self.known.clock.now += end * a_sample

    def samples_to(self, loss: float) -> float | None:
        return samples_to(self.points, loss)

    def close(self) -> None:
        pass


def search(
    known: Known,
    *,
    seconds: float = 1e4,
    target: float = 1.0,
    goal: EpochsGoal | None = None,
    first: int = 64,
) -> Outcome:
    return PilotSearch(
        known.start,
        sizes=SIZES,
        step_seconds={size: TIME.seconds(size) for size in SIZES},
        goal=goal or TargetGoal(loss=target),
        prior_critical=200.0,
        prior_factor=8.0,
        first_size=first,
        first_rate=0.05,
        seconds=seconds,
        clock=known.clock,
    ).run()


@pytest.mark.parametrize("critical", [8.0, 60.0, 400.0])
@pytest.mark.parametrize("first", [8, 512])
def test_the_search_finds_a_size_near_the_best_of_the_law(critical: float, first: int) -> None:
    step_seconds = {size: TIME.seconds(size) for size in SIZES}
    truth = Law(samples_min=2e4, critical_batch_size=critical, low=0, high=0, residual=0)
    regrets = []
    for rate in (0.3, 0.8, 2.5):
        outcome = search(Known(critical, Clock(), best_rate=rate), first=first)
        posterior, _ = infer_from_pilot(
            outcome, SIZES, prior_critical=200.0, prior_factor=8.0, target_loss=1.0
        )
        choice = TargetGoal(loss=1.0).choose(posterior, step_seconds, candidates=outcome.rates)
        times = {size: truth.steps(size) * step_seconds[size] for size in SIZES}
        regrets.append(times[choice.batch_size] / min(times.values()) - 1)
        best = min(times, key=lambda size: times[size])
        low, high = choice.interval
        assert low <= best <= high
    assert max(regrets) <= 0.25
    # One size beside the best, at most: single runs stray by 10 %.
    assert np.median(regrets) <= 0.12


def test_a_rate_at_which_other_seeds_run_away_is_none_to_choose() -> None:
    @dataclass
    class Fragile(Known):
        def start(self, batch_size: int, learning_rate: float, seed: int) -> KnownTrial:
            trial = super().start(batch_size, learning_rate, seed)
            # The first seed alone survives the upper third of the rates that look good.
            best = self.best_rate / (1 + self.critical / batch_size)
            if seed > 0 and learning_rate > 0.8 * best:
                trial.has_diverged = True
            return trial

    known = Fragile(60.0, Clock(), noise=0.02)
    outcome = search(known)
    repeated = {run.batch_size for run in outcome.runs if run.seed >= 2}
    assert repeated & set(outcome.rates)
    for size in repeated & set(outcome.rates):
        best = known.best_rate / (1 + known.critical / size)
        assert outcome.rates[size] <= 0.8 * best


@dataclass
class Straying(Known):
    """Runs that differ by their seed and rate, by half and more; the first of size 8 are lucky."""

    stray: float = 0.5
    luck: float = 1.0
    salt: int = 0

    def start(self, batch_size: int, learning_rate: float, seed: int) -> KnownTrial:
        trial = super().start(batch_size, learning_rate, seed)
        setting = [self.salt, seed, batch_size, round(1e6 * learning_rate)]
        trial.needed *= math.exp(self.stray * np.random.default_rng(setting).standard_normal())
        if seed == 0 and batch_size == 8:
            trial.needed /= self.luck
        return trial


@pytest.mark.parametrize(("luck", "first"), [(1.0, 64), (2.5, 8)])
def test_where_runs_stray_many_of_them_tell(luck: float, first: int) -> None:
    truth = Law(samples_min=2e4, critical_batch_size=60.0, low=0, high=0, residual=0)
    step_seconds = {size: TIME.seconds(size) for size in SIZES}
    times = {size: truth.steps(size) * step_seconds[size] for size in SIZES}
    regrets, octaves = [], []
    for salt in range(6):
        known = Straying(60.0, Clock(), noise=0.0, luck=luck, salt=salt)
        outcome = search(known, seconds=1e6, first=first)
        posterior, _ = infer_from_pilot(
            outcome, SIZES, prior_critical=200.0, prior_factor=8.0, target_loss=1.0
        )
        choice = TargetGoal(loss=1.0).choose(posterior, step_seconds, candidates=outcome.rates)
        size = choice.batch_size
        regrets.append(times[size] / min(times.values()) - 1)
        best_rate = known.best_rate / (1 + known.critical / size)
        octaves.append(abs(math.log2(outcome.rates[size] / best_rate)))
    # The size beside the best takes 5 or 19 % more, and 8, which the lucky runs are of, 189 %.
    assert max(regrets) <= 0.35
    assert np.median(octaves) <= 0.5


def test_where_runs_stray_rates_are_compared_by_several_seeds() -> None:
    outcome = search(Straying(60.0, Clock(), noise=0.0), seconds=1e6)
    seeds: dict[int, dict[float, int]] = {}
    for run in outcome.runs:
        by_rate = seeds.setdefault(run.batch_size, {})
        by_rate[run.learning_rate] = by_rate.get(run.learning_rate, 0) + 1
    compared = [size for size in seeds if sum(count >= 6 for count in seeds[size].values()) >= 3]
    assert compared
    quiet = search(Known(60.0, Clock(), noise=0.02), seconds=1e6)
    # A quiet search repeats the best rate alone, and fewer times.
    assert all(
        run.learning_rate == quiet.rates[run.batch_size] for run in quiet.runs if run.seed > 0
    )
    assert len(quiet.runs) < len(outcome.runs)


def test_a_size_that_was_given_up_for_a_lucky_run_is_tried_again() -> None:
    again = 0
    for salt in range(4):
        outcome = search(
            Straying(60.0, Clock(), noise=0.0, luck=2.5, salt=salt), seconds=1e6, first=8
        )
        first = [run for run in outcome.runs if run.seed == 0]
        given_up = {run.batch_size for run in first} - {
            run.batch_size for run in first if run.samples is not None
        }
        again += any(run.batch_size in given_up for run in outcome.runs if run.seed > 0)
    assert again >= 2


@pytest.mark.parametrize(("luck", "first"), [(1.0, 64), (2.5, 8)])
def test_no_size_is_chosen_on_a_single_run(luck: float, first: int) -> None:
    for salt in range(6):
        known = Straying(60.0, Clock(), noise=0.0, luck=luck, salt=salt)
        outcome = search(known, seconds=1e6, first=first)
        posterior, _ = infer_from_pilot(
            outcome, SIZES, prior_critical=200.0, prior_factor=8.0, target_loss=1.0
        )
        step_seconds = {size: TIME.seconds(size) for size in SIZES}
        choice = TargetGoal(loss=1.0).choose(posterior, step_seconds, candidates=outcome.rates)
        size = choice.batch_size
        runs = [run for run in outcome.runs if run.batch_size == size]
        assert sum(run.learning_rate == outcome.rates[size] for run in runs) >= 3


def test_what_was_found_when_the_effort_ended_is_repeated_all_the_same() -> None:
    # The first size is lucky by so much that the walk to others takes what was to be spent.
    outcome = search(Straying(60.0, Clock(), noise=0.0, luck=5.0, salt=5), seconds=1e6, first=8)
    repeated = [run for run in outcome.runs if run.batch_size == 8 and run.seed > 0]
    assert {run.seed for run in repeated} >= {1, 2}


def test_training_that_learns_nothing_has_reached_nothing() -> None:
    @dataclass
    class Flat(Known):
        def start(self, batch_size: int, learning_rate: float, seed: int) -> KnownTrial:
            trial = super().start(batch_size, learning_rate, seed)
            trial.needed = 1e12
            return trial

    outcome = search(Flat(60.0, Clock(), floor=2.5), seconds=50.0, target=0.5)
    assert outcome.rates == {}
    assert all(run.samples is None for run in outcome.runs)


def test_no_run_is_made_twice_and_hopeless_ones_end_early() -> None:
    outcome = search(Known(60.0, Clock()))
    settings = [(run.batch_size, run.learning_rate, run.seed) for run in outcome.runs]
    assert len(set(settings)) == len(settings)
    given_up = [run for run in outcome.runs if run.ended == "hopeless"]
    assert given_up
    reached = [run for run in outcome.runs if run.ended == "reached"]
    seconds = {
        run.batch_size: run.samples / run.batch_size * TIME.seconds(run.batch_size)
        for run in reached
        if run.samples is not None
    }
    longest = max(
        run.points[-1].samples / run.batch_size * TIME.seconds(run.batch_size) for run in given_up
    )
    assert longest < 6 * min(seconds.values())


def test_the_budget_is_kept() -> None:
    clock = Clock()
    outcome = search(Known(60.0, clock), seconds=40.0)
    assert clock.now <= 40.0 + 1e-6
    assert outcome.rates


def test_short_training_gets_a_short_pilot() -> None:
    clock = Clock()
    search(Known(60.0, clock), seconds=1e6)
    one_run = 2e4 * (1 + 76 / 60) / 76 * TIME.seconds(76)
    assert clock.now <= 120 * one_run


def test_a_target_beyond_the_budget_is_carried_on_from_the_trend() -> None:
    outcome = search(Known(60.0, Clock()), seconds=200.0, target=0.1)
    assert outcome.loss > 0.1
    assert len(outcome.rates) >= 3
    posterior, levels = infer_from_pilot(
        outcome, SIZES, prior_critical=200.0, prior_factor=8.0, target_loss=0.1
    )
    assert len(levels) >= 3
    assert all(before.loss > after.loss for before, after in itertools.pairwise(levels))
    near, _ = infer_from_pilot(
        outcome, SIZES, prior_critical=200.0, prior_factor=8.0, target_loss=outcome.loss
    )
    # What was not reached is less certain than what was.
    spread, spread_near = (np.log(each.critical).std() for each in (posterior, near))
    assert spread > spread_near
    step_seconds = {size: TIME.seconds(size) for size in SIZES}
    pilot = summarise(outcome, posterior, levels, step_seconds, 0.1)
    assert not pilot.reaches_target
    assert Pilot.from_json(pilot.to_json()) == pilot
    law = law_of(posterior, levels)
    assert law.low < law.critical_batch_size < law.high


def choose_for_epochs(known: Known, samples: float, seconds: float) -> tuple[Outcome, int]:
    goal = EpochsGoal(samples=samples)
    outcome = search(known, goal=goal, seconds=seconds)
    posterior, _ = infer_from_pilot(
        outcome, SIZES, prior_critical=200.0, prior_factor=8.0, target_loss=None
    )
    choice = goal.choose(
        posterior,
        {size: TIME.seconds(size) for size in SIZES},
        candidates=outcome.rates,
        enough_samples=outcome.enough_samples,
    )
    return outcome, choice.batch_size


def test_epochs_ask_for_the_largest_size_that_wastes_no_samples() -> None:
    known = Known(200.0, Clock(), noise=0.02)
    outcome, size = choose_for_epochs(known, samples=1e6, seconds=300.0)
    # The budget ends long before the epochs do: 10 % more samples are needed at B_crit/10 = 20.
    assert outcome.enough_samples is None
    assert size in (8, 16, 32)
    law = Law(samples_min=1.0, critical_batch_size=200.0, low=0, high=0, residual=0)
    assert size < best_batch_size(law, TIME)[0]


def test_epochs_beyond_the_lowest_loss_leave_room_for_larger_sizes() -> None:
    known = Known(200.0, Clock(), noise=0.02, floor=1.0)
    outcome, size = choose_for_epochs(known, samples=1e5, seconds=3000.0)
    # The loss ends at 1.0, which 100,000 samples reach up to 1 + B/200 = 5.
    assert outcome.enough_samples == 1e5
    assert size in (256, 512)


def test_real_branches_stop_go_on_and_give_what_one_run_gives(digits: Parts) -> None:
    ground = Ground("mlp:16", digits, FitOptions(learning_rate=0.2))
    whole = Branch(ground, batch_size=32, learning_rate=0.2, seed=3)
    whole.advance(target=0.0, most_samples=6_000)
    parts = Branch(ground, batch_size=32, learning_rate=0.2, seed=3, loader_threads=0)
    while parts.samples < 6_000:
        parts.advance(target=0.0, most_samples=min(6_000, whole.points[len(parts.points)].samples))
    losses = [(point.samples, point.loss) for point in whole.points]
    assert [(point.samples, point.loss) for point in parts.points] == losses
    assert whole.samples_to(0.5) == parts.samples_to(0.5)
    for branch in (whole, parts):
        branch.close()


def test_a_rate_that_is_far_too_high_ends_at_once(digits: Parts) -> None:
    ground = Ground("mlp:16", digits, FitOptions())
    branch = Branch(ground, batch_size=32, learning_rate=1e4, seed=0)
    branch.advance(target=0.1, most_samples=50_000)
    branch.close()
    assert branch.has_diverged
    assert branch.samples < 1_000
    assert branch.samples_to(0.1) is None
