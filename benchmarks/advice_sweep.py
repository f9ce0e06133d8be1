"""The exhaustive sweep that the advice is held against: every batch size, its rate tuned, by seeds.

At each batch size the rate is searched in factors of two from the one of the size before, until
the best lies inside; then the rates of one factor of two around it, in steps of √2, are run with
all seeds, and further ones while the best of them is the last. A run ends at the target, or when
it is hopeless: four times the samples of the best rate of its size, or five times the seconds of
the best size. Every run is kept in a file as it ends, so that an interrupted sweep goes on where
it stopped.

    python benchmarks/advice_sweep.py --only digits
    python benchmarks/advice_sweep.py --only digits --workers 2
    python benchmarks/advice_sweep.py --dask tcp://10.0.0.1:8786

With worker processes or a Dask cluster the seeds of a rate are run side by side. What counts, the
samples to the target, does not depend on who ran them; their seconds would, and are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch

from advice_workloads import WORKLOADS, Workload
from executors import add_executor_options, open_executor
from rightbatch.advice.branch import Branch
from rightbatch.advice.branch_work import BranchRequest, result_of
from rightbatch.advice.ground import Ground
from rightbatch.advice.loss_points import samples_to
from rightbatch.advice.sent_branches import SentBranches
from rightbatch.training.options import FitOptions

CACHE = Path(__file__).parent / "results" / "advice_sweep.jsonl"
# The loss levels, above the target, at which the samples are kept too.
LEVELS = (1.0, 1.05, 1.1, 1.2, 1.5, 2.0)
# A rate at which more of the seeds than this were given up is none to choose.
MOST_GIVEN_UP = 0.2
_MOST_FURTHER = 4
_HOPELESS_SAMPLES = 4.0
_HOPELESS_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One training run of the sweep: samples to each of `LEVELS` times the target, None if never.

    `seconds` are those of training, `wall_seconds` those of the whole run; None where an executor
    ran it, beside others.
    """

    workload: str
    target_loss: float
    batch_size: int
    learning_rate: float
    seed: int
    samples_to: list[float | None]
    samples: int
    seconds: float | None
    wall_seconds: float | None

    @property
    def to_target(self) -> float:
        """The samples to the target; infinite where the run ended before."""
        return math.inf if self.samples_to[0] is None else self.samples_to[0]


def sizes_of(workload: Workload, samples: int) -> list[int]:
    """Powers of two up to the largest, and the full batch where it is no larger."""
    largest = min(workload.largest, samples)
    sizes = [2**k for k in range(largest.bit_length())]
    return sizes if samples > workload.largest or sizes[-1] == samples else [*sizes, samples]


