"""The losses: per-sample values and derivatives as autograd finds them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rightbatch.errors import DataError, OptionError
from rightbatch.training.losses import MASKED, CustomLoss, Loss, find_loss

GENERATOR = torch.Generator().manual_seed(3)
OUTPUTS = torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64)
COLUMN = torch.randn(7, 1, generator=GENERATOR, dtype=torch.float64)
CODES = torch.tensor([0, 3, 1, 1, 2, 0, 3])
BITS = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
SOFT = torch.softmax(torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64), 1)
CASES = [
    ("cross_entropy", OUTPUTS, CODES),
    ("cross_entropy", OUTPUTS, SOFT),
    ("cross_entropy", OUTPUTS, functional.one_hot(CODES, 4).double()),
    ("binary_cross_entropy", COLUMN, BITS),
    ("squared_error", COLUMN, COLUMN.flip(0).squeeze(1)),
    ("squared_error", OUTPUTS, OUTPUTS.flip(0)),
]


def plain(name: str, outputs: Tensor, target: Tensor) -> Tensor:
    if name == "cross_entropy":
        return functional.cross_entropy(outputs, target)
    if name == "binary_cross_entropy":
        return functional.binary_cross_entropy(torch.sigmoid(outputs.squeeze(1)), target)
    return functional.mse_loss(outputs, target.reshape(outputs.shape))


@pytest.mark.parametrize(("name", "outputs", "target"), CASES)
def test_the_mean_is_torchs(name, outputs, target):
    losses = find_loss(name).per_sample(outputs, target)
    assert losses.shape == (7,)
    torch.testing.assert_close(losses.mean(), plain(name, outputs, target))


@pytest.mark.parametrize(("name", "outputs", "target"), CASES)
def test_the_derivative_is_autograds(name, outputs, target):
    loss = find_loss(name)
    tracked = outputs.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(loss.per_sample(tracked, target).sum(), tracked)
    losses, derivative = loss.with_derivative(outputs.clone(), target)
    torch.testing.assert_close(losses, loss.per_sample(outputs, target))
    torch.testing.assert_close(derivative, wanted)
    derivative.div_(3)  # a step divides in place


@pytest.mark.parametrize("large", [1e3, 1e4, -1e4])
def test_large_logits_stay_finite(large):
    outputs = torch.tensor([[large, 0.0], [0.0, large]])
    for name, values, target in [
        ("cross_entropy", outputs, torch.tensor([0, 0])),
        ("binary_cross_entropy", outputs[:, :1], torch.tensor([0.0, 1.0])),
    ]:
        losses, derivative = find_loss(name).with_derivative(values.clone(), target)
        assert torch.isfinite(losses).all()
        assert torch.isfinite(derivative).all()


@pytest.mark.parametrize(
    "function",
    [
        lambda outputs, target: functional.mse_loss(outputs.squeeze(1), target),
        lambda outputs, target: (outputs.squeeze(1) - target).square(),
        lambda outputs, target: (outputs - target.unsqueeze(1)).square(),
    ],
    ids=["mean", "(B,)", "(B, 1)"],
)
def test_a_function_may_give_the_mean_or_a_value_a_sample(function):
    target = COLUMN.flip(0).squeeze(1)
    wanted, derivative = find_loss("squared_error").with_derivative(COLUMN.clone(), target)
    losses, found = find_loss(function).with_derivative(COLUMN.clone(), target)
    torch.testing.assert_close(losses.mean(), wanted.mean())
    torch.testing.assert_close(found, derivative)


def test_a_derivative_that_autograd_broadcasts_can_be_written_to():
    _, derivative = CustomLoss(lambda outputs, _: outputs.sum(1)).with_derivative(OUTPUTS, CODES)
    assert torch.equal(derivative.div_(2), torch.full_like(OUTPUTS, 0.5))


def test_a_loss_that_broadcasts_samples_against_samples_is_refused():
    loss: Loss = find_loss(lambda outputs, target: (outputs - target).square())
    with pytest.raises(OptionError, match=r"\(7, 7\) for outputs \(7, 1\) and target \(7,\)"):
        loss.per_sample(COLUMN, BITS)


@pytest.mark.parametrize("wrong", ["crossentropy", "mse"])
def test_an_unknown_name_is_refused(wrong):
    with pytest.raises(OptionError, match="Valid are: cross_entropy, binary_cross_entropy"):
        find_loss(wrong)
    with pytest.raises(OptionError, match="Did you mean 'cross_entropy'"):
        find_loss("crossentropy")


def test_what_is_no_function_is_refused():
    with pytest.raises(OptionError, match="neither a name nor a function"):
        find_loss(3)  # type: ignore[arg-type]  # on purpose


TOKEN_OUTPUTS = torch.randn(3, 5, 4, generator=GENERATOR, dtype=torch.float64)
TOKENS = torch.tensor([[0, 3, 1, MASKED, 2], [MASKED] * 5, [3, 3, MASKED, 0, MASKED]])


def test_the_mean_over_tokens_is_torchs_over_those_that_are_not_masked():
    loss = find_loss("cross_entropy")
    losses = loss.per_sample(TOKEN_OUTPUTS, TOKENS)
    assert losses.shape == (3,)
    assert losses[1] == 0
    assert loss.weight(TOKENS) == 7
    wanted = functional.cross_entropy(TOKEN_OUTPUTS.movedim(2, 1), TOKENS)
    torch.testing.assert_close(losses.sum() / loss.weight(TOKENS), wanted)


def test_the_derivative_of_token_losses_is_autograds_and_zero_where_masked():
    loss = find_loss("cross_entropy")
    tracked = TOKEN_OUTPUTS.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(loss.per_sample(tracked, TOKENS).sum(), tracked)
    losses, derivative = loss.with_derivative(TOKEN_OUTPUTS.clone(), TOKENS)
    torch.testing.assert_close(losses, loss.per_sample(TOKEN_OUTPUTS, TOKENS))
    torch.testing.assert_close(derivative, wanted)
    assert not derivative[TOKENS == MASKED].any()
    assert derivative[TOKENS != MASKED].any(1).all()


@pytest.mark.parametrize("target", [CODES, SOFT])
def test_a_target_of_one_value_a_sample_weighs_by_samples(target):
    assert find_loss("cross_entropy").weight(target) == 7


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (TOKEN_OUTPUTS.movedim(2, 1), r"classes stand second.*outputs\.movedim\(1, -1\)"),
        (TOKEN_OUTPUTS[:, :, 0], r"gives \(3, 5\) for .*tokens \(3, 5\).*\(3, 5, classes\)"),
        (TOKEN_OUTPUTS[:, :4], r"gives \(3, 4, 4\)"),
    ],
    ids=["torch's order", "no classes", "other length"],
)
def test_outputs_that_are_not_scores_of_each_token_are_refused(outputs, told):
    with pytest.raises(OptionError, match=told):
        find_loss("cross_entropy").per_sample(outputs, TOKENS)


@pytest.mark.parametrize("code", [4, -1])
def test_a_code_beyond_the_vocabulary_is_refused(code):
    target = TOKENS.clone()
    target[0, 0] = code
    with pytest.raises(DataError, match=f"{code}.* 4 classes apart: valid are 0 to 3, and -100"):
        find_loss("cross_entropy").per_sample(TOKEN_OUTPUTS, target)


@pytest.mark.parametrize(
    "function",
    [
        lambda outputs, target: functional.cross_entropy(outputs.movedim(2, 1), target),
        lambda outputs, target: functional.cross_entropy(
            outputs.movedim(2, 1), target, reduction="none"
        ),
        # A value for masked tokens as well, which does not count.
        lambda outputs, target: (
            -torch.log_softmax(outputs, -1).gather(-1, target.clamp(0).unsqueeze(-1)).squeeze(-1)
        ),
    ],
    ids=["mean", "(B, T)", "(B, T), masked ones too"],
)
def test_a_function_of_tokens_weighs_those_that_are_not_masked(function):
    wanted, loss = find_loss("cross_entropy"), find_loss(function)
    weight = loss.weight(TOKENS)
    assert weight == 7
    for pieces in ([slice(0, 3)], [slice(0, 1), slice(1, 2), slice(2, 3)]):
        sums = [loss.per_sample(TOKEN_OUTPUTS[piece], TOKENS[piece]).sum() for piece in pieces]
        torch.testing.assert_close(sum(sums), wanted.per_sample(TOKEN_OUTPUTS, TOKENS).sum())


def test_a_function_of_tokens_that_gives_another_shape_is_refused():
    loss = find_loss(lambda outputs, _: outputs)
    with pytest.raises(OptionError, match="the mean, or one value a sample or a token"):
        loss.per_sample(TOKEN_OUTPUTS, TOKENS)
