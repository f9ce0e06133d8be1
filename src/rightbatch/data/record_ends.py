"""Where the last whole record of a piece of CSV ends: at a line end outside of quotes.

A quote opens a field only where the field begins; anywhere else outside it is text (`5" pipe`).
So the quotes take turns opening and closing wherever every opening one begins a field, which
one comparison of whole arrays shows. Where one does not, they are gone through one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LINE_ENDS = b"\r\n"
_QUOTE = ord('"')
_SPACE = ord(" ")
# Small enough for the fast memory near a core, and so that positions take little of any.
_SEGMENT_BYTES = 1 << 20


class _State(NamedTuple):
    """Whether a position is inside of quotes, and if not, whether the last quote closed a field."""

    is_inside: bool
    just_closed: bool


def last_record_end(
    data: bytes | bytearray, delimiter: str, *, spaces_go_before_quotes: bool = False
) -> int:
    r"""The position after the last line end outside of quotes; 0 where there is none.

    `data` begins where a record does. `spaces_go_before_quotes`: a quote after spaces at the
    beginning of a field opens it too. A carriage return that is the last byte does not count, as
    its line feed may follow.

    >>> last_record_end(b'a,"b\n', ","), last_record_end(b'1,2\n3,"\n"\n4', ",")
    (0, 10)
    """
    if b'"' not in data:
        return _last_end(data, 0, len(data))
    quotes = _Quotes(data, delimiter, spaces_go_before_quotes)
    state = _State(is_inside=False, just_closed=False)
    states = []
    for start in range(0, len(data), _SEGMENT_BYTES):
        states.append((start, state))
        state = quotes.find(start, state)[2]
    for start, state in reversed(states):
        positions, is_inside, _ = quotes.find(start, state)
        stop = min(start + _SEGMENT_BYTES, len(data))
        # Between two quotes, or a quote and an end of the segment, all is inside or nothing is.
        for index in range(len(positions), -1, -1):
            begin = int(positions[index - 1]) if index else start
            inside = bool(is_inside[index - 1]) if index else state.is_inside
            end = 0 if inside else _last_end(data, begin, stop)
            if end:
                return end
            stop = begin
    return 0


def _last_end(data: bytes | bytearray, start: int, stop: int) -> int:
    """The position after the last line end between `start` and `stop`; 0 where there is none."""
    after = data.rfind(b"\n", start, stop) + 1
    # Behind the last line feed, lines of an old kind may end in carriage returns alone.
    lone = data.rfind(b"\r", max(after, start), min(stop, len(data) - 1)) + 1
    return lone if lone > after and data[lone : lone + 1] != b"\n" else after


class _Quotes:
    def __init__(self, data: bytes | bytearray, delimiter: str, spaces_go_before: bool) -> None:
        self._data = data
        self._content = np.frombuffer(data, np.uint8)
        self._begin_fields = np.zeros(256, bool)
        self._begin_fields[list(delimiter.encode() + _LINE_ENDS)] = True
        self._spaces_go_before = spaces_go_before

    def find(self, start: int, state: _State) -> tuple[NDArray[np.intp], NDArray[np.bool_], _State]:
        """The quotes of the segment at `start`: where, whether inside after each, and the end."""
        segment = self._content[start : start + _SEGMENT_BYTES]
        quotes = np.flatnonzero(segment == _QUOTE) + start
        if not len(quotes):
            return quotes, np.empty(0, bool), state
        before = self._content[quotes - 1]
        if quotes[0] == 0:
            before[0] = ord("\n")
        # A quote right after a closing one goes on with the field: two stand for one.
        goes_on = before == _QUOTE
        if self._spaces_go_before:
            self._look_past_spaces(quotes, before)
        begins = self._begin_fields[before]
        if not state.just_closed:
            goes_on[0] = False
        opening = slice(int(state.is_inside), None, 2)
        if (begins | goes_on)[opening].all():
            is_inside = np.zeros(len(quotes), bool)
            is_inside[opening] = True
            just_closed = not is_inside[-1]
        else:
            is_inside, just_closed = _one_by_one(begins, goes_on, state)
        return quotes, is_inside, _State(bool(is_inside[-1]), bool(just_closed))

    def _look_past_spaces(self, quotes: NDArray[np.intp], before: NDArray[np.uint8]) -> None:
        for index in np.flatnonzero(before == _SPACE):
            position = int(quotes[index]) - 1
            while position >= 0 and self._data[position] == _SPACE:
                position -= 1
            before[index] = self._data[position] if position >= 0 else ord("\n")


def _one_by_one(
    begins: NDArray[np.bool_], goes_on: NDArray[np.bool_], state: _State
) -> tuple[NDArray[np.bool_], bool]:
    found = []
    is_inside, just_closed = state
    for begins_field, follows_quote in zip(begins.tolist(), goes_on.tolist(), strict=True):
        if is_inside:
            is_inside, just_closed = False, True
        else:
            is_inside = begins_field or (just_closed and follows_quote)
            just_closed = False
        found.append(is_inside)
    return np.array(found, dtype=bool), just_closed
