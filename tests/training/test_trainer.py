"""The training loop where it stops: a loss that is not finite, Ctrl-C, a watcher."""

from __future__ import annotations

import json
import signal
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rightbatch as rb
from rightbatch.errors import NonFiniteLossError
from rightbatch.training.checkpoint import load_checkpoint
from rightbatch.training.interrupts import Interrupts


def parts_with_infinity() -> tuple[rb.Parts, int]:
    """40 samples, of which one in the training part holds an infinity."""
    inputs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    bad = int(
        rb.split(rb.open((inputs, np.arange(40) % 2)), val=8).train.rows.take(np.arange(9))[8]
    )
    inputs[bad, 1] = np.inf
    return rb.split(rb.open((inputs, np.arange(40) % 2)), val=8), bad


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("model", ["logistic", "module"])
def test_a_loss_that_is_not_finite_stops_with_step_rows_and_remedy(model, momentum, tmp_path):
    parts, bad = parts_with_infinity()
    batches = rb.Batches(parts.train, 4, seed=1, with_rows=True)
    rows = [batch[2].tolist() for batch in batches]
    step = next(place for place, batch in enumerate(rows, 1) if bad in batch)
    network = nn.Linear(3, 1) if model == "module" else "logistic"
    options = {"batch_size": 4, "seed": 1, "momentum": momentum}
    with pytest.raises(NonFiniteLossError) as caught:
        rb.fit(network, parts, epochs=3, out=tmp_path / "run", checkpoint_seconds=0, **options)
    assert caught.value.step == step
    assert caught.value.rows == rows[step - 1]
    message = str(caught.value)
    assert f"the loss of step {step} is" in message
    assert str(bad) in message
    assert "Lower the learning rate (now 0.01), scale the inputs" in message

    tensors, state = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert state["standing"]["steps"] == step - 1
    assert all(torch.isfinite(value).all() for name, value in tensors.items() if "model." in name)
    lines = (tmp_path / "run" / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, step))
    if model == "module":
        assert isinstance(network, nn.Module)
        for name, value in network.state_dict().items():
            assert torch.equal(value, tensors[f"model.{name}"]), "as before the step"


def test_step_losses_before_a_divergence_are_in_the_file(tmp_path):
    parts = rb.split(rb.open("diabetes"))  # targets up to 346: this rate diverges
    with pytest.raises(NonFiniteLossError) as caught:
        rb.fit("linear", parts, epochs=99, learning_rate=500.0, out=tmp_path / "run")
    lines = (tmp_path / "run" / "steps.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == caught.value.step - 1
    assert losses[-1] > 1e30


class InterruptedLoss:
    """Presses Ctrl-C in a given call."""

    def __init__(self, call: int) -> None:
        self.left = call

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        return nn.functional.binary_cross_entropy_with_logits(outputs.squeeze(1), target.float())


@pytest.mark.parametrize("call", [1, 7, 14])
def test_ctrl_c_keeps_the_checkpoint_of_the_step_it_met(call, cancer, tmp_path):
    run = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=rf"stopped after step {call}; .*resume=True"):
        rb.fit("mlp:5", cancer, epochs=2, loss=InterruptedLoss(call), out=run)
    assert signal.getsignal(signal.SIGINT) is before
    assert load_checkpoint(run / "checkpoint.safetensors")[1]["standing"]["steps"] == call
    assert not [t.name for t in threading.enumerate() if t.name.startswith("rightbatch")]
    resumed = rb.fit("mlp:5", cancer, epochs=2, loss=InterruptedLoss(10**9), out=run, resume=True)
    whole = rb.fit("mlp:5", cancer, epochs=2, loss=InterruptedLoss(10**9))
    assert resumed.step_losses == whole.step_losses
    assert torch.equal(resumed.model.flat, whole.model.flat)


def test_ctrl_c_in_the_last_step_of_an_epoch_keeps_the_epochs_row(cancer, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="stopped after step 15"):
        rb.fit("mlp:5", cancer, epochs=2, loss=InterruptedLoss(15), out=run)
    assert len((run / "history.jsonl").read_text().splitlines()) == 1


def test_ctrl_c_without_a_folder_promises_nothing(cancer):
    with pytest.raises(KeyboardInterrupt) as caught:
        rb.fit("mlp:5", cancer, epochs=2, loss=InterruptedLoss(3))
    assert str(caught.value) == "stopped after step 3"


def test_the_second_ctrl_c_is_the_callers_own():
    pressed: list[int] = []
    with Interrupts(lambda: pressed.append(1)):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert pressed == [1]


def test_training_works_in_a_thread_that_can_not_hear_signals(cancer):
    results: list[rb.FitResult] = []
    thread = threading.Thread(target=lambda: results.append(rb.fit("logistic", cancer, epochs=1)))
    thread.start()
    thread.join()
    assert results[0].steps == 15


def test_no_loader_thread_is_left_after_an_error_in_the_loop(cancer):
    def broken(outputs: Tensor, target: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rb.fit("logistic", cancer, epochs=1, loss=broken)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("rightbatch")]


def test_the_watcher_hears_of_steps_within_a_long_epoch():
    inputs = np.ones((6_000, 2), np.float32)
    heard = []
    rb.fit(
        "logistic",
        rb.split(rb.open((inputs, np.arange(6_000) % 2))),
        epochs=1,
        batch_size=1,
        progress=heard.append,
    )
    inside = [event for event in heard if event.row is None]
    assert inside
    assert all(event.epoch == 1 and event.total_steps == 6_000 for event in inside)
    assert all(0 < event.train_loss < 5 and event.samples_per_second > 0 for event in inside)
    assert [event.steps for event in inside] == sorted(event.steps for event in inside)
