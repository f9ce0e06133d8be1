"""A file of a pack while it is written, block after block of rows."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from pathlib import Path
from typing import Any

from typing_extensions import override

from rightbatch.data.block_checksums import array_bytes, checksum, spans
from rightbatch.data.dataset import Arrays
from rightbatch.data.packed_array import PackedArray, describe_array, header_of
from rightbatch.data.packed_column import PackedColumn
from rightbatch.data.packed_ragged import (
    PackedOffsets,
    PackedValues,
    describe_offsets,
    describe_values,
    offsets_header,
)

Written = tuple[int, int]
"""Of a block: its checksum, and the row where its values end."""


class PackingFile:
    """One file of a column, and what is known of the blocks that it holds.

    `stored` describes it without checksums, `column` names what is written into it.
    """

    def __init__(self, stored: PackedArray, column: str) -> None:
        self.stored = stored
        self.column = column
        self.checksums = array("I")

    @property
    def header(self) -> bytes:
        """What stands before the first block."""
        return header_of(self.stored.dtype, self.stored.shape)

    def values(self, arrays: Arrays) -> memoryview:
        """What is written for the next samples."""
        return array_bytes(arrays[self.column])

    def end(self, rows: int) -> int:
        """Where the values of the first `rows` samples end, in rows of the file."""
        return rows

    def size(self, rows: int) -> int:
        """The bytes of the file when it holds so many samples, which are whole blocks."""
        return self.stored.header_bytes + self.end(rows) * self.stored.row_bytes

    def append(self, folder: Path, arrays: Arrays, count: int) -> list[Written]:
        """Write the next `count` samples and say what `add` has to know of their blocks."""
        content = self.values(arrays)
        with (folder / self.stored.file).open("ab", buffering=0) as file:
            write_all(file, content)
        row_bytes = self.stored.row_bytes
        return [
            (checksum(content[first * row_bytes : last * row_bytes]), last)
            for first, last in self._blocks(arrays, count)
        ]

    def _blocks(self, arrays: Arrays, count: int) -> list[tuple[int, int]]:
        """Where the values of each block begin and end, among those of the next samples."""
        del arrays
        return list(spans(count, self.stored.block_rows))

    def add(self, written: list[Written]) -> None:
        """Blocks that were written, in this and in every other file."""
        self.checksums.extend(found for found, _ in written)

    def cut(self, blocks: int) -> None:
        """Forget all blocks but the first ones."""
        del self.checksums[blocks:]

    def whole_blocks(self, folder: Path) -> int:
        """How many blocks the file on the disk has whole; none where its header is not right."""
        path, stored = folder / self.stored.file, self.stored
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            if file.read(len(self.header)) != self.header:
                return 0
        rows = (path.stat().st_size - stored.header_bytes) // stored.row_bytes
        return -(-rows // stored.block_rows) if rows >= stored.rows else rows // stored.block_rows

    def word(self, block: int) -> str:
        """What the journal keeps of a block."""
        return f"{self.checksums[block]:08x}"

    def read_word(self, word: str) -> None:
        """Take the next block from the journal; ValueError where it is no such word."""
        self.checksums.append(int(word, 16))

    def finish(self, folder: Path) -> PackedArray:
        """Write what only the end tells, and describe the file."""
        del folder
        stored = self.stored
        return describe_array(
            stored.file,
            stored.dtype,
            stored.shape,
            block_rows=stored.block_rows,
            checksums=self.checksums,
        )


class ValuesFile(PackingFile):
    """The values of a ragged column: blocks of varying size, and a header that is written twice.

    How many values there are is known in the end only.
    """

    def __init__(self, stored: PackedValues, column: str) -> None:
        super().__init__(stored, column)
        self.entries = stored.entries
        self.ends = array("Q")

    @override
    def values(self, arrays: Arrays) -> memoryview:
        return array_bytes(arrays[self.column].values)

    @override
    def end(self, rows: int) -> int:
        blocks = -(-rows // self.stored.block_rows)
        return self.ends[blocks - 1] if blocks else 0

    @override
    def _blocks(self, arrays: Arrays, count: int) -> list[tuple[int, int]]:
        offsets = arrays[self.column].offsets
        rows = spans(count, self.stored.block_rows)
        return [(int(offsets[start]), int(offsets[stop])) for start, stop in rows]

    @override
    def add(self, written: list[Written]) -> None:
        super().add(written)
        before = self.ends[-1] if self.ends else 0
        self.ends.extend(before + last for _, last in written)

    @override
    def cut(self, blocks: int) -> None:
        super().cut(blocks)
        del self.ends[blocks:]

    @override
    def whole_blocks(self, folder: Path) -> int:
        """How many blocks the file on the disk has whole, as far as the journal knows of them."""
        path, stored = folder / self.stored.file, self.stored
        # The header is written again in the end.
        held = path.stat().st_size - stored.header_bytes if path.is_file() else -1
        return 0 if held < 0 else bisect_right(self.ends, held // stored.row_bytes)

    @override
    def word(self, block: int) -> str:
        return f"{super().word(block)}:{self.ends[block]:x}"

    @override
    def read_word(self, word: str) -> None:
        found, _, end = word.partition(":")
        self.ends.append(int(end, 16))
        super().read_word(found)

    @override
    def finish(self, folder: Path) -> PackedArray:
        """Write the header that says how many values there are, and describe the file."""
        stored = self.stored
        described = describe_values(
            stored.file,
            stored.dtype,
            stored.shape[1:],
            self.entries,
            block_rows=stored.block_rows,
            block_ends=self.ends,
            checksums=self.checksums,
        )
        header = header_of(described.dtype, described.shape)
        # NumPy leaves room in a header for every length of the first axis.
        assert len(header) == stored.header_bytes
        with (folder / stored.file).open("r+b", buffering=0) as file:
            write_all(file, header)
        return described


class OffsetsFile(PackingFile):
    """The offsets of a ragged column: where each entry ends in the file of its `values`."""

    def __init__(self, stored: PackedOffsets, column: str, values: ValuesFile) -> None:
        super().__init__(stored, column)
        self._values = values

    @property
    @override
    def header(self) -> bytes:
        """What stands before the end of the first entry."""
        return offsets_header(self.stored.rows)

    @override
    def values(self, arrays: Arrays) -> memoryview:
        before = self._values.ends[-1] if self._values.ends else 0
        return array_bytes(arrays[self.column].offsets[1:] + before)

    @override
    def finish(self, folder: Path) -> PackedArray:
        del folder
        stored = self.stored
        return describe_offsets(
            stored.file, stored.rows, block_rows=stored.block_rows, checksums=self.checksums
        )


def files_of(column: PackedColumn) -> list[PackingFile]:
    """The files of a column, in the order of `PackedColumn.files`."""
    if column.offsets is None:
        return [PackingFile(column.array, column.name)]
    assert isinstance(column.array, PackedValues)  # what has offsets has blocks of varying size
    values = ValuesFile(column.array, column.name)
    return [values, OffsetsFile(column.offsets, column.name, values)]


def write_all(file: Any, content: bytes | memoryview) -> None:
    """All of it: an unbuffered write may take a part."""
    view = memoryview(content)
    while len(view):
        view = view[file.write(view) :]
