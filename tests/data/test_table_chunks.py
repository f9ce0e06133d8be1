"""Tables read chunk by chunk: the same data set, or the same refusal, as reading files whole."""

from __future__ import annotations

import gc
import gzip
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.data import csv_chunks
from rightbatch.data.dataset import Dataset
from rightbatch.data.missing import MissingPolicy
from rightbatch.data.options import OpenOptions
from rightbatch.data.source_signature import source_signature
from rightbatch.data.table_chunks import ChunkedTable, open_table_chunks
from rightbatch.data.tables import open_tables
from rightbatch.errors import DataError, RightbatchError
from rightbatch.testing import check_dataset


def options_of(**given_options) -> OpenOptions:
    missing = MissingPolicy.parse(given_options.pop("missing", "refuse"))
    return OpenOptions(missing=missing, **given_options)


def outcome(opener) -> Dataset | RightbatchError:
    try:
        return opener()
    except RightbatchError as error:
        return error


def assert_same_as_whole(paths, options: OpenOptions, chunk_bytes: int) -> ChunkedTable | None:
    """The table in chunks, once it was found to be the one read whole; None where both refuse."""
    whole = outcome(lambda: open_tables(paths, options, source="t"))
    chunked = outcome(
        lambda: open_table_chunks(paths, options, source="t", chunk_bytes=chunk_bytes)
    )
    if isinstance(whole, RightbatchError):
        assert isinstance(chunked, RightbatchError), f"only reading whole refuses: {whole}"
        assert (type(chunked), str(chunked)) == (type(whole), str(whole))
        return None
    assert not isinstance(chunked, RightbatchError), f"only reading in chunks refuses: {chunked}"
    assert isinstance(chunked, ChunkedTable)
    assert chunked.columns == whole.columns
    assert (chunked.target, chunked.notes, chunked.files) == (
        whole.target,
        whole.notes,
        whole.files,
    )
    assert len(chunked) == len(whole)
    found, expected = chunked.span(0, len(chunked)), whole.span(0, len(whole))
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes(), name
    if whole.source_rows is None:
        assert chunked.source_rows is None
    else:
        assert chunked.source_rows.tolist() == whole.source_rows.tolist()
    return chunked


def write(path: Path, content: str | bytes) -> Path:
    content = content.encode("utf-8") if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


# Messy CSV

FIELDS = {
    "whole": ["0", "1", "5", "-7", "12345678901", "99999999999999999999", "0x1F", "007"],
    "bit": ["0", "1", "true", "false", "True", "tRuE"],
    "number": ["0.5", "1e5", "-2", "inf", "nan", "-nan", "+3", "1"],
    "day": ["2019-01-02", "2019-01-02 03:04:05", "2019-01-02 03:04:05.25", "0001-01-01"],
    "moment": ["2019-01-02T03:04:05Z", "2019-01-02 03:04", "12:30", "2300-01-01 00:00:00.5"],
    "word": ["x", "y z", "é", "日本", "\ufeff", "a,b", 'say "hi"', "two\nlines", "old\rmac", "5"],
    "gap": ["", "?", "NA", " ?", "  NA ", "None"],
}
LINE_ENDS = ["\n", "\r\n", "\r"]


@st.composite
def messy_csv(draw, delimiter: str) -> str:
    """Columns that are mostly of one kind, with gaps, spaces and quotes strewn in."""
    names = ("a", "b", "c")
    kinds = [draw(st.lists(st.sampled_from(list(FIELDS)), min_size=1, max_size=2)) for _ in names]
    spaced = draw(st.sampled_from([0, 0, 8]))
    quoted = draw(st.sampled_from([0, 0, 3, 10]))
    gappy = draw(st.sampled_from([0, 0, 6]))
    ragged = draw(st.sampled_from([0, 0, 0, 30]))
    # Old line ends come alone, or seldom.
    ends = draw(st.sampled_from([["\n"], ["\n"], ["\r\n"], ["\r"], LINE_ENDS]))
    chance = st.integers(1, 40)

    def field(kind: str) -> str:
        if draw(chance) <= gappy:
            kind = "gap"
        text = draw(st.sampled_from(FIELDS[kind]))
        spaces = draw(st.sampled_from(["", " ", "  "])) if draw(chance) <= spaced else ""
        needs_quotes = any(mark in text for mark in (delimiter, "\n", "\r"))
        # A quote in a field that is not quoted is text.
        may_need_them = '"' in text and draw(st.booleans())
        if needs_quotes or may_need_them or draw(chance) <= quoted:
            text = '"' + text.replace('"', '""') + '"'
        return spaces + text + (draw(st.sampled_from(["", " "])) if spaces else "")

    lines = [delimiter.join(names)]
    for _ in range(draw(st.integers(1, 25))):
        fields = [field(draw(st.sampled_from(kind))) for kind in kinds]
        if draw(chance) <= ragged:
            fields = fields[:-1] if draw(st.booleans()) else [*fields, "more"]
        lines.append(delimiter.join(fields))
        if draw(chance) == 1:
            lines.append("")
    text = "".join(line + draw(st.sampled_from(ends)) for line in lines)
    return text if draw(st.booleans()) else text.rstrip("\r\n")


