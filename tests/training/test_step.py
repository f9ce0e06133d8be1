"""One step: closed-form gradients, micro-batches, penalties, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rightbatch.errors import OptionError
from rightbatch.training.coupling import refuse_coupling
from rightbatch.training.losses import find_loss
from rightbatch.training.models import DenseNetwork, build_model
from rightbatch.training.optimizers import build_optimizer
from rightbatch.training.step import (
    AutogradGradient,
    DenseGradient,
    Step,
    find_gradient,
)

LOSSES = ("cross_entropy", "one-hot", "binary_cross_entropy", "squared_error", "custom")


def make_target(kind: str, samples: int, outputs: int, generator: torch.Generator) -> Tensor:
    codes = torch.randint(outputs, (samples,), generator=generator)
    if kind == "cross_entropy":
        return codes
    if kind == "one-hot":
        return nn.functional.one_hot(codes, outputs).double()
    if kind == "binary_cross_entropy":
        return torch.randint(2, (samples,), generator=generator).double()
    return torch.randn(samples, outputs, generator=generator, dtype=torch.float64)


def absolute_error(outputs: Tensor, target: Tensor) -> Tensor:
    return (outputs - target).abs().mean(1)


@given(
    name=st.sampled_from(["linear", "softmax", "logistic", "mlp:7", "mlp:6,5", "mlp:1,1,3"]),
    activation=st.sampled_from(["relu", "sigmoid", "tanh"]),
    kind=st.sampled_from(LOSSES),
    samples=st.integers(1, 40),
    inputs=st.integers(1, 9),
    outputs=st.integers(2, 5),
    micro=st.integers(1, 41),
    double=st.booleans(),
    seed=st.integers(0, 99),
)
def test_closed_form_gradients_equal_autograd(
    name, activation, kind, samples, inputs, outputs, micro, double, seed
):
    generator = torch.Generator().manual_seed(seed)
    outputs = 1 if kind == "binary_cross_entropy" else outputs
    model = build_model(name, inputs=inputs, outputs=outputs, activation=activation, seed=seed)
    features = torch.randn(samples, inputs, generator=generator, dtype=torch.float64)
    target = make_target(kind, samples, outputs, generator)
    if double:
        model.double()
    else:
        features = features.float()
        target = target if target.dtype == torch.int64 else target.float()
    model.flat_gradient.fill_(99.0)  # what an earlier step left behind
    loss = find_loss(
        absolute_error if kind == "custom" else kind.replace("one-hot", "cross_entropy")
    )
    reference = copy.deepcopy(model)
    values = loss.per_sample(reference(features), target).mean()
    wanted = torch.autograd.grad(values, list(reference.parameters()))

    gradient = DenseGradient(model, loss)
    found = torch.zeros((), dtype=torch.float64)
    for start in range(0, samples, micro):
        piece = slice(start, start + micro)
        found += gradient.accumulate(
            features[piece], target[piece], total=samples, is_first=start == 0
        )

    tolerance = {"rtol": 1e-9, "atol": 1e-11} if double else {"rtol": 2e-4, "atol": 2e-6}
    torch.testing.assert_close(found, values.detach().double(), **tolerance)
    for parameter, expected in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected, **tolerance)


def test_images_are_flattened():
    model = build_model("softmax", inputs=12, outputs=3)
    features, target = torch.randn(5, 3, 4), torch.tensor([0, 1, 2, 0, 1])
    gradient = DenseGradient(model, find_loss("cross_entropy"))
    gradient.accumulate(features, target, total=5, is_first=True)
    found = model.flat_gradient.clone()
    gradient.accumulate(features.flatten(1), target, total=5, is_first=True)
    assert torch.equal(found, model.flat_gradient)


def take_step(model: nn.Module, *, closed: bool, **options: float) -> float:
    loss = find_loss("squared_error")
    gradient = find_gradient(model, loss) if closed else AutogradGradient(model, loss)
    optimizer = build_optimizer("sgd", gradient.parameters, learning_rate=0.1, momentum=0.0)
    step = Step(
        gradient,
        optimizer,
        l1=options.get("l1", 0.0),
        l2=options.get("l2", 0.0),
        micro_batch_size=None,
    )
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    return step(features, features.sum(1))


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.3), (0.2, 0.0), (0.2, 0.3)])
def test_penalties_fall_on_weights_alone_with_their_exact_gradient(closed, l1, l2):
    plain, punished = (
        build_model("mlp:3", inputs=4, outputs=1, init="normal:1").double() for _ in range(2)
    )
    before = copy.deepcopy(plain.state_dict())
    first = take_step(plain, closed=closed)
    second = take_step(punished, closed=closed, l1=l1, l2=l2)
    assert first == second, "the loss is without penalty"
    for name, value in before.items():
        penalty = l2 * value + l1 * value.sign() if name.endswith("weight") else 0.0
        expected = plain.state_dict()[name] - 0.1 * penalty
        torch.testing.assert_close(punished.state_dict()[name], expected, rtol=1e-12, atol=1e-14)


def test_biases_and_normalisation_are_not_punished_in_a_module():
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 1)).double()
    gradient = AutogradGradient(model, find_loss("squared_error"))
    gradient.accumulate(
        torch.randn(2, 4, dtype=torch.float64), torch.zeros(2), total=2, is_first=True
    )
    gradient.find_weights()
    assert [tuple(weight.shape) for weight, _ in gradient.weights] == [(3, 4), (1, 3)]


def test_a_module_with_one_parameter_learns_by_plain_sgd():
    model = nn.Linear(4, 1, bias=False).double()
    before = model.weight.detach().clone()
    losses = [take_step(model, closed=True) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert not torch.equal(before, model.weight)


def test_a_loss_that_is_not_finite_leaves_the_parameters():
    model = build_model("mlp:3", inputs=4, outputs=1).double()
    loss = find_loss("squared_error")
    gradient = DenseGradient(model, loss)
    optimizer = build_optimizer("sgd", gradient.parameters, learning_rate=0.1, momentum=0.9)
    step = Step(gradient, optimizer, l1=0.1, l2=0.1, micro_batch_size=2)
    before = model.flat.clone()
    features = torch.randn(5, 4, dtype=torch.float64)
    features[4, 0] = torch.inf
    assert not torch.isfinite(torch.tensor(step(features, torch.zeros(5, dtype=torch.float64))))
    assert torch.equal(before, model.flat)


def test_frozen_layers_of_a_built_in_model_stay_as_they_are():
    model = build_model("mlp:3", inputs=4, outputs=1).double()
    first = model._linear[0].requires_grad_(False)
    before = first.weight.clone()
    head = model._linear[1].weight.clone()
    take_step(model, closed=True)
    assert torch.equal(before, first.weight)
    assert not torch.equal(head, model._linear[1].weight)


def test_a_subclass_is_trained_by_what_it_computes():
    class Doubled(DenseNetwork):
        def forward(self, inputs: Tensor) -> Tensor:
            return 2 * super().forward(inputs)

    assert isinstance(
        find_gradient(Doubled((4, 1), "relu"), find_loss("squared_error")), AutogradGradient
    )


def test_a_network_whose_parameters_were_parted_is_trained_all_the_same():
    model = build_model("mlp:3", inputs=4, outputs=1).double()
    model.zero_grad(set_to_none=True)
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    take_step(model, closed=True)
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_parameters_is_refused():
    with pytest.raises(OptionError, match="no parameters that require a gradient"):
        AutogradGradient(nn.Flatten(), find_loss("squared_error"))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.BatchNorm2d(3)])
def test_micro_batches_through_batch_normalisation_are_refused(layer):
    model = nn.Sequential(nn.Linear(3, 3), layer)
    with pytest.raises(OptionError, match=r"micro_batch_size=2 with the layer '1' \(BatchNorm"):
        refuse_coupling(model, 2)
    refuse_coupling(model, None)
    layer.eval()  # frozen statistics look at single samples
    refuse_coupling(model, 2)


def test_micro_batches_through_layers_that_see_single_samples_are_allowed():
    refuse_coupling(nn.Sequential(nn.GroupNorm(1, 3), nn.LayerNorm(3)), 2)
