"""Any torch module: convolutions, dropout, embeddings, dicts of inputs, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rightbatch as rb
from rightbatch.errors import DataError, OptionError


class Channel(nn.Module):
    """(B, H, W) to (B, 1, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.unsqueeze(1)


class TwoInputs(nn.Module):
    """Images and a number each."""

    def __init__(self) -> None:
        super().__init__()
        self.images = nn.Linear(64, 10)
        self.number = nn.Linear(1, 10)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        images: Tensor = self.images(inputs["image"].flatten(1))
        return images + self.number(inputs["number"].unsqueeze(1))


@pytest.fixture(autouse=True)
def _same_initial_weights():
    with torch.random.fork_rng(()):
        torch.manual_seed(0)
        yield


def test_a_convolutional_network_learns_digits(digits):
    model = nn.Sequential(
        Channel(), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 10),
    )  # fmt: skip
    result = rb.fit(model, digits, epochs=8, optimizer="adam", learning_rate=0.01)
    assert result.model is model
    assert result.history[-1]["val_accuracy"] > 0.95


def test_dropout_is_on_in_training_off_in_validation_and_follows_the_seed(cancer):
    def run(seed: int) -> rb.FitResult:
        torch.manual_seed(9)
        model = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 1))
        torch.manual_seed(np.random.default_rng().integers(1 << 30))
        return rb.fit(model, cancer, epochs=2, seed=seed)

    first, again, other = run(1), run(1), run(2)
    assert first.history[-1]["train_loss"] == again.history[-1]["train_loss"]
    assert first.step_losses[0] != other.step_losses[0]
    assert rb.evaluate(first, cancer.val)["loss"] == pytest.approx(
        first.history[-1]["val_loss"], rel=1e-6
    )


def test_batch_normalisation_learns_and_refuses_micro_batches(cancer):
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

    result = rb.fit(make(), cancer, epochs=10, learning_rate=0.1)
    assert result.history[-1]["val_accuracy"] > 0.9
    with pytest.raises(OptionError, match=r"BatchNorm1d.*Leave micro_batch_size out"):
        rb.fit(make(), cancer, epochs=1, micro_batch_size=8)


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint16"])
def test_whole_numbers_reach_an_embedding_as_they_are(dtype):
    generator = np.random.default_rng(0)
    words = generator.integers(0, 50, size=(400, 6))
    target = (words == 7).any(axis=1).astype(np.int64)
    model = nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(48, 2))
    parts = rb.split(rb.open((words.astype(dtype), target)), val=80)
    result = rb.fit(model, parts, epochs=2)
    assert np.isfinite(result.history[-1]["val_loss"])


def test_whole_numbers_for_a_module_of_floats_are_refused_with_the_remedy():
    inputs = np.arange(40).reshape(20, 2)
    parts = rb.split(rb.open((inputs, inputs[:, 0] % 4 // 2)), val=5)
    with pytest.raises(OptionError, match=r"parts\.transform\(rb\.cast\('float32'\)\)"):
        rb.fit(nn.Linear(2, 1), parts, epochs=1)
    rb.fit(nn.Linear(2, 1), parts.transform(rb.cast("float32")), epochs=1, learning_rate=1e-4)


def test_a_built_in_model_made_before_takes_whole_numbers_as_quantities():
    inputs = np.arange(40).reshape(20, 2) % 7
    parts = rb.split(rb.open((inputs, inputs[:, 0] % 2)), val=5)
    model = rb.fit("logistic", parts, epochs=1).model
    assert rb.fit(model, parts, epochs=1).steps == 1
    assert rb.evaluate(model, parts.val)["loss"] > 0


@pytest.mark.parametrize("micro_batch_size", [None, 7])
def test_a_dict_of_inputs_reaches_the_module(micro_batch_size):
    digits = rb.open("digits")
    arrays = digits.span(0, len(digits))
    images = arrays[digits.inputs[0].name].astype(np.float32)
    number = images.mean(axis=tuple(range(1, images.ndim)))
    data = rb.open({"image": images, "number": number, "label": arrays["target"]}, target="label")
    parts = rb.split(data, val=0.2).transform(rb.scale(1 / 16))
    result = rb.fit(
        TwoInputs(), parts, epochs=3, learning_rate=0.1, micro_batch_size=micro_batch_size
    )
    assert result.history[-1]["val_accuracy"] > 0.85


def test_a_named_model_refuses_a_dict_of_inputs_and_says_what_to_do():
    arrays = {"image": np.zeros((9, 8, 8)), "n": np.zeros(9), "y": np.arange(9) % 2}
    parts = rb.split(rb.open(arrays, target="y"))
    with pytest.raises(OptionError, match=r"a dict of image, n.*torch\.nn\.Module"):
        rb.fit("logistic", parts, epochs=1)


def test_a_custom_loss_function_trains(cancer):
    def hinge(outputs: Tensor, target: Tensor) -> Tensor:
        signs = 2.0 * target.float() - 1.0
        return (1.0 - signs * outputs.squeeze(1)).clamp_min(0.0)

    result = rb.fit("logistic", cancer, epochs=10, loss=hinge)
    assert set(result.history[0]) >= {"train_loss", "val_loss"}
    assert "val_accuracy" not in result.history[0]
    assert result.history[-1]["val_loss"] < 0.2
    by_module = rb.fit(nn.Linear(30, 1), cancer, epochs=10, loss=hinge)
    assert by_module.history[-1]["val_loss"] < 0.2


def test_a_module_that_can_not_take_the_inputs_is_refused_with_their_shape(cancer):
    with pytest.raises(
        OptionError, match=r"can not take the inputs of breast_cancer, shape \(1, 30"
    ):
        rb.fit(nn.Linear(29, 1), cancer, epochs=1)


@pytest.mark.parametrize("place", [0, 7])
def test_a_code_that_an_embedding_has_no_place_for_is_told_with_the_data(place):
    codes = np.zeros((20, 3), np.int64)
    codes[place] = 9
    parts = rb.split(rb.open((codes, codes), name="codes"))
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 10))
    with pytest.raises(DataError, match=r"codes: index out of range.*beyond what the model knows"):
        rb.fit(model, parts, epochs=1)


def test_a_mistake_in_a_module_is_raised_as_it_is(cancer):
    class Mistaken(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return [super().forward(inputs)][1]

    with pytest.raises(IndexError, match="list index"):
        rb.fit(Mistaken(30, 1), cancer, epochs=1)


def test_trying_the_module_out_changes_neither_its_mode_nor_its_statistics(cancer):
    model = nn.Sequential(nn.Linear(30, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rb.evaluate(model, cancer.val)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_parameters_that_a_step_does_not_use_are_left_alone(cancer):
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(30, 1), nn.Linear(3, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            result: Tensor = self.used(inputs)
            return result

    model = Part()
    before = model.unused.weight.detach().clone()
    rb.fit(model, cancer, epochs=1, l2=0.1, momentum=0.5)
    assert torch.equal(before, model.unused.weight)
