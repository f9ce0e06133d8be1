"""The built-in transforms: what they give, what they refuse, how they are stored."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.column import Column
from rightbatch.loading.transforms import transform_from_json

DIGITS = rb.open((np.arange(48, dtype=np.uint8).reshape(6, 2, 4), [0, 2, 1, 2, 0, 1]))


def whole(data, *transforms):
    parts = rb.split(data).transform(*transforms)
    return next(iter(rb.Batches(parts.train, "full", shuffle=False)))


def test_scale_is_float32_of_the_product() -> None:
    x, _ = whole(DIGITS, rb.scale(1 / 255))
    assert x.dtype == np.float32
    expected = np.arange(48, dtype=np.float32).reshape(6, 2, 4) / np.float32(255)
    np.testing.assert_allclose(x, expected, rtol=2e-7)


def test_flatten_leaves_the_sample_axis() -> None:
    x, _ = whole(DIGITS, rb.flatten())
    assert x.dtype == np.uint8
    assert x.tolist() == np.arange(48).reshape(6, 8).tolist()
    assert whole(rb.open(np.arange(3)), rb.flatten()).tolist() == [[0], [1], [2]]


def test_cast_is_astype() -> None:
    x, y = whole(DIGITS, rb.cast("float64"), rb.cast("int8", column="y"))
    assert (x.dtype, y.dtype) == (np.float64, np.int8)


def test_one_hot_learns_the_classes_from_train_or_is_told() -> None:
    _, y = whole(DIGITS, rb.one_hot(column="y"))
    np.testing.assert_array_equal(y, np.eye(3, dtype=np.float32)[[0, 2, 1, 2, 0, 1]])
    _, y = whole(DIGITS, rb.one_hot(5, column="y"))
    assert y.shape == (6, 5)


def test_one_hot_refuses_a_class_that_it_does_not_know() -> None:
    with pytest.raises(rb.DataError, match=r"class 2; valid are 0 to 1.*number of classes"):
        whole(DIGITS, rb.one_hot(2, column="y"))
    with pytest.raises(rb.DataError, match="class -1"):
        whole(rb.open((np.zeros((2, 1)), [-1, 1])), rb.one_hot(column="y"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rb.scale(0), "other than zero"),
        (lambda: rb.scale(float("nan")), "finite"),
        (lambda: rb.scale("255"), "finite number"),
        (lambda: rb.one_hot(0, column="y"), "one class"),
        (lambda: rb.cast("float33"), "float32"),
        (lambda: rb.cast("U5"), "numbers"),
        (lambda: rb.cast("complex64"), "numbers"),
    ],
)
def test_options_are_checked_at_birth(make, message: str) -> None:
    with pytest.raises(rb.OptionError, match=message):
        make()


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (rb.one_hot(column="x"), "whole numbers, one a sample"),
        (rb.scale(2.0, column="z"), "no field 'z'.*Valid are: x, y"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_where_it_is_attached(transform, message) -> None:
    with pytest.raises(rb.DataError, match=message):
        rb.split(DIGITS).transform(transform)


def test_a_stacked_column_cannot_be_transformed_alone() -> None:
    parts = rb.split(rb.open({"a": [1.0, 2.0], "b": [3.0, 4.0], "y": [0, 1]}, target="y"))
    with pytest.raises(rb.DataError, match=r"'a' is stacked.*Valid are: inputs, y"):
        parts.transform(rb.scale(2.0, column="a"))


@pytest.mark.parametrize("thing", [3, "scale", None])
def test_what_is_no_transform_is_refused(thing) -> None:
    with pytest.raises(rb.OptionError, match="no transform"):
        rb.split(DIGITS).transform(thing)


@pytest.mark.parametrize(
    "transform",
    [
        rb.scale(0.25),
        rb.scale(0.25, column="x"),
        rb.standardize(),
        rb.standardize().fitted([np.arange(6.0).reshape(3, 2)]),
        rb.one_hot(column="y"),
        rb.one_hot(4, column="y"),
        rb.flatten(),
        rb.cast("int16", column="x"),
    ],
)
def test_json_brings_the_transform_back(transform) -> None:
    described = json.loads(json.dumps(transform.to_json()))
    again = transform_from_json(described)
    assert type(again) is type(transform)
    assert again.to_json() == transform.to_json()


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"kind": "scal"}, "Did you mean 'scale'"),
        ({"kind": "function", "name": "flip"}, "'flip' is a function; code is not stored"),
        ({}, "no transform is called"),
    ],
)
def test_json_of_no_built_in_transform_is_refused(described, message) -> None:
    with pytest.raises(rb.OptionError, match=message):
        transform_from_json(described)


def test_apply_leaves_its_input_as_it_was() -> None:
    values = np.arange(12.0).reshape(4, 3)
    for transform in (rb.scale(2), rb.standardize().fitted([values]), rb.cast("int8")):
        kept = values.copy()
        transform.apply(values)
        np.testing.assert_array_equal(values, kept)


def test_describe_tells_what_comes_out() -> None:
    column = Column(name="x", dtype=np.dtype(np.uint8), shape=(2, 4))
    for transform in (rb.scale(2.0), rb.flatten(), rb.cast("int64")):
        described = transform.describe(column)
        found = transform.apply(np.zeros((3, 2, 4), np.uint8))
        assert (described.dtype, described.shape) == (found.dtype, found.shape[1:])


def test_using_standardize_before_it_is_fitted_is_refused() -> None:
    with pytest.raises(rb.OptionError, match="not fitted"):
        rb.standardize().apply(np.zeros((2, 2)))
