"""The gradient noise scale: against brute force, along a run, and where it is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.ground import Ground
from rightbatch.advice.noise import _Groups, measure_noise, summarise
from rightbatch.advice.noise_scale import Noise, NoisePoint
from rightbatch.advice.sample_norms import find_sample_norms
from rightbatch.advice.subject import Pool
from rightbatch.loading.parts import Parts
from rightbatch.training.options import FitOptions
from rightbatch.training.step import find_gradient


class Branching(nn.Module):
    """A network with a branch on its values, which torch.func can not transform."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        flat = inputs.flatten(1)
        if float(flat.sum()) > 0:
            flat = flat * 1.0
        return self.layer(flat)


def gradients(network: nn.Module, ground: Ground, pool: Pool) -> np.ndarray:
    """The gradient of each sample, one after another."""
    inputs, target = next(pool.pieces(pool.samples))
    rows = []
    for place in range(len(target)):
        network.zero_grad(set_to_none=True)
        one = slice(place, place + 1)
        ground.task.loss.per_sample(network(inputs[one]), target[one]).sum().backward()
        rows.append(torch.cat([p.grad.reshape(-1) for p in network.parameters()]).double())
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("model", ["softmax", "mlp:12", "logistic", "linear"])
def test_norms_of_single_gradients_are_those_of_brute_force(model: str) -> None:
    name = {"logistic": "breast_cancer", "linear": "diabetes"}.get(model, "digits")
    parts = rb.split(rb.open(name), val=0.2).transform(rb.standardize())
    ground = Ground(model, parts, FitOptions())
    pool = Pool(ground.train, 24, seed=0, device=None)
    network = ground.build(0)
    gradient = find_gradient(network, ground.task.loss)
    norms = find_sample_norms(gradient, next(pool.pieces(2)))
    assert norms is not None
    expected = np.square(gradients(ground.build(0), ground, pool)).sum(1)
    assert norms(*next(pool.pieces(24))).numpy() == pytest.approx(expected, rel=1e-4)


def test_norms_of_a_users_module_are_those_of_brute_force(digits: Parts) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))
    ground = Ground(network, digits, FitOptions())
    pool = Pool(ground.train, 24, seed=0, device=None)
    norms = find_sample_norms(
        find_gradient(ground.build(0), ground.task.loss), next(pool.pieces(2))
    )
    assert norms is not None
    expected = np.square(gradients(ground.build(0), ground, pool)).sum(1)
    assert norms(*next(pool.pieces(24))).numpy() == pytest.approx(expected, rel=1e-4)


def test_a_module_beyond_torch_func_goes_by_micro_batches(digits: Parts) -> None:
    ground = Ground(Branching(), digits, FitOptions(learning_rate=0.1))
    noise = measure_noise(ground, batch_size=32, learning_rate=0.1, seconds=1.0, most_samples=2000)
    assert noise.method == "micro-batches"
    assert noise.refused is None or noise.low is not None


@pytest.mark.parametrize("is_exact", [True, False])
def test_the_estimate_is_the_scale_of_all_samples(digits: Parts, is_exact: bool) -> None:
    ground = Ground("softmax", digits, FitOptions())
    pool = Pool(ground.train, 1024, seed=0, device=None)
    every = gradients(ground.build(0), ground, pool)
    mean = every.mean(0)
    trace = np.square(every - mean).sum() / (len(every) - 1)
    # Of the samples at hand as a draw from more: without the noise that their mean still has.
    expected = trace / (mean @ mean - trace / len(every))
    gradient = find_gradient(ground.build(0), ground.task.loss)
    norms = find_sample_norms(gradient, next(pool.pieces(2)))
    groups = _Groups(gradient, norms if is_exact else None)
    for piece in pool.pieces(64):
        groups.add(*piece)
    inverse, low, high = groups.inverse_interval()
    assert low <= 1 / expected <= high
    assert 1 / inverse == pytest.approx(expected, rel=0.05 if is_exact else 0.5)


def test_the_interval_holds_the_scale_of_a_larger_sample(digits: Parts) -> None:
    ground = Ground("softmax", digits, FitOptions())
    every = gradients(ground.build(0), ground, Pool(ground.train, 1400, seed=0, device=None))
    mean = every.mean(0)
    truth = np.square(every - mean).sum() / (len(every) - 1) / (mean @ mean)
    held = 0
    for seed in range(20):
        pool = Pool(ground.train, 256, seed=seed, device=None)
        gradient = find_gradient(ground.build(0), ground.task.loss)
        groups = _Groups(gradient, find_sample_norms(gradient, next(pool.pieces(2))))
        for piece in pool.pieces(16):
            groups.add(*piece)
        _, low, high = groups.inverse_interval()
        held += low <= 1 / truth <= high
    assert held >= 17


def test_the_scale_grows_along_a_run_and_the_run_is_that_of_the_rate(digits: Parts) -> None:
    ground = Ground("mlp:32", digits, FitOptions(learning_rate=0.2))
    noise = measure_noise(
        ground, batch_size=32, learning_rate=0.2, seconds=30.0, most_samples=12_000
    )
    assert noise.refused is None
    assert noise.method == "per-sample"
    assert (noise.batch_size, noise.learning_rate) == (32, 0.2)
    scales = [point.scale for point in noise.trajectory if point.scale is not None]
    assert scales[-1] > 2 * scales[0]
    losses = [point.loss for point in noise.trajectory]
    assert losses[-1] < losses[0] / 2
    assert noise.low < noise.scale < noise.high
    assert Noise.from_json(noise.to_json()) == noise


def test_what_is_not_resolved_is_refused_with_the_bound() -> None:
    looks = [
        NoisePoint(samples=n, loss=1.0, scale=None, low=300.0, high=None, measured_on=256)
        for n in (0, 512, 1536)
    ]
    noise = summarise(looks, method="per-sample", batch_size=32, learning_rate=0.1)
    assert noise.scale is None
    assert noise.low == 300.0
    assert "any batch size from about 300 on" in str(noise.refused)
