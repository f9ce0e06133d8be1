"""Where a run stands, in numbers, and what is said where it can not go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from rightbatch.errors import NonFiniteLossError

_SHOWN_ROWS = 8


@dataclass
class Standing:
    """The numbers of a run that a checkpoint keeps beside the tensors.

    `epoch_weight` is what the epoch's mean loss is over so far: samples, or unmasked tokens.
    """

    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    loading_seconds: float = 0.0
    epoch_loss_sum: float = 0.0
    epoch_weight: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    is_finished: bool = False

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """What `dataclasses.asdict` gave, of this version or one that counted samples alone."""
        fields = dict(stored)
        if "epoch_samples" in fields:
            fields["epoch_weight"] = fields.pop("epoch_samples")
        return cls(**fields)


def non_finite_loss(
    loss: float, step: int, rows: list[int], learning_rate: float
) -> NonFiniteLossError:
    """What to raise where the loss of a step, on these rows, is NaN or infinite."""
    shown = ", ".join(str(row) for row in rows[:_SHOWN_ROWS])
    shown += ", …" if len(rows) > _SHOWN_ROWS else ""
    return NonFiniteLossError(
        f"the loss of step {step} is {loss} (rows {shown}; {len(rows)} in the batch); the model "
        "was left as it was before this step. Lower the learning rate (now "
        f"{learning_rate:g}), scale the inputs (--standardize, rb.standardize()), or look at these "
        "rows for values that are not finite",
        step=step,
        rows=rows,
    )
