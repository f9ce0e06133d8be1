"""A column that is there to be split by and not to be learned from."""

from __future__ import annotations

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.dataset import RemoteObject
from rightbatch.data.without_input import WithoutInput
from rightbatch.errors import DataError
from rightbatch.testing import check_dataset


@pytest.fixture
def data() -> ArrayDataset:
    arrays = {"age": np.arange(6.0), "patient": np.arange(6) // 2, "ill": np.arange(6) % 2}
    return ArrayDataset(arrays, target="ill")


def test_the_hidden_column_is_read_but_is_no_input(data: ArrayDataset) -> None:
    hidden = WithoutInput(data, "patient")
    check_dataset(hidden)
    assert [column.name for column in hidden.inputs] == ["age"]
    assert len(hidden) == 6
    assert hidden.target == "ill"
    assert hidden.rows(np.array([5, 0]))["patient"].tolist() == [2, 0]
    assert hidden.span(2, 4)["patient"].tolist() == [1, 1]
    assert hidden.array("patient") is data.array("patient")


def test_batches_leave_it_out_and_groups_use_it(data: ArrayDataset) -> None:
    parts = rb.split(WithoutInput(data, "patient"), val=2, group="patient")
    assert parts.val is not None
    inputs, _ = next(iter(rb.Batches(parts.val, "full", shuffle=False)))
    assert inputs.shape == (2,)
    assert inputs[1] - inputs[0] == 1  # the two samples of one patient


def test_what_is_hidden_is_in_the_fingerprint(data: ArrayDataset) -> None:
    prints = {data.fingerprint} | {
        WithoutInput(data, name).fingerprint for name in ("age", "patient")
    }
    assert len(prints) == 3


def test_an_unknown_column_is_refused(data: ArrayDataset) -> None:
    with pytest.raises(DataError, match="Did you mean 'patient'"):
        WithoutInput(data, "patien")


def test_known_duplicates_are_known_no_more_where_an_input_is_hidden(data: ArrayDataset) -> None:
    data.known_duplicates = (np.array([1]), np.array([0]))
    assert WithoutInput(data, "patient").known_duplicates is None
    # Hidden already: the inputs stay as they were.
    assert WithoutInput(data, "ill").known_duplicates is data.known_duplicates


def test_the_objects_that_the_data_are_read_from_stay_known(data: ArrayDataset) -> None:
    data.remote_objects = (RemoteObject("s3://bucket/data", "tag", 96),)
    assert WithoutInput(data, "patient").remote_objects == data.remote_objects


def test_what_was_hidden_before_stays_hidden(data: ArrayDataset) -> None:
    hidden = WithoutInput(WithoutInput(data, "patient"), "ill")
    assert [column.name for column in hidden.inputs] == ["age"]
    parts = rb.split(
        rb.open(
            {"a": np.arange(40.0), "g": np.arange(40) // 2, "w": np.ones(40), "y": np.arange(40)},
            target="y",
        ),
        val=0.2,
        group="g",
        weights="w",
    )
    assert [column.name for column in parts.data.inputs] == ["a"]
