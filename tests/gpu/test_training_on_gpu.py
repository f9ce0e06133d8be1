"""Training on a GPU: recorded steps learn what others learn, and law 6 and refusals hold there."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rightbatch as rb

PARTS = rb.split(rb.open("digits"), val=0.1, seed=7).transform(rb.scale(1 / 16), rb.flatten())
OPTIONS: dict[str, Any] = {"batch_size": 64, "epochs": 3, "learning_rate": 0.05}


def convolutions(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(512, 10),
    )


@pytest.mark.parametrize("model", ["mlp:32", "softmax", "module"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_captured_steps_learn_what_steps_of_the_cpu_learn(gpu, model, optimizer) -> None:
    def made() -> Any:
        return convolutions() if model == "module" else model

    options = {**OPTIONS, "optimizer": optimizer, "l2": 1e-3, "learning_rate": 0.005}
    cpu = rb.fit(made(), PARTS, **options)
    captured = rb.fit(made(), PARTS, device=gpu, **options)
    launched = rb.fit(made(), PARTS, device=gpu, capture=False, **options)
    assert captured.capture is not None
    assert captured.capture.is_captured, captured.capture
    assert launched.capture is not None
    assert not launched.capture.is_captured
    for result in (captured, launched):
        assert len(result.step_losses) == len(cpu.step_losses)
        for one, two in zip(result.history, cpu.history, strict=True):
            assert one["train_loss"] == pytest.approx(two["train_loss"], rel=2e-2)
            assert one["val_loss"] == pytest.approx(two["val_loss"], rel=3e-2)
        assert result.leaked_samples == 0


def test_dropout_in_a_replay_draws_anew_each_time(gpu) -> None:
    inputs = np.ones((640, 64), np.float32)
    parts = rb.split(rb.open((inputs, np.arange(640) % 10)))
    result = rb.fit(
        nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 10)), parts,
        batch_size=64, epochs=3, learning_rate=1e-9, device=gpu,
    )  # fmt: skip
    assert result.capture is not None
    assert result.capture.is_captured, result.capture
    # The same batch but for its order, a model that does not move: the masks alone differ.
    assert len({round(loss, 6) for _, loss in result.step_losses}) == len(result.step_losses)


@pytest.mark.parametrize("capture", ["auto", False])
@pytest.mark.parametrize("model", ["named", "module"])
def test_a_loss_that_is_not_finite_leaves_the_model_as_it_was(gpu, capture, model) -> None:
    inputs = np.random.default_rng(0).normal(size=(800, 3)).astype(np.float32)
    inputs[501] = np.inf
    parts = rb.split(rb.open((inputs, np.arange(800) % 2)))
    options: dict[str, Any] = {"batch_size": 8, "shuffle": False, "device": gpu, "capture": capture}
    torch.manual_seed(0)
    start: nn.Module = nn.Linear(3, 1)
    if model == "module":
        start = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 1))
    one, two = copy.deepcopy(start), copy.deepcopy(start)
    with pytest.raises(rb.NonFiniteLossError, match="the loss of step 63 is") as caught:
        rb.fit(one, parts, epochs=1, **options)
    assert 501 in caught.value.rows
    rb.fit(two, parts, steps=62, **options)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert bool(torch.isfinite(a.double()).all())


class Reading(nn.Linear):
    """A layer that waits for the GPU in each step."""

    def forward(self, values: Tensor) -> Tensor:
        outputs = super().forward(values)
        return outputs / max(1.0, outputs.detach().abs().max().item())


def test_what_can_not_be_captured_is_learned_from_all_the_same(gpu) -> None:
    result = rb.fit(Reading(64, 10), PARTS, device=gpu, **OPTIONS)
    assert result.capture is not None
    assert "the model or its loss reads a value" in result.capture.reason
    assert result.history[-1]["val_accuracy"] > 0.3


def test_a_recording_that_the_driver_refuses_leaves_training_whole(gpu, monkeypatch) -> None:
    from rightbatch.training import step_choice

    # Not looked at, so that the driver itself meets what it can not record.
    monkeypatch.setattr(step_choice, "DenseGradient", object)
    monkeypatch.setattr(step_choice, "CustomLoss", type(None))
    model = nn.Sequential(nn.Dropout(0.1), Reading(64, 10))
    result = rb.fit(model, PARTS, device=gpu, capture=True, **OPTIONS)
    assert result.capture is not None
    assert "the step can not be recorded" in result.capture.reason
    assert result.history[-1]["val_accuracy"] > 0.3


def test_a_run_is_stopped_and_resumed(gpu, tmp_path) -> None:
    options = {**OPTIONS, "optimizer": "adam", "learning_rate": 0.005, "device": gpu}
    whole = rb.fit("mlp:32", PARTS, **options)
    rb.fit("mlp:32", PARTS, out=tmp_path / "run", **{**options, "epochs": None, "steps": 40})
    rest = rb.fit("mlp:32", PARTS, out=tmp_path / "run", resume=True, **options)
    assert [step for step, _ in rest.step_losses] == [step for step, _ in whole.step_losses]
    assert rest.history[-1]["val_loss"] == pytest.approx(whole.history[-1]["val_loss"], rel=1e-2)
    on_cpu = {**options, "device": "cpu", "epochs": 4}
    assert rb.fit("mlp:32", PARTS, out=tmp_path / "run", resume=True, **on_cpu).epochs == 4


@pytest.mark.parametrize("more", [{"precision": "bfloat16"}, {"compile": True}])
@pytest.mark.filterwarnings("default")  # what torch's compiler warns of is its own affair
def test_bfloat16_and_compiled_models_learn(gpu, more) -> None:
    wide = rb.fit(convolutions(), PARTS, device=gpu, **OPTIONS)
    other = rb.fit(convolutions(), PARTS, device=gpu, **OPTIONS, **more)
    for one, two in zip(other.history, wide.history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=5e-2)
    assert {value.device.type for value in other.model.parameters()} == {"cuda"}


def test_memory_of_the_gpu_that_runs_out_halves_the_micro_batch(gpu) -> None:
    class Wide(nn.Module):
        """Takes 64 MiB a sample in training."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, values: Tensor) -> Tensor:
            if self.training:
                held = values.new_ones(len(values), 16 << 20)
                values = values + (held * values[:, :1]).mean(1, keepdim=True) * 0.0
            return self.layer(values)

    free, total = torch.cuda.mem_get_info(gpu)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (4 << 30) / total), gpu)
    try:
        if free < 5 << 30:
            pytest.skip(f"needs 5 GiB of free memory on the GPU, of which {free >> 20} MiB are")
        result = rb.fit(Wide(), PARTS, batch_size=128, steps=6, device=gpu)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
        torch.cuda.empty_cache()
    assert result.micro_batch_size in (16, 32)
    assert result.steps == 6


def test_a_model_that_lies_on_the_gpu_is_trained_and_predicts_there(gpu) -> None:
    model = convolutions().to(gpu)
    result = rb.fit(model, PARTS, **OPTIONS)
    assert result.residency is not None
    assert result.residency.is_resident, result.residency
    scores = rb.evaluate(result, PARTS.val)
    assert scores["accuracy"] == pytest.approx(result.history[-1]["val_accuracy"])
    prediction = rb.predict(result, PARTS.val)
    assert prediction.accuracy == pytest.approx(scores["accuracy"])
