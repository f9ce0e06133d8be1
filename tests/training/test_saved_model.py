"""Runs applied to new data: the run's transforms, columns by name, labels by their texts."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.errors import DataError, OptionError, ResumeError, RightbatchError
from rightbatch.loading.transform import Function
from rightbatch.plan.row_set import RowSet
from rightbatch.training.predict import predict
from rightbatch.training.saved_model import load_saved

GENERATOR = np.random.default_rng(8)
COLOURS = np.array(["red", "green", "blue"])[np.arange(90) % 3]
SIZES = GENERATOR.normal(50, 10, 90)
WEIGHTS = GENERATOR.normal(-3, 2, 90)
KINDS = np.where(SIZES + 9 * (COLOURS == "red") > 50, "pear", "apple")


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


SHOP = table(size=SIZES, colour=COLOURS, weight=WEIGHTS, kind=KINDS)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """The run of a table with a text column and a text target, standardised."""
    run = tmp_path_factory.mktemp("runs") / "shop"
    parts = rb.split(rb.open(SHOP, target="kind"), val=0.2).transform(rb.standardize())
    rb.fit("mlp:6", parts, epochs=30, learning_rate=0.1, out=run)
    return run


def probabilities(run: Any, data: Any, **options: Any) -> Any:
    return np.asarray(predict(run, data, **options))


def test_a_run_applies_its_own_transforms(tmp_path: Path, cancer) -> None:
    result = rb.fit("mlp:5", cancer, epochs=2, out=tmp_path / "run")
    expected = predict(result, cancer.val)
    found = predict(tmp_path / "run", cancer.val)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    assert found.accuracy == expected.accuracy
    assert found.classes == expected.classes
    # The same samples without any transform of their own.
    rows = cancer.val.rows.take(np.arange(len(cancer.val)))
    bare = rb.open("breast_cancer")
    everything = probabilities(tmp_path / "run", bare)
    np.testing.assert_allclose(everything[rows], np.asarray(expected), atol=1e-6)
    # Transforms fitted on the prediction's own samples take no part.
    fitted = bare.transform(rb.standardize())
    np.testing.assert_array_equal(
        probabilities(tmp_path / "run", fitted), probabilities(tmp_path / "run", bare)
    )


def test_the_activation_of_the_run_is_kept(tmp_path: Path, cancer) -> None:
    result = rb.fit("mlp:5", cancer, epochs=2, activation="tanh", out=tmp_path / "run")
    np.testing.assert_array_equal(
        probabilities(tmp_path / "run", cancer.val), np.asarray(predict(result, cancer.val))
    )
    with pytest.raises(OptionError, match="contradicts"):
        predict(tmp_path / "run", cancer.val, activation="relu")
    with pytest.raises(OptionError, match="was trained with binary_cross_entropy"):
        predict(tmp_path / "run", cancer.val, loss="squared_error")


def test_columns_are_found_by_name_and_texts_by_themselves(shop: Path) -> None:
    expected = probabilities(shop, rb.open(SHOP, target="kind"))
    turned = SHOP.select(["kind", "weight", "colour", "size"])
    np.testing.assert_array_equal(probabilities(shop, rb.open(turned, target="kind")), expected)
    for row in (0, 1, 5):  # one row has one colour and one kind, whose codes are 0 then
        alone = predict(shop, rb.open(SHOP.slice(row, 1), target="kind"))
        np.testing.assert_allclose(np.asarray(alone), expected[row : row + 1], rtol=1e-6)
        assert alone.classes == ["apple", "pear"]
        assert alone.accuracy == float(alone.predicted[0] == KINDS[row])


def test_a_target_is_not_needed_and_is_found_where_it_was_not_named(shop: Path) -> None:
    named = predict(shop, rb.open(SHOP, target="kind"))
    found = predict(shop, rb.open(SHOP))
    assert found.accuracy == named.accuracy > 0.6
    without = predict(shop, rb.open(SHOP.drop_columns("kind")))
    assert without.accuracy is None
    np.testing.assert_array_equal(without.predicted, named.predicted)


def test_columns_beyond_are_left_out_and_told(shop: Path, caplog) -> None:
    wide = SHOP.append_column("number", pa.array(np.arange(90)))
    with caplog.at_level(logging.WARNING):
        found = probabilities(shop, rb.open(wide, target="kind"))
    assert "not trained on 'number', which is not used" in caplog.text
    np.testing.assert_array_equal(found, probabilities(shop, rb.open(SHOP, target="kind")))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"colour": ["pink"] * 90}, "'colour' holds 'pink', which the model has not met"),
        ({"kind": ["plum"] * 90}, "the target 'kind' holds 'plum'"),
        ({"colour": np.arange(90)}, "holds numbers, and the model was trained on text"),
        ({"size": COLOURS}, "holds text, and the model was trained on numbers"),
        ({"size": None}, "no column 'size'.*It needs 'size', 'colour', 'weight'"),
    ],
)
def test_other_data_are_refused_by_name(shop: Path, changed, told) -> None:
    columns = {name: SHOP[name] for name in SHOP.column_names} | changed
    data = pa.table({name: values for name, values in columns.items() if values is not None})
    with pytest.raises(DataError, match=told):
        predict(shop, rb.open(data, target="kind"))


def test_a_text_that_other_samples_have_is_no_matter(shop: Path) -> None:
    colours = np.where(np.arange(90) < 45, COLOURS, "pink")
    data = rb.open(SHOP.set_column(1, "colour", pa.array(colours)), target="kind")
    parts = rb.split(data, test=10)
    known = replace(parts.train, rows=RowSet.from_range(90, 0, 45))
    expected = probabilities(shop, rb.open(SHOP, target="kind"))[:45]
    np.testing.assert_allclose(probabilities(shop, known), expected, atol=1e-6)


def test_one_hot_columns_that_no_sample_has_are_zeros(tmp_path: Path) -> None:
    run = tmp_path / "run"
    data = rb.open(SHOP, target="kind", categories="one-hot")
    rb.fit("logistic", rb.split(data, val=0.2), epochs=3, out=run)
    expected = probabilities(run, data)
    alone = rb.open(SHOP.slice(4, 1), target="kind", categories="one-hot")
    np.testing.assert_allclose(probabilities(run, alone), expected[4:5], rtol=1e-6)
    pink = SHOP.set_column(1, "colour", pa.array(["pink"] * 90))
    with pytest.raises(DataError, match="'colour' holds 'pink'"):
        predict(run, rb.open(pink, target="kind", categories="one-hot"))


def test_an_array_stands_for_the_columns_of_numbers(tmp_path: Path, cancer) -> None:
    rb.fit("logistic", cancer, epochs=2, out=tmp_path / "run")
    data = rb.open("breast_cancer")
    array = np.stack([data.array(column.name) for column in data.inputs], 1)
    np.testing.assert_allclose(
        probabilities(tmp_path / "run", array), probabilities(tmp_path / "run", data), atol=1e-6
    )
    with pytest.raises(DataError, match="no column 'mean radius'"):
        predict(tmp_path / "run", array[:, :29])


def test_images_on_another_scale_or_of_another_shape_are_refused(tmp_path: Path) -> None:
    images = GENERATOR.integers(0, 256, (40, 4, 4)).astype(np.uint8)
    parts = rb.split(rb.open((images, np.arange(40) % 2)), val=0.2).transform(rb.scale(1 / 255))
    rb.fit("logistic", parts, epochs=1, out=tmp_path / "run")
    with pytest.raises(DataError, match="not on one scale"):
        predict(tmp_path / "run", images / 255)
    with pytest.raises(DataError, match=r"shape \(16,\), and the model was trained on 'x'"):
        predict(tmp_path / "run", images.reshape(40, 16))
    assert predict(tmp_path / "run", images.astype(np.int64)).samples == 40


def test_labels_the_run_has_not_learned_are_refused(tmp_path: Path, digits) -> None:
    rb.fit("softmax", digits, epochs=1, out=tmp_path / "run")
    images = digits.data.array(digits.data.inputs[0].name)[:5]
    assert predict(tmp_path / "run", (images, [3, 1, 3, 1, 3])).accuracy is not None
    with pytest.raises(DataError, match="holds -1, 12, and the model has learned no such class"):
        predict(tmp_path / "run", (images, [3, 1, 12, -1, 3]))


def test_a_fit_result_knows_its_texts(cancer) -> None:
    parts = rb.split(rb.open(SHOP.drop_columns("colour"), target="kind"), val=0.2)
    result = rb.fit("logistic", parts, epochs=3)
    pears = SHOP.drop_columns("colour").filter(pa.array(KINDS == "pear"))
    found = predict(result, rb.open(pears, target="kind"))
    assert found.accuracy == np.mean(found.predicted == "pear")
    assert found.classes == ["apple", "pear"]


def test_a_fit_result_with_a_run_transforms_bare_data_as_the_run_does(tmp_path, cancer) -> None:
    result = rb.fit("mlp:4", cancer, epochs=2, out=tmp_path / "run")
    bare = rb.open("breast_cancer")
    np.testing.assert_array_equal(
        probabilities(result, bare), probabilities(tmp_path / "run", bare)
    )


def test_training_noise_takes_no_part(tmp_path: Path, cancer) -> None:
    def noise(inputs: Any, rng: Any) -> Any:
        return inputs + 1000.0

    noisy = cancer.transform(noise, train_only=True)
    result = rb.fit("logistic", noisy, epochs=1, out=tmp_path / "run")
    np.testing.assert_array_equal(
        probabilities(tmp_path / "run", noisy.val), np.asarray(predict(result, noisy.val))
    )


def half(inputs: Any) -> Any:
    return inputs / 2


def test_functions_come_with_the_data(tmp_path: Path) -> None:
    data = rb.open("iris")
    parts = rb.split(data, val=0.2).transform(half)
    result = rb.fit("softmax", parts, epochs=2, out=tmp_path / "run")
    expected = np.asarray(predict(result, parts.val))
    np.testing.assert_array_equal(probabilities(tmp_path / "run", parts.val), expected)
    np.testing.assert_allclose(
        probabilities(tmp_path / "run", data.transform(half))[
            parts.val.rows.take(np.arange(len(parts.val)))
        ],
        expected,
        rtol=1e-6,
    )
    with pytest.raises(OptionError, match="the function 'half', and code is not stored"):
        predict(tmp_path / "run", data)
    assert Function(half).name == "half"


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(30, 3), nn.Tanh(), nn.Linear(3, 1))


def test_a_run_of_a_module_needs_one_of_its_kind(tmp_path: Path, cancer) -> None:
    torch.manual_seed(0)
    result = rb.fit(small(), cancer, epochs=2, out=tmp_path / "run")
    with pytest.raises(OptionError, match=r"is code, Sequential.*network=…"):
        predict(tmp_path / "run", cancer.val)
    given = small()
    before = given[0].weight.clone()
    np.testing.assert_array_equal(
        probabilities(tmp_path / "run", cancer.val, network=given),
        np.asarray(predict(result, cancer.val)),
    )
    assert torch.equal(given[0].weight, before)
    with pytest.raises(RightbatchError, match="another model"):
        predict(tmp_path / "run", cancer.val, network=nn.Linear(30, 1))


def test_the_function_of_a_custom_loss_is_not_stored(tmp_path: Path, diabetes) -> None:
    def absolute(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (outputs.reshape(target.shape) - target).abs()

    result = rb.fit("linear", diabetes, epochs=1, loss=absolute, out=tmp_path / "run")
    without = predict(tmp_path / "run", diabetes.val)
    assert without.loss is None
    expected = predict(result, diabetes.val)
    np.testing.assert_array_equal(without.values, expected.values)
    assert predict(tmp_path / "run", diabetes.val, loss=absolute).loss == expected.loss


def test_what_is_no_finished_run_is_told(tmp_path: Path, cancer) -> None:
    with pytest.raises(OptionError, match=r"no run folder: it has no config\.json"):
        load_saved(tmp_path)
    rb.fit("logistic", cancer, epochs=1, out=tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(OptionError, match=r"was not finished.*--resume"):
        load_saved(tmp_path / "run")
    with pytest.raises(DataError, match="give the run's folder"):
        load_saved(tmp_path / "model.safetensors")
    config = tmp_path / "run" / "config.json"
    (tmp_path / "model.safetensors").rename(tmp_path / "run" / "model.safetensors")
    config.write_text("{}")
    with pytest.raises(ResumeError, match="lacks 'columns'"):
        load_saved(tmp_path / "run")


def test_arguments_for_another_kind_of_model_are_refused(cancer) -> None:
    with pytest.raises(OptionError, match="activation is for weights"):
        load_saved(small(), activation="relu")
    with pytest.raises(OptionError, match="network is for the folder of a run"):
        load_saved({"W1": np.eye(2), "b1": np.zeros(2)}, network=small())


def test_the_network_of_a_file_is_in_evaluation_mode_and_a_module_as_it_is() -> None:
    assert not load_saved({"W1": np.eye(2), "b1": np.zeros(2)}).network.training
    module = small()
    assert load_saved(module).network is module
    assert module.training


def test_groups_are_no_inputs_of_a_run(tmp_path: Path) -> None:
    data = SHOP.append_column("owner", pa.array(np.arange(90) // 3))
    parts = rb.split(rb.open(data, target="kind"), val=0.2, group="owner")
    result = rb.fit("logistic", parts, epochs=2, out=tmp_path / "run")
    expected = np.asarray(predict(result, parts.val))
    np.testing.assert_array_equal(probabilities(tmp_path / "run", parts.val), expected)
    without = probabilities(tmp_path / "run", rb.open(SHOP, target="kind"))
    rows = parts.val.rows.take(np.arange(len(parts.val)))
    np.testing.assert_allclose(without[rows], expected, rtol=1e-5)
