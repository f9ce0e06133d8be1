"""Recorded steps: when they are recorded, replayed and left, with a recorder that replays by doing.

Without a GPU there are no CUDA graphs. Everything around one is the same: the first steps, the look
at them, the memory that stays in its place, smaller batches, and what is said where it can not be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rightbatch as rb
from rightbatch.training import captured_step, step_choice
from rightbatch.training.captured_step import CapturedStep

PARTS = rb.split(rb.open("digits"), val=0.1, seed=7).transform(rb.scale(1 / 16), rb.flatten())


class Recorder:
    """Replays a step by taking it."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def __call__(self, step: Callable[[], None], stream: Any) -> Callable[[], None]:
        assert stream is None
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            step()

        return replay


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(step_choice, "_DEVICES", ("cpu",))
    monkeypatch.setattr(captured_step, "record_graph", made)
    return made


def module(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(64, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10)
        )


@pytest.mark.parametrize("name", ["mlp:8", "softmax", "module"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_full_batches_are_replayed_and_the_last_one_is_not(name, optimizer, recorder) -> None:
    options: dict[str, Any] = {
        "batch_size": 100, "epochs": 3, "optimizer": optimizer, "l2": 1e-3, "learning_rate": 0.01,
    }  # fmt: skip
    found = rb.fit(module() if name == "module" else name, PARTS, **options)
    assert found.capture is not None
    assert found.capture.is_captured, found.capture
    # 16 full batches of 17, three of which warm up.
    assert (recorder.recorded, recorder.replayed) == (1, 3 * 16 - 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_choice, "_DEVICES", ())
        wanted = rb.fit(module() if name == "module" else name, PARTS, **options)
    assert wanted.capture is not None
    assert wanted.capture.reason == "the model is on the cpu"
    for one, two in zip(found.step_losses, wanted.step_losses, strict=True):
        assert one[0] == two[0]
        assert one[1] == pytest.approx(two[1], rel=2e-3)
    assert found.history[-1]["val_loss"] == pytest.approx(wanted.history[-1]["val_loss"], rel=1e-2)


def test_batches_that_live_on_the_device_are_replayed_as_those_of_the_host(recorder) -> None:
    options: dict[str, Any] = {"batch_size": 100, "epochs": 2, "learning_rate": 0.01}
    host = rb.fit(module(), PARTS, **options)
    device = rb.fit(module(), PARTS, device="cpu", device_memory=1.0, **options)
    for result in (host, device):
        assert result.capture is not None
        assert result.capture.is_captured, result.capture
    assert device.residency is not None
    assert device.residency.is_resident
    assert device.step_losses == host.step_losses


class Counting(nn.Linear):
    """A layer that does something else at each step."""

    steps = 0

    def forward(self, values: Tensor) -> Tensor:
        self.steps += 1
        return super().forward(values) / self.steps


class Replacing(nn.Linear):
    """A layer that puts another tensor in the place of its buffer."""

    def __init__(self) -> None:
        super().__init__(64, 10)
        self.register_buffer("mean", torch.zeros(10))

    def forward(self, values: Tensor) -> Tensor:
        outputs = super().forward(values)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * outputs.detach().mean(0)
        return outputs


def reading(outputs: Tensor, target: Tensor) -> Tensor:
    losses = nn.functional.cross_entropy(outputs, target, reduction="none")
    return losses if losses.max().item() < 1e6 else losses.clamp(max=1e6)


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("softmax", {"capture": False}, "capture=False"),
        ("softmax", {"micro_batch_size": 10}, "in micro-batches"),
        ("softmax", {"loss": reading}, "the model or its loss reads a value"),
        (lambda: Counting(64, 10), {}, "does not do the same in each step: the operation div"),
        (Replacing, {}, "replaces a parameter or a buffer instead of writing into it"),
        ("softmax", {"compile": True}, "the model is compiled"),
        ("softmax", {"batch_size": 1000, "steps": 2}, "no more than a few full batches came"),
    ],
)
def test_what_is_not_captured_says_why_and_is_learned_from_all_the_same(
    model, options, reason, recorder, monkeypatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network: network)  # what it makes is not asked
    made = model if isinstance(model, str) else model()
    result = rb.fit(made, PARTS, **{"batch_size": 50, "steps": 12, **options})
    assert result.capture is not None
    assert not result.capture.is_captured
    assert reason in result.capture.reason
    assert recorder.recorded == 0
    assert len(result.step_losses) == result.steps


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore"),
         "the step can not be recorded (CUDA error: operation not permitted when stream is"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory has no room for a recorded step"),
    ],
)  # fmt: skip
def test_a_recording_that_fails_is_told_once_and_training_goes_on(
    error, reason, recorder, monkeypatch, caplog
) -> None:
    def fails(step: Callable[[], None], stream: Any) -> Callable[[], None]:
        raise error

    monkeypatch.setattr(captured_step, "record_graph", fails)
    with caplog.at_level(logging.INFO, "rightbatch"):
        result = rb.fit("softmax", PARTS, batch_size=50, steps=12, capture=True)
    assert result.steps == 12
    assert result.capture is not None
    assert reason in result.capture.reason
    told = [record for record in caplog.records if reason in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING"]


def test_a_batch_of_another_shape_or_type_is_learned_from_as_it_is(recorder) -> None:
    seen: list[int] = []

    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, values: Tensor) -> Tensor:
            seen.append(len(values))
            return self.layer(values)

    model = Sized()
    from rightbatch.training.losses import find_loss
    from rightbatch.training.optimizers import build_optimizer
    from rightbatch.training.step import AutogradGradient

    gradient = AutogradGradient(model, find_loss("cross_entropy"))
    step = CapturedStep(
        gradient,
        build_optimizer("sgd", gradient.parameters, learning_rate=0.1, momentum=0.0),
        l1=0.0, l2=0.0, micro_batch_size=None, batch_size=8, is_watched=True, is_asked=False,
        record=recorder,
    )  # fmt: skip
    for size in (8, 8, 8, 5, 8, 5, 8):
        step.launch(torch.randn(size, 64), torch.randint(10, (size,)), size)
    assert seen == [8, 8, 8, 5, 8, 5, 8]
    assert (recorder.recorded, recorder.replayed) == (1, 2)
    assert len(step.read()) == 7


