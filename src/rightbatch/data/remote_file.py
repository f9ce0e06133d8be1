"""A remote object as it was when it was opened: any piece of it, and a file to be read from."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from typing_extensions import override

from rightbatch.data.remote_blocks import BLOCK_BYTES, block_memory
from rightbatch.data.remote_cache import BlockCache
from rightbatch.data.remote_retry import patiently
from rightbatch.data.remote_settings import RemoteSettings
from rightbatch.data.remote_store import ObjectInfo, Store, store_of
from rightbatch.data.remote_url import shown_url

logger = logging.getLogger(__name__)

# So many blocks are held at once, however large a read is.
_BLOCKS_AT_ONCE = 32
# A reader that goes forward has as many fetched ahead, twice as many at every turn.
_MOST_AHEAD = 8

_caches: dict[tuple[str, int], BlockCache] = {}
_caches_lock = threading.Lock()


class RemoteFile:
    """The object at `url`, in the version that `info` tells.

    Bytes come from memory, from the cache on the disk, or in ranges from the server; any number of
    threads may read. A version that the server gives no tag of is not kept on the disk, since
    nothing would tell it from the next one.

    Raises RemoteError where the server can not be read, or has another version by now.
    """

    def __init__(self, url: str, options: Mapping[str, Any], info: ObjectInfo) -> None:
        self.url = url
        self.info = info
        self._options = dict(options)
        self._settings = RemoteSettings.of_environment()
        if not info.tag:
            logger.warning(
                f"{shown_url(url)}: the server gives no tag (ETag) of it, so that a change is told "
                "by its size alone, and nothing of it is kept in the cache"
            )

    @property
    def size(self) -> int:
        """The bytes of the object."""
        return self.info.size

    @cached_property
    def key(self) -> str:
        """What tells this version from every other: address, tag and size."""
        # The same name may be another object on another server of S3.
        server = self._options.get("endpoint_url") or os.environ.get("AWS_ENDPOINT_URL", "")
        version = self.info.tag or id(self)
        words = repr((shown_url(self.url), str(server), version, self.size, BLOCK_BYTES))
        return hashlib.blake2b(words.encode(errors="surrogateescape"), digest_size=16).hexdigest()

    @cached_property
    def cache(self) -> BlockCache | None:
        """Where its blocks are kept on the disk; None for nowhere."""
        if not self.info.tag or not self._settings.cache_bytes:
            return None
        place = str(self._settings.cache_folder), self._settings.cache_bytes
        with _caches_lock:
            if place not in _caches:
                _caches[place] = BlockCache(self._settings.cache_folder, place[1])
            return _caches[place]

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on, `length` of them or up to the end."""
        content = bytearray(max(0, min(length, self.size - offset)))
        self.read_into(offset, memoryview(content))
        return bytes(content)

    def read_into(self, offset: int, out: memoryview, *, ahead: int = 0) -> None:
        """Fill `out` with the bytes from `offset` on, which must all be there.

        With `ahead`, so many blocks behind them are brought as well.
        """
        stop = offset + len(out)
        if stop > self.size:
            raise ValueError(f"bytes up to {stop} were asked for, of {self.size}")
        blocks_in_all = -(-self.size // BLOCK_BYTES)
        at = offset
        while at < stop:
            first = at // BLOCK_BYTES
            needed = -(-stop // BLOCK_BYTES)
            last = min(needed, first + _BLOCKS_AT_ONCE)
            wanted = min(last + ahead, blocks_in_all) if last == needed else last
            blocks = block_memory().get(self, range(first, wanted))
            for index in range(first, last):
                begin = at - index * BLOCK_BYTES
                piece = memoryview(blocks[index])[begin : begin + stop - at]
                out[at - offset : at - offset + len(piece)] = piece
                at += len(piece)

    def fetch(self, start: int, stop: int) -> bytes:
        """A range of its bytes from the server, asked for again where that may help."""
        return patiently(
            self.url,
            lambda: self._store().fetch(self.url, self.info, start, stop),
            options=self._options,
        )

    def stream(self) -> Iterator[bytes] | None:
        """All of its blocks in order, where the server gives no ranges; None where it does."""
        return None if self.info.has_ranges else self._stream()

    def _stream(self) -> Iterator[bytes]:
        pieces: Iterator[bytes] | None = None
        done = 0

        def next_piece() -> bytes:
            nonlocal pieces
            try:
                if pieces is None:
                    pieces = self._store().stream(self.url, self.info, BLOCK_BYTES)
                    # Begun anew where it broke off: what was handed out is passed over.
                    for _ in range(done):
                        next(pieces)
                return next(pieces)
            except BaseException:
                pieces = None
                raise

        while done * BLOCK_BYTES < self.size:
            yield patiently(self.url, next_piece, options=self._options)
            done += 1

    def _store(self) -> Store:
        return store_of(self.url, self._options, self._settings.timeout_seconds)

    def __repr__(self) -> str:
        return f"<RemoteFile {shown_url(self.url)}: {self.size:,} bytes>"


class RemoteReader(io.RawIOBase):
    """A remote object as a file that is open for reading; it holds nothing that is to be closed.

    Reads that follow one another have ever more fetched ahead, up to 8 MiB in one request.
    """

    def __init__(self, file: RemoteFile) -> None:
        super().__init__()
        self._file = file
        self._position = 0
        self._next_position = 0
        self._ahead = 0

    @override
    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, or as much of it as there is up to the end."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._file.size - self._position))
        if count:
            goes_on = self._position == self._next_position
            self._ahead = min(_MOST_AHEAD, max(1, 2 * self._ahead)) if goes_on else 0
            self._file.read_into(self._position, view[:count], ahead=self._ahead)
            self._position += count
            self._next_position = self._position
        return count

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position; from the beginning, from here, or from the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} lies before the beginning")
        self._position = base + offset
        return self._position

    @override
    def tell(self) -> int:
        """The position of the next byte."""
        return self._position

    @override
    def readable(self) -> bool:
        """It is."""
        return True

    @override
    def seekable(self) -> bool:
        """It is."""
        return True

    @property
    def size(self) -> int:
        """The bytes of the object."""
        return self._file.size
