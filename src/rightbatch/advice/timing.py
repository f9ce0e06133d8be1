"""What a measurement of speed gives: the time of a sample at each batch size."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from rightbatch.advice.law import StepTime
from rightbatch.notebook import html_table
from rightbatch.training.provenance import Provenance


@dataclass(frozen=True, kw_only=True)
class SpeedPoint:
    """The median time at one batch size.

    `low` and `high` are the 95 % bootstrap interval of `seconds_per_sample`.
    """

    batch_size: int
    seconds_per_batch: float
    seconds_per_sample: float
    low: float
    high: float

    @property
    def samples_per_second(self) -> float:
        """The throughput at this batch size."""
        return 1.0 / self.seconds_per_sample


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """A power of two, `at`, and the batch sizes one below and one above it.

    `saving` is the share of time by which a batch at the power of two is below the mean of its
    two neighbours: 0.02 is 2 % less, and times of the form a + bB give 0. `low` and `high` are
    its 95 % interval; where they have the same sign, the difference is real. None where the
    readings are not known.
    """

    below: SpeedPoint
    at: SpeedPoint
    above: SpeedPoint
    saving: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def is_real(self) -> bool:
        """Whether the interval of the saving lies on one side of zero."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The time that a sample costs at each batch size.

    `mode` is "predict" (the forward pass), "train" (a step: gradient and update) or "loop" (a step
    of the training loop, loader and bookkeeping included). `points` are in the order that was
    asked for, medians over `rounds` readings each; `fit` is the law fitted to
    them, None where there are too few. `neighbours` is the answer to "why powers of two".
    `loading_seconds_per_sample` is what making the batches takes beside it, None where it was not
    measured. `settings` are the other options of the measurement.
    """

    model: str
    mode: str
    threads: int
    device: str
    points: list[SpeedPoint]
    fit: StepTime | None
    neighbours: list[Neighbours] = field(default_factory=list)
    loading_seconds_per_sample: float | None = None
    rounds: int = 0
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance

    @property
    def fastest(self) -> SpeedPoint:
        """The point of the least time a sample."""
        return min(self.points, key=lambda point: point.seconds_per_sample)

    def __repr__(self) -> str:
        first, fastest = min(self.points, key=lambda point: point.batch_size), self.fastest
        told = f"{time_text(first.seconds_per_sample)} a sample at batch size {first.batch_size:,}"
        if fastest is not first:
            told += f", {time_text(fastest.seconds_per_sample)} at {fastest.batch_size:,}"
        if self.fit is not None:
            largest = max(point.batch_size for point in self.points)
            told += f"; n½ {half_batch_text(self.fit, largest)}"
        return (
            f"<Speed of {self.model} ({self.mode}, {_count(self.threads, 'thread')}, "
            f"{self.device}): {told}>"
        )

    def _repr_html_(self) -> str:
        columns = ["batch size", "a batch", "a sample", "95 % interval", "samples/s"]
        caption = (
            f"{self.model}, {self.mode}, {_count(self.threads, 'thread')}, {self.device}; medians "
            f"of {self.rounds:,} rounds"
        )
        return html_table(columns, [row_texts(point) for point in self.points], caption=caption)

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
                "neighbours": [_neighbours(trio) for trio in stored["neighbours"]],
                "provenance": Provenance.from_json(stored["provenance"]),
            }
        )


def _neighbours(stored: dict[str, Any]) -> Neighbours:
    points = {name: SpeedPoint(**stored[name]) for name in ("below", "at", "above")}
    return Neighbours(**{**stored, **points})


def row_texts(point: SpeedPoint) -> list[str]:
    """A point as the texts of a table: size, a batch, a sample, its interval, samples a second.

    >>> row_texts(SpeedPoint(batch_size=32, seconds_per_batch=6.4e-5, seconds_per_sample=2e-6,
    ...                      low=1.9e-6, high=2.125e-6))
    ['32', '64.0 µs', '2.00 µs', '1.90 µs to 2.12 µs', '500,000']
    """
    return [
        f"{point.batch_size:,}",
        time_text(point.seconds_per_batch),
        time_text(point.seconds_per_sample),
        f"{time_text(point.low)} to {time_text(point.high)}",
        f"{point.samples_per_second:,.0f}",
    ]


def time_text(seconds: float) -> str:
    """A time in the unit that a person reads, to three digits.

    >>> time_text(1.234e-5), time_text(0.0401), time_text(75.0)
    ('12.3 µs', '40.1 ms', '75.0 s')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9)):
        value = seconds * factor
        if value >= 1 or unit == "ns":
            break
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f} {unit}"


def half_batch_text(fit: StepTime, largest: int | None = None) -> str:
    """n½ for people: to three digits, and in words where there is none.

    Beyond `largest`, the largest batch size that was measured, it is not told as a number: what
    was not run is not known.

    >>> half_batch_text(StepTime(latency_seconds=1e-4, seconds_per_sample=3e-6, p=1, residual=0))
    '33.3'
    """
    half = fit.half_batch_size
    if largest is not None and half > largest:
        return f"beyond {largest:,}, the largest measured"
    if half == float("inf"):
        return "beyond every size measured"
    return f"{half:,.0f}" if half >= 100 else f"{half:.3g}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
