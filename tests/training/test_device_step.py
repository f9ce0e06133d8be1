"""Steps whose losses stay on the device, taken on the device that is here."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rightbatch as rb
from rightbatch.errors import NonFiniteLossError
from rightbatch.training import step_choice
from rightbatch.training.device_step import MOST_UNREAD, DeviceStep
from rightbatch.training.losses import find_loss
from rightbatch.training.memory import HalvingStep
from rightbatch.training.models import build_model
from rightbatch.training.optimizers import build_optimizer
from rightbatch.training.step import find_gradient


@pytest.fixture
def launched(monkeypatch) -> None:
    """Steps of the CPU are launched, as those of a GPU are."""
    monkeypatch.setattr(step_choice, "_DEVICES", ("cpu",))


def network(kind: str, seed: int = 0) -> nn.Module:
    if kind != "module":
        return build_model(kind, inputs=5, outputs=3, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
        )


def make(kind: type[HalvingStep], model: nn.Module, **options: Any) -> HalvingStep:
    gradient = find_gradient(model, find_loss("cross_entropy"))
    name, momentum = options.get("optimizer", ("sgd", 0.0))
    optimizer = build_optimizer(name, gradient.parameters, learning_rate=0.1, momentum=momentum)
    return kind(
        gradient,
        optimizer,
        l1=options.get("l1", 0.0),
        l2=options.get("l2", 0.0),
        micro_batch_size=options.get("micro"),
    )


def batches(count: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(9, 5, generator=generator),
            torch.randint(3, (9,), generator=generator),
        )
        for _ in range(count)
    ]


@given(
    kind=st.sampled_from(["softmax", "mlp:6", "module"]),
    optimizer=st.sampled_from([("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0)]),
    l1=st.sampled_from([0.0, 0.01]),
    l2=st.sampled_from([0.0, 0.01]),
    micro=st.none() | st.integers(2, 9),
    seed=st.integers(0, 50),
)
def test_launched_steps_are_the_steps_that_are_waited_for(kind, optimizer, l1, l2, micro, seed):
    options = {"optimizer": optimizer, "l1": l1, "l2": l2}
    if kind != "module":  # micro-batches would change what normalisation computes
        options["micro"] = micro
    one, two = network(kind, seed), network(kind, seed)
    waited, launched = make(HalvingStep, one, **options), make(DeviceStep, two, **options)
    assert isinstance(launched, DeviceStep)
    losses = [waited(*batch) for batch in batches(7, seed)]
    found: list[float] = []
    for number, batch in enumerate(batches(7, seed)):
        launched.launch(*batch, 9)
        if number in (2, 3):
            found += launched.read()
    found += launched.read()
    assert found == pytest.approx(losses, rel=1e-4)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["mlp:6", "module"])
@pytest.mark.parametrize("optimizer", [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0)])
def test_a_loss_that_is_not_finite_forbids_its_update_and_all_after_it(kind, optimizer) -> None:
    model = network(kind)
    step = make(DeviceStep, model, optimizer=optimizer)
    assert isinstance(step, DeviceStep)
    good = batches(4, 0)
    for batch in good[:2]:
        step.launch(*batch, 9)
    before = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(step.optimizer.state)
    step.launch(good[2][0] * torch.nan, good[2][1], 9)
    step.launch(*good[3], 9)
    losses = step.read()
    assert [np.isfinite(loss) for loss in losses[:3]] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, values in step.optimizer.state.items():
        assert all(torch.equal(a, b) for a, b in zip(values, state[name], strict=True))


def test_a_step_that_is_called_gives_its_loss() -> None:
    ones, twos = network("mlp:6"), network("mlp:6")
    (batch,) = batches(1, 1)
    assert make(DeviceStep, ones)(*batch) == pytest.approx(make(HalvingStep, twos)(*batch))


PARTS = rb.split(rb.open("digits"), val=0.1, seed=7).transform(rb.scale(1 / 16))


@settings(max_examples=12)
@given(
    batch_size=st.sampled_from([5, 100, 1000, "full"]),
    steps=st.integers(1, 150),
    early=st.booleans(),
)
def test_a_launched_run_is_the_run_that_is_waited_for(batch_size, steps, early) -> None:
    options: dict[str, Any] = {"batch_size": batch_size, "steps": steps, "learning_rate": 0.05}
    wanted = rb.fit("mlp:8", PARTS, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_choice, "_DEVICES", ("cpu",))
        found = rb.fit("mlp:8", PARTS, capture=False, **options)
    assert found.capture is not None
    assert found.capture.reason == "capture=False"
    assert found.steps == wanted.steps == steps
    assert [step for step, _ in found.step_losses] == [step for step, _ in wanted.step_losses]
    for one, two in zip(found.step_losses, wanted.step_losses, strict=True):
        assert one[1] == pytest.approx(two[1], rel=1e-3)
    for one, two in zip(found.history, wanted.history, strict=True):
        assert {**one, "seconds": 0, "loading_seconds": 0} == pytest.approx(
            {**two, "seconds": 0, "loading_seconds": 0}, rel=2e-2
        )
    assert found.leaked_samples == 0


def test_losses_are_read_together_and_the_observer_sees_every_step(launched, monkeypatch) -> None:
    reads = []
    read = DeviceStep.read
    monkeypatch.setattr(DeviceStep, "read", lambda step: (reads.append(step.unread), read(step))[1])
    rb.fit("softmax", PARTS, batch_size=10, steps=150, capture=False)
    assert sum(reads) == 150
    assert max(reads) == MOST_UNREAD
    seen: list[tuple[int, float]] = []
    result = rb.fit(
        "softmax", PARTS, batch_size=100, epochs=1, capture=False,
        on_step=lambda step, loss, _: seen.append((step, loss)),
    )  # fmt: skip
    assert seen == result.step_losses


def test_the_step_of_a_loss_that_is_not_finite_is_named_and_the_model_is_as_before(
    launched, tmp_path
) -> None:
    inputs = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    inputs[77] = np.inf
    parts = rb.split(rb.open((inputs, np.arange(400) % 2)))
    options: dict[str, Any] = {"batch_size": 4, "shuffle": False, "seed": 1, "epochs": 1}
    module = nn.Linear(3, 1)
    start = copy.deepcopy(module)
    with pytest.raises(NonFiniteLossError, match="the loss of step 20 is") as caught:
        rb.fit(module, parts, capture=False, out=tmp_path / "run", **options)
    assert caught.value.step == 20
    assert caught.value.rows == [76, 77, 78, 79]
    lines = (tmp_path / "run" / "steps.jsonl").read_text().splitlines()
    assert len(lines) == 19
    rb.fit(start, parts, capture=False, **{**options, "epochs": None, "steps": 19})
    for one, two in zip(module.parameters(), start.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_launched_run_is_stopped_and_resumed_where_it_stood(launched, tmp_path) -> None:
    options: dict[str, Any] = {"batch_size": 30, "optimizer": "adam", "capture": False}
    whole = rb.fit("mlp:8", PARTS, epochs=3, **options)
    rb.fit("mlp:8", PARTS, steps=70, out=tmp_path / "run", **options)
    rest = rb.fit("mlp:8", PARTS, epochs=3, out=tmp_path / "run", resume=True, **options)
    assert rest.step_losses == whole.step_losses
    for one, two in zip(
        rest.model.state_dict().values(), whole.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)


def test_a_run_launched_on_a_device_goes_on_on_the_cpu(tmp_path) -> None:
    options: dict[str, Any] = {"batch_size": 30, "optimizer": "adam"}
    whole = rb.fit("mlp:8", PARTS, epochs=2, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_choice, "_DEVICES", ("cpu",))
        rb.fit("mlp:8", PARTS, steps=70, capture=False, out=tmp_path / "run", **options)
    rest = rb.fit("mlp:8", PARTS, epochs=2, out=tmp_path / "run", resume=True, **options)
    assert rest.step_losses[-1][1] == pytest.approx(whole.step_losses[-1][1], rel=1e-2)


def test_memory_that_runs_out_halves_launched_steps_as_well(launched, monkeypatch) -> None:
    class Narrow(nn.Linear):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            if self.training and len(values) > 20:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(values.flatten(1))

    result = rb.fit(Narrow(64, 10), PARTS, batch_size=64, steps=5, capture=False)
    assert result.micro_batch_size == 16
    assert result.steps == 5
