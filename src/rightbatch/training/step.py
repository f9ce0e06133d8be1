"""One step of gradient descent: the exact mean gradient of a batch, penalties, the update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from rightbatch.errors import OptionError
from rightbatch.training.losses import CustomLoss, Loss
from rightbatch.training.models import DenseNetwork
from rightbatch.training.optimizers import Optimizer


class Gradient(ABC):
    """How the gradient of the mean loss of a batch is found.

    `parameters` are the tensors that the optimizer updates, with their gradients in `.grad`;
    `weights` those among them, or views of them, that a penalty falls on, each with its gradient.
    """

    model: nn.Module
    loss: Loss
    parameters: list[nn.Parameter]
    weights: list[tuple[Tensor, Tensor]]

    @abstractmethod
    def accumulate(self, inputs: Any, target: Tensor, *, total: float, is_first: bool) -> Tensor:
        """Add the gradient of `Σ loss / total` over these samples; gives that sum, a scalar.

        `total` is the weight of the whole batch, of which these may be a part: the number of its
        samples, or of its unmasked tokens (`Loss.weight`). So micro-batches and ranks of any sizes
        add up to the exact mean. `is_first` starts from zero.
        """

    @abstractmethod
    def find_weights(self) -> None:
        """Look up `weights`, once gradients exist."""


class AutogradGradient(Gradient):
    """The gradient of any module, by torch's autograd."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        self.model = model
        self.loss = loss
        # What a pass goes through: the model, or what ranks have put around it.
        self.forward: Callable[[Any], Tensor] = model
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.parameters:
            raise OptionError("the model has no parameters that require a gradient")

    @override
    def accumulate(self, inputs: Any, target: Tensor, *, total: float, is_first: bool) -> Tensor:
        if is_first:
            for parameter in self.parameters:
                parameter.grad = None
        loss = self.loss.per_sample(self.forward(inputs), target).sum() / total
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.detach()

    @override
    def find_weights(self) -> None:
        # Biases and the scales and shifts of normalisation layers have one axis.
        self.weights = [
            (parameter.detach(), parameter.grad)
            for parameter in self.parameters
            if parameter.dim() > 1 and parameter.grad is not None
        ]


