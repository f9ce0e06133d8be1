"""Laws 4 to 6 for training: resuming, leakage, and the mean over samples."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rightbatch as rb
from rightbatch.loading.parts import Parts
from rightbatch.training.losses import find_loss
from rightbatch.training.models import build_model
from rightbatch.training.optimizers import build_optimizer
from rightbatch.training.step import Step, find_gradient

MODELS = ("softmax", "mlp:4", "module")


def make_model(name: str, seed: int) -> nn.Module:
    if name != "module":
        return build_model(name, inputs=5, outputs=3, seed=seed, activation="tanh").double()
    layers = build_model("mlp:6", inputs=5, outputs=3, seed=seed)._linear
    return nn.Sequential(layers[0], nn.LayerNorm(6), nn.Tanh(), layers[1]).double()


def random_parts(samples: int, seed: int, *, val: int | None = None) -> Parts:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(samples, 5)).astype(np.float32)
    target = (np.arange(samples) + generator.integers(3)) % 3
    return rb.split(rb.open((inputs, target)), val=val, seed=seed)


@given(
    model=st.sampled_from(MODELS),
    samples=st.integers(1, 60),
    micro=st.integers(1, 61),
    l1=st.sampled_from([0.0, 0.1]),
    l2=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 50),
)
def test_a_step_by_micro_batches_is_the_step_of_the_whole_batch(
    model, samples, micro, l1, l2, seed
):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 5, generator=generator, dtype=torch.float64)
    target = torch.randint(3, (samples,), generator=generator)
    losses, states = [], []
    for size in (None, micro):
        network = make_model(model, seed)
        gradient = find_gradient(network, find_loss("cross_entropy"))
        optimizer = build_optimizer("sgd", gradient.parameters, learning_rate=0.5, momentum=0.0)
        step = Step(gradient, optimizer, l1=l1, l2=l2, micro_batch_size=size)
        losses.append([step(inputs, target) for _ in range(2)])
        states.append(network.state_dict())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-9, atol=1e-11)


@settings(max_examples=15)
@given(
    samples=st.integers(3, 80),
    batch_size=st.integers(1, 90) | st.just("full"),
    micro=st.integers(1, 20),
    seed=st.integers(0, 20),
)
def test_a_run_by_micro_batches_is_the_run_of_whole_batches(samples, batch_size, micro, seed):
    parts = random_parts(samples, seed, val=None)
    options: dict[str, Any] = {
        "batch_size": batch_size, "epochs": 2, "learning_rate": 0.1, "seed": seed,
    }  # fmt: skip
    whole = rb.fit("mlp:4", parts, **options)
    pieces = rb.fit("mlp:4", parts, micro_batch_size=micro, **options)
    for one, two in zip(whole.history, pieces.history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-4)
        assert (one["steps"], one["samples"]) == (two["steps"], two["samples"])
    for one, two in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


@settings(max_examples=25)
@given(
    model=st.sampled_from(["softmax", "linear"]),
    samples=st.integers(4, 300),
    batch_sizes=st.lists(st.integers(1, 310), min_size=2, max_size=4),
    seed=st.integers(0, 20),
)
def test_scores_do_not_depend_on_the_batch_size(model, samples, batch_sizes, seed):
    parts = random_parts(samples, seed)
    result = rb.fit(model, parts, epochs=1, seed=seed)
    whole = rb.evaluate(result, parts.train, batch_size="full")
    for batch_size in batch_sizes:
        scores = rb.evaluate(result, parts.train, batch_size=batch_size)
        assert scores == pytest.approx(whole, rel=1e-5, abs=1e-6)
        assert scores.get("accuracy") == whole.get("accuracy")


@settings(max_examples=20)
@given(
    samples=st.integers(6, 60),
    batch_size=st.integers(1, 20),
    optimizer=st.sampled_from(["sgd", "adam", "adamw"]),
    order=st.sampled_from([{}, {"shuffle": False}, {"window": 4}]),
    micro=st.none() | st.integers(1, 8),
    stop=st.integers(1, 60),
    seed=st.integers(0, 20),
)
def test_a_run_stopped_at_any_step_resumes_exactly(
    samples, batch_size, optimizer, order, micro, stop, seed
):
    parts = random_parts(samples, seed, val=2)
    options: dict[str, Any] = {
        "batch_size": batch_size, "optimizer": optimizer, "micro_batch_size": micro,
        "seed": seed, "threads": 1, **order,
    }  # fmt: skip
    whole = rb.fit("mlp:3", parts, epochs=3, **options)
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        rb.fit("mlp:3", parts, steps=min(stop, whole.steps), out=run, **options)
        resumed = rb.fit("mlp:3", parts, epochs=3, out=run, resume=True, **options)
    assert resumed.step_losses == whole.step_losses
    for one, two in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, two)
    for found, wanted in zip(resumed.history, whole.history, strict=True):
        assert {**found, "seconds": 0, "loading_seconds": 0} == {
            **wanted,
            "seconds": 0,
            "loading_seconds": 0,
        }


@settings(max_examples=20)
@given(
    samples=st.integers(10, 80),
    batch_size=st.integers(1, 90),
    order=st.sampled_from([{}, {"shuffle": False}, {"window": 7}]),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 50),
)
def test_training_reads_every_training_sample_once_an_epoch_and_no_other(
    samples, batch_size, order, epochs, seed
):
    inputs = np.arange(samples, dtype=np.float32)[:, None]
    parts = rb.split(rb.open((inputs, np.arange(samples) % 2)), val=3, test=3, seed=seed)
    read: list[int] = []

    class Notes(nn.Linear):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            if self.training:
                read.extend(values[:, 0].int().tolist())
            return super().forward(values * 1e-3)

    result = rb.fit(Notes(1, 1), parts, epochs=epochs, batch_size=batch_size, seed=seed, **order)
    train = parts.train.rows.take(np.arange(samples - 6)).tolist()
    for epoch in range(epochs):
        assert sorted(read[epoch * len(train) : (epoch + 1) * len(train)]) == train
    assert len(read) == epochs * len(train)
    assert result.leaked_samples == 0
