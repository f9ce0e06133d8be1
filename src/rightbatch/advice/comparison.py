"""What a comparison of batch sizes gives: the curves, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Self

from rightbatch.advice.landscape_map import Landscape
from rightbatch.advice.placement import Placement
from rightbatch.notebook import html_table
from rightbatch.training.history import Row
from rightbatch.training.provenance import Provenance

NOT_COMPARABLE = "seconds (not comparable)"
"""The heading of seconds of runs that shared a machine."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """How one run at one batch size learned.

    `history` and `step_losses` are those of `FitResult`. `checked_losses` are pairs of (step,
    training loss at the weights after it), the initial weights being step 0: where a step's loss
    is of one batch, these are of the training samples (2,048 at the most). `diverged` says why a
    run ended before its time (the loss became NaN or infinite), and is None where it did not.
    `placement` says where an executor ran it, and is None without one.
    """

    batch_size: int
    is_full: bool
    learning_rate: float
    seed: int
    history: list[Row]
    step_losses: list[tuple[int, float]]
    checked_losses: list[tuple[int, float]] = field(default_factory=list)
    diverged: str | None = None
    placement: Placement | None = None

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
        told = asdict(self)
        if self.placement is None:
            del told["placement"]
        return told

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        placement = stored.get("placement")
        pairs = {
            # A loss that is not finite is null in JSON.
            name: [(int(step), float(loss)) for step, loss in stored[name] if loss is not None]
            for name in ("step_losses", "checked_losses")
        }
        placed = None if placement is None else Placement(**placement)
        return cls(**{**stored, **pairs, "placement": placed})


@dataclass(frozen=True, kw_only=True)
class RateTrial:
    """One learning rate that `lr_rule="tuned"` tried: the lowest loss it reached, None if none."""

    batch_size: int
    learning_rate: float
    loss: float | None
    is_chosen: bool


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean, lowest and highest of the same number over several seeds."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """Of the finite ones among `values`; None where there is none."""
        finite = [value for value in values if math.isfinite(value)]
        return cls(mean=fmean(finite), low=min(finite), high=max(finite)) if finite else None

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Where the runs of one batch size ended; each measure is that of the last epoch."""

    label: str
    batch_size: int
    learning_rate: float
    runs: int
    diverged: int
    steps: int
    seconds: Spread | None
    measures: dict[str, Spread | None]

    @classmethod
    def of(cls, curves: Sequence[Curve], metric: str) -> Self:
        """Of the runs of one batch size; those that diverged count as such and nothing else."""
        ended = [curve for curve in curves if curve.diverged is None and curve.history]
        last = [curve.history[-1] for curve in ended]
        names = ("train_loss", "val_loss", f"val_{metric}")
        return cls(
            label=curves[0].label,
            batch_size=curves[0].batch_size,
            learning_rate=curves[0].learning_rate,
            runs=len(curves),
            diverged=sum(curve.diverged is not None for curve in curves),
            steps=max((row["steps"] for row in last), default=0),
            seconds=Spread.of([row["seconds"] for row in last]),
            measures={
                name: Spread.of([row[name] for row in last if row.get(name) is not None])
                for name in names
                if any(name in row for row in last)
            },
        )

    def texts(self) -> dict[str, str]:
        """The row as texts, by the heading of the column."""
        row = {
            "batch": self.label.removeprefix("batch "),
            "learning rate": f"{self.learning_rate:.4g}",
            "steps": f"{self.steps:,}",
            "seconds": "" if self.seconds is None else f"{self.seconds.mean:.3g}",
        }
        for name, spread in self.measures.items():
            row[name.replace("_r2", "_R²").replace("_", " ")] = (
                "" if spread is None else str(spread)
            )
        if self.diverged:
            row["diverged"] = f"{self.diverged} of {self.runs}"
        return row


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The same model from the same initial weights on the same data at several batch sizes.

    `curves` has one entry for each batch size and seed, in the order that was asked for.
    `learning_rate_rule` is "same", "linear", "sqrt" or "tuned"; the given rate held at
    `reference_batch_size`. `timings_comparable` is False where runs shared a machine or were on
    machines of different kinds, as `notes` tells; a curve's `placement` says where it ran.
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

    @property
    def batches(self) -> list[list[Curve]]:
        """The curves by batch size: one list a size, one curve a seed."""
        found: dict[int, list[Curve]] = {}
        for curve in self.curves:
            found.setdefault(curve.batch_size, []).append(curve)
        return list(found.values())

    def summary(self) -> list[Summary]:
        """One row a batch size: where its runs ended, as mean and spread over the seeds."""
        return [Summary.of(curves, self.metric) for curves in self.batches]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The summary as texts: the headings of the columns, and the rows.

        The column of seconds says so where they can not be compared.
        """
        rows = [summary.texts() for summary in self.summary()]
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = [
            NOT_COMPARABLE if name == "seconds" and not self.timings_comparable else name
            for name in names
        ]
        return columns, [[row.get(name, "") for name in names] for row in rows]

    def __repr__(self) -> str:
        sizes = ", ".join(summary.label for summary in self.summary())
        timed = "" if self.timings_comparable else "; timings are not comparable"
        return f"<Comparison of {self.model} on {self.provenance.data}: {sizes}{timed}>"

    def _repr_html_(self) -> str:
        columns, rows = self.table()
        timed = "" if self.timings_comparable else ". Timings are not comparable"
        return html_table(columns, rows, caption=f"{self.model} on {self.provenance.data}{timed}")

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
