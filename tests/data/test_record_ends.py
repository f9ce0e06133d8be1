"""Cutting CSV where a record ends, compared with going through it byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.data import record_ends
from rightbatch.data.record_ends import last_record_end


def byte_by_byte(data: bytes, spaces: bool) -> int:
    """Arrow's reader, or with `spaces` the standard library's, as far as line ends go."""
    end, state = 0, "field start"
    for position, byte in enumerate(data):
        mark = chr(byte)
        if state == "inside":
            state = "closed" if mark == '"' else "inside"
        elif (state == "field start" or state == "closed") and mark == '"':
            state = "inside"
        elif mark in ",\r\n":
            state = "field start"
            is_half = mark == "\r" and data[position + 1 : position + 2] in (b"\n", b"")
            if mark != "," and not is_half:
                end = position + 1
        elif not (spaces and state == "field start" and mark == " "):
            state = "field"
    return end


@given(
    data=st.text('a,"\n\r ', max_size=40).map(str.encode),
    spaces=st.booleans(),
    segment_bytes=st.sampled_from([1, 2, 5, 1 << 20]),
)
def test_the_last_end_is_the_one_that_every_byte_tells(data, spaces, segment_bytes):
    usual, record_ends._SEGMENT_BYTES = record_ends._SEGMENT_BYTES, segment_bytes
    try:
        assert last_record_end(data, ",", spaces_go_before_quotes=spaces) == byte_by_byte(
            data, spaces
        )
    finally:
        record_ends._SEGMENT_BYTES = usual


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", 0),
        (b"a,b", 0),
        (b"a,b\r\nc\r", 5),
        (b"a\rb\r\n", 5),
        (b"a\rb\rc", 4),
        (b'5" pipe\n6" pipe\n7', 16),
        (b'"say ""hi""\n', 0),
        (b'"a\n"\n"b\n', 5),
    ],
)
def test_line_ends_count_outside_of_quotes_alone(data, end):
    assert last_record_end(data, ",") == end
