"""Several data sets as one: the promises of a Dataset, and what can not be joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rightbatch as rb
from rightbatch.data.dataset import RemoteObject
from rightbatch.data.joined import JoinedDataset
from rightbatch.data.without_input import WithoutInput
from rightbatch.errors import DataError
from rightbatch.testing import check_dataset


def tables(count: int = 3) -> list[rb.Dataset]:
    return [
        rb.open({"a": np.arange(5.0 + n) + 10 * n, "y": np.arange(5 + n) % 2}, target="y")
        for n in range(count)
    ]


def ragged() -> list[rb.Dataset]:
    return [
        rb.open({"text": rb.Ragged.from_list(words), "y": np.arange(len(words))}, target="y")
        for words in (["one", "", "three"], ["vier", "fünf"])
    ]


@pytest.mark.parametrize("members", [tables(1), tables(), ragged()], ids=["one", "three", "texts"])
def test_it_keeps_the_promises_of_a_dataset(members) -> None:
    check_dataset(JoinedDataset(members))


def test_rows_come_in_any_order_from_all_members() -> None:
    data = JoinedDataset(tables())
    assert [data.start_of(n) for n in range(3)] == [0, 5, 11]
    assert data.rows([17, 0, 11, 5, 0])["a"].tolist() == [26, 0, 20, 10, 0]
    assert data.span(3, 13)["a"].tolist() == [3, 4, *range(10, 16), 20, 21]
    texts = JoinedDataset(ragged()).rows([4, 0, 3, 1])["text"]
    assert texts.texts() == ["fünf", "one", "vier", ""]


def test_the_fingerprint_is_that_of_members_and_their_order() -> None:
    one, two, _ = tables()
    assert JoinedDataset([one, two]).fingerprint != JoinedDataset([two, one]).fingerprint
    assert JoinedDataset([one, two]).fingerprint == JoinedDataset(tables(2)).fingerprint


def test_a_row_is_found_in_its_member() -> None:
    data = JoinedDataset(tables())
    assert data.locate(4) == "row 4, in arrays row 4 (counting from 0)"
    assert data.locate(5) == "row 5, in arrays row 0 (counting from 0)"
    assert data.locate(17) == "row 17, in arrays row 6 (counting from 0)"


def test_the_objects_that_members_are_read_from_are_known() -> None:
    one, two, three = tables()
    one.remote_objects = (RemoteObject("s3://bucket/one", "a", 40),)
    three.remote_objects = (RemoteObject("s3://bucket/three", "b", 56),)
    found = JoinedDataset([one, two, three]).remote_objects
    assert [member.url for member in found] == ["s3://bucket/one", "s3://bucket/three"]


def test_hidden_columns_stay_hidden() -> None:
    joined = JoinedDataset([WithoutInput(self_made(), "w"), WithoutInput(self_made(), "w")])
    assert [column.name for column in joined.inputs] == ["a"]


def self_made(**changes) -> rb.Dataset:
    columns = {"a": np.arange(4.0), "w": np.ones(4), "y": np.arange(4) % 2}
    return rb.open({**columns, **changes}, target="y")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (rb.open({"a": np.arange(4.0), "y": np.arange(4)}, target="y"), "has no 'w'"),
        (
            rb.open({"w": np.ones(4), "a": np.ones(4), "y": np.arange(4)}, target="y"),
            "their order differs",
        ),
        (self_made(a=np.arange(4)), "column 'a' is float64 in arrays and int64 in arrays"),
        (self_made(a=np.ones((4, 2))), r"float64 in arrays and float64\[2\] in arrays"),
        (rb.open({n: np.ones(4) for n in "awy"}, target="a"), "other targets, 'y' and 'a'"),
        (WithoutInput(self_made(), "w"), "do not have the same inputs: 'w'"),
    ],
)
def test_columns_that_differ_are_named(other: rb.Dataset, message: str) -> None:
    with pytest.raises(DataError, match=message):
        JoinedDataset([self_made(), other])


def test_categories_in_another_order_are_refused() -> None:
    one, two = (self_made(w=texts) for texts in (["a", "b", "a", "b"], ["a", "c", "a", "c"]))
    with pytest.raises(DataError, match=r"other categories \('b', 'c' in one of them alone\)"):
        JoinedDataset([one, two])


def test_a_file_that_was_cut_off_is_an_error_with_its_row(tmp_path: Path) -> None:
    x = np.arange(200_000.0).reshape(100_000, 2)
    for name in ("one", "two"):
        rb.pack(rb.open((x, np.zeros(100_000, np.int64))), tmp_path / name)
    data = JoinedDataset([rb.open(str(tmp_path / name)) for name in ("one", "two")])
    part = rb.mix({"all": (data, 1)}).train
    [file] = [path for path in (tmp_path / "two").glob("*x*") if path.suffix == ".npy"]
    with file.open("r+b") as opened:
        opened.truncate(800_000)
    with pytest.raises(DataError, match="cut off"):
        list(rb.Batches(part, 4096, threads=0))
