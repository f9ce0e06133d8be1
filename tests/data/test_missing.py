"""The policy for missing values."""

from __future__ import annotations

import numpy as np
import pytest

import rightbatch.data as rb
from rightbatch.data.missing import MARKERS, MissingPolicy
from rightbatch.errors import DataError, OptionError

CONTENT = """age,job,ill,when
1,smith,0,2019-01-01
,baker,1,2019-01-02
3, ? ,1,
4,smith,0,2019-01-04
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(CONTENT)
    return path


def test_refusal_names_columns_counts_place_and_remedies(table):
    with pytest.raises(DataError) as refusal:
        rb.open(table)
    expected = [
        *("'age' 1", "'job' 1", "'when' 1"),
        f"{table}, line 3 (the header counts), column 'age'",
        *("missing='drop'", "--missing drop", "'fill:VALUE'"),
    ]
    for word in expected:
        assert word in str(refusal.value)


def test_columns_that_are_not_chosen_do_not_count(table):
    assert len(rb.open(table, columns=["ill"])) == 4


def test_drop_leaves_out_the_rows_and_says_so(table):
    data = rb.open(table, missing="drop")
    assert data.span(0, 2)["age"].tolist() == [1, 4]
    assert data.column("age").dtype == np.int64
    assert data.notes[-1] == ("Dropped 2 of 4 rows with missing values: age 1, job 1, when 1.")
    assert data.column("job").categories == ("smith",)


def test_fill_uses_zero_and_the_word_missing(table):
    data = rb.open(table, missing="fill", target="ill")
    whole = data.span(0, 4)
    assert whole["age"].tolist() == [1, 0, 3, 4]
    assert data.column("age").dtype == np.int64
    assert data.column("job").categories == ("baker", "missing", "smith")
    assert whole["job"].tolist() == [2, 0, 1, 2]
    assert whole["when"][2] == 0
    assert "age 1 with 0, job 1 with 'missing', when 1 with 0" in data.notes[-1]


@pytest.mark.parametrize(
    ("content", "value", "expected", "dtype"),
    [
        ("a,b\n1,1\n2,\n", "7", [1, 7], np.int64),
        ("a,b\n1,1\n2,\n", "0.5", [1, 0.5], np.float64),
        ("a,b\n1,0.5\n2,\n", "-1", [0.5, -1], np.float64),
        ("a,b\n1,true\n2,\n", "true", [True, True], np.bool_),
        ("a,b\n1,true\n2,\n", "0", [True, False], np.bool_),
        ("a,b\n1,\n2,\n", "0", [0, 0], np.float64),
    ],
)
def test_fill_with_a_constant(tmp_path, content, value, expected, dtype):
    (tmp_path / "t.csv").write_text(content)
    data = rb.open(tmp_path / "t.csv", missing=f"fill:{value}")
    assert data.span(0, 2)["b"].tolist() == expected
    assert data.column("b").dtype == dtype


def test_a_constant_that_does_not_fit_the_column_is_refused(table):
    with pytest.raises(OptionError, match=r"'fill:none' cannot fill column 'age'.*give a number"):
        rb.open(table, missing="fill:none")


def test_a_missing_target_is_dropped_but_never_filled(table):
    with pytest.raises(DataError, match=r"target 'age'.*line 3 .*missing='drop'"):
        rb.open(table, missing="fill", target="age")
    with pytest.raises(DataError, match="can be dropped only"):
        rb.open(table, target="age")
    data = rb.open(table, missing="drop", target="age", columns=["ill"])
    assert data.span(0, 3)["age"].tolist() == [1, 3, 4]


def test_nothing_left_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,\n2,\n")
    with pytest.raises(DataError, match=r"'b' is empty throughout.*zero samples"):
        rb.open(tmp_path / "t.csv", missing="drop")


@pytest.mark.parametrize("marker", [marker for marker in MARKERS if marker])
def test_every_marker_counts_in_numbers_and_in_text(tmp_path, marker):
    (tmp_path / "t.csv").write_text(
        f'a,b,c\n1,x, y\n{marker},{marker},"{marker}"\n3,z,  {marker} \n'
    )
    with pytest.raises(DataError, match=r"'a' 1, 'b' 1, 'c' 2"):
        rb.open(tmp_path / "t.csv")


@pytest.mark.parametrize("text", ["", "fil", "drop:3", "refuse:x", "FILL"])
def test_other_policies_are_refused(text):
    with pytest.raises(OptionError, match="'refuse', 'drop'"):
        MissingPolicy.parse(text)


def test_policies_have_a_text_form():
    for text in ("refuse", "drop", "fill", "fill:", "fill:a:b"):
        assert str(MissingPolicy.parse(text)) == text
