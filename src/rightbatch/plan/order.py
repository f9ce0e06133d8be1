"""The order of an epoch: sequential, uniform, inside windows, or by blocks and windows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError, did_you_mean
from rightbatch.plan.block_window import BlockWindows
from rightbatch.plan.checks import whole_number
from rightbatch.plan.hashing import derive_key, key_stream
from rightbatch.plan.permutation import permute, permute_span

OrderKind = Literal["sequential", "uniform", "window", "block-window"]

# Windows up to this length are sorted together, one row of a matrix each; longer ones one by one.
_MATRIX_WINDOW = 256


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which row stands at which position of an epoch, as a pure function.

    `"sequential"` keeps the order of the rows; `"uniform"` is a keyed permutation of all of
    them; `"window"` permutes inside windows of `window` consecutive positions, whose boundaries
    move with the epoch, so that the row at position p is fewer than `window` rows away from p;
    `"block-window"` permutes blocks of `block` consecutive rows, and then the rows of every
    `window / block` blocks, or somewhat fewer, that follow one another (see `BlockWindows`), so
    that an epoch can be read block by block with `window` rows in memory.

    Raises OptionError for another kind, and for a window or block that is missing, out of place,
    < 1, or, for the window of a block-window order, no whole number of blocks.

    >>> Order(kind="uniform").positions(8, seed=42, epoch=0, start=0, stop=8)
    array([6, 0, 3, 1, 5, 4, 2, 7])
    >>> Order(kind="uniform").positions(8, seed=42, epoch=0, start=2, stop=5)
    array([3, 1, 5])
    """

    kind: OrderKind
    window: int | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        kinds: tuple[str, ...] = get_args(OrderKind)
        if self.kind not in kinds:
            raise OptionError(
                f"order {self.kind!r} is not known.{did_you_mean(str(self.kind), kinds)} "
                f"Valid orders: {', '.join(kinds)}."
            )
        if self.kind in ("window", "block-window"):
            object.__setattr__(self, "window", whole_number("window", self.window, at_least=1))
        elif self.window is not None:
            raise OptionError(
                f"window={self.window!r} has no meaning for the {self.kind} order; "
                "leave it out or use the window order"
            )
        if self.kind == "block-window":
            object.__setattr__(self, "block", whole_number("block", self.block, at_least=1))
            _refuse_broken_blocks(cast(int, self.block), cast(int, self.window))
        elif self.block is not None:
            raise OptionError(
                f"block={self.block!r} has no meaning for the {self.kind} order; "
                "leave it out or use the block-window order"
            )

    @classmethod
    def resolve(
        cls, shuffle: bool, window: int | None, length: int, block: int | None = None
    ) -> Self:
        """The order that `shuffle`, `window` and `block` ask for, of `length` samples.

        A window of 1 shuffles nothing; one of `length` or more is the uniform permutation.
        Raises OptionError for a window or block without shuffling and a block without a window.

        >>> Order.resolve(True, None, 100)
        Order(kind='uniform', window=None, block=None)
        >>> Order.resolve(True, 10, 100).kind, Order.resolve(True, 10, 100, block=5).kind
        ('window', 'block-window')
        >>> Order.resolve(True, 1, 100).kind, Order.resolve(True, 100, 100).kind
        ('sequential', 'uniform')
        """
        if window is None:
            if block is not None:
                raise OptionError(
                    f"block={block} permutes blocks and the samples of a window of them: say how "
                    f"many samples a window has, window={4 * whole_number('block', block)} for "
                    "four blocks"
                )
            return cls(kind="uniform" if shuffle else "sequential")
        window = whole_number("window", window, at_least=1)
        if not shuffle:
            raise OptionError(
                f"window={window} shuffles inside windows, but shuffle=False asks for no "
                "shuffling; drop one of the two"
            )
        if block is not None:
            block = whole_number("block", block, at_least=1)
            _refuse_broken_blocks(block, window)
        if window >= length:
            return cls(kind="uniform" if window > 1 else "sequential")
        if block is not None:
            return cls(kind="block-window", window=window, block=block)
        return cls(kind="sequential") if window == 1 else cls(kind="window", window=window)

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
        if self.block is not None:
            return self.windows(length, seed, epoch).positions(start, stop)
        key = derive_key("order", "window", self.window, length, seed, epoch)
        shift = derive_key(key, "shift") % self.window
        shuffled = _windows_as_matrix if self.window <= _MATRIX_WINDOW else _windows_one_by_one
        return shuffled(length, self.window, shift, key, start, stop)

    def at(
        self, length: int, seed: int, epoch: int, places: Callable[[], NDArray[np.int64]]
    ) -> NDArray[np.int64] | None:
        """The rows at any places of the epoch, in their order; `places` may be written into.

        None, and `places` is not called, where only whole spans can be worked out.
        """
        if self.kind == "sequential":
            return places()
        if self.window is None or self.window >= length:
            return permute(length, derive_key("order", "uniform", length, seed, epoch), places())
        return None

    def windows(self, length: int, seed: int, epoch: int) -> BlockWindows:
        """The blocks and windows of one epoch of a block-window order."""
        assert self.block is not None  # as of every order of this kind
        assert self.window is not None
        key = derive_key("order", "block-window", self.block, self.window, length, seed, epoch)
        return BlockWindows(length=length, block=self.block, window=self.window, key=key)

    def to_json(self) -> dict[str, str | int | None]:
        """The order as a dict for JSON; `from_json` reads it back."""
        blocks = {} if self.block is None else {"block": self.block}
        return {"kind": self.kind, "window": self.window, **blocks}

    @classmethod
    def from_json(cls, saved: object) -> Self:
        """The order that `to_json` wrote; OptionError where it is none.

        >>> Order.from_json({"kind": "window", "window": 10})
        Order(kind='window', window=10, block=None)
        """
        if not isinstance(saved, Mapping) or {*saved, "block"} != {"kind", "window", "block"}:
            raise OptionError(f"order {saved!r} is not valid; it needs 'kind' and 'window'")
        return cls(
            kind=cast(OrderKind, saved["kind"]), window=saved["window"], block=saved.get("block")
        )

    def __str__(self) -> str:
        if self.block is not None:
            return f"{self.kind} of {self.window} in blocks of {self.block}"
        return self.kind if self.window is None else f"{self.kind} of {self.window}"


def _refuse_broken_blocks(block: int, window: int) -> None:
    if window % block:
        lower, upper = window // block * block, -(-window // block) * block
        nearest = f"{upper}" if lower == 0 else f"{lower} or {upper}"
        raise OptionError(
            f"window={window} is no whole number of blocks of {block} samples; "
            f"take window={nearest}"
        )


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
