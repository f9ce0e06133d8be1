"""How far the advised batch size is from the best of an exhaustive sweep, on seven workloads.

    python benchmarks/advice_regret.py                       # an hour, and hours without a sweep
    python benchmarks/advice_regret.py --only digits --fresh # one workload anew, in minutes

The regret of a size is its time to the target over the best size's, minus one. Times are the
samples to the target from the sweep (benchmarks/advice_sweep.py: the rate tuned at every size,
five seeds or more) times the seconds of a sample in the training loop, measured here. The sweep's
own time is that of its steps, times what some of its runs, run again here, take in all (looks at
the validation loss included, as they are in the pilot's time) over their steps. Sizes that
differ from the best by less than the standard error of the difference, as the sweep's seeds have
it, are ties of it. Memory is left out of the advice's time where it is set against the sweep's,
which measures none. What was measured is kept in benchmarks/results/ and measured again with
--fresh.

With --workers N or --dask ADDRESS the branches of the pilots run there, and the advices are kept in
a file of their own: more branches fit into a pilot's time. All that is timed (steps, and runs of
the sweep run again) is timed in this process, before or after.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rightbatch as rb
from advice_sweep import CACHE, MOST_GIVEN_UP, Sweep, SweepRun, read_runs, sizes_of
from advice_workloads import WORKLOADS, Workload
from executors import add_executor_options, open_executor
from rightbatch.advice.advise import advise
from rightbatch.advice.ground import Ground
from rightbatch.advice.law import StepTime, fit_samples_to_target, fit_step_time
from rightbatch.advice.loop_speed import measure_loop
from rightbatch.training.options import FitOptions

RESULTS = Path(__file__).parent / "results"
TIMES = RESULTS / "advice_times.json"
ADVICES = RESULTS / "advice_advices.jsonl"
ADVICES_BY_EXECUTOR = RESULTS / "advice_advices_by_executor.jsonl"
SEEDS = 5
_TIMING_SECONDS = 20.0
# So many runs of a sweep are run again, of those that take no longer than some seconds.
_AGAIN_RUNS, _AGAIN_SECONDS = 15, 4.0
# Where the sweep gave a size up, its time is above this many times the best.
_GIVEN_UP = 5.0


@dataclass(frozen=True, kw_only=True)
class Given:
    """One advice: what it said and what it took."""

    workload: str
    grade: str
    seed: int
    batch_size: int
    low: int
    high: int
    seconds: float
    with_memory: bool
    critical_batch_size: float | None
    branches: int


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the sweep says: relative times by size, their standard errors, the best and its ties."""

    times: dict[int, float]
    errors: dict[int, float]
    best: int
    half_batch_size: float
    best_seconds: float
    sweep_seconds: float
    runs: int
    samples: dict[int, float]
    rates: dict[int, float]

    def regret(self, batch_size: int) -> float:
        """Of a size: 0 for ties; between two swept sizes on a straight line over logarithms."""
        return 0.0 if batch_size in self.ties else self.excess(batch_size)

    def excess(self, batch_size: int) -> float:
        """The same without ties."""
        sizes = sorted(self.times)
        logs = np.log([self.times[size] for size in sizes])
        return float(math.exp(np.interp(math.log(batch_size), np.log(sizes), logs)) - 1.0)

    @property
    def ties(self) -> set[int]:
        """The best size and those that the sweep can not tell from it."""
        error = self.errors[self.best]
        return {
            size
            for size, seconds in self.times.items()
            if seconds - 1.0 <= math.hypot(error, self.errors.get(size, 0.0))
        }


