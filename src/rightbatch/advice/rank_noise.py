"""The gradient noise scale from the steps of several ranks, without a pass beyond them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from rightbatch.advice.branch import Branch
from rightbatch.advice.gradient_pair import GradientPairs
from rightbatch.advice.ground import Ground
from rightbatch.advice.noise import diverged_noise, summarise
from rightbatch.advice.noise_scale import Noise, NoisePoint
from rightbatch.training.optimizers import Optimizer
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.rank_step import RankStep
from rightbatch.training.step import Gradient, Step

METHOD = "pairs of ranks"
# Looks at what the steps have told, after this many samples and every factor further on.
_FIRST_LOOK = 512
_LOOK_FACTOR = 2.0
_MOST_LOOKS = 16
# Fewer steps tell nothing by themselves.
_LEAST_STEPS = 16
# Between two words about the time: rank 0's clock counts.
_CHUNK_SECONDS = 0.1


class PairStep(RankStep):
    """A step that notes the squared norm of its share's gradient, and of the batch's.

    `pairs` has a row a step: |g_share|² and the samples of the share, then |Σ g|² over all ranks;
    gradients of tokens are sums over a sample's.
    """

    def __init__(self, gradient: Gradient, optimizer: Optimizer, **options: Any) -> None:
        super().__init__(gradient, optimizer, **options)
        self.pairs: list[tuple[float, int, float]] = []
        self._square = 0.0
        if self._around is not None:
            # torch wants its own types as annotations, or none.
            self._around.register_comm_hook(None, lambda group, bucket: self._note(group, bucket))

    def _note(self, group: Any, bucket: Any) -> Any:
        """Note the share's gradient in a bucket of DistributedDataParallel, and pass it on."""
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        self._square += _square(bucket.buffer())
        return allreduce_hook(group, bucket)

    @override
    def _exact_mean(self, inputs: Any, target: Tensor, total: int, size: int) -> float:
        self._square = 0.0
        mean = super()._exact_mean(inputs, target, total, size)
        gradients = [parameter.grad for parameter in self.gradient.parameters]
        whole = sum(_square(gradient) for gradient in gradients if gradient is not None)
        # DistributedDataParallel takes the mean over the ranks, and shares are larger for that.
        of_share = total if self._around is None else total / self._ranks.world_size
        samples = len(target)
        share = self._square * (of_share / samples) ** 2 if samples else 0.0
        self.pairs.append((share, samples, whole * total**2))
        return mean

    @override
    def _add_up_closed_form(self, share: Tensor) -> float:
        for parameter in self.gradient.parameters:
            assert parameter.grad is not None  # the closed form has made it
            self._square += _square(parameter.grad)
        return super()._add_up_closed_form(share)


class PairBranch(Branch):
    """A branch of several ranks whose steps tell the gradient noise."""

    @override
    def _make_step(self, gradient: Gradient, optimizer: Optimizer) -> Step:
        assert isinstance(self._ranks, ProcessGroup)  # one process has no pairs
        return PairStep(gradient, optimizer, **self._rank_options(self._ranks))

    def take_pairs(self) -> GradientPairs:
        """What the steps since the last call have told; every rank has all of it."""
        assert isinstance(self._step, PairStep)  # made above
        own = np.array(self._step.pairs, np.float64)
        self._step.pairs.clear()
        told = self._ranks.gather(own.reshape(-1).tolist()).reshape(-1, len(own), 3)
        samples = told[:, :, 1]
        # What rounding makes of the sums may differ in the last bit: rank 0's are taken.
        return GradientPairs.of(
            told[:, :, 0], samples, told[0, :, 2] / np.square(samples.sum(axis=0))
        )


def measure_rank_noise(
    ground: Ground,
    ranks: ProcessGroup,
    *,
    batch_size: int,
    learning_rate: float,
    seconds: float,
    most_samples: float = math.inf,
    target_loss: float = 0.0,
    progress: Callable[[float], None] | None = None,
) -> Noise:
    """The gradient noise scale along a run of several ranks at this global batch size.

    Every rank calls it, and all have one result. The run goes on for `seconds` by rank 0's clock,
    up to `most_samples` or the target loss; each stretch of it, as long as all before, is a look at
    the noise of its own steps (see `GradientPairs`). `progress` is called with the seconds spent.
    """
    began = time.perf_counter()
    branch = PairBranch(
        ground,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=ground.options.seed,
        ranks=ranks,
    )
    looks: list[NoisePoint] = []
    later: list[GradientPairs] = []
    goal, is_last, chunk = float(_FIRST_LOOK), False, 1
    try:
        while not is_last and len(looks) < _MOST_LOOKS:
            end = min(goal, most_samples)
            steps = 0
            while branch.samples < end and not is_last and not branch.has_diverged:
                most = math.ceil((end - branch.samples) / batch_size)
                step_seconds = branch.run(_after(min(chunk, most)))
                steps += min(chunk, most)
                spent = time.perf_counter() - began
                told = ranks.gather([_CHUNK_SECONDS / step_seconds, spent > seconds])[0]
                chunk, is_last = max(1, int(told[0])), bool(told[1])
                if progress is not None:
                    progress(spent)
            branch.look()
            is_end = (
                branch.has_diverged
                or branch.samples >= most_samples
                or branch.smoothed_loss <= target_loss
            )
            is_last = is_last or bool(ranks.gather([is_end])[0, 0])
            if branch.has_diverged:
                break
            if steps >= _LEAST_STEPS or not looks:
                pairs = branch.take_pairs()
                if len(pairs) > 1:
                    if looks:
                        later.append(pairs)
                    looks.append(_looked(branch, pairs, ranks))
            goal *= _LOOK_FACTOR
    finally:
        branch.close()
    has_diverged = bool(ranks.gather([branch.has_diverged])[0, 0])
    if has_diverged:
        return diverged_noise(
            looks, method=METHOD, batch_size=batch_size, learning_rate=learning_rate
        )
    settings: dict[str, Any] = {
        "method": METHOD,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    noise = summarise(looks, **settings)
    if noise.scale is None and len(later) > 1:
        # What no stretch tells by itself, all but the first may tell together.
        together = _looked(branch, GradientPairs.joined(later), ranks)
        noise = replace(summarise([looks[0], together], **settings), trajectory=looks)
    return noise


def _after(steps: int) -> Callable[[int, float], bool]:
    return lambda taken, _: taken >= steps


def _looked(branch: PairBranch, pairs: GradientPairs, ranks: ProcessGroup) -> NoisePoint:
    """The noise scale that these steps tell, at where the branch is now."""
    inverse, low, high = pairs.inverse_interval()
    return NoisePoint(
        samples=branch.samples,
        loss=float(ranks.gather([branch.points[-1].loss])[0, 0]),
        scale=1.0 / inverse if low > 0 else None,
        low=1.0 / high if high > 0 else 0.0,
        high=1.0 / low if low > 0 else None,
        measured_on=int(pairs.samples.sum()),
    )


def _square(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2
