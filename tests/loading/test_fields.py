"""What a batch is: one column, stacked columns, columns of mixed shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset

GENERATOR = np.random.default_rng(0)


def whole(data, **options):
    return next(iter(rb.Batches(rb.open(data, **options), "full", shuffle=False)))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64", "bool"])
def test_one_input_column_gives_its_array_as_it_is(dtype: str) -> None:
    values = GENERATOR.integers(0, 2, (9, 2, 3)).astype(dtype)
    x, y = whole((values, np.arange(9)))
    assert x.dtype == dtype
    np.testing.assert_array_equal(x, values)
    assert y.tolist() == list(range(9))


def test_scalar_columns_are_stacked_in_column_order_as_float32() -> None:
    columns = {
        "c": np.arange(5),
        "a": np.arange(5) / 2,
        "y": np.array([1, 0, 1, 0, 1]),
        "b": np.array([True, False, True, True, False]),
    }
    x, y = whole(columns, target="y")
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.stack([columns["c"], columns["a"], columns["b"]], axis=1))
    assert y.dtype == columns["y"].dtype


def test_columns_of_mixed_shapes_give_a_dict() -> None:
    images = GENERATOR.integers(0, 9, (6, 2, 2)).astype(np.uint8)
    data = {"image": images, "age": np.arange(6.0), "y": np.arange(6)}
    x, _ = whole(data, target="y")
    assert list(x) == ["image", "age"]
    np.testing.assert_array_equal(x["image"], images)
    np.testing.assert_array_equal(x["age"], data["age"])


def test_a_dict_batch_as_tensors_and_with_a_transform_of_one_column() -> None:
    data = rb.open({"image": np.ones((6, 2, 2), np.uint8), "age": np.arange(6.0)})
    part = rb.split(data).transform(rb.scale(1 / 255, column="image"), rb.cast("float32")).train
    x = next(iter(rb.Batches(part, 4, output="torch")))
    assert {name: values.dtype for name, values in x.items()} == {
        "image": torch.float32,
        "age": torch.float32,
    }
    assert x["image"][0, 0, 0].item() == pytest.approx(1 / 255)
    with pytest.raises(rb.OptionError, match="image, age"):
        _ = part.input_shape


def test_data_without_a_target_give_the_inputs_alone() -> None:
    X = np.arange(12).reshape(6, 2)
    assert whole(X).tolist() == X.tolist()
    batches = rb.Batches(X, 4, shuffle=False, with_rows=True, remainder="pad")
    x, rows, weights = list(batches)[-1]
    assert x[:2].tolist() == X[4:].tolist()
    assert rows.tolist() == [4, 5, -1, -1]
    assert weights.tolist() == [1, 1, 0, 0]


def test_data_of_a_target_alone_are_refused() -> None:
    data = ArrayDataset({"y": np.arange(3)}, target="y")
    with pytest.raises(rb.DataError, match="no input column"):
        rb.Batches(data, 2)


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.float64)[:, ::-1].copy()[:, ::-1],
    ],
)
def test_the_layout_of_the_array_makes_no_difference(layout) -> None:
    values = GENERATOR.normal(size=(1000, 7)).astype(np.float32)
    part = rb.split(rb.open((layout(values), np.arange(1000)))).transform(rb.scale(3)).train
    x, rows = next(iter(rb.Batches(part, 300, seed=2)))
    np.testing.assert_allclose(x, values[rows] * 3, rtol=1e-6)


def test_samples_larger_than_a_piece_are_gathered_whole(tmp_path: Path) -> None:
    values = GENERATOR.integers(0, 256, (4, 500, 600)).astype(np.uint8)
    np.save(tmp_path / "large.npy", values)
    part = rb.split(rb.open(tmp_path / "large.npy")).transform(rb.scale(0.5)).train
    for x, rows in rb.Batches(part, 3, with_rows=True):
        np.testing.assert_array_equal(x, values[rows] * np.float32(0.5))


def test_the_data_are_never_written_to(tmp_path: Path) -> None:
    values = GENERATOR.normal(size=(50, 3))
    kept = values.copy()
    for x in rb.Batches(values, 8, shuffle=False):
        x[...] = 0
    np.testing.assert_array_equal(values, kept)
