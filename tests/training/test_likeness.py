"""What models and losses are made of: alike where they are, another text where they are not."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from rightbatch.training.likeness import likeness


class Layer(nn.Module):
    def __init__(self, activation=torch.relu, factor: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.activation, self.factor = activation, factor

    def helped(self, inputs):
        return inputs + 1

    def forward(self, inputs):
        return self.activation(self.helped(self.linear(inputs))) * self.factor


class OtherHelp(Layer):
    def helped(self, inputs):
        return inputs + 2


OtherHelp.__qualname__, OtherHelp.__module__ = Layer.__qualname__, Layer.__module__


def closing_over(*values):
    def inner(outputs, target):
        return values[0] * (outputs - target)

    return lambda outputs, target: inner(outputs, target)


def with_default(outputs, target, *, power=2):
    return (outputs - target) ** power


def with_other_default(outputs, target, *, power=3):
    return (outputs - target) ** power


with_other_default.__qualname__ = with_default.__qualname__
DIFFERENT = {
    "helper": (Layer(), OtherHelp()),
    "function": (Layer(), Layer(torch.tanh)),
    "partial": (Layer(partial(torch.add, alpha=1)), Layer(partial(torch.add, alpha=2))),
    "number": (Layer(), Layer(factor=2.0)),
    "shape": (nn.Linear(3, 2), nn.Linear(3, 3)),
    "layers": (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh())),
    "closure in a closure": (closing_over(1.0), closing_over(2.0)),
    "default": (with_default, with_other_default),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_is_told_apart_wherever_it_stands(name):
    one, other = DIFFERENT[name]
    assert likeness(one) != likeness(other)
    if isinstance(one, nn.Module):
        others = (nn.Sequential(Layer(), each, nn.Linear(2, 2)) for each in (one, other))
        assert len(set(map(likeness, others))) == 2
    assert likeness([closing_over(0.0), one]) != likeness([closing_over(0.0), other])


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_alike_is_so_whatever_memory_holds(name):
    one, _ = DIFFERENT[name]
    found = set()
    for count in range(20):
        held = [object() for _ in range(count)]
        found.add(likeness([closing_over(1.0), one, Layer()]))
        del held
    assert len(found) == 1


def test_values_of_tensors_count_where_that_is_asked():
    losses = [nn.CrossEntropyLoss(torch.tensor([1.0, weight])) for weight in (1.0, 5.0)]
    assert len({likeness(loss) for loss in losses}) == 1
    assert len({likeness(loss, with_values=True) for loss in losses}) == 2
    again = nn.CrossEntropyLoss(torch.tensor([1.0, 5.0]))
    assert likeness(losses[1], with_values=True) == likeness(again, with_values=True)
