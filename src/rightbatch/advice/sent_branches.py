"""The branches of a pilot, carried out by an executor."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import Any

import torch

from rightbatch.advice.branch import Branch
from rightbatch.advice.branch_work import BranchRequest, BranchResult, BranchWork, result_of
from rightbatch.advice.ground import Ground
from rightbatch.advice.loss_points import LossPoint, samples_to
from rightbatch.advice.placement import Placement
from rightbatch.advice.sending import code_of, to_bytes
from rightbatch.advice.sent_task import LocalTask, Raised, SentTask

logger = logging.getLogger(__name__)

_Setting = tuple[int, float, int]


class SentBranches:
    """Starts branches as tasks of an executor, and some of them before they are asked for.

    A pilot chooses each branch by those before it, so that the choices are those of one process;
    `foresee` says which are likely to come, and they run meanwhile. What was foreseen is taken
    where it ended as the branch that is asked for would end, and is run again otherwise. Where the
    executor fails, branches go on in this process, and `alerts` says so.
    """

    def __init__(self, executor: Executor, ground: Ground) -> None:
        self._executor: Executor | None = executor
        self._ground = ground
        self._work = BranchWork(
            model=ground.model,
            parts=ground.parts,
            options=ground.options,
            device=str(ground.device),
            most_together=ground.most_together,
            pilot=secrets.token_hex(8),
        )
        self._sent = b""
        if not isinstance(executor, ThreadPoolExecutor):
            code = code_of(ground.model, ground.options.loss, ground.parts)
            self._sent = to_bytes(self._work, code)
        self._ahead: dict[_Setting, tuple[BranchRequest, Future[Any]]] = {}
        self._placements: list[Placement] = []
        self._failure: Exception | None = None

    def start(self, batch_size: int, learning_rate: float, seed: int) -> SentBranch:
        """A branch that runs when it is told how far."""
        return SentBranch(self.run, batch_size, learning_rate, seed)

    def foresee(self, requests: Sequence[BranchRequest]) -> None:
        """Begin these; what was foreseen before and is not among them has not come."""
        wanted = {_setting(request) for request in requests}
        for setting in [setting for setting in self._ahead if setting not in wanted]:
            # One that runs already can not be stopped, and may be asked for later.
            if self._ahead[setting][1].cancel():
                del self._ahead[setting]
        for request in requests:
            if _setting(request) not in self._ahead:
                future = self._submit(request)
                if future is not None:
                    self._ahead[_setting(request)] = request, future

    def run(self, request: BranchRequest) -> BranchResult:
        """The branch, whoever ran it."""
        given, future = self._ahead.pop(_setting(request), (request, None))
        result = self._result(future or self._submit(request))
        if result is not None and not result.answers(request, given):
            result = self._result(self._submit(request))
        return result if result is not None else self._run_here(request)

    def close(self) -> None:
        """Let go of what was foreseen and has not come."""
        for _, future in self._ahead.values():
            future.cancel()
        self._ahead.clear()

    def alerts(self, here: Placement) -> list[str]:
        """What is to be said of where branches ran; steps were timed `here`."""
        told = []
        if self._failure is not None:
            # A pool that was shut down says so itself; one whose workers ended does not say why.
            is_broken = isinstance(self._failure, BrokenExecutor) or "Killed" in self._failed
            hint = " Of workers that end, memory ran out most often: take fewer." * is_broken
            told.append(
                f"The executor failed ({self._failed}: {self._failure}), and the branches after "
                f"that ran in this process.{hint}"
            )
        others = {place.processor: place.host for place in self._placements}
        others.pop(here.processor, None)
        if others:
            kinds = "; ".join(f"{host}: {kind}" for kind, host in others.items())
            told.append(
                f"Branches ran on machines of other kinds ({kinds}) than the one whose steps were "
                f"timed ({here.host}: {here.processor}): the samples that sizes need hold "
                "everywhere, the advice for machines like that one. Ask for it where you train"
            )
        return told

    @property
    def _failed(self) -> str:
        return type(self._failure).__name__

    def _submit(self, request: BranchRequest) -> Future[Any] | None:
        if self._executor is None:
            return None
        task: Callable[[], Any]
        if isinstance(self._executor, ThreadPoolExecutor):
            task = LocalTask(work=self._work, argument=request)
        else:
            task = SentTask(
                work=self._sent, argument=request, torch_threads=torch.get_num_threads()
            )
        try:
            return self._executor.submit(task)
        except RuntimeError as error:  # the pool is broken, or was shut down
            self._give_up(error)
            return None

    def _result(self, future: Future[Any] | None) -> BranchResult | None:
        """What the branch gave; None where the executor lost it. Errors of its own are raised."""
        if future is None:
            return None
        try:
            outcome = future.result()
        except Exception as error:  # a task gives its own errors back
            self._give_up(error)
            return None
        if isinstance(outcome, Raised):
            raise outcome.error
        self._placements.append(outcome.placement)
        result: BranchResult = outcome.value
        return result

    def _give_up(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
            logger.warning("The executor of the pilot failed (%r); it goes on here", error)
        self.close()
        self._executor = None

    def _run_here(self, request: BranchRequest) -> BranchResult:
        branch = Branch(
            self._ground,
            batch_size=request.batch_size,
            learning_rate=request.learning_rate,
            seed=request.seed,
        )
        return result_of(branch, request)


class SentBranch:
    """A branch of `SentBranches`, as the pilot uses it."""

    def __init__(
        self,
        run: Callable[[BranchRequest], BranchResult],
        batch_size: int,
        learning_rate: float,
        seed: int,
    ) -> None:
        self._run = run
        self._setting = batch_size, learning_rate, seed
        self.samples = 0
        self.has_diverged = False
        self.points: list[LossPoint] = []

    def advance(
        self,
        *,
        target: float,
        most_samples: float = math.inf,
        most_seconds: float = math.inf,
    ) -> None:
        """Train until the target or the limits; once."""
        batch_size, learning_rate, seed = self._setting
        result = self._run(
            BranchRequest(
                batch_size=batch_size,
                learning_rate=learning_rate,
                seed=seed,
                target=target,
                most_samples=most_samples,
                most_seconds=most_seconds,
            )
        )
        self.samples = result.samples
        self.has_diverged = result.has_diverged
        self.points = result.points

    def samples_to(self, loss: float) -> float | None:
        """The samples after which the loss first was `loss`; None where it never was."""
        return samples_to(self.points, loss)

    def close(self) -> None:
        """Nothing is left to end."""


def _setting(request: BranchRequest) -> _Setting:
    return request.batch_size, request.learning_rate, request.seed
