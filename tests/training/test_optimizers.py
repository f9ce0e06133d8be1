"""Training equals a plain torch loop over the same batches, optimizer by optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import rightbatch as rb
from rightbatch.loading.parts import Parts
from rightbatch.training.models import build_model
from rightbatch.training.optimizers import build_optimizer

KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": ({}, torch.optim.SGD),
    "momentum": ({"optimizer": "sgd", "momentum": 0.9}, torch.optim.SGD),
    "adam": ({"optimizer": "adam"}, torch.optim.Adam),
    "adamw": ({"optimizer": "adamw"}, torch.optim.AdamW),
}


def plain_loop(
    model: nn.Module, parts: Parts, optimizer: torch.optim.Optimizer, *, epochs: int, l2: float
) -> list[float]:
    batches = rb.Batches(parts.train, 64, seed=3, output="torch")
    losses = []
    for _ in range(epochs):
        for inputs, target in batches:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs), target)
            losses.append(loss.item())
            weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
            (loss + l2 / 2 * sum(w.square().sum() for w in weights)).backward()
            optimizer.step()
    return losses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_training_is_that_of_a_plain_torch_loop(kind, l2, digits):
    options, optimizer = KINDS[kind]
    momentum = {"momentum": options["momentum"]} if "momentum" in options else {}
    model = nn.Sequential(
        nn.Flatten(), *build_model("mlp:20", inputs=64, outputs=10, seed=3)._linear
    )
    model.insert(2, nn.ReLU())
    losses = plain_loop(
        model, digits, optimizer(model.parameters(), lr=0.01, **momentum), epochs=2, l2=l2
    )
    result = rb.fit(
        "mlp:20", digits, batch_size=64, epochs=2, learning_rate=0.01, l2=l2, seed=3, **options
    )
    assert [step for step, _ in result.step_losses] == list(range(1, len(losses) + 1))
    torch.testing.assert_close(
        torch.tensor([loss for _, loss in result.step_losses]), torch.tensor(losses),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    for found, wanted in zip(result.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_trained_by_autograd_equals_the_plain_loop(kind, digits):
    options, optimizer = KINDS[kind]
    momentum = {"momentum": options["momentum"]} if "momentum" in options else {}

    def make() -> nn.Module:
        layers = build_model("mlp:12", inputs=64, outputs=10, seed=1)._linear
        return nn.Sequential(nn.Flatten(), layers[0], nn.Tanh(), layers[1])

    model, plain = make(), make()
    losses = plain_loop(
        plain, digits, optimizer(plain.parameters(), lr=0.01, **momentum), epochs=1, l2=0.0
    )
    result = rb.fit(model, digits, batch_size=64, epochs=1, learning_rate=0.01, seed=3, **options)
    assert result.model is model
    # The mean is taken as sum / total here and by torch's kernel there: the last bit may differ.
    assert [loss for _, loss in result.step_losses] == pytest.approx(losses, rel=1e-6)
    for found, wanted in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_update_is_torchs_bit_for_bit_also_for_parameters_without_a_gradient(kind):
    options, optimizer = KINDS[kind]
    momentum = options.get("momentum", 0.0)
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (), (2, 2, 2)]
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    one = build_optimizer(
        options.get("optimizer", "sgd"), ours, learning_rate=0.1, momentum=momentum
    )
    two = optimizer(theirs, lr=0.1, **({"momentum": momentum} if momentum else {}))
    for step in range(12):
        for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            # The second is unused in every third step, the last one until the fifth.
            is_used = not (place == 1 and step % 3 == 0) and not (place == 3 and step < 5)
            gradient = torch.randn(mine.shape, generator=generator)
            mine.grad = gradient.clone() if is_used else None
            other.grad = gradient.clone() if is_used else None
        one.step()
        two.step()
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine, other), f"step {step}"
