"""CSV files as people write them."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rightbatch.data as rb
from rightbatch.data.missing import MARKERS
from rightbatch.errors import DataError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def columns_of(data: rb.Dataset) -> dict[str, list[object]]:
    """The values as they stood in the file: texts in place of codes."""
    whole = data.span(0, len(data))
    values = {}
    for column in data.columns:
        found = whole[column.name].tolist()
        if column.categories is not None:
            found = [column.categories[code] for code in found]
        values[column.name] = found
    return values


SAME: dict[str, str | bytes] = {
    "plain": "a,b,c\n1,x,0.5\n2,y,1.5\n",
    "no last line end": "a,b,c\n1,x,0.5\n2,y,1.5",
    "crlf": "a,b,c\r\n1,x,0.5\r\n2,y,1.5\r\n",
    "mixed line ends": "a,b,c\r\n1,x,0.5\r\n2,y,1.5\n",
    "mixed the other way": "a,b,c\n1,x,0.5\r\n2,y,1.5",
    "old Mac": "a,b,c\r1,x,0.5\r2,y,1.5\r",
    "quoted": '"a","b","c"\n"1","x","0.5"\n"2","y","1.5"\n',
    "spaces after the comma": "a, b, c\n1, x, 0.5\n2, y, 1.5\n",
    "spaces on both sides": " a , b , c \n 1 , x , 0.5 \n 2 ,y , 1.5\n",
    "quotes after spaces": 'a, "b", c\n1, "x", 0.5\n2, "y", 1.5\n',
    "byte order mark": b"\xef\xbb\xbfa,b,c\n1,x,0.5\n2,y,1.5\n",
    "blank lines": "\n\na,b,c\n\n1,x,0.5\n\n\n2,y,1.5\n\n",
    "semicolons": "a;b;c\n1;x;0.5\n2;y;1.5\n",
    "tabs": "a\tb\tc\n1\tx\t0.5\n2\ty\t1.5\n",
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("form", SAME)
def test_every_way_to_write_the_same_table(tmp_path, form, zipped):
    content = SAME[form]
    content = content.encode() if isinstance(content, str) else content
    path = tmp_path / ("t.csv.gz" if zipped else "t.csv")
    path.write_bytes(gzip.compress(content) if zipped else content)
    data = rb.open(path)
    assert columns_of(data) == {"a": [1, 2], "b": ["x", "y"], "c": [0.5, 1.5]}
    assert data.column("a").dtype == np.int64


@pytest.mark.parametrize("form", ["plain", "crlf", "byte order mark", "quotes after spaces"])
def test_without_a_header_columns_are_counted(tmp_path, form):
    content = SAME[form]
    content = content if isinstance(content, bytes) else content.encode()
    mark = b"\xef\xbb\xbf" if content.startswith(b"\xef") else b""
    rows = content.split(b"\n", 1)[1]
    data = rb.open(write(tmp_path / "t.csv", mark + rows), header=False, target=-1)
    assert columns_of(data) == {
        "column_0": [1, 2],
        "column_1": ["x", "y"],
        "column_2": [0.5, 1.5],
    }
    assert data.target == "column_2"


def test_quoted_fields_hold_commas_quotes_and_line_ends(tmp_path):
    path = write(tmp_path / "t.csv", '"a\nname",b\n"one,\r\ntwo","say ""hi"""\nplain,z\n')
    data = rb.open(path)
    assert columns_of(data) == {"a\nname": ["one,\r\ntwo", "plain"], "b": ['say "hi"', "z"]}


def test_an_old_line_end_inside_of_quotes_stays_where_quotes_follow_spaces(tmp_path):
    path = write(tmp_path / "t.csv", 'a, "b"\n"one\rtwo", "x"\n')
    assert columns_of(rb.open(path)) == {"a": ["one\rtwo"], "b": ["x"]}


@pytest.mark.parametrize("name", ["t.tsv", "t.tab", "t.data", "t.txt", "t.CSV"])
def test_endings(tmp_path, name):
    mark = "\t" if name in ("t.tsv", "t.tab") else ","
    path = write(tmp_path / name, f"a{mark}b\n1{mark}2,5\n" if mark == "\t" else "a,b\n1,2\n")
    assert len(rb.open(path)) == 1


def test_types_are_inferred_from_all_rows(tmp_path):
    rows = "".join(f"{k},{k},true,2019-01-02 00:00:01,12:00\n" for k in range(1, 3000))
    path = write(tmp_path / "t.csv", f"a,b,c,d,e\n{rows}0.5,z,false,2019-01-02 00:00:02,12:01\n")
    data = rb.open(path)
    assert data.column("a").dtype == np.float64
    assert data.column("b").categories is not None
    assert data.column("c").dtype == np.bool_
    last = data.span(len(data) - 1, len(data))
    assert last["d"][0] == np.datetime64("2019-01-02T00:00:02").astype(int)
    assert last["e"][0] == 12 * 3600 + 60
    assert any("seconds since 1970-01-01: d" in note for note in data.notes)


def test_types_behind_spaces_are_inferred_too(tmp_path):
    path = write(
        tmp_path / "t.csv",
        "a, b, c, d\n1, true, 2019-01-02 03:04:05,  7\n2, false, 2019-01-02 03:04:06,  ?\n",
    )
    data = rb.open(path, missing="fill:9")
    assert columns_of(data)["d"] == [7, 9]
    assert data.column("b").dtype == np.bool_
    assert np.diff(data.span(0, 2)["c"]).tolist() == [1.0]


