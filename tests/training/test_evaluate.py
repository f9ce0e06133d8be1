"""Exact evaluation, against scikit-learn's metrics and whatever the batch size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from torch import nn

import rightbatch as rb
from rightbatch.errors import OptionError
from rightbatch.training.evaluate import Score


def predictions(result, part):
    inputs, target = next(iter(rb.Batches(part, "full", shuffle=False, output="torch")))
    result.model.eval()
    with torch.no_grad():
        return result.model(inputs.float()).double().numpy(), target.numpy()


@pytest.mark.parametrize("batch_size", [1, 7, 64, "full", 5000])
def test_classes_are_scored_as_scikit_learn_scores_them(batch_size, digits):
    result = rb.fit("softmax", digits, epochs=3, learning_rate=0.1)
    scores = rb.evaluate(result, digits.test, batch_size=batch_size)
    outputs, target = predictions(result, digits.test)
    assert scores["accuracy"] == accuracy_score(target, outputs.argmax(1))
    probabilities = torch.softmax(torch.from_numpy(outputs), 1).numpy()
    assert scores["loss"] == pytest.approx(log_loss(target, probabilities), rel=1e-6)


def test_two_classes_are_scored_as_scikit_learn_scores_them(cancer):
    result = rb.fit("logistic", cancer, epochs=3)
    outputs, target = predictions(result, cancer.val)
    scores = rb.evaluate(result, cancer.val, batch_size=10)
    assert scores["accuracy"] == accuracy_score(target, outputs[:, 0] > 0)
    probabilities = torch.sigmoid(torch.from_numpy(outputs[:, 0])).numpy()
    assert scores["loss"] == pytest.approx(log_loss(target, probabilities), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, "full"])
def test_quantities_are_scored_as_scikit_learn_scores_them(batch_size, diabetes):
    result = rb.fit("linear", diabetes, epochs=20)
    outputs, target = predictions(result, diabetes.val)
    scores = rb.evaluate(result, diabetes.val, batch_size=batch_size)
    assert scores["r2"] == pytest.approx(r2_score(target, outputs), rel=1e-6)
    assert scores["loss"] == pytest.approx(mean_squared_error(target, outputs), rel=1e-5)


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    offset=st.sampled_from([0.0, 1e6]),
    width=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_r2_is_exact_for_any_cut_even_far_from_zero(sizes, offset, width, seed):
    total = sum(sizes) + 2
    generator = np.random.default_rng(seed)
    target = torch.from_numpy(offset + generator.normal(size=(total, width)))
    outputs = target + torch.from_numpy(generator.normal(size=(total, width)))
    score = Score(metric="r2")
    start = 0
    for size in [*sizes, 2]:
        piece = slice(start, start + size)
        losses = (outputs[piece] - target[piece]).square().mean(1)
        score.add(losses, outputs[piece], target[piece])
        start += size
    wanted = r2_score(target.numpy(), outputs.numpy(), multioutput="variance_weighted")
    assert score.result()["r2"] == pytest.approx(wanted, rel=1e-6)


def test_r2_of_a_constant_target_is_not_a_number():
    score = Score(metric="r2")
    score.add(torch.ones(3), torch.zeros(3, 1), torch.ones(3))
    assert np.isnan(score.result()["r2"])


def test_the_mode_of_the_model_is_put_back(cancer):
    model = nn.Sequential(nn.Linear(30, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    for training in (True, False):
        model.train(training)
        first = rb.evaluate(model, cancer.val)
        assert model.training is training
        assert first == rb.evaluate(model, cancer.val), "dropout is off while evaluating"


def test_a_module_that_fit_has_not_seen_is_scored(cancer):
    result = rb.fit("logistic", cancer, epochs=2)
    assert rb.evaluate(result.model, cancer.val) == rb.evaluate(result, cancer.val)


def test_validation_of_a_run_is_what_evaluate_gives(cancer):
    result = rb.fit("mlp:5", cancer, epochs=2, batch_size=50)
    scores = rb.evaluate(result, cancer.val, batch_size=3)
    assert result.history[-1]["val_loss"] == pytest.approx(scores["loss"], rel=1e-6)
    assert result.history[-1]["val_accuracy"] == scores["accuracy"]


def test_a_wrong_batch_size_is_refused(cancer):
    with pytest.raises(OptionError, match="Did you mean 'full'"):
        rb.evaluate(nn.Linear(30, 1), cancer.val, batch_size="fulll")


def test_fit_validates_in_the_batches_it_is_told_and_scores_the_same() -> None:
    parts = rb.split(rb.open("digits"), val=0.3, seed=1).transform(rb.scale(1 / 16))
    whole, small = (
        rb.fit("softmax", parts, epochs=1, evaluation_batch_size=size) for size in (None, 7)
    )
    assert small.history[0]["val_loss"] == pytest.approx(whole.history[0]["val_loss"], rel=1e-6)
    assert small.history[0]["val_accuracy"] == whole.history[0]["val_accuracy"]
    with pytest.raises(OptionError, match="evaluation_batch_size"):
        rb.fit("softmax", parts, epochs=1, evaluation_batch_size=0)
