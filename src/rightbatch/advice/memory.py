"""What a measurement of memory gives: what each batch size takes, and what fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from rightbatch.advice.memory_law import MemoryFit
from rightbatch.byte_sizes import bytes_text
from rightbatch.notebook import html_table


@dataclass(frozen=True, kw_only=True)
class MemoryPoint:
    """What one batch size took, in bytes above the loaded process.

    `bytes` were in use at once; `held_bytes` is the peak of the process, with what the allocator
    (the C library, or torch's on a GPU) keeps of freed memory to use it again. The first is the
    same in every run, the second differs from run to run.
    """

    batch_size: int
    bytes: int
    held_bytes: int


@dataclass(frozen=True, kw_only=True)
class MemoryPrediction:
    """What a batch size is expected to need at once, by the law, and to hold at most.

    One run in twenty may hold more than `high`.
    """

    batch_size: int
    bytes: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What training and evaluation take at each batch size, and the largest that fits.

    `cap` is the largest batch size that was run and fits for training, None where there is no
    advice (`declined` says why). `limit_bytes` is what the process may take in all, model and
    libraries included, so that `limit_bytes - loaded_bytes` is left for batches; `limit_source`
    says whose limit that is. `loaded_bytes` is the process with libraries, model and data, before
    the first batch: that of the probes, or the caller's own where it holds more. `measured` and
    `predicted` are bytes above that: the first of sizes that were run, in training alone, the
    second of those that were asked about. `evaluation_…` is the same for a pass without
    gradients, and `evaluation_batch_size` what validation may take at a time beside training at
    `cap`. `device` is where the model is.
    """

    cap: int | None
    limit_bytes: int | None
    limit_source: str
    loaded_bytes: int
    measured: list[MemoryPoint] = field(default_factory=list)
    predicted: list[MemoryPrediction] = field(default_factory=list)
    evaluation_cap: int | None = None
    evaluation_batch_size: int | None = None
    evaluation_measured: list[MemoryPoint] = field(default_factory=list)
    evaluation_predicted: list[MemoryPrediction] = field(default_factory=list)
    fit: MemoryFit | None = None
    evaluation_fit: MemoryFit | None = None
    device: str = "cpu"
    declined: str | None = None
    notes: list[str] = field(default_factory=list)

    def holds(self, batch_size: int) -> bool:
        """Whether the law expects training at this size to fit; False where there is no law."""
        if self.fit is None or self.limit_bytes is None:
            return False
        return self.fit.high(batch_size) <= self.limit_bytes - self.loaded_bytes

    def __repr__(self) -> str:
        if self.declined is not None:
            return f"<Memory: declined, {self.declined}>"
        told = f"batch size {self.cap:,} was run and fits" if self.cap else "no size was run"
        if self.limit_bytes is not None:
            told += f" in {bytes_text(self.limit_bytes)} ({self.limit_source})"
        told += f"; {bytes_text(self.loaded_bytes)} before the first batch"
        if self.fit is not None and self.cap:
            told += f", {bytes_text(self.fit.bytes(self.cap))} more at {self.cap:,}"
        return f"<Memory on {self.device}: {told}>"

    def _repr_html_(self) -> str:
        measured = {point.batch_size: point for point in self.measured}
        predicted = {point.batch_size: point for point in self.predicted}
        rows = [
            [
                f"{size:,}",
                bytes_text(measured[size].bytes) if size in measured else "",
                bytes_text(measured[size].held_bytes) if size in measured else "",
                bytes_text(predicted[size].bytes) if size in predicted else "",
                bytes_text(predicted[size].high) if size in predicted else "",
            ]
            for size in sorted({*measured, *predicted})
        ]
        columns = ["batch size", "in use at once", "held", "predicted in use", "held at most"]
        caption = f"training, above the {bytes_text(self.loaded_bytes)} of the loaded process"
        return html_table(columns, rows, caption=caption)

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave.

        >>> memory = Memory(cap=8, limit_bytes=None, limit_source="", loaded_bytes=1,
        ...                 measured=[MemoryPoint(batch_size=8, bytes=4, held_bytes=5)])
        >>> Memory.from_json(memory.to_json()) == memory
        True
        """
        kinds: dict[str, Any] = {"measured": MemoryPoint, "predicted": MemoryPrediction}
        lists = {
            prefix + name: [kind(**point) for point in stored[prefix + name]]
            for prefix in ("", "evaluation_")
            for name, kind in kinds.items()
        }
        fits = {
            name: None if stored[name] is None else MemoryFit.from_json(stored[name])
            for name in ("fit", "evaluation_fit")
        }
        return cls(**{**stored, **lists, **fits})
