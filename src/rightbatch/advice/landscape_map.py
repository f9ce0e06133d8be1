"""The loss on a plane through the space of weights, with the paths of runs drawn on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class DescentPath:
    """The way of one run, projected on the plane: entry k is the point after `steps[k]` steps.

    `losses` are the training losses at the run's real weights, not at their projections; None
    where they are not finite.
    """

    label: str
    batch_size: int
    steps: list[int]
    x: list[float]
    y: list[float]
    losses: list[float | None]


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """The training loss on the plane of the first two principal components of the runs' paths.

    `losses[j][i]` is the loss at (`x[i]`, `y[j]`), None where it is not finite; `explained` the
    shares of the paths' variance along x and y; `samples` the number of training samples that the
    losses were computed on (Li et al. 2018, arXiv 1712.09913, section 7).
    """

    x: list[float]
    y: list[float]
    losses: list[list[float | None]]
    explained: tuple[float, float]
    paths: list[DescentPath]
    samples: int

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(
            **{
                **stored,
                "explained": tuple(stored["explained"]),
                "paths": [DescentPath(**path) for path in stored["paths"]],
            }
        )