OPTIONS = st.fixed_dictionaries(
    {"missing": st.sampled_from(["refuse", "drop", "fill", "fill:0.5", "fill:no"])},
    optional={
        "target": st.sampled_from(["a", "c"]),
        "columns": st.sampled_from([["b"], ["c", "a"]]),
        "header": st.booleans(),
        "categories": st.just("one-hot"),
        "on_bad_sample": st.just("quarantine"),
    },
).map(lambda made: {**made, "max_bad": 0.2} if "on_bad_sample" in made else made)


@given(
    files=st.sampled_from([",", ",", ";", "\t"]).flatmap(
        lambda delimiter: st.lists(messy_csv(delimiter), min_size=1, max_size=2)
    ),
    given_options=OPTIONS,
    chunk_bytes=st.sampled_from([1, 64, 200, 5000]),
    ending=st.sampled_from(["csv", "csv", "csv.gz", "tsv"]),
    mark=st.booleans(),
)
def test_messy_csv_in_chunks_is_messy_csv_read_whole(
    tmp_path_factory, files, given_options, chunk_bytes, ending, mark
):
    folder = tmp_path_factory.mktemp("csv")
    start = b"\xef\xbb\xbf" if mark else b""
    paths = [
        write(folder / f"{index}.{ending}", start + content.encode())
        for index, content in enumerate(files)
    ]
    assert_same_as_whole(paths, options_of(**given_options), chunk_bytes)


