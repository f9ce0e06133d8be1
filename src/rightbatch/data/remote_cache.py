"""Blocks of remote objects on the disk here: shared by processes, bounded, and checked on reading.

A block is a file of its own: 16 bytes that say how many follow and their checksum, and the
content. It is written under another name and renamed, so that whoever reads finds a whole block or
none; one that is deleted while it is read stays readable to the end. When a block is read, the
time of its file says so, and the blocks that nobody has read for longest go first. Who makes room
holds a lock on a file; others go on without waiting. A kill leaves at most a file of another name,
which goes when it is an hour old.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rightbatch.byte_sizes import bytes_text
from rightbatch.data.block_checksums import checksum

logger = logging.getLogger(__name__)

_HEADER = struct.Struct("<4sIQ")
_MAGIC = b"rbk1"
_TEMPORARY = ".partial"
_STALE_SECONDS = 3600.0
# Room is made for a tenth more than is needed, so that it is not looked for at every block.
_KEPT_SHARE = 0.9
_MOST_BETWEEN_LOOKS = 64 << 20
_LOOKS_A_SIZE = 16
# A disk that is full stops everybody: so much stays free.
_FREE_BYTES = 1 << 30
_FREE_SHARE = 0.05


class BlockCache:
    """The blocks in `folder`, of up to `most_bytes` in all.

    Several processes may have one folder. Each looks for what is too much after it has written a
    sixteenth of the bound (64 MiB at most), so that so much a process may stand above the bound for
    a while. A disk with less than 5 % (1 GiB at most) free has no more blocks put on it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = BlockCache(Path(folder), 1 << 20)
    ...     cache.write("5ca1ab1e", 0, b"content")
    ...     cache.read("5ca1ab1e", 0, 7), cache.read("5ca1ab1e", 1, 7)
    (b'content', None)
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder / "blocks"
        self.most_bytes = most_bytes
        self._between_looks = min(_MOST_BETWEEN_LOOKS, most_bytes // _LOOKS_A_SIZE)
        self._unlooked_bytes: int | None = None
        self._lock = threading.Lock()
        self._is_broken = False

    def read(self, key: str, index: int, length: int) -> bytes | None:
        """Block `index` of the object `key`, of `length` bytes; None where it is not there.

        A block that is not what was written is deleted, and said.
        """
        path = self._path(key, index)
        try:
            # Without a buffer, and apart: the content is what is handed out, without a copy.
            with path.open("rb", buffering=0) as file:
                header = file.read(_HEADER.size)
                content = file.readall()
                # The descriptor, for the name may be another file's by now.
                os.utime(file.fileno())
        except OSError:
            return None
        if not _is_whole(header, content, length):
            path.unlink(missing_ok=True)
            logger.warning(
                f"{path}, a block of the cache of remote data, is damaged: it is fetched anew"
            )
            return None
        return content

    def write(self, key: str, index: int, content: bytes) -> None:
        """Keep a block. Where that is not possible, nothing is kept, and that is said once."""
        if self._is_broken or len(content) > self.most_bytes:
            return
        path = self._path(key, index)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_TEMPORARY}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                with temporary.open("wb") as file:
                    file.write(_HEADER.pack(_MAGIC, checksum(content), len(content)))
                    file.write(content)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            self._count(_HEADER.size + len(content))
        except OSError as error:
            self._is_broken = True
            logger.warning(
                f"the cache of remote data in {self.folder} can not be written "
                f"({error.strerror}): what is read is not kept. Name another folder with "
                "RIGHTBATCH_CACHE, or make room"
            )

    def _path(self, key: str, index: int) -> Path:
        return self.folder / key[:2] / f"{key}-{index}"

    def _count(self, written: int) -> None:
        """Look for what is too much where that is due."""
        with self._lock:
            if self._unlooked_bytes is not None:
                self._unlooked_bytes += written
                if self._unlooked_bytes < self._between_looks:
                    return
            self._unlooked_bytes = 0
        self.make_room()

    def make_room(self) -> None:
        """Delete what nobody has read for longest, down to nine tenths, where it is too much."""
        with self._only_one() as is_mine:
            if not is_mine:
                return
            blocks = self._blocks()
            used = sum(size for _, size, _ in blocks)
            most = min(self.most_bytes, used + self._spare_bytes())
            if used <= most:
                return
            for _, size, path in sorted(blocks):
                if used <= most * _KEPT_SHARE:
                    break
                Path(path).unlink(missing_ok=True)
                used -= size
        logger.debug("the cache of remote data holds %s", bytes_text(used))

    def _spare_bytes(self) -> int:
        """How many bytes more the disk has room for; below 0 where blocks have to go."""
        disk = shutil.disk_usage(self.folder)
        return disk.free - min(_FREE_BYTES, int(disk.total * _FREE_SHARE))

    def _blocks(self) -> list[tuple[int, int, str]]:
        """When each block was read last, its bytes and its path; stale files are deleted."""
        found = []
        oldest = time.time() - _STALE_SECONDS
        for folder in self.folder.iterdir():
            if not folder.is_dir():
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        status = entry.stat()
                    except FileNotFoundError:
                        continue
                    if entry.name.endswith(_TEMPORARY):
                        if status.st_mtime < oldest:
                            Path(entry.path).unlink(missing_ok=True)
                        continue
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
        return found

    @contextmanager
    def _only_one(self) -> Iterator[bool]:
        """Whether this process is the one that makes room; another one may be at it."""
        with (self.folder / "lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def _is_whole(header: bytes, content: bytes, length: int) -> bool:
    """Whether a block is as it was written."""
    if len(header) < _HEADER.size:
        return False
    magic, expected, size = _HEADER.unpack(header)
    is_known = magic == _MAGIC and size == len(content) == length
    return bool(is_known and checksum(content) == expected)
