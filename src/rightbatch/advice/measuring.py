"""The measurements of an advice, one after the other, and what is concluded from them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from rightbatch.advice.advice import Advice, Goal
from rightbatch.advice.branch import Branch, Ground, Model
from rightbatch.advice.choice import (
    Choice,
    choose_for_epochs,
    choose_for_speed,
    choose_for_target,
)
from rightbatch.advice.evidence import Evidence, alerts_of, reasons_of
from rightbatch.advice.law import Law
from rightbatch.advice.loop_speed import measure_loop
from rightbatch.advice.memory import Memory
from rightbatch.advice.memory_probe import measure_memory
from rightbatch.advice.noise import measure_noise
from rightbatch.advice.noise_scale import Noise
from rightbatch.advice.pilot import Outcome, PilotSearch
from rightbatch.advice.pilot_result import Pilot
from rightbatch.advice.pilot_summary import infer_from_pilot, law_of, summarise
from rightbatch.advice.progress import AdviceProgress, AdviceWatcher
from rightbatch.advice.rates import REFERENCE_BATCH_SIZE, companions_of, rate_at
from rightbatch.advice.samples_posterior import SamplesPosterior, prior_samples
from rightbatch.advice.timing import Speed
from rightbatch.errors import OptionError
from rightbatch.loading.parts import Parts
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE
from rightbatch.training.options import FitOptions
from rightbatch.training.provenance import Provenance

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
_LEAST_SPEED_SECONDS, _MOST_SPEED_SECONDS, _SPEED_EPOCHS = 1.0, 4.0, 3.0
_LEAST_NOISE_SECONDS, _MOST_NOISE_SECONDS = 0.5, 5.0
# Where epochs are the goal, a branch needs no more of them than this to show its trend.
_LEAST_PILOT_SECONDS = 0.5


class Measuring:
    """Measures memory, speed and noise, trains the branches of a pilot, and chooses."""

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
    ) -> None:
        self._model = model
        self._parts = parts
        self._options = options
        self._goal = goal
        self._is_pilot = is_pilot
        self._budget = budget_seconds
        self._device = device
        self._watcher = watcher
        self._began = time.perf_counter()

    def run(
        self,
        sizes: Sequence[int],
        *,
        memory_limit: str | int | float | None,
        probe_memory: bool,
        command: str | None,
    ) -> Advice:
        """All measurements, and the advice."""
        memory = self._memory(sizes, memory_limit) if probe_memory else None
        ground = Ground(self._model, self._parts, self._options, device=self._device)
        self._refuse_reached(ground)
        coupled = ground.why_coupled()
        if coupled is not None:
            # A layer that normalises over the batch can not take one sample alone.
            count = len(self._parts.train)
            sizes = [size for size in sizes if 1 not in (size, count % size)] or list(sizes)
        together = None if memory is None else _most_together(memory, sizes)
        if together is not None:
            if coupled is not None:
                sizes = [size for size in sizes if size <= together]
            else:
                ground.most_together = together
        speed = self._speed(ground, sizes)
        step_seconds = {point.batch_size: point.seconds_per_batch for point in speed.points}
        noise = self._noise(ground, speed, coupled)
        pilot: Pilot | None = None
        law: Law | None = None
        rate, source = None, ""
        if coupled is not None:
            choice = choose_for_speed(step_seconds, largest=None)
        else:
            prior, factor = _prior(noise, _PILOT_FACTOR if self._is_pilot else _QUICK_FACTOR)
            posterior = prior_samples(list(step_seconds), prior_critical=prior, prior_factor=factor)
            candidates = list(step_seconds)
            if self._is_pilot:
                first = self._choose(posterior, step_seconds, candidates).batch_size
                outcome = self._pilot(ground, step_seconds, first, (prior, factor))
                if outcome.rates:
                    posterior, levels = infer_from_pilot(
                        outcome,
                        list(step_seconds),
                        prior_critical=prior,
                        prior_factor=factor,
                        target_loss=self._goal.target_loss,
                        seed=self._options.seed,
                    )
                    candidates = list(outcome.rates)
                else:
                    levels = []
                pilot = summarise(outcome, posterior, levels, step_seconds, self._goal.target_loss)
                law = law_of(posterior, levels)
            else:
                law = law_of(posterior, [])
            choice = self._choose(posterior, step_seconds, candidates)
            if pilot is not None and pilot.sizes:
                rate = next(
                    size.learning_rate
                    for size in pilot.sizes
                    if size.batch_size == choice.batch_size
                )
                source = "the best of the pilot's search at this size"
        if rate is None:
            rate, source = rate_at(
                choice.batch_size, self._options, None if law is None else law.critical_batch_size
            )
        micro = None
        if ground.most_together is not None and choice.batch_size > ground.most_together:
            micro = ground.most_together
        evidence = Evidence(
            goal=self._goal,
            choice=choice,
            memory=memory,
            speed=speed,
            noise=noise,
            pilot=pilot,
            law=law,
            coupled=coupled,
            micro_batch_size=micro,
            has_validation=self._parts.val is not None,
            training_samples=len(self._parts.train),
        )
        has_piloted = pilot is not None and bool(pilot.sizes)
        return Advice(
            batch_size=choice.batch_size,
            interval=choice.interval,
            grade="pilot" if has_piloted else "quick",
            goal=self._goal,
            learning_rate=rate,
            companions=companions_of(
                self._options, choice.batch_size, len(self._parts.train), source
            ),
            micro_batch_size=micro,
            accumulation_steps=1 if micro is None else math.ceil(choice.batch_size / micro),
            evaluation_batch_size=_evaluation_size(memory),
            reasons=reasons_of(evidence),
            alerts=alerts_of(evidence),
            memory=memory,
            speed=speed,
            noise=noise,
            pilot=pilot,
            law=law,
            costs=choice.costs,
            tested=sorted(step_seconds),
            seconds_spent=self._spent,
            model=ground.name,
            training_samples=len(self._parts.train),
            settings={
                "asked_grade": "pilot" if self._is_pilot else "quick",
                "budget_seconds": self._budget,
                **{
                    name: value
                    for name, value in self._options.to_json().items()
                    if name in ("learning_rate", "optimizer", "momentum", "l1", "l2", "seed")
                },
                "loss": ground.task.loss.name,
                "reference_batch_size": REFERENCE_BATCH_SIZE,
            },
            provenance=Provenance.of(self._parts, command=command),
        )

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
        )

    def _refuse_reached(self, ground: Ground) -> None:
        target = self._goal.target_loss
        if target is not None and ground.initial_loss <= target:
            raise OptionError(
                f"target_loss={target:g} is reached before the first step: the initial weights "
                f"have a validation loss of {ground.initial_loss:.4g}. Give a lower one"
            )

    def _speed(self, ground: Ground, sizes: Sequence[int]) -> Speed:
        self._tell("speed", "warming up")
        epoch = ground.epoch_seconds(min(256, max(sizes)))
        seconds = min(max(_SPEED_EPOCHS * epoch, _LEAST_SPEED_SECONDS), _MOST_SPEED_SECONDS)
        return measure_loop(
            ground,
            sizes,
            seconds=min(seconds, self._budget / 5),
            progress=lambda rounds: self._tell("speed", f"round {rounds.rounds:,}"),
        )

    def _noise(self, ground: Ground, speed: Speed, coupled: str | None) -> Noise:
        size = min(REFERENCE_BATCH_SIZE, len(self._parts.train))
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
        return measure_noise(
            ground,
            batch_size=size,
            learning_rate=self._options.learning_rate,
            seconds=min(seconds, self._budget / 6),
            most_samples=self._most_samples,
            target_loss=self._goal.target_loss or 0.0,
            progress=lambda _: self._tell("noise", "a short run"),
        )

    @property
    def _most_samples(self) -> float:
        if self._goal.epochs is None:
            return math.inf
        return float(self._goal.epochs * len(self._parts.train))

    def _choose(
        self, posterior: SamplesPosterior, step_seconds: dict[int, float], candidates: list[int]
    ) -> Choice:
        tested = list(step_seconds)
        if self._goal.kind == "target_loss":
            return choose_for_target(posterior, step_seconds, candidates=candidates, tested=tested)
        return choose_for_epochs(
            posterior,
            step_seconds,
            candidates=candidates,
            tested=tested,
            samples=int(self._most_samples),
        )

    def _pilot(
        self, ground: Ground, step_seconds: dict[int, float], first: int, prior: tuple[float, float]
    ) -> Outcome:
        self._tell("pilot", f"the first branch, batch size {first:,}")

        def start(batch_size: int, learning_rate: float, seed: int) -> Branch:
            return Branch(ground, batch_size=batch_size, learning_rate=learning_rate, seed=seed)

        rate, _ = rate_at(first, self._options, None)
        return PilotSearch(
            start,
            sizes=list(step_seconds),
            step_seconds=step_seconds,
            target_loss=self._goal.target_loss,
            most_samples=self._most_samples,
            prior_critical=prior[0],
            prior_factor=prior[1],
            first_size=first,
            first_rate=rate,
            seconds=max(self._budget - self._spent, _LEAST_PILOT_SECONDS),
            seed=self._options.seed,
            progress=lambda _, run: self._tell(
                "pilot", f"batch size {run.batch_size:,} at rate {run.learning_rate:.3g}"
            ),
        ).run()


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
    if memory.fit is not None and memory.limit_bytes is not None:
        left = memory.limit_bytes - memory.loaded_bytes
        if memory.fit.high(min(size for size in sizes if size > memory.cap)) <= left:
            # Time and not memory ended the probes.
            return None
    return memory.cap


def _evaluation_size(memory: Memory | None) -> int:
    cap = None if memory is None else memory.evaluation_cap
    return EVALUATION_BATCH_SIZE if cap is None else min(EVALUATION_BATCH_SIZE, cap)