@st.composite
def messy_parquet(draw) -> pa.Table:
    rows = draw(st.integers(1, 30))

    def column(values) -> list:
        return draw(st.lists(st.one_of(st.none(), values), min_size=rows, max_size=rows))

    kinds = [pa.int16(), pa.uint32(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(9, 2)]
    days = st.dates(min_value=np.datetime64("1900-01-01").item())
    return pa.table(
        {
            "number": pa.array(column(st.integers(0, 99)), draw(st.sampled_from(kinds))),
            "float": pa.array(column(st.floats(allow_infinity=False)), pa.float64()),
            "flag": pa.array(column(st.booleans()), pa.bool_()),
            "day": pa.array(column(days), draw(st.sampled_from([pa.date32(), pa.date64()]))),
            "word": pa.array(column(st.sampled_from("xyz")), pa.string()).cast(
                draw(st.sampled_from([pa.string(), pa.dictionary(pa.int32(), pa.string())]))
            ),
            "nothing": pa.array(column(st.nothing() | st.none()), pa.null()),
        }
    )


@given(
    tables=st.lists(messy_parquet(), min_size=1, max_size=3),
    columns=st.sampled_from([None, ["number"], ["word", "number", "day"], ["flag", "float"]]),
    missing=st.sampled_from(["refuse", "drop", "fill", "fill:1", "fill:0.5"]),
    row_group=st.sampled_from([1, 7, 1000]),
    chunk_bytes=st.sampled_from([1, 64, 500, 100_000]),
    one_hot=st.booleans(),
)
def test_parquet_in_chunks_is_parquet_read_whole(
    tmp_path_factory, tables, columns, missing, row_group, chunk_bytes, one_hot
):
    folder = tmp_path_factory.mktemp("parquet")
    paths = []
    for index, table in enumerate(tables):
        paths.append(folder / f"{index}.parquet")
        pq.write_table(table, paths[-1], row_group_size=row_group)
    options = options_of(
        missing=missing, columns=columns, categories="one-hot" if one_hot else "codes"
    )
    assert_same_as_whole(paths, options, chunk_bytes)


# Examples


def open_chunks(paths, chunk_bytes=64, **given_options) -> ChunkedTable:
    return open_table_chunks(
        paths, options_of(**given_options), source="t", chunk_bytes=chunk_bytes
    )


ROWS = "".join(f"{k},{k / 4},{'ab'[k % 2]},{'' if k % 7 == 3 else k}\n" for k in range(100))
PLAIN = f"n,half,word,gap\n{ROWS}"


@pytest.fixture(params=["csv", "csv.gz", "parquet"])
def table(request, tmp_path) -> Path:
    path = tmp_path / f"t.{request.param}"
    if request.param == "parquet":
        numbers = np.arange(100)
        columns = {
            "n": numbers,
            "half": numbers / 4,
            "word": [text.split(",")[2] for text in ROWS.splitlines()],
            "gap": [None if k % 7 == 3 else k for k in range(100)],
        }
        pq.write_table(pa.table(columns), path, row_group_size=40)
    else:
        write(path, PLAIN)
    return path


@pytest.mark.parametrize("categories", ["codes", "one-hot"])
def test_a_table_in_chunks_keeps_the_promises_of_a_data_set(table, categories):
    data = open_chunks([table, table], missing="drop", target="half", categories=categories)
    check_dataset(data)
    whole = open_tables(
        [table, table],
        options_of(missing="drop", target="half", categories=categories),
        source="t",
    )
    assert data.fingerprint == whole.fingerprint
    picks = np.array([150, 3, 3, 77, 0])
    for name, array in whole.rows(picks).items():
        assert data.rows(picks)[name].tolist() == array.tolist()


def test_spans_in_any_order_are_the_same(table):
    data = open_chunks([table], missing="fill")
    forward = [data.span(start, start + 10)["n"].tolist() for start in range(0, 100, 10)]
    backward = [data.span(start, start + 10)["n"].tolist() for start in range(90, -1, -10)]
    assert forward == backward[::-1]
    assert list(chain.from_iterable(forward)) == list(range(100))
    assert {name: len(array) for name, array in data.span(7, 7).items()} == dict.fromkeys(
        ["n", "half", "word", "gap"], 0
    )


def test_a_table_in_chunks_goes_to_another_process_with_its_place_in_the_file(table):
    data = open_chunks([table], missing="fill")
    data.span(0, 50)
    other = pickle.loads(pickle.dumps(data))  # noqa: S301  # our own bytes
    assert other.span(50, 60)["n"].tolist() == data.span(50, 60)["n"].tolist()


def test_threads_that_read_at_once_take_turns(table):
    data = open_chunks([table], missing="fill")
    with ThreadPoolExecutor(4) as pool:
        starts = [10 * (k % 10) for k in range(200)]
        found = list(pool.map(lambda start: data.span(start, start + 10)["n"].tolist(), starts))
    assert found == [list(range(start, start + 10)) for start in starts]


def test_one_file_is_open_at_a_time_and_none_once_the_data_are_gone(table, files_open):
    data = open_chunks([table] * 9, missing="fill")
    data.span(0, len(data))
    assert len(files_open(table)) == 1
    del data
    gc.collect()
    assert files_open(table) == []


def test_source_rows_of_a_span_are_those_of_the_whole(table):
    data = open_chunks([table, table], missing="drop")
    assert data.source_rows is not None
    assert data.source_rows_of(20, 120).tolist() == data.source_rows[20:120].tolist()
    assert 3 not in data.source_rows.tolist()
    assert data.source_rows[-1] == 199


@pytest.mark.parametrize("change", ["longer", "shorter", "touched", "gone"])
def test_a_file_that_changes_after_the_survey_is_noticed(table, change):
    data = open_chunks([table], missing="fill")
    data.span(0, 3)
    signature = data.source_signature
    content = table.read_bytes()
    if change == "gone":
        table.unlink()
    else:
        table.write_bytes({"longer": content * 2, "shorter": content[:-9]}.get(change, content))
    with pytest.raises(DataError, match=rf"{table.name}.* (has changed since|cannot be read)"):
        data.span(50, 100)
    if change != "gone":
        changed = source_signature([table], options_of(missing="fill"))
        assert changed != signature


def test_a_signature_tells_options_apart_and_names_no_folder(tmp_path):
    path = write(tmp_path / "t.csv", PLAIN)
    one = source_signature([path], options_of(columns=["n"], name="first"))
    assert one == source_signature([path], options_of(columns=("n",), name="second"))
    assert one != source_signature([path], options_of(columns=["half"]))
    (tmp_path / "other").mkdir()
    assert one == source_signature(
        [path.rename(tmp_path / "other" / "t.csv")], options_of(columns=["n"])
    )


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        pytest.param('a,b\n5" pipe,1\n6" pipe,2\n' * 20, "refuse", id="a quote inside of text"),
        pytest.param('a,b\n"x\n\n\ny",1\n' * 20, "refuse", id="blank lines in quotes"),
        pytest.param("a,b\r1,x\r2,y\r" * 20, "refuse", id="old line ends"),
        pytest.param("a\n" + "1\n" * 50 + "true\n", "refuse", id="ones, then a word"),
        pytest.param("a\n" + "7\n" * 50 + "true\n", "refuse", id="sevens, then a word"),
        pytest.param("a\n" + "0x1F\n" * 50 + "0.5\n", "refuse", id="hexadecimals are no floats"),
        pytest.param("a\n" + "1\n" * 50 + "0.5\n", "refuse", id="whole numbers are floats"),
        pytest.param("a\n" + " 0x1F\n5\n" * 20 + "  ?\n0.5\n", "drop", id="the same, spaced"),
        pytest.param("a\n" + " true\n" * 50 + "x\n", "refuse", id="true, then text"),
        pytest.param("a,b\n" + "1,\n" * 50 + "2,5\n", "fill", id="nothing, then a number"),
        pytest.param("a,b\n" + "1,-nan\n" * 50 + "2,x\n", "drop", id="not a number, then text"),
        pytest.param("a\n" + "2019-01-02\n" * 9 + "2019-01-02 03:04:05.5\n", "drop", id="dates"),
        pytest.param("a\n" + "0001-01-01\n" * 9 + "2019-01-02 03:04:05.5\n", "drop", id="early"),
        pytest.param('a,b\n1,2\n3, "x,y"\n" z",4\n' * 9, "refuse", id="quotes after spaces"),
        pytest.param(
            'a,b\n1,2\n "x\ny",3\n' + "1,2\n" * 30 + '4, "z"\n', "refuse", id="spaced quotes late"
        ),
        pytest.param("a,b\n1,2\n3\n", "refuse", id="ragged"),
        pytest.param("a,b\n" + "1,2\n" * 50 + "3\n", "refuse", id="ragged late"),
        pytest.param('a,b\n1,2\n"3,4\n' + "5,6\n" * 30, "refuse", id="never closed"),
        pytest.param("a,b\n" + "1,x\n" * 50 + "2,", "refuse", id="a gap at the end"),
        pytest.param("a,b\n" + "1,x\n" * 50 + "inf,y", "refuse", id="infinite at the end"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 40, 10_000])
