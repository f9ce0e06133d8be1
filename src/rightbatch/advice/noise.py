"""The gradient noise scale, measured along a short run."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from rightbatch.advice.branch import Branch
from rightbatch.advice.ground import Ground
from rightbatch.advice.noise_scale import Noise, NoisePoint
from rightbatch.advice.sample_norms import SampleNorms, find_sample_norms
from rightbatch.advice.subject import Pool
from rightbatch.training.settings import run_settings
from rightbatch.training.step import Gradient, find_gradient

Floats = NDArray[np.float64]

# The jackknife leaves out one group of samples at a time.
_GROUPS = 16
_FIRST_SAMPLES = 128
_MOST_SAMPLES = 16_384
# An interval whose ends differ by more than this is not resolved yet.
_RESOLVED = 4.0
_TAIL = 0.025
# Looks at the noise along the run, after this many samples and every factor further on.
_FIRST_LOOK = 512
_LOOK_FACTOR = 3.0
_MOST_LOOKS = 8


def measure_noise(
    ground: Ground,
    *,
    batch_size: int,
    learning_rate: float,
    seconds: float,
    most_samples: float = math.inf,
    target_loss: float = 0.0,
    progress: Callable[[float], None] | None = None,
) -> Noise:
    """The gradient noise scale along a run at this batch size and learning rate.

    The run goes on for `seconds`, looks included, up to `most_samples` or the target. At each look
    the gradients of training samples are taken, twice as many each time until the 95 % interval
    of 1/B_simple excludes zero and its ends differ by no more than a factor of 4. `progress` is
    called with the seconds spent.
    """
    began = time.perf_counter()
    branch = Branch(
        ground, batch_size=batch_size, learning_rate=learning_rate, seed=ground.options.seed
    )
    pool = Pool(
        ground.train,
        min(_MOST_SAMPLES, len(ground.train)),
        seed=ground.options.seed + 1,
        device=None,
    )
    looks: list[NoisePoint] = []
    goal = 0.0
    method = "micro-batches"
    try:
        while len(looks) < _MOST_LOOKS:
            spare = seconds - (time.perf_counter() - began)
            with run_settings(ground.options.seed):
                torch.set_num_threads(ground.threads(_FIRST_SAMPLES))
                gradient = find_gradient(branch.copy_network(), ground.task.loss)
                norms = find_sample_norms(gradient, next(pool.pieces(2)))
                method = "micro-batches" if norms is None else "per-sample"
                looks.append(
                    _look(
                        gradient, norms, pool, samples=branch.samples, seconds=max(spare / 3, 0.05)
                    )
                )
            if progress is not None:
                progress(time.perf_counter() - began)
            spent = time.perf_counter() - began
            if (
                spent > seconds
                or branch.has_diverged
                or branch.samples >= most_samples
                or branch.smoothed_loss <= target_loss
            ):
                break
            goal = max(_FIRST_LOOK, goal * _LOOK_FACTOR)
            branch.advance(
                target=target_loss,
                most_samples=min(goal, most_samples),
                most_seconds=branch.seconds + max(seconds - spent, 0.0) / 2,
            )
    finally:
        branch.close()
    if branch.has_diverged:
        return diverged_noise(
            looks, method=method, batch_size=batch_size, learning_rate=learning_rate
        )
    return summarise(looks, method=method, batch_size=batch_size, learning_rate=learning_rate)


def diverged_noise(
    looks: Sequence[NoisePoint], *, method: str, batch_size: int, learning_rate: float
) -> Noise:
    """The refusal of a run that ran away."""
    return Noise(
        scale=None,
        low=None,
        high=None,
        method=method,
        batch_size=batch_size,
        learning_rate=learning_rate,
        trajectory=list(looks),
        refused=(
            f"the run at batch size {batch_size:,} diverged at the rate {learning_rate:g}, so "
            "its gradients say nothing of training: lower the learning rate"
        ),
    )


def summarise(
    looks: Sequence[NoisePoint], *, method: str, batch_size: int, learning_rate: float
) -> Noise:
    """The scale of a run from the looks along it; refused where too little is resolved.

    A look at the scale B stands for the samples up to the next one, and weighs as the law of the
    steps asks for: w = 1/(1 + B/B_run), B_run being the size that the run was made with, since
    where noise dominates the samples are what counts, and elsewhere the steps.

    >>> looks = [NoisePoint(samples=n, loss=1.0, scale=100.0, low=50.0, high=200.0, measured_on=512)
    ...          for n in (0, 512, 1536)]
    >>> round(summarise(looks, method="per-sample", batch_size=32, learning_rate=0.1).scale)
    100
    """
    settings: dict[str, Any] = {
        "method": method,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "trajectory": list(looks),
    }
    # The initial weights say little: the noise scale grows tenfold and more from there.
    later = list(looks)[1:] or list(looks)
    resolved = [look for look in later if look.scale is not None and look.high is not None]
    if 2 * len(resolved) <= len(later):
        low = max(look.low for look in later) if later else 0.0
        return Noise(
            scale=None,
            low=low or None,
            high=None,
            refused=(
                "the gradients of "
                f"{max((look.measured_on for look in later), default=0):,} samples do not tell "
                "their mean from zero: any batch size "
                f"{f'from about {low:,.0f} on ' if low else ''}may be useful"
            ),
            **settings,
        )
    spans = np.diff([0, *(max(look.samples, 1) for look in resolved)])
    scales = np.array([look.scale for look in resolved], dtype=np.float64)
    weights = np.maximum(spans, 1) / (1.0 + scales / batch_size)
    weights /= weights.sum()

    def mean(name: str) -> float:
        values = np.array([getattr(look, name) for look in resolved], dtype=np.float64)
        return float(math.exp((weights * np.log(values)).sum()))

    return Noise(scale=mean("scale"), low=mean("low"), high=mean("high"), refused=None, **settings)


def _look(
    gradient: Gradient,
    norms: SampleNorms | None,
    pool: Pool,
    *,
    samples: int,
    seconds: float,
) -> NoisePoint:
    """The noise scale at the present weights, with as many samples as it takes, or as there are."""
    began = time.perf_counter()
    groups = _Groups(gradient, norms)
    most = pool.samples // _GROUPS
    size = min(_FIRST_SAMPLES // _GROUPS, most)
    if size == 0:
        # Fewer samples than groups: one each.
        for piece in pool.pieces(1):
            groups.add(*piece)
    else:
        for piece in itertools.islice(pool.pieces(size), _GROUPS):
            groups.add(*piece)
    while True:
        inverse, low, high = groups.inverse_interval()
        is_resolved = low > 0 and high <= _RESOLVED * low
        is_late = time.perf_counter() - began > seconds
        if is_resolved or is_late or size == 0 or 2 * size > most:
            break
        for piece in itertools.islice(pool.pieces(size, first=_GROUPS * size), _GROUPS):
            groups.add(*piece)
        groups.merge()
        size *= 2
    return NoisePoint(
        samples=samples,
        loss=groups.loss,
        scale=1.0 / inverse if low > 0 else None,
        low=1.0 / high if high > 0 else 0.0,
        high=1.0 / low if low > 0 else None,
        measured_on=groups.count,
    )


class _Groups:
    """Sums of gradients in groups of equal numbers of samples, and what follows from them."""

    def __init__(self, gradient: Gradient, norms: SampleNorms | None) -> None:
        self._gradient = gradient
        self._norms = norms
        self._sums: list[Tensor] = []
        self._squares: list[float] = []
        self._sizes: list[int] = []
        self._losses = 0.0
        self._weight = 0

    @property
    def count(self) -> int:
        """How many samples there are in all groups."""
        return sum(self._sizes)

    @property
    def loss(self) -> float:
        """The mean loss of all samples, or of their unmasked tokens."""
        return self._losses / max(1, self._weight)

    def add(self, inputs: Any, target: Tensor | None) -> None:
        """A further group: the sum of its gradients, and of their squared norms.

        Of tokens, a sample's loss is their sum: the scale is a ratio of squared gradients, so that
        it is that of means where all samples have as many tokens.
        """
        assert target is not None  # there is no gradient without a target
        size = len(target)
        mean = self._gradient.accumulate(inputs, target, total=size, is_first=True)
        flat = torch.cat(
            [
                parameter.grad.reshape(-1)
                for parameter in self._gradient.parameters
                if parameter.grad is not None
            ]
        )
        self._sums.append(flat.clone() * size)
        self._sizes.append(size)
        self._losses += float(mean) * size
        self._weight += self._gradient.loss.weight(target)
        if self._norms is not None:
            self._squares.append(float(self._norms(inputs, target).double().sum()))

    def merge(self) -> None:
        """Make one group of two that stand half the list apart: as many as before the doubling."""
        half = len(self._sums) // 2
        self._sums = [a + b for a, b in zip(self._sums[:half], self._sums[half:], strict=True)]
        self._sizes = [a + b for a, b in zip(self._sizes[:half], self._sizes[half:], strict=True)]
        if self._norms is not None:
            self._squares = [
                a + b for a, b in zip(self._squares[:half], self._squares[half:], strict=True)
            ]

    def inverse_interval(self) -> tuple[float, float, float]:
        """1/B_simple = |G|² / tr Σ by the jackknife over groups, and its 95 % interval."""
        sums = torch.stack(self._sums).double()
        inner = (sums @ sums.T).numpy()
        sizes = np.array(self._sizes, dtype=np.float64)
        squares = np.array(self._squares) if self._norms is not None else None
        everything = np.ones(len(sizes), dtype=bool)
        whole = _inverse_scale(inner, sizes, squares, everything)
        left_out = []
        for place in range(len(sizes)):
            kept = everything.copy()
            kept[place] = False
            left_out.append(_inverse_scale(inner, sizes, squares, kept))
        return jackknife_interval(whole, left_out)


def jackknife_interval(whole: float, left_out: Sequence[float]) -> tuple[float, float, float]:
    """A statistic of several groups without its first-order bias, and its 95 % interval.

    `whole` is the statistic of all, `left_out` that of all but one, for each of them.

    >>> values = np.array([1.0, 2.0, 3.0, 6.0])
    >>> means = [float(np.delete(values, place).mean()) for place in range(4)]
    >>> [round(number, 2) for number in jackknife_interval(3.0, means)]
    [3.0, -0.44, 6.44]
    """
    parts = np.array(left_out)
    count = len(parts)
    estimate = float(count * whole - (count - 1) * parts.mean())
    error = math.sqrt((count - 1) / count * float(np.square(parts - parts.mean()).sum()))
    reach = float(stdtrit(count - 1, 1 - _TAIL)) * error
    return estimate, estimate - reach, estimate + reach


def _inverse_scale(
    inner: Floats, sizes: Floats, squares: Floats | None, kept: NDArray[np.bool_]
) -> float:
    """|G|² / tr Σ from the inner products of the groups' sums, without bias in either term.

    With the squared norms of single gradients, tr Σ = (Σ|g|² - N|ḡ|²)/(N - 1); from groups of b
    alone, tr Σ = (mean |ḡ_b|² - |ḡ|²)/(1/b - 1/N). |G|² = |ḡ|² - tr Σ/N.
    """
    total = sizes[kept].sum()
    mean_square = inner[np.ix_(kept, kept)].sum() / total**2
    if squares is not None:
        trace = (squares[kept].sum() - total * mean_square) / (total - 1)
    else:
        size = sizes[kept].mean()
        of_groups = (np.diag(inner)[kept] / np.square(sizes[kept])).mean()
        trace = (of_groups - mean_square) / (1 / size - 1 / total)
    return float((mean_square - trace / total) / max(trace, 1e-300))
