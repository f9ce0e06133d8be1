"""`fit` on real data: batch sizes, the losses it tells, early stopping, and what it leaves."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.nn import functional

import rightbatch as rb
from rightbatch.errors import OptionError
from rightbatch.training.models import build_model


@pytest.mark.parametrize(
    ("batch_size", "steps"), [("full", 3), (1, 3 * 455), (7, 3 * 65), (455, 3), (9999, 3)]
)
def test_batch_mini_batch_and_stochastic_descent_are_one_knob(batch_size, steps, cancer):
    result = rb.fit("logistic", cancer, batch_size=batch_size, epochs=3, learning_rate=0.01)
    assert result.steps == steps == len(result.step_losses)
    assert result.history[-1]["samples"] == 3 * 455
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_full_batch_descent_has_the_gradient_of_all_samples(cancer):
    result = rb.fit("logistic", cancer, batch_size="full", epochs=1, init="zeros", learning_rate=1)
    inputs, target = next(iter(rb.Batches(cancer.train, "full", shuffle=False)))
    # At zero weights, sigmoid gives 1/2 everywhere.
    expected = -(0.5 - target) @ inputs / len(target)
    np.testing.assert_allclose(
        result.model.layers[0].weight.detach().numpy()[0], expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("micro_batch_size", [None, 10])
def test_train_loss_is_the_mean_over_samples_before_each_update(micro_batch_size, digits):
    options = {"batch_size": 100, "learning_rate": 0.5, "seed": 4}
    result = rb.fit(
        "softmax", digits, epochs=2, l2=0.5, micro_batch_size=micro_batch_size, **options
    )
    model = build_model("softmax", inputs=64, outputs=10, seed=4)
    weight, bias = model.layers[0].weight, model.layers[0].bias
    batches = rb.Batches(digits.train, 100, seed=4, output="torch")
    for row in result.history:
        total, samples = 0.0, 0
        for inputs, target in batches:
            losses = functional.cross_entropy(model(inputs), target, reduction="none")
            total, samples = total + losses.sum().item(), samples + len(target)
            penalised = losses.mean() + 0.25 * weight.square().sum()
            for parameter, gradient in zip(
                (weight, bias), torch.autograd.grad(penalised, (weight, bias)), strict=True
            ):
                parameter.data -= 0.5 * gradient
        assert samples == len(digits.train)
        assert samples % 100, "the last batch must be a smaller one for this test to tell"
        assert row["train_loss"] == pytest.approx(total / samples, rel=1e-5)


def test_steps_end_the_run_inside_an_epoch(cancer):
    result = rb.fit("logistic", cancer, batch_size=32, steps=20)
    assert result.steps == 20
    assert [row["steps"] for row in result.history] == [15, 20]
    assert result.history[-1]["samples"] == 455 + 5 * 32
    losses = [loss for _, loss in result.step_losses[15:]]
    assert result.history[-1]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-6)


def test_steps_that_are_whole_epochs_equal_those_epochs(cancer):
    by_steps = rb.fit("logistic", cancer, batch_size=32, steps=30)
    by_epochs = rb.fit("logistic", cancer, batch_size=32, epochs=2)
    assert by_steps.step_losses == by_epochs.step_losses
    assert len(by_steps.history) == 2


def test_early_stopping_takes_the_weights_of_the_best_epoch(cancer):
    options = {"batch_size": 8, "learning_rate": 1.0, "seed": 2}
    result = rb.fit("mlp:30", cancer, epochs=200, early_stopping=3, **options)
    losses = [row["val_loss"] for row in result.history]
    best = int(np.argmin(losses)) + 1
    assert result.stopped_early
    assert result.best_epoch == best == result.epochs - 3
    assert rb.evaluate(result, cancer.val)["loss"] == pytest.approx(min(losses), rel=1e-6)
    shorter = rb.fit("mlp:30", cancer, epochs=best, **options)
    assert torch.equal(shorter.model.flat, result.model.flat)


def test_early_stopping_without_validation_is_refused():
    with pytest.raises(OptionError, match=r"there is no validation part: split with val=0\.1"):
        rb.fit("logistic", rb.split(rb.open("breast_cancer")), early_stopping=3)


def test_a_target_loss_ends_the_run_after_the_first_epoch_at_it(cancer, tmp_path):
    options = {"batch_size": 32, "learning_rate": 0.1, "epochs": 30}
    whole = rb.fit("logistic", cancer, **options)
    target = whole.history[7]["val_loss"]
    first = next(k for k, row in enumerate(whole.history, 1) if row["val_loss"] <= target)
    result = rb.fit("logistic", cancer, **options, target_loss=target, out=tmp_path / "run")
    assert (result.epochs, result.stopped_early) == (first, True)
    assert [row["val_loss"] for row in result.history] == [
        row["val_loss"] for row in whole.history[:first]
    ]
    # A lower target lets the run go on as if it had been asked for at once.
    further = rb.fit(
        "logistic", cancer, **options, target_loss=1e-9, out=tmp_path / "run", resume=True
    )
    assert (further.epochs, further.stopped_early) == (30, False)
    assert torch.equal(further.model.flat, whole.model.flat)


def test_a_target_loss_without_validation_is_refused():
    with pytest.raises(OptionError, match=r"target_loss=0\.1 is a validation loss, and there is"):
        rb.fit("logistic", rb.split(rb.open("breast_cancer")), target_loss=0.1)


def test_a_validation_loss_that_is_not_a_number_is_no_best(cancer):
    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # NaN over the validation part alone, whose 114 samples come as one batch.
        losses = functional.binary_cross_entropy_with_logits(
            outputs.squeeze(1), target.float(), reduction="none"
        )
        return losses * float("nan") if len(target) == 114 else losses

    result = rb.fit("logistic", cancer, epochs=9, early_stopping=2, loss=loss)
    assert result.stopped_early
    assert result.epochs == 2


def test_without_validation_the_history_tells_of_training_alone():
    parts = rb.split(rb.open("wine")).transform(rb.standardize())
    (row,) = rb.fit("softmax", parts, epochs=1).history
    assert set(row) == {*("epoch", "steps", "samples", "seconds", "loading_seconds"), "train_loss"}


def test_the_random_state_and_threads_of_the_caller_are_untouched(cancer):
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002 - the global state is what is looked at
    threads = torch.get_num_threads()
    seen: list[int] = []
    rb.fit(
        "mlp:3",
        cancer,
        epochs=1,
        threads=threads + 1,
        progress=lambda _: seen.append(torch.get_num_threads()),
    )
    assert seen[-1] == threads + 1
    assert torch.get_num_threads() == threads
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002 - the same


def test_threads_are_put_back_after_an_error(cancer):
    threads = torch.get_num_threads()
    state = torch.get_rng_state()

    def broken(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rb.fit("logistic", cancer, epochs=1, threads=threads + 2, progress=broken)
    assert torch.get_num_threads() == threads
    assert torch.equal(state, torch.get_rng_state())


def test_a_run_depends_on_its_seed_and_not_on_torchs_state(cancer):
    torch.manual_seed(1)
    first = rb.fit("mlp:5", cancer, epochs=2, seed=3)
    torch.manual_seed(2)
    again = rb.fit("mlp:5", cancer, epochs=2, seed=3)
    other = rb.fit("mlp:5", cancer, epochs=2, seed=4)
    assert first.step_losses == again.step_losses
    assert torch.equal(first.model.flat, again.model.flat)
    assert first.step_losses != other.step_losses


def test_without_shuffling_every_epoch_has_the_same_batches(cancer):
    read: list[list[int]] = []

    def note(inputs: np.ndarray, rng: object) -> np.ndarray:
        read.append(rng.rows.tolist())  # type: ignore[attr-defined]  # a RowRandom
        return inputs

    rb.fit("logistic", cancer.transform(note), epochs=1, shuffle=False, batch_size=100)
    rows = cancer.train.rows.take(np.arange(455)).tolist()
    assert all(batch in read for batch in [rows[:100], rows[100:200], rows[400:]])


def test_window_and_no_shuffle_contradict_each_other(cancer):
    with pytest.raises(OptionError, match="window"):
        rb.fit("logistic", cancer, shuffle=False, window=10)


def test_data_that_are_not_split_are_refused_with_the_remedy():
    with pytest.raises(OptionError, match=r"given ArrayDataset: rb\.fit\(model, rb\.split"):
        rb.fit("softmax", rb.open("iris"))  # type: ignore[arg-type]  # on purpose


def test_no_held_out_sample_was_read(digits):
    assert rb.fit("softmax", digits, epochs=2).leaked_samples == 0


def test_the_watcher_hears_of_every_epoch(cancer):
    heard = []
    rb.fit("logistic", cancer, epochs=3, batch_size=100, progress=heard.append)
    rows = [event.row for event in heard if event.row is not None]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {event.total_steps for event in heard} == {15}


def test_the_result_says_what_it_is(cancer):
    text = repr(rb.fit("logistic", cancer, epochs=2))
    assert "2 epochs of batches of 32: train_loss" in text
    assert "val_accuracy" in text


def test_a_notebook_shows_a_small_table_of_the_history(cancer):
    few = rb.fit("logistic", cancer, epochs=3)._repr_html_()
    assert few.count("<tr>") == 4
    assert "val accuracy" in few
    many = rb.fit("logistic", cancer, epochs=30)._repr_html_()
    assert many.count("<tr>") == 11
    assert "<td>30</td>" in many
