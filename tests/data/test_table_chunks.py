"""Tables read chunk by chunk: the same data set, or the same refusal, as reading files whole."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.data.dataset import Dataset
from rightbatch.data.missing import MissingPolicy
from rightbatch.data.options import OpenOptions
from rightbatch.data.table_chunks import ChunkedTable, open_table_chunks
from rightbatch.data.tables import open_tables
from rightbatch.errors import RightbatchError


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
