"""What a measurement of speed gives: the time of a sample at each batch size."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from rightbatch.advice.law import StepTime
from rightbatch.training.provenance import Provenance


@dataclass(frozen=True, kw_only=True)
class SpeedPoint:
    """The median time at one batch size; `low` and `high` are the 95 % interval a sample."""

    batch_size: int
    seconds_per_batch: float
    seconds_per_sample: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """A power of two, `at`, and the batch sizes one below and one above it."""

    below: SpeedPoint
    at: SpeedPoint
    above: SpeedPoint


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The time that a sample costs at each batch size.

    `mode` is "predict" or "train"; `fit` the law fitted to the points, None where there are too
    few; `neighbours` the answer to "why powers of two"; `loading_seconds_per_sample` what making
    the batches takes beside it, None where it was not measured.
    """

    model: str
    mode: str
    threads: int
    device: str
    points: list[SpeedPoint]
    fit: StepTime | None
    neighbours: list[Neighbours] = field(default_factory=list)
    loading_seconds_per_sample: float | None = None
    notes: list[str] = field(default_factory=list)
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return {
            **asdict(self),
            "fit": None if self.fit is None else self.fit.to_json(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        fit = stored["fit"]
        return cls(
            **{
                **stored,
                "points": [SpeedPoint(**point) for point in stored["points"]],
                "fit": None if fit is None else StepTime.from_json(fit),
                "neighbours": [
                    Neighbours(**{name: SpeedPoint(**point) for name, point in trio.items()})
                    for trio in stored["neighbours"]
                ],
                "provenance": Provenance.from_json(stored["provenance"]),
            }
        )
