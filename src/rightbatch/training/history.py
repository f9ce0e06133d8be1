"""What a run leaves behind: a row an epoch, and the loss of every step, thinned when many."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.durable_files import telling_of_a_full_disk

Row = dict[str, Any]

MOST_STEP_LOSSES = 10_000


class StepLosses:
    """The loss of every step up to 10,000; beyond, of every 2nd, 4th, … step.

    Which steps are kept depends on their number alone, so a resumed run keeps the same ones.

    >>> losses = StepLosses(most=2)
    >>> [losses.add(step, 1.0 / step) for step in (1, 2, 3)]
    [True, True, True]
    >>> losses.pairs
    [(1, 1.0), (3, 0.3333333333333333)]
    """

    def __init__(self, *, most: int = MOST_STEP_LOSSES) -> None:
        self._most = most
        self.stride = 1
        self._steps: list[int] = []
        self._losses: list[float] = []

    def add(self, step: int, loss: float) -> bool:
        """Note the loss of `step` (numbered from 1); gives whether it is kept for now.

        A change of `stride` says that half of the earlier steps were let go.
        """
        if (step - 1) % self.stride:
            return False
        self._steps.append(step)
        self._losses.append(loss)
        if len(self._steps) > self._most:
            self.stride *= 2
            kept = [(step - 1) % self.stride == 0 for step in self._steps]
            self._steps = [step for step, keep in zip(self._steps, kept, strict=True) if keep]
            self._losses = [loss for loss, keep in zip(self._losses, kept, strict=True) if keep]
        return True

    @property
    def pairs(self) -> list[tuple[int, float]]:
        """Pairs of (step, loss)."""
        return list(zip(self._steps, self._losses, strict=True))

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Steps and losses as arrays, for a checkpoint."""
        return np.asarray(self._steps, np.int64), np.asarray(self._losses, np.float64)

    def restore(self, stride: int, steps: NDArray[np.int64], losses: NDArray[np.float64]) -> None:
        """Take everything back from a checkpoint."""
        self.stride = stride
        self._steps = steps.tolist()
        self._losses = losses.tolist()


class JsonLines:
    """A file of one JSON object a line, written while the run goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []

    def add(self, row: Row) -> None:
        """Append a row; `flush` puts it on the disk."""
        self._waiting.append(to_json_line(row))

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            with (
                telling_of_a_full_disk(self.path),
                self.path.open("a", encoding="utf-8") as file,
            ):
                file.writelines(self._waiting)
            self._waiting.clear()

    def rewrite(self, rows: list[Row]) -> None:
        """Make the file hold exactly `rows`: a resumed run goes back to its checkpoint."""
        self._waiting.clear()
        self.path.write_text("".join(to_json_line(row) for row in rows), encoding="utf-8")


def to_json_line(row: Row) -> str:
    r"""A row as a line of strict JSON: NaN and infinity, which JSON does not have, become null.

    >>> to_json_line({"epoch": 1, "val_loss": float("inf")})
    '{"epoch": 1, "val_loss": null}\n'
    """
    return json.dumps(finite_json(row), allow_nan=False) + "\n"


def finite_json(value: Any) -> Any:
    """`value` with null for every NaN and infinity in it, which JSON does not have.

    >>> finite_json({"val_loss": [float("nan"), 1.0]})
    {'val_loss': [None, 1.0]}
    """
    if isinstance(value, Mapping):
        return {name: finite_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
