"""Whether files are still those that were read: cheap signs, told without reading them whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rightbatch.data.options import OpenOptions
from rightbatch.errors import DataError

_END_BYTES = 1 << 16


class FileMark(NamedTuple):
    """The size of a file, and when it was last written."""

    bytes: int
    written_ns: int


def mark_of(path: Path) -> FileMark:
    """The mark of the file at `path`; DataError where there is none."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return FileMark(found.st_size, found.st_mtime_ns)


def refuse_changed(paths: Sequence[Path], marks: Sequence[FileMark]) -> None:
    """Raise DataError, naming the file, where one is not as its mark says any more."""
    for path, mark in zip(paths, marks, strict=True):
        now = mark_of(path)
        if now != mark:
            what = (
                f"it had {mark.bytes:,} bytes and has {now.bytes:,}"
                if now.bytes != mark.bytes
                else "it was written to"
            )
            raise DataError(f"{path} has changed since it was opened: {what}. Open it anew.")


def source_signature(paths: Sequence[Path], options: OpenOptions) -> str:
    """A text of 32 hexadecimal digits that changes when a file or an option of reading does.

    It is BLAKE2b of the files' names, sizes, times of change, and first and last 64 KiB, and of
    the options: read in a moment, however large the files are. A change in the middle of a file
    that keeps its size and its time goes unnoticed; the fingerprint would tell.
    """
    digest = hashlib.blake2b(digest_size=16)
    columns = None if options.columns is None else tuple(options.columns)
    # The name is for messages alone.
    read_as = replace(options, columns=columns, name=None)
    digest.update(repr(read_as).encode("utf-8", errors="surrogatepass"))
    for path in paths:
        mark = mark_of(path)
        digest.update(repr((path.name, *mark)).encode("utf-8", errors="surrogateescape"))
        with path.open("rb") as file:
            digest.update(file.read(_END_BYTES))
            file.seek(max(0, mark.bytes - _END_BYTES))
            digest.update(file.read(_END_BYTES))
    return digest.hexdigest()
