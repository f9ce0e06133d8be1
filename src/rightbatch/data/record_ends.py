"""Where the last whole record of a piece of CSV ends: at a line end outside of quotes.

A quote opens a field only where the field begins; anywhere else outside it is text (`5" pipe`).
So the quotes take turns opening and closing wherever every opening one begins a field, which
one comparison of whole arrays shows. Where one does not, they are gone through one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LINE_ENDS = b"\r\n"
_QUOTE = ord('"')
_SPACE = ord(" ")


def last_record_end(data: bytes, delimiter: str, *, spaces_go_before_quotes: bool = False) -> int:
    r"""The position after the last line end outside of quotes; 0 where there is none.

    `data` begins where a record does. `spaces_go_before_quotes`: a quote after spaces at the
    beginning of a field opens it too. A carriage return that is the last byte does not count, as
    its line feed may follow.

    >>> last_record_end(b'a,"b\n', ","), last_record_end(b'1,2\n3,"\n"\n4', ",")
    (0, 10)
    """
    quotes, is_inside = _quotes(data, delimiter, spaces_go_before_quotes)
    after = _last_outside(data, b"\n", 0, len(data), quotes, is_inside) + 1
    # Behind the last line feed, lines of an old kind may end in carriage returns alone.
    lone = _last_outside(data, b"\r", after, len(data) - 1, quotes, is_inside)
    return max(after, lone + 1)


def _last_outside(
    data: bytes,
    mark: bytes,
    start: int,
    stop: int,
    quotes: NDArray[np.intp],
    is_inside: NDArray[np.bool_],
) -> int:
    """The last position of `mark` that is not inside of quotes; -1 where there is none."""
    while (at := data.rfind(mark, start, stop)) >= 0:
        before = int(np.searchsorted(quotes, at))
        if before == 0 or not is_inside[before - 1]:
            return at
        stop = int(quotes[before - 1])
    return -1


def _quotes(
    data: bytes, delimiter: str, spaces_go_before: bool
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The positions of all quotes, and whether one is inside of quotes after each."""
    if b'"' not in data:
        return np.empty(0, np.intp), np.empty(0, bool)
    content = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(content == _QUOTE)
    before = content[quotes - 1]
    before[quotes == 0] = ord("\n")
    if spaces_go_before:
        _look_past_spaces(data, quotes, before)
    begins = np.isin(before, np.frombuffer(delimiter.encode() + _LINE_ENDS, np.uint8))
    # A quote right after a closing one goes on with the field: two stand for one.
    goes_on = np.diff(quotes, prepend=-2) == 1
    if (begins | goes_on)[::2].all():
        is_inside = np.zeros(len(quotes), bool)
        is_inside[::2] = True
        return quotes, is_inside
    return quotes, _one_by_one(begins, goes_on)


def _look_past_spaces(data: bytes, quotes: NDArray[np.intp], before: NDArray[np.uint8]) -> None:
    for index in np.flatnonzero(before == _SPACE):
        position = int(quotes[index]) - 1
        while position >= 0 and data[position] == _SPACE:
            position -= 1
        before[index] = data[position] if position >= 0 else ord("\n")


def _one_by_one(begins: NDArray[np.bool_], goes_on: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = []
    is_inside = just_closed = False
    for begins_field, follows_quote in zip(begins.tolist(), goes_on.tolist(), strict=True):
        if is_inside:
            is_inside, just_closed = False, True
        else:
            is_inside = begins_field or (just_closed and follows_quote)
            just_closed = False
        found.append(is_inside)
    return np.array(found, dtype=bool)
