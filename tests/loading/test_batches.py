"""Batches: epochs, sizes, rows, weights, tensors, and options that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.plan import permutation

X = np.arange(300.0).reshape(100, 3)
Y = np.arange(100) % 7


def rows_of(batches) -> list[int]:
    return [row for _, _, rows, *_ in batches for row in rows.tolist()]


def made(batch_size=8, **options) -> rb.Batches:
    return rb.Batches((X, Y), batch_size, **{"seed": 7, "with_rows": True, **options})


def test_every_epoch_is_shuffled_anew_and_nobody_has_to_say_so() -> None:
    batches = made()
    epochs = [rows_of(batches) for _ in range(5)]
    assert len({tuple(rows) for rows in epochs}) == 5
    assert all(sorted(rows) == list(range(100)) for rows in epochs)


def test_the_order_of_the_next_epoch_is_at_hand_when_an_epoch_ends() -> None:
    sorts = permutation._sorted_permutation.cache_info
    batches = rb.Batches(np.zeros((50_000, 200), np.float32), 500, seed=21, threads=1)
    for epoch in range(3):
        for _ in batches:
            pass
        before = sorts().misses
        next(iter(batches.epoch(epoch + 1)))
        assert sorts().misses == before
    # Nobody who loads in their own thread waits for an epoch that they may not want.
    before = sorts().misses
    for _ in rb.Batches(np.zeros((50_000, 200), np.float32), 500, seed=22, threads=0):
        pass
    assert sorts().misses == before + 1


def test_epoch_k_is_what_iterating_gives_and_changes_nothing() -> None:
    batches = made()
    epochs = [rows_of(batches) for _ in range(3)]
    state = batches.state_dict()
    assert [rows_of(batches.epoch(k)) for k in (2, 0, 1)] == [epochs[2], epochs[0], epochs[1]]
    first = batches.epoch(1)
    assert rows_of(first) == rows_of(first) == epochs[1]
    assert len(first) == 13
    assert batches.state_dict() == state
    assert rows_of(batches) == rows_of(made().epoch(3))


def test_epochs_may_be_gone_through_side_by_side() -> None:
    batches = made()
    pairs = [(a[2].tolist(), b[2].tolist()) for a, b in zip(batches, batches, strict=True)]
    assert [row for rows, _ in pairs for row in rows] == rows_of(made().epoch(0))
    assert [row for _, rows in pairs for row in rows] == rows_of(made().epoch(1))
    assert rows_of(batches) == rows_of(made().epoch(2))


def test_inputs_target_and_rows_belong_together() -> None:
    for x, y, rows in made(window=9):
        np.testing.assert_array_equal(x, X[rows])
        np.testing.assert_array_equal(y, Y[rows])
        assert rows.dtype == np.int64


def test_without_shuffling_the_order_is_kept_every_epoch() -> None:
    for options in ({"shuffle": False}, {"window": 1}):
        batches = made(**options)
        assert rows_of(batches) == rows_of(batches) == list(range(100))


def test_a_window_moves_samples_less_than_its_size() -> None:
    rows = np.array(rows_of(made(window=10)))
    assert 0 < np.abs(rows - np.arange(100)).max() < 10
    assert rows_of(made(window=100)) == rows_of(made())


def test_the_seed_decides() -> None:
    assert rows_of(made(seed=1)) == rows_of(made(seed=1)) != rows_of(made(seed=2))
    assert rows_of(made(seed=43).epoch(0)) != rows_of(made(seed=42).epoch(1))


@pytest.mark.parametrize(
    ("remainder", "sizes"), [("keep", [30, 30, 30, 10]), ("drop", [30] * 3), ("pad", [30] * 4)]
)
def test_the_last_batch(remainder, sizes: list[int]) -> None:
    batches = made(30, remainder=remainder)
    assert len(batches) == len(sizes)
    assert [len(batch[0]) for batch in batches] == sizes
    assert batches.dropped_samples == (10 if remainder == "drop" else 0)


@pytest.mark.parametrize("batch_size", [30, 100, 128])
def test_padding_weighs_nothing_has_no_row_and_holds_valid_samples(batch_size: int) -> None:
    batches = list(made(batch_size, remainder="pad"))
    for x, y, rows, weights in batches:
        assert len(x) == len(y) == len(rows) == len(weights) == batch_size
        assert (weights.dtype, rows.dtype) == (np.float32, np.int64)
        assert weights.tolist() == [1.0 if row >= 0 else 0.0 for row in rows]
        assert np.isin(x[:, 0], X[:, 0]).all()
    real = [row for row in (row for *_, rows, _ in batches for row in rows) if row >= 0]
    assert sorted(real) == list(range(100))


def test_dropping_leaves_out_other_samples_each_epoch() -> None:
    batches = made(30, remainder="drop")
    left_out = [set(range(100)) - set(rows_of(batches)) for _ in range(4)]
    assert all(len(rows) == 10 for rows in left_out)
    assert len({frozenset(rows) for rows in left_out}) == 4


def test_full_is_batch_gradient_descent() -> None:
    batches = made("full")
    assert (len(batches), batches.batch_size) == (1, 100)
    (only,) = batches
    assert len(only[0]) == 100
    assert len(made(1000)) == 1


def test_the_course_s_validation_batch() -> None:
    parts = rb.split(rb.open((X, Y)), val=20, seed=1)
    inputs, targets = next(iter(rb.Batches(parts.val, "full", shuffle=False)))
    assert parts.val is not None
    rows = parts.val.rows.take(np.arange(20))
    np.testing.assert_array_equal(inputs, X[rows])
    np.testing.assert_array_equal(targets, Y[rows])


def test_tensors_equal_the_arrays() -> None:
    options = {"remainder": "pad", "window": 20}
    pairs = list(zip(made(30, **options), made(30, output="torch", **options), strict=True))
    assert len(pairs) == 4
    for arrays, tensors in pairs:
        for array, tensor in zip(arrays, tensors, strict=True):
            assert isinstance(tensor, torch.Tensor)
            assert tensor.numpy().dtype == array.dtype
            np.testing.assert_array_equal(tensor.numpy(), array)


@given(
    length=st.integers(1, 300),
    batch_size=st.integers(1, 320),
    remainder=st.sampled_from(["keep", "drop", "pad"]),
    with_rows=st.booleans(),
    has_target=st.booleans(),
    samples=st.integers(0, 300),
)
def test_arrays_cut_from_a_slab_are_those_that_are_made_batch_by_batch(
    length: int, batch_size: int, remainder, with_rows: bool, has_target: bool, samples: int
) -> None:
    data = (np.arange(length * 2.0).reshape(length, 2), np.arange(length))
    parts = rb.split(rb.open(data if has_target else data[0]))
    options = {
        "batch_size": min(batch_size, length) if remainder == "drop" else batch_size,
        "remainder": remainder,
        "with_rows": with_rows,
        "threads": 0,
    }
    cut = rb.Batches(parts.train, **options)
    # A function, even one that changes nothing, runs batch by batch.
    made_singly = rb.Batches(parts.transform(lambda inputs: inputs).train, **options)
    start = min(samples, length)
    for (stop, batch), (other_stop, other) in zip(
        cut._read(3, start), made_singly._read(3, start), strict=True
    ):
        assert stop == other_stop
        assert type(batch) is type(other)
        pairs = (
            [(batch, other)] if isinstance(batch, np.ndarray) else zip(batch, other, strict=True)
        )
        for array, other_array in pairs:
            assert array.dtype == other_array.dtype
            np.testing.assert_array_equal(array, other_array)


def test_a_device_moves_the_batch_but_for_its_row_numbers() -> None:
    for x, y, rows in made(50, device="meta"):
        assert [tensor.device.type for tensor in (x, y, rows)] == ["meta", "meta", "cpu"]
    x, *_ = next(iter(made(device=torch.device("cpu"))))
    assert isinstance(x, torch.Tensor)


@pytest.mark.parametrize("thing", [X, {"x": X}, rb.open((X, Y)), rb.split(rb.open(X)).train])
def test_arrays_data_sets_and_parts_are_taken(thing) -> None:
    assert len(rb.Batches(thing, 32)) == 4


def test_transforms_attached_to_the_data_are_fitted_on_them() -> None:
    data = rb.open((X, Y)).transform(rb.standardize())
    x, _ = next(iter(rb.Batches(data, "full")))
    assert x.mean(axis=0) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "all"}, "batch_size='all'"),
        ({"threads": -1}, "threads=-1"),
        ({"threads": 1.5}, r"threads=1\.5"),
        ({"threads": True}, "threads=True"),
        ({"output": "tensor"}, "valid are 'numpy' and 'torch'"),
        ({"remainder": "padd"}, "Did you mean 'pad'"),
        ({"remainder": "drop", "batch_size": 101}, "would drop all 100"),
        ({"shuffle": False, "window": 5}, "drop one of the two"),
        ({"window": 0}, "window=0"),
        ({"seed": 1.0}, r"seed=1\.0"),
    ],
)
def test_options_are_refused(options, message: str) -> None:
    with pytest.raises(rb.OptionError, match=message):
        made(**options)


@pytest.mark.parametrize("epoch", [-1, 1.0, "1", True, None])
def test_an_epoch_that_is_no_number_is_refused(epoch) -> None:
    with pytest.raises(rb.OptionError, match="epoch="):
        made().epoch(epoch)


def test_all_parts_at_once_are_refused_by_name() -> None:
    parts = rb.split(rb.open((X, Y)), val=10)
    with pytest.raises(rb.OptionError, match=r"parts\.train, parts\.val"):
        rb.Batches(parts, 8)


def test_the_text_form_says_what_there_is() -> None:
    assert "13 batches of 8, the last of 4" in repr(made())
    assert "10 samples dropped" in repr(made(30, remainder="drop"))
