"""Files that a kill or a power cut leaves whole: the old content or the new one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rightbatch.errors import DiskSpaceError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` such that a kill at any time leaves the old or the new whole.

    Raises DiskSpaceError where the disk has no room for both.
    """
    temporary = path.with_name(path.name + ".partial")
    try:
        with telling_of_a_full_disk(path), temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # What was written takes up the room that others need.
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def telling_of_a_full_disk(path: Path) -> Iterator[None]:
    """A context in which the error that the disk is full names the file and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK or isinstance(error, DiskSpaceError):
            raise
        raise DiskSpaceError(
            f"the disk of {path} is full. Make room, and start again; a run goes on from its last "
            "checkpoint (resume=True, --resume)"
        ) from error


def sync_file(path: Path) -> None:
    """Put what was written to a file on the disk."""
    _sync(path)


def sync_folder(folder: Path) -> None:
    """Put a folder on the disk: a rename in it is there only then."""
    _sync(folder)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
