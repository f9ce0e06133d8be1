"""Weights: arrays of the part or the data, columns, balanced classes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import rightbatch as rb
from rightbatch.errors import DataError, OptionError, ResumeError

X = np.arange(300.0).reshape(100, 3)
Y = np.array([0] * 90 + [1] * 10)


def parts(**options) -> rb.Parts:
    return rb.split((X, Y), val=20, seed=3, **options)


def table(**columns) -> rb.Dataset:
    arrays = {"a": X[:, 0], "b": X[:, 1], "w": np.arange(100) % 4, "y": Y}
    return rb.open({**arrays, **columns}, target="y")


def counts_of(batches) -> np.ndarray:
    rows = np.concatenate([batch[2] for batch in batches])
    return np.bincount(rows, minlength=100)


def test_an_array_is_of_the_samples_of_the_part_or_of_the_data() -> None:
    train = parts().train
    by_row = np.arange(100.0)
    rows = train.rows.take(np.arange(len(train)))
    one, other = (
        rb.Batches(train, 16, weights=weights, with_rows=True) for weights in (by_row, by_row[rows])
    )
    assert one.state_dict() == other.state_dict()
    counts = counts_of(one)
    expected = 80 * by_row / by_row[rows].sum()
    assert (np.abs(counts[rows] - expected[rows]) < 1).all()


@pytest.mark.parametrize("make", [list, torch.tensor, lambda w: pa.array(w).to_numpy()])
def test_weights_may_be_a_list_or_a_tensor(make) -> None:
    found = rb.Batches((X, Y), 10, weights=make([1.0] * 50 + [0.0] * 50), with_rows=True)
    assert counts_of(found).tolist() == [2] * 50 + [0] * 50


def test_equal_weights_are_an_epoch_of_every_sample_once() -> None:
    assert (counts_of(rb.Batches((X, Y), 7, weights=np.ones(100), with_rows=True)) == 1).all()


def test_a_column_of_weights_is_no_input() -> None:
    batches = rb.Batches(table(), 25, weights="w", with_rows=True)
    inputs, _, rows = next(iter(batches))
    assert np.array_equal(inputs, X[rows, :2].astype(np.float32))
    counts = counts_of(batches.epoch(0))
    assert (counts[np.arange(100) % 4 == 0] == 0).all()
    assert counts.sum() == 100


def test_a_split_hides_the_column_of_all_parts_before_transforms_learn() -> None:
    made = rb.split(table(), val=20, weights="w").transform(rb.standardize())
    inputs, _ = next(iter(rb.Batches(made.val, "full", shuffle=False)))
    assert inputs.shape == (20, 2)
    assert next(iter(rb.Batches(made.train, 8, weights="w")))[0].shape == (8, 2)
    assert made.settings["weights"] == "w"


def test_a_column_in_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    columns = {"x": np.arange(9_000.0), "w": np.arange(9_000) % 2, "y": np.arange(9_000) % 3}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    data = rb.open(str(tmp_path / "table.parquet"), target="y")
    drawn = np.concatenate([x for x, _ in rb.Batches(data, 512, weights="w")])
    assert np.array_equal(np.sort(drawn.ravel()), np.repeat(np.arange(1.0, 9_000, 2), 2))


def test_balanced_takes_texts_and_ignores_classes_that_the_part_lacks() -> None:
    data = rb.open({"x": np.arange(6.0), "y": list("aaaabc")}, target="y")
    train = rb.split(data, seed=1).train
    target = np.concatenate(
        [y for _, y in rb.Batches(train, 4, weights="balanced", epoch_samples=30)]
    )
    assert np.bincount(target).tolist() == [10, 10, 10]


def test_classes_are_balanced_within_the_part_alone() -> None:
    made = rb.split((X, Y), val=20, seed=3)
    target = np.concatenate([y for _, y in rb.Batches(made.train, 9, weights="balanced")])
    assert np.bincount(target).tolist() == [40, 40]


def test_the_length_of_an_epoch_counts_draws() -> None:
    batches = rb.Batches((X, Y), 30, weights="balanced", epoch_samples=1000)
    assert len(batches) == 34
    assert batches.batches_left == 34
    assert repr(batches).startswith("<Batches of arrays, all: 1,000 draws, weighted by classes ")
    assert repr(batches).endswith("of 100 samples, 34 batches of 30, the last of 10>")
    assert len(rb.Batches((X, Y), "full", weights="balanced", epoch_samples=1000)) == 1
    dropped = rb.Batches((X, Y), 30, weights="balanced", epoch_samples=1000, remainder="drop")
    assert dropped.dropped_samples == 10


def test_a_state_of_other_weights_or_lengths_is_refused() -> None:
    state = rb.Batches((X, Y), 30, weights=np.arange(100), epoch_samples=200).state_dict()
    same = rb.Batches((X, Y), 30, weights=np.arange(100.0), epoch_samples=200)
    same.load_state_dict(state)
    for options, message in [
        ({"weights": np.arange(1, 101), "epoch_samples": 200}, "order: weighted"),
        ({"weights": np.arange(100), "epoch_samples": 300}, "samples in an epoch: 200"),
        ({"weights": "balanced", "epoch_samples": 200}, "order: weighted"),
        ({}, "order: weighted .* in the cursor, uniform now"),
    ]:
        with pytest.raises(ResumeError, match=message):
            rb.Batches((X, Y), 30, **options).load_state_dict(state)
    uniform = rb.Batches((X, Y), 30).state_dict()
    with pytest.raises(ResumeError, match=r"order: uniform in the cursor, weighted \("):
        rb.Batches((X, Y), 30, weights="balanced", memory="1GB").load_state_dict(uniform)


def test_a_bad_sample_is_left_out_however_often_it_is_drawn() -> None:
    class Faulty(rb.Dataset):
        fingerprint = "faulty"

        def __init__(self) -> None:
            made = table()
            super().__init__(name="faulty", columns=made.columns[:1])
            self._data = made

        def __len__(self) -> int:
            return 100

        def rows(self, indices):
            if np.any(np.asarray(indices) == 13):
                raise DataError("row 13 is damaged")
            return {"a": self._data.rows(indices)["a"]}

        def span(self, start, stop):
            return self.rows(np.arange(start, stop))

    batches = rb.Batches(
        Faulty(),
        10,
        weights=np.where(np.arange(100) == 13, 9.0, 1.0),
        epoch_samples=108,
        on_bad_sample="quarantine",
        max_bad=1,
        with_rows=True,
    )
    drawn = list(batches)
    weights = np.concatenate([batch[-1] for batch in drawn])
    rows = np.concatenate([batch[1] for batch in drawn])
    assert np.count_nonzero(weights == 0) == 9
    assert (rows[weights == 0] == -1).all()
    assert [sample.row for sample in batches.bad_samples] == [13]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weights": [1.0, 2.0]}, OptionError, r"weights of shape \(2,\) do not fit.*80 samples"),
        ({"weights": [-1.0] * 100}, OptionError, r"the weight of row \d+ of arrays is -1.0"),
        ({"weights": np.zeros(80)}, OptionError, "all weights are 0"),
        ({"weights": "z"}, DataError, "weights='z' is no column of arrays"),
        ({"weights": "Balanced"}, DataError, "Did you mean 'balanced'"),
        ({"weights": "y"}, DataError, "is the target"),
        ({"weights": "x"}, DataError, "a weight is one number a sample"),
        ({"weights": "balanced", "window": 5}, OptionError, "leave window=5 out"),
        ({"weights": "balanced", "window": 8, "block": 4}, OptionError, "window=8 and block=4"),
        ({"weights": "balanced", "shuffle": False}, OptionError, "leave shuffle=False out"),
        ({"weights": "balanced", "epoch_samples": 0}, OptionError, "epoch_samples=0"),
        ({"epoch_samples": 10}, OptionError, r"give weights as well .*np.ones\(80\)"),
    ],
)
def test_what_can_not_be_is_refused(options, error, message) -> None:
    with pytest.raises(error, match=message):
        rb.Batches(parts().train, 8, **options)


@pytest.mark.parametrize("weights", [["a"] * 80, {0: 1, 1: 9}, [[1], [1, 2]], 3.0])
def test_what_is_no_list_of_numbers_is_refused_by_batches_and_fit(weights) -> None:
    for call in (
        lambda: rb.Batches(parts().train, 8, weights=weights),
        lambda: rb.fit("softmax", parts(), weights=weights, epochs=1),
    ):
        with pytest.raises(OptionError, match="are no numbers, one a sample: give a list"):
            call()


def test_a_row_is_named_as_the_data_count_it() -> None:
    weights = np.ones(100)
    weights[57] = np.nan
    train = rb.split((X, Y), val=10, seed=1).train
    assert train.rows.contains(np.array([57]))[0]
    with pytest.raises(OptionError, match="the weight of row 57 of arrays is nan"):
        rb.Batches(train, 8, weights=weights)


def test_targets_that_are_no_classes_can_not_be_balanced() -> None:
    with pytest.raises(
        DataError, match="takes a target of classes, one a sample, and 'y' of arrays is float64"
    ):
        rb.Batches((X, X[:, 0]), 8, weights="balanced")
    with pytest.raises(DataError, match="has no target"):
        rb.Batches(X, 8, weights="balanced")
    with pytest.raises(DataError, match="'c': the column is texts"):
        rb.Batches(table(c=["a", "b"] * 50), 8, weights="c")


def test_a_column_among_the_inputs_of_transforms_is_refused_with_the_remedy() -> None:
    made = rb.split(table(), val=20).transform(rb.standardize())
    with pytest.raises(OptionError, match=r"rb.split\(data, weights='w', …\)"):
        rb.Batches(made.train, 8, weights="w")
    with pytest.raises(OptionError, match="weights='y' is the target"):
        rb.split(table(), weights="y")
    with pytest.raises(DataError, match="has no column 'v'"):
        rb.split(table(), weights="v")
    with pytest.raises(OptionError, match="give it to Batches or fit"):
        rb.split(table(), weights="balanced")


def test_a_budget_of_memory_that_does_not_hold_the_data_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((4000, 1000), np.float32), y=np.arange(4000) % 2)
    rb.pack(rb.open(str(tmp_path / "data.npz"), target="y"), tmp_path / "pack")
    data = rb.open(str(tmp_path / "pack"))
    with pytest.raises(OptionError, match=r"memory=12.0 MB would read .* block by block"):
        rb.Batches(data, 16, weights="balanced", memory="12MB")
    drawn = rb.Batches(data, 16, weights="balanced", memory="1GB")
    assert drawn.order.kind == "weighted"


def test_the_quality_of_a_shuffle_is_of_orders_that_visit_all() -> None:
    with pytest.raises(OptionError, match="in which every sample comes once"):
        rb.shuffle_quality(rb.Batches((X, Y), 8, weights="balanced"))
