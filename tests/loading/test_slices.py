"""The smallest entry: slices of arrays, tensors and lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb


def test_unshuffled_batches_are_views_of_the_arrays() -> None:
    X, y = np.zeros((1000, 3)), np.arange(1000)
    for features, labels in rb.batches(128, X, y):
        assert np.shares_memory(features, X)
        assert np.shares_memory(labels, y)


def test_unshuffled_batches_of_tensors_are_views() -> None:
    tensor = torch.arange(10)
    first = rb.batches(4, tensor)[0]
    assert first.data_ptr() == tensor.data_ptr()


def test_the_course_s_sizes() -> None:
    sizes = [len(batch) for batch in rb.batches(128, np.zeros(1000))]
    assert sizes == [128] * 7 + [104]


def test_lists_arrays_and_tensors_keep_their_kind_and_step_together() -> None:
    names, numbers, tensor = [f"n{k}" for k in range(7)], np.arange(7), torch.arange(7)
    for shuffle in (False, True):
        for some_names, some_numbers, some in rb.batches(
            3, names, numbers, tensor, shuffle=shuffle
        ):
            assert isinstance(some_names, list)
            assert isinstance(some, torch.Tensor)
            assert some_names == [f"n{k}" for k in some_numbers]
            assert some.tolist() == some_numbers.tolist()


def test_one_array_gives_its_slice_and_several_a_tuple() -> None:
    assert rb.batches(2, [1, 2, 3])[0] == [1, 2]
    assert rb.batches(2, [1, 2, 3], "abc")[1] == ([3], "c")


def test_it_is_a_sequence() -> None:
    X = np.arange(10)
    found = rb.batches(4, X)
    assert isinstance(found, Sequence)
    assert len(found) == 3
    assert found[-1].tolist() == found[2].tolist() == [8, 9]
    assert found[np.int64(1)].tolist() == [4, 5, 6, 7]
    assert [batch.tolist() for batch in found[::-2]] == [[8, 9], [0, 1, 2, 3]]
    assert [batch.tolist() for batch in reversed(found)] == [
        batch.tolist() for batch in list(found)[::-1]
    ]
    with pytest.raises(IndexError):
        found[3]


def test_it_can_be_gone_through_twice() -> None:
    found = rb.batches(4, np.arange(10), shuffle=True, seed=3)
    assert [batch.tolist() for batch in found] == [batch.tolist() for batch in found]


def test_no_samples_are_no_batches() -> None:
    assert list(rb.batches(4, [])) == []
    assert list(rb.batches(4, np.zeros((0, 3)), shuffle=True)) == []


def test_full_is_one_batch_of_all() -> None:
    (only,) = rb.batches("full", np.arange(10))
    assert only.tolist() == list(range(10))


@given(
    length=st.integers(1, 300),
    batch_size=st.integers(1, 320),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_shuffled_batches_hold_every_sample_once(
    length: int, batch_size: int, seed: int, epoch: int
) -> None:
    found = rb.batches(batch_size, np.arange(length), shuffle=True, seed=seed, epoch=epoch)
    assert len(found) == len(list(found)) == -(-length // batch_size)
    assert sorted(np.concatenate(list(found)).tolist()) == list(range(length))
    assert all(len(batch) == batch_size for batch in found[:-1])


def test_batches_are_read_at_random_past_the_stretch_that_is_kept() -> None:
    length = 200_000
    found = rb.batches(30_000, np.arange(length), shuffle=True, seed=5)
    forward = [batch.copy() for batch in found]
    for position in (6, 0, 3, 2, 5, 1, 4):
        np.testing.assert_array_equal(found[position], forward[position])
    assert len(np.unique(np.concatenate(forward))) == length


def test_seeds_and_epochs_give_other_orders() -> None:
    X = np.arange(1000)
    orders = {
        tuple(rb.batches(1000, X, shuffle=True, seed=seed, epoch=epoch)[0].tolist())
        for seed in (42, 43)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_unequal_lengths_are_refused_with_both() -> None:
    with pytest.raises(rb.DataError, match=r"1,000, 999.*same sample"):
        rb.batches(128, np.zeros(1000), np.zeros(999))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, "ful", None])
def test_a_batch_size_that_is_none_is_refused(batch_size) -> None:
    with pytest.raises(rb.OptionError, match="batch_size"):
        rb.batches(batch_size, [1, 2, 3])


@pytest.mark.parametrize("arrays", [(), (5,), (np.zeros(3), 128), (np.float32(3),)])
def test_what_cannot_be_cut_is_refused(arrays) -> None:
    with pytest.raises(rb.OptionError, match=r"batches\(128, features, labels\)"):
        rb.batches(2, *arrays)


@pytest.mark.parametrize("shuffle", [False, True])
def test_frames_whose_index_is_not_the_position_stay_in_step(shuffle: bool) -> None:
    import pandas as pd

    series = pd.Series(np.arange(100.0)).sample(frac=1, random_state=0)
    frame = pd.DataFrame({"a": series, "b": -series})
    for values, one, both in rb.batches(10, series.to_numpy(), series, frame, shuffle=shuffle):
        np.testing.assert_array_equal(one.to_numpy(), values)
        np.testing.assert_array_equal(both["b"].to_numpy(), -values)
    kept = series[series > 50]
    assert sum(len(batch) for batch in rb.batches(10, kept, shuffle=shuffle)) == len(kept)


def test_ranges_are_cut_and_dicts_are_refused() -> None:
    cut = rb.batches(2, range(5), shuffle=True)
    assert sorted(value for batch in cut for value in batch) == [0, 1, 2, 3, 4]
    with pytest.raises(rb.OptionError, match="pass its arrays one by one"):
        rb.batches(2, {"a": np.arange(3)})
    with pytest.raises(rb.OptionError, match="seed"):
        rb.batches(2, [1, 2, 3], seed=None)  # type: ignore[arg-type]
