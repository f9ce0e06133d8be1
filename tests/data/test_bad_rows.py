"""Rows of the wrong length: refused, or left out up to a budget and listed."""

from __future__ import annotations

import pytest

import rightbatch.data as rb
from rightbatch.errors import DataError, OptionError

CONTENT = 'a,b\n1,x\n2\n\n"3",y\n4,"z\nz"\n5,6,7\n8,w\n'


def test_rows_of_the_wrong_length_are_left_out_and_listed(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(CONTENT)
    data = rb.open(path, on_bad_sample="quarantine", max_bad=2)
    assert data.span(0, 4)["a"].tolist() == [1, 3, 4, 8]
    assert data.source_rows.tolist() == [0, 2, 3, 5]
    assert f"Left out 2 rows of the wrong length: {path} lines 3, 8." in data.notes


def test_rows_behind_spaced_quotes_are_left_out_too(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1, "x"\n2\n3, "y"\n')
    data = rb.open(path, on_bad_sample="quarantine", max_bad=0.5)
    assert data.span(0, 2)["a"].tolist() == [1, 3]
    assert any(f"1 row of the wrong length: {path} line 3." in note for note in data.notes)


def test_the_place_of_a_missing_value_counts_the_rows_left_out(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,x\n2\n3,\n")
    with pytest.raises(DataError, match=r"t\.csv, line 4 .*column 'b'"):
        rb.open(path, on_bad_sample="quarantine", max_bad=1)
    dropped = rb.open(path, on_bad_sample="quarantine", max_bad=1, missing="drop")
    assert dropped.source_rows.tolist() == [0]
    assert "Dropped 1 of 2 rows" in dropped.notes[-1]


def test_row_numbers_go_on_from_file_to_file(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1\n2,x\n")
    (tmp_path / "b.csv").write_text("a,b\n3,y\n4\n5,z\n")
    data = rb.open(tmp_path, on_bad_sample="quarantine", max_bad=2)
    assert data.source_rows.tolist() == [1, 2, 4]
    assert "a.csv line 2; " in data.notes[-1]


@pytest.mark.parametrize("most", [1, 0.3])
def test_more_than_the_budget_are_refused_naming_the_first(tmp_path, most):
    path = tmp_path / "t.csv"
    path.write_text(CONTENT)
    with pytest.raises(DataError, match=rf"than max_bad={most} bears.*t\.csv lines 3, 8.*max-bad"):
        rb.open(path, on_bad_sample="quarantine", max_bad=most)


def test_a_row_that_may_hold_others_within_is_never_left_out(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,2\n"3,4\n5,6\n7,8\n')
    with pytest.raises(DataError, match=r"line 3 .*A quote that is never closed"):
        rb.open(path, on_bad_sample="quarantine", max_bad=0.9)


def test_no_row_left_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1\n2\n")
    with pytest.raises(DataError, match="every row has the wrong length"):
        rb.open(path, on_bad_sample="quarantine", max_bad=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad_sample": "quarantin"}, r"'stop' or 'quarantine'\. Did you mean 'quarantine'"),
        ({"on_bad_sample": "quarantine"}, "say how many bad samples.*--max-bad"),
        ({"on_bad_sample": "quarantine", "max_bad": 1.5}, "max_bad=1.5 is not valid"),
        ({"on_bad_sample": "quarantine", "max_bad": 0}, "max_bad=0 is not valid"),
        ({"on_bad_sample": "quarantine", "max_bad": True}, "max_bad=True is not valid"),
        ({"max_bad": 3}, "max_bad=3 is for on_bad_sample='quarantine'"),
    ],
)
def test_a_budget_and_its_policy_belong_together(tmp_path, options, message):
    (tmp_path / "t.csv").write_text(CONTENT)
    with pytest.raises(OptionError, match=message):
        rb.open(tmp_path / "t.csv", **options)


def test_only_csv_has_rows_of_the_wrong_length():
    with pytest.raises(OptionError, match="on_bad_sample='quarantine' has no meaning for"):
        rb.open("iris", on_bad_sample="quarantine", max_bad=1)
