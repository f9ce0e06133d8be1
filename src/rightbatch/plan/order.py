"""The order of an epoch: sequential, uniform, or shuffled inside windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError, did_you_mean
from rightbatch.plan.checks import whole_number
from rightbatch.plan.hashing import derive_key, key_stream
from rightbatch.plan.permutation import permute_span

OrderKind = Literal["sequential", "uniform", "window"]

# Windows up to this length are sorted together, one row of a matrix each; longer ones one by one.
_MATRIX_WINDOW = 256


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which row stands at which position of an epoch, as a pure function.

    `"sequential"` keeps the order of the rows; `"uniform"` is a keyed permutation of all of
    them; `"window"` permutes inside windows of `window` consecutive positions, whose boundaries
    move with the epoch, so that the row at position p is fewer than `window` rows away from p.

    Raises OptionError for another kind, and for a window that is missing, out of place or < 1.

    >>> Order(kind="uniform").positions(8, seed=42, epoch=0, start=0, stop=8)
    array([6, 0, 3, 1, 5, 4, 2, 7])
    >>> Order(kind="uniform").positions(8, seed=42, epoch=0, start=2, stop=5)
    array([3, 1, 5])
    """

    kind: OrderKind
    window: int | None = None

    def __post_init__(self) -> None:
        kinds: tuple[str, ...] = get_args(OrderKind)
        if self.kind not in kinds:
            raise OptionError(
                f"order {self.kind!r} is not known.{did_you_mean(str(self.kind), kinds)} "
                f"Valid orders: {', '.join(kinds)}."
            )
        if self.kind == "window":
            object.__setattr__(self, "window", whole_number("window", self.window, at_least=1))
        elif self.window is not None:
            raise OptionError(
                f"window={self.window!r} has no meaning for the {self.kind} order; "
                "leave it out or use the window order"
            )

    @classmethod
    def resolve(cls, shuffle: bool, window: int | None, length: int) -> Self:
        """The order that `shuffle` and `window` ask for, of `length` samples.

        A window of 1 shuffles nothing; one of `length` or more is the uniform permutation.
        Raises OptionError for a window without shuffling.

        >>> Order.resolve(True, None, 100)
        Order(kind='uniform', window=None)
        >>> Order.resolve(True, 10, 100)
        Order(kind='window', window=10)
        >>> Order.resolve(True, 1, 100), Order.resolve(True, 100, 100).kind
        (Order(kind='sequential', window=None), 'uniform')
        """
        if window is None:
            return cls(kind="uniform" if shuffle else "sequential")
        window = whole_number("window", window, at_least=1)
        if not shuffle:
            raise OptionError(
                f"window={window} shuffles inside windows, but shuffle=False asks for no "
                "shuffling; drop one of the two"
            )
        if window == 1:
            return cls(kind="sequential")
        return cls(kind="uniform") if window >= length else cls(kind="window", window=window)

    def positions(
        self, length: int, seed: int, epoch: int, start: int, stop: int
    ) -> NDArray[np.int64]:
        """The rows at positions `start` up to `stop` of the epoch, int64 of shape (stop - start,).

        The cost and the memory depend on the span (and the window), never on `length`.
        Raises IndexError unless 0 <= start <= stop <= length.
        """
        if not 0 <= start <= stop <= length:
            raise IndexError(f"span({start}, {stop}) lies outside 0 <= start <= stop <= {length}")
        if self.kind == "sequential":
            return np.arange(start, stop, dtype=np.int64)
        if self.window is None or self.window >= length:
            key = derive_key("order", "uniform", length, seed, epoch)
            return permute_span(length, key, start, stop)
        key = derive_key("order", "window", self.window, length, seed, epoch)
        shift = derive_key(key, "shift") % self.window
        shuffled = _windows_as_matrix if self.window <= _MATRIX_WINDOW else _windows_one_by_one
        return shuffled(length, self.window, shift, key, start, stop)

    def to_json(self) -> dict[str, str | int | None]:
        """The order as a dict for JSON; `from_json` reads it back."""
        return {"kind": self.kind, "window": self.window}

    @classmethod
    def from_json(cls, saved: object) -> Self:
        """The order that `to_json` wrote; OptionError where it is none.

        >>> Order.from_json({"kind": "window", "window": 10})
        Order(kind='window', window=10)
        """
        if not isinstance(saved, Mapping) or set(saved) != {"kind", "window"}:
            raise OptionError(f"order {saved!r} is not valid; it needs 'kind' and 'window'")
        return cls(kind=cast(OrderKind, saved["kind"]), window=saved["window"])

    def __str__(self) -> str:
        return self.kind if self.window is None else f"{self.kind} of {self.window}"


# Window number i covers positions i * window - shift up to (i + 1) * window - shift, as far as
# they lie in range(length): the first and the last window may be partial.


def _windows_as_matrix(
    length: int, window: int, shift: int, key: int, start: int, stop: int
) -> NDArray[np.int64]:
    """Sort every covering window by hashed rows, a row of a matrix each."""
    first, last = (start + shift) // window, -(-(stop + shift) // window)
    begin = first * window - shift
    rows = np.arange(begin, last * window - shift, dtype=np.int64).reshape(-1, window)
    hashes = key_stream(key, rows)
    inside = (rows >= 0) & (rows < length)
    # What is no row goes behind the window's rows, and is cut out below.
    hashes[~inside] = np.iinfo(np.uint64).max
    shuffled = np.take_along_axis(rows, np.argsort(hashes, axis=1), axis=1)
    shuffled = shuffled[(shuffled >= 0) & (shuffled < length)]
    begin = max(0, begin)
    return shuffled[start - begin : stop - begin].copy()


def _windows_one_by_one(
    length: int, window: int, shift: int, key: int, start: int, stop: int
) -> NDArray[np.int64]:
    """Cut the span from every covering window's own keyed permutation."""
    span = np.empty(stop - start, np.int64)
    at = start
    while at < stop:
        number = (at + shift) // window
        begin = max(0, number * window - shift)
        end = min(length, (number + 1) * window - shift)
        until = min(stop, end)
        own_key = derive_key(key, number)
        piece = permute_span(end - begin, own_key, at - begin, until - begin)
        piece += begin
        span[at - start : until - start] = piece
        at = until
    return span