def truth_of(
    workload: Workload, runs: Sequence[SweepRun], seconds: dict[int, float], wall_ratio: float
) -> Truth:
    """From the runs of a sweep, the seconds of a step by size, and those of all over the steps."""
    by_setting: dict[tuple[int, float], list[SweepRun]] = {}
    for run in runs:
        by_setting.setdefault((run.batch_size, round(run.learning_rate, 9)), []).append(run)
    best: dict[int, tuple[float, float]] = {}
    rates: dict[int, float] = {}
    for (size, rate), same in by_setting.items():
        given_up = sum(math.isinf(run.to_target) for run in same)
        if len(same) < workload.seeds or given_up > MOST_GIVEN_UP * len(same):
            continue
        # A run that was given up counts with what it had taken until then, which is too little.
        logs = np.log([min(run.to_target, run.samples) for run in same])
        samples = float(np.exp(logs.mean()))
        if size not in best or samples < best[size][0]:
            best[size] = samples, float(logs.std(ddof=1) / math.sqrt(len(logs)))
            rates[size] = rate
    times = {size: samples / size * seconds[size] for size, (samples, _) in best.items()}
    fastest = min(times, key=lambda size: times[size])
    relative = {
        size: times[size] / times[fastest] if size in times else _GIVEN_UP
        for size in sorted({run.batch_size for run in runs})
    }
    fit = fit_step_time(list(seconds), list(seconds.values()))
    return Truth(
        times=relative,
        errors={size: error for size, (_, error) in best.items()},
        best=fastest,
        half_batch_size=fit.half_batch_size,
        best_seconds=times[fastest],
        sweep_seconds=wall_ratio * sum(_steps_seconds(run, seconds) for run in runs),
        runs=len(runs),
        samples={size: samples for size, (samples, _) in sorted(best.items())},
        rates=rates,
    )


def _steps_seconds(run: SweepRun, seconds: dict[int, float]) -> float:
    return run.samples / run.batch_size * seconds[run.batch_size]


def wall_ratio(workload: Workload, runs: Sequence[SweepRun], seconds: dict[int, float]) -> float:
    """What runs of the sweep take in all over their steps, as the median of some run again."""
    sweep = Sweep(workload, CACHE)
    able = [run for run in runs if _steps_seconds(run, seconds) < _AGAIN_SECONDS]
    chosen = np.random.default_rng(0).permutation(len(able))[:_AGAIN_RUNS]
    _ = sweep.ground  # what all runs share is made once
    ratios = []
    for place in chosen:
        began = time.perf_counter()
        sweep.repeat(able[place])
        ratios.append((time.perf_counter() - began) / _steps_seconds(able[place], seconds))
    return max(1.0, statistics.median(ratios))


def step_seconds(
    workload: Workload, runs: Sequence[SweepRun], *, fresh: bool
) -> tuple[dict[int, float], float]:
    """Seconds of a step of the training loop by batch size, and `wall_ratio`; stored, or new."""
    stored: dict[str, Any] = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    if fresh or workload.name not in stored:
        parts = workload.parts()
        options = FitOptions(
            optimizer=workload.optimizer,
            learning_rate=workload.learning_rate,
            l2=workload.l2,
            threads=1,
        )
        timed = measure_loop(
            Ground(workload.model, parts, options),
            sizes_of(workload, len(parts.train)),
            seconds=_TIMING_SECONDS,
            until_saturated=False,
        )
        found = {point.batch_size: point.seconds_per_batch for point in timed.points}
        stored[workload.name] = {
            "step_seconds": {str(size): seconds for size, seconds in found.items()},
            "wall_ratio": wall_ratio(workload, runs, found),
        }
        TIMES.parent.mkdir(exist_ok=True)
        TIMES.write_text(json.dumps(stored, indent=1) + "\n")
    own = stored[workload.name]
    return {int(size): value for size, value in own["step_seconds"].items()}, own["wall_ratio"]


