"""One epoch of batches, apart from any cursor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any


class Epoch:
    """One epoch of batches that can be gone through any number of times."""

    def __init__(
        self, read: Callable[[], Generator[tuple[int, Any], None, None]], length: int, number: int
    ) -> None:
        self._read = read
        self._length = length
        self.number = number

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        with contextlib.closing(self._read()) as batches:
            for _, batch in batches:
                yield batch