def test_a_row_longer_than_a_block_is_read(tmp_path):
    path = write(tmp_path / "t.csv", f"a,b\n1,{'x' * 5_000_000}\n2,y\n")
    assert len(rb.open(path, columns=["a"])) == 2


# Headers


@pytest.mark.parametrize(
    ("content", "doubt"),
    [
        ("39, Private, 7\n50, Public, 8\n", "'39' is a number above a column of numbers"),
        ("x,1.5\ny,2.5\nz,?\n", "'1.5' is a number above a column of numbers"),
        (",a,b\n0,1,2\n", "the name of column 1 is empty"),
        ("a,b,a\n0,1,2\n", "the name 'a' stands there twice"),
    ],
)
def test_a_first_row_that_looks_like_data_is_refused(tmp_path, content, doubt):
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(DataError) as refusal:
        rb.open(path)
    for word in (str(path), doubt, "line 1", "header=False", "--no-header", "--header"):
        assert word in str(refusal.value)
    assert len(rb.open(path, header=False, missing="fill")) == content.count("\n")


def test_a_header_can_be_forced(tmp_path):
    path = write(tmp_path / "t.csv", ",2019,2020\n0,1,2\n")
    data = rb.open(path, header=True)
    assert columns_of(data) == {"column_0": [0], "2019": [1], "2020": [2]}


def test_a_forced_header_still_has_to_tell_columns_apart(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,a\n0,1,2\n")
    with pytest.raises(DataError, match=r"'a' stands there twice \(line 1\)"):
        rb.open(path, header=True)


def test_numbers_as_names_over_text_are_names(tmp_path):
    assert len(rb.open(write(tmp_path / "t.csv", "1,2\nx,y\n"))) == 1


# Bad files


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("a,b\n1,2\n3\n", 3, "1 field found, 2 expected"),
        ("a,b\n1,2\n\n3,4,5\n", 4, "3 fields found, 2 expected"),
        ('a,b\n1,"x\ny"\n3\n', 4, "1 field found, 2 expected"),
        ("a,b\n" + "1,2\n" * 500 + "1\n" + "1,2\n" * 500, 502, "1 field found, 2 expected"),
        ('a,b\n1, "x,y"\n2\n', 3, "1 field found, 2 expected"),
        ("a,b\n1,2,3\n4,5,6\n", 2, "3 fields found, 2 expected"),
    ],
)
def test_a_ragged_row_is_named(tmp_path, content, line, found):
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(DataError) as refusal:
        rb.open(path)
    for word in (f"{path}, line {line} (the header counts)", found, "Repair or delete"):
        assert word in str(refusal.value)


def test_a_ragged_row_without_header(tmp_path):
    path = write(tmp_path / "t.csv", "1,2\n" * 100 + "3\n")
    with pytest.raises(DataError, match=r"t\.csv, line 101: 1 field found, 2 expected"):
        rb.open(path, header=False)


def test_a_quote_that_is_never_closed(tmp_path):
    path = write(tmp_path / "t.csv", 'a,b\n1,2\n"3,4\n5,6\n')
    with pytest.raises(DataError, match=r"line 3 .*1 field.*A quote that is never closed"):
        rb.open(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n  \n", "zero rows|blank lines alone"),
        (b"\n\n", "blank lines alone"),
        (b"a,b\n", r"header alone.*--no-header"),
        (b"a,b", r"header alone.*--no-header"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16.*UTF-8"),
        (b"PAR1\x00\x01", r"\.parquet"),
        (b"a,b\n1,x\n2,caf\xe9\n", r"line 3 .*column 'b' is no UTF-8"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, content, message):
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(DataError, match=message) as refusal:
        rb.open(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("cut", [1, 9])
def test_a_cut_gzip_is_refused(tmp_path, cut):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:-cut])
    with pytest.raises(DataError, match=r"t\.csv\.gz is no readable gzip"):
        rb.open(path)
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(DataError, match=r"t\.csv\.gz is no readable gzip"):
        rb.open(path)


def test_neither_success_nor_refusal_leaves_a_file_open(tmp_path, files_open):
    good = write(tmp_path / "good.csv", "a,b\n1,2\n")
    bad = [
        write(tmp_path / "ragged.csv", "a,b\n" + "1,2\n" * 50 + "1\n"),
        write(tmp_path / "missing.csv", "a,b\n1,2\n,3\n"),
        write(tmp_path / "header.csv", "a,b\n"),
        write(tmp_path / "latin.csv", b"a,b\n1,\xe9\n"),
    ]
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a\n" * 999)[:-9])
    rb.open(good)
    for path in [*bad, tmp_path / "cut.csv.gz"]:
        with pytest.raises(DataError):
            rb.open(path)
    assert files_open(tmp_path) == []


TEXTS = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]),
    min_size=1,
    max_size=8,
).filter(lambda text: text == text.strip() and text not in MARKERS)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(-(2**53), 2**53),
            st.floats(allow_nan=False, allow_infinity=False),
            TEXTS.map(lambda text: f"t{text}"),
        ),
        min_size=1,
        max_size=30,
    ),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_the_standard_library_writes_comes_back(tmp_path_factory, rows, line_end, quoting):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end, quoting=quoting)
    writer.writerow(["whole", "number", "text"])
    writer.writerows((whole, repr(number), word) for whole, number, word in rows)
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.getvalue().encode())
    found = columns_of(rb.open(path))
    assert found["whole"] == [row[0] for row in rows]
    assert found["number"] == [row[1] for row in rows]
    assert found["text"] == [row[2] for row in rows]
