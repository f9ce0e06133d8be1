"""What target, model and loss mean together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import rightbatch as rb
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.parts import Part
from rightbatch.training.task import resolve_task

GENERATOR = np.random.default_rng(5)
X = GENERATOR.normal(size=(60, 4)).astype(np.float32)
CODES = np.arange(60) % 3
BITS = np.arange(60) % 2
QUANTITY = GENERATOR.normal(size=60)
TARGETS: dict[str, Any] = {
    "bits": BITS,
    "booleans": BITS.astype(bool),
    "two texts": np.array(["no", "yes"])[BITS],
    "two far codes": BITS * 40 - 7,
    "column of bits": BITS[:, None],
    "codes": CODES,
    "bytes": CODES.astype(np.uint8),
    "texts": np.array(["a", "b", "c"])[CODES],
    "gaps": CODES * 5 - 2,
    "float": QUANTITY,
    "column of floats": QUANTITY[:, None].astype(np.float32),
    "float bits": BITS.astype(np.float64),
    "two quantities": np.stack([QUANTITY, QUANTITY], 1),
    "two quantities, one-hot first": np.concatenate([[[0.0, 1.0]], np.ones((59, 2))]),
    "one-hot": np.eye(3)[CODES],
    "one-hot integers": np.eye(3, dtype=np.int64)[CODES],
    "probabilities": np.full((60, 3), 1 / 3),
}
BINARY, MANY, SQUARED = "binary_cross_entropy", "cross_entropy", "squared_error"


def part(target: NDArray[Any]) -> Part:
    return rb.split(rb.open((X[: len(target)], target))).train


INFERRED = [
    # target, model, loss, outputs
    ("bits", "mlp:3", BINARY, 1),
    ("bits", "logistic", BINARY, 1),
    ("bits", "softmax", MANY, 2),
    ("bits", "linear", SQUARED, 1),
    ("booleans", "mlp:3", BINARY, 1),
    ("two texts", "mlp:3", BINARY, 1),
    ("two far codes", "logistic", BINARY, 1),
    ("column of bits", "mlp:3", BINARY, 1),
    ("column of bits", "softmax", MANY, 2),
    ("float bits", "logistic", BINARY, 1),
    ("float bits", "mlp:3", SQUARED, 1),
    ("codes", "mlp:3", MANY, 3),
    ("codes", "softmax", MANY, 3),
    ("codes", "linear", SQUARED, 1),
    ("bytes", "softmax", MANY, 3),
    ("texts", "mlp:3", MANY, 3),
    ("gaps", "softmax", MANY, 3),
    ("float", "mlp:3", SQUARED, 1),
    ("float", "linear", SQUARED, 1),
    ("column of floats", "mlp:3", SQUARED, 1),
    ("two quantities", "linear", SQUARED, 2),
    ("two quantities, one-hot first", "mlp:3", SQUARED, 2),
    ("one-hot", "mlp:3", MANY, 3),
    ("one-hot", "softmax", MANY, 3),
    ("one-hot", "linear", SQUARED, 3),
    ("one-hot integers", "softmax", MANY, 3),
    ("probabilities", "softmax", MANY, 3),
]


@pytest.mark.parametrize(("target", "model", "loss", "outputs"), INFERRED)
def test_the_loss_follows_from_target_and_model(target, model, loss, outputs):
    data = part(TARGETS[target])
    task = resolve_task(data, model=model)
    assert (task.loss.name, task.outputs) == (loss, outputs)
    # What is inferred can be trained, and is what the loss takes.
    result = rb.fit(model, rb.split(data.data, val=12), epochs=1)
    assert np.isfinite(result.history[0]["val_loss"])


@pytest.mark.parametrize(
    "target", ["two far codes", "two texts", "gaps", "texts", "column of bits"]
)
def test_labels_of_any_kind_are_learned_as_codes_from_zero(target):
    values = TARGETS[target]
    data = part(values)
    task = resolve_task(data, model="softmax")
    _, encoded = next(iter(rb.Batches(task.prepare(data), "full", shuffle=False)))
    assert encoded.dtype == np.int64
    assert encoded.tolist() == np.unique(values, return_inverse=True)[1].reshape(-1).tolist()


def test_whole_numbers_with_many_values_are_quantities():
    many = np.arange(1500)
    data = rb.split(rb.open((np.ones((1500, 2), np.float32), many))).train
    assert resolve_task(data, model="mlp:3").loss.name == SQUARED
    few = rb.split(rb.open((np.ones((1500, 2), np.float32), many % 1000))).train
    assert resolve_task(few, model="mlp:3").outputs == 1000


def test_a_target_that_a_transform_makes_a_quantity_is_one():
    parts = rb.split(rb.open((X, CODES))).transform(rb.standardize(column="y"))
    assert resolve_task(parts.train, model="mlp:3").loss.name == SQUARED


def test_a_target_that_one_hot_has_spread_is_one_of_classes():
    parts = rb.split(rb.open((X, CODES)), val=12).transform(rb.one_hot(column="y"))
    spread = rb.fit("softmax", parts, epochs=3, init="zeros")
    codes = rb.fit("softmax", rb.split(rb.open((X, CODES)), val=12), epochs=3, init="zeros")
    assert spread.task.loss.name == MANY
    for found, wanted in zip(spread.history, codes.history, strict=True):
        for name in ("train_loss", "val_loss", "val_accuracy"):
            assert found[name] == pytest.approx(wanted[name], rel=1e-5)


def test_a_given_loss_wins_where_it_can():
    assert resolve_task(part(CODES), model="mlp:3", loss=SQUARED).outputs == 1
    assert resolve_task(part(BITS), model="mlp:3", loss=MANY).outputs == 2
    assert resolve_task(part(TARGETS["float bits"]), model="mlp:3", loss=BINARY).outputs == 1

    def mean(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, target)

    assert resolve_task(part(CODES), model="mlp:3", loss=mean).outputs == 3
    assert resolve_task(part(BITS), model="softmax", loss=mean).outputs == 2
    assert resolve_task(part(BITS), model="mlp:3", loss=mean).outputs == 1


CONTRADICTIONS = [
    (
        "float",
        "softmax",
        None,
        r"softmax learns classes, .* holds quantities: use the model linear",
    ),
    ("float", "logistic", None, r"logistic is for two classes, .* holds quantities"),
    ("two quantities", "softmax", None, r"softmax learns classes, .* of shape \(2,\) a sample"),
    (
        "codes",
        "logistic",
        None,
        r"logistic tells two classes apart, .* has 3: use the model softmax",
    ),
    ("one-hot", "logistic", None, r"logistic is for two classes, .*: use softmax"),
    ("codes", "mlp:3", BINARY, r"binary_cross_entropy tells two classes apart, .* has 3"),
    ("float", "mlp:3", BINARY, r"binary_cross_entropy is for two classes, .* holds quantities"),
    ("float", "mlp:3", MANY, r"cross_entropy learns classes, .* holds quantities"),
    ("two quantities", "mlp:3", MANY, r"cross_entropy learns classes"),
    ("codes", "softmax", SQUARED, r"softmax learns classes and loss squared_error quantities"),
    ("codes", "linear", MANY, r"cross_entropy learns classes"),
]


@pytest.mark.parametrize(("target", "model", "loss", "telling"), CONTRADICTIONS)
def test_contradictions_are_refused(target, model, loss, telling):
    with pytest.raises(OptionError, match=telling):
        resolve_task(part(TARGETS[target]), model=model, loss=loss)


def test_a_target_with_one_value_is_refused():
    with pytest.raises(DataError, match=r"'y' of arrays has the one value .*7.*nothing to tell"):
        resolve_task(part(np.full(60, 7)), model="softmax")


def test_data_without_target_are_refused_with_their_columns():
    with pytest.raises(DataError, match=r"no target.*The columns are: a, b"):
        resolve_task(rb.split(rb.open({"a": X, "b": BITS})).train, model="softmax")


def test_a_module_with_the_wrong_number_of_outputs_is_refused():
    with pytest.raises(OptionError, match=r"2 outputs; cross_entropy .*3 classes\) takes 3"):
        rb.fit(nn.Linear(4, 2), rb.split(rb.open((X, CODES))), epochs=1)


def test_a_module_tells_by_its_outputs_how_two_classes_are_learned():
    parts = rb.split(rb.open((X, BITS)))
    assert rb.fit(nn.Linear(4, 1), parts, epochs=1).task.loss.name == BINARY
    assert rb.fit(nn.Linear(4, 2), parts, epochs=1).task.loss.name == MANY


TOKENS = np.random.default_rng(0).integers(0, 6, (60, 3))


def test_a_code_a_token_is_learned_by_scores_a_token():
    task = resolve_task(part(TOKENS), model=None, output_shape=(3, 6))
    assert (task.loss.name, task.outputs, task.is_per_token) == (MANY, 6, True)
    assert task.prepare(part(TOKENS.astype(np.int16))).example()[1].dtype == np.int64


@pytest.mark.parametrize(
    ("model", "shape", "told"),
    [
        ("mlp:3", None, r"a code for each of 3 tokens, and the model mlp says one thing a sample"),
        (None, (6, 3), r"classes stand second"),
        (None, (6,), r"gives \(B, 6\) for a target of tokens \(B, 3\)"),
    ],
)
def test_a_model_that_tells_no_tokens_is_refused(model, shape, told):
    with pytest.raises(OptionError, match=told):
        resolve_task(part(TOKENS), model=model, output_shape=shape, loss=MANY)


def test_a_function_as_loss_takes_tokens_and_outputs_of_any_shape():
    data = rb.split(rb.open(np.arange(60) % 6, sequence_length=3)).train
    for shape in ((3, 6), (6, 3)):
        task = resolve_task(data, model=None, output_shape=shape, loss=lambda outputs, _: outputs)
        assert task.is_per_token
        assert task.prepare(data).example()[1].dtype == np.int64


@pytest.mark.parametrize("loss", [SQUARED, BINARY])
def test_codes_of_tokens_are_no_quantities(loss):
    data = rb.split(rb.open(np.arange(60) % 6, sequence_length=3)).train
    with pytest.raises(OptionError, match=f"loss {loss} is for other targets, and 'next'"):
        resolve_task(data, model=None, output_shape=(3, 6), loss=loss)


def test_whole_numbers_that_nobody_calls_classes_stay_quantities():
    assert resolve_task(part(TOKENS), model="mlp:3").loss.name == SQUARED
    assert resolve_task(part(TOKENS), model=None, output_shape=(3,)).loss.name == SQUARED
    one_hot = np.eye(3, dtype=np.int64)[TOKENS[:, 0] % 3]
    task = resolve_task(part(one_hot), model=None, output_shape=(3,), loss=MANY)
    assert (task.loss.name, task.is_per_token) == (MANY, False)
