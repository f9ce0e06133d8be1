from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.loading.transforms import transform_from_json

IDS = [[5, 6, 7], [8], [], [9, 10]]
DATA = {"ids": rb.Ragged.from_list(IDS, dtype=np.uint8), "y": np.array([0, 1, 0, 1])}


def only_batch(columns, *transforms, target="y", **options):
    part = rb.split(rb.open(columns, target=target)).transform(*transforms).train
    (batch,) = rb.Batches(part, "full", shuffle=False, **options)
    return batch


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=20), multiple=st.integers(1, 8))
def test_arrays_hold_the_entries_where_the_mask_says_and_the_fill_elsewhere(lengths, multiple):
    entries = [np.arange(1, length + 1) for length in lengths]
    columns = {"ids": rb.Ragged.from_list(entries), "y": rb.Ragged.from_list(entries)}
    inputs, target = only_batch(columns, rb.pad(value=7, multiple_of=multiple))
    ids, mask = inputs["ids"], inputs["mask"]
    assert ids.dtype == target.dtype == np.int64
    assert mask.dtype == np.bool_
    assert ids.shape[1] == max(1, -(-max(lengths) // multiple)) * multiple
    assert mask.sum(1).tolist() == lengths
    for row, entry in enumerate(entries):
        np.testing.assert_array_equal(ids[row][mask[row]], entry)
        np.testing.assert_array_equal(target[row][mask[row]], entry)
    assert (ids[~mask] == 7).all()
    assert (target[~mask] == -100).all()


def test_bytes_become_whole_numbers_wide_enough_for_masked_targets():
    columns = {"ids": DATA["ids"], "next": DATA["ids"]}
    inputs, target = only_batch(columns, rb.pad(), target="next")
    assert inputs["ids"].tolist() == [[5, 6, 7], [8, 0, 0], [0, 0, 0], [9, 10, 0]]
    assert target.tolist() == [[5, 6, 7], [8, -100, -100], [-100] * 3, [9, 10, -100]]


def test_floats_keep_their_dtype_and_their_targets_are_nan_where_there_is_none():
    steps = rb.Ragged.from_list([np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)])
    levels = rb.Ragged.from_list([np.ones(2, np.float32), np.ones(1, np.float32)])
    inputs, target = only_batch({"steps": steps, "y": levels}, rb.pad())
    assert inputs["steps"].shape == (2, 2, 3)
    assert inputs["steps"].dtype == target.dtype == np.float32
    assert inputs["steps"][1, 1].tolist() == [0.0] * 3
    np.testing.assert_array_equal(target, np.array([[1, 1], [1, np.nan]], np.float32))


def test_other_fields_and_targets_of_one_value_stay_as_they_are():
    columns = {"ids": DATA["ids"], "x": np.eye(4), "y": DATA["y"]}
    inputs, target = only_batch(columns, rb.pad())
    assert sorted(inputs) == ["ids", "mask", "x"]
    np.testing.assert_array_equal(inputs["x"], np.eye(4))
    np.testing.assert_array_equal(target, DATA["y"])


def test_a_ragged_target_beside_plain_inputs_is_padded_alone():
    inputs, target = only_batch({"x": np.eye(4)[:, :2], "y": DATA["ids"]}, rb.pad())
    assert isinstance(inputs, np.ndarray)
    assert target.shape == (4, 3)


def test_a_longest_length_cuts_inputs_and_target():
    columns = {"ids": DATA["ids"], "next": DATA["ids"]}
    inputs, target = only_batch(columns, rb.pad(longest=2), target="next")
    assert inputs["ids"].tolist() == [[5, 6], [8, 0], [0, 0], [9, 10]]
    assert target.tolist() == [[5, 6], [8, -100], [-100, -100], [9, 10]]


def test_columns_of_other_lengths_need_a_name():
    columns = {
        "source": rb.Ragged.from_list([[1, 2, 3], [4]]),
        "other": rb.Ragged.from_list([[1, 2], [3]]),
        "y": np.array([0, 1]),
    }
    with pytest.raises(rb.DataError, match=r"row 0 has 3 entries in 'source' and 2 in 'other'"):
        only_batch(columns, rb.pad())
    inputs, _ = only_batch(columns, rb.pad(lengths_of="source"))
    assert inputs["mask"].tolist() == [[True] * 3, [True, False, False]]
    assert inputs["mask_other"].tolist() == [[True, True], [True, False]]
    with pytest.raises(rb.DataError, match="Did you mean 'source'"):
        only_batch(columns, rb.pad(lengths_of="sourse"))


def test_a_column_called_as_the_mask_is_refused():
    columns = {"ids": DATA["ids"], "mask": np.ones(4), "y": DATA["y"]}
    with pytest.raises(rb.DataError, match="called 'mask'"):
        only_batch(columns, rb.pad())


def test_functions_before_it_see_entries_and_those_after_it_arrays():
    def reverse(ids: rb.Ragged) -> rb.Ragged:
        return rb.Ragged.from_list([entry[::-1] for entry in ids])

    def double(inputs):
        return {**inputs, "ids": inputs["ids"] * 2}

    inputs, _ = only_batch(DATA, reverse, rb.pad(), double)
    assert inputs["ids"][0].tolist() == [14, 12, 10]


def test_tensors_and_random_batches_of_a_fixed_size():
    part = rb.split(rb.open(DATA, target="y")).transform(rb.pad()).train
    for inputs, target in rb.Batches(part, 2, seed=1, output="torch"):
        assert inputs["mask"].dtype == torch.bool
        assert inputs["ids"].shape == inputs["mask"].shape
        assert len(target) == 2


def test_it_is_kept_as_json():
    made = rb.pad(value=1, longest=64, multiple_of=8, lengths_of="ids")
    again = transform_from_json(made.to_json())
    assert again.to_json() == made.to_json()
    assert again == made
    assert again != rb.pad()
    assert repr(again) == "pad(value=1, longest=64, multiple_of=8, lengths_of='ids')"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": True}, "the value is a number"),
        ({"value": "0"}, "the value is a number"),
        ({"longest": 0}, "longest=0 is not valid"),
        ({"multiple_of": 0}, "multiple_of=0 is not valid"),
        ({"longest": 100, "multiple_of": 64}, "no multiple; take 64"),
    ],
)
def test_options_that_are_not_valid_are_refused(options, message):
    with pytest.raises(rb.OptionError, match=message):
        rb.pad(**options)


def test_true_and_false_have_no_masked_target():
    flags = rb.Ragged.from_list([np.array([True, False]), np.array([True])])
    with pytest.raises(rb.DataError, match="make whole numbers of them"):
        only_batch({"ids": flags, "y": flags}, rb.pad())
