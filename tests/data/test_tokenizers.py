"""Texts as tokens: characters, bytes and functions, in the smallest dtype; bad bytes by place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.data import tokenizers
from rightbatch.data.tokenizers import code_dtype, read_tokens
from rightbatch.errors import DataError


def written(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"{place}.txt" for place in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


@given(
    texts=st.lists(st.text(max_size=40), min_size=1, max_size=3),
    piece=st.sampled_from([1, 2, 3, 7, 1 << 22]),
)
def test_characters_are_codes_in_sorted_order(tmp_path_factory, texts, piece):
    paths = written(tmp_path_factory.mktemp("texts"), *(text.encode() for text in texts))
    with pytest.MonkeyPatch.context() as patch:
        # Characters of several bytes are cut between two pieces.
        patch.setattr(tokenizers, "_PIECE_BYTES", piece)
        tokens = read_tokens(paths, "characters")
    whole = "".join(texts)
    assert tokens.categories == tuple(sorted(set(whole)))
    assert "".join(tokens.categories[code] for code in tokens.codes) == whole
    assert tokens.codes.dtype == code_dtype(len(tokens.categories))


@given(contents=st.lists(st.binary(max_size=40), min_size=1, max_size=3))
def test_bytes_are_themselves_whatever_they_mean(tmp_path_factory, contents):
    paths = written(tmp_path_factory.mktemp("bytes"), *contents)
    tokens = read_tokens(paths, "bytes")
    assert (tokens.codes.tobytes(), tokens.categories) == (b"".join(contents), None)


def test_a_function_makes_the_codes_file_by_file(tmp_path):
    seen = []

    def words(text: str) -> list[int]:
        seen.append(text)
        return [len(word) for word in text.split()]

    tokens = read_tokens(written(tmp_path, b"to be or", b"", b"not"), words)
    assert seen == ["to be or", "", "not"]
    assert tokens.codes.tolist() == [2, 2, 2, 3]
    assert tokens.codes.dtype == np.uint8
    assert read_tokens(written(tmp_path, b"a"), words, 50_000).codes.dtype == np.uint16


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([0.5], r"the tokenizer .* on .*0.txt: tokens are whole numbers.*float64"),
        ([[1, 2]], r"shape \(1, 2\)"),
        ([3, -1], r"token 1 \(counting from 0\) is -1; valid are codes from 0 to 9"),
        ([3, 10], r"token 1 .* is 10; valid are codes from 0 to 9, as vocabulary_size=10 says"),
    ],
)
def test_what_a_function_may_not_give(tmp_path, given, told):
    with pytest.raises(DataError, match=told):
        read_tokens(written(tmp_path, b"a b"), lambda _: given, 10)


@pytest.mark.parametrize("piece", [3, 1 << 22])
@pytest.mark.parametrize(
    ("content", "byte", "reason"),
    [
        (b"hello \xff!", "byte 6 .*0xff", "invalid start byte"),
        ("é".encode() * 5 + b"\xc3(", "byte 10 .*0xc3", "invalid continuation byte"),
        (b"cut \xe2\x82", "byte 4 .*0xe2", "unexpected end of data"),
    ],
)
def test_a_text_that_is_not_utf8_is_refused_with_the_byte(
    tmp_path, monkeypatch, content, byte, reason, piece
):
    monkeypatch.setattr(tokenizers, "_PIECE_BYTES", piece)
    paths = written(tmp_path, b"good", content)
    with pytest.raises(DataError, match=f"1.txt is not UTF-8: {byte} .{reason}.*tokenizer='bytes'"):
        read_tokens(paths, "characters")
