"""How the forward pass of training is run: as it is, compiled, or in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from rightbatch.errors import OptionError
from rightbatch.training.losses import Loss
from rightbatch.training.options import FitOptions
from rightbatch.training.step import AutogradGradient, Gradient, find_gradient


class ForwardGradient(AutogradGradient):
    """The gradient by autograd, of a model that is compiled or runs in bfloat16.

    In bfloat16 parameters, gradients and loss stay float32, and torch's autocast takes the matrix
    products and convolutions down to it: 8 bits of fraction, the range of float32, so that losses
    need no scaling.
    """

    def __init__(self, model: nn.Module, loss: Loss, *, is_compiled: bool, precision: str) -> None:
        super().__init__(model, loss)
        self._device_type = self.parameters[0].device.type
        self._is_narrow = precision == "bfloat16"
        self._waits_for_compiler = is_compiled

    @override
    def accumulate(self, inputs: Any, target: Tensor, *, total: float, is_first: bool) -> Tensor:
        if is_first:
            for parameter in self.parameters:
                parameter.grad = None
        try:
            return self._add(inputs, target, total)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise OptionError(
                f"compile=True: torch can not compile the model ({reason}). Leave compile out; on "
                "the CPU it needs a C++ compiler, such as g++"
            ) from error

    def _add(self, inputs: Any, target: Tensor, total: float) -> Tensor:
        if self._waits_for_compiler:
            # A wrapper around the model, or around what ranks have put around it. The model itself
            # stays what it was: validation, predictions and checkpoints know nothing of it. Not
            # before it is needed, for the import alone takes seconds.
            self.forward = torch.compile(self.forward)
            self._waits_for_compiler = False
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._is_narrow):
            outputs = self.forward(inputs)
        if self._is_narrow:
            outputs = outputs.float()
        loss = self.loss.per_sample(outputs, target).sum() / total
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.detach()


def gradient_for(model: nn.Module, loss: Loss, options: FitOptions) -> Gradient:
    """The fastest way to the gradient that the model and the options allow."""
    if not options.compile and options.precision == "float32":
        return find_gradient(model, loss)
    # The closed form of dense networks knows neither.
    return ForwardGradient(model, loss, is_compiled=options.compile, precision=options.precision)
