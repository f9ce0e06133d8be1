"""Columns in pieces: the values are those of the pieces joined, however they lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.data.pieces import Pieces
from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError


@given(drawn=st.data(), is_ragged=st.booleans(), joined_bytes=st.sampled_from([0, 1 << 20]))
def test_pieces_are_their_values_joined(drawn, is_ragged, joined_bytes) -> None:
    lengths = drawn.draw(st.lists(st.integers(0, 5), min_size=1, max_size=5))
    total = sum(lengths)
    numbers = iter(range(total))
    entries = [[[k] * (k % 3) for k in (next(numbers) for _ in range(n))] for n in lengths]
    joined = Ragged.from_list([e for piece in entries for e in piece], dtype=np.int64)
    pieces: list[object] = [Ragged.from_list(piece, dtype=np.int64) for piece in entries]
    if not is_ragged:
        joined = np.arange(total * 2).reshape(total, 2)
        pieces = np.split(joined, np.cumsum(lengths)[:-1])
    order = None
    if total and drawn.draw(st.booleans()):
        order = np.array(drawn.draw(st.lists(st.integers(0, total - 1), min_size=1)), np.int64)
    made = Pieces(pieces, order, joined_bytes=joined_bytes)
    expected = joined if order is None else joined[order]
    assert len(made) == len(expected)
    rows = np.arange(0)
    if len(made):
        picks = st.lists(st.integers(0, len(made) - 1), max_size=9)
        rows = np.array(drawn.draw(picks), np.int64)
    start = drawn.draw(st.integers(0, len(made)))
    stop = drawn.draw(st.integers(start, len(made)))
    for found, wanted in (
        (made.take(rows), expected[rows]),
        (made.span(start, stop), expected[start:stop]),
    ):
        if is_ragged:
            assert found == wanted
        else:
            np.testing.assert_array_equal(found, wanted)


def test_one_piece_in_row_order_is_not_copied() -> None:
    array = np.arange(5)
    assert Pieces([array[:0], array]).whole is array


def test_large_pieces_stay_where_they_are() -> None:
    made = Pieces([np.arange(3), np.arange(3)], joined_bytes=47)
    assert made.whole is None
    assert np.shares_memory(made.span(3, 5), made.span(4, 6))
    assert Pieces([np.arange(3), np.arange(3)], joined_bytes=48).whole is not None


def test_an_order_that_points_outside_is_refused() -> None:
    with pytest.raises(DataError, match="outside of the 3 values"):
        Pieces([np.arange(3)], np.array([3]))
