"""Updates that a number on the device forbids: what they give, and what they leave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rightbatch.training.guarded_update import GuardedOptimizer
from rightbatch.training.optimizers import Optimizer, build_optimizer

KINDS = [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0)]


def make(name: str, momentum: float, seed: int) -> tuple[Optimizer, list[nn.Parameter]]:
    generator = torch.Generator().manual_seed(seed)
    dtypes = (torch.float32, torch.float32, torch.float64)
    parameters = [
        nn.Parameter(torch.randn(3, 2, generator=generator, dtype=dtype)) for dtype in dtypes
    ]
    return (
        build_optimizer(name, parameters, learning_rate=0.1, momentum=momentum),
        parameters,
    )


def set_gradients(parameters: list[nn.Parameter], generator: torch.Generator) -> None:
    for place, value in enumerate(parameters):
        value.grad = torch.randn(value.shape, generator=generator, dtype=value.dtype)
        if place == 1 and torch.rand((), generator=generator) < 0.3:
            value.grad = None


def everything(optimizer: Optimizer, parameters: list[nn.Parameter]) -> list[Tensor]:
    state = [value for values in optimizer.state.values() for value in values]
    return [value.detach().clone() for value in (*parameters, *state)]


@given(kind=st.sampled_from(KINDS), steps=st.integers(1, 12), seed=st.integers(0, 99))
def test_allowed_updates_are_those_of_the_optimizer(kind, steps, seed) -> None:
    plain, ones = make(*kind, seed)
    other, twos = make(*kind, seed)
    guarded = GuardedOptimizer(other, torch.zeros(()))
    for step in range(steps):
        for parameters in (ones, twos):
            set_gradients(parameters, torch.Generator().manual_seed(1000 * seed + step))
        plain.step()
        guarded.step()
    pairs = zip(everything(plain, ones), everything(other, twos), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=2e-5, atol=2e-6, check_dtype=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1.0])
def test_a_forbidden_update_leaves_parameters_and_state_to_the_last_bit(kind: Any, wrong) -> None:
    optimizer, parameters = make(*kind, 3)
    forbidden = torch.zeros(())
    guarded = GuardedOptimizer(optimizer, forbidden)
    set_gradients(parameters, torch.Generator().manual_seed(0))
    guarded.step()
    before = everything(optimizer, parameters)
    forbidden.fill_(1.0)
    for value in parameters:
        value.grad = torch.full_like(value, wrong)
    guarded.step()
    after = everything(optimizer, parameters)
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_a_state_counted_on_the_device_is_restored_into_one_counted_on_the_host() -> None:
    optimizer, parameters = make("adam", 0.0, 1)
    guarded = GuardedOptimizer(optimizer, torch.zeros(()))
    set_gradients(parameters[:1], torch.Generator().manual_seed(0))
    guarded.step()
    assert {count.dtype for count in guarded.state["step"]} == {torch.float32}
    host, _ = make("adam", 0.0, 1)
    for name, values in host.state.items():
        for value, stored in zip(values, guarded.state[name], strict=True):
            value.copy_(stored)
    assert [int(count) for count in host.state["step"]] == [1, 0, 0]