class Sweep:
    """The sweep of one workload, with the runs that the cache has already."""

    def __init__(self, workload: Workload, cache: Path, executor: Executor | None = None) -> None:
        self._executor = executor
        self.workload = workload
        self.cache = cache
        self.runs = {
            (run.batch_size, round(run.learning_rate, 9), run.seed): run
            for run in read_runs(cache)
            if run.workload == workload.name and run.target_loss == workload.target_loss
        }
        self._ground: Ground | None = None

    @property
    def ground(self) -> Ground:
        """What the runs share; made when the first run is needed."""
        if self._ground is None:
            self._ground = Ground(
                self.workload.model,
                self.workload.parts(),
                FitOptions(
                    optimizer=self.workload.optimizer,
                    learning_rate=self.workload.learning_rate,
                    l2=self.workload.l2,
                    threads=1,
                ),
            )
        return self._ground

    def run(self, batch_size: int, learning_rate: float, seed: int) -> SweepRun:
        """One run, from the cache where it is there."""
        key = (batch_size, round(learning_rate, 9), seed)
        if key in self.runs:
            return self.runs[key]
        request = self._request(batch_size, learning_rate, seed)
        began = time.perf_counter()
        if self._sent is None:
            branch = self._branch(batch_size, learning_rate, seed)
            result = result_of(branch, request)
        else:
            result = self._sent.run(request)
        is_timed = self._sent is None
        run = SweepRun(
            workload=self.workload.name,
            target_loss=self.workload.target_loss,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            samples_to=[
                samples_to(result.points, level * self.workload.target_loss) for level in LEVELS
            ],
            samples=result.samples,
            seconds=round(result.seconds, 5) if is_timed else None,
            wall_seconds=round(time.perf_counter() - began, 5) if is_timed else None,
        )
        self.runs[key] = run
        self.cache.parent.mkdir(exist_ok=True)
        with self.cache.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(run)) + "\n")
        return run

    @cached_property
    def _sent(self) -> SentBranches | None:
        return None if self._executor is None else SentBranches(self._executor, self.ground)

    def _request(self, batch_size: int, learning_rate: float, seed: int) -> BranchRequest:
        """A run, and where it is hopeless by what is known now."""
        seconds = _HOPELESS_SECONDS * self._least(None)
        most = min(
            _HOPELESS_SAMPLES * self._least(batch_size) / self.step_seconds[batch_size],
            (seconds if seconds < math.inf else 60.0) / self.step_seconds[batch_size],
        )
        return BranchRequest(
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            target=self.workload.target_loss,
            most_samples=(most + 2) * batch_size,
            most_seconds=math.inf,
        )

    def repeat(self, run: SweepRun) -> None:
        """A run that there is, once more."""
        branch = self._branch(run.batch_size, run.learning_rate, run.seed)
        branch.advance(target=self.workload.target_loss, most_samples=run.samples)
        branch.close()

    def _branch(self, batch_size: int, learning_rate: float, seed: int) -> Branch:
        # Which samples come does not depend on who loads them, and a sweep of hours shares the
        # machine with others: without a second thread nobody waits for being woken.
        return Branch(
            self.ground,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            loader_threads=0,
        )

    @cached_property
    def step_seconds(self) -> dict[int, float]:
        """The seconds of a step by batch size, roughly: the least of many, to tell the hopeless."""
        found = {}
        for size in sizes_of(self.workload, len(self.ground.train)):
            branch = self._branch(size, self.workload.learning_rate * 1e-3, 0)
            readings = []
            while len(readings) < 5 or (sum(readings) < 0.2 and len(readings) < 500):
                before, steps = branch.seconds, branch.steps
                branch.advance(target=0.0, most_samples=branch.samples + size)
                readings.append((branch.seconds - before) / (branch.steps - steps))
            branch.close()
            found[size] = min(readings)
        return found

    def _least(self, batch_size: int | None) -> float:
        """The least seconds to the target, as the median over seeds, of one size or of all."""
        by_setting: dict[tuple[int, float], list[float]] = {}
        for (size, rate, _), run in self.runs.items():
            if batch_size in (None, size):
                seconds = run.to_target / size * self.step_seconds[size]
                by_setting.setdefault((size, rate), []).append(seconds)
        return min(map(statistics.median, by_setting.values()), default=math.inf)

    def tune(self, batch_size: int, first_rate: float) -> float:
        """The best rate of a size: a search by factors of two, then √2 and all seeds."""
        rates = {first_rate: self.run(batch_size, first_rate, 0)}
        while True:
            best = min(
                rates, key=lambda rate: (_rank(rates[rate]), abs(math.log(rate / first_rate)))
            )
            missing = [rate for rate in (best / 2, best * 2) if rate not in rates]
            if not missing or len(rates) > 16:
                break
            rates[missing[0]] = self.run(batch_size, missing[0], 0)
        tuned = {rate: self._samples(batch_size, rate) for rate in around(best)}
        for _ in range(_MOST_FURTHER):
            least = min(tuned, key=lambda rate: tuned[rate])
            if tuned[least] == math.inf or min(tuned) < least < max(tuned):
                break
            further = least * math.sqrt(2) if least == max(tuned) else least / math.sqrt(2)
            tuned[further] = self._samples(batch_size, further)
        return best

    def _samples(self, batch_size: int, rate: float) -> float:
        """The samples at a rate over all seeds; infinite where too many were given up."""
        seeds = range(self.workload.seeds)
        if self._sent is not None:
            done = {key[2] for key in self.runs if key[:2] == (batch_size, round(rate, 9))}
            self._sent.foresee(
                [self._request(batch_size, rate, seed) for seed in seeds if seed not in done]
            )
        runs = [self.run(batch_size, rate, seed) for seed in seeds]
        if sum(math.isinf(run.to_target) for run in runs) > MOST_GIVEN_UP * len(runs):
            return math.inf
        return statistics.geometric_mean(min(run.to_target, run.samples) for run in runs)

    def whole(self, samples: int) -> Iterator[int]:
        """Sweep all sizes from the middle outwards; gives each size when it is done."""
        sizes = sizes_of(self.workload, samples)
        middle = sizes.index(32)
        best = {32: self.tune(32, self.workload.learning_rate)}
        yield 32
        for order in (range(middle + 1, len(sizes)), range(middle - 1, -1, -1)):
            rate, last = best[32], 32
            for position in order:
                size = sizes[position]
                # Half way between the linear rule and the square root.
                rate = _on_grid(rate * (size / last) ** 0.75, self.workload.learning_rate)
                rate, last = self.tune(size, rate), size
                best[size] = rate
                yield size


def around(rate: float) -> list[float]:
    """One factor of two around a rate, in steps of √2."""
    return [rate * 2 ** (half / 2) for half in range(-2, 3)]


def _on_grid(rate: float, origin: float) -> float:
    return origin * 2.0 ** round(math.log2(rate / origin))


def _rank(run: SweepRun) -> float:
    return run.to_target


def read_runs(cache: Path) -> list[SweepRun]:
    """The runs in the cache."""
    if not cache.exists():
        return []
    lines = cache.read_text(encoding="utf-8").splitlines()
    return [SweepRun(**json.loads(line)) for line in lines if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    parser.add_argument("--cache", type=Path, default=CACHE)
    add_executor_options(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with open_executor(arguments) as executor:
        sweep_all(arguments, executor)


def sweep_all(arguments: argparse.Namespace, executor: Executor | None) -> None:
    """Sweep the workloads that were asked for."""
    for workload in WORKLOADS.values():
        if arguments.only.lower() not in workload.name.lower():
            continue
        sweep = Sweep(workload, arguments.cache, executor)
        samples = len(workload.parts().train)
        for size in sweep.whole(samples):
            runs = [run for run in sweep.runs.values() if run.batch_size == size]
            by_rate: dict[float, list[float]] = {}
            for run in runs:
                by_rate.setdefault(run.learning_rate, []).append(run.to_target)
            full = {r: v for r, v in by_rate.items() if len(v) >= workload.seeds}
            rate = min(full, key=lambda r: statistics.fmean(map(math.log, full[r])))
            print(
                f"{workload.name}: batch {size:,}: rate {rate:.4g}, "
                f"{statistics.median(full[rate]):,.0f} samples, "
                f"{sum(run.wall_seconds or 0.0 for run in runs):.1f} s for {len(runs)} runs",
                flush=True,
            )


if __name__ == "__main__":
    main()
