"""Checkpoints: atomic, whole or refused, and what they hold comes back."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rightbatch.errors import ResumeError
from rightbatch.training.checkpoint import (
    load_checkpoint,
    model_tensors,
    optimizer_tensors,
    restore_model,
    restore_optimizer,
    save_checkpoint,
)
from rightbatch.training.models import build_model
from rightbatch.training.optimizers import Optimizer, build_optimizer


def test_tensors_and_state_come_back(tmp_path):
    tensors = {
        "a": torch.arange(6).reshape(2, 3),
        "b": torch.tensor([float("nan"), float("inf"), -0.0]),
        "empty": torch.empty(0),
        "bytes": torch.get_rng_state(),
        "transposed": torch.arange(6).reshape(2, 3).t(),
    }
    state = {"history": [{"val_r2": float("inf")}], "cursor": {"samples": 3}, "unit": "µs"}
    save_checkpoint(tmp_path / "c.safetensors", tensors, state)
    found, stored = load_checkpoint(tmp_path / "c.safetensors")
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True)
    assert stored == {**state, "version": 1}


def test_views_of_one_storage_are_stored_apart(tmp_path):
    model = build_model("mlp:3", inputs=4, outputs=2)
    save_checkpoint(tmp_path / "c.safetensors", model_tensors(model, "model"), {})
    found, _ = load_checkpoint(tmp_path / "c.safetensors")
    other = build_model("mlp:3", inputs=4, outputs=2, seed=1)
    restore_model(other, found, "model")
    assert torch.equal(other.flat, model.flat)


def test_what_a_kill_during_writing_leaves_does_no_harm(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"a": torch.ones(3)}, {"step": 1})
    # A kill while the next one was being written: half a temporary file beside the old one.
    half = path.read_bytes()[: path.stat().st_size // 2]
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(half)
    assert load_checkpoint(path)[1]["step"] == 1
    save_checkpoint(path, {"a": torch.zeros(3)}, {"step": 2})
    assert load_checkpoint(path)[1]["step"] == 2
    assert not partial.exists()


@pytest.mark.parametrize("kept", [0, 4, 8, 50, -1])
def test_a_truncated_checkpoint_is_refused(kept, tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"a": torch.ones(30)}, {"step": 1})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ResumeError, match=r"c\.safetensors is no checkpoint .*or is damaged"):
        load_checkpoint(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    for content in (b"", b"hello", json.dumps({"a": 1}).encode() * 20):
        path.write_bytes(content)
        with pytest.raises(ResumeError, match="is no checkpoint"):
            load_checkpoint(path)
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(ResumeError, match="is no checkpoint"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(ResumeError, match=r"holds no checkpoint .*start the run anew"):
        load_checkpoint(tmp_path / "c.safetensors")


def test_another_version_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    save_file({"a": torch.ones(2)}, path, {"rightbatch": json.dumps({"version": 99})})
    with pytest.raises(ResumeError, match=r"version 99; this rightbatch reads 1"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0)]
)
@pytest.mark.parametrize("steps", [0, 3])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(name, momentum, steps, tmp_path):
    def make(model: nn.Module) -> Optimizer:
        return build_optimizer(name, list(model.parameters()), learning_rate=0.1, momentum=momentum)

    def learn(model: nn.Module, optimizer: Optimizer, count: int) -> None:
        for number in range(count):
            model.zero_grad()
            inputs = torch.linspace(-1, 1, 6).reshape(2, 3) * (number + 1)
            model(inputs).square().sum().backward()
            optimizer.step()

    model = nn.Linear(3, 2)
    optimizer = make(model)
    learn(model, optimizer, steps)
    tensors = {**model_tensors(model, "model"), **optimizer_tensors(optimizer)}
    save_checkpoint(tmp_path / "c", tensors, {})
    learn(model, optimizer, 3)

    found, _ = load_checkpoint(tmp_path / "c")
    other = nn.Linear(3, 2)
    restore_model(other, found, "model")
    resumed = make(other)
    restore_optimizer(resumed, found)
    learn(other, resumed, 3)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_another_optimizer_is_refused(tmp_path):
    parameters = [nn.Parameter(torch.ones(2))]
    adam = build_optimizer("adam", parameters, learning_rate=0.1, momentum=0.0)
    momentum = build_optimizer("sgd", parameters, learning_rate=0.1, momentum=0.9)
    with pytest.raises(ResumeError, match=r"of another optimizer.*optimizer\.velocity\.0"):
        restore_optimizer(adam, optimizer_tensors(momentum))


def test_another_model_is_refused():
    with pytest.raises(ResumeError, match=r"(?s)of another model: .*size mismatch"):
        restore_model(nn.Linear(3, 2), model_tensors(nn.Linear(4, 2), "model"), "model")


def test_a_byte_flipped_inside_a_tensor_is_found(tmp_path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"weight": torch.arange(100.0)}, {"steps": 3})
    assert load_checkpoint(path)[1]["steps"] == 3
    content = bytearray(path.read_bytes())
    content[-17] ^= 1
    path.write_bytes(content)
    with pytest.raises(ResumeError, match="does not match the digest"):
        load_checkpoint(path)