def test_what_is_hard_to_cut_is_as_it_is_whole(tmp_path, content, missing, chunk_bytes):
    path = write(tmp_path / "t.csv", content)
    assert_same_as_whole([path], options_of(missing=missing), chunk_bytes)
    assert_same_as_whole([path], options_of(missing=missing, target="a"), chunk_bytes)


@pytest.mark.parametrize("chunk_bytes", [1, 16, 10_000])
def test_bytes_that_are_no_text_are_refused_in_their_line(tmp_path, chunk_bytes):
    path = write(tmp_path / "t.csv", b"a,b\n1,x\n2,y\n3,caf\xe9\n4,\xff\n")
    with pytest.raises(DataError, match=r"t\.csv, line 4 \(the header counts\): column 'b'"):
        open_chunks([path], chunk_bytes)
    assert_same_as_whole([path], options_of(), chunk_bytes)


def test_text_in_one_file_and_numbers_in_another_name_the_first_text(tmp_path):
    paths = [
        write(tmp_path / "a.csv", "x,y\n1,2\n"),
        write(tmp_path / "b.csv", "x,y\n" + "3,4\n" * 50 + "5,oops\n"),
    ]
    assert assert_same_as_whole(paths, options_of(), 20) is None
    with pytest.raises(DataError, match=r"'oops' at .*b\.csv, line 52"):
        open_chunks(paths)


def test_a_quote_that_swallows_the_file_is_refused_before_memory_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_chunks, "MOST_FIELD_CHARACTERS", 5000)
    path = write(tmp_path / "t.csv", "a,b\n" + "1,2\n" * 30 + '"3,4\n' + "5,6\n" * 9000)
    with pytest.raises(DataError, match=r"line 32: a record of more than 5,000 bytes.*closed\?"):
        open_chunks([path], 20)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sex,sex=F\nF,1\nM,0\n", "'sex=F'"),
        ("x\n" + "".join(f"name {k}\n" for k in range(10_001)), "10,001 different texts"),
    ],
)
def test_one_hot_columns_that_cannot_be_are_refused(tmp_path, content, message):
    path = write(tmp_path / "t.csv", content)
    assert assert_same_as_whole([path], options_of(categories="one-hot"), 5000) is None
    with pytest.raises(DataError, match=message):
        open_chunks([path], categories="one-hot")