def advices(
    workload: Workload,
    *,
    fresh: bool,
    executor: Executor | None,
    tell: Callable[[str], None],
) -> list[Given]:
    """Five pilot and five quick advices, from the file or asked for."""
    file_of = ADVICES if executor is None else ADVICES_BY_EXECUTOR
    stored = []
    if file_of.exists():
        lines = file_of.read_text(encoding="utf-8").splitlines()
        stored = [Given(**json.loads(line)) for line in lines]
    mine = [given for given in stored if given.workload == workload.name]
    if fresh and mine:
        others = [given for given in stored if given.workload != workload.name]
        file_of.write_text("".join(json.dumps(asdict(given)) + "\n" for given in others))
        mine = []
    done = {(given.grade, given.seed) for given in mine}
    parts: rb.Parts | None = None
    for grade in ("pilot", "quick"):
        for seed in range(SEEDS):
            if (grade, seed) in done:
                continue
            parts = workload.parts() if parts is None else parts
            # The advice is given the same weights and orders in no run of the sweep.
            given = ask(
                workload,
                parts,
                grade,
                seed,
                with_memory=grade == "quick" and seed == 0,
                executor=executor if grade == "pilot" else None,
            )
            tell(
                f"{workload.name}: {grade} {seed}: {given.batch_size:,} "
                f"({given.low:,} to {given.high:,}) in {given.seconds:.1f} s"
            )
            mine.append(given)
            with file_of.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(given)) + "\n")
    return mine


def ask(
    workload: Workload,
    parts: rb.Parts,
    grade: str,
    seed: int,
    *,
    with_memory: bool,
    executor: Executor | None,
) -> Given:
    """One advice."""
    advice = advise(
        workload.model,
        parts,
        optimizer=workload.optimizer,
        learning_rate=workload.learning_rate,
        l2=workload.l2,
        target_loss=workload.target_loss,
        grade=grade,
        seed=1000 * (seed + 1),
        threads=1,
        probe_memory=with_memory,
        executor=executor,
    )
    return Given(
        workload=workload.name,
        grade=grade,
        seed=seed,
        batch_size=advice.batch_size,
        low=advice.interval[0],
        high=advice.interval[1],
        seconds=advice.seconds_spent,
        with_memory=with_memory,
        critical_batch_size=None if advice.law is None else advice.law.critical_batch_size,
        branches=0 if advice.pilot is None else len(advice.pilot.runs),
    )


