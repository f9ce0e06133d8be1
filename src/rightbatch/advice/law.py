"""The laws behind the advice, as pure functions on numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """The time of a step: t(B) = (aᵖ + (b B)ᵖ)^(1/p).

    a is `latency_seconds`, b `seconds_per_sample`; p = 1 is a + bB, p → ∞ a hard floor.
    `residual` is the root mean square of the relative errors of the fit.
    """

    latency_seconds: float
    seconds_per_sample: float
    p: float
    residual: float

    @property
    def half_batch_size(self) -> float:
        """n½ = a/b, where half the throughput is reached (Hockney); infinite where b is 0."""
        if self.seconds_per_sample == 0:
            return float("inf")
        return self.latency_seconds / self.seconds_per_sample

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return {
            "latency_seconds": self.latency_seconds,
            "seconds_per_sample": self.seconds_per_sample,
            "p": self.p,
            "half_batch_size": self.half_batch_size,
            "residual": self.residual,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(**{name: value for name, value in stored.items() if name != "half_batch_size"})