def test_a_nested_column_of_parquet_is_refused_by_name(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"good": [1, 2], "bad": [[1], [2, 3]]}), path)
    assert assert_same_as_whole([path], options_of(), 100) is None
    assert assert_same_as_whole([path], options_of(columns=["good"]), 100) is not None


@pytest.mark.parametrize("cut", [1, 9])
def test_a_cut_gzip_is_refused(tmp_path, cut):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:-cut])
    assert assert_same_as_whole([path], options_of(), 100) is None


def test_a_damaged_page_of_parquet_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    words = pa.table({"word": [f"word {k}" for k in range(1000)]})
    pq.write_table(words, path, use_dictionary=False, compression="none")
    content = bytearray(path.read_bytes())
    content[100:2000] = b"\xff" * 1900
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.parquet is damaged"):
        open_chunks([path])


def test_a_record_longer_than_a_chunk_makes_a_longer_chunk(tmp_path):
    path = write(tmp_path / "t.csv", f'a,b\n1,x\n2,"{"y" * 5000}\n"\n3,z\n')
    assert_same_as_whole([path], options_of(), 64)


def test_rows_of_the_wrong_length_are_listed_with_their_lines(tmp_path):
    lines = [f'{k},"{k}\n"' if k % 10 == 0 else f"{k},x" for k in range(100)]
    lines[33], lines[77] = "33", "77,x,y"
    path = write(tmp_path / "t.csv", "a,b\n" + "\n".join(lines))
    quarantine = options_of(on_bad_sample="quarantine", max_bad=2)
    data = assert_same_as_whole([path], quarantine, 50)
    assert data is not None
    # Each tenth row takes two lines.
    assert any(f"{path} lines 39, 87." in note for note in data.notes)
    with pytest.raises(DataError, match=r"max_bad=1 bears.*lines 39, 87"):
        open_chunks([path], on_bad_sample="quarantine", max_bad=1)


def test_progress_is_told_and_ends_at_the_size_of_the_files(table):
    told = []
    open_table_chunks(
        [table, table],
        options_of(missing="fill"),
        source="t",
        chunk_bytes=64,
        watch=lambda done, size: told.append((done, size)),
    )
    size = 2 * table.stat().st_size
    assert told[-1] == (size, size)
    assert told == sorted(told)


# Real data and real sizes


@pytest.mark.parametrize("missing", ["drop", "fill"])
def test_the_taxi_months_in_chunks_are_the_taxi_months(real_data, missing):
    paths = sorted((real_data / "nyc-taxi-2019").glob("*.csv"))
    options = options_of(target="fare_amount", missing=missing)
    data = assert_same_as_whole(paths, options, 100_000)
    assert data is not None
    assert len(data) == (113_301 if missing == "drop" else 120_000)


def test_adult_in_chunks_is_adult(real_data):
    options = options_of(header=False, target=-1, missing="fill", categories="one-hot")
    assert assert_same_as_whole([real_data / "adult" / "adult.data"], options, 50_000) is not None


WALK = """
import resource, sys
from pathlib import Path
import pyarrow.compute, pyarrow.csv
from rightbatch.data.options import OpenOptions
from rightbatch.data.table_chunks import open_table_chunks

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = open_table_chunks([Path(sys.argv[1])], OpenOptions(), source="t", chunk_bytes=16 << 20)
for start in range(0, len(data), 50_000):
    data.span(start, min(start + 50_000, len(data)))
print(len(data), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts in other units elsewhere")
def test_a_file_of_many_chunks_is_walked_through_in_the_memory_of_a_few(tmp_path):
    generator = np.random.default_rng(0)
    count = 100_000
    block = pa.table(
        {
            "whole": generator.integers(0, 10**9, count),
            "number": np.round(generator.gamma(2, 7, count), 2),
            "when": np.datetime64("2019-01-01T00:00:00") + generator.integers(0, 10**7, count),
            "word": np.array([f"zone {k}" for k in range(260)])[generator.integers(0, 260, count)],
        }
    )
    buffer = pa.BufferOutputStream()
    arrow_csv.write_csv(block, buffer, arrow_csv.WriteOptions(include_header=False))
    rows = buffer.getvalue().to_pybytes()
    times = 200_000_000 // len(rows)
    path = tmp_path / "t.csv"
    with path.open("wb") as file:
        file.write(b"whole,number,when,word\n")
        for _ in range(times):
            file.write(rows)
    walked = subprocess.run(
        [sys.executable, "-c", WALK, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    length, above = map(int, walked.stdout.split())
    assert length == times * count
    # Six chunks, and what Arrow's own threads and pools hold however small the chunks are.
    assert above < 6 * (16 << 20) + (80 << 20)
