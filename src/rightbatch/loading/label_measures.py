"""How the labels of batches differ from those of the whole, and from batch to batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rightbatch.loading.part_labels import PartLabels
from rightbatch.plan.order import Order
from rightbatch.plan.order_measures import Measure
from rightbatch.plan.plan import Plan
from rightbatch.plan.sampled_epoch import MOST_POSITIONS, SampledEpoch
from rightbatch.plan.uniform_shuffle import mean_imbalance

WORST_RATIO = 1.5
"""Batches that are further off their labels, by a uniform shuffle's mean, are badly mixed."""

WORST_CORRELATION = 0.25
"""So are batches whose labels are more alike than this to those of the next batch."""

_BAND_BATCHES = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelMeasures:
    """What an order does to the labels; see `ShuffleQuality` for the definitions.

    `of_batches` (K,) float64 is the imbalance of every batch that was looked at. `consecutive`
    is None where no two batches follow one another.
    """

    imbalance: Measure
    consecutive: Measure | None
    of_batches: NDArray[np.float64]

    @property
    def correlation(self) -> float:
        """How much more alike consecutive batches are than by chance: 0 is none, 1 is wholly."""
        if self.consecutive is None or self.consecutive.uniform >= 1:
            return 0.0
        by_chance = self.consecutive.uniform
        return (self.consecutive.value - by_chance) / (1 - by_chance)

    @property
    def is_mixed(self) -> bool:
        """Whether batches are about as good as those of a uniform shuffle.

        With a correlation of ρ the imbalance is about √(1 + (B - 1)ρ) times a uniform shuffle's:
        the ratio decides for batches of six samples and more, the correlation for smaller ones,
        where even a batch of a single label is hardly less balanced than others are.
        """
        return self.imbalance.ratio <= WORST_RATIO and self.correlation <= WORST_CORRELATION


def measure_labels(sampled: SampledEpoch, labels: PartLabels) -> LabelMeasures:
    """The measures of the batches that were looked at."""
    sizes, classes = sampled.sizes, len(labels.counts) + 1
    keys, counts = np.unique(
        sampled.batch * classes + labels.codes(sampled.rows), return_counts=True
    )
    batch, code = np.divmod(keys, classes)
    shares = counts / sizes[batch]
    known = np.append(labels.counts / labels.counts.sum(), 0.0)
    # Shares add up to 1, so half the sum of all differences is the sum of those above zero.
    excess = np.maximum(shares - known[code], 0.0)
    of_batches = np.bincount(batch, excess, minlength=len(sizes)).astype(np.float64)
    batch_sizes, number = np.unique(sizes, return_counts=True)
    expected = sum(
        int(count) * mean_imbalance(int(size), sampled.plan.length, labels.counts)
        for size, count in zip(batch_sizes, number, strict=True)
    )
    consecutive = None
    followed = sampled.is_followed
    if followed.any():
        at = np.minimum(np.searchsorted(keys, keys + classes), len(keys) - 1)
        is_shared = (keys[at] == keys + classes) & np.append(followed, False)[batch]
        equal = float((shares * shares[at])[is_shared].sum() / followed.sum())
        consecutive = Measure(value=equal, uniform=labels.equal_by_chance)
    return LabelMeasures(
        imbalance=Measure(value=float(of_batches.mean()), uniform=expected / len(sizes)),
        consecutive=consecutive,
        of_batches=of_batches,
    )


def uniform_band(plan: Plan, labels: PartLabels) -> tuple[float, float]:
    """Between which values nine of ten batches of real uniform permutations lie.

    Epochs are gone through until there are 400 whole batches, or 2^20 samples.
    """
    uniform = Plan(
        length=plan.length,
        batch_size=plan.batch_size,
        order=Order(kind="uniform"),
        seed=plan.seed,
    )
    found: list[NDArray[np.float64]] = []
    batches = samples = epoch = 0
    while batches < _BAND_BATCHES and samples < MOST_POSITIONS:
        sampled = SampledEpoch.of(uniform, epoch)
        is_full = sampled.sizes == sampled.sizes.max()
        found.append(measure_labels(sampled, labels).of_batches[is_full])
        batches, samples, epoch = batches + len(found[-1]), samples + len(sampled.rows), epoch + 1
    low, high = np.quantile(np.concatenate(found), [0.05, 0.95])
    return float(low), float(high)
