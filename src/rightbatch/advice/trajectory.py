"""The way of a run through the space of weights: snapshots at chosen steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rightbatch.errors import OptionError

_MOST_BYTES = 64 << 20
_MOST_SNAPSHOTS = 160
_FEWEST_SNAPSHOTS = 20


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Weights along a run: `points` float32 (S, P), one row for each entry of `steps` (S,)."""

    steps: NDArray[np.int64]
    points: NDArray[np.float32]


def snapshot_steps(total_steps: int, *, parameters: int) -> NDArray[np.int64]:
    """The steps after which weights are kept: 0, the last, and between them dense at the start.

    Most of the way is made in the first steps, so two thirds of the snapshots are spaced
    geometrically and one third evenly. None where even a few would not fit into 64 MB.

    >>> snapshot_steps(5, parameters=100).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    count = min(_MOST_SNAPSHOTS, _MOST_BYTES // max(1, 4 * parameters))
    if count < _FEWEST_SNAPSHOTS:
        return np.empty(0, np.int64)
    early = np.geomspace(1, total_steps, 2 * count // 3)
    even = np.linspace(0, total_steps, count - len(early))
    return np.unique(np.rint(np.concatenate([early, even])).astype(np.int64))


class Recorder:
    """Takes the snapshots while `fit` runs: pass it as `on_step`.

    >>> network = nn.Linear(1, 1)
    >>> recorder = Recorder(network, total_steps=2)
    >>> recorder(1, 0.5, network), recorder(2, 0.4, network)
    (None, None)
    >>> recorder.trajectory.points.shape
    (3, 2)
    """

    def __init__(self, initial: nn.Module, total_steps: int) -> None:
        parameters = sum(parameter.numel() for parameter in initial.parameters())
        steps = snapshot_steps(total_steps, parameters=parameters)
        self._wanted = set(steps.tolist())
        self._steps: list[int] = []
        self._points: list[NDArray[np.float32]] = []
        self(0, 0.0, initial)

    def __call__(self, step: int, loss: float, model: nn.Module) -> None:
        """Keep the weights where this step is one of the chosen."""
        del loss
        if step in self._wanted:
            self._steps.append(step)
            self._points.append(flat_weights(model))

    @property
    def trajectory(self) -> Trajectory | None:
        """What was kept; None where the model is too large for it."""
        if not self._points:
            return None
        return Trajectory(np.asarray(self._steps, np.int64), np.stack(self._points))


def flat_weights(model: nn.Module) -> NDArray[np.float32]:
    """All parameters in one float32 vector, in the order of `parameters()`."""
    with torch.no_grad():
        pieces = [parameter.detach().reshape(-1).float().cpu() for parameter in model.parameters()]
        return torch.cat(pieces).numpy().copy()


def named_weights(model: nn.Module, vector: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parameters that `vector` stands for, by name, as `torch.func.functional_call` takes them.

    Raises OptionError where the vector is of another length.
    """
    named = {}
    position = 0
    for name, parameter in model.named_parameters():
        piece = vector[position : position + parameter.numel()]
        position += parameter.numel()
        if position <= len(vector):
            named[name] = piece.view(parameter.shape).to(parameter.dtype)
    if position != len(vector):
        raise OptionError(
            f"a vector of {len(vector):,} weights is none of a model of {position:,} parameters"
        )
    return named
