"""torch's map-style data sets as sources: what becomes of samples, and what is refused."""

from __future__ import annotations

import pickle
import threading
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
)

import rightbatch as rb
from rightbatch.testing import check_dataset, check_resume

X = torch.arange(120.0).reshape(40, 3)
Y = torch.arange(40) % 4


class Items(Dataset):
    """Samples that a function of the row makes."""

    def __init__(self, make: Any, length: int = 40) -> None:
        self.make = make
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: int) -> Any:
        return self.make(row)


class InBatches(Items):
    """The same by `__getitems__`, which counts its calls."""

    calls = 0

    def __getitems__(self, rows: list[int]) -> list[Any]:
        self.calls += 1
        return [self.make(row) for row in rows]

    def __getitem__(self, row: int) -> Any:
        raise AssertionError("__getitems__ was there")


def columns(data: rb.Dataset) -> dict[str, str]:
    return {column.name: column.kind for column in data.columns}


Pair = namedtuple("Pair", "image label")


@pytest.mark.parametrize(
    ("make", "expected", "target"),
    [
        (lambda row: X[row], {"x": "float32[3]"}, None),
        (lambda row: row, {"x": "int64"}, None),
        (lambda row: (X[row], row % 3), {"x": "float32[3]", "y": "int64"}, "y"),
        (lambda row: (X[row].numpy(), 0.5), {"x": "float32[3]", "y": "float64"}, "y"),
        (lambda row: [X[row], row], {"x": "float32[3]", "y": "int64"}, "y"),
        (lambda row: [1, 2, row], {"x": "int64[3]"}, None),
        (lambda row: {"a": row, "b": True}, {"a": "int64", "b": "bool"}, None),
        (lambda row: Pair(X[row], row), {"image": "float32[3]", "label": "int64"}, None),
        (
            lambda row: (row, row, row),
            dict.fromkeys(map("column_{}".format, range(3)), "int64"),
            None,
        ),
        (lambda row: ("a" * row, row), {"x": "uint8[…]", "y": "int64"}, "y"),
        (lambda row: b"a" * row, {"x": "uint8[…]"}, None),
        (lambda row: torch.zeros(row % 5, 2), {"x": "float32[…, 2]"}, None),
        (lambda row: row if row else 0.5, {"x": "float64"}, None),
        (lambda row: torch.ones(2, requires_grad=True), {"x": "float32[2]"}, None),
    ],
)
def test_a_sample_becomes_columns(make, expected, target) -> None:
    data = rb.open(Items(make))
    assert (columns(data), data.target) == (expected, target)
    check_dataset(data)


@pytest.mark.parametrize("kind", [Items, InBatches])
def test_batches_hold_what_the_data_set_gives(kind) -> None:
    data = rb.open(kind(lambda row: (X[row], Y[row])))
    for inputs, target, rows in rb.Batches(data, 7, seed=3, with_rows=True):
        np.testing.assert_array_equal(inputs, X[rows])
        np.testing.assert_array_equal(target, Y[rows])
    check_resume(lambda: rb.Batches(data, 7, seed=3))
    check_resume(lambda: rb.Batches(data, 7, threads=3, shuffle=False))


def test_a_batch_is_one_call_where_there_is_getitems() -> None:
    dataset = InBatches(lambda row: X[row])
    data = rb.open(dataset)
    dataset.calls = 0
    data.rows(np.arange(40))
    assert dataset.calls == 1


def test_a_tensor_data_set_is_taken_apart_without_a_copy() -> None:
    dataset = TensorDataset(X, Y)
    data = rb.open(dataset)
    assert (columns(data), data.target) == ({"x": "float32[3]", "y": "int64"}, "y")
    assert np.shares_memory(data.array("x"), X.numpy())
    stretch = rb.open(Subset(dataset, range(5, 15)))
    assert np.shares_memory(stretch.array("x"), X.numpy())
    np.testing.assert_array_equal(stretch.array("y"), Y[5:15])
    chosen = rb.open(Subset(Subset(dataset, [9, 3, 3, 7]), [3, 0, 1]))
    np.testing.assert_array_equal(chosen.array("x"), X[[7, 9, 3]])
    # The same content gives the same fingerprint, however it is held.
    assert data.fingerprint == rb.open(TensorDataset(X.clone(), Y)).fingerprint


