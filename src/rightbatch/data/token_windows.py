"""Windows of a stream of tokens: inputs, and the tokens that follow them as targets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.column import Column
from rightbatch.data.file_region import FileRegion, drop_pages, file_region
from rightbatch.data.fingerprint import fingerprint_columns
from rightbatch.data.mapped_file import received, to_send
from rightbatch.data.options import OpenOptions
from rightbatch.data.ragged_region import RaggedRegion
from rightbatch.errors import DataError

INPUT, TARGET = "tokens", "next"


class TokenWindows(ArrayDataset):
    """A stream of tokens cut into windows of one length: `tokens`, and the target `next`.

    Row k has the tokens from place k · `stride` on, `sequence_length` of them, and as its target
    those from one place further: `next[t]` is what follows `tokens[t]`. Both are views of
    `stream` (T,), of its dtype, which are not copied until a batch is made. What fills no last
    window is left out and said in `notes`.

    Windows that lie closer together than they are long share tokens: `overlap` is how many rows
    after it each one does so with. Where `stride` is `sequence_length`, the last target of a row
    is the first input of the next one, and no place of the stream is an input, or a target, twice.

    Raises DataError where the stream is too short for one window.

    >>> data = TokenWindows(np.arange(8), sequence_length=3, stride=2)
    >>> data.span(0, 3)["tokens"].tolist(), data.span(0, 3)["next"].tolist(), data.overlap
    ([[0, 1, 2], [2, 3, 4], [4, 5, 6]], [[1, 2, 3], [3, 4, 5], [5, 6, 7]], 1)
    """

    def __init__(
        self,
        stream: NDArray[Any],
        *,
        sequence_length: int,
        stride: int | None = None,
        name: str = "tokens",
        categories: tuple[str, ...] | None = None,
        notes: Sequence[str] = (),
        options: OpenOptions | None = None,
    ) -> None:
        self.sequence_length = sequence_length
        self.stride = stride = stride or sequence_length
        if len(stream) <= sequence_length:
            raise DataError(
                f"{name} has {len(stream):,} tokens, and a window of {sequence_length:,} with what "
                f"follows takes {sequence_length + 1:,}. Give more text, or a smaller "
                "sequence_length (--sequence-length)"
            )
        self.stream = stream
        windows = (len(stream) - sequence_length - 1) // stride + 1
        chosen = (options or OpenOptions()).choose(name, (INPUT, TARGET), default_target=TARGET)
        views = {
            INPUT: _windows(stream, windows, sequence_length, stride),
            TARGET: _windows(stream[1:], windows, sequence_length, stride),
        }
        super().__init__(
            {column: views[column] for column in chosen.columns},
            name=name,
            target=chosen.target,
            categories={} if categories is None else dict.fromkeys(views, categories),
            tokens=tuple(views),
            notes=(*notes, *_notes(len(stream), windows, sequence_length, stride)),
        )
        self.overlap = min((sequence_length - 1) // stride, windows - 1)

    @cached_property
    @override
    def fingerprint(self) -> str:
        """BLAKE2b of the stream and of how it is cut, computed once."""
        self.refuse_cut_off(len(self))
        (first, *_) = self.columns
        names = ", ".join(column.name for column in self.columns)
        stored = Column(
            name=f"{names} by {self.sequence_length} every {self.stride}, {self.target}",
            dtype=self.stream.dtype,
            categories=first.categories,
        )
        return fingerprint_columns(
            [stored], {stored.name: self.stream}, after_piece=self.release_pages
        )

    @cached_property
    def stream_fingerprint(self) -> str:
        """The same of the stream alone: equal for all windows of one stream, however cut."""
        stored = Column(name="stream", dtype=self.stream.dtype)
        return fingerprint_columns(
            [stored], {stored.name: self.stream}, after_piece=self.release_pages
        )

    @override
    def release_pages(self) -> None:
        drop_pages(self.stream)

    @override
    def _find_regions(self) -> dict[str, FileRegion | RaggedRegion]:
        whole = file_region(self.stream)
        if whole is None:
            return {}
        width = self.stream.itemsize
        return {
            name: FileRegion(
                path=whole.path,
                offset=whole.offset + width * (name == TARGET),
                length=len(self),
                dtype=self.stream.dtype,
                shape=(self.sequence_length,),
                stride_bytes=width * self.stride,
                inode=whole.inode,
            )
            for name in self._arrays
        }

    @override
    def __getstate__(self) -> dict[str, Any]:
        # Views would be pickled as windows, each token as often as it is in one.
        inode = getattr(self._regions.get(self.columns[0].name), "inode", None)
        stream = to_send(self.stream, inode=inode)
        return {**super().__getstate__(), "stream": stream, "_arrays": dict.fromkeys(self._arrays)}

    @override
    def __setstate__(self, state: dict[str, Any]) -> None:
        stream = received(state["stream"])
        starts = {INPUT: stream, TARGET: stream[1:]}
        cut = (state["_length"], state["sequence_length"], state["stride"])
        views = {name: _windows(starts[name], *cut) for name in state["_arrays"]}
        super().__setstate__({**state, "stream": stream, "_arrays": views})


def _windows(stream: NDArray[Any], count: int, length: int, stride: int) -> NDArray[Any]:
    """The windows as a view (count, length), which can not be written to."""
    if stride == length:
        # In C order, so that rows are gathered and read from files as those of any array are.
        view = stream[: count * length].reshape(count, length)
    else:
        step = stream.strides[0]
        view = np.ndarray(
            (count, length), stream.dtype, buffer=stream, strides=(stride * step, step)
        )
    view.flags.writeable = False
    return view


def _notes(tokens: int, windows: int, length: int, stride: int) -> list[str]:
    notes = []
    left = tokens - ((windows - 1) * stride + length + 1)
    if left:
        notes.append(
            f"Left out the last {left:,} of {tokens:,} tokens, which fill no window of {length:,} "
            "with what follows it."
        )
    if stride > length and windows > 1:
        notes.append(
            f"Left out {(windows - 1) * (stride - length):,} tokens between the windows: the stride"
            f" {stride:,} is more than their length {length:,}."
        )
    return notes
