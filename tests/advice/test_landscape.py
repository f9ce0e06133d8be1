"""The landscape against a loss that is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.advice.landscape import map_landscape, principal_plane
from rightbatch.advice.landscape_map import Landscape
from rightbatch.advice.training_loss import TrainingLoss
from rightbatch.advice.trajectory import Trajectory, flat_weights
from rightbatch.training.building import task_of


@pytest.fixture(scope="module")
def line():
    """y = 2x + 1 with noise; the mean squared error of a line is a function of two weights."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(200, 1)).astype(np.float32)
    y = (2 * x[:, 0] + 1 + 0.1 * generator.normal(size=200)).astype(np.float32)
    parts = rb.split(rb.open((x, y)), val=40)
    model = nn.Linear(1, 1)
    loss = TrainingLoss(model, task_of(model, parts.train, None), parts)
    rows = parts.train.rows.take(np.arange(160))
    return loss, x[rows, 0].astype(np.float64), y[rows].astype(np.float64)


def squared_error(x, y, weights):
    return float(np.mean((weights[0] * x + weights[1] - y) ** 2))


def test_the_training_loss_is_the_mean_over_all_training_samples(line):
    loss, x, y = line
    assert loss.samples == 160
    for weights in ([0.0, 0.0], [2.0, 1.0], [-3.0, 0.5]):
        assert loss(np.array(weights)) == pytest.approx(squared_error(x, y, weights), rel=1e-5)


def test_grid_and_paths_show_the_loss_where_they_say(line):
    loss, x, y = line
    turn = np.linspace(0, 3, 30)
    points = np.stack([2 + np.exp(-turn) * np.cos(turn), 1 - 0.3 * turn], axis=1)
    trajectory = Trajectory(np.arange(30), points.astype(np.float32))
    found = map_landscape([("batch 8", 8, trajectory)], loss, seconds=0.0)
    assert sum(found.explained) == pytest.approx(1.0)
    path = found.paths[0]
    # The plane is the whole space of two weights: from the path the frame can be found again.
    centre = points.mean(axis=0)
    frame = np.linalg.lstsq(np.stack([path.x, path.y], axis=1), points - centre, rcond=None)[0]
    np.testing.assert_allclose(frame @ frame.T, np.eye(2), atol=1e-4)
    for j in (0, 7, 14):
        for i in (0, 4, 14):
            weights = centre + np.array([found.x[i], found.y[j]]) @ frame
            assert found.losses[j][i] == pytest.approx(squared_error(x, y, weights), rel=1e-3)
    wanted = [squared_error(x, y, weights) for weights in points]
    assert path.losses == pytest.approx(wanted, rel=1e-4)
    assert min(found.x) < min(path.x)
    assert max(path.x) < max(found.x)
    assert path.x[0] <= path.x[-1]
    assert path.y[0] <= path.y[-1]
    assert Landscape.from_json(found.to_json()) == found


def test_a_path_on_a_line_and_one_that_does_not_move(line):
    loss, _, _ = line
    straight = np.linspace([0, 0], [1, 1], 5).astype(np.float32)
    found = map_landscape([("a", 1, Trajectory(np.arange(5), straight))], loss, seconds=0.0)
    assert found.explained == pytest.approx((1.0, 0.0), abs=1e-6)
    assert len({round(value, 9) for value in found.x}) == len(found.x)
    assert len({round(value, 9) for value in found.y}) == len(found.y)
    still = np.ones((5, 2), np.float32)
    with pytest.raises(rb.OptionError, match="paths that move"):
        map_landscape([("a", 1, Trajectory(np.arange(5), still))], loss)
    with pytest.raises(rb.OptionError, match="there is none"):
        map_landscape([], loss)


def test_the_principal_plane_is_that_of_the_covariance():
    rows = np.random.default_rng(2).normal(size=(40, 7)) * [5, 3, 1, 1, 1, 1, 1]
    rows -= rows.mean(axis=0)
    directions, explained = principal_plane(rows)
    _, singular, wanted = np.linalg.svd(rows, full_matrices=False)
    np.testing.assert_allclose(np.abs(directions @ wanted[:2].T), np.eye(2), atol=1e-9)
    assert explained == pytest.approx(tuple(singular[:2] ** 2 / (singular**2).sum()))


def test_mapping_leaves_the_model_as_it_was(line):
    model = nn.Sequential(nn.Linear(1, 3), nn.Dropout(0.5), nn.Linear(3, 1))
    model.train()
    before = flat_weights(model)
    x = np.arange(20, dtype=np.float32).reshape(-1, 1)
    parts = rb.split(rb.open((x, x[:, 0])))
    loss = TrainingLoss(model, task_of(model, parts.train, None), parts)
    assert loss(before) == loss(before), "dropout is off"
    loss(before + 1)
    assert model.training
    np.testing.assert_array_equal(flat_weights(model), before)


def test_augmentation_for_training_alone_is_no_part_of_the_loss():
    x = np.ones((30, 2), np.float32)
    plain = rb.split(rb.open((x, np.arange(30, dtype=np.float32))), val=5)
    noisy = plain.transform(lambda inputs: inputs * 100, train_only=True)
    model = nn.Linear(2, 1)
    task = task_of(model, plain.train, None)
    weights = flat_weights(model)
    assert TrainingLoss(model, task, noisy)(weights) == TrainingLoss(model, task, plain)(weights)


def test_of_many_samples_an_even_draw_is_taken():
    x = np.arange(5000, dtype=np.float32).reshape(-1, 1)
    parts = rb.split(rb.open((x, np.zeros(5000, np.float32))))
    model = nn.Linear(1, 1)
    loss = TrainingLoss(model, task_of(model, parts.train, None), parts)
    assert loss.samples == 2048
    with torch.no_grad():
        seen = loss(np.array([1.0, 0.0]))
    assert seen == pytest.approx(float(np.mean(x.astype(np.float64) ** 2)), rel=0.1)
