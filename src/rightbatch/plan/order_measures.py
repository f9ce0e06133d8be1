"""How far an order takes the samples, from how many blocks a batch is, and who stays together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from rightbatch.plan.sampled_epoch import SampledEpoch
from rightbatch.plan.uniform_shuffle import mean_distinct_blocks, mean_travel, travel_quantile


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A value as it was measured, and what a uniform shuffle has on average."""

    value: float
    uniform: float

    @property
    def ratio(self) -> float:
        """How many times the uniform shuffle's; 1 where that is 0 and the value too.

        >>> Measure(value=0.5, uniform=0.25).ratio
        2.0
        """
        if self.uniform == 0:
            return 1.0 if self.value == 0 else float("inf")
        return self.value / self.uniform

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object, the ratio with it."""
        return {"value": self.value, "uniform": self.uniform, "ratio": self.ratio}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(value=stored["value"], uniform=stored["uniform"])


@dataclass(frozen=True, kw_only=True)
class OrderMeasures:
    """What an order does, whatever the labels are; see `ShuffleQuality` for the definitions."""

    travel: Measure
    travel_low: Measure
    travel_high: Measure
    distinct_blocks: Measure
    neighbours: Measure


def measure_order(sampled: SampledEpoch, block: int) -> OrderMeasures:
    """The measures of the batches that were looked at, with blocks of `block` samples.

    >>> from rightbatch.plan.order import Order
    >>> from rightbatch.plan.plan import Plan
    >>> plan = Plan(length=8, batch_size=4, order=Order(kind="sequential"), seed=0)
    >>> measured = measure_order(SampledEpoch.of(plan, 0), block=2)
    >>> measured.travel.value, measured.distinct_blocks.value, measured.neighbours.value
    (0.0, 2.0, 0.8571428571428571)
    """
    length, sizes = sampled.plan.length, sampled.sizes
    travelled = np.abs(sampled.positions - sampled.rows) / length
    low, high = (float(value) for value in np.quantile(travelled, [0.1, 0.9]))

    sort = np.lexsort((sampled.rows, sampled.batch))
    rows = sampled.rows[sort]
    # Rows ascend within each batch now, so that equal blocks and neighbours stand side by side.
    together = np.diff(sampled.batch) == 0
    joined = int((together & (np.diff(rows) == 1)).sum())
    repeated = int((together & (np.diff(rows // block) == 0)).sum())
    kept = length - sampled.plan.dropped
    scale = kept / len(rows) / max(1, length - 1)
    batch_sizes, counts = np.unique(sizes, return_counts=True)
    expected_blocks = sum(
        int(count) * mean_distinct_blocks(int(size), length, block)
        for size, count in zip(batch_sizes, counts, strict=True)
    )
    pairs = float((sizes.astype(np.float64) * (sizes - 1)).sum())
    return OrderMeasures(
        travel=Measure(
            value=float(travelled.mean()), uniform=mean_travel(sampled.positions, length)
        ),
        travel_low=Measure(value=low, uniform=travel_quantile(0.1)),
        travel_high=Measure(value=high, uniform=travel_quantile(0.9)),
        distinct_blocks=Measure(
            value=(len(rows) - repeated) / len(sizes), uniform=expected_blocks / len(sizes)
        ),
        neighbours=Measure(value=joined * scale, uniform=pairs * scale / length),
    )
