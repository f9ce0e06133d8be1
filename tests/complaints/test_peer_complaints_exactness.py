"""What users of other loaders complain about, one test each: it fails with the peer's behaviour.

Here what loading gives; `test_peer_complaints.py` has what it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import rightbatch as rb
from rightbatch.loading.row_random import RowRandom

# Complaint 4: every worker draws the same NumPy random numbers.


def test_4_no_two_samples_share_their_random_numbers() -> None:
    def draw(inputs: NDArray[Any], rng: RowRandom) -> NDArray[Any]:
        return rng.uniform(shape=(2,))

    part = rb.split(np.arange(4000)).transform(draw).train
    by_threads = []
    for threads in (0, 1, 4):
        batches = rb.Batches(part, 50, threads=threads, with_rows=True, seed=3)
        epochs = [list(batches) for _ in range(2)]
        everything = np.concatenate([x for epoch in epochs for x, _ in epoch])
        # 80 batches by several threads, two epochs, two numbers a sample: all differ.
        assert len(np.unique(everything)) == 2 * 4000 * 2
        by_row = np.empty((4000, 2))
        for x, rows in epochs[0]:
            by_row[rows] = x
        by_threads.append(by_row)
    np.testing.assert_array_equal(by_threads[0], by_threads[1])
    np.testing.assert_array_equal(by_threads[0], by_threads[2])


# Complaint 5: take and skip after a shuffle that is made anew each epoch.


def buffered_shuffle(
    samples: Iterable[int], buffer_size: int, generator: np.random.Generator
) -> list[int]:
    """The classic shuffle buffer: fill it, then give out a random one and refill its place."""
    source = iter(samples)
    buffer = list(islice(source, buffer_size))
    places = iter(generator.integers(0, buffer_size, 10**6).tolist())
    shuffled = []
    for sample in source:
        place = next(places)
        shuffled.append(buffer[place])
        buffer[place] = sample
    generator.shuffle(buffer)
    return shuffled + buffer


def test_5_split_cannot_leak_where_take_and_skip_do() -> None:
    length, held_out, buffer_size = 60_000, 6_000, 10_000
    generator = np.random.default_rng(0)
    # Epoch 1 trains on shuffled.skip(6000); shuffled.take(6000), validated after it, is
    # another shuffle.
    trained = set(buffered_shuffle(range(length), buffer_size, generator)[held_out:])
    validated = buffered_shuffle(range(length), buffer_size, generator)[:held_out]
    leaked = sum(sample in trained for sample in validated) / held_out
    assert leaked == pytest.approx(0.58, abs=0.02)

    parts = rb.split(np.arange(length), val=held_out, seed=0)
    train = rb.Batches(parts.train, 128, window=buffer_size)
    validation = rb.Batches(parts.val, 1000, shuffle=False)
    seen = np.zeros(length, bool)
    for _ in range(5):
        for samples in train:
            seen[samples] = True
        assert not seen[np.concatenate(list(validation))].any()
    assert seen.sum() == length - held_out


# Complaint 10: set_epoch is forgotten, and every epoch has the same order.


def test_10_epochs_differ_though_nobody_says_which_it_is() -> None:
    batches = rb.Batches(np.arange(1000), 100)
    epochs = [np.concatenate(list(batches)).tolist() for _ in range(4)]
    assert len(set(map(tuple, epochs))) == 4
    # A request names its epoch, so none can be stale.
    again = [np.concatenate(list(batches.epoch(k))).tolist() for k in range(4)]
    assert again == epochs


# Complaint 13: gradient accumulation that averages micro-batches instead of samples.


def weights_after_one_step(
    gradient_of: Callable[[torch.nn.Linear, torch.Tensor, torch.Tensor], None],
    inputs: NDArray[np.float32],
    target: NDArray[np.float32],
) -> torch.Tensor:
    model = linear()
    model.zero_grad()
    gradient_of(model, torch.from_numpy(inputs), torch.from_numpy(target)[:, None])
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= 0.1 * parameter.grad
    return torch.cat([parameter.detach().ravel() for parameter in model.parameters()])


def linear() -> torch.nn.Linear:
    model = torch.nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, -1.0, 0.25]]))
        model.bias.fill_(0.1)
    return model


def mean_of_micro_batch_means(
    model: torch.nn.Linear, inputs: torch.Tensor, target: torch.Tensor
) -> None:
    """The peers' mistake: each micro-batch counts the same, whatever it holds."""
    pieces = [slice(0, 4), slice(4, 8), slice(8, 10)]
    for piece in pieces:
        loss = torch.nn.functional.mse_loss(model(inputs[piece]), target[piece])
        (loss / len(pieces)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped


def mean_of_samples(model: torch.nn.Linear, inputs: torch.Tensor, target: torch.Tensor) -> None:
    torch.nn.functional.mse_loss(model(inputs), target).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped


def test_13_micro_batches_have_the_gradient_of_the_whole_batch() -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(10, 3)).astype(np.float32)
    y = np.linspace(-3, 9, 10, dtype=np.float32)
    parts = rb.split((X, y))

    def fitted(micro_batch_size: int | None) -> torch.Tensor:
        result = rb.fit(
            linear(),
            parts,
            batch_size=10,
            steps=1,
            learning_rate=0.1,
            loss="squared_error",
            shuffle=False,
            micro_batch_size=micro_batch_size,
        )
        parameters = result.model.parameters()
        return torch.cat([parameter.detach().ravel() for parameter in parameters])

    whole = fitted(None)
    torch.testing.assert_close(whole, weights_after_one_step(mean_of_samples, X, y))
    # 4 + 4 + 2 samples.
    torch.testing.assert_close(fitted(4), whole, rtol=0, atol=1e-6)
    wrong = weights_after_one_step(mean_of_micro_batch_means, X, y)
    assert (wrong - whole).abs().max() > 0.05


def test_13_the_same_for_the_built_in_network_over_several_epochs() -> None:
    parts = rb.split("iris", val=30, seed=1).transform(rb.standardize())
    weights = []
    for micro_batch_size in (None, 1, 7, 32):
        result = rb.fit(
            "mlp:5",
            parts,
            batch_size=32,
            epochs=3,
            learning_rate=0.2,
            seed=4,
            micro_batch_size=micro_batch_size,
        )
        parameters = result.model.parameters()
        weights.append(torch.cat([parameter.detach().ravel() for parameter in parameters]))
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=1e-6)
