"""What is seen of steps before they are recorded: waiting, and doing the same each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rightbatch.training.losses import find_loss
from rightbatch.training.step import AutogradGradient
from rightbatch.training.step_watch import StepWatch, why_not_alike

LAYERS = (nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def watch(model: nn.Module, loss: Any = "cross_entropy", steps: int = 3) -> list[StepWatch]:
    gradient = AutogradGradient(model, find_loss(loss))
    watches = []
    # As a loader gives them: batches are pieces of larger arrays.
    slab, targets = torch.randn(6 * steps, 4), torch.randint(3, (6 * steps,))
    for inputs, target in zip(slab.split(6), targets.split(6), strict=True):
        with StepWatch((inputs, target)) as seen:
            gradient.accumulate(inputs, target, total=6, is_first=True)
        for value in gradient.parameters:
            if value.grad is not None:
                value.data -= 0.1 * value.grad
        watches.append(seen)
    return watches


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.hidden = torch.zeros(3)
        self.constant = torch.ones(3)
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return self.twist(self.layer(inputs))

    def twist(self, outputs: Tensor) -> Tensor:
        return outputs


def model(twist: Callable[[Model, Tensor], Tensor]) -> Model:
    return type("Twisted", (Model,), {"twist": twist})()


def test_layers_of_torch_are_alike_from_step_to_step() -> None:
    seen = watch(nn.Sequential(*LAYERS))
    assert why_not_alike(seen) is None
    assert len(seen[0].operations) > 15
    embedding = nn.LSTM(4, 3, batch_first=True)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = embedding

        def forward(self, inputs: Tensor) -> Tensor:
            return self.cell(inputs[:, None])[0][:, -1]

    assert why_not_alike(watch(Recurrent())) is None


def item(self: Model, outputs: Tensor) -> Tensor:
    return outputs / outputs.abs().max().item()


def branch(self: Model, outputs: Tensor) -> Tensor:
    return outputs if outputs.sum() > 0 else outputs * 2


def mask(self: Model, outputs: Tensor) -> Tensor:
    return outputs + outputs[outputs > 0].sum()


def nonzero(self: Model, outputs: Tensor) -> Tensor:
    return outputs + outputs.detach().nonzero().float().mean()


def to_meta(self: Model, outputs: Tensor) -> Tensor:
    outputs.detach().to("meta")
    return outputs


@pytest.mark.parametrize(
    ("twist", "reason"),
    [
        (item, "reads a value"),
        (branch, "reads a value"),
        (mask, "asks where values are"),
        (nonzero, "asks where values are"),
        (to_meta, "copies between cpu and meta"),
    ],
)
def test_what_the_host_waits_for_is_told(twist: Any, reason: str) -> None:
    told = why_not_alike(watch(model(twist)))
    assert told is not None
    assert reason in told


def drawn_in_python(self: Model, outputs: Tensor) -> Tensor:
    return outputs * random.random()  # noqa: S311 - as models draw what they leave out


def layers_left_out(self: Model, outputs: Tensor) -> Tensor:
    return outputs * 2 if self.calls == 2 else outputs


def counted(self: Model, outputs: Tensor) -> Tensor:
    return outputs / self.calls


def carried_over(self: Model, outputs: Tensor) -> Tensor:
    outputs = outputs + self.hidden
    self.hidden = outputs.detach().mean(0)
    return outputs


def made_of_a_number(self: Model, outputs: Tensor) -> Tensor:
    return outputs * torch.tensor(float(self.calls))


@pytest.mark.parametrize(
    "twist", [drawn_in_python, layers_left_out, counted, carried_over, made_of_a_number]
)
def test_what_differs_from_step_to_step_is_told(twist: Any) -> None:
    told = why_not_alike(watch(model(twist)))
    assert told is not None
    assert "does not do the same in each step: the operation" in told


def constant(self: Model, outputs: Tensor) -> Tensor:
    return outputs * self.constant


def in_place(self: Model, outputs: Tensor) -> Tensor:
    self.seen += 1
    return outputs + torch.zeros_like(outputs).normal_()


def masked_in_place(self: Model, outputs: Tensor) -> Tensor:
    return torch.where(outputs > 0, outputs, 0.1 * outputs).masked_fill(outputs > 5, 5.0)


@pytest.mark.parametrize("twist", [constant, in_place, masked_in_place])
def test_constants_buffers_and_draws_of_torch_are_no_hindrance(twist: Any) -> None:
    assert why_not_alike(watch(model(twist))) is None


def test_a_loss_that_reads_a_value_is_told_of() -> None:
    def scaled(outputs: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, target) * float(outputs.detach().std())

    told = why_not_alike(watch(nn.Linear(4, 3), scaled))
    assert told is not None
    assert "the model or its loss reads a value" in told
