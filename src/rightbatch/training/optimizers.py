"""The update rules: SGD with momentum, Adam and AdamW, as torch.optim has them.

They are written out here because making the first `torch.optim` optimizer imports torch's
compiler, which takes about as long as importing torch itself (2.5 s on an idle core), and its
bookkeeping adds to every step of a small network.
tests/training/test_optimizers.py holds them to torch.optim's results.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

OPTIMIZERS = ("sgd", "adam", "adamw")


class Optimizer(ABC):
    """Updates parameters from their gradients; `state` holds what it remembers, by name."""

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.learning_rate = learning_rate

    @property
    @abstractmethod
    def state(self) -> dict[str, list[Tensor]]:
        """Tensors that a resumed run needs, a list as long as the parameters under each name."""

    def step(self) -> None:
        """Update the parameters in place; those without a gradient are left as they are."""
        used = [place for place, value in enumerate(self.parameters) if value.grad is not None]
        if used:
            with torch.no_grad():
                self._update(
                    used, [value.grad for value in self.parameters if value.grad is not None]
                )

    @abstractmethod
    def _update(self, used: list[int], gradients: list[Tensor]) -> None:
        """Change the parameters at the places `used` in place."""


def _at(tensors: list[Tensor], places: list[int]) -> list[Tensor]:
    return [tensors[place] for place in places]


class Sgd(Optimizer):
    """Stochastic gradient descent: `v ← μ v + g`, `w ← w - η v`, with v = g at the first step."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], learning_rate: float, momentum: float = 0.0
    ) -> None:
        super().__init__(parameters, learning_rate)
        self.momentum = momentum
        # Zeros make the first step's v equal to g.
        self._velocities = [torch.zeros_like(p) for p in self.parameters] if momentum else []

    @property
    @override
    def state(self) -> dict[str, list[Tensor]]:
        return {"velocity": self._velocities} if self.momentum else {}

    @override
    def _update(self, used: list[int], gradients: list[Tensor]) -> None:
        if self.momentum:
            velocities = _at(self._velocities, used)
            torch._foreach_mul_(velocities, self.momentum)
            torch._foreach_add_(velocities, gradients)
            gradients = velocities
        torch._foreach_add_(_at(self.parameters, used), gradients, alpha=-self.learning_rate)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980), with β = (0.9, 0.999) and ε = 1e-8.

    `m ← β₁ m + (1-β₁) g`, `v ← β₂ v + (1-β₂) g²`, and after step t
    `w ← w - η / (1-β₁ᵗ) · m / (√(v / (1-β₂ᵗ)) + ε)`. With `weight_decay` λ the weights first
    shrink, `w ← (1 - η λ) w`: AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101).
    """

    betas = (0.9, 0.999)
    epsilon = 1e-8

    def __init__(
        self, parameters: Sequence[nn.Parameter], learning_rate: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, learning_rate)
        self.weight_decay = weight_decay
        self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = [torch.zeros((), dtype=torch.int64) for _ in self.parameters]

    def count_on_device(self) -> None:
        """Count steps in float32 beside each parameter, so that an update waits for no number."""
        pairs = zip(self._steps, self.parameters, strict=True)
        self._steps = [count.to(value.device, torch.float32) for count, value in pairs]

    @property
    @override
    def state(self) -> dict[str, list[Tensor]]:
        return {"mean": self._means, "square": self._squares, "step": self._steps}

    @override
    def _update(self, used: list[int], gradients: list[Tensor]) -> None:
        first, second = self.betas
        parameters, means = _at(self.parameters, used), _at(self._means, used)
        squares, steps = _at(self._squares, used), _at(self._steps, used)
        torch._foreach_add_(steps, 1)
        # Each parameter counts its own steps: it may have been without a gradient in some.
        counts = [int(step) for step in steps]
        if self.weight_decay:
            torch._foreach_mul_(parameters, 1.0 - self.learning_rate * self.weight_decay)
        torch._foreach_lerp_(means, gradients, 1.0 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - second)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [math.sqrt(1.0 - second**count) for count in counts])
        torch._foreach_add_(roots, self.epsilon)
        torch._foreach_addcdiv_(
            parameters,
            means,
            roots,
            [-self.learning_rate / (1.0 - first**count) for count in counts],
        )


def build_optimizer(
    name: str, parameters: Sequence[nn.Parameter], *, learning_rate: float, momentum: float
) -> Optimizer:
    """The optimizer of that name (one of `OPTIMIZERS`); AdamW decays weights by 0.01, as torch's.

    >>> weight = nn.Parameter(torch.tensor([1.0]))
    >>> weight.grad = torch.tensor([2.0])
    >>> build_optimizer("sgd", [weight], learning_rate=0.25, momentum=0.0).step()
    >>> weight.item()
    0.5
    """
    if name == "sgd":
        return Sgd(parameters, learning_rate, momentum)
    return Adam(parameters, learning_rate, weight_decay=0.01 if name == "adamw" else 0.0)
