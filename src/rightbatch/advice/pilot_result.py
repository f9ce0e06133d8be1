"""What a pilot gives: the branches, and the samples that each batch size needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from rightbatch.advice.law import Law
from rightbatch.advice.loss_points import LossPoint


@dataclass(frozen=True, kw_only=True)
class PilotRun:
    """One branch: a training run at a batch size and rate, and how it ended.

    `samples` is what it took to the loss at which the pilot compares, None where it was given up:
    `ended` is "reached", "hopeless" (behind the best branch of its size or of all), "diverged" or
    "budget". `points` is its validation loss along the way.
    """

    batch_size: int
    learning_rate: float
    seed: int
    samples: float | None
    ended: str
    points: list[LossPoint] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class PilotSize:
    """What one batch size needs at its best rate found, with 95 % intervals.

    `samples` are those to the pilot's loss, over `runs` branches that reached it; `seconds` the
    time that they take, predicted from the measured step time.
    """

    batch_size: int
    learning_rate: float
    runs: int
    samples: float
    low: float
    high: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LevelLaw:
    """The law fitted to the samples that each batch size needed to one validation loss."""

    loss: float
    law: Law


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """Short branches at several batch sizes, each with a search of the learning rate.

    `loss` is the validation loss at which sizes are compared, and `target_loss` the one that was
    asked for (None with a number of epochs): where the budget ended before it, `loss` is higher,
    and `levels` carry the trend of the critical batch size on to the target. `enough_samples` is
    the whole number of samples of the epochs, where `loss` is the lowest that they lead to.
    """

    loss: float
    target_loss: float | None
    sizes: list[PilotSize]
    levels: list[LevelLaw]
    runs: list[PilotRun]
    seconds: float
    enough_samples: float | None = None

    @property
    def reaches_target(self) -> bool:
        """Whether the sizes are compared at the target itself."""
        return self.target_loss is not None and self.loss <= self.target_loss

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return {
            **asdict(self),
            "levels": [{"loss": level.loss, "law": level.law.to_json()} for level in self.levels],
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(
            **{
                **stored,
                "sizes": [PilotSize(**size) for size in stored["sizes"]],
                "levels": [
                    LevelLaw(loss=level["loss"], law=Law.from_json(level["law"]))
                    for level in stored["levels"]
                ],
                "runs": [
                    PilotRun(**{**run, "points": [LossPoint(**point) for point in run["points"]]})
                    for run in stored["runs"]
                ],
            }
        )
