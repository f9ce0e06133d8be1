"""The measurements of an advice by several ranks, which are all to have one answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from typing_extensions import override

from rightbatch.advice.advice import CostPoint
from rightbatch.advice.choice import Choice
from rightbatch.advice.ground import Ground, Model
from rightbatch.advice.law import Law
from rightbatch.advice.measuring import Measuring
from rightbatch.advice.memory import Memory
from rightbatch.advice.noise_scale import Noise
from rightbatch.advice.pilot_result import Pilot
from rightbatch.advice.rank_memory import least_room, of_global_batches, shares_of
from rightbatch.advice.rank_noise import measure_rank_noise
from rightbatch.advice.rank_shares import RankShares
from rightbatch.advice.rank_speed import measure_shares
from rightbatch.advice.timing import Speed
from rightbatch.loading.parts import Parts
from rightbatch.plan.ranks import least_share
from rightbatch.training.options import FitOptions
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.provenance import describe_transforms
from rightbatch.training.rank_agreement import agree_on

# How often the others are told that rank 0 is still at work.
_WAITING_SECONDS = 20.0
_SHARES_SECONDS = 0.6
# A step of 128 of a network of 79,510 weights, MNIST, takes 2 ranks no longer than one of 32.
_NOISE_BATCHES = 4


class RankMeasuring(Measuring):
    """Measures memory, speed and noise of a training that several ranks share, and chooses.

    All ranks make one. What needs all of them (steps, and the noise that these tell) they measure
    together, and what does not, rank 0 for all: memory is that of a process, and how many samples a
    batch size needs does not depend on how many ranks share it. What rank 0 decides counts.
    """

    def __init__(self, *asked: Any, ranks: ProcessGroup, **options: Any) -> None:
        super().__init__(*asked, **options)
        self._ranks = self._group = ranks
        self._told_others = 0.0
        self._is_at_work = False

    @override
    def _tell(self, stage: str, text: str) -> None:
        super()._tell(stage, text)
        now = time.perf_counter()
        if self._is_at_work and now - self._told_others > _WAITING_SECONDS:
            self._told_others = now
            self._ranks.keep_waiting()

    def _on_first(self, function: Callable[[], Any]) -> Any:
        """What `function` gives on rank 0, as JSON; the others wait as long as that tells of it."""

        def work() -> Any:
            self._is_at_work, self._told_others = True, time.perf_counter()
            try:
                return function()
            finally:
                self._is_at_work = False

        return self._ranks.on_first(work)

    @override
    def _memory(self, sizes: Sequence[int], limit: str | int | float | None) -> Memory:
        world = self._ranks.world_size
        room, shares = least_room(self._ranks), shares_of(sizes, world)
        told = self._on_first(
            lambda: self._measure_memory(shares, limit, room=room, is_rank=True).to_json()
        )
        memory = Memory.from_json(told)
        return of_global_batches(memory, world, batch_sizes=sizes, samples=len(self._parts.train))

    @override
    def _check_start(self, ground: Ground) -> None:
        check = super()._check_start
        self._on_first(lambda: check(ground))

    @override
    def _within_memory(
        self, ground: Ground, sizes: Sequence[int], memory: Memory | None, coupled: str | None
    ) -> Sequence[int]:
        sizes = super()._within_memory(ground, sizes, memory, coupled)
        world, count = self._ranks.world_size, len(self._parts.train)
        if ground.most_together is not None:
            # Found for the batches of all ranks, and asked of the share of one.
            ground.most_together = max(1, ground.most_together // world)
        if coupled is None:
            return sizes
        # No more does a share of one sample, or of none.
        return [
            size
            for size in sizes
            if least_share(size, world) > 1 and least_share(count % size or size, world) > 1
        ] or sizes

    @override
    def _measure_noise(self, ground: Ground, **how: Any) -> Noise:
        """Along a run at a larger batch, whose steps tell more for the communication they cost."""
        given: int = how["batch_size"]
        larger = min(_NOISE_BATCHES * given, len(self._parts.train))
        # With the rate in proportion to the size, SGD takes the same way; others do with the root.
        power = 1.0 if self._options.optimizer == "sgd" else 0.5
        rate = how["learning_rate"] * (larger / given) ** power
        noise = measure_rank_noise(
            ground, self._group, **{**how, "batch_size": larger, "learning_rate": rate}
        )
        has_told = noise.scale is not None or noise.low is not None
        return noise if has_told else measure_rank_noise(ground, self._group, **how)

    @override
    def _by_statistics(
        self, ground: Ground, step_seconds: dict[int, float], noise: Noise
    ) -> tuple[Choice, Pilot | None, Law]:
        """As rank 0 finds it: branches are trained there, and the others wait."""
        choose = super()._by_statistics
        told = self._on_first(lambda: _told(*choose(ground, step_seconds, noise)))
        pilot = told["pilot"]
        return (
            _choice(told["choice"]),
            None if pilot is None else Pilot.from_json(pilot),
            Law.from_json(told["law"]),
        )

    @override
    def _shares(self, ground: Ground, batch_size: int, speed: Speed) -> RankShares:
        self._tell("speed", "with and without communication")
        loading = (speed.loading_seconds_per_sample or 0.0) * self._ranks.world_size
        return measure_shares(
            ground,
            batch_size,
            self._ranks,
            seconds=min(_SHARES_SECONDS, self._budget / 10),
            loading=loading,
        )


def agree_on_advice(
    ranks: ProcessGroup,
    model: Model,
    parts: Parts,
    options: FitOptions,
    asked: dict[str, Any],
) -> None:
    """Raise RankError, naming what differs, unless all ranks ask about the same training."""
    own = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
    described = {
        "model": own,
        "options": options.to_json(),
        "sizes": parts.sizes,
        "split": parts.settings,
        "data": {"fingerprint": parts.fingerprint},
        **asked,
    }
    agree_on(ranks, described, describe_transforms(parts.train, parts.held_out_transforms))


def _told(choice: Choice, pilot: Pilot | None, law: Law) -> dict[str, Any]:
    return {
        "choice": asdict(choice),
        "pilot": None if pilot is None else pilot.to_json(),
        "law": law.to_json(),
    }


def _choice(told: dict[str, Any]) -> Choice:
    low, high = told["interval"]
    costs = [CostPoint(**cost) for cost in told["costs"]]
    return Choice(**{**told, "interval": (low, high), "costs": costs})