def test_a_batch_with_other_masked_tokens_is_not_replayed_as_one_without(recorder) -> None:
    """How many tokens count is a number of the recording."""
    import numpy as np

    generator = np.random.default_rng(0)
    tokens = generator.integers(0, 6, (64, 5))
    target = generator.integers(0, 6, (64, 5))
    target[40:48, :3] = -100
    parts = rb.split(rb.open((tokens, target)))

    def model() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6))

    options: dict[str, Any] = {
        "batch_size": 8, "epochs": 3, "shuffle": False, "learning_rate": 0.5,
        "loss": "cross_entropy",
    }  # fmt: skip
    found = rb.fit(model(), parts, **options)
    assert found.capture is not None
    assert found.capture.is_captured, found.capture
    # Eight batches an epoch, three of which warm up, and one with masks each time.
    assert recorder.replayed == 24 - 3 - 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_choice, "_DEVICES", ())
        wanted = rb.fit(model(), parts, **options)
    for one, two in zip(found.step_losses, wanted.step_losses, strict=True):
        assert one[1] == pytest.approx(two[1], rel=1e-4)


def test_capture_asked_for_where_there_is_no_gpu_is_refused() -> None:
    with pytest.raises(rb.OptionError, match="capture=True records steps for a GPU, and the model"):
        rb.fit("softmax", PARTS, steps=3, capture=True)
    with pytest.raises(rb.OptionError, match="capture='always' is not valid"):
        rb.fit("softmax", PARTS, steps=3, capture="always")


def test_a_loss_that_is_not_finite_is_refused_in_replays_as_well(recorder) -> None:
    import numpy as np

    inputs = np.random.default_rng(0).normal(size=(800, 3)).astype(np.float32)
    inputs[501] = np.nan
    parts = rb.split(rb.open((inputs, np.arange(800) % 2)))
    options: dict[str, Any] = {"batch_size": 8, "shuffle": False}
    one, two = nn.Linear(3, 1), nn.Linear(3, 1)
    two.load_state_dict(one.state_dict())
    with pytest.raises(rb.NonFiniteLossError, match="the loss of step 63 is nan") as caught:
        rb.fit(one, parts, epochs=1, **options)
    assert 501 in caught.value.rows
    assert recorder.replayed > 60
    rb.fit(two, parts, steps=62, **options)
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), two.parameters(), strict=True))