def replay(samples: dict[int, float]) -> list[float]:
    """The regrets of the law fitted to the smaller half of a table, for latencies of all kinds.

    The sizes to choose from are all of the table, and n½ goes from its smallest size to its
    largest.
    """
    sizes = sorted(samples)
    half = sizes[: max(3, (len(sizes) + 1) // 2)]
    law = fit_samples_to_target(half, [samples[size] for size in half])
    regrets = []
    for latency in np.geomspace(sizes[0], sizes[-1], 50):
        time = StepTime(latency_seconds=float(latency), seconds_per_sample=1.0, p=1.0, residual=0.0)
        times = {size: samples[size] / size * time.seconds(size) for size in sizes}
        chosen = min(sizes, key=lambda size: law.steps(size) * time.seconds(size))
        regrets.append(times[chosen] / min(times.values()) - 1)
    return regrets


def report(found: list[tuple[Workload, Truth, list[Given]]]) -> None:
    """The tables, in Markdown."""
    print(
        "| workload | best in the sweep (ties) | T at best | sweep | pilot: size | regret | "
        "interval holds the best | pilot seconds, share of the sweep | quick: size | regret |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    everything: dict[str, list[float]] = {
        name: [] for name in ("pilot", "quick", "largest that fits", "always 32", "n½ alone")
    }
    raw: list[float] = []
    covered: list[bool] = []
    for workload, truth, given in found:
        pilots = [one for one in given if one.grade == "pilot"]
        quicks = [one for one in given if one.grade == "quick"]
        regrets = [truth.regret(one.batch_size) for one in pilots]
        raw += [truth.excess(one.batch_size) for one in pilots]
        holds = [any(one.low <= size <= one.high for size in truth.ties) for one in pilots]
        covered += holds
        everything["pilot"] += regrets
        quick_regrets = [truth.regret(one.batch_size) for one in quicks]
        everything["quick"] += quick_regrets
        half = min(truth.times, key=lambda size: abs(math.log(size / truth.half_batch_size)))
        for name, size in (
            ("largest that fits", max(truth.times)),
            ("always 32", 32),
            ("n½ alone", half),
        ):
            everything[name] += [truth.regret(size)] * len(pilots)
        seconds = statistics.median(one.seconds for one in pilots)
        ties = ", ".join(f"{size:,}" for size in sorted(truth.ties - {truth.best}))
        print(
            f"| {workload.name} | {truth.best:,}{f' ({ties})' if ties else ''} "
            f"| {truth.best_seconds:.3g} s | {truth.runs:,} runs, {truth.sweep_seconds:.0f} s "
            f"| {_sizes(pilots)} | {_shares(regrets)} | {sum(holds)} of {len(holds)} "
            f"| {seconds:.1f}, {seconds / truth.sweep_seconds:.1%} "
            f"| {_sizes(quicks)} | {_shares(quick_regrets)} |"
        )
    print()
    print("| way to choose | median regret | 90th percentile | worst |")
    print("| --- | --- | --- | --- |")
    for name, regrets in everything.items():
        print(f"| {name} | {_three(regrets)} |")
    print(f"| pilot, ties not counted as such | {_three(raw)} |")
    print()
    print(
        f"The interval holds the sweep's best or a tie of it in {sum(covered)} of {len(covered)}."
    )
    replayed = [regret for _, truth, _ in found for regret in replay(truth.samples)]
    print(
        "The law fitted to the smaller half of each table's sizes and asked at fifty latencies: "
        f"median regret {np.median(replayed):.1%}, 90th percentile "
        f"{np.quantile(replayed, 0.9):.1%}."
    )
    with_memory = [one for _, _, given in found for one in given if one.with_memory]
    slowest = max(one.seconds for one in with_memory)
    print(f"Quick advice, memory probes included: at most {slowest:.1f} s.")


def _three(regrets: list[float]) -> str:
    values = np.array(regrets)
    worst = values.max()
    bound = "≥ " if worst >= _GIVEN_UP - 1 else ""
    return f"{np.median(values):.1%} | {np.quantile(values, 0.9):.1%} | {bound}{worst:.1%}"


def _sizes(given: list[Given]) -> str:
    counts: dict[int, int] = {}
    for one in sorted(given, key=lambda one: one.batch_size):
        counts[one.batch_size] = counts.get(one.batch_size, 0) + 1
    return ", ".join(f"{count} x {size:,}" for size, count in counts.items())


def _shares(regrets: list[float]) -> str:
    return f"{statistics.median(regrets):.1%} (worst {max(regrets):.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    parser.add_argument("--fresh", action="store_true", help="measure times and advices anew")
    parser.add_argument("--cache", type=Path, default=CACHE, help="the runs of the sweep")
    add_executor_options(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with open_executor(arguments) as executor:
        measure_all(arguments, executor)


def measure_all(arguments: argparse.Namespace, executor: Executor | None) -> None:
    """Measure the workloads that were asked for, and print the tables."""
    runs = read_runs(arguments.cache)
    found = []
    for workload in WORKLOADS.values():
        if arguments.only.lower() not in workload.name.lower():
            continue
        own = [
            run
            for run in runs
            if run.workload == workload.name and run.target_loss == workload.target_loss
        ]
        if not own:
            print(f"{workload.name}: no sweep yet; run benchmarks/advice_sweep.py first")
            continue
        seconds, ratio = step_seconds(workload, own, fresh=arguments.fresh)
        given = advices(
            workload,
            fresh=arguments.fresh,
            executor=executor,
            tell=lambda text: print(text, flush=True),
        )
        found.append((workload, truth_of(workload, own, seconds, ratio), given))
    print(
        f"\n{date.today()}, {platform.machine()}, one thread, Python {platform.python_version()}, "
        f"torch {torch.__version__}\n"
    )
    if found:
        report(found)


if __name__ == "__main__":
    main()
