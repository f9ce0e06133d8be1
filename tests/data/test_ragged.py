"""A Ragged is the list of its entries, in two arrays."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

import rightbatch as rb
from rightbatch.data import ragged as ragged_module
from rightbatch.data.ragged import Ragged, offsets_of, wrong_offsets


@st.composite
def lists_of_entries(draw, most=12):
    dtype = draw(st.sampled_from(["u1", "<i2", "<f4", "<f8", "?"]))
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=most))
    return [
        draw(numpy_strategies.arrays(dtype, (length, *shape), elements=st.integers(0, 1)))
        for length in lengths
    ]


def same(ragged: Ragged, entries) -> bool:
    return len(ragged) == len(entries) and all(
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        for one, other in zip(ragged, entries, strict=True)
    )


@pytest.fixture(params=[0, 250], ids=["entry by entry", "by index"])
def both_ways(request, monkeypatch):
    monkeypatch.setattr(ragged_module, "_LONG", request.param)


@pytest.mark.usefixtures("both_ways")
class TestAsAList:
    @given(entries=lists_of_entries(), drawn=st.data())
    def test_it_gives_what_the_list_gives(self, entries, drawn):
        ragged = Ragged.from_list(entries, dtype=entries[0].dtype)
        assert same(ragged, entries)
        assert ragged.lengths.tolist() == [len(entry) for entry in entries]
        start, stop = drawn.draw(st.integers(-14, 14)), drawn.draw(st.integers(-14, 14))
        step = drawn.draw(st.sampled_from([1, 2, -1, -3]))
        assert same(ragged[start:stop:step], entries[start:stop:step])
        part = ragged[start:stop]
        assert part.offsets[0] == 0
        assert part.offsets[-1] == len(part.values)
        rows = drawn.draw(st.lists(st.integers(0, len(entries) - 1), max_size=20))
        taken = ragged.take(rows)
        assert same(taken, [entries[row] for row in rows])
        assert taken.values.flags.writeable
        assert not np.shares_memory(taken.values, ragged.values)
        mask = np.isin(np.arange(len(entries)), rows)
        assert same(ragged[mask], [entries[row] for row in np.flatnonzero(mask)])
        negative = np.array(rows, np.int64) - len(entries)
        assert ragged[negative] == taken
        # Of a part as of the whole.
        inside = [row % len(part) for row in rows] if len(part) else []
        assert same(part.take(inside), [entries[start:stop][row] for row in inside])
        both = Ragged.concatenate([ragged, part])
        assert same(both, entries + entries[start:stop])

    @given(entries=lists_of_entries(), length=st.none() | st.integers(0, 8))
    def test_padding_keeps_every_value_and_marks_it(self, entries, length):
        ragged = Ragged.from_list(entries, dtype=entries[0].dtype)
        values, mask = ragged.padded(fill=1, length=length)
        longest = max(map(len, entries)) if length is None else length
        assert values.shape == (len(entries), longest, *ragged.shape)
        assert mask.shape == values.shape[:2]
        for entry, row, is_value in zip(entries, values, mask, strict=True):
            kept = entry[:longest]
            assert row[is_value].tobytes() == kept.tobytes()
            assert is_value.tolist() == [True] * len(kept) + [False] * (longest - len(kept))
            assert (row[~is_value] == 1).all()


@given(texts=st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_texts_and_bytes_come_back(texts):
    ragged = Ragged.from_list(texts)
    assert ragged.is_text
    assert ragged.texts() == texts
    contents = [text.encode() for text in texts]
    of_bytes = Ragged.from_list(contents)
    assert not of_bytes.is_text
    assert [entry.tobytes() for entry in of_bytes] == contents
    assert (of_bytes == ragged) is False


def test_an_entry_and_a_slice_are_views_and_read_only_where_the_source_is():
    values = np.arange(6)
    values.flags.writeable = False
    ragged = Ragged(values, np.array([0, 2, 6]))
    assert np.shares_memory(ragged[1], values)
    assert np.shares_memory(ragged[1:].values, values)
    assert not ragged[1].flags.writeable
    assert not ragged.offsets.flags.writeable
    assert ragged.copy().values.flags.writeable


@pytest.mark.parametrize(
    ("offsets", "problem"),
    [
        ([1, 4], "the first one is 1"),
        ([0, 3, 2, 4], "entry 1 ends at 2"),
        ([0, 5], "the last one is 5, and there are 4 values"),
        ([0, 3], "the last one is 3"),
        ([0, -1, 4], "entry 0 ends at -1"),
        ([], r"shape \(0,\)"),
        ([[0, 4]], r"shape \(1, 2\)"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(offsets, problem):
    with pytest.raises(rb.DataError, match=problem):
        Ragged(np.arange(4), np.array(offsets, np.int64))


def test_offsets_are_checked_across_pieces(monkeypatch):
    monkeypatch.setattr(ragged_module, "_OFFSETS_OF_CHECK", 2)
    for wrong in range(1, 7):
        offsets = np.arange(8)
        offsets[wrong] = 7 if wrong < 6 else 0
        assert f"entry {wrong if wrong < 6 else 5} ends" in (wrong_offsets(offsets, 7) or "")
    assert wrong_offsets(np.arange(8), 7) is None


@given(damage=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4))
def test_offsets_damaged_after_the_check_never_read_outside_of_the_values(damage):
    offsets = np.array([0, 2, 2, 5])
    ragged = Ragged(np.arange(5), offsets)
    offsets[:] = damage  # as a file might change under its map
    for read in (
        lambda: ragged.take([0, 1, 2]),
        lambda: ragged[0:2],
        lambda: ragged[2],
        lambda: ragged[1:3],
    ):
        found = None
        with contextlib.suppress(rb.DataError):
            found = read()
        if found is not None:
            values = found.values if isinstance(found, Ragged) else found
            assert np.isin(values, np.arange(5)).all()


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        (["a", b"b"], "entry 1 .* is bytes, and the first one is text"),
        ([b"a", "b"], "entry 1 .* is str, and the first one is bytes"),
        ([[1], "b"], "entry 1 .* is str"),
        ([[1], 2], r"entry 1 .* is int64 of shape \(\)"),
        ([[[1]], [[1, 2]]], r"entry 1 .* has the shape \(1, 2\), and others end in \(1,\)"),
        ([[1], [[1], [2, 3]]], "entry 1 .* is no array"),
        ([[1], [None]], "entry 1 .* is object"),
    ],
)
def test_entries_of_other_kinds_are_refused_by_their_number(entries, problem):
    with pytest.raises(rb.DataError, match=problem):
        Ragged.from_list(entries)


def test_what_is_no_row_is_refused():
    ragged = Ragged.from_list(["a", "b"])
    for wrong in (2, -3):
        with pytest.raises(IndexError):
            ragged[wrong]
        with pytest.raises(IndexError):
            ragged[[wrong]]
    for wrong in ([-1], [2]):
        with pytest.raises(IndexError):
            ragged.take(wrong)
    with pytest.raises(IndexError, match="whole numbers"):
        ragged[np.array([0.5])]
    with pytest.raises(IndexError, match="mask"):
        ragged[np.array([True])]


def test_numpy_is_told_how_to_make_an_array():
    with pytest.raises(
        rb.DataError, match=r"no array: encoded images .*decode_images.*attach rb.pad.*padded\(\)"
    ):
        np.asarray(Ragged.from_list(["a", "bc"]))


def test_texts_that_are_none_name_the_entry():
    with pytest.raises(rb.DataError, match=r"entry 1 .* is no text of UTF-8"):
        Ragged.from_list([b"a", b"\xff"]).texts()


def test_a_ragged_column_is_opened_as_it_is():
    data = rb.open({"text": Ragged.from_list(["one", "", "three"]), "y": [0, 1, 0]}, target="y")
    assert repr(data) == "<Dataset arrays: 3 samples; text: uint8[…], y*: int64>"
    assert data.column("text").is_text
    assert data.array("text") is None
    assert data.ragged("y") is None
    assert data.ragged("text").texts() == ["one", "", "three"]
    assert data.rows([2, 0])["text"].texts() == ["three", "one"]
    assert data.span(1, 3)["text"].texts() == ["", "three"]
    assert rb.open(Ragged.from_list([[1.5], [2.0, 3.0]])).columns[0].kind == "float64[…]"
    assert rb.open((Ragged.from_list(["a", "b"]), [0, 1])).target == "y"


def test_a_list_of_bytes_stays_categories():
    assert rb.open({"x": [b"a", b"b", b"a"]}).column("x").categories == ("a", "b")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: {"x": Ragged.from_list([])}, "zero samples"),
        (lambda: {"x": Ragged(np.zeros((0, 0)), offsets_of([0]))}, "valid are numbers"),
        (lambda: {"x": Ragged(np.array([1j]), offsets_of([1]))}, "complex128"),
        (lambda: {"x": Ragged.from_list(["a"]), "y": [1, 2]}, "'x' has 1, 'y' has 2"),
    ],
)
def test_what_is_no_column_is_refused(make, problem):
    with pytest.raises(rb.DataError, match=problem):
        rb.open(make())


def test_a_target_that_is_not_finite_is_found_in_its_row():
    target = Ragged.from_list([[1.0], [], [2.0, np.nan]])
    with pytest.raises(rb.DataError, match=r"row 2 .* place 1 of it"):
        rb.open({"x": [1, 2, 3], "y": target}, target="y")


def test_foreign_byte_order_is_turned():
    data = rb.open(Ragged(np.array([1, 2, 3], ">i4"), offsets_of([1, 2])))
    assert data.ragged("x").dtype.isnative
    assert data.ragged("x")[1].tolist() == [2, 3]


def test_arrays_are_refused_with_what_makes_them_in_training() -> None:
    parts = rb.split((rb.Ragged.from_list([[1], [2, 3]] * 9), [0, 1] * 9), val=2)
    with pytest.raises(rb.DataError, match=r"batch_tokens=4096 \(--batch-tokens 4096\)"):
        rb.fit("softmax", parts)
