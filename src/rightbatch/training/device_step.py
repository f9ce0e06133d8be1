"""Steps whose losses stay on the device until they are asked for, some at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from rightbatch.training.guarded_update import GuardedOptimizer
from rightbatch.training.memory import HalvingStep
from rightbatch.training.optimizers import Optimizer
from rightbatch.training.step import Gradient

MOST_UNREAD = 64
"""So many steps are launched before their losses are read, together."""


class DeviceStep(HalvingStep):
    """A step that nobody waits for: `launch` it, and `read` the losses of all since in one go.

    To read a loss is to wait until the device has done everything up to it, in which time nothing
    new is given to it. But a loss that is NaN or infinite must leave the model as it was before its
    step. So the device sees to that itself: from such a loss on it makes no update any more, and
    buffers of the model go back to what they were, until somebody reads and raises.
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
        first = gradient.parameters[0]
        device = first.device
        # 1 once a loss was not finite, in float32 as the fused updates want it.
        self._forbidden = torch.zeros((), device=device)
        self._one = torch.ones((), device=device)
        super().__init__(
            gradient,
            GuardedOptimizer(optimizer, self._forbidden),
            l1=l1,
            l2=l2,
            micro_batch_size=micro_batch_size,
        )
        dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        self._losses = torch.zeros(MOST_UNREAD, dtype=dtype, device=device)
        self._loss = torch.zeros(1, dtype=dtype, device=device)
        # On the device, because a recorded step writes where this says.
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._buffers = list(gradient.model.buffers())
        self._buffers_before = [buffer.clone() for buffer in self._buffers]
        self.unread = 0

    @override
    def __call__(self, inputs: Any, target: Tensor, total: int | None = None) -> float:
        if total is None:
            total = self.gradient.loss.weight(target)
        if not total:
            return 0.0
        self.launch(inputs, target, total)
        return self.read()[-1]

    def launch(self, inputs: Any, target: Tensor, total: int) -> None:
        """Learn from one batch of weight `total`; read its loss before `MOST_UNREAD` are unread.

        Raises MemoryLimitError as `HalvingStep` does.
        """
        self._keep_buffers()
        self._settle(self._mean(inputs, target, total, self.micro_batch_size or len(target)))
        self.unread += 1

    def read(self) -> list[float]:
        """The losses of the steps that were launched since; waits for them."""
        losses: list[float] = self._losses[: self.unread].tolist()
        self._place.zero_()
        self.unread = 0
        return losses

    def _keep_buffers(self) -> None:
        if self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._buffers_before, self._buffers)

    def _settle(self, mean: Tensor) -> None:
        """Note the loss, and update the model unless it forbids that."""
        with torch.no_grad():
            # Few launches, for in a small step each of them counts. The second multiplies by one,
            # and sets what is forbidden where the loss is not finite; nothing sets it back.
            self._loss.copy_(mean)
            torch._amp_foreach_non_finite_check_and_unscale_(
                [self._loss], self._forbidden, self._one
            )
            self._losses.index_copy_(0, self._place, self._loss)
            self._place.add_(1)
            if self._buffers:
                is_forbidden = self._forbidden > 0
                for buffer, before in zip(self._buffers, self._buffers_before, strict=True):
                    buffer.copy_(torch.where(is_forbidden, before, buffer))
        self._update()
