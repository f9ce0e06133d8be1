"""Whether a pack is what was written: every block is read once and compared with its checksum."""

from __future__ import annotations

import bisect
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from rightbatch.data.block_checksums import checksum
from rightbatch.data.packed_array import Block, PackedArray
from rightbatch.data.packed_manifest import MANIFEST_FILE, is_pack, read_manifest
from rightbatch.data.packed_ragged import PackedValues
from rightbatch.data.packing_folder import refuse_unfinished
from rightbatch.data.remote_path import RemotePath, as_path, is_remote
from rightbatch.data.remote_url import is_url
from rightbatch.errors import DataError

_THREADS = 2
_BLOCKS_AT_ONCE = 64
_PIECE_BYTES = 2**23


@dataclass(frozen=True, kw_only=True)
class PackFault:
    """Something in a pack that is not as it was written.

    `start` up to `stop` are the rows (samples) it is in; None where it is not a matter of rows.
    """

    file: str
    start: int | None
    stop: int | None
    problem: str

    def __str__(self) -> str:
        rows = "" if self.start is None else f", rows {self.start:,} up to {self.stop:,}"
        return f"{self.file}{rows}: {self.problem}"


def verify_pack(
    folder: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> list[PackFault]:
    """Read a whole pack and list what is not as it was written; an empty list says all is.

    Every flipped bit of the values, the headers and the manifest is found, and so are files that
    are cut off, grown or missing. Faults of values name the rows of their block (start up to
    stop, about 1 MiB). `progress` is called with the bytes read and the bytes in all.

    `folder` may be a URL: all of it is read from the server, or from the cache.

    Raises DataError where `folder` is no pack, or an unfinished one.

    >>> import tempfile, rightbatch as rb
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = rb.pack("iris", f"{folder}/iris")
    ...     verify_pack(f"{folder}/iris")
    []
    """
    text = os.fspath(folder)
    folder = as_path(RemotePath(text)) if is_url(text) else Path(text).expanduser()
    refuse_unfinished(folder)
    if not (folder / MANIFEST_FILE).is_file() or not folder.is_dir():
        raise DataError(
            f"{folder} is no packed data set: it has no {MANIFEST_FILE}. Give the folder that "
            "rightbatch pack wrote."
        )
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        if not is_pack(folder) and not list(folder.glob("*.npy")):
            raise
        # The checksums in it can not be trusted, so nothing else can be checked.
        return [PackFault(file=MANIFEST_FILE, start=None, stop=None, problem=str(error))]
    faults: list[PackFault] = []
    done = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for array in manifest.arrays.values():
            for read_bytes, found in _check_array(folder, array, pool):
                faults += found
                done += read_bytes
                if progress is not None:
                    progress(done, manifest.files_bytes)
    return faults


def _check_array(
    folder: Path, array: PackedArray, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, list[PackFault]]]:
    """The bytes read and the faults found, piece by piece."""
    try:
        opened = _opened(folder / array.file)
    except FileNotFoundError:
        yield 0, [_fault(array, (0, array.rows), "the file is missing")]
        return
    except OSError as error:
        yield 0, [_fault(array, (0, array.rows), f"it can not be read: {error.strerror}")]
        return
    try:
        yield array.header_bytes, _check_frame(opened, array)
        blocks = array.blocks
        for first in range(0, len(blocks), _BLOCKS_AT_ONCE):
            some = range(first, min(first + _BLOCKS_AT_ONCE, len(blocks)))
            check = partial(_check_block, opened, array)
            results = list(pool.map(check, some, [blocks[block] for block in some]))
            count = blocks[some[-1]].last - blocks[first].first
            yield count * array.row_bytes, [fault for fault in results if fault is not None]
    finally:
        opened.close()


def _check_frame(opened: _Opened, array: PackedArray) -> list[PackFault]:
    """The header and the size."""
    faults = []
    size = opened.size
    if checksum(opened.read(0, array.header_bytes)) != array.header_checksum:
        faults.append(_fault(array, None, "the header is not as it was written"))
    if size != array.file_bytes:
        state = "cut off" if size < array.file_bytes else "longer than it was"
        problem = f"the file is {state}: {size:,} bytes, expected are {array.file_bytes:,}"
        rows = None
        if size < array.file_bytes:
            rows = _first_lost(array, max(0, size - array.header_bytes)), array.rows
        faults.append(_fault(array, rows, problem))
    return faults


def _first_lost(array: PackedArray, kept_bytes: int) -> int:
    """The first row of a file that was cut off after so many bytes of values."""
    kept = kept_bytes // array.row_bytes
    if not isinstance(array, PackedValues):
        return kept
    # Which entry ends where is for the offsets to say; a block is known from the manifest.
    return min(array.rows, bisect.bisect_right(array.block_ends, kept) * array.block_rows)


def _check_block(
    opened: _Opened, array: PackedArray, number: int, block: Block
) -> PackFault | None:
    rows = block.start, block.stop
    at = array.header_bytes + block.first * array.row_bytes
    left = (block.last - block.first) * array.row_bytes
    found = 0
    try:
        # In pieces: a block of varying entries may be as large as one of them.
        while left:
            content = opened.read(at, min(left, _PIECE_BYTES))
            if not content:
                return None  # cut off, which has been told
            found = checksum(content, found)
            at, left = at + len(content), left - len(content)
    except OSError as error:
        return _fault(array, rows, f"the values can not be read: {error.strerror}")
    if found != array.checksums[number]:
        return _fault(array, rows, "the values are not as they were written (checksum)")
    return None


class _Opened(Protocol):
    """A file that is read by positions, from any number of threads."""

    @property
    def size(self) -> int:
        """Its bytes."""

    def read(self, offset: int, count: int) -> bytes:
        """So many bytes from a position on; fewer at the end."""

    def close(self) -> None:
        """Give it back."""


class _LocalFile:
    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, offset: int, count: int) -> bytes:
        pieces = []
        while count:
            piece = os.pread(self._descriptor, min(count, 2**30), offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        os.close(self._descriptor)


class _RemotePackFile:
    def __init__(self, path: RemotePath) -> None:
        self._file = path.remote_file()
        self.size = self._file.size

    def read(self, offset: int, count: int) -> bytes:
        return self._file.read_at(offset, count)

    def close(self) -> None:
        """Nothing is open."""


def _opened(path: Path) -> _Opened:
    return _RemotePackFile(path) if is_remote(path) else _LocalFile(path)


def _fault(array: PackedArray, rows: tuple[int, int] | None, problem: str) -> PackFault:
    start, stop = rows or (None, None)
    return PackFault(file=array.file, start=start, stop=stop, problem=problem)
