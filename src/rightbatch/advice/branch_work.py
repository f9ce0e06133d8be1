"""A branch of a pilot as a piece of work: what a worker needs for it, and what comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from rightbatch.advice.branch import Branch
from rightbatch.advice.ground import Ground, Model
from rightbatch.advice.loss_points import LossPoint
from rightbatch.loading.parts import Parts
from rightbatch.training.options import FitOptions

# A branch follows the one before within this time, or the pilot is over.
_IDLE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class BranchRequest:
    """One branch, and where it ends: at the loss `target`, or at these limits."""

    batch_size: int
    learning_rate: float
    seed: int
    target: float
    most_samples: float
    most_seconds: float


@dataclass(frozen=True, kw_only=True)
class BranchResult:
    """What a branch has taken, and its validation losses along the way."""

    points: list[LossPoint]
    samples: int
    seconds: float
    has_diverged: bool
    reached: bool

    def answers(self, asked: BranchRequest, given: BranchRequest) -> bool:
        """Whether the branch that was run for `given` is the one that `asked` would be.

        Limits decide nothing where the branch ended before either of them: its losses depend on
        samples alone.
        """
        if asked.target != given.target:
            return False
        has_ended = self.reached or self.has_diverged
        is_alike = asked.most_samples == given.most_samples
        if has_ended or self.samples >= given.most_samples:
            least = min(asked.most_samples, given.most_samples)
            return is_alike or (has_ended and self.samples <= least)
        # Time ended it.
        return asked.most_seconds <= given.most_seconds and self.samples < asked.most_samples


def result_of(branch: Branch, request: BranchRequest) -> BranchResult:
    """Train a branch to its end, and close it."""
    try:
        branch.advance(
            target=request.target,
            most_samples=request.most_samples,
            most_seconds=request.most_seconds,
        )
    finally:
        branch.close()
    return BranchResult(
        points=branch.points,
        samples=branch.samples,
        seconds=branch.seconds,
        has_diverged=branch.has_diverged,
        reached=branch.smoothed_loss <= request.target,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchWork:
    """Runs branches of one pilot; what they share is made by the first one in a process.

    It is kept there until `_IDLE_SECONDS` after the last one.
    """

    model: Model
    parts: Parts
    options: FitOptions
    device: str
    most_together: int | None
    pilot: str

    def __call__(self, request: BranchRequest) -> BranchResult:
        """Train the branch to its end."""
        ground = _KEPT.get(self.pilot, self._make)
        branch = Branch(
            ground,
            batch_size=request.batch_size,
            learning_rate=request.learning_rate,
            seed=request.seed,
        )
        try:
            return result_of(branch, request)
        finally:
            _KEPT.expire()

    def _make(self) -> Ground:
        ground = Ground(self.model, self.parts, self.options, device=self.device)
        ground.most_together = self.most_together
        return ground


class _Kept:
    """The ground of the pilot that this process has branches of, for as long as they come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pilot: str | None = None
        self._ground: Ground | None = None
        self._timer: threading.Timer | None = None

    def get(self, pilot: str, make: Callable[[], Ground]) -> Ground:
        """The ground of this pilot; that of another one is dropped."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._pilot != pilot or self._ground is None:
                self._ground = None
                self._ground, self._pilot = make(), pilot
            return self._ground

    def expire(self) -> None:
        """Drop it after a while, unless another branch comes."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(_IDLE_SECONDS, self.drop)
            self._timer.daemon = True
            self._timer.start()

    def drop(self) -> None:
        """Give back the samples and the model that it holds."""
        with self._lock:
            self._pilot = self._ground = None


_KEPT = _Kept()