def test_a_subclass_of_a_tensor_data_set_keeps_its_own_way() -> None:
    class Negated(TensorDataset):
        def __getitem__(self, row: int) -> Any:
            return tuple(-tensor[row] for tensor in self.tensors)

    assert rb.open(Negated(X)).rows([2])["x"].tolist() == (-X[2:3]).tolist()
    assert rb.open(Subset(Negated(X), [4])).rows([0])["x"].tolist() == (-X[4:5]).tolist()


@pytest.mark.parametrize(
    "dataset",
    [
        Subset(Items(lambda row: (X[row], row)), [3, 1, 30]),
        Subset(InBatches(lambda row: (X[row], row)), [3, 1, 30]),
        ConcatDataset([Items(lambda row: (X[row], row), 9), TensorDataset(X, Y)]),
        StackDataset(X, list(range(40))),
        StackDataset(image=X, label=Y),
    ],
)
def test_torchs_own_compositions_keep_the_promises(dataset) -> None:
    data = rb.open(dataset)
    check_dataset(data)
    last = len(data) - 1
    many = getattr(dataset, "__getitems__", None)
    sample = many([last])[0] if many else dataset[last]
    values = list(sample.values()) if isinstance(sample, dict) else list(sample)
    for column, value in zip(data.columns, values, strict=True):
        np.testing.assert_array_equal(data.rows([last])[column.name][0], value)


def test_classes_are_the_categories_of_the_target() -> None:
    dataset = Items(lambda row: (X[row], row % 2))
    dataset.classes = ["even", "odd"]
    assert rb.open(dataset).column("y").categories == ("even", "odd")
    dataset.make = lambda row: (X[row], 2 if row == 17 else 0)
    with pytest.raises(rb.DataError, match=r"row 17 .*the class 2 is none of the 2"):
        rb.open(dataset).rows(np.arange(40))


def test_training_on_a_data_set_is_training_on_its_arrays() -> None:
    dataset = Items(lambda row: (X[row] / 120, int(Y[row])))
    options: dict[str, Any] = {"batch_size": 8, "epochs": 3, "learning_rate": 0.1, "seed": 2}
    results = [
        rb.fit("softmax", rb.split(rb.open(data), val=8, seed=1), **options)
        for data in (dataset, TensorDataset(X / 120, Y))
    ]
    assert results[0].step_losses == results[1].step_losses


