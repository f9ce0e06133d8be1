"""Squared norms of the gradients of single samples, without holding those gradients at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from rightbatch.training.losses import CustomLoss
from rightbatch.training.step import AutogradGradient, DenseGradient, Gradient

# Gradients of single samples are made in chunks of about this many numbers.
_CHUNK_NUMBERS = 1 << 24
# Beyond, a gradient a sample costs more than it tells.
_MOST_PARAMETERS = 2_000_000

SampleNorms = Callable[[Any, Tensor], Tensor]


def find_sample_norms(gradient: Gradient, example: tuple[Any, Tensor | None]) -> SampleNorms | None:
    """A function of (inputs, target) that gives |gᵢ|² of each sample (B,); None where none will do.

    Of dense networks they follow from the inputs and derivatives of each layer, |δ|²(|h|² + 1)
    (Goodfellow 2015, arXiv 1510.01799). Of other modules of up to two million parameters
    `torch.func` makes each sample's gradient; what it can not transform, as `example` shows, has
    none.
    """
    if isinstance(gradient, DenseGradient) and not isinstance(gradient.loss, CustomLoss):
        return gradient.sample_norms
    if not isinstance(gradient, AutogradGradient) or isinstance(gradient.loss, CustomLoss):
        return None
    size = sum(parameter.numel() for parameter in gradient.parameters)
    if size > _MOST_PARAMETERS:
        return None
    norms = _FunctionalNorms(gradient, chunk=max(1, _CHUNK_NUMBERS // size))
    inputs, target = example
    assert target is not None  # there is no gradient without a target
    try:
        values = norms(inputs, target)
    except Exception:
        # What a module does may be beyond torch.func: data-dependent branches, in-place writes,
        # kernels of its own. Micro-batches do without.
        return None
    return norms if bool(torch.isfinite(values).all()) else None


class _FunctionalNorms:
    """|gᵢ|² by a gradient for each sample of a chunk."""

    def __init__(self, gradient: AutogradGradient, *, chunk: int) -> None:
        self._model = gradient.model
        self._loss = gradient.loss
        self._chunk = chunk

    def __call__(self, inputs: Any, target: Tensor) -> Tensor:
        every = {name: value.detach() for name, value in self._model.named_parameters()}
        learned = {
            name: every.pop(name)
            for name, value in self._model.named_parameters()
            if value.requires_grad
        }
        rest = {**every, **dict(self._model.named_buffers())}

        def loss_of(parameters: dict[str, Tensor], one: Any, known: Tensor) -> Tensor:
            batch = (
                {name: value.unsqueeze(0) for name, value in one.items()}
                if isinstance(one, dict)
                else one.unsqueeze(0)
            )
            outputs = functional_call(self._model, {**parameters, **rest}, (batch,))
            return self._loss.per_sample(outputs, known.unsqueeze(0)).sum()

        each = vmap(
            grad(loss_of), in_dims=(None, 0, 0), randomness="different", chunk_size=self._chunk
        )
        gradients = each(learned, inputs, target)
        squares = [value.reshape(len(target), -1).square().sum(1) for value in gradients.values()]
        return torch.stack(squares).sum(0)
