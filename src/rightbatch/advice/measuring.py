"""The measurements of an advice, one after the other, and what is concluded from them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import torch

from rightbatch.advice.advice import Goal
from rightbatch.advice.branch import Branch, epoch_seconds
from rightbatch.advice.choice import Choice, EpochsGoal, TargetGoal, choose_for_speed
from rightbatch.advice.evidence import Evidence
from rightbatch.advice.ground import Ground, Model
from rightbatch.advice.law import Law
from rightbatch.advice.loop_speed import measure_loop
from rightbatch.advice.memory import Memory
from rightbatch.advice.memory_probe import measure_memory
from rightbatch.advice.noise import measure_noise
from rightbatch.advice.noise_scale import Noise
from rightbatch.advice.pilot import PilotSearch
from rightbatch.advice.pilot_outcome import Outcome
from rightbatch.advice.pilot_result import Pilot
from rightbatch.advice.pilot_summary import infer_from_pilot, law_of, summarise
from rightbatch.advice.placement import Placement
from rightbatch.advice.progress import AdviceProgress, AdviceWatcher
from rightbatch.advice.rank_shares import RankShares, largest_share
from rightbatch.advice.rates import REFERENCE_BATCH_SIZE, rate_at
from rightbatch.advice.samples_posterior import prior_samples
from rightbatch.advice.sent_branches import SentBranches
from rightbatch.advice.step_times import steady_step_seconds
from rightbatch.advice.timing import Speed
from rightbatch.errors import OptionError
from rightbatch.loading.parts import Parts
from rightbatch.training.options import FitOptions
from rightbatch.training.ranks import Ranks

# B_simple is a biased predictor of B_crit: the ratio was 0.05 to 8 in McCandlish et al. (2018,
# table 1) and 0.6 to 5 on the sweeps of benchmarks/advice_regret.py, with 2.5 about the middle; a
# factor of 4 each way is what to believe of it alone.
_SIMPLE_PER_CRITICAL = 2.5
_QUICK_FACTOR = 4.0
# Where branches follow, they know better than any prior.
_PILOT_FACTOR = 8.0
_VAGUE_CRITICAL, _VAGUE_FACTOR = 256.0, 16.0
_MEMORY_SECONDS = 12.0
# The speed of a model that trains in seconds need not be known to a per cent.
_LEAST_SPEED_SECONDS, _MOST_SPEED_SECONDS, _SPEED_EPOCHS = 0.6, 4.0, 3.0
_LEAST_NOISE_SECONDS, _MOST_NOISE_SECONDS = 0.3, 5.0
_LEAST_PILOT_SECONDS = 0.5


class Measuring:
    """Measures memory, speed and noise, trains the branches of a pilot, and chooses."""

    _ranks = Ranks()

    def __init__(
        self,
        model: Model,
        parts: Parts,
        options: FitOptions,
        *,
        goal: Goal,
        is_pilot: bool,
        budget_seconds: float,
        device: str | torch.device | None,
        watcher: AdviceWatcher | None,
        executor: Executor | None = None,
    ) -> None:
        self._model = model
        self._parts = parts
        self._options = options
        self._goal = goal
        self._is_pilot = is_pilot
        self._budget = budget_seconds
        self._device = device
        self._watcher = watcher
        self._executor = executor
        self._branch_alerts: list[str] = []
        self._began = time.perf_counter()

    def run(
        self, sizes: Sequence[int], *, memory_limit: str | int | float | None, probe_memory: bool
    ) -> Evidence:
        """All measurements, and the size that follows from them."""
        memory = self._memory(sizes, memory_limit) if probe_memory else None
        ground = Ground(self._model, self._parts, self._options, device=self._device)
        self._check_start(ground)
        coupled = ground.why_coupled()
        sizes = self._within_memory(ground, sizes, memory, coupled)
        speed = self._speed(ground, sizes)
        noise = self._noise(ground, speed, coupled)
        step_seconds = steady_step_seconds(speed)
        pilot: Pilot | None = None
        law: Law | None = None
        if coupled is not None:
            read = {point.batch_size: point.seconds_per_batch for point in speed.points}
            choice = choose_for_speed(read)
        else:
            choice, pilot, law = self._by_statistics(ground, step_seconds, noise)
        return Evidence(
            goal=self._goal,
            choice=choice,
            memory=memory,
            speed=speed,
            noise=noise,
            pilot=pilot,
            law=law,
            coupled=coupled,
            micro_batch_size=ground.micro_batch_size(self._share(choice.batch_size)),
            ranks=self._shares(ground, choice.batch_size, speed),
            has_validation=self._parts.val is not None,
            training_samples=len(self._parts.train),
            model=ground.name,
            loss=ground.task.loss.name,
            branch_alerts=self._branch_alerts,
        )

    def _share(self, batch_size: int) -> int:
        """The samples of a batch that a process holds."""
        return largest_share(batch_size, self._ranks.world_size)

    def _shares(self, ground: Ground, batch_size: int, speed: Speed) -> RankShares | None:
        """What several ranks make of the chosen batch; None for one process."""
        del ground, batch_size, speed
        return None

    def _within_memory(
        self, ground: Ground, sizes: Sequence[int], memory: Memory | None, coupled: str | None
    ) -> Sequence[int]:
        """The sizes that can be run; `ground` cuts those beyond memory into micro-batches."""
        together = None if memory is None else _most_together(memory, sizes)
        if coupled is None:
            ground.most_together = together
            return sizes
        if together is not None:
            sizes = [size for size in sizes if size <= together] or [together]
        # A layer that normalises over the batch can not take one sample alone.
        count = len(self._parts.train)
        return [size for size in sizes if 1 not in (size, count % size)] or sizes

    def _by_statistics(
        self, ground: Ground, step_seconds: dict[int, float], noise: Noise
    ) -> tuple[Choice, Pilot | None, Law]:
        """What the noise scale says of samples, or the branches of a pilot, with the step times."""
        sizes = list(step_seconds)
        prior, factor = _prior(noise, _PILOT_FACTOR if self._is_pilot else _QUICK_FACTOR)
        posterior = prior_samples(sizes, prior_critical=prior, prior_factor=factor)
        goal = self._objective
        quick = goal.choose(posterior, step_seconds, candidates=sizes, is_relative=True)
        if not self._is_pilot:
            return quick, None, law_of(posterior, [])
        outcome = self._pilot(ground, step_seconds, quick.batch_size, (prior, factor))
        target = self._goal.target_loss
        if not outcome.rates:
            return (
                quick,
                summarise(outcome, posterior, [], step_seconds, target),
                law_of(posterior, []),
            )
        posterior, levels = infer_from_pilot(
            outcome,
            sizes,
            prior_critical=prior,
            prior_factor=factor,
            target_loss=target,
            seed=self._options.seed,
        )
        choice = goal.choose(
            posterior,
            step_seconds,
            candidates=outcome.rates,
            enough_samples=outcome.enough_samples,
        )
        pilot = summarise(outcome, posterior, levels, step_seconds, target)
        return choice, pilot, law_of(posterior, levels)

    @property
    def _spent(self) -> float:
        return time.perf_counter() - self._began

    def _tell(self, stage: str, text: str) -> None:
        if self._watcher is not None:
            spent = self._spent
            self._watcher(
                AdviceProgress(
                    stage=stage,
                    text=text,
                    seconds=spent,
                    total_seconds=max(self._budget, spent),
                )
            )

    def _memory(self, sizes: Sequence[int], limit: str | int | float | None) -> Memory:
        return self._measure_memory(sizes, limit)

    def _measure_memory(
        self, sizes: Sequence[int], limit: str | int | float | None, **of_ranks: Any
    ) -> Memory:
        self._tell("memory", "starting the process of the probes")
        return measure_memory(
            self._model,
            self._parts,
            options=self._options,
            memory_limit=limit,
            batch_sizes=sizes,
            device=self._device,
            seconds=min(_MEMORY_SECONDS, max(self._budget / 3, 2.0)),
            progress=lambda probe: self._tell(
                "memory", f"{probe.kind} at batch size {probe.batch_size:,}"
            ),
            **of_ranks,
        )

    def _check_start(self, ground: Ground) -> None:
        """Raise OptionError where the initial weights reach the goal already, or give no number."""
        if not math.isfinite(ground.initial_loss):
            raise OptionError(
                f"the initial weights have a loss of {ground.initial_loss}, from which no training "
                "can start: look at the model's outputs, and at the scale of the inputs "
                "(rb.standardize())"
            )
        target = self._goal.target_loss
        if target is not None and ground.initial_loss <= target:
            raise OptionError(
                f"target_loss={target:g} is reached before the first step: the initial weights "
                f"have a validation loss of {ground.initial_loss:.4g}. Give a lower one"
            )

    def _speed(self, ground: Ground, sizes: Sequence[int]) -> Speed:
        self._tell("speed", "warming up")
        epoch = epoch_seconds(ground, min(256, max(sizes)))
        seconds = min(max(_SPEED_EPOCHS * epoch, _LEAST_SPEED_SECONDS), _MOST_SPEED_SECONDS)
        return measure_loop(
            ground,
            sizes,
            seconds=min(seconds, self._budget / 5),
            progress=lambda rounds: self._tell("speed", f"round {rounds.rounds:,}"),
            ranks=self._ranks,
        )

    def _noise(self, ground: Ground, speed: Speed, coupled: str | None) -> Noise:
        # Ranks without samples would tell nothing.
        size = min(max(REFERENCE_BATCH_SIZE, self._ranks.world_size), len(self._parts.train))
        if coupled is not None:
            return Noise(
                scale=None,
                low=None,
                high=None,
                method="none",
                batch_size=size,
                learning_rate=self._options.learning_rate,
                refused=coupled,
            )
        self._tell("noise", "a short run")
        epoch = speed.fastest.seconds_per_sample * len(self._parts.train)
        seconds = min(max(_SPEED_EPOCHS * epoch, _LEAST_NOISE_SECONDS), _MOST_NOISE_SECONDS)
        return self._measure_noise(
            ground,
            batch_size=size,
            learning_rate=self._options.learning_rate,
            seconds=min(seconds, self._budget / 6),
            most_samples=(self._goal.epochs or math.inf) * len(self._parts.train),
            target_loss=self._goal.target_loss or 0.0,
            progress=lambda _: self._tell("noise", "a short run"),
        )

    def _measure_noise(self, ground: Ground, **how: Any) -> Noise:
        return measure_noise(ground, **how)

    @property
    def _objective(self) -> TargetGoal | EpochsGoal:
        """The goal as choices are made by it."""
        if self._goal.target_loss is not None:
            return TargetGoal(loss=self._goal.target_loss)
        assert self._goal.epochs is not None  # one of the two is given
        return EpochsGoal(samples=float(self._goal.epochs * len(self._parts.train)))

    def _pilot(
        self, ground: Ground, step_seconds: dict[int, float], first: int, prior: tuple[float, float]
    ) -> Outcome:
        self._tell("pilot", f"the first branch, batch size {first:,}")

        def start(batch_size: int, learning_rate: float, seed: int) -> Branch:
            return Branch(ground, batch_size=batch_size, learning_rate=learning_rate, seed=seed)

        sent = None if self._executor is None else SentBranches(self._executor, ground)
        rate, _ = rate_at(first, self._options, None)
        search = PilotSearch(
            start if sent is None else sent.start,
            sizes=list(step_seconds),
            step_seconds=step_seconds,
            goal=self._objective,
            prior_critical=prior[0],
            prior_factor=prior[1],
            first_size=first,
            first_rate=rate,
            seconds=max(self._budget - self._spent, _LEAST_PILOT_SECONDS),
            seed=self._options.seed,
            progress=lambda _, run: self._tell(
                "pilot", f"batch size {run.batch_size:,} at rate {run.learning_rate:.3g}"
            ),
            foresee=None if sent is None else sent.foresee,
        )
        if sent is None:
            return search.run()
        try:
            return search.run()
        finally:
            sent.close()
            self._branch_alerts = sent.alerts(Placement.until_now(time.time()))


def _prior(noise: Noise, factor: float) -> tuple[float, float]:
    """Where B_crit is believed to be, and to what factor each way."""
    if noise.scale is not None:
        return noise.scale / _SIMPLE_PER_CRITICAL, factor
    if noise.low is not None:
        # Open upwards: the bound is the least that can be said.
        return max(noise.low, 1.0), _VAGUE_FACTOR
    return _VAGUE_CRITICAL, _VAGUE_FACTOR


def _most_together(memory: Memory, sizes: Sequence[int]) -> int | None:
    """The samples that memory holds at a time; None where no size asked for is beyond it."""
    if memory.cap is None or memory.cap >= max(sizes):
        return None
    if memory.holds(min(size for size in sizes if size > memory.cap)):
        # Time and not memory ended the probes.
        return None
    return memory.cap
