"""The pilot: short branches at a few batch sizes, each with a small search of its rate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from rightbatch.advice.branch_work import BranchRequest
from rightbatch.advice.choice import EpochsGoal, TargetGoal
from rightbatch.advice.law import NEAR_BEST
from rightbatch.advice.loss_points import LossPoint, smoothed_at
from rightbatch.advice.pilot_effort import Effort
from rightbatch.advice.pilot_outcome import Outcome, is_better, observations_of
from rightbatch.advice.pilot_record import FINE, Record, a_step_at_least
from rightbatch.advice.pilot_result import PilotRun
from rightbatch.advice.samples_posterior import infer_samples, run_error

# Rates are searched in factors of four at first, then of two, then of √2: below its best rate a
# size needs samples in inverse proportion to the rate, and a little above it diverges, so a coarse
# grid would cost more than the batch size itself.
_COARSE, _MIDDLE = 4.0, 2.0
# A run is given up when it has taken this many times the samples of the best rate of its size, or
# the time of the best size; the first run of a size has a rate that is only guessed.
_HOPELESS_RATE, _HOPELESS_SIZE, _HOPELESS_GUESS = 1.1, 1.5, 2.2
# A size is run, or run again, where the chance that it is the best, or close to it, is this large;
# where runs stray the chances are less sure themselves, and less of one is enough.
_FAIR_CHANCE = 0.12
_CLOSE = 0.1
# Shares of the budget for one run while the first rate is looked for, and for the one that shows
# which loss can be afforded.
_RATE_SHARE, _LEVEL_SHARE = 0.03, 0.06
# Losses this close are one; a branch this far on has come to the end of its epochs.
_SAME_LOSS, _AT_END = 0.01, 0.95
_WALK_SHARE = 0.7
_LEAST_REPEATS, _MOST_SEEDS = 2, 32
# Where runs are worth so much more effort, the rate is chosen by more seeds than the first.
_NOISY, _RATE_SEEDS = 2.0, 6
_MOST_RETREATS = 8


class Trial(Protocol):
    """A branch, as the pilot uses it."""

    samples: int
    has_diverged: bool
    points: list[LossPoint]

    def advance(
        self, *, target: float, most_samples: float = ..., most_seconds: float = ...
    ) -> None:
        """Train on until the target or the limits."""

    def samples_to(self, loss: float) -> float | None:
        """The samples after which the loss first was `loss`."""

    def close(self) -> None:
        """End it."""


Start = Callable[[int, float, int], Trial]
Foresee = Callable[[Sequence[BranchRequest]], None]


class _BudgetError(Exception):
    """The budget is used up, or there is nothing to spend it on."""


class PilotSearch:
    """Finds the samples that batch sizes need to a loss, at rates that suit them.

    `start(batch_size, learning_rate, seed)` begins a branch; `sizes` are those to choose from and
    `step_seconds` what a step of each takes. `goal` is a loss to reach, or a number of samples to
    go through. `prior_critical` and `prior_factor` say what is believed of the critical batch size
    before any branch, see `infer_samples`. The search spends `seconds` at most, and less where a
    run to the target is short. `foresee`, where it is given, is told which branches are likely to
    be started next; what is found does not depend on it.
    """

    def __init__(
        self,
        start: Start,
        *,
        sizes: Sequence[int],
        step_seconds: Mapping[int, float],
        goal: TargetGoal | EpochsGoal,
        prior_critical: float,
        prior_factor: float,
        first_size: int,
        first_rate: float,
        seconds: float,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        progress: Callable[[float, PilotRun], None] | None = None,
        foresee: Foresee | None = None,
    ) -> None:
        self._start = start
        self._foresee = foresee
        self._sizes = sorted(sizes)
        self._step_seconds = step_seconds
        self._goal = goal
        self._target = goal.loss if isinstance(goal, TargetGoal) else 0.0
        self._most_samples = goal.samples if isinstance(goal, EpochsGoal) else math.inf
        self._enough_samples: float | None = None
        self._prior_critical = prior_critical
        self._prior_factor = prior_factor
        self._first = first_size
        self._first_rate = first_rate
        self._seed = seed
        self._effort = Effort(seconds, clock)
        self._progress = progress
        self._level = self._target
        self._record = Record(step_seconds)

    def run(self) -> Outcome:
        """Search until the sizes around the best are known well enough, or the budget is spent."""
        with suppress(_BudgetError):
            self._open()
            self._walk()
        # What the effort was spent on is repeated where the budget allows it.
        with suppress(_BudgetError):
            self._repeat()
        return self.outcome

    @property
    def outcome(self) -> Outcome:
        """What was found so far."""
        rates = {
            size: rate for size in self._sizes if (rate := self._record.best_rate(size)) is not None
        }
        return Outcome(
            loss=self._level,
            rates=rates,
            runs=self._record.runs,
            seconds=self._effort.spent_seconds,
            enough_samples=self._enough_samples,
        )

    def _open(self) -> None:
        """Find the rate of the first size, and the loss that can be afforded many times."""
        budget = self._effort.budget_seconds
        share = _RATE_SHARE * budget
        rate, run = self._first_rate, self._attempt(self._first, self._first_rate, share)
        for factor in (_COARSE, _MIDDLE):
            rate, run = self._climb(self._first, rate, run, factor, share)
        if run.samples is None:
            run = self._attempt(self._first, rate, _LEVEL_SHARE * budget, again=True)
        if run.samples is None:
            self._set_level(run)
            run = self._record.find(self._first, rate, self._seed) or run
        if run.samples is not None and self._level <= self._target:
            self._effort.set_by(runs=len(self._record.runs), best_seconds=self._record.best_seconds)
        self._climb(self._first, rate, run, FINE)

    def _set_level(self, run: PilotRun) -> None:
        """Compare sizes at the loss that `run` came down to, where it did not reach the target."""
        ends = self._most_samples
        within = [
            smoothed_at(run.points, place)
            for place, point in enumerate(run.points)
            # What the most frugal size gets by then, others may still get by the end.
            if point.samples * (1 + NEAR_BEST) <= ends
        ]
        level = min(within) * (1 + _SAME_LOSS)
        if level >= run.points[0].loss:
            # The initial weights are as good: nothing was learned, and more of it tells nothing.
            raise _BudgetError
        self._level = max(level, self._target)
        if run.points[-1].samples >= _AT_END * ends:
            self._enough_samples = ends
        self._record.read_at(self._level)

    def _climb(
        self, size: int, rate: float, run: PilotRun, factor: float, share: float = math.inf
    ) -> tuple[float, PilotRun]:
        """Go from a rate to better ones, in steps of `factor`: out of divergence, up, or down."""
        beside = [rate * step for step in (factor, 1 / factor)]
        self._expect([(size, other, None) for other in beside], share)
        for _ in range(_MOST_RETREATS):
            if run.ended != "diverged":
                break
            rate /= factor
            run = self._attempt(size, rate, share)
        for step in (factor, 1 / factor):
            moved = False
            while True:
                other = rate * step
                if moved:
                    self._expect([(size, other, None), (size, other * step, None)], share)
                tried = self._attempt(size, other, share)
                if not is_better(tried, run):
                    break
                rate, run, moved = other, tried, True
            if moved:
                break
        return rate, run

    def _walk(self) -> None:
        """Try further sizes while one of them may well be the best."""
        while (size := self._next_size()) is not None:
            limit = self._effort.limit_seconds(self._record.best_seconds)
            if self._effort.spent_seconds > _WALK_SHARE * limit:
                return
            rate = self._record.guess_rate(size)
            self._expect([(size, near, None) for near in (rate, rate * FINE, rate * (1 / FINE))])
            run = self._attempt(size, rate)
            rate, run = self._climb(size, rate, run, FINE)
            if run.samples is None and run.ended != "diverged":
                # The guess may be too high without the loss running away.
                self._climb(size, rate / _MIDDLE, self._attempt(size, rate / _MIDDLE), 1 / FINE)

    def _next_size(self) -> int | None:
        """The untried size with the best chance; None where none has a fair one."""
        chances = self._chances(1.0)
        tried = self._record.tried
        untried = {size: chance for size, chance in chances.items() if size not in tried}
        size = max(untried, key=lambda size: untried[size], default=None)
        return size if size is not None and untried[size] >= self._fair_chance else None

    @property
    def _fair_chance(self) -> float:
        return _FAIR_CHANCE / self._effort.noise

    def _chances(self, within: float) -> dict[int, float]:
        """The chance of each size to be as good as the best of those run, `within` a factor."""
        known = [size for size in self._sizes if self._record.best_rate(size)]
        if not known:
            return {}
        posterior = infer_samples(
            observations_of(self.outcome),
            self._sizes,
            prior_critical=self._prior_critical,
            prior_factor=self._prior_factor,
            seed=self._seed,
        )
        return self._goal.chances(
            posterior,
            self._step_seconds,
            known=known,
            within=within,
            enough_samples=self._enough_samples,
        )

    def _repeat(self) -> None:
        """Run the sizes that may be the best with further seeds, until one stands out."""
        for seed in range(self._seed + 1, self._seed + _MOST_SEEDS):
            # Runs that stray far from one another take more of them to tell sizes apart.
            self._effort.weigh(run_error(observations_of(self.outcome)))
            noise = self._effort.noise
            chances = self._chances(1.0 + _CLOSE)
            near = [size for size, chance in chances.items() if chance >= self._fair_chance]
            rates = self._record.best_rates(near)
            if noise >= _NOISY:
                # A size may have been given up for the luck of another one's first run.
                given_up = (set(near) & self._record.tried) - set(rates)
                rates |= {size: self._record.guess_rate(size) for size in sorted(given_up)}
            # One size alone may stand out by the luck of its first seeds.
            enough = 1 + _LEAST_REPEATS * int(noise)
            if len(rates) < 2 and seed >= self._seed + enough:
                runs = [self._record.count(size, rate) for size, rate in rates.items()]
                if min(runs, default=enough) >= enough:
                    return
            # What was near when the effort ended is repeated all the same, in the budget.
            self._effort.is_limited = seed > self._seed + _LEAST_REPEATS
            if noise < _NOISY:
                settings = [(size, rate, seed) for size, rate in rates.items()]
                self._expect(settings, patience=2.0)
            for size in sorted(rates, key=lambda size: -chances[size]):
                if noise < _NOISY:
                    self._attempt(size, rates[size], seed=seed, patience=2.0)
                else:
                    self._compare_rates(size, rates[size], seed)
            self._effort.is_limited = True
            # What the repetitions say may bring another size into play.
            self._walk()

    def _compare_rates(self, size: int, rate: float, last_seed: int) -> None:
        """Run a rate with all seeds so far, and those beside it with the first of them."""
        first = range(self._seed, min(last_seed, self._seed + _RATE_SEEDS - 1) + 1)
        self._expect(
            [(size, rate, seed) for seed in range(self._seed, last_seed + 1)]
            + [(size, beside, seed) for beside in (rate * FINE, rate / FINE) for seed in first],
            patience=2.0,
        )
        for seed in range(self._seed, last_seed + 1):
            self._attempt(size, rate, seed=seed, patience=2.0)
        for beside in (rate * FINE, rate / FINE):
            for seed in first:
                self._attempt(size, beside, seed=seed, patience=2.0)

    def _attempt(
        self,
        size: int,
        rate: float,
        share: float = math.inf,
        *,
        seed: int | None = None,
        patience: float = 1.0,
        again: bool = False,
    ) -> PilotRun:
        """One branch, given up where it is hopeless; the one there is where it was run before."""
        seed = self._seed if seed is None else seed
        rate = self._record.same_rate(rate)
        found = self._record.find(size, rate, seed)
        if found is not None and not again:
            return found
        left = self._left
        if left <= 0:
            raise _BudgetError
        most = self._most_samples_of(size, seed, patience)
        branch = self._start(size, rate, seed)
        try:
            branch.advance(
                target=self._level,
                most_samples=max(most, size),
                most_seconds=min(share, left),
            )
        finally:
            branch.close()
        samples = a_step_at_least(branch.samples_to(self._level), size)
        if samples is not None:
            ended = "reached"
        elif branch.has_diverged:
            ended = "diverged"
        else:
            ended = "hopeless" if branch.samples >= most else "budget"
        run = PilotRun(
            batch_size=size,
            learning_rate=rate,
            seed=seed,
            samples=samples,
            ended=ended,
            points=branch.points,
        )
        self._record.add(run)
        if self._progress is not None:
            self._progress(self._effort.spent_seconds, run)
        return run

    @property
    def _left(self) -> float:
        """The seconds that may still be spent."""
        limit = self._effort.limit_seconds(self._record.best_seconds)
        return limit - self._effort.spent_seconds

    def _most_samples_of(self, size: int, seed: int, patience: float) -> float:
        """The samples after which a branch is hopeless, by what is known now."""
        luck = self._record.luck(seed)
        own, fastest = luck * self._record.samples(size), luck * self._record.best_seconds
        slack = _HOPELESS_SIZE if own < math.inf else _HOPELESS_GUESS
        most = min(patience * _HOPELESS_RATE * own, self._most_samples)
        if isinstance(self._goal, TargetGoal):
            most = min(most, patience * slack * fastest / self._step_seconds[size] * size)
        return most

    def _expect(
        self,
        settings: Sequence[tuple[int, float, int | None]],
        share: float = math.inf,
        patience: float = 1.0,
    ) -> None:
        """Tell which branches are likely to follow, with the limits that they would have now."""
        if self._foresee is None or self._left <= 0:
            return
        requests = []
        for size, wanted, given in settings:
            seed = self._seed if given is None else given
            rate = self._record.known_rate(wanted)
            if self._record.find(size, rate, seed) is None:
                most = self._most_samples_of(size, seed, patience)
                requests.append(
                    BranchRequest(
                        batch_size=size,
                        learning_rate=rate,
                        seed=seed,
                        target=self._level,
                        most_samples=max(most, size),
                        most_seconds=min(share, self._left),
                    )
                )
        self._foresee(requests)
