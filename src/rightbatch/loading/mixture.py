"""What a part of a mixture knows of its sources: names, proportions, and how long an epoch is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rightbatch.plan.mixture import MixtureOrder


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Sources by name, the order that mixes them, and the samples of an epoch.

    `order.lengths` are the training samples of each source, `order.proportions` its share.
    """

    names: tuple[str, ...]
    order: MixtureOrder
    epoch_samples: int

    @property
    def shares(self) -> dict[str, float]:
        """The share of each source, by name."""
        return dict(zip(self.names, map(float, self.order.proportions), strict=True))

    def to_json(self) -> dict[str, Any]:
        """The mixture as JSON, for a run's configuration."""
        return {
            "names": list(self.names),
            "epoch_samples": self.epoch_samples,
            **self.order.to_json(),
        }

    def __str__(self) -> str:
        return ", ".join(
            f"{share:.4g} of {name} ({length:,} samples)"
            for (name, share), length in zip(self.shares.items(), self.order.lengths, strict=True)
        )
