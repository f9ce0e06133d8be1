"""The built-in sets."""

from __future__ import annotations

import numpy as np
import pytest

import rightbatch.data as rb
from rightbatch.data.builtin import BUILTIN_NAMES
from rightbatch.errors import DataError, OptionError

SIZES = {
    "breast_cancer": (569, 30, ("malignant", "benign")),
    "diabetes": (442, 10, None),
    "digits": (1797, 1, None),
    "iris": (150, 4, ("setosa", "versicolor", "virginica")),
    "wine": (178, 13, ("class_0", "class_1", "class_2")),
}


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_sizes_columns_and_classes(name):
    samples, inputs, categories = SIZES[name]
    data = rb.open(name)
    assert (len(data), len(data.inputs), data.name) == (samples, inputs, name)
    assert data.target == "target"
    assert data.column("target").categories == categories
    assert data.column("target").dtype == (np.float64 if name == "diabetes" else np.int64)


def test_digits_are_images():
    image = rb.open("digits").column("image")
    assert image.shape == (8, 8)
    assert image.dtype == np.float64


def test_features_keep_their_names():
    data = rb.open("breast_cancer", columns=["mean radius"])
    assert [column.name for column in data.columns] == ["mean radius", "target"]
    assert data.span(0, 1)["mean radius"][0] == 17.99


def test_the_name_wins_over_a_path_and_a_dot_names_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wine").mkdir()
    (tmp_path / "wine" / "a.csv").write_text("x\n1\n")
    assert len(rb.open("wine")) == 178
    assert len(rb.open("./wine")) == 1
    assert len(rb.open(tmp_path / "wine")) == 1


def test_options_of_tables_are_refused():
    with pytest.raises(OptionError, match="built-in set 'iris'"):
        rb.open("iris", missing="drop")
    with pytest.raises(DataError, match="Did you mean 'target'"):
        rb.open("iris", target="targets")
