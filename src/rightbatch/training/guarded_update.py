"""Updates that a number on the device can forbid, so that nobody has to wait for that number."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from typing_extensions import override

from rightbatch.training.optimizers import Adam, Optimizer, Sgd


class GuardedOptimizer(Optimizer):
    """The update of another optimizer, which leaves everything as it is while `forbidden` is 1.

    `forbidden` is a float32 scalar on the device of the parameters. The updates are torch's fused
    ones, which take such a number (mixed precision skips steps by it); they give what the
    optimizer's own give, up to rounding, and update its state in its place. Adam counts its steps
    on the device from then on, so that a step can be recorded and replayed.

    >>> from torch import nn
    >>> weight, forbidden = nn.Parameter(torch.tensor([1.0])), torch.tensor(0.0)
    >>> weight.grad = torch.tensor([2.0])
    >>> guarded = GuardedOptimizer(Sgd([weight], 0.25), forbidden)
    >>> guarded.step(), weight.item(), forbidden.fill_(1.0).item(), guarded.step(), weight.item()
    (None, 0.5, 1.0, None, 0.5)
    """

    def __init__(self, optimizer: Optimizer, forbidden: Tensor) -> None:
        self.parameters = optimizer.parameters
        self.learning_rate = optimizer.learning_rate
        self._optimizer = optimizer
        self._forbidden = forbidden
        if isinstance(optimizer, Adam):
            optimizer.count_on_device()

    @property
    @override
    def state(self) -> dict[str, list[Tensor]]:
        return self._optimizer.state

    @override
    def _update(self, used: list[int], gradients: list[Tensor]) -> None:
        by_dtype: dict[torch.dtype, list[tuple[int, Tensor]]] = {}
        for place, gradient in zip(used, gradients, strict=True):
            by_dtype.setdefault(gradient.dtype, []).append((place, gradient))
        for pairs in by_dtype.values():
            places = [place for place, _ in pairs]
            self._update_alike(places, [gradient for _, gradient in pairs])

    def _update_alike(self, places: list[int], gradients: list[Tensor]) -> None:
        """Update parameters of one dtype."""
        optimizer = self._optimizer
        parameters = _at(self.parameters, places)
        state = {name: _at(values, places) for name, values in optimizer.state.items()}
        if isinstance(optimizer, Sgd):
            torch._fused_sgd_(
                parameters,
                gradients,
                state.get("velocity", []),
                weight_decay=0.0,
                momentum=optimizer.momentum,
                lr=self.learning_rate,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                is_first_step=False,  # velocities begin at zero, which comes to the same
                found_inf=self._forbidden,
            )
            return
        assert isinstance(optimizer, Adam)  # there are no others
        update = torch._fused_adamw_ if optimizer.weight_decay else torch._fused_adam_
        first, second = optimizer.betas
        torch._foreach_add_(state["step"], 1)
        update(
            parameters,
            gradients,
            state["mean"],
            state["square"],
            [],
            state["step"],
            lr=self.learning_rate,
            beta1=first,
            beta2=second,
            weight_decay=optimizer.weight_decay,
            eps=optimizer.epsilon,
            amsgrad=False,
            maximize=False,
            found_inf=self._forbidden,
        )
        torch._foreach_sub_(state["step"], [self._forbidden] * len(places))


def _at(tensors: list[Tensor], places: Iterable[int]) -> list[Tensor]:
    return [tensors[place] for place in places]
