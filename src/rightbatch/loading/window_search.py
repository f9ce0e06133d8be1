"""The smallest window that mixes the labels well enough, found by trying."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from rightbatch.loading.label_measures import measure_labels
from rightbatch.loading.part_labels import PartLabels
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan
from rightbatch.plan.sampled_epoch import SampledEpoch

_MOST_DOUBLINGS = 16


@dataclass(frozen=True, kw_only=True)
class TriedWindow:
    """A window that was tried, and how its batches were: see `ShuffleQuality`."""

    window: int
    imbalance: float
    imbalance_ratio: float
    label_correlation: float
    is_mixed: bool

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return asdict(self)


def try_windows(plan: Plan, epoch: int, labels: PartLabels) -> list[TriedWindow]:
    """Windows of 2^k samples, or of 2^k blocks of the order's, ascending, by bisection.

    The order is the present one with another window, so that every window tried is one that can
    be asked for; the present window is too small, and so are those below it. The first that mixes
    well is the one to take: half of it was tried as well and does not, or is no larger than the
    present one. Where none does, the largest was tried and is too small, and the last one tried is
    of all samples, which is the uniform shuffle. Windows have up to 65,536 blocks, since the cost
    of an order by blocks grows with their number.
    """
    unit = plan.order.block or 1
    least = 0 if plan.order.block else 1  # a window of one sample shuffles nothing
    while unit << least <= (plan.order.window or 1):
        least += 1
    most = least - 1
    while unit << most + 1 < plan.length and (plan.order.block is None or most < _MOST_DOUBLINGS):
        most += 1
    tried: dict[int, TriedWindow] = {}

    def try_window(window: int) -> bool:
        order = Order.resolve(True, window, plan.length, plan.order.block)
        sampled = SampledEpoch.of(replace(plan, order=order), epoch)
        found = measure_labels(sampled, labels)
        tried[window] = TriedWindow(
            window=window,
            imbalance=found.imbalance.value,
            imbalance_ratio=found.imbalance.ratio,
            label_correlation=found.correlation,
            is_mixed=found.is_mixed,
        )
        return found.is_mixed

    def is_mixed(power: int) -> bool:
        return try_window(unit << power)

    if most < least or not is_mixed(most):
        # Rounded up to whole blocks; from the length on, a window is the uniform shuffle.
        try_window(-(-plan.length // unit) * unit)
    else:
        # All below `least` are too small, `most` is not.
        while least < most:
            middle = (least + most) // 2
            if is_mixed(middle):
                most = middle
            else:
                least = middle + 1
    return [tried[window] for window in sorted(tried)]
