"""Opening streams of tokens: which files, which options, what is left out and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import rightbatch as rb
from rightbatch.data.file_region import FileReader
from rightbatch.data.token_windows import TokenWindows
from rightbatch.errors import DataError, OptionError

IDS = np.arange(100, dtype=np.uint16)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("the quick brown fox\n" * 5)
    return path


def test_a_text_is_windows_of_characters_and_what_follows_each(text):
    data = rb.open(text, sequence_length=8)
    assert [(column.name, column.kind) for column in data.columns] == [
        ("tokens", "uint8[8]"),
        ("next", "uint8[8]"),
    ]
    assert data.target == "next"
    categories = data.column("tokens").categories
    assert categories == tuple(sorted(set("the quick brown fox\n")))
    assert categories == data.column("next").categories
    told = {
        name: ["".join(categories[code] for code in row) for row in data.span(0, 2)[name]]
        for name in ("tokens", "next")
    }
    assert told == {"tokens": ["the quic", "k brown "], "next": ["he quick", " brown f"]}
    assert len(data) == 12
    assert data.notes == (
        f"The tokenizer characters made 100 tokens, of which {len(categories)} differ.",
        "Left out the last 3 of 100 tokens, which fill no window of 8 with what follows it.",
    )


def test_a_stride_beyond_the_length_leaves_out_what_lies_between():
    data = rb.open(IDS, sequence_length=3, stride=10)
    assert data.span(0, 2)["tokens"].tolist() == [[0, 1, 2], [10, 11, 12]]
    assert (len(data), data.overlap) == (10, 0)
    assert data.notes == (
        "Left out the last 6 of 100 tokens, which fill no window of 3 with what follows it.",
        "Left out 63 tokens between the windows: the stride 10 is more than their length 3.",
    )


def test_several_files_are_one_stream_in_the_order_of_their_names(tmp_path):
    for name, content in (("b.txt", "456"), ("a.txt", "123"), ("c.md", "789")):
        (tmp_path / name).write_text(content)
    for thing in (tmp_path, str(tmp_path / "*.txt"), f"file://{tmp_path}"):
        data = rb.open(thing, sequence_length=2)
        assert data.array("tokens").tolist() == [[0, 1], [2, 3]]
        assert [path.name for path in data.files] == ["a.txt", "b.txt"]
        assert "6 tokens, of which 6 differ of 2 files, one after the other" in data.notes[0]


@pytest.mark.parametrize("make", [np.asarray, torch.tensor, list], ids=["array", "tensor", "list"])
def test_codes_in_memory_are_a_stream(make):
    data = rb.open(make([5, 3, 400, 1, 0]), sequence_length=2, stride=1)
    assert data.array("next").tolist() == [[3, 400], [400, 1], [1, 0]]
    assert data.array("next").dtype == np.uint16
    assert data.column("next").is_token


def test_windows_of_an_array_are_views_of_it():
    data = rb.open(IDS, sequence_length=4, stride=1)
    assert all(np.shares_memory(data.array(name), IDS) for name in ("tokens", "next"))
    assert not data.array("tokens").flags.writeable


@pytest.mark.parametrize("stride", [4, 1, 9])
def test_codes_in_a_file_are_mapped_and_not_read(tmp_path, stride):
    np.save(tmp_path / "ids.npy", IDS)
    data = rb.open(tmp_path / "ids.npy", sequence_length=4, stride=stride)
    assert all(data.region(name) is not None for name in ("tokens", "next"))
    in_memory = rb.open(IDS, sequence_length=4, stride=stride)
    assert data.fingerprint == in_memory.fingerprint
    np.testing.assert_array_equal(data.array("next"), in_memory.array("next"))
    (tmp_path / "ids.npy").write_bytes((tmp_path / "ids.npy").read_bytes()[:200])
    with pytest.raises(DataError, match="cut off since"):
        data.rows([len(data) - 1])


def test_the_fingerprint_tells_content_length_and_stride_apart(text):
    opened = [
        rb.open(text, sequence_length=8),
        rb.open(text, sequence_length=9),
        rb.open(text, sequence_length=8, stride=4),
        rb.open(text, sequence_length=8, tokenizer="bytes"),
    ]
    text.write_text("the quick brown fax\n" * 5)
    opened.append(rb.open(text, sequence_length=8))
    assert len({data.fingerprint for data in opened}) == len(opened)


def test_a_pickle_holds_the_stream_once(tmp_path):
    data = rb.open(np.arange(5000), sequence_length=100, stride=1)
    content = pickle.dumps(data)
    assert len(content) < 20_000
    again = pickle.loads(content)  # noqa: S301  # our own
    np.testing.assert_array_equal(again.array("next"), data.array("next"))
    assert (again.overlap, again.fingerprint) == (99, data.fingerprint)


def test_transforms_leave_the_file_known(tmp_path):
    np.save(tmp_path / "ids.npy", IDS)
    data = rb.open(tmp_path / "ids.npy", sequence_length=4).transform(rb.cast("int32"))
    assert data.region("tokens") is not None
    assert isinstance(data, TokenWindows)


@pytest.mark.parametrize("stride", [8, 3])
def test_a_pack_keeps_what_the_windows_are(text, tmp_path, stride):
    data = rb.open(text, sequence_length=8, stride=stride)
    pack = rb.pack(data, tmp_path / "pack")
    assert (pack.fingerprint, pack.columns) == (data.fingerprint, data.columns)
    assert pack.overlap == data.overlap == (0 if stride == 8 else 2)
    again = rb.pack(text, tmp_path / "again", sequence_length=8, stride=stride)
    assert again.fingerprint == data.fingerprint
    same = rb.open(tmp_path / "pack", sequence_length=8, stride=stride)
    assert same.fingerprint == data.fingerprint
    with pytest.raises(DataError, match=r"is packed, as windows of 8 tokens.*sequence_length=9"):
        rb.open(tmp_path / "pack", sequence_length=9, stride=stride)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sequence_length": 0}, "sequence_length=0 is not valid"),
        ({"sequence_length": 2.5}, "whole number of tokens"),
        ({"sequence_length": 8, "stride": -1}, "stride=-1 is not valid"),
        ({"stride": 4}, "stride=4 is for streams of tokens.*sequence_length=128"),
        ({"tokenizer": "bytes"}, "tokenizer='bytes' is for streams"),
        ({"sequence_length": 8, "tokenizer": "byte"}, "Did you mean 'bytes'"),
        ({"sequence_length": 8, "tokenizer": 3}, "tokenizer=3 is not valid"),
        ({"sequence_length": 8, "header": True}, "header=True has no meaning for a stream"),
        ({"sequence_length": 8, "missing": "drop"}, "missing='drop' has no meaning"),
    ],
)
def test_options_that_are_refused(text, options, told):
    with pytest.raises(OptionError, match=told):
        rb.open(text, **options)


@pytest.mark.parametrize(
    ("thing", "error", "told"),
    [
        (np.zeros(9), DataError, "tokens are whole numbers in one axis, .* float64"),
        (np.zeros((9, 2), int), DataError, r"int64 of shape \(9, 2\)"),
        (np.array([1, -100, 2]), DataError, "token 1 .* is -100; valid are codes from 0"),
        (np.arange(3), DataError, "has 3 tokens, and a window of 4 .* takes 5"),
        ("nowhere.txt", DataError, "No such file: nowhere.txt"),
        ({"a": [1]}, DataError, "dict is none"),
        ("other://host/a.txt", DataError, "other://"),
    ],
)
def test_what_is_no_stream_is_refused(thing, error, told):
    with pytest.raises(error, match=told):
        rb.open(thing, sequence_length=4)


def test_a_tokenizer_has_no_use_for_codes(tmp_path):
    np.save(tmp_path / "ids.npy", IDS)
    with pytest.raises(OptionError, match=r"holds their codes: leave it out"):
        rb.open(tmp_path / "ids.npy", sequence_length=4, tokenizer="bytes")


def test_a_text_that_is_no_table_is_told_how_it_is_opened(tmp_path):
    (tmp_path / "a.txt").write_text("Speak, friend.\nWell, well, well.\n")
    with pytest.raises(DataError, match="sequence_length=128"):
        rb.open(tmp_path / "a.txt")


@pytest.mark.parametrize("stride", [3, 7, 10])
def test_windows_are_read_from_their_file_as_they_are_from_memory(tmp_path, stride):
    np.save(tmp_path / "ids.npy", IDS)
    data = rb.open(tmp_path / "ids.npy", sequence_length=7, stride=stride)
    for name in ("tokens", "next"):
        reader = FileReader(data.region(name))
        for start, stop in ((0, 1), (2, 9), (len(data) - 1, len(data)), (4, 4)):
            out = np.empty((stop - start, 7), np.uint16)
            reader.read(start, out)
            np.testing.assert_array_equal(out, data.array(name)[start:stop])
        reader.close()
        size = (tmp_path / "ids.npy").stat().st_size
        # One byte less than the last window takes, and it is no longer whole.
        end = data.region(name).offset + 2 * ((len(data) - 1) * stride + 7)
        with (tmp_path / "ids.npy").open("r+b") as file:
            content = file.read()
            file.truncate(end)
            assert data.region(name).whole_rows == len(data)
            file.truncate(end - 1)
            assert data.region(name).whole_rows == len(data) - 1
            file.seek(0)
            file.write(content)
        assert (tmp_path / "ids.npy").stat().st_size == size
