"""Training where memory runs out: the same step again, in micro-batches of half the size."""

from __future__ import annotations

import gc
import logging
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from rightbatch.errors import MemoryLimitError, is_out_of_memory
from rightbatch.training.coupling import why_not_cut
from rightbatch.training.losses import CustomLoss
from rightbatch.training.optimizers import Optimizer
from rightbatch.training.settings import RandomState
from rightbatch.training.step import DenseGradient, Gradient, Step

logger = logging.getLogger(__name__)

# To note the random state takes a hundredth of a small step and more. A model that has drawn
# nothing in so many steps is taken for one that never does.
_WATCHED_STEPS = 10


def release_memory() -> None:
    """Give back what a failed attempt held, once nothing refers to its error any more."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it so
        torch.cuda.empty_cache()


def _without_frames(error: Exception) -> Exception:
    """The error without its tracebacks, whose frames hold the tensors of the attempt."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
    return error


class HalvingStep(Step):
    """A step that is taken again in smaller micro-batches where memory has no room for its batch.

    Memory may run out while the gradient of a batch is found. Nothing of the model has changed by
    then: `micro_batch_size` is halved, with a warning, until there is room, and stays so. The mean
    gradient is the same up to rounding. The repeated step starts from the random state that the
    failed one started from, so that it is the step of a run that has had this micro-batch size all
    along; dropout draws other masks for micro-batches than for a whole batch.

    Raises MemoryLimitError where memory does not hold even one sample, where samples are coupled
    (see `why_not_cut`), and where it runs out while the model is updated.
    """

    def __init__(
        self,
        gradient: Gradient,
        optimizer: Optimizer,
        *,
        l1: float,
        l2: float,
        micro_batch_size: int | None,
    ) -> None:
        super().__init__(gradient, optimizer, l1=l1, l2=l2, micro_batch_size=micro_batch_size)
        devices = {value.device for value in gradient.model.parameters()}
        self._devices = [device for device in devices if device.type == "cuda"]
        # Of what is written out in this library it is known that it neither draws nor couples.
        is_known = isinstance(gradient, DenseGradient) and not isinstance(gradient.loss, CustomLoss)
        self._can_be_cut = is_known
        self._watched_steps_left = 0 if is_known else _WATCHED_STEPS
        self._draws = False
        self._draws_from_cpu = False

    @override
    def _mean(self, inputs: Any, target: Tensor, total: int, size: int) -> Tensor:
        start = RandomState(self._devices) if self._draws or self._watched_steps_left else None
        try:
            mean = self._attempt(inputs, target, total, size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            cause = _without_frames(error)
        else:
            if self._watched_steps_left and start is not None:
                self._watched_steps_left -= 1
                self._draws = self._draws or start.has_moved
                self._draws_from_cpu = self._draws_from_cpu or start.has_moved_on_cpu
            return mean
        return self._again(inputs, target, total, cause, start or RandomState(self._devices))

    def _attempt(self, inputs: Any, target: Tensor, total: int, size: int) -> Tensor:
        """The gradient in pieces of `size`, whether memory has room for that or not."""
        return super()._mean(inputs, target, total, size)

    def _again(
        self,
        inputs: Any,
        target: Tensor,
        total: int,
        cause: Exception,
        start: RandomState,
    ) -> Tensor:
        while True:
            release_memory()
            self._halve(inputs, target, cause, start)
            start.restore()
            try:
                return self._attempt(inputs, target, total, self.micro_batch_size or len(target))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                cause = _without_frames(error)

    def _halve(
        self,
        inputs: Any,
        target: Tensor,
        cause: Exception,
        start: RandomState,
    ) -> None:
        total = len(target)
        size = min(self.micro_batch_size or total, total)
        if size == 1:
            raise MemoryLimitError(
                "memory ran out over the gradient of even a single sample: take a smaller model or "
                "smaller samples, or a machine with more memory, or end what else is running"
            ) from cause
        if not self._can_be_cut:
            model, loss = self.gradient.model, self.gradient.loss
            reason = why_not_cut(model, loss, inputs, target, start)
            if reason is not None:
                pieces = f" in micro-batches of {size:,}" if size < total else ""
                raise MemoryLimitError(
                    f"memory ran out at batch size {total:,}{pieces}; {reason}"
                ) from cause
            self._can_be_cut = True
        self.micro_batch_size = -(-size // 2)
        before = "one piece" if size == total else f"micro-batches of {size:,}"
        logger.warning(
            f"a batch of {total:,} samples finds no room in memory in {before}; going on with "
            f"micro-batches of {self.micro_batch_size:,}, the batch size stays as it is"
        )

    @override
    def _update(self) -> None:
        try:
            super()._update()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryLimitError(
                "memory ran out while the model was updated, once the gradient of the batch was "
                "there. Parameters may have changed in part, so the step can not be taken again; "
                "go on from the last checkpoint (resume) where there is more memory. What an "
                "update takes does not depend on the batch size: take a smaller model, or the "
                "optimizer sgd"
            ) from error
