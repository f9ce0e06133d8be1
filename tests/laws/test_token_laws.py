"""Law 6 for targets of tokens: a token weighs the same wherever it stands, a masked one nothing."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import rightbatch as rb
from rightbatch.loading.parts import Parts
from rightbatch.plan.ranks import rank_span
from rightbatch.training.losses import MASKED, find_loss
from rightbatch.training.optimizers import build_optimizer
from rightbatch.training.step import AutogradGradient, Step

VOCABULARY, LENGTH = 5, 4


def make_model(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Embedding(VOCABULARY, 6), nn.Tanh(), nn.Linear(6, VOCABULARY)
        return nn.Sequential(*layers).double()


def torchs_mean(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs.movedim(2, 1), target)


def random_tokens(samples: int, seed: int, masked: float) -> tuple[Any, Any]:
    """Inputs and targets, of which a share is masked, in whole samples too."""
    generator = np.random.default_rng(seed)
    inputs = generator.integers(0, VOCABULARY, (samples, LENGTH))
    target = generator.integers(0, VOCABULARY, (samples, LENGTH))
    target[generator.random((samples, LENGTH)) < masked] = MASKED
    target[generator.random(samples) < masked / 2] = MASKED
    return inputs, target


def random_parts(samples: int, seed: int, masked: float, *, val: int | None = None) -> Parts:
    inputs, target = random_tokens(samples, seed, masked)
    return rb.split(rb.open((inputs, target)), val=val, seed=seed)


@given(
    samples=st.integers(1, 30),
    micro=st.integers(1, 31),
    masked=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 100),
)
def test_a_step_by_micro_batches_is_the_step_of_the_whole_batch(samples, micro, masked, seed):
    inputs, target = map(torch.from_numpy, random_tokens(samples, seed, masked))
    states = []
    for size in (None, micro):
        network = make_model(seed)
        gradient = AutogradGradient(network, find_loss("cross_entropy"))
        optimizer = build_optimizer("sgd", gradient.parameters, learning_rate=0.5, momentum=0.0)
        step = Step(gradient, optimizer, l1=0.0, l2=0.1, micro_batch_size=size)
        loss = step(inputs, target)
        states.append((loss, network.state_dict()))
    if (target == MASKED).all():
        assert [loss for loss, _ in states] == [0.0, 0.0]
        wanted: dict[str, Any] = dict(make_model(seed).state_dict())
    else:
        outputs = make_model(seed)(inputs).movedim(2, 1)
        assert states[0][0] == pytest.approx(functional.cross_entropy(outputs, target).item())
        assert states[0][0] == pytest.approx(states[1][0], rel=1e-9)
        wanted = states[0][1]
    for _, state in states:
        for name, value in wanted.items():
            torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-11)


@given(
    samples=st.integers(1, 30),
    ranks=st.integers(1, 4),
    masked=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 100),
)
def test_the_gradients_of_ranks_add_up_to_that_of_the_whole_batch(samples, ranks, masked, seed):
    inputs, target = random_tokens(samples, seed, masked)
    assume((target != MASKED).any())
    loss = find_loss("cross_entropy")
    total = int((target != MASKED).sum())
    whole = AutogradGradient(make_model(seed), loss)
    tokens, targets = torch.from_numpy(inputs), torch.from_numpy(target)
    whole.accumulate(tokens, targets, total=total, is_first=True)
    gradients = [AutogradGradient(make_model(seed), loss) for _ in range(ranks)]

    def run(rank: int) -> None:
        share = slice(*rank_span(0, samples, rank, ranks))
        gradients[rank].accumulate(tokens[share], targets[share], total=total, is_first=True)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sums = [
        sum(gradient.parameters[place].grad for gradient in gradients)
        for place in range(len(whole.parameters))
    ]
    for found, parameter in zip(sums, whole.parameters, strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-9, atol=1e-12)


@settings(max_examples=15)
@given(
    samples=st.integers(4, 40),
    batch_size=st.integers(1, 45) | st.just("full"),
    micro=st.integers(1, 12),
    masked=st.sampled_from([0.0, 0.4, 0.8]),
    seed=st.integers(0, 30),
)
def test_a_run_by_micro_batches_is_the_run_of_whole_batches(
    samples, batch_size, micro, masked, seed
):
    parts = random_parts(samples, seed, masked)
    counted = int((parts.data.array("y") != MASKED).sum())
    assume(counted)
    options: dict[str, Any] = {
        "batch_size": batch_size, "epochs": 2, "learning_rate": 0.1, "seed": seed,
    }  # fmt: skip
    whole = rb.fit(make_model(seed), parts, **options)
    pieces = rb.fit(make_model(seed), parts, micro_batch_size=micro, **options)
    for one, two in zip(whole.history, pieces.history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-9)
        assert one["steps"] == two["steps"]
    for one, two in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)
    if batch_size == "full":
        inputs, target = (torch.from_numpy(parts.data.array(name)) for name in ("x", "y"))
        first = functional.cross_entropy(make_model(seed)(inputs).movedim(2, 1), target)
        assert whole.history[0]["train_loss"] == pytest.approx(first.item(), rel=1e-9)


@settings(max_examples=25)
@given(
    samples=st.integers(4, 60),
    batch_sizes=st.lists(st.integers(1, 70), min_size=2, max_size=3),
    masked=st.sampled_from([0.0, 0.4, 0.8]),
    seed=st.integers(0, 30),
)
def test_scores_and_predictions_do_not_depend_on_the_batch_size(samples, batch_sizes, masked, seed):
    parts = random_parts(samples, seed, masked)
    inputs, target = (torch.from_numpy(parts.data.array(name)) for name in ("x", "y"))
    counts = target != MASKED
    assume(counts.any())
    model = make_model(seed)
    outputs = model(inputs)
    wanted = {
        "loss": functional.cross_entropy(outputs.movedim(2, 1), target).item(),
        "accuracy": (outputs.argmax(-1) == target)[counts].double().mean().item(),
    }
    for batch_size in batch_sizes:
        assert rb.evaluate(model, parts.train, batch_size=batch_size) == pytest.approx(wanted)
        of_function = rb.evaluate(model, parts.train, batch_size=batch_size, loss=torchs_mean)
        assert of_function == pytest.approx({"loss": wanted["loss"]})
        told = rb.predict(model, parts.train, batch_size=batch_size)
        assert (told.loss, told.accuracy) == pytest.approx(tuple(wanted.values()))
        np.testing.assert_array_equal(told.predicted, outputs.argmax(-1))
        np.testing.assert_allclose(told, torch.softmax(outputs, -1).detach(), atol=1e-6)


@settings(max_examples=10)
@given(
    samples=st.integers(6, 40),
    batch_size=st.integers(1, 12),
    masked=st.sampled_from([0.0, 0.6]),
    stop=st.integers(1, 30),
    seed=st.integers(0, 20),
)
def test_a_run_stopped_at_any_step_resumes_exactly(
    tmp_path_factory, samples, batch_size, masked, stop, seed
):
    parts = random_parts(samples, seed, masked, val=2)
    assume((parts.data.array("y")[parts.val.rows.take(np.arange(2))] != MASKED).any())
    assume((parts.data.array("y")[parts.train.rows.take(np.arange(samples - 2))] != MASKED).any())
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "threads": 1}
    whole = rb.fit(make_model(seed), parts, epochs=3, **options)
    run = tmp_path_factory.mktemp("run") / "run"
    rb.fit(make_model(seed), parts, steps=min(stop, whole.steps), out=run, **options)
    resumed = rb.fit(make_model(seed), parts, epochs=3, out=run, resume=True, **options)
    assert resumed.step_losses == whole.step_losses
    for one, two in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, two)
    for found, wanted in zip(resumed.history, whole.history, strict=True):
        assert {**found, "seconds": 0, "loading_seconds": 0} == {
            **wanted, "seconds": 0, "loading_seconds": 0,
        }  # fmt: skip
