"""Frames of pandas, polars and pyarrow, through Arrow's C stream interface."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import rightbatch.data as rb
from rightbatch import pack
from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError, OptionError

VALUES = {"age": [3, 5, 4], "job": ["smith", "baker", "smith"], "ill": [True, False, True]}
MAKERS = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "record batch": pa.RecordBatch.from_pydict,
    "reader": lambda values: pa.table(values).to_reader(),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_frames_open_by_their_columns(maker):
    data = rb.open(MAKERS[maker](VALUES), target="ill")
    whole = data.span(0, 3)
    assert whole["age"].tolist() == [3, 5, 4]
    assert whole["job"].tolist() == [1, 0, 1]
    assert whole["ill"].dtype == np.bool_
    assert data.column("job").categories == ("baker", "smith")


def test_all_frames_have_one_fingerprint():
    assert len({rb.open(make(VALUES)).fingerprint for make in MAKERS.values()}) == 1


def test_a_frame_and_its_target_apart():
    inputs = {name: VALUES[name] for name in ("age", "job")}
    kinds: list[tuple[Any, Any]] = [(pd.DataFrame, pd.Series), (pl.DataFrame, pl.Series)]
    for make, series in kinds:
        for target in (series(VALUES["ill"]), np.array(VALUES["ill"]), VALUES["ill"]):
            data = rb.open((make(inputs), target))
            assert [column.name for column in data.columns] == ["age", "job", "y"]
            assert data.target == "y"
            assert data.span(0, 3)["y"].tolist() == VALUES["ill"]


def test_a_target_of_another_length_is_refused():
    with pytest.raises(DataError, match=r"frame has 3 rows and the target 2"):
        rb.open((pd.DataFrame(VALUES), [1, 2]))


@pytest.mark.parametrize(
    "series",
    [
        pd.Series(["b", "a"]),
        pd.Series(["b", "a"], dtype="category"),
        pd.Series(["b", "a"], dtype=object),
        pl.Series(["b", "a"]),
        pa.chunked_array([["b"], ["a"]]),
    ],
    ids=["pandas", "pandas category", "pandas object", "polars", "pyarrow"],
)
def test_a_series_of_text_becomes_codes(series):
    data = rb.open(([[1.0], [2.0]], series))
    assert data.span(0, 2)["y"].tolist() == [1, 0]
    assert data.column("y").categories == ("a", "b")


def test_a_series_of_numbers_is_a_column():
    for series in (pd.Series([1.5, 2.5]), pl.Series([1.5, 2.5])):
        assert rb.open(series).span(0, 2)["x"].tolist() == [1.5, 2.5]


def test_a_gap_in_a_series_of_text_is_refused():
    with pytest.raises(DataError, match=r"'y' has 1 missing values, the first in row 1"):
        rb.open(([1, 2], pl.Series(["b", None])))


def test_missing_values_follow_the_policy():
    for make in (pd.DataFrame, pl.DataFrame):
        frame = make({"a": [1.0, None, 3.0], "b": ["x", None, "y"]})
        with pytest.raises(DataError, match=r"'a' 1, 'b' 1.*row 1 \(counting from 0\)"):
            rb.open(frame)
        assert len(rb.open(frame, missing="drop")) == 2
        filled = rb.open(frame, missing="fill", categories="one-hot")
        assert filled.span(1, 2)["b=missing"].tolist() == [1]


def test_row_labels_of_pandas_are_left_out_with_a_note(tmp_path):
    frame = pd.DataFrame(VALUES).set_index("age")
    frame.to_parquet(tmp_path / "t.parquet")
    for thing in (frame, tmp_path / "t.parquet"):
        data = rb.open(thing)
        assert [column.name for column in data.columns] == ["job", "ill"]
        assert "Row labels left out: age." in data.notes


def test_refused_frames():
    with pytest.raises(DataError, match="zero rows"):
        rb.open(pl.DataFrame({"a": []}))
    with pytest.raises(DataError, match="'bad'"):
        rb.open(pl.DataFrame({"bad": [[1], [2]]}))
    with pytest.raises(DataError, match="two columns called 'a'"):
        rb.open(pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(DataError, match=r"cannot be handed over as Arrow: .*column b"):
        rb.open(pd.DataFrame({"a": [1, 2], "b": pd.Series([1, "x"], dtype=object)}))
    with pytest.raises(OptionError, match="header=True has no meaning for a frame"):
        rb.open(pd.DataFrame(VALUES), header=True)
    with pytest.raises(DataError, match="no column at position 9"):
        rb.open(pd.DataFrame(VALUES), columns=[9])


def test_importing_loads_nothing_heavy():
    heavy = "pandas", "polars", "pyarrow", "sklearn", "torch", "scipy"
    code = f"import sys, rightbatch.data; print([m for m in {heavy} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == "[]"


def test_a_column_of_lists_is_refused_with_what_opens_sequences(tmp_path) -> None:
    table = pa.table({"ids": [[1, 2], [3]], "y": [0, 1]})
    with pytest.raises(DataError, match=r"a list a row \(list<.*int64>\).*rb\.Ragged\.from_list"):
        rb.open(table, target="y")
    columns = {"ids": Ragged.from_list(table["ids"].to_pylist()), "y": [0, 1]}
    pack(rb.open(columns, target="y"), tmp_path / "pack")
    assert rb.open(tmp_path / "pack").ragged("ids").lengths.tolist() == [2, 1]
