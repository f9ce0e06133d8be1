"""What a comparison of batch sizes gives: the curves, side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from rightbatch.advice.landscape_map import Landscape
from rightbatch.training.history import Row
from rightbatch.training.provenance import Provenance


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """How one run at one batch size learned.

    `history` and `step_losses` are those of `FitResult`. `diverged` says why a run ended before
    its time (the loss became NaN or infinite), and is None where it did not.
    """

    batch_size: int
    is_full: bool
    learning_rate: float
    seed: int
    history: list[Row]
    step_losses: list[tuple[int, float]]
    diverged: str | None = None

    @property
    def label(self) -> str:
        """What legends call it.

        >>> Curve(batch_size=364, is_full=True, learning_rate=0.1, seed=0, history=[],
        ...       step_losses=[]).label
        'full batch (364)'
        """
        return f"full batch ({self.batch_size:,})" if self.is_full else f"batch {self.batch_size:,}"

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        pairs = [(int(step), float(loss)) for step, loss in stored["step_losses"]]
        return cls(**{**stored, "step_losses": pairs})


@dataclass(frozen=True, kw_only=True)
class RateTrial:
    """One learning rate that `lr_rule="tuned"` tried: the lowest loss it reached, None if none."""

    batch_size: int
    learning_rate: float
    loss: float | None
    is_chosen: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The same model from the same initial weights on the same data at several batch sizes.

    `curves` has one entry for each batch size and seed, in the order that was asked for.
    `learning_rate_rule` is "same", "linear", "sqrt" or "tuned"; the given rate held at
    `reference_batch_size`. `timings_comparable` is False where the runs shared a machine.
    `landscape` is the loss around the paths of the first seed's runs, None where it was not made
    (`notes` says why).
    """

    model: str
    metric: str
    learning_rate_rule: str
    learning_rate: float
    reference_batch_size: int | None
    curves: list[Curve]
    trials: list[RateTrial] = field(default_factory=list)
    landscape: Landscape | None = None
    timings_comparable: bool = True
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **own,
            "curves": [curve.to_json() for curve in self.curves],
            "trials": [asdict(trial) for trial in self.trials],
            "landscape": None if self.landscape is None else self.landscape.to_json(),
            "provenance": self.provenance.to_json(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        landscape = stored["landscape"]
        return cls(
            **{
                **stored,
                "curves": [Curve.from_json(curve) for curve in stored["curves"]],
                "trials": [RateTrial(**trial) for trial in stored["trials"]],
                "landscape": None if landscape is None else Landscape.from_json(landscape),
                "provenance": Provenance.from_json(stored["provenance"]),
            }
        )