def test_equal_samples_are_looked_for_only_where_somebody_asks() -> None:
    read: list[int] = []

    def make(row: int) -> Any:
        read.append(row)
        return X[row // 2], int(Y[row])

    data = rb.open(Items(make))
    read.clear()
    assert rb.split(data, val=10).duplicate_samples is None
    assert read == []
    together = rb.split(data, val=10, on_duplicates="together")
    assert together.duplicate_samples == 0
    rows = together.val.rows.take(np.arange(len(together.val)))
    assert sorted(rows // 2) == sorted([*set(rows // 2)] * 2)


def broken_at(*bad: int, kind: Any = Items) -> Any:
    def make(row: int) -> Any:
        if row in bad:
            raise OSError("truncated file")
        return X[row], int(Y[row])

    return kind(make)


@pytest.mark.parametrize("kind", [Items, InBatches])
def test_a_failing_item_stops_with_its_row(kind) -> None:
    data = rb.open(broken_at(17, kind=kind))
    with pytest.raises(rb.DataError, match=r"Items|InBatches, row 17 .*OSError: truncated file"):
        list(rb.Batches(data, 8))
    with pytest.raises(rb.DataError, match="row 17"):
        data.span(10, 20)


@pytest.mark.parametrize("kind", [Items, InBatches])
@pytest.mark.parametrize("options", [{}, {"window": 16, "block": 4}, {"threads": 0}])
def test_failing_items_are_quarantined_by_their_rows(kind, options) -> None:
    data = rb.open(broken_at(0, 17, 18, kind=kind))
    batches = rb.Batches(data, 8, on_bad_sample="quarantine", max_bad=3, with_rows=True, **options)
    rows = np.concatenate([batch[2] for batch in batches])
    assert sorted(rows[rows >= 0]) == [row for row in range(40) if row not in (0, 17, 18)]
    assert [bad.row for bad in batches.bad_samples] == [0, 17, 18]
    assert "truncated file" in batches.bad_samples[0].reason


def test_a_batch_that_fails_while_its_rows_do_not_is_told() -> None:
    class NoBatches(InBatches):
        def __getitems__(self, rows: list[int]) -> list[Any]:
            if len(rows) > 1:
                raise RuntimeError("too many")
            return super().__getitems__(rows)

    with pytest.raises(rb.DataError, match=r"RuntimeError: too many for 3 rows, and for none"):
        rb.open(NoBatches(lambda row: X[row])).rows([1, 2, 3])


def test_a_short_batch_is_refused() -> None:
    class Short(InBatches):
        def __getitems__(self, rows: list[int]) -> list[Any]:
            return super().__getitems__(rows[:1])

    with pytest.raises(rb.DataError, match=r"gave 1 samples for 2 rows"):
        rb.open(Short(lambda row: X[row])).rows([1, 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda row: torch.zeros(2, 1 + row % 2),
            r"differ in the shape of 'x': \(2, 1\), \(2, 2\)",
        ),
        (lambda row: None, "the value is NoneType"),
        (lambda row: object(), "the value is object"),
        (lambda row: (X[row], {"a": 1}), "'y': the value is dict"),
        (lambda row: {"a": 1} if row else {"b": 1}, "'b': the value is NoneType"),
    ],
)
def test_samples_of_several_kinds_are_refused_when_opened(make, message) -> None:
    with pytest.raises(rb.DataError, match=message):
        rb.open(Items(make))


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            torch.zeros(4),
            r"row 14 .*float32 of shape \(4,\), .*float32\[3\]; give all samples one shape",
        ),
        (torch.zeros(3, dtype=torch.float64), "float64 of shape .*one kind of values"),
        ("text", "uint8 of shape"),
    ],
)
def test_an_odd_sample_is_named_when_it_is_read(odd, message) -> None:
    # 32 of 400 samples are looked at when the data are opened, and row 14 is none of them.
    data = rb.open(Items(lambda row: odd if row == 14 else X[row % 40], 400))
    with pytest.raises(rb.DataError, match=message):
        data.span(0, 20)


def test_a_sample_that_lacks_a_part_is_named() -> None:
    data = rb.open(Items(lambda row: {"a": 1} if row == 14 else {"a": 1, "b": 2}, 400))
    with pytest.raises(rb.DataError, match=r"row 14 .*the sample has a, and lacks 'b'"):
        data.span(0, 20)


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        yield from range(3)


class NoLength(Dataset):
    def __getitem__(self, row: int) -> int:
        return row


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (Stream(), "Stream is an IterableDataset: a stream has no length .* map-style"),
        (NoLength(), "NoLength lacks __len__"),
        (DataLoader(TensorDataset(X)), r"rb\.open\(loader\.dataset\)"),
        (Items(lambda row: row, 0), "zero samples"),
        (broken_at(*range(40)), "row 0 .*truncated"),
    ],
)
def test_what_has_no_rows_is_refused_with_the_remedy(thing, message) -> None:
    with pytest.raises(rb.DataError, match=message):
        rb.open(thing)


