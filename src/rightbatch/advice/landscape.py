"""The loss around the paths of several runs, on the plane that shows most of them."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rightbatch.advice.landscape_map import DescentPath, Landscape
from rightbatch.advice.training_loss import TrainingLoss
from rightbatch.advice.trajectory import Recorder, Trajectory
from rightbatch.errors import OptionError
from rightbatch.loading.parts import Parts
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.training.building import build
from rightbatch.training.options import FitOptions

# Room around the paths, as a share of their extent.
_MARGIN = 0.15
_LEAST_EXTENT = 0.25
_FINEST, _COARSEST = 41, 15


def map_landscape(
    trajectories: Sequence[tuple[str, int, Trajectory]],
    loss: TrainingLoss,
    *,
    seconds: float = 20.0,
) -> Landscape:
    """The training loss on the plane of the first two principal components of all paths.

    `trajectories` are (label, batch size, trajectory). The components are those of all snapshots
    together (Li et al. 2018, arXiv 1712.09913, section 7, there for one run): the plane through
    their mean on which the paths are longest. The grid is as fine as about `seconds` allow, 15 to
    41 points a side.

    Raises OptionError where there is no path, or the paths do not move.
    """
    if not trajectories:
        raise OptionError("a landscape is drawn through the paths of runs, and there is none")
    stacked = np.concatenate([trajectory.points for _, _, trajectory in trajectories])
    origin = stacked.mean(axis=0, dtype=np.float64)
    directions, explained = principal_plane(stacked - origin)
    placed = [(trajectory.points - origin) @ directions.T for _, _, trajectory in trajectories]
    # A component has no sign of its own: the first path goes from left to right and upwards.
    signs = np.where(placed[0][-1] < placed[0][0], -1.0, 1.0)
    directions = directions * signs[:, None]
    placed = [points * signs for points in placed]

    began = time.perf_counter()
    paths = [
        DescentPath(
            label=label,
            batch_size=batch_size,
            steps=trajectory.steps.tolist(),
            x=points[:, 0].tolist(),
            y=points[:, 1].tolist(),
            losses=[_finite(loss(weights)) for weights in trajectory.points],
        )
        for (label, batch_size, trajectory), points in zip(trajectories, placed, strict=True)
    ]
    each_seconds = (time.perf_counter() - began) / len(stacked)
    side = int(np.clip(math.sqrt(seconds / max(each_seconds, 1e-9)), _COARSEST, _FINEST))
    x, y = _axes(np.concatenate(placed), side)
    losses = [
        [_finite(loss(origin + right * directions[0] + up * directions[1])) for right in x]
        for up in y
    ]
    return Landscape(
        x=x.tolist(),
        y=y.tolist(),
        losses=losses,
        explained=explained,
        paths=paths,
        samples=loss.samples,
    )


class PathMap:
    """Records the path of one run while `fit` runs (as its `on_step`), and maps it afterwards."""

    def __init__(self, model: str | nn.Module, parts: Parts, options: FitOptions) -> None:
        own = copy.deepcopy(model) if isinstance(model, nn.Module) else model
        initial, task = build(own, parts.train, options)
        samples = options.samples_in_epoch(parts.train)
        self._batch_size = resolve_batch_size(options.batch_size, samples)
        self._loss = TrainingLoss(initial, task, parts)
        self._record = Recorder(initial, options.total_steps(samples))

    def __call__(self, step: int, loss: float, model: nn.Module) -> None:
        """Keep the weights where this step is one of the chosen."""
        self._record(step, loss, model)

    def landscape(self) -> Landscape | None:
        """The loss around the path; None where the model is too large to keep one."""
        trajectory = self._record.trajectory
        if trajectory is None:
            return None
        return map_landscape([("run", self._batch_size, trajectory)], self._loss)


def principal_plane(
    differences: NDArray[np.floating],
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The first two principal directions (2, P) of rows (S, P), and their shares of the variance.

    They come from the S × S matrix of inner products, which is small where P is large. Rows that
    lie on one line leave the second direction to be any that is orthogonal to it.

    >>> directions, explained = principal_plane(np.array([[2.0, 0, 0], [-2, 1, 0], [0, -1, 0]]))
    >>> np.round(np.abs(directions @ np.array([0.0, 0.0, 1.0])), 6).tolist()
    [0.0, 0.0]
    """
    rows = differences.astype(np.float64)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if values[0] <= 0:
        raise OptionError("a landscape needs paths that move, and these stay where they began")
    directions = np.zeros((2, rows.shape[1]))
    directions[0] = rows.T @ vectors[:, 0] / math.sqrt(values[0])
    if len(values) > 1 and values[1] > 1e-12 * values[0]:
        directions[1] = rows.T @ vectors[:, 1] / math.sqrt(values[1])
    elif rows.shape[1] > 1:
        # The axis that the first direction has least of, made orthogonal to it.
        least = int(np.argmin(np.abs(directions[0])))
        directions[1][least] = 1.0
        directions[1] -= (directions[1] @ directions[0]) * directions[0]
        directions[1] /= np.linalg.norm(directions[1])
    total = float(values.sum())
    second = float(values[1]) if len(values) > 1 else 0.0
    return directions, (float(values[0]) / total, second / total)


def _axes(
    points: NDArray[np.float64], side: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Evenly spaced places along x and y that have the points (S, 2) well inside."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = high - low
    # Paths on one line leave the other axis without an extent of its own.
    room = _MARGIN * np.maximum(extent, _LEAST_EXTENT * extent.max())
    x, y = (np.linspace(low[axis] - room[axis], high[axis] + room[axis], side) for axis in (0, 1))
    return x, y


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
