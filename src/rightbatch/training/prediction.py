"""What `predict` gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError
from rightbatch.notebook import html_table
from rightbatch.training.history import finite_json


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model says of the samples of a part, in their order.

    `predicted` (N,) are the classes as the data name them, `probabilities` (N, K) float32 those of
    `classes`, which are in the order of the columns; both None for quantities. Of a class a token
    they are (N, T) and (N, T, K). `values` (N,) or
    (N, …) float32 are the outputs that are no classes. With `out` the arrays stand in that file
    alone, and all three are None. `numpy.asarray` of a prediction is its probabilities or values.

    `loss`, `accuracy` with `correct`, or `r2` are exact over the samples; None where the data have
    no target or the loss has no such measure. Of a class a token they are over the unmasked ones,
    of which there are `tokens`; None elsewhere. `batch_size` is the one it ended with: smaller than
    the one asked for where memory ran out.
    """

    samples: int
    batch_size: int
    seconds: float
    loss: float | None = None
    correct: int | None = None
    tokens: int | None = None
    accuracy: float | None = None
    r2: float | None = None
    classes: list[Any] | None = None
    predicted: NDArray[Any] | None = field(default=None, repr=False)
    probabilities: NDArray[np.float32] | None = field(default=None, repr=False)
    values: NDArray[np.float32] | None = field(default=None, repr=False)
    out: Path | None = None

    def __len__(self) -> int:
        return self.samples

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = self.values if self.probabilities is None else self.probabilities
        if found is None:
            raise OptionError(
                f"the arrays of this prediction were written to {self.out} and not kept: read that "
                "file, or predict without out"
            )
        return np.array(found, dtype=dtype, copy=copy)

    def to_json(self) -> dict[str, Any]:
        """The scores as one JSON-able object, without the arrays; None for NaN."""
        report: dict[str, Any] = {
            "samples": self.samples,
            "correct": self.correct,
            **({} if self.tokens is None else {"tokens": self.tokens}),
            "accuracy": self.accuracy,
            "r2": self.r2,
            "loss": self.loss,
            "seconds": self.seconds,
            "batch_size": self.batch_size,
            "output": None if self.out is None else str(self.out),
        }
        finite: dict[str, Any] = finite_json(report)
        return finite

    @property
    def _measures(self) -> dict[str, str]:
        named = {"loss": self.loss, "accuracy": self.accuracy, "R²": self.r2}
        return {name: f"{value:.4g}" for name, value in named.items() if value is not None}

    def __repr__(self) -> str:
        measures = "".join(f", {name} {value}" for name, value in self._measures.items())
        what = "quantities" if self.classes is None else f"{len(self.classes)} classes"
        where = "" if self.out is None else f", in {self.out}"
        return (
            f"<Prediction of {self.samples:,} samples, {what}{measures}; {self.seconds:.2f} s in "
            f"batches of {self.batch_size:,}{where}>"
        )

    def _repr_html_(self) -> str:
        names = ["samples", *self._measures, "seconds", "batch size"]
        row = [
            f"{self.samples:,}",
            *self._measures.values(),
            f"{self.seconds:.2f}",
            f"{self.batch_size:,}",
        ]
        return html_table(names, [row], caption=f"In {self.out}" if self.out else "")