def test_options_choose_columns_and_others_are_refused() -> None:
    dataset = Items(lambda row: {"a": row, "b": X[row], "c": row % 2})
    data = rb.open(dataset, target="c", columns=["b"], name="mine")
    assert (data.name, columns(data), data.target) == (
        "mine",
        {"b": "float32[3]", "c": "int64"},
        "c",
    )
    with pytest.raises(rb.DataError, match=r"no target 'd'.*a, b, c"):
        rb.open(dataset, target="d")
    with pytest.raises(rb.OptionError, match="header=True has no meaning"):
        rb.open(dataset, header=True)


def test_the_fingerprint_is_of_length_columns_and_samples_or_the_data_sets_own() -> None:
    def of(make: Any, length: int = 400, **own: Any) -> str:
        dataset = Items(make, length)
        vars(dataset).update(own)
        return rb.open(dataset).fingerprint

    base = of(lambda row: row)
    assert base == of(lambda row: row)
    assert base != of(lambda row: row, 401)
    assert base != of(lambda row: row + (row == 0))
    assert base != of(lambda row: row + (row == 399))
    # 32 samples are not all: a row between them is not seen, and one's own text can say it.
    assert base == of(lambda row: row + (row == 14))
    assert of(lambda row: row, fingerprint="v1") != of(lambda row: row, fingerprint="v2")
    assert of(lambda row: row, fingerprint="v1") == of(lambda row: -row, fingerprint="v1")


def test_random_samples_are_told_and_do_not_change_the_fingerprint() -> None:
    dataset = Items(lambda row: (torch.rand(3), row))
    data = rb.open(dataset)
    assert "x: a sample was not the same when it was read a second time" in data.notes[0]
    assert "y:" not in data.notes[0]
    assert data.fingerprint == rb.open(dataset).fingerprint
    with pytest.raises(AssertionError, match="other values the second time in column 'x'"):
        check_dataset(data)


@pytest.mark.parametrize("is_safe", [False, True])
def test_one_thread_reads_at_a_time_unless_the_data_set_says_it_may(is_safe) -> None:
    inside = 0
    most = 0
    both = threading.Barrier(2, timeout=2)

    def make(row: int) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if is_safe and reading:
            both.wait()
        inside -= 1
        return row

    reading = False
    dataset = Items(make)
    dataset.thread_safe = is_safe
    data = rb.open(dataset)
    reading = True
    readers = [threading.Thread(target=data.rows, args=([row],)) for row in (1, 2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert most == (2 if is_safe else 1)


def test_an_opened_data_set_can_be_sent_to_another_process() -> None:
    data = rb.open(StackDataset(list(range(9)), list("abcdefghi")))
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own object
    assert copy.fingerprint == data.fingerprint
    assert copy.rows([3])["y"].texts() == ["d"]


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize(
    "make",
    [
        lambda row: (X[row], row, 0.5),
        lambda row: (X[row].numpy(), True),
        lambda row: {"a": X[row].double(), "b": np.float32(row)},
        lambda row: (X[row].numpy() if row % 2 else X[row], row if row % 3 else np.int64(row)),
        lambda row: (X[row].expand(2, 3), torch.tensor(row)),
        lambda row: (X[:, row % 3], np.arange(4)[::-1]),
    ],
)
def test_values_are_the_same_however_many_are_taken(make, length) -> None:
    """A batch is stacked at once where its values are plain, and value by value elsewhere."""
    data = rb.open(Items(make))
    rows = np.arange(0, 40, 8)[:length]
    together = data.rows(rows)
    for place, row in enumerate(rows):
        sample = make(row)
        values = sample.values() if isinstance(sample, dict) else sample
        for column, value in zip(data.columns, values, strict=True):
            assert together[column.name].dtype == column.dtype
            np.testing.assert_array_equal(together[column.name][place], np.asarray(value))
