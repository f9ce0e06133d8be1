"""Where `open` sends what it is given."""

from __future__ import annotations

import os

import numpy as np
import pytest

import rightbatch.data as rb
from rightbatch.data.opening_files import find_tables
from rightbatch.errors import DataError, OptionError


def test_an_open_data_set_stays_itself():
    data = rb.open([1, 2])
    assert rb.open(data) is data
    with pytest.raises(DataError, match="open already"):
        rb.open(data, target="x")


def test_a_protocol_that_nobody_speaks_is_named():
    with pytest.raises(DataError, match=r"nosuch:// is no protocol .* it speaks s3, gs"):
        rb.open("nosuch://bucket/a.csv")


def test_a_file_uri_is_a_path(tmp_path):
    (tmp_path / "a b.csv").write_text("x\n1\n")
    assert len(rb.open((tmp_path / "a b.csv").as_uri())) == 1


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match=r"No such file or folder: .*nothing\.csv"):
        rb.open(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match=r"Did you mean 'digits'\?.*breast_cancer, diabetes"):
        rb.open("digit")
    with pytest.raises(DataError, match="An empty text"):
        rb.open("")


def test_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.csv").write_text("x\n1\n")
    assert len(rb.open("~/a.csv")) == 1
    assert len(rb.open("~/*.csv")) == 1


def test_a_file_named_like_a_pattern_is_opened(tmp_path):
    (tmp_path / "a[1].csv").write_text("x\n1\n")
    assert len(rb.open(str(tmp_path / "a[1].csv"))) == 1


def test_an_unknown_kind_of_file(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(DataError, match=r"model\.pkl is of no kind .*'\.pkl'.*\.npz"):
        rb.open(tmp_path / "model.pkl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n")
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        rb.open(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1.5}, "target=1.5 is no column"),
        ({"target": True}, "target=True is no column"),
        ({"columns": []}, "columns is empty"),
        ({"columns": [None]}, "columns holds None"),
        ({"columns": ["a", "a"]}, "'a' twice"),
        ({"columns": ["a"], "target": "a"}, "nothing but the target"),
        ({"header": "yes"}, "header='yes' is not valid"),
        ({"missing": "drp"}, "Did you mean 'drop'"),
        ({"categories": "onehot"}, "Did you mean 'one-hot'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(OptionError, match=message):
        rb.open({"a": [1, 2], "b": [3, 4]}, **options)


def test_one_name_as_columns_is_one_column():
    data = rb.open({"ab": [1, 2], "b": [3, 4]}, columns="ab")
    assert [column.name for column in data.columns] == ["ab"]


def test_the_public_names():
    assert rb.__all__ == ["ArrayDataset", "Column", "Dataset", "check_span", "open", "valid_rows"]
    assert isinstance(rb.open(np.eye(2)), rb.ArrayDataset)


def test_the_tables_that_a_thing_names(tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in paths:
        path.write_text("x\n1\n")
    glob = str(tmp_path / "*.csv")
    assert find_tables(glob) == (paths, glob)
    assert find_tables(tmp_path) == (paths, str(tmp_path))
    assert find_tables(paths[0]) == ([paths[0]], str(paths[0]))
    assert find_tables(paths[0].as_uri()) == ([paths[0]], str(paths[0]))
    assert find_tables(str(tmp_path / "a*")) == ([paths[0]], str(paths[0]))
    np.save(tmp_path / "c.npy", np.arange(3))
    for other in ("iris", tmp_path / "c.npy", tmp_path / "none.csv", np.arange(3)):
        assert find_tables(other) is None
    with pytest.raises(DataError, match="No file matches"):
        find_tables(str(tmp_path / "*.tsv"))
