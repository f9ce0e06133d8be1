"""Steps that were launched and whose losses have not been read yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rightbatch.training.device_step import MOST_UNREAD, DeviceStep


@dataclass(frozen=True, kw_only=True)
class LaunchedStep:
    """A step by its number, the rows of its batch, and what its mean loss is over."""

    number: int
    rows: Tensor
    weight: int


class UnreadLosses:
    """Launches steps, and gives their losses in order when they are read."""

    def __init__(self, step: DeviceStep) -> None:
        self._step = step
        self._launched: list[LaunchedStep] = []

    @property
    def is_full(self) -> bool:
        """Whether they have to be read before the next step."""
        return len(self._launched) >= MOST_UNREAD

    def launch(self, inputs: Any, target: Tensor, launched: LaunchedStep) -> None:
        """Launch a step."""
        self._step.launch(inputs, target, launched.weight)
        self._launched.append(launched)

    def read(self) -> Iterator[tuple[LaunchedStep, float]]:
        """Every step since, with its loss; waits for the device where there is any."""
        if not self._launched:
            return iter(())
        launched, self._launched = self._launched, []
        return zip(launched, self._step.read(), strict=True)
