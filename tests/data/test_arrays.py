"""Arrays, lists, tensors and dicts of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rightbatch.data as rb
from rightbatch.errors import DataError, OptionError


def test_a_pair_has_columns_x_and_y_and_the_target_y():
    data = rb.open((np.eye(3), [0, 1, 2]))
    assert [column.name for column in data.columns] == ["x", "y"]
    assert data.target == "y"
    assert data.inputs[0].shape == (3,)


@pytest.mark.parametrize(
    "thing",
    [
        np.arange(6.0).reshape(3, 2),
        [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]],
        [np.array([0.0, 1.0]), np.array([2.0, 3.0]), np.array([4.0, 5.0])],
        [(0.0, 1.0), (2.0, 3.0), (4.0, 5.0)],
        torch.arange(6.0, dtype=torch.float64).reshape(3, 2),
        torch.arange(6.0, dtype=torch.float64).reshape(3, 2).requires_grad_(),
        [torch.tensor([0.0, 1.0]).double(), torch.tensor([2.0, 3.0]), torch.tensor([4.0, 5.0])],
        {"x": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]},
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.arange(6.0).reshape(3, 2).astype(">f8"),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_every_form_of_the_same_values_opens_alike(thing):
    data = rb.open(thing)
    x = data.span(0, 3)["x"]
    assert x.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert x.dtype == np.float64
    assert data.target is None


def test_dlpack_alone_is_enough():
    class OnlyDlpack:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    assert rb.open(OnlyDlpack(np.arange(3))).span(0, 3)["x"].tolist() == [0, 1, 2]


def test_arrays_are_not_copied():
    x = np.zeros((3, 2))
    assert np.shares_memory(rb.open(x).span(0, 3)["x"], x)
    tensor = torch.zeros(3, 2)
    assert np.shares_memory(rb.open(tensor).span(0, 3)["x"], tensor.numpy())


def test_memory_of_an_accelerator_is_refused():
    class OnDevice:
        def __dlpack__(self, **_options):
            raise AssertionError("the device has to be asked first")

        def __dlpack_device__(self):
            return (2, 1)

    with pytest.raises(DataError, match=r"column 'x' lies in .*\(CUDA device 1\).*\.cpu\(\)"):
        rb.open(OnDevice())


def test_text_becomes_sorted_codes():
    data = rb.open((np.eye(3), ["pear", "apple", "pear"]))
    assert data.span(0, 3)["y"].tolist() == [1, 0, 1]
    assert data.span(0, 3)["y"].dtype == np.int64
    assert data.column("y").categories == ("apple", "pear")


def test_dates_become_seconds():
    days = np.array(["1970-01-02", "1969-12-31T23:59:59.5"], dtype="M8[ms]")
    assert rb.open(days).span(0, 2)["x"].tolist() == [86_400.0, -0.5]
    far = np.array(["2500-01-01", "0001-01-01"], dtype="M8[D]")
    assert rb.open(far).span(0, 2)["x"].tolist() == far.astype("M8[s]").astype(int).tolist()
    assert rb.open(np.array(["2000-02"], "M8[M]")).span(0, 1)["x"].tolist() == [949_363_200]
    assert rb.open(np.array([1500], "m8[ms]")).span(0, 1)["x"].tolist() == [1.5]
    with pytest.raises(DataError, match=r"target 'y' is nan in row 1"):
        rb.open((np.eye(2), np.array(["1970-01-02", "NaT"], dtype="M8[D]")))


def test_target_and_columns_by_name_or_position():
    columns = {"a": [1, 2], "b": [3, 4], "c": [5, 6]}
    assert rb.open(columns, target=-1).target == "c"
    assert rb.open(columns, target="b").target == "b"
    chosen = rb.open(columns, target="a", columns=["c"])
    assert [column.name for column in chosen.columns] == ["c", "a"]


REFUSED = {
    "ragged list": ([[1, 2], [3]], r"'x' is ragged: row 1 .*\(1,\), row 0 has \(2,\)"),
    "ragged deeper": ([[1, [2]], [3, [4, 5]]], r"'x'"),
    "scalar among lists": ([[1, 2], 3], r"ragged: row 1 .*shape \(\)"),
    "ragged arrays": ([np.zeros(2), np.zeros(3)], r"ragged: row 1 .*\(3,\)"),
    "objects": (np.array([1, {}], dtype=object), r"'x' holds Python objects \(row 1 .* a dict\)"),
    "None": ([1.0, None], r"Python objects \(row 1 .* a NoneType\).*astype\(float\)"),
    "text and numbers": ([1, "a"], r"mixes text with other values \(1\)"),
    "records": (np.zeros(2, dtype=[("a", "i4"), ("b", "f4")]), r"records with the fields a, b"),
    "complex": (np.zeros(2, dtype=complex), r"complex128.*array\.real"),
    "zero samples": (np.zeros((0, 3)), r"'x' has zero samples"),
    "empty list": ([], r"'x' has zero samples"),
    "no values": (np.zeros((3, 0)), r"shape \(3, 0\)"),
    "single value": (np.float64(3), r"single value"),
    "masked": (np.ma.masked_equal([1, 2, 3], 2), r"1 masked values.*filled\(0\)"),
    "triple": (([1], [2], [3]), r"tuple of 3 .*\(X, y\)"),
    "lengths": (([1, 2], [3]), r"'x' has 2, 'y' has 1 samples"),
    "NaN target": (([1, 2, 3], [0.0, np.nan, np.nan]), r"'y' is nan in row 1 .*in 2 places"),
    "infinite target": (([1, 2], [0.0, np.inf]), r"'y' is inf in row 1"),
    "empty dict": ({}, r"no columns"),
    "unnamed": ({3: [1]}, r"column name 3 is no text"),
    "path in a dict": ({"x": "file.csv"}, r"'x' is a str, no array"),
    "a number": (5, r"type int.*Valid are arrays"),
    "bfloat16": (torch.zeros(2, dtype=torch.bfloat16), r"'x': a Tensor.*\.float\(\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_column_is_refused(case):
    thing, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        rb.open(thing)


def test_a_sparse_matrix_is_told_to_be_dense():
    from scipy import sparse

    with pytest.raises(DataError, match=r"\.toarray\(\)"):
        rb.open(sparse.csr_matrix(np.eye(3)))


def test_nan_in_an_input_is_allowed():
    assert np.isnan(rb.open(([np.nan, 1.0], [0, 1])).span(0, 1)["x"][0])


@pytest.mark.parametrize(
    "options", [{"header": True}, {"missing": "fill"}, {"categories": "one-hot"}]
)
def test_options_of_tables_are_refused(options):
    (name,) = options
    with pytest.raises(OptionError, match=f"{name}=.* has no meaning for arrays"):
        rb.open([1, 2], **options)


def test_a_strided_source_is_gathered_without_copying_it_whole():
    import tracemalloc

    x = np.zeros((1000, 2000), order="F")
    data = rb.open(x)
    rows = np.arange(4)
    tracemalloc.start()
    try:
        data.rows(rows)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < x.nbytes / 10


def test_a_name_is_shown_in_messages():
    assert repr(rb.open([1, 2], name="tiny")).startswith("<Dataset tiny: 2 samples")
