"""The runs of a pilot so far, and what they say of rates, samples and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from rightbatch.advice.loss_points import samples_to
from rightbatch.advice.pilot_result import PilotRun
from rightbatch.advice.rate_choice import best_rate, log_samples

# The finest step between two rates of a search.
FINE = math.sqrt(2.0)
_Setting = tuple[int, float, int]


class Record:
    """Keeps the runs; `step_seconds` are those of a step by batch size."""

    def __init__(self, step_seconds: Mapping[int, float]) -> None:
        self.runs: list[PilotRun] = []
        self._step_seconds = step_seconds
        self._by_setting: dict[_Setting, PilotRun] = {}
        self._rates: dict[float, float] = {}
        # Asked for thousands of times, a tenth of a pilot of short runs.
        self._best_rates: dict[int, float | None] = {}

    def same_rate(self, rate: float) -> float:
        """The float that stands for this rate: steps of √2 forth and back do not end at one."""
        return self._rates.setdefault(_rounded(rate), rate)

    def known_rate(self, rate: float) -> float:
        """The same, without making it one that others stand for."""
        return self._rates.get(_rounded(rate), rate)

    def find(self, size: int, rate: float, seed: int) -> PilotRun | None:
        """The run of this setting, where there is one."""
        return self._by_setting.get((size, _rounded(rate), seed))

    def add(self, run: PilotRun) -> None:
        """Keep a run, in the place of an earlier one of the same setting."""
        setting = (run.batch_size, _rounded(run.learning_rate), run.seed)
        if setting in self._by_setting:
            self.runs.remove(self._by_setting[setting])
        self.runs.append(run)
        self._by_setting[setting] = run
        self._best_rates.pop(run.batch_size, None)

    def read_at(self, level: float) -> None:
        """Read the runs at another loss than the one that they were trained to."""
        runs, self.runs = self.runs, []
        self._by_setting.clear()
        for run in runs:
            samples = a_step_at_least(samples_to(run.points, level), run.batch_size)
            ended = "reached" if samples is not None else run.ended
            self.add(replace(run, samples=samples, ended=ended))

    @property
    def tried(self) -> set[int]:
        """The batch sizes of the runs."""
        return {run.batch_size for run in self.runs}

    def count(self, size: int, rate: float) -> int:
        """How many seeds this setting was run with."""
        return sum(run.batch_size == size and run.learning_rate == rate for run in self.runs)

    @property
    def best_seconds(self) -> float:
        """The time to the level of the fastest size tried; infinite before any got there."""
        return min(map(self._seconds, self.tried), default=math.inf)

    def best_rate(self, size: int) -> float | None:
        """The rate that suits a size; None where no run of it got there."""
        if size not in self._best_rates:
            self._best_rates[size] = best_rate(self.runs, size)
        return self._best_rates[size]

    def best_rates(self, sizes: Iterable[int]) -> dict[int, float]:
        """The rates of those sizes that have one."""
        return {size: rate for size in sizes if (rate := self.best_rate(size)) is not None}

    def samples(self, size: int) -> float:
        """The samples of a size at its best rate, as the mean over its seeds of the logarithm.

        Without the runs that were given up, a lucky first run would give up all that follow.
        """
        rate = self.best_rate(size)
        if rate is None:
            return math.inf
        values = [
            logs
            for run in self.runs
            if run.batch_size == size
            and run.learning_rate == rate
            and (logs := log_samples(run)) is not None
        ]
        return math.exp(sum(values) / len(values))

    def luck(self, seed: int) -> float:
        """How many times the samples of the average seed this one takes, by its runs so far."""
        ratios = [
            run.samples / self.samples(run.batch_size)
            for run in self.runs
            if run.seed == seed
            and run.samples is not None
            and run.learning_rate == self.best_rate(run.batch_size)
        ]
        return max(1.0, math.exp(sum(map(math.log, ratios)) / len(ratios))) if ratios else 1.0

    def guess_rate(self, size: int) -> float:
        """A rate for a size without one: along the line through the nearest two that have one."""
        known = sorted(
            (abs(math.log(size / other)), other, rate)
            for other, rate in self.best_rates(self.tried).items()
        )
        _, nearest, rate = known[0]
        slope = 0.5
        if len(known) > 1:
            _, second, other_rate = known[1]
            slope = math.log(rate / other_rate) / math.log(nearest / second)
        # Between no change and the linear rule.
        slope = min(max(slope, 0.0), 1.0)
        steps = round(slope * math.log(size / nearest) / math.log(FINE))
        return float(rate * FINE**steps)

    def _seconds(self, size: int) -> float:
        return self.samples(size) / size * self._step_seconds[size]


def a_step_at_least(samples: float | None, batch_size: int) -> float | None:
    """The samples of a run; one whose initial weights are good enough has still taken a step."""
    return None if samples is None else max(samples, float(batch_size))


def _rounded(rate: float) -> float:
    return round(math.log2(rate), 3)