class DenseGradient(Gradient):
    """The gradient of a `DenseNetwork` in closed form (back-propagation written out).

    δ_L = ∂loss/∂z_L / total; ∂W_l = δ_lᵀ h_{l-1}; ∂b_l = Σ δ_l; δ_{l-1} = (δ_l W_l) ∘ a'(z_{l-1}).
    It gives what autograd gives, without building a graph: with 784-100-10 and batches of 128
    that is a third of the step (benchmarks/epoch.py).
    """

    model: DenseNetwork

    def __init__(self, model: DenseNetwork, loss: Loss) -> None:
        self.model = model
        self.loss = loss
        # Whatever happened to the model since it was built may have parted its parameters.
        model.share()
        # One flat parameter: an update of four small tensors costs four times its overhead.
        flat = nn.Parameter(model.flat, requires_grad=False)
        flat.grad = model.flat_gradient
        self.parameters = [flat]
        self._layers = [
            _Layer(layer.weight.detach(), layer.bias.detach(), weight_gradient, bias_gradient)
            for layer in model._linear
            if (weight_gradient := layer.weight.grad) is not None
            and (bias_gradient := layer.bias.grad) is not None
        ]
        # Without autograd's bookkeeping a step is a tenth faster; a user's loss needs it.
        self._mode = torch.no_grad if isinstance(loss, CustomLoss) else torch.inference_mode
        self.find_weights()

    @override
    def find_weights(self) -> None:
        length = self.model.weights_length
        self.weights = [(self.model.flat[:length], self.model.flat_gradient[:length])]

    @override
    def accumulate(self, inputs: Tensor, target: Tensor, *, total: float, is_first: bool) -> Tensor:
        with self._mode():
            # -1 has no meaning for the inputs of a rank that holds no sample.
            features = inputs.reshape(len(inputs), -1) if len(inputs) else inputs.flatten(1)
            return self._accumulate(features, target, total, is_first)

    def sample_norms(self, inputs: Tensor, target: Tensor) -> Tensor:
        """The squared norm |gᵢ|² of the gradient of each sample's own loss, (B,).

        A layer's gradient is the outer product of δ and its inputs, so its squared norm is
        |δ|² |h|², and |δ|² for the bias (Goodfellow 2015, arXiv 1510.01799).
        """
        with self._mode():
            hidden, _, delta = self._forward(inputs.reshape(len(inputs), -1), target)
            squares = torch.zeros(len(target), device=delta.device)
            for position in range(len(self._layers) - 1, -1, -1):
                below = hidden.pop()
                squares += delta.square().sum(1) * (below.square().sum(1) + 1.0)
                if position:
                    delta = torch.mm(delta, self._layers[position].weight)
                    delta = _through(self.model.activation, delta, below)
            return squares

    def _forward(self, inputs: Tensor, target: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """What goes into each layer, the losses (B,), and their derivative by the outputs."""
        activation = self.model.activation
        hidden = [inputs]
        last = len(self._layers) - 1
        for position, layer in enumerate(self._layers):
            values = torch.addmm(layer.bias, hidden[-1], layer.weight_transposed)
            hidden.append(values if position == last else _ACTIVATE[activation](values))
        return hidden, *self.loss.with_derivative(hidden.pop(), target)

    def _accumulate(self, inputs: Tensor, target: Tensor, total: float, is_first: bool) -> Tensor:
        keep = 0 if is_first else 1
        activation = self.model.activation
        hidden, losses, delta = self._forward(inputs, target)
        last = len(self._layers) - 1
        delta.div_(total)
        for position in range(last, -1, -1):
            layer = self._layers[position]
            below = hidden.pop()
            layer.weight_gradient.addmm_(delta.t(), below, beta=keep)
            if keep:
                layer.bias_gradient.add_(delta.sum(0))
            else:
                torch.sum(delta, 0, out=layer.bias_gradient)
            if position:
                delta = _through(activation, torch.mm(delta, layer.weight), below)
        return losses.sum().div_(total)


class _Layer:
    """A layer's tensors; all are views of the network's own memory."""

    def __init__(
        self, weight: Tensor, bias: Tensor, weight_gradient: Tensor, bias_gradient: Tensor
    ) -> None:
        self.weight = weight
        self.weight_transposed = weight.t()
        self.bias = bias
        self.weight_gradient = weight_gradient
        self.bias_gradient = bias_gradient


_ACTIVATE = {"relu": Tensor.relu_, "sigmoid": Tensor.sigmoid_, "tanh": Tensor.tanh_}


def _through(activation: str, gradient: Tensor, values: Tensor) -> Tensor:
    """The gradient by what went into the activation, from that by what came out of it."""
    if activation == "relu":
        # A third of the time of multiplying by (values > 0).
        torch.ops.aten.threshold_backward.grad_input(gradient, values, 0, grad_input=gradient)
        return gradient
    if activation == "sigmoid":
        return gradient.mul_(values * (1.0 - values))
    return gradient.mul_(1.0 - values * values)


def find_gradient(model: nn.Module, loss: Loss) -> Gradient:
    """The fastest way to the gradient that the model allows."""
    # The closed form knows neither frozen parameters nor what a subclass computes.
    if type(model) is DenseNetwork and all(value.requires_grad for value in model.parameters()):
        return DenseGradient(model, loss)
    return AutogradGradient(model, loss)


def samples_at(inputs: Any, index: Any) -> Any:
    """Some samples of a batch's inputs, which may be a dict of tensors."""
    if isinstance(inputs, dict):
        return {name: values[index] for name, values in inputs.items()}
    return inputs[index]


class Step:
    """A step: gradient of the mean loss, plus penalties, then the optimizer's update.

    `l2` adds (l2/2)·|w|² and `l1` adds l1·|w|₁ to the mean loss, on weights and not on biases.
    With `micro_batch_size` the batch is worked through in pieces, with the same result.
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
        self.gradient = gradient
        self.optimizer = optimizer
        self.l1 = l1
        self.l2 = l2
        self.micro_batch_size = micro_batch_size

    def __call__(self, inputs: Any, target: Tensor, total: int | None = None) -> float:
        """Learn from one batch; gives its mean loss before the update, without penalties.

        `total` is the weight of the batch where other ranks hold samples of it as well.

        Where the loss is NaN or infinite, the parameters are left as they were; so they are where
        no token of the batch counts, whose loss is 0.
        """
        if total is None:
            total = self.gradient.loss.weight(target)
        if not total:
            return 0.0
        mean = self._mean(inputs, target, total, self.micro_batch_size or len(target))
        loss = mean.item()
        if loss - loss != 0.0:
            return loss
        self._update()
        return loss

    def _update(self) -> None:
        if self.l1 or self.l2:
            self._add_penalties()
        self.optimizer.step()

    def _mean(self, inputs: Any, target: Tensor, total: int, size: int) -> Tensor:
        samples = len(target)
        if size >= samples:
            return self.gradient.accumulate(inputs, target, total=total, is_first=True)
        mean = torch.zeros((), dtype=torch.float64)
        for start in range(0, samples, size):
            piece = slice(start, start + size)
            mean = mean + self.gradient.accumulate(
                samples_at(inputs, piece), target[piece], total=total, is_first=start == 0
            )
        return mean

    def _add_penalties(self) -> None:
        with torch.no_grad():
            if not isinstance(self.gradient, DenseGradient):
                self.gradient.find_weights()
            for weight, gradient in self.gradient.weights:
                if self.l2:
                    gradient.add_(weight, alpha=self.l2)
                if self.l1:
                    gradient.add_(weight.sign(), alpha=self.l1)
