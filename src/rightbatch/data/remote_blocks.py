"""Blocks of remote objects in memory: fetched once for all threads, kept on the disk as well."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from rightbatch.data.remote_cache import BlockCache

# Small enough that samples from anywhere do not bring ten times what they need, large enough that
# a disk and a checksum take them in a millisecond. Neighbours are fetched in one request.
BLOCK_BYTES = 1 << 20
_REQUEST_BLOCKS = 8
_REQUESTS_AT_ONCE = 8
_MOST_HELD_BYTES = 64 << 20


class Blocks(Protocol):
    """An object of which blocks are read."""

    @property
    def key(self) -> str:
        """What tells this version of this object from every other."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def cache(self) -> BlockCache | None:
        """Where its blocks are kept on the disk; None for nowhere."""

    def fetch(self, start: int, stop: int) -> bytes:
        """A range of its bytes, from the server."""

    def stream(self) -> Iterator[bytes] | None:
        """All of its blocks in order, where the server gives no ranges; None where it does."""


class BlockMemory:
    """The blocks that were read last, up to `most_bytes`, and those that are under way.

    A block that several threads want is fetched by one of them, and the others wait for it.
    """

    def __init__(self, most_bytes: int = _MOST_HELD_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._held_bytes = 0
        self._under_way: dict[tuple[str, int], threading.Event] = {}
        self._lock = threading.Lock()

    def get(self, blocks: Blocks, wanted: Sequence[int]) -> dict[int, bytes]:
        """The blocks of these numbers, ascending; raises what fetching them raises."""
        found: dict[int, bytes] = {}
        while len(found) < len(wanted):
            mine, others = self._claim(blocks.key, wanted, found)
            try:
                if mine:
                    found |= self._bring(blocks, mine)
            finally:
                # Also where it failed: whoever waits tries by itself then.
                self._let_go(blocks.key, mine)
            for event in others:
                event.wait()
        return found

    def clear(self) -> None:
        """Let go of what is held."""
        with self._lock:
            self._held.clear()
            self._held_bytes = 0

    def _claim(
        self, key: str, wanted: Sequence[int], found: dict[int, bytes]
    ) -> tuple[list[int], list[threading.Event]]:
        """The blocks that nobody brings yet, and what tells of the others; held ones are found."""
        mine, others = [], []
        with self._lock:
            for index in wanted:
                if index in found:
                    continue
                held = self._held.get((key, index))
                if held is not None:
                    self._held.move_to_end((key, index))
                    found[index] = held
                elif (key, index) in self._under_way:
                    others.append(self._under_way[key, index])
                else:
                    self._under_way[key, index] = threading.Event()
                    mine.append(index)
        return mine, others

    def _let_go(self, key: str, mine: Sequence[int]) -> None:
        with self._lock:
            for index in mine:
                self._under_way.pop((key, index)).set()

    def _bring(self, blocks: Blocks, mine: Sequence[int]) -> dict[int, bytes]:
        """The blocks from the disk, and those that are not there from the server."""
        found: dict[int, bytes] = {}
        missing = []
        for index in mine:
            content = None
            if blocks.cache is not None:
                content = blocks.cache.read(blocks.key, index, _length(blocks, index))
            if content is None:
                missing.append(index)
            else:
                found[index] = content
                self._hold(blocks.key, index, content)
        if not missing:
            return found
        pieces = blocks.stream()
        if pieces is not None:
            return found | self._take(blocks, pieces, missing)
        requests = list(_requests(missing))

        def fetch(request: tuple[int, int]) -> dict[int, bytes]:
            return self._fetch(blocks, *request)

        if len(requests) == 1:
            return found | fetch(requests[0])
        with ThreadPoolExecutor(min(_REQUESTS_AT_ONCE, len(requests)), "rightbatch-fetch") as pool:
            for fetched in pool.map(fetch, requests):
                found |= fetched
        return found

    def _fetch(self, blocks: Blocks, first: int, last: int) -> dict[int, bytes]:
        """Neighbouring blocks in one request."""
        stop = min(last * BLOCK_BYTES, blocks.size)
        content = blocks.fetch(first * BLOCK_BYTES, stop)
        fetched = {}
        for index in range(first, last):
            at = (index - first) * BLOCK_BYTES
            # A copy each: a view would keep all of them in memory for one.
            block = content[at : at + BLOCK_BYTES] if last - first > 1 else content
            self._keep(blocks, index, block)
            fetched[index] = block
        return fetched

    def _take(
        self, blocks: Blocks, pieces: Iterator[bytes], missing: Sequence[int]
    ) -> dict[int, bytes]:
        """The missing blocks out of all of the object, the rest of which is kept on the disk."""
        wanted = set(missing)
        found = {}
        for index, content in enumerate(pieces):
            if index in wanted:
                found[index] = content
                self._keep(blocks, index, content)
            elif blocks.cache is not None:
                blocks.cache.write(blocks.key, index, content)
        return found

    def _keep(self, blocks: Blocks, index: int, content: bytes) -> None:
        if blocks.cache is not None:
            blocks.cache.write(blocks.key, index, content)
        self._hold(blocks.key, index, content)

    def _hold(self, key: str, index: int, content: bytes) -> None:
        with self._lock:
            before = self._held.pop((key, index), b"")
            self._held[key, index] = content
            self._held_bytes += len(content) - len(before)
            while self._held_bytes > self._most_bytes:
                self._held_bytes -= len(self._held.popitem(last=False)[1])


def block_memory() -> BlockMemory:
    """That of this process."""
    return _memory


def _length(blocks: Blocks, index: int) -> int:
    return min(BLOCK_BYTES, blocks.size - index * BLOCK_BYTES)


def _requests(missing: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of neighbours, each of which is one request."""
    first = missing[0]
    for before, index in zip(missing, [*missing[1:], -1], strict=True):
        if index != before + 1 or index - first >= _REQUEST_BLOCKS:
            yield first, before + 1
            first = index


_memory = BlockMemory()


def _forget() -> None:
    # A thread of the parent may have held the lock, or was bringing a block.
    global _memory
    _memory = BlockMemory()


os.register_at_fork(after_in_child=_forget)
