"""FOLDER.partial: what of a pack is on the disk already, so that packing goes on after a kill.

Blocks are appended to the columns' files, put on the disk, and only then written down in the
journal, a line for each block of rows with its checksums. What lies beyond the journal is cut off
when packing goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.block_checksums import array_bytes
from rightbatch.data.dataset import Arrays
from rightbatch.data.packed_column import PackedColumn
from rightbatch.data.packed_manifest import MANIFEST_FILE, Manifest
from rightbatch.data.packed_ragged import PackedOffsets
from rightbatch.data.packing_file import files_of, write_all
from rightbatch.durable_files import sync_file, sync_folder, write_atomically
from rightbatch.errors import DataError, OptionError

KEYS_BYTES = 8
_DESCRIPTION_FILE = "packing.json"
_JOURNAL_FILE = "journal.txt"
_KEYS_FILE = "content-keys.bin"
_SCRATCH_FOLDER = "scratch"


def partial_folder(folder: Path) -> Path:
    """Where a pack lies until it is complete.

    >>> partial_folder(Path("data/mnist")).as_posix()
    'data/mnist.partial'
    """
    if not folder.name:
        raise OptionError(f"{folder} is no folder that a pack can be written to: name one in it")
    return folder.with_name(f"{folder.name}.partial")


def is_unfinished(folder: Path) -> bool:
    """Whether the folder holds a packing that began and did not end."""
    return (folder / _DESCRIPTION_FILE).is_file()


def refuse_unfinished(folder: Path) -> None:
    """Raise DataError, saying how to go on, where packing into `folder` did not finish."""
    if is_unfinished(folder):
        whole = folder.with_name(folder.name.removesuffix(".partial"))
        raise DataError(
            f"{folder}: packing did not finish. It goes on where it stopped when the same data are "
            f"packed again: rb.pack(data, {str(whole)!r}), rightbatch pack DATA {whole}"
        )


def identity(manifest: Manifest) -> dict[str, Any]:
    """What two packings must share for one to go on with, or stand for, the other; as JSON."""
    described = {
        "fingerprint": manifest.source_signature or manifest.fingerprint,
        "length": manifest.length,
        "target": manifest.target,
        "columns": [column.identity for column in manifest.columns],
        "own_parts": {name: [rows.start, rows.stop] for name, rows in manifest.own_parts.items()},
        "source_files": [vars(file) for file in manifest.source_files],
        "packed_transforms": list(manifest.packed_transforms),
    }
    restored: dict[str, Any] = json.loads(json.dumps(described))
    return restored


def differing(asked: Mapping[str, Any], there: Any) -> str:
    """The names of what differs between two identities, for a message."""
    stored = there if isinstance(there, dict) else {}
    return ", ".join(name.replace("_", " ") for name in asked if asked[name] != stored.get(name))


class PackingFolder:
    """The folder FOLDER.partial while it is written; one process at a time holds it.

    `draft` is the manifest without checksums. `rows_done` counts the rows that are written, of
    which those in the journal are safe.
    """

    def __init__(self, path: Path, draft: Manifest) -> None:
        self.path = path
        self.keys_path = path / _KEYS_FILE
        self.scratch = path / _SCRATCH_FOLDER
        self.draft = draft
        self.created = draft.created
        self.rows_done = 0
        self._files = [file for column in draft.columns for file in files_of(column)]
        self._block_rows = draft.columns[0].array.block_rows
        self._identity = {**identity(draft), "block_rows": self._block_rows}
        self._journaled = 0
        self._lock: int | None = None
        self._thread = ThreadPoolExecutor(1)
        self._syncing: Future[None] | None = None

    def __enter__(self) -> Self:
        """Make the folder, or go on with what it holds.

        Raises OptionError where it holds anything else, or another process is writing it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._release()
            raise OptionError(
                f"{self.path} is being written by another process; wait for it, or name another "
                "folder"
            ) from error
        try:
            self._restore()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()

    def _release(self) -> None:
        self._thread.shutdown()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _restore(self) -> None:
        if not is_unfinished(self.path):
            self._begin()
            return
        try:
            stored = json.loads((self.path / _DESCRIPTION_FILE).read_bytes())
            before, created = stored["identity"], str(stored["created"])
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(
                f"{self.path} holds a packing that can not be read ({error}). Remove the folder, "
                "or pack with overwrite=True (--overwrite)"
            ) from error
        if before != self._identity:
            raise OptionError(
                f"{self.path} holds an unfinished packing of other data or of another state "
                f"of them (other are: {differing(self._identity, before)}). "
                "Pack those to go on with it, name another folder, or begin anew with "
                "overwrite=True (--overwrite)"
            )
        self.created = created
        self._cut()

    def _begin(self) -> None:
        half_written = f"{_DESCRIPTION_FILE}.partial"  # by a kill at the very first moment
        if any(path.name != half_written for path in self.path.iterdir()):
            raise OptionError(
                f"{self.path} is needed while packing and holds other files; move them away, or "
                "name another folder"
            )
        description = {"identity": self._identity, "created": self.created}
        write_atomically(self.path / _DESCRIPTION_FILE, json.dumps(description).encode())
        self._cut()

    def _cut(self) -> None:
        """Read the journal, and cut every file to the rows that are safe."""
        blocks = self._read_journal()
        for file in self._files:
            blocks = min(blocks, file.whole_blocks(self.path))
        while blocks and _size(self.keys_path) < self._rows(blocks) * KEYS_BYTES:
            blocks -= 1
        if blocks == 0:
            for file in self._files:
                (self.path / file.stored.file).write_bytes(file.header)
        for file in self._files:
            file.cut(blocks)
        self.rows_done = self._rows(blocks)
        self.cut_back()
        lines = b"".join(self._line(block) for block in range(blocks))
        write_atomically(self.path / _JOURNAL_FILE, lines)
        self._journaled = blocks

    def cut_back(self) -> None:
        """Cut every file to the rows that are done: what was written in part makes room."""
        rows = self.rows_done
        for file in self._files:
            _truncate(self.path / file.stored.file, file.size(rows))
        _truncate(self.keys_path, rows * KEYS_BYTES)

    def _read_journal(self) -> int:
        """Tell the files what the journal says, and return how many blocks it is sure of."""
        journal = self.path / _JOURNAL_FILE
        content = journal.read_bytes() if journal.is_file() else b""
        blocks = 0
        for line in content.splitlines(keepends=True):
            words, _, own = line.rstrip(b"\n").rpartition(b" ")
            if not line.endswith(b"\n") or f"{zlib.crc32(words):08x}".encode() != own:
                break  # cut off while it was written
            number, *sums = words.split(b" ")
            if int(number) != blocks or len(sums) != len(self._files):
                break
            for file, word in zip(self._files, sums, strict=True):
                file.read_word(word.decode())
            blocks += 1
        return blocks

    def _line(self, block: int) -> bytes:
        sums = " ".join(file.word(block) for file in self._files)
        words = f"{block} {sums}".encode()
        return words + f" {zlib.crc32(words):08x}\n".encode()

    def _rows(self, blocks: int) -> int:
        return min(blocks * self._block_rows, self.draft.length)

    def append(self, arrays: Arrays, keys: NDArray[np.uint64]) -> None:
        """Write the next samples: whole blocks of rows, but for the last ones of the data."""
        count = len(keys)
        found = [file.append(self.path, arrays, count) for file in self._files]
        with self.keys_path.open("ab", buffering=0) as opened:
            write_all(opened, array_bytes(keys))
        # At the end: an interrupt before it leaves nothing but bytes that are cut off.
        for file, written in zip(self._files, found, strict=True):
            file.add(written)
        self.rows_done += count

    def sync(self) -> None:
        """Put what is written on the disk, then into the journal: from here on it is safe."""
        self._wait()
        self._sync(-(-self.rows_done // self._block_rows))

    def sync_behind(self) -> None:
        """The same in a thread beside, while the next samples are read and written.

        What fails there is raised by the next call of this or of `sync`.
        """
        self._wait()
        blocks = -(-self.rows_done // self._block_rows)
        self._syncing = self._thread.submit(self._sync, blocks)

    def _wait(self) -> None:
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()

    def _sync(self, blocks: int) -> None:
        if blocks == self._journaled:
            return
        for file in self._files:
            sync_file(self.path / file.stored.file)
        sync_file(self.keys_path)
        lines = b"".join(self._line(block) for block in range(self._journaled, blocks))
        with (self.path / _JOURNAL_FILE).open("ab", buffering=0) as journal:
            write_all(journal, lines)
            os.fsync(journal.fileno())
        self._journaled = blocks

    def finish_columns(self) -> tuple[PackedColumn, ...]:
        """Write what only the end tells, and describe the columns with their checksums."""
        finished = {file.stored.file: file.finish(self.path) for file in self._files}
        columns = []
        for column in self.draft.columns:
            offsets = None
            if column.offsets is not None:
                found = finished[column.offsets.file]
                assert isinstance(found, PackedOffsets)  # as it was described
                offsets = found
            columns.append(replace(column, array=finished[column.array.file], offsets=offsets))
        return tuple(columns)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and take the help files away: the pack is complete."""
        for stored in manifest.arrays.values():
            sync_file(self.path / stored.file)
        write_atomically(self.path / MANIFEST_FILE, manifest.to_bytes())
        remove_help_files(self.path)


def remove_help_files(path: Path) -> None:
    """Take away what a complete pack needs no more; a kill meanwhile leaves it complete."""
    # The description first: without it the folder is no unfinished packing.
    for name in (_DESCRIPTION_FILE, _JOURNAL_FILE, _KEYS_FILE):
        (path / name).unlink(missing_ok=True)
    sync_folder(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _truncate(path: Path, size: int) -> None:
    if _size(path) > size:
        os.truncate(path, size)
