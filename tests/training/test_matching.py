"""New data against what a model learned from: by name and by text, of a run or of `fit` alike."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

import rightbatch as rb
from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.parts import Part
from rightbatch.plan.row_set import RowSet
from rightbatch.training.matching import match
from rightbatch.training.predict import predict

GENERATOR = np.random.default_rng(8)
COLOURS = np.array(["blue", "green", "red"])[np.arange(90) % 3]
SIZES = GENERATOR.normal(5, 1, 90)
KINDS = np.where(SIZES + (COLOURS == "red") > 5.3, "pear", "apple")
SHOP = pa.table({"size": SIZES, "colour": COLOURS, "kind": KINDS})
# One row keeps another text out, so that the codes of the rest shift by one.
WITHOUT_BLUE = SHOP.filter(pa.array(COLOURS != "blue"))


def learn(table: pa.Table = SHOP, target: str = "kind", **options: Any) -> Any:
    parts = rb.split(rb.open(table, target=target), val=0.2).transform(rb.standardize())
    return rb.fit("mlp:6", parts, epochs=30, learning_rate=0.1, **options)


@pytest.fixture(scope="module", params=["fit", "run"])
def model(request, tmp_path_factory) -> Any:
    """What `fit` gave, and the folder that it wrote."""
    result = learn(out=tmp_path_factory.mktemp("runs") / "shop")
    return result if request.param == "fit" else result.run


def part_of(data: Dataset) -> Part:
    return Part(data=data, rows=RowSet.from_range(len(data), 0, len(data)), name="all")


@pytest.mark.parametrize("wrapped", [part_of, lambda data: data], ids=["part", "bare"])
def test_codes_that_shift_and_columns_that_move_change_nothing(model, wrapped) -> None:
    expected = np.asarray(predict(model, rb.open(SHOP, target="kind")))[COLOURS != "blue"]
    few = wrapped(rb.open(WITHOUT_BLUE, target="kind"))
    np.testing.assert_allclose(predict(model, few), expected, rtol=1e-6)
    turned = wrapped(rb.open(WITHOUT_BLUE.select(["kind", "colour", "size"]), target="kind"))
    np.testing.assert_allclose(predict(model, turned), expected, rtol=1e-6)
    pink = WITHOUT_BLUE.set_column(1, "colour", pa.array(["pink"] * 60))
    with pytest.raises(DataError, match="'colour' holds 'pink', which the model has not met"):
        predict(model, wrapped(rb.open(pink, target="kind")))


def test_the_transforms_of_the_training_take_the_place_of_others(model) -> None:
    expected = np.asarray(predict(model, rb.open(SHOP, target="kind")))
    other = rb.split(rb.open(WITHOUT_BLUE, target="kind"), val=0.2).transform(rb.standardize())
    rows = np.flatnonzero(COLOURS != "blue")[other.val.rows.take(np.arange(len(other.val)))]
    np.testing.assert_allclose(predict(model, other.val), expected[rows], rtol=1e-6)


def test_evaluate_knows_columns_and_texts_as_well() -> None:
    parts = rb.split(rb.open(SHOP, target="kind"), val=0.2)
    result = rb.fit("mlp:6", parts, epochs=3)
    few = part_of(rb.open(WITHOUT_BLUE.select(["kind", "colour", "size"]), target="kind"))
    found = rb.evaluate(result, few)
    assert found["loss"] == predict(result, few).loss
    assert found["accuracy"] == predict(result, few).accuracy


def test_functions_of_the_training_are_in_memory() -> None:
    parts = rb.split(rb.open(SHOP, target="kind"), val=0.2)
    parts = parts.transform(lambda inputs: inputs * 0 + 1)
    result = rb.fit("logistic", parts, epochs=1)
    found = np.asarray(predict(result, rb.open(WITHOUT_BLUE, target="kind")))
    np.testing.assert_array_equal(found, found[:1].repeat(60, 0))


def test_what_fit_gave_never_reads_its_run(tmp_path: Path) -> None:
    result = learn(out=tmp_path / "run")
    expected = np.asarray(predict(result, rb.open(SHOP, target="kind")))
    with torch.no_grad():
        for parameter in result.model.parameters():
            parameter.zero_()
    assert not np.allclose(predict(result, rb.open(SHOP, target="kind")), expected)
    shutil.rmtree(tmp_path / "run")
    assert predict(result, rb.open(SHOP, target="kind")).samples == 90
    with pytest.raises(OptionError, match="network is for the folder of a run"):
        predict(result, rb.open(SHOP, target="kind"), network=nn.Linear(2, 1))


def test_what_is_already_as_the_model_wants_it_is_left_alone(cancer) -> None:
    matched = match(cancer.val, cancer.data.inputs, cancer.data.column("target"))
    assert matched is cancer.val


def test_groups_are_no_inputs_of_what_fit_gave() -> None:
    data = SHOP.append_column("owner", pa.array(np.arange(90) // 3))
    parts = rb.split(rb.open(data, target="kind"), val=0.2, group="owner")
    result = rb.fit("logistic", parts, epochs=2)
    assert [column.name for column in result.inputs] == ["size", "colour"]
    assert result.target is not None
    assert result.target.categories == ("apple", "pear")
    expected = np.asarray(predict(result, parts.val))
    rows = parts.val.rows.take(np.arange(len(parts.val)))
    found = np.asarray(predict(result, rb.open(SHOP, target="kind")))
    np.testing.assert_allclose(found[rows], expected, rtol=1e-5)


# Texts that look like numbers ----------------------------------------------------------------

GRADES = np.array(["1", "2", "unsure"])[np.arange(90) % 3]
GRADED = pa.table({"size": np.arange(90) % 3 + SIZES / 100, "grade": GRADES})


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float64])
def test_numbers_mean_the_text_that_they_are_written_as(kind) -> None:
    result = learn(GRADED, "grade")
    named = predict(result, rb.open(GRADED.filter(pa.array(GRADES != "unsure")), target="grade"))
    numbers = GRADED.filter(pa.array(GRADES != "unsure"))
    values = np.array([int(text) for text in numbers["grade"].to_pylist()], kind)
    numbers = numbers.set_column(1, "grade", pa.array(values))
    found = predict(result, rb.open(numbers, target="grade"))
    assert found.accuracy == named.accuracy > 0.9
    assert found.loss == named.loss


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0, 1, 2], "'grade' holds 0, which"),
        ([1.0, 2.5, 1.0], r"'grade' holds 2\.5, which"),
        ([1, 2, 3], r"'grade' holds 3, which .* it knows '1', '2', 'unsure'"),
        ([1.0, np.nan, 2.0], "missing|nan"),
    ],
)
def test_numbers_that_are_no_known_text_are_refused(values, told) -> None:
    result = learn(GRADED, "grade")
    data = ({"size": np.ones(3)}, np.array(values))
    opened = rb.open({"size": data[0]["size"], "grade": data[1]}, target=None)
    with pytest.raises(DataError, match=told):
        predict(result, opened)


def test_codes_stand_for_texts_that_are_no_numbers(cancer) -> None:
    result = rb.fit("logistic", cancer, epochs=2)
    data = cancer.data
    inputs = {column.name: data.array(column.name) for column in data.inputs}
    codes = data.array("target")
    expected = predict(result, data)
    assert predict(result, ({**inputs}, codes)).accuracy == expected.accuracy
    assert predict(result, {**inputs, "target": codes}).correct == expected.correct
    with pytest.raises(DataError, match="'y' holds 2, which"):
        predict(result, ({**inputs}, codes + 1))
    with pytest.raises(DataError, match="shape"):
        predict(result, ({**inputs}, np.eye(2)[codes]))


@pytest.mark.parametrize(
    ("texts", "numbers", "told"),
    [
        (["1", "1.0", "x"], [1.0, 1.0, 1.0], "1.0 may be '1' or '1.0'"),
        (["true", "false", "maybe"], [True, False, True], None),
        (["01", "02", "x"], [1, 2, 1], "holds 1, 2, which"),
    ],
)
def test_what_may_be_two_texts_is_refused(texts, numbers, told) -> None:
    table = pa.table({"size": SIZES, "grade": np.array(texts)[np.arange(90) % 3]})
    result = learn(table, "grade")
    new = pa.table({"size": SIZES[:3], "grade": pa.array(numbers)})
    if told is None:
        assert predict(result, rb.open(new, target="grade")).accuracy is not None
        return
    with pytest.raises(DataError, match=told):
        predict(result, rb.open(new, target="grade"))


CODED = pa.table(
    {
        "code": np.array(["1", "2", "A"])[np.arange(90) % 3],
        "size": SIZES,
        "kind": np.where(np.arange(90) % 3 == 1, "pear", "apple"),
    }
)


@pytest.mark.parametrize("categories", ["codes", "one-hot"])
def test_inputs_of_texts_may_arrive_as_numbers(categories) -> None:
    data = rb.open(CODED, target="kind", categories=categories)
    result = rb.fit("mlp:6", rb.split(data, val=0.2), epochs=5, learning_rate=0.1)
    expected = np.asarray(predict(result, data))
    digits = np.flatnonzero(np.array(CODED["code"]) != "A")
    numbers = np.array([int(text) for text in np.array(CODED["code"])[digits]])
    new = CODED.take(digits).set_column(0, "code", pa.array(numbers))
    opened = rb.open(new, target="kind", categories=categories)
    np.testing.assert_allclose(predict(result, opened), expected[digits], rtol=1e-6)
    new = new.set_column(0, "code", pa.array(numbers + 1))
    with pytest.raises(DataError, match=r"'code' holds 3, which the model has not met.*'A'"):
        predict(result, rb.open(new, target="kind", categories=categories))


def test_one_column_of_another_name_is_told(caplog) -> None:
    result = rb.fit("linear", rb.split(rb.open({"a": SIZES, "y": SIZES * 2}, target="y")), epochs=1)
    with caplog.at_level(logging.WARNING):
        predict(result, {"b": SIZES})
    assert "'b' is taken for 'a', the only input" in caplog.text


def test_a_file_that_was_cut_off_is_told_through_other_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((400, 2), np.float32))
    data = rb.open(tmp_path / "x.npy")
    wanted = Column(name="features", dtype=np.dtype(np.float32), shape=(2,))
    matched = match(part_of(data), [wanted], None).data
    assert matched is not data
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(1_600)
    with pytest.raises(DataError, match="it was cut off since"):
        matched.refuse_cut_off(400)


def test_what_runs_code_of_others_does_so_under_other_columns() -> None:
    torch_data = torch.utils.data.StackDataset(torch.zeros(8, 2))
    data = rb.open(torch_data)
    assert data.runs_others_code
    wanted = Column(name="features", dtype=np.dtype(np.float32), shape=(2,))
    assert match(part_of(data), [wanted], None).data.runs_others_code
