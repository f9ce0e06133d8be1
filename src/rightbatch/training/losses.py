"""The built-in losses, each with its derivative and the metric that goes with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from rightbatch.errors import DataError, OptionError, did_you_mean

MASKED = -100
"""The target of a token that counts for nothing, as torch's `ignore_index` has it."""


class Loss(ABC):
    """A loss as a mean over samples: per-sample values, and their derivative by the outputs.

    The mean of a batch is the sum of the per-sample values divided by `weight`.
    """

    name: ClassVar[str]
    metric: ClassVar[str]

    @abstractmethod
    def per_sample(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss of each sample, (B,), from outputs (B, K) and the encoded target."""

    @abstractmethod
    def with_derivative(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Per-sample losses (B,) and their derivative by the outputs (B, K).

        The outputs' memory may be overwritten.
        """

    def weight(self, target: Tensor) -> int:
        """What the mean of a batch with this target is over: its samples, or unmasked tokens."""
        return len(target)


def is_tokens(target: Tensor) -> bool:
    """Whether a target holds a class code a token, (B, T), rather than one a sample.

    >>> is_tokens(torch.tensor([[0, 2], [1, MASKED]])), is_tokens(torch.tensor([0, 2]))
    (True, False)
    """
    return target.dim() > 1 and not target.is_floating_point()


def unmasked(target: Tensor) -> int:
    """The number of tokens of a target that count.

    >>> unmasked(torch.tensor([[0, 2], [1, MASKED]]))
    3
    """
    return int((target != MASKED).sum())


class CrossEntropy(Loss):
    """Multi-class cross-entropy of a softmax: `log Σ exp z - z[y]`, derivative `softmax(z) - e_y`.

    The target is int64 class codes (B,), or class probabilities float (B, K), of outputs (B, K).

    It may be int64 codes of tokens, (B, T), of outputs (B, T, K): the classes are the last axis,
    where a linear layer leaves them. A target of -100 is masked. The value of a sample is then the
    sum over its tokens, and the mean is over all unmasked tokens of the batch, so that a token
    weighs the same wherever it stands.

    Raises OptionError for outputs of another shape, DataError for a code that is no class.

    >>> loss, target = CrossEntropy(), torch.tensor([[0, 1], [1, MASKED]])
    >>> loss.per_sample(torch.zeros(2, 2, 4), target), loss.weight(target)
    (tensor([2.7726, 1.3863]), 3)
    """

    name = "cross_entropy"
    metric = "accuracy"

    @override
    def per_sample(self, outputs: Tensor, target: Tensor) -> Tensor:
        if is_tokens(target):
            return self._per_token(outputs, target).reshape(target.shape).flatten(1).sum(1)
        return functional.cross_entropy(outputs, target, reduction="none")

    @override
    def weight(self, target: Tensor) -> int:
        # A small step would feel a further call: most targets have one axis.
        return unmasked(target) if target.dim() > 1 and is_tokens(target) else len(target)

    def _per_token(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss of each token, one after another; 0 where it is masked."""
        refuse_token_shapes(outputs.shape, target.shape)
        try:
            return functional.cross_entropy(
                outputs.flatten(0, -2), target.flatten(), reduction="none", ignore_index=MASKED
            )
        except IndexError as error:
            codes = target[target != MASKED]
            raise DataError(
                f"the target holds codes from {int(codes.min())} to {int(codes.max())}, and the "
                f"model tells {outputs.shape[-1]} classes apart: valid are 0 to "
                f"{outputs.shape[-1] - 1}, and {MASKED} for tokens that do not count. Give the "
                "model an output for every token of the vocabulary"
            ) from error

    @override
    def with_derivative(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if target.dim() > 1 and is_tokens(target):
            with torch.enable_grad():
                tracked = outputs.detach().requires_grad_()
                losses = self.per_sample(tracked, target)
                (gradient,) = torch.autograd.grad(losses.sum(), tracked)
            return losses.detach(), gradient
        log_softmax = torch.log_softmax(outputs, dim=1)
        if target.dim() == 2:
            losses = -(log_softmax * target).sum(1)
            return losses, log_softmax.exp() * target.sum(1, keepdim=True) - target
        column = target.unsqueeze(1)
        losses = log_softmax.gather(1, column).squeeze(1).neg_()
        derivative = log_softmax.exp_()
        minus_one = derivative.new_full((1, 1), -1.0).expand(column.shape)
        return losses, derivative.scatter_add_(1, column, minus_one)


class BinaryCrossEntropy(Loss):
    """Cross-entropy of one sigmoid output: `softplus(z) - y z`, derivative `sigmoid(z) - y`.

    The target is float 0 or 1, (B,); the output (B, 1) or (B,).
    """

    name = "binary_cross_entropy"
    metric = "accuracy"

    @override
    def per_sample(self, outputs: Tensor, target: Tensor) -> Tensor:
        logits = outputs.reshape(target.shape)
        # Beyond the threshold softplus(z) is z, which at 40 it is in float64 too. torch's own
        # function for this loss takes several times as long for a small batch.
        return functional.softplus(logits, threshold=40) - logits * target

    @override
    def with_derivative(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        losses = self.per_sample(outputs, target)
        return losses, torch.sigmoid(outputs) - target.reshape(outputs.shape)


class SquaredError(Loss):
    """`(ŷ - y)²`, the mean over the outputs of a sample; derivative `2 (ŷ - y) / K`.

    The target is float, (B,) or (B, K).
    """

    name = "squared_error"
    metric = "r2"

    @override
    def per_sample(self, outputs: Tensor, target: Tensor) -> Tensor:
        difference = outputs.reshape(len(target), -1) - target.reshape(len(target), -1)
        return difference.square().mean(1)

    @override
    def with_derivative(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        difference = outputs - target.reshape(outputs.shape)
        return difference.square().mean(1), difference * (2.0 / outputs.shape[1])


class CustomLoss(Loss):
    """A user's function `loss(outputs, target)`: a mean over the samples, or a value a sample.

    `gives_mean` says which of the two it was seen to give. Of a target of tokens it gives the mean
    over those that are not masked, of the batch or of each sample, or a value a token, (B, T).
    """

    name = "custom"
    metric = ""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.function = function
        self.gives_mean = False

    @override
    def weight(self, target: Tensor) -> int:
        return unmasked(target) if is_tokens(target) else len(target)

    @override
    def per_sample(self, outputs: Tensor, target: Tensor) -> Tensor:
        if is_tokens(target):
            return self._token_sums(outputs, target)
        losses = self.function(outputs, target)
        self._check(losses, outputs, target)
        if losses.dim() == 0:
            self.gives_mean = True
            # A mean says nothing of single samples; repeated, it weighs by their number.
            return losses.expand(len(target))
        return losses.reshape(len(target), -1).mean(1)

    @override
    def with_derivative(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            tracked = outputs.detach().requires_grad_()
            losses = self.per_sample(tracked, target)
            (derivative,) = torch.autograd.grad(losses.sum(), tracked)
        # Autograd may give a broadcast view, which can not be written to.
        return losses.detach(), derivative.contiguous()

    def _token_sums(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The sum of the losses of each sample's unmasked tokens, (B,)."""
        counts = target != MASKED
        if not counts.any():
            # A mean over nothing is NaN.
            return outputs.reshape(len(target), -1).sum(1) * 0.0
        losses = self.function(outputs, target)
        self._check(losses, outputs, target)
        if losses.shape == target.shape:
            return (losses * counts).flatten(1).sum(1)
        self.gives_mean = losses.dim() == 0
        return losses.reshape(-1) * counts.flatten(1).sum(1)

    def _check(self, losses: Tensor, outputs: Tensor, target: Tensor) -> None:
        if is_tokens(target) and losses.shape in ((), (len(target),), target.shape):
            return
        if losses.dim() == 0 or (
            not is_tokens(target)
            and len(losses) == len(target)
            # (B, 1) against (B,) broadcasts to (B, B), which is nobody's loss.
            and losses.numel() <= max(outputs.numel(), target.numel())
        ):
            return
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        raise OptionError(
            f"the loss {name} gave the shape {tuple(losses.shape)} for outputs "
            f"{tuple(outputs.shape)} and target {tuple(target.shape)}: it has to give the mean, "
            f"or one value a sample{' or a token' if is_tokens(target) else ''}. Make the shapes "
            "equal first: outputs.reshape(target.shape)"
        )


def refuse_token_shapes(outputs: Sequence[int | str], target: Sequence[int | str]) -> None:
    """OptionError unless outputs of this shape give scores for each token of such a target.

    >>> refuse_token_shapes((32, 65, 100), (32, 100))
    Traceback (most recent call last):
    rightbatch.errors.OptionError: the model gives (32, 65, 100) for a target of tokens (32, 100)...
    """
    given, wanted = list(outputs), list(target)
    if given[:-1] == wanted:
        return
    is_turned = len(given) == len(wanted) + 1 and [given[0], *given[2:]] == wanted
    hint = (
        "its classes stand second, as torch's own loss has them: return outputs.movedim(1, -1)"
        if is_turned
        else "as an nn.Linear does that is the last layer and has an output a class"
    )
    raise OptionError(
        f"the model gives {_shape(given)} for a target of tokens {_shape(wanted)}; cross_entropy "
        f"takes the scores of each token in the last axis, {_shape([*wanted, 'classes'])}: {hint}"
    )


def _shape(sizes: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, sizes))})"


_LOSSES: dict[str, type[Loss]] = {
    loss.name: loss for loss in (CrossEntropy, BinaryCrossEntropy, SquaredError)
}


def find_loss(loss: str | Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The loss of that name, or a user's function as a loss.

    Raises OptionError for a name that is none.

    >>> find_loss("squared_error").per_sample(torch.tensor([[3.0]]), torch.tensor([1.0]))
    tensor([4.])
    """
    if not isinstance(loss, str):
        if not callable(loss):
            raise OptionError(f"loss={loss!r} is neither a name nor a function")
        return CustomLoss(loss)
    if loss not in _LOSSES:
        raise OptionError(
            f"no loss is called {loss!r}.{did_you_mean(loss, _LOSSES)} "
            f"Valid are: {', '.join(_LOSSES)}, or a function of (outputs, target)."
        )
    return cast("Callable[[], Loss]", _LOSSES[loss])()
