"""What a measurement of the gradient noise gives: the scale, its interval, its course."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class NoisePoint:
    """The gradient noise scale after `samples` of training, in samples, with its 95 % interval.

    `scale` and `high` are None where the interval does not exclude that the mean gradient is zero:
    the noise may then be of any size from `low` on. `measured_on` counts the samples whose
    gradients were taken, `loss` is their mean loss.
    """

    samples: int
    loss: float
    scale: float | None
    low: float
    high: float | None
    measured_on: int


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The gradient noise scale B_simple = tr Σ / |G|² along a short run, in samples.

    Σ is the covariance of the gradients of single samples and G their mean (McCandlish et al.
    2018, arXiv 1812.06162). `scale` averages over the run as the law of the steps asks for, with
    the 95 % interval `low` to `high`; all three are None where `refused` says why, `high` alone
    where the interval is open. `method` is "per-sample" or "micro-batches".
    """

    scale: float | None
    low: float | None
    high: float | None
    method: str
    batch_size: int
    learning_rate: float
    trajectory: list[NoisePoint] = field(default_factory=list)
    refused: str | None = None

    def __repr__(self) -> str:
        if self.refused is not None:
            return f"<Noise refused: {self.refused}>"
        return f"<Noise {noise_text(self)} ({self.method})>"

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(
            **{**stored, "trajectory": [NoisePoint(**point) for point in stored["trajectory"]]}
        )


def noise_text(noise: Noise) -> str:
    """The scale and its interval for people.

    >>> noise_text(Noise(scale=204.0, low=151.2, high=310.0, method="per-sample", batch_size=32,
    ...                  learning_rate=0.1))
    'about 204 samples (151 to 310)'
    """
    if noise.scale is None:
        return "unresolved" if noise.low is None else f"above {noise.low:,.0f} samples"
    high = "no bound" if noise.high is None else f"{noise.high:,.0f}"
    noun = "sample" if round(noise.scale) == 1 else "samples"
    return f"about {noise.scale:,.0f} {noun} ({noise.low:,.0f} to {high})"
